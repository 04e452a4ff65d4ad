"""Diagnostics: errors and warnings as data, one renderer, and "did you mean".

A module that finds a fault writes ``raise error("T102", span, left=..., hint=...)``: the code
selects the kind of exception and the sentence in :mod:`tlang.codes`, where all prose stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from tlang.codes import CODES
from tlang.source import Source, Span


@dataclass(frozen=True, slots=True)
class Label:
    """A secondary place of a message, with what is to be said of it."""

    span: Span
    text: str = ""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One message: a code, a sentence, a place, further places, aligned facts and a hint."""

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    labels: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    hint: str | None = None
    severity: str = "error"

    def sort_key(self) -> tuple[str, int]:
        """Diagnostics are reported by file and place."""
        return ("", -1) if self.span is None else (self.span.source.name, self.span.start)

    def to_json(self) -> dict[str, object]:
        """The message for tools: every place with line and column, from 1."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "place": _place_json(self.span),
            "labels": [{"place": _place_json(x.span), "text": x.text} for x in self.labels],
            "notes": list(self.notes),
            "hint": self.hint,
        }


class TlangError(Exception):
    """Base of every error that a tlang program or call can cause.

    Holds one diagnostic or several (a file is checked to its end); `code`, `span` and `hint` are
    those of the first.
    """

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.diagnostics: tuple[Diagnostic, ...] = tuple(sorted(diagnostics, key=Diagnostic.sort_key))

    @property
    def code(self) -> str:
        """The code of the first diagnostic, such as ``"T102"``."""
        return self.diagnostics[0].code

    @property
    def span(self) -> Span | None:
        """The place of the first diagnostic, if it has one."""
        return self.diagnostics[0].span

    @property
    def hint(self) -> str | None:
        """The hint of the first diagnostic, if it has one."""
        return self.diagnostics[0].hint

    def __str__(self) -> str:
        return "\n".join(render(d) for d in self.diagnostics)


class SyntaxError(TlangError):
    """The text is not a program."""


class NameError(TlangError):
    """A name is unknown, defined twice, or used where it cannot be."""


class TypeError(TlangError):
    """A dtype, a rank, an argument or an update does not fit."""


class ShapeError(TypeError):
    """Two sizes differ that must be equal."""


class StateError(TlangError):
    """Shared values, streams, files or sizes are not as an operation needs them."""


class CheckFailed(TlangError):
    """A `check` of the program did not hold."""


_KINDS: dict[str, type[TlangError]] = {
    "syntax": SyntaxError,
    "name": NameError,
    "type": TypeError,
    "shape": ShapeError,
    "state": StateError,
    "check": CheckFailed,
}


def diagnostic(
    code: str,
    span: Span | None = None,
    *,
    label: str = "",
    labels: Iterable[Label] = (),
    notes: Iterable[str] = (),
    hint: str | None = None,
    severity: str = "error",
    **facts: object,
) -> Diagnostic:
    """A diagnostic whose sentence is the code's, with `facts` filled in; the hint is the case's own or
    the code's explanation.
    """
    hint = hint or CODES[code].why
    return Diagnostic(code, _sentence(code, facts), span, label, tuple(labels), tuple(notes), hint, severity)


def error(
    code: str,
    span: Span | None = None,
    *,
    label: str = "",
    labels: Iterable[Label] = (),
    notes: Iterable[str] = (),
    hint: str | None = None,
    **facts: object,
) -> TlangError:
    """The exception for a code, of the kind that the code's row names."""
    hint = hint or CODES[code].why
    found = Diagnostic(code, _sentence(code, facts), span, label, tuple(labels), tuple(notes), hint)
    return _KINDS[CODES[code].kind](found)


def labelled(e: TlangError, label: Label) -> TlangError:
    """The error with one more place."""
    first = e.diagnostics[0]
    if first.span is None:
        return placed(e, label.span)
    return type(e)(replace(first, labels=(*first.labels, label)), *e.diagnostics[1:])


def moved(e: TlangError, span: Span, said: str) -> TlangError:
    """The error at another place, the first one kept as a label: a formula that a value does not fit."""
    first = e.diagnostics[0]
    if first.span is None or first.span == span:
        return placed(e, span)
    put = replace(first, span=span, labels=(*first.labels, Label(first.span, said)))
    return type(e)(put, *e.diagnostics[1:])


