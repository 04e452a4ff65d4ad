"""Draws for kernels: numbers of a standard form, from the state of a stream, and arithmetic with parameters.

A draw of a Philox stream is several operations here. `unit` fills an array from the two words of the state,
which is a leaf; what it draws is uniform on [0, 1), standard normal, or integers between constants. What
comes then is done as `tlang.run.distributions` does it, each operation rounded. Parameters that only the
run knows are examined there: what the distribution cannot take fails, and the interpreter says why.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tlang.graph.node import OPS, Graph, Node, is_const, rebuild, toposort
from tlang.types import F32, F64, I64, Dim, Tensor

#: The largest finite number of a dtype.
_GREATEST = {F32: 3.4028234663852886e38, F64: 1.7976931348623157e308}


def lower_draws(roots: Sequence[Node], philox: Collection[str]) -> list[Node]:
    """The roots with draws as kernels do them, of states that are in `philox`, where that is possible."""

    def simpler(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        if node.op.name != "draw" or node.attr("state") not in philox or not is_native(node):
            return None
        return _LOWER[node.attr("distribution")](node, inputs)

    if not any(n.op.name == "draw" for n in toposort(roots)):
        return list(roots)
    return rebuild(roots, simpler, roots[0].graph)


def is_native(draw: Node) -> bool:
    """Whether kernels can make a draw of a Philox stream.

    Its sizes are those of the call, and no constant among its parameters is wrong.
    """
    name = draw.attr("distribution")
    if name not in _LOWER or not all(s.rigid for d in draw.shape for s in d.symbols()):
        return False
    values = [x.value if is_const(x) else None for x in draw.inputs]
    if name == "integers":
        first, second = values
        least, greatest = draw.dtype.integer_range()
        return first is not None and second is not None and least <= first < second <= greatest + 1
    if name == "bernoulli":
        return values[0] is None or 0 <= values[0] <= 1
    bound = _GREATEST[draw.dtype]
    if any(v is not None and not -bound <= v <= bound for v in values):
        return False
    if name == "uniform":
        low, high = values
        return low is None or high is None or 0 <= high - low <= bound
    return values[-1] is None or bool(values[-1] >= 0)


def may_fail(draw: Node) -> bool:
    """Whether the parameters of a draw that kernels make are examined at the run."""
    return not all(map(is_const, draw.inputs))


def examined(function_roots: Sequence[Node]) -> set[Node]:
    """The nodes whose elements are computed where all elements of the roots are."""
    found: set[Node] = set()
    todo = list(function_roots)
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [x for i, x in enumerate(node.inputs) if i not in node.op.shape_only]
    return found


# ---------------------------------------------------------------- the distributions


def _unit(draw: Node, distribution: str, kind: Tensor, bounds: tuple[int, ...] = ()) -> Node:
    state = draw.graph.leaf("stream", Tensor(I64, (Dim(2),)), draw.span, name=draw.attr("state"))
    return draw.graph.make(
        OPS["unit"], [state], draw.span, kind=kind, distribution=distribution, bounds=bounds
    )


def _kind(draw: Node) -> Tensor:
    return Tensor(draw.dtype, draw.shape)


def _examined(x: Node, test: str) -> Node:
    """A parameter that must satisfy a test; constants do."""
    return x if is_const(x) else x.apply(test)


def _uniform(draw: Node, params: Sequence[Node]) -> Node:
    """The number `low + (high - low) u`."""
    low, high = params
    unit = _unit(draw, "uniform", _kind(draw))
    if is_const(low, 0) and is_const(high, 1):
        return unit
    if not (is_const(low) and is_const(high)):
        return unit.apply("between", low, high)
    width = _difference(draw, float(low.value), float(high.value))
    return unit.apply("scaled", low, _constant(draw.graph, width, draw))


def _normal(draw: Node, params: Sequence[Node]) -> Node:
    """The number `mean + std z`."""
    mean, std = params
    unit = _unit(draw, "normal", _kind(draw))
    if is_const(mean, 0) and is_const(std, 1):
        return unit
    return unit.apply("scaled", mean, _examined(std, "not_negative"))


def _exponential(draw: Node, params: Sequence[Node]) -> Node:
    """The number `scale (0 - ln(1 - u))`, in f64 and rounded once."""
    unit = _unit(draw, "uniform", _kind(draw)).cast(F64)
    return ((0 - (1 - unit).apply("log")) * _examined(params[0], "not_negative").cast(F64)).cast(draw.dtype)


def _bernoulli(draw: Node, params: Sequence[Node]) -> Node:
    """Whether `u < p`, in f64."""
    unit = _unit(draw, "uniform", Tensor(F64, draw.shape))
    return unit.apply("lt", _examined(params[0], "probability").cast(F64)).cast(draw.dtype)


def _integers(draw: Node, params: Sequence[Node]) -> Node:
    first, second = (x.value for x in params)
    return _unit(draw, "integers", _kind(draw), (first, second))


#: The distributions that kernels can draw.
_LOWER: dict[str, Callable[[Node, Sequence[Node]], Node]] = {
    "uniform": _uniform,
    "normal": _normal,
    "exponential": _exponential,
    "bernoulli": _bernoulli,
    "integers": _integers,
}


def _constant(graph: Graph, value: float, draw: Node) -> Node:
    return graph.const(value, Tensor(draw.dtype), draw.span)


def _difference(draw: Node, low: float, high: float) -> float:
    """`high - low` in the dtype of a draw."""
    if draw.dtype is F64:
        return float(high) - float(low)
    import numpy as np

    return float(np.float32(high) - np.float32(low))
