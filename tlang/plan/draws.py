"""Draws for kernels: numbers of a standard form, from the state of a stream, and arithmetic with parameters.

A draw of a Philox stream is two operations here. `unit` fills an array from the two words of the state, which
is a leaf; what it draws is uniform on [0, 1), standard normal, or integers between constants. Then
`scaled` is `low + width u`, each operation rounded, as the interpreter does it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tlang.graph.node import OPS, Graph, Node, is_const, rebuild, toposort
from tlang.types import F32, F64, I64, Dim, Tensor

#: The largest finite number of a dtype.
_GREATEST = {F32: 3.4028234663852886e38, F64: 1.7976931348623157e308}


def lower_draws(roots: Sequence[Node], philox: Collection[str]) -> list[Node]:
    """The roots with draws as kernels do them, of states that are in `philox`, where that is possible."""

    def simpler(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.op.name != "draw" or node.attr("state") not in philox:
            return None
        return _units(node)

    if not any(n.op.name == "draw" for n in toposort(roots)):
        return list(roots)
    return rebuild(roots, simpler, roots[0].graph)


def is_native(draw: Node) -> bool:
    """Whether kernels can make a draw of a Philox stream: its parameters are constants that are right."""
    if not all(map(is_const, draw.inputs)):
        return False
    first, second = (x.value for x in draw.inputs)
    if draw.attr("distribution") == "integers":
        least, greatest = draw.dtype.integer_range()
        return bool(least <= first < second <= greatest + 1)
    bound = _GREATEST.get(draw.dtype, 0.0)
    if draw.attr("distribution") == "uniform":
        return bool(-bound <= first <= second <= bound and second - first <= bound)
    return bool(abs(first) <= bound and 0 <= second <= bound)


def _units(draw: Node) -> Node | None:
    if not is_native(draw):
        return None
    graph, kind = draw.graph, Tensor(draw.dtype, draw.shape)
    first, second = (x.value for x in draw.inputs)
    state = graph.leaf("stream", Tensor(I64, (Dim(2),)), draw.span, name=draw.attr("state"))
    distribution = draw.attr("distribution")
    bounds = (first, second) if distribution == "integers" else ()
    unit = graph.make(OPS["unit"], [state], draw.span, kind=kind, distribution=distribution, bounds=bounds)
    if distribution == "integers" or (first, second) == (0, 1):
        return unit
    low, other = (_constant(graph, float(v), draw) for v in (first, second))
    width = other if distribution == "normal" else _constant(graph, _difference(draw, first, second), draw)
    return unit.apply("scaled", low, width)


def _constant(graph: Graph, value: float, draw: Node) -> Node:
    return graph.const(value, Tensor(draw.dtype), draw.span)


def _difference(draw: Node, low: float, high: float) -> float:
    """`high - low` in the dtype of a draw."""
    if draw.dtype is F64:
        return float(high) - float(low)
    import numpy as np

    return float(np.float32(high) - np.float32(low))
