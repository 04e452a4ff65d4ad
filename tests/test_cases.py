"""Every program with answers: the cases, the tutorial, broken data, imports, the command line."""

from __future__ import annotations

import ast as python
import json
import os
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import BACKEND, ON_A_GPU, SIMULATED

import tlang
from tlang.codes import CODES
from tlang.errors import TlangError
from tlang.run.files import read_source
from tlang.source import Source
from tlang.tools.testing import FileTest, expectations, run_file

ROOT = Path(__file__).parent.parent
CASES = sorted((ROOT / "tests/cases").rglob("*.tl"))
BACKENDS = (BACKEND,) if ON_A_GPU else ("numpy", BACKEND)
#: What takes days in the simulator: `test_cuda.py` runs the like of it with smaller sizes.
TOO_LONG = {"07_logistic_regression.tl"} if SIMULATED else set()
PROGRAMS = sorted((ROOT / "programs").glob("*.tl"))


def report(result: Any) -> str:
    return "\n".join(str(TlangError(d)) for d in result.failures)


# ---------------------------------------------------------------- programs with answers


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("path", CASES, ids=lambda p: str(p.relative_to(ROOT / "tests/cases")))
def test_case(path: Path, backend: str) -> None:
    if path.name in TOO_LONG:
        pytest.skip(
            "days in the simulator; test_cuda.py runs programs/logistic_regression.tl with fewer steps"
        )
    result = run_file(str(path), backend=backend)
    assert not result.failures, report(result)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "programs"
    shutil.copytree(ROOT / "programs", folder)
    return folder


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [p.name for p in PROGRAMS])
def test_program(name: str, backend: str, programs: Path) -> None:
    result = run_file(str(programs / name), backend=backend)
    assert not result.failures, report(result)


# ---------------------------------------------------------------- a wrong answer is found


def changed(text: str) -> str:
    """An expected value with its first number, or truth value, made another one."""
    if "True" in text or "False" in text:
        return text.replace("True", "?").replace("False", "True").replace("?", "False")
    return re.sub(r"\d+", lambda m: str(int(m.group()) + 1), text, count=1)


def answers() -> Iterator[Any]:
    for path in sorted((ROOT / "tests/cases/language").glob("*.tl")):
        source = read_source(str(path), str(path))
        for k, x in enumerate(e for e in expectations(source) if e.kind == "=>"):
            yield pytest.param(path, k, id=f"{path.stem}:{x.span.line}")


@pytest.mark.parametrize(("path", "number"), list(answers()))
def test_changed_answer_fails(path: Path, number: int) -> None:
    source = read_source(str(path), str(path))
    x = [e for e in expectations(source) if e.kind == "=>"][number]
    written = source.text[x.span.start : x.span.end]
    wrong = written[:3] + changed(written[3:])
    assert wrong != written
    text = source.text[: x.span.start] + wrong + source.text[x.span.end :]
    result = FileTest(Source(source.name, text, source.path, source.stem)).run()
    assert [d.code for d in result.failures] == ["C102"]
    failure = result.failures[0]
    assert failure.span is not None
    assert failure.span.line == x.span.line
    expected = [e for e in expectations(failure.span.source) if e.kind == "=>"][number].text
    first = re.search(r"[-\d.]+|True|False", x.text)
    assert first is not None
    assert f"{expected} is expected" in failure.message
    assert first.group().rstrip(".0") in failure.message.partition(" is expected")[0].partition(expected)[0]


