"""Calls of functions: expanded in formulas, steps in commands; a callee's dimensions are renamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tlang.elaborate.arguments import bind
from tlang.elaborate.drafts import Draft, renamer, with_sizes
from tlang.elaborate.scope import FunctionDef, Scope
from tlang.elaborate.values import Record
from tlang.errors import Label, TlangError, error, moved
from tlang.graph.node import Node, Param, rebuild
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import Dim, Mismatch, Symbol, fresh_symbol

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


def call(el: Elaborator, e: ast.Call, found: FunctionDef, scope: Scope) -> Task:
    """A call: expanded in a formula, where the function must have no effects; a step in a command."""
    draft = el.program.draft(found, el.opaque)
    args = yield arguments(el, e, draft, scope)
    if scope.kind == "command":
        return el.command_call(draft, args, e, scope)
    check_pure(draft, e.span, scope)
    nodes = inline(el, draft, args, e, scope)
    return nodes[0] if draft.fields is None else Record(draft.fields, tuple(nodes))


def check_pure(draft: Draft, span: Span, scope: Scope) -> None:
    """A function with effects is a command, and no part of a formula."""
    if draft.has_effects:
        what = "updates" if draft.updates else "draws from"
        names = ", ".join(f"`{k}`" for k in (draft.updates or draft.advances()))
        raise error(
            "F140",
            span,
            name=draft.definition.name,
            what=what,
            names=names,
            labels=scope.uses(),
            hint=f"write `set r = {draft.definition.name}(...)` at top level",
        )


def arguments(el: Elaborator, e: ast.Call, draft: Draft, scope: Scope) -> Task:
    """The arguments as nodes of the parameters' dtypes, by name; defaults are left out."""

    what = f"`{draft.definition.name}`"
    required = [p.name for p in draft.params if p.default is None]
    bound = bind(e, what, [p.name for p in draft.params], required)
    out: dict[str, tuple[Node, Span]] = {}
    for p in draft.params:
        if p.name in bound:
            arg = bound[p.name].value
            out[p.name] = argument(el, draft, p, (yield el.node(arg, scope)), arg.span, scope)
    return out


def argument(el: Elaborator, draft: Draft, p: Param, x: Node, span: Span, scope: Scope) -> tuple[Node, Span]:
    """An argument as a node of the parameter's dtype and rank."""
    if x.rank != p.node.rank:
        raise error(
            "T107",
            span,
            what=f"`{p.name}` of `{draft.definition.name}`",
            wanted=p.node.type.declared(),
            found=el.type_text(x),
            labels=scope.uses(),
        )
    return el.convert(x, p.node.dtype, span), span


class Instance:
    """One use of a draft: its dimensions renamed and tied to the arguments' sizes.

    In a formula the callee's state is the caller's, so the sizes of state keep their names. A call
    that stands apart (in a command) leaves them to the check at its entry.
    """

    def __init__(
        self,
        el: Elaborator,
        draft: Draft,
        args: Mapping[str, tuple[Node, Span]],
        span: Span,
        apart: bool = False,
    ) -> None:
        self.el = el
        state = [n for n in draft.reads if n.op.name == "shared" and not apart]
        keep = {s for n in state for d in n.type.shape for s in d.symbols()}
        self._rename: dict[Symbol, Dim] = {s: Dim.of(s) for s in keep}
        self.args: dict[Node, Node] = {}
        self.sources: list[tuple[Node, int]] = []
        name = draft.definition.name
        origin: dict[Symbol, Label] = {}
        for p in draft.params:
            x, where = args.get(p.name) or (self._default(p), span)
            kind = p.node.type.with_shape(map(self.dim, p.node.type.shape))
            el.fit(
                x,
                kind,
                where,
                f"`{p.name}` of `{name}`",
                *([Label(p.node.span, f"{p.name} : {p.node.type.declared()}")] if p.node.span else []),
                *(origin[s] for d in p.node.type.shape for s in d.symbols() if s in origin),
            )
            for s in (s for d in p.node.type.shape for s in d.symbols() if s.name != "_"):
                origin.setdefault(s, Label(where, f"`{s.name}` is the size of this, `{p.name}`"))
            self.args[p.node] = x
            self.sources += [(x, axis) for axis in range(x.rank)]

    def _default(self, p: Param) -> Node:
        assert p.default is not None
        return rebuild([p.default], lambda n, _: None, self.el.graph)[0]

    def dim(self, dim: Dim) -> Dim:
        """A size of the draft as a size of the caller."""
        for s in dim.symbols():
            if s not in self._rename:
                self._rename[s] = Dim.of(fresh_symbol(s.name))
        return self.el.graph.solver.resolve(renamer(self._rename)(dim))


def inline(
    el: Elaborator, draft: Draft, args: Mapping[str, tuple[Node, Span]], e: ast.Expr, scope: Scope
) -> list[Node]:
    """The outputs of a call as nodes of the caller's graph."""
    instance = Instance(el, draft, args, e.span)

    def put(node: Node, new: tuple[Node, ...]) -> Node | None:
        if node in instance.args:
            return instance.args[node]
        return with_sizes(el, node, new, instance.dim, instance.sources)

    try:
        nodes = rebuild(draft.outputs, put, el.graph, instance.dim)
    except Mismatch as failure:
        raise el.mismatch(failure, (), e.span, scope, ()) from None
    except TlangError as failure:
        raise moved(failure, e.span, f"in `{draft.definition.name}`") from None
    params = {p.node for p in draft.params}
    for n in draft.reads:
        if n not in params:
            leaf = rebuild([n], put, el.graph, instance.dim)[0]
            el.read(leaf, e.span, scope)
    return nodes
