"""`scan(step, xs, init = h0)`: a template, a function or an operation, once for each element of sequences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from tlang.elaborate import inlining
from tlang.elaborate.arguments import listed
from tlang.elaborate.derivatives import inline_scope
from tlang.elaborate.options import signature
from tlang.elaborate.scope import KIND, FunctionDef, Scope, TemplateDef
from tlang.elaborate.trampoline import trampoline
from tlang.elaborate.values import Record, as_dim, is_builtin, plain_const, short
from tlang.errors import Label, TlangError, did_you_mean, error
from tlang.graph.node import OPS, Node, toposort
from tlang.graph.ops.rules import unknown_dim
from tlang.graph.recurrence import Open, bound, open_scan
from tlang.graph.segments import in_segments
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import BOOL, F64, I64, promote

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task

#: The arguments that are given by name.
OPTIONS = ("init", "steps", "reverse", "last", "while", "checkpoint")
#: What a step makes: the new carried values, and the other outputs with their names.
Made: TypeAlias = tuple[list[Node], list[Node], tuple[str, ...]]
#: How often the dtype of an initial value that is a literal may follow what the step makes of it.
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Callee:
    """What is called in each step: its parameters by name, those without a default, how it is applied.

    `apply` takes the names with their values; `body` is the expression of what it gives.
    """

    name: str
    params: tuple[str, ...]
    required: tuple[str, ...]
    apply: Callable[[dict[str, tuple[Node, Span]], Scope], Task]
    span: Span
    body: ast.Expr | None = None

    @property
    def items(self) -> tuple[ast.Arg, ...]:
        """The items of a tuple that it gives."""
        return self.body.items if isinstance(self.body, ast.TupleLit) else ()

    def labels(self) -> list[Label]:
        """Where it says what it gives."""
        return [] if self.body is None else [Label(self.body.span, "the step gives this")]


def scan(el: Elaborator, e: ast.Call, scope: Scope) -> Task:
    """The results of a recurrence: all values of what it carries, or the last, and its outputs."""
    args, options = _sorted(e)
    inner = inline_scope(scope)
    step = yield _callee(el, args[0], inner)
    sequences: list[Node] = []
    for arg in args[1:]:
        x = yield el.node(arg.value, scope)
        if x.rank == 0:
            raise error("F202", arg.span, found=el.type_text(x))
        sequences.append(x.cast(x.dtype) if x.type.weak else x)
    init: list[Node] = []
    if "init" in options:
        value = yield el.expr(options["init"].value, scope)
        items = value.items if isinstance(value, Record) else (value,)
        init = [el.as_node(x, options["init"].value.span) for x in items]
    reverse, last = (yield _flag(el, options, "reverse", scope)), (yield _flag(el, options, "last", scope))
    segments = yield _segments(el, options, scope)
    if "while" in options and (reverse or segments != 0):
        other = "reverse" if reverse else "checkpoint"
        hint = "take the sequences backwards: `xs[::-1]`" if reverse else None
        raise error("F208", options[other].span, a="while", b=other, hint=hint)
    names = _names(step, len(sequences), len(init))
    if "while" in options and not init:
        raise error("F206", options["while"].span, why="the condition of `while` needs a carried value")
    length, steps = yield _length(el, e, args[1:], sequences, options, scope)
    elements = [
        bound(el.graph, x.type.with_shape(x.shape[1:]), name, arg.value.span)
        for x, name, arg in zip(sequences, names, args[1:], strict=False)
    ]
    given = dict(zip(names, elements, strict=False))
    carried = names[len(sequences) :]
    spans = {n: a.value.span for n, a in zip(names, args[1:], strict=False)}
    if init:
        spans |= dict.fromkeys(carried, options["init"].value.span)

    def made_of(values: Sequence[Node]) -> Made:
        """What a step makes of carried values."""
        both = given | dict(zip(carried, values, strict=True))
        result = trampoline(step.apply({n: (x, spans[n]) for n, x in both.items()}, inner))
        return _divided(el, step, result, carried)

    init, state, (new, outputs, fields) = _settled(el, init, carried, sequences, made_of, e.span)
    new = [_kept(el, n, x, s, step, options["init"]) for n, x, s in zip(carried, new, state, strict=True)]
    condition = yield _condition(el, options, carried, state, inner)
    _no_draws([*new, *outputs, *([condition] if condition is not None else [])], [*state, *elements], e)
    if condition is not None:
        length = unknown_dim()
    made = open_scan(
        el.graph,
        e.span,
        init,
        sequences,
        state,
        elements,
        new,
        outputs,
        length=length,
        steps=steps,
        condition=condition,
        reverse=reverse,
    )
    parts = _parts(made, segments, last)
    names = (*carried, *fields)
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise error("N108", e.span, name=twice)
    return parts[0] if len(parts) == 1 else Record(names, tuple(parts))


def _sorted(e: ast.Call) -> tuple[list[ast.Arg], dict[str, ast.Arg]]:
    """The step and the sequences; the options by name."""
    options: dict[str, ast.Arg] = {}
    for arg in e.args:
        if arg.name is None:
            continue
        name = arg.name.id
        if name not in OPTIONS:
            near = did_you_mean(name, OPTIONS)
            hint = f"did you mean `{near}`?" if near else f"its options are {listed(OPTIONS)}"
            raise error("F103", arg.name.span, what="`scan`", name=name, hint=hint)
        if name in options:
            labels = [Label(options[name].span, "first here")]
            raise error("F104", arg.span, what="`scan`", name=name, labels=labels)
        options[name] = arg
    args = [a for a in e.args if a.name is None]
    if not args:
        raise error("F106", e.span, what="`scan`", names="a step", hint="write `scan(step, xs, init = h0)`")
    return args, options


def _callee(el: Elaborator, arg: ast.Arg, scope: Scope) -> Task:
    """What is to be called in each step."""
    e, span = arg.value, arg.value.span
    if isinstance(e, ast.Name) and scope.find(e.id) is None and is_builtin(e.id) and e.id in OPS:
        return _operation(el, e)
    found = el.resolve(e, scope) if isinstance(e, ast.Name | ast.Field) else None
    if not isinstance(found, TemplateDef | FunctionDef):
        found = yield el.expr(e, scope)
    if isinstance(found, TemplateDef):
        el.mentioned.add(found)
        return _template(el, found, span)
    if isinstance(found, FunctionDef):
        el.mentioned.add(found)
        return _function(el, found, span)
    kind = "a tensor" if isinstance(found, Node) else f"a {KIND.get(type(found), 'value')}"
    hint = "name it without its arguments: `scan(step, xs, init = h0)`" if isinstance(e, ast.Call) else None
    raise error("F200", span, found=kind, hint=hint)


def _template(el: Elaborator, found: TemplateDef, span: Span) -> Callee:
    from tlang.elaborate.calls import apply_template

    params = found.decl.params
    return Callee(
        found.name,
        tuple(p.name.id for p in params),
        tuple(p.name.id for p in params if p.default is None),
        lambda values, scope: apply_template(el, span, found, scope, values),
        span,
        found.decl.value,
    )


def _function(el: Elaborator, found: FunctionDef, span: Span) -> Callee:
    draft = el.program.draft(found, el.opaque)
    inlining.check_pure(draft, span, Scope(found.unit, "inline"))

    def apply(values: dict[str, tuple[Node, Span]], scope: Scope) -> Task:
        yield from ()
        args = {
            p.name: inlining.argument(el, draft, p, *values[p.name], scope)
            for p in draft.params
            if p.name in values
        }
        nodes = inlining.inline(el, draft, args, ast.Name(found.name, span), scope)
        return nodes[0] if draft.fields is None else Record(draft.fields, tuple(nodes))

    params = draft.params
    body = found.decl.body if isinstance(found.decl, ast.FunctionDecl) else None
    return Callee(
        found.name,
        tuple(p.name for p in params),
        tuple(p.name for p in params if p.default is None),
        apply,
        span,
        body,
    )


def _operation(el: Elaborator, e: ast.Name) -> Callee:
    """An operation that takes tensors alone, such as `maximum`."""
    params = [p for p in OPS[e.id].signature.split(", ") if p] if e.id in OPS else ["*"]
    if any(p.startswith("*") or p == "shape" for p in params):
        raise error("F200", e.span, found=f"`{e.id}`", hint=f"write a template: `step(x, h) = {e.id}(...)`")
    tensors = tuple(p for p in params if "=" not in p)
    attrs = {name: default for name, default in signature(e.id) if name not in tensors}

    def apply(values: dict[str, tuple[Node, Span]], scope: Scope) -> Task:
        yield from ()
        return el.op(e.id, [values[p][0] for p in tensors], e.span, scope, **attrs)

    return Callee(e.id, tensors, tensors, apply, e.span)


def _flag(el: Elaborator, options: dict[str, ast.Arg], name: str, scope: Scope) -> Task:
    """An option that is True or False."""
    if name not in options:
        return False
    arg = options[name]
    value = yield el.expr(arg.value, scope)
    flag = plain_const(value) if isinstance(value, Node) else None
    if not isinstance(flag, bool):
        raise error("F108", arg.span, name=name, wanted="True or False")
    return flag


def _segments(el: Elaborator, options: dict[str, ast.Arg], scope: Scope) -> Task:
    """The option `checkpoint`: 0 without, None for segments of about the root of the steps, or their size."""
    if "checkpoint" not in options:
        return 0
    arg = options["checkpoint"]
    value = yield el.expr(arg.value, scope)
    size = plain_const(value) if isinstance(value, Node) else None
    if isinstance(size, bool):
        return None if size else 0
    if not isinstance(size, int) or size < 1:
        raise error("F108", arg.span, name="checkpoint", wanted="True, or the positive size of a segment")
    return size


def _length(
    el: Elaborator,
    e: ast.Call,
    args: Sequence[ast.Arg],
    sequences: Sequence[Node],
    options: dict[str, ast.Arg],
    scope: Scope,
) -> Task:
    """The number of steps as a size, and as a node where no sequence has it."""
    arg = options.get("steps")
    if sequences:
        if arg is not None:
            raise error("F206", arg.span, why="the sequences say it, and `steps` does")
        for x, other in zip(sequences[1:], args[1:], strict=True):
            if not el.graph.solver.unify(sequences[0].shape[0], x.shape[0]):
                operands = [
                    (short(a.value.span.text), el.type_text(s)) for a, s in zip(args, sequences, strict=True)
                ]
                raise error("F203", other.span, notes=[f"{text} : {kind}" for text, kind in operands])
        return sequences[0].shape[0], None
    if arg is None:
        if "while" not in options:
            raise error("F206", e.span, why="there is no sequence", hint="write `steps = n`")
        return unknown_dim(), None
    steps = yield el.node(arg.value, scope)
    if steps.rank or not steps.dtype.is_integer:
        raise error("T146", arg.span, what="the number of steps", found=steps.type.strong())
    size = as_dim(steps)
    if size is not None and size.is_const and size.const < 0:
        raise error("T159", arg.span, size=size)
    return unknown_dim() if size is None else size, steps.cast(I64)


def _names(step: Callee, sequences: int, carried: int) -> tuple[str, ...]:
    """The step's parameters that elements and carried values go to."""
    count = sequences + carried
    if len(step.params) < count or len(step.required) > count:
        given = [
            f"{k} {word}{'s' if k != 1 else ''}"
            for k, word in ((sequences, "element"), (carried, "carried value"))
            if k
        ]
        hint = (
            "the values that are carried begin as `init = (a, b)` says"
            if len(step.required) > count
            else None
        )
        raise error(
            "F201",
            step.span,
            name=f"`{step.name}`",
            takes=listed(step.params),
            given=" and ".join(given) or "nothing",
            hint=hint,
        )
    return step.params[:count]


