"""The memory of a loop: arrays that stay where they are, and cells with the addresses of the current ones.

Whatever operations work with is a result, which has a name: that of a variable (`value:x`, `shared:w`), or
one that begins with `%`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlang.run.build import address, aligned
from tlang.run.host import array_at
from tlang.run.store import Store
from tlang.run.streams import state_words

Array = Any
#: A variable of the loop: "shared", "value" or "stream", and its name.
Name = tuple[str, str]


class Foreign(Exception):
    """A loop that only Python can run, with the reason."""


@dataclass(slots=True)
class Variable:
    """An array of the loop: its cell has the address of the current one; a state has a second array."""

    cell: int
    arrays: list[Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, the same in all iterations."""
        return tuple(self.arrays[0].shape)


class Memory:
    """The variables of a loop and the results of its operations.

    `changing` are the variables that may change from one iteration to the next. `moving` has, for names of
    batches, the whole array, where the first batch begins and by how many rows it moves in each iteration.
    """

    def __init__(
        self, store: Store, changing: set[Name], moving: Mapping[str, tuple[Array, int, int]]
    ) -> None:
        self.store = store
        self.changing = changing
        self.moving = dict(moving)
        self.variables: dict[Name, Variable] = {}
        self.results: dict[str, tuple[int, Array]] = {}
        self._cells = np.zeros(1024, np.int64)
        self._kept: list[object] = []

    # ------------------------------------------------------------ making

    def new_cell(self, array: Array) -> int:
        """The address of a new cell with the address of an array."""
        at = len(self._kept)
        if at >= len(self._cells):
            raise Foreign("too many variables")
        self._kept.append(array)
        self._cells[at] = address(array)
        return address(self._cells) + 8 * at

    def variable(self, name: Name) -> Variable:
        """A variable with its current array, which is copied where it will change or is not aligned."""
        if name not in self.variables:
            kind, key = name
            array = self._first(kind, key)
            if not isinstance(array, np.ndarray | np.generic):
                raise Foreign(f"`{key}` is not an array")
            array = np.asarray(array)
            own = kind != "value" or name in self.changing or not array.ndim
            if key not in self.moving and (own or not array.flags.c_contiguous or address(array) % 64):
                held = aligned(array.shape, array.dtype)
                held[...] = array
                array = held
            self.variables[name] = Variable(self.new_cell(array), [array])
        return self.variables[name]

    def _first(self, kind: str, key: str) -> Array:
        """What a variable is when the loop begins."""
        if key in self.moving and kind == "value":
            base, start, step = self.moving[key]
            return base[start : start + step]
        if kind == "shared":
            return self.store.shared_value(key, None)
        if kind == "stream":
            return state_words(self.store.streams.state(key))
        if key in self.store.values:
            return self.store.values[key]
        raise Foreign(f"`{key}` has no value yet")

    def batches(self, name: str, whole: Array, size: int) -> Variable:
        """The variable for batches, of some rows each, of an array that does not change."""
        if name in self.moving or ("value", name) in self.variables:
            raise Foreign(f"`{name}` has several meanings")
        self.moving[name] = (whole, 0, 0)
        self.variables["value", name] = Variable(self.new_cell(whole), [whole[:size]])
        return self.variables["value", name]

    def leaf(self, name: Name) -> str:
        """The result that a variable is."""
        variable = self.variable(name)
        key = f"{name[0]}:{name[1]}"
        self.results[key] = (variable.cell, variable.arrays[0])
        return key

    def hold(self, array: Array) -> str:
        """A result that does not change."""
        array = np.ascontiguousarray(array).reshape(np.shape(array))
        key = f"%held{len(self._kept)}"
        self.results[key] = (self.new_cell(array), array)
        return key

    def made(self, place: int, array: Array) -> str:
        """A result of an operation, whose address is at a place, in an array like this one."""
        name = f"%{len(self.results)}"
        self.results[name] = (place, array)
        return name

    # ------------------------------------------------------------ reading

    def result(self, source: str) -> Array:
        """What a result is now, as an array of its own."""
        return np.array(array_at(*self.results[source]))[()]

    def current(self, name: Name) -> Array:
        """What a variable is now, as an array of its own."""
        variable = self.variables[name]
        return np.array(array_at(variable.cell, variable.arrays[0]))[()]

    def words(self, key: str) -> list[int]:
        """The state of a stream now: key and counter."""
        found: list[int] = self.variables["stream", key].arrays[0].view(np.uint64).tolist()
        return found
