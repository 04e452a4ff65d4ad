"""Kernels on a GPU in the place of NumPy calls: the steps of `tlang.plan` by the texts of `tlang.emit.cuda`.

What one call gives another stays on the device as a `Resident`; only what NumPy does, and what somebody
looks at, comes back. The memory of a segment for some sizes is one block, kept from call to call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from tlang.emit.cuda.actions import (
    STATUS,
    Action,
    Arg,
    Copy,
    Count,
    Launch,
    Partial,
    Product,
    arrays_of,
    dims_of,
    parts_of,
)
from tlang.emit.cuda.grids import Limits, shape_of
from tlang.emit.cuda.kernels import kernels
from tlang.emit.text import Temporary
from tlang.graph.node import OPS, Node
from tlang.graph.recurrence import Body
from tlang.interpret import Draw, Leaf, Sizes, Tape, Watch
from tlang.plan.fuse import fused
from tlang.plan.steps import Alone, Step
from tlang.plan.views import one_step
from tlang.run import profile
from tlang.run.build import ALIGNMENT, CompiledTape, Unfit, layout, lifetimes, positive
from tlang.run.cuda import gpu
from tlang.run.cuda.product import operands, prepared, products
from tlang.run.cuda.resident import Resident, host, resident, shaped
from tlang.run.cuda.rows import of_rows
from tlang.types import BOOL, ONE, Dim, DType, Tensor

Array = Any
#: Where inputs and outputs are.
Places: TypeAlias = dict[Node, gpu.Array]
#: What an action does once its places are known.
Work: TypeAlias = Callable[[Places], Callable[[], None]]


def kind_of(dtype: DType) -> str:
    """The dtype of elements on the device."""
    return "uint8" if dtype is BOOL else dtype.numpy_name


def signature(launch: Launch) -> gpu.Signature:
    """The parameters of a kernel."""

    def kind(arg: Arg) -> str:
        if isinstance(arg, Node | Temporary):
            return f"{kind_of(arg.dtype)}*"
        return "int64*" if isinstance(arg, str) else "int64"

    return tuple(map(kind, launch.args))


def limits() -> Limits:
    """What blocks and grids may have here."""
    return Limits(gpu.threads(), gpu.most_blocks())


class DeviceSegment:
    """Steps as launches: `inputs` are the nodes that it reads, `outputs` those whose values are wanted."""

    def __init__(self, steps: Sequence[Step], wanted: Iterable[Node]) -> None:
        self.steps = steps
        with profile.phase("generate code"):
            per_step = [kernels(step) for step in steps]
        self.actions = [a for actions in per_step for a in actions]
        self.late = [step.late for step, actions in zip(steps, per_step, strict=True) for _ in actions]
        touched: dict[Node | Temporary, None] = {}
        where: dict[Temporary, int] = {}
        for at, actions in enumerate(per_step):
            for x in (x for a in actions for x in arrays_of(a)):
                touched[x] = None
                if isinstance(x, Temporary):
                    where[x] = at
        made = {x for step in steps for x in step.outputs}
        wanted = set(wanted)
        nodes = [a for a in touched if isinstance(a, Node)]
        self.inputs = [a for a in nodes if a not in made]
        self.outputs = [a for a in nodes if a in made and a in wanted]
        self.inner = [a for a in touched if a not in set(self.inputs) | set(self.outputs)]
        self.lifetimes = lifetimes(steps, where)
        self.positive = positive(steps)
        self.fails = any(STATUS in a.args for a in self.actions if isinstance(a, Launch))
        dims = [d for a in touched for d in (a.dims if isinstance(a, Temporary) else a.shape)]
        dims += [d for a in self.actions for d in dims_of(a)]
        self.symbols = list(dict.fromkeys(s for d in [*dims, *self.positive] for s in d.symbols()))
        self.frames: dict[tuple[int, ...], list[DeviceFrame]] = {}

    def __call__(self, sizes: Sizes, draw: Draw, *arrays: Array) -> tuple[Resident, ...]:
        """The outputs for arrays of the inputs."""
        key = tuple([sizes[s] for s in self.symbols])
        spare = self.frames.get(key)
        frame = spare.pop() if spare else DeviceFrame(self, key)
        given = {n: resident(x, n.dtype.numpy_name) for n, x in zip(self.inputs, arrays, strict=True)}
        results = [
            Resident(shape, dtype, gpu.empty(math.prod(shape), kind)) for shape, dtype, kind in frame.outputs
        ]
        places = {n: r.device() for n, r in given.items()}
        places |= {n: r.device() for n, r in zip(self.outputs, results, strict=True)}
        for start, _ in frame.bound(places):
            start()
        if self.fails and frame.failed():
            raise Unfit
        if len(self.frames) > 8:
            self.frames.clear()
        self.frames.setdefault(key, []).append(frame)
        return tuple(results)


class DeviceFrame:
    """What a segment needs for calls of some sizes: its memory, the grids of its kernels."""

    def __init__(self, segment: DeviceSegment, key: tuple[int, ...]) -> None:
        sizes: Sizes = dict(zip(segment.symbols, key, strict=True))
        if any(d.evaluate(sizes) < 0 for d in segment.positive):
            raise Unfit
        self.segment = segment
        self.size: Callable[[Dim], int] = lambda d: d.evaluate(sizes)
        self.limits = limits()
        self.sizes = sizes
        counts = {a: self.count(a) for a in segment.inner}
        each = {
            a: -(-n * np.dtype(kind_of(a.dtype)).itemsize // ALIGNMENT) * ALIGNMENT for a, n in counts.items()
        }
        where, total = layout(each, segment.lifetimes)
        arena = gpu.empty(total, "uint8")
        self.inner: dict[Node | Temporary, gpu.Array] = {}
        for a, n in counts.items():
            kind = np.dtype(kind_of(a.dtype))
            self.inner[a] = gpu.cast(gpu.part(arena, where[a], n * kind.itemsize), kind)
        self.status = gpu.upload(np.zeros(1, np.int64)) if segment.fails else None
        self.outputs = [
            (tuple(map(self.size, n.shape)), np.dtype(n.dtype.numpy_name), kind_of(n.dtype))
            for n in segment.outputs
        ]
        self.works = [self.work(action) for action in segment.actions]

    def count(self, array: Node | Temporary) -> int:
        """How many elements an array has."""
        if isinstance(array, Node):
            return math.prod(map(self.size, array.shape))
        assert isinstance(array, Partial)
        return math.prod(map(self.size, array.dims)) * parts_of(array, self.size, self.limits)

    def work(self, action: Action) -> Work | None:
        """What an action does; None where another form of it is the one for these sizes."""
        if isinstance(action, Launch):
            return self.launch(action) if action.serves(self.size) else None
        return self.product(action) if isinstance(action, Product) else self.copy(action)

    def launch(self, action: Launch) -> Work:
        """A kernel."""
        grid, block = shape_of(action.grid, self.size, self.limits)
        args: list[Any] = []
        for a in action.args:
            if isinstance(a, str):
                args.append(self.status)
            elif isinstance(a, Node | Temporary):
                args.append(self.inner.get(a, a))
            else:
                args.append(parts_of(a.of, self.size, self.limits) if isinstance(a, Count) else self.sizes[a])
        kernel = gpu.kernel(action.text, "kernel", signature(action))
        holes = [(k, a) for k, a in enumerate(args) if isinstance(a, Node)]
        if not holes:
            prepared = kernel.prepare(grid, block, args)
            return lambda places: prepared

        def work(places: Places) -> Callable[[], None]:
            for k, a in holes:
                args[k] = places[a]
            return kernel.prepare(grid, block, args)

        return work

    def product(self, action: Product) -> Work:
        """A product of matrices, or of stacks of them."""
        calls, node = products(action, self.size), action.step.node
        left, right = operands(action)
        return lambda places: prepared(
            calls, self.place(left, places), self.place(right, places), self.place(node, places)
        )

    def copy(self, action: Copy) -> Work:
        """All elements of one array to another."""
        source, target = action.source, action.target
        return lambda places: partial(gpu.copy, self.place(target, places), self.place(source, places))

    def place(self, node: Node, places: Places) -> gpu.Array:
        """Where a node's elements are."""
        return self.inner[node] if node in self.inner else places[node]

    def bound(self, places: Places) -> list[tuple[Callable[[], None], bool]]:
        """All that is to be done, in order, with inputs and outputs at some places; what is late."""
        return [
            (work(places), late)
            for work, late in zip(self.works, self.segment.late, strict=True)
            if work is not None
        ]

    def failed(self) -> bool:
        """Whether an element has made the call an error."""
        assert self.status is not None
        if not gpu.download(self.status, (1,))[0]:
            return False
        gpu.write(self.status, np.zeros(1, np.int64))
        return True


