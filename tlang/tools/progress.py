"""The progress line of long loops, on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Any

#: A loop that is over sooner has no line, in seconds; nor is it drawn more often than each so many seconds.
PATIENCE, EVERY = 1.0, 0.1


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

    def advance(self, done: int, total: int) -> None:
        """So many of the loop's iterations are done."""
        now = time.perf_counter()
        if now - self._began < PATIENCE or now - self._drawn < EVERY:
            return
        self._drawn = now
        if self._bar is None:
            self._open(total)
        rate = done / (now - self._began)
        self._bar.update(self._task, completed=done, total=total, rate=f"{rate:,.3g} steps/s")
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
            console=self._console or Console(file=sys.stderr),
            transient=True,
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=total, rate="")
