"""A data file at hand: its place in the program, its messages, and what the operating system refuses."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeAlias

from numpy.typing import NDArray

from tlang.errors import TlangError, did_you_mean, error
from tlang.source import Span

Array: TypeAlias = NDArray[Any]
#: Writes what a file is to hold to a stream.
Put: TypeAlias = Callable[[IO[bytes]], None]
#: How a file in NumPy's format begins.
MAGIC = b"\x93NUMPY"
#: The endings of the formats.
FORMATS = (".npy", ".npz", ".safetensors", ".csv")


class DataFile:
    """The file at hand: where it is, what messages call it, and the place in the program."""

    def __init__(self, path: str, shown: str | None, span: Span | None) -> None:
        self.path, self.span = path, span
        self.shown = path if shown is None else shown
        self.ending = os.path.splitext(path)[1].lower()

    def error(self, code: str, hint: str | None = None, **facts: Any) -> TlangError:
        """The exception for a code, of this file at this place."""
        return error(code, self.span, hint=hint, path=self.shown, **facts)

    def require_format(self) -> None:
        """Raise unless the path is one that a file can have, and its ending that of a format."""
        try:
            unusual = b"\0" in os.fsencode(self.path)
        except UnicodeEncodeError:
            unusual = True
        if unusual:
            raise self.error("D104", done="opened", reason="no file can have this name")
        if self.ending not in FORMATS:
            near = did_you_mean(self.ending, FORMATS)
            hint = f"did you mean `{near}`?" if near else "the formats are .npy, .npz, .safetensors and .csv"
            ending = f"`{self.ending}`" if self.ending else "no ending"
            raise self.error("D105", hint, ending=ending)

    @contextmanager
    def guard(self, done: str) -> Iterator[None]:
        """Turn what the operating system refuses into a coded error; `done` is "read" or "written"."""
        try:
            yield
        except FileNotFoundError:
            if done == "written":
                raise self.error("D107", "make the folder first") from None
            raise self.error("D101", self._nearest()) from None
        except IsADirectoryError:
            raise self.error("D102", what="a folder") from None
        except PermissionError:
            raise self.error("D103", done=done) from None
        except MemoryError:
            raise self.error("D119") from None
        except OSError as e:
            raise self.error("D104", done=done, reason=e.strerror or str(e)) from None

    def require_regular(self) -> None:
        """Raise for a folder, and for a device or pipe, which may have no end or block forever."""
        mode = os.stat(self.path).st_mode
        if not stat.S_ISREG(mode):
            raise self.error("D102", what="a folder" if stat.S_ISDIR(mode) else "a device")

    def _nearest(self) -> str | None:
        folder, name = os.path.split(self.path)
        shown_folder = os.path.dirname(self.shown)
        if not os.path.isdir(folder or "."):
            return f"the folder `{shown_folder}` does not exist" if shown_folder else None
        with suppress(OSError):
            near = did_you_mean(name, [n for n in os.listdir(folder or ".") if n.endswith(FORMATS)])
            if near:
                return f"did you mean `{os.path.join(shown_folder, near)}`?"
        return None


def listed(names: Sequence[str]) -> str:
    """Names for a message, the first twenty of them."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(f"`{n}`" for n in names[:20]) + more


def counted(count: int, noun: str) -> str:
    """A number of things in words."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def require_names(file: DataFile, arrays: Sequence[tuple[str, Array]]) -> None:
    """Raise unless there are arrays, all of different names."""
    if not arrays:
        raise file.error("D118", what="nothing")
    names = [name for name, _ in arrays]
    for name in names:
        if names.count(name) > 1:
            raise file.error("D118", "save each once", what=f"two arrays named `{name}`")


def choose(file: DataFile, names: Sequence[str], key: str | None) -> str:
    """The array to read: the one that `key` names, or the only one."""
    if not names:
        raise file.error("D112", what="no arrays")
    if key is None:
        if len(names) == 1:
            return names[0]
        example = f'for instance load("{file.shown}", "{names[0]}")'
        raise file.error("D109", example, count=len(names), names=listed(names))
    if key not in names:
        near = did_you_mean(key, names)
        hint = f"did you mean `{near}`?" if near else None
        raise file.error("D110", hint, what="array", name=key, names=listed(names))
    return key