def _sentence(code: str, facts: dict[str, object]) -> str:
    """A code's sentence with its facts, with the article that the next word needs."""
    text = CODES[code].sentence.format(**facts)
    return re.sub(r"\b([Aa]) (?=equation|import|operation|i\d)", r"\1n ", text)


def join_errors(errors: Sequence[TlangError]) -> TlangError:
    """One exception, of the first one's kind, with the diagnostics of all, each once."""
    found = dict.fromkeys(d for e in errors for d in e.diagnostics)
    ordered = sorted(found, key=Diagnostic.sort_key)
    return _KINDS[CODES[ordered[0].code].kind](*ordered)


def placed(
    e: TlangError, span: Span | None, labels: Iterable[Label] = (), notes: Iterable[str] = ()
) -> TlangError:
    """The error with a place, labels and notes, where it has none yet."""
    first = e.diagnostics[0]
    if first.span is not None or span is None:
        return e
    put = replace(first, span=span, labels=first.labels or tuple(labels), notes=first.notes or tuple(notes))
    return type(e)(put, *e.diagnostics[1:])


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate nearest to `name`, if one is near enough to be meant."""
    from difflib import get_close_matches

    near = get_close_matches(name, sorted(set(candidates)), n=1, cutoff=0.6)
    return near[0] if near else None


_STYLES = {"error": "1;31", "warning": "1;33", "place": "36", "primary": "31", "hint": "32"}


def render(d: Diagnostic, colour: bool = False) -> str:
    """The text of a diagnostic: sentence, place, source lines with marks, notes, hint."""

    def paint(style: str, text: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if colour and text else text

    out = [f"{paint(d.severity, f'{d.severity}[{d.code}]')}: {d.message}"]
    if d.span is not None:
        out.append(paint("place", f"  {d.span}"))
        out += _frame(d, paint)
    out += [f"   {note}" for note in d.notes]
    if d.hint:
        out.append(f"   {paint('hint', 'hint:')} {d.hint}")
    return "\n".join(out)


def _frame(d: Diagnostic, paint: Callable[[str, str], str]) -> list[str]:
    """The source lines that a diagnostic names, each with its marks beneath; those of other texts after."""
    assert d.span is not None
    marks = [(d.span, "^", d.label), *((x.span, "-", x.text) for x in d.labels)]
    sources = dict.fromkeys(span.source for span, _, _ in marks)
    out = []
    for source in sources:
        own = [m for m in marks if m[0].source is source]
        if source is not d.span.source:
            out.append(paint("place", f"  {own[0][0]}"))
        out += _lines(source, own, paint)
    return out


def _lines(
    source: Source, marks: Sequence[tuple[Span, str, str]], paint: Callable[[str, str], str]
) -> list[str]:
    """The lines of one text that have marks, in order."""
    by_line: dict[int, list[tuple[Span, str, str]]] = {}
    for mark in marks:
        by_line.setdefault(mark[0].line, []).append(mark)
    width = len(str(max(by_line)))
    out = []
    for number in sorted(by_line):
        text = source.line(number)
        shift = max(0, min(s.column for s, _, _ in by_line[number]) - 60) if len(text) > 110 else 0
        out.append(f"{number:>{width + 1}} | {_shown(text[shift : shift + 110])}")
        for span, sign, said in sorted(by_line[number], key=lambda m: (m[1] == "-", m[0].start)):
            at = span.column - 1 - shift
            length = max(1, min(span.end - span.start, len(text) - span.column + 1, 110 - at))
            style = "primary" if sign == "^" else "place"
            line = " " * at + paint(style, sign * length) + (f" {said}" if said else "")
            out.append(f"{'':>{width + 1}} | {line}")
    return out


def _shown(text: str) -> str:
    """A source line with what a terminal would not print as one column made visible."""
    return "".join(c if c.isprintable() else " " if c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _place_json(span: Span | None) -> dict[str, object] | None:
    if span is None:
        return None
    end_line, end_column = span.source.position(span.end)
    return {
        "file": span.source.name,
        "line": span.line,
        "column": span.column,
        "end_line": end_line,
        "end_column": end_column,
    }
