"""The expressions of kernels as instructions: what a value is follows from the values that it is made of.

Types and promotion are Numba's: integers compute with 64 bits, float32 stays what it is beside float32; but a
plain literal adapts, as in NumPy.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from tlang.emit import pieces
from tlang.emit.instructions import Instructions
from tlang.emit.kinds import (
    BOOL,
    F64,
    I64,
    LLVM,
    POINTEES,
    Kind,
    LowerError,
    Pointer,
    Value,
    constant,
    is_float,
    is_signed,
    llvm,
)
from tlang.emit.names import Names

#: Finds the symbol of a function of the text for arguments of some kinds, and the kind of its result.
Functions: TypeAlias = "Callable[[str, tuple[Kind, ...]], tuple[str, Kind | None] | None]"
_ARITHMETIC: Mapping[type[ast.operator], tuple[str, str, str]] = {
    ast.Add: ("fadd", "add", "add"),
    ast.Sub: ("fsub", "sub", "sub"),
    ast.Mult: ("fmul", "mul", "mul"),
    ast.BitAnd: ("", "and", "and"),
    ast.BitOr: ("", "or", "or"),
    ast.BitXor: ("", "xor", "xor"),
    ast.LShift: ("", "shl", "shl"),
    ast.RShift: ("", "ashr", "lshr"),
}
_COMPARED: Mapping[type[ast.cmpop], tuple[str, str, str]] = {
    ast.Eq: ("oeq", "eq", "eq"),
    ast.NotEq: ("une", "ne", "ne"),
    ast.Lt: ("olt", "slt", "ult"),
    ast.LtE: ("ole", "sle", "ule"),
    ast.Gt: ("ogt", "sgt", "ugt"),
    ast.GtE: ("oge", "sge", "uge"),
}


class Expressions:
    """Writes the expressions of one function."""

    def __init__(self, code: Instructions, names: Names, functions: Functions) -> None:
        self.code = code
        self.names = names
        self.functions = functions

    def value(self, node: ast.expr) -> Value:
        """The value of an expression."""
        match node:
            case ast.Name(id=name):
                return self.names.named(name)
            case ast.Constant(value=bool() | int() | float() as number):
                return replace(
                    constant(BOOL if isinstance(number, bool) else _kind(number), number), weak=True
                )
            case ast.Attribute(value=ast.Name(id="np"), attr="inf" | "nan" as name):
                return constant(F64, float(name))
            case ast.BinOp(left=left, op=op, right=right):
                return self.arithmetic(op, self.value(left), self.value(right))
            case ast.UnaryOp(op=op, operand=operand):
                return self._unary(op, self.value(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compare(op, self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=values):
                return self._logic(isinstance(op, ast.And), values)
            case ast.IfExp(test=test, body=yes, orelse=no):
                return self._either(self.value(test), yes, no)
            case ast.Subscript(value=pointer, slice=index):
                place, kind = self.place(pointer, index)
                return self.code.let(kind, f"load {llvm(kind)}, ptr {place}")
            case ast.Tuple(elts=elements):
                parts = tuple(self.value(e) for e in elements)
                return Value(tuple(p.kind for p in parts), "", parts=parts)
            case ast.Call():
                found = self.call(node)
                if found is not None:
                    return found
        raise LowerError(f"not an expression of kernels: {ast.unparse(node)}")

    def place(self, pointer: ast.expr, index: ast.expr) -> tuple[str, str]:
        """Where an element lies, and its kind."""
        base = self.value(pointer)
        if not isinstance(base.kind, Pointer):
            raise LowerError(f"{ast.unparse(pointer)} is no pointer")
        at = self.code.convert(self.value(index), I64)
        element = base.kind.element
        return self.code.let(
            base.kind, f"getelementptr {llvm(element)}, ptr {base.text}, i64 {at.text}"
        ).text, element

    def arithmetic(self, op: ast.operator, x: Value, y: Value) -> Value:
        """The value of an operation on two numbers."""
        code = self.code
        if isinstance(op, ast.Pow):
            if x.number is None or y.number is None:
                raise LowerError("`**` is for literals")
            return replace(constant(F64, float(x.number) ** y.number), weak=True)
        logical = isinstance(op, ast.BitAnd | ast.BitOr | ast.BitXor)
        if isinstance(op, ast.Div):
            x, y = (v if is_float(str(v.kind)) else code.convert(v, F64) for v in (x, y))
        elif isinstance(op, ast.LShift | ast.RShift):
            x, y = (code.convert(v, I64) if v.kind == BOOL else v for v in (x, y))
        if not (logical and x.kind == y.kind == BOOL):
            x, y = code.common(x, y)
        kind = str(x.kind)
        if isinstance(op, ast.Div):
            name = "fdiv"
        elif isinstance(op, ast.FloorDiv | ast.Mod):
            return self._divided(op, x, y)
        elif type(op) in _ARITHMETIC:
            real, signed, unsigned = _ARITHMETIC[type(op)]
            name = real if is_float(kind) else signed if is_signed(kind) else unsigned
        else:
            name = ""
        if not name:
            raise LowerError(f"no {type(op).__name__} of {kind}")
        if x.number is not None and y.number is not None and name in ("add", "sub", "mul"):
            number = {"add": x.number + y.number, "sub": x.number - y.number, "mul": x.number * y.number}[
                name
            ]
            return replace(constant(kind, number), weak=x.weak and y.weak)
        flags = code.flags if is_float(kind) else ""
        return code.let(kind, f"{name} {flags}{llvm(kind)} {x.text}, {y.text}")

    def _divided(self, op: ast.operator, x: Value, y: Value) -> Value:
        """Division of integers, towards minus infinity; by 0 it gives 0."""
        code = self.code
        kind = str(x.kind)
        if is_float(kind):
            raise LowerError("no floor division of floats")
        number = int(y.number or 0)
        if number > 0 and number & (number - 1) == 0 and is_signed(kind):
            if isinstance(op, ast.FloorDiv):
                return code.let(kind, f"ashr {code.operand(x)}, {number.bit_length() - 1}")
            return code.let(kind, f"and {code.operand(x)}, {number - 1}")
        name = ("floordiv_" if isinstance(op, ast.FloorDiv) else "mod_") + kind
        code.declare(name, pieces.division(name, kind, isinstance(op, ast.FloorDiv)))
        return code.let(kind, f"call {llvm(kind)} @{name}({code.operand(x)}, {code.operand(y)})")

    def _unary(self, op: ast.unaryop, x: Value) -> Value:
        code = self.code
        if isinstance(op, ast.Not):
            return code.let(BOOL, f"xor i1 {code.convert(x, BOOL).text}, true")
        if isinstance(op, ast.USub):
            if x.number is not None and not isinstance(x.number, bool):
                return replace(constant(x.kind, -x.number), weak=x.weak)
            if is_float(str(x.kind)):
                return code.let(x.kind, f"fneg {code.flags}{code.operand(x)}")
            x = code.convert(x, "uint64" if not is_signed(str(x.kind)) and x.kind != BOOL else I64)
            return code.let(x.kind, f"sub {llvm(x.kind)} 0, {x.text}")
        if isinstance(op, ast.Invert) and not is_float(str(x.kind)):
            return code.let(x.kind, f"xor {code.operand(x)}, -1")
        raise LowerError(f"no {type(op).__name__} of {x.kind}")

    def _compare(self, op: ast.cmpop, x: Value, y: Value) -> Value:
        code = self.code
        if not x.kind == y.kind == BOOL:
            x, y = code.common(x, y)
        real, signed, unsigned = _COMPARED[type(op)]
        kind = str(x.kind)
        if is_float(kind):
            return code.let(BOOL, f"fcmp {code.flags}{real} {code.operand(x)}, {y.text}")
        return code.let(BOOL, f"icmp {signed if is_signed(kind) else unsigned} {code.operand(x)}, {y.text}")

    def _logic(self, both: bool, values: Sequence[ast.expr]) -> Value:
        """`and` and `or` of booleans; what follows is computed only if it is needed, where that matters."""
        first, *rest = values
        x = self.code.convert(self.value(first), BOOL)
        for node in rest:

            def other(node: ast.expr = node) -> Value:
                return self.code.convert(self.value(node), BOOL)

            def known() -> Value:
                return constant(BOOL, not both)

            if _is_plain(node):
                y = other()
                text = f"i1 {y.text}, i1 false" if both else f"i1 true, i1 {y.text}"
                x = self.code.let(BOOL, f"select i1 {x.text}, {text}")
            else:
                x = self.code.one_of(x, *((other, known) if both else (known, other)))
        return x

    def _either(self, condition: Value, yes: ast.expr, no: ast.expr) -> Value:
        code = self.code
        if _is_plain(yes) and _is_plain(no):
            condition, x, y = code.convert(condition, BOOL), self.value(yes), self.value(no)
            if x.kind != y.kind:
                x, y = code.common(x, y)
            return code.let(x.kind, f"select i1 {condition.text}, {code.operand(x)}, {code.operand(y)}")
        return code.one_of(condition, lambda: self.value(yes), lambda: self.value(no))

    def call(self, node: ast.Call) -> Value | None:
        """A call of a function of the text, or of one that every text has."""
        code = self.code
        name = ast.unparse(node.func)
        args = [self.value(a) for a in node.args]
        if node.keywords:
            raise LowerError(f"a call with keywords: {ast.unparse(node)}")
        found = self.functions(name, tuple(a.kind for a in args))
        if found is not None:
            return code.called(*found, args)
        if name.startswith("np.") and name[3:] in LLVM:
            return code.convert(args[0], name[3:])
        if name == "bool":
            return code.convert(args[0], BOOL)
        if name.endswith("_at") and (element := POINTEES.get(name[:-3])):
            kind = Pointer(element)
            return code.let(kind, f"inttoptr {code.operand(code.convert(args[0], I64))} to ptr")
        piece = pieces.PIECES.get(name)
        if piece is None:
            raise LowerError(f"`{name}` is no function of kernels")
        return piece(self.code, args)


def _kind(number: float) -> str:
    return F64 if isinstance(number, float) else I64


def _is_plain(node: ast.expr) -> bool:
    """Whether an expression can be computed where its value may not be needed: quickly, without a trap."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.BinOp(op=ast.FloorDiv() | ast.Mod()):
            return False
        case ast.BinOp(left=x, right=y) | ast.Compare(left=x, comparators=[y]):
            return _is_plain(x) and _is_plain(y)
        case ast.UnaryOp(operand=x):
            return _is_plain(x)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr=name), args=[x]):
            return name in LLVM and _is_plain(x)
    return False
