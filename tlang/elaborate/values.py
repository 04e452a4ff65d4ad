"""What expressions evaluate to, and what can be read off a node before anything runs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tlang.elaborate.scope import Def
from tlang.errors import error
from tlang.graph.node import Node, is_const
from tlang.graph.ops import CALLABLE
from tlang.source import Span
from tlang.types import BOOL, DTYPES, Dim, DType


@dataclass(frozen=True, slots=True)
class Record:
    """Several values: outputs of a function, items of a tuple."""

    fields: tuple[str, ...]
    items: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class StateRef:
    """The state of a random variable (`what` "state" or "seed"), or a value that holds one."""

    definition: Def
    what: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string argument."""

    value: str


class Dynamic(Exception):
    """An expression needs a type that only a run can know (of a loaded file)."""


@dataclass(frozen=True, slots=True)
class LeafUse:
    """A leaf that was read, where, and the formula around it."""

    node: Node
    span: Span
    formula: str | None


CONSTANTS = {"e": math.e, "pi": math.pi, "inf": math.inf, "nan": math.nan}
#: Names that are forms of their own rather than rows of the table.
FORMS = frozenset({"grad", "jacobian", "hessian", "vjp", "jvp", "scan", "print", "save", "load", "batches"})
BUILTINS = frozenset(CALLABLE) | FORMS | set(DTYPES) | set(CONSTANTS)


def is_builtin(name: str) -> bool:
    """Whether a name is one of tlang's own."""
    return name in BUILTINS


def convert_number(value: Any, dtype: DType, span: Span | None) -> Any:
    """A Python number as a value of a dtype, if it is exactly representable (floats round)."""
    if isinstance(value, bool) or dtype is BOOL:
        if isinstance(value, bool) and dtype is BOOL:
            return value
        raise error("T108", span, value=value, wanted=dtype)
    if dtype.is_inexact:
        return value if isinstance(value, complex) else _as_float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise error("T108", span, value=value, wanted=dtype, hint=f"`{dtype}(...)` rounds towards zero")
        value = int(value)
    low, high = dtype.integer_range()
    if not low <= value <= high:
        raise error("T124", span, value=value, dtype=dtype)
    return value


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def plain_const(x: Node) -> Any:
    """The value of a scalar constant, also behind a name; None for any other node."""
    while x.op.name == "named":
        x = x.inputs[0]
    return x.value if is_const(x) else None


def as_dim(x: Node, depth: int = 32) -> Dim | None:
    """A scalar as a size that is known before the run: constants, dimension names, linear sums."""
    while x.op.name == "named" or (
        x.op.name == "cast" and x.dtype.is_integer and x.inputs[0].dtype.is_integer
    ):
        x = x.inputs[0]
    if x.rank or not x.dtype.is_integer or not depth:
        return None
    if is_const(x):
        return Dim(x.value)
    if x.op.name == "dim":
        found: Dim = x.attr("dim")
        return found
    if x.op.name == "size":
        size = x.inputs[0].shape[x.attr("axis")]
        return size if all(s.rigid for s in size.symbols()) else None
    if x.op.name in ("add", "sub", "mul"):
        a, b = (as_dim(i, depth - 1) for i in x.inputs)
        if a is None or b is None:
            return None
        if x.op.name != "mul":
            return a + b if x.op.name == "add" else a - b
        if a.is_const or b.is_const:
            return b.scale(a.const) if a.is_const else a.scale(b.const)
    return None


def fold(op: str, a: Any, b: Any, span: Span) -> int | float | None:
    """Arithmetic of two literals where it is certain; None leaves it to the run."""
    try:
        if op == "+":
            return a + b  # type: ignore[no-any-return]
        if op == "-":
            return a - b  # type: ignore[no-any-return]
        if op == "*":
            return a * b  # type: ignore[no-any-return]
        if op == "/" and b != 0:
            return a / b  # type: ignore[no-any-return]
        if op in ("//", "%") and b != 0 and isinstance(a, int) and isinstance(b, int):
            return a // b if op == "//" else a % b
        if op == "**" and isinstance(a, int) and isinstance(b, int) and b >= 0:
            if abs(a) > 1 and abs(a).bit_length() * b > 1024:
                raise error("T124", span, value=f"{a} ** {b}", dtype="i64")
            return a**b  # type: ignore[no-any-return]
    except OverflowError:
        return None
    return None


def short(text: str) -> str:
    """Source text on one line, shortened."""
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."
