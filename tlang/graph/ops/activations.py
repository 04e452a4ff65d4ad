"""Activation functions of neural networks, each by a formula in other operations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.elementwise import real
from tlang.types import Solver, Tensor

#: The constants with which selu keeps the mean 0 and the variance 1 (Klambauer et al., 2017).
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _rule(solver: Solver, inputs: tuple[Node, ...], **attrs: Any) -> Tensor:
    return real(solver, inputs)


def _activation(
    name: str, signature: str, meaning: Callable[..., Any], formula: Callable[..., Node], doc: str
) -> None:
    """A row whose kernels compute the formula, and whose gradient is the formula's."""

    def grad(g: Node, out: Node, x: Node, **attrs: Any) -> tuple[Node]:
        return (slopes[name](x, **attrs) * g,)

    operation(
        name,
        signature,
        _rule,
        lambda np, x, **attrs: np.asarray(meaning(np, x, **attrs), x.dtype)[()],
        convert="float",
        grad=grad,
        lower=lambda out, x, **attrs: formula(x, **attrs),
        doc=doc,
    )


def _where(condition: Node, x: Node | float, y: Node | float) -> Node:
    return condition.apply("where", x, y)


def _normal_cdf(x: Node) -> Node:
    return 0.5 * (x * -math.sqrt(0.5)).apply("erfc")


def _gelu_slope(x: Node) -> Node:
    density = (x * x * -0.5).apply("exp") * (1 / math.sqrt(2 * math.pi))
    return _normal_cdf(x) + x * density


def _silu_slope(x: Node) -> Node:
    s = x.apply("sigmoid")
    return s * (1 + x * (1 - s))


def _elu(x: Node, alpha: float) -> Node:
    return _where(x.apply("gt", 0), x, alpha * x.apply("minimum", 0).apply("expm1"))


def _elu_slope(x: Node, alpha: float) -> Node:
    return _where(x.apply("gt", 0), 1, alpha * x.apply("minimum", 0).apply("exp"))


def _hard_sigmoid_slope(x: Node) -> Node:
    inside = x.apply("gt", -2.5).apply("and", x.apply("lt", 2.5))
    return _where(inside, x.graph.make(OPS["ones_like"], [x], x.span) * 0.2, 0)


#: The derivative of each, by name.
slopes: dict[str, Callable[..., Node]] = {
    "hard_sigmoid": _hard_sigmoid_slope,
    "softsign": lambda x: 1 / (1 + x.apply("abs")).apply("square"),
    "leaky_relu": lambda x, slope: _where(
        x.apply("gt", 0), x.graph.make(OPS["ones_like"], [x], x.span), slope
    ),
    "elu": _elu_slope,
    "selu": lambda x: SELU_SCALE * _elu_slope(x, SELU_ALPHA),
    "gelu": _gelu_slope,
    "silu": _silu_slope,
}


def _np_elu(np: Any, x: Any, alpha: float) -> Any:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _np_sigmoid(np: Any, x: Any) -> Any:
    return OPS["sigmoid"].numpy(np, x)  # type: ignore[misc]


_activation(
    "hard_sigmoid",
    "x",
    lambda np, x: np.clip(x * x.dtype.type(0.2) + x.dtype.type(0.5), 0, 1),
    lambda x: (x * 0.2 + 0.5).apply("maximum", 0).apply("minimum", 1),
    "x / 5 + 1/2, limited to 0 .. 1.",
)
_activation(
    "softsign",
    "x",
    lambda np, x: x / (1 + np.abs(x)),
    lambda x: x / (1 + x.apply("abs")),
    "x / (1 + abs(x)).",
)
_activation(
    "leaky_relu",
    "x, slope=0.01",
    lambda np, x, slope: np.where(x > 0, x, x.dtype.type(slope) * x),
    lambda x, slope: _where(x.apply("gt", 0), x, slope * x),
    "x where it is positive, else slope * x.",
)
_activation(
    "elu",
    "x, alpha=1.0",
    _np_elu,
    _elu,
    "x where it is positive, else alpha * (exp(x) - 1).",
)
_activation(
    "selu",
    "x",
    lambda np, x: SELU_SCALE * _np_elu(np, x, SELU_ALPHA),
    lambda x: SELU_SCALE * _elu(x, SELU_ALPHA),
    "The scaled elu, which keeps a mean of 0 and a variance of 1.",
)
_activation(
    "gelu",
    "x",
    lambda np, x: 0.5 * x * OPS["erfc"].numpy(np, x * x.dtype.type(-math.sqrt(0.5))),  # type: ignore[misc]
    lambda x: x * _normal_cdf(x),
    "x times the probability that a standard normal number is less than x.",
)
_activation(
    "silu",
    "x",
    lambda np, x: x * _np_sigmoid(np, x),
    lambda x: x * x.apply("sigmoid"),
    "x * sigmoid(x), also called swish.",
)
