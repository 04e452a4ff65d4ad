"""The text of kernels, as a text of LLVM.

Kernels are written in a small part of Python, of the kind that Numba compiles: numbers, pointers that are
indexed without checks, tuples of results, `if`, `while`, `for i in range(...)`, and functions. What a value
is follows from the arguments of an entry, so one walk over a function both types and translates it; one that
is called with other types is translated again. Types and promotion are Numba's: integers compute with
64 bits, float32 stays what it is beside float32, and a store converts to what lies in memory; but a plain
literal adapts, as in NumPy. (Numba itself takes 0.2 s to import and ten times as long for a text, most of it
for what kernels do not have.)

A name that is assigned once is a value of LLVM, any other a place on the stack, which LLVM makes a value of.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache

from tlang.emit import pieces
from tlang.emit.pieces import (
    BOOL,
    F32,
    F64,
    I64,
    LLVM,
    Kind,
    LowerError,
    Pointer,
    Value,
    constant,
    is_float,
    is_signed,
    llvm,
)

#: The symbol of an entry is its name with this before it.
PREFIX = "tlang_"
#: A function of a text, with what decorates it.
_DEFINITION = re.compile(r"^(?:@.*\n)*def (\w+).*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)
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


def lowered(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> str:
    """The text of LLVM for the entries of a module text, with all that they call.

    `signatures` maps entries to texts such as `"int64(int64, float64)"`; `fastmath` are LLVM's flags for all
    functions that name none of their own. Raises :class:`LowerError` for a text that is not of the language.
    """
    return _Module(text, fastmath).lowered(signatures)


def parameters(signature: str) -> list[str]:
    """The types of the parameters of an entry, each int64 or float64; its result is int64."""
    found = re.fullmatch(r"int64\((.*)\)", signature.replace(" ", ""))
    given = found[1].split(",") if found and found[1] else []
    if found is None or not set(given) <= {I64, F64}:
        raise LowerError(f"not the signature of an entry: {signature}")
    return given


@cache
def _parsed(text: str) -> ast.FunctionDef:
    """The tree of a function: many texts have the same helpers."""
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    return function


class _Module:
    """A text of LLVM under construction."""

    def __init__(self, text: str, fastmath: Collection[str]) -> None:
        self.fastmath = fastmath
        self.texts = {found[1]: found[0] for found in _DEFINITION.finditer(text + "\n")}
        self.made: dict[tuple[str, tuple[Kind, ...]], tuple[str, Kind | None]] = {}
        self.functions: list[str] = []
        self.declared: dict[str, str] = {}

    def lowered(self, signatures: Mapping[str, str]) -> str:
        for name, signature in signatures.items():
            if name not in self.texts:
                raise LowerError(f"there is no function `{name}`")
            function = _Function(self, self.texts[name], tuple(parameters(signature)))
            self.functions.append(function.lowered(PREFIX + name, entry=True))
            if function.result != I64:
                raise LowerError(f"`{name}` gives {function.result or 'nothing'} and not int64")
        return "\n".join([*self.functions, *self.declared.values()])

    def function(self, name: str, kinds: tuple[Kind, ...]) -> tuple[str, Kind | None]:
        """The symbol of a function for arguments of some kinds, and the kind of its result."""
        if (name, kinds) not in self.made:
            symbol = f"{name}.{len(self.made)}"
            function = _Function(self, self.texts[name], kinds)
            self.functions.append(function.lowered(symbol))
            self.made[name, kinds] = symbol, function.result
        return self.made[name, kinds]

    def declare(self, symbol: str, text: str) -> None:
        """Something that functions use: a declaration, or a definition."""
        self.declared[symbol] = text


class _Function:
    """One function for arguments of some kinds."""

    def __init__(self, module: _Module, text: str, kinds: tuple[Kind, ...]) -> None:
        self.module = module
        self.tree = _parsed(text)
        self.kinds = kinds
        self.lines: list[str] = []
        self.places: list[str] = []
        self.values: dict[str, Value] = {}
        self.stacked: dict[str, tuple[str, Kind]] = {}
        self.result: Kind | None = None
        self.returns = False
        self.ended = False
        self.block = "entry"
        self.flags = _flags(module.fastmath)
        self.attributes = ["nounwind"]
        self._numbers = itertools.count()
        for mark in self.tree.decorator_list:
            self._decorate(mark)
        self.changing = _changing(self.tree)

    def _decorate(self, mark: ast.expr) -> None:
        name = mark.func if isinstance(mark, ast.Call) else mark
        if isinstance(name, ast.Name) and name.id == "apart":
            self.attributes.append("noinline")
        for option in mark.keywords if isinstance(mark, ast.Call) else ():
            if option.arg == "fastmath":
                names = [x for x in ast.walk(option.value) if isinstance(x, ast.Constant)]
                self.flags = _flags([str(x.value) for x in names])
            elif option.arg == "forceinline":
                self.attributes.append("alwaysinline")

    def lowered(self, symbol: str, entry: bool = False) -> str:
        """The definition of the function."""
        given = []
        for parameter, kind in zip(self.tree.args.args, self.kinds, strict=True):
            given.append(f"{llvm(kind)} %{parameter.arg}")
            self.bind(parameter.arg, Value(kind, f"%{parameter.arg}"))
        self.body(self.tree.body)
        if not self.ended:
            if self.result is not None:
                raise LowerError(f"`{symbol}` may end without a result")
            self.put("ret void")
        kind = "void" if self.result is None else llvm(self.result)
        head = f"define {'' if entry else 'internal '}{kind} @{symbol}({', '.join(given)})"
        marks = " ".join(self.attributes)
        return "\n".join([f"{head} {marks} {{", "entry:", *self.places, *self.lines, "}"])

    # ------------------------------------------------------------ what all of it is written with

    def put(self, line: str) -> None:
        """An instruction without a value."""
        self.lines.append("  " + line)

    def let(self, kind: Kind, text: str) -> Value:
        """An instruction with a value."""
        name = f"%v{next(self._numbers)}"
        self.lines.append(f"  {name} = {text}")
        return Value(kind, name)

    def labels(self, *names: str) -> list[str]:
        """Fresh names of blocks."""
        number = next(self._numbers)
        return [f"{name}{number}" for name in names]

    def begin(self, label: str) -> None:
        """What follows is a new block."""
        self.lines.append(f"{label}:")
        self.block, self.ended = label, False

    def go(self, label: str) -> None:
        """Ends the block with a jump, unless it has ended."""
        if not self.ended:
            self.put(f"br label %{label}")
            self.ended = True

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """Ends the block with a choice."""
        self.put(f"br i1 {self.convert(condition, BOOL).text}, label %{yes}, label %{no}")
        self.ended = True

    def bind(self, name: str, value: Value) -> None:
        """A name gets a value."""
        if name not in self.changing:
            self.values[name] = value
            return
        if value.parts:
            raise LowerError(f"`{name}` is a tuple, and is assigned more than once")
        if name not in self.stacked:
            place = f"%{name}.place"
            self.places.append(f"  {place} = alloca {llvm(value.kind)}")
            self.stacked[name] = place, value.kind
        place, kind = self.stacked[name]
        if kind != value.kind and (kind, value.kind) not in ((F64, I64), (F64, F32)):
            raise LowerError(f"`{name}` is {value.kind} after it was {kind}")
        self.put(f"store {self.operand(self.convert(value, kind))}, ptr {place}")

    def operand(self, value: Value) -> str:
        """A value with its type, as instructions want it."""
        return f"{llvm(value.kind)} {value.text}"

    def convert(self, value: Value, kind: Kind) -> Value:
        """A value as one of another kind."""
        was = value.kind
        if was == kind:
            return value
        if isinstance(was, Pointer | tuple) or isinstance(kind, Pointer | tuple):
            raise LowerError(f"{was} is no {kind}")
        if value.number is not None and (kind != BOOL):
            return constant(kind, value.number)
        if kind == BOOL:
            if is_float(was):
                return self.let(BOOL, f"fcmp une {self.operand(value)}, 0.0")
            return self.let(BOOL, f"icmp ne {self.operand(value)}, 0")
        if was == BOOL and is_float(kind):  # a conversion may wait for what its register held before
            return self.let(kind, f"select i1 {value.text}, {llvm(kind)} 1.0, {llvm(kind)} 0.0")
        return self.let(kind, f"{pieces.conversion(was, kind)} {self.operand(value)} to {llvm(kind)}")

    def as_real(self, value: Value) -> Value:
        """A number as an argument of a function of real numbers: float32 stays, all else is float64."""
        return value if value.kind == F32 else self.convert(value, F64)

    def common(self, x: Value, y: Value) -> tuple[Value, Value]:
        """Two numbers as those of the kind in which they are added."""
        kind = self.common_kind(x, y)
        return self.convert(x, kind), self.convert(y, kind)

    def common_kind(self, x: Value, y: Value) -> str:
        """The kind in which two numbers are added."""
        a, b = x.kind, y.kind
        if isinstance(a, Pointer | tuple) or isinstance(b, Pointer | tuple):
            raise LowerError(f"no arithmetic of {a} and {b}")
        if F32 in (a, b) and (x if a != F32 else y).weak:
            return F32
        if is_float(a) or is_float(b):
            return F32 if all(k in (F32, BOOL, "int8", "uint8", "int16", "uint16") for k in (a, b)) else F64
        if a == b == BOOL:
            return I64
        if "uint64" in (a, b):
            other = y if a == "uint64" else x
            if is_signed(str(other.kind)) and (other.number is None or other.number < 0):
                raise LowerError("uint64 beside an integer with a sign")
            return "uint64"
        return I64 if any(is_signed(k) for k in (a, b)) else "uint64"

    # ------------------------------------------------------------ statements

    def body(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            if self.ended:  # what follows a `return` is never reached
                return
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets=[target], value=value):
                self.assign(target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.bind(name, self.arithmetic(op, self.named(name), self.value(value)))
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=bounds)):
                self.loop(name, [self.value(b) for b in bounds], node.body)
            case ast.While(test=test):
                self.repeat(test, node.body)
            case ast.If(test=test):
                self.choose(test, node.body, node.orelse)
            case ast.Return(value=value):
                self.give(None if value is None else self.value(value))
            case _:
                raise LowerError(f"not a statement of kernels: {ast.unparse(node)}")

    def assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.bind(name, value)
            case ast.Tuple(elts=targets) if len(value.parts) == len(targets):
                for t, part in zip(targets, value.parts, strict=True):
                    self.assign(t, part)
            case ast.Subscript(value=pointer, slice=index):
                place, kind = self.place(pointer, index)
                self.put(f"store {self.operand(self.convert(value, kind))}, ptr {place}")
            case _:
                raise LowerError(f"cannot assign to {ast.unparse(target)}")

    def loop(self, name: str, bounds: list[Value], body: Sequence[ast.stmt]) -> None:
        """`for name in range(...)`, with a step above 0."""
        given = [self.convert(b, I64).text for b in bounds]
        start, stop, step = {1: ("0", *given, "1"), 2: (*given, "1"), 3: tuple(given)}[len(given)]
        head, inside, after, end = self.labels("head", "body", "next", "end")
        before = self.block
        self.go(head)
        self.begin(head)
        at = f"%{name}.{next(self._numbers)}"
        self.put(f"{at} = phi i64 [{start}, %{before}], [{at}.next, %{after}]")
        self.branch(self.let(BOOL, f"icmp slt i64 {at}, {stop}"), inside, end)
        self.begin(inside)
        self.bind(name, Value(I64, at))
        self.body(body)
        self.go(after)
        self.begin(after)
        self.put(f"{at}.next = add nsw i64 {at}, {step}")
        self.go(head)
        self.begin(end)

    def repeat(self, test: ast.expr, body: Sequence[ast.stmt]) -> None:
        head, inside, end = self.labels("while", "do", "done")
        self.go(head)
        self.begin(head)
        self.branch(self.value(test), inside, end)
        self.begin(inside)
        self.body(body)
        self.go(head)
        self.begin(end)

    def choose(self, test: ast.expr, yes: Sequence[ast.stmt], no: Sequence[ast.stmt]) -> None:
        then, other, end = self.labels("then", "else", "fi")
        self.branch(self.value(test), then, other if no else end)
        reached = not no
        self.begin(then)
        self.body(yes)
        reached |= not self.ended
        self.go(end)
        if no:
            self.begin(other)
            self.body(no)
            reached |= not self.ended
            self.go(end)
        if reached:
            self.begin(end)

    def give(self, value: Value | None) -> None:
        """A `return`: all of a function give values of the same kind."""
        if self.returns and (value is None) != (self.result is None):
            raise LowerError("a function gives a value here and none there")
        self.ended = self.returns = True
        if value is None:
            self.put("ret void")
            return
        if self.result is None:
            self.result = value.kind
        if not value.parts:
            value = self.convert(value, self.result)
            self.put(f"ret {self.operand(value)}")
            return
        if value.kind != self.result:
            raise LowerError("a function gives tuples of several kinds")
        whole = "poison"
        for k, part in enumerate(value.parts):
            whole = self.let(
                value.kind, f"insertvalue {llvm(value.kind)} {whole}, {self.operand(part)}, {k}"
            ).text
        self.put(f"ret {llvm(value.kind)} {whole}")

    # ------------------------------------------------------------ expressions

    def named(self, name: str) -> Value:
        """The value of a name."""
        if name in self.stacked:
            place, kind = self.stacked[name]
            return self.let(kind, f"load {llvm(kind)}, ptr {place}")
        if name in self.values:
            return self.values[name]
        raise LowerError(f"`{name}` has no value")

    def value(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id=name):
                return self.named(name)
            case ast.Constant(value=bool() | int() | float() as number):
                return replace(
                    constant(BOOL if isinstance(number, bool) else _kind(number), number), weak=True
                )
            case ast.Attribute(value=ast.Name(id="np"), attr="inf" | "nan" as name):
                return constant(F64, float(name))
            case ast.BinOp(left=left, op=op, right=right):
                return self.arithmetic(op, self.value(left), self.value(right))
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, self.value(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.compare(op, self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=values):
                return self.logic(isinstance(op, ast.And), values)
            case ast.IfExp(test=test, body=yes, orelse=no):
                return self.either(self.value(test), yes, no)
            case ast.Subscript(value=pointer, slice=index):
                place, kind = self.place(pointer, index)
                return self.let(kind, f"load {llvm(kind)}, ptr {place}")
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
        at = self.convert(self.value(index), I64)
        element = base.kind.element
        return self.let(
            base.kind, f"getelementptr {llvm(element)}, ptr {base.text}, i64 {at.text}"
        ).text, element

    def arithmetic(self, op: ast.operator, x: Value, y: Value) -> Value:
        if isinstance(op, ast.Pow):
            if x.number is None or y.number is None:
                raise LowerError("`**` is for literals")
            return replace(constant(F64, float(x.number) ** y.number), weak=True)
        logical = isinstance(op, ast.BitAnd | ast.BitOr | ast.BitXor)
        if isinstance(op, ast.Div):
            x, y = (v if is_float(str(v.kind)) else self.convert(v, F64) for v in (x, y))
        elif isinstance(op, ast.LShift | ast.RShift):
            x, y = (self.convert(v, I64) if v.kind == BOOL else v for v in (x, y))
        if not (logical and x.kind == y.kind == BOOL):
            x, y = self.common(x, y)
        kind = str(x.kind)
        if isinstance(op, ast.Div):
            name = "fdiv"
        elif isinstance(op, ast.FloorDiv | ast.Mod):
            return self.divided(op, x, y)
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
        flags = self.flags if is_float(kind) else ""
        return self.let(kind, f"{name} {flags}{llvm(kind)} {x.text}, {y.text}")

    def divided(self, op: ast.operator, x: Value, y: Value) -> Value:
        """Division of integers, towards minus infinity; by 0 it gives 0."""
        kind = str(x.kind)
        if is_float(kind):
            raise LowerError("no floor division of floats")
        number = int(y.number or 0)
        if number > 0 and number & (number - 1) == 0 and is_signed(kind):
            if isinstance(op, ast.FloorDiv):
                return self.let(kind, f"ashr {self.operand(x)}, {number.bit_length() - 1}")
            return self.let(kind, f"and {self.operand(x)}, {number - 1}")
        name = ("floordiv_" if isinstance(op, ast.FloorDiv) else "mod_") + kind
        self.module.declare(name, pieces.division(name, kind, isinstance(op, ast.FloorDiv)))
        return self.let(kind, f"call {llvm(kind)} @{name}({self.operand(x)}, {self.operand(y)})")

    def unary(self, op: ast.unaryop, x: Value) -> Value:
        if isinstance(op, ast.Not):
            return self.let(BOOL, f"xor i1 {self.convert(x, BOOL).text}, true")
        if isinstance(op, ast.USub):
            if x.number is not None and not isinstance(x.number, bool):
                return replace(constant(x.kind, -x.number), weak=x.weak)
            if is_float(str(x.kind)):
                return self.let(x.kind, f"fneg {self.flags}{self.operand(x)}")
            x = self.convert(x, "uint64" if not is_signed(str(x.kind)) and x.kind != BOOL else I64)
            return self.let(x.kind, f"sub {llvm(x.kind)} 0, {x.text}")
        if isinstance(op, ast.Invert) and not is_float(str(x.kind)):
            return self.let(x.kind, f"xor {self.operand(x)}, -1")
        raise LowerError(f"no {type(op).__name__} of {x.kind}")

    def compare(self, op: ast.cmpop, x: Value, y: Value) -> Value:
        if not x.kind == y.kind == BOOL:
            x, y = self.common(x, y)
        real, signed, unsigned = _COMPARED[type(op)]
        kind = str(x.kind)
        if is_float(kind):
            return self.let(BOOL, f"fcmp {self.flags}{real} {self.operand(x)}, {y.text}")
        return self.let(BOOL, f"icmp {signed if is_signed(kind) else unsigned} {self.operand(x)}, {y.text}")

    def logic(self, both: bool, values: Sequence[ast.expr]) -> Value:
        """`and` and `or` of booleans; what follows is computed only if it is needed, where that matters."""
        first, *rest = values
        x = self.convert(self.value(first), BOOL)
        for node in rest:

            def other(node: ast.expr = node) -> Value:
                return self.convert(self.value(node), BOOL)

            def known() -> Value:
                return constant(BOOL, not both)

            if _is_plain(node):
                y = other()
                text = f"i1 {y.text}, i1 false" if both else f"i1 true, i1 {y.text}"
                x = self.let(BOOL, f"select i1 {x.text}, {text}")
            else:
                x = self.one_of(x, *((other, known) if both else (known, other)))
        return x

    def either(self, condition: Value, yes: ast.expr, no: ast.expr) -> Value:
        if _is_plain(yes) and _is_plain(no):
            condition, x, y = self.convert(condition, BOOL), self.value(yes), self.value(no)
            if x.kind != y.kind:
                x, y = self.common(x, y)
            return self.let(x.kind, f"select i1 {condition.text}, {self.operand(x)}, {self.operand(y)}")
        return self.one_of(condition, lambda: self.value(yes), lambda: self.value(no))

    def one_of(self, condition: Value, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
        """A value made in one of two ways, which must be of the same kind."""
        then, other, end = self.labels("then", "else", "fi")
        self.branch(condition, then, other)
        came = []
        for label, way in ((then, yes), (other, no)):
            self.begin(label)
            x = way()
            came.append((x, self.block, len(self.lines)))
            self.go(end)
        (x, a, at), (y, b, _) = came
        if x.kind != y.kind:
            kind = self.common_kind(x, y)
            tail = self.lines[at:]
            del self.lines[at:]
            x = self.convert(x, kind)
            self.lines += tail
            end_of_other = self.lines.pop()
            y = self.convert(y, kind)
            self.lines.append(end_of_other)
        self.begin(end)
        return self.let(x.kind, f"phi {llvm(x.kind)} [{x.text}, %{a}], [{y.text}, %{b}]")

    # ------------------------------------------------------------ calls

    def call(self, node: ast.Call) -> Value | None:
        """A call of a function of the text, or of one that every text has."""
        name = ast.unparse(node.func)
        args = [self.value(a) for a in node.args]
        if node.keywords:
            raise LowerError(f"a call with keywords: {ast.unparse(node)}")
        if name in self.module.texts:
            symbol, result = self.module.function(name, tuple(a.kind for a in args))
            return self.called(symbol, result, args)
        if name.startswith("np.") and name[3:] in LLVM:
            return self.convert(args[0], name[3:])
        if name == "bool":
            return self.convert(args[0], BOOL)
        if name.endswith("_at") and (element := pieces.POINTEES.get(name[:-3])):
            kind = Pointer(element)
            return self.let(kind, f"inttoptr {self.operand(self.convert(args[0], I64))} to ptr")
        piece = pieces.PIECES.get(name)
        if piece is None:
            raise LowerError(f"`{name}` is no function of kernels")
        return piece(self, args)

    def called(self, symbol: str, result: Kind | None, args: Sequence[Value]) -> Value | None:
        """The result of a function, a tuple in parts."""
        given = ", ".join(self.operand(a) for a in args)
        if result is None:
            self.put(f"call void @{symbol}({given})")
            return None
        flags = self.flags if result in (F32, F64) else ""
        found = self.let(result, f"call {flags}{llvm(result)} @{symbol}({given})")
        return self.parts(found) if isinstance(result, tuple) else found

    def parts(self, value: Value) -> Value:
        """A tuple with its parts."""
        assert isinstance(value.kind, tuple)
        whole = self.operand(value)
        parts = tuple(self.let(k, f"extractvalue {whole}, {i}") for i, k in enumerate(value.kind))
        return Value(value.kind, value.text, parts=parts)

    def external(self, symbol: str, result: Kind | None, args: Sequence[Value]) -> Value | None:
        """The result of a function of the C library or of LLVM's own."""
        kinds = ", ".join(llvm(a.kind) for a in args)
        kind = "void" if result is None else llvm(result)
        self.module.declare(symbol, f"declare {kind} @{symbol}({kinds})")
        return self.called(symbol, result, args)


def _flags(names: Collection[str]) -> str:
    return "".join(f"{name} " for name in sorted(names))


def _kind(number: float) -> str:
    return F64 if isinstance(number, float) else I64


def _changing(function: ast.FunctionDef) -> set[str]:
    """The names that are assigned in more than one sequence of statements: where the value is made depends.

    The variable of a `for` is assigned in its body.
    """
    where: dict[str, set[int]] = {x.arg: {0} for x in function.args.args}
    todo: list[list[ast.stmt]] = [function.body]
    for number, statements in enumerate(todo):
        for node in statements:
            match node:
                case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
                    names = [x.id for x in ast.walk(target) if isinstance(x, ast.Name)]
                    stored = isinstance(target, ast.Name | ast.Tuple)
                    for name in names if stored else ():
                        where.setdefault(name, set()).add(number)
                case ast.For(target=ast.Name(id=name), body=body):
                    where.setdefault(name, set())
                    todo.append([ast.Assign(targets=[node.target], value=node.iter), *body])
                case ast.While(body=body):
                    todo.append(body)
                case ast.If(body=body, orelse=orelse):
                    todo += [body, orelse]
    return {name for name, places in where.items() if len(places) > 1}


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
