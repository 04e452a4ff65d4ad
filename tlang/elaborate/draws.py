"""Draws: `s.dist(args)` with a declared type, as one node."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeAlias

from tlang.elaborate.arguments import bind, listed
from tlang.elaborate.scope import Scope, StreamDef, UnitDef
from tlang.elaborate.values import as_dim, plain_const
from tlang.errors import TlangError, did_you_mean, error, placed
from tlang.graph.node import OPS, Node
from tlang.graph.ops.random import DISTRIBUTIONS, PUBLIC, Distribution, Parameter
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import F32, F64, I64, Mismatch, Tensor

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator

Task: TypeAlias = Generator[Any, Any, Any]


def draw(el: Elaborator, e: ast.Expr, kind: Tensor, key: str, scope: Scope, span: Span) -> Task:
    """The draw of `s.dist(args)` or `dist(args)` with a declared type."""
    call, row, bound = _parsed(el, e, scope)
    if kind.dtype.kind not in row.kinds:
        raise error("T160", e.span, name=row.name, found=kind, kinds=row.dtypes)
    replace = bound.get("replace") if row.name == "choice" else None
    if replace is not None and not (yield _flag(el, replace, scope)):
        row = DISTRIBUTIONS["choice without replacement"]
    params, operands = [], []
    for p in row.params:
        arg = bound.get(p.name)
        if arg is not None and not (p.optional and isinstance(arg.value, ast.NoneLit)):
            x = yield el.node(arg.value, scope)
            params.append(_converted(el, x, p, kind, row, arg.span))
            operands.append(arg.value)
        elif not p.optional:
            assert p.default is not None
            dtype = kind.dtype if p.kind == "own" else F64
            params.append(el.graph.const(p.default, Tensor(dtype), call.span))
            operands.append(call)
    try:
        made = el.graph.make(
            OPS["draw"], params, span, kind=kind, distribution=row.name, variable=key, state=key, held=False
        )
        if row.name == "permutation":
            _same_size(el, made)
    except Mismatch as failure:
        raise el.mismatch(failure, params, e.span, scope, operands) from None
    except TlangError as failure:
        raise placed(failure, e.span, scope.uses()) from None
    known = {s for x in params for d in x.shape for s in d.symbols()}
    for d in made.shape:
        if any(not s.rigid and s not in known for s in d.symbols()):
            raise error("T145", span, name=d, function=key)
    return made


def _parsed(el: Elaborator, e: ast.Expr, scope: Scope) -> tuple[ast.Call, Distribution, dict[str, ast.Arg]]:
    """The call, its row, and its arguments by name."""
    if not isinstance(e, ast.Call):
        raise error("F122", e.span, hint="write `normal(0, 1)`, or `s.normal(0, 1)` for a stream s")
    name_node = e.func.name if isinstance(e.func, ast.Field) else e.func
    if isinstance(e.func, ast.Field):
        stream = el.resolve(e.func.base, scope)
        if not isinstance(stream, StreamDef):
            if isinstance(stream, UnitDef):
                raise error(
                    "F122", e.span, hint="a stream of an import is written `alias.stream.normal(...)`"
                )
            raise error("F123", e.func.base.span, name=e.func.base.span.text)
    if not isinstance(name_node, ast.Name) or name_node.id not in PUBLIC:
        near = did_you_mean(name_node.id, PUBLIC) if isinstance(name_node, ast.Name) else None
        hint = f"did you mean `{near}`?" if near else f"there are {listed(PUBLIC)}"
        raise error("F124", name_node.span, name=name_node.span.text, hint=hint)
    row = DISTRIBUTIONS[name_node.id]
    names = [*row.names, "replace"] if row.name == "choice" else row.names
    required = [p.name for p in row.params if p.default is None and not p.optional]
    return e, row, bind(e, f"`{row.name}`", names, required)


def _flag(el: Elaborator, arg: ast.Arg, scope: Scope) -> Task:
    value = yield el.expr(arg.value, scope)
    flag = plain_const(value) if isinstance(value, Node) else None
    if not isinstance(flag, bool):
        raise error("F108", arg.span, name="replace", wanted="True or False")
    return flag


def _converted(el: Elaborator, x: Node, p: Parameter, kind: Tensor, row: Distribution, span: Span) -> Node:
    """A parameter in the dtype that its row wants."""
    if p.kind == "own":
        return el.convert(x, kind.dtype, span)
    if p.kind == "real":
        return x if x.dtype is F32 and not x.type.weak else el.convert(x, F64, span)
    if p.kind == "integer":
        return el.convert(x, I64, span)
    if p.place == "items" and not x.rank:  # the number of items, which are integers
        if not kind.dtype.is_integer:
            raise error("T160", span, name=f"{row.name}` of integers`"[:-1], found=kind, kinds="integers")
        return el.convert(x, I64, span)
    return el.convert(x, kind.dtype, span)


def _same_size(el: Elaborator, made: Node) -> None:
    """The last axis of a permutation is as long as its parameter says, where that is known."""
    size, last = as_dim(made.inputs[0]), made.shape[-1]
    if size is not None and not el.graph.solver.unify(last, size):
        raise Mismatch("T101", [(0, "of `n`", size), (-1, "of the draw", last)])