def _divided(el: Elaborator, step: Callee, result: Any, carried: Sequence[str]) -> Made:
    """What a step gives, as the new carried values and the outputs with their names."""
    items = result.items if isinstance(result, Record) else (result,)
    fields = result.fields if isinstance(result, Record) else ("out0",)
    if len(items) < len(carried):
        got = "one value" if len(items) == 1 else f"{len(items)} values"
        raise error("F205", step.span, got=got, names=listed(carried), labels=step.labels())
    for name, item in zip(carried, step.items, strict=False):
        if item.name is not None and item.name.id != name and item.name.id in carried:
            raise error(
                "F209", step.span, found=item.name.id, wanted=name, labels=[Label(item.span, "given here")]
            )
    nodes = [el.as_node(x, step.span) for x in items]
    outputs = [x.cast(x.dtype) if x.type.weak else x for x in nodes[len(carried) :]]
    return nodes[: len(carried)], outputs, fields[len(carried) :]


def _settled(
    el: Elaborator,
    init: Sequence[Node],
    names: Sequence[str],
    sequences: Sequence[Node],
    made_of: Callable[[Sequence[Node]], Made],
    span: Span,
) -> tuple[list[Node], list[Node], Made]:
    """The initial values, the leaves for the carried ones, and what a step makes of those.

    Literals among the initial values have the dtype that a step makes of them: 0 is a float where it is
    added to one. So a step is tried with them first.
    """
    failure: TlangError | None = None

    def attempt(values: Sequence[Node]) -> Made | None:
        nonlocal failure
        active = dict(el.active)
        try:
            return made_of(values)
        except TlangError as e:
            el.active, failure = active, e
            return None

    values = list(init)
    if any(x.type.weak for x in values):
        made = attempt(values)
        values = _adapted(el, values, values if made is None else made[0], span)
    for _ in range(_TRIES):
        values = [x.cast(x.dtype) if x.type.weak else x for x in values]
        state = [
            bound(el.graph, x.type.with_shape(x.shape), n, x.span) for x, n in zip(values, names, strict=True)
        ]
        made = attempt(state)
        if made is None:
            floats = _as_floats(el, values, sequences)
            if floats is None:
                break
            values = floats
            continue
        before, values = values, _adapted(el, values, made[0], span)
        if values == before:
            return values, state, made
    assert failure is not None
    raise failure