def test_error_that_does_not_come(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text("1 + 1    #! T101\n2 + 2    #=> 4\n")
    (failure,) = run_file(str(path)).failures
    assert failure.code == "C103"
    assert failure.span is not None
    assert failure.span.line == 1


def test_answer_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text("x = 2    #=> 2\n")
    (failure,) = run_file(str(path)).failures
    assert failure.code == "C103"


# ---------------------------------------------------------------- the table of codes

#: Reached below, from Python, or by other test files (S: test_syntax_messages, D1..: test_data).
ELSEWHERE = {
    "N106": "test_unknown_name_of_an_import",
    "N110": "test_hiding_a_name_warns",
    "N120": "test_import_cycles",
    "D190": "test_files_of_programs",
    "D191": "test_files_of_programs",
    "D192": "test_files_of_programs",
    "T190": "test_two_operands_that_stretch_warn",
    "T191": "test_f32_that_becomes_f64_warns",
    "T192": "test_a_dimension_that_looks_misspelt_warns",
    "N190": "test_an_equation_that_nothing_uses_warns",
    "R131": "test_wrong_data",
    "A101": "test_errors_of_python",
    "A102": "test_errors_of_python",
    "A110": "test_errors_of_python",
    "A111": "test_errors_of_python",
    "A112": "test_errors_of_python",
    "A113": "test_errors_of_python",
    "C102": "test_changed_answer_fails",
    "C103": "test_error_that_does_not_come",
}

#: Reached in tests/test_repl.py, where a prompt is needed.
AT_THE_PROMPT = {"N113", "A120", "A121", "A122", "A123"}

#: Reached in tests/test_finite.py, where the mode is on.
WITH_CHECKS = {"R160"}

#: Reached in tests/test_gpu.py, where a GPU, or a part of one, is pretended.
OF_A_GPU = {"R171", "R172", "R173", "R174", "R175", "R176", "R177"}

#: Behind another, which comes first (T145, T107), and the net under the interpreter.
BEHIND = {"R122", "R120", "R130"}


def test_every_code_is_reached() -> None:
    reached = set(ELSEWHERE) | AT_THE_PROMPT | WITH_CHECKS | OF_A_GPU | BEHIND
    for path in CASES:
        reached.update(e.code for e in expectations(read_source(str(path), str(path))) if e.kind == "!")
    wanted = {code for code in CODES if code[0] not in "SD"} | {"D190", "D191", "D192"}
    assert wanted - reached == set()
    assert reached - BEHIND <= set(CODES)
    assert all(name in globals() for name in ELSEWHERE.values())


def test_every_message_has_its_facts() -> None:
    """Each `error("CODE", ...)` of the source gives what the code's sentence wants, and no more."""
    for path in sorted((ROOT / "tlang").rglob("*.py")):
        for call in python.walk(python.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(call, python.Call) and isinstance(call.func, python.Name) and call.args):
                continue
            first = call.args[0]
            known = isinstance(first, python.Constant) and first.value in CODES
            if call.func.id not in ("error", "diagnostic") or not known:
                continue
            given = {k.arg for k in call.keywords} - {"label", "labels", "notes", "hint", "severity"}
            if None in given:  # **facts
                continue
            assert isinstance(first, python.Constant)
            fields = (f for _, f, _, _ in string.Formatter().parse(CODES[first.value].sentence))
            assert given == {f for f in fields if f}, f"{path.name}:{call.lineno}: {first.value}"


# ---------------------------------------------------------------- messages


def message(text: str, folder: Path | None = None, files: dict[str, str] | None = None) -> str:
    """What a wrong program says, run or not."""
    for name, content in (files or {}).items():
        assert folder is not None
        (folder / name).write_text(content)
    source = Source("test.tl", text, str(folder / "test.tl") if folder is not None else None, "test")
    test = FileTest(source)
    return report(test.run())


MESSAGES: dict[str, str] = {
    "unknown_name": "tensor weights: f64[n]\nloss = sum(wieghts ** 2)",
    "unknown_in_clause": "shared step: i64 = 0\nfunction f() = 1 where { update stp = 2 }",
    "inner_dimensions": """
feats = 784
tensor x: f64[feats, n]
shared w: f64[feats] ~ normal(0, 1)
p = 1 / (1 + exp(-(x @ w)))
""",
    "broadcast": "tensor x: f64[n, d]\ntensor y: f64[n]\nz = (x - 1) * y",
    "broadcast_in_template": """
tensor a: f64[n]
tensor b: f64[m]
add(p, q) = p + q
twice(p, q) = add(p, q) + add(q, p)
c = twice(a, b)
""",
    "constant_size": "N = 3\nfunction f(x: f64[N]) = sum(x)\nf([1, 2])",
    "two_arguments": "function add(a, b: f64[n]) = a + b\nadd([1, 2], [1, 2, 3])",
    "rank": "function f(x: f64[n, m]) = x\nf([1, 2])",
    "dtype": "tensor x: f32[n]\ny: f64[n] = x",
    "cast": "function f(x: f32[n]) = x\nset v = [0.1, 0.2]\nf(v)",
    "not_representable": "function f(k: i64) = k\nf(2.5)",
    "integer_range": "shared k: u8 = 0\nset k = 256",
    "ragged": "set x = [[1, 2], [3, 4], [5]]",
    "missing_input": "tensor x, y: f64\nz = x * y\ncost = z + 1\nfunction f(x) = cost",
    "drop_the_type": "tensor x: f64\nz = x * 2\nfunction f(x: f64) = z + x",
    "unused_input": "function f(x: f64, y: f64) = x",
    "cycle": "a = b + 1\nb = c * 2\nc = a - 1",
    "too_many_arguments": "function f(x: f64) = x\nf(1, 2)",
    "missing_argument": "function f(x: f64, a: f64 = 1, s: f64) = x + a + s\nf(9, 4)",
    "repeated_argument": "function f(x, y: f64) = x + y\nf(1, x = 2)",
    "unknown_argument": "function f(x, rate: f64) = x * rate\nf(1, raet = 2)",
    "update_type": "shared k: i64 = 0\nfunction f(x: f64) where { update k = k + x }",
    "update_twice": "shared k: i64 = 0\nfunction f() where {\n    update k = 1\n    update k = 2\n}",
    "value_in_equation": "set rate = 0.1\ntensor x: f64\ny = rate * x",
    "effect_in_formula": (
        "shared n: i64 = 0\nfunction tick() = n where { update n = n + 1 }\ny = tick() + 1"
    ),
    "given_nothing": "tensor x, y: f64\nz = x + 1\nz given y = 2, x = 1",
    "given_type": "tensor x: f64[n]\nz = sum(x)\nz given x = 3",
    "set_equation": "rate = 0.1\nset rate = 0.2",
    "disconnected": "tensor x, y: f64\ncost = where(x > 0, y, 2 * y)\ng = grad(cost, x)",
    "check_of_tensor": "set x = [1, 2]\ncheck x == [1, 2]",
    "check_fails": 'set x = 3\ncheck x < 2, "x is small"',
    "division_by_zero": "function f(a, b: i64) = a // b\nf(1, 0)",
    "index_at_run_time": "shared w: f64[3] = [1, 2, 3]\nfunction f(i: i64) = w[i]\nf(3)",
    "draw_out_of_range": "random r: f64 ~ normal(0, sd)\nshared sd: f64 = -1\nr",
    "loop_type": "set w = 1\nrepeat 3 { set w = w / 2 }",
    "several": "tensor x: f64[n]\na = x + yy\nb = x @ [1, 2]\nc: f64 = x\nset d = x and True",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_message(name: str, golden: Callable[[str, str], None]) -> None:
    found = message(MESSAGES[name])
    assert found.startswith("error[")
    golden(f"messages/{name}.txt", found + "\n")


def test_every_message_has_a_place_and_a_hint_or_notes() -> None:
    for name, text in MESSAGES.items():
        for d in FileTest(Source("test.tl", text)).run().failures:
            assert d.span is not None, name
            assert d.span.text, name


# ---------------------------------------------------------------- data files, imports


def test_broken_data_names_file_line_and_column(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n1,2\n3,four\n")
    text = message('set x = load("table.csv")', tmp_path)
    assert "error[D114]: `table.csv`, line 3, column 2" in text
    assert "test.tl:1:9" in text
    (tmp_path / "table.csv").write_text("1,2\n3\n")
    assert "`table.csv`, line 2" in message('shared x: f64[_, _] = load("table.csv")', tmp_path)
    np.save(tmp_path / "good.npy", np.arange(4.0))
    content = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[:-3])
    assert "error[D106]: `cut.npy`" in message('set x = load("cut.npy")', tmp_path)
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + content)
    assert "error[D106]: `cut.npz`" in message('set x = load("cut.npz", "x")', tmp_path)
    assert "error[D101]: `none.npy`" in message('set x = load("none.npy")', tmp_path)
    np.savez(tmp_path / "some.npz", x=1.0, y=2.0)
    assert "it has `x`, `y`" in message('set x = load("some.npz", "z")', tmp_path)


def test_wrong_data(tmp_path: Path) -> None:
    """A file is checked against the declared type, before anything is stored."""
    np.save(tmp_path / "v.npy", np.arange(3.0))
    for text, code in [
        ('set x: f64[4] = load("v.npy")', "T104"),
        ('set x: f64[_, _] = load("v.npy")', "T107"),
        ('set x: f32[_] = load("v.npy")', "T106"),
        ('shared x: i64[3] = load("v.npy")', "T106"),
    ]:
        assert f"error[{code}]" in message(text, tmp_path), text
    assert message('set x: f64[n] = load("v.npy")\nx[2]    #=> 2.0', tmp_path) == ""
    m = tlang.compile("shared w: f64[_] = [1, 2]\nfunction f(x: f64[_]) = x + w")
    with pytest.raises(tlang.ShapeError) as raised:
        m.f([1, 2, 3])
    assert raised.value.code == "R131"


def test_import_cycles(tmp_path: Path) -> None:
    (tmp_path / "b.tl").write_text('import "c.tl" as c\n')
    (tmp_path / "c.tl").write_text('import "b.tl" as b\n')
    text = message('import "b.tl" as b', tmp_path)
    assert "error[N120]" in text
    assert "b.tl -> c.tl -> b.tl" in text
    (tmp_path / "test.tl").write_text("")
    (tmp_path / "d.tl").write_text('import "test.tl" as t\n')
    assert "error[N120]" in message('import "d.tl" as d', tmp_path)
    assert "error[N120]" in message('import "test.tl" as me', tmp_path)


def test_unknown_name_of_an_import(tmp_path: Path) -> None:
    (tmp_path / "lib.tl").write_text("shared weights: f64 = 1\n")
    text = message('import "lib.tl" as lib\nx = lib.wieghts', tmp_path)
    assert "error[N106]" in text
    assert "`weights`" in text
    text = message('import "lib.tl" as lib\nfunction f() = 1 where { update lib.nothing = 2 }', tmp_path)
    assert "error[N106]" in text


def test_errors_inside_an_import(tmp_path: Path) -> None:
    (tmp_path / "lib.tl").write_text("a = 1\nb = a + nothing\n")
    text = message('import "lib.tl" as lib\nlib.a', tmp_path)
    assert "error[N101]: unknown name `nothing`" in text
    assert "lib.tl:2:9" in text
    (tmp_path / "lib.tl").write_text("a = = 1\n")
    text = message('import "lib.tl" as lib\nlib.a', tmp_path)
    assert "error[S" in text
    assert "lib.tl:1" in text


def test_files_of_programs(tmp_path: Path) -> None:
    assert "error[D190]" in message('import "none.tl" as none', tmp_path)
    assert "error[D191]" in message('import "." as here', tmp_path)
    (tmp_path / "bytes.tl").write_bytes(b"x = 1\ny = \xff\n")
    text = message('import "bytes.tl" as bytes', tmp_path)
    assert "error[D192]" in text
    assert "line 2" in text
    for path, code in [("none.tl", "D190"), (".", "D191"), ("bytes.tl", "D192")]:
        with pytest.raises(TlangError) as raised:
            tlang.load(tmp_path / path)
        assert raised.value.code == code


# ---------------------------------------------------------------- warnings


def warnings_of(text: str) -> list[str]:
    from tlang.tools.check import check_source

    found = check_source(Source("test.tl", text), "warn")
    assert all(d.severity == "warning" and d.span is not None for d in found)
    return [d.code for d in found]


def test_hiding_a_name_warns() -> None:
    assert warnings_of("e = 2\nsum(x) = x\n") == ["N110", "N110"]


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("y = s * d", True),
        ("y = s + [1, 2]", True),
        ("y = where(True, s, d)", True),
        ("y = s @ d", True),
        ("y = s * 2.5", False),
        ("y = f64(s) * d", False),
        ("y = s * f32(d)", False),
        ("y = mean(s) / 2", False),
    ],
)
def test_f32_that_becomes_f64_warns(line: str, warned: bool) -> None:
    text = f"tensor s: f32[2]\ntensor d: f64[2]\n{line}\n"
    assert ("T191" in warnings_of(text)) is warned


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("tensor x: f64[feats]\ntensor w: f64[feats, k]\ntensor b: f64[feat]", ["feat"]),
        ("feats = 3\ntensor x: f64[feast]", ["feast"]),
        ("tensor x: f64[rows, rows]\ntensor y: f64[Rows]", ["Rows"]),
        ("tensor x: f64[n, m]\ntensor y: f64[n, k]", []),
        ("tensor x: f64[dim1, dim1]\ntensor y: f64[dim2]", []),
        ("tensor x: f64[feats, feats]\ntensor b: f64[feat]\ny = feat", []),
        ("function f(a, b: f64[size_in], c: f64[size_on]) = a", []),
        ("function f(a: f64[size_in], b: f64[size_in], c: f64[size_on]) = a", ["size_on"]),
    ],
)
def test_a_dimension_that_looks_misspelt_warns(text: str, warned: list[str]) -> None:
    from tlang.tools.check import check_source

    found = [d for d in check_source(Source("a.tl", text), "ignore") if d.code == "T192"]
    assert [d.span.text for d in found if d.span is not None] == warned


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("x = 1\ny = 2\nprint(x)", ["y"]),
        ("x = 1\ny = x", []),
        ("s(v) = 2 * v\n3", ["s"]),
        ("a, b = f(1)\nfunction f(v: f64) = (v, 2 * v)\nb", []),
        ("a, b = f(1)\nfunction f(v: f64) = (v, 2 * v)", ["a"]),
        ("function f(v: f64) = z where { z = v; q = 2 * v }", ["q"]),
        ("function f(v: f64) = v where { _q = 2 * v }", []),
        ("n = 3\ntensor x: f64[n]\nfunction f(x) = x", []),
        ("tensor x: f64\ny = x * 2\nfunction f() = 1 where { given y = 3 }", []),
    ],
)
def test_an_equation_that_nothing_uses_warns(text: str, warned: list[str]) -> None:
    from tlang.tools.check import check_source

    found = [d for d in check_source(Source("a.tl", text), "ignore") if d.code == "N190"]
    assert [d.span.text for d in found if d.span is not None] == warned


