"""The table of codes is complete, and nothing in it is dead."""

from __future__ import annotations

import re
from pathlib import Path

import tlang
from tlang.codes import CODES

ROOT = Path(tlang.__file__).parent


def test_every_code_is_raised_somewhere() -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in ROOT.rglob("*.py") if p.name != "codes.py")
    unused = [code for code in CODES if not re.search(rf'"{code}"', text)]
    assert not unused


def test_rows_are_complete() -> None:
    for code, row in CODES.items():
        assert re.fullmatch(r"[A-Z]\d{3}", code)
        assert row.sentence, code
        assert row.why.endswith("."), code
