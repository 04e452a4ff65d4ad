"""Calls: operations bound by their signatures, casts, templates, gradients, draws."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, Any

from tlang.elaborate import derivatives, formulas, indices, inlining, options, recurrence
from tlang.elaborate.arguments import bind
from tlang.elaborate.declared import tensor_type
from tlang.elaborate.drafts import replace_leaves
from tlang.elaborate.scope import KIND, FunctionDef, LocalDef, Scope, TemplateDef
from tlang.elaborate.values import CONSTANTS, FORMS, Record, Text, as_dim, is_builtin
from tlang.errors import Label, error
from tlang.graph.node import Node, is_const
from tlang.graph.ops.formula import FORMULAS
from tlang.graph.ops.random import PUBLIC
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import DTYPES, U64, Dim

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


_uses = count()


def call(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    """Dispatches a call by what is called."""
    target = el.resolve(e.func, scope)
    if target is None and isinstance(e.func, ast.Name):
        name = e.func.id
        if name in FORMS:
            return _form(el, e, name, scope)
        if name in DTYPES:
            return _cast(el, e, scope)
        if name in CONSTANTS:
            raise error("F101", e.func.span, what="number", hint="a product is written with `*`")
        if name in FORMULAS:
            return formulas.call(el, e, FORMULAS[name], scope)
        if is_builtin(name):
            return _operation(el, e, name, scope)
        if name in PUBLIC:
            raise error("F120", e.span, name=name)
        raise el.unknown(e.func, scope)
    if isinstance(target, TemplateDef):
        return _template(el, e, target, scope)
    if isinstance(target, FunctionDef):
        el.mentioned.add(target)
        return inlining.call(el, e, target, scope)
    return _not_callable(el, e, scope)


def _not_callable(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    value = yield el.expr(e.func, scope)
    if isinstance(value, TemplateDef):
        return (yield _template(el, e, value, scope))
    if isinstance(value, FunctionDef):
        return (yield inlining.call(el, e, value, scope))
    what = KIND[type(value)] if type(value) in KIND else "tensor" if isinstance(value, Node) else "value"
    hint = "an element is `x[i]`; a product is written with `*`" if isinstance(value, Node) else None
    raise error("F101", e.func.span, what=what, hint=hint)


# ---------------------------------------------------------------- operations


def _operation(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    if name == "arange":
        return (yield _arange(el, e, scope))
    if name in ("set_at", "add_at"):
        return (yield _at(el, e, name, scope))
    if len(e.args) == 1 and isinstance(e.args[0].value, ast.Comprehension) and e.args[0].value.bare:
        return (yield _over(el, e, name, e.args[0].value, scope))
    params = options.signature(name)
    names = [p.lstrip("*") for p, _ in params]
    required = [p.lstrip("*") for p, d in params if d is options.REQUIRED]
    at = len(names) - 1
    if names[-1:] == ["shape"] and len(e.args) > len(names) and all(a.name is None for a in e.args):
        span = e.args[at].span.to(e.args[-1].span)  # `reshape(x, 2, 3)` is `reshape(x, (2, 3))`
        e = ast.Call(e.func, (*e.args[:at], ast.Arg(None, ast.TupleLit(e.args[at:], span), span)), e.span)
    bound = bind(e, f"`{name}`", names, required)
    inputs: list[Node] = []
    operands: list[ast.Expr] = []
    attrs: dict[str, Any] = {}
    extra: list[Node] = []
    for param, default in params:
        plain = param.lstrip("*")
        arg = bound.get(plain)
        if plain == "shape":
            assert arg is not None
            attrs["shape"], attrs["runtime"] = yield options.shape(el, arg.value, scope, extra)
        elif plain in options.STATIC:
            attrs[plain] = default if arg is None else (yield options.static(el, plain, arg, scope))
        elif param.startswith("*"):
            assert arg is not None
            items = options.items_of(arg.value)
            if not items:
                raise error("F107", arg.span, name=name)
            for item in items:
                inputs.append((yield el.node(item, scope)))
                operands.append(item)
        else:
            assert arg is not None
            inputs.append((yield el.node(arg.value, scope)))
            operands.append(arg.value)
    return el.op(name, [*inputs, *extra], e.span, scope, operands, **attrs)


def _over(el: Elaborator, e: ast.Call, name: str, of: ast.Comprehension, scope: Scope) -> Task:
    """`sum(a[k] * b[k] for k)`: the axes of the indices reduced."""
    attrs = {p: default for p, default in options.signature(name) if p in options.STATIC}
    if not {"axis", "keepdims"} <= attrs.keys() or len(options.signature(name)) != len(attrs) + 1:
        names = ", ".join(n.id for n in of.names)
        raise error("F222", e.func.span, name=name, hint=f"write `{name}([... for {names}])`")
    x = yield el.node(of, scope)
    axes = tuple(range(len(of.names)))
    attrs["axis"] = axes[0] if len(axes) == 1 else axes
    return el.op(name, [x], e.span, scope, [of.value], **attrs)


def _at(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    """`set_at(x, i, v)`, `add_at(x, (i, j), v)`, and with a mask in the place of indices."""
    bound = bind(e, f"`{name}`", ("x", "i", "v"), ("x", "i", "v"))
    x = yield el.node(bound["x"].value, scope)
    i = bound["i"].value
    subs = options.items_of(i) if isinstance(i, ast.TupleLit) else [i]
    v = el.convert((yield el.node(bound["v"].value, scope)), x.dtype, bound["v"].span)
    operands = [bound["x"].value, bound["v"].value]
    return (yield indices.stored(el, name, x.cast(x.dtype), v, subs, e.span, operands, scope))


def _arange(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    """`arange(stop)`, `arange(start, stop)`, `arange(start, stop, step)`."""
    names = ("stop",) if len(e.args) == 1 else ("start", "stop", "step")
    bound = bind(e, "`arange`", names, ("stop",))
    nodes = {}
    for name, default in (("start", 0), ("stop", 0), ("step", 1)):
        if name in bound:
            nodes[name] = yield el.node(bound[name].value, scope)
            if nodes[name].rank:
                raise error("T157", bound[name].span, found=nodes[name].type)
        else:
            nodes[name] = el.graph.literal(default, e.span)
    start, stop = as_dim(nodes["start"]), as_dim(nodes["stop"])
    size = None
    if start is not None and stop is not None and is_const(nodes["step"], 1):
        length = stop - start
        if length.is_const:
            size = Dim(max(0, length.const))
        elif length.const >= 0 and all(k >= 0 for _, k in length.terms):
            size = length
    inputs = [nodes["start"], nodes["stop"], nodes["step"]]
    if all(n.type.weak for n in inputs):
        inputs = [n.cast(n.dtype) for n in inputs]
    return el.op("arange", inputs, e.span, scope, size=size)


def _cast(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    """`f32(x)`: the dtype as a function."""
    assert isinstance(e.func, ast.Name)
    bound = bind(e, f"`{e.func.id}`", ("x",), ("x",))
    x = yield el.node(bound["x"].value, scope)
    dtype = DTYPES[e.func.id]
    if x.op.name == "const" and (x.dtype is U64 or (is_const(x) and x.value >= 2**63)) and dtype.is_integer:
        return el.convert(x, dtype, bound["x"].span)  # also beyond i64, where the literal has no dtype yet
    return el.op("cast", [x], e.span, scope, [bound["x"].value], dtype=dtype)


# ---------------------------------------------------------------- templates


def _template(el: Elaborator, e: ast.Call, found: TemplateDef, scope: Scope) -> Task:
    """A template's body with its parameters bound."""
    params = {p.name.id: p for p in found.decl.params}
    required = [p for p, decl_ in params.items() if decl_.default is None]
    bound = bind(e, f"`{found.name}`", list(params), required)
    values: dict[str, tuple[Any, Span]] = {}
    for name in params:
        if name in bound:
            arg = bound[name].value
            values[name] = (yield el.expr(arg, scope)), arg.span
    return (yield apply_template(el, e.span, found, scope, values))


