"""Functions: parameters, outputs, updates, givens, holds, copies; and their calls in formulas.

A function is elaborated once into a :class:`Draft`, in a graph of its own with its names kept, so
that givens of callers still find them. A call in a formula puts the draft's graph in the caller's,
its dimensions renamed; `finish` turns a draft into the function that backends see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.copies import elaborate_copy
from tlang.elaborate.declared import tensor_type
from tlang.elaborate.drafts import Draft, Work, apply_holds, check_free, finish_draft, strong
from tlang.elaborate.expressions import Elaborator
from tlang.elaborate.givens import apply_givens, given_names
from tlang.elaborate.indices import stored
from tlang.elaborate.scope import (
    KIND,
    Def,
    EquationDef,
    FunctionDef,
    LocalDef,
    RandomDef,
    Scope,
    SharedDef,
    StreamDef,
    TemplateDef,
    TensorDef,
    Unit,
)
from tlang.elaborate.trampoline import trampoline
from tlang.elaborate.values import Record
from tlang.errors import Label, TlangError, diagnostic, error
from tlang.graph.node import Node, Param, toposort
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import Tensor

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


def elaborate(program: Program, found: FunctionDef, opaque: frozenset[str]) -> Draft:
    """The draft of a function or a copy; `opaque` are equations that a caller's givens replace."""
    if isinstance(found.decl, ast.CopyDecl):
        return elaborate_copy(program, found, found.decl, opaque)
    decl, unit = found.decl, found.unit
    scope = Scope(unit, "function", unit.scope, found)
    cut = {
        f"{d.key}"
        for p in decl.params
        if p.type is None and isinstance(d := unit.scope.names.get(p.name.id), EquationDef)
    }
    el = Elaborator(program, opaque | cut | given_names(decl.clauses, scope, Elaborator(program)))
    el.mentioned.clear()
    params, cuts = _params(el, decl, scope)
    _locals(el, decl, scope, found)
    outputs, fields = _outputs(el, decl, scope)
    updates = _updates(el, decl.clauses, scope)
    if not outputs and not updates and decl.body is None:
        raise error("F111", decl.span, name=found.name)
    work = Work(el, params, outputs, updates)
    bindings = [b for c in decl.clauses if isinstance(c, ast.GivenClause) for b in c.bindings]
    values = [(b, el.target(b.target, scope), el.evaluate_node(b.value, scope)) for b in bindings]
    for b in bindings:
        if any(p.name.id == b.target.span.text for p in decl.params):
            raise error("F150", b.target.span, name=b.target.span.text, kind="parameter")
    used = set(el.mentioned)
    work.reads = list(el.leaves)
    work.replace_keys(cuts)
    apply_givens(work, values)
    apply_holds(work, decl.clauses, scope)
    for local in scope.names.values():
        if isinstance(local, EquationDef):
            el.evaluate(ast.Name(local.name, local.span), scope)
    check_free(work, found)
    _check_unused(el, decl, scope, params, used)
    return finish_draft(work, found, fields)


def _params(
    el: Elaborator, decl: ast.FunctionDecl, scope: Scope
) -> tuple[list[Param], dict[tuple[str, str], Node]]:
    """The parameters' leaves, and what is cut: equations that a parameter stands for."""
    unit = scope.unit
    params: list[Param] = []
    cuts: dict[tuple[str, str], Node] = {}
    seen: dict[str, Span] = {}
    for p in decl.params:
        name = p.name.id
        if name in seen:
            raise error("N108", p.name.span, name=name, labels=[Label(seen[name], "first here")])
        seen[name] = p.name.span
        if p.type is not None:
            kind = tensor_type(unit, p.type)
            leaf = el.graph.leaf("tensor", kind, p.span, name=f"{decl.name.id}({name})")
            scope.names[name] = LocalDef(name, p.name.span, leaf)
        else:
            found = unit.scope.names.get(name)
            if isinstance(found, TensorDef):
                leaf = el.graph.leaf("tensor", found.type, found.span, name=found.key)
            elif isinstance(found, EquationDef):
                formula = el.evaluate_node(p.name, unit.scope)
                el.mentioned.discard(found)
                kind = formula.type.strong().with_shape(formula.shape)
                leaf = el.graph.leaf("tensor", kind, p.span, name=f"{decl.name.id}({name})")
                cuts["named", found.key] = leaf
            elif found is None:
                raise error("F112", p.name.span, name=name, hint=f"write its type: `{name}: f64`")
            else:
                hint = (
                    f"use `given {name} = ...` to replace it"
                    if isinstance(found, SharedDef | RandomDef)
                    else "give the parameter another name, or a type"
                )
                raise error("F113", p.name.span, name=name, kind=KIND[type(found)], hint=hint)
        default = None
        if p.default is not None:
            default = _constant(el, p, leaf.type, unit)
        params.append(Param(name, leaf, default))
    return params, cuts


def _constant(el: Elaborator, p: ast.Param, kind: Tensor, unit: Unit) -> Node:
    """A default value: a formula of constants alone."""
    assert p.default is not None
    inner = Elaborator(el.program)
    x = inner.evaluate_node(p.default, unit.scope)
    if any(n.op.name in ("tensor", "shared", "value", "draw", "dim") for n in toposort([x])):
        raise error("F114", p.default.span, name=p.name.id)
    x = inner.convert(x, kind.dtype, p.default.span)
    if x.rank != kind.rank:
        raise error(
            "T107", p.default.span, what=f"the default of `{p.name.id}`", wanted=kind.declared(), found=x.type
        )
    return x


