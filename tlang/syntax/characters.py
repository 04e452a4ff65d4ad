"""Messages about characters that are no token, and about quotes."""

from __future__ import annotations

import unicodedata

from tlang.errors import Diagnostic
from tlang.syntax.trouble import Trouble, write

# What is likely to be meant by characters that are copied from a page or typed on other keyboards.
_MEANT = {
    **dict.fromkeys(
        "\u201c\u201d\u201e\u00ab\u00bb\u2018\u2019\u2032\u2033`\u00b4", 'write `"` around strings'
    ),
    **dict.fromkeys("\u2212\u2013\u2014\u2010\u2011", "write `-`"),
    **dict.fromkeys("×·⋅∙∗", "write `*`"),
    **dict.fromkeys("÷∕⁄", "write `/`"),
    **dict.fromkeys("→⇒", "a function is written `function f(x) = ...`"),
    "≤": "write `<=`",
    "≥": "write `>=`",
    "≠": "write `!=`",
    "≈": "write `allclose(a, b)`",
    "¬": "write `not`",
    "∧": "write `and`",
    "∨": "write `or`",
    "∼": "write `~`",
    "∈": "write `in`",
    "√": "write `sqrt(x)`",
    "∑": "write `sum(x)`",
    "Σ": "write `sum(x)`, or a name such as `Sigma`",
    "∏": "write `prod(x)`",
    "∞": "write `inf`",
    "∇": "write `grad(cost, w)`",
    "²": "write `** 2`",
    "³": "write `** 3`",
    "ᵀ": "write `x.T`",
    "…": "write `...`",
    "\\": "a statement goes on over lines inside ( ), and after an operator",
    "$": "names are made of letters, digits and `_`",
    "?": "to choose between two values write `where(condition, a, b)`",
}

_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cf", "Cc"})


def illegal(t: Trouble) -> Diagnostic | None:
    """A character that no token begins with."""
    if t.token.type != "ILLEGAL":
        return None
    char = t.token.text
    if char == "!":
        operand = t.near(1)
        return t.report(
            "S011", op="!", hint=f"write `not {operand.text}`" if operand.type == "NAME" else "write `not`"
        )
    code = f"U+{ord(char):04X}"
    name = "backslash" if char == "\\" else unicodedata.name(char, "").lower()
    category = unicodedata.category(char)
    if not name:
        shown = f"the control character {code}"
    elif category in _INVISIBLE or not char.isprintable():
        shown = f"the character {name} ({code})"
    else:
        shown = f"the character `{char}` ({name}, {code})"
    return t.report("S003", character=shown, hint=_hint(char, category))


def _hint(char: str, category: str) -> str:
    if char in _MEANT:
        return _MEANT[char]
    name = unicodedata.name(char, "")
    if category in _INVISIBLE:
        return "write a plain space" if category == "Zs" else "delete it; editors do not show it"
    if name.startswith(("GREEK SMALL LETTER ", "GREEK CAPITAL LETTER ")):
        letter = name.split(" ")[3]
        return f"write `{letter.lower() if 'SMALL' in name else letter.capitalize()}`"
    plain = unicodedata.normalize("NFKD", char)
    if plain[0].isascii() and plain[0].isprintable() and plain[0] != " ":
        return f"write `{plain[0]}`"
    if char.isalpha():
        return "names are written with the letters A to Z, digits and `_`"
    return "delete it, or put it into a string or a comment"


def unclosed_string(t: Trouble) -> Diagnostic | None:
    """A string that the end of its line cuts off."""
    if t.token.type != "UNCLOSED":
        return None
    return t.report("S004", hint=write(f'{t.token.text.rstrip()}"', 'add `"` at its end'))


def single_quotes(t: Trouble) -> Diagnostic | None:
    """A string in single quotes, or an apostrophe for the transpose."""
    if t.token.type != "QUOTED":
        return None
    before = t.near(-1)
    if t.touches() and (before.type == "NAME" or before.type in ("RPAR", "RSQB")):
        hint = f"for the transpose write `{before.text}.T`" if before.type == "NAME" else "write `.T`"
        return t.report("S005", hint=hint)
    inner = t.token.text[1:].removesuffix("'").replace('"', '\\"').replace("\\'", "'")
    return t.report("S005", hint=write(f'"{inner}"'))


CHARACTERS = (illegal, unclosed_string, single_quotes)
