"""The body of `tlang fmt`: one style for programs.

Spaces, indentation, blank lines and the columns of comments are the formatter's; where a line breaks inside
brackets or after an operator is the author's, and so is whether the `=` of neighbouring lines are aligned.
Tokens and comments stay what they are, so that the tree is the same; a second run changes nothing.

    x=f( a,b )[1 :n]          x = f(a, b)[1:n]
    where{a=1;b=2             where {
    c=3}                          a = 1
                                  b = 2
                                  c = 3
                              }
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import unified_diff
from itertools import pairwise

from tlang.errors import TlangError, error
from tlang.source import Source
from tlang.syntax.layout import CLOSING, OPENING, SEPARATORS, Layout, Token, kinds
from tlang.syntax.parse import classified, parse, scanned

INDENT = 4
#: The first column of comments behind code, from 0; further ones are multiples of `STEP` beyond it.
COMMENTS, STEP = 40, 8
#: Longer code has its comment two spaces behind it and does not move those of its neighbours.
LONG = 62

_OPERANDS = kinds("NAME RPAR RSQB STRING INT FLOAT BOOL NONE ELLIPSIS")
_SIGNS = kinds("PLUS MINUS TILDE LEADING")
_BINARY = kinds("PLUS MINUS STAR POWER SLASH COMPARE BAR CARET AMPERSAND EQUAL TILDE")


@dataclass
class Line:
    """A line in the making: its tokens, its comment with its column in the source, and how it begins.

    `continued` says that it goes on with the statement of the line above; `text` is what is written.
    """

    tokens: list[Token] = field(default_factory=list)
    comment: Token | None = None
    blank_before: bool = False
    continued: bool = False
    ended: bool = False
    text: str = ""

    @property
    def is_code(self) -> bool:
        """Whether anything but a comment stands here."""
        return bool(self.tokens)


def formatted(source: Source) -> str:
    """The program in the one style; raises the errors of a text that is not a program."""
    parse(source)
    lines = _joined(_lines(source.text))
    _write_code(lines)
    _align_signs(source.text, lines)
    result = _finish(source.text, lines)
    assert _meaning(source.text) == _meaning(result), "the formatter changed the program"
    return result


def format_files(names: Sequence[str], check: bool, diff: bool, read: Callable[[str], Source]) -> bool:
    """Rewrites programs, or says which would change; a text from standard input goes to standard output.

    False if a program is wrong, or if with `check` or `diff` something would change.
    """
    fine = True
    for name in names:
        try:
            source = read(name)
            text = formatted(source)
        except TlangError as e:
            print(e, file=sys.stderr)
            fine = False
            continue
        if diff:
            old, new = ([f"{line}\n" for line in t.splitlines()] for t in (source.text, text))
            sys.stdout.writelines(unified_diff(old, new, name, f"{name} (formatted)"))
        if check or diff:
            if text != source.text:
                print(f"{name} would change", file=sys.stderr)
                fine = False
        elif name == "-":
            sys.stdout.write(text)
        elif text != source.text:
            fine = _rewrite(name, text) and fine
    return fine


def _rewrite(name: str, text: str) -> bool:
    try:
        with open(name, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as e:
        print(error("A123", path=name, why=e.strerror or str(e)), file=sys.stderr)
        return False
    return True


def _meaning(text: str) -> list[str]:
    """The tokens as the parser sees them, without what the style may change."""
    found = [
        "\n" if t.type in SEPARATORS else t.text.title() if t.type == "BOOL" else t.text
        for t in Layout(text, scanned(text))
    ]
    return [t for t, after in pairwise([*found, ""]) if not (t == "\n" and after in ("", "}"))]


# ---------------------------------------------------------------- lines


def _lines(text: str) -> list[Line]:
    """The tokens as lines; a block that goes over lines has each of its statements on its own."""
    tokens = scanned(text)
    ends = {t.start for t in Layout(text, tokens) if t.type == "_NEWLINE"}
    actual = {t.start: t.type for t in tokens}
    found = [t._replace(type=actual.get(t.start, t.type)) for t in classified(text) if t.type != "BLANK"]
    found = [t._replace(text=t.text.title()) if t.type == "BOOL" else t for t in found if t.text != "\ufeff"]
    open_blocks = _blocks_over_lines(found)
    out, line, breaks, newlines = [], Line(), False, 0
    stack: list[bool] = []

    def flush(ended: bool) -> None:
        nonlocal line, breaks
        line.ended = ended
        if line.tokens or line.comment is not None:
            out.append(line)
            line = Line()
        breaks = False

    for token in found:
        if token.type == "_NEWLINE":
            newlines += 1
            begins = not line.tokens and line.comment is None
            closed = bool(line.tokens) and line.tokens[-1].type == "SEMICOLON"
            flush(token.start in ends or breaks or closed)
            line.blank_before = begins or line.blank_before
            continue
        if token.type == "COMMENT":
            line.comment = token._replace(text=token.text.rstrip())
            continue
        if breaks:
            flush(True)
        if token.type == "SEMICOLON":
            if stack and stack[-1]:
                breaks = bool(line.tokens)
            elif line.tokens and line.tokens[-1].type != "LBRACE":
                line.tokens.append(token)
            continue
        if token.type == "RBRACE":
            over_lines = stack.pop() if stack else False
            if over_lines and line.tokens:
                flush(True)
        line.tokens.append(token)
        if token.type == "LBRACE":
            stack.append(token.start in open_blocks)
            breaks = stack[-1]
    flush(True)
    for line in out:
        while line.tokens and line.tokens[-1].type == "SEMICOLON":
            line.tokens.pop()
    return [line for line in out if line.tokens or line.comment is not None]


def _blocks_over_lines(tokens: list[Token]) -> set[int]:
    """The places of the braces with a newline or a comment before their closing ones."""
    found, stack = set(), []
    for token in tokens:
        if token.type == "LBRACE":
            stack.append(token.start)
        elif token.type == "RBRACE" and stack:
            stack.pop()
        elif token.type in ("_NEWLINE", "COMMENT"):
            found.update(stack)
    return found


def _joined(lines: list[Line]) -> list[Line]:
    """The lines with `where {` at the end of the line above, and knowing which ones go on."""
    out: list[Line] = []
    for line in lines:
        before = next((x for x in reversed(out) if x.is_code), None)
        open_above = before is not None and not before.ended and before.tokens[-1].type != "LBRACE"
        begins = [t.type for t in line.tokens[:2]]
        if out and out[-1] is before and open_above and begins == ["WHERE", "LBRACE"] and not before.comment:
            before.tokens += line.tokens
            before.comment, before.ended = line.comment, line.ended
            continue
        line.continued = open_above and begins[:1] != ["RBRACE"]
        below_brace = bool(out) and out[-1] is before and before.tokens[-1].type == "LBRACE"
        line.blank_before &= bool(out) and not (below_brace or line.continued or begins[:1] == ["RBRACE"])
        out.append(line)
    return out


# ---------------------------------------------------------------- code


@dataclass
class _Bracket:
    """An open bracket: where lines inside it begin, and where a line with its closing one does."""

    kind: str
    inside: int
    closing: int


def _write_code(lines: list[Line]) -> None:
    """The text of each line without its comment."""
    brackets: list[_Bracket] = []
    goes_on = 0  # where a statement that goes on without brackets begins its next line
    for line in lines:
        blocks = sum(b.kind == "LBRACE" for b in brackets)
        first = line.tokens[0].type if line.tokens else ""
        if first == "RBRACE":
            blocks -= 1
        base = INDENT * max(blocks, 0)
        inner = brackets[-1] if brackets and brackets[-1].kind != "LBRACE" else None
        if inner is not None:
            start = inner.closing if first in CLOSING else inner.inside
        else:
            start = goes_on if line.continued else base
        if first == "WHERE":
            start = base
        pieces, width = [" " * start], start
        for k, token in enumerate(line.tokens):
            pieces += (_gap(line.tokens, k, brackets), token.text)
            width += len(pieces[-2]) + len(token.text)
            last = k + 1 == len(line.tokens)
            if token.type in OPENING:
                hangs = last or token.type == "LBRACE"
                inside, closing = (start + INDENT, start) if hangs else (width, width - 1)
                brackets.append(_Bracket(token.type, inside, closing))
            elif token.type in CLOSING and brackets:
                brackets.pop()
            outside = not brackets or brackets[-1].kind == "LBRACE"
            if k == 0 and not line.continued:
                goes_on = base + INDENT
            elif token.type in ("EQUAL", "TILDE") and outside and not (line.continued or last):
                goes_on = width + 1 if goes_on == base + INDENT else goes_on
        line.text = "".join(pieces)


def _gap(tokens: list[Token], k: int, brackets: list[_Bracket]) -> str:
    """What stands before a token: a space or nothing."""
    if k == 0:
        return ""
    a, b = tokens[k - 1], tokens[k]
    inside = brackets[-1].kind if brackets else ""
    if a.type == "LBRACE" or b.type in ("LBRACE", "RBRACE"):
        return " "
    if a.type in ("LPAR", "LSQB") or b.type in ("RPAR", "RSQB", "COMMA", "SEMICOLON"):
        return ""
    if "DOT" in (a.type, b.type):
        return " " if a.type in ("INT", "FLOAT") else ""
    if a.type in ("COMMA", "SEMICOLON"):
        return " "
    if "RANGE" in (a.type, b.type):
        return " " if a.text.endswith(".") and b.text.startswith(".") else ""
    if "COLON" in (a.type, b.type):
        if inside == "LSQB":
            return _gap_of_slice(tokens, k)
        return "" if b.type == "COLON" else " "
    if a.type in _SIGNS and _is_unary(tokens, k - 1):
        return ""
    if b.type in ("LPAR", "LSQB"):
        return "" if a.type in _OPERANDS else " "
    return " "


def _is_unary(tokens: list[Token], k: int) -> bool:
    """Whether a sign has no operand on its left."""
    return k == 0 or tokens[k - 1].type not in _OPERANDS


def _gap_of_slice(tokens: list[Token], k: int) -> str:
    """Around the `:` of a slice: a space where an operand with an operator stands on one side of it."""
    part = _subscript(tokens, k)
    simple = not any(
        t.type in _BINARY and not _is_unary(tokens, i) and depth == 0 for i, t, depth in part
    ) and not any(t.type in ("AND", "OR", "NOT") and depth == 0 for _, t, depth in part)
    if simple or (tokens[k - 1].type == tokens[k].type == "COLON"):
        return ""
    colon = k if tokens[k].type == "COLON" else k - 1
    other = tokens[k - 1].type if colon == k else tokens[k].type
    return "" if other in ("LSQB", "COMMA", "RSQB", "COLON") else " "


def _subscript(tokens: list[Token], k: int) -> list[tuple[int, Token, int]]:
    """The tokens of the subscript around a place, with their depth in it, as far as the line goes."""
    out = []
    for step, start in ((-1, k - 1), (1, k)):
        depth, i = 0, start
        while 0 <= i < len(tokens):
            t = tokens[i].type
            deeper, shallower = (CLOSING, OPENING) if step < 0 else (OPENING, CLOSING)
            if depth == 0 and (t in shallower or t == "COMMA"):
                break
            depth += (t in deeper) - (t in shallower)
            out.append((i, tokens[i], depth))
            i += step
    return out


# ---------------------------------------------------------------- columns


def _sign(line: Line) -> int | None:
    """The place among its tokens of the `=` or `~` of a line that is one statement, or one named argument."""
    if line.continued:
        opened = sum((t.type in OPENING) - (t.type in CLOSING) for t in line.tokens)
        return 1 if opened == 0 and [t.type for t in line.tokens[:2]] == ["NAME", "EQUAL"] else None
    if not line.ended or any(t.type in ("SEMICOLON", "LBRACE") for t in line.tokens):
        return None
    depth = 0
    for k, token in enumerate(line.tokens):
        depth += (token.type in OPENING) - (token.type in CLOSING)
        if (
            depth == 0
            and k
            and (token.type == "EQUAL" or (token.type == "TILDE" and not _is_unary(line.tokens, k)))
        ):
            return k
    return None


def _align_signs(text: str, lines: list[Line]) -> None:
    """Where the author aligned the signs of neighbouring lines of one kind, they are aligned."""
    rows: list[tuple[Line, int, str, int, bool]] = []

    def settle() -> None:
        if len(rows) > 1 and any(padded for *_, padded in rows):
            widths = [_before(line, sign) for line, sign, *_ in rows]
            for (line, *_), width in zip(rows, widths, strict=True):
                line.text = f"{line.text[:width]}{' ' * (max(widths) - width)}{line.text[width:]}"
        rows.clear()

    for line in lines:
        sign = _sign(line) if line.is_code else None
        if sign is None:
            settle()
            continue
        at = line.tokens[sign].start
        column = at - (text.rfind("\n", 0, at) + 1)
        padded = text[at - 2 : at] == "  "
        kind = line.tokens[0].type
        if line.blank_before or (rows and rows[-1][2:4] != (kind, column)):
            settle()
        rows.append((line, sign, kind, column, padded))
    settle()


def _before(line: Line, sign: int) -> int:
    """The width of a line's text before its sign and the space there."""
    start = len(line.text) - len(line.text.lstrip())
    brackets: list[_Bracket] = []
    width = start
    for k, token in enumerate(line.tokens[:sign]):
        width += len(_gap(line.tokens, k, brackets)) + len(token.text)
        if token.type in OPENING:
            brackets.append(_Bracket(token.type, 0, 0))
        elif token.type in CLOSING and brackets:
            brackets.pop()
    return width


