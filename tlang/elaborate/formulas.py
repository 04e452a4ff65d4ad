"""Calls of operations that are formulas (see `tlang.graph.ops.formula`): arguments bound, formula put in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlang.elaborate import options
from tlang.elaborate.arguments import bind
from tlang.elaborate.scope import Scope
from tlang.elaborate.values import Record
from tlang.errors import TlangError, error, placed
from tlang.graph.node import Node
from tlang.graph.ops.formula import SIZES, Formula, Size
from tlang.graph.ops.rules import unknown_dim
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import I64, Dim, Mismatch, Tensor

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


def call(el: Elaborator, e: ast.Call, row: Formula, scope: Scope) -> Task:
    """The formula of a row with the arguments of a call."""
    params = options.signature(row.name)
    names = [p.lstrip("*") for p, _ in params]
    required = [p.lstrip("*") for p, d in params if d is options.REQUIRED]
    star = next((k for k, (p, _) in enumerate(params) if p.startswith("*")), None)
    if star is not None:
        e = _listed(e, star)
    bound = bind(e, f"`{row.name}`", names, required)
    values: dict[str, Any] = {}
    operands: list[tuple[Node, ast.Expr]] = []
    for param, default in params:
        plain = param.lstrip("*")
        arg = bound.get(plain)
        if arg is None:
            values[plain] = _size_of(el, default, e.span) if plain in SIZES else default
        elif plain in options.STATIC:
            values[plain] = yield options.static(el, plain, arg, scope)
        elif default is None and isinstance(arg.value, ast.NoneLit):
            values[plain] = None
        else:
            items = options.items_of(arg.value) if param.startswith("*") else [arg.value]
            nodes = []
            for item in items:
                if isinstance(item, ast.TupleLit):  # several shifts, sections, parts: a tuple is a list here
                    item = ast.ListLit(tuple(options.items_of(item)), item.span)
                nodes.append((yield el.node(item, scope)))
                operands.append((nodes[-1], item))
            if param.startswith("*"):
                values[plain] = nodes
            else:
                values[plain] = _sized(nodes[0], arg.value.span) if plain in SIZES else nodes[0]
    try:
        with el.graph.at(e.span):
            made = row.define(**values)
    except Mismatch as failure:
        raise _unfit(failure, e.span) from None
    except TlangError as failure:
        notes = el.describe([n for n, _ in operands], [x for _, x in operands])
        raise placed(failure, e.span, scope.uses(), notes) from None
    return made if isinstance(made, Node) else Record(tuple(made), tuple(made.values()))


def _listed(e: ast.Call, star: int) -> ast.Call:
    """`meshgrid(x, y)` as `meshgrid((x, y))`: the arguments from the starred one on as one."""
    plain = tuple(a for a in e.args if a.name is None)
    if len(plain) <= star:
        return e
    span = plain[star].span.to(plain[-1].span)
    rest = ast.Arg(None, ast.TupleLit(plain[star:], span), span)
    return ast.Call(e.func, (*plain[:star], rest, *(a for a in e.args if a.name is not None)), e.span)


def _sized(x: Node, span: Span) -> Size:
    """A scalar integer as a size."""
    dim = options.as_size(x, span)
    return Size(dim if dim is not None else unknown_dim(), x.cast(I64))


def _size_of(el: Elaborator, default: int | None, span: Span) -> Size | None:
    """The default of a size."""
    if default is None:
        return None
    return Size(Dim(default), el.graph.const(default, Tensor(I64), span))


def _unfit(failure: Mismatch, span: Span) -> TlangError:
    """Two sizes inside of a formula that differ."""
    notes = [f"{words} {dim}" for _, words, dim in failure.sides]
    return error(failure.code, span, notes=notes, hint=failure.hint)
