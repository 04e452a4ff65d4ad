"""Definitions and scopes: what every name of a file, a function or a template means."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from tlang.errors import Diagnostic, Label, TlangError, diagnostic, did_you_mean, error
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.types import DTYPES, THEANO_NAMES, Dim, Symbol, Tensor, fresh_symbol

# ---------------------------------------------------------------- definitions


@dataclass(eq=False, slots=True)
class TensorDef:
    """A declared tensor."""

    name: str
    key: str
    span: Span
    decl: ast.TensorDecl
    type: Tensor


@dataclass(eq=False, slots=True)
class SharedDef:
    """A shared value; its type is known at once if declared, else when its initial value is."""

    name: str
    key: str
    span: Span
    decl: ast.SharedDecl
    unit: Unit
    type: Tensor | None


@dataclass(eq=False, slots=True)
class StreamDef:
    """A random stream, from which variables draw."""

    name: str
    key: str
    span: Span
    decl: ast.StreamDecl
    unit: Unit


@dataclass(eq=False, slots=True)
class RandomDef:
    """A random variable; `hash_name` keys its numbers: the file's stem and the name."""

    name: str
    key: str
    span: Span
    decl: ast.RandomDecl
    unit: Unit
    hash_name: str
    type: Tensor


@dataclass(eq=False, slots=True)
class EquationDef:
    """A named equation, at top level or in a `where`; `index` is its place among several targets."""

    name: str
    key: str
    span: Span
    decl: ast.Equation
    index: int
    scope: Scope


@dataclass(eq=False, slots=True)
class TemplateDef:
    """An equation with parameters; its free names resolve in `scope`, where it is written."""

    name: str
    span: Span
    decl: ast.Template
    scope: Scope


@dataclass(eq=False, slots=True)
class FunctionDef:
    """A function or a copy of one."""

    name: str
    key: str
    span: Span
    decl: ast.FunctionDecl | ast.CopyDecl
    unit: Unit


@dataclass(eq=False, slots=True)
class UnitDef:
    """The alias of an imported file."""

    name: str
    span: Span
    unit: Unit


@dataclass(frozen=True, slots=True)
class RecordType:
    """The type of a value with several fields."""

    fields: tuple[str, ...]
    types: tuple[Tensor | str, ...]


@dataclass(eq=False, slots=True)
class ValueDef:
    """A value made by `set`: its type, None while only a run can know it, or "state" of a stream."""

    name: str
    span: Span | None
    type: Tensor | RecordType | str | None


@dataclass(eq=False, slots=True)
class LocalDef:
    """A parameter of a function or a template, bound to what it stands for."""

    name: str
    span: Span
    value: Any


Def: TypeAlias = (
    TensorDef
    | SharedDef
    | StreamDef
    | RandomDef
    | EquationDef
    | TemplateDef
    | FunctionDef
    | UnitDef
    | ValueDef
    | LocalDef
)

#: What a definition is called in messages.
KIND = {
    TensorDef: "tensor",
    SharedDef: "shared value",
    StreamDef: "stream",
    RandomDef: "random variable",
    EquationDef: "equation",
    TemplateDef: "template",
    FunctionDef: "function",
    UnitDef: "import",
    ValueDef: "value made by `set`",
    LocalDef: "parameter",
}


