"""The declarations of a parsed file become definitions of its unit, in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from tlang.elaborate.declared import tensor_type
from tlang.elaborate.scope import (
    KIND,
    Def,
    EquationDef,
    FunctionDef,
    RandomDef,
    SharedDef,
    StreamDef,
    TemplateDef,
    TensorDef,
    Unit,
    UnitDef,
)
from tlang.errors import Diagnostic, Label, TlangError, diagnostic, error
from tlang.syntax import ast
from tlang.types import DTYPES, Tensor


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
    unit.constants.clear()
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
            tensor_type(unit, p.type)


def _set_types(unit: Unit, defs: Iterable[TensorDef | SharedDef | RandomDef], t: ast.TypeExpr) -> None:
    for d in defs:
        d.type = tensor_type(unit, t)