class DeviceTape(CompiledTape):
    """A tape of launches; what has no kernel is its NumPy call, on the host."""

    def plan(self, roots: Sequence[Node]) -> list[Step]:
        """The steps that compute the roots, for many threads."""
        return fused(roots, self.state, self.reads, parallel=True)

    def is_native(self, step: Step) -> bool:
        """Whether a step is one of kernels."""
        return not isinstance(step, Alone)

    def segment(self, steps: Sequence[Step], wanted: Iterable[Node]) -> Any:
        """The launches of some steps."""
        return DeviceSegment(steps, wanted)

    def _call(self, node: Node) -> Callable[..., Array]:
        plain = super()._call(node)
        if node.op.name == "scan":
            return plain
        view = _moved(node) if node.op.view else None
        reshapes = node.op.name in ("reshape", "reshape_like")
        for_shape = node.op.shape_only
        rows = of_rows(node)

        def call(sizes: Sizes, draw: Draw, *xs: Array) -> Array:
            if view is not None and isinstance(xs[0], Resident):
                try:
                    return view(sizes, draw, xs[0])
                except KeyError:
                    pass  # a size that only the run knows
            if rows is not None and isinstance(xs[0], Resident):
                return rows(sizes, draw, *xs)
            if reshapes and isinstance(xs[0], Resident):
                others = [shaped(x) if i in for_shape else host(x) for i, x in enumerate(xs[1:], 1)]
                return xs[0].reshaped(plain(sizes, draw, shaped(xs[0]), *others).shape)
            return plain(sizes, draw, *(shaped(x) if i in for_shape else host(x) for i, x in enumerate(xs)))

        return call

    def _scan(self, node: Node) -> Callable[..., Array]:
        from tlang.run.cuda.scan import device_scan

        plain = Tape._scan(self, node)
        if (found := device_scan(node, plain)) is not None:
            return found

        def call(sizes: Sizes, draw: Draw, *xs: Array, watch: Watch | None = None) -> Array:
            return plain(sizes, draw, *map(host, xs), watch=watch)

        return call

    def _body(self, body: Body) -> Tape:
        return Tape(body.results)

    @property
    def is_built(self) -> bool:
        """Kernels are compiled when sizes are known."""
        return True

    def run(
        self, leaf: Leaf, draw: Draw, sizes: Sizes | None = None, watch: Watch | None = None
    ) -> list[Array]:
        """The roots' values; where sizes do not fit the interpreter explains it."""
        try:
            return Tape.run(self, leaf, draw, sizes, watch)
        except Unfit:
            if self._reference is None:
                self._reference = Tape(*self.given)
            return self._reference.run(lambda node: host(leaf(node)), draw)


def _moved(view: Node) -> Callable[..., Resident] | None:
    """A view of an array on the device as one of its own; None for one whose places only the run knows."""
    one = one_step(view)
    if one is None:
        return None
    kept = [a for a in one.axes if a is not None]
    same = all(
        d == (ONE if a is None else one.base.shape[a]) for a, d in zip(one.axes, view.shape, strict=True)
    )
    if one.whole and kept == sorted(kept) and same:
        return lambda sizes, draw, x: x.reshaped(tuple(d.evaluate(sizes) for d in view.shape))
    x = view.inputs[0]
    leaf = view.graph.leaf("value", Tensor(x.dtype, x.shape), view.span, name="%x")
    seen = view.graph.make(view.op, [leaf, *view.inputs[1:]], view.span, **dict(view.attrs))
    copied = view.graph.make(OPS["conj"], [seen], view.span)
    steps = fused([copied], parallel=True)
    if len(steps) != 1 or isinstance(steps[0], Alone):
        return None
    segment = DeviceSegment(steps, [copied])
    return lambda sizes, draw, x: segment(sizes, draw, x)[0]
