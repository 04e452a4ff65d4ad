"""The calls of functions and the values of expressions.

A call is a transaction: outputs and new values are computed first, then everything is stored; an error leaves
shared values and streams as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tlang.elaborate.plans import Evaluation
from tlang.elaborate.values import Text
from tlang.errors import Label, TlangError, labelled
from tlang.graph.node import Function, Node, Param
from tlang.interpret import Tape, constant
from tlang.run import rng
from tlang.run.backends import Backends
from tlang.run.store import Store
from tlang.run.streams import draw, state_words
from tlang.source import Span

Array = Any
Results = tuple[Array, ...]


class Evaluator:
    """Computes with what a program has, by whatever backend it says."""

    def __init__(self, store: Store, backends: Backends) -> None:
        self.program = store.program
        self.store = store
        self.backends = backends
        self._tapes: dict[int, tuple[object, list[Tape]]] = {}

    def forget_command(self) -> None:
        """Drops what was made for the expressions of one command."""
        self._tapes.clear()
        self.backends.forget_command()

    # ------------------------------------------------------------ functions

    def call(self, function: Function, args: Mapping[str, Array], apart: bool = False) -> Results:
        """One call as a transaction: everything is computed, then state and streams are stored.

        With `apart` what it gives and what it stores share no memory with each other or with what there is,
        for callers who may write to their arrays.
        """
        store, streams = self.store, self.store.streams
        tape = self.backends.tape(function)
        inputs = {
            p.node.attr("name"): args[p.name] if p.name in args else self.default(p) for p in function.params
        }
        if apart:
            inputs = {name: self.backends.given(value) for name, value in inputs.items()}
        after: dict[str, rng.State] = {}

        def leaf(node: Node) -> Array:
            if node.op.name == "tensor":
                return inputs[node.attr("name")]
            if node.op.name == "stream":
                return state_words(streams.state(node.attr("name")))
            return store.shared_value(node.attr("name"), node.span)

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            key = node.attr("state")
            numbers, after[key] = draw(streams.state(key), node, params, shape)
            return numbers

        results = self.backends.compute(function, tape, leaf, drawn)
        if apart:
            given = [v for v in (*inputs.values(), *store.shared.values()) if isinstance(v, np.ndarray)]
            results = _apart(results, [*given, *(v for _, v in tape.constants)])
        count = len(function.outputs)
        updates = dict(zip(function.updates, results[count : count + len(function.updates)], strict=True))
        store.check_sizes(updates, function)
        if function.has_effects:
            moved = {
                key: after[key] if key in after else rng.next_draw(streams.state(key))
                for key in function.advances
            }
            store.commit({**store.shared, **updates}, {**streams.states, **moved})
        return tuple(results[:count])

    def default(self, p: Param) -> Array:
        """The value of a parameter that a call leaves out."""
        assert p.default is not None
        if p.default.op.name == "const":
            return constant(p.default)
        return Tape([p.default]).run(_no_leaf, _no_draw)[0]

    # ------------------------------------------------------------ expressions

    def evaluate(self, e: Evaluation) -> list[Any]:
        """The items of an expression; its calls run in order, each a transaction."""
        tapes = self._tapes_of(e)
        store, streams, watch = self.store, self.store.streams, self.backends.watch
        versions = [store.shared]
        results: dict[str, Array] = {}
        memo: dict[str, tuple[Array, rng.State]] = {}
        before = {key: streams.state(key) for key in e.advances}

        def leaf(node: Node) -> Array:
            name = node.attr("name")
            if node.op.name == "shared":
                version = versions[node.attr("version")]
                return version[name] if name in version else store.shared_value(name, node.span)
            return results[name] if name in results else store.value(name, node.span)

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            variable, key = node.attr("variable"), node.attr("state")
            if variable not in memo:
                state = before[key] if key in before else streams.state(key)
                memo[variable] = draw(state, node, params, shape)
                if key in before:
                    streams.states[key] = memo[variable][1]
            return memo[variable][0]

        done = 0
        try:
            for step, tape in zip(e.steps, tapes, strict=False):
                values = tape.run(leaf, drawn, watch=watch)
                function = self.program.function(step.function)
                outputs = self._call_at(step.span, function, dict(zip(step.args, values, strict=True)))
                done += 1
                results.update(zip(step.results, outputs, strict=True))
                if function.has_effects:
                    versions.append(store.shared)
            final = iter(tapes[-1].run(leaf, drawn, watch=watch))
        except BaseException:  # an interrupt, too
            if not done:
                streams.states = {**streams.states, **before}
            raise
        return [
            next(final) if isinstance(i, int) else i.value if isinstance(i, Text) else store.state_of(i)
            for i in e.items
        ]

    def _tapes_of(self, e: Evaluation) -> list[Tape]:
        """What computes the arguments of each call of an expression, and then its items."""
        tapes = self._tapes.get(id(e))
        if tapes is None:
            early = [n for n in e.reads if not (n.op.name == "value" and n.attr("name").startswith("%"))]
            early = [n for n in early if n.op.name != "shared" or n.attr("version") == 0]
            made = [self.backends.plain([e.nodes[i] for i in step.args.values()], early) for step in e.steps]
            made.append(self.backends.plain([e.nodes[i] for i in e.items if isinstance(i, int)], e.reads))
            tapes = self._tapes[id(e)] = (e, made)
        return tapes[1]

    def _call_at(self, span: Span, function: Function, args: Mapping[str, Array]) -> Results:
        """A call whose errors show the place of the call as well."""
        try:
            return self.call(function, args)
        except TlangError as e:
            raise labelled(e, Label(span, "in this call")) from None

    def fixed(self, node: Node, e: Evaluation) -> Array:
        """The value of a part of an expression, where nothing that it reads changes for now."""

        def leaf(x: Node) -> Array:
            name = x.attr("name")
            return (self.store.shared_value if x.op.name == "shared" else self.store.value)(name, x.span)

        return np.asarray(self.backends.plain([node], e.reads).run(leaf, _no_draw)[0])


def _apart(results: Sequence[Array], given: Sequence[Array]) -> list[Array]:
    """The results; those that share memory with what is given, or with one before them, as copies."""
    taken = {id(part) for x in given for part in (x, x.base)}
    taken.discard(id(None))
    out = []
    for x in results:
        if isinstance(x, np.ndarray):
            owner = x if x.base is None else x.base
            if id(owner) in taken or not (isinstance(owner, np.ndarray) and owner.flags.owndata):
                x = np.array(x)
            taken.add(id(owner))
        out.append(x)
    return out


def _no_leaf(node: Node) -> Array:
    raise AssertionError(node)


def _no_draw(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
    raise AssertionError(node)
