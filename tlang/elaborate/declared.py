"""What the types and the constants that a file declares mean: dimensions are linear sums of names."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from tlang.elaborate.scope import KIND, EquationDef, SharedDef, Unit, ValueDef
from tlang.elaborate.trampoline import trampoline
from tlang.errors import Label, did_you_mean, error
from tlang.syntax import ast
from tlang.types import DTYPES, THEANO_NAMES, Dim, Symbol, Tensor, fresh_symbol

_INTEGER_OPS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}
_OTHER_NAMES = {"float": "f64", "double": "f64", "float64": "f64", "float32": "f32", "int": "i64"}
_OTHER_NAMES |= {"int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8"}
_OTHER_NAMES |= {"complex": "c128", "complex128": "c128", "complex64": "c64", "boolean": "bool"}
_OTHER_NAMES |= {"uint16": "u16", "uint32": "u32", "uint64": "u64", "f16": "f32", "tensor": "f64"}


def constant(unit: Unit, name: str) -> int | None:
    """The value of a top-level equation that is an integer computed from literals, or None."""
    if name not in unit.constants:
        unit.constants[name] = None  # a cycle is not a constant
        found = unit.scope.names.get(name)
        if isinstance(found, EquationDef) and len(found.decl.targets) == 1:
            unit.constants[name] = trampoline(_integer(unit, found.decl.value))
    return unit.constants[name]


def integer_value(unit: Unit, e: ast.Expr) -> int | None:
    """The value of an expression that is an integer computed from literals, or None."""
    result: int | None = trampoline(_integer(unit, e))
    return result


def _integer(unit: Unit, e: ast.Expr) -> Generator[Any, Any, Any]:
    match e:
        case ast.Number(value=int(value)):
            return value
        case ast.Name(id=name):
            return constant(unit, name)
        case ast.Unary(op="-", operand=x):
            value = yield _integer(unit, x)
            return None if value is None else -int(value)
        case ast.Binary(op=op, left=a, right=b) if op in _INTEGER_OPS:
            left = yield _integer(unit, a)
            right = yield _integer(unit, b)
            if left is None or right is None or (op in ("//", "%") and right == 0):
                return None
            if op == "**" and not 0 <= right <= 64:
                return None
            return _INTEGER_OPS[op](left, right)
    return None


def tensor_type(unit: Unit, t: ast.TypeExpr) -> Tensor:
    """The type that a type expression means; every `_` is a fresh unknown."""
    if t.dims is None and t.name in THEANO_NAMES:
        dtype, dims = THEANO_NAMES[t.name]
        return Tensor(dtype, tuple(Dim(1) if d == "1" else Dim.of(fresh_symbol()) for d in dims))
    if t.name not in DTYPES:
        near = _OTHER_NAMES.get(t.name) or did_you_mean(t.name, [*DTYPES, *THEANO_NAMES])
        raise error("T110", t.span, name=t.name, hint=f"did you mean `{near}`?" if near else None)
    return Tensor(DTYPES[t.name], tuple(dimension(unit, d) for d in t.dims or ()))


def dimension(unit: Unit, e: ast.Expr) -> Dim:
    """The size that an expression in a type means."""
    found: Dim = trampoline(_dimension(unit, e))
    return found


def _dimension(unit: Unit, e: ast.Expr) -> Generator[Any, Any, Any]:
    match e:
        case ast.Number(value=int(value)):
            return Dim(value)
        case ast.Name(id="_"):
            return Dim.of(fresh_symbol())
        case ast.Name(id=name, span=span):
            number = constant(unit, name)
            if number is not None:
                unit.constant_dims.add(name)
                return Dim(number, alias=name)
            found = unit.scope.names.get(name) or unit.values.get(name)
            if found is None and name in unit.set_names:
                found = ValueDef(name, unit.set_names[name], None)
            if isinstance(found, EquationDef | SharedDef | ValueDef):
                label = [Label(found.span, f"`{name}` is made here")] if found.span else []
                raise error("T111", span, name=name, kind=KIND[type(found)], labels=label)
            unit.dims.setdefault(name, span)
            return Dim.of(Symbol(name, unit.prefix))
        case ast.Binary(op="+" | "-" as op, left=a, right=b):
            left = yield _dimension(unit, a)
            right = yield _dimension(unit, b)
            return left + right if op == "+" else left - right
        case ast.Binary(op="*", left=a, right=b):
            left = yield _dimension(unit, a)
            right = yield _dimension(unit, b)
            if left.is_const:
                return right.scale(left.const)
            if right.is_const:
                return left.scale(right.const)
    raise error("T112", e.span)
