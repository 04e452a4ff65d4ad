"""Givens: one simultaneous substitution, of a function or of one expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.declared import constant
from tlang.elaborate.drafts import Work, def_key, key_of, renamer
from tlang.elaborate.scope import KIND, Def, EquationDef, LocalDef, Scope
from tlang.elaborate.values import Record
from tlang.errors import TlangError, error, moved
from tlang.graph.node import Node, toposort
from tlang.syntax import ast
from tlang.types import Dim, Tensor, fresh_symbol

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


def given_names(clauses: Sequence[ast.Clause], scope: Scope, el: Elaborator) -> frozenset[str]:
    """The equations that the clauses' givens replace: stabilisation must not look through them."""
    names = set()
    for c in clauses:
        if isinstance(c, ast.GivenClause):
            for b in c.bindings:
                found = el.resolve(b.target, scope)
                if isinstance(found, EquationDef):
                    names.add(found.key)
                elif found is None and isinstance(b.target, ast.Name):
                    names.add(f"{scope.owner.key}.{b.target.id}")
    return frozenset(names)


def apply_givens(work: Work, values: Sequence[tuple[ast.Binding, Def, Node]], command: bool = False) -> None:
    """One simultaneous substitution; right sides are those of the graph before it."""
    if not values:
        return
    el = work.el
    mapping: dict[tuple[str, str], tuple[ast.Binding, Node, Tensor]] = {}
    there = {key_of(n): n for n in toposort([*work.roots(), *work.reads])}
    for b, found, value in values:
        key = def_key(found)
        text = b.target.span.text
        if key is None:
            hint = "pass another argument instead" if isinstance(found, LocalDef) else None
            raise error("F150", b.target.span, name=text, kind=KIND[type(found)], hint=hint)
        if isinstance(found, EquationDef) and found.name in found.scope.unit.dims:
            raise error("F151", b.target.span, name=text)
        if (
            isinstance(found, EquationDef)
            and constant(found.scope.unit, found.name) is not None
            and _is_dimension(found)
        ):
            raise error("F151", b.target.span, name=text)
        if key not in there:
            raise error("F152", b.span, name=text)
        if key in mapping:
            raise error("F153", b.span, name=text)
        kind = there[key].type.strong()
        if value.op.name == "const" or (value.type.weak):
            value = el.convert(value, kind.dtype, b.value.span)
        elif value.dtype != kind.dtype:
            if not command:
                raise error(
                    "F154", b.value.span, name=text, wanted=kind.declared(), found=el.type_text(value)
                )
            value = el.convert(value, kind.dtype, b.value.span)
        if value.rank != kind.rank:
            raise error("F154", b.value.span, name=text, wanted=kind.declared(), found=el.type_text(value))
        mapping[key] = (b, value, kind)
    names = {s for _, _, kind in mapping.values() for d in kind.shape for s in d.symbols() if s.rigid}
    rename = {s: Dim.of(fresh_symbol(s.name)) for s in names}
    items = list(mapping.items())
    if rename:
        change = renamer(rename)
        count = len(work.reads)
        work.reads += [value for _, (_, value, _) in items]
        el.graph.solver.rename(change)
        work.map(lambda n, _: None, change)
        items = [
            (key, (b, v, kind.with_shape(map(change, kind.shape))))
            for (key, (b, _, kind)), v in zip(items, work.reads[count:], strict=True)
        ]
        del work.reads[count:]
    for _, (b, value, kind) in items:
        el.fit(value, kind, b.value.span, f"`{b.target.span.text}`")
    try:
        work.replace_keys({key: value for key, (_, value, _) in items})
    except TlangError as e:
        raise moved(e, values[0][0].span, "in this formula") from None
    work.reads = [n for n in work.reads if key_of(n) not in mapping]


def _is_dimension(found: EquationDef) -> bool:
    """Whether an integer constant stands in some type of its file."""
    return found.name in found.scope.unit.constant_dims


def given(el: Elaborator, e: ast.Given, scope: Scope) -> Task:
    """`expr given a = 1`: the bindings replace reads in this expression alone."""
    targets = [(b, el.target(b.target, scope)) for b in e.bindings]
    names = frozenset(d.key for _, d in targets if isinstance(d, EquationDef))
    before, el.opaque = el.opaque, el.opaque | names
    inner = Scope(scope.unit, "inline", scope, caller=scope) if scope.is_command() else scope
    value = yield el.expr(e.expr, inner)
    items = list(value.items) if isinstance(value, Record) else [el.as_node(value, e.expr.span)]
    bindings = []
    for b, found in targets:
        bindings.append((b, found, (yield el.node(b.value, scope))))
    el.opaque = before
    work = Work(el, [], items, {})
    work.reads = list(el.leaves)
    apply_givens(work, bindings, command=scope.is_command())
    gone = {def_key(found) for _, found in targets}
    for leaf in [n for n in el.leaves if key_of(n) in gone]:
        if not any(leaf is n for n in toposort(work.outputs)):
            del el.leaves[leaf]
    return Record(value.fields, tuple(work.outputs)) if isinstance(value, Record) else work.outputs[0]
