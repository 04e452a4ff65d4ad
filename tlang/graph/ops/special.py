"""Special functions that neither NumPy nor the C library has: erfinv, beta, Bessel functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.elementwise import real, unary
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import unbroadcast
from tlang.types import F64, Solver, Tensor

# ---------------------------------------------------------------- the inverse error function

# Wichura, "Algorithm AS 241: the percentage points of the normal distribution" (1988), routine PPND16: for
# each of three ranges the coefficients of numerator and denominator, the constant one first.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_MIDDLE = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_FAR = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def _ratio(coefficients: tuple[Sequence[float], Sequence[float]], r: Any) -> Any:
    """A quotient of two polynomials, of arrays or of nodes."""
    above, below = coefficients
    p, q = r * above[-1], r * below[-1]
    for a, b in zip(above[-2:0:-1], below[-2:0:-1], strict=True):
        p, q = (p + a) * r, (q + b) * r
    return (p + above[0]) / (q + below[0])


def _erfinv(np: Any, x: Any) -> Any:
    """The normal quantile of (x + 1) / 2, by the root of 2."""
    y = np.asarray(x, np.float64)
    tail = np.sqrt(-np.log((1 - np.abs(y)) / 2))
    far = np.where(tail <= 5, _ratio(_MIDDLE, tail - 1.6), _ratio(_FAR, tail - 5))
    far = np.where(np.isinf(tail), np.inf, far)
    near = _ratio(_CENTRE, 0.180625 - y * y / 4) * y / 2
    out = np.where(np.abs(y) <= 0.85, near, np.copysign(far, y)) * math.sqrt(0.5)
    return out.astype(x.dtype)[()]


def _lower_erfinv(out: Node, x: Node) -> Node:
    """The same in elementwise operations."""
    y = x.cast(F64)
    size = y.apply("abs")
    tail = (-((1 - size) / 2).apply("log")).apply("sqrt")
    far = tail.apply("le", 5).apply("where", _ratio(_MIDDLE, tail - 1.6), _ratio(_FAR, tail - 5))
    far = tail.apply("isinf").apply("where", math.inf, far)
    far = y.apply("lt", 0).apply("where", -far, far)
    near = _ratio(_CENTRE, 0.180625 - y * y / 4) * y / 2
    return (size.apply("le", 0.85).apply("where", near, far) * math.sqrt(0.5)).cast(out.dtype)


unary(
    "erfinv",
    _erfinv,
    lambda g, out, x: (g * (out * out).apply("exp") * (math.sqrt(math.pi) / 2),),
    "The number whose error function is x, between -1 and 1; infinite at these.",
    type=real,
    lower=_lower_erfinv,
)


# ---------------------------------------------------------------- beta functions


def _correction(np: Any, x: Any) -> Any:
    """What Stirling's formula lacks of lgamma(x), for x of 10 and more (Abramowitz and Stegun, 6.1.41)."""
    x = np.maximum(x, 10)
    z = 1 / (x * x)
    series = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
    total = np.zeros_like(x)
    for c in reversed(series):
        total = total * z + c
    return total / x


def _betaln(np: Any, x: Any, y: Any) -> Any:
    """Sums of lgamma; where they would cancel, what is left of Stirling's formula.

    The cases are those of DiDonato and Morris, "Algorithm 708" (1992): both numbers of 10 and more, one of
    them, none.
    """
    lgamma = OPS["lgamma"].numpy
    assert lgamma is not None
    kind = np.result_type(x, y)
    p, q = (np.asarray(f(x, y), np.float64) for f in (np.minimum, np.maximum))
    few = lgamma(np, p) + (lgamma(np, q) - lgamma(np, p + q))
    rest = _correction(np, q) - _correction(np, p + q)
    share = (q - 0.5) * np.log1p(-p / (p + q))
    one = lgamma(np, p) + rest + p - p * np.log(p + q) + share
    both = 0.5 * math.log(2 * math.pi) - 0.5 * np.log(p + q) + _correction(np, p) + rest
    both = both + (p - 0.5) * np.log(p / (p + q)) + share
    out = np.where((q < 10) | (p <= 0), few, np.where(p < 10, one, both))
    out = np.where(np.isposinf(q) & (p > 0), -np.inf, out)
    out = np.where((p == 0) & (q >= 0), np.inf, out)
    return out.astype(kind)[()]