class Scope:
    """Names of one place and the scope around it.

    `kind` is "unit", "function", "template", "command" or "inline" (a part of a command in which
    calls are expanded). `call` is the use of a template, `caller` the scope of that use.
    """

    __slots__ = ("call", "caller", "kind", "names", "owner", "parent", "unit")

    def __init__(
        self,
        unit: Unit,
        kind: str,
        parent: Scope | None = None,
        owner: Any = None,
        call: Span | None = None,
        caller: Scope | None = None,
    ) -> None:
        self.unit = unit
        self.kind = kind
        self.parent = parent
        self.owner = owner
        self.call = call
        self.caller = caller
        self.names: dict[str, Def] = {}

    def find(self, name: str) -> Def | None:
        """The nearest definition of a name."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.names.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return None

    def visible(self) -> Iterator[str]:
        """Every name that can be used here."""
        scope: Scope | None = self
        while scope is not None:
            yield from scope.names
            scope = scope.parent

    def is_command(self) -> bool:
        """Whether the scope is that of a command, or a part of one."""
        return self.kind in ("command", "inline")

    def uses(self) -> list[Label]:
        """The uses of the templates that the scope is inside of, innermost first."""
        out: list[Label] = []
        scope = self
        while scope.call is not None and scope.caller is not None and len(out) < 4:
            out.append(Label(scope.call, f"in this use of `{scope.owner.name}`"))
            scope = scope.caller
        return out


# ---------------------------------------------------------------- a file


class Unit:
    """The definitions of one file, with the dimension names that it uses.

    `prefix` makes keys of its state distinct from those of other files; the main file's is empty.
    """

    def __init__(self, source: Source, prefix: str = "") -> None:
        self.source = source
        self.prefix = prefix
        self.scope = Scope(self, "unit")
        self.dims: dict[str, Span] = {}
        self.values: dict[str, ValueDef] = {}
        self.set_names: dict[str, Span] = {}
        self.constant_dims: set[str] = set()
        self._constants: dict[str, int | None] = {}

    # ------------------------------------------------------------ types

    def constant(self, name: str) -> int | None:
        """The value of a top-level equation that is an integer computed from literals, or None."""
        if name not in self._constants:
            self._constants[name] = None  # a cycle is not a constant
            found = self.scope.names.get(name)
            if isinstance(found, EquationDef) and len(found.decl.targets) == 1:
                self._constants[name] = trampoline(self._integer(found.decl.value))
        return self._constants[name]

    def integer_value(self, e: ast.Expr) -> int | None:
        """The value of an expression that is an integer computed from literals, or None."""
        result: int | None = trampoline(self._integer(e))
        return result

    def snapshot(self) -> tuple[dict[str, Any], ...]:
        """What `restore` needs to make the definitions what they are now."""
        return tuple(dict(part) for part in (self.scope.names, self.values, self.dims, self.set_names))

    def restore(self, before: tuple[dict[str, Any], ...]) -> None:
        """Undoes what was entered since a snapshot."""
        parts: tuple[dict[str, Any], ...] = (self.scope.names, self.values, self.dims, self.set_names)
        for part, old in zip(parts, before, strict=True):
            part.clear()
            part.update(old)
        self.forget_constants()

    def forget_constants(self) -> None:
        """After a redefinition, constants are looked up anew."""
        self._constants.clear()

    def _integer(self, e: ast.Expr) -> Generator[Any, Any, Any]:
        match e:
            case ast.Number(value=int(value)):
                return value
            case ast.Name(id=name):
                return self.constant(name)
            case ast.Unary(op="-", operand=x):
                value = yield self._integer(x)
                return None if value is None else -int(value)
            case ast.Binary(op=op, left=a, right=b) if op in _INTEGER_OPS:
                left = yield self._integer(a)
                right = yield self._integer(b)
                if left is None or right is None or (op in ("//", "%") and right == 0):
                    return None
                if op == "**" and not 0 <= right <= 64:
                    return None
                return _INTEGER_OPS[op](left, right)
        return None

    def tensor_type(self, t: ast.TypeExpr) -> Tensor:
        """The type that a type expression means; every `_` is a fresh unknown."""
        if t.dims is None and t.name in THEANO_NAMES:
            dtype, dims = THEANO_NAMES[t.name]
            return Tensor(dtype, tuple(Dim(1) if d == "1" else Dim.of(fresh_symbol()) for d in dims))
        if t.name not in DTYPES:
            near = _OTHER_NAMES.get(t.name) or did_you_mean(t.name, [*DTYPES, *THEANO_NAMES])
            raise error("T110", t.span, name=t.name, hint=f"did you mean `{near}`?" if near else None)
        return Tensor(DTYPES[t.name], tuple(map(self.dimension, t.dims or ())))

    def dimension(self, e: ast.Expr) -> Dim:
        """The size that an expression in a type means."""
        found: Dim = trampoline(self._dimension(e))
        return found

    def _dimension(self, e: ast.Expr) -> Generator[Any, Any, Any]:
        match e:
            case ast.Number(value=int(value)):
                return Dim(value)
            case ast.Name(id="_"):
                return Dim.of(fresh_symbol())
            case ast.Name(id=name, span=span):
                constant = self.constant(name)
                if constant is not None:
                    self.constant_dims.add(name)
                    return Dim(constant, alias=name)
                found = self.scope.names.get(name) or self.values.get(name)
                if found is None and name in self.set_names:
                    found = ValueDef(name, self.set_names[name], None)
                if isinstance(found, EquationDef | SharedDef | ValueDef):
                    label = [Label(found.span, f"`{name}` is made here")] if found.span else []
                    raise error("T111", span, name=name, kind=KIND[type(found)], labels=label)
                self.dims.setdefault(name, span)
                return Dim.of(Symbol(name, self.prefix))
            case ast.Binary(op="+" | "-" as op, left=a, right=b):
                left = yield self._dimension(a)
                right = yield self._dimension(b)
                return left + right if op == "+" else left - right
            case ast.Binary(op="*", left=a, right=b):
                left = yield self._dimension(a)
                right = yield self._dimension(b)
                if left.is_const:
                    return right.scale(left.const)
                if right.is_const:
                    return left.scale(right.const)
        raise error("T112", e.span)


_INTEGER_OPS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}
_OTHER_NAMES = {"float": "f64", "double": "f64", "float64": "f64", "float32": "f32", "int": "i64"}
_OTHER_NAMES |= {"int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "u8"}
_OTHER_NAMES |= {"complex": "c128", "complex128": "c128", "complex64": "c64", "boolean": "bool"}
_OTHER_NAMES |= {"uint16": "u16", "uint32": "u32", "uint64": "u64", "f16": "f32", "tensor": "f64"}


def cycle_error(cycle: Sequence[EquationDef | RandomDef | SharedDef]) -> TlangError:
    """The error for definitions that need each other, told from the first of them in the text."""
    first = min(range(len(cycle)), key=lambda i: cycle[i].span.start)
    turned = [*cycle[first:], *cycle[:first], cycle[first]]
    return error("N104", cycle[first].span, cycle=" -> ".join(d.name for d in turned))


def trampoline(task: Generator[Any, Any, Any]) -> Any:
    """Runs generators that yield generators and receive their results: recursion without a stack."""
    stack = [task]
    result: Any = None
    while stack:
        try:
            child = stack[-1].send(result)
        except StopIteration as stop:
            stack.pop()
            result = stop.value
        else:
            stack.append(child)
            result = None
    return result


# ---------------------------------------------------------------- collecting


@dataclass
class Collected:
    """A parsed file with its definitions; `commands` are what runs, shared values included."""

    unit: Unit
    commands: list[ast.Command | ast.SharedDecl]
    errors: list[TlangError] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)


Loader: TypeAlias = "Callable[[ast.Import, Unit], Unit]"


def collect(
    program: ast.Program,
    unit: Unit,
    load: Loader,
    builtins: Iterable[str],
    replace: bool = False,
) -> Collected:
    """Enters a file's definitions into its unit, in any order; `replace` lets new ones replace old."""
    out = Collected(unit, [])
    known = set(builtins)
    fresh: set[str] = set()
    later: list[Callable[[], None]] = []

    def define(name: ast.Name, found: Def) -> None:
        before = unit.scope.names.get(name.id)
        if before is not None and (not replace or name.id in fresh):
            labels = [Label(before.span, f"the {KIND[type(before)]} is defined here")] if before.span else []
            raise error("N102", name.span, name=name.id, labels=labels)
        if name.id in known:
            out.warnings.append(diagnostic("N110", name.span, name=name.id, severity="warning"))
        if name.id in unit.values:
            del unit.values[name.id]
        fresh.add(name.id)
        unit.scope.names[name.id] = found

    for statement in program.statements:
        try:
            if isinstance(statement, ast.Import):
                define(statement.name, UnitDef(statement.name.id, statement.span, load(statement, unit)))
            elif not _enter(statement, unit, define, later):
                out.commands.append(statement)  # type: ignore[arg-type]
                for name in names_set(statement):
                    unit.set_names.setdefault(name.id, name.span)
            if isinstance(statement, ast.SharedDecl):
                out.commands.append(statement)
        except TlangError as e:
            out.errors.append(e)
    unit.forget_constants()
    if replace:
        _retype(unit, fresh, out, later)
    for action in later:  # types may use constants that are defined further down
        try:
            action()
        except TlangError as e:
            out.errors.append(e)
    return out


