"""Tokens, and which newlines end statements.

A newline ends a statement except inside `(` and `[`, after an operator, `=`, `,`, `~` or `given`,
and before `where {`. The same module knows the three places where the meaning of a token depends
on its neighbours: `where(` and `repeat(` are names of operations, and an operator that begins a
line does not continue the line above.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tlang.syntax.tables import Tables

END = "$END"


def kinds(names: str) -> frozenset[str]:
    """The kinds of token with these names."""
    return frozenset(names.split())


#: The words that only a statement or a clause can begin with.
STATEMENT_WORDS = kinds(
    "TENSOR SHARED STREAM RANDOM FUNCTION UPDATE HOLD SWAP DROP SET CHECK REPEAT FOR BENCH IMPORT"
)

OPENING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSING = {closing: opening for opening, closing in OPENING.items()}
SEPARATORS = frozenset({"_NEWLINE", "SEMICOLON"})

_BEFORE_STATEMENTS = SEPARATORS | {"LBRACE"}
_PREFIXES = frozenset({"PLUS", "MINUS", "TILDE"})
_CONTINUES = _PREFIXES | kinds("EQUAL STAR POWER SLASH COMPARE BAR CARET AMPERSAND AND OR NOT COMMA GIVEN")


class Token(NamedTuple):
    """A token: the grammar's name for its kind, its text, and the characters `[start, end)`."""

    type: str
    text: str
    start: int
    end: int


class Lexer:
    """Splits texts into tokens, by the terminals of the grammar."""

    def __init__(self, tables: Tables) -> None:
        self.match = re.compile(tables.pattern).finditer
        self.ignored = tables.ignored
        self.words = tables.words

    def read(self, text: str) -> list[Token]:
        """All tokens of a text, closed by an `END` token.

        Every character belongs to a token or is ignored. Of newlines in a row the first stands for
        all, and `where` before a bracket is a name.
        """
        found: list[Token] = []
        words, ignored, before = self.words, self.ignored, ""
        for match in self.match(text):
            kind = match.lastgroup or ""
            if kind in ignored or (kind == before == "_NEWLINE"):
                continue
            value = match[0]
            if kind == "NAME":
                kind = words.get(value, kind)
            elif kind == "LPAR" and before == "WHERE":
                found[-1] = found[-1]._replace(type="NAME")
            found.append(Token(kind, value, match.start(), match.end()))
            before = kind
        found.append(Token(END, "", len(text), len(text)))
        return found


class Layout:
    """Iterates over the tokens that the parser is to see.

    `at` is the index in `tokens` of the token given last, and `brackets` holds the indices of the
    brackets open there; `close_round` is for a parser that finds that one was never closed.
    """

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text = text
        self.tokens = tokens
        self.at = -1
        self.brackets: list[int] = []
        self._braces = 0

    def __iter__(self) -> Iterator[Token]:
        tokens = self.tokens
        last = "_NEWLINE"  # a first token begins a statement
        for at, token in enumerate(tokens):
            kind = token.type
            if kind in SEPARATORS:
                if self._inside_brackets(at) or last in _BEFORE_STATEMENTS or self._goes_on(at, last):
                    continue
            elif kind in OPENING:
                self.brackets.append(at)
                self._braces += kind == "LBRACE"
            elif kind in CLOSING:
                self._close(kind)
            elif kind == "REPEAT" and tokens[at + 1].type == "LPAR":
                if last not in _BEFORE_STATEMENTS or not self._opens_block(at):
                    tokens[at] = token = token._replace(type="NAME")
            elif kind in _PREFIXES and last == "_NEWLINE" and self.at >= 0:
                tokens[at] = token = token._replace(type="LEADING")
            last = kind
            self.at = at
            yield token

    def close_round(self) -> None:
        """Forgets the round and square brackets that are open, down to the nearest brace."""
        while self.brackets and self.tokens[self.brackets[-1]].type != "LBRACE":
            self.brackets.pop()

    def indentation(self, at: int) -> int:
        """How far the line of a token is indented."""
        token = self.tokens[at]
        line = self.text[self.text.rfind("\n", 0, token.start) + 1 : token.start]
        return len(line) - len(line.lstrip())

    def _inside_brackets(self, at: int) -> bool:
        """Whether a separator stands in `(` or `[`.

        A newline before a word that only a statement begins with does not: the bracket was
        forgotten, and the parser is to see where.
        """
        if not self.brackets or self.tokens[self.brackets[-1]].type == "LBRACE":
            return False
        if self.tokens[at].type == "SEMICOLON":
            return False
        word, following = self.tokens[at + 1].type, self.tokens[min(at + 2, len(self.tokens) - 1)].type
        if word == "FOR" and self._ends_comprehension(at + 2):
            return True
        if word in STATEMENT_WORDS and following != "EQUAL" and (word, following) != ("REPEAT", "LPAR"):
            self.close_round()
            return False
        return True

    def _ends_comprehension(self, at: int) -> bool:
        """Whether names and a closing bracket follow: then the `for` before them is a comprehension's."""
        while self.tokens[at].type in ("NAME", "COMMA", "_NEWLINE"):
            at += 1
        return self.tokens[at].type in ("RSQB", "RPAR")

    def _goes_on(self, at: int, last: str) -> bool:
        """Whether the statement before a separator goes on after it."""
        tokens = self.tokens
        if tokens[at].type == "SEMICOLON":
            return False
        if last in _CONTINUES:
            # `x++` at the end of a line is a habit from C, and the next line is not part of it.
            one, two = tokens[max(0, self.at - 1)], tokens[self.at]
            return not (last in ("PLUS", "MINUS") and one.type == last and one.end == two.start)
        return tokens[at + 1].type == "WHERE" and tokens[at + 2].type == "LBRACE"

    def _close(self, kind: str) -> None:
        """Pops the bracket that a closing one ends; a brace ends whatever is open within it."""
        if kind == "RBRACE":
            if self._braces:
                self.close_round()
                self.brackets.pop()
                self._braces -= 1
        elif self.brackets and self.tokens[self.brackets[-1]].type != "LBRACE":
            self.brackets.pop()

    def _opens_block(self, at: int) -> bool:
        """Whether `repeat (` is the loop: then a brace follows in the same statement."""
        depth = 0
        for following in range(at + 1, len(self.tokens)):
            kind = self.tokens[following].type
            if kind == "LBRACE":
                return True
            depth += (kind in ("LPAR", "LSQB")) - (kind in ("RPAR", "RSQB"))
            if depth <= 0 and kind in SEPARATORS:
                return False
        return False