@pytest.mark.parametrize("path", sorted((ROOT / "programs").glob("*.tl")), ids=lambda p: p.stem)
def test_programs_are_checked_without_running(path: Path) -> None:
    from tlang.tools.check import check_source

    assert [d for d in check_source(read_source(str(path), str(path))) if d.severity == "error"] == []


def test_messages_of_run_for_tools(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tlang.tools.cli import main

    assert main(["run", "--json", "-c", "left = 1; print(1); 1 // 0"]) == 1
    out, err = capsys.readouterr()
    assert out == "1\n"
    warning, failure = map(json.loads, err.splitlines())
    assert (warning["code"], warning["severity"]) == ("N190", "warning")
    assert (failure["code"], failure["place"]["column"]) == ("R110", 21)


def test_warnings_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tlang.tools.cli import main

    path = tmp_path / "a.tl"
    path.write_text("left_over = 3\n1 + 1\n")
    assert main(["run", str(path)]) == 0
    out, err = capsys.readouterr()
    assert out == "2\n"
    assert "warning[N190]: nothing in this program uses `left_over`" in err
    assert main(["run", str(path), "-c", "left_over"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["check", "--json", str(path)]) == 0
    assert '"severity": "warning"' in capsys.readouterr().out


def test_two_operands_that_stretch_warn() -> None:
    assert warnings_of("tensor a: f64[n]\ntensor b: f64[m]\nc = a[:, None] + b\n") == ["T190"]
    assert warnings_of("tensor a: f64[n]\nb = a[:, None] + [1.0]\nc = a + 1\n") == []


def test_unused_parameters_warn() -> None:
    assert warnings_of("function f(x: f64) = 1") == ["F118"]


# ---------------------------------------------------------------- transactions from Python


def snapshot(m: tlang.Module, shared: list[str], streams: list[str]) -> list[Any]:
    return [np.copy(m[n].value) for n in shared] + [m[n].state for n in streams]


@pytest.mark.parametrize("generator", ["philox", "mt19937"])
def test_failing_calls_leave_everything(generator: str) -> None:
    m = tlang.compile(f"""
stream s = {generator}(5)
random r: f64[3] ~ s.uniform(0, 1)
random wide: f64 ~ s.normal(0, sd)
shared sd: f64 = 1
shared w: f64[3] = [1, 2, 3]
shared k: i64 = 6
shared grown: f64[_] = [1]
function divide(d: i64) = (r, k // d) where {{ update w = w + r; update k = k - 1 }}
function place(i: i64) = r where {{ update w[i] = 7; update k = k + 1 }}
function draw(v: f64) = (r, wide + v) where {{ update sd = v; update k = k + 1 }}
function grow(x: f64[_]) = r where {{ update grown = concatenate([grown, x]); update w = w + x }}
""")
    m.divide(2)
    for action in (
        lambda: m.divide(0),
        lambda: m.place(3),
        lambda: m.place(-4),
        lambda: m.grow([1, 2]),
        lambda: m.divide("two"),
        lambda: m.divide(1.5),
        lambda: m.divide(),
        lambda: m.eval("divide(0)"),
        lambda: m.run("set w = divide(0)[0]"),
        lambda: m.run("set w = [1, 2]"),
        lambda: m.run("set w[3] = 1"),
        lambda: m.repeat(3, "divide", 0),
    ):
        before = snapshot(m, ["w", "k", "sd", "grown"], ["r", "wide"])
        with pytest.raises(TlangError):
            action()
        after = snapshot(m, ["w", "k", "sd", "grown"], ["r", "wide"])
        for a, b in zip(before, after, strict=True):
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
    m.draw(-1.0)
    before = snapshot(m, ["sd", "k"], ["r", "wide"])
    with pytest.raises(tlang.StateError):
        m.draw(2.0)
    after = snapshot(m, ["sd", "k"], ["r", "wide"])
    assert [
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in zip(before, after, strict=True)
    ]
    assert m.k.value == before[1]


def test_errors_of_python() -> None:
    m = tlang.compile("shared s: f64 = 1\nz = s + 1\nfunction f(x: f64[n]) = x + s\nstream g = philox(1)")
    for action, code in [
        (lambda: m.f({1, 2}), "A101"),
        (lambda: m.f(np.array(["a"])), "A101"),
        (lambda: m.f(np.array([None])), "A101"),
        (lambda: m.f([[1], [2, 3]]), "A102"),
        (lambda: m.f(np.array([[1.0]])), "T107"),
        (lambda: m.f(np.array([1j])), "T106"),
        (lambda: m.nothing, "A110"),
        (lambda: m.z, "A111"),
        (lambda: m.repeat(1, "s"), "A113"),
        (lambda: m.repeat(-1, "f", [1]), "R152"),
        (lambda: setattr(m.s, "value", [1]), "T107"),
        (lambda: m.g.state, "F172"),
        (lambda: tlang.compile("x = 1", backend="fast"), "A112"),
        (lambda: tlang.compile("x = 1", unused="maybe"), "A112"),
        (lambda: tlang.compile("x = (", run=False), "S006"),
        (lambda: m.eval("x +"), "S023"),
        (lambda: m.eval("yy"), "N101"),
        (lambda: m.run("set z = 1"), "F171"),
    ]:
        with pytest.raises(TlangError) as raised:
            action()
        assert raised.value.code == code
    assert m.s.value == 1.0


# ---------------------------------------------------------------- the command line


def tlang_(
    *args: str, stdin: str = "", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "tlang.tools.cli", *args],
        input=stdin,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path, **env},
        timeout=60,
    )


