"""Wrong programs of every kind get coded errors at places inside their text, never anything else.

Programs are made from the valid ones by exchanging, dropping and doubling tokens and lines, so that
many get past the parser and fail (or not) in the checker, as a user's mistakes do.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tlang.codes import CODES
from tlang.elaborate.values import BUILTINS
from tlang.errors import Diagnostic, TlangError, render
from tlang.graph.ops import OPS
from tlang.source import Source, Span
from tlang.syntax.parse import parse, parse_expression
from tlang.tools.check import check_source
from tlang.tools.repl.shell import Shell

ROOT = Path(__file__).parent.parent
FILES = [*sorted((ROOT / "tests/cases").rglob("*.tl")), *sorted((ROOT / "programs").glob("*.tl"))]
TOKEN = re.compile(
    r'"[^"\n]*"|[A-Za-z_]\w*|[\d_]+(?:\.(?!\.)\d*)?(?:e-?\d+)?|\.\d+|\*\*|//|[=!<>]=|\.\.\.?|\n|[^\w\s]'
)
TEXTS = {p.relative_to(ROOT): re.sub(r"#[^\n]*", "", p.read_text(encoding="utf-8")) for p in FILES}

#: What is put in the place of a token: words that mean something, and those that nearly do.
WORDS = re.findall(
    r"\S+|\n",
    """tensor shared stream random function copy where given update hold swap drop set check repeat for in as
    bench import and or not True None f64 f32 i64 i8 u8 bool c128 dmatrix drow sum mean max exp log grad jvp
    vjp zeros reshape concatenate stack softmax one_hot arange load save print batches philox mt19937
    uniform normal integers updates all state seed x y z n m w b _ 0 1 2 3 0.5 1e400 99999999999999999999
    -1 = == ~ : , . ; ( ) [ ] { } + - * / // % @ ** < <= & | ^ .. ... .T .state""",
)


#: No program of the size of these takes longer, in seconds, on a busy computer.
LONGEST = 20.0


def tokens(text: str) -> list[str]:
    return TOKEN.findall(text)


def joined(words: list[str]) -> str:
    return " ".join(words)


def check_diagnostic(d: Diagnostic, source: Source) -> None:
    """The code exists, every place lies in its text, and the message can be shown."""
    assert d.code in CODES
    assert d.message
    assert "{" not in d.message or "{" in source.text
    spans: list[Span | None] = [d.span, *(x.span for x in d.labels)]
    for span in spans:
        if span is not None:
            assert 0 <= span.start <= span.end <= len(span.source.text)
            assert span.line <= span.source.text.count("\n") + 1
            assert span.column >= 1
    assert render(d).startswith(f"{d.severity}[{d.code}]")
    assert d.to_json()["code"] == d.code


def check_text(text: str, path: Path | None = None) -> None:
    """A text is parsed and checked; whatever is wrong with it is said in diagnostics."""
    source = Source("test.tl", text, str(ROOT / path) if path is not None else None, "test")
    begin = time.perf_counter()
    for d in check_source(source, "warn"):
        check_diagnostic(d, source)
    assert time.perf_counter() - begin < LONGEST


def run_text(text: str) -> None:
    """A text is entered at the prompt: whatever comes of it is results and diagnostics, never a bug.

    Loops, files and sizes that would only cost time and memory are left out.
    """
    lines = [
        s for s in text.split("\n") if not re.search(r"\b(repeat|for|bench|save|load)\b|\d{3}|e\d|\*\*", s)
    ]
    said: list[str] = []
    shell = Shell(backend="numpy", unused="warn", write=said.append, complain=said.append)
    begin = time.perf_counter()
    with np.errstate(all="ignore"):
        shell.enter("\n".join(lines))
        for line in lines:
            shell.enter(line)
    assert not [s for s in said if "internal error" in s or "Traceback" in s]
    assert time.perf_counter() - begin < LONGEST


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Path, str]:
    """A part of a valid program with a few tokens or lines changed."""
    path = draw(st.sampled_from(list(TEXTS)))
    lines = [line for line in TEXTS[path].split("\n") if line.strip()]
    first = draw(st.integers(0, max(0, len(lines) - 12)))
    lines = lines[first : first + 25]
    for _ in range(draw(st.integers(0, 2))):
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        what = draw(st.sampled_from(["drop", "double", "exchange", "move"]))
        if what == "drop" and len(lines) > 1:
            del lines[i]
        elif what == "double":
            lines.insert(j, lines[i])
        elif what == "exchange":
            lines[i], lines[j] = lines[j], lines[i]
        else:
            lines.insert(j, lines.pop(i))
    words = tokens("\n".join(lines))
    own = [w for w in words if w != "\n"] or ["x"]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(words) - 1)))
        what = draw(st.sampled_from(["own", "own", "own", "word", "drop", "insert", "swap"]))
        if what == "own":
            words[at : at + 1] = [draw(st.sampled_from(own))]
        elif what == "word":
            words[at : at + 1] = [draw(st.sampled_from(WORDS))]
        elif what == "drop":
            del words[at : at + 1]
        elif what == "insert":
            words.insert(at, draw(st.sampled_from([*own, *WORDS])))
        elif at + 1 < len(words):
            words[at], words[at + 1] = words[at + 1], words[at]
    return path, joined(words)


