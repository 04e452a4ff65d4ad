"""`tlang test`: programs with the answers beside their lines.

f(2, 3)      #=> 5.0                  the value, by allclose; exactly for integers and bool
x @ w        #! T102: inner           the line fails with this code, its message has this text
"""

from __future__ import annotations

import ast as python
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tlang.errors import Diagnostic, TlangError, diagnostic, join_errors
from tlang.run.files import read_source
from tlang.run.session import Session
from tlang.run.text import format_value
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.syntax.parse import parse

# ---------------------------------------------------------------- expectations


@dataclass
class Expectation:
    """A `#=>` or `#!` of a program: where it stands, and what it says."""

    kind: str
    span: Span
    text: str
    met: bool = False

    @property
    def code(self) -> str:
        """The code after `#!`."""
        return self.text.partition(":")[0].strip()


_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*')


def expectations(source: Source) -> list[Expectation]:
    """Every expectation of a text; a value goes on over comment lines until its brackets balance."""
    out: list[Expectation] = []
    text, at = source.text, 0
    while (match := _TOKEN.search(text, at)) is not None:
        at = match.end()
        comment = match.group()
        if comment.startswith("#!"):
            out.append(Expectation("!", Span(source, match.start(), at), comment[2:].strip()))
        elif comment.startswith("#=>"):
            value = comment[3:].strip()
            while _open_brackets(value) > 0:
                follows = re.compile(r"\r?\n[ \t]*#(?!=>|!)([^\n]*)").match(text, at)
                if follows is None:
                    break
                value += "\n" + follows.group(1).strip()
                at = follows.end()
            out.append(Expectation("=>", Span(source, match.start(), at), without_prose(value)))
    return out


def _open_brackets(text: str) -> int:
    return sum(text.count(c) for c in "([") - sum(text.count(c) for c in ")]")


def without_prose(text: str) -> str:
    """The value before prose: it ends when its brackets balance, or at two spaces and `(`."""
    depth = 0
    for i, c in enumerate(text):
        if c in "([":
            if depth == 0 and i and text[:i].endswith("  "):
                return text[:i].strip()
            depth += 1
        elif c in ")]":
            depth -= 1
            if depth == 0 and text[i + 1 : i + 3].startswith(" "):
                return text[: i + 1]
    return text.strip()


def parse_value(text: str) -> Any:
    """The value that an expectation writes, as nested Python objects; None if it is not one."""
    try:
        named = re.match(r"\(\s*\w+\s*=", text)
        tree = python.parse(f"f{text}" if named else text.strip(), mode="eval").body
        return _value(tree)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _value(tree: python.expr) -> Any:
    match tree:
        case python.Constant(value=value):
            return value
        case python.Name(id=name) if name.lower() in ("nan", "inf", "true", "false"):
            return {"nan": float("nan"), "inf": float("inf"), "true": True, "false": False}[name.lower()]
        case python.UnaryOp(op=python.USub(), operand=x):
            return -_value(x)
        case python.UnaryOp(op=python.UAdd(), operand=x):
            return _value(x)
        case python.BinOp(left=a, op=op, right=b) if isinstance(op, python.Add | python.Sub):
            return _value(a) + _value(b) if isinstance(op, python.Add) else _value(a) - _value(b)
        case python.List(elts=items):
            return [_value(i) for i in items]
        case python.Tuple(elts=items):
            return tuple(_value(i) for i in items)
        case python.Call(keywords=pairs):
            return {p.arg: _value(p.value) for p in pairs}
    raise ValueError(tree)


def matches(expected: Any, actual: Any) -> bool:
    """Whether a value is the expected one: shape, then exactly or by allclose; NaN equals NaN."""
    if isinstance(expected, dict) or isinstance(actual, dict):
        if isinstance(expected, tuple) and isinstance(actual, dict):
            expected = dict(zip(actual, expected, strict=False)) if len(expected) == len(actual) else {}
        same = isinstance(expected, dict) and isinstance(actual, dict) and list(expected) == list(actual)
        return same and all(matches(v, actual[k]) for k, v in expected.items())
    if isinstance(expected, tuple):
        return False
    try:
        want = np.array(expected)
    except ValueError:
        return False
    have = np.asarray(actual)
    if want.size == 0 and have.size == 0:
        return want.ndim <= have.ndim
    if want.shape != have.shape or want.dtype.kind not in "biufc" or have.dtype.kind not in "biufc":
        return False
    if (want.dtype.kind == "b") != (have.dtype.kind == "b"):
        return False
    if have.dtype.kind in "biu":
        return bool(np.array_equal(want, have))
    return bool(np.allclose(have, want, rtol=1e-5, atol=1e-8, equal_nan=True))


