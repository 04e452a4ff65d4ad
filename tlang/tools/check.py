"""`tlang check`: everything that can be said of a program before it runs, without NumPy."""

from __future__ import annotations

from tlang.elaborate.advice import advice
from tlang.elaborate.checking import check_commands
from tlang.elaborate.program import Host, Program
from tlang.elaborate.scope import Unit
from tlang.errors import Diagnostic, TlangError, join_errors
from tlang.run.files import imported, read_source
from tlang.source import Source, Span
from tlang.syntax.parse import parse


class FileHost(Host):
    """Reads imported files; data files are not opened."""

    def read_source(self, path: str, importer: Unit, span: Span) -> Source:
        """The text of an imported file."""
        return read_source(path, imported(path, importer.source.path), span)


def check_source(source: Source, unused: str = "error") -> list[Diagnostic]:
    """All errors and warnings of a program, sorted by place."""
    program = Program(Unit(source), FileHost(), unused)
    try:
        tree = parse(source)
    except TlangError as e:
        return list(e.diagnostics)
    collected = program.add(tree, program.main)
    errors = list(collected.errors)
    for unit in program.all_units():
        errors += program.check_definitions(unit)
    errors += check_commands(program, collected.commands)
    found = list(join_errors(errors).diagnostics) if errors else []
    more = [] if errors else advice([tree])
    return sorted([*found, *program.warnings, *more], key=Diagnostic.sort_key)
