"""What a running program has: shared values, values made by `set`, and random streams.

Arrays are never changed in place, so a copy of a dictionary is a snapshot.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlang.elaborate import plans
from tlang.elaborate.program import Program
from tlang.elaborate.scope import RandomDef, RecordType, SharedDef, StreamDef, ValueDef
from tlang.elaborate.values import StateRef
from tlang.errors import error
from tlang.graph.node import Function, Graph
from tlang.interpret import bind_sizes, on_host
from tlang.run import rng
from tlang.run.streams import Streams
from tlang.source import Span
from tlang.types import FROM_NUMPY, Dim, Tensor

Array = Any


@dataclass(frozen=True)
class Snapshot:
    """The definitions of the main file, and all shared values, states and seeds of streams."""

    definitions: tuple[dict[str, Any], ...]
    shared: Mapping[str, Array]
    states: Mapping[str, rng.State]
    seeds: Mapping[str, int]


class Store:
    """The shared values, the values and the streams of one program, by their keys and names."""

    def __init__(self, program: Program, seed: int) -> None:
        self.program = program
        self.unit = program.main
        self.shared: dict[str, Array] = {}
        self.values: dict[str, Any] = {}
        self.streams = Streams(program, seed)

    # ------------------------------------------------------------ reading

    def shared_value(self, key: str, span: Span | None) -> Array:
        """A shared value; before its line has run it has none."""
        try:
            return self.shared[key]
        except KeyError:
            raise error("R150", span, name=key) from None

    def value(self, name: str, span: Span | None) -> Any:
        """A value made by `set`, an array or a state; before its line has run it has none."""
        try:
            return self.values[name]
        except KeyError:
            raise error("R151", span, name=name) from None

    def value_of(self, name: str) -> Any:
        """What a name made by `set` is: an array, a state, or a named tuple of a record's fields."""
        kind = self.unit.values[name].type
        if isinstance(kind, RecordType):
            items = [self.values[f"{name}.{f}"] for f in kind.fields]
            return namedtuple(name, kind.fields, rename=True)(*items)
        return self.values[name]

    def state_of(self, ref: StateRef) -> Any:
        """The state, or the seed, that an expression names."""
        found = ref.definition
        if isinstance(found, ValueDef):
            return self.values[found.name]
        assert isinstance(found, RandomDef | StreamDef)
        if ref.what == "seed":
            seed = self.streams.seed_of(found)
            return np.int64(seed) if seed < 2**63 else np.uint64(seed)
        return self.streams.state(found.key)

    def numbers(self, names: Iterable[str], keys: Iterable[str]) -> dict[str, Any]:
        """The values and the shared values, of those that are asked for, that are single numbers by now."""
        found = {n: self.values[n] for n in names if n in self.values}
        found |= {k: self.shared[k] for k in keys if k in self.shared}
        small = {n: on_host(v) for n, v in found.items() if np.ndim(v) == 0}
        return {n: v for n, v in small.items() if isinstance(v, np.generic | float | int)}

    # ------------------------------------------------------------ storing

    def commit(self, shared: dict[str, Array], states: dict[str, rng.State]) -> None:
        """Stores shared values and states together.

        An interrupt comes before or after both: Python looks for signals at calls and at jumps backward, of
        which there is none between two stores of one statement.
        """
        self.shared, self.streams.states = shared, states

    def store(self, target: plans.Target, item: Any) -> None:
        """Gives what `set` names a value that fits it."""
        if target.kind == "value":
            self.store_value(target.name, item, target.type, target.span)
        elif target.kind == "shared":
            assert target.shared is not None
            self.shared = {**self.shared, target.shared.key: item}
        elif target.kind == "state":
            assert target.state is not None
            found = target.state.definition
            assert isinstance(found, RandomDef | StreamDef)
            if target.state.what == "seed":
                self.streams.reseed(found, int(item), target.span)
            else:
                self.streams.assign(found.key, item, target.span)

    def store_shared(self, found: SharedDef, value: Array) -> None:
        """Stores a shared value whose dtype and rank fit; its sizes are checked."""
        check_declared((found.type, value, found.name, found.span))
        self.shared = {**self.shared, found.key: value}

    def store_record(self, target: plans.Target, fields: tuple[str, ...], items: Sequence[Any]) -> None:
        """Stores the fields of a record that `set` names."""
        for field, item in zip(fields, items, strict=True):
            self.values[f"{target.name}.{field}"] = item
        self.values.pop(target.name, None)
        kinds = tuple(type_of(v) for v in items)
        self.unit.values[target.name] = ValueDef(target.name, target.span, RecordType(fields, kinds))

    def store_value(self, name: str, item: Any, declared: Tensor | None, span: Span | None) -> None:
        """Stores a value made by `set`; without a declared type its actual sizes are its dimensions."""
        kind: Tensor | str = "state"
        if not isinstance(item, rng.PhiloxState | rng.Mt19937State):
            kind = declared if declared is not None else type_of(item)
        self.values[name] = item
        before = self.unit.values.get(name)
        self.unit.values[name] = ValueDef(name, before.span if before is not None else span, kind)

    def forget_types(self) -> None:
        """After a command: what was planned and then not stored has no type."""
        for name in [n for n in self.unit.values if n not in self.values and not self._is_record(n)]:
            del self.unit.values[name]

    def _is_record(self, name: str) -> bool:
        kind = self.unit.values[name].type
        return isinstance(kind, RecordType) and all(f"{name}.{f}" in self.values for f in kind.fields)

    def check_sizes(self, updates: Mapping[str, Array], function: Function) -> None:
        """Constant sizes of a state stay; only what the run decided can still differ."""
        for key, value in updates.items():
            found = self._shared_def(key)
            kind = found.type
            assert kind is not None
            for axis, (d, size) in enumerate(zip(kind.shape, np.shape(value), strict=True)):
                if d.is_const and d.const != size:
                    raise error(
                        "R131", function.updates[key].span, name=key, axis=axis, found=size, wanted=d.const
                    )

    def _shared_def(self, key: str) -> SharedDef:
        for unit in self.program.all_units():
            if key.startswith(unit.prefix):
                found = unit.scope.names.get(key[len(unit.prefix) :])
                if isinstance(found, SharedDef):
                    return found
        raise AssertionError(key)

    # ------------------------------------------------------------ new definitions

    def snapshot(self) -> Snapshot:
        """What `restore` needs to make the main file's definitions and their state what they are now."""
        streams = self.streams
        return Snapshot(self.unit.snapshot(), self.shared, dict(streams.states), dict(streams.seeds))

    def restore(self, before: Snapshot) -> None:
        """Undoes definitions since a snapshot; those that come back have their state again."""
        now, old = dict(self.unit.scope.names), before.definitions[0]
        self.unit.restore(before.definitions)
        changed = {d.key for name, d in now.items() if old.get(name) is not d and hasattr(d, "key")}
        self.shared = _kept(self.shared, before.shared, changed)
        self.streams.states = _kept(self.streams.states, before.states, changed)
        self.streams.seeds = _kept(self.streams.seeds, before.seeds, changed)

    def start_anew(self, before: Mapping[str, Any]) -> None:
        """Forgets the streams of names that have another definition than before."""
        names = self.unit.scope.names
        fresh = [d for name, d in names.items() if before.get(name) is not d]
        keys = {d.key for d in fresh if isinstance(d, RandomDef | SharedDef)}
        streams = [d for d in fresh if isinstance(d, StreamDef)]
        for s in streams:
            self.streams.seeds.pop(s.key, None)
        if streams:
            keys |= {
                d.key
                for d in names.values()
                if isinstance(d, RandomDef) and self.program.stream_of(d) in streams
            }
        for key in keys:
            self.streams.states.pop(key, None)


def check_declared(*stored: tuple[Tensor | None, Array, str, Span]) -> None:
    """Sizes of what is stored together: a dimension that several types name is one size."""
    bind_sizes(
        [
            (name, Graph().leaf("value", kind, span, name=name), np.shape(value))
            for kind, value, name, span in stored
            if kind is not None and kind.shape
        ],
        {},
    )


def type_of(value: Array) -> Tensor:
    """The type of an array: its actual sizes are its dimensions."""
    return Tensor(FROM_NUMPY[_dtype(value).name], tuple(map(Dim, np.shape(value))))


def _dtype(value: Array) -> Any:
    return value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype


def _kept(now: dict[str, Any], before: Mapping[str, Any], changed: set[str]) -> dict[str, Any]:
    """What there is now, with what there was before for the keys that changed."""
    rest = {k: v for k, v in now.items() if k not in changed}
    return rest | {k: before[k] for k in changed if k in before}