# ---------------------------------------------------------------- one file


@dataclass
class FileResult:
    """What a test of one file found."""

    path: str
    checks: int = 0
    failures: list[Diagnostic] = field(default_factory=list)
    replacements: list[tuple[Span, str]] = field(default_factory=list)


class FileTest:
    """The test of one program."""

    def __init__(self, source: Source, seed: int = 0, unused: str = "error", backend: str = "auto") -> None:
        self.source = source
        self.result = FileResult(source.name)
        self.expected = expectations(source)
        self.result.checks = len(self.expected)
        self.printed: list[str] = []
        self.session = Session(source, seed=seed, unused=unused, backend=backend, write=self.printed.append)

    def run(self) -> FileResult:
        """Checks and runs the program, comparing every line that has an answer."""
        try:
            tree = self._parse()
            commands, errors = self.session.enter(tree)
            failed = {
                d.span.line for e in errors for d in e.diagnostics if d.span is not None and self._expects(d)
            }
            rest = [d for e in errors for d in e.diagnostics if not self._expects(d)]
            if rest:
                self.result.failures += sorted(dict.fromkeys(rest), key=Diagnostic.sort_key)
                return self.result
            answers = self._answers(commands)
            for k, c in enumerate(commands):
                last = self.source.position(c.span.end)[0]
                if not any(c.span.line <= line <= last for line in failed):
                    self._command(c, answers.get(k))
        except TlangError as e:
            self.result.failures += [d for d in e.diagnostics if not self._expects(d)]
        for x in self.expected:
            if not x.met:
                found = "nothing fails" if x.kind == "!" else "there is no value on this line"
                code = x.code if x.kind == "!" else x.text
                self.result.failures.append(diagnostic("C103", x.span, wanted=code, found=found))
        return self.result

    def _parse(self) -> ast.Program:
        """The tree; lines whose syntax errors are expected are blanked out."""
        text = self.source.text
        while True:
            source = self.source if text == self.source.text else self._with_text(text)
            try:
                return parse(source)
            except TlangError as e:
                spans = [d.span for d in e.diagnostics if self._expects(d) and d.span is not None]
                if len(spans) < len(e.diagnostics):
                    raise join_errors([type(e)(d) for d in e.diagnostics if not self._expects(d)]) from None
                before = text
                for line in {s.line for s in spans}:
                    start = self.source.line_starts()[line - 1]
                    end = start + len(self.source.line(line))
                    text = text[:start] + " " * (end - start) + text[end:]
                if text == before:
                    raise

    def _with_text(self, text: str) -> Source:
        return Source(self.source.name, text, self.source.path, self.source.stem)

    def _expects(self, d: Diagnostic) -> bool:
        """Whether a `#!` on the line of a diagnostic says so; it is met then."""
        if d.span is None:
            return False
        for x in self.expected:
            if x.kind == "!" and x.span.line == d.span.line and x.code == d.code:
                wanted = x.text.partition(":")[2].strip()
                if wanted.lower() in d.message.lower():
                    x.met = True
                    return True
        return False

    def _answers(self, commands: Sequence[ast.Command | ast.SharedDecl]) -> dict[int, Expectation]:
        """The `#=>` of each command, by its number: beside its line, or alone on the line under it."""
        out: dict[int, Expectation] = {}
        for x in self.expected:
            before = [k for k, c in enumerate(commands) if c.span.end <= x.span.start]
            if x.kind != "=>" or not before:
                continue
            last = self.source.position(commands[before[-1]].span.end)[0]
            alone = self.source.line(x.span.line).lstrip().startswith("#=>")
            if x.span.line == last or (alone and x.span.line == last + 1):
                out.setdefault(before[-1], x)
        return out

    def _command(self, c: ast.Command | ast.SharedDecl, value: Expectation | None) -> None:
        self.printed.clear()
        self.session.executor.last = None
        try:
            self.session.command(c)
        except TlangError as e:
            if all(self._expects(d) or self._expects_in(c, d) for d in e.diagnostics):
                return
            raise
        if value is not None:
            value.met = True
            self._compare(c, value)

    def _expects_in(self, c: ast.Command | ast.SharedDecl, d: Diagnostic) -> bool:
        """A failing call may report a place inside the function: the `#!` stands beside the command."""
        last = self.source.position(c.span.end)[0]
        for x in self.expected:
            wanted = x.text.partition(":")[2].strip().lower()
            beside = x.kind == "!" and c.span.line <= x.span.line <= last
            if beside and x.code == d.code and wanted in d.message.lower():
                x.met = True
                return True
        return False

    def _compare(self, c: ast.Command | ast.SharedDecl, x: Expectation) -> None:
        printed = "\n".join(self.printed)
        actual = self._actual(c)
        text = printed if actual is None else format_value(*_shown(actual))
        expected = parse_value(x.text)
        if actual is None or _shortened(expected):
            good = x.text.split() == text.split()
        else:
            good = expected is not None and matches(expected, actual)
        if not good:
            self.result.failures.append(
                diagnostic("C102", x.span, label="expected here", actual=text, expected=x.text)
            )
            self.result.replacements.append((x.span, text))

    def _actual(self, c: ast.Command | ast.SharedDecl) -> Any:
        """The value that a line made: what it echoes, or what it set; None for printed text."""
        if isinstance(c, ast.Set) and len(c.targets) == 1:
            name = c.targets[0].place.target.span.text
            if name in self.session.unit.values:
                found = self.session.store.value_of(name)
                return found._asdict() if hasattr(found, "_asdict") else found
            return self.session.store.shared.get(name)
        return self.session.executor.last


