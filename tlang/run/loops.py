"""Loops without Python between their steps.

The body of a loop is a list of calls of compiled code whose operands are memory that stays where it is.
What one call hands to another are addresses in their tables, and a new value of a shared tensor takes the
place of the old one by an exchange of two addresses. What has no kernel, Python does between two of them. A
:class:`NativeLoop` is this, made for arrays of certain sizes, after one iteration has shown them.

Where something fails, the loop stops before the operation that did, and the interpreter runs that line of
the body again, to say what is wrong. So everything is then computed in every iteration, as it is there.
"""

from __future__ import annotations

import bisect
import ctypes
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from tlang.elaborate import plans
from tlang.elaborate.values import Text
from tlang.emit import driver
from tlang.graph.node import Function, Node, toposort
from tlang.interpret import Sizes, bind_sizes, constant, leaf_name
from tlang.plan.views import one_step
from tlang.run import interrupts
from tlang.run.build import CompiledTape, Frame, Item, Segment, Unfit, address, aligned, build
from tlang.run.evaluation import Evaluator
from tlang.run.host import Host, array_at
from tlang.run.rng import PhiloxState, State
from tlang.run.streams import draw, state_words
from tlang.run.text import format_value

Array = Any
#: A variable of the loop: "shared", "value" or "stream", and its name.
Name = tuple[str, str]
#: So long a loop stays in compiled code: then Python looks for Ctrl-C and shows progress.
SLICE = 0.05


