"""Definitions and scopes: what every name of a file, a function or a template means."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tlang.errors import Label, TlangError, error
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.types import Tensor

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

    `prefix` makes keys of its state distinct from those of other files; the main file's is empty. `set_names`
    are the names that its commands make, `values` those that are made by now. `constants` are the equations
    that have been asked whether they are constant integers, `constant_dims` those that stand in types.
    """

    def __init__(self, source: Source, prefix: str = "") -> None:
        self.source = source
        self.prefix = prefix
        self.scope = Scope(self, "unit")
        self.dims: dict[str, Span] = {}
        self.values: dict[str, ValueDef] = {}
        self.set_names: dict[str, Span] = {}
        self.constant_dims: set[str] = set()
        self.constants: dict[str, int | None] = {}

    def snapshot(self) -> tuple[dict[str, Any], ...]:
        """What `restore` needs to make the definitions what they are now."""
        return tuple(dict(part) for part in (self.scope.names, self.values, self.dims, self.set_names))

    def restore(self, before: tuple[dict[str, Any], ...]) -> None:
        """Undoes what was entered since a snapshot."""
        parts: tuple[dict[str, Any], ...] = (self.scope.names, self.values, self.dims, self.set_names)
        for part, old in zip(parts, before, strict=True):
            part.clear()
            part.update(old)
        self.constants.clear()


def cycle_error(cycle: Sequence[EquationDef | RandomDef | SharedDef]) -> TlangError:
    """The error for definitions that need each other, told from the first of them in the text."""
    first = min(range(len(cycle)), key=lambda i: cycle[i].span.start)
    turned = [*cycle[first:], *cycle[:first], cycle[first]]
    return error("N104", cycle[first].span, cycle=" -> ".join(d.name for d in turned))
