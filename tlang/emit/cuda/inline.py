"""Scalar forms for CUDA: one expression of typed literals, functions of `math`, and lines before it.

Numba types `1 / x` of an f32 as f64, and a GPU is many times slower in f64: so every literal beside an f32 is
one of f32. What `math` does not have is written out where it is used, as lines, since a function of one's own
can be compiled only where there is a device.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tlang.types import F32, F64, DType

#: Functions that are `math`'s, by the names of scalar forms.
_MATH = frozenset(
    {"exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "erf", "erfc", "lgamma"}
    | {"sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"}
    | {"pow", "atan2", "hypot"}
)


@dataclass(frozen=True, slots=True)
class _Macro:
    """Lines, in which a parameter or a variable of its own is a name, and the expression of the result."""

    params: tuple[str, ...]
    lines: tuple[str, ...]
    result: str


#: From so large a number on a float has no fraction.
_WHOLE = {F32: 2.0**23, F64: 2.0**52}
_ROUND = ("a = abs(x)", "w = a - math.fmod(a, 1)", "t = math.copysign(w if a < whole else a, x)")
_MACROS = {
    "sigmoid": _Macro(("x",), ("e = math.exp(-abs(x))",), "(e if x < 0 else 1) / (1 + e)"),
    "softplus": _Macro(("x",), ("p = 0 if x <= 0 else x",), "p + math.log1p(math.exp(-abs(x)))"),
    "scaled": _Macro(("u", "low", "width"), (), "low + width * u"),
    "between": _Macro(("u", "low", "high"), (), "low + (high - low) * u"),
    "place": _Macro(("i", "n"), ("j = i + n if i < 0 else i",), "j if j >= 0 and j < n else 0"),
    "greater": _Macro(("a", "b"), (), "b if b > a or b != b else a"),
    "lesser": _Macro(("a", "b"), (), "b if b < a or b != b else a"),
    "np.trunc": _Macro(("x",), _ROUND, "x if x != x else t"),
    "np.floor": _Macro(("x",), _ROUND, "x if x != x else (t - 1 if t > x else t)"),
    "np.ceil": _Macro(("x",), _ROUND, "x if x != x else (math.copysign(t + 1 if t < x else t, x))"),
    "np.rint": _Macro(
        ("x",),
        ("a = abs(x)", "s = a + whole", "w = s - whole"),
        "math.copysign(w, x) if a < whole else x",
    ),
    "np.cbrt": _Macro(("x",), (), "cuda.cbrt(x)"),
}


class Inliner:
    """Writes forms of elements of a dtype: `put` takes a line, `fresh` gives a new variable."""

    def __init__(self, put: Callable[[str], object], fresh: Callable[[str], str]) -> None:
        self.put = put
        self.fresh = fresh

    def expression(self, text: str, dtype: DType) -> str:
        """A form as one expression, after the lines that it needs."""
        tree = ast.parse(text, mode="eval").body
        return ast.unparse(_Forms(self, dtype).visit(tree))

    def macro(self, name: str, args: Sequence[ast.expr], dtype: DType) -> ast.expr:
        """A function of :data:`_MACROS` of some arguments."""
        found = _MACROS[name]
        names: dict[str, ast.expr] = {"whole": ast.Constant(_WHOLE.get(dtype, 0.0))}
        for param, arg in zip(found.params, args, strict=True):
            names[param] = self.held(arg)
        for line in found.lines:
            target, _, value = line.partition(" = ")
            variable = self.fresh("t")
            self.put(f"{variable} = {ast.unparse(_written(value, names, dtype))}")
            names[target] = ast.Name(variable)
        return _written(found.result, names, dtype)

    def held(self, arg: ast.expr) -> ast.expr:
        """An argument that may be used several times: a variable, or a literal."""
        if isinstance(arg, ast.Name | ast.Constant) or _is_conversion(arg):
            return arg
        variable = self.fresh("t")
        self.put(f"{variable} = {ast.unparse(arg)}")
        return ast.Name(variable)


def expression(text: str, dtype: DType) -> str:
    """A form that needs no lines before it as one expression."""

    def refused(line: str) -> str:
        raise AssertionError(line)

    return Inliner(refused, refused).expression(text, dtype)


class _Forms(ast.NodeTransformer):
    """Types the literals of a form, and writes out its functions."""

    def __init__(self, inliner: Inliner, dtype: DType) -> None:
        self.inliner = inliner
        self.dtype = dtype

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return _literal(node, self.dtype)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        literal = node.attr in ("inf", "nan") and self.dtype.kind == "f"
        return _conversion(self.dtype, node) if literal else node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = ast.unparse(node.func)
        if _is_conversion(node):
            if isinstance(node.args[0], ast.Constant | ast.UnaryOp | ast.Attribute):
                return node
            node.args = [self.visit(a) for a in node.args]
            return node
        args = [self.visit(a) for a in node.args]
        if name in _MACROS:
            return self.inliner.macro(name, args, self.dtype)
        if name in _MATH:
            name = f"math.{name}"
        return ast.Call(ast.parse(name, mode="eval").body, args, [])


class _Written(ast.NodeTransformer):
    """Puts values for names, and types literals."""

    def __init__(self, names: dict[str, ast.expr], dtype: DType) -> None:
        self.names = names
        self.dtype = dtype

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.names.get(node.id, node)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return _literal(node, self.dtype)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        return node


def _written(text: str, names: dict[str, ast.expr], dtype: DType) -> ast.expr:
    made = {n: _literal(x, dtype) if isinstance(x, ast.Constant) else x for n, x in names.items()}
    tree: ast.expr = _Written(made, dtype).visit(ast.parse(text, mode="eval").body)
    return tree


def _is_conversion(node: ast.expr) -> bool:
    """Whether a call is one of a dtype, like `np.float32(...)`."""
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    return name == "bool" or name.startswith(("np.float", "np.int", "np.uint"))


def _literal(node: ast.Constant, dtype: DType) -> ast.expr:
    value = node.value
    if isinstance(value, bool) or not isinstance(value, int | float) or dtype.kind not in "fiu":
        return node
    if isinstance(value, float) and not math.isfinite(value):
        return _conversion(dtype, ast.parse("np.inf" if value > 0 else "np.nan", mode="eval").body)
    return _conversion(dtype, node)


def _conversion(dtype: DType, node: ast.expr) -> ast.expr:
    return ast.Call(ast.parse(f"np.{dtype.numpy_name}", mode="eval").body, [node], [])
