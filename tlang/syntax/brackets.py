"""Messages about brackets: forgotten, stray, of the wrong kind, and braces out of place."""

from __future__ import annotations

from tlang.errors import Diagnostic, Label
from tlang.syntax.layout import CLOSING, END, OPENING
from tlang.syntax.trouble import OPERATORS, Trouble, write

_CLOSED_BY = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}


def forgotten_bracket(t: Trouble) -> Diagnostic | None:
    """A bracket that is still open where its statement ends."""
    opened, at = t.opened, t.failure.opened
    if opened is None or at is None:
        return None
    ended = t.token.type in (END, "_NEWLINE") and (opened.type != "LBRACE" or t.token.type == END)
    begins_line = t.failure.unclosed and t.tokens[t.at - 1].type == "_NEWLINE"
    if not ended and not begins_line:
        return None
    closing = _CLOSED_BY[opened.type]
    labels = (Label(t.span(t.at), "it is still open here"),) if t.token.type != END else ()
    hint = f"close it with `{closing}`"
    if opened.type != "LBRACE" and t.near(-1).type not in OPERATORS | {"COMMA", "EQUAL"}:
        missing = _closings(t)
        hint = write(t.words(t.begin, t.at) + missing, hint) or hint
    return t.report("S006", at, bracket=opened.text, labels=labels, hint=hint)


def _closings(t: Trouble) -> str:
    """The brackets that close what the statement has opened, innermost first."""
    missing: list[str] = []
    for token in t.tokens[t.begin : t.at]:
        if token.type in OPENING:
            missing.append(_CLOSED_BY[token.type])
        elif token.type in CLOSING and missing:
            missing.pop()
    return "".join(reversed(missing))


def stray_bracket(t: Trouble) -> Diagnostic | None:
    """A closing bracket that closes nothing, or another kind."""
    if t.token.type not in CLOSING:
        return None
    opened = t.opened
    wants = CLOSING[t.token.type]
    if opened is None or (opened.type == "LBRACE" and wants != "LBRACE"):
        return t.report(
            "S007", bracket=t.token.text, wrong="closes nothing", hint="delete it, or open it before"
        )
    if opened.type == wants or t.failure.opened is None:
        return None
    closing = _CLOSED_BY[opened.type]
    label = Label(t.span(t.failure.opened), "this is to be closed first")
    wrong = f"cannot close `{opened.text}`"
    return t.report("S007", bracket=t.token.text, wrong=wrong, labels=(label,), hint=f"write `{closing}`")


def missing_braces(t: Trouble) -> Diagnostic | None:
    """`where` without a brace on its line, and a brace where none can stand."""
    if t.near(-1).type == "WHERE" and t.expects("LBRACE"):
        return t.report("S031", t.at - 1, word="where", hint="write `where { ... }`")
    if t.token.type == "LBRACE" and t.first.type == "FUNCTION":
        head = t.words(t.begin, t.at)
        body = " = outputs" if t.find("EQUAL") is None else ""
        hint = write(f"{head}{body} where {{ ... }}", "write `= outputs where { ... }`")
        return t.report("S001", found="`{`", expected="`= outputs` or `where {`", hint=hint)
    if t.token.type == "LBRACE" and t.at == t.begin and t.tokens[t.at - 1].type == "_NEWLINE":
        hint = "put `{` at the end of the line above; a line without it is a statement of its own"
        return t.report("S001", found="`{`", expected="a statement", hint=hint)
    return None
