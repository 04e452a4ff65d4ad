"""Compiled code in the place of NumPy calls: built from the text of steps, called with arrays.

Steps that follow each other without NumPy between them are one :class:`Segment`: one text, one entry, one
call. It is built once in a process, whatever functions need it, since equal texts are one; and compiled
once on a computer, since object code is kept.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from tlang.emit.cpu import SIGNATURE, code, must_be_positive
from tlang.emit.nest import runs_twice
from tlang.emit.text import HEADER, STATUS, TICKS, Temporary, chunk
from tlang.graph.node import Node, toposort
from tlang.graph.recurrence import Body
from tlang.interpret import Call, Draw, Leaf, Sizes, Tape, Watch
from tlang.plan.draws import lower_draws
from tlang.plan.fuse import fused, lower
from tlang.plan.reuse import may_replace
from tlang.plan.steps import Alone, Gemm, Nest, Step, along, inputs_of
from tlang.run import blas, interrupts, profile
from tlang.run.cache import Cache
from tlang.run.objects import ObjectError
from tlang.types import Dim

Array = Any
#: Never `nnan` or `ninf`: NaN and infinities mean what they mean in NumPy.
FLAGS = frozenset({"contract", "nsz", "arcp"})
#: Arrays begin at such an address: a line of the cache, and the widest vector.
ALIGNMENT = 64


#: The work of a loop nest, in elements times their cost, above which a call wakes other threads.
PARALLEL = 1 << 20


def in_parallel(entry: Any, table: int, threads: int) -> int:
    """Calls an entry on some threads; its status."""
    if threads == 1:
        status: int = entry(table, 0, 1, 1)
        return status
    with _ONE_AT_A_TIME, interrupts.held():  # threads that work would go on alone
        others = [_pool(threads).submit(entry, table, tid, threads, 1) for tid in range(1, threads)]
        status = entry(table, 0, threads, 1)
        for other in others:
            other.result()
    return status


_ONE_AT_A_TIME = threading.Lock()


@cache
def _pool(threads: int) -> Any:
    """Threads that wait for work; all of them must be free at once, since they wait for each other."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(threads - 1, "tlang")


#: The arguments of `build`.
Order: TypeAlias = tuple[str, str, bool, str]


class Unfit(Exception):
    """A call whose sizes the code is not for: the interpreter says what is wrong with them."""


def build(text: str, entry: str, uses_blas: bool = False, signature: str = SIGNATURE) -> Any:
    """The entry of a text: from the cache, or compiled. Raises `ObjectError` where that cannot be.

    Inside of `kept_only` nothing is compiled.
    """
    if text not in _BUILT:
        entries, symbols = {entry: signature}, blas.symbols() if uses_blas else None
        missing = _MISSING.get()
        if missing is None:
            with profile.phase("load code, or compile it"):
                _BUILT[text] = Cache().load(text, entries, FLAGS, symbols)[entry]
        else:
            if (functions := Cache().kept(text, entries, FLAGS, symbols)) is None:
                missing.append((text, entry, uses_blas, signature))
                return _not_there
            _BUILT[text] = functions[entry]
    return _BUILT[text]


@contextmanager
def kept_only() -> Iterator[list[Order]]:
    """In this context `build` finds what is in the cache; the list gets the arguments for what is not.

    What is built with such a list is of no use if the list is not empty.
    """
    missing: list[Order] = []
    token = _MISSING.set(missing)
    try:
        yield missing
    finally:
        _MISSING.reset(token)


#: The code of this process by its text.
_BUILT: dict[str, Callable[..., int]] = {}
_MISSING: ContextVar[list[Order] | None] = ContextVar("missing", default=None)


#: What stands for code that is missing; it is never called.
_not_there: Any = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 0)


def address(array: Array) -> int:
    """Where an array begins."""
    start: int = array.__array_interface__["data"][0]
    return start


def aligned(shape: Sequence[int], dtype: Any) -> Array:
    """An array of any content that begins at a multiple of `ALIGNMENT`."""
    size = math.prod(shape) * dtype.itemsize
    if size < 4096:
        return np.empty(shape, dtype)
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -address(memory) % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


