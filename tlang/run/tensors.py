"""Reading and writing .safetensors: a header in JSON, then the bytes of the arrays.

The format is that of the library of this name (version 0.4 and later), which is not needed here. A file is
the length of the header in 8 bytes, little-endian, the header, and the data. The header gives for each
array its dtype, shape, and the places of its first byte and its end in the data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from math import prod
from typing import IO, Any

import numpy as np

from tlang.errors import TlangError
from tlang.run.datafile import Array, DataFile, Put, require_names

#: The dtypes of the format that are tlang's.
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F32": "float32",
    "F64": "float64",
}
_NAMES = {numpy: name for name, numpy in _DTYPES.items()}
_LONGEST_HEADER = 100_000_000  # as the library has it
_METADATA = "__metadata__"
_NOTE = "tlang"


def opened(file: DataFile, stream: IO[bytes]) -> tuple[list[str], Callable[[str], Array], str]:
    """The names of a file's arrays, what reads one of them, and the note of `put`, or ""."""

    def damaged(reason: str) -> TlangError:
        return file.error("D106", format="safetensors", reason=reason)

    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(8), "little")
    start = 8 + length
    if size < 8:
        raise damaged("it has no header")
    if length > _LONGEST_HEADER or start > size:
        raise damaged(f"its header claims {length} bytes")
    try:
        header = json.loads(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError
        metadata = header.pop(_METADATA, {})
        note = metadata.get(_NOTE, "")
        if not isinstance(note, str):
            raise ValueError
        entries = {name: _entry(header[name]) for name in header}
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise damaged("its header cannot be understood") from None

    def get(name: str) -> Array:
        dtype, shape, begin, end = entries[name]
        if dtype not in _DTYPES:
            hint = "convert it to F32" if dtype in ("F16", "BF16") else "convert it to a dtype of tlang"
            raise file.error("D108", hint, what=f"array `{name}`: elements of type {dtype:.20}")
        found = np.dtype(_DTYPES[dtype])
        if not 0 <= begin <= end <= size - start or end - begin != prod(shape) * found.itemsize:
            raise damaged(f"array `{name}`: its place does not fit its shape {shape}")
        stream.seek(start + begin)
        raw = stream.read(end - begin)
        if len(raw) < end - begin:
            raise damaged(f"array `{name}`: it ends after {len(raw)} of {end - begin} bytes")
        values = np.frombuffer(raw, "u1" if dtype == "BOOL" else found.newbyteorder("<"))
        array = values != 0 if dtype == "BOOL" else values.astype(found)
        return np.asarray(array.reshape(shape))

    return list(entries), get, note


def _entry(entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """What the header says of an array; raises where it is not what the format says."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = (*shape, begin, end)
    right = isinstance(dtype, str) and all(type(n) is int and 0 <= n < 2**63 for n in numbers)
    if not right or len(shape) > 32:
        raise ValueError
    return dtype, tuple(shape), begin, end


def put(file: DataFile, arrays: Sequence[tuple[str, Array]], note: str) -> Put:
    """What writes arrays, and a note in the metadata."""
    if not note:
        require_names(file, arrays)
    header: dict[str, Any] = {_METADATA: {_NOTE: note}} if note else {}
    place = 0
    # Wide elements first, so that each begins at a multiple of its size.
    ordered = sorted(arrays, key=lambda item: -item[1].dtype.itemsize)
    for name, values in ordered:
        dtype = _NAMES.get(values.dtype.newbyteorder("=").name)
        if dtype is None:
            raise file.error("D118", "save it in an .npz file", what=f"complex numbers (`{name}`)")
        if name == _METADATA:
            raise file.error("D118", "give it another name", what=f"an array named `{name}`")
        end = place + values.nbytes
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def write(stream: IO[bytes]) -> None:
        stream.write(len(text).to_bytes(8, "little"))
        stream.write(text)
        for _, values in ordered:
            stream.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())

    return write
