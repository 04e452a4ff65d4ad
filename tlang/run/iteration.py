"""The loops of programs: line by line, until compiled code takes over."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from tlang.elaborate import plans
from tlang.errors import error
from tlang.graph.node import Function
from tlang.run.evaluation import Evaluator, Results

if TYPE_CHECKING:
    from tlang.run.cuda.loop import DeviceLoop
    from tlang.run.native.loop import NativeLoop

    Loop: TypeAlias = NativeLoop | DeviceLoop

Array = Any
Report = Callable[..., None]


class Progress(Protocol):
    """Who is told how far the outermost loops are."""

    def begin(self) -> None:
        """A loop begins."""

    def advance(self, done: int, total: int, values: Callable[[], Mapping[str, Any]]) -> None:
        """So many of its iterations are done; `values` gives the numbers that it has changed by now."""

    def end(self) -> None:
        """It is over."""


class Iteration:
    """Runs loops, and tells `progress` how far the outermost one is.

    `execute` runs a line of a body, and `write` receives what it prints. `why_slow` is why the last loop that
    could not be compiled needs Python.
    """

    def __init__(
        self, evaluator: Evaluator, execute: Callable[[plans.Plan], None], write: Callable[[str], None]
    ) -> None:
        self.evaluator = evaluator
        self.store = evaluator.store
        self.backends = evaluator.backends
        self.execute = execute
        self.write = write
        self.progress: Progress | None = None
        self.why_slow = ""
        self._depth = 0

    def run(self, plan: plans.Plan) -> None:
        """Runs a loop."""
        self._depth += 1
        if self._depth == 1 and self.progress is not None:
            self.progress.begin()
        try:
            self._run_loop(plan)
        finally:
            self._depth -= 1
            if self._depth == 0 and self.progress is not None:
                self.progress.end()

    def _reporter(self, total: int, body: Sequence[plans.Plan]) -> Report | None:
        """What is to be told how many iterations of this loop are done, if anybody wants to know."""
        progress = self.progress if self._depth == 1 else None
        if progress is None:
            return None
        names, states = self._changed(body)

        def now() -> dict[str, Any]:
            return self.store.numbers(names, states)

        return lambda done, values=now: progress.advance(done, total, values)

    def _changed(self, body: Sequence[plans.Plan]) -> tuple[dict[str, None], dict[str, None]]:
        """The values that a loop's body sets, and the shared values that it stores, in order."""
        names: dict[str, None] = {}
        states: dict[str, None] = {}
        stack = list(reversed(body))
        while stack:
            plan = stack.pop()
            if isinstance(plan, plans.SetPlan):
                names |= {t.name: None for t in plan.targets if t.kind == "value"}
                states |= {t.shared.key: None for t in plan.targets if t.shared is not None}
            if isinstance(plan, plans.SetPlan | plans.EchoPlan):
                for step in plan.value.steps:
                    states |= dict.fromkeys(self.evaluator.program.function(step.function).updates)
            stack += reversed(getattr(plan, "body", ()))
        return names, states

    def _run_loop(self, plan: plans.Plan) -> None:
        match plan:
            case plans.RepeatPlan(count=count, name=name, body=body, span=span):
                n = int(self.evaluator.evaluate(count)[0])
                if n < 0:
                    raise error("R152", span, count=n)
                self._count(0, n, name, body)
            case plans.RangePlan(name=name, start=start, stop=stop, body=body):
                self._count(
                    int(self.evaluator.evaluate(start)[0]), int(self.evaluator.evaluate(stop)[0]), name, body
                )
            case plans.BatchesPlan(names=names, arrays=arrays, size=size, body=body, span=span):
                values = self.evaluator.evaluate(arrays)
                step = int(self.evaluator.evaluate(size)[0])
                if step < 1:
                    raise error("R153", span, size=step)
                self._batches(names, values, step, body)
            case _:
                raise AssertionError(plan)
        self._retype_loop(plan)

    def _count(self, start: int, stop: int, name: str | None, body: Sequence[plans.Plan]) -> None:
        """Iterates over numbers: in compiled code from where that is possible and pays."""

        def make() -> Loop | None:
            counter = None
            if name is not None:
                self.store.values[name] = np.int64(at)
                counter = (name, at)
            return self._native(body, counter=counter)

        begin, at = time.perf_counter(), start
        tier = self.backends.tier(id(body), make)
        report = self._reporter(stop - start, body)
        while at < stop:
            last = time.perf_counter()
            if name is not None:
                self.store.values[name] = np.int64(at)
            self._body(body)
            at += 1
            if report is not None:
                report(at - start)
            if tier is not None and stop - at > 1:
                now = time.perf_counter()
                loop = tier.look(now - last, (now - begin) / (at - start) * (stop - at))
                if loop is not None:
                    at += loop.run(stop - at, _after(report, at - start, loop))
                elif name is not None:
                    self.store.values[name] = np.int64(at - 1)

    def _batches(
        self, names: Sequence[str], values: Sequence[Array], step: int, body: Sequence[plans.Plan]
    ) -> None:
        """Iterates over batches: whole ones in compiled code from where that is possible and pays."""

        def make() -> Loop | None:
            moving = {n: (v, at, step) for n, v in zip(names, values, strict=True)}
            return self._native(body, moving=moving)

        begin, at, count = time.perf_counter(), 0, len(values[0])
        report = self._reporter(-(-count // step), body)
        tier = self.backends.tier(id(body), make) if count > 2 * step else None
        if tier is not None:
            values = [np.ascontiguousarray(v) for v in values]
        while at < count:
            last = time.perf_counter()
            for name, value in zip(names, values, strict=True):
                self.store.values[name] = value[at : at + step]
            self._body(body)
            at += step
            if report is not None:
                report(at // step)
            if tier is not None and count - at > 2 * step:
                now = time.perf_counter()
                loop = tier.look(now - last, (now - begin) / at * (count - at))
                if loop is not None:
                    at += step * loop.run((count - at) // step, _after(report, at // step, loop))
                    for name, value in zip(names, values, strict=True):
                        self.store.values[name] = value[at - step : at]

    def repeat(self, function: Function, args: Mapping[str, Array], count: int) -> Results | None:
        """Calls of a function with the same arguments; what the last one gave."""

        def make() -> Loop | None:
            return self._native(function, args=args)

        results: Results | None = None
        begin, at = time.perf_counter(), 0
        tier = self.backends.tier(("repeat", function), make) if count > 2 else None
        while at < count:
            last = time.perf_counter()
            results = self.evaluator.call(function, args, apart=True)
            at += 1
            if tier is not None and count - at > 1:
                now = time.perf_counter()
                loop = tier.look(now - last, (now - begin) / at * (count - at))
                if loop is not None:
                    at += loop.run(count - at)
                    results = loop.results_now()
        return results

    def _native(self, body: Sequence[plans.Plan] | Function, **how: Any) -> Loop | None:
        """The rest of a loop as compiled code, or None where it needs Python."""
        if self.backends.name == "cuda":
            return self._on_device(body, **how)
        from tlang.run.native.loop import NativeLoop
        from tlang.run.native.memory import Foreign
        from tlang.run.objects import ObjectError

        try:
            return NativeLoop(
                self.evaluator,
                body,
                execute=self.execute,
                write=self.write,
                threads=self.backends.threads,
                **how,
            )
        except (Foreign, ObjectError) as e:
            self.why_slow = str(e)
            return None

    def _on_device(self, body: Sequence[plans.Plan] | Function, **how: Any) -> Loop | None:
        """The rest of a loop as launches, or None where it needs Python."""
        from tlang.run.cuda.loop import DeviceLoop
        from tlang.run.native.memory import Foreign

        try:
            return DeviceLoop(self.evaluator, body, **how)
        except Foreign as e:
            self.why_slow = str(e)
            return None

    def _body(self, body: Sequence[plans.Plan]) -> None:
        for p in body:
            self.execute(p)

    def _retype_loop(self, plan: plans.Plan) -> None:
        """Loop variables and batches keep their last value, with its actual type."""
        names = plan.names if isinstance(plan, plans.BatchesPlan) else (getattr(plan, "name", None),)
        for name in names:
            if name is not None and name in self.store.values:
                self.store.store_value(name, self.store.values[name], None, plan.span)


def _after(report: Report | None, before: int, loop: Loop) -> Callable[[int], None] | None:
    """A report for the rest of a loop in compiled code, of which some iterations are done."""
    return None if report is None else lambda done: report(before + done, loop.shared_now)
