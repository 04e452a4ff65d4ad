"""Calls from Python in a hurry: a compiled function that is called again with arguments like the last ones.

A :class:`FastCall` is made for a function with one piece of code, after a usual call has checked everything.
It only asks whether the arguments are of the same types and shapes; where they are not, it does nothing and
the usual call answers. Scalars pass through cells that the code reads and writes.
"""

from __future__ import annotations

import sys
from collections import namedtuple
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlang.emit.cpu import STATUS
from tlang.graph.node import Function, Node
from tlang.interpret import Sizes, bind_sizes, constant, leaf_name
from tlang.run.build import CompiledTape, Unfit, address, aligned

if TYPE_CHECKING:
    from tlang.run.session import Session

Array = Any
#: What a call gives that the usual way must answer.
MISS = object()
#: The types of Python that pass as scalars of a dtype without a question.
_EXACT: dict[str, tuple[type, ...]] = {
    "float64": (float, np.float64),
    "float32": (np.float32,),
    "int64": (int, np.int64),
}


#: References to a shared array while only the session has it: its own, a variable's, and an argument's.
_OWN_REFERENCES = 3


class FastCall:
    """A function for arguments like `values`. Raises `Unfit` where only the usual call serves."""

    miss = MISS

    def __init__(self, session: Session, function: Function, values: Mapping[str, Array]) -> None:
        tape = session.tape(function)
        if not isinstance(tape, CompiledTape) or not tape.native or len(tape.segments) != 1:
            raise Unfit
        if function.advances or len(values) != len(function.params):
            raise Unfit
        (segment,) = tape.segments
        self.session, self.epoch, self.tape = session, session.epoch, tape
        self.busy = False
        self.count = len(function.params)
        leaves = {leaf: self._value(function, values, leaf) for _, leaf in tape.leaves}
        others = {leaf: self._value(function, values, leaf) for leaf in tape.others}
        sizes: Sizes = {}
        bind_sizes([(leaf_name(x), x, np.shape(v)) for x, v in {**leaves, **others}.items() if x.rank], sizes)
        key = tuple([sizes[s] for s in segment.code.symbols])
        if segment.useful_threads(key) > 1:
            raise Unfit
        self.frame = segment.frame(key)
        table, self.entry = self.frame.table, segment.entry
        self.held: list[Array] = [table]
        slots = {x: segment.slot[x] for x in segment.inputs}
        cells: dict[Node, Any] = {x: np.zeros(1, x.dtype.numpy_name) for x in slots if not x.rank}
        for x, cell in cells.items():
            table[slots[x]] = address(cell)
        for x in segment.inputs:
            if x.op.name == "const" and x.rank:
                array = np.ascontiguousarray(constant(x))
                self.held.append(array)
                table[slots[x]] = address(array)
            elif x.op.name == "const":
                cells[x][0] = constant(x)
        by_name = {x.attr("name"): x for x in slots if x.op.name == "tensor"}
        self.scalars, self.arrays = [], []
        for at, p in enumerate(function.params):
            node = by_name.get(p.node.attr("name"))
            dtype = np.dtype(p.node.dtype.numpy_name)
            if not p.node.rank:
                exact = _EXACT.get(dtype.name, ())
                self.scalars.append((at, exact, None if node is None else memoryview(cells[node])))
            else:
                slot = None if node is None else slots[node]
                self.arrays.append((at, dtype, np.shape(values[p.name]), slot))
        self.state = [
            (x.attr("name"), cells.get(x), slots[x], np.shape(leaves[x]))
            for x in slots
            if x.op.name == "shared"
        ]
        self.fixed = [(x.attr("name"), np.shape(v)) for x, v in others.items() if x.op.name == "shared"]
        places = dict(zip(segment.outputs, self.frame.outputs, strict=True))
        made = {i: x for _, inputs, i, _, x in tape.steps if inputs and x in places}
        self.results: list[tuple[Any, int, tuple[int, ...], Any]] = []
        state = {i: x.attr("name") for i, x in tape.leaves if x.op.name == "shared"}
        given: set[int] = set()
        for at, root in enumerate(tape.roots):
            if root in state and at < len(function.outputs):
                self.results.append((state[root], 0, (), None))
                continue
            if root not in made or root in given:
                raise Unfit
            given.add(root)
            slot, shape, dtype = places[made[root]]
            own: Any = None if shape else np.zeros((), dtype)
            if own is not None:
                table[slot] = address(own)
            self.results.append((own, slot, shape, dtype))
        self.updates = tuple(function.updates)
        shared_leaves = {x.attr("name"): x for _, x in tape.leaves if x.op.name == "shared"}
        pairs = [
            (shared_leaves[key], len(function.outputs) + k)
            for k, key in enumerate(self.updates)
            if key in shared_leaves and shared_leaves[key].rank
        ]
        self.replaced = {
            self.updates.index(old.attr("name")) + len(function.outputs): old.attr("name")
            for old in tape.replaced(pairs).values()
        }
        self.outputs = len(function.outputs)
        self.record: Any = None
        if function.fields is not None:
            make: Any = namedtuple
            self.record = make(function.name, function.fields, rename=True)

    def _value(self, function: Function, values: Mapping[str, Array], leaf: Node) -> Array:
        if leaf.op.name == "shared":
            return self.session.shared_value(leaf.attr("name"), None)
        for p in function.params:
            if p.node.attr("name") == leaf.attr("name"):
                return values[p.name]
        raise Unfit

    def __call__(self, args: tuple[Any, ...]) -> Any:
        """What the function gives, or `MISS`."""
        session = self.session
        if len(args) != self.count or session.epoch != self.epoch or self.busy:
            return MISS
        self.busy = True  # the code runs without Python's lock
        try:
            return self._call(args, session)
        finally:
            self.busy = False

    def _call(self, args: tuple[Any, ...], session: Session) -> Any:
        table = self.frame.table
        for at, exact, cell in self.scalars:
            x = args[at]
            if type(x) not in exact:
                return MISS
            if cell is not None:
                try:
                    cell[0] = x
                except (ValueError, OverflowError):  # an integer of Python without end
                    return MISS
        for at, dtype, shape, slot in self.arrays:
            x = args[at]
            if type(x) is not np.ndarray or x.dtype is not dtype or x.shape != shape:
                return MISS
            if not x.flags.c_contiguous:
                return MISS
            if slot is not None:
                table[slot] = address(x)
        shared = session.shared
        for name, shape in self.fixed:
            if np.shape(shared[name]) != shape:
                return MISS
        for name, own, slot, shape in self.state:
            x = shared[name]
            if own is not None:
                own[0] = x
            elif x.shape != shape or not x.flags.c_contiguous:
                return MISS
            else:
                table[slot] = address(x)
        x = None  # which counts as a reference
        results = []
        for at, (result, slot, shape, dtype) in enumerate(self.results):
            if result is None:
                old = shared[self.replaced[at]] if at in self.replaced else None
                if old is not None and sys.getrefcount(old) <= _OWN_REFERENCES:
                    result = old
                else:
                    result = aligned(shape, dtype)
                table[slot] = address(result)
            elif dtype is None:
                result = np.array(shared[result])
            results.append(result)
        if self.entry(self.frame.address, 0, 1, 1):
            table[STATUS] = 0
            return MISS
        values = [x if x.shape else x[()] for x in results]
        if self.updates:
            session.shared = {**shared, **dict(zip(self.updates, values[self.outputs :], strict=True))}
        if self.record is not None:
            return self.record(*values[: self.outputs]) if self.outputs else None
        return values[0]
