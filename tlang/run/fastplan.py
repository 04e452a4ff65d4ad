"""What a quick call does, as data: which arguments and shared values go where, and what comes back."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tlang.graph.node import Function, Node
from tlang.interpret import Sizes, Tape, bind_sizes, constant, leaf_name
from tlang.run.build import CompiledTape, Segment, Unfit, address
from tlang.run.store import Store

Array = Any
#: The work of a call, in elements times their cost, above which other threads of Python may run meanwhile.
LONG = 1 << 16


@dataclass(frozen=True, slots=True)
class ScalarArgument:
    """An argument that is a number, and the cell of the code that it is for."""

    at: int
    dtype: Any
    cell: Array | None


@dataclass(frozen=True, slots=True)
class TensorArgument:
    """An argument that is an array, and its slot in the table of the code."""

    at: int
    dtype: Any
    shape: tuple[int, ...]
    slot: int | None


@dataclass(frozen=True, slots=True)
class State:
    """A shared value that the code reads: by its slot, or by a cell; `shape` of what it must be."""

    name: str
    dtype: Any
    shape: tuple[int, ...]
    slot: int | None
    cell: Array | None


@dataclass(frozen=True, slots=True)
class Result:
    """A result: an old shared value (`state`), a scalar in a cell, or an array for a slot.

    The memory of the shared value `replaced` serves for the array if nobody else has it.
    """

    state: str | None = None
    cell: Array | None = None
    slot: int = 0
    shape: tuple[int, ...] = ()
    dtype: Any = None
    replaced: str | None = None


@dataclass(frozen=True, slots=True)
class CallPlan:
    """What a call does. The first `outputs` results are for the caller, the others for `updates`."""

    store: Store
    frame: Any
    entry: Any
    count: int
    scalars: list[ScalarArgument]
    tensors: list[TensorArgument]
    state: list[State]
    results: list[Result]
    outputs: int
    updates: tuple[str, ...]
    record: Any
    long: bool
    held: list[Any]


def plan_call(store: Store, tape: Tape, function: Function, values: Mapping[str, Array]) -> CallPlan:
    """The plan of calls with arguments like `values`. Raises `Unfit` where only the usual call serves."""
    if not isinstance(tape, CompiledTape) or not tape.native or len(tape.segments) != 1:
        raise Unfit
    if function.advances or len(values) != len(function.params):
        raise Unfit
    (segment,) = tape.segments

    def value(leaf: Node) -> Array:
        if leaf.op.name == "shared":
            return store.shared_value(leaf.attr("name"), None)
        for p in function.params:
            if p.node.attr("name") == leaf.attr("name"):
                return values[p.name]
        raise Unfit

    leaves = {leaf: value(leaf) for _, leaf in tape.leaves}
    others = {leaf: value(leaf) for leaf in tape.others}
    sizes: Sizes = {}
    bind_sizes([(leaf_name(x), x, np.shape(v)) for x, v in {**leaves, **others}.items() if x.rank], sizes)
    key = tuple([sizes[s] for s in segment.code.symbols])
    if segment.useful_threads(key) > 1:
        raise Unfit
    frame = segment.frame(key)
    slots = {x: segment.slot[x] for x in segment.inputs}
    cells: dict[Node, Any] = {x: np.zeros(1, _dtype(x)) for x in slots if not x.rank}
    for x, cell in cells.items():
        frame.table[slots[x]] = address(cell)
    held: list[Any] = list(cells.values())
    for x in segment.inputs:
        if x.op.name == "const" and x.rank:
            array = np.ascontiguousarray(constant(x))
            held.append(array)
            frame.table[slots[x]] = address(array)
        elif x.op.name == "const":
            cells[x][0] = constant(x)
    by_name = {x.attr("name"): x for x in slots if x.op.name == "tensor"}
    scalars, tensors = [], []
    for at, p in enumerate(function.params):
        node = by_name.get(p.node.attr("name"))
        if not p.node.rank:
            scalars.append(ScalarArgument(at, _dtype(p.node), cells[node] if node is not None else None))
        else:
            slot = slots[node] if node is not None else None
            tensors.append(TensorArgument(at, _dtype(p.node), np.shape(values[p.name]), slot))
    state = [
        State(x.attr("name"), _dtype(x), np.shape(v), slots.get(x) if x.rank else None, cells.get(x))
        for x, v in {**others, **leaves}.items()
        if x.op.name == "shared"
    ]
    record: Any = None
    if function.fields is not None:
        make: Any = namedtuple
        record = make(function.name, function.fields, rename=True)
    return CallPlan(
        store=store,
        frame=frame,
        entry=segment.entry,
        count=len(function.params),
        scalars=scalars,
        tensors=tensors,
        state=state,
        results=_results(function, tape, frame),
        outputs=len(function.outputs),
        updates=tuple(function.updates),
        record=record,
        long=_work(segment, sizes) > LONG,
        held=held,
    )


def _dtype(x: Node) -> Any:
    return np.dtype(x.dtype.numpy_name)


def _work(segment: Segment, sizes: Sizes) -> int:
    return max((c * math.prod(d.evaluate(sizes) for d in dims) for dims, c in segment.code.work), default=0)


def _results(function: Function, tape: CompiledTape, frame: Any) -> list[Result]:
    """The results in the order of the roots."""
    (segment,) = tape.segments
    count = len(function.outputs)
    shared = {x.attr("name"): x for _, x in tape.leaves if x.op.name == "shared"}
    pairs = [
        (shared[key], count + k)
        for k, key in enumerate(function.updates)
        if key in shared and shared[key].rank
    ]
    replaced = {new: old.attr("name") for new, old in tape.replaced(pairs).items()}
    places = dict(zip(segment.outputs, frame.outputs, strict=True))
    made = {i: x for _, inputs, i, _, x in tape.steps if inputs and x in places}
    state = {i: x.attr("name") for i, x in tape.leaves if x.op.name == "shared"}
    results: list[Result] = []
    given: set[int] = set()
    for at, root in enumerate(tape.roots):
        if root in state and at < count:
            results.append(Result(state=state[root]))
            continue
        if root not in made or root in given:
            raise Unfit
        given.add(root)
        slot, shape, dtype = places[made[root]]
        cell: Any = None if shape else np.zeros((), dtype)
        if cell is not None:
            frame.table[slot] = address(cell)
        results.append(
            Result(cell=cell, slot=slot, shape=shape, dtype=dtype, replaced=replaced.get(made[root]))
        )
    return results