def _beta(np: Any, x: Any, y: Any) -> Any:
    """Gammas where they are small, else the exponential of `betaln`."""
    gamma = OPS["gamma"].numpy
    assert gamma is not None
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    direct = gamma(np, a) * gamma(np, b) / gamma(np, a + b)
    zero = (np.minimum(a, b) == 0) & (np.maximum(a, b) >= 0)
    few = (np.maximum(a, b) < 20) & ((np.minimum(np.abs(a), np.abs(b)) > 1e-300) | (a == 0) | (b == 0))
    out = np.where(few, direct, np.exp(_betaln(np, a, b)))
    out = np.where(zero, np.inf, out)
    return out.astype(np.result_type(x, y))[()]


def _beta_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    dx, dy = _betaln_slopes(x, y)
    return unbroadcast(g * out * dx, x), unbroadcast(g * out * dy, y)


def _betaln_slopes(x: Node, y: Node) -> tuple[Node, Node]:
    both = (x + y).apply("digamma")
    return x.apply("digamma") - both, y.apply("digamma") - both


def _betaln_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    dx, dy = _betaln_slopes(x, y)
    return unbroadcast(g * dx, x), unbroadcast(g * dy, y)


operation(
    "beta",
    "x, y",
    real,
    _beta,
    convert="float",
    grad=_beta_grad,
    doc="The beta function, gamma(x) * gamma(y) / gamma(x + y).",
)
operation(
    "betaln",
    "x, y",
    real,
    _betaln,
    convert="float",
    grad=_betaln_grad,
    doc="The logarithm of the absolute value of beta(x, y), for great x and y too.",
)


# ---------------------------------------------------------------- Bessel functions


def _bessel_rule(solver: Solver, inputs: tuple[Node, ...], *, order: int) -> Tensor:
    return real(solver, inputs)


#: From where on the asymptotic series serve.
_LARGE = 30.0


def _bessel_j(np: Any, x: Any, order: int) -> Any:
    """The Bessel function of the first kind of a whole order (Abramowitz and Stegun, 9.1 and 9.2).

    Below 5 the power series, up to 30 Miller's recurrence from a great order down, beyond Hankel's series
    for the orders 0 and 1 and the recurrence upwards, which is stable for orders below the argument.
    """
    kind = x.dtype
    x = np.asarray(x, np.float64)
    y = np.abs(x)
    small = _power_series(np, np.minimum(y, 5.0), order, -1.0)
    middle = _miller(np, np.clip(y, 5.0, _LARGE), order)
    far = np.maximum(y, _LARGE)
    low, high = _hankel(np, far, 0), _hankel(np, far, 1)
    for k in range(1, order):
        low, high = high, 2 * k / far * high - low
    large = low if order == 0 else high
    out = np.where(y < 5, small, np.where(y < _LARGE, middle, large))
    out = np.where(np.isinf(y), 0.0, out)
    out = np.where(np.isnan(x), np.nan, out)
    return (np.where(x < 0, (-1.0) ** order * out, out)).astype(kind)[()]


def _power_series(np: Any, y: Any, order: int, sign: float) -> Any:
    """(y / 2)**n / n! times the sum of (+-y**2 / 4)**k n! / (k! (n + k)!)."""
    z = sign * y * y / 4
    term = (y / 2) ** order / math.factorial(order)
    total = term
    for k in range(1, 75):
        term = term * z / (k * (k + order))
        total = total + term
    return total


