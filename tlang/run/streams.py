"""The random streams of a running program: where each variable is in its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tlang.elaborate.program import AT, Program
from tlang.elaborate.scope import RandomDef, StreamDef
from tlang.elaborate.streams import stream_seed
from tlang.errors import error
from tlang.graph.node import Node
from tlang.run import distributions, rng
from tlang.source import Span

Array = Any


class Streams:
    """The generator state of every random variable, made from its stream's seed when first used."""

    def __init__(self, program: Program, seed: int) -> None:
        self.program = program
        self.default_seed = seed
        self.seeds: dict[str, int] = {}
        self.states: dict[str, rng.State] = {}

    def state(self, key: str) -> rng.State:
        """The state of a variable by its key."""
        if key not in self.states:
            self.states[key] = self._fresh(key)
        return self.states[key]

    def _fresh(self, key: str) -> rng.State:
        found, stream = self.program.random_def(key), self.program.stream_of_state(key)
        if found is None:
            return rng.philox_state(self.default_seed, self._hash_name(key))
        if stream is None:
            return rng.philox_state(self.default_seed, found.hash_name)
        generator, seed = stream_seed(stream)
        seed = self.seeds.get(stream.key, seed)
        if generator == "philox":
            return rng.philox_state(seed, found.hash_name)
        # A variable that comes by a swap is numbered after the stream's own.
        names = [d.key for d in self.program.variables_of(stream)]
        if AT in key:
            own = self.program.stream_of(found)
            others = self.program.variables_of(own) if own is not None else [found]
            names += [self.program.state_in(d.key, stream) for d in others]
        self._mt19937(seed, stream.span)  # a seed out of range is an error of the stream
        return self._mt19937(rng.mt19937_seeds(seed, len(names))[names.index(key)], found.span)

    def _hash_name(self, key: str) -> str:
        for unit in self.program.all_units():
            if unit.prefix and key.startswith(unit.prefix):
                return f"{unit.source.stem}.{key[len(unit.prefix) :]}"
        return f"{self.program.main.source.stem}.{key}"

    def _mt19937(self, seed: int, span: Span | None) -> rng.State:
        try:
            return rng.mt19937_state(seed)
        except rng.InvalidParameter as e:
            raise error(
                "R140", span, name=e.distribution, parameter=e.name, value=e.value, wanted=e.expected
            ) from None

    def reseed(self, found: RandomDef | StreamDef, seed: int, span: Span | None) -> None:
        """Restarts one variable at (seed, name), or all variables of a stream."""
        if isinstance(found, StreamDef):
            generator, _ = stream_seed(found)
            if generator == "mt19937":
                self._mt19937(seed, span)
            states = {
                key: s for key, s in self.states.items() if self.program.stream_of_state(key) is not found
            }
            self.seeds, self.states = {**self.seeds, found.key: seed}, states
            return
        stream = self.program.stream_of(found)
        if stream is not None and stream_seed(stream)[0] == "mt19937":
            self.states[found.key] = self._mt19937(seed, span)
        else:
            self.states[found.key] = rng.philox_state(seed, found.hash_name)

    def restored(
        self, states: Mapping[str, rng.State], seeds: Mapping[str, int], default_seed: int
    ) -> Streams:
        """The streams of the same program in other states."""
        new = Streams(self.program, default_seed)
        new.states, new.seeds = dict(states), dict(seeds)
        return new

    def seed_of(self, found: RandomDef | StreamDef) -> int:
        """The seed that a stream was last given."""
        stream = self.program.stream_of(found) if isinstance(found, RandomDef) else found
        if stream is None:
            return self.default_seed
        return self.seeds.get(stream.key, stream_seed(stream)[1])

    def require(self, key: str, state: rng.State, span: Span | None) -> None:
        """Raises unless a state is of the generator of a variable."""
        have = self.state(key).generator
        if state.generator != have:
            raise error("R141", span, name=key, wanted=have, found=state.generator)

    def assign(self, key: str, state: rng.State, span: Span | None) -> None:
        """Stores a state, which must be of the same generator."""
        self.require(key, state, span)
        self.states[key] = state


def draw(
    state: rng.State, node: Node, params: Sequence[Array], shape: tuple[int, ...]
) -> tuple[Array, rng.State]:
    """The numbers of a draw node and the state after them; a parameter out of range is an error."""
    import numpy as np

    try:
        numbers, after = distributions.draw(
            state,
            node.attr("distribution"),
            [np.asarray(p) for p in params],
            shape,
            np.dtype(node.dtype.numpy_name),
        )
    except rng.InvalidParameter as e:
        raise error(
            "R140", node.span, name=e.distribution, parameter=e.name, value=e.value, wanted=e.expected
        ) from None
    return numbers if shape else numbers[()], after


def state_words(state: rng.State) -> Array:
    """A Philox state for kernels: key and counter, as int64[2]."""
    assert isinstance(state, rng.PhiloxState)
    import numpy as np

    return np.array([state.key, state.counter], np.uint64).view(np.int64)
