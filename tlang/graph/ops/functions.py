"""More functions of numbers: trigonometric, hyperbolic, exponential, the error function and gamma."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tlang.graph.node import Node, operation
from tlang.graph.ops.elementwise import real, unary
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import elementwise, predicate, unbroadcast
from tlang.types import BOOL, F64, Solver, Tensor

LN2 = 0.6931471805599453


def _numpy(name: str) -> Callable[..., Any]:
    return lambda np, *xs: getattr(np, name)(*xs)


for _name, _full, _grad, _doc, _form in (
    ("arcsin", "asin", lambda g, out, x: (g / _from_one(x),), "The angle whose sine is x (radians).", ""),
    ("arccos", "acos", lambda g, out, x: (-g / _from_one(x),), "The angle whose cosine is x (radians).", ""),
    ("arctan", "atan", lambda g, out, x: (g / (1 + x * x),), "The angle whose tangent is x (radians).", ""),
    ("sinh", "sinh", lambda g, out, x: (g * x.apply("cosh"),), "The hyperbolic sine.", ""),
    ("cosh", "cosh", lambda g, out, x: (g * x.apply("sinh"),), "The hyperbolic cosine.", ""),
    (
        "arcsinh",
        "asinh",
        lambda g, out, x: (g / _to_one(x),),
        "The number whose hyperbolic sine is x.",
        "",
    ),
    (
        "arccosh",
        "acosh",
        lambda g, out, x: (g / ((x - 1).apply("sqrt") * (x + 1).apply("sqrt")),),
        "The number whose hyperbolic cosine is x, not negative.",
        "",
    ),
    (
        "arctanh",
        "atanh",
        lambda g, out, x: (g / ((1 - x) * (1 + x)),),
        "The number whose hyperbolic tangent is x.",
        "",
    ),
    ("exp2", "exp2", lambda g, out, x: (g * out * LN2,), "2 ** x.", ""),
    ("cbrt", "cbrt", lambda g, out, x: (g / (3 * out * out),), "The real cube root.", "np.cbrt({0})"),
    (
        "deg2rad",
        "",
        lambda g, out, x: (g * (math.pi / 180),),
        "Degrees in radians.",
        f"{{0}} * {math.pi / 180!r}",
    ),
    (
        "rad2deg",
        "",
        lambda g, out, x: (g * (180 / math.pi),),
        "Radians in degrees.",
        f"{{0}} * {180 / math.pi!r}",
    ),
):
    unary(
        _name,
        _numpy(_name),
        _grad,
        _doc,
        type=real if _name in ("cbrt", "exp2", "deg2rad", "rad2deg") else None,
        scalar=_form or f"{{{_full}}}({{0}})",
    )


def _to_one(x: Node) -> Node:
    """The root of 1 + x * x, without overflow of real numbers."""
    return (x * x + 1).apply("sqrt") if x.dtype.kind == "c" else x.apply("hypot", 1)


def _from_one(x: Node) -> Node:
    """The root of 1 - x * x."""
    return ((1 - x) * (1 + x)).apply("sqrt")


unary(
    "reciprocal",
    lambda np, x: np.divide(1, x, dtype=x.dtype),
    lambda g, out, x: (-g * out * out,),
    "1 / x; of integers it is f64.",
    scalar="1 / {0}",
)


@formula("round", "x, decimals=0", "x rounded to a number of decimals, halves to even; the derivative is 0.")
def round_(x: Node, decimals: int) -> Node:
    """Whole multiples of a power of ten, as NumPy computes them: the power itself is always exact."""
    if decimals == 0:
        return x.apply("rint")
    power = 10.0 ** abs(decimals)
    return (x * power).apply("rint") / power if decimals > 0 else (x / power).apply("rint") * power


# ---------------------------------------------------------------- the error function and gamma


def _by_element(name: str, outside: Callable[[float], float]) -> Callable[[Any, Any], Any]:
    """The C library's function, element by element; `outside` is for what Python takes for an error."""
    function: Callable[[float], float] = getattr(math, name)

    def one(x: float) -> float:
        try:
            return function(x)
        except (ValueError, OverflowError):
            return outside(x)

    def meaning(np: Any, x: Any) -> Any:
        out = np.array([one(v) for v in np.ravel(x).tolist()], np.float64)
        return out.astype(x.dtype).reshape(np.shape(x))[()]

    return meaning