class Foreign(Exception):
    """A loop that only Python can run, with the reason."""


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
        evaluator: Evaluator,
        body: Sequence[plans.Plan] | Function,
        *,
        execute: Callable[[plans.Plan], None],
        write: Callable[[str], None],
        threads: int = 1,
        counter: tuple[str, int] | None = None,
        moving: Mapping[str, tuple[Array, int, int]] | None = None,
        args: Mapping[str, Array] | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.store = evaluator.store
        self.backends = evaluator.backends
        self.execute = execute
        self.write = write
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
        self.host = Host()
        self.body = body
        self.args = dict(args or {})
        self.lines: list[int] = []
        self.calls: list[int] = []
        self.can_fail = False
        self.several_effects = False
        self.prints: set[int] = set()
        self.risks = 0
        self.overwritten: set[str] = set()
        self.counters: dict[str, int] = {}
        self.last_batches: dict[str, Array] = {}
        self.last = 0
        if isinstance(body, Function):
            held = {name: self.hold(array) for name, array in (args or {}).items()}
            self.given = self.call(body, held, False)
        else:
            self.changing = self.changed_by(body)
            read = _reads(body)
            for plan in body:
                self.lines.append(len(self.words) // driver.WORDS)
                self.plan(plan, read)
        if self.can_fail:
            if self.several_effects:
                raise Foreign("a line with several calls may fail")
            for at in self.calls:
                self.words[at] = 1
        if counter is not None and ("value", counter[0]) in self.variables:
            self.emit(driver.ADD, address(self.variables["value", counter[0]].arrays[0]), 1)
        for name, (base, _, step) in self.moving.items():
            if step and ("value", name) in self.variables:
                bytes_a_row = base.strides[0] if base.shape[0] > 1 else base.nbytes
                self.emit(driver.ADD, self.variables["value", name].cell, step * bytes_a_row)
        self.program = np.array([0] * driver.HEADER + self.words, np.int64)
        self.drive = build(driver.TEXT, driver.ENTRY, signature=driver.SIGNATURE)

    def changed_by(self, body: Sequence[plans.Plan]) -> set[Name]:
        """The variables that may change from one iteration to the next."""
        names: set[Name] = {("value", name) for name in self.moving}
        if self.counter is not None:
            names.add(("value", self.counter[0]))
        for plan in _flat(body):
            for target in getattr(plan, "targets", ()):
                names.add((target.kind, target.name))
            if isinstance(plan, plans.RepeatPlan | plans.RangePlan) and plan.name is not None:
                names.add(("value", plan.name))
            if isinstance(plan, plans.BatchesPlan):
                names |= {("value", name) for name in plan.names}
            e = getattr(plan, "value", None)
            if isinstance(e, plans.Evaluation):
                for step in e.steps:
                    names |= {("shared", k) for k in self.evaluator.program.function(step.function).updates}
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
                array = self.store.shared_value(key, None)
            elif kind == "stream":
                array = state_words(self.store.streams.state(key))
            elif key in self.store.values:
                array = self.store.values[key]
            else:
                raise Foreign(f"`{key}` has no value yet")
            if not isinstance(array, np.ndarray | np.generic):
                raise Foreign(f"`{key}` is not an array")
            array = np.asarray(array)
            own = kind != "value" or name in self.changing or not array.ndim
            if key not in self.moving and (own or not array.flags.c_contiguous or address(array) % 64):
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
                    names = [f"{target.name}.{f}" for f in e.fields]
                    risks = self.risks
                    sources = self.evaluation(e, read, not read & set(names))
                    kept = read if risks == self.risks else set(names)
                    for at, (name, source) in enumerate(zip(names, sources, strict=True)):
                        if name in kept or source.startswith(("value:", "shared:")):
                            self.assign(name, source)
                            sources[at] = f"value:{name}"
                    self.records.append((target, e.fields, sources))
                    return
                risks = self.risks
                outputs = self.evaluation(e, read, all(t.name not in read for t in targets))
                kept = read if risks == self.risks else {t.name for t in targets}
                for target, source in zip(targets, outputs, strict=True):
                    if target.name in kept or source.startswith(("value:", "shared:")):
                        self.assign(target.name, source)
                        source = f"value:{target.name}"
                    self.sets[target.name] = (source, target)
            case plans.EchoPlan(value=e, quiet=True):
                self.evaluation(e, read, True)
            case plans.CheckPlan(value=e):
                (source,) = self.evaluation(e, read, False)
                self.can_fail = True
                self.emit(driver.TEST, self.results[source][0])
            case plans.PrintPlan(value=e):
                self.print(e, read)
            case plans.RepeatPlan(count=count, name=name, body=body):
                self.nested(body, read, self.number(count), name, 0)
            case plans.RangePlan(name=name, start=start, stop=stop, body=body):
                first = self.number(start)
                self.nested(body, read, self.number(stop) - first, name, first)
            case plans.BatchesPlan(names=names, arrays=arrays, size=size, body=body):
                self.nested_batches(body, read, names, arrays, self.number(size))
            case _:
                raise Foreign(f"{type(plan).__name__} needs Python")

    def print(self, e: plans.Evaluation, read: set[str]) -> None:
        """A line of output in every iteration."""
        if any(not isinstance(i, int | Text) for i in e.items):
            raise Foreign("it prints a state")
        sources = iter(
            self.evaluation(replace(e, items=tuple(i for i in e.items if isinstance(i, int))), read, False)
        )
        items = [i.value if isinstance(i, Text) else self.results[next(sources)] for i in e.items]

        def job() -> None:
            texts = [i if isinstance(i, str) else format_value([array_at(*i)[()]], None) for i in items]
            self.write(" ".join(texts))

        self.prints.add(len(self.words) // driver.WORDS)
        self.hosted(job)

    def hosted(self, job: Callable[[], None]) -> None:
        """A call of Python."""
        self.emit(driver.HOST, self.host.entry, self.host.add(job))

    # ------------------------------------------------------------ loops in the body

    def number(self, e: plans.Evaluation) -> int:
        """A count that is the same in every iteration."""
        leaves = {(n.op.name, n.attr("name")) for node in e.nodes for n in _leaves(node)}
        if e.steps or e.advances or leaves & self.changing:
            raise Foreign("the count of a loop in it changes")
        return int(self.evaluator.evaluate(e)[0])

    def nested(
        self, body: Sequence[plans.Plan], read: set[str], count: int, name: str | None, first: int
    ) -> None:
        """A loop in the body: `name` counts from `first`."""
        if count < 1:
            raise Foreign("a loop in it has no iteration")

        def advance() -> None:
            if name is not None:
                self.emit(driver.ADD, place, 1)

        place = 0
        if name is not None:
            self.store.values.setdefault(name, np.int64(first))
            place = address(self.variable(("value", name)).arrays[0])
            self.counters[name] = first + count - 1
            self.emit(driver.STORE, place, first - 1)
        self.around(body, read, count, advance)

    def around(
        self, body: Sequence[plans.Plan], read: set[str], count: int, advance: Callable[[], object]
    ) -> None:
        """The operations of a loop in the body; `advance` emits those that begin an iteration."""
        left = self.new_cell(np.zeros(1))
        self.emit(driver.STORE, left, count)
        top = len(self.words) // driver.WORDS
        advance()
        for plan in body:
            self.plan(plan, read)
        self.emit(driver.AGAIN, left, top)
        if self.can_fail:
            raise Foreign("a loop in it may fail")

    def nested_batches(
        self,
        body: Sequence[plans.Plan],
        read: set[str],
        names: Sequence[str],
        arrays: plans.Evaluation,
        size: int,
    ) -> None:
        """Whole batches of arrays that do not change."""
        leaves = {(n.op.name, n.attr("name")) for node in arrays.nodes for n in _leaves(node)}
        if arrays.steps or arrays.advances or leaves & self.changing or size < 1:
            raise Foreign("what is divided into batches changes")
        values = [np.ascontiguousarray(v) for v in self.evaluator.evaluate(arrays)]
        count = len(values[0])
        if count % size or not count:
            raise Foreign("the last batch is smaller")
        cells = []
        for name, value in zip(names, values, strict=True):
            if name in self.moving or ("value", name) in self.variables:
                raise Foreign(f"`{name}` has several meanings")
            self.moving[name] = (value, 0, 0)
            whole = Variable(self.new_cell(value), [value[:size]])
            self.kept.append(value)
            self.variables["value", name] = whole
            row = value.nbytes // count
            cells.append((whole.cell, size * row))
            self.emit(driver.STORE, whole.cell, address(value) - size * row)
            self.last_batches[name] = value[count - size :]

        def advance() -> None:
            for cell, step in cells:
                self.emit(driver.ADD, cell, step)

        self.around(body, read, count // size, advance)

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
            function = self.evaluator.program.function(step.function)
            given = {}
            for name, i in step.args.items():
                given[name] = self.value(e.nodes[i], own, e, version)
            outputs = self.call(function, given, any(r in wanted for r in step.results))
            for r, output in zip(step.results, outputs, strict=True):
                own[r] = output
            version += function.has_effects
        if version > 1:
            self.several_effects = True
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
            return self.hold(self.evaluator.fixed(node, e))

        def found(leaf: Node) -> str:
            return self.value(leaf, own, e, version)

        tape = self.backends.loop_tape(("item", node), [node], list(e.reads), None)
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
        tape = self.backends.compiled(function)
        arguments = {}
        for p in function.params:
            source = given.get(p.name)
            arguments[p.node.attr("name")] = (
                self.hold(np.asarray(self.evaluator.default(p))) if source is None else source
            )

        def found(leaf: Node) -> str:
            if leaf.op.name == "tensor":
                return arguments[leaf.attr("name")]
            variable = self.variable((leaf.op.name, leaf.attr("name")))
            key = f"{leaf.op.name}:{leaf.attr('name')}"
            self.results[key] = (variable.cell, variable.arrays[0])
            return key

        count = len(function.outputs)
        leaves = {leaf.attr("name"): leaf for _, leaf in tape.leaves if leaf.op.name == "shared"}
        replaced = tape.replaced(
            (leaves[key], count + k) for k, key in enumerate(function.updates) if key in leaves
        )
        results = self.compute(tape, found, wanted, replaced)
        new = set(results[count : count + len(function.updates)])
        results[:count] = [self.snapshot(r) if r in new else r for r in results[:count]]
        for state in function.advances:
            self.emit(driver.ADD, address(self.variable(("stream", state)).arrays[0]) + 8, 1)
            self.streams.add(state)
        for at, source in enumerate(results[:count]):
            if source.startswith("shared:") and source.removeprefix("shared:") in function.updates:
                results[at] = self.snapshot(source)
        seen = set(results[:count])
        for key, source in zip(function.updates, results[count:], strict=False):  # then come draws alone
            place, array = self.results[source]
            variable = self.variable(("shared", key))
            if source in self.overwritten:
                self.updated.add(key)
                continue
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

    def compute(
        self,
        tape: Any,
        found: Callable[[Node], str],
        wanted: bool,
        replaced: Mapping[Node, Node] | None = None,
    ) -> list[str]:
        """The calls of a tape: of code, and of Python between. Returns the names of its roots.

        `replaced` are outputs that overwrite inputs.
        """
        if not isinstance(tape, CompiledTape) or tape.failed:
            raise Foreign("it is not compiled")
        sizes: Sizes = {}
        bound = []
        nodes = dict(tape.leaves)
        for node in [*nodes.values(), *tape.others]:
            if node.type.shape:
                _, array = self.results[found(node)]
                bound.append((leaf_name(node), node, array.shape))
        bind_sizes(bound, sizes)
        constants = dict(tape.constants)
        names: dict[int, str] = {}
        parts: dict[int, list[str]] = {}
        results: dict[int, list[Any]] = {}

        def source(slot: int) -> str:
            if slot not in names:
                names[slot] = found(nodes[slot]) if slot in nodes else self.hold(np.asarray(constants[slot]))
            return names[slot]

        for call, inputs, made, _, node in tape.steps:
            if isinstance(call, Segment):
                parts[made] = self.segment(call, sizes, [source(x) for x in inputs], wanted, replaced or {})
            elif isinstance(call, Item):
                names[made] = parts[inputs[0]][call.number]
            elif node.op.name == "scan":
                results[made] = self.recurrence(call, [source(x) for x in inputs], sizes)
            elif node.op.name == "item":
                names[made] = self.numpy(
                    partial(_taken, results[inputs[0]], node.attr("at")), node, [], sizes
                )
            else:
                names[made] = self.numpy(call, node, [source(x) for x in inputs], sizes)
        return [source(root) for root in tape.roots]

    def segment(
        self,
        segment: Segment,
        sizes: Sizes,
        sources: Sequence[str],
        wanted: bool,
        replaced: Mapping[Node, Node],
    ) -> list[str]:
        """A call of code: its operands' addresses are loaded into its table. Names of what it gives."""
        try:
            key = tuple([sizes[s] for s in segment.code.symbols])
            frame: Frame = segment.frame(key, self.threads)
        except (Unfit, KeyError):
            raise Foreign("its sizes do not fit") from None
        self.frames.append(frame)
        for node, source in zip(segment.inputs, sources, strict=True):
            self.emit(driver.LOAD, frame.address + 8 * segment.slot[node], self.results[source][0])
        given = dict(zip(segment.inputs, sources, strict=True))
        for node, leaf in replaced.items():
            self.emit(driver.LOAD, frame.address + 8 * segment.slot[node], self.results[given[leaf]][0])
        code: Any = segment.entry
        entry = ctypes.cast(code, ctypes.c_void_p).value
        assert entry is not None
        if segment.fails:  # what it gives is of no use then
            self.can_fail = True
            self.risks += 1
        self.emit(driver.CALL, entry, frame.address, int(wanted))
        self.calls.append(len(self.words) - 1)
        made = []
        for node, (slot, shape, dtype) in zip(segment.outputs, frame.outputs, strict=True):
            made.append(f"%{len(self.results)}")
            if node in replaced:
                array = self.results[given[replaced[node]]][1]
                self.overwritten.add(made[-1])
            else:
                array = aligned(shape, dtype)
                frame.table[slot] = address(array)
            self.results[made[-1]] = (frame.address + 8 * slot, array)
        return made

    def recurrence(self, call: Any, sources: Sequence[str], sizes: Sizes) -> list[Any]:
        """A call of Python that makes all steps of a recurrence; the list gets what it gives."""
        inputs, found = [self.results[s] for s in sources], list[Any]()

        def job() -> None:
            found[:] = call(dict(sizes), None, *[array_at(*x)[()] for x in inputs])

        self.can_fail = True
        self.hosted(job)
        return found

    def numpy(self, call: Any, node: Node, sources: Sequence[str], sizes: Sizes) -> str:
        """An operation that NumPy does."""
        if node.op.name == "draw" and not isinstance(
            self.store.streams.state(node.attr("state")), PhiloxState
        ):
            raise Foreign("another generator than Philox draws")
        try:
            shape = tuple(d.evaluate(sizes) for d in node.shape)
        except KeyError:
            raise Foreign("only the run knows the size of a result") from None
        array, watch = aligned(shape, np.dtype(node.dtype.numpy_name)), self.backends.watch
        inputs = [self.results[s] for s in sources]
        if node.op.view and inputs[0][1].nbytes == array.nbytes and _keeps_order(node):
            name = self.hold(array)
            self.emit(driver.COPY, self.results[name][0], inputs[0][0], array.nbytes)
            return name

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            words = self.variables["stream", node.attr("state")].arrays[0].view(np.uint64)
            return draw(PhiloxState(*words.tolist()), node, params, shape)[0]

        def job() -> None:
            operands = [array_at(*x)[()] for x in inputs]
            operation = partial(call, dict(sizes), drawn, *operands)
            with np.errstate(all="ignore"):
                result = operation() if watch is None else watch(node, operation, operands)
            if np.shape(result) != shape:
                raise ValueError(node.op.name)
            array[...] = result

        if node.op.name == "draw":
            self.variable(("stream", node.attr("state")))
        self.can_fail = True
        self.hosted(job)
        name = f"%{len(self.results)}"
        self.results[name] = (self.new_cell(array), array)
        return name

    # ------------------------------------------------------------ running

    def run(self, count: int, progress: Callable[[int], None] | None = None) -> int:
        """Iterates `count` times; on an interrupt too the state is that after a whole iteration."""
        step, spent, failed = 1, 0.0, 0
        try:
            while (done := self.done) < count:
                if self.host.interrupted:
                    raise KeyboardInterrupt
                step = min(step, count - done)
                start = time.perf_counter()
                self.last = count
                failed = self.drive_all(step, done + step == count)
                if failed:
                    break
                spent = time.perf_counter() - start
                step = max(
                    1, min(2 * step if spent < SLICE / 2 else step, int(step * SLICE / max(spent, 1e-9)))
                )
                if progress is not None:
                    progress(self.done)
            if self.host.interrupted:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            if self.done < count and not self.can_fail and spent < 2 * SLICE:  # for what is computed last
                self.last = self.done + 1
                self.drive_all(1, True)
            raise
        finally:
            with interrupts.held():
                self.publish(self.done, bool(failed))
        if failed:
            self.explain(failed - 1)
        return self.done

    @property
    def done(self) -> int:
        """How many iterations are whole."""
        return int(self.program[driver.DONE])

    def explain(self, operation: int) -> None:
        """Raises the error of the line that an operation belongs to."""
        if operation in self.prints and self.host.error is not None:
            raise self.host.error
        if isinstance(self.body, Function):
            self.evaluator.call(self.body, self.args)
        else:
            line = bisect.bisect_right(self.lines, operation) - 1
            self.execute(self.body[line])
        raise self.host.error or AssertionError("compiled code failed where the interpreter does not")

    def drive_all(self, iterations: int, final: bool) -> int:
        """Some iterations, on all threads; the number of the operation that failed, and one.

        An interrupt waits, since threads wait for each other.
        """
        with interrupts.held():
            return self._drive_all(iterations, final)

    def _drive_all(self, iterations: int, final: bool) -> int:
        count = len(self.words) // driver.WORDS
        arguments = (address(self.program), count, iterations, int(final))
        others = [
            threading.Thread(target=self.drive, args=(*arguments, tid, self.threads))
            for tid in range(1, self.threads)
        ]
        for t in others:
            t.start()
        failed: int = self.drive(*arguments, 0, self.threads)
        for t in others:
            t.join()
        return failed

    def publish(self, done: int, failed: bool) -> None:
        """The store gets what the loop has computed: all shared values at once, then the values."""
        if not (done or failed):
            return
        store = self.store
        fresh = {key: self.current(self.variables["shared", key]) for key in self.updated}
        after: dict[str, State] = {}
        for key in self.streams:
            words = self.variables["stream", key].arrays[0].view(np.uint64)
            after[key] = PhiloxState(*words.tolist())
        store.commit({**store.shared, **fresh}, {**store.streams.states, **after})
        if self.done == self.last or self.can_fail:
            for name, (source, target) in self.sets.items():
                store.store_value(name, self.result(source), target.type, target.span)
            for target, fields, sources in self.records:
                store.store_record(target, fields, [self.result(s) for s in sources])
        if done:
            store.values.update({name: np.int64(last) for name, last in self.counters.items()})
            store.values.update(self.last_batches)
        if self.counter is not None:
            store.values[self.counter[0]] = np.int64(self.counter[1] + done - (not failed))
        if failed:
            for name, (base, at, step) in self.moving.items():
                store.values[name] = base[at + step * done : at + step * (done + 1)]

    def result(self, source: str) -> Array:
        """What a result is now, as an array of its own."""
        return np.array(array_at(*self.results[source]))[()]

    def shared_now(self) -> dict[str, Any]:
        """The shared numbers that the loop changes, as they are after the iterations so far."""
        cells = {key: self.variables["shared", key] for key in self.updated}
        return {key: self.current(cell) for key, cell in cells.items() if not np.ndim(cell.arrays[0])}

    def current(self, variable: Variable) -> Array:
        """The array that a cell points to now, as one of its own."""
        return np.array(array_at(variable.cell, variable.arrays[0]))[()]


def _taken(found: Sequence[Any], at: int, sizes: Sizes, draw: object) -> Any:
    """One of the results of a recurrence."""
    return found[at]


def _keeps_order(view: Node) -> bool:
    """Whether a view has all elements of its input in the same order."""
    found = one_step(view)
    if found is None or not found.whole:
        return False
    axes = [a for a in found.axes if a is not None]
    return axes == sorted(axes)


def _leaves(node: Node) -> list[Node]:
    return [n for n in toposort([node]) if n.op.name in ("value", "shared")]


def _flat(body: Sequence[plans.Plan]) -> Iterator[plans.Plan]:
    """The lines of a body and of the loops in it."""
    for plan in body:
        yield plan
        yield from _flat(getattr(plan, "body", ()))


def _reads(body: Sequence[plans.Plan]) -> set[str]:
    """The values that the lines of a body read."""
    names: set[str] = set()
    for plan in _flat(body):
        e = getattr(plan, "value", None)
        if isinstance(e, plans.Evaluation):
            names |= {n.attr("name") for n in e.reads if n.op.name == "value"}
            for node in e.nodes:
                names |= {n.attr("name") for n in _leaves(node) if n.op.name == "value"}
    return names
