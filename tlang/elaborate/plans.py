"""Plans: what a command evaluates and stores, as data.

A plan's expressions are nodes over leaves that a session fills: shared values (with a version: calls
on the same line may change them), values made by `set`, and results of calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tlang.elaborate.scope import FunctionDef, SharedDef, Unit
from tlang.elaborate.values import StateRef, Text
from tlang.graph.node import Node
from tlang.source import Span
from tlang.types import I64, Tensor


@dataclass(frozen=True, slots=True)
class CallStep:
    """A call of a function: arguments by name (positions among the nodes), names of the results."""

    function: FunctionDef
    args: Mapping[str, int]
    results: tuple[str, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An expression of a command: calls in order, then its items.

    An item is the position of a node, a text or a state; `fields` are the names of a record.
    """

    nodes: tuple[Node, ...]
    steps: tuple[CallStep, ...]
    items: tuple[int | Text | StateRef, ...]
    fields: tuple[str, ...] | None
    advances: tuple[str, ...]
    reads: tuple[Node, ...]
    span: Span

    def types(self) -> tuple[Tensor | str, ...]:
        """The items' types; a state is "state", a seed an integer."""
        return tuple(map(self._type, self.items))

    def _type(self, item: int | Text | StateRef) -> Tensor | str:
        if isinstance(item, int):
            return self.nodes[item].type.with_shape(self.nodes[item].shape)
        return Tensor(I64) if isinstance(item, StateRef) and item.what == "seed" else "state"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a `set` stores: a value (with its declared type), a shared value, or a state."""

    kind: str
    name: str
    span: Span
    type: Tensor | None = None
    shared: SharedDef | None = None
    state: StateRef | None = None


@dataclass(frozen=True, slots=True)
class SetPlan:
    """`set targets = expr`."""

    targets: tuple[Target, ...]
    value: Evaluation
    span: Span


@dataclass(frozen=True, slots=True)
class InitPlan:
    """The line of a shared value: its initial value is computed and stored."""

    shared: tuple[SharedDef, ...]
    values: tuple[Evaluation, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class CheckPlan:
    """`check expr, "message"`."""

    value: Evaluation
    message: str | None
    span: Span


@dataclass(frozen=True, slots=True)
class PrintPlan:
    """`print(items)`."""

    value: Evaluation
    span: Span


@dataclass(frozen=True, slots=True)
class EchoPlan:
    """A bare expression; inside a loop it does not echo."""

    value: Evaluation
    quiet: bool
    span: Span


@dataclass(frozen=True, slots=True)
class SavePlan:
    """`save("path", a, b)`."""

    path: str
    names: tuple[str, ...]
    value: Evaluation
    unit: Unit
    span: Span


@dataclass(frozen=True, slots=True)
class StatePlan:
    """`save("path")` or `load("path")`: the state of the whole program, to a file or back."""

    path: str
    saves: bool
    unit: Unit
    span: Span


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """`bench expr`."""

    value: Evaluation
    span: Span


@dataclass(frozen=True, slots=True)
class RepeatPlan:
    """`repeat count as name { body }`."""

    count: Evaluation
    name: str | None
    body: tuple[Plan, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class RangePlan:
    """`for name in start..stop { body }`."""

    name: str
    start: Evaluation
    stop: Evaluation
    body: tuple[Plan, ...]
    span: Span


@dataclass(frozen=True, slots=True)
class BatchesPlan:
    """`for a, b in batches(x, y, size = n) { body }`."""

    names: tuple[str, ...]
    arrays: Evaluation
    size: Evaluation
    body: tuple[Plan, ...]
    span: Span


Plan: TypeAlias = (
    "SetPlan | InitPlan | CheckPlan | PrintPlan | EchoPlan | SavePlan | StatePlan | BenchPlan"
    " | RepeatPlan | RangePlan | BatchesPlan"
)
