"""Calls of functions and other graphs as operations of a loop: of compiled code, and of Python between."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tlang.emit import driver
from tlang.graph.node import Function, Node
from tlang.interpret import Sizes, Tape, bind_sizes, leaf_name
from tlang.plan.views import one_step
from tlang.run.build import CompiledTape, Frame, Item, Segment, Unfit, address, aligned
from tlang.run.evaluation import Evaluator
from tlang.run.host import array_at
from tlang.run.native.code import Code
from tlang.run.native.memory import Foreign, Memory
from tlang.run.rng import PhiloxState
from tlang.run.streams import draw

Array = Any


class Calls:
    """Writes calls, for arrays of certain sizes; results go by their names.

    `updated` and `streams` are the shared values and the streams that calls change, and `risks` counts the
    calls that may fail and then leave their results half made.
    """

    def __init__(self, evaluator: Evaluator, memory: Memory, code: Code, threads: int) -> None:
        self.evaluator = evaluator
        self.memory = memory
        self.code = code
        self.threads = threads
        self.updated: set[str] = set()
        self.streams: set[str] = set()
        self.risks = 0
        self._overwritten: set[str] = set()
        self._frames: list[Frame] = []

    def call(self, function: Function, given: Mapping[str, str], wanted: bool) -> list[str]:
        """A call of a function, and the exchange of what it updates."""
        tape = self.evaluator.backends.compiled(function)
        arguments = {}
        for p in function.params:
            source = given.get(p.name)
            arguments[p.node.attr("name")] = (
                self.memory.hold(np.asarray(self.evaluator.default(p))) if source is None else source
            )

        def found(leaf: Node) -> str:
            if leaf.op.name == "tensor":
                return arguments[leaf.attr("name")]
            return self.memory.leaf((leaf.op.name, leaf.attr("name")))

        count = len(function.outputs)
        leaves = {leaf.attr("name"): leaf for _, leaf in tape.leaves if leaf.op.name == "shared"}
        replaced = tape.replaced(
            (leaves[key], count + k) for k, key in enumerate(function.updates) if key in leaves
        )
        results = self.compute(tape, found, wanted, replaced)
        new = set(results[count : count + len(function.updates)])
        results[:count] = [self._snapshot(r) if r in new else r for r in results[:count]]
        for state in function.advances:
            self.code.emit(driver.ADD, address(self.memory.variable(("stream", state)).arrays[0]) + 8, 1)
            self.streams.add(state)
        for at, source in enumerate(results[:count]):
            if source.startswith("shared:") and source.removeprefix("shared:") in function.updates:
                results[at] = self._snapshot(source)
        seen = set(results[:count])
        for key, source in zip(function.updates, results[count:], strict=False):  # then come draws alone
            if source not in self._overwritten:
                self._exchange(key, source, seen)
            self.updated.add(key)
        return results[:count]

    def _exchange(self, key: str, source: str, seen: set[str]) -> None:
        """A shared value gets a result that nothing else uses; those `seen` are used."""
        place, array = self.memory.results[source]
        variable = self.memory.variable(("shared", key))
        if source.partition(":")[0] in ("shared", "value") or source.startswith("%held") or source in seen:
            raise Foreign(f"the new value of `{key}` is used twice")
        seen.add(source)
        if variable.shape != array.shape or variable.arrays[0].dtype != array.dtype:
            raise Foreign(f"`{key}` changes its shape")
        variable.arrays.append(array)
        self.code.emit(driver.SWAP, variable.cell, place)

    def _snapshot(self, source: str) -> str:
        """A copy of what a result is at this point of an iteration."""
        place, array = self.memory.results[source]
        held = self.memory.hold(np.empty_like(array))
        self.code.emit(driver.COPY, self.memory.results[held][0], place, array.nbytes)
        return held

    def compute(
        self,
        tape: Tape,
        found: Callable[[Node], str],
        wanted: bool,
        replaced: Mapping[Node, Node] | None = None,
    ) -> list[str]:
        """The calls of a tape: of code, and of Python between. Returns the names of its roots.

        `replaced` are outputs that overwrite inputs.
        """
        if not isinstance(tape, CompiledTape) or tape.failed:
            raise Foreign("it is not compiled")
        sizes: Sizes = {}
        bound = []
        nodes = dict(tape.leaves)
        for node in [*nodes.values(), *tape.others]:
            if node.type.shape:
                _, array = self.memory.results[found(node)]
                bound.append((leaf_name(node), node, array.shape))
        bind_sizes(bound, sizes)
        constants = dict(tape.constants)
        names: dict[int, str] = {}
        parts: dict[int, list[str]] = {}
        results: dict[int, list[Any]] = {}

        def source(slot: int) -> str:
            if slot not in names:
                held = slot not in nodes
                names[slot] = self.memory.hold(np.asarray(constants[slot])) if held else found(nodes[slot])
            return names[slot]

        for call, inputs, made, _, node in tape.steps:
            if isinstance(call, Segment):
                parts[made] = self._segment(call, sizes, [source(x) for x in inputs], wanted, replaced or {})
            elif isinstance(call, Item):
                names[made] = parts[inputs[0]][call.number]
            elif node.op.name == "scan":
                results[made] = self._recurrence(call, [source(x) for x in inputs], sizes)
            elif node.op.name == "item":
                names[made] = self._numpy(
                    partial(_taken, results[inputs[0]], node.attr("at")), node, [], sizes
                )
            else:
                names[made] = self._numpy(call, node, [source(x) for x in inputs], sizes)
        return [source(root) for root in tape.roots]

    def _segment(
        self,
        segment: Segment,
        sizes: Sizes,
        sources: Sequence[str],
        wanted: bool,
        replaced: Mapping[Node, Node],
    ) -> list[str]:
        """A call of code: its operands' addresses are loaded into its table. Names of what it gives."""
        try:
            key = tuple([sizes[s] for s in segment.code.symbols])
            frame: Frame = segment.frame(key, self.threads)
        except (Unfit, KeyError):
            raise Foreign("its sizes do not fit") from None
        self._frames.append(frame)
        results = self.memory.results
        for node, source in zip(segment.inputs, sources, strict=True):
            self.code.emit(driver.LOAD, frame.address + 8 * segment.slot[node], results[source][0])
        given = dict(zip(segment.inputs, sources, strict=True))
        for node, leaf in replaced.items():
            self.code.emit(driver.LOAD, frame.address + 8 * segment.slot[node], results[given[leaf]][0])
        if segment.fails:  # what it gives is of no use then
            self.code.can_fail = True
            self.risks += 1
        self.code.call(segment.entry, frame.address, wanted)
        made = []
        for node, (slot, shape, dtype) in zip(segment.outputs, frame.outputs, strict=True):
            if node in replaced:
                array = results[given[replaced[node]]][1]
            else:
                array = aligned(shape, dtype)
                frame.table[slot] = address(array)
            made.append(self.memory.made(frame.address + 8 * slot, array))
            if node in replaced:
                self._overwritten.add(made[-1])
        return made

    def _recurrence(self, call: Any, sources: Sequence[str], sizes: Sizes) -> list[Any]:
        """A call of Python that makes all steps of a recurrence; the list gets what it gives."""
        inputs, found = [self.memory.results[s] for s in sources], list[Any]()

        def job() -> None:
            found[:] = call(dict(sizes), None, *[array_at(*x)[()] for x in inputs])

        self.code.can_fail = True
        self.code.hosted(job)
        return found

    def _numpy(self, call: Any, node: Node, sources: Sequence[str], sizes: Sizes) -> str:
        """An operation that NumPy does."""
        memory = self.memory
        if node.op.name == "draw" and not isinstance(
            memory.store.streams.state(node.attr("state")), PhiloxState
        ):
            raise Foreign("another generator than Philox draws")
        try:
            shape = tuple(d.evaluate(sizes) for d in node.shape)
        except KeyError:
            raise Foreign("only the run knows the size of a result") from None
        array, watch = aligned(shape, np.dtype(node.dtype.numpy_name)), self.evaluator.backends.watch
        inputs = [memory.results[s] for s in sources]
        if node.op.view and inputs[0][1].nbytes == array.nbytes and _keeps_order(node):
            name = memory.hold(array)
            self.code.emit(driver.COPY, memory.results[name][0], inputs[0][0], array.nbytes)
            return name

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            return draw(PhiloxState(*memory.words(node.attr("state"))), node, params, shape)[0]

        def job() -> None:
            operands = [array_at(*x)[()] for x in inputs]
            operation = partial(call, dict(sizes), drawn, *operands)
            with np.errstate(all="ignore"):
                result = operation() if watch is None else watch(node, operation, operands)
            if np.shape(result) != shape:
                raise ValueError(node.op.name)
            array[...] = result

        if node.op.name == "draw":
            memory.variable(("stream", node.attr("state")))
        self.code.can_fail = True
        self.code.hosted(job)
        return memory.made(memory.new_cell(array), array)


def _taken(found: Sequence[Any], at: int, sizes: Sizes, draw: object) -> Any:
    """One of the results of a recurrence."""
    return found[at]


def _keeps_order(view: Node) -> bool:
    """Whether a view has all elements of its input in the same order."""
    found = one_step(view)
    if found is None or not found.whole:
        return False
    axes = [a for a in found.axes if a is not None]
    return axes == sorted(axes)
