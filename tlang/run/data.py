"""Data files: reading and writing arrays as .npy, .npz and .csv.

Nothing a file holds can run code: pickled objects are refused, and the headers of NumPy's formats are
parsed here. Whatever the bytes of a file are, `read` gives an array of one of tlang's dtypes or
raises `tlang.errors.StateError`.
"""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import stat
import struct
import zipfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tlang.errors import TlangError, did_you_mean, error
from tlang.source import Span
from tlang.types import FROM_NUMPY

_Array: TypeAlias = NDArray[Any]
_FORMATS = (".npy", ".npz", ".csv")


class _File:
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
        if self.ending not in _FORMATS:
            near = did_you_mean(self.ending, _FORMATS)
            hint = f"did you mean `{near}`?" if near else "the formats are .npy, .npz and .csv"
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
            near = did_you_mean(name, [n for n in os.listdir(folder or ".") if n.endswith(_FORMATS)])
            if near:
                return f"did you mean `{os.path.join(shown_folder, near)}`?"
        return None


# Reading


def read(
    path: str, key: str | None = None, span: Span | None = None, *columns: str, shown: str | None = None
) -> _Array:
    """The array in a file, fresh, in C order and the machine's byte order.

    .npy holds one array and takes no `key`. .npz holds several: `key` is the name of one, and may be
    left out if there is only one. .csv is a table of numbers, separated by commas, in UTF-8; the
    first line is a header if one of its cells is neither empty nor a number, blank lines and lines
    that begin with `#` are skipped, and cells may be quoted. It gives [rows, columns]; with `key`,
    which is a name of the header, that column as [rows]; with `key` and `columns` those columns, in
    that order, as [rows, 1 + len(columns)]. The dtype is i64 if all that is read is integers, bool if
    all is True and False, and f64 otherwise.

    `path` is opened; messages print `shown` (by default `path`) and point at `span`. dtypes are those
    of tlang. Raises `tlang.errors.StateError`, with the codes D101 to D119.
    """
    file = _File(path, shown, span)
    file.require_format()
    with file.guard("read"):
        file.require_regular()
        with open(path, "rb") as stream:
            if file.ending == ".csv":
                return _read_csv(file, stream.read(), [] if key is None else [key, *columns])
            if columns or (file.ending == ".npy" and key is not None):
                hint = "leave the names out" if file.ending == ".npy" else "load one array at a time"
                raise file.error("D111", hint, reason=f"{file.ending} takes no column names")
            if file.ending == ".npy":
                return _read_npy(file, stream, os.fstat(stream.fileno()).st_size)
            return _read_npz(file, stream, key)


_MAGIC = b"\x93NUMPY"
# Long enough for every array that tlang can hold, and short enough to parse without danger.
_LONGEST_HEADER = 10_000
_MOST_DIMENSIONS = 32


def _read_npy(file: _File, stream: IO[bytes], size: int, member: str = "") -> _Array:
    """One array in NumPy's format (NEP 1, versions 1 to 3) from a stream of `size` bytes.

    What follows the array is ignored, as `numpy.load` does. `member` names an array of an archive.
    """
    where = f"array `{member}`: " if member else ""

    def damaged(reason: str, hint: str | None = None) -> TlangError:
        return file.error("D106", hint, format="NumPy", reason=where + reason)

    descr, fortran, shape = _npy_header(stream, damaged, bool(member))
    dtype = _dtype_of(file, descr, where)
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
        found: _Array = buffer != 0
    else:
        found = buffer.view(dtype).astype(dtype.newbyteorder("="), copy=False)
    try:
        found = found.reshape(shape, order="F" if fortran else "C")
    except ValueError:  # no elements, but sizes whose product NumPy cannot hold
        raise damaged(f"an array cannot have the shape {shape}") from None
    array: _Array = found if found.flags.c_contiguous else found.copy(order="C")
    return array


def _npy_header(
    stream: IO[bytes], damaged: Callable[..., TlangError], inside: bool
) -> tuple[object, bool, tuple[int, ...]]:
    """The dtype's description, Fortran order and shape; `inside` says that this is in an archive."""
    start = stream.read(8)
    if not start:
        raise damaged("it has no bytes")
    if start[:6] != _MAGIC[: len(start)]:
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


def _dtype_of(file: _File, descr: object, where: str) -> np.dtype[Any]:
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


