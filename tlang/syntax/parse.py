"""From text to tree: `parse`, `parse_expression`, and what a REPL asks, `is_incomplete`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tlang.errors import Diagnostic, join_errors
from tlang.errors import SyntaxError as TlangSyntaxError
from tlang.source import Source
from tlang.syntax import ast
from tlang.syntax.automaton import Automaton, Failure
from tlang.syntax.build import Builder
from tlang.syntax.layout import END, Layout, Lexer, Token
from tlang.syntax.tables import load_tables


def parse(source: Source) -> ast.Program:
    """The tree of a program.

    Raises :class:`tlang.errors.SyntaxError` with the faults of all statements, in order.
    """
    program = _parse(source, "program")
    assert isinstance(program, ast.Program)
    return program


def parse_expression(source: Source) -> ast.Expr:
    """The tree of one expression, which may end with `given`; raises as `parse` does."""
    expr: ast.Expr = _parse(source, "sole_expr")
    return expr


def is_incomplete(source: Source) -> bool:
    """Whether a program breaks off in the middle, so that a REPL should ask for another line.

    It does inside brackets and braces and after an operator, but not where a newline ends a
    statement, however little of it is there.
    """
    tokens, _, failures, _ = _run(Source(source.name, source.text + "\n"), "program")
    return len(failures) == 1 and tokens[failures[0].at].type == END


def classified(text: str) -> Iterator[Token]:
    """The tokens of a text as the grammar has them, comments and blanks too, words by their own kinds."""
    lexer = _parser().lexer
    for match in lexer.match(text):
        kind = match.lastgroup or ""
        if kind == "NAME":
            kind = lexer.words.get(match[0], kind)
        yield Token(kind, match[0], match.start(), match.end())


def scanned(text: str) -> list[Token]:
    """The tokens that the layout is given, closed by one for the end."""
    return _parser().lexer.read(text)


def continuations(text: str) -> tuple[list[Token], frozenset[str]]:
    """The tokens of a text that breaks off, and what may follow: kinds of token, and rules that may begin.

    Rules tell apart what a name there would be: one that is defined, a type, a dimension. After a fault
    in the last statement nothing may follow.
    """
    parser = _parser()
    with parser.lock:
        parser.builder.begin(Source("<text>", text))
        tokens = parser.lexer.read(text)
        return tokens, parser.automaton.expected(Layout(text, tokens), "program")


def words() -> Mapping[str, str]:
    """The reserved words, with the kinds of their tokens."""
    return _parser().lexer.words


class _Parser:
    """The tables with a builder, which serve one text at a time."""

    def __init__(self) -> None:
        tables = load_tables()
        self.lock = threading.Lock()
        self.builder = Builder()
        self.lexer = Lexer(tables)
        self.automaton = Automaton(tables, self.builder)


@cache
def _parser() -> _Parser:
    return _Parser()


def _run(source: Source, start: str) -> tuple[list[Token], Any, list[Failure], list[Diagnostic]]:
    parser = _parser()
    with parser.lock:
        parser.builder.begin(source)
        tokens = parser.lexer.read(source.text)
        node, failures = parser.automaton.run(Layout(source.text, tokens), start)
        return tokens, node, failures, parser.builder.found


def _parse(source: Source, start: str) -> Any:
    tokens, node, failures, found = _run(source, start)
    if failures:
        from tlang.syntax.mistakes import explain

        found = found + [explain(source, tokens, failure) for failure in _independent(tokens, failures)]
    if found:
        raise join_errors([TlangSyntaxError(d) for d in found])
    return node


def _independent(tokens: list[Token], failures: list[Failure]) -> list[Failure]:
    """The failures, without what begins the line below a statement that broke off.

    One that should have been the continuation says nothing new.
    """
    ended = {f.at for f in failures if tokens[f.at].type == "_NEWLINE"}
    return [f for f in failures if f.at != f.begin or f.at - 1 not in ended]
