"""Runs the LALR(1) tables over the tokens: locations, and recovery at the ends of statements.

Every callback is told the extent of its text, and one run finds the faults of many statements.
Nothing is recursive, so that neither depth nor length is limited.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from tlang.syntax.layout import CLOSING, END, OPENING, SEPARATORS, Layout, Token
from tlang.syntax.tables import Tables

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


class Automaton:
    """The tables, and a builder whose methods are the rules' callbacks."""

    def __init__(self, tables: Tables, builder: Located) -> None:
        self.tables = tables
        self.builder = builder
        self.callbacks: list[Callable[..., Any] | None] = [
            getattr(builder, rule.build) if rule.build else None for rule in tables.rules
        ]

    def run(self, layout: Layout, start: str) -> tuple[Any, list[Failure]]:
        """The node of a start symbol (None if anything failed), and the failures in order."""
        return _Run(self, layout, start).result()

    def expected(self, layout: Layout, start: str) -> frozenset[str]:
        """The kinds of token that may follow a text that breaks off, and the rules that may begin there."""
        return _Run(self, layout, start).followers()


class _Run:
    """One run: parallel stacks of states, nodes and extents, and what recovery needs."""

    def __init__(self, automaton: Automaton, layout: Layout, start: str) -> None:
        self.automaton = automaton
        self.layout = layout
        self.table = automaton.tables.states
        first, self.final = automaton.tables.starts[start]
        self.states = [first]
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

    def followers(self) -> frozenset[str]:
        """What the state before the end of the text goes on with; nothing while a fault is skipped."""
        opened: int | None = None
        for token in self.layout:
            if token.type == END:
                break
            if (not self.skipping or self._resumes(token)) and not self._feed(token):
                self._fail(token, opened)
            opened = self.layout.brackets[-1] if self.layout.brackets else None
        if self.skipping:
            return frozenset()
        rules = (symbol for symbol in self.table[self.states[-1]] if symbol.islower())
        return self._expected() | frozenset(rules)

    def _feed(self, token: Token) -> bool:
        """Reduces as far as the token tells, and shifts it; False if it cannot stand here."""
        states, values, starts, ends = self.states, self.values, self.starts, self.ends
        table, rules = self.table, self.automaton.tables.rules
        kind = token.type
        while True:
            target = table[states[-1]].get(kind)
            if target is None:
                return False
            if target >= 0:
                states.append(target)
                values.append(token)
                starts.append(token.start)
                ends.append(token.end)
                if kind in SEPARATORS or kind in ("LBRACE", "RBRACE"):
                    self._mark(kind)
                return True
            origin, size, kept, _, build = rules[~target]
            if size == 1 and build is None:
                states[-1] = table[states[-2]][origin]
                continue
            start = starts[-size] if size else self._here()
            end = ends[-1] if size else start
            node = values[kept[0][0] - size] if build is None else self._node(~target, start, end)
            if size:
                del states[-size:], values[-size:], starts[-size:], ends[-size:]
            values.append(node)
            starts.append(start)
            ends.append(end)
            states.append(table[states[-1]][origin])
            if kind == END and states[-1] == self.final:
                return True

    def _here(self) -> int:
        return self.ends[-1] if self.ends else 0

    def _node(self, number: int, start: int, end: int) -> Any:
        """The node of a rule, built from the values on top of the stack."""
        _, size, kept, absent, _ = self.automaton.tables.rules[number]
        children: list[Any] = []
        for place, spliced, missing in kept:
            if missing:
                children += [None] * missing
            value = self.values[place - size]
            if not spliced:
                children.append(value)
            elif children:
                children += value
            else:
                children = value  # a list grows in place, or long ones would take quadratic time
        if absent:
            children += [None] * absent
        build = self.automaton.callbacks[number]
        if build is None:
            return children
        builder = self.automaton.builder
        builder.start, builder.end = start, end
        return build(*children)

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
        while begin < at and self.layout.tokens[begin].type in SEPARATORS:
            begin += 1  # blank lines, which the layout has left out
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
        elif kind in (END, "RBRACE") and len(self.marks) > 1:
            self.skipping = False
        elif kind in SEPARATORS and not self.nested and not self._hangs(kind) and not self._in_round():
            self.skipping = False
            if kind not in self.table[self.states[-1]]:
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
        kinds = self.table[self.states[-1]]
        return frozenset(kind for kind in kinds if kind.isupper() and self._accepts(kind))

    def _accepts(self, kind: str) -> bool:
        height = len(self.states)
        above: list[int] = []
        while True:
            target = self.table[above[-1] if above else self.states[height - 1]].get(kind)
            if target is None or target >= 0:
                return target is not None
            rule = self.automaton.tables.rules[~target]
            shared = max(0, rule.size - len(above))
            del above[len(above) - (rule.size - shared) :]
            height -= shared
            state = above[-1] if above else self.states[height - 1]
            above.append(self.table[state][rule.origin])
            if kind == END and above[-1] == self.final:
                return True