def _gamma_outside(x: float) -> float:
    """Gamma at its poles and beyond the greatest float: at 0 infinity with the sign of 0."""
    if x == 0:
        return math.copysign(math.inf, x)
    return math.inf if x > 0 else math.nan


unary(
    "erf",
    _by_element("erf", lambda x: math.nan),
    lambda g, out, x: (g * (-(x * x)).apply("exp") * (2 / math.sqrt(math.pi)),),
    "The error function, 2 / sqrt(pi) times the integral of exp(-t * t) from 0 to x.",
    type=real,
    scalar="{erf}({0})",
)
unary(
    "erfc",
    _by_element("erfc", lambda x: math.nan),
    lambda g, out, x: (g * (-(x * x)).apply("exp") * (-2 / math.sqrt(math.pi)),),
    "1 - erf(x), exact where that is near 0.",
    type=real,
    scalar="{erfc}({0})",
)
unary(
    "gamma",
    _by_element("gamma", _gamma_outside),
    lambda g, out, x: (g * out * x.apply("digamma"),),
    "The gamma function: gamma(n) is (n - 1)! for whole n; NaN at negative whole numbers.",
    type=real,
)
unary(
    "lgamma",
    _by_element("lgamma", lambda x: math.inf),
    lambda g, out, x: (g * x.apply("digamma"),),
    "The logarithm of the absolute value of gamma(x).",
    type=real,
    scalar="{lgamma}({0})",
)


def _polygamma(np: Any, x: Any, order: int) -> Any:
    """The derivative of digamma of an order, digamma itself for 0 (Abramowitz and Stegun, 6.3 and 6.4).

    Below 0 the reflection formula, up to 20 the recurrence, from there the asymptotic series.
    """
    kind = x.dtype
    x = np.asarray(x, np.float64)
    below = x <= 0
    y = np.where(below, 1 - x, x)
    total = np.zeros_like(y)
    sign = (-1.0) ** (order + 1)
    factor = float(math.factorial(order))
    for _ in range(20):
        small = y < 20
        step = np.where(small, y, 1.0)
        total = total + np.where(small, sign * factor / step ** (order + 1), 0.0)
        y = np.where(small, y + 1, y)
    total = total + _polygamma_series(np, y, order)
    whole = x == np.floor(x)
    if order == 0:
        reflected = np.where(whole, np.nan, total - math.pi / np.tan(math.pi * x))
        reflected = np.where(x == 0, np.copysign(np.inf, -x), reflected)
    else:
        beyond = (math.pi / np.sin(math.pi * x)) ** 2 - total if order == 1 else np.nan
        reflected = np.where(whole, sign * np.inf, beyond)
    out = np.where(below, reflected, total)
    return out.astype(kind)[()]


#: Bernoulli's numbers B2, B4, ...
_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)


def _polygamma_series(np: Any, y: Any, order: int) -> Any:
    """The asymptotic series, for y of 20 and more."""
    if order == 0:
        total = np.log(y) - 0.5 / y
        for k, b in enumerate(_BERNOULLI, 1):
            total = total - b / (2 * k * y ** (2 * k))
        return total
    sign = (-1.0) ** (order + 1)
    total = math.factorial(order - 1) / y**order + math.factorial(order) / (2 * y ** (order + 1))
    for k, b in enumerate(_BERNOULLI, 1):
        rising = math.factorial(2 * k + order - 1) / math.factorial(2 * k)
        total = total + b * rising / y ** (2 * k + order)
    return sign * total


def _digamma_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (g * x.apply("polygamma", order=1),)


unary(
    "digamma",
    lambda np, x: _polygamma(np, x, 0),
    _digamma_grad,
    "The derivative of lgamma(x).",
    type=real,
)


