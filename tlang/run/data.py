"""Data files: reading and writing arrays as .npy, .npz, .safetensors and .csv.

Nothing a file holds can run code: pickled objects are refused, and the headers of NumPy's formats are
parsed here. Whatever the bytes of a file are, `read` gives an array of one of tlang's dtypes or
raises `tlang.errors.StateError`.
"""

from __future__ import annotations

import ast
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import numpy as np

from tlang.errors import TlangError
from tlang.run import tensors
from tlang.run.datafile import MAGIC, Array, DataFile, Put, choose, counted, require_names
from tlang.run.table import put_csv, read_csv
from tlang.source import Span
from tlang.types import FROM_NUMPY

# Reading


def read(
    path: str, key: str | None = None, span: Span | None = None, *columns: str, shown: str | None = None
) -> Array:
    """The array in a file, fresh, in C order and the machine's byte order.

    .npy holds one array and takes no `key`. .npz and .safetensors hold several: `key` is the name of one, and
    may be left out if there is only one. .csv is a table of numbers, separated by commas, in UTF-8; the
    first line is a header if one of its cells is neither empty nor a number, blank lines and lines
    that begin with `#` are skipped, and cells may be quoted. It gives [rows, columns]; with `key`,
    which is a name of the header, that column as [rows]; with `key` and `columns` those columns, in
    that order, as [rows, 1 + len(columns)]. The dtype is i64 if all that is read is integers, bool if
    all is True and False, and f64 otherwise.

    `path` is opened; messages print `shown` (by default `path`) and point at `span`. dtypes are those
    of tlang. Raises `tlang.errors.StateError`, with the codes D101 to D119.
    """
    file = DataFile(path, shown, span)
    file.require_format()
    with file.guard("read"):
        file.require_regular()
        with open(path, "rb") as stream:
            if file.ending == ".csv":
                return read_csv(file, stream.read(), [] if key is None else [key, *columns])
            if columns or (file.ending == ".npy" and key is not None):
                hint = "leave the names out" if file.ending == ".npy" else "load one array at a time"
                raise file.error("D111", hint, reason=f"{file.ending} takes no column names")
            if file.ending == ".npy":
                return _read_npy(file, stream, os.fstat(stream.fileno()).st_size)
            names, get, _ = _archive(file, stream)
            return get(choose(file, names, key))


def read_all(
    path: str, span: Span | None = None, *, shown: str | None = None
) -> tuple[dict[str, Array], str]:
    """All arrays of an .npz or .safetensors file by name, and the note that `write` left there, or "".

    Raises as `read` does.
    """
    file = DataFile(path, shown, span)
    file.require_format()
    with file.guard("read"):
        file.require_regular()
        with open(path, "rb") as stream:
            names, get, note = _archive(file, stream)
            return {name: get(name) for name in names}, note


def note_of(path: str) -> str:
    """The note of a file, "" if it has none, is none of these files or cannot be read."""
    file = DataFile(path, None, None)
    try:
        with open(path, "rb") as stream:
            return _archive(file, stream)[2] if file.ending in ARCHIVES else ""
    except (OSError, TlangError):
        return ""


#: The formats that hold named arrays, and a note.
ARCHIVES = (".npz", ".safetensors")
_NOTE = "tlang.json"
_LONGEST_NOTE = 2**24


def _archive(file: DataFile, stream: IO[bytes]) -> tuple[list[str], Callable[[str], Array], str]:
    """The names of an archive's arrays, what reads one of them, and the note."""
    if file.ending == ".safetensors":
        return tensors.opened(file, stream)
    if file.ending == ".npz":
        return _opened_npz(file, stream)
    raise file.error("D120", what=f"`{file.ending}` never does")


# Long enough for every array that tlang can hold, and short enough to parse without danger.
_LONGEST_HEADER = 10_000
_MOST_DIMENSIONS = 32


