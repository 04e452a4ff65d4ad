"""Tiers: NumPy answers at once, and compiled code takes its place when the work ahead is worth it.

A :class:`Tier` watches one loop, or the calls of one function. What it has spent, and what a loop has left,
say how much work is ahead. For some of it compiled code is looked for in the cache; for more it is compiled,
by a child process, so that nobody waits for Numba. When the child has left its code in the cache, the code
is loaded and goes on where NumPy is by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from tlang.run import build
from tlang.run.cache import Cache

#: Work ahead, in seconds, for which planning and loading kept code pays, and for which compiling does.
LOAD, COMPILE = 0.1, 0.7
#: How often a child is asked whether it is done, in seconds.
ASK = 0.01

T = TypeVar("T")
#: A text to compile, and its entries.
Text = tuple[str, Mapping[str, str]]

#: What a child does: it compiles the texts on standard input, and keeps the code in a folder.
CHILD = """\
import gc, json, sys
gc.disable()
sys.path[:] = {path!r}
sys.modules["scipy"] = None  # Numba would import it, for what kernels do not use
from pathlib import Path
from tlang.run.cache import Cache
for text, entries in json.loads(sys.stdin.buffer.read()):
    Cache(Path({folder!r})).add(text, entries, {flags!r})
"""


class Tier(Generic[T]):
    """What may take over from NumPy: `make` builds it, or gives None if it cannot be.

    Where the backend is chosen (`at_once`), it takes over after the first piece of work.
    """

    def __init__(self, make: Callable[[], T | None], at_once: bool) -> None:
        self.make = make
        self.at_once = at_once
        self.spent = 0.0
        self._loaded_at = LOAD
        self._children: set[Child] = set()
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
            made = self.make()
            self._over = made is None
            return made
        if self._children:
            now = time.monotonic()
            if now - self._asked < ASK or not all(c.done() for c in self._children):
                return None
            self._asked = now
        ahead = max(left, self.spent)
        if ahead < self._loaded_at:
            return None
        with build.kept_only() as missing:
            made = self.make()
        if made is None:
            self._over = True
        elif not missing:
            self.at_once = True
            return made
        elif self._children:  # what it compiled does not serve
            self._over = True
        else:
            self._loaded_at = COMPILE
            if ahead >= COMPILE:
                self._children = children(missing)
        return None


def children(texts: list[Text]) -> set[Child]:
    """The processes that compile texts: new ones for those of which none does."""
    new = [(text, entries) for text, entries in texts if text not in _COMPILING]
    if new:
        child = Child(new)
        _COMPILING.update({text: child for text, _ in new})
    return {_COMPILING[text] for text, _ in texts}


#: Which child compiles, or has compiled, a text.
_COMPILING: dict[str, Child] = {}


class Child:
    """A process that compiles texts, and leaves the code in the cache.

    Where the cache cannot be written it is left in a folder of its own, for this process alone.
    """

    def __init__(self, texts: list[Text]) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        folder = Cache().folder
        if folder is None or not _is_writable(folder):
            made = tempfile.TemporaryDirectory(prefix="tlang-")
            folder = Path(made.name)
            build.EXCHANGE.append((Cache(folder), made))
        script = CHILD.format(path=sys.path, folder=str(folder), flags=sorted(build.FLAGS))
        if not sys.executable:  # Python inside of another program
            return
        with contextlib.suppress(OSError):  # then NumPy does all the work
            self._process = subprocess.Popen(
                [sys.executable, "-c", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            assert self._process.stdin is not None
            with self._process.stdin as pipe:
                pipe.write(json.dumps([[text, dict(entries)] for text, entries in texts]).encode())

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._process is None or self._process.poll() is not None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(suffix=".tmp", dir=folder)
        os.close(handle)
        os.unlink(name)
    except OSError:
        return False
    return True
