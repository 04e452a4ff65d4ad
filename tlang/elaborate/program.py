"""A program: its files, the drafts of its functions, and the check of everything before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlang.elaborate import functions
from tlang.elaborate.collecting import Collected, collect, is_declaration
from tlang.elaborate.drafts import Draft, finish
from tlang.elaborate.expressions import Elaborator
from tlang.elaborate.scope import (
    EquationDef,
    FunctionDef,
    RandomDef,
    SharedDef,
    StreamDef,
    TemplateDef,
    Unit,
    UnitDef,
    ValueDef,
    cycle_error,
)
from tlang.elaborate.values import BUILTINS, Dynamic
from tlang.errors import Diagnostic, TlangError, error
from tlang.graph.node import Function
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.types import Tensor

#: In the key of a state, between its variable and a stream that is not the variable's own.
AT = "@"


class Host:
    """What elaboration asks of the world around it; checking alone knows nothing of files' contents."""

    def read_source(self, path: str, importer: Unit, span: Span) -> Source:
        """The text of an imported file."""
        raise error("D190", span, path=path)

    def parse(self, source: Source) -> ast.Program:
        """The syntax tree of a text."""
        from tlang.syntax.parse import parse

        return parse(source)

    def load_value(self, path: str, key: str | None, span: Span, unit: Unit) -> ValueDef:
        """The value that a `load` gives; its type is unknown before the run."""
        raise Dynamic

    def holds_state(self, path: str, unit: Unit) -> bool:
        """Whether a file holds the state of a program, which `load` on a line of its own gives back."""
        raise Dynamic