def _adapted(el: Elaborator, init: Sequence[Node], made: Sequence[Node], span: Span) -> list[Node]:
    """Literals and lists as initial values, in the dtype that the step makes of them if they can be."""
    out = []
    for x, y in zip(init, made, strict=True):
        if (x.type.weak or x.op.name == "const") and not y.type.weak and y.dtype != x.dtype:
            with suppress(TlangError):
                x = el.convert(x, y.dtype, span)
        out.append(x)
    return out


def _as_floats(el: Elaborator, init: Sequence[Node], sequences: Sequence[Node]) -> list[Node] | None:
    """Integer literals among initial values as floats, of the sequences' dtype; None if there are none."""
    floats = [x.type for x in sequences if x.dtype.kind == "f"]
    dtype = promote(floats) if floats else F64
    literal = [x.op.name == "const" and x.dtype.is_integer for x in init]
    if not any(literal):
        return None
    return [
        el.convert(x, dtype, x.span) if is_literal and x.span is not None else x
        for x, is_literal in zip(init, literal, strict=True)
    ]


def _kept(el: Elaborator, name: str, new: Node, state: Node, step: Callee, init: ast.Arg) -> Node:
    """The new value of what is carried, of its type; anything else is an error."""
    if new.type.weak or new.op.name == "const":
        with suppress(TlangError):
            new = el.convert(new, state.dtype, step.span)
    fits = new.dtype == state.dtype and new.rank == state.rank
    fits = fits and all(map(el.graph.solver.unify, new.shape, state.shape))
    if not fits:
        labels = [Label(init.value.span, f"`{name}` begins here"), *step.labels()]
        begins, found = el.type_text(state), el.type_text(new)
        raise error("F204", step.span, name=name, begins=begins, found=found, labels=labels)
    return new


