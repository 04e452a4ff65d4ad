"""Expressions to nodes: names, operators, indices, lists, and the messages when types do not fit.

Every method that follows the syntax tree is a generator run by `trampoline`, so that the depth of
an expression, or of a chain of equations, is bounded by memory only.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from tlang.elaborate import indices
from tlang.elaborate.comprehension import comprehension
from tlang.elaborate.declared import dimension, tensor_type
from tlang.elaborate.fitting import Fitter
from tlang.elaborate.scope import (
    KIND,
    Def,
    EquationDef,
    FunctionDef,
    LocalDef,
    RandomDef,
    RecordType,
    Scope,
    SharedDef,
    StreamDef,
    TemplateDef,
    TensorDef,
    UnitDef,
    ValueDef,
    cycle_error,
)
from tlang.elaborate.trampoline import trampoline
from tlang.elaborate.values import (
    CONSTANTS,
    Dynamic,
    LeafUse,
    Record,
    StateRef,
    Text,
    fold,
    is_builtin,
    short,
)
from tlang.errors import Label, TlangError, did_you_mean, error, placed
from tlang.graph.node import OPS, Node, is_const
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import BOOL, Mismatch, Tensor

if TYPE_CHECKING:
    from tlang.elaborate.drafts import Draft
    from tlang.elaborate.program import Program


Task: TypeAlias = Generator[Any, Any, Any]


_BINARY = {"+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod", "**": "pow"}
_BINARY |= {"@": "matmul", "&": "bit_and", "|": "bit_or", "^": "bit_xor", "and": "and", "or": "or"}
_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class Elaborator(Fitter):
    """Turns the expressions of one function or command into nodes of one graph."""

    def __init__(self, program: Program, opaque: frozenset[str] = frozenset()) -> None:
        super().__init__(program)
        self.opaque = opaque
        self.cache: dict[Def, Any] = {}
        self.shared_values: dict[ast.Equation, Any] = {}
        self.active: dict[EquationDef | RandomDef, Span] = {}
        self.leaves: dict[Node, LeafUse] = {}
        self.mentioned: set[Def] = set()
        self.read_dims: set[str] = set()
        self.version = 0

    def evaluate(self, e: ast.Expr, scope: Scope) -> Any:
        """The value of an expression: a node, a record, text, or a definition that is no value."""
        return trampoline(self.expr(e, scope))

    def evaluate_node(self, e: ast.Expr, scope: Scope) -> Node:
        """The value of an expression that must be a tensor."""
        return self.as_node(self.evaluate(e, scope), e.span)

    # ------------------------------------------------------------ the walk

    def expr(self, e: ast.Expr, scope: Scope) -> Task:
        """Elaborates one expression; what it returns is any value, also a callable definition."""
        match e:
            case ast.Name():
                return (yield self.name(e, scope))
            case ast.Number(value=value, span=span):
                return self.number(value, span)
            case ast.Bool(value=flag, span=span):
                return self.graph.literal(flag, span)
            case ast.Binary():
                return (yield self.binary(e, scope))
            case ast.Call():
                return (yield self.call(e, scope))
            case ast.Unary():
                return (yield self.unary(e, scope))
            case ast.Compare():
                return (yield self.compare(e, scope))
            case ast.Index():
                return (yield indices.index(self, e, scope))
            case ast.Field():
                return (yield self.field(e, scope))
            case ast.ListLit():
                return (yield indices.list_literal(self, e, scope))
            case ast.Comprehension():
                return (yield comprehension(self, e, scope))
            case ast.TupleLit():
                return (yield self.record(e, scope))
            case ast.Given():
                return (yield self.given(e, scope))
            case ast.String(value=text):
                return Text(text)
        return None  # NoneLit

    def node(self, e: ast.Expr, scope: Scope) -> Task:
        """Elaborates an expression that must be a tensor."""
        value = yield self.expr(e, scope)
        return self.as_node(value, e.span)

    def as_node(self, value: Any, span: Span) -> Node:
        """The value as a tensor, or an error that says what it is instead."""
        if isinstance(value, Node):
            return value
        if isinstance(value, TemplateDef | FunctionDef):
            raise error(
                "T113", span, kind=KIND[type(value)], name=value.name, hint=f"call it: `{value.name}(...)`"
            )
        if isinstance(value, StreamDef | UnitDef | RandomDef):
            raise error("T113", span, kind=KIND[type(value)], name=value.name)
        if isinstance(value, Record):
            raise error(
                "T114",
                span,
                fields=", ".join(value.fields),
                hint=f"take one by name: `.{value.fields[0]}`" if value.fields else None,
            )
        if isinstance(value, StateRef):
            raise error("T115", span, what=value.what)
        raise error("T116", span, what="a string" if isinstance(value, Text) else "None")

    def number(self, value: int | float, span: Span) -> Node:
        """A literal, within the range of some dtype."""
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise error("T124", span, value=value, dtype="i64")
        return self.graph.literal(value, span)

    # ------------------------------------------------------------ applying operations

    def op(
        self,
        name: str,
        inputs: Sequence[Node],
        span: Span,
        scope: Scope,
        operands: Sequence[ast.Expr] = (),
        **attrs: Any,
    ) -> Node:
        """An operation's node; what does not fit is an error at `span` that shows the operands."""
        try:
            made = self.graph.make(OPS[name], inputs, span, **attrs)
        except Mismatch as e:
            raise self.mismatch(e, inputs, span, scope, operands) from None
        except TlangError as e:
            raise placed(e, span, scope.uses(), self.describe(inputs, operands)) from None
        if len(inputs) == 2 and OPS[name].convert:
            self.warn_of_stretching(made, inputs, span)
        if len(inputs) > 1 and OPS[name].convert:
            self.warn_of_doubling(made, inputs, span)
        return made

    # ------------------------------------------------------------ names

    def name(self, e: ast.Name, scope: Scope) -> Task:
        """What a name stands for."""
        found = scope.find(e.id)
        if found is not None:
            return (yield self.definition(found, e.span, scope))
        unit = scope.unit
        if e.id in unit.dims:
            dim = dimension(unit, e)
            self.read_dims.add(e.id)
            return self.graph.make(OPS["dim"], (), e.span, dim=dim)
        if e.id in CONSTANTS:
            return self.graph.literal(CONSTANTS[e.id], e.span)
        if not scope.is_command() and (e.id in unit.values or e.id in unit.set_names):
            made = unit.values[e.id].span if e.id in unit.values else unit.set_names[e.id]
            labels = [Label(made, "made here")] if made else []
            raise error(
                "N103",
                e.span,
                name=e.id,
                labels=[*labels, *scope.uses()],
                hint=f"make it `shared {e.id}`, or pass it as an argument",
            )
        if is_builtin(e.id):
            raise error("T113", e.span, kind="operation", name=e.id, hint=f"call it: `{e.id}(...)`")
        raise self.unknown(e, scope)

    def definition(self, found: Def, span: Span, scope: Scope) -> Task:
        """The value of a definition where it is used."""
        self.mentioned.add(found)
        match found:
            case LocalDef(value=value):
                if isinstance(value, Node) and value.op.name == "tensor":
                    self.read(value, span, scope)
                return value
            case EquationDef():
                return (yield self.equation(found, span))
            case TensorDef(type=kind, key=key):
                return self.read(self.graph.leaf("tensor", kind, found.span, name=key), span, scope)
            case SharedDef():
                return self.read(self.shared(found, span), span, scope)
            case RandomDef():
                return (yield self.random(found, span))
            case ValueDef():
                return self.value(found, span, scope)
        return found

    def read(self, leaf: Node, span: Span, scope: Scope) -> Node:
        """Notes that a leaf is read, for the checks of the function around it."""
        if leaf not in self.leaves:
            formula = next(reversed(self.active)).name if self.active else None
            self.leaves[leaf] = LeafUse(leaf, span, formula)
        return leaf

    def shared(self, found: SharedDef, span: Span) -> Node:
        """The leaf of a shared value."""
        kind = self.program.shared_type(found, span)
        return self.graph.leaf("shared", kind, found.span, name=found.key, version=self.version)

    def value(self, found: ValueDef, span: Span, scope: Scope) -> Any:
        """The leaf of a value made by `set`."""
        if found.type is None:
            raise Dynamic
        if isinstance(found.type, str):
            return StateRef(found, "state")
        self.program.value_read(found)
        if isinstance(found.type, RecordType):
            items = []
            for name, kind in zip(found.type.fields, found.type.types, strict=True):
                assert isinstance(kind, Tensor)
                leaf = self.graph.leaf("value", kind, span, name=f"{found.name}.{name}")
                items.append(self.read(leaf, span, scope))
            return Record(found.type.fields, tuple(items))
        return self.read(self.graph.leaf("value", found.type, span, name=found.name), span, scope)

    def enter(self, found: EquationDef | RandomDef, span: Span) -> None:
        """Notes that a definition is being elaborated; a cycle is an error that shows it."""
        if found in self.active:
            defs = list(self.active)
            raise cycle_error(defs[defs.index(found) :])
        self.active[found] = span

    def equation(self, found: EquationDef, span: Span) -> Task:
        """The named node of an equation; a cycle is an error that shows it."""
        if found in self.cache:
            return self.cache[found]
        self.enter(found, span)
        decl, scope = found.decl, found.scope
        if len(decl.targets) == 1:
            value = yield self.expr(decl.value, scope)
        else:
            if decl not in self.shared_values:
                self.shared_values[decl] = yield self.expr(decl.value, scope)
            value = self.unpack(self.shared_values[decl], len(decl.targets), decl)[found.index]
        made = self.typed(self.as_node(value, decl.value.span), decl, scope)
        if made.op.name == "named" and made.attr("name") == found.key:
            result = made
        else:
            result = self.graph.make(OPS["named"], [made], found.span, name=found.key)
        del self.active[found]
        self.cache[found] = result
        return result

    def unpack(self, value: Any, count: int, decl: ast.Equation) -> tuple[Any, ...]:
        """The items of a record for several targets."""
        if not isinstance(value, Record):
            raise error("T117", decl.span, wanted=count, got="one value")
        if len(value.items) != count:
            raise error("T117", decl.span, wanted=count, got=f"{len(value.items)}: {', '.join(value.fields)}")
        return value.items

    def typed(self, made: Node, decl: ast.Equation, scope: Scope) -> Node:
        """An equation's formula against the type written beside its name."""
        if decl.type is None:
            return made
        kind = tensor_type(scope.unit, decl.type)
        made = self.adapt(made, kind.dtype, decl.value.span)
        self.fit(
            made, kind, decl.value.span, f"`{decl.targets[0].id}`", Label(decl.type.span, "declared here")
        )
        return made

    def random(self, found: RandomDef, span: Span) -> Task:
        """The draw of a random variable: one node, however often it is named."""
        if found not in self.cache:
            self.enter(found, span)
            self.cache[found] = yield self.draw(
                found.decl.dist, found.type, found.key, found.unit.scope, found.span
            )
            del self.active[found]
        return self.read(self.cache[found], span, found.unit.scope)

    # ------------------------------------------------------------ operators

    def unary(self, e: ast.Unary, scope: Scope) -> Task:
        """`-x`, `+x`, `~x`, `not x`; a negative literal is a literal."""
        x = yield self.node(e.operand, scope)
        if e.op == "-":
            if is_const(x) and x.type.weak:
                return self.number(-x.value, e.span)
            return self.op("neg", [x], e.span, scope, [e.operand])
        if e.op == "+":
            if x.dtype is BOOL:
                raise error("T122", e.span, found=x.type)
            return x
        return self.op("bit_not" if e.op == "~" else "not", [x], e.span, scope, [e.operand])

    def binary(self, e: ast.Binary, scope: Scope) -> Task:
        """Arithmetic, `@`, logic; arithmetic of literals is done at once and stays a literal."""
        left = yield self.node(e.left, scope)
        right = yield self.node(e.right, scope)
        if left.type.weak and right.type.weak and is_const(left) and is_const(right):
            folded = fold(e.op, left.value, right.value, e.span)
            if folded is not None:
                return self.number(folded, e.span)
        try:
            return self.op(_BINARY[e.op], [left, right], e.span, scope, [e.left, e.right])
        except TlangError as failure:
            if e.op == "^" and failure.code == "T121":
                first = failure.diagnostics[0]
                x, y = short(e.left.span.text), short(e.right.span.text)
                text = f"`^` is exclusive or; a power is `{x} ** {y}`"
                raise error(
                    "T121",
                    first.span,
                    op="^",
                    found=(left if left.dtype.is_inexact else right).type,
                    notes=first.notes,
                    hint=text,
                ) from None
            raise

    def compare(self, e: ast.Compare, scope: Scope) -> Task:
        """`a < b < c` is `(a < b) and (b < c)`, each operand evaluated once."""
        nodes = []
        for operand in e.operands:
            nodes.append((yield self.node(operand, scope)))
        result: Node | None = None
        for i, sign in enumerate(e.ops):
            part = self.op(_COMPARE[sign], nodes[i : i + 2], e.span, scope, e.operands[i : i + 2])
            result = part if result is None else self.op("and", [result, part], e.span, scope)
        return result

    def field(self, e: ast.Field, scope: Scope) -> Task:
        """`x.T`, `r.field`, `alias.name`, `r.state`."""
        name = e.name.id
        base = self.resolve(e.base, scope)
        if isinstance(base, RandomDef | StreamDef) and name in ("state", "seed"):
            if not scope.is_command():
                raise error("N105", e.span, what=f"{base.name}.{name}")
            if isinstance(base, StreamDef) and name == "state":
                raise error("F172", e.span, name=base.name)
            return StateRef(base, name)
        value = yield self.expr(e.base, scope)
        if isinstance(value, UnitDef):
            found = value.unit.scope.names.get(name)
            if found is None:
                near = did_you_mean(name, value.unit.scope.names)
                raise error(
                    "N106",
                    e.name.span,
                    name=name,
                    file=value.unit.source.name,
                    hint=f"did you mean `{near}`?" if near else None,
                )
            return (yield self.definition(found, e.span, scope))
        if isinstance(value, Record):
            if name in value.fields:
                return value.items[value.fields.index(name)]
            raise error("T118", e.name.span, name=name, fields=", ".join(value.fields))
        x = self.as_node(value, e.base.span)
        if name == "T":
            return self.op("transpose", [x], e.span, scope, axes=None)
        hint = (
            f"call the operation: `{name}({short(e.base.span.text)})`"
            if is_builtin(name)
            else "a tensor has `.T` only"
        )
        raise error("T119", e.name.span, name=name, hint=hint)

    def resolve(self, e: ast.Expr, scope: Scope) -> Def | None:
        """The definition that a name, or `alias.name`, refers to; None if it is another expression."""
        if isinstance(e, ast.Name):
            return scope.find(e.id)
        if isinstance(e, ast.Field):
            base = self.resolve(e.base, scope) if isinstance(e.base, ast.Name | ast.Field) else None
            if isinstance(base, UnitDef):
                return base.unit.scope.names.get(e.name.id)
        return None

    def target(self, e: ast.Name | ast.Field, scope: Scope) -> Def:
        """The definition that a clause names; an unknown name is an error."""
        found = self.resolve(e, scope)
        if found is not None:
            return found
        if isinstance(e, ast.Name):
            raise self.unknown(e, scope)
        base = self.resolve(e.base, scope)
        if isinstance(base, UnitDef):
            near = did_you_mean(e.name.id, base.unit.scope.names)
            raise error(
                "N106",
                e.name.span,
                name=e.name.id,
                file=base.unit.source.name,
                hint=f"did you mean `{near}`?" if near else None,
            )
        raise error("N107", e.span, text=e.span.text)

    def record(self, e: ast.TupleLit, scope: Scope) -> Task:
        """`(a, b)` and `(n = a, ...)`: a record; a bare name names its field, others are out0, out1 ..."""
        fields, items = [], []
        for k, item in enumerate(e.items):
            source = item.name or item.value
            name = source.id if isinstance(source, ast.Name) else f"out{k}"
            if name in fields:
                raise error("N108", item.span, name=name)
            fields.append(name)
            items.append((yield self.expr(item.value, scope)))
        return Record(tuple(fields), tuple(items))

    # ------------------------------------------------------------ in other files

    def call(self, e: ast.Call, scope: Scope) -> Task:
        """A call of an operation, a dtype, a template or a function."""
        from tlang.elaborate import calls

        return calls.call(self, e, scope)

    def draw(self, e: ast.Expr, kind: Tensor, key: str, scope: Scope, span: Span) -> Task:
        """The draw node of a distribution."""
        from tlang.elaborate import draws

        return draws.draw(self, e, kind, key, scope, span)

    def command_call(
        self, draft: Draft, args: Mapping[str, tuple[Node, Span]], e: ast.Call, scope: Scope
    ) -> Any:
        """A call in a command; only commands have them (see `tlang.elaborate.evaluations`)."""
        raise error("F121", e.span, name=draft.definition.name)

    def given(self, e: ast.Given, scope: Scope) -> Task:
        """`expr given a = 1`."""
        from tlang.elaborate import givens

        return givens.given(self, e, scope)