class Program:
    """All files of a program, elaborated on demand; `unused` is the policy for unused parameters."""

    def __init__(self, main: Unit, host: Host, unused: str = "error") -> None:
        self.main = main
        self.host = host
        self.unused = unused
        self.units: dict[str, Unit] = {}
        self.loading: list[str] = []
        self.warnings: dict[Diagnostic, None] = {}
        self.on_value_read: Callable[[ValueDef], None] | None = None
        self._drafts: dict[tuple[FunctionDef, frozenset[str]], Draft] = {}
        self._failed: dict[tuple[FunctionDef, frozenset[str]], TlangError] = {}
        self._functions: dict[FunctionDef, Function] = {}
        self._active: dict[FunctionDef, None] = {}
        self._inferring: list[SharedDef] = []

    # ------------------------------------------------------------ files

    def add(self, tree: ast.Program, unit: Unit, replace: bool = False) -> Collected:
        """Enters a parsed file's definitions, its imports first."""
        if unit.source.path is not None:
            self.units.setdefault(unit.source.path, unit)
        found = collect(tree, unit, self.load_unit, BUILTINS, replace)
        if any(map(is_declaration, tree.statements)):
            self.forget()
        for w in found.warnings:
            self.warnings[w] = None
        return found

    def forget(self) -> None:
        """After new definitions: drafts and functions are made anew on demand."""
        self._drafts.clear()
        self._failed.clear()
        self._functions.clear()

    def load_unit(self, decl: ast.Import, importer: Unit) -> Unit:
        """The unit of an imported file, one instance however often it is imported."""
        source = self.host.read_source(decl.path.value, importer, decl.span)
        path = source.path or source.name
        if path in self.loading or path == self.main.source.path:
            cycle = [*self.loading, path][self.loading.index(path) if path in self.loading else 0 :]
            raise error(
                "N120",
                decl.span,
                cycle=" -> ".join(p.rpartition("/")[2] for p in [self.main.source.name, *cycle]),
            )
        if path in self.units:
            return self.units[path]
        prefix = source.stem
        while any(u.prefix == f"{prefix}." for u in self.units.values()):
            prefix += "_"
        unit = Unit(source, f"{prefix}.")
        self.loading.append(path)
        try:
            collected = self.add(self.host.parse(source), unit)
        finally:
            self.loading.remove(path)
        if collected.errors:
            raise collected.errors[0]
        self.units[path] = unit
        return unit

    def all_units(self) -> list[Unit]:
        """The main file and everything it imports, each once."""
        out = {id(self.main): self.main}
        out.update((id(u), u) for u in self.units.values())
        return list(out.values())

    # ------------------------------------------------------------ what elaboration asks

    def shared_type(self, found: SharedDef, span: Span) -> Tensor:
        """A shared value's type: declared, or that of its initial value."""
        if found.type is None:
            if found in self._inferring:
                raise cycle_error(self._inferring[self._inferring.index(found) :])
            self._inferring.append(found)
            try:
                from tlang.elaborate.commands import Commands

                found.type = Commands(self).initial_type(found)
            finally:
                self._inferring.remove(found)
        return found.type

    def value_read(self, found: ValueDef) -> None:
        """Tells the loop around that a value is read."""
        if self.on_value_read is not None:
            self.on_value_read(found)

    def stream_of(self, found: RandomDef) -> StreamDef | None:
        """The stream that a variable draws from; None is the default stream."""
        dist = found.decl.dist
        if isinstance(dist, ast.Call) and isinstance(dist.func, ast.Field):
            base = Elaborator(self).resolve(dist.func.base, found.unit.scope)
            return base if isinstance(base, StreamDef) else None
        return None

    def random_def(self, state: str) -> RandomDef | None:
        """The random variable whose state has a key; None for a name that draws by `~`."""
        found = self._named(state.partition(AT)[0])
        return found if isinstance(found, RandomDef) else None

    def stream_of_state(self, state: str) -> StreamDef | None:
        """The stream that a state belongs to; None is the default stream."""
        variable, _, other = state.partition(AT)
        found = self._named(other or variable)
        if isinstance(found, RandomDef):
            return self.stream_of(found)
        return found if isinstance(found, StreamDef) else None

    def state_in(self, state: str, stream: StreamDef) -> str:
        """The key of the state that a variable has when it draws from a stream, its own or another."""
        found = self.random_def(state)
        assert found is not None
        return found.key if self.stream_of(found) is stream else f"{found.key}{AT}{stream.key}"

    def _named(self, key: str) -> object:
        for unit in self.all_units():
            if key.startswith(unit.prefix) and key[len(unit.prefix) :] in unit.scope.names:
                return unit.scope.names[key[len(unit.prefix) :]]
        return None

    def variables_of(self, stream: StreamDef) -> list[RandomDef]:
        """The variables of a stream in order of declaration, which is that of the scope's names."""
        names = stream.unit.scope.names.values()
        return [d for d in names if isinstance(d, RandomDef) and self.stream_of(d) is stream]

    def warn(self, warnings: tuple[Diagnostic, ...] | list[Diagnostic]) -> None:
        """Keeps warnings, each once."""
        for w in warnings:
            self.warnings[w] = None

    # ------------------------------------------------------------ functions

    def draft(self, found: FunctionDef, opaque: frozenset[str] = frozenset()) -> Draft:
        """A function's draft; a function that calls itself is an error."""
        key = (found, opaque)
        if key in self._failed:
            raise self._failed[key]
        if key not in self._drafts:
            if found in self._active:
                names = [d.name for d in self._active]
                cycle = [*names[names.index(found.name) :], found.name]
                raise error("N112", found.span, name=found.name, cycle=" -> ".join(cycle))
            self._active[found] = None
            try:
                self._drafts[key] = functions.elaborate(self, found, opaque)
            except TlangError as e:
                self._failed[key] = e
                raise
            finally:
                del self._active[found]
            self.warn(self._drafts[key].warnings)
        return self._drafts[key]

    def function(self, found: FunctionDef) -> Function:
        """A function as backends see it."""
        if found not in self._functions:
            self._functions[found] = finish(self.draft(found))
        return self._functions[found]

    # ------------------------------------------------------------ the whole file

    def check_definitions(self, unit: Unit) -> list[TlangError]:
        """Errors of every equation, random variable, stream and function of a file, used or not."""
        errors: list[TlangError] = []
        shared = Elaborator(self)
        failed: set[object] = set()
        for found in list(unit.scope.names.values()):
            try:
                self._check(found, shared, unit)
            except Dynamic:
                shared.active.clear()
            except TlangError as first:
                guilty = [d for d in shared.active if d is not found]
                shared.active.clear()
                if any(d in failed for d in guilty):
                    failed.add(found)
                    continue
                try:  # unknown sizes are solved afresh in each formula: try it alone
                    self._check(found, Elaborator(self), unit)
                except Dynamic:
                    pass
                except TlangError:
                    failed.add(found)
                    failed.update(guilty)
                    errors.append(first)
        self.warn(shared.warnings)
        return errors

    def _check(self, found: Any, el: Elaborator, unit: Unit) -> None:
        match found:
            case EquationDef(name=name, span=span):
                el.evaluate(ast.Name(name, span), unit.scope)
            case RandomDef(name=name, span=span):
                el.evaluate(ast.Name(name, span), unit.scope)
                from tlang.elaborate.streams import check_stream

                check_stream(self, found)
            case FunctionDef():
                self.draft(found)
            case StreamDef():
                from tlang.elaborate.streams import stream_seed

                stream_seed(found)
            case TemplateDef() | UnitDef():
                pass


def new_program(source: Source, host: Host, unused: str = "error") -> Program:
    """An empty program whose main file has this source."""
    return Program(Unit(source), host, unused)