def apply_template(
    el: Elaborator, use: Span, found: TemplateDef, scope: Scope, values: Mapping[str, tuple[Any, Span]]
) -> Task:
    """A template's body for values of its parameters, used at a place.

    Where it differentiates, the values go in afterwards. Parameters without a value have a default.
    """
    decl = found.decl
    caller: Scope | None = scope
    while caller is not None and caller.kind in ("template", "inline"):
        if caller.owner is found:
            raise error("N109", use, name=found.name, labels=[Label(found.span, "defined here")])
        caller = caller.caller
    inner = Scope(found.scope.unit, "template", found.scope, found, use, scope)
    differentiates = _mentions_gradient(decl.value)
    holes: dict[Node, Node] = {}
    for p in decl.params:
        name, span = p.name.id, p.span
        if name in values:
            value, span = values[name]
        else:
            assert p.default is not None
            value = yield el.expr(p.default, found.scope)
        if p.type is not None:
            kind = tensor_type(found.scope.unit, p.type)
            value = el.adapt(el.as_node(value, span), kind.dtype, span)
            el.fit(value, kind, span, f"`{name}` of `{found.name}`", Label(p.span, "declared here"))
        if differentiates and isinstance(value, Node) and value.dtype.is_inexact:
            hole = el.graph.leaf("hole", value.type.strong(), p.span, name=(next(_uses), name))
            holes[hole] = value.cast(value.dtype)
            value = hole
        inner.names[name] = LocalDef(name, p.span, value)
    result = yield el.expr(decl.value, inner)
    if not holes:
        return result
    nodes = [result] if isinstance(result, Node) else list(result.items) if isinstance(result, Record) else []
    put = replace_leaves(el, nodes, holes)
    if isinstance(result, Node):
        return put[0]
    return Record(result.fields, tuple(put)) if isinstance(result, Record) else result


