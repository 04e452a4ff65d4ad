"""How values are printed: NumPy's repr without `array( )`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tlang.run import rng


def format_value(items: Sequence[Any], fields: Sequence[str] | None) -> str:
    """One value, or a record as `(name = value, ...)`."""
    if fields is None:
        return format_one(items[0])
    pairs = []
    for name, item in zip(fields, items, strict=True):
        text = format_one(item)
        pairs.append(f"{name} =\n{text}" if "\n" in text else f"{name} = {text}")
    return "(" + (",\n " if any("\n" in p for p in pairs) else ", ").join(pairs) + ")"


def format_one(value: Any) -> str:
    """One value: 8 digits, shortened over 1000 elements; scalars as Python prints them."""
    if isinstance(value, rng.PhiloxState):
        return f"<philox state, key {value.key:016x}, counter {value.counter}>"
    if isinstance(value, rng.Mt19937State):
        return f"<mt19937 state, position {value.position}>"
    array = np.asarray(value)
    if array.ndim == 0:
        return str(array[()])
    if array.size == 0:
        return "[]" if array.ndim == 1 else f"[] of shape ({', '.join(map(str, array.shape))})"
    return np.array2string(array, separator=", ", threshold=1000)
