"""The documents: every fenced block runs, and the generated pages are up to date.

```tlang NAME   a program; with NAME it is also a file that later blocks of the page may use
```python NAME  a script; `# -> value` answers the line, a ```text block after it is what it prints; with NAME
                it needs that library, and runs where it is installed
```prompt       a transcript: what follows `> ` and `| ` is entered, all else is what is shown
```sh           commands of a shell: their targets, sub-commands, options and files must exist
```text         what the block before it prints
```lark         rules that stand in the grammar
"""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

import tlang
from tlang.codes import CODES
from tlang.errors import Diagnostic, render
from tlang.graph.ops import CALLABLE, EXAMPLES
from tlang.graph.ops.random import DISTRIBUTIONS, PUBLIC
from tlang.run.cuda import states
from tlang.run.session import Session
from tlang.source import Source
from tlang.syntax.parse import parse
from tlang.tools.check import check_source
from tlang.tools.repl.shell import Shell
from tlang.tools.testing import run_file

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "grammar").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
#: A ```text block is no kind of its own: it is an answer.
LANGUAGES = ("tlang", "prompt", "python", "sh", "lark")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page, its first line there, its language, the file it names, its text."""

    page: Path
    line: int
    language: str
    name: str
    text: str
    answer: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """The blocks of a page; a ```text block is the answer of the one before it."""
    found: list[Block] = []
    fence = re.compile(r"^```(\S*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = page.read_text(encoding="utf-8")
    end = 0
    for m in fence.finditer(text):
        beside = not text[end : m.start()].strip() and end > 0
        if m[1] == "text" and beside and found[-1].answer is None:
            last = found.pop()
            found.append(Block(last.page, last.line, last.language, last.name, last.text, m[3]))
        else:
            line = text.count("\n", 0, m.start()) + 1
            found.append(Block(page, line, m[1], m[2], m[3], None))
        end = m.end()
    return found


#: The examples of errors.md have a test of their own, below.
BLOCKS = [block for page in PAGES if page.name != "errors.md" for block in blocks_of(page)]


def of(language: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The test runs once for each block of a language."""
    return pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == language], ids=str)


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert BLOCKS
    assert [f"{b}: {b.language}" for b in BLOCKS if b.language not in LANGUAGES] == []
    for page in PAGES:
        assert page.read_text(encoding="utf-8").count("\n```") % 2 == 0, f"an open fence in {page.name}"


@pytest.fixture
def folder(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data sets, and with the files that the page's blocks name, as working directory."""
    (tmp_path / "data").mkdir()
    for path in (ROOT / "programs" / "data").glob("*.[nc][ps][zv]"):
        shutil.copy(path, tmp_path / "data")
    (tmp_path / "out").mkdir()
    for other in BLOCKS:
        if other.page == block.page and other.name:
            (tmp_path / other.name).write_text(other.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---------------------------------------------------------------- programs


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`tlang` with arguments, in this environment."""
    path = os.pathsep.join([str(Path(tlang.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "tlang.tools.cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1", "PYTHONUTF8": "1"},
    )


@of("tlang")
def test_program(block: Block, folder: Path) -> None:
    name = block.name or "example.tl"
    (folder / name).write_text(block.text, encoding="utf-8")
    if block.answer is None or "#=>" in block.text or "#!" in block.text:
        result = run_file(name)
        assert not result.failures, str(tlang.TlangError(*result.failures))
    if block.answer is not None:
        done = command_line("run", name)
        assert done.stdout + done.stderr == block.answer


@of("prompt")
def test_transcript(block: Block, folder: Path) -> None:
    out: list[str] = []
    shell = Shell(backend="numpy", write=out.append, complain=out.append)
    for text in re.findall(r"^> .*(?:\n\| ?.*)*", block.text, re.MULTILINE):
        out.append(text)
        shell.enter("\n".join(line[2:] for line in text.split("\n")))
    assert "\n".join(out) + "\n" == block.text


# ---------------------------------------------------------------- Python


def run_script(block: Block) -> str:
    """Executes a script; compares the value of every expression with the `# ->` on its line."""
    tree = ast.parse(block.text, str(block))
    lines = block.text.split("\n")
    space: dict[str, object] = {"__name__": str(block)}
    printed = io.StringIO()
    answers = 0
    with contextlib.redirect_stdout(printed):
        for statement in tree.body:
            _, arrow, answer = lines[(statement.end_lineno or 1) - 1].partition("# -> ")
            if arrow and isinstance(statement, ast.Expr):
                value = eval(compile(ast.Expression(statement.value), str(block), "eval"), space)
                assert answer.strip() in (repr(value), str(value)), f"{ast.unparse(statement)} is {value!r}"
                answers += 1
            else:
                exec(compile(ast.Module([statement], []), str(block), "exec"), space)
    assert answers == block.text.count("# -> "), "an answer stands beside what is no expression"
    return printed.getvalue()


@of("python")
def test_script(block: Block, folder: Path) -> None:
    if block.name:  # a program for another library, named after it
        pytest.importorskip(block.name)
    printed = run_script(block)
    assert printed == (block.answer or "")


# ---------------------------------------------------------------- shell


@cache
def options_of(command: str) -> set[str]:
    """The options that `tlang COMMAND --help` shows."""
    done = command_line(command, "--help")
    assert done.returncode == 0, f"tlang has no command {command}"
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))


def check_shell(words: list[str], targets: set[str], names: set[str]) -> None:
    """One command: what it names must exist."""
    program, rest = words[0], words[1:]
    if program == "make":
        assert {w for w in rest if "=" not in w} <= targets
    elif program == "tlang":
        known = options_of(rest[0]) if not rest[0].startswith("-") else {"--version", "--help"}
        for word in rest:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in known, word
            if word.endswith(".tl"):
                assert word in names or (ROOT / word).is_file(), word
    elif program in ("pip", "python"):
        distribution = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
        for word in rest:
            if "tlang" in word and not word.startswith("dist/"):
                assert word.partition("[")[0] == distribution, word
            elif word.endswith(".py"):
                assert (ROOT / word).is_file(), word
            elif word.startswith("dist/"):
                assert word.startswith(f"dist/{distribution.replace('-', '_')}-"), word
    elif program == "pytest":
        assert set(rest) <= {"--update-golden", "--runslow"} | {w for w in rest if (ROOT / w).exists()}
    else:
        raise AssertionError(f"not a command that can be checked: {program}")


@of("sh")
def test_shell(block: Block) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*?##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    names = {b.name for b in BLOCKS if b.page == block.page and b.name}
    for line in block.text.splitlines():
        for command in line.partition(" #")[0].partition("#")[0].split("&&"):
            if words := shlex.split(command):
                check_shell(words, targets, names)


# ---------------------------------------------------------------- the grammar


@of("lark")
def test_rules_are_those_of_the_grammar(block: Block) -> None:
    def rules(text: str) -> set[str]:
        text = re.sub(r"^//.*$", "", text, flags=re.MULTILINE)
        return {" ".join(r.split()) for r in re.split(r"\n(?=[?!]?_?[A-Za-z])", text) if r.strip()}

    grammar = rules((ROOT / "grammar" / "tlang.lark").read_text(encoding="utf-8"))
    assert rules(block.text) - grammar == set()


# ---------------------------------------------------------------- generated pages


def is_current(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    """Compares a generated text with its file, or renews it."""
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    old = path.read_text(encoding="utf-8")
    assert old == text, f"{path.name} is not up to date: pytest tests/test_docs.py --update-golden"


LETTERS = {
    "S": "the text is not a program",
    "N": "names",
    "T": "types, shapes and sizes",
    "F": "functions, clauses and commands",
    "A": "Python, the prompt and the command line",
    "R": "what only a run can find",
    "D": "files",
    "C": "checks and answers",
}
EXCEPTIONS = {
    "syntax": "SyntaxError",
    "name": "NameError",
    "type": "TypeError",
    "shape": "ShapeError",
    "state": "StateError",
    "check": "CheckFailed",
}


ERRORS = ROOT / "grammar" / "errors.md"
#: Nets under the interpreter, which no known program reaches; and what a GPU alone gives.
NETS = {"R120", "R122", "R130", "R176", "R177"}


def errors_page() -> str:
    """The index of all codes from the table in `tlang/codes.py`, with the examples that the page has."""
    sections = re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", ERRORS.read_text("utf-8"), re.M | re.S)
    kept = {code: text[text.index("```") :] for code, text in sections if "```" in text}
    out = [
        "# Errors and warnings",
        "",
        "Every message of tlang has a code. This is the index: the code, its sentence, the exception that it",
        "is from Python (`tlang.SyntaxError` and so on), why, a wrong program with what is said of it, and a",
        "right one. Words in braces are filled in with the facts of the case. `tlang explain CODE` prints a",
        "section; the exit codes are in [reference.md](reference.md#17-errors).",
        "",
        "Sentences come from `tlang/codes.py`, examples are written here, messages are what tlang says:",
        "`pytest tests/test_docs.py --update-golden` renews the page.",
    ]
    for letter, title in LETTERS.items():
        out += ["", f"## {letter}: {title}"]
        for code in sorted(c for c in CODES if c[0] == letter):
            row = CODES[code]
            sentence = re.sub(r"\{(\w+)[^}]*\}", r"{\1}", row.sentence)
            out += ["", f"### {code}", "", f"**{sentence}** ({EXCEPTIONS[row.kind]})", "", row.why]
            if code in kept:
                out += ["", kept[code].strip()]
            if code in NETS:
                out += ["", "A net under the interpreter: no program is known that gives it."]
    return "\n".join(out) + "\n"


@dataclass(frozen=True)
class Example:
    """The example of a code: files, a wrong program, what is said of it, and a right program."""

    code: str
    files: dict[str, str]
    language: str
    wrong: str
    message: str
    right_language: str
    right: str


def examples() -> dict[str, Example]:
    """The examples of errors.md by code."""
    found = {}
    for code, section in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", ERRORS.read_text("utf-8"), re.M | re.S):
        blocks = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", section, re.M | re.S)
        files = {name: text for _, name, text in blocks if "." in name}
        rest = [b for b in blocks if "." not in b[1]]
        if rest:
            (language, mark, wrong), (text, _, message), (right_language, _, right) = rest
            assert (mark, text) == ("wrong", "text"), code
            found[code] = Example(code, files, language, wrong, message, right_language, right)
    return found


#: What examples pretend to find of the GPU, by code.
FOUND = {
    "R171": "libcuda is not found",
    "R172": "driver of CUDA 13.0 sees no GPU",
    "R173": "driver of CUDA 13.0, numba-cuda is not installed",
    "R174": "driver of CUDA 13.0, nvvm not found",
    "R175": "driver of CUDA 12.8, libraries of CUDA 13.0",
}


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this a computer whose GPU is as the example of a code needs it."""

    def pretend(code: str) -> None:
        if code in FOUND:
            monkeypatch.setattr(states, "find_state", lambda: (states.State(code), FOUND[code]))

    return pretend


def said_of(example: Example, language: str, text: str) -> list[Diagnostic] | str:
    """The diagnostics of a program, or what the prompt prints."""
    source = Source("program.tl", text, os.path.abspath("program.tl"), "program")
    Path("program.tl").write_text(text, encoding="utf-8")
    try:
        if language == "python":
            space: dict[str, object] = {}
            exec(compile(text, "<example>", "exec"), space)
        elif language == "prompt":
            out: list[str] = []
            shell = Shell(backend="numpy", write=out.append, complain=out.append)
            for line in text.splitlines():
                shell.enter(line.removeprefix("> "))
            return "\n".join(out)
        elif example.code in ("C102", "C103"):
            return list(run_file("program.tl").failures)
        else:
            found = check_source(source)
            if any(d.code == example.code for d in found):
                return found
            session = Session(source, backend="numpy", write=lambda shown: None)
            session.run(session.declare(parse(source)))
            return list(session.program.warnings)
    except tlang.TlangError as e:
        return list(e.diagnostics)
    return []


def message_of(example: Example) -> str:
    found = said_of(example, example.language, example.wrong)
    return (found if isinstance(found, str) else "\n".join(map(render, found))) + "\n"


def test_index_of_errors(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpus: Callable[[str], None],
) -> None:
    assert {code[0] for code in CODES} <= set(LETTERS)
    page = errors_page()
    if request.config.getoption("--update-golden"):
        for code, example in examples().items():
            (tmp_path / code).mkdir()
            monkeypatch.chdir(tmp_path / code)
            prepare(tmp_path / code, example)
            gpus(code)
            head, mark, section = page.partition(f"### {code}\n")
            old, new = (f"\n```text\n{m}```\n" for m in (example.message, message_of(example)))
            page = head + mark + section.replace(old, new, 1)
        monkeypatch.undo()
    is_current(ERRORS, page, request)


def test_every_code_has_an_example() -> None:
    assert set(CODES) - set(examples()) == NETS


def prepare(folder: Path, example: Example) -> None:
    """The files that an example may use."""
    (folder / "data").symlink_to(ROOT / "programs" / "data")
    (folder / "out").mkdir()
    for name, text in example.files.items():
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("code", sorted(set(CODES) - NETS))
def test_example_of(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: Callable[[str], None]
) -> None:
    """The wrong program gives the code, with this message; the right one runs, without a warning."""
    example = examples()[code]
    prepare(tmp_path, example)
    gpus(code)
    monkeypatch.chdir(tmp_path)
    assert f"[{code}]" in example.message
    assert message_of(example) == example.message
    found = said_of(example, example.right_language, example.right)
    if example.right_language == "prompt":
        assert "error[" not in found
        assert "warning[" not in found
        return
    assert found == []
    if example.right_language == "python":
        block = Block(ERRORS, 0, "python", "", example.right, None)
        assert run_script(block) == ""
    else:
        assert not run_file("program.tl").failures


#: A bar inside a cell of a table.
BAR = "\\|"
BEGIN, END = "<!-- operations: generated -->\n", "<!-- operations: end -->\n"
#: Operations that are called in other ways than by their row's signature.
CALLS = {
    "arange": ("arange(stop)", "arange(start, stop)", "arange(start, stop, step)"),
    "concatenate": ("concatenate([x, y, ...], axis=0)",),
    "stack": ("stack([x, y, ...], axis=0)",),
    "meshgrid": ('meshgrid(x, y, ..., indexing="xy")',),
    "one_hot": ("one_hot(x, n)",),
    "size": ("size(x, axis=0)",),
    "set_at": ("set_at(x, i, v)",),
    "add_at": ("add_at(x, i, v)",),
}


def operations_table() -> str:
    """The table of operations that programs call by name, in alphabetical order, with an example of each."""
    rows = ["| operation | meaning | example |\n|---|---|---|\n"]
    for name in sorted(CALLABLE):
        calls = CALLS.get(name, (f"{name}({CALLABLE[name].signature})",))
        shown = "<br>".join(f"`{c}`" for c in calls)
        formula, value = EXAMPLES[name]
        rows.append(f"| {shown} | {CALLABLE[name].doc.replace('|', BAR)} | `{formula}` is `{value}` |\n")
    return "".join(rows)


def test_every_operation_has_an_example_that_runs(tmp_path: Path) -> None:
    assert set(EXAMPLES) == set(CALLABLE)
    path = tmp_path / "examples.tl"
    path.write_text("".join(f"{formula}  #=> {value}\n" for formula, value in EXAMPLES.values()))
    result = run_file(str(path))
    assert not result.failures, str(tlang.TlangError(*result.failures))
    for name, (formula, _) in EXAMPLES.items():
        assert f"{name}(" in formula


def test_table_of_operations(request: pytest.FixtureRequest) -> None:
    path = ROOT / "grammar" / "reference.md"
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin
    assert end
    is_current(path, before + begin + operations_table() + end + after, request)


DRAWS = "<!-- distributions: generated -->\n", "<!-- distributions: end -->\n"


def distributions_table() -> str:
    """The table of distributions, in the order of their rows."""
    rows = ["| distribution | dtypes | draws |\n|---|---|---|\n"]
    for name in PUBLIC:
        row = DISTRIBUTIONS[name]
        params = [
            p.name
            if p.default is None and not p.optional
            else f"{p.name} = {'None' if p.optional else f'{p.default:g}'}"
            for p in row.params
        ]
        params += ["replace = True"] if name == "choice" else []
        rows.append(f"| `{name}({', '.join(params)})` | {row.dtypes} | {row.doc} |\n")
    return "".join(rows)


def test_table_of_distributions(request: pytest.FixtureRequest) -> None:
    path = ROOT / "grammar" / "reference.md"
    before, begin, rest = path.read_text(encoding="utf-8").partition(DRAWS[0])
    _, end, after = rest.partition(DRAWS[1])
    assert begin
    assert end
    is_current(path, before + begin + distributions_table() + end + after, request)


def test_every_public_operation_is_in_the_reference() -> None:
    text = (ROOT / "grammar" / "reference.md").read_text(encoding="utf-8")
    missing = [name for name in CALLABLE if f"`{name}(" not in text]
    assert missing == []


def test_every_code_that_a_page_names_exists() -> None:
    for page in PAGES:
        named = set(re.findall(r"\b[SNTFARDC][0-9]{3}\b", page.read_text(encoding="utf-8")))
        assert named <= set(CODES), page.name


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http://", "https://")):
                continue
            file, _, anchor = target.partition("#")
            other = (page.parent / file) if file else page
            assert other.exists(), f"{page.name}: {target}"
            if anchor:
                heads = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}
                assert anchor in slugs, f"{page.name}: {target}"