def _condition(
    el: Elaborator, options: dict[str, ast.Arg], carried: Sequence[str], state: Sequence[Node], scope: Scope
) -> Task:
    """Whether a step is made, from the carried values."""
    if "while" not in options:
        return None
    arg = options["while"]
    test = yield _callee(el, arg, scope)
    if len(test.params) < len(carried) or len(test.required) > len(carried):
        raise error(
            "F201",
            arg.span,
            name=f"`{test.name}`",
            takes=listed(test.params),
            given=f"the carried {listed(carried)}",
        )
    values = {p: (x, arg.value.span) for p, x in zip(test.params, state, strict=False)}
    result = yield test.apply(values, scope)
    found = el.as_node(result, arg.span)
    if found.rank or found.dtype is not BOOL:
        raise error("F210", arg.span, found=el.type_text(found))
    return found


def _no_draws(results: Sequence[Node], leaves: Sequence[Node], e: ast.Call) -> None:
    """A draw that depends on the step would be another one in each."""
    inside = set(leaves)
    for node in toposort(results):
        if any(x in inside for x in node.inputs):
            inside.add(node)
            if node.op.name == "draw":
                name = node.attr("variable")
                hint = f"draw all at once, and take them as a sequence: `random {name}: f64[n, ...] ~ ...`"
                raise error("F207", e.span, name=name, hint=hint)


def _parts(made: Open, segments: int | None, last: bool) -> list[Node]:
    """The results: the carried values, after each step or the last, then the outputs."""
    if segments != 0:
        return in_segments(made, segments, last)
    carried = [made.part("last" if last else "all", k) for k in range(len(made.init))]
    return carried + [made.part("output", k) for k in range(len(made.outputs))]
