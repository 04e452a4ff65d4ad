"""Indices and list literals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlang.elaborate.scope import Scope
from tlang.elaborate.values import Record, as_dim, plain_const
from tlang.errors import Label, error
from tlang.graph.node import Node, is_const
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import BOOL, F64, I64, U64, Dim, Tensor, promote

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


def index(el: Elaborator, e: ast.Index, scope: Scope) -> Task:
    """`x[i, 1:, None, ...]`, and `[k]` of a record."""
    base = yield el.expr(e.base, scope)
    if isinstance(base, Record):
        k = (
            (yield el.node(e.subs[0], scope))
            if len(e.subs) == 1 and not isinstance(e.subs[0], ast.Slice | ast.EllipsisLit)
            else None
        )
        count = len(base.items)
        if k is None or not is_const(k) or k.dtype is not I64:
            raise error("T154", e.span, count=count)
        if not -count <= k.value < count:
            raise error("T152", e.span, index=k.value, size=count, axis=0)
        return base.items[k.value]
    x = el.as_node(base, e.base.span)
    inputs = [x]
    spec = yield index_spec(el, e.subs, x, inputs, scope)
    return el.op("index", inputs, e.span, scope, [e.base], spec=spec)


def stored(
    el: Elaborator,
    name: str,
    x: Node,
    value: Node,
    subs: Sequence[ast.Subscript],
    span: Span,
    operands: Sequence[ast.Expr],
    scope: Scope,
) -> Task:
    """`set_at` or `add_at` of x with a value at `x[subs]`; one mask is a `where`."""
    only = None
    if len(subs) == 1 and not isinstance(subs[0], ast.Slice | ast.EllipsisLit | ast.NoneLit):
        only = yield el.node(subs[0], scope)
        if only.dtype is BOOL and only.rank:
            return _masked(el, name, x, value, only, span, scope, [subs[0], *operands])
    inputs = [x, value]
    spec = yield index_spec(el, subs, x, inputs, scope, only)
    return el.op(name, inputs, span, scope, operands, spec=spec)


def _masked(
    el: Elaborator,
    name: str,
    x: Node,
    value: Node,
    mask: Node,
    span: Span,
    scope: Scope,
    operands: Sequence[ast.Expr],
) -> Node:
    """The value where the mask, of the first axes of x, is True; it stretches along the others."""
    fits = mask.rank <= x.rank and all(map(el.graph.solver.unify, mask.shape, x.shape[: mask.rank]))
    if not fits:
        raise error("T164", operands[0].span, found=mask.type, tensor=x.type)
    if value.rank > x.rank - mask.rank:
        rest = Tensor(x.dtype, x.shape[mask.rank :])
        raise error("T153", operands[-1].span, found=value.type, place=rest)
    if x.rank > mask.rank:
        mask = mask.apply("expand_dims", axis=tuple(range(mask.rank, x.rank)))
    if name == "add_at":
        value = el.op("add", [x, value], span, scope)
    made = el.op("where", [mask, value, x], span, scope)
    if not all(map(el.graph.solver.unify, made.shape, x.shape)):
        raise error("T153", operands[-1].span, found=value.type, place=x.type)
    return made


def index_spec(
    el: Elaborator,
    subs: Sequence[ast.Subscript],
    x: Node,
    inputs: list[Node],
    scope: Scope,
    only: Node | None = None,
) -> Task:
    """The entries of an index (see `tlang.graph.ops.indexing`); nodes are appended to `inputs`.

    `only` is the value of the one subscript, if it is known already.
    """
    used = sum(not isinstance(s, ast.NoneLit | ast.EllipsisLit) for s in subs)
    out: list[tuple[Any, ...]] = []
    seen = False
    for s in subs:
        if isinstance(s, ast.EllipsisLit):
            if seen:
                raise error("T155", s.span)
            seen = True
            out += [("slice", None, None, 1)] * max(0, x.rank - used)
        elif isinstance(s, ast.NoneLit):
            out.append(("new",))
        elif isinstance(s, ast.Slice):
            out.append((yield slice_bounds(el, s, inputs, scope)))
        else:
            i = only if only is not None else (yield el.node(s, scope))
            if is_const(i) and i.dtype is I64:
                out.append(("int", i.value))
                continue
            if i.dtype is BOOL:
                raise error("T156", s.span, hint="write `where(mask, x, y)`, or `sum(where(mask, x, 0))`")
            if not i.dtype.is_integer:
                raise error("T151", s.span, found=i.type)
            inputs.append(i.cast(I64) if i.type.weak else i)
            out.append(("input", len(inputs) - 1))
    return tuple(out)


def slice_bounds(el: Elaborator, s: ast.Slice, inputs: list[Node], scope: Scope) -> Task:
    """A slice's bounds: sizes where they are known before the run, else inputs."""
    bounds: list[Any] = []
    for part in (s.start, s.stop):
        if part is None or isinstance(part, ast.NoneLit):
            bounds.append(None)
            continue
        bound = yield el.node(part, scope)
        if bound.rank or not bound.dtype.is_integer:
            raise error("T157", part.span, found=bound.type)
        size = as_dim(bound)
        if size is None:
            inputs.append(bound.cast(I64))
            bounds.append(("input", len(inputs) - 1))
        else:
            bounds.append(size)
    step = 1
    if s.step is not None:
        value = plain_const((yield el.node(s.step, scope)))
        if not isinstance(value, int) or isinstance(value, bool) or value == 0:
            raise error("T158", s.step.span)
        step = value
    return ("slice", *bounds, step)


def list_literal(el: Elaborator, e: ast.ListLit, scope: Scope) -> Task:
    """`[a, b]`: of literals a constant, else a stack."""
    nodes = []
    for item in e.items:
        nodes.append((yield el.node(item, scope)))
    if not nodes:
        return el.graph.const((), Tensor(F64, (Dim(0),)), e.span)
    if all(n.op.name == "const" for n in nodes):
        shapes = [n.type.shape for n in nodes]
        odd = next((i for i, s in enumerate(shapes) if s != shapes[0]), None)
        if odd is not None:
            words = [
                f"shape ({', '.join(map(str, s))})" if s else "one number" for s in (shapes[0], shapes[odd])
            ]
            raise error(
                "T142",
                e.items[odd].span,
                first=words[0],
                other=words[1],
                labels=[Label(e.items[0].span, f"has {words[0]}")],
            )
        bools = [n.dtype is BOOL for n in nodes]
        if any(bools) and not all(bools):
            raise error("T143", e.items[bools.index(not bools[0])].span)
        dtype = promote([n.type.strong() for n in nodes])
        if dtype is I64 and any(n.rank == 0 and n.value >= 2**63 for n in nodes):
            dtype = U64
        kind = Tensor(dtype, (Dim(len(nodes)), *shapes[0]))
        return el.graph.const(tuple(n.value for n in nodes), kind, e.span)
    nodes = [n.cast(n.dtype) if n.type.weak and all(m.type.weak for m in nodes) else n for n in nodes]
    return el.op("stack", nodes, e.span, scope, e.items, axis=0)