def _read_npz(file: _File, stream: IO[bytes], key: str | None) -> _Array:
    """One array of a zipped archive of arrays in NumPy's format."""

    def damaged(reason: str, hint: str | None = None) -> TlangError:
        return file.error("D106", hint, format="zipped", reason=reason)

    start = stream.read(6)
    stream.seek(0)
    if start == _MAGIC:
        raise damaged("it holds one array that is not zipped", "name it .npy")
    if not start:
        raise damaged("it has no bytes")
    try:
        with zipfile.ZipFile(stream) as archive:
            members = {m.filename[:-4]: m for m in archive.infolist() if m.filename.endswith(".npy")}
            member = members[_npz_key(file, list(members), key)]
            with archive.open(member) as inside:
                return _read_npy(file, inside, member.file_size, member.filename[:-4])
    except (TlangError, MemoryError):
        raise
    # Reading a damaged archive raises about a dozen types, some of them only of one compression method.
    except Exception as e:
        if isinstance(e, OSError) and e.errno is not None:
            raise
        raise damaged(str(e) or type(e).__name__) from None


def _npz_key(file: _File, names: list[str], key: str | None) -> str:
    """The array to read: the one that `key` names, or the only one."""
    if not names:
        raise file.error("D112", what="no arrays")
    if key is None:
        if len(names) == 1:
            return names[0]
        example = f'for instance load("{file.shown}", "{names[0]}")'
        raise file.error("D109", example, count=len(names), names=_listed(names))
    if key not in names:
        near = did_you_mean(key, names)
        hint = f"did you mean `{near}`?" if near else None
        raise file.error("D110", hint, what="array", name=key, names=_listed(names))
    return key


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(f"`{n}`" for n in names[:20]) + more


# csv

_NUMBER = re.compile(
    r"\s*[+-]?(?:[0-9]+\.?[0-9]*(?:e[+-]?[0-9]+)?|\.[0-9]+(?:e[+-]?[0-9]+)?|nan|inf|infinity)\s*",
    re.IGNORECASE | re.ASCII,
)
_ALL_INTEGERS = re.compile(r"[0-9+\-\s,]*", re.ASCII)
_BOOLS = {"true": True, "false": False}


class _Lines:
    """The lines of a text that are neither blank nor comments, and where the reader is among them."""

    def __init__(self, text: str) -> None:
        self._stream = io.StringIO(text, newline=None)
        self._number = 0
        self.first: int | None = None
        """The number of the first line taken since this was last set to None."""

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        for line in self._stream:
            self._number += 1
            if line.strip() and not line.lstrip().startswith("#"):
                self.first = self.first or self._number
                return line
        raise StopIteration


def _read_csv(file: _File, content: bytes, keys: Sequence[str]) -> _Array:
    """A table of numbers; `keys` are the columns to read, none for all."""
    text = _decoded(file, content)
    rows = _rows(file, text)
    line, first = next(rows, (0, []))
    if not first:
        raise file.error("D112", what="no numbers")
    header: list[str] | None = None
    if _is_header(first):
        header = [cell.strip() for cell in first]
    chosen = _chosen(file, header, keys)
    places = list(range(len(first))) if chosen is None else chosen

    table = _Table(file, header, places)
    if header is None:
        table.add(line, first)
    for line, row in rows:
        if len(row) != len(first):
            raise file.error(
                "D113", line=line, found=_counted(len(row), "cell"), expected=_counted(len(first), "cell")
            )
        table.add(line, row)
    found = table.finished()
    return found.reshape(-1) if len(keys) == 1 else found