def is_declaration(s: ast.Statement) -> bool:
    """Whether a statement defines names; the line of a shared value does both."""
    return not isinstance(s, ast.Set | ast.Check | ast.Repeat | ast.For | ast.Bench | ast.ExprStmt)


def _retype(unit: Unit, fresh: set[str], out: Collected, later: list[Callable[[], None]]) -> None:
    """Gives what was declared before its type anew, where a dimension in it has been redefined.

    A shared value whose type needs one starts anew: its line is run again.
    """
    again: dict[ast.SharedDecl, list[ast.Name]] = {}
    for name, found in list(unit.scope.names.items()):
        if name in fresh or not isinstance(found, TensorDef | SharedDef | RandomDef):
            continue
        t = found.decl.type
        if t is None or not fresh & {n.id for n in _names_in(t.dims or ())}:
            continue
        made = copy(found)
        unit.scope.names[name] = made
        later.append(partial(_set_types, unit, [made], t))
        if isinstance(found, SharedDef):
            again.setdefault(found.decl, []).append(ast.Name(name, found.span))
    out.commands[:0] = [dataclasses.replace(decl, names=tuple(names)) for decl, names in again.items()]


def _names_in(dims: Iterable[ast.Expr]) -> Iterator[ast.Name]:
    """The names in the dimensions of a type."""
    stack = list(dims)
    while stack:
        match stack.pop():
            case ast.Name() as name:
                yield name
            case ast.Binary(left=left, right=right):
                stack += [left, right]