QUICK = settings(max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=10_000, derandomize=False)


@pytest.mark.parametrize("path", TEXTS, ids=str)
def test_tokens_are_those_of_the_text(path: Path) -> None:
    """Writing a program as its tokens does not change whether it parses: mutations start from good ones."""
    if "errors" not in path.parts:
        parse(Source("test.tl", joined(tokens(TEXTS[path]))))


@given(mutated())
@QUICK
def test_mutations(program: tuple[Path, str]) -> None:
    check_text(program[1], program[0])


@pytest.mark.slow
@given(mutated())
@LONG
def test_many_mutations(program: tuple[Path, str]) -> None:
    check_text(program[1], program[0])


@given(mutated())
@settings(QUICK, max_examples=100)
def test_mutations_at_the_prompt(program: tuple[Path, str]) -> None:
    run_text(program[1])


@pytest.mark.slow
@given(mutated())
@settings(LONG, max_examples=2_000)
def test_many_mutations_at_the_prompt(program: tuple[Path, str]) -> None:
    run_text(program[1])


@given(st.lists(st.sampled_from(WORDS), max_size=60))
@QUICK
def test_any_words(words: list[str]) -> None:
    check_text(joined(words))


@given(st.binary(max_size=200))
@QUICK
def test_any_bytes(content: bytes) -> None:
    check_text(content.decode("utf-8", errors="replace"))
    check_text(content.decode("latin-1"))


@pytest.mark.slow
@given(st.one_of(st.binary(max_size=400), st.text(max_size=200).map(str.encode)))
@LONG
def test_many_bytes(content: bytes) -> None:
    check_text(content.decode("utf-8", errors="replace"))


@given(mutated())
@QUICK
def test_expressions(program: tuple[Path, str]) -> None:
    for line in program[1].split("\n")[:3]:
        source = Source("<eval>", line)
        try:
            parse_expression(source)
        except TlangError as e:
            for d in e.diagnostics:
                check_diagnostic(d, source)


ODD = re.findall(
    r"\S+",
    '0 -1 7 0.5 -0.5 True None "a" (0,1) (0,0) () (1,(2,3)) [0,1] [] [[]] [[1],[2]] [x,x] (x,x)'
    " x v m n b c f64 sum fun tmp str rv pi",
)
HEADER = """tensor x: f64
tensor v: f64[n]
tensor m: i64[n, 2]
tensor b: bool[n]
tensor c: c64[n]
stream str = philox(1)
random rv: f64[2] ~ str.normal(0, 1)
function fun(a: f64) = a
tmp(a) = a
"""


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_odd_arguments(name: str) -> None:
    """Every operation with arguments of every kind, by position and by name."""
    row = OPS.get(name)
    options = re.findall(r"(\w+)=", row.signature) if row is not None else ["disconnected", "size", "key"]
    calls = [f"{name}({a})" for a in ("", *ODD)]
    calls += [f"{name}({a}, {b})" for a in ("m", "[v, v]", "2") for b in ODD]
    calls += [f"{name}({a}, {option} = {b})" for a in ("m", "[m, m]") for option in options for b in ODD]
    calls += [f"{name}(m, v, {b})" for b in ODD]
    check_text(HEADER + "\n".join(f"y{k} = {call}" for k, call in enumerate(calls)))
    check_text(HEADER + "\n".join(f"{call} given v = [1, 2]" for call in calls[: 1 + len(ODD)]))


@pytest.mark.parametrize("cut", range(0, 60, 3))
def test_programs_cut_short(cut: int) -> None:
    """Every beginning of a program is checked: what an editor sees while one writes."""
    for path, text in TEXTS.items():
        check_text(text[: len(text) * cut // 60], path)
