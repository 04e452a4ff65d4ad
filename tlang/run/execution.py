"""The commands of a program, planned before, as effects: what they store, show, check and write to files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlang.elaborate import plans
from tlang.elaborate.plans import Evaluation
from tlang.elaborate.scope import RandomDef, SharedDef
from tlang.errors import TlangError, error
from tlang.graph.node import toposort
from tlang.interpret import on_host
from tlang.run import interrupts, rng
from tlang.run.evaluation import Evaluator
from tlang.run.files import beside
from tlang.run.iteration import Iteration
from tlang.run.store import check_declared, type_of
from tlang.run.text import format_value

if TYPE_CHECKING:
    from tlang.run.bench import Measurement

Array = Any


class Executor:
    """Runs plans. `write` receives what `print` and `bench` say, `show` what bare expressions give."""

    def __init__(self, evaluator: Evaluator, write: Callable[[str], None]) -> None:
        self.evaluator = evaluator
        self.store = evaluator.store
        self.write = write
        self.show: Callable[[Sequence[Any], Sequence[str] | None], None] = self._show
        self.last: Any = None
        self.bench_seconds = 0.5
        self.measurements: list[Measurement] = []
        self.loops = Iteration(evaluator, self.execute, lambda text: self.write(text))

    def execute(self, plan: plans.Plan) -> None:
        """Runs one plan."""
        evaluate = self.evaluator.evaluate
        match plan:
            case plans.SetPlan():
                self._set(plan)
            case plans.EchoPlan(value=e, quiet=quiet):
                items = list(map(on_host, evaluate(e)))
                if items and not quiet:
                    self.last = items[0] if e.fields is None else dict(zip(e.fields, items, strict=True))
                    self.show(items, e.fields)
            case plans.PrintPlan(value=e):
                self.write(
                    " ".join(
                        v if isinstance(v, str) else format_value([on_host(v)], None) for v in evaluate(e)
                    )
                )
            case plans.CheckPlan(value=e, message=message, span=span):
                if not bool(evaluate(e)[0]):
                    raise error(
                        "C101", span, message=f": {message}" if message else "", notes=self._operands(e)
                    )
            case plans.InitPlan(shared=defs, values=values):
                results = [evaluate(v)[0] for v in values]
                for found, value in zip(defs, results, strict=True):
                    self.initialise(found, value)
            case plans.SavePlan():
                from tlang.run import data

                arrays = [_as_array(v) for v in evaluate(plan.value)]
                named = list(zip(plan.names, arrays, strict=True))
                data.write(beside(plan.path, plan.unit.source.path), named, plan.span, shown=plan.path)
            case plans.StatePlan(path=path, saves=saves, unit=unit, span=span):
                from tlang.run import checkpoint

                act = checkpoint.save if saves else checkpoint.load
                act(self.store, beside(path, unit.source.path), span, path)
            case plans.BenchPlan(value=e, span=span):
                from tlang.run.bench import measure

                self.measurements.append(measure(self.evaluator, e, span, self.bench_seconds))
                self.write(str(self.measurements[-1]))
            case _:
                self.loops.run(plan)

    def initialise(self, found: SharedDef, value: Array) -> None:
        """Stores the first value of a shared tensor, which has its type from it where none is declared."""
        if found.decl.type is None:
            actual = type_of(value)
            if found.type != actual:
                found.type = actual
                self.store.program.forget()
                self.evaluator.backends.forget()
        self.store.store_shared(found, value if hasattr(value, "host") else np.asarray(value)[()])

    def _show(self, items: Sequence[Any], fields: Sequence[str] | None) -> None:
        self.write(format_value(items, fields))

    def _operands(self, e: Evaluation) -> list[str]:
        """What a failed check compared: the values on both sides, where they are small."""
        item = e.items[0]
        node = e.nodes[item] if isinstance(item, int) else None
        if node is None or e.steps or len(node.inputs) != 2:
            return []
        if any(x.op.name == "draw" for x in toposort([node])):
            return []
        pair = Evaluation(node.inputs, (), (0, 1), None, (), e.reads, e.span)
        try:
            values = list(map(on_host, self.evaluator.evaluate(pair)))
        except TlangError:
            return []
        return [
            f"{side:<5} {format_value([v], None)}"
            for side, v in zip(("left", "right"), values, strict=True)
            if np.size(v) <= 8
        ]

    def _set(self, plan: plans.SetPlan) -> None:
        items = self.evaluator.evaluate(plan.value)
        if plan.value.fields is not None:
            (target,) = plan.targets
            if target.kind == "value":
                self.store.store_record(target, plan.value.fields, items)
            return
        tensors = [
            (target.type, item, target.name, target.span)
            for target, item in zip(plan.targets, items, strict=True)
            if target.kind in ("value", "shared") and not isinstance(item, rng.PhiloxState | rng.Mt19937State)
        ]
        check_declared(*tensors)
        items = [self._as_state(target, item) for target, item in zip(plan.targets, items, strict=True)]
        with interrupts.held() if len(items) > 1 else contextlib.nullcontext():
            for target, item in zip(plan.targets, items, strict=True):
                self.store.store(target, item)

    def _as_state(self, target: plans.Target, item: Any) -> Any:
        """What a target takes: for that of a state a state of its generator, also as a file has it."""
        if target.state is None or target.state.what != "state":
            return item
        if not isinstance(item, rng.PhiloxState | rng.Mt19937State):
            from tlang.run.checkpoint import state_from_array

            item = state_from_array(np.asarray(item))
            if item is None:
                raise error("R142", target.span, name=target.name)
        assert isinstance(target.state.definition, RandomDef)
        self.store.streams.require(target.state.definition.key, item, target.span)
        return item


def _as_array(value: Any) -> Array:
    """A value, or a state in words, as an array."""
    if isinstance(value, rng.PhiloxState | rng.Mt19937State):
        from tlang.run.checkpoint import state_to_array

        return state_to_array(value)
    return np.asarray(value)