def _finish(text: str, lines: list[Line]) -> str:
    """The whole text: comments in their columns, and one blank line at most between others."""
    columns = _comment_columns(lines)
    out: list[str] = []
    hanging: tuple[int, int] | None = (
        None  # source and new column of the comment that a next line may continue
    )
    for k, line in enumerate(lines):
        if line.blank_before:
            out.append("")
            hanging = None
        if line.comment is None:
            out.append(line.text)
            hanging = None
            continue
        at = line.comment.start - (text.rfind("\n", 0, line.comment.start) + 1)
        if line.is_code:
            column = max(columns[k], len(line.text) + 2)
            hanging = (at, column)
            out.append(f"{line.text:<{column}}{line.comment.text}")
        elif hanging is not None and hanging[0] == at:
            out.append(" " * hanging[1] + line.comment.text)
        else:
            hanging = None
            out.append(line.text + line.comment.text)
    return "".join(f"{line}\n" for line in out)


def _comment_columns(lines: list[Line]) -> list[int]:
    """The column of the comment behind each line: one for all lines of a paragraph."""
    columns = [COMMENTS] * len(lines)
    start = 0
    for k in range(len(lines) + 1):
        if k < len(lines) and not lines[k].blank_before and (lines[k].is_code or k == 0):
            continue
        part = [x for x in lines[start:k] if x.is_code and x.comment is not None and len(x.text) <= LONG]
        widest = max((len(x.text) for x in part), default=0) + 2
        column = COMMENTS + max(0, -(-(widest - COMMENTS) // STEP)) * STEP
        columns[start:k] = [column] * (k - start)
        start = k
    return columns
