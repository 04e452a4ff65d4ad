"""The neighbourhood of a token that cannot stand where it does, as the messages need to see it."""

from __future__ import annotations

from dataclasses import dataclass

from tlang.codes import CODES
from tlang.errors import Diagnostic, Label
from tlang.source import Source, Span
from tlang.syntax.automaton import Failure
from tlang.syntax.layout import CLOSING, END, OPENING, SEPARATORS, Token, kinds

ENDS = SEPARATORS | {END}
NUMBERS = frozenset({"INT", "FLOAT"})
OPERANDS = NUMBERS | {"NAME", "STRING", "BOOL", "NONE"}
OPERATORS = kinds("PLUS MINUS STAR SLASH POWER COMPARE BAR CARET AMPERSAND AND OR")
KEYWORDS = kinds(
    "TENSOR SHARED STREAM RANDOM FUNCTION COPY WHERE GIVEN UPDATE HOLD SWAP DROP SET CHECK REPEAT FOR IN AS "
    "BENCH IMPORT AND OR NOT NONE BOOL"
)

_LONGEST_HINT = 72
_NOTHING = Token("", "", 0, 0)


@dataclass(frozen=True, slots=True)
class Trouble:
    """A failure with the tokens around it.

    `first` is the first token of its statement, `token` the one that cannot stand where it does.
    """

    source: Source
    tokens: list[Token]
    failure: Failure

    @property
    def at(self) -> int:
        """The index of the unexpected token."""
        return self.failure.at

    @property
    def begin(self) -> int:
        """The index of the first token of the statement."""
        return self.failure.begin

    @property
    def token(self) -> Token:
        """The unexpected token."""
        return self.tokens[self.at]

    @property
    def first(self) -> Token:
        """The first token of the statement."""
        return self.tokens[self.begin]

    @property
    def opened(self) -> Token | None:
        """The innermost bracket that is open before the token."""
        return None if self.failure.opened is None else self.tokens[self.failure.opened]

    def near(self, distance: int) -> Token:
        """The token so many places behind (or before) the unexpected one, within the statement."""
        at = self.index(distance)
        return self.tokens[at] if self.begin <= at < len(self.tokens) else _NOTHING

    def index(self, distance: int) -> int:
        """The index of the token so many places behind (or before) this one, newlines left out."""
        at, step = self.at, 1 if distance > 0 else -1
        for _ in range(abs(distance)):
            at += step
            while self.begin < at < len(self.tokens) and self.tokens[at].type == "_NEWLINE" and step < 0:
                at += step
        return at

    def touches(self, distance: int = -1) -> bool:
        """Whether no space parts the neighbour at `distance` and the unexpected token."""
        other = self.near(distance)
        if distance < 0:
            return other is not _NOTHING and other.end == self.token.start
        return other is not _NOTHING and other.start == self.token.end

    def expects(self, *kinds: str) -> bool:
        """Whether one of these kinds could have stood here."""
        return not self.failure.expected.isdisjoint(kinds)

    @property
    def end(self) -> int:
        """The index behind the last token of the statement, as far as its brackets tell."""
        depth = 0
        for at in range(self.at, len(self.tokens)):
            kind = self.tokens[at].type
            if kind == END or kind == "LBRACE" or (kind in SEPARATORS and depth == 0):
                return at
            depth += (kind in OPENING) - (kind in CLOSING)
            if depth < 0:
                return at
        return len(self.tokens) - 1

    def find_sign(self) -> int:
        """The index of the `=` at or behind the unexpected token, or the statement's end."""
        end = self.end
        return next((i for i in range(self.at, end) if self.tokens[i].type == "EQUAL"), end)

    @property
    def in_where(self) -> bool:
        """Whether the statement stands in the `where` of a function."""
        depth = 0
        for at in range(self.begin - 1, 0, -1):
            kind = self.tokens[at].type
            depth += (kind == "RBRACE") - (kind == "LBRACE")
            if depth < 0:
                return self.tokens[at - 1].type == "WHERE"
        return False

    def find(self, kind: str, start: int | None = None) -> int | None:
        """The index of the first token of a kind outside brackets, in the statement before `at`."""
        depth = 0
        for at in range(self.begin if start is None else start, self.at):
            found = self.tokens[at].type
            depth += (found in OPENING) - (found in CLOSING)
            if found == kind and depth == 0:
                return at
        return None

    def words(self, start: int, end: int) -> str:
        """The tokens from `start` up to `end` on one line, without comments."""
        parts: list[str] = []
        last = Token("LPAR", "", 0, 0)
        for token in self.tokens[start:end]:
            if token.type == "_NEWLINE":
                continue
            parted = last.end != token.start and last.type not in ("LPAR", "LSQB")
            parts.append(" " + token.text if parted else token.text)
            last = token
        return "".join(parts)

    def operand_start(self, at: int) -> int:
        """The index at which the call, index or bracket that ends at a closing bracket begins."""
        depth = 0
        for start in range(at, self.begin - 1, -1):
            kind = self.tokens[start].type
            depth += (kind in CLOSING) - (kind in OPENING)
            if depth == 0:
                called = start > self.begin and self.tokens[start - 1].type == "NAME"
                return start - called
        return at

    def span(self, start: int, end: int | None = None) -> Span:
        """The characters of the token `start`, or of all from it up to `end`."""
        last = self.tokens[start if end is None else end - 1]
        return Span(self.source, self.tokens[start].start, last.end)

    def report(
        self,
        code: str,
        start: int | None = None,
        end: int | None = None,
        *,
        hint: str | None = None,
        labels: tuple[Label, ...] = (),
        label: str = "",
        **facts: str,
    ) -> Diagnostic:
        """A message at the unexpected token, or at the tokens from `start` up to `end`."""
        at = self.at if start is None else start
        message = CODES[code].sentence.format(**facts)
        return Diagnostic(code, message, self.span(at, end), label, labels, hint=hint)


def write(corrected: str, otherwise: str | None = None) -> str:
    """The hint that shows a corrected text; if that is long, another hint or the text shortened."""
    if len(corrected) <= _LONGEST_HINT:
        return f"write `{corrected}`"
    return otherwise or f"write `{corrected[: _LONGEST_HINT - 3]}...`"


def shown(token: Token) -> str:
    """A token as messages name it."""
    if token.type == END:
        return "end of the text"
    if token.type == "_NEWLINE":
        return "end of the line"
    return f"`{token.text if len(token.text) <= 30 else token.text[:27] + '...'}`"