def _decoded(file: _File, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        if content.startswith((b"PK", _MAGIC)):
            hint = "name it .npz" if content.startswith(b"PK") else "name it .npy"
        else:
            hint = "save it as UTF-8"
        raise file.error("D116", hint, line=line, byte=f"{content[e.start]:#04x}") from None


def _rows(file: _File, text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of cells, each with the number of its first line."""
    lines = _Lines(text)
    reader = csv.reader(lines, skipinitialspace=True, strict=True)
    while True:
        lines.first = None
        try:
            row = next(reader, None)
        except csv.Error as e:
            raise file.error("D117", line=lines.first or 1, reason=str(e)) from None
        if row is None:
            return
        yield lines.first or 1, row


def _chosen(file: _File, header: list[str] | None, keys: Sequence[str]) -> list[int] | None:
    """The positions of the columns named; None means all."""
    if not keys:
        return None
    if header is None:
        hint = "leave the name out to read the whole table, and take a column with [:, 0]"
        raise file.error("D111", hint, reason="its first line is numbers, not the names of columns")
    for key in keys:
        if key not in header:
            near = did_you_mean(key, header)
            hint = f"did you mean `{near}`?" if near else ""
            raise file.error("D110", hint, what="column", name=key, names=_listed(header))
        if header.count(key) > 1:
            reason = f"{header.count(key)} columns are named `{key}`"
            raise file.error("D111", "rename them, or read the whole table", reason=reason)
    return [header.index(key) for key in keys]


def _is_value(cell: str) -> bool:
    return cell.strip().lower() in _BOOLS or _NUMBER.fullmatch(cell) is not None


def _is_header(cells: Sequence[str]) -> bool:
    # An empty cell is more likely a missing number than a column without a name.
    return any(cell.strip() and not _is_value(cell) for cell in cells)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class _Table:
    """The numbers of the chosen columns, row by row; the dtype widens as rows demand.

    `typecode` is that of `array.array`: "b" while all cells are True or False, "q" while all are
    integers, "d" otherwise.
    """

    def __init__(self, file: _File, header: list[str] | None, places: list[int]) -> None:
        self.file, self.header, self.places = file, header, places
        self.all = places == list(range(len(places))) and (header is None or len(header) == len(places))
        self.numbers: array[Any] | None = None
        self.only_integers = True
        self.too_large: TlangError | None = None

    def add(self, line: int, row: list[str]) -> None:
        """Append a row. Raises for a cell that is no number."""
        cells = row if self.all else [row[i] for i in self.places]
        if self.numbers is None:
            bools = all(c.strip().lower() in _BOOLS for c in cells)
            self.numbers = array("b" if bools else "q")
        if self.numbers.typecode == "b":
            for i, cell in enumerate(cells):
                if cell.strip().lower() not in _BOOLS:
                    raise self._wrong(line, i, cell, "True or False, as the cells above")
            self.numbers.extend(_BOOLS[c.strip().lower()] for c in cells)
            return

        joined = ",".join(cells)
        integers = _ALL_INTEGERS.fullmatch(joined) is not None
        try:
            # Python's numbers may have underscores and the digits of other scripts; a table's may not.
            if "_" in joined or not joined.isascii():
                raise ValueError
            if integers and self.numbers.typecode == "q":
                with suppress(OverflowError):
                    self.numbers.extend(array("q", list(map(int, cells))))
                    return
            values: list[Any] = list(map(float, cells))
        except ValueError:
            values = self._carefully(line, cells)
        if self.numbers.typecode == "q":
            if integers:
                self.too_large = self._too_large(line, cells)
            self.numbers = array("d", self.numbers)
        self.only_integers = self.only_integers and integers
        self.numbers.extend(values)

    def finished(self) -> _Array:
        """The table as [rows, columns]. Raises if it has no rows, or an integer beyond i64."""
        if self.numbers is None:
            raise self.file.error("D112", what="a header but no numbers")
        if self.too_large is not None and self.only_integers:
            raise self.too_large
        dtype = {"b": np.bool_, "q": np.int64, "d": np.float64}[self.numbers.typecode]
        # A copy, since an array that shares the memory of an `array.array` would keep it from growing.
        return np.array(np.frombuffer(self.numbers, dtype)).reshape(-1, len(self.places))

    def _carefully(self, line: int, cells: list[str]) -> list[float]:
        """The numbers of a row that the quick way refused, which has a cell that is none or very long."""
        for i, cell in enumerate(cells):
            if not _NUMBER.fullmatch(cell):
                raise self._wrong(line, i, cell, "a number")
        return [float(cell) for cell in cells]

    def _wrong(self, line: int, i: int, cell: str, expected: str) -> TlangError:
        shown = cell.strip() if len(cell) <= 40 else cell[:37].strip() + "..."
        hint = None
        if not shown:
            hint = "write nan for a missing number"
        elif ";" in shown or "\t" in shown:
            hint = "separate the cells by commas"
        found = f"`{shown}` is" if shown else "the cell is empty, and"
        return self._error("D114", line, i, hint, found=found, expected=expected)

    def _too_large(self, line: int, cells: list[str]) -> TlangError:
        def fits(cell: str) -> bool:
            # Python does not convert more than 4300 digits, so leading zeros are dropped first.
            digits = cell.strip().lstrip("+-0") or "0"
            return len(digits) <= 19 and -(2**63) <= int("-" * ("-" in cell) + digits) < 2**63

        i = next((i for i, cell in enumerate(cells) if not fits(cell)), 0)
        return self._error("D115", line, i, "write one number with a decimal point to read all as f64")

    def _error(self, code: str, line: int, i: int, hint: str | None, **facts: Any) -> TlangError:
        place = self.places[i]
        name = f" (`{self.header[place]}`)" if self.header and self.header[place] else ""
        return self.file.error(code, hint, line=line, column=f"{place + 1}{name}", **facts)


# Writing


def write(
    path: str,
    arrays: Sequence[tuple[str, _Array]],
    span: Span | None = None,
    *,
    shown: str | None = None,
) -> None:
    """Write named arrays to a file, which appears complete or not at all, in place of one that was there.

    .npy takes one array. .npz takes any number of arrays with different names, which are its keys. .csv
    takes one 2-D array, written without a header, or 1-D arrays of one length, written as columns
    under a header of their names, so that `read` with a name gives the array back; elements are bool,
    integers that i64 holds, and floats, whose digits are those that give the same f64 again.

    `path` is written; messages print `shown` (by default `path`) and point at `span`. dtypes are those
    of tlang. Raises `tlang.errors.StateError`, with the codes D102 to D107, D118 and D119.
    """
    file = _File(path, shown, span)
    file.require_format()
    for name, values in arrays:
        if values.dtype.newbyteorder("=").name not in FROM_NUMPY:
            raise file.error("D118", what=f"`{name}`, which is {values.dtype}")
    put = {".npy": _put_npy, ".npz": _put_npz, ".csv": _put_csv}[file.ending](file, arrays)
    with file.guard("written"):
        # Written through a link, not in its place.
        target = os.path.realpath(path)
        mode = None
        if os.path.lexists(target):
            file.require_regular()
            mode = stat.S_IMODE(os.stat(target).st_mode)
            if not os.access(target, os.W_OK):
                raise file.error("D103", done="written")
        temporary = os.path.join(os.path.dirname(target), f".tlang-{os.urandom(8).hex()}.tmp")
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


_Put: TypeAlias = Callable[[IO[bytes]], None]


def _put_npy(file: _File, arrays: Sequence[tuple[str, _Array]]) -> _Put:
    if len(arrays) != 1:
        hint = "save several in an .npz file"
        raise file.error("D118", hint, what=f"{_counted(len(arrays), 'array')}; .npy takes one")
    return lambda stream: np.lib.format.write_array(stream, arrays[0][1], allow_pickle=False)


def _put_npz(file: _File, arrays: Sequence[tuple[str, _Array]]) -> _Put:
    _require_names(file, arrays)

    def put(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for name, values in arrays:
                # The date of a `ZipInfo` is fixed, so that equal arrays make equal files.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, values, allow_pickle=False)

    return put


def _put_csv(file: _File, arrays: Sequence[tuple[str, _Array]]) -> _Put:
    hint = "save it in an .npz file"
    _require_names(file, arrays)
    for name, values in arrays:
        if values.dtype.kind == "c":
            raise file.error("D118", hint, what=f"complex numbers (`{name}`)")
        if values.ndim not in ((1, 2) if len(arrays) == 1 else (1,)):
            several = " beside other arrays" if len(arrays) > 1 else ""
            raise file.error("D118", hint, what=f"an array of {values.ndim} dimensions (`{name}`){several}")
        if values.size == 0:
            raise file.error("D118", hint, what=f"an array without elements (`{name}`)")
        if values.dtype.kind == "u" and int(values.max()) >= 2**63:
            raise file.error("D118", hint, what=f"integers beyond i64 (`{name}`)")
    if len({len(values) for _, values in arrays}) > 1:
        lengths = ", ".join(f"`{name}` {len(values)}" for name, values in arrays)
        raise file.error("D118", hint, what=f"columns of different lengths ({lengths})")
    flat = arrays[0][1].ndim == 1
    names = [name for name, _ in arrays]
    if flat and not _is_header(names):
        raise file.error("D118", hint, what=f"only columns whose names read as numbers ({_listed(names)})")

    def put(stream: IO[bytes]) -> None:
        columns = [values for _, values in arrays]
        rows: Iterable[Sequence[object]]
        if flat:
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(names)
            stream.write(header.getvalue().encode())
            rows = zip(*(column.tolist() for column in columns), strict=True)
        else:
            rows = (row.tolist() for row in columns[0])
        for row in rows:
            stream.write((",".join(map(repr, row)) + "\n").encode())

    return put


def _require_names(file: _File, arrays: Sequence[tuple[str, _Array]]) -> None:
    if not arrays:
        raise file.error("D118", what="nothing")
    names = [name for name, _ in arrays]
    for name in names:
        if names.count(name) > 1:
            raise file.error("D118", "save each once", what=f"two arrays named `{name}`")