def _miller(np: Any, y: Any, order: int) -> Any:
    """The recurrence downwards, scaled by J0 + 2 J2 + 2 J4 + ... = 1."""
    above, here = np.zeros_like(y), np.full_like(y, 1e-200)
    total = np.zeros_like(y)
    found = here
    for k in range(80 + order + order % 2, 0, -1):
        above, here = here, 2 * k / y * here - above  # of order k - 1
        if k - 1 == order:
            found = here
        if k - 1 and (k - 1) % 2 == 0:
            total = total + 2 * here
    return found / (total + here)


def _hankel(np: Any, y: Any, order: int) -> Any:
    """Hankel's asymptotic series, for the orders 0 and 1."""
    mu = 4.0 * order * order
    p, q = np.ones_like(y), np.zeros_like(y)
    term = np.ones_like(y)
    for k in range(1, 31):
        term = term * (mu - (2 * k - 1) ** 2) / (8 * k * y)
        if k % 2:
            q = q + (1 if k % 4 == 1 else -1) * term
        else:
            p = p + (-1 if k % 4 == 2 else 1) * term
    # cos and sin of y - (2 n + 1) pi / 4, from those of y itself
    c, s = np.cos(y), np.sin(y)
    cosine, sine = ((c + s), (s - c)) if order == 0 else ((s - c), (-s - c))
    return (p * cosine - q * sine) / np.sqrt(math.pi * y)


def _bessel_i(np: Any, x: Any, order: int) -> Any:
    """The modified Bessel function of a whole order, small beside 30 (Abramowitz and Stegun, 9.6 and 9.7).

    Up to 30 the power series, whose terms have one sign, beyond the asymptotic series.
    """
    kind = x.dtype
    x = np.asarray(x, np.float64)
    y = np.abs(x)
    small = _power_series(np, np.minimum(y, _LARGE), order, 1.0)
    far = np.maximum(y, _LARGE)
    mu = 4.0 * order * order
    total = term = np.ones_like(far)
    for k in range(1, 41):
        term = -term * (mu - (2 * k - 1) ** 2) / (8 * k * far)
        total = total + term
    half = np.exp(far / 2)
    large = half * (half / np.sqrt(2 * math.pi * far) * total)
    out = np.where(y < _LARGE, small, large)
    out = np.where(np.isinf(y), np.inf, out)
    out = np.where(np.isnan(x), np.nan, out)
    return np.where(x < 0, (-1.0) ** order * out, out).astype(kind)[()]


def _bessel_j_grad(g: Node, out: Node, x: Node, order: int) -> tuple[Node]:
    """J_n' = (J_(n-1) - J_(n+1)) / 2, and J_0' = -J_1 (Abramowitz and Stegun, 9.1.27)."""
    if order == 0:
        return (-g * x.apply("bessel_j", order=1),)
    return (g * (x.apply("bessel_j", order=order - 1) - x.apply("bessel_j", order=order + 1)) / 2,)


def _bessel_i_grad(g: Node, out: Node, x: Node, order: int) -> tuple[Node]:
    """I_n' = (I_(n-1) + I_(n+1)) / 2, and I_0' = I_1 (Abramowitz and Stegun, 9.6.26)."""
    if order == 0:
        return (g * x.apply("bessel_i", order=1),)
    return (g * (x.apply("bessel_i", order=order - 1) + x.apply("bessel_i", order=order + 1)) / 2,)


for _name, _meaning, _grad, _kind in (
    ("bessel_j", _bessel_j, _bessel_j_grad, "Bessel function of the first kind"),
    ("bessel_i", _bessel_i, _bessel_i_grad, "modified Bessel function of the first kind"),
):
    operation(
        _name,
        "x, order=0",
        _bessel_rule,
        _meaning,
        convert="float",
        grad=_grad,
        doc=f"The {_kind}, of a whole order.",
        public=False,
    )
    for _order in (0, 1):
        formula(f"{_name[-1]}{_order}", "x", f"The {_kind} of order {_order}.")(
            lambda x, _n=_name, _o=_order: x.apply(_n, order=_o)
        )