def names_set(s: ast.Statement) -> Iterator[ast.Name]:
    """The names of values that a command makes, loops included."""
    match s:
        case ast.Set(targets=targets):
            places = [t.place for t in targets if t.place.subs is None]
            yield from (p.target for p in places if isinstance(p.target, ast.Name))
        case ast.Repeat(body=body) | ast.For(body=body):
            for inner in body:
                yield from names_set(inner)


def _enter(
    s: ast.Statement,
    unit: Unit,
    define: Callable[[ast.Name, Def], None],
    later: list[Callable[[], None]],
) -> bool:
    """Defines what a declaration declares; False for a command."""

    def key(name: ast.Name) -> str:
        return unit.prefix + name.id

    unset = Tensor(DTYPES["f64"])
    match s:
        case ast.TensorDecl(names=names):
            defs = [TensorDef(n.id, key(n), n.span, s, unset) for n in names]
            for n, d in zip(names, defs, strict=True):
                define(n, d)
            later.append(lambda: _set_types(unit, defs, s.type))
        case ast.SharedDecl(names=names, type=t):
            shared = [SharedDef(n.id, key(n), n.span, s, unit, None) for n in names]
            for n, kept in zip(names, shared, strict=True):
                define(n, kept)
            if t is not None:
                declared = t
                later.append(lambda: _set_types(unit, shared, declared))
        case ast.StreamDecl(name=n):
            define(n, StreamDef(n.id, key(n), n.span, s, unit))
        case ast.RandomDecl(name=n):
            hash_name = f"{unit.source.stem}.{n.id}"
            r = RandomDef(n.id, key(n), n.span, s, unit, hash_name, unset)
            define(n, r)
            later.append(lambda: _set_types(unit, [r], s.type))
        case ast.FunctionDecl(name=n) | ast.CopyDecl(name=n):
            define(n, FunctionDef(n.id, key(n), n.span, s, unit))
            if isinstance(s, ast.FunctionDecl):
                later.append(lambda: _note_dims(unit, s))
        case ast.Template(name=n):
            define(n, TemplateDef(n.id, n.span, s, unit.scope))
        case ast.Equation(targets=targets):
            for i, n in enumerate(targets):
                define(n, EquationDef(n.id, key(n), n.span, s, i, unit.scope))
        case _:
            return False
    return True


def _note_dims(unit: Unit, f: ast.FunctionDecl) -> None:
    """The dimension names in a function's own types, so that other formulas may read them."""
    for p in f.params:
        if p.type is not None:
            unit.tensor_type(p.type)


def _set_types(unit: Unit, defs: Iterable[TensorDef | SharedDef | RandomDef], t: ast.TypeExpr) -> None:
    for d in defs:
        d.type = unit.tensor_type(t)
