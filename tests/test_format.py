"""`tlang fmt`: one style, comments kept, idempotent, the same tree."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tlang.errors import TlangError
from tlang.source import Source, Span
from tlang.syntax.parse import parse
from tlang.tools.cli import main
from tlang.tools.format import formatted

ROOT = Path(__file__).parent.parent
PROGRAMS = [*sorted((ROOT / "programs").glob("*.tl")), *sorted((ROOT / "tlang" / "std").glob("*.tl"))]
CASES = sorted((ROOT / "tests" / "cases").rglob("*.tl"))


def fmt(text: str) -> str:
    return formatted(Source("a.tl", text))


def shape(text: str) -> list[object]:
    """The tree of a program without places, flat, by a walk without recursion."""
    out: list[object] = []
    stack: list[Any] = [parse(Source("a.tl", text))]
    while stack:
        node = stack.pop()
        if isinstance(node, Span | Source):
            continue
        if isinstance(node, tuple):
            out.append(len(node))
            stack += node
        elif dataclasses.is_dataclass(node):
            out.append(type(node).__name__)
            stack += [getattr(node, f.name) for f in dataclasses.fields(node)]
        else:
            out.append(repr(node))
    return out


def comments(text: str) -> list[str]:
    """The comments, where no string holds a `#`."""
    return [line[line.index("#") :].rstrip() for line in text.split("\n") if "#" in line]


def check(text: str) -> None:
    once = fmt(text)
    assert shape(once) == shape(text)
    assert fmt(once) == once
    assert comments(once) == comments(text)
    assert not once or once.endswith("\n")
    assert all(line == line.rstrip() for line in once.split("\n"))


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: p.name)
def test_programs_are_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert fmt(text) == text, f"tlang fmt {path.relative_to(ROOT)}"


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_cases(path: Path) -> None:
    check(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x=1", "x = 1\n"),
        ("", ""),
        ("\n\nx = 1\n\n\n\ny = 2\n\n", "x = 1\n\ny = 2\n"),
        ("x=f( a,b )[1 :n]", "x = f(a, b)[1:n]\n"),
        ("x = a [2*i:2*i+2, ::-1, -1]", "x = a[2 * i : 2 * i + 2, ::-1, -1]\n"),
        ("x = a[b[i+1]:, f(x, y=1)]", "x = a[b[i + 1]:, f(x, y = 1)]\n"),
        ("x = -(a)-  -b**-2", "x = -(a) - -b ** -2\n"),
        ("x = not a and~ b", "x = not a and ~b\n"),
        ("tensor x,y:f64[ n,m ]", "tensor x, y: f64[n, m]\n"),
        ("shared w:f64 ~normal(0,1)", "shared w: f64 ~ normal(0, 1)\n"),
        (
            "function f(x:f64=1,y)=x where{update s=s+1;hold r}",
            "function f(x: f64 = 1, y) = x where { update s = s + 1; hold r }\n",
        ),
        (
            "function f(x) = y\n   where {\ny = x; z=2\n# about w\n\nw=3 }",
            "function f(x) = y where {\n    y = x\n    z = 2\n    # about w\n\n    w = 3\n}\n",
        ),
        ("repeat   3{f( )}", "repeat 3 { f() }\n"),
        ("repeat(n) as i{f()\ng()}", "repeat (n) as i {\n    f()\n    g()\n}\n"),
        ("for i in 0 ..n+1 { }", "for i in 0..n + 1 { }\n"),
        ("for i in 1. .. .5 { }", "for i in 1. .. .5 { }\n"),
        ("x = where (a,b , c)", "x = where(a, b, c)\n"),
        ("x = true", "x = True\n"),
        ("f(1) ;g(2);", "f(1); g(2)\n"),
        ("x = layers . s(1) . T", "x = layers.s(1).T\n"),
        ("x = (1 .T)", "x = (1 .T)\n"),
        ("x = 1 +\n 2", "x = 1 +\n    2\n"),
        ("x = f(a,\n b)", "x = f(a,\n      b)\n"),
        ("x = f(\n a,\n\n b\n )", "x = f(\n    a,\n    b\n)\n"),
        ("z given\nx = 1", "z given\n    x = 1\n"),
        ("a   = 1\nbcd = 2\n", "a   = 1\nbcd = 2\n"),
        ("a = 1\nbcd = 2\n", "a = 1\nbcd = 2\n"),
        ("a    = 1\nbcd  = 2\n\nx  = 3\n", "a   = 1\nbcd = 2\n\nx = 3\n"),
        ("f(1) # c", "f(1)                                    # c\n"),
        (
            "f(1)   #=> [1,\n       #    2]",
            "f(1)                                    #=> [1,\n" + " " * 40 + "#    2]\n",
        ),
        ("f(1)\n  #=> [1,\n  #    2]", "f(1)\n#=> [1,\n#    2]\n"),
        ("a = 1\r\n\r\nb = 2\r\n", "a = 1\n\nb = 2\n"),
        ("\ufeffa = 1", "a = 1\n"),
        ('import"a.tl"as b', 'import "a.tl" as b\n'),
        ("#c\n\n# d", "#c\n\n# d\n"),
    ],
)
def test_style(text: str, wanted: str) -> None:
    assert fmt(text) == wanted
    assert fmt(wanted) == wanted
    if "\r" not in text:
        check(text)


def test_total_of_a_long_sum_is_aligned_with_its_value() -> None:
    assert fmt("total = 1 +\n    2 +\n    3\n") == "total = 1 +\n        2 +\n        3\n"


def test_a_wrong_program_is_not_formatted() -> None:
    with pytest.raises(TlangError, match="S0"):
        fmt("x = = 1")


def test_long_and_deep() -> None:
    check("x = " + " + ".join(["a"] * 5_000))
    check("x = " + "(" * 500 + "1" + ")" * 500)
    check("y = a+1\n" * 1_000)


# ---------------------------------------------------------------- generated programs

NAMES = st.sampled_from(["x", "y", "w", "speed", "n", "layers", "r"])
GAP = st.sampled_from(["", "", " ", "  "])
#: Between tokens inside brackets, or after an operator, a line may break.
BREAK = st.sampled_from(["", " ", " ", "\n", "\n\n  ", "  # note\n"])
OPERATORS = st.sampled_from(re.findall(r"\S+", "+ - * / // % @ ** == < >= & | ^ and or"))
NUMBERS = st.sampled_from(["0", "1", "2.5", "1_000", ".5", "1.", "1e-3"])


@st.composite
def expression(draw: st.DrawFn, depth: int = 3) -> str:
    """An expression with odd spaces."""

    def again() -> str:
        return draw(expression(depth - 1))

    def gap() -> str:
        return draw(GAP)

    kind = draw(st.integers(0, 11)) if depth else draw(st.integers(0, 2))
    match kind:
        case 0:
            return draw(NAMES)
        case 1:
            return draw(NUMBERS)
        case 2:
            return draw(st.sampled_from(["True", "false", "None", "pi"]))
        case 3 | 4:
            op = draw(
                st.sampled_from(
                    ["+", "-", "*", "/", "//", "%", "@", "**", "==", "<", ">=", "&", "|", "^", "and", "or"]
                )
            )
            after = draw(BREAK)
            side = " " if op.isalpha() else ""
            return f"({again()}{side}{gap()}{op}{side}{after}{again()})"
        case 5:
            return draw(st.sampled_from(["-", "~", "+", "not "])) + gap() + f"({again()})"
        case 6:
            named = f",{gap()}axis{gap()}={gap()}{again()}" if draw(st.booleans()) else ""
            return f"{draw(NAMES)}({draw(BREAK)}{again()}{gap()},{draw(BREAK)}{again()}{named}{draw(BREAK)})"
        case 7:
            step = f"{gap()}:{gap()}{again()}" if draw(st.booleans()) else ""
            slice_ = f"{gap()}{again()}{gap()}:{gap()}{again()}{step}"
            return f"{draw(NAMES)}{gap()}[{slice_}{gap()},{gap()}...{gap()}]"
        case 8:
            end = draw(st.sampled_from(["", ","]))
            return f"[{draw(BREAK)}{again()}{gap()},{draw(BREAK)}{again()}{end}]"
        case 9:
            return f"where{gap()}({again()},{draw(BREAK)}{again()},{again()})"
        case 10:
            return f"layers{gap()}.{gap()}{draw(NAMES)}"
        case _:
            return f"({gap()}{again()} given {draw(NAMES)}{gap()}={gap()}{again()})"


TYPES = st.sampled_from(["f64", "f64[ n,m ]", "i64[n+1,_]", "dmatrix", "f32[2 *n]"])


@st.composite
def statement(draw: st.DrawFn, where: str = "top", depth: int = 2) -> str:
    """A statement, clause or command with odd spaces, that may stand in a place."""
    name, gap = draw(NAMES), draw(GAP)
    e = expression(2)
    clauses = {
        "update": lambda: f"update {name}{gap}={draw(GAP)}{draw(e)}",
        "equation": lambda: f"{name}{gap}={draw(BREAK)}{draw(e)}",
        "typed": lambda: f"{name}{gap}:{draw(TYPES)}{gap}={draw(e)}",
        "template": lambda: f"{name}({gap}x,y{gap}={gap}1)={draw(e)}",
        "hold": lambda: f"hold {name}{gap},r",
        "given": lambda: f"given {name}{gap}={draw(e)},{gap}q={draw(e)}",
    }
    commands = {
        "set": lambda: f"set {name}{gap}={draw(BREAK)}{draw(e)}",
        "set two": lambda: f"set {name},{gap}v:{draw(TYPES)}={draw(e)}",
        "draw": lambda: f"set {name}:{draw(TYPES)}{gap}~{draw(GAP)}normal(0,1)",
        "check": lambda: f'check {draw(e)}{gap},{gap}"message"',
        "echo": lambda: f"print({draw(e)})",
        "bench": lambda: f"bench {name}(1)",
    }
    if depth:
        commands["repeat"] = lambda: f"repeat {draw(e)} as i{gap}{draw(block('loop', depth - 1))}"
        commands["for"] = lambda: f"for i in {name}..{gap}{draw(e)}{gap}{draw(block('loop', depth - 1))}"
    top = {
        "tensor": lambda: f"tensor {name}{gap},{gap}z{gap}:{gap}{draw(TYPES)}",
        "shared": lambda: f"shared {name}:{draw(TYPES)}{gap}={draw(e)}",
        "function": lambda: (
            f"function {name}(a{gap}:{draw(TYPES)}{gap}={gap}1,b{gap})={gap}{draw(e)}"
            f"{draw(st.sampled_from(['', ' ', chr(10) + '   ']))}where{gap}{draw(block('where', depth))}"
        ),
        "copy": lambda: f"function {name}=copy f where{gap}{{swap a{gap}=b,c=d;drop updates}}",
        "import": lambda: f'import{gap}"layers.tl"{gap}as layers',
        "equation": clauses["equation"],
        "template": clauses["template"],
    }
    choices = {"top": {**top, **commands}, "where": clauses, "loop": commands}[where]
    return choices[draw(st.sampled_from(list(choices)))]()


@st.composite
def block(draw: st.DrawFn, where: str, depth: int) -> str:
    parts = draw(st.lists(statement(where, depth), max_size=3))
    first = draw(st.sampled_from(["", " ", "\n", "  # note\n"]))
    between = st.sampled_from([";", " ; ", "\n", "\n\n\n", "  # note\n", "\n   # own\n", ";\n"])
    text = first
    for part in parts:
        text += part + draw(between)
    return "{" + text + "}"


@st.composite
def program(draw: st.DrawFn) -> str:
    text = ""
    for part in draw(st.lists(statement(), min_size=1, max_size=5)):
        text += draw(st.sampled_from(["", "", "# own\n", "\n\n", "   "])) + part
        text += draw(
            st.sampled_from(["\n", "\n", ";\n", "   # note\n", "; ", "\n\n\n", " #=> [1,\n #  2]\n"])
        )
    return text


QUICK = settings(max_examples=250, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(QUICK, max_examples=10_000, derandomize=False)


def check_generated(text: str) -> None:
    try:
        parse(Source("a.tl", text))
    except TlangError:
        assume(False)
    check(text)


@given(program())
@QUICK
def test_generated_programs(text: str) -> None:
    check_generated(text)


@pytest.mark.slow
@given(program())
@LONG
def test_many_generated_programs(text: str) -> None:
    check_generated(text)


def test_most_generated_programs_are_programs() -> None:
    good = 0

    @given(program())
    @settings(QUICK, max_examples=100)
    def count(text: str) -> None:
        nonlocal good
        try:
            parse(Source("a.tl", text))
            good += 1
        except TlangError:
            pass

    count()
    assert good > 80


# ---------------------------------------------------------------- the command


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, wrong = (tmp_path / n for n in ("good.tl", "bad.tl", "wrong.tl"))
    good.write_text("x = 1\n")
    bad.write_text("x=1\n")
    wrong.write_text("x = = 1\n")
    assert main(["fmt", "--check", str(good)]) == 0
    assert main(["fmt", "--check", str(good), str(bad)]) == 1
    assert "bad.tl would change" in capsys.readouterr().err
    assert main(["fmt", "--diff", str(bad)]) == 1
    assert "-x=1\n+x = 1\n" in capsys.readouterr().out
    assert bad.read_text() == "x=1\n"
    assert main(["fmt", str(wrong), str(bad)]) == 1
    assert "error[S0" in capsys.readouterr().err
    assert (bad.read_text(), wrong.read_text()) == ("x = 1\n", "x = = 1\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y=2"))
    assert main(["fmt", "-"]) == 0
    assert capsys.readouterr().out == "y = 2\n"
