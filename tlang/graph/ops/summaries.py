"""Numbers that sum up a tensor over axes, by formulas in sums and extremes."""

from __future__ import annotations

from tlang.errors import error
from tlang.graph.node import Node
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import normal_axes, normal_axis
from tlang.types import F64, I64

Axes = int | tuple[int, ...] | None


@formula("ptp", "x, axis=None, keepdims=False", "The greatest element over axes less the least.")
def ptp(x: Node, axis: Axes, keepdims: bool) -> Node:
    """Peak to peak."""
    high, low = (x.apply(name, axis=axis, keepdims=keepdims) for name in ("max", "min"))
    return high - low


@formula("count_nonzero", "x, axis=None, keepdims=False", "How many elements over axes are not 0.")
def count_nonzero(x: Node, axis: Axes, keepdims: bool) -> Node:
    """A sum of comparisons."""
    hit = x if x.dtype.kind == "b" else x.apply("ne", 0)
    return hit.cast(I64).apply("sum", axis=axis, keepdims=keepdims)


@formula(
    "norm",
    "x, ord=None, axis=None, keepdims=False",
    "The root of the sum of squares over axes, or the norm of an order: over one axis any number, inf, -inf; "
    'over two axes "fro", 1, -1, inf, -inf. The gradient at 0 is 0.',
)
def norm(x: Node, ord: float | str | None, axis: Axes, keepdims: bool) -> Node:
    """NumPy's `linalg.norm` (without the orders that need singular values)."""
    axes = normal_axes(axis, x.rank)
    if not x.dtype.is_inexact:
        x = x.cast(F64)
    size = x.apply("abs")
    if ord is None or (ord == "fro" and len(axes) == 2):
        return _root_of_squares(size, axis, keepdims)
    if isinstance(ord, float) and len(axes) == 1:
        return _vector_norm(size, ord, axis, keepdims)
    if ord in (1, -1, float("inf"), float("-inf")) and len(axes) == 2:
        pair = axes if axis is None or isinstance(axis, int) else axis
        rows, columns = (normal_axis(a, x.rank) for a in pair)
        over, rest = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = size.apply("sum", axis=over, keepdims=True)
        out = sums.apply("max" if ord > 0 else "min", axis=rest, keepdims=True)
        return out if keepdims else out.apply("squeeze", axis=axes)
    raise error("F108", name="ord", wanted=f"an order of norms over {len(axes)} axes")


def _root_of_squares(size: Node, axis: Axes, keepdims: bool) -> Node:
    """The root, whose derivative at 0 is 0 rather than 0 / 0."""
    return _root((size * size).apply("sum", axis=axis, keepdims=keepdims), None)


def _root(total: Node, order: float | None) -> Node:
    """A root, 0 with a derivative of 0 at 0."""
    still = total.apply("eq", 0)
    safe = still.apply("where", 1, total)
    return still.apply("where", 0, safe.apply("sqrt") if order is None else safe ** (1 / order))


def _vector_norm(size: Node, ord: float, axis: Axes, keepdims: bool) -> Node:
    how = {"axis": axis, "keepdims": keepdims}
    if ord == float("inf"):
        return size.apply("max", **how)
    if ord == float("-inf"):
        return size.apply("min", **how)
    if ord == 0:
        return size.apply("ne", 0).cast(size.dtype).apply("sum", **how)
    if ord == 1:
        return size.apply("sum", **how)
    if ord == 2:
        return _root_of_squares(size, axis, keepdims)
    if ord < 0:
        return (size**ord).apply("sum", **how) ** (1 / ord)
    return _root((size**ord).apply("sum", **how), ord)
