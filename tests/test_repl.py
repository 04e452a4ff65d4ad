"""The prompt without a terminal: transcripts, redefinition, commands, completion, piped lines."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from prompt_toolkit.document import Document

from tlang.errors import TlangError
from tlang.source import Source
from tlang.syntax.parse import continuations
from tlang.tools.cli import main
from tlang.tools.repl.commands import COMMANDS
from tlang.tools.repl.completion import candidates
from tlang.tools.repl.inquire import type_of_text
from tlang.tools.repl.shell import Shell, is_whole
from tlang.tools.repl.terminal import Colours, Toolbar, style_of

ROOT = Path(__file__).parent.parent
TRANSCRIPTS = sorted((Path(__file__).parent / "golden" / "repl").glob("*.txt"))


def replay(transcript: str) -> str:
    """The transcript again: what follows `> ` and `| ` is entered, all else is what comes of it."""
    out: list[str] = []
    shell = Shell(backend="numpy", write=out.append, complain=out.append)
    entered = re.findall(r"^> .*(?:\n\| ?.*)*", transcript, re.MULTILINE)
    for text in entered:
        out.append(text)
        shell.enter("\n".join(line[2:] for line in text.split("\n")))
    return "\n".join(out) + "\n"


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda p: p.stem)
def test_transcript(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "line.tl").write_text("k = 3\nline(x) = k * x\nset start = line(2)\nprint(start)\n")
    old = path.read_text(encoding="utf-8")
    new = replay(old)
    if request.config.getoption("--update-golden"):
        path.write_text(new, encoding="utf-8")
        old = new
    assert new == old


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def shell(said: list[str]) -> Shell:
    return Shell(backend="numpy", write=said.append, complain=said.append)


def enter(shell: Shell, *texts: str) -> list[str]:
    """What is said of some submissions."""
    said: list[str] = []
    shell.write = shell.complain = said.append
    shell.session.executor.write = said.append
    for text in texts:
        shell.enter(text)
    return said


# ---------------------------------------------------------------- redefinition


def test_dependents_follow_a_redefinition(shell: Shell) -> None:
    enter(shell, "tensor x: f64[n]", "y = x + 1", "function f(x) = sum(y)")
    assert enter(shell, "f([1, 2])") == ["5.0"]
    assert enter(shell, "y = x * 10", "f([1, 2])") == ["30.0"]


def test_the_old_stays_when_something_would_not_fit(shell: Shell) -> None:
    enter(shell, "tensor x: f64[n]", "y = x + 1", "function f(x) = sum(y * x)", "function g(x) = y - x")
    (text,) = enter(shell, "y = x @ zeros((3, 4, 5))")
    assert "N113" in text or "T10" in text
    (text,) = enter(shell, "y = [1, 2]")
    assert "`y` cannot be redefined like this: `f`, `g` would no longer fit" in text
    assert enter(shell, "f([1, 2])") == ["8.0"]


def test_several_redefinitions_in_one_submission(shell: Shell) -> None:
    enter(shell, "tensor x: f64[3]", "function f(x) = x + [1, 2, 3]", "f([0, 0, 0])")
    assert "cannot be redefined" in enter(shell, "tensor x: f64[2]")[0]
    assert enter(shell, "tensor x: f64[2]\nfunction f(x) = x + [1, 2]", "f([0, 0])") == ["[1., 2.]"]


def test_a_redefined_dimension(shell: Shell) -> None:
    enter(
        shell, "N = 3", "tensor v: f64[N]", "shared w, u: f64[N] = ones(N)", "function h(v) = v + w", "u = 4"
    )
    assert enter(shell, "h([1, 2, 3])", "N = 2", "w", "h([1, 2])") == ["[2., 3., 4.]", "[1., 1.]", "[2., 3.]"]
    assert "T104" in enter(shell, "h([1, 2, 3])")[0]
    assert "T111" in enter(shell, "N = 2.5")[0]
    assert enter(shell, "w") == ["[1., 1.]"]


def test_state_starts_anew(shell: Shell) -> None:
    enter(shell, "shared s: i64 = 5", "function up() = s where { update s = s + 1 }")
    assert enter(shell, "up()", "up()", "shared s: i64 = 5", "up()") == ["5", "6", "5"]
    first = enter(shell, "stream g = philox(1)", "random r: f64 ~ g.normal(0, 1)", "function d() = r", "d()")
    assert enter(shell, "d()") != first
    assert enter(shell, "random r: f64 ~ g.normal(0, 1)", "d()") == first
    assert enter(shell, "stream g = philox(1)", "d()") == first
    assert enter(shell, "stream g = philox(2)", "d()") != first


def test_a_shared_value_that_cannot_begin_anew_stays(shell: Shell) -> None:
    enter(shell, "shared s: i64 = 5", "z = 0")
    assert (
        "R110" in enter(shell, "shared s: i64 = 1 // z")[0] + enter(shell, "shared s: i64 = 1 // i64(z)")[0]
    )
    assert enter(shell, "s") == ["5"]


def test_values_and_streams_come_back_with_their_definitions(shell: Shell) -> None:
    enter(shell, "shared a: i64 = 1", "random r: f64 ~ normal(0, 1)", "function d() = r", "z = 0", "d()")
    state = shell.session.store.streams.states["r"]
    (text,) = enter(shell, "shared a: f64[2] = [5, 6]; random r: f64 ~ normal(0, 1); shared b: i64 = 1 // z")
    assert "R110" in text
    assert enter(shell, "a") == ["[5., 6.]"], "b is new: what came before it stays"
    enter(shell, "shared a: i64 = 1", "shared b: i64 = 2", "d()")
    (text,) = enter(shell, "shared a: f64[2] = [5, 6]; random r: f64 ~ normal(0, 1); shared b: i64 = 1 // z")
    assert "R110" in text
    assert enter(shell, "a", "b") == ["1", "2"], "all of the submission is undone"
    assert shell.session.store.streams.states["r"].counter == 1
    assert state.generator == "philox"


def test_an_interrupted_check_leaves_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(shell, "x = 1")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.session.program, "check_definitions", interrupted)
    assert enter(shell, "x = 2; y = 3") == ["interrupted"]
    monkeypatch.undo()
    assert enter(shell, "x") == ["1"]
    assert "N101" in enter(shell, "y")[0]


def test_what_is_saved_of_a_declaration_of_several_names(shell: Shell, tmp_path: Path) -> None:
    enter(shell, "N = 3", "shared w, u: f64[N] = ones(N)", "u = 4", "N = 2", f":save {tmp_path}/a.tl")
    text = (tmp_path / "a.tl").read_text()
    assert text == "u = 4\nN = 2\nshared w: f64[N] = ones(N)\n"


def test_an_error_keeps_everything(shell: Shell) -> None:
    enter(shell, "set a = 1", "tensor x: f64")
    for wrong in ("set a = [1, 2] + [1, 2, 3]", "tensor y: f32[", "q + 1", "set b = c", "x = x", "load(1)"):
        assert "error[" in enter(shell, wrong)[0], wrong
    assert enter(shell, "a") == ["1"]
    assert "N101" in enter(shell, "b")[0], "a `set` that failed leaves no trace"


def test_mt19937_variables_are_numbered_in_the_order_of_declaration(shell: Shell) -> None:
    """The figures of the Theano tutorial, entered in two submissions of different lengths."""
    text = "\n\n\nrandom u: f64[2, 2] ~ s.uniform(0, 1)"
    enter(shell, "stream s = mt19937(234)", text, "random n: f64[2, 2] ~ s.normal(0, 1)", "function f() = u")
    assert enter(shell, "f()") == ["[[0.12672381, 0.97091597],\n [0.13989098, 0.88754825]]"]


# ---------------------------------------------------------------- values


def test_the_last_value(shell: Shell) -> None:
    assert enter(shell, "3", "_ + 1", "set b = _ * 2", "b") == ["3", "4", "8"]
    assert enter(shell, "function p(x: f64) = (a = x, b = 2 * x)", "p(1)", "_.b") == [
        "(a = 1.0, b = 2.0)",
        "2.0",
    ]
    assert enter(shell, "print(9)", "_") == ["9", "2.0"]


def test_large_values_come_with_their_type(shell: Shell) -> None:
    shown = enter(shell, "ones((40, 50))")
    assert shown[-1] == "f64[40, 50]"
    assert "..." in shown[0]
    assert enter(shell, "ones((2, 2))")[-1].startswith("[[")


def test_warnings_are_shown_once(shell: Shell) -> None:
    assert "N110" in enter(shell, "sum = 3")[0]
    assert enter(shell, "k = 3") == []


# ---------------------------------------------------------------- commands


def test_every_command_is_in_the_help(shell: Shell) -> None:
    text = "\n".join(enter(shell, ":help"))
    for row in COMMANDS:
        assert f":{row.name}" in text
    names = "type show graph plan code time bench profile names state load reload save backend explain help"
    assert " ".join(r.name for r in COMMANDS) == f"{names} reset quit"


def test_wrong_commands(shell: Shell) -> None:
    assert "did you mean `:plan`" in enter(shell, ":plann")[0]
    assert "A121" in enter(shell, ":type")[0]
    assert "A110" in enter(shell, ":show nothing")[0]
    assert "A113" in enter(shell, "k = 1", ":plan k")[0]
    assert "A112" in enter(shell, ":backend gpu")[0]
    assert "A121" in enter(shell, ":reload")[0]
    assert "D190" in enter(shell, ":load nowhere.tl")[0]
    assert "A123" in enter(shell, ":save nowhere/x.tl")[0]
    assert "A122" in enter(shell, ":explain nothing-of-that-kind")[0]


def test_load_reload_save(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "work.tl"
    path.write_text("shared s: i64 = 1\nfunction up() = s where { update s = s + 1 }\nset a = up()\n")
    assert enter(shell, f":load {path}", "s", "up()", "s") == ["2", "2", "3"]
    assert enter(shell, ":reload", "s") == ["2"]
    path.write_text("shared s: i64 = 100\n")
    assert enter(shell, ":reload", "s") == ["100"]
    assert "N101" in enter(shell, "a")[0]
    enter(shell, ":reset", "tensor x, y: f64", "set v = 3", "y = x + 1", "function f(x) = y + 1", "f(v)")
    enter(shell, "function f(x) = y + 2", f":save {tmp_path}/kept.tl")
    kept = (tmp_path / "kept.tl").read_text()
    assert kept == "tensor x: f64\nset v = 3\ny = x + 1\nfunction f(x) = y + 2\n"
    assert main(["run", f"{tmp_path}/kept.tl", "-c", "f(v)"]) == 0
    assert capsys.readouterr().out == "6.0\n"


def test_a_loaded_file_draws_the_numbers_of_run(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dice.tl"
    path.write_text(
        "random r: f64 ~ normal(0, 1)\nfunction d() = r\nset a: f64[2] ~ uniform(0, 1)\nprint(d(), a)\n"
    )
    ran: list[str] = []
    from tlang.run.session import Session
    from tlang.syntax.parse import parse

    source = Source("dice.tl", path.read_text(), str(path), "dice")
    session = Session(source, write=ran.append)
    session.run(session.declare(parse(source)))
    assert enter(shell, f":load {path}") == ran


def test_programs_of_tlang_are_loaded_by_their_name(shell: Shell) -> None:
    assert enter(shell, ":load std/losses.tl") == []
    assert enter(shell, ":names")


def test_backend(shell: Shell) -> None:
    enter(shell, "tensor x: f64[n]", "function f(x) = exp(x)")
    assert enter(shell, ":backend cpu", "f([0, 0])", ":backend") == ["cpu", "[1., 1.]", "cpu"]
    assert shell.session.backends.name == "cpu"


def test_time_bench_and_profile(shell: Shell) -> None:
    assert enter(shell, ":time 1 + 1")[1].endswith(" ms")
    assert enter(shell, ":bench 1 + 1")[0].startswith("bench 1 + 1: ")
    assert "commands, calls and all else" in enter(shell, ":profile sum(ones(10))")[-1]


def test_interrupt(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    enter(shell, "set a = 1")
    monkeypatch.setattr(shell.session.executor, "execute", interrupted)
    assert enter(shell, "set a = 2") == ["interrupted"]
    monkeypatch.undo()
    assert enter(shell, "a") == ["1"]


def test_a_bug_ends_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(shell.session.executor, "execute", broken)
    (text,) = enter(shell, "1")
    assert "bug of tlang" in text
    assert "Traceback" not in text
    monkeypatch.undo()
    assert enter(shell, "1") == ["1"]


# ---------------------------------------------------------------- what is typed


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x", "f64[n, 3]"),
        ("x.T @ x", "f64[3, 3]"),
        ("y = x[0]", "f64[3]"),
        ("set q = sum(x, axis = 0)", "f64[3]"),
        ("f", "f(x: f64[n, 3]) -> (a: f64[3], b: i64)"),
        ("f(zeros((2, 3)))", "(a: f64[3], b: i64)"),
        ("up()", "i64"),
        ('load("somewhere.npy")', "known when it runs"),
        ("x given x = zeros((2, 3))", "f64[2, 3]"),
        ("tensor z: f64", ""),
    ],
)
def test_types_of_texts(shell: Shell, text: str, shown: str) -> None:
    enter(shell, "tensor x: f64[n, 3]", "function f(x) = (a = sum(x, axis = 0), b = n)")
    enter(shell, "shared s: i64 = 0", "function up() = s where { update s = s + 1 }")
    state = dict(shell.session.store.shared)
    assert type_of_text(shell.session, text) == shown
    assert shell.session.store.shared == state, "nothing ran"


def test_toolbar(shell: Shell) -> None:
    bar = Toolbar(shell)
    assert bar.say("x") == "", "before the session is there"
    enter(shell, "tensor x: f64[n, 3]")
    assert bar.say("x @ x") == "T102: `@` needs matching inner dimensions"
    assert bar.say("f(") == "..."
    assert bar.say("2 * x") == "f64[n, 3]"


def test_whole_texts() -> None:
    assert is_whole("f(2)")
    assert not is_whole("f(2,")
    assert not is_whole("a = 1 +")
    assert is_whole(":help (")


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("", ["tensor", "set", "function", "weights", "exp", "model"], ["update", "given"]),
        ("te", ["tensor"], ["set"]),
        ("tensor x: ", ["f64", "bool", "dmatrix"], ["exp", "weights", "tensor"]),
        ("tensor x: f64[", ["rows", "size_of_it"], ["exp", "f64", "weights"]),
        ("tensor ", [], ["weights", "exp"]),
        ("function f(x) = y wh", ["where"], []),
        ("function f(x) = y where { ", ["update", "given", "hold", "swap", "drop"], ["set", "tensor"]),
        ("function f(x) = y where { update we", ["weights"], []),
        ("sum(x, ", ["axis = ", "keepdims = ", "weights"], ["set"]),
        ("model(", ["x = ", "weights"], []),
        ("noise.", ["state", "seed"], ["T"]),
        ("gen.", ["seed", "uniform"], []),
        ("weights.", ["T"], ["state"]),
        ("random r: f64 ~ ", ["normal", "gen"], []),
        ("x = (1 2 ", [], ["exp"]),
        (":", ["type", "quit"], ["exp"]),
        (":backend ", ["auto", "cpu"], []),
        (":plan ", ["model"], ["weights"]),
        (":type we", ["weights"], []),
        ("# com", [], ["exp"]),
    ],
)
def test_completion(shell: Shell, text: str, some: list[str], none: list[str]) -> None:
    enter(shell, "size_of_it = 3", "shared weights: f64[rows] = [1, 2]", "stream gen = philox(1)")
    enter(shell, "random noise: f64 ~ gen.normal(0, 1)", "function model(x: f64[rows]) = x + weights")
    _, found = candidates(shell.session, text)
    names = {c.text for c in found}
    assert set(some) <= names
    assert not set(none) & names


def test_completion_says_types(shell: Shell) -> None:
    enter(shell, "shared weights: f64[3] = [1, 2, 3]")
    _, (found,) = candidates(shell.session, "weig")
    assert (found.text, found.about) == ("weights", "f64[3]")


def test_completion_of_files(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.npz", "b.csv", "c.txt", "d.tl", "data/e.npy"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    def names(text: str) -> list[str]:
        return [c.text for c in candidates(shell.session, text)[1]]

    assert names('load("') == ["a.npz", "b.csv", "data/"]
    assert names('set q = load("data/') == ["data/e.npy"]
    assert names('import "') == ["std/", "d.tl", "data/"]
    assert "std/layers.tl" in names('import "std/l')
    assert names('print("') == []
    assert names(":load ") == ["std/", "d.tl", "data/"]


def test_what_may_follow() -> None:
    _, follow = continuations("tensor x: ")
    assert "type_expr" in follow
    assert continuations("x = )")[1] == frozenset()


def test_colours() -> None:
    assert style_of("TENSOR", "tensor") == "class:word"
    assert style_of("NAME", "exp") == "class:builtin"
    assert style_of("NAME", "mine") == ""
    assert style_of("ILLEGAL", "$") == "class:wrong"
    assert style_of("FLOAT", "1.5") == "class:number"


# ---------------------------------------------------------------- without a terminal


def piped(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tlang.tools.cli", *arguments],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_piped_lines() -> None:
    done = piped("tensor x: f64\nfunction f(x) =\n  x ** 2\n\nf(3)\n1 +\n2\n")
    assert (done.stdout, done.stderr, done.returncode) == ("9.0\n3\n", "", 0)
    done = piped("1 +* 2\n40 + 2\n", "repl")
    assert done.stdout == "42\n"
    assert "S0" in done.stderr
    assert done.returncode == 1
    assert "needs" in piped("x = ").stderr
    assert piped("1\n:quit\n2\n").stdout == "1\n"


def test_a_version_imports_little() -> None:
    code = (
        "import sys; from tlang.tools.cli import main; main(['--version']);"
        "sys.exit({'numpy', 'numba', 'prompt_toolkit'} & set(sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_prompt_imports_no_numba_before_it_is_needed() -> None:
    code = (
        "import sys; from tlang.tools.repl.shell import Shell; import tlang.tools.repl.terminal;"
        "early = 'numpy' in sys.modules; s = Shell(); s.enter('1 + 1');"
        "sys.exit({'numba'} & set(sys.modules) or early or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_lines_of_a_stream(shell: Shell, said: list[str]) -> None:
    assert shell.feed(io.StringIO("a = 1\na +\n1"))
    assert said == ["2"]


# ---------------------------------------------------------------- whatever is typed


@pytest.mark.parametrize("path", sorted((ROOT / "programs").glob("*.tl")), ids=lambda p: p.stem)
def test_every_beginning_of_a_program_has_completions_and_a_toolbar(
    path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it were typed: nothing raises, what is offered begins as the last word, the session stays."""
    monkeypatch.chdir(path.parent)
    text = re.sub(r"(?m)^#.*\n", "", path.read_text(encoding="utf-8"))
    enter(shell, "tensor x: f64[n, 3]", "function f(x) = (a = x, b = n)", "set r = f(zeros((2, 3)))")
    names = dict(shell.session.unit.scope.names)
    for end in range(0, min(len(text), 1500), 29):
        begun, found = candidates(shell.session, text[:end])
        assert text[:end].endswith(begun)
        assert all(c.text.startswith(begun) for c in found)
        with contextlib.suppress(TlangError):
            type_of_text(shell.session, text[max(0, end - 300) : end])
    assert shell.session.unit.scope.names == names


def test_colours_cover_every_character() -> None:
    for text in ("x = 1 # c\n\n  y", "a\r\nb", '"open', "é ~ $ 'q'", ":type x\n(", ""):
        document = Document(text)
        lines = Colours().lex_document(document)
        for number, line in enumerate(document.lines):
            assert "".join(fragment[1] for fragment in lines(number)) == line