@dataclass(slots=True, eq=False)
class Frame:
    """What a segment needs for calls of some sizes: its table, its memory, the shapes of what it gives."""

    table: Array
    memory: Array
    outputs: list[tuple[int, tuple[int, ...], Any]]
    address: int
    threads: int


class Segment:
    """Steps as one call: `inputs` are the nodes that it reads, `outputs` those whose values are wanted."""

    def __init__(self, steps: Sequence[Step], wanted: Iterable[Node], threads: int = 1) -> None:
        self.threads = threads
        self.steps = steps
        with profile.phase("generate code"):
            self.code = code(steps, timed=profile.current() is not None)
        self.entry = build(self.code.text, self.code.entry, self.code.uses_blas)
        made = {x for step in steps for x in step.outputs}
        wanted = set(wanted)
        nodes = [a for a in self.code.arrays if isinstance(a, Node)]
        self.inputs = [a for a in nodes if a not in made]
        self.outputs = [a for a in nodes if a in made and a in wanted]
        self.positive = positive(steps)
        self.fails = any(n.op.fails or along(n) for s in steps if isinstance(s, Nest) for n in s.nodes)
        self.lifetimes = lifetimes(steps, self.code.steps)
        self.slot = {a: HEADER + len(self.code.symbols) + k for k, a in enumerate(self.code.arrays)}
        self.dtypes = [np.dtype(x.dtype.numpy_name) for x in self.inputs]
        self.frames: dict[tuple[int, ...], list[Frame]] = {}

    def in_place(self, old: Node, new: Node) -> bool:
        """Whether the memory of an input may be that of an output too."""
        return may_replace(self.steps, old, new, runs_twice)

    def __call__(self, sizes: Sizes, draw: Draw, *arrays: Array) -> tuple[Array, ...]:
        """The outputs for arrays of the inputs."""
        key = tuple([sizes[s] for s in self.code.symbols])
        spare = self.frames.get(key)
        frame = spare.pop() if spare else self.frame(key, self.useful_threads(key))
        table = frame.table
        held = []
        for node, dtype, array in zip(self.inputs, self.dtypes, arrays, strict=True):
            array = np.ascontiguousarray(array, dtype)
            held.append(array)
            table[self.slot[node]] = address(array)
        results = []
        for slot, shape, dtype in frame.outputs:
            array = aligned(shape, dtype)
            results.append(array)
            table[slot] = address(array)
        if in_parallel(self.entry, frame.address, frame.threads):
            table[STATUS] = 0
            raise Unfit
        if len(self.frames) > 8:
            self.frames.clear()
        self.frames.setdefault(key, []).append(frame)
        return tuple([x if x.ndim else x[()] for x in results])

    def useful_threads(self, key: tuple[int, ...]) -> int:
        """As many threads as a call of some sizes is worth."""
        if self.threads == 1:
            return 1
        sizes: Sizes = dict(zip(self.code.symbols, key, strict=True))
        most = max((c * math.prod(d.evaluate(sizes) for d in dims) for dims, c in self.code.work), default=0)
        return self.threads if most >= PARALLEL else 1

    def frame(self, key: tuple[int, ...], threads: int = 1) -> Frame:
        """Memory and table for sizes."""
        sizes: Sizes = dict(zip(self.code.symbols, key, strict=True))
        if any(d.evaluate(sizes) < 0 for d in self.positive):
            raise Unfit
        table = np.zeros(HEADER + len(key) + len(self.code.arrays), np.int64)
        if (watching := profile.current()) is not None:
            table[TICKS] = address(watching.ticks(self.steps, sizes))
        table[HEADER : HEADER + len(key)] = key
        inner = {a: _bytes(a, sizes, threads) for a in self.lifetimes if a not in self.outputs}
        places, total = layout(inner, self.lifetimes)
        memory = aligned((total,), np.dtype(np.uint8))
        base = address(memory)
        for a, place in places.items():
            table[self.slot[a]] = base + place
        outputs = [
            (self.slot[x], tuple(d.evaluate(sizes) for d in x.shape), np.dtype(x.dtype.numpy_name))
            for x in self.outputs
        ]
        return Frame(table, memory, outputs, address(table), threads)


