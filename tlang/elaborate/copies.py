"""Copies of functions: `copy f where { swap a = b; drop updates; hold r; given x = e }`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.drafts import Draft, Work, advances_of, apply_holds, check_free, finish_draft
from tlang.elaborate.expressions import Elaborator
from tlang.elaborate.givens import apply_givens, given_names
from tlang.elaborate.scope import KIND, FunctionDef, RandomDef, Scope, SharedDef, StreamDef
from tlang.errors import error
from tlang.graph.node import Node
from tlang.syntax import ast

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


def elaborate_copy(program: Program, found: FunctionDef, decl: ast.CopyDecl, opaque: frozenset[str]) -> Draft:
    """`copy f where { swap a = b; drop updates; given ...; hold ... }`."""
    unit = found.unit
    scope = Scope(unit, "function", unit.scope, found)
    el = Elaborator(program, opaque)
    source = el.target(decl.source, scope)
    if not isinstance(source, FunctionDef):
        raise error("F160", decl.source.span, name=decl.source.span.text, kind=KIND[type(source)])
    opaque = opaque | given_names(decl.clauses, scope, el)
    el.opaque = opaque
    draft = program.draft(source, opaque)
    work = Work(el, list(draft.params), list(draft.outputs), dict(draft.updates))
    work.reads = list(draft.reads)
    work.map(lambda n, _: None, None, el.graph)
    for c in decl.clauses:
        if isinstance(c, ast.Equation | ast.Template | ast.Update):
            raise error("F161", c.span)
        if isinstance(c, ast.Drop):
            _drop(work, c, scope)
    _swap(work, [pair for c in decl.clauses if isinstance(c, ast.Swap) for pair in c.pairs], scope)
    bindings = [b for c in decl.clauses if isinstance(c, ast.GivenClause) for b in c.bindings]
    values = [(b, el.target(b.target, scope), el.evaluate_node(b.value, scope)) for b in bindings]
    work.reads += [n for n in el.leaves if n not in work.reads]
    apply_givens(work, values)
    apply_holds(work, decl.clauses, scope)
    check_free(work, found)
    return finish_draft(work, found, draft.fields)


def _drop(work: Work, c: ast.Drop, scope: Scope) -> None:
    if c.names is None:
        if not work.updates and not advances_of(work.roots()):
            raise error("F155", c.span, what="drop updates")
        work.updates = {}
        work.hold(None)
        return
    for name in c.names:
        target = work.el.target(name, scope)
        key = target.key if isinstance(target, SharedDef) else ""
        if key not in work.updates:
            raise error("F155", name.span, what=f"drop {name.span.text}")
        del work.updates[key]


def _swap(
    work: Work, pairs: Sequence[tuple[ast.Name | ast.Field, ast.Name | ast.Field]], scope: Scope
) -> None:
    """Reads and updates of one state become those of another, all pairs at once."""
    el = work.el
    shared: dict[str, SharedDef] = {}
    states: dict[str, str] = {}
    streams: dict[str, StreamDef] = {}
    for a, b in pairs:
        old, new = el.target(a, scope), el.target(b, scope)
        span = a.span.to(b.span)
        if isinstance(old, SharedDef) and isinstance(new, SharedDef):
            kinds = [el.program.shared_type(d, s.span) for d, s in ((old, a), (new, b))]
            if (
                kinds[0].dtype != kinds[1].dtype
                or kinds[0].rank != kinds[1].rank
                or any(
                    x.is_const and y.is_const and x != y
                    for x, y in zip(kinds[0].shape, kinds[1].shape, strict=True)
                )
            ):
                raise error(
                    "F162",
                    span,
                    a=a.span.text,
                    b=b.span.text,
                    left=kinds[0].declared(),
                    right=kinds[1].declared(),
                )
            shared[old.key] = new
        elif isinstance(old, RandomDef) and isinstance(new, RandomDef):
            states[old.key] = new.key
        elif isinstance(old, StreamDef) and isinstance(new, StreamDef):
            streams[old.key] = new
        elif isinstance(old, SharedDef | RandomDef) and isinstance(new, SharedDef | RandomDef):
            left, right = (f"a {KIND[type(d)]}" for d in (old, new))
            raise error("F162", span, a=a.span.text, b=b.span.text, left=left, right=right)
        else:
            odd, name = (old, a) if not isinstance(old, SharedDef | RandomDef | StreamDef) else (new, b)
            raise error("F163", name.span, name=name.span.text, kind=KIND[type(odd)])
    if not pairs:
        return
    seen: set[str] = set()

    def swapped(node: Node, new: tuple[Node, ...]) -> Node | None:
        if node.op.name == "shared" and node.attr("name") in shared:
            seen.add(node.attr("name"))
            return el.shared(shared[node.attr("name")], node.span or pairs[0][0].span)
        if node.op.name != "draw":
            return None
        state = node.attr("state")
        stream = el.program.stream_of_state(state)
        if state in states:
            seen.add(state)
            state = states[state]
        elif stream is not None and stream.key in streams:
            seen.add(stream.key)
            state = el.program.state_in(state, streams[stream.key])
        else:
            return None
        return el.graph.make(node.op, new, node.span, **(dict(node.attrs) | {"state": state}))

    before = list(work.updates)
    work.map(swapped)
    seen.update(k for k in before if k in shared)
    for a, _ in pairs:
        old = el.target(a, scope)
        if isinstance(old, SharedDef | RandomDef | StreamDef) and old.key not in seen:
            raise error("F155", a.span, what=f"swap {a.span.text}")
    keys = [shared[k].key if k in shared else k for k in before]
    twice = next((k for k in keys if keys.count(k) > 1), None)
    if twice is not None:
        raise error("F116", pairs[0][0].span, name=twice)
    work.updates = dict(zip(keys, work.updates.values(), strict=True))
