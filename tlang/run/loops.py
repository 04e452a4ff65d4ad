"""Loops without Python between their steps.

The body of a loop is a list of calls of compiled code whose operands are memory that stays where it is.
What one call hands to another are addresses in their tables, and a new value of a shared tensor takes the
place of the old one by an exchange of two addresses. A :class:`NativeLoop` is this, made for arrays of
certain sizes, after one iteration has shown them.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tlang.elaborate import plans
from tlang.emit import driver
from tlang.graph.node import Function, Node, toposort
from tlang.interpret import Sizes, bind_sizes, constant, leaf_name
from tlang.run.build import CompiledTape, Frame, Unfit, address, aligned, build
from tlang.run.objects import ObjectError
from tlang.run.rng import PhiloxState
from tlang.run.state import state_words

if TYPE_CHECKING:
    from tlang.run.session import Session

Array = Any
#: A variable of the loop: "shared", "value" or "stream", and its name.
Name = tuple[str, str]
#: So long a loop stays in compiled code: then Python looks for Ctrl-C and shows progress.
SLICE = 0.05


class Foreign(Exception):
    """A loop that needs Python between its steps, with the reason."""


@dataclass(slots=True)
class Variable:
    """An array of the loop: its cell has the address of the current one; a state has a second array."""

    cell: int
    arrays: list[Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, the same in all iterations."""
        return tuple(self.arrays[0].shape)


