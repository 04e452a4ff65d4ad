"""The lines of a loop's body as operations; loops in the body are operations of the same list."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tlang.elaborate import plans
from tlang.elaborate.program import Program
from tlang.elaborate.values import Text
from tlang.emit import driver
from tlang.graph.node import Node, toposort
from tlang.interpret import constant
from tlang.run.build import address
from tlang.run.host import array_at
from tlang.run.native.calls import Calls
from tlang.run.native.memory import Foreign, Name
from tlang.run.text import format_value

Array = Any


class Lines:
    """Writes the lines of a body.

    What they leave behind: `sets` are the results of values, with where they are stored, `records` those of
    records; `counters` and `last_batches` are what the names of loops in the body are at the end. `starts`
    are the numbers of the operations with which lines begin, `prints` of those that write.
    """

    def __init__(self, calls: Calls, body: Sequence[plans.Plan], write: Callable[[str], None]) -> None:
        self.evaluator = calls.evaluator
        self.calls = calls
        self.memory = calls.memory
        self.code = calls.code
        self.write = write
        self.sets: dict[str, tuple[str, plans.Target]] = {}
        self.records: list[tuple[plans.Target, tuple[str, ...], list[str]]] = []
        self.counters: dict[str, int] = {}
        self.last_batches: dict[str, Array] = {}
        self.several_effects = False
        self.starts: list[int] = []
        self.prints: set[int] = set()
        self._read = reads(body)
        for plan in body:
            self.starts.append(len(self.code))
            self._line(plan)

    def _line(self, plan: plans.Plan) -> None:
        """The operations of one line of the body."""
        match plan:
            case plans.SetPlan():
                self._set(plan)
            case plans.EchoPlan(value=e, quiet=True):
                self._evaluation(e, True)
            case plans.CheckPlan(value=e):
                (source,) = self._evaluation(e, False)
                self.code.can_fail = True
                self.code.emit(driver.TEST, self.memory.results[source][0])
            case plans.PrintPlan(value=e):
                self._print(e)
            case plans.RepeatPlan(count=count, name=name, body=body):
                self._nested(body, self._number(count), name, 0)
            case plans.RangePlan(name=name, start=start, stop=stop, body=body):
                first = self._number(start)
                self._nested(body, self._number(stop) - first, name, first)
            case plans.BatchesPlan(names=names, arrays=arrays, size=size, body=body):
                self._nested_batches(body, names, arrays, self._number(size))
            case _:
                raise Foreign(f"{type(plan).__name__} needs Python")

    def _set(self, plan: plans.SetPlan) -> None:
        """Values that are set; those that no line reads are only stored after the loop."""
        if any(t.kind != "value" for t in plan.targets):
            raise Foreign("it sets what is not a plain value")
        e = plan.value
        if e.fields is not None:
            names = [f"{plan.targets[0].name}.{f}" for f in e.fields]
        else:
            names = [t.name for t in plan.targets]
        risks = self.calls.risks
        sources = self._evaluation(e, not self._read & set(names))
        kept = self._read if risks == self.calls.risks else set(names)
        for at, (name, source) in enumerate(zip(names, sources, strict=True)):
            if name in kept or source.startswith(("value:", "shared:")):
                self._assign(name, source)
                sources[at] = f"value:{name}"
            if e.fields is None:
                self.sets[name] = (sources[at], plan.targets[at])
        if e.fields is not None:
            self.records.append((plan.targets[0], e.fields, sources))

    def _assign(self, name: str, source: str) -> None:
        """A value that the loop reads gets a new content."""
        place, array = self.memory.results[source]
        variable = self.memory.variable(("value", name))
        if variable.shape != array.shape or variable.arrays[0].dtype != array.dtype:
            raise Foreign(f"`{name}` changes its shape")
        self.memory.leaf(("value", name))
        self.code.emit(driver.COPY, variable.cell, place, array.nbytes)

    def _print(self, e: plans.Evaluation) -> None:
        """A line of output in every iteration."""
        if any(not isinstance(i, int | Text) for i in e.items):
            raise Foreign("it prints a state")
        sources = iter(
            self._evaluation(replace(e, items=tuple(i for i in e.items if isinstance(i, int))), False)
        )
        items = [i.value if isinstance(i, Text) else self.memory.results[next(sources)] for i in e.items]

        def job() -> None:
            texts = [i if isinstance(i, str) else format_value([array_at(*i)[()]], None) for i in items]
            self.write(" ".join(texts))

        self.prints.add(len(self.code))
        self.code.hosted(job)

    # ------------------------------------------------------------ loops in the body

    def _number(self, e: plans.Evaluation) -> int:
        """A count that is the same in every iteration."""
        if self._varies(e):
            raise Foreign("the count of a loop in it changes")
        return int(self.evaluator.evaluate(e)[0])

    def _varies(self, e: plans.Evaluation) -> bool:
        """Whether an expression may have another value in another iteration."""
        leaves = {(n.op.name, n.attr("name")) for node in e.nodes for n in _leaves(node)}
        return bool(e.steps or e.advances or leaves & self.memory.changing)

    def _nested(self, body: Sequence[plans.Plan], count: int, name: str | None, first: int) -> None:
        """A loop in the body: `name` counts from `first`."""
        if count < 1:
            raise Foreign("a loop in it has no iteration")

        def advance() -> None:
            if name is not None:
                self.code.emit(driver.ADD, place, 1)

        place = 0
        if name is not None:
            self.memory.store.values.setdefault(name, np.int64(first))
            place = address(self.memory.variable(("value", name)).arrays[0])
            self.counters[name] = first + count - 1
            self.code.emit(driver.STORE, place, first - 1)
        self._around(body, count, advance)

    def _nested_batches(
        self, body: Sequence[plans.Plan], names: Sequence[str], arrays: plans.Evaluation, size: int
    ) -> None:
        """Whole batches of arrays that do not change."""
        if self._varies(arrays) or size < 1:
            raise Foreign("what is divided into batches changes")
        values = [np.ascontiguousarray(v) for v in self.evaluator.evaluate(arrays)]
        count = len(values[0])
        if count % size or not count:
            raise Foreign("the last batch is smaller")
        cells = []
        for name, value in zip(names, values, strict=True):
            cell = self.memory.batches(name, value, size).cell
            step = size * (value.nbytes // count)
            cells.append((cell, step))
            self.code.emit(driver.STORE, cell, address(value) - step)
            self.last_batches[name] = value[count - size :]

        def advance() -> None:
            for cell, step in cells:
                self.code.emit(driver.ADD, cell, step)

        self._around(body, count // size, advance)

    def _around(self, body: Sequence[plans.Plan], count: int, advance: Callable[[], object]) -> None:
        """The operations of a loop in the body; `advance` emits those that begin an iteration."""
        left = self.memory.new_cell(np.zeros(1))
        self.code.emit(driver.STORE, left, count)
        top = len(self.code)
        advance()
        for plan in body:
            self._line(plan)
        self.code.emit(driver.AGAIN, left, top)
        if self.code.can_fail:
            raise Foreign("a loop in it may fail")

    # ------------------------------------------------------------ expressions

    def _evaluation(self, e: plans.Evaluation, idle: bool) -> list[str]:
        """The calls of an expression and its items, as names of results; `idle`: no line reads them."""
        if e.advances or not all(isinstance(i, int) for i in e.items):
            raise Foreign("an expression draws")
        version = 0
        own: dict[str, str] = {}
        given = {r for step in e.steps for r in step.results}
        wanted = set()
        roots = [e.nodes[i] for i in e.items if isinstance(i, int)]
        direct = all(n.op.name == "value" and n.attr("name") in given for n in roots)
        for step in e.steps:
            args = [e.nodes[i] for i in step.args.values()]
            wanted |= {n.attr("name") for a in args for n in _leaves(a) if n.op.name == "value"}
        if not direct or not idle:
            wanted |= {n.attr("name") for a in roots for n in _leaves(a) if n.op.name == "value"}
        for step in e.steps:
            function = self.evaluator.program.function(step.function)
            arguments = {name: self._value(e.nodes[i], own, e, version) for name, i in step.args.items()}
            outputs = self.calls.call(function, arguments, any(r in wanted for r in step.results))
            own.update(zip(step.results, outputs, strict=True))
            version += function.has_effects
        if version > 1:
            self.several_effects = True
        return [self._value(n, own, e, version) for n in roots]

    def _value(self, node: Node, own: Mapping[str, str], e: plans.Evaluation, version: int) -> str:
        """The name of a result: of a leaf, or of an expression that is computed."""
        if node.op.name == "value" and node.attr("name") in own:
            return own[node.attr("name")]
        if node.op.name in ("value", "shared"):
            return self._leaf(node, version)
        if node.op.name == "const":
            return self.memory.hold(np.asarray(constant(node)))

        leaves, changing = _leaves(node), self.memory.changing
        if not any((n.op.name, n.attr("name")) in changing or n.attr("name") in own for n in leaves):
            return self.memory.hold(self.evaluator.fixed(node, e))

        def found(leaf: Node) -> str:
            return self._value(leaf, own, e, version)

        tape = self.evaluator.backends.loop_tape(("item", node), [node], list(e.reads), None)
        return self.calls.compute(tape, found, True)[0]

    def _leaf(self, node: Node, version: int) -> str:
        """The result that a variable is."""
        name = node.attr("name")
        if node.op.name == "shared":
            late = node.attr("version")
            if late not in (0, version) or (late != version and name in self.calls.updated):
                raise Foreign("it reads a shared value from before a call of the same line")
        return self.memory.leaf((node.op.name, name))


def changed(program: Program, body: Sequence[plans.Plan]) -> set[Name]:
    """The variables that the lines of a body may change."""
    names: set[Name] = set()
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
                names |= {("shared", k) for k in program.function(step.function).updates}
    return names


def reads(body: Sequence[plans.Plan]) -> set[str]:
    """The values made by `set` that the lines of a body read."""
    names: set[str] = set()
    for plan in _flat(body):
        e = getattr(plan, "value", None)
        if isinstance(e, plans.Evaluation):
            names |= {n.attr("name") for n in e.reads if n.op.name == "value"}
            for node in e.nodes:
                names |= {n.attr("name") for n in _leaves(node) if n.op.name == "value"}
    return names


def _flat(body: Sequence[plans.Plan]) -> Iterator[plans.Plan]:
    """The lines of a body and of the loops in it."""
    for plan in body:
        yield plan
        yield from _flat(getattr(plan, "body", ()))


def _leaves(node: Node) -> list[Node]:
    return [n for n in toposort([node]) if n.op.name in ("value", "shared")]
