"""The prompt in a real terminal: a pseudo-terminal with an emulated screen."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty")
import fcntl  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import struct  # noqa: E402
import termios  # noqa: E402

import pyte  # noqa: E402

ROOT = Path(__file__).parent.parent
TAB, ENTER, UP, CTRL_C, CTRL_D, CTRL_R = "\t", "\r", "\x1b[A", "\x03", "\x04", "\x12"
ROWS, COLUMNS = 40, 100
PATIENCE = 20.0


class Terminal:
    """A process behind a pseudo-terminal, and what its screen shows."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.screen.write_process_input = self.answer  # what the terminal itself reports
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ |= {
                "TERM": "xterm-256color",
                "XDG_STATE_HOME": str(folder / "state"),
                "PYTHONPATH": str(ROOT),
                "PYTHONUTF8": "1",
            }
            os.environ.pop("NO_COLOR", None)
            os.execv(sys.executable, [sys.executable, "-m", "tlang.tools.cli", *arguments])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def answer(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def read(self, seconds: float) -> bool:
        """Takes what the process writes within some time; False at its end."""
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if ready:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            if not data:
                return False
            self.stream.feed(data)
        return True

    def until(self, holds: Callable[[str], bool] | str) -> str:
        """Reads until the screen is as wanted."""
        wanted = holds if callable(holds) else lambda text: holds in text
        end = time.perf_counter() + PATIENCE
        while not wanted(self.text()):
            assert time.perf_counter() < end, f"{holds!r} never came:\n{self.text()}"
            if not self.read(0.1):
                break
        assert wanted(self.text()), f"{holds!r} never came:\n{self.text()}"
        return self.text()

    def enter(self, text: str) -> None:
        """Types a line at a free prompt: what is typed while something runs is not read by the prompt."""
        self.until(lambda text: text.splitlines()[-1:] == [">"])
        self.type(text + ENTER)

    def leave(self, key: str = CTRL_D) -> int:
        """Types Ctrl-D at a free prompt, or what is given; the exit status."""
        self.until(lambda text: text.splitlines()[-1:] == [">"])
        self.type(key)
        end = time.perf_counter() + PATIENCE
        while self.read(0.1) and time.perf_counter() < end:
            pass
        while time.perf_counter() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        raise AssertionError(f"it did not leave:\n{self.text()}")

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    made: list[Terminal] = []

    def begin(*arguments: str) -> Terminal:
        made.append(Terminal(tmp_path, *arguments))
        made[-1].until(lambda text: text.splitlines()[-1:] == [">"] or "\n>" in text)
        return made[-1]

    yield begin
    for t in made:
        t.close()


def prompts(count: int) -> Callable[[str], bool]:
    """Whether so many prompts are on the screen, the last one free."""

    def holds(text: str) -> bool:
        lines = text.splitlines()
        free = [line for line in lines if line.startswith(">")]
        return len(free) == count and free[-1] == ">"

    return holds


def test_a_definition_over_lines_an_error_and_recovery(start: Callable[..., Terminal]) -> None:
    t = start()
    t.enter("function f(x: f64[n]) = y where {")
    t.until("\n|")
    t.type("y = x * x" + ENTER + "}" + ENTER)
    t.until(prompts(2))
    t.enter("f([1, 2, 3])")
    assert "[1., 4., 9.]" in t.until("9.]")
    t.enter("f([[1]])")
    shown = t.until("hint:")
    assert "error[T107]" in shown
    assert "^^^" in shown
    t.enter("_ + 1")
    assert "[ 2.,  5., 10.]" in t.until("10.]")
    assert t.leave() == 0


def test_completion_and_the_toolbar(start: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "numbers.npy").touch()
    (tmp_path / "other.txt").touch()
    t = start()
    t.enter("tensor batch_of_rows: f64[rows, 3]")
    t.until(prompts(2))
    t.type("sum(batch_o" + TAB)
    t.until("> sum(batch_of_rows")
    t.type(")")
    t.until(lambda text: text.splitlines()[-1] == "f64")  # the toolbar
    t.type(" @ 1")
    t.until("T1")
    t.type(CTRL_C)
    t.type("random r: f6" + TAB)
    t.until("random r: f64")
    t.type(CTRL_C)
    t.type('load("num' + TAB)
    t.until('load("numbers.npy')
    t.type(CTRL_C)
    t.type("argm" + TAB)
    shown = t.until("argmin")
    assert "least element" in shown
    t.type(TAB + TAB + ENTER + "([3, 1, 2])" + ENTER)
    t.until("argmin([3, 1, 2])")
    t.until("\n1\n")


def test_interrupting_a_loop_keeps_the_session(start: Callable[..., Terminal]) -> None:
    t = start()
    t.enter("shared n: i64 = 0")
    t.enter("function count() where { update n = n + 1 }")
    t.until(prompts(3))
    t.enter("repeat 2_000_000_000 { count() }")
    t.until("steps/s")
    t.type(CTRL_C)
    t.until("interrupted")
    t.enter("n > 10")
    t.until("True")
    assert t.leave() == 0


def test_history_in_a_second_session(start: Callable[..., Terminal]) -> None:
    t = start()
    t.enter("first_answer = 6 * 7")
    t.until(prompts(2))
    t.enter("first_answer")
    t.until("42")
    t.leave()
    t = start()
    t.type(UP + UP)
    t.until("> first_answer = 6 * 7")
    t.type(ENTER)
    t.until(prompts(2))
    t.type(CTRL_R + "answer")
    t.until("first_answer")
    t.type(CTRL_C)
    t.type("first_")
    t.until(lambda text: text.count("= 6 * 7") == 2)  # what was entered, and the suggestion
    t.type("\x1b[C" + ENTER)
    t.until(prompts(3))
    t.enter("first_answer * 2")
    t.until("84")


def test_a_pasted_program(start: Callable[..., Terminal]) -> None:
    t = start()
    program = "z = x + y            # used before it is declared\ntensor x, y: f64\n\nz given x = 1, y = 2\n"
    t.type(f"\x1b[200~{program}\x1b[201~")
    t.until("z given")
    t.type(ENTER)
    t.until("3.0")


def test_a_file_first(start: Callable[..., Terminal], tmp_path: Path) -> None:
    (tmp_path / "first.tl").write_text("twice(x) = 2 * x\nprint(twice(4))\n")
    t = start("repl", "first.tl")
    t.until("8")
    t.enter("twice(21)")
    t.until("42")
    assert t.leave(":quit" + ENTER) == 0
