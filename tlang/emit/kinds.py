"""What values in kernels are: numbers of some dtype, pointers and tuples, and their types in LLVM."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TypeAlias


class LowerError(Exception):
    """A text that is not one of kernels."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """The kind of a place of elements."""

    element: str


#: What a value is: a dtype by NumPy's name, a pointer, or a tuple.
Kind: TypeAlias = "str | Pointer | tuple[Kind, ...]"
BOOL, I32, I64, F32, F64 = "bool", "int32", "int64", "float32", "float64"
#: Dtypes and their types in LLVM.
LLVM = {
    BOOL: "i1",
    **{f"{sign}int{bits}": f"i{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    F32: "float",
    F64: "double",
}
#: Dtypes and what lies in memory for them.
POINTEES = {**{name: name for name in LLVM}, BOOL: "uint8"}


@dataclass(frozen=True, slots=True)
class Value:
    """A value: its kind, its name or text, its number if it is constant, its parts if it is a tuple.

    A plain literal is `weak`: a float beside float32 is one of float32.
    """

    kind: Kind
    text: str
    number: float | None = None
    parts: tuple[Value, ...] = ()
    weak: bool = False


def llvm(kind: Kind) -> str:
    """The type in LLVM."""
    if isinstance(kind, Pointer):
        return "ptr"
    if isinstance(kind, tuple):
        return "{" + ", ".join(llvm(k) for k in kind) + "}"
    return LLVM[kind]


def is_float(kind: str) -> bool:
    """Whether a kind is one of real numbers."""
    return kind in (F32, F64)


def is_signed(kind: str) -> bool:
    """Whether a kind is one of integers with a sign."""
    return kind.startswith("int")


def constant(kind: Kind, number: float) -> Value:
    """A literal of a kind; integers wrap, floats are rounded."""
    assert isinstance(kind, str)
    if kind == BOOL:
        return Value(kind, "true" if number else "false", bool(number))
    if is_float(kind):
        real = float(number)
        if kind == F32:
            try:
                real = struct.unpack("<f", struct.pack("<f", real))[0]
            except OverflowError:
                real = float("inf") if real > 0 else float("-inf")
        return Value(kind, "0x" + struct.pack(">d", real).hex().upper(), real)
    bits = int(kind.lstrip("uint"))
    whole = int(number) % 2**bits
    if is_signed(kind) and whole >= 2 ** (bits - 1):
        whole -= 2**bits
    return Value(kind, str(whole), whole)


def conversion(was: str, kind: str) -> str:
    """The instruction that converts between two kinds of numbers, none of them the target bool."""
    if is_float(was) and is_float(kind):
        return "fpext" if kind == F64 else "fptrunc"
    if is_float(was):
        return "fptosi" if is_signed(kind) else "fptoui"
    if is_float(kind):
        return "sitofp" if is_signed(was) else "uitofp"
    old, new = (int(LLVM[k][1:]) for k in (was, kind))
    if old == new:
        return "bitcast"
    if new < old:
        return "trunc"
    return "sext" if is_signed(was) else "zext"