def positive(steps: Sequence[Step]) -> list[Dim]:
    """The sizes that must not be negative for the views of the steps to exist."""
    found: dict[Dim, None] = {}
    for step in steps:
        found.update(dict.fromkeys(must_be_positive(step)))
        for x in step.outputs:
            found.update({d: None for d in x.shape if d.const < 0 or any(k < 0 for _, k in d.terms)})
    return list(found)


def lifetimes(
    steps: Sequence[Step], made: Mapping[Temporary, int]
) -> dict[Node | Temporary, tuple[int, int]]:
    """For what steps make: the first and the last that touch it; `made` says it for temporary memory."""
    where: dict[Node | Temporary, tuple[int, int]] = {}
    for at, step in enumerate(steps):
        for x in step.outputs:
            where[x] = at, at
        for x in inputs_of(step):
            if x in where:
                where[x] = where[x][0], at
    for a, at in made.items():
        where[a] = at, at
    return where


def _bytes(array: Node | Temporary, sizes: Mapping[Any, int], threads: int) -> int:
    """The memory that an array takes, a multiple of `ALIGNMENT`."""
    if isinstance(array, Node):
        count = math.prod(d.evaluate(sizes) for d in array.shape)
    else:
        count = math.prod(d.evaluate(sizes) for d in array.dims)
        if array.chunks is None:
            count *= array.rows * threads
        else:
            n = math.prod(d.evaluate(sizes) for d in array.chunks.length)
            work = math.prod(d.evaluate(sizes) for d in array.chunks.domain) * array.chunks.cost
            size = chunk(n, work, array.chunks.fewest)
            count *= max(1, -(-n // max(1, size)))
    return -(-count * np.dtype(array.dtype.numpy_name).itemsize // ALIGNMENT) * ALIGNMENT


def layout(sizes: Mapping[Any, int], lifetimes: Mapping[Any, tuple[int, int]]) -> tuple[dict[Any, int], int]:
    """Places in one block of memory: arrays that do not live at the same time share it."""
    placed: list[tuple[int, int, int, int]] = []
    places = {}
    for array in sorted(sizes, key=lambda a: -sizes[a]):
        begin, end = lifetimes[array]
        at = 0
        for start, size, first, last in sorted(placed):
            if first <= end and begin <= last and start < at + sizes[array] and at < start + size:
                at = start + size
        places[array] = at
        placed.append((at, sizes[array], begin, end))
    return places, max((start + size for start, size, _, _ in placed), default=0)


class CompiledTape(Tape):
    """A tape of segments; what has no compiled form is its NumPy call.

    `state` are the roots that are new values of shared tensors; `philox` the states of that generator, whose
    draws may be compiled.
    """

    def __init__(
        self,
        roots: Sequence[Node],
        reads: Sequence[Node] = (),
        state: Sequence[Node] | None = None,
        philox: Collection[str] = (),
        threads: int = 1,
    ) -> None:
        self.threads = threads
        self.failed: list[str] = []
        self.given = roots, reads
        self._reference: Tape | None = None
        self.inner: list[CompiledTape] = []
        self.drivers: list[Any] = []
        self.reads = reads
        both = lower(lower_draws([*roots, *(state or ())], philox))
        self.state = None if state is None else both[len(roots) :]
        super().__init__(both[: len(roots)], reads)

    def plan(self, roots: Sequence[Node]) -> list[Step]:
        """The steps that compute the roots."""
        return fused(roots, self.state, self.reads)

    def is_native(self, step: Step) -> bool:
        """Whether a step is one of code."""
        return not isinstance(step, Alone) and (not isinstance(step, Gemm) or bool(blas.symbols()))

    def segment(self, steps: Sequence[Step], wanted: Iterable[Node]) -> Segment:
        """The code of some steps."""
        return Segment(steps, wanted, self.threads)

    def calls(self, roots: Sequence[Node]) -> list[Call]:
        """The steps of the graph: a segment gives a tuple, from which its outputs are taken."""
        with profile.phase("plan"):
            self.steps_of_plan = self.plan(roots)
        segments: list[list[Step]] = []
        for step in self.steps_of_plan:
            native = self.is_native(step)
            if native and segments and not isinstance(segments[-1][0], Alone):
                segments[-1].append(step)
            else:
                segments.append([Alone(step.node) if isinstance(step, Gemm) and not native else step])
        calls: list[Call] = []
        self.segments: list[Segment] = []
        self.native = all(not isinstance(s, Alone) for steps in segments for s in steps)
        for at, steps in enumerate(segments):
            rest = {x for later in segments[at + 1 :] for step in later for x in inputs_of(step)} | set(roots)
            if isinstance(steps[0], Alone):
                calls += [
                    (self._call(s.node), s.node.inputs, s.node, s.node) for s in steps if isinstance(s, Alone)
                ]
                continue
            try:
                segment = self.segment(steps, rest)
            except ObjectError as e:  # NumPy does all the work
                self.failed.append(str(e))
                self.native = False
                self.segments = []
                return super().calls(roots)
            self.segments.append(segment)
            calls.append(
                (segment, segment.inputs, segment, segment.inputs[0] if segment.inputs else roots[0])
            )
            calls += [(Item(k), [segment], x, x) for k, x in enumerate(segment.outputs)]
        return calls

    def _scan(self, node: Node) -> Callable[..., Array]:
        """A recurrence: its steps in compiled code where all of a step has kernels."""
        from tlang.run.scans import compiled_scan

        body: Body = node.attr("body")
        steps = fused(lower(body.results))
        if not any(isinstance(s, Alone) for s in steps):
            tape = CompiledTape(body.results)
            found = compiled_scan(node, tape, super()._scan(node))
            if found is not None:
                self.inner.append(tape)
                self.drivers.append(found.drive)
                return found
        return super()._scan(node)

    def _body(self, body: Body) -> Tape:
        """The tape of a body that is run step by step: compiled where it has a recurrence of its own."""
        if not any(n.op.name == "scan" for n in toposort(body.results)):
            return super()._body(body)
        self.inner.append(CompiledTape(body.results))
        return self.inner[-1]

    def replaced(self, pairs: Iterable[tuple[Node, int]]) -> dict[Node, Node]:
        """Of pairs of a leaf and the number of the root that is its new value: what may overwrite leaves."""
        if len(self.segments) != 1 or any(not isinstance(call, Segment | Item) for call, *_ in self.steps):
            return {}
        (segment,) = self.segments
        leaves = {node: i for i, node in self.leaves}
        made = {i: node for call, _, i, _, node in self.steps if isinstance(call, Item)}
        found = {}
        for leaf, at in pairs:
            root = self.roots[at]
            if root not in made or self.roots.count(root) > 1 or leaf not in segment.inputs:
                continue
            if leaves[leaf] not in self.roots and segment.in_place(leaf, made[root]):
                found[made[root]] = leaf
        return found

    @property
    def is_built(self) -> bool:
        """Whether all code is there."""
        own = [*(s.entry for s in self.segments), *self.drivers]
        return all(e is not _not_there for e in own) and all(tape.is_built for tape in self.inner)

    def run(
        self, leaf: Leaf, draw: Draw, sizes: Sizes | None = None, watch: Watch | None = None
    ) -> list[Array]:
        """The roots' values; where sizes do not fit the interpreter explains it."""
        try:
            return super().run(leaf, draw, sizes, watch)
        except Unfit:
            if self._reference is None:
                self._reference = Tape(*self.given)
            return self._reference.run(leaf, draw)


@dataclass(frozen=True, slots=True)
class Item:
    """Takes one of the outputs of a segment."""

    number: int

    def __call__(self, sizes: Sizes, draw: Draw, results: Sequence[Array]) -> Array:
        """The output."""
        return results[self.number]
