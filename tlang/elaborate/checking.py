"""The check of a program's commands before any of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.collecting import names_set
from tlang.elaborate.commands import Commands
from tlang.elaborate.declared import tensor_type
from tlang.elaborate.scope import Unit, ValueDef
from tlang.elaborate.values import Dynamic
from tlang.errors import TlangError
from tlang.syntax import ast

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


def check_commands(program: Program, commands: Sequence[ast.Command | ast.SharedDecl]) -> list[TlangError]:
    """Errors of commands before any of them runs.

    A line that needs what only the run knows is left to its turn; so is what depends on a line
    that failed.
    """
    known = dict(program.main.values)
    errors = []
    for c in commands:
        try:
            Commands(program).plan(c)
        except Dynamic:
            _forget_targets(program.main, c, known)
        except TlangError as e:
            errors.append(e)
            _forget_targets(program.main, c, known)
    program.main.values.clear()
    program.main.values.update(known)
    return errors


def _forget_targets(unit: Unit, c: ast.Command | ast.SharedDecl, known: dict[str, ValueDef]) -> None:
    """Values that a line sets, whose types are not known: what uses them waits for the run."""
    if isinstance(c, ast.SharedDecl):
        return
    declared = {
        t.place.target.id: t
        for t in (c.targets if isinstance(c, ast.Set) else ())
        if isinstance(t.place.target, ast.Name)
    }
    for name in (n.id for n in names_set(c)):
        if name in unit.scope.names or name == "_":
            continue
        t = declared.get(name)
        kind = None
        if t is not None and t.type is not None:
            try:
                kind = tensor_type(unit, t.type)
            except TlangError:
                kind = None
        unit.values[name] = ValueDef(name, c.span, kind)
