"""Tiers: NumPy answers at once, and compiled code takes its place when the work ahead is worth it.

A :class:`Tier` watches one loop, or the calls of one function. What it has spent, and what a loop has left,
say how much work is ahead. For some of it compiled code is looked for in the cache; for more it is compiled
by another thread, so that nobody waits: LLVM works beside Python. When the code is there it goes on where
NumPy is by then.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from tlang.run import build

#: Work ahead, in seconds, for which planning and loading kept code pays; what compiling takes at least, and
#: for a character of text.
LOAD, COMPILE, CHARACTER = 0.1, 0.1, 2e-5
#: How often compiled code is looked for, in seconds.
ASK = 0.002

T = TypeVar("T")


class Tier(Generic[T]):
    """What may take over from NumPy: `make` builds it, or gives None if it cannot be.

    Where the backend is chosen (`at_once`), it takes over after the first piece of work. Where it is not, a
    fault of the compiler is no fault of the program: NumPy goes on, and `failed` is why.
    """

    def __init__(self, make: Callable[[], T | None], at_once: bool) -> None:
        self.make = make
        self.at_once = at_once
        self.chosen = at_once
        self.failed: Exception | None = None
        self.spent = 0.0
        self._needed = LOAD
        self._missing: list[build.Order] = []
        self._jobs: set[Job] = set()
        self._asked = 0.0
        self._over = False

    def renew(self, make: Callable[[], T | None]) -> None:
        """The same work begins again, with another state."""
        self.make = make
        self._over = self._over and not self.at_once

    def look(self, seconds: float, left: float = 0.0) -> T | None:
        """To be called after each piece of work, with the time it took and an estimate of what is left.

        Gives the compiled form when it is there.
        """
        self.spent += seconds
        if self._over:
            return None
        if self.at_once:
            made = self._made()
            self._over = made is None
            return made
        ahead = max(left, self.spent)
        if self._jobs:
            now = time.monotonic()
            if now - self._asked < ASK or not all(j.done() for j in self._jobs):
                return None
            self._asked = now
        elif ahead < self._needed:
            return None
        elif self._missing:
            self._jobs = jobs(self._missing)
            return None
        from tlang.run import build

        with build.kept_only() as missing:
            made = self._made()
        if made is None or (missing and self._jobs):  # what was compiled does not serve
            self._over = True
        elif not missing:
            self.at_once = True
            return made
        else:
            self._missing = missing
            self._needed = COMPILE + CHARACTER * sum(len(text) for text, *_ in missing)
            if ahead >= self._needed:
                self._jobs = jobs(missing)
        return None

    def _made(self) -> T | None:
        if self.chosen:
            return self.make()
        try:
            return self.make()
        except Exception as e:
            self.failed = e
            return None


def jobs(orders: Iterable[build.Order]) -> set[Job]:
    """Those that compile texts: new ones for texts that none compiles."""
    found = set()
    for order in orders:
        if order[0] not in _COMPILING:
            _COMPILING[order[0]] = Job(order)
        found.add(_COMPILING[order[0]])
    return found


class Job:
    """A thread that compiles a text, after those that were begun before. It has `failed` for some reason."""

    def __init__(self, order: build.Order) -> None:
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._work, args=(order,), name="tlang", daemon=True)
        self._thread.start()

    def _work(self, order: build.Order) -> None:
        from tlang.run import build

        with _ONE_AT_A_TIME:
            if not _ENDING:
                try:
                    build.build(*order)
                except Exception as e:  # then NumPy does all the work
                    self.failed = e

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Returns when it has ended."""
        self._thread.join()


#: What compiles, or has compiled, a text.
_COMPILING: dict[str, Job] = {}
_ONE_AT_A_TIME = threading.Lock()
_ENDING: list[bool] = []


@atexit.register
def _end() -> None:
    """A process must not end while LLVM works in it."""
    _ENDING.append(True)
    for job in list(_COMPILING.values()):
        job.wait()