def test_exit_codes(tmp_path: Path) -> None:
    good, wrong, failing = tmp_path / "good.tl", tmp_path / "wrong.tl", tmp_path / "failing.tl"
    good.write_text("1 + 1    #=> 2\n")
    wrong.write_text("1 + nothing\n")
    failing.write_text('print("before")\ncheck 1 > 2, "no"\nprint("after")\n')
    ran = tlang_("run", str(good))
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "2\n", "")
    ran = tlang_("run", str(wrong))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "error[N101]" in ran.stderr
    assert f"{wrong}:1:5" in ran.stderr
    ran = tlang_("run", str(failing))
    assert (ran.returncode, ran.stdout) == (1, "before\n")
    assert "error[C101]: the check failed: no" in ran.stderr
    for args in (("run",), ("walk", str(good)), ("run", str(good), "--nothing"), ("run", "--seed", "x")):
        ran = tlang_(*args)
        assert (ran.returncode, ran.stdout) == (2, ""), args
        assert "usage" in ran.stderr or "tlang run:" in ran.stderr
    ran = tlang_("run", str(tmp_path / "none.tl"))
    assert ran.returncode == 1
    assert "error[D190]" in ran.stderr
    ran = tlang_("test", str(good), str(wrong))
    assert ran.returncode == 1
    assert "1 passed, 1 failed" in ran.stdout
    assert "error[N101]" in ran.stderr
    assert tlang_("--version").stdout == f"tlang {tlang.__version__}\n"


