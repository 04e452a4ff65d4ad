"""Commands to plans: what a `set`, a loop, a `print` or a bare expression evaluates and stores.

A plan is data. Its expressions are nodes over leaves that a session fills: shared values (with a
version: calls on the same line may change them), values made by `set`, and results of calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlang.elaborate.collecting import names_set
from tlang.elaborate.declared import tensor_type
from tlang.elaborate.evaluations import CommandElaborator, incoming
from tlang.elaborate.indices import stored
from tlang.elaborate.loops import LoopState, same_in_loop
from tlang.elaborate.plans import (
    BatchesPlan,
    BenchPlan,
    CheckPlan,
    EchoPlan,
    Evaluation,
    InitPlan,
    Plan,
    PrintPlan,
    RangePlan,
    RepeatPlan,
    SavePlan,
    SetPlan,
    StatePlan,
    Target,
)
from tlang.elaborate.scope import KIND, RandomDef, RecordType, Scope, SharedDef, StreamDef, UnitDef, ValueDef
from tlang.elaborate.trampoline import trampoline
from tlang.elaborate.values import Dynamic, Record, StateRef, Text
from tlang.errors import Label, error
from tlang.graph.node import Node
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import I64, U64, Dim, Tensor, fresh_symbol

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator
    from tlang.elaborate.program import Program


class Commands:
    """Elaborates the commands of a program's main file against the values that exist by now."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.unit = program.main
        self.depth = 0
        self.loop: LoopState | None = None

    def scope(self) -> Scope:
        """The scope of a command: values made by `set`, then the file's names."""
        scope = Scope(self.unit, "command", self.unit.scope)
        scope.names = self.unit.values  # type: ignore[assignment]
        return scope

    def expression(self, e: ast.Expr) -> Evaluation:
        """Any expression as an evaluation of one value, or of a record."""
        el = CommandElaborator(self.program)
        value = el.evaluate(e, self.scope())
        if isinstance(value, Record):
            return el.evaluation(value.items, value.fields, e.span)
        if not isinstance(value, StateRef):
            value = el.as_node(value, e.span)
        return el.evaluation([value], None, e.span)

    def integer(self, e: ast.Expr, what: str) -> Evaluation:
        """An expression that must be a scalar integer."""
        el = CommandElaborator(self.program)
        x = el.evaluate_node(e, self.scope())
        if x.rank or not x.dtype.is_integer:
            raise error("T146", e.span, what=what, found=x.type.strong())
        return el.evaluation([x.cast(I64)], None, e.span)

    def plan(self, c: ast.Command | ast.SharedDecl) -> Plan:
        """The plan of one command."""
        match c:
            case ast.SharedDecl():
                return self.init(c)
            case ast.Set():
                return self.set(c)
            case ast.Check(value=e, message=message, span=span):
                value = self.expression(e)
                kind = value.types()[0] if len(value.items) == 1 else None
                if not isinstance(kind, Tensor) or kind.rank or kind.dtype.name != "bool":
                    bools = isinstance(kind, Tensor) and kind.dtype.name == "bool"
                    hint = (
                        f"write `check all({e.span.text})`"
                        if bools
                        else "compare it: `check x == y`, or `allclose(x, y)`"
                    )
                    raise error("T147", e.span, found=kind if kind is not None else "a record", hint=hint)
                return CheckPlan(value, message, span)
            case ast.Bench(value=e, span=span):
                return BenchPlan(self.expression(e), span)
            case ast.ExprStmt(value=e, span=span):
                return self.statement(e, span)
            case ast.Repeat():
                return self.repeat(c)
            case ast.For():
                return self.for_(c)
        raise AssertionError(c)

    def statement(self, e: ast.Expr, span: Span) -> Plan:
        """`print(...)`, `save(...)`, or an expression to echo."""
        name = e.func.id if isinstance(e, ast.Call) and isinstance(e.func, ast.Name) else None
        if isinstance(e, ast.Call) and name == "print" and self.unit.scope.find("print") is None:
            return PrintPlan(self.items(e), span)
        if isinstance(e, ast.Call) and name == "save" and self.unit.scope.find("save") is None:
            return self.save(e, span)
        if isinstance(e, ast.Call) and name == "load" and self.unit.scope.find("load") is None:
            path = _only_text(e)
            if path is not None and self.program.host.holds_state(path, self.unit):
                return StatePlan(path, False, self.unit, span)
        return EchoPlan(self.expression(e), self.depth > 0, span)

    def items(self, e: ast.Call) -> Evaluation:
        """The arguments of `print`: values, records and texts."""
        el = CommandElaborator(self.program)
        values: list[Any] = []
        for arg in e.args:
            if arg.name is not None:
                raise error(
                    "F103", arg.name.span, what="`print`", name=arg.name.id, hint="it takes values only"
                )
            value = el.evaluate(arg.value, self.scope())
            if isinstance(value, Record):
                values.extend(value.items)
            else:
                values.append(value if isinstance(value, Text | StateRef) else el.as_node(value, arg.span))
        return el.evaluation(values, None, e.span)

    def save(self, e: ast.Call, span: Span) -> Plan:
        """`save("path", a, b)` or `save("path", x = a)`: names are those of the archive.

        `save("path")` alone is the state of the program.
        """
        el = CommandElaborator(self.program)
        if not e.args or not isinstance(e.args[0].value, ast.String) or e.args[0].name is not None:
            raise error("F122", span, hint='write `save("file.npz", w, b)`')
        if len(e.args) == 1:
            path = e.args[0].value.value
            if not path.lower().endswith((".npz", ".safetensors")):
                hint = "the state of the whole program goes into an .npz or .safetensors file"
                raise error("F106", span, what="`save`", names="a value", hint=hint)
            return StatePlan(path, True, self.unit, span)
        names: list[str] = []
        values = []
        for arg in e.args[1:]:
            value = el.evaluate(arg.value, self.scope())
            state = isinstance(value, StateRef)
            name = _archive_name(arg.name or arg.value, state) or f"arr_{len(names)}"
            if name in names:
                raise error("N108", arg.span, name=name)
            names.append(name)
            values.append(value if state else el.as_node(value, arg.span))
        return SavePlan(
            e.args[0].value.value, tuple(names), el.evaluation(values, None, span), self.unit, span
        )

    def init(self, c: ast.SharedDecl) -> Plan:
        """The initial values of shared names, converted to their type."""
        defs, values = [], []
        for n in c.names:
            found = self.unit.scope.names[n.id]
            assert isinstance(found, SharedDef)
            defs.append(found)
            values.append(self.initial(found))
        return InitPlan(tuple(defs), tuple(values), c.span)

    def initial(self, found: SharedDef) -> Evaluation:
        """A shared value's initial value."""
        decl = found.decl
        el = CommandElaborator(self.program)
        scope = self.scope() if found.unit is self.unit else Scope(found.unit, "command", found.unit.scope)
        if decl.draw:
            if found.type is None:
                raise error("T148", found.span, name=found.name)
            _no_stream(decl.init)
            node = trampoline(el.draw(decl.init, found.type, found.key, scope, found.span))
        else:
            node = el.evaluate_node(decl.init, scope)
            if found.type is not None:
                node = incoming(
                    el,
                    node,
                    found.type,
                    decl.init.span,
                    f"`{found.name}`",
                    Label(found.span, "declared here"),
                    free=True,
                )
        return el.evaluation([node], None, decl.init.span)

    def initial_type(self, found: SharedDef) -> Tensor:
        """The type of a shared value without a declared one: that of its initial value."""
        kind = self.initial(found).types()[0]
        assert isinstance(kind, Tensor)
        return kind.strong()

    def set(self, c: ast.Set) -> Plan:
        """`set targets = expr`: the right side is computed fully before anything is stored."""
        el = CommandElaborator(self.program)
        scope = self.scope()
        targets = [self.target(t, el, scope) for t in c.targets]
        if c.draw:
            values = [self.draw(t, c, el, scope) for t in targets]
        else:
            try:
                value = el.evaluate(c.value, scope)
            except Dynamic:
                for t in targets:
                    if t.kind == "value":
                        self.define(t, t.type)
                raise
            if len(targets) == 1 and not isinstance(value, Record):
                values = [value]
            elif len(targets) == 1:
                values = list(value.items)
            else:
                if not isinstance(value, Record) or len(value.items) != len(targets):
                    got = (
                        f"{len(value.items)}: {', '.join(value.fields)}"
                        if isinstance(value, Record)
                        else "one value"
                    )
                    raise error("T117", c.span, wanted=len(targets), got=got)
                values = list(value.items)
        fields = value.fields if not c.draw and len(targets) == 1 and isinstance(value, Record) else None
        if fields is not None:
            return self.set_record(c, targets[0], value, el)
        stored = [
            self.stored(t, s, v, el, scope, c) for t, s, v in zip(targets, c.targets, values, strict=True)
        ]
        evaluation = el.evaluation(stored, None, c.value.span)
        plan = SetPlan(tuple(targets), evaluation, c.span)
        for t, kind in zip(targets, evaluation.types(), strict=True):
            self.define(t, t.type or kind)
        return plan

    def set_record(self, c: ast.Set, target: Target, value: Record, el: CommandElaborator) -> Plan:
        """`set r = f(x)` with several outputs: r.s, r[0]; stored under the fields' qualified names."""
        if target.kind not in ("value", "discard") or target.type is not None:
            raise error("T114", c.value.span, fields=", ".join(value.fields))
        nodes = [el.as_node(v, c.value.span) for v in value.items]
        evaluation = el.evaluation(nodes, value.fields, c.value.span)
        plan = SetPlan((target,), evaluation, c.span)
        if target.kind == "value":
            self.unit.values[target.name] = ValueDef(
                target.name, target.span, RecordType(value.fields, evaluation.types())
            )
        return plan

    def define(self, t: Target, kind: Tensor | str | None) -> None:
        """Enters a value's type; in a loop it may not change from one iteration to the next."""
        if t.kind == "value":
            before = self.unit.values.get(t.name)
            loop = self.loop
            if loop is not None and t.name in loop.carried and isinstance(kind, Tensor):
                same_in_loop(loop.carried[t.name], kind, t)
            if loop is not None:
                loop.assigned.add(t.name)
            self.unit.values[t.name] = ValueDef(t.name, t.span if before is None else before.span, kind)

    def target(self, t: ast.SetTarget, el: Elaborator, scope: Scope) -> Target:
        """What a target of `set` means."""
        place, name_node = t.place, t.place.target
        name, span = name_node.span.text, place.span
        if isinstance(name_node, ast.Name) and name == "_":
            return Target("discard", "_", span)
        if isinstance(name_node, ast.Field) and name_node.name.id in ("state", "seed"):
            found = el.resolve(name_node.base, scope)
            if isinstance(found, RandomDef | StreamDef):
                if isinstance(found, StreamDef) and name_node.name.id == "state":
                    raise error(
                        "F172",
                        span,
                        name=found.name,
                        hint=f"`set {found.name}.seed = k` reseeds all of its variables",
                    )
                return Target("state", name, span, state=StateRef(found, name_node.name.id))
        found = self.unit.scope.names.get(name)
        if isinstance(name_node, ast.Field):
            inside = isinstance(el.resolve(name_node.base, scope), UnitDef)
            found = el.target(name_node, scope) if inside else None
        if isinstance(found, SharedDef):
            if t.type is not None:
                raise error("F173", t.type.span, name=name)
            return Target("shared", name, span, self.program.shared_type(found, span), found)
        if found is not None:
            hint = {
                "equation": "an equation is not assigned: use another name, or `shared`",
                "tensor": f"give it a value: `... given {name} = ...`",
                "random variable": f"`set {name}.state = ...` sets its state",
            }.get(KIND[type(found)])
            raise error(
                "F171",
                span,
                name=name,
                kind=KIND[type(found)],
                labels=[Label(found.span, "defined here")] if found.span else [],
                hint=hint,
            )
        if isinstance(name_node, ast.Field):
            raise error("F171", span, name=name, kind="field", hint=None)
        if self.loop is not None and name in self.loop.variables:
            raise error("F171", span, name=name, kind="loop variable", hint=None)
        kind = tensor_type(self.unit, t.type) if t.type is not None else None
        return Target("value", name, span, kind)

    def stored(
        self, t: Target, s: ast.SetTarget, value: Any, el: CommandElaborator, scope: Scope, c: ast.Set
    ) -> Any:
        """The value as it is stored: converted to the target's type, a place put into the whole."""
        if t.kind == "state":
            assert t.state is not None
            if t.state.what == "seed":
                if isinstance(value, StateRef) and value.what == "seed":
                    return value
                x = el.as_node(value, c.value.span)
                if x.rank or not x.dtype.is_integer:
                    raise error("T146", c.value.span, what="a seed", found=x.type.strong())
                return x.cast(I64)
            if isinstance(value, Node) and value.dtype is U64 and value.rank == 1:
                return value  # of a file, perhaps; it is examined when it is stored
            if not isinstance(value, StateRef) or value.what != "state":
                raise error("F174", c.value.span, name=t.name)
            return value
        if isinstance(value, StateRef):
            if t.kind == "shared":
                raise error("T115", c.value.span, what=value.what)
            return value
        x = el.as_node(value, c.value.span)
        if s.place.subs is not None:
            if t.kind == "shared":
                assert t.shared is not None
                whole = el.read(el.shared(t.shared, t.span), t.span, scope)
            else:
                whole = el.as_node(el.evaluate(s.place.target, scope), s.place.target.span)
            x = el.convert(x, whole.dtype, c.value.span)
            operands = [s.place.target, c.value]
            return trampoline(stored(el, "set_at", whole, x, s.place.subs, t.span, operands, scope))
        if t.type is None:
            return x
        what, declared = (
            f"`{t.name}`",
            s.type.span if s.type is not None else t.shared.span if t.shared is not None else t.span,
        )
        return incoming(el, x, t.type, c.value.span, what, Label(declared, "declared here"), free=True)

    def draw(self, t: Target, c: ast.Set, el: CommandElaborator, scope: Scope) -> Node:
        """`set v: f64[n] ~ dist(...)`: a draw from the default stream under the target's name."""
        if t.type is None or t.kind not in ("value", "shared"):
            raise error("T148", t.span, name=t.name)
        _no_stream(c.value)
        node: Node = trampoline(el.draw(c.value, t.type, t.name, scope, t.span))
        return node

    def repeat(self, c: ast.Repeat) -> Plan:
        """`repeat n as i { ... }`."""
        count = self.integer(c.count, "the count of `repeat`")
        names = {c.name.id: Tensor(I64)} if c.name is not None else {}
        body = self.body(c.body, names, [c.name] if c.name is not None else [])
        return RepeatPlan(count, c.name.id if c.name is not None else None, body, c.span)

    def for_(self, c: ast.For) -> Plan:
        """`for i in a..b` and `for x, y in batches(...)`."""
        if isinstance(c.iterable, ast.Range):
            start = self.integer(c.iterable.start, "a bound of the range")
            stop = self.integer(c.iterable.stop, "a bound of the range")
            if len(c.names) != 1:
                raise error("F180", c.names[1].span)
            body = self.body(c.body, {c.names[0].id: Tensor(I64)}, c.names)
            return RangePlan(c.names[0].id, start, stop, body, c.span)
        e = c.iterable
        if not (isinstance(e, ast.Call) and isinstance(e.func, ast.Name) and e.func.id == "batches"):
            raise error("F181", e.span)
        options = [a for a in e.args if a.name is not None]
        plain = [a for a in e.args if a.name is None]
        if len(options) != 1 or options[0].name is None or options[0].name.id != "size":
            raise error("F106", e.span, what="`batches`", names="`size = n`")
        if len(plain) != len(c.names):
            raise error("T117", e.span, wanted=len(c.names), got=f"{len(plain)} arrays")
        el = CommandElaborator(self.program)
        arrays = [el.evaluate_node(a.value, self.scope()) for a in plain]
        for a, x in zip(plain, arrays, strict=True):
            if x.rank == 0:
                raise error("F182", a.span, found=x.type)
            if not el.graph.solver.unify(x.shape[0], arrays[0].shape[0]):
                raise error(
                    "T104",
                    a.span,
                    what="an array of `batches`",
                    axis=0,
                    wanted=arrays[0].shape[0],
                    found=x.shape[0],
                )
        rows = Dim.of(fresh_symbol("batch"))
        kinds = {n.id: Tensor(x.dtype, (rows, *x.shape[1:])) for n, x in zip(c.names, arrays, strict=True)}
        evaluation = el.evaluation(arrays, None, e.span)
        size = self.integer(options[0].value, "the size of `batches`")
        body = self.body(c.body, kinds, c.names)
        return BatchesPlan(tuple(n.id for n in c.names), evaluation, size, body, c.span)

    def body(
        self, commands: Sequence[ast.Command], names: Mapping[str, Tensor], nodes: Sequence[ast.Name]
    ) -> tuple[Plan, ...]:
        """A loop's body: types are those of every iteration."""
        for n in nodes:
            if n.id in self.unit.scope.names:
                raise error(
                    "F171",
                    n.span,
                    name=n.id,
                    kind=KIND[type(self.unit.scope.names[n.id])],
                    hint="use another name for the loop variable",
                )
            self.unit.values[n.id] = ValueDef(n.id, n.span, names[n.id])
        outer, hook = self.loop, self.program.on_value_read
        loop = LoopState(
            {n.id for c in commands for n in names_set(c)},
            frozenset(names) | (outer.variables if outer is not None else frozenset()),
        )
        self.loop = loop
        self.depth += 1

        def read(found: ValueDef) -> None:
            if found.name in loop.sets and found.name not in loop.assigned and isinstance(found.type, Tensor):
                loop.carried[found.name] = found.type
            if hook is not None:
                hook(found)

        self.program.on_value_read = read
        try:
            plans = tuple(self.plan(c) for c in commands)
        finally:
            self.loop, self.program.on_value_read = outer, hook
            self.depth -= 1
        if outer is not None:
            outer.assigned |= loop.assigned
        return plans


def _archive_name(source: ast.Expr, state: bool) -> str | None:
    """What an item of `save` is called in the file, if it has a name: `w`, `w` of `layers.w`, `r.state`."""
    match source:
        case ast.Name(id=name):
            return name
        case ast.Field(name=ast.Name(id=name), span=span):
            return span.text if state else name
    return None


def _only_text(e: ast.Call) -> str | None:
    """The text of a call whose one argument is a text."""
    if len(e.args) == 1 and e.args[0].name is None and isinstance(e.args[0].value, ast.String):
        return e.args[0].value.value
    return None


def _no_stream(e: ast.Expr) -> None:
    """`~` after `set` and `shared` draws from the default stream, whose names it shares."""
    if isinstance(e, ast.Call) and isinstance(e.func, ast.Field):
        hint = f"write `~ {e.func.name.id}(...)`; a stream is for `random` variables"
        raise error("F122", e.func.span, hint=hint)
