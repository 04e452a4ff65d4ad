"""The operations of a loop as words, which the text in :mod:`tlang.emit.driver` goes through."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from tlang.emit import driver
from tlang.run.host import Host


class Code:
    """Operations as they are written. `can_fail` says whether one of them may end the loop."""

    def __init__(self) -> None:
        self.host = Host()
        self.can_fail = False
        self._words: list[int] = []
        self._calls: list[int] = []

    def __len__(self) -> int:
        """How many operations there are."""
        return len(self._words) // driver.WORDS

    def emit(self, what: int, *words: int) -> None:
        """One operation."""
        self._words += [what, *words, *[0] * (driver.WORDS - 1 - len(words))]

    def call(self, entry: Any, table: int, wanted: bool) -> None:
        """A call of code. What it gives is computed in every iteration if it is `wanted`, or in the last."""
        place = ctypes.cast(entry, ctypes.c_void_p).value
        assert place is not None
        self.emit(driver.CALL, place, table, int(wanted))
        self._calls.append(len(self._words) - 1)

    def hosted(self, job: Callable[[], None]) -> None:
        """A call of Python."""
        self.emit(driver.HOST, self.host.entry, self.host.add(job))

    def want_all(self) -> None:
        """Lets all calls compute everything in every iteration."""
        for at in self._calls:
            self._words[at] = 1

    def program(self) -> Any:
        """All operations, after the head that counts iterations."""
        return np.array([0] * driver.HEADER + self._words, np.int64)
