"""The instructions of a function of LLVM, as they are written: blocks, conversions, choices and calls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from tlang.emit.kinds import (
    BOOL,
    F32,
    F64,
    I64,
    Kind,
    LowerError,
    Pointer,
    Value,
    constant,
    conversion,
    is_float,
    is_signed,
    llvm,
)


class Instructions:
    """The text of one function. What else it needs, declarations and definitions, goes to `declared`.

    `flags` are those of operations on floats; `block` is the label of the block that is written, and `ended`
    says whether it has its last instruction.
    """

    def __init__(self, flags: str, declared: dict[str, str]) -> None:
        self.flags = flags
        self.lines: list[str] = []
        self.block = "entry"
        self.ended = False
        self._declared = declared
        self._numbers = itertools.count()

    # ------------------------------------------------------------ blocks

    def number(self) -> int:
        """A number that no other name of the function has."""
        return next(self._numbers)

    def declare(self, symbol: str, text: str) -> None:
        """Something that functions use: a declaration, or a definition."""
        self._declared[symbol] = text

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

    # ------------------------------------------------------------ conversions

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
        return self.let(kind, f"{conversion(was, kind)} {self.operand(value)} to {llvm(kind)}")

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

    # ------------------------------------------------------------ calls

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
        self.declare(symbol, f"declare {kind} @{symbol}({kinds})")
        return self.called(symbol, result, args)
