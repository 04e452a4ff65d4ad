"""Tables as text: reading and writing .csv."""

from __future__ import annotations

import csv
import io
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any

import numpy as np

from tlang.errors import TlangError, did_you_mean
from tlang.run.datafile import MAGIC, Array, DataFile, Put, counted, listed, require_names

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


def read_csv(file: DataFile, content: bytes, keys: Sequence[str]) -> Array:
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
                "D113", line=line, found=counted(len(row), "cell"), expected=counted(len(first), "cell")
            )
        table.add(line, row)
    found = table.finished()
    return found.reshape(-1) if len(keys) == 1 else found


def _decoded(file: DataFile, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content.count(b"\n", 0, e.start) + 1
        if content.startswith((b"PK", MAGIC)):
            hint = "name it .npz" if content.startswith(b"PK") else "name it .npy"
        else:
            hint = "save it as UTF-8"
        raise file.error("D116", hint, line=line, byte=f"{content[e.start]:#04x}") from None


def _rows(file: DataFile, text: str) -> Iterator[tuple[int, list[str]]]:
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


def _chosen(file: DataFile, header: list[str] | None, keys: Sequence[str]) -> list[int] | None:
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
            raise file.error("D110", hint, what="column", name=key, names=listed(header))
        if header.count(key) > 1:
            reason = f"{header.count(key)} columns are named `{key}`"
            raise file.error("D111", "rename them, or read the whole table", reason=reason)
    return [header.index(key) for key in keys]


def _is_value(cell: str) -> bool:
    return cell.strip().lower() in _BOOLS or _NUMBER.fullmatch(cell) is not None


def _is_header(cells: Sequence[str]) -> bool:
    # An empty cell is more likely a missing number than a column without a name.
    return any(cell.strip() and not _is_value(cell) for cell in cells)


class _Table:
    """The numbers of the chosen columns, row by row; the dtype widens as rows demand.

    `typecode` is that of `array.array`: "b" while all cells are True or False, "q" while all are
    integers, "d" otherwise.
    """

    def __init__(self, file: DataFile, header: list[str] | None, places: list[int]) -> None:
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

    def finished(self) -> Array:
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


def put_csv(file: DataFile, arrays: Sequence[tuple[str, Array]]) -> Put:
    """What writes a table, or columns under a header of their names."""
    hint = "save it in an .npz file"
    require_names(file, arrays)
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
        raise file.error("D118", hint, what=f"only columns whose names read as numbers ({listed(names)})")

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