def _order_rule(solver: Solver, inputs: tuple[Node, ...], *, order: int) -> Tensor:
    return real(solver, inputs)


operation(
    "polygamma",
    "x, order=1",
    _order_rule,
    lambda np, x, order: _polygamma(np, x, order),
    convert="float",
    grad=lambda g, out, x, order: (g * x.apply("polygamma", order=order + 1),),
    doc="The derivative of digamma(x), of an order (a positive integer); beyond the first for x > 0.",
)


# ---------------------------------------------------------------- two numbers


def _pair(name: str, signature: str, form: str, rule: Callable[..., tuple[Node, Node]], doc: str) -> None:
    def grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
        dx, dy = rule(g, out, x, y)
        return unbroadcast(dx, x), unbroadcast(dy, y)

    operation(
        name,
        signature,
        real,
        _numpy(name),
        convert="float",
        grad=grad,
        doc=doc,
        scalar=form,
    )


def _arctan2_grad(g: Node, out: Node, y: Node, x: Node) -> tuple[Node, Node]:
    square = x * x + y * y
    return g * x / square, -g * y / square


def _hypot_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """The direction from the origin; at the origin itself 0."""
    still = out.apply("eq", 0)
    length = still.apply("where", 1, out)
    return g * x / length, g * y / length


def _logaddexp_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    same = x.apply("eq", y)
    part = same.apply("where", 0.5, (x - y).apply("sigmoid"))
    return g * part, g * (1 - part)


_pair(
    "arctan2",
    "y, x",
    "{atan2}({0}, {1})",
    _arctan2_grad,
    "The angle of the point (x, y) from the positive x axis, between -pi and pi.",
)
_pair("hypot", "x, y", "{hypot}({0}, {1})", _hypot_grad, "sqrt(x * x + y * y), without overflow.")
_pair(
    "logaddexp",
    "x, y",
    f"{{0}} + {LN2!r} if {{0}} == {{1}} else "
    "({0} if {0} >= {1} or {0} != {0} else {1}) + {log1p}({exp}(-abs({0} - {1})))",
    _logaddexp_grad,
    "log(exp(x) + exp(y)), without overflow.",
)


def _close_rule(solver: Solver, inputs: tuple[Node, ...], **attrs: Any) -> Tensor:
    return predicate(solver, inputs).with_dtype(BOOL)


def _lower_close(out: Node, x: Node, y: Node, rtol: float, atol: float, equal_nan: bool) -> Node | None:
    if x.dtype.kind == "c":
        return None
    equal = x.apply("eq", y)
    x, y = (v if v.dtype.kind == "f" else v.cast(F64) for v in (x, y))
    near = (x - y).apply("abs").apply("le", atol + rtol * y.apply("abs"))
    close = near.apply("and", y.apply("isfinite")).apply("or", equal)
    both = x.apply("isnan").apply("and", y.apply("isnan"))
    return close.apply("or", both) if equal_nan else close


operation(
    "isclose",
    "x, y, rtol=1e-5, atol=1e-8, equal_nan=False",
    _close_rule,
    lambda np, x, y, rtol, atol, equal_nan: np.isclose(x, y, rtol, atol, equal_nan),
    convert="arith",
    grad=None,
    lower=_lower_close,
    cut="a comparison",
    doc="Whether x and y differ by at most atol + rtol * abs(y); equal infinities are close.",
)


# ---------------------------------------------------------------- integers

for _name, _doc in (
    ("left_shift", "The bits of integers moved up by y places, x * 2 ** y."),
    ("right_shift", "The bits of integers moved down by y places, x // 2 ** y."),
):
    operation(
        _name,
        "x, y",
        elementwise,
        _numpy(_name),
        convert="bits",
        grad=None,
        cut="a bitwise operation",
        doc=_doc,
    )


@formula("divmod", "x, y", "A record of `x // y` and `x % y`.")
def divmod_(x: Node, y: Node) -> dict[str, Node]:
    """The two operations."""
    return {"quotient": x.apply("floordiv", y), "remainder": x.apply("mod", y)}
