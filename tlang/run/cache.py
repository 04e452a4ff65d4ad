"""The cache of compiled kernels: object code by what it was made from, on disk.

An entry is a file of its own, written beside its place and moved there, so that processes need no locks:
they see an entry whole or not at all. Nothing that goes wrong with a file is an error, since a cache that
cannot be read or written is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tlang import __version__
from tlang.run.objects import ObjectCode, ObjectError, compile_text, load_object
from tlang.syntax.tables import cache_path

#: To be raised when the layout of entries or what `compile_text` makes of a text changes.
_FORMAT = 5
_MAGIC = b"tlang object %d\n" % _FORMAT
_LIMIT = 256 * 2**20
#: Temporary files that are older than this, in seconds, were left behind by a process that died.
_STALE = 3600.0


@dataclass(frozen=True)
class Stats:
    """What a cache holds: the number of its entries, and their size in bytes."""

    entries: int
    size: int


def cache_folder() -> Path | None:
    """The folder of everything that tlang keeps between runs; None if there is no home folder.

    It is `$TLANG_CACHE_DIR`, else `tlang` in `$XDG_CACHE_HOME`, else `~/.cache/tlang`.
    """
    place = cache_path("")
    return None if place is None else place.parent


class Cache:
    """Object code on disk, at most `limit` bytes of it: what was used longest ago goes first.

    The default folder is `kernels` in :func:`cache_folder`.
    """

    def __init__(self, folder: Path | None = None, limit: int = _LIMIT) -> None:
        if folder is None and (home := cache_folder()) is not None:
            folder = home / "kernels"
        self.folder = folder
        self.limit = limit

    def load(
        self,
        text: str,
        signatures: Mapping[str, str],
        fastmath: Collection[str] = (),
        symbols: Mapping[str, int] | None = None,
    ) -> dict[str, Callable[..., int]]:
        """The entries of a module text as functions, from the cache if they are there, else compiled.

        Raises :class:`tlang.run.objects.ObjectError` if the text does not compile or load.
        """
        if (functions := self.kept(text, signatures, fastmath, symbols)) is not None:
            return functions
        return load_object(self.add(text, signatures, fastmath), symbols)

    def kept(
        self,
        text: str,
        signatures: Mapping[str, str],
        fastmath: Collection[str] = (),
        symbols: Mapping[str, int] | None = None,
    ) -> dict[str, Callable[..., int]] | None:
        """The entries of a module text as functions if they are in the cache, else None."""
        place = key(text, signatures, fastmath)
        if (code := self.get(place)) is not None:
            try:
                return load_object(code, symbols)
            except ObjectError:  # what a new compilation makes may fit better
                self._forget(place)
        return None

    def add(self, text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> ObjectCode:
        """Compiles a module text and keeps the code. Raises `ObjectError` if that fails."""
        made = compile_text(text, signatures, fastmath)
        self.put(key(text, signatures, fastmath), made)
        return made

    def get(self, key: str) -> ObjectCode | None:
        """The entry of a key, or None. An entry that is damaged is deleted."""
        path = self._path(key)
        if path is None:
            return None
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if (code := _unpack(key, data)) is None:
            self._forget(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return code

    def put(self, key: str, code: ObjectCode) -> None:
        """Keeps an entry, if that is possible, and removes old ones if there are too many."""
        path, data = self._path(key), _pack(key, code)
        if path is None or len(data) > self.limit:
            return
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        self._shrink()

    def stats(self) -> Stats:
        """How much is kept."""
        sizes = [size for _, size, _ in self._entries()]
        return Stats(len(sizes), sum(sizes))

    def clear(self) -> None:
        """Deletes all entries; other files in the folder stay."""
        for _, _, path in self._entries():
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _path(self, key: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{key}.object"

    def _forget(self, key: str) -> None:
        if (path := self._path(key)) is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def _shrink(self) -> None:
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) - self.limit
        for _, size, path in entries:
            if excess <= 0:
                break
            with contextlib.suppress(OSError):
                os.unlink(path)
                excess -= size

    def _entries(self) -> Iterator[tuple[int, int, str]]:
        """When each entry was used, its size, its path; removes files that a dead process left."""
        if self.folder is None:
            return
        try:
            files = list(os.scandir(self.folder))
        except OSError:
            return
        for file in files:
            with contextlib.suppress(OSError):
                found = file.stat()
                if re.fullmatch(r"[0-9a-f]{64}\.object", file.name):
                    yield found.st_mtime_ns, found.st_size, file.path
                elif file.name.endswith(".tmp") and time.time() - found.st_mtime > _STALE:
                    os.unlink(file.path)


def key(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> str:
    """The name of what :func:`tlang.run.objects.compile_text` makes of its arguments, here and now.

    It depends on the versions of all that takes part and on the processor.
    """
    made_from = [text, sorted(signatures.items()), sorted(fastmath), _circumstances()]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


@cache
def _circumstances() -> list[object]:
    from importlib.metadata import PackageNotFoundError, version

    import llvmlite.binding as llvm

    versions: list[str | None] = []
    for package in ("llvmlite", "numpy"):
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append(None)
    processor = [
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        sorted(name for name, there in llvm.get_host_cpu_features().items() if there),
    ]
    return [_FORMAT, __version__, sys.version, versions, processor]


def _pack(key: str, code: ObjectCode) -> bytes:
    """An entry as a file: a mark, a checksum, the length of the rest; then signatures and code."""
    signatures = json.dumps(dict(code.signatures)).encode()
    rest = len(signatures).to_bytes(8, "little") + signatures + code.code
    return _MAGIC + _checksum(key, rest) + len(rest).to_bytes(8, "little") + rest


def _unpack(key: str, data: bytes) -> ObjectCode | None:
    """The entry in a file; None if the file is not one, is not whole, or belongs to another key."""
    start = len(_MAGIC) + 40
    checksum, length, rest = data[len(_MAGIC) : start - 8], data[start - 8 : start], data[start:]
    if not data.startswith(_MAGIC) or len(rest) != int.from_bytes(length, "little"):
        return None
    if checksum != _checksum(key, rest):
        return None
    end = 8 + int.from_bytes(rest[:8], "little")
    return ObjectCode(json.loads(rest[8:end]), rest[end:])


def _checksum(key: str, rest: bytes) -> bytes:
    return hashlib.sha256(key.encode() + rest).digest()