def test_a_bug_says_that_it_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tlang.tools.cli as cli

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("wheel came off")

    monkeypatch.setattr("tlang.syntax.parse.parse", broken)
    assert cli.main(["run", "-c", "1 + 1"]) == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert "internal error: RuntimeError: wheel came off" in err
    assert "bug of tlang" in err
    assert "Traceback" not in err


def test_options_of_run(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text(
        "rate = 0.5\nshared s: f64 = 1\nset v = 2\nrandom r: f64 ~ uniform(0, 1)\n"
        "function f(x: f64, y: f64) = x\nprint(rate, s, v)\nprint(r)\n"
    )
    ran = tlang_("run", str(path))
    assert ran.returncode == 1
    assert "error[F118]" in ran.stderr
    ran = tlang_("run", str(path), "--unused", "warn")
    assert ran.returncode == 0
    assert "warning[F118]" in ran.stderr
    first = ran.stdout.splitlines()
    assert first[0] == "0.5 1.0 2"
    ran = tlang_(
        "run",
        str(path),
        "--unused=ignore",
        "--seed",
        "1",
        "--set",
        "rate=0.25",
        "--set",
        "s = 3",
        "--set",
        "v=7",
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    second = ran.stdout.splitlines()
    assert second[0] == "0.25 3.0 7"
    assert second[1] != first[1]
    again = tlang_("run", str(path), "--unused=ignore", "--seed", "0", "-c", "s * 10\nf(4, 5)")
    assert again.stdout.splitlines() == [*first, "10.0", "4.0"]
    for pair in ("nothing=1", "rate"):
        ran = tlang_("run", str(path), "--unused=ignore", "--set", pair)
        assert ran.returncode == 2, pair
        assert "--set" in ran.stderr
    ran = tlang_("run", str(path), "--unused=ignore", "--set", "rate=1 +")
    assert ran.returncode in (1, 2)
    assert "internal error" not in ran.stderr


def test_text_and_standard_input() -> None:
    ran = tlang_("run", "-c", "set x = 2; x + 1")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "3\n", "")
    ran = tlang_("run", "-", stdin="1 + 1\n")
    assert (ran.returncode, ran.stdout) == (0, "2\n")
    ran = tlang_("run", "-", stdin="1 + xx\n")
    assert "<stdin>:1:5" in ran.stderr


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import tlang.tools.cli as cli

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    cli.main(["run", "-c", "xx"])
    assert "\x1b[" not in capsys.readouterr().err, "not a terminal"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    cli.main(["run", "-c", "xx"])
    assert "\x1b[" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    cli.main(["run", "-c", "xx"])
    assert "\x1b[" not in capsys.readouterr().err


def test_check_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text("tensor x: f64[n]\ne = 2\ny = x + zz\n")
    ran = tlang_("check", str(path), "--json")
    assert (ran.returncode, ran.stderr) == (1, "")
    found = {d["code"]: d for d in json.loads(ran.stdout)}
    assert set(found) == {"N101", "N110"}
    assert found["N101"]["severity"] == "error"
    place = found["N101"]["place"]
    assert place == {"file": str(path), "line": 3, "column": 9, "end_line": 3, "end_column": 11}
    assert found["N110"]["severity"] == "warning"
    path.write_text("x = 1\n")
    ran = tlang_("check", "--json", str(path))
    assert (ran.returncode, json.loads(ran.stdout)) == (0, [])


def test_check_runs_nothing_and_imports_little(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text(
        'print("ran")\ncheck False\nset x = load("none.npy")\ny: f64 = grad(w ** 2, w)\nshared w: f64 = 1\n'
        "stream s = philox(1)\nrandom r: f64[3] ~ s.normal(0, 1)\n"
        "function f() = r @ r where { update w = 1 }\nf() + x + y\n"
    )
    program = (
        "import sys; from tlang.tools.cli import main; status = main(['check', sys.argv[1]]); "
        "print(status, sorted({'numpy', 'numba', 'rich', 'prompt_toolkit'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("0 []\n", "")


def test_run_does_not_import_numba() -> None:
    program = (
        "import sys; from tlang.tools.cli import main; status = main(['run', '-c', '[1, 2] @ [3, 4]']); "
        "print(status, sorted({'numba', 'scipy', 'rich', 'prompt_toolkit'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert (ran.stdout, ran.stderr) == ("11\n0 []\n", "")


def test_random_bytes_as_a_program(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    for k in range(4):
        path = tmp_path / f"{k}.tl"
        path.write_bytes(rng.bytes(300) if k % 2 else bytes(rng.randint(32, 127, 300).tolist()))
        ran = tlang_("check" if k < 2 else "run", str(path))
        assert ran.returncode == 1
        assert "error[" in ran.stderr
        assert "internal error" not in ran.stderr
        assert "Traceback" not in ran.stderr


def test_update_rewrites_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.tl"
    path.write_text("1 + 1    #=> 3\n[[1, 2], [3, 4]]\n#=> [[0, 0],\n#    [0, 0]]\n5        #=> 5   (kept)\n")
    assert tlang_("test", str(path)).returncode == 1
    ran = tlang_("test", str(path), "--update")
    assert ran.returncode == 0
    assert (
        path.read_text()
        == "1 + 1    #=> 2\n[[1, 2], [3, 4]]\n#=> [[1, 2],\n#    [3, 4]]\n5        #=> 5   (kept)\n"
    )
    assert tlang_("test", str(path)).returncode == 0