def _read_npy(file: DataFile, stream: IO[bytes], size: int, member: str = "") -> Array:
    """One array in NumPy's format (NEP 1, versions 1 to 3) from a stream of `size` bytes.

    What follows the array is ignored, as `numpy.load` does. `member` names an array of an archive.
    """
    where = f"array `{member}`: " if member else ""

    def damaged(reason: str, hint: str | None = None) -> TlangError:
        return file.error("D106", hint, format="NumPy", reason=where + reason)

    descr, fortran, shape = _npy_header(stream, damaged, bool(member))
    dtype = dtype_of(file, descr, where)
    elements = 1
    for n in shape:
        elements *= n
    needed = elements * dtype.itemsize
    if needed > size - stream.tell():
        raise damaged(f"its header claims {needed} bytes of numbers, but it holds {size - stream.tell()}")
    buffer = np.empty(needed, np.uint8)
    filled, view = 0, memoryview(buffer.data)
    while filled < needed:
        got = stream.readinto(view[filled : filled + 2**20])  # type: ignore[attr-defined]
        if not got:
            raise damaged(f"it ends after {filled} of {needed} bytes of numbers")
        filled += got
    # An archive checks its sum when its end is reached.
    stream.read(1)
    if dtype == np.bool_:
        found: Array = buffer != 0
    else:
        found = buffer.view(dtype).astype(dtype.newbyteorder("="), copy=False)
    try:
        found = found.reshape(shape, order="F" if fortran else "C")
    except ValueError:  # no elements, but sizes whose product NumPy cannot hold
        raise damaged(f"an array cannot have the shape {shape}") from None
    array: Array = found if found.flags.c_contiguous else found.copy(order="C")
    return array


def _npy_header(
    stream: IO[bytes], damaged: Callable[..., TlangError], inside: bool
) -> tuple[object, bool, tuple[int, ...]]:
    """The dtype's description, Fortran order and shape; `inside` says that this is in an archive."""
    start = stream.read(8)
    if not start:
        raise damaged("it has no bytes")
    if start[:6] != MAGIC[: len(start)]:
        zipped = start.startswith(b"PK") and not inside
        raise damaged("it does not begin as one", "name a zipped archive .npz" if zipped else None)
    if len(start) == 8 and start[6] not in (1, 2, 3):
        raise damaged(f"its version is {start[6]}.{start[7]}")
    field = "<H" if start[6:7] == b"\x01" else "<I"
    count = stream.read(struct.calcsize(field))
    if len(count) < struct.calcsize(field):
        raise damaged("it ends within its header")
    (length,) = struct.unpack(field, count)
    header = stream.read(min(length, _LONGEST_HEADER + 1))
    if length > _LONGEST_HEADER:
        raise damaged(f"its header claims {length} bytes")
    if len(header) < length:
        raise damaged("it ends within its header")
    try:
        facts = ast.literal_eval(header.decode("utf-8" if start[6] == 3 else "latin-1").strip())
        descr, fortran, shape = facts["descr"], facts["fortran_order"], facts["shape"]
        right = isinstance(fortran, bool) and isinstance(shape, tuple)
        right = right and all(type(n) is int and 0 <= n < 2**63 for n in shape)
        right = right and isinstance(descr, str | list | tuple)
    # What `literal_eval` raises on arbitrary text includes these and more between versions of Python.
    except (ValueError, SyntaxError, TypeError, LookupError, MemoryError, RecursionError):
        right = False
    if not right or len(shape) > _MOST_DIMENSIONS:
        raise damaged("its header cannot be understood")
    return descr, fortran, shape


def dtype_of(file: DataFile, descr: object, where: str) -> np.dtype[Any]:
    """The dtype that a header names, or the error that says why it is none of tlang's."""
    found = re.fullmatch(r"([<>=|]?)([a-zA-Z])([0-9]{0,9})", descr) if isinstance(descr, str) else None
    order, kind, width = found.groups() if found else ("", "", "")
    if kind in "biufc" and kind and width:
        with suppress(TypeError):
            dtype = np.dtype(f"{order}{kind}{width}")
            if dtype.newbyteorder("=").name in FROM_NUMPY:
                return dtype
    if not isinstance(descr, str):
        what, hint = "records with fields", "save each field as an array of its own"
    elif kind == "O":
        what, hint = "Python objects", "they could run code when loaded; save an array of numbers"
    elif kind in "USa" and kind:
        what, hint = "strings", "save numbers, for instance the index of each category"
    elif kind == "f":
        what, hint = f"floats of {8 * int(width or 0)} bits", "convert them to float32 or float64"
    else:
        what, hint = f"elements of type {descr:.40}", "convert them to numbers"
    raise file.error("D108", hint, what=where + what)


