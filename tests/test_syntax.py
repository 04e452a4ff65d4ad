"""Parsing: the shape of the trees, where statements end, depth and length, and the grammar's cache."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlang.errors import SyntaxError as TlangSyntaxError
from tlang.source import Source, Span
from tlang.syntax import ast, tables
from tlang.syntax.automaton import MOST_FAILURES
from tlang.syntax.parse import is_incomplete, parse, parse_expression

LANGUAGE = sorted((Path(__file__).parent / "cases" / "language").glob("*.tl"))


def program(text: str) -> ast.Program:
    return parse(Source("test.tl", text))


def statement(text: str) -> str:
    (found,) = program(text).statements
    return sexp(found)


def expression(text: str) -> str:
    return sexp(parse_expression(Source("test.tl", text)))


def codes(text: str) -> list[str]:
    with pytest.raises(TlangSyntaxError) as raised:
        program(text)
    return [d.code for d in raised.value.diagnostics]


def sexp(node: Any) -> str:
    """A tree as a Lisp would write it; what is left out is `-`, and spans are not shown."""
    match node:
        case None:
            return "-"
        case ast.Name():
            return node.id
        case ast.Number() | ast.Bool() | ast.String():
            return repr(node.value)
        case tuple():
            return f"[{' '.join(map(sexp, node))}]"
        case ast.Unary():
            return f"({node.op} {sexp(node.operand)})"
        case ast.Binary():
            return f"({node.op} {sexp(node.left)} {sexp(node.right)})"
        case ast.Arg():
            return sexp(node.value) if node.name is None else f"{node.name.id}={sexp(node.value)}"
    if not dataclasses.is_dataclass(node):
        return str(node)
    parts = [getattr(node, f.name) for f in dataclasses.fields(node) if "span" not in f.name]
    return f"({' '.join([type(node).__name__, *map(sexp, parts)])})"


# ---------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a + b * c", "(+ a (* b c))"),
        ("a - b - c", "(- (- a b) c)"),
        ("a / b // c % d @ e", "(@ (% (// (/ a b) c) d) e)"),
        ("-x ** 2", "(- (** x 2))"),
        ("2 ** -1", "(** 2 (- 1))"),
        ("a ** b ** c", "(** a (** b c))"),
        ("~a & b ^ c | d", "(| (^ (& (~ a) b) c) d)"),
        ("not a and b or c", "(or (and (not a) b) c)"),
        ("not a == b", "(not (Compare [==] [a b]))"),
        ("0 < x <= 1", "(Compare [< <=] [0 x 1])"),
        ("a & b == c", "(Compare [==] [(& a b) c])"),
        ("((a))", "a"),
        ("(a,)", "(TupleLit [a])"),
        ("()", "(TupleLit [])"),
        ("(a, b,)", "(TupleLit [a b])"),
        ("(n = a)", "(TupleLit [n=a])"),
        ("(n = a, m = b)", "(TupleLit [n=a m=b])"),
        ("[[1, 2], [3, 4],]", "(ListLit [(ListLit [1 2]) (ListLit [3 4])])"),
        ("[]", "(ListLit [])"),
        ("f()", "(Call f [])"),
        ("f(a, k = 2,)", "(Call f [a k=2])"),
        ("f(a)(b)", "(Call (Call f [a]) [b])"),
        ("layers.s(x).T", "(Field (Call (Field layers s) [x]) T)"),
        ("x[i, j][k]", "(Index (Index x [i j]) [k])"),
        ("x[:, None, ...]", "(Index x [(Slice - - -) (NoneLit) (EllipsisLit)])"),
        (
            "x[1:, ::2, :-1, a:b:c,]",
            "(Index x [(Slice 1 - -) (Slice - - 2) (Slice - (- 1) -) (Slice a b c)])",
        ),
        ("where(c > 0, a, b)", "(Call where [(Compare [>] [c 0]) a b])"),
        ("where (c, a, b)", "(Call where [c a b])"),
        ("repeat(x, 3)", "(Call repeat [x 3])"),
        ("1 + repeat (x, 3)", "(+ 1 (Call repeat [x 3]))"),
        ("z given x = 1, y = 2", "(Given z [(Binding x 1) (Binding y 2)])"),
        ("(z given layers.w = 1) + 1", "(+ (Given z [(Binding (Field layers w) 1)]) 1)"),
        ("true and False", "(and True False)"),
        ("trues", "trues"),
        (r'"a\n\t\"\\"', r"""'a\n\t"\\'"""),
    ],
)
def test_expression(text: str, tree: str) -> None:
    assert expression(text) == tree


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", 1000),
        ("1_0.5", 10.5),
        ("12.5e-1", 1.25),
        ("007", 7),
    ],
)
def test_number(text: str, value: float) -> None:
    found = parse_expression(Source("test.tl", text))
    assert isinstance(found, ast.Number)
    assert (found.value, type(found.value)) == (value, type(value))


def test_infinite_float_and_long_integer() -> None:
    assert expression("1e999") == "inf"
    assert codes("x = " + "9" * 5000) == ["S028"]


# ---------------------------------------------------------------- statements


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("tensor x, y: f64[n, 2 * n + 1,]", "(TensorDecl [x y] (TypeExpr f64 [n (+ (* 2 n) 1)]))"),
        ("tensor x: f64", "(TensorDecl [x] (TypeExpr f64 -))"),
        ("tensor x: f64[(n + m) * 2, _]", "(TensorDecl [x] (TypeExpr f64 [(* (+ n m) 2) _]))"),
        ("shared a, b: i64 = 0", "(SharedDecl [a b] (TypeExpr i64 -) 0 False)"),
        ("shared w = 3", "(SharedDecl [w] - 3 False)"),
        ("shared w: f64[n] ~ normal(0, 1)", "(SharedDecl [w] (TypeExpr f64 [n]) (Call normal [0 1]) True)"),
        ("stream s = philox(2)", "(StreamDecl s (Call philox [2]))"),
        ("random r: f64 ~ s.uniform()", "(RandomDecl r (TypeExpr f64 -) (Call (Field s uniform) []))"),
        ('import "l.tl" as l', "(Import 'l.tl' l)"),
        ("a = 1", "(Equation [a] - 1)"),
        ("a, b = f(x)", "(Equation [a b] - (Call f [x]))"),
        ("a: f64[n] = x", "(Equation [a] (TypeExpr f64 [n]) x)"),
        ("s(x, k = 2) = x", "(Template s [(Param x - -) (Param k - 2)] x)"),
        ("s() = 3", "(Template s [] 3)"),
        ("f(x) == 3", "(ExprStmt (Compare [==] [(Call f [x]) 3]))"),
        ("set a = 1", "(Set [(SetTarget (Place a -) -)] 1 False)"),
        (
            "set a, b: f64[n], r.state = f(x)",
            "(Set [(SetTarget (Place a -) -) (SetTarget (Place b -) (TypeExpr f64 [n]))"
            " (SetTarget (Place (Field r state) -) -)] (Call f [x]) False)",
        ),
        (
            "set w[0, :] ~ normal(0, 1)",
            "(Set [(SetTarget (Place w [0 (Slice - - -)]) -)] (Call normal [0 1]) True)",
        ),
        ("set v = z given x = 1", "(Set [(SetTarget (Place v -) -)] (Given z [(Binding x 1)]) False)"),
        ('check a == b, "text"', "(Check (Compare [==] [a b]) text)"),
        ("check a", "(Check a -)"),
        ("bench f(1)", "(Bench (Call f [1]))"),
        ("bench z given x = 1", "(Bench (Given z [(Binding x 1)]))"),
        ("repeat 3 { f() }", "(Repeat 3 - [(ExprStmt (Call f []))])"),
        ("repeat n + 1 as i { }", "(Repeat (+ n 1) i [])"),
        ("repeat (n + 1) { f() }", "(Repeat (+ n 1) - [(ExprStmt (Call f []))])"),
        ("repeat(n) as i { f() }", "(Repeat n i [(ExprStmt (Call f []))])"),
        ("for i in 0..10 { }", "(For [i] (Range 0 10) [])"),
        ("for i in 0 ..n + 1 { }", "(For [i] (Range 0 (+ n 1)) [])"),
        (
            "for a, b in batches(x, y) { f(); g() }",
            "(For [a b] (Call batches [x y]) [(ExprStmt (Call f [])) (ExprStmt (Call g []))])",
        ),
    ],
)
def test_statement(text: str, tree: str) -> None:
    assert statement(text) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("function f() = 1", "(FunctionDecl f [] 1 [])"),
        ("function f(x, y: f64) = z", "[(Param x (TypeExpr f64 -) -) (Param y (TypeExpr f64 -) -)]"),
        ("function f(x, y) = z", "[(Param x - -) (Param y - -)]"),
        ("function f(a = 1, b: f64) = z", "[(Param a (TypeExpr f64 -) 1) (Param b (TypeExpr f64 -) -)]"),
        ("function f(a: f64 = 1, b) = z", "[(Param a (TypeExpr f64 -) 1) (Param b - -)]"),
        (
            "function f(a: i64, b, c: f64,) = z",
            "[(Param a (TypeExpr i64 -) -) (Param b (TypeExpr f64 -) -) (Param c (TypeExpr f64 -) -)]",
        ),
        ("function f() where { update s = 1 }", "(FunctionDecl f [] - [(Update (Place s -) 1)])"),
        (
            "function f(x) = (a, b) where {\n  a = x\n\n  s(y) = y; update w[0] = a\n}",
            "(FunctionDecl f [(Param x - -)] (TupleLit [a b]) [(Equation [a] - x)"
            " (Template s [(Param y - -)] y) (Update (Place w [0]) a)])",
        ),
        (
            "function f() = r where { hold all; hold r, l.q; given a = b, l.c = 1 }",
            "[(Hold -) (Hold [r (Field l q)]) (GivenClause [(Binding a b) (Binding (Field l c) 1)])]",
        ),
        ("function g = copy f", "(CopyDecl g f [])"),
        (
            "function g = copy l.f where { swap a = b, c = l.d; drop updates; drop w, b }",
            "(CopyDecl g (Field l f) [(Swap [[a b] [c (Field l d)]]) (Drop -) (Drop [w b])])",
        ),
    ],
)
def test_function(text: str, tree: str) -> None:
    assert tree in statement(text)


def test_one_type_for_several_parameters_is_one_node() -> None:
    (found,) = program("function f(x, y: f64) = x").statements
    assert isinstance(found, ast.FunctionDecl)
    assert found.params[0].type is not None
    assert found.params[1].type is not None
    assert found.params[0].type.span == found.params[1].type.span


def test_free_words_are_names() -> None:
    text = "updates = 1; all = 2; state = 3; seed = 4; set_ = 5; index = 6; note = 7; android = 8"
    assert len(program(text).statements) == 8


# ---------------------------------------------------------------- where statements end


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("# only\n", 0),
        ("\n\n;;\n", 0),
        ("a = 1 # b\n# c\n\n\nd = 3", 2),
        ("a = 1\r\nb = 2\r\n", 2),
        ("\ufeffa = 1", 1),
        ("a = x -\n  y", 1),
        ("a =\n\n  x", 1),
        ("a = x @\n# c\n y", 1),
        ("a = x and\nnot\ny", 1),
        ("a = (x\n   - y)", 1),
        ("f(\n a,  # c\n b\n)\n", 1),
        ("[1,\n 2]", 1),
        ("z given\n x = 1,\n y = 2", 1),
        ('check x == 1,\n "long"', 1),
        ("random r: f64 ~\n normal(0, 1)", 1),
        ("function f(x) = y\n\n  # c\n  where { y = x }", 1),
        ("s(x) = 1 / x\n(1 + 2)", 2),
        ("f(1)\n[1, 2]", 2),
        ("f(1); g(2);", 2),
        ("f(1) #=> 2 # c\n#! T101: text", 1),
        ("repeat n {\n\n f()\n\n}", 1),
        ("repeat 2 { repeat 3 { f()\n g() }; h() }", 1),
        ("where(c,\na,\nb)\nrepeat(x,\n3)", 2),
    ],
)
def test_newlines(text: str, count: int) -> None:
    assert len(program(text).statements) == count


@pytest.mark.parametrize(
    ("text", "incomplete"),
    [
        ("f(", True),
        ("f(1,\n", True),
        ("x = ", True),
        ("x = a and", True),
        ("x = a +\n", True),
        ("z given", True),
        ("repeat 3 {", True),
        ("repeat 3 {\n f()\n", True),
        ("function f(x) = y where {", True),
        ("", False),
        ("x = 3", False),
        ("set x", False),
        ("x = )", False),
        ('x = "abc', False),
        ("f(a b", False),
        ("x y\nz = (", False),
        ("x++", False),
    ],
)
def test_incomplete(text: str, incomplete: bool) -> None:
    assert is_incomplete(Source("<input>", text)) is incomplete


# ---------------------------------------------------------------- spans


def spans(node: Any) -> list[Span]:
    """All spans in a tree, without recursion."""
    found, stack = [], [node]
    while stack:
        node = stack.pop()
        if isinstance(node, Span):
            found.append(node)
        elif isinstance(node, tuple):
            stack += node
        elif dataclasses.is_dataclass(node) and not isinstance(node, Source):
            stack += [getattr(node, f.name) for f in dataclasses.fields(node)]
    return found


def test_spans() -> None:
    text = "shared w: f64[n] = 1\nset a = f(x + 1, k = [y])[2:]  # c\n"
    shared, command = program(text).statements
    assert shared.span.text == "shared w: f64[n] = 1"
    assert command.span.text == "set a = f(x + 1, k = [y])[2:]"
    assert {s.text for s in spans(command)} >= {
        "a",
        "f",
        "x + 1",
        "+",
        "k = [y]",
        "[y]",
        "2:",
        "f(x + 1, k = [y])",
    }
    assert str(command.span) == "test.tl:2:1"


# ---------------------------------------------------------------- the language's own programs


@pytest.mark.parametrize("path", LANGUAGE, ids=lambda path: path.stem)
def test_language_programs(path: Path) -> None:
    assert program(path.read_text(encoding="utf-8")).statements


def test_the_seven_programs_are_there() -> None:
    assert len(LANGUAGE) == 7


# ---------------------------------------------------------------- depth and length


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "(" * 3000 + "1" + ")" * 3000,
        "x = " + "[" * 3000 + "]" * 3000,
        "x = " + "-" * 5000 + "1",
        "x = " + "not " * 5000 + "a",
        "x = " + "f(" * 3000 + ")" * 3000,
        "x = f" + "(1)" * 5000 + ".a" * 5000 + "[0]" * 5000,
        "x = " + " ** ".join(["a"] * 5000),
        "x = " + " < ".join(["a"] * 5000),
        "x = " + " + ".join(["a"] * 100_000),
        "x = [" + ", ".join(["1"] * 50_000) + "]",
        "repeat 2 {\n" * 1000 + "}" * 1000,
        "y = a + 1\n" * 10_000,
        pytest.param("y = a + 1\n" * 100_000, marks=pytest.mark.slow),
    ],
    ids=lambda text: f"{text[:12]!r} {len(text)}",
)
def test_depth_and_length(text: str) -> None:
    assert program(text).statements


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("(" * 20_000, 1),
        ("{" * 20_000, 1),
        ("(" * 20_000 + "}" * 20_000, 1),
        ("y = f(a +\n" * 20_000, 1),
        ("y = a +)\n" * 20_000, MOST_FAILURES),
        ("x\nwhere\n" * 5000, MOST_FAILURES),
        ("repeat(\n" * 20_000, 1),
        ("\n# c\n" * 20_000 + "where {", 1),
    ],
    ids=lambda text: repr(text)[:12],
)
def test_many_faults(text: str, count: int) -> None:
    assert len(codes(text)) == count


# ---------------------------------------------------------------- whatever the text


def failure(source: Source) -> TlangSyntaxError | None:
    try:
        parse(source)
    except TlangSyntaxError as error:
        return error
    return None


def check_any(text: str) -> None:
    """Whatever the text, there is a tree or a syntax error, and every place is inside the text."""
    source = Source("random.tl", text)
    error = failure(source)
    if error is None:
        found = spans(parse(source))
    else:
        found = [x.span for d in error.diagnostics for x in (d, *d.labels) if x.span is not None]
        assert len(found) >= len(error.diagnostics)
        assert list(error.diagnostics) == sorted(error.diagnostics, key=lambda d: d.sort_key())
        assert all(d.hint for d in error.diagnostics)
        assert str(error)
    for span in found:
        assert span.source is source
        assert 0 <= span.start <= span.end <= len(text)
    is_incomplete(source)


TOKENS = r"""
    tensor shared stream random function copy where given update hold swap drop set check repeat for in as
    bench import and or not True None x y f64 0 1.5 .. ... . , ; : = ~ + - * / // ** @ % == < | & ^ ( ) [ ]
    { } ! ' " # \ lambda if else return def print let += -> && "s" 2x
