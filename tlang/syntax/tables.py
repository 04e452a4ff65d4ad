"""Turns `grammar/tlang.lark` into LALR(1) tables, once, and keeps them in the user's cache."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import lark
from lark.lark import PostLex
from lark.lexer import Token as LarkToken

STARTS = ("program", "sole_expr")


class _KeepFaults(PostLex):
    """Keeps the terminals that no rule uses, which Lark would drop from the lexer."""

    always_accept = ("UNCLOSED", "QUOTED", "ILLEGAL")

    def process(self, stream: Iterator[LarkToken]) -> Iterator[LarkToken]:
        return stream


def load_grammar(builder: object) -> lark.Lark:
    """The lexer and the LALR tables, with the methods of `builder` as the rules' callbacks.

    The tables come from the cache if they are there and whole; otherwise they are computed (about
    half a second) and stored. A cache that cannot be read or written is as good as none.
    """
    text = _grammar_path().read_text(encoding="utf-8")
    cache = _cache_folder()
    path = None if cache is None else cache / f"grammar-{_key(text)}.pickle"
    if path is not None:
        try:
            return _revive(path.read_bytes(), builder)
        except Exception:  # whatever a missing, torn or foreign file raises, computing is the answer
            pass
    data = _compute(text)
    if path is not None:
        _store(path, data)
    return _revive(data, builder)


def _compute(text: str) -> bytes:
    tables = lark.Lark(text, parser="lalr", lexer="basic", start=list(STARTS), postlex=_KeepFaults())
    out = io.BytesIO()
    tables.save(out, {"postlex", "transformer"})
    return out.getvalue()


def _revive(data: bytes, builder: object) -> lark.Lark:
    # Lark.load takes no transformer; this is what its own cache and its standalone parsers call.
    return lark.Lark._load_from_dict(**pickle.loads(data), transformer=builder, postlex=_KeepFaults())


def _store(path: Path, data: bytes) -> None:
    """Writes a file so that another process sees it whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)


def _key(text: str) -> str:
    versions = f"{lark.__version__} {sys.implementation.cache_tag} {STARTS}"
    return hashlib.sha256(f"{versions}\n{text}".encode()).hexdigest()[:24]


def _cache_folder() -> Path | None:
    try:
        if chosen := os.environ.get("TLANG_CACHE_DIR"):
            return Path(chosen)
        if shared := os.environ.get("XDG_CACHE_HOME"):
            return Path(shared) / "tlang"
        return Path.home() / ".cache" / "tlang"
    except RuntimeError:  # no home folder can be found
        return None


def _grammar_path() -> Path:
    """The grammar lies in the package when installed, beside it in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "grammar" / "tlang.lark"
    return inside if inside.exists() else package.parent / "grammar" / "tlang.lark"
