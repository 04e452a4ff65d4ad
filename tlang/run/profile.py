"""`tlang run --profile`: where a program's time goes, by kernel and by phase of compilation.

While a :class:`Profile` is in use (:func:`profiled`), generated code counts the time of each of its steps, on
its first thread, in a table that lies beside the call's own. What a step reads and writes, and how many
operations it does, follow from the plan and the sizes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlang.graph.node import Node
from tlang.plan.steps import Fill, Gemm, Nest, Role, Step, along, inputs_of
from tlang.source import Span
from tlang.types import Symbol

Array = Any
HEADINGS = ("time", "share", "calls", "each", "GB/s", "GFLOP/s", "what", "place")
#: What takes less of the time is left out of the table.
LEAST = 1e-3


@dataclass(slots=True)
class Row:
    """One kernel, or operation of NumPy: its time in seconds, calls, bytes moved and operations done."""

    what: str
    place: str
    seconds: float = 0.0
    calls: int = 0
    bytes: float = 0.0
    operations: float = 0.0


@dataclass(slots=True)
class Profile:
    """Times of phases (each without those inside it), of compiled steps, and of operations of NumPy."""

    phases: dict[str, float] = field(default_factory=dict)
    frames: list[tuple[Sequence[Step], Mapping[Symbol, int], Array]] = field(default_factory=list)
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)
    _inside: list[float] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The time inside belongs to a phase."""
        start = time.perf_counter()
        self._inside.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.phases[name] = self.phases.get(name, 0.0) + spent - self._inside.pop()
            if self._inside:
                self._inside[-1] += spent

    def ticks(self, steps: Sequence[Step], sizes: Mapping[Symbol, int]) -> Array:
        """A table for code to count in: nanoseconds and calls of each step, and two words for the clock."""
        made = np.zeros(2 * len(steps) + 2, np.int64)
        self.frames.append((steps, dict(sizes), made))
        return made

    def watch(self, node: Node, operation: Callable[[], Array], operands: Sequence[Array]) -> Array:
        """Does an operation of NumPy; compiled code counts its own time."""
        start = time.perf_counter()
        result = operation()
        if any(isinstance(x, tuple) for x in (result, *operands)):
            return result
        row = self.row(f"numpy {node.op.name}", node.span)
        row.seconds += time.perf_counter() - start
        row.calls += 1
        if not node.op.view:
            row.bytes += sum(np.size(x) * np.asarray(x).itemsize for x in (*operands, result))
            row.operations += np.size(result)
        return result

    def row(self, what: str, span: Span | None) -> Row:
        """The row of a kind of work at a place."""
        place = "" if span is None else f"{span.source.name}:{span.line}: {' '.join(span.text.split())}"
        return self.rows.setdefault((what, place), Row(what, place))

    def all_rows(self) -> list[Row]:
        """All rows, the dearest first."""
        for steps, sizes, ticks in self.frames:
            for at, step in enumerate(steps):
                spent, calls = (int(k) for k in ticks[2 * at : 2 * at + 2])
                if calls:
                    row = self.row(_kind(step), step.outputs[-1].span)
                    row.seconds += spent / 1e9
                    row.calls += calls
                    row.bytes += calls * _bytes(step, sizes)
                    row.operations += calls * _operations(step, sizes)
        self.frames.clear()
        return sorted(self.rows.values(), key=lambda r: -r.seconds)

    def __str__(self) -> str:
        """A table for people."""
        rows = self.all_rows()
        total = sum(r.seconds for r in rows)
        whole = time.perf_counter() - self.began
        table: list[tuple[str, ...]] = [
            ("time", "share", "calls", "each", "GB/s", "GFLOP/s", "what", "place")
        ]
        for r in rows:
            if r.seconds < LEAST * total:
                break
            rate = [f"{x / r.seconds / 1e9:.3g}" if x and r.seconds else "" for x in (r.bytes, r.operations)]
            share = f"{r.seconds / total:.0%}" if total else ""
            each = _unit(r.seconds / r.calls)
            table.append((_unit(r.seconds), share, str(r.calls), each, *rate, r.what, r.place))
        widths = [max(len(line[k]) for line in table) for k in range(7)]
        lines = []
        for *numbers, what, place in table:
            cells = [x.rjust(w) for x, w in zip(numbers, widths, strict=False)]
            lines.append("  ".join([*cells, what.ljust(widths[6]), place[:80]]).rstrip())
        phases = [f"{_unit(t).rjust(widths[0])}  {name}" for name, t in self.phases.items()]
        rest = whole - total - sum(self.phases.values())
        phases.append(f"{_unit(max(rest, 0.0)).rjust(widths[0])}  commands, calls and all else")
        return "\n".join([*lines, "", *phases])


#: What is in use.
_current: Profile | None = None


def current() -> Profile | None:
    """The profile in use."""
    return _current


@contextmanager
def profiled() -> Iterator[Profile]:
    """A profile in use for the time being."""
    global _current
    before, _current = _current, Profile()
    try:
        yield _current
    finally:
        _current = before


@contextmanager
def phase(name: str) -> Iterator[None]:
    """The time inside belongs to a phase of the profile in use, if there is one."""
    if _current is None:
        yield
        return
    with _current.phase(name):
        yield


def _kind(step: Step) -> str:
    if isinstance(step, Gemm):
        return "matmul"
    if isinstance(step, Fill):
        return f"draw {step.node.attr('distribution')}"
    names = dict.fromkeys(n.op.name for n in (step.outputs or ()))
    return f"loops {', '.join(names)}"


def _bytes(step: Step, sizes: Mapping[Symbol, int]) -> float:
    """What a step must read and write at least; of tables the elements that it takes."""
    nodes = dict.fromkeys([*inputs_of(step), *step.outputs])
    if isinstance(step, Nest):
        for x in step.tables:
            nodes.pop(x, None)
        nodes.update(dict.fromkeys(n for n in step.nodes if along(n)))
    return float(sum(_elements(n, sizes) * n.dtype.bits / 8 for n in nodes))


def _operations(step: Step, sizes: Mapping[Symbol, int]) -> float:
    """Operations on elements: a function such as exp is one."""
    if isinstance(step, Gemm):
        inner = step.node.inputs[0].shape[1].evaluate(sizes)
        return 2.0 * _elements(step.node, sizes) * inner
    if isinstance(step, Fill):
        return float(_elements(step.node, sizes))
    assert isinstance(step, Nest)
    domain = math.prod(d.evaluate(sizes) for d in step.domain)
    rows = math.prod(d.evaluate(sizes) for d in step.domain[: step.split or 0])
    full = sum(step.roles[n] is not Role.ROW or n.op.reduce is not None for n in step.nodes)
    return float(domain * full + rows * (len(step.nodes) - full))


def _elements(node: Node, sizes: Mapping[Symbol, int]) -> int:
    return math.prod(d.evaluate(sizes) for d in node.shape)


def _unit(seconds: float) -> str:
    for scale, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds * 1e6:.3g} us"
