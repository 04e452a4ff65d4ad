"""A session: a program with its state, from the text of its declarations to the run of its commands.

Its parts are the :class:`~tlang.run.store.Store`, which has the state, the
:class:`~tlang.run.backends.Backends`, which say what computes, the
:class:`~tlang.run.evaluation.Evaluator` of calls and expressions, and the
:class:`~tlang.run.execution.Executor` of commands.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from tlang.elaborate.checking import check_commands
from tlang.elaborate.collecting import is_declaration
from tlang.elaborate.commands import Commands
from tlang.elaborate.program import Host, Program
from tlang.elaborate.scope import SharedDef, Unit, ValueDef
from tlang.elaborate.values import Dynamic
from tlang.errors import TlangError, join_errors
from tlang.run.backends import Backends
from tlang.run.evaluation import Evaluator
from tlang.run.execution import Executor
from tlang.run.files import beside, imported, read_source
from tlang.run.store import Snapshot, Store, type_of
from tlang.source import Source, Span
from tlang.syntax import ast


class Session(Host):
    """One running program. `write` receives what `print` and bare expressions show."""

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        unused: str = "error",
        backend: str = "auto",
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.program = Program(Unit(source), self, unused)
        self.unit = self.program.main
        self.store = Store(self.program, seed)
        self.backends = Backends(self.store, backend)
        self.evaluator = Evaluator(self.store, self.backends)
        self.executor = Executor(
            self.evaluator, write if write is not None else lambda text: print(text, flush=True)
        )
        self.loops = self.executor.loops
        self._loaded = 0
        self._checking = False

    # ------------------------------------------------------------ files that elaboration reads

    def read_source(self, path: str, importer: Unit, span: Span) -> Source:
        """The text of an imported file; what begins with `std/` lies in the package."""
        return read_source(path, imported(path, importer.source.path), span)

    def load_value(self, path: str, key: str | None, span: Span, unit: Unit) -> ValueDef:
        """Reads a data file; the value gets a name of its own. A check does not open files."""
        if self._checking:
            raise Dynamic
        from tlang.run import data

        array = data.read(beside(path, unit.source.path), key, span, shown=path)
        self._loaded += 1
        name = f"%load{self._loaded}"
        self.store.values[name] = array
        return ValueDef(name, span, type_of(array))

    def holds_state(self, path: str, unit: Unit) -> bool:
        """Whether a file holds the state of a program. A check does not open files."""
        if self._checking:
            raise Dynamic
        from tlang.run import data

        return bool(data.note_of(beside(path, unit.source.path)))

    def without_files(self, action: Callable[[], Any]) -> Any:
        """The result of an action for which no data file is opened: a `load` in it raises `Dynamic`."""
        before, self._checking = self._checking, True
        try:
            return action()
        finally:
            self._checking = before

    # ------------------------------------------------------------ declarations

    def declare(self, tree: ast.Program, replace: bool = False) -> list[ast.Command | ast.SharedDecl]:
        """Enters a program's declarations and checks all of it; returns the commands to run.

        With `replace` new definitions replace old ones of their names; random variables, and shared values
        with their lines, start anew. An error leaves the program as it was.
        """
        before = self.store.snapshot()
        try:
            commands, errors = self.enter(tree, replace)
        except BaseException:  # an interrupt, too, leaves nothing behind
            self.restore(before)
            raise
        if errors:
            self.restore(before)
            raise join_errors(errors)
        if replace:
            self.store.start_anew(before.definitions[0])
        return commands

    def restore(self, before: Snapshot) -> None:
        """Undoes definitions since a snapshot of the store; those that come back have their state again."""
        self.store.restore(before)
        self.program.forget()
        self.backends.forget()

    def enter(
        self, tree: ast.Program, replace: bool = False
    ) -> tuple[list[ast.Command | ast.SharedDecl], list[TlangError]]:
        """Enters declarations; returns the commands, and all errors of the whole program."""
        collected = self.program.add(tree, self.unit, replace)
        errors = list(collected.errors)
        declares = any(map(is_declaration, tree.statements))
        self._checking = True
        try:
            if declares:
                errors += [e for u in self.program.all_units() for e in self.program.check_definitions(u)]
            errors += check_commands(self.program, collected.commands)
        finally:
            self._checking = False
        if not declares:
            return collected.commands, errors
        self.backends.forget()
        for unit in self.program.all_units():
            if unit is not self.unit:
                self._initialise(unit, strict=not errors)
        return collected.commands, errors

    def _initialise(self, unit: Unit, strict: bool) -> None:
        """The shared values of an imported file: its commands do not run, its declarations do.

        In a program with errors, what can have its value gets it (`strict` false).
        """
        for found in unit.scope.names.values():
            if isinstance(found, SharedDef) and found.key not in self.store.shared:
                with contextlib.suppress(*(() if strict else (TlangError,))):
                    value = Commands(self.program).initial(found)
                    self.executor.initialise(found, self.evaluator.evaluate(value)[0])

    # ------------------------------------------------------------ commands

    def run(self, commands: Sequence[ast.Command | ast.SharedDecl]) -> None:
        """Runs commands in order."""
        for c in commands:
            self.command(c)

    def command(self, c: ast.Command | ast.SharedDecl) -> None:
        """Plans one command against the values that exist by now, and executes it."""
        try:
            self.executor.execute(Commands(self.program).plan(c))
        finally:
            self.evaluator.forget_command()
            self.store.forget_types()

    def try_initialise(self, c: ast.Command | ast.SharedDecl) -> None:
        """Runs the line of a shared value where that needs no command that was skipped."""
        if isinstance(c, ast.SharedDecl):
            with contextlib.suppress(TlangError):
                self.command(c)
