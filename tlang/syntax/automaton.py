"""Runs the LALR(1) tables over the tokens: locations, and recovery at the ends of statements.

Lark computes the tables and the callbacks; running them here gives every callback the extent of
its text, takes less time, and lets one run find the faults of many statements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import lark
from lark.grammar import Rule
from lark.parsers.lalr_analysis import Shift

from tlang.syntax.layout import CLOSING, END, OPENING, SEPARATORS, Layout, Token

#: A file with more faults is something else than a program.
MOST_FAILURES = 100


class Located(Protocol):
    """What has the callbacks: before each it is told which characters the new node covers."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Failure:
    """A token that cannot stand where it does.

    `at` is its index in the layout's tokens and `begin` that of the first token of its statement;
    `opened` is that of the innermost bracket open before it, and `unclosed` says that nothing
    closes it; `expected` are the kinds of token that could have stood there.
    """

    at: int
    begin: int
    opened: int | None
    unclosed: bool
    expected: frozenset[str]


class _Reduction(NamedTuple):
    size: int
    origin: str
    build: Callable[[list[Any]], Any] | None  # None: the node is that of the only symbol


class Automaton:
    """The tables of one start symbol, ready to run."""

    def __init__(self, grammar: lark.Lark, start: str) -> None:
        conf = grammar.parse_interactive(start=start).parser_state.parse_conf
        self.states: dict[Any, dict[str, Any]] = conf.states
        self.first: Any = conf.start_state
        self.final: Any = conf.end_state
        # Lark's rules hash their whole text at each look-up; their identity serves as well.
        self.reductions: dict[int, _Reduction] = {}
        for rule, build in conf.callbacks.items():
            if isinstance(rule, Rule):
                unit = rule.options.expand1 and rule.alias is None and len(rule.expansion) == 1
                self.reductions[id(rule)] = _Reduction(
                    len(rule.expansion), rule.origin.name, None if unit else build
                )

    def run(self, layout: Layout, builder: Located) -> tuple[Any, list[Failure]]:
        """The node of the start symbol (None if anything failed), and the failures in order."""
        return _Run(self, layout, builder).result()