def _shown(actual: Any) -> tuple[Sequence[Any], Sequence[str] | None]:
    if isinstance(actual, dict):
        return list(actual.values()), list(actual)
    return [actual], None


def _shortened(expected: Any) -> bool:
    if isinstance(expected, list | tuple):
        return any(map(_shortened, expected))
    return expected is ...


def run_file(path: str, seed: int = 0, unused: str = "error", backend: str = "auto") -> FileResult:
    """Tests one program."""
    try:
        source = read_source(path, path)
    except TlangError as e:
        return FileResult(path, 0, list(e.diagnostics))
    return FileTest(source, seed, unused, backend).run()


def rewrite(result: FileResult, source: Source) -> str:
    """The program's text with the actual values after `#=>`."""
    text = source.text
    for span, value in sorted(result.replacements, key=lambda r: -r[0].start):
        column = span.column - 1
        lines = value.split("\n")
        block = ("\n" + " " * column).join(
            [f"#=> {lines[0]}", *(f"#    {line.strip()}" for line in lines[1:])]
        )
        text = text[: span.start] + block + text[span.end :]
    return text


# ---------------------------------------------------------------- many files


def find_programs(paths: Sequence[str]) -> Iterator[str]:
    """Every `.tl` file of the paths; folders are searched, in order of name."""
    for path in paths:
        if os.path.isdir(path):
            for folder, folders, files in os.walk(path):
                folders.sort()
                yield from (os.path.join(folder, f) for f in sorted(files) if f.endswith(".tl"))
        else:
            yield path


def run_paths(paths: Sequence[str], update: bool, seed: int, unused: str, backend: str) -> bool:
    """Tests programs and prints a line for each; whether all passed."""
    from tlang.tools.cli import show_diagnostics

    passed = failed = 0
    for path in find_programs(paths):
        result = run_file(path, seed, unused, backend)
        wrong = result.failures
        if update and result.replacements and len(result.replacements) == len(wrong):
            source = read_source(path, path)
            with open(path, "w", encoding="utf-8", newline="") as f:
                f.write(rewrite(result, source))
            print(f"updated {path} ({len(result.replacements)} values)")
            wrong = []
        elif not wrong:
            noun = "answer" if result.checks == 1 else "answers"
            print(f"ok      {path} ({result.checks} {noun})")
        if wrong:
            print(f"FAILED  {path}")
            show_diagnostics(wrong)
            failed += 1
        else:
            passed += 1
    if passed + failed == 0:
        print("no programs found", file=sys.stderr)
        return False
    print(f"{passed} passed, {failed} failed")
    return failed == 0
