"""What a step does on a device: launches of kernels, products by BLAS, copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tlang.emit.cuda.grids import ONE_ELEMENT, Grid, Limits, count_of, shape_of
from tlang.emit.text import Temporary
from tlang.graph.node import Node
from tlang.plan.steps import Gemm, Own, inputs_of
from tlang.types import Dim, Symbol


@dataclass(frozen=True, slots=True, eq=False)
class Partial(Temporary):
    """What the blocks of a kernel leave (`each`: its rows of threads): `dims` elements of each."""

    grid: Grid = ONE_ELEMENT
    each: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """The number of parts of a partial result."""

    of: Partial


STATUS = "status"
#: An argument: a size, a number of parts, an array, or the status.
Arg: TypeAlias = "Symbol | Count | Node | Temporary | str"


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel: its text (the function is `kernel`), its arguments, its grid.

    With `most` it is one for at most so many `updates`, with `least` for more.
    """

    text: str
    args: tuple[Arg, ...]
    grid: Grid
    updates: tuple[Dim, ...] = ()
    most: int | None = None
    least: int | None = None

    def serves(self, size: Callable[[Dim], int]) -> bool:
        """Whether it is the one for these sizes."""
        count = count_of(self.updates, size)
        return not (self.most is not None and count > self.most) and (
            self.least is None or count > self.least
        )


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Calls of BLAS."""

    step: Gemm | Own


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """All elements of an array to another of the same size."""

    source: Node
    target: Node


Action: TypeAlias = Launch | Product | Copy


def arrays_of(action: Action) -> list[Node | Temporary]:
    """The arrays that an action touches."""
    if isinstance(action, Launch):
        return [a for a in action.args if isinstance(a, Node | Temporary)]
    if isinstance(action, Product):
        return [*inputs_of(action.step), action.step.node]
    return [action.source, action.target]


def dims_of(action: Action) -> list[Dim]:
    """The sizes that decide what an action does, beside those of its arrays."""
    if isinstance(action, Product) and isinstance(action.step, Own):
        views, given = action.step.views, action.step.node.inputs
        return [d for s in (*(v.starts for v in views), *(x.shape for x in given)) for d in s]
    if not isinstance(action, Launch):
        return []
    grids = [action.grid, *(a.of.grid for a in action.args if isinstance(a, Count))]
    sizes = [Dim(0, ((s, 1),)) for s in action.args if isinstance(s, Symbol)]
    return [*sizes, *action.updates, *(d for g in grids for d in (*g.rows, *g.columns))]


def parts_of(part: Partial, size: Callable[[Dim], int], limits: Limits) -> int:
    """How many parts a partial result has."""
    (wide, high), (_, down) = shape_of(part.grid, size, limits)
    return high * down if part.each else wide * high