"""
WORDS = [*TOKENS.split(), "\n"]


@given(st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    check_any(text)


@given(st.lists(st.sampled_from(WORDS), max_size=30), st.sampled_from([" ", ""]))
@settings(max_examples=500, deadline=None)
def test_any_words(words: list[str], gap: str) -> None:
    check_any(gap.join(words))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_programs(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(LANGUAGE)).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.sampled_from([*WORDS, ""])) + text[end:]
    check_any(text)


# ---------------------------------------------------------------- the grammar and its cache


def test_grammar_is_strictly_lalr() -> None:
    import interegular  # noqa: F401 - without it lark does not look for collisions
    import lark

    text = tables._grammar_path().read_text(encoding="utf-8")
    lark.Lark(text, parser="lalr", lexer="basic", start=list(tables.STARTS), strict=True)


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path / "cache"))
    tables.load_tables()
    (stored,) = (tmp_path / "cache").iterdir()
    whole = stored.read_bytes()
    monkeypatch.setattr(tables, "compute", lambda text: pytest.fail("the cache was not used"))
    tables.load_tables()
    monkeypatch.undo()
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path / "cache"))
    for damaged in (b"", whole[:1000], b"not a pickle"):
        stored.write_bytes(damaged)
        tables.load_tables()
        assert len(stored.read_bytes()) > 1000
    assert list((tmp_path / "cache").iterdir()) == [stored]


def test_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path / "file" / "folder"))
    tables.load_tables()


def test_parsing_needs_no_other_package() -> None:
    tables.load_tables()  # from here on the cache is warm
    code = """
import sys
from tlang.source import Source
from tlang.syntax.parse import parse
parse(Source("text", "x = 1"))
sys.exit(bool({"lark", "numpy", "numba"} & set(sys.modules)))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_threads() -> None:
    failed = []

    def work(name: str) -> None:
        for _ in range(20):
            (found,) = program(f"{name} = 1").statements
            if found.span.text != f"{name} = 1":
                failed.append(name)

    threads = [threading.Thread(target=work, args=(f"name{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