def _mentions_gradient(e: Any) -> bool:
    """Whether a formula calls `grad` or its kin itself."""
    todo = [e]
    while todo:
        x = todo.pop()
        if isinstance(x, ast.Call) and isinstance(x.func, ast.Name) and x.func.id in derivatives.FORMS:
            return True
        if isinstance(x, tuple):
            todo.extend(x)
        elif hasattr(x, "__dataclass_fields__") and not isinstance(x, Span):
            todo.extend(
                getattr(x, f) for f in x.__dataclass_fields__ if f not in ("span", "op_span", "op_spans")
            )
    return False


# ---------------------------------------------------------------- gradients and commands


def _form(el: Elaborator, e: ast.Call, name: str, scope: Scope) -> Task:
    if name in derivatives.FORMS:
        return (yield derivatives.call(el, e, name, scope))
    if name == "scan":
        return (yield recurrence.scan(el, e, scope))
    if name == "load" and scope.is_command():
        return (yield _load(el, e, scope))
    hint = (
        "write it on a line of its own"
        if name != "batches"
        else "write `for xb, yb in batches(x, y, size = 128) { ... }`"
    )
    raise error("F121", e.span, name=name, hint=hint)


def _load(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    bound = bind(e, "`load`", ("path", "key"), ("path",))
    texts: dict[str, str] = {}
    for name, arg in bound.items():
        value = yield el.expr(arg.value, scope)
        if not isinstance(value, Text):
            raise error("F108", arg.span, name=name, wanted='a string such as "data.npz"')
        texts[name] = value.value
    loaded = el.program.host.load_value(texts["path"], texts.get("key"), e.span, scope.unit)
    return el.value(loaded, e.span, scope)
