"""Elementwise operations: arithmetic, comparisons, logic and functions of one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, is_const, operation
from tlang.graph.ops.rules import (
    broadcast,
    elementwise,
    numeric,
    of_real,
    predicate,
    unbroadcast,
    zeros_like,
)
from tlang.types import BOOL, Solver, Tensor

Rule = Callable[..., tuple[Node | None, ...]]


def _pair(rule: Callable[[Node, Node, Node, Node], tuple[Node, Node]]) -> Rule:
    """A rule for two inputs whose cotangents are summed back to the shapes before stretching."""

    def grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, ...]:
        dx, dy = rule(g, out, x, y)
        return unbroadcast(dx, x), unbroadcast(dy, y)

    return grad


def _where(condition: Node, x: Node | float, y: Node | float) -> Node:
    return condition.apply("where", x, y)


# ---------------------------------------------------------------- arithmetic

operation(
    "add",
    "x, y",
    elementwise,
    lambda np, x, y: np.add(x, y),
    convert="arith",
    grad=_pair(lambda g, out, x, y: (g, g)),
    doc="`x + y`.",
    public=False,
    scalar="{0} + {1}",
)
operation(
    "sub",
    "x, y",
    numeric,
    lambda np, x, y: np.subtract(x, y),
    convert="arith",
    grad=_pair(lambda g, out, x, y: (g, -g)),
    doc="`x - y`.",
    public=False,
    scalar="{0} - {1}",
)
operation(
    "mul",
    "x, y",
    elementwise,
    lambda np, x, y: np.multiply(x, y),
    convert="arith",
    grad=_pair(lambda g, out, x, y: (g * y, g * x)),
    doc="`x * y`.",
    public=False,
    scalar="{0} * {1}",
)
operation(
    "div",
    "x, y",
    elementwise,
    lambda np, x, y: np.divide(x, y),
    convert="float",
    grad=_pair(lambda g, out, x, y: (g / y, -(g * out) / y)),
    doc="`x / y`, true division: integers give f64.",
    public=False,
    scalar="{0} / {1}",
)


def _no_zero(np: Any, y: Any, what: str) -> None:
    if y.dtype.kind in "iu" and not np.all(y):
        raise error("R110", what=what)


def _floordiv(np: Any, x: Any, y: Any) -> Any:
    _no_zero(np, y, "//")
    return np.floor_divide(x, y)


def _mod(np: Any, x: Any, y: Any) -> Any:
    _no_zero(np, y, "%")
    return np.remainder(x, y)


def real(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """As `numeric`, without complex numbers."""
    if inputs[0].dtype.kind == "c":
        raise error("T125", found=inputs[0].type)
    return numeric(solver, inputs)


operation(
    "floordiv",
    "x, y",
    real,
    _floordiv,
    convert="arith",
    grad=lambda g, out, x, y: (zeros_like(x), zeros_like(y)),
    doc="`x // y`, rounded down as in Python; integer division by zero is an error.",
    public=False,
)
operation(
    "mod",
    "x, y",
    real,
    _mod,
    convert="arith",
    grad=_pair(lambda g, out, x, y: (g, -g * x.apply("floordiv", y))),
    doc="`x % y`, with the sign of y as in Python; an integer modulus of zero is an error.",
    public=False,
)


def _selected(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """As `elementwise`, for dtypes with an order."""
    _ordered(solver, inputs)
    return elementwise(solver, inputs)


def _ordered(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """Bool; complex numbers have no order."""
    if inputs[0].dtype.kind == "c":
        raise error("T125", found=inputs[0].type)
    return predicate(solver, inputs)


def _pow_type(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    x, y = inputs
    if not x.dtype.is_inexact and is_const(y) and y.value < 0:
        raise error("T126", value=y.value)
    return numeric(solver, inputs)


def _pow(np: Any, x: Any, y: Any) -> Any:
    if y.dtype.kind == "i" and np.any(y < 0):
        raise error("R111", value=int(np.min(y)))
    return x**y


def _pow_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """d(x ** y): y x ** (y - 1), which is 0 for y = 0 at every x, and x ** y log(x), which is 0 at x = 0.

    A constant power gives a constant power, so that higher derivatives end at 0 without `0 * inf`.
    """
    if is_const(y):
        power = float(y.value)
        if power == 0:
            return zeros_like(x), zeros_like(y)
        if power != 1:
            less = x.graph.const(power - 1, Tensor(x.dtype), x.span)
            g = g * power * (x if power == 2 else x**less)
        return unbroadcast(g, x), zeros_like(y)
    flat = y.apply("eq", 0)
    dx = _where(flat, 0, g * y * x ** (_where(flat, 1, y) - 1))
    return unbroadcast(dx, x), _pow_along(g, out, x, y)


def _pow_along(g: Node, out: Node, x: Node, y: Node) -> Node:
    """The cotangent of the exponent; along positive powers of 0 nothing changes."""
    still = x.apply("eq", 0)
    if y.dtype.kind != "c":
        still = still.apply("and", y.apply("ge", 0))
    return unbroadcast(_where(still, 0, g * out * _where(still, 1, x).apply("log")), y)


def _pow_scalar(node: Node) -> str | None:
    """Small constant powers as products; NumPy too squares by a product. Integers may fail otherwise."""
    products = {1: "{0}", 2: "{0} * {0}", 3: "{0} * {0} * {0}"}
    general = "{pow}({0}, {1})" if node.dtype.kind == "f" else None
    return products.get(node.inputs[1].value, general) if is_const(node.inputs[1]) else general


operation(
    "pow",
    "x, y",
    _pow_type,
    _pow,
    convert="arith",
    grad=_pow_grad,
    doc="`x ** y`; a negative power of integers is an error.",
    public=False,
    scalar=_pow_scalar,
)


# ---------------------------------------------------------------- comparisons and logic

for _name, _sign in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
    _full = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal"}
    _full |= {"gt": "greater", "ge": "greater_equal"}
    operation(
        _name,
        "x, y",
        predicate if _name in ("eq", "ne") else _ordered,
        lambda np, x, y, _f=_full[_name]: getattr(np, _f)(x, y),
        convert="arith",
        grad=None,
        doc=f"`x {_sign} y`.",
        cut="a comparison",
        public=False,
        scalar=f"{{0}} {_sign} {{1}}",
    )
for _name, _sign, _doc in (
    ("and", "logical_and", "`x and y`, elementwise on bool."),
    ("or", "logical_or", "`x or y`, elementwise on bool."),
    ("not", "logical_not", "`not x`, elementwise on bool."),
):
    operation(
        _name,
        "x" if _name == "not" else "x, y",
        predicate,
        lambda np, *xs, _f=_sign: getattr(np, _f)(*xs),
        convert="logic",
        grad=None,
        doc=_doc,
        cut="a logical operation",
        public=False,
        scalar={"and": "{0} & {1}", "or": "{0} | {1}", "not": "not {0}"}[_name],
    )
for _name, _sign, _doc in (
    ("bit_and", "bitwise_and", "`x & y` on bool and integers."),
    ("bit_or", "bitwise_or", "`x | y` on bool and integers."),
    ("bit_xor", "bitwise_xor", "`x ^ y`, exclusive or on bool and integers; a power is `**`."),
    ("bit_not", "invert", "`~x` on bool and integers."),
):
    operation(
        _name,
        "x" if _name == "bit_not" else "x, y",
        elementwise,
        lambda np, *xs, _f=_sign: getattr(np, _f)(*xs),
        convert="bits",
        grad=None,
        doc=_doc,
        cut="a bitwise operation",
        public=False,
        scalar={"bit_and": "{0} & {1}", "bit_or": "{0} | {1}", "bit_xor": "{0} ^ {1}"}.get(_name),
    )


def _where_type(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    condition, x, y = inputs
    if condition.dtype is not BOOL:
        raise error("T120", op="where", found=condition.type)
    return Tensor(x.dtype, broadcast(solver, inputs), x.type.weak and y.type.weak)


def _where_grad(g: Node, out: Node, c: Node, x: Node, y: Node) -> tuple[Node | None, ...]:
    return None, unbroadcast(_where(c, g, 0), x), unbroadcast(_where(c, 0, g), y)


operation(
    "where",
    "condition, x, y",
    _where_type,
    lambda np, c, x, y: np.where(c, x, y),
    convert="where",
    grad=_where_grad,
    doc="`where(c, x, y)` is x where c is True, else y.",
    scalar="{1} if {0} else {2}",
)


# ---------------------------------------------------------------- selection

#: The greater and the lesser of two elements; NaN if either is.
_MAXIMUM = "{0} if {0} >= {1} or {0} != {0} else {1}"
_MINIMUM = "{0} if {0} <= {1} or {0} != {0} else {1}"

operation(
    "maximum",
    "x, y",
    _selected,
    lambda np, x, y: np.maximum(x, y),
    convert="arith",
    grad=_pair(lambda g, out, x, y: (_where(x.apply("ge", y), g, 0), _where(x.apply("ge", y), 0, g))),
    doc="The greater of two, NaN if either is; at equality the gradient goes to the first.",
    scalar=_MAXIMUM,
)
operation(
    "minimum",
    "x, y",
    _selected,
    lambda np, x, y: np.minimum(x, y),
    convert="arith",
    grad=_pair(lambda g, out, x, y: (_where(x.apply("le", y), g, 0), _where(x.apply("le", y), 0, g))),
    doc="The lesser of two, NaN if either is; at equality the gradient goes to the first.",
    scalar=_MINIMUM,
)


def _clip_grad(g: Node, out: Node, x: Node, low: Node, high: Node) -> tuple[Node | None, ...]:
    under, over = x.apply("lt", low), x.apply("maximum", low).apply("gt", high)
    inside = _where(under.apply("or", over), 0, g)
    below = _where(under.apply("and", over.apply("not")), g, 0)
    return unbroadcast(inside, x), unbroadcast(below, low), unbroadcast(_where(over, g, 0), high)


operation(
    "clip",
    "x, low, high",
    _selected,
    lambda np, x, low, high: np.minimum(np.maximum(x, low), high),
    convert="arith",
    grad=_clip_grad,
    doc="x limited to low .. high; the gradient passes inside and at the limits.",
    scalar=_MINIMUM.replace("{1}", "{2}").replace("{0}", f"({_MAXIMUM})"),
)


# ---------------------------------------------------------------- functions of one number


def unary(name: str, meaning: Callable[[Any, Any], Any], grad: Rule | None, doc: str, **row: Any) -> None:
    """A row of a function of one number; integers give f64."""
    operation(
        name, "x", row.pop("type", None) or elementwise, meaning, convert="float", grad=grad, doc=doc, **row
    )


def _keeps_integers(name: str, meaning: Callable[[Any, Any], Any], grad: Rule, doc: str, **row: Any) -> None:
    operation(name, "x", row.pop("type", numeric), meaning, convert="arith", grad=grad, doc=doc, **row)


def _stable_sigmoid(np: Any, x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))[()]


def _stable_softplus(np: Any, x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _rounded(name: str) -> Callable[[Any, Any], Any]:
    return lambda np, x: getattr(np, name)(x)


#: The sign of an element; NaN stays.
_SIGN = "{0} if {0} == {zero} or {0} != {0} else (1 if {0} > {zero} else -1)"


def _zero(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (zeros_like(x),)


_keeps_integers(
    "neg", lambda np, x: np.negative(x), lambda g, out, x: (-g,), "`-x`.", public=False, scalar="-{0}"
)


def _abs_type(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    kind = numeric(solver, inputs)
    if kind.dtype.kind == "c":
        from tlang.types import DTYPES

        return kind.with_dtype(DTYPES[f"f{kind.dtype.bits // 2}"])
    return kind


def _abs_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    """The sign; of a complex number the conjugate of its direction, 0 at 0."""
    if x.dtype.kind != "c":
        return (g * x.apply("sign"),)
    return (g * x.apply("conj") / out.apply("eq", 0).apply("where", 1, out),)


_keeps_integers(
    "abs",
    lambda np, x: np.abs(x),
    _abs_grad,
    "The absolute value; the derivative at 0 is 0.",
    type=_abs_type,
    scalar="abs({0})",
)
_keeps_integers(
    "sign",
    lambda np, x: np.sign(x),
    _zero,
    "-1, 0 or 1 by the sign of x; x / abs(x) of a complex number.",
    scalar=lambda node: "{0} != {zero}" if node.dtype.kind == "u" else _SIGN,
    flows=of_real,
    cut="the direction of a complex number",
)
_keeps_integers(
    "square", lambda np, x: np.multiply(x, x), lambda g, out, x: (g * 2 * x,), "x * x.", scalar="{0} * {0}"
)
for _name in ("floor", "ceil", "rint", "trunc"):
    _what = {
        "floor": "down",
        "ceil": "up",
        "rint": "to the nearest, halves to even",
        "trunc": "towards zero",
    }
    unary(
        _name,
        _rounded(_name),
        _zero,
        f"x rounded {_what[_name]}; the derivative is 0.",
        type=real,
        scalar=f"np.{_name}({{0}})",
    )
unary(
    "exp",
    lambda np, x: np.exp(x),
    lambda g, out, x: (g * out,),
    "The exponential e ** x.",
    scalar="{exp}({0})",
)
unary(
    "expm1",
    lambda np, x: np.expm1(x),
    lambda g, out, x: (g * x.apply("exp"),),
    "exp(x) - 1, exact near 0.",
    scalar="{expm1}({0})",
)
unary(
    "log", lambda np, x: np.log(x), lambda g, out, x: (g / x,), "The natural logarithm.", scalar="{log}({0})"
)
unary(
    "log1p",
    lambda np, x: np.log1p(x),
    lambda g, out, x: (g / (x + 1),),
    "log(1 + x), exact near 0.",
    scalar="{log1p}({0})",
)
unary(
    "log2",
    lambda np, x: np.log2(x),
    lambda g, out, x: (g / (x * 0.6931471805599453),),
    "log of base 2.",
    scalar="{log2}({0})",
)
unary(
    "log10",
    lambda np, x: np.log10(x),
    lambda g, out, x: (g / (x * 2.302585092994046),),
    "log of base 10.",
    scalar="{log10}({0})",
)
unary(
    "sqrt",
    lambda np, x: np.sqrt(x),
    lambda g, out, x: (g / (2 * out),),
    "The square root.",
    scalar="{sqrt}({0})",
)
unary(
    "sin",
    lambda np, x: np.sin(x),
    lambda g, out, x: (g * x.apply("cos"),),
    "The sine (radians).",
    scalar="{sin}({0})",
)
unary(
    "cos",
    lambda np, x: np.cos(x),
    lambda g, out, x: (-(g * x.apply("sin")),),
    "The cosine (radians).",
    scalar="{cos}({0})",
)
unary(
    "tan",
    lambda np, x: np.tan(x),
    lambda g, out, x: (g * (1 + out * out),),
    "The tangent (radians).",
    scalar="{tan}({0})",
)
unary(
    "tanh",
    lambda np, x: np.tanh(x),
    lambda g, out, x: (g * (1 - out * out),),
    "The hyperbolic tangent.",
    scalar="{tanh}({0})",
)
unary(
    "sigmoid",
    _stable_sigmoid,
    lambda g, out, x: (g * out * (1 - out),),
    "1 / (1 + exp(-x)), without overflow.",
    type=real,
    scalar="{sigmoid}({0})",
)
unary(
    "softplus",
    _stable_softplus,
    lambda g, out, x: (g * x.apply("sigmoid"),),
    "log(1 + exp(x)), without overflow.",
    type=real,
    scalar="{softplus}({0})",
)
_keeps_integers(
    "relu",
    lambda np, x: np.maximum(x, np.zeros((), x.dtype)),
    lambda g, out, x: (_where(x.apply("gt", 0), g, 0),),
    "maximum(x, 0) with derivative 0 at 0.",
    type=real,
    scalar="{zero} if {0} <= {zero} else {0}",
)
for _name, _doc in (
    ("isnan", "Whether x is NaN."),
    ("isinf", "Whether x is an infinity."),
    ("isfinite", "Whether x is neither NaN nor an infinity."),
):
    operation(
        _name,
        "x",
        predicate,
        lambda np, x, _f=_name: getattr(np, _f)(x),
        grad=None,
        doc=_doc,
        cut="a comparison",
        scalar=f"math.{_name}({{0}})",
    )
