"""The state of a whole program as arrays and a note, and back: what `save("model.npz")` writes.

Arrays are the shared values under their names, and the state of each random variable u, and of each name that
draws by `~`, as `~u`. The note is JSON: the types of the shared values, the generators, and the seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlang.elaborate.program import AT
from tlang.elaborate.scope import RandomDef, SharedDef
from tlang.errors import TlangError, error
from tlang.graph.node import Graph, Node
from tlang.interpret import bind_sizes
from tlang.run.rng import Mt19937State, PhiloxState, State
from tlang.run.store import Store, type_of
from tlang.source import Span

Array = Any
FORMAT = 1
_PHILOX, _MT19937 = (int.from_bytes(name, "little") for name in (b"philox", b"mt19937"))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a program: shared values, generator states and seeds by their keys."""

    shared: Mapping[str, Array]
    states: Mapping[str, State]
    seeds: Mapping[str, int]
    default_seed: int


class Unfit(Exception):
    """A file that is no checkpoint of this program, with the reason."""


# ---------------------------------------------------------------- states as arrays


def state_to_array(state: State) -> Array:
    """A state as u64 words, which begin with the generator's name in ASCII.

    philox: key and counter. mt19937: the position, whether there is a second normal, its bits, and then the
    624 words of 32 bits in pairs, the first in the lower half.
    """
    if isinstance(state, PhiloxState):
        return np.array([_PHILOX, state.key, state.counter], np.uint64)
    gauss = int(np.float64(state.cached_gaussian).view(np.uint64))
    head = np.array([_MT19937, state.position, state.has_gauss, gauss], np.uint64)
    return np.concatenate([head, np.frombuffer(state.words, "<u8").astype(np.uint64)])


def state_from_array(array: Array) -> State | None:
    """The state that `state_to_array` made an array of; None for any other array."""
    if array.dtype != np.uint64 or array.ndim != 1 or not len(array):
        return None
    if array[0] == _PHILOX and len(array) == 3:
        return PhiloxState(int(array[1]), int(array[2]))
    if array[0] == _MT19937 and len(array) == 316 and array[1] <= 624 and array[2] <= 1:
        gauss = float(array[3:4].view(np.float64)[0])
        return Mt19937State(array[4:].astype("<u8").tobytes(), int(array[1]), int(array[2]), gauss)
    return None


# ---------------------------------------------------------------- writing


def save(store: Store, path: str, span: Span | None = None, shown: str | None = None) -> None:
    """Writes all shared values and the states of all streams to a file."""
    from tlang.run import data

    arrays, note = to_arrays(checkpoint(store, span))
    data.write(path, arrays, span, shown=shown, note=note)


def checkpoint(store: Store, span: Span | None) -> Checkpoint:
    """The state of a program now. A shared value without a value is an error (R150)."""
    shared = {d.key: store.shared_value(d.key, span) for d in definitions(store, SharedDef)}
    streams = store.streams
    states = dict(streams.states)
    states |= {d.key: streams.state(d.key) for d in definitions(store, RandomDef)}
    return Checkpoint(shared, states, dict(streams.seeds), streams.default_seed)


def definitions(store: Store, kind: type[Any]) -> Iterator[Any]:
    """The definitions of a kind, of all files of a program."""
    for unit in store.program.all_units():
        yield from (d for d in unit.scope.names.values() if isinstance(d, kind))


def to_arrays(found: Checkpoint) -> tuple[list[tuple[str, Array]], str]:
    """The arrays and the note of a file."""
    arrays = [(key, np.asarray(value)) for key, value in found.shared.items()]
    arrays += [(f"~{key}", state_to_array(state)) for key, state in found.states.items()]
    note = {
        "tlang": FORMAT,
        "shared": {key: str(type_of(value)) for key, value in found.shared.items()},
        "streams": {key: state.generator for key, state in found.states.items()},
        "seeds": dict(found.seeds),
        "seed": found.default_seed,
    }
    return arrays, json.dumps(note, indent=1)


# ---------------------------------------------------------------- reading


def load(store: Store, path: str, span: Span | None = None, shown: str | None = None) -> None:
    """Gives the program the state that a file holds, if it is one of this program; all at once."""
    from tlang.run import data

    arrays, note = data.read_all(path, span, shown=shown)
    if not note:
        raise error("D120", span, path=shown or path, what="it holds arrays alone")
    try:
        found = from_arrays(arrays, note)
        require_fit(store, found)
    except Unfit as e:
        raise error("D120", span, path=shown or path, what=str(e)) from None
    streams = store.streams.restored(found.states, found.seeds, found.default_seed)
    store.shared, store.streams = {**store.shared, **found.shared}, streams


def from_arrays(arrays: Mapping[str, Array], note: str) -> Checkpoint:
    """What a file holds. Raises `Unfit` where it is not what `to_arrays` gives."""
    try:
        facts = json.loads(note)
        version, types, generators = facts["tlang"], facts["shared"], facts["streams"]
        seeds, default = facts["seeds"], facts["seed"]
        if version != FORMAT:
            raise Unfit(f"it is of format {version}, this tlang knows {FORMAT}")
        shared = {key: arrays[key] for key in types}
        states = {key: state_from_array(arrays[f"~{key}"]) for key in generators}
        right = all(type(s) is int and -(2**63) <= s < 2**64 for s in (*seeds.values(), default))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        right, shared, states, seeds, default = False, {}, {}, {}, 0
    whole = {key: state for key, state in states.items() if state is not None}
    if not right or len(whole) < len(states):
        raise Unfit("its note does not fit its arrays")
    return Checkpoint({key: v[()] for key, v in shared.items()}, whole, seeds, default)


def require_fit(store: Store, found: Checkpoint) -> None:
    """Raises `Unfit` unless names, types and generators are those of the program.

    Sizes are checked together: a dimension that several shared values name is one size.
    """
    shared = {d.key: d for d in definitions(store, SharedDef)}
    random = {d.key: d for d in definitions(store, RandomDef)}
    _require_names("shared value", shared, found.shared)
    named = store.program.random_def
    drawn = {key for key in found.states if key not in random and (AT in key or named(key) is None)}
    _require_names("random variable", random, {k: s for k, s in found.states.items() if k not in drawn})
    for key in random:
        here, there = store.streams.state(key).generator, found.states[key].generator
        if here != there:
            raise Unfit(f"`{key}` draws from {here} here, from {there} there")
    leaves: list[tuple[str, Node, tuple[int, ...]]] = []
    for key, d in shared.items():
        have = type_of(found.shared[key])
        kind = store.program.shared_type(d, d.span)
        sizes = zip(kind.shape, have.shape, strict=False)
        fits = have.dtype is kind.dtype and have.rank == kind.rank
        if not fits or any(want.is_const and want != size for want, size in sizes):
            raise Unfit(f"`{key}` is {kind.declared()} here, {have} there")
        if kind.shape:
            leaf = Graph().leaf("shared", kind, d.span, name=key)
            leaves.append((key, leaf, np.shape(found.shared[key])))
    try:
        bind_sizes(leaves, {})
    except TlangError as e:
        first = e.diagnostics[0]
        raise Unfit("; ".join([first.message, *first.notes])) from None


def _require_names(what: str, here: Mapping[str, object], there: Mapping[str, object]) -> None:
    for key in there:
        if key not in here:
            raise Unfit(f"this program has no {what} `{key}`")
    for key in here:
        if key not in there:
            raise Unfit(f"it has no {what} `{key}`")
