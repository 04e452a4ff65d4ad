"""Norms of vectors and matrices, with NumPy's orders."""

from __future__ import annotations

from math import inf
from typing import Any

from tlang.errors import error
from tlang.graph.node import Node
from tlang.graph.ops.factors import parts_of_svd
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import float_dtype, normal_axes, normal_axis

Axis = int | tuple[int, ...] | None


@formula(
    "norm",
    "x, ord=None, axis=None, keepdims=False",
    "The length of all elements, or along an axis: of order 2, 1, any p, inf, -inf or 0 (a count). Along two "
    'axes the norm of a matrix: "fro", "nuc", 1, -1, 2, -2, inf, -inf. Where it is 0 its gradient is 0.',
)
def norm(x: Node, ord: float | str | None, axis: Axis, keepdims: bool) -> Node:
    """By the number of axes, as NumPy decides it."""
    x = x.cast(float_dtype(x.dtype))
    if axis is None and ord is None:
        axes = tuple(range(x.rank))
        return _length(x, axes, keepdims)
    axes = tuple(range(x.rank)) if axis is None else normal_axes(axis, x.rank)
    if len(axes) == 1:
        return _vector(x, ord, axes[0], keepdims)
    if len(axes) == 2:
        if isinstance(axis, tuple):
            axes = tuple(normal_axis(a, x.rank) for a in axis)  # in the order in which they were given
        return _matrix(x, ord, axes[0], axes[1], keepdims)
    raise error("T174", order=_shown(ord), what=f"{len(axes)} axes")


def _shown(order: float | str | None) -> str:
    return f'"{order}"' if isinstance(order, str) else f"{order:g}" if order is not None else "None"


def _length(x: Node, axes: tuple[int, ...], keepdims: bool) -> Node:
    """The root of the sum of squares; where that is 0, so is the gradient."""
    size = x.apply("abs") if x.dtype.kind == "c" else x
    total = size.apply("square").apply("sum", axis=axes, keepdims=keepdims)
    return _guarded(total, lambda t: t.apply("sqrt"))


def _guarded(total: Node, root: Any) -> Node:
    """A root whose slope at 0 is infinite, with the slope 0 there."""
    still = total.apply("eq", 0)
    return still.apply("where", 0, root(still.apply("where", 1, total)))


def _vector(x: Node, order: float | str | None, axis: int, keepdims: bool) -> Node:
    how: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    if order is None or order == 2:
        return _length(x, (axis,), keepdims)
    if isinstance(order, str):
        raise error("T174", order=_shown(order), what="a vector")
    size = x.apply("abs")
    if order in (inf, -inf):
        return size.apply("max" if order > 0 else "min", **how)
    if order == 0:
        return size.apply("ne", 0).cast(size.dtype).apply("sum", **how)
    if order == 1:
        return size.apply("sum", **how)
    total = (size**order).apply("sum", **how)
    return _guarded(total, lambda t: t ** (1 / order)) if order > 0 else total ** (1 / order)


def _matrix(x: Node, order: float | str | None, row: int, column: int, keepdims: bool) -> Node:
    if row == column:
        raise error("T132", axes=(row, column))
    if order in (None, "fro"):
        return _length(x, (row, column), keepdims)
    if order in ("nuc", 2, -2):
        return _by_values(x, order, row, column, keepdims)
    if order not in (1, -1, inf, -inf):
        raise error("T174", order=_shown(order), what="a matrix")
    assert isinstance(order, int | float)
    summed, over = (row, column) if abs(order) == 1 else (column, row)
    sums = x.apply("abs").apply("sum", axis=summed, keepdims=True)
    out = sums.apply("max" if order > 0 else "min", axis=over, keepdims=True)
    return out if keepdims else out.apply("squeeze", axis=(row, column))


def _by_values(x: Node, order: Any, row: int, column: int, keepdims: bool) -> Node:
    """A norm by singular values."""
    if x.dtype.kind == "c":
        raise error("T141", op="norm", found=x.type)
    rest = tuple(i for i in range(x.rank) if i not in (row, column))
    values = parts_of_svd(x.apply("transpose", axes=(*rest, row, column)))["S"]
    name = {"nuc": "sum", 2: "max", -2: "min"}[order]
    out = values.apply(name, axis=-1, keepdims=False)
    return out.apply("expand_dims", axis=(row, column)) if keepdims else out
