"""Arguments of operations that are known before the run: axes, flags, modes, sizes."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from tlang.elaborate.scope import Scope
from tlang.elaborate.values import Record, Text, as_dim, plain_const
from tlang.errors import error
from tlang.graph.node import OPS, Node
from tlang.graph.ops.formula import FORMULAS
from tlang.graph.ops.rules import unknown_dim
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import DTYPES, I64, Dim

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task

#: The default of a parameter that has none.
REQUIRED = object()


@cache
def signature(name: str) -> tuple[tuple[str, Any], ...]:
    """A row's parameters in order: (name, default), `*xs` first of its kind."""
    text = OPS[name].signature if name in OPS else FORMULAS[name].signature
    out = []
    for part in text.split(", "):
        left, _, default = part.partition("=")
        if left:
            out.append((left, literal_eval(default) if default else REQUIRED))
    return tuple(out)


def items_of(e: ast.Expr) -> list[ast.Expr]:
    """The expressions of a list or a tuple; of anything else none."""
    items = e.items if isinstance(e, ast.ListLit | ast.TupleLit) else ()
    return [item.value if isinstance(item, ast.Arg) else item for item in items]


# ---------------------------------------------------------------- attributes


def static(el: Elaborator, name: str, arg: ast.Arg, scope: Scope) -> Task:
    """The value of an argument that is an attribute."""
    e = arg.value
    if isinstance(e, ast.Name) and e.id in DTYPES:
        return STATIC[name](DTYPES[e.id], name, e.span)
    value = yield el.expr(e, scope)
    return STATIC[name](value, name, e.span)


def _int(value: Any, name: str, span: Span) -> int:
    number = plain_const(value) if isinstance(value, Node) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise error("F108", span, name=name, wanted="an integer known before the run")
    return number


def _decimals(value: Any, name: str, span: Span) -> int:
    number = _int(value, name, span)
    if abs(number) > 22:  # beyond, a power of ten is no float
        raise error("F108", span, name=name, wanted="an integer from -22 to 22")
    return number


def _axis(value: Any, name: str, span: Span) -> int | tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, Record):
        return tuple(_int(v, name, span) for v in value.items)
    if isinstance(value, Node) and value.op.name == "const" and value.rank == 1:
        return tuple(value.value)
    return _int(value, name, span)


def _axes(value: Any, name: str, span: Span) -> int | tuple[int, ...]:
    axes = _axis(value, name, span)
    if axes is None:
        raise error("F108", span, name=name, wanted="an integer or a tuple of integers")
    return axes


def _integers(value: Any, name: str, span: Span) -> Any:
    """An integer, or a tuple or list of such, to any depth."""
    if isinstance(value, Record):
        return tuple(_integers(v, name, span) for v in value.items)
    if isinstance(value, Node) and value.op.name == "const" and value.rank and value.dtype is I64:
        return value.value
    return _int(value, name, span)


def _nested_axes(value: Any, name: str, span: Span) -> Any:
    return None if value is None else _integers(value, name, span)


def _text(value: Any, name: str, span: Span) -> str:
    if isinstance(value, Text):
        return value.value
    raise error("F108", span, name=name, wanted="a string")


def _flag(value: Any, name: str, span: Span) -> bool:
    flag = plain_const(value) if isinstance(value, Node) else None
    if not isinstance(flag, bool):
        raise error("F108", span, name=name, wanted="True or False")
    return flag


def _real(value: Any, name: str, span: Span) -> float:
    number = plain_const(value) if isinstance(value, Node) else None
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise error("F108", span, name=name, wanted="a number known before the run")
    return float(number)


def _order(value: Any, name: str, span: Span) -> int:
    order = _int(value, name, span)
    if not 1 <= order <= 100:
        raise error("F108", span, name=name, wanted="an integer from 1 to 100")
    return order


def _dtype(value: Any, name: str, span: Span) -> Any:
    if value in DTYPES.values():
        return value
    raise error("F108", span, name=name, wanted="a dtype such as f64")


def _choice(*texts: str) -> Callable[[Any, str, Span], str]:
    """One of some words."""

    def choice(value: Any, name: str, span: Span) -> str:
        if isinstance(value, Text) and value.value in texts:
            return value.value
        raise error("F108", span, name=name, wanted=" or ".join(f'"{t}"' for t in texts))

    return choice


def _norm_order(value: Any, name: str, span: Span) -> float | str | None:
    """The order of a norm: a number, or one of two names."""
    if value is None:
        return None
    if isinstance(value, Text):
        return _choice("fro", "nuc")(value, name, span)
    return _real(value, name, span)


def _some_integers(value: Any, name: str, span: Span) -> Any:
    return None if value is None and name == "stride" else _integers(value, name, span)


def _padding(value: Any, name: str, span: Span) -> Any:
    return value.value if isinstance(value, Text) else _integers(value, name, span)


def _real_or_none(value: Any, name: str, span: Span) -> float | None:
    return None if value is None else _real(value, name, span)


#: The parameters that are attributes, with what makes them of what was given.
STATIC: dict[str, Callable[[Any, str, Span], Any]] = {
    "axis": _axis,
    "axes": _nested_axes,
    "subscripts": _text,
    "axis1": _int,
    "axis2": _int,
    "source": _axes,
    "destination": _axes,
    "keepdims": _flag,
    "reverse": _flag,
    "descending": _flag,
    "endpoint": _flag,
    "equal_nan": _flag,
    "ddof": _int,
    "decimals": _decimals,
    "rtol": _real,
    "atol": _real,
    "slope": _real,
    "alpha": _real,
    "order": _order,
    "k": _int,
    "lower": _flag,
    "trans": _flag,
    "dtype": _dtype,
    "reps": _integers,
    "pad_width": _integers,
    "ord": _norm_order,
    "rcond": _real_or_none,
    "size": _some_integers,
    "stride": _some_integers,
    "dilation": _some_integers,
    "padding": _padding,
    "lower_bound": _real,
    "upper_bound": _real,
    "full_matrices": _flag,
    "side": _choice("left", "right"),
    "indexing": _choice("xy", "ij"),
    "mode": _choice("constant", "edge", "reflect", "symmetric", "wrap", "reduced", "complete", "r"),
    "method": _choice("linear", "lower", "higher", "midpoint", "nearest"),
}


# ---------------------------------------------------------------- sizes


def shape(el: Elaborator, e: ast.Expr, scope: Scope, extra: list[Node]) -> Task:
    """A shape argument: sizes known before the run, and inputs for the others (see `ops.shape`)."""
    parts: Sequence[ast.Expr] = items_of(e) if isinstance(e, ast.ListLit | ast.TupleLit) else [e]
    out: list[Dim] = []
    runtime: list[int] = []
    for part in parts:
        x = yield el.node(part, scope)
        size = as_size(x, part.span, least=-1)
        if size is None:
            runtime.append(len(out))
            extra.append(x.cast(I64))
            size = unknown_dim()
        out.append(size)
    return tuple(out), tuple(runtime)


def as_size(x: Node, span: Span, least: int = 0) -> Dim | None:
    """A scalar integer as a size; None if only the run knows it."""
    if x.rank or not x.dtype.is_integer:
        raise error("T157", span, found=x.type)
    size = as_dim(x)
    if size is not None and size.is_const and size.const < least:
        raise error("T159", span, size=size)
    return size
