"""Numbers that sum up a tensor over axes, by formulas in sums and extremes."""

from __future__ import annotations

from tlang.graph.node import Node
from tlang.graph.ops.formula import formula
from tlang.types import I64

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