def _opened_npz(file: DataFile, stream: IO[bytes]) -> tuple[list[str], Callable[[str], Array], str]:
    """A zipped archive of arrays in NumPy's format."""

    def damaged(reason: str, hint: str | None = None) -> TlangError:
        return file.error("D106", hint, format="zipped", reason=reason)

    @contextmanager
    def guarded() -> Iterator[None]:
        try:
            yield
        except (TlangError, MemoryError):
            raise
        # Reading a damaged archive raises about a dozen types, some of them only of one compression method.
        except Exception as e:
            if isinstance(e, OSError) and e.errno is not None:
                raise
            raise damaged(str(e) or type(e).__name__) from None

    start = stream.read(6)
    stream.seek(0)
    if start == MAGIC:
        raise damaged("it holds one array that is not zipped", "name it .npy")
    if not start:
        raise damaged("it has no bytes")
    with guarded():
        archive = zipfile.ZipFile(stream)
        members = {m.filename[:-4]: m for m in archive.infolist() if m.filename.endswith(".npy")}
        note = ""
        if _NOTE in archive.namelist() and archive.getinfo(_NOTE).file_size <= _LONGEST_NOTE:
            note = archive.read(_NOTE).decode()

    def get(name: str) -> Array:
        with guarded(), archive.open(members[name]) as inside:
            return _read_npy(file, inside, members[name].file_size, name)

    return list(members), get, note


# Writing


def write(
    path: str,
    arrays: Sequence[tuple[str, Array]],
    span: Span | None = None,
    *,
    shown: str | None = None,
    note: str = "",
) -> None:
    """Write named arrays to a file, which appears complete or not at all, in place of one that was there.

    .npy takes one array. .npz and .safetensors take any number of arrays with different names, which are
    their keys, and a note, which `read_all` gives back. .csv takes one 2-D array, written without a header,
    or 1-D arrays of one length, written as columns under a header of their names, so that `read` with a name
    gives the array back; elements are bool, integers that i64 holds, and floats, whose digits are those that
    give the same f64 again.

    `path` is written; messages print `shown` (by default `path`) and point at `span`. dtypes are those
    of tlang. Raises `tlang.errors.StateError`, with the codes D102 to D107, D118 and D119.
    """
    file = DataFile(path, shown, span)
    file.require_format()
    if note and file.ending not in ARCHIVES:
        raise file.error("D118", "name it .npz", what="the state of a program")
    for name, values in arrays:
        if values.dtype.newbyteorder("=").name not in FROM_NUMPY:
            raise file.error("D118", what=f"`{name}`, which is {values.dtype}")
    match file.ending:
        case ".npy":
            put = _put_npy(file, arrays)
        case ".npz":
            put = _put_npz(file, arrays, note)
        case ".safetensors":
            put = tensors.put(file, arrays, note)
        case _:
            put = put_csv(file, arrays)
    with file.guard("written"):
        # Written through a link, not in its place.
        target = os.path.realpath(path)
        mode = None
        if os.path.lexists(target):
            file.require_regular()
            mode = stat.S_IMODE(os.stat(target).st_mode)
            if not os.access(target, os.W_OK):
                raise file.error("D103", done="written")
        folder, name = os.path.split(target)
        _clear(folder, name)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}-{os.urandom(4).hex()}{_TEMPORARY}")
        try:
            with open(temporary, "xb") as stream:
                put(stream)
                stream.flush()
                os.fsync(stream.fileno())
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


_TEMPORARY = ".tlang-tmp"


def _clear(folder: str, name: str) -> None:
    """Deletes what processes that were killed while they wrote a file have left beside it."""
    if os.name != "posix":
        return
    pattern = re.compile(rf"\.{re.escape(name)}\.([0-9]{{1,9}})-[0-9a-f]{{8}}{re.escape(_TEMPORARY)}")
    with suppress(OSError):
        for entry in os.listdir(folder or "."):
            found = pattern.fullmatch(entry)
            if found and not _is_running(int(found[1])):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, entry))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _put_npy(file: DataFile, arrays: Sequence[tuple[str, Array]]) -> Put:
    if len(arrays) != 1:
        hint = "save several in an .npz file"
        raise file.error("D118", hint, what=f"{counted(len(arrays), 'array')}; .npy takes one")
    return lambda stream: np.lib.format.write_array(stream, arrays[0][1], allow_pickle=False)


def _put_npz(file: DataFile, arrays: Sequence[tuple[str, Array]], note: str) -> Put:
    if not note:
        require_names(file, arrays)

    def put(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for name, values in arrays:
                # The date of a `ZipInfo` is fixed, so that equal arrays make equal files.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)
            if note:
                archive.writestr(zipfile.ZipInfo(_NOTE), note)

    return put
