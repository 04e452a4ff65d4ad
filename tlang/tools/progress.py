"""How far long loops are: a line on a terminal, or lines for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

#: A loop that is over sooner has no line, in seconds; nor is it drawn more often than each so many seconds.
PATIENCE, EVERY = 1.0, 0.1
#: A log has a line each so many seconds, with so many values at most.
LOG_EVERY, MOST = 10.0, 4

Values = Callable[[], Mapping[str, Any]]


def progress_for(how: str) -> ProgressLine | PlainProgress | None:
    """What `--progress` says: "plain", "none", or "auto", which is a line on a terminal only."""
    if how == "plain":
        return PlainProgress(sys.stderr)
    return ProgressLine() if how == "auto" and sys.stderr.isatty() else None


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value:.6g}" for name, value in list(values.items())[:MOST])


class ProgressLine:
    """Told of each piece of a loop, it shows how far the loop is, its rate and the time left.

    It needs rich only when a loop has taken longer than `PATIENCE`.
    """

    def __init__(self, console: Any = None) -> None:
        """The line appears on a console of rich, by default that of standard error."""
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._began = self._drawn = 0.0

    def begin(self) -> None:
        """An outermost loop begins."""
        self._began = time.perf_counter()

    def advance(self, done: int, total: int, values: Values) -> None:
        """So many of the loop's iterations are done; the line shows the numbers that it changes."""
        now = time.perf_counter()
        if now - self._began < PATIENCE or now - self._drawn < EVERY:
            return
        self._drawn = now
        if self._bar is None:
            self._open(total)
        rate = done / (now - self._began)
        self._bar.update(
            self._task, completed=done, total=total, rate=f"{rate:,.3g} steps/s", values=_listed(values())
        )
        self._bar.refresh()

    def end(self) -> None:
        """The loop is over; its line goes."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _open(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}"),
            console=self._console or Console(file=sys.stderr),
            transient=True,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=total, rate="", values="")


class PlainProgress:
    """Told of each piece of a loop, it writes a line now and then: for logs and files."""

    def __init__(self, out: TextIO) -> None:
        """Lines go to a stream."""
        self._out = out
        self._began = self._written = 0.0

    def begin(self) -> None:
        """An outermost loop begins."""
        self._began, self._written = time.perf_counter(), 0.0

    def advance(self, done: int, total: int, values: Values) -> None:
        """So many of the loop's iterations are done."""
        now = time.perf_counter()
        spent = now - self._began
        if spent < PATIENCE or now - self._written < LOG_EVERY:
            return
        self._written = now
        left = spent / done * (total - done)
        parts = [f"{done:,} of {total:,} steps ({done / total:.0%})".replace("%", " %")]
        parts += [f"{done / spent:,.3g} steps/s", f"{left:.1f} s left", _listed(values())]
        print(", ".join(filter(None, parts)), file=self._out, flush=True)

    def end(self) -> None:
        """The loop is over."""
