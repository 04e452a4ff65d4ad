"""The table of codes against the places that raise them."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import tlang
from tlang.codes import CODES

ROOT = Path(tlang.__file__).parent
CALLS = {"error", "diagnostic"}
NOT_FACTS = {"label", "labels", "notes", "hint", "severity", "span"}


def raises() -> Iterator[tuple[str, str, set[str], bool]]:
    """(place, code, facts given, whether more come by `**`) of every call with a constant code."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            first = node.args[0]
            if name in CALLS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                facts = {k.arg for k in node.keywords if k.arg is not None} - NOT_FACTS
                more = any(k.arg is None for k in node.keywords)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", first.value, facts, more


def placeholders(code: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(CODES[code].sentence) if name}


@pytest.mark.parametrize(("place", "code", "facts", "more"), list(raises()))
def test_a_raise_gives_the_facts_of_its_sentence(place: str, code: str, facts: set[str], more: bool) -> None:
    assert code in CODES, place
    missing = placeholders(code) - facts
    assert more or not missing, f"{place}: {code} lacks {missing}"


def test_every_code_is_raised_somewhere() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py") if p.name != "codes.py")
    unused = [code for code in CODES if not re.search(rf'"{code}"', text)]
    assert not unused


def test_rows_are_complete() -> None:
    for code, row in CODES.items():
        assert re.fullmatch(r"[A-Z]\d{3}", code)
        assert row.sentence, code
        assert row.why.endswith("."), code