class NativeLoop:
    """The iterations of a loop from the second on.

    `advance` says by how many elements of its first axis a name moves in each iteration (batches); `counter`
    is the name that has the number of the iteration. Raises `Foreign` where Python is needed.
    """

    def __init__(
        self,
        session: Session,
        body: Sequence[plans.Plan] | Function,
        *,
        threads: int = 1,
        counter: tuple[str, int] | None = None,
        moving: Mapping[str, tuple[Array, int, int]] | None = None,
        args: Mapping[str, Array] | None = None,
    ) -> None:
        self.session = session
        self.threads = threads
        self.cells = np.zeros(1024, np.int64)
        self.variables: dict[Name, Variable] = {}
        self.results: dict[str, tuple[int, Array]] = {}
        self.words: list[int] = []
        self.kept: list[object] = []
        self.frames: list[Frame] = []
        self.moving = dict(moving or {})
        self.sets: dict[str, tuple[str, plans.Target]] = {}
        self.records: list[tuple[plans.Target, tuple[str, ...], list[str]]] = []
        self.updated: set[str] = set()
        self.streams: set[str] = set()
        self.counter = counter
        self.given: list[str] = []
        self.changing: set[Name] = set()
        if isinstance(body, Function):
            held = {name: self.hold(array) for name, array in (args or {}).items()}
            self.given = self.call(body, held, False)
        else:
            self.changing = self.changed_by(body)
            read = _reads(session, body)
            for plan in body:
                self.plan(plan, read)
        if counter is not None and ("value", counter[0]) in self.variables:
            self.emit(driver.ADD, address(self.variables["value", counter[0]].arrays[0]), 1)
        for name, (base, _, step) in self.moving.items():
            if ("value", name) in self.variables:
                bytes_a_row = base.strides[0] if base.shape[0] > 1 else base.nbytes
                self.emit(driver.ADD, self.variables["value", name].cell, step * bytes_a_row)
        self.program = np.array([0] * driver.HEADER + self.words, np.int64)
        self.drive = build(driver.TEXT, driver.ENTRY, signature=driver.SIGNATURE)

    def changed_by(self, body: Sequence[plans.Plan]) -> set[Name]:
        """The variables that may change from one iteration to the next."""
        names: set[Name] = {("value", name) for name in self.moving}
        if self.counter is not None:
            names.add(("value", self.counter[0]))
        for plan in body:
            for target in getattr(plan, "targets", ()):
                names.add((target.kind, target.name))
            e = getattr(plan, "value", None)
            if isinstance(e, plans.Evaluation):
                for step in e.steps:
                    names |= {("shared", k) for k in self.session.program.function(step.function).updates}
        return names

    # ------------------------------------------------------------ the program

    def emit(self, what: int, *words: int) -> None:
        """One operation."""
        self.words += [what, *words, *[0] * (driver.WORDS - 1 - len(words))]

    def new_cell(self, array: Array) -> int:
        """The address of a new cell with the address of an array."""
        at = len(self.kept)
        if at >= len(self.cells):
            raise Foreign("too many variables")
        self.kept.append(array)
        self.cells[at] = address(array)
        return address(self.cells) + 8 * at

    def variable(self, name: Name) -> Variable:
        """A variable with its current array, which is copied where it will change or is not aligned."""
        if name not in self.variables:
            kind, key = name
            if key in self.moving and kind == "value":
                base, start, step = self.moving[key]
                array = base[start : start + step]
            elif kind == "shared":
                array = self.session.shared_value(key, None)
            elif kind == "stream":
                array = state_words(self.session.streams.state(key))
            elif key in self.session.values:
                array = self.session.values[key]
            else:
                raise Foreign(f"`{key}` has no value yet")
            if not isinstance(array, np.ndarray | np.generic):
                raise Foreign(f"`{key}` is not an array")
            array = np.asarray(array)
            if key not in self.moving and (
                kind != "value" or not array.flags.c_contiguous or address(array) % 64 or not array.ndim
            ):
                held = aligned(array.shape, array.dtype)
                held[...] = array
                array = held
            self.variables[name] = Variable(self.new_cell(array), [array])
        return self.variables[name]

    def plan(self, plan: plans.Plan, read: set[str]) -> None:
        """The operations of one line of the body."""
        match plan:
            case plans.SetPlan(targets=targets, value=e):
                if any(t.kind != "value" for t in targets):
                    raise Foreign("it sets what is not a plain value")
                if e.fields is not None:
                    (target,) = targets
                    if any(f"{target.name}.{f}" in read for f in e.fields):
                        raise Foreign(f"it reads the record `{target.name}`")
                    sources = self.evaluation(e, read, True)
                    if any(s.startswith(("value:", "shared:")) for s in sources):
                        raise Foreign(f"a field of `{target.name}` is a variable")
                    self.records.append((target, e.fields, sources))
                    return
                outputs = self.evaluation(e, read, all(t.name not in read for t in targets))
                for target, source in zip(targets, outputs, strict=True):
                    if target.name in read or source.startswith(("value:", "shared:")):
                        self.assign(target.name, source)
                        source = f"value:{target.name}"
                    self.sets[target.name] = (source, target)
            case plans.EchoPlan(value=e, quiet=True):
                self.evaluation(e, read, True)
            case _:
                raise Foreign(f"{type(plan).__name__} needs Python")

    def assign(self, name: str, source: str) -> None:
        """A value that the loop reads gets a new content."""
        place, array = self.results[source]
        variable = self.variable(("value", name))
        if variable.shape != array.shape or variable.arrays[0].dtype != array.dtype:
            raise Foreign(f"`{name}` changes its shape")
        self.results[f"value:{name}"] = (variable.cell, variable.arrays[0])
        self.emit(driver.COPY, variable.cell, place, array.nbytes)

    def evaluation(self, e: plans.Evaluation, read: set[str], idle: bool) -> list[str]:
        """The calls of an expression and its items, as names of results; `idle`: no line reads them."""
        if e.advances or not all(isinstance(i, int) for i in e.items):
            raise Foreign("an expression draws")
        version = 0
        own: dict[str, str] = {}
        leaves = {r: f"%{len(self.results)}.{r}" for step in e.steps for r in step.results}
        wanted = set()
        roots = [e.nodes[i] for i in e.items if isinstance(i, int)]
        direct = all(n.op.name == "value" and n.attr("name") in leaves for n in roots)
        for step in e.steps:
            args = [e.nodes[i] for i in step.args.values()]
            wanted |= {n.attr("name") for a in args for n in _leaves(a) if n.op.name == "value"}
        if not direct or not idle:
            wanted |= {n.attr("name") for a in roots for n in _leaves(a) if n.op.name == "value"}
        for step in e.steps:
            function = self.session.program.function(step.function)
            given = {}
            for name, i in step.args.items():
                given[name] = self.value(e.nodes[i], own, e, version)
            outputs = self.call(function, given, any(r in wanted for r in step.results))
            for r, output in zip(step.results, outputs, strict=True):
                own[r] = output
            version += function.has_effects
        return [self.value(n, own, e, version) for n in roots]

    def value(self, node: Node, own: Mapping[str, str], e: plans.Evaluation, version: int) -> str:
        """The name of a result: of a leaf, or of an expression that is computed."""
        if node.op.name == "value" and node.attr("name") in own:
            return own[node.attr("name")]
        if node.op.name in ("value", "shared"):
            return self.leaf(node, version)
        if node.op.name == "const":
            return self.hold(np.asarray(constant(node)))

        leaves = _leaves(node)
        if not any((n.op.name, n.attr("name")) in self.changing or n.attr("name") in own for n in leaves):
            return self.hold(self.session.fixed(node, e))

        def found(leaf: Node) -> str:
            return self.value(leaf, own, e, version)

        tape = self.session.loop_tape(("item", node), [node], list(e.reads), None)
        return self.compute(tape, found, True)[0]

    def leaf(self, node: Node, version: int) -> str:
        """The result that a variable is."""
        name = (node.op.name, node.attr("name"))
        if node.op.name == "shared" and node.attr("version") not in (0, version):
            raise Foreign("it reads a shared value from before a call of the same line")
        if node.op.name == "shared" and node.attr("version") != version and node.attr("name") in self.updated:
            raise Foreign("it reads a shared value from before a call of the same line")
        variable = self.variable(name)
        key = f"{name[0]}:{name[1]}"
        self.results[key] = (variable.cell, variable.arrays[0])
        return key

    def hold(self, array: Array) -> str:
        """A result that does not change."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = f"%held{len(self.kept)}"
        self.results[key] = (self.new_cell(array), array)
        return key

    def call(self, function: Any, given: Mapping[str, str], wanted: bool) -> list[str]:
        """A call of a function, and the exchange of what it updates."""
        session = self.session
        tape = session.compiled(function)
        arguments = {}
        for p in function.params:
            source = given.get(p.name)
            arguments[p.node.attr("name")] = (
                self.hold(np.asarray(session.default(p))) if source is None else source
            )

        def found(leaf: Node) -> str:
            if leaf.op.name == "tensor":
                return arguments[leaf.attr("name")]
            variable = self.variable((leaf.op.name, leaf.attr("name")))
            key = f"{leaf.op.name}:{leaf.attr('name')}"
            self.results[key] = (variable.cell, variable.arrays[0])
            return key

        results = self.compute(tape, found, wanted)
        for state in function.advances:
            self.emit(driver.ADD, address(self.variable(("stream", state)).arrays[0]) + 8, 1)
            self.streams.add(state)
        count = len(function.outputs)
        for at, source in enumerate(results[:count]):
            if source.startswith("shared:") and source.removeprefix("shared:") in function.updates:
                results[at] = self.snapshot(source)
        seen = set(results[:count])
        for key, source in zip(function.updates, results[count:], strict=True):
            place, array = self.results[source]
            variable = self.variable(("shared", key))
            if (
                source.partition(":")[0] in ("shared", "value")
                or source.startswith("%held")
                or source in seen
            ):
                raise Foreign(f"the new value of `{key}` is used twice")
            seen.add(source)
            if variable.shape != array.shape or variable.arrays[0].dtype != array.dtype:
                raise Foreign(f"`{key}` changes its shape")
            variable.arrays.append(array)
            self.updated.add(key)
            self.emit(driver.SWAP, variable.cell, place)
        return results[:count]

    def snapshot(self, source: str) -> str:
        """A copy of what a result is at this point of an iteration."""
        place, array = self.results[source]
        held = self.hold(np.empty_like(array))
        self.emit(driver.COPY, self.results[held][0], place, array.nbytes)
        return held

    def compute(self, tape: Any, found: Callable[[Node], str], wanted: bool) -> list[str]:
        """A call of a tape: its operands' addresses are loaded into its table. Returns names of its roots."""
        if not isinstance(tape, CompiledTape) or not tape.native:
            raise Foreign("not all of it is compiled")
        sizes: Sizes = {}
        bound = []
        leaves = [node for _, node in tape.leaves]
        for node in [*leaves, *tape.others]:
            if node.type.shape:
                _, array = self.results[found(node)]
                bound.append((leaf_name(node), node, array.shape))
        bind_sizes(bound, sizes)
        nodes = dict(tape.leaves)
        constants = dict(tape.constants)
        places: dict[int, str] = {}
        if tape.segment is not None:
            places = self.segment(tape, sizes, found, wanted)
        out = []
        for root in tape.roots:
            if root in places:
                out.append(places[root])
            elif root in nodes:
                out.append(found(nodes[root]))
            else:
                out.append(self.hold(np.asarray(constants[root])))
        return out

    def segment(
        self, tape: CompiledTape, sizes: Sizes, found: Callable[[Node], str], wanted: bool
    ) -> dict[int, str]:
        """The call of a tape's code; the results by the slots of the tape."""
        segment = tape.segment
        assert segment is not None
        try:
            key = tuple([sizes[s] for s in segment.code.symbols])
            frame: Frame = segment.frame(key, self.threads)
        except (Unfit, KeyError):
            raise Foreign("its sizes do not fit") from None
        self.frames.append(frame)
        for node in segment.inputs:
            slot = frame.address + 8 * segment.slot[node]
            if node.op.name == "const":
                source = self.hold(np.ascontiguousarray(constant(node)))
            else:
                source = found(node)
            self.emit(driver.LOAD, slot, self.results[source][0])
        code: Any = segment.entry
        entry = ctypes.cast(code, ctypes.c_void_p).value
        assert entry is not None
        self.emit(driver.CALL, entry, frame.address, int(wanted))
        places = {}
        by_node = {}
        for node, (slot, shape, dtype) in zip(segment.outputs, frame.outputs, strict=True):
            array = aligned(shape, dtype)
            frame.table[slot] = address(array)
            name = f"%{len(self.results)}"
            self.results[name] = (frame.address + 8 * slot, array)
            by_node[node] = name
        for _, inputs, made, _, node in tape.steps:
            if inputs and node in by_node:
                places[made] = by_node[node]
        return places

    # ------------------------------------------------------------ running

    def run(self, count: int, progress: Callable[[int], None] | None = None) -> int:
        """Iterates `count` times; on an interrupt too the state is that after a whole iteration."""
        done, step = 0, 1
        try:
            while done < count:
                step = min(step, count - done)
                start = time.perf_counter()
                self.drive_all(step, done + step == count)
                done += step
                spent = time.perf_counter() - start
                step = max(
                    1, min(2 * step if spent < SLICE / 2 else step, int(step * SLICE / max(spent, 1e-9)))
                )
                if progress is not None:
                    progress(done)
        finally:
            self.publish(done)
        return done

    def drive_all(self, iterations: int, final: bool) -> None:
        """Some iterations, on all threads."""
        count = len(self.words) // driver.WORDS
        arguments = (address(self.program), count, iterations, int(final))
        others = [
            threading.Thread(target=self.drive, args=(*arguments, tid, self.threads))
            for tid in range(1, self.threads)
        ]
        for t in others:
            t.start()
        self.drive(*arguments, 0, self.threads)
        for t in others:
            t.join()

    def publish(self, done: int) -> None:
        """The session gets what the loop has computed: all shared values at once, then the values."""
        if not done:
            return
        session = self.session
        fresh = {key: self.current(self.variables["shared", key]) for key in self.updated}
        session.shared = {**session.shared, **fresh}
        for key in self.streams:
            words = self.variables["stream", key].arrays[0].view(np.uint64)
            session.streams.states[key] = PhiloxState(*words.tolist())
        for name, (source, target) in self.sets.items():
            session.store_value(name, self.result(source), target.type, target.span)
        for target, fields, sources in self.records:
            session.store_record(target, fields, [self.result(s) for s in sources])
        if self.counter is not None:
            session.values[self.counter[0]] = np.int64(self.counter[1] + done - 1)

    def result(self, source: str) -> Array:
        """What a result is now, as an array of its own."""
        place, array = self.results[source]
        at = int(ctypes.c_int64.from_address(place).value)
        return np.array(next((a for a in self.arrays() if address(a) == at), array))[()]

    def arrays(self) -> list[Array]:
        """Every array that a result may be in."""
        return [a for v in self.variables.values() for a in v.arrays] + [a for _, a in self.results.values()]

    def current(self, variable: Variable) -> Array:
        """The array that a cell points to now, as one of its own."""
        at = int(ctypes.c_int64.from_address(variable.cell).value)
        return next(np.array(a)[()] for a in variable.arrays if address(a) == at)


def _leaves(node: Node) -> list[Node]:
    return [n for n in toposort([node]) if n.op.name in ("value", "shared")]


def _reads(session: Session, body: Sequence[plans.Plan]) -> set[str]:
    """The values that the lines of a body read."""
    names: set[str] = set()
    for plan in body:
        e = getattr(plan, "value", None)
        if isinstance(e, plans.Evaluation):
            names |= {n.attr("name") for n in e.reads if n.op.name == "value"}
            for node in e.nodes:
                names |= {n.attr("name") for n in _leaves(node) if n.op.name == "value"}
    return names


def native_loop(session: Session, body: Sequence[plans.Plan] | Function, **how: Any) -> NativeLoop | None:
    """The rest of a loop as compiled code, or None where it needs Python."""
    try:
        return NativeLoop(session, body, **how)
    except (Foreign, ObjectError) as e:
        session.why_slow = str(e)
        return None
