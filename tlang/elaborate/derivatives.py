"""Derivatives: `grad`, `jacobian`, `hessian`, `vjp` and `jvp`, taken in the graph where they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.arguments import bind
from tlang.elaborate.scope import Scope
from tlang.elaborate.values import Record, Text
from tlang.errors import Label, TlangError, error
from tlang.graph import grad as gradients
from tlang.graph.node import Node, toposort
from tlang.rewrite.stabilise import stabilise
from tlang.source import Span
from tlang.syntax import ast

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task

#: The names of these forms.
FORMS = frozenset({"grad", "jacobian", "hessian", "vjp", "jvp"})


def call(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    """A call of one of the forms."""
    return _product(el, e, name, scope) if name in ("vjp", "jvp") else _derivative(el, e, name, scope)


def _derivative(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    """`grad(cost, a, b)` and its kin: the formula stabilised as it is written, then differentiated."""
    inner = inline_scope(scope)
    options = [a for a in e.args if a.name is not None]
    args = [a for a in e.args if a.name is None]
    if len(args) < 2:
        what = "a formula" if name == "jacobian" else "`cost`"
        raise error("F106", e.span, what=f"`{name}`", names=f"{what} and a name")
    if name == "hessian" and len(args) > 2:
        raise error("F102", args[2].span, what="`hessian`", count=2, names="a cost and one name")
    zero = False
    for option in options:
        zero = yield _zero(el, option, scope)
    out = yield el.node(args[0].value, inner)
    if out.dtype.kind != "f" or (out.rank and name != "jacobian"):
        if name == "jacobian":
            raise error("F131", args[0].span, name=args[0].value.span.text, found=out.type)
        text = args[0].value.span.text
        hint = f"take its mean or sum: `{name}(mean({text}), ...)`" if out.rank else None
        raise error("F133", args[0].span, found=el.type_text(out), hint=hint)
    wrt = yield _names(el, args[1:], name, inner)
    stable, nodes = _stable(el, out, wrt)
    if name == "grad":
        found = gradients.grad(stable, nodes)
    else:
        rule = gradients.jacobian if name == "jacobian" else gradients.hessian
        found = [rule(stable, w) for w in nodes]
    results = []
    for arg, w, g in zip(args[1:], wrt, found, strict=True):
        if g is None:
            if not zero:
                raise _disconnected(el, out, w, arg.span, args[0].span)
            g = gradients.no_derivative(name, out, w)
        results.append(g.cast(out.dtype if name == "jacobian" else w.dtype))
    return results[0] if len(results) == 1 else _record(results)


def _record(items: Sequence[Node]) -> Record:
    """Several results, by position."""
    return Record(tuple(f"out{k}" for k in range(len(items))), tuple(items))


def _zero(el: Elaborator, option: ast.Arg, scope: Scope) -> Task:
    """Whether names without a path get zeros: `disconnected = "zero"`."""
    assert option.name is not None
    value = yield el.expr(option.value, scope)
    known = isinstance(value, Text) and value.value in ("zero", "error")
    if option.name.id != "disconnected" or not known:
        raise error("F132", option.span)
    return value.value == "zero"


def _names(el: Elaborator, args: Sequence[ast.Arg], what: str, scope: Scope) -> Task:
    """The nodes that a gradient is taken for: each must be a name."""
    out = []
    for arg in args:
        if not isinstance(arg.value, ast.Name | ast.Field):
            raise error("F130", arg.span, what=what)
        x = yield el.node(arg.value, scope)
        if x.op.name not in ("tensor", "shared", "named", "hole", "value", "draw"):
            raise error("F130", arg.span, what=what)
        if x.dtype.kind != "f":
            raise error("F131", arg.span, name=arg.value.span.text, found=x.type)
        out.append(x)
    return out


def inline_scope(scope: Scope) -> Scope:
    """In a command, calls inside a gradient are expanded rather than run."""
    return Scope(scope.unit, "inline", scope, caller=scope) if scope.is_command() else scope


def _stable(el: Elaborator, out: Node, wrt: Sequence[Node]) -> tuple[Node, list[Node]]:
    """The formula in stable form, with what it is differentiated for as it stands in there."""
    names = {w.attr("name") for w in wrt if w.op.name == "named"}
    (stable,) = stabilise([out], el.opaque | names)
    if not names or stable is out:
        return stable, list(wrt)
    there = {n.attr("name"): n for n in toposort([stable]) if n.op.name == "named"}
    return stable, [there.get(w.attr("name"), w) if w.op.name == "named" else w for w in wrt]


def _disconnected(el: Elaborator, cost: Node, w: Node, span: Span, cost_span: Span) -> TlangError:
    cut = gradients.find_cut(cost, w)
    name, hint = span.text, '`disconnected = "zero"` gives zeros'
    if cut is None:
        return error("F134", span, name=name, cost=cost_span.text, label="not in the cost", hint=hint)
    why = cut.op.cut if isinstance(cut.op.cut, str) else cut.op.cut(cut)
    reason = why or ("a result that is no real number" if not cut.dtype.is_inexact else f"`{cut.op.name}`")
    labels = [Label(cut.span, "the path is cut here")] if cut.span is not None else []
    return error("F135", span, name=name, cost=cost_span.text, reason=reason, labels=labels, hint=hint)


def _product(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    """`jvp(e, a, t)`: the derivative of e along t in a. `vjp(e, a, c)`: c pulled back to a.

    With several names in brackets, `jvp(e, (a, b), (t, u))` is the derivative along both together, and
    `vjp(e, (a, b), c)` a record.
    """
    last = "tangent" if name == "jvp" else "cotangent"
    bound = bind(e, f"`{name}`", ("e", "a", last), ("e", "a", last))
    inner = inline_scope(scope)
    out = yield el.node(bound["e"].value, inner)
    args = _items(bound["a"])
    wrt = yield _names(el, args, name, inner)
    if out.dtype.kind != "f":
        raise error("F131", bound["e"].span, name=bound["e"].span.text, found=out.type)
    given = _items(bound[last]) if name == "jvp" and len(args) > 1 else [bound[last]]
    if name == "jvp" and len(given) != len(args):
        raise error("T117", bound[last].span, wanted=len(args), got=f"{len(given)} tangents")
    seeds = []
    for arg, like in zip(given, wrt if name == "jvp" else [out], strict=True):
        seed = yield el.node(arg.value, inner)
        seed = el.adapt(seed, like.dtype, arg.span)
        el.fit(seed, like.type, arg.span, f"the {last}")
        seeds.append(seed)
    stable, nodes = _stable(el, out, wrt)
    if name == "jvp":
        found = [gradients.jvp(stable, w, t) for w, t in zip(nodes, seeds, strict=True)]
    else:
        found = gradients.vjp(stable, nodes, seeds[0])
    results: list[Node] = []
    for arg, w, result in zip(args, wrt, found, strict=True):
        if result is None:
            raise _disconnected(el, out, w, arg.span, bound["e"].span)
        results.append(result)
    if name == "vjp":
        return results[0] if len(results) == 1 else _record(results)
    total = results[0]
    for part in results[1:]:
        total = total + part
    return total


def _items(arg: ast.Arg) -> list[ast.Arg]:
    """The items of a tuple, or of a list of names; anything else is one."""
    if isinstance(arg.value, ast.TupleLit):
        return list(arg.value.items)
    if isinstance(arg.value, ast.ListLit):
        return [ast.Arg(None, x, x.span) for x in arg.value.items]
    return [arg]
