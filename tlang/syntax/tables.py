"""The tables that drive the lexer and the parser: computed by Lark from `grammar/tlang.lark`, and kept.

A wheel has them beside the grammar; a checkout computes them once, and keeps them in the cache. Lark is
imported only to compute them, which takes some tenths of a second. What is kept is plain data, so that a
start costs a few milliseconds.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

STARTS = ("program", "sole_expr")

#: To be raised when the layout of `Tables` or of `Rule` changes, so that old caches are left alone.
_FORMAT = 1


class Rule(NamedTuple):
    """A production: what a reduction pops, which of it becomes children, and who builds the node.

    A kept symbol is its place, whether it is a list to be spliced in (of a rule whose name begins
    with `_`), and how many absent optional symbols, as None, come before it; `absent` come last.
    `build` is the name of the callback: "" if the children themselves are the node, a list, and None
    if the node is that of the only kept symbol.
    """

    origin: str
    size: int
    kept: tuple[tuple[int, bool, int], ...]
    absent: int
    build: str | None


class Tables(NamedTuple):
    """All that parsing needs to know of the grammar.

    `states` gives for a state and a symbol the next state, or for a reduction the number of the rule
    as its complement (so that it is negative); `starts` the first and the final state by start
    symbol. `words` are the reserved words with the names of their terminals.
    """

    pattern: str
    ignored: frozenset[str]
    words: dict[str, str]
    states: list[dict[str, int]]
    starts: dict[str, tuple[int, int]]
    rules: list[Rule]


def load_tables() -> Tables:
    """The tables, from the wheel or the cache if they are there and whole, else computed and stored.

    A cache that cannot be read or written is as good as none.
    """
    source = _grammar_path()
    grammar = source.read_text(encoding="utf-8")
    path = cache_path(grammar)
    for place in (source.with_name(file_name(grammar)), path):
        if place is not None:
            try:
                return Tables(*pickle.loads(place.read_bytes()))
            except Exception:  # whatever a missing, torn or foreign file raises, computing is the answer
                pass
    tables = compute(grammar)
    if path is not None:
        _store(path, packed(tables))
    return tables


def packed(tables: Tables) -> bytes:
    """Tables as they are kept."""
    return pickle.dumps(tuple(tables), pickle.HIGHEST_PROTOCOL)


def file_name(grammar: str) -> str:
    """The name of the file of a grammar's tables; another grammar has another."""
    key = hashlib.sha256(f"{_FORMAT} {STARTS}\n{grammar}".encode()).hexdigest()[:24]
    return f"grammar-{key}.pickle"


def compute(grammar: str) -> Tables:
    """Has Lark read a grammar and compute its LALR(1) tables; raises Lark's errors on a conflict."""
    import lark
    from lark.lark import PostLex
    from lark.lexer import PatternStr
    from lark.parsers.lalr_analysis import Shift

    class KeepFaults(PostLex):
        """Keeps the terminals that no rule uses, which Lark would drop."""

        always_accept = ("UNCLOSED", "QUOTED", "ILLEGAL")

        def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
            return stream

    made = lark.Lark(grammar, parser="lalr", lexer="basic", start=list(STARTS), postlex=KeepFaults())
    (name,) = (t.pattern.to_regexp() for t in made.terminals if t.name == "NAME")
    texts = {t.name: t.pattern.value for t in made.terminals if isinstance(t.pattern, PatternStr)}
    words = {text: kind for kind, text in texts.items() if re.fullmatch(name, text)}
    ordered = sorted(
        (t for t in made.terminals if t.name not in words.values()),
        key=lambda t: (-t.priority, -t.pattern.max_width, -len(t.pattern.value), t.name),
    )
    numbers = {rule: number for number, rule in enumerate(made.rules)}
    starts, states = {}, {}
    for start in STARTS:
        conf = made.parse_interactive(start=start).parser_state.parse_conf
        starts[start] = conf.start_state, conf.end_state
        states = conf.states
    # Lark's names are often tokens of its own; as plain text they are read back without Lark.
    return Tables(
        pattern="|".join(f"(?P<{t.name}>{t.pattern.to_regexp()})" for t in ordered),
        ignored=frozenset(map(str, made.ignore_tokens)),
        words={str(text): str(kind) for text, kind in words.items()},
        states=[
            {
                sys.intern(str(symbol)): target if action is Shift else ~numbers[target]
                for symbol, (action, target) in states[state].items()
            }
            for state in range(len(states))
        ],
        starts=starts,
        rules=[_rule(rule) for rule in made.rules],
    )


def _rule(rule: Any) -> Rule:
    """One of Lark's rules as plain data; the conventions are those of Lark's tree builder."""
    kept, absent = [], 0
    optional = iter(rule.options.empty_indices or [False] * len(rule.expansion))
    for place, symbol in enumerate(rule.expansion):
        while next(optional):
            absent += 1
        if not (symbol.is_term and symbol.filter_out):
            kept.append((place, not symbol.is_term and symbol.name.startswith("_"), absent))
            absent = 0
    absent += sum(optional)
    origin = sys.intern(str(rule.origin.name))
    build: str | None = str(rule.alias or ("" if origin.startswith("_") else origin))
    only = len(kept) == 1 and kept[0][1:] == (False, 0) and not absent
    if only and rule.options.expand1 and not rule.alias:
        build = None
    return Rule(origin, len(rule.expansion), tuple(kept), absent, build)


def _store(path: Path, data: bytes) -> None:
    """Writes a file so that another process sees it whole or not at all."""
    import tempfile

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


def cache_path(grammar: str) -> Path | None:
    """Where the tables of a grammar are kept; None without a home folder."""
    try:
        if chosen := os.environ.get("TLANG_CACHE_DIR"):
            folder = Path(chosen)
        elif shared := os.environ.get("XDG_CACHE_HOME"):
            folder = Path(shared) / "tlang"
        else:
            folder = Path.home() / ".cache" / "tlang"
    except RuntimeError:  # no home folder can be found
        return None
    return folder / file_name(grammar)


def _grammar_path() -> Path:
    """The grammar lies in the package when installed, beside it in a source checkout."""
    package = Path(__file__).parents[1]
    inside = package / "grammar" / "tlang.lark"
    return inside if inside.exists() else package.parent / "grammar" / "tlang.lark"