class _Run:
    """One run: parallel stacks of states, nodes and extents, and what recovery needs."""

    def __init__(self, tables: Automaton, layout: Layout, builder: Located) -> None:
        self.tables = tables
        self.layout = layout
        self.builder = builder
        self.states = [tables.first]
        self.values: list[Any] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.failures: list[Failure] = []
        # For the program and each open brace: the height of `states` and the index of the token
        # at which its current statement begins.
        self.marks = [(1, 0)]
        self.skipping = False
        self.nested = 0  # braces opened while skipping
        self.margin: int | None = None  # skipping lines that are indented further than this

    def result(self) -> tuple[Any, list[Failure]]:
        opened: int | None = None
        for token in self.layout:
            if not self.skipping or self._resumes(token):
                if not self._feed(token):
                    self._fail(token, opened)
                if len(self.failures) >= MOST_FAILURES:
                    break
            opened = self.layout.brackets[-1] if self.layout.brackets else None
        return (None if self.failures else self.values[-1]), self.failures

    def _feed(self, token: Token) -> bool:
        """Reduces as far as the token tells, and shifts it; False if it cannot stand here."""
        states, values, starts, ends = self.states, self.values, self.starts, self.ends
        table, reductions, builder = self.tables.states, self.tables.reductions, self.builder
        kind = token.type
        while True:
            entry = table[states[-1]].get(kind)
            if entry is None:
                return False
            action, target = entry
            if action is Shift:
                states.append(target)
                values.append(token)
                starts.append(token.start)
                ends.append(token.end)
                if kind in SEPARATORS or kind in ("LBRACE", "RBRACE"):
                    self._mark(kind)
                return True
            size, origin, build = reductions[id(target)]
            if build is None:
                states[-1] = table[states[-2]][origin][1]
                continue
            if size:
                builder.start, builder.end = starts[-size], ends[-1]
                children = values[-size:]
                del states[-size:], values[-size:], starts[-size:], ends[-size:]
            else:
                builder.start = builder.end = ends[-1] if ends else 0
                children = []
            starts.append(builder.start)
            ends.append(builder.end)
            values.append(build(children))
            states.append(table[states[-1]][origin][1])
            if kind == END and states[-1] == self.tables.final:
                return True

    def _mark(self, kind: str) -> None:
        """Notes where a statement begins: behind a separator or a brace."""
        here = (len(self.states), self.layout.at + 1)
        if kind == "LBRACE":
            self.marks.append(here)
        elif kind == "RBRACE":
            self.marks.pop()
        else:
            self.marks[-1] = here

    # ------------------------------------------------------------------------ recovery

    def _fail(self, token: Token, opened: int | None) -> None:
        """Records the failure, drops the statement, and arranges where to go on."""
        height, begin = self.marks[-1]
        at = self.layout.at
        unclosed = opened is not None and self._never_closed(opened, at)
        self.failures.append(Failure(at, begin, opened, unclosed, self._expected()))
        del (
            self.states[height:],
            self.values[height - 1 :],
            self.starts[height - 1 :],
            self.ends[height - 1 :],
        )
        self.skipping, self.nested, self.margin = True, 0, None
        if unclosed and self.layout.tokens[at - 1].type == "_NEWLINE":
            # The lines after a forgotten bracket are statements of their own.
            self.layout.close_round()
            self.marks[-1] = (len(self.states), at)
            self.skipping = not self._feed(token)
        elif self._resumes(token):
            self._feed(token)

    def _resumes(self, token: Token) -> bool:
        """Whether a token met while skipping ends the dropped statement and is to be parsed."""
        kind = token.type
        if kind == "LBRACE":
            self.nested += 1
        elif kind == "RBRACE" and self.nested:
            self.nested -= 1
        elif kind == END or (kind == "RBRACE" and len(self.marks) > 1):
            self.skipping = False
        elif kind in SEPARATORS and not self.nested and not self._hangs(kind) and not self._in_round():
            self.skipping = False
            if kind not in self.tables.states[self.states[-1]]:
                self._mark(kind)
                return False
        return not self.skipping

    def _in_round(self) -> bool:
        """Whether round or square brackets are open, so that a semicolon ends nothing."""
        brackets = self.layout.brackets
        return bool(brackets) and self.layout.tokens[brackets[-1]].type != "LBRACE"

    def _hangs(self, kind: str) -> bool:
        """Whether what follows is the indented body of a Python statement that was dropped."""
        tokens, at = self.layout.tokens, self.layout.at
        if kind == "_NEWLINE" and self.margin is None and tokens[at - 1].type == "COLON":
            self.margin = self.layout.indentation(self.marks[-1][1])
        return self.margin is not None and (
            kind == "SEMICOLON" or self.layout.indentation(at + 1) > self.margin
        )

    def _never_closed(self, opened: int, at: int) -> bool:
        """Whether the bracket `opened` is still open where its statement or the text ends."""
        tokens = self.layout.tokens
        if tokens[opened].type == "LBRACE":
            return tokens[at].type == END
        depth = 1
        for token in tokens[at:]:
            depth += (token.type in OPENING) - (token.type in CLOSING)
            if depth == 0:
                return False
        return True

    def _expected(self) -> frozenset[str]:
        """The kinds of token that this state shifts in the end, not those that it only reduces on."""
        kinds = self.tables.states[self.states[-1]]
        return frozenset(kind for kind in kinds if kind.isupper() and self._accepts(kind))

    def _accepts(self, kind: str) -> bool:
        table = self.tables.states
        height = len(self.states)
        above: list[Any] = []
        while True:
            entry = table[above[-1] if above else self.states[height - 1]].get(kind)
            if entry is None:
                return False
            action, rule = entry
            if action is Shift:
                return True
            size = len(rule.expansion)
            shared = max(0, size - len(above))
            del above[len(above) - (size - shared) :]
            height -= shared
            state = above[-1] if above else self.states[height - 1]
            above.append(table[state][rule.origin.name][1])
            if kind == END and above[-1] == self.tables.final:
                return True