def _locals(el: Elaborator, decl: ast.FunctionDecl, scope: Scope, found: FunctionDef) -> None:
    """Enters the equations and templates of the `where` block."""
    for c in decl.clauses:
        names = c.targets if isinstance(c, ast.Equation) else (c.name,) if isinstance(c, ast.Template) else ()
        for i, n in enumerate(names):
            before = scope.find(n.id)
            mine = scope.names.get(n.id)
            first = mine.span if mine is not None else None
            first = next((p.span for p in decl.params if p.name.id == n.id), first)
            if first is not None:
                raise error("N102", n.span, name=n.id, labels=[Label(first, "first defined here")])
            if isinstance(before, SharedDef | RandomDef | StreamDef | FunctionDef):
                hint = f"write `update {n.id} = ...`" if isinstance(before, SharedDef) else "use another name"
                raise error("N111", n.span, name=n.id, kind=KIND[type(before)], hint=hint)
            if isinstance(c, ast.Equation):
                scope.names[n.id] = EquationDef(n.id, f"{found.key}.{n.id}", n.span, c, i, scope)
            else:
                assert isinstance(c, ast.Template)
                scope.names[n.id] = TemplateDef(n.id, n.span, c, scope)


def _outputs(
    el: Elaborator, decl: ast.FunctionDecl, scope: Scope
) -> tuple[list[Node], tuple[str, ...] | None]:
    """The outputs, and their names unless there is one bare value."""
    if decl.body is None:
        return [], ()
    value = el.evaluate(decl.body, scope)
    if isinstance(value, Record):
        nodes = [el.as_node(v, decl.body.span) for v in value.items]
        return [strong(n, decl.body.span) for n in nodes], value.fields
    return [strong(el.as_node(value, decl.body.span), decl.body.span)], None


def _updates(el: Elaborator, clauses: Sequence[ast.Clause], scope: Scope) -> dict[str, Node]:
    """The new values of shared state by key; two for one state are an error."""
    updates: dict[str, Node] = {}
    places: dict[str, Span] = {}
    for c in clauses:
        if not isinstance(c, ast.Update):
            continue
        found = el.target(c.place.target, scope)
        if not isinstance(found, SharedDef):
            text = c.place.target.span.text
            hint = (
                f"declare it: `shared {text}: f64 = 0`"
                if isinstance(found, EquationDef | TensorDef)
                else None
            )
            raise error("F115", c.place.span, name=text, kind=KIND[type(found)], hint=hint)
        if found.key in updates:
            raise error(
                "F116", c.span, name=found.name, labels=[Label(places[found.key], "first updated here")]
            )
        places[found.key] = c.span
        updates[found.key] = _new_value(el, c, found, scope)
    return updates


def _new_value(el: Elaborator, c: ast.Update, found: SharedDef, scope: Scope) -> Node:
    kind = el.program.shared_type(found, c.place.span)
    label = Label(found.span, f"`{found.name}` is declared here")
    value = el.evaluate_node(c.value, scope)
    try:
        value = el.adapt(value, kind.dtype, c.value.span)
    except TlangError as e:
        first = e.diagnostics[0]
        raise error(
            "F117",
            c.value.span,
            name=found.name,
            wanted=kind.declared(),
            found=el.type_text(value),
            labels=[label],
            hint=first.hint,
        ) from None
    if c.place.subs is not None:
        leaf = el.read(el.shared(found, c.place.span), c.place.span, scope)
        stores = stored(el, "set_at", leaf, value, c.place.subs, c.span, [c.value], scope)
        updated: Node = trampoline(stores)
        return updated
    fits = value.rank == kind.rank
    for have, want in zip(value.shape, kind.shape, strict=False):
        # a state whose size is a name or `_` may change its size; a constant size stays
        fits = fits and (not want.is_const or el.graph.solver.unify(have, want))
    if not fits:
        raise error(
            "F117",
            c.value.span,
            name=found.name,
            wanted=kind.declared(),
            found=el.type_text(value),
            labels=[label],
        )
    return value


def _check_unused(
    el: Elaborator, decl: ast.FunctionDecl, scope: Scope, params: Sequence[Param], used: set[Def]
) -> None:
    """Unused parameters, by the program's policy; a name beginning with `_` is exempt."""
    policy = el.program.unused
    drawn = {s.name for n in el.leaves if n.op.name == "draw" for d in n.type.shape for s in d.symbols()}
    for p, param in zip(decl.params, params, strict=True):
        name = p.name.id
        found = scope.names.get(name) or scope.unit.scope.names.get(name)
        sizes = {s.name for d in param.node.type.shape for s in d.symbols()} - {"_"}
        if found in used or name.startswith("_") or policy == "ignore" or sizes & (el.read_dims | drawn):
            continue
        hint = f"remove it, or name it `_{name}`"
        if policy == "warn":
            el.warnings.append(
                diagnostic("F118", p.span, severity="warning", name=name, function=decl.name.id, hint=hint)
            )
        else:
            raise error("F118", p.span, name=name, function=decl.name.id, hint=hint)
