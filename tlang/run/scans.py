"""Recurrences in compiled code: each step is one call of the body's segment, with no Python between two.

The loop around the steps is that of :mod:`tlang.emit.driver`, a list of operations on addresses. What is
carried lies in rows: a step reads one and writes the next, so that all values are there in the end; where
only the last is wanted there are two, which change places.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlang.emit import driver
from tlang.graph.node import Node
from tlang.graph.recurrence import Body
from tlang.interpret import Draw, Sizes, Watch
from tlang.run.build import CompiledTape, Item, Segment, Unfit, address, aligned, build
from tlang.run.objects import ObjectError

Array = Any
#: So many steps are made before Python may look for Ctrl-C.
SLICE = 100_000


def compiled_scan(node: Node, tape: CompiledTape, plain: Callable[..., Any]) -> CompiledScan | None:
    """The compiled form of a closed recurrence; None where a step has an operation without a kernel.

    `tape` is that of its body. `plain` makes the steps with NumPy, and says what is wrong where something is.
    """
    body: Body = node.attr("body")
    if body.condition is not None or not tape.native or tape.failed or len(tape.segments) != 1:
        return None
    if any(not isinstance(call, Segment | Item) for call, *_ in tape.steps):
        return None
    try:
        return CompiledScan(node, body, tape, plain)
    except ObjectError:
        return None


class CompiledScan:
    """A recurrence whose steps are one segment each: a function of (sizes, draw, *inputs)."""

    def __init__(self, node: Node, body: Body, tape: CompiledTape, plain: Callable[..., Any]) -> None:
        self.body = body
        self.tape = tape
        self.plain = plain
        (self.segment,) = tape.segments
        self.counted = int(node.attr("steps"))
        self.reverse = bool(node.attr("reverse"))
        self.keep: Sequence[tuple[str, int]] = node.attr("keep")
        self.kept = {k for what, k in self.keep if what in ("all", "before")}
        code: Any = self.segment.entry
        entry = ctypes.cast(code, ctypes.c_void_p).value
        assert entry is not None
        self.entry = entry
        self.drive = build(driver.TEXT, driver.ENTRY, signature=driver.SIGNATURE)
        made = {i: n for call, _, i, _, n in tape.steps if isinstance(call, Item)}
        leaves, constants = dict(tape.leaves), dict(tape.constants)
        #: What a step gives: a node that the segment computes, a leaf, or a constant.
        self.results = [made.get(r) or leaves.get(r) or np.asarray(constants[r]) for r in tape.roots]

    def __call__(self, sizes: Sizes, draw: Draw, *xs: Array, watch: Watch | None = None) -> tuple[Array, ...]:
        """The parts that are kept."""
        try:
            made = self.run(dict(sizes), xs)
        except (Unfit, KeyError):
            made = None
        found: tuple[Array, ...] = self.plain(sizes, draw, *xs, watch=watch) if made is None else made
        return found

    def run(self, sizes: Sizes, xs: Sequence[Array]) -> tuple[Array, ...] | None:
        """The parts that are kept; None where there are no steps, or one fails."""
        body, segment, rest = self.body, self.segment, xs[self.counted :]
        carried, given = len(body.state), len(body.elements)
        init = list(map(_whole, rest[:carried], body.state))
        sequences = list(map(_whole, rest[carried : carried + given], body.elements))
        count = len(sequences[0]) if sequences else int(xs[0])
        if count < 1 or any(len(s) != count for s in sequences):
            return None
        first, by = (count - 1, -1) if self.reverse else (0, 1)
        values: dict[Node, Array] = dict(
            zip(body.free, map(_whole, rest[carried + given :], body.free), strict=True)
        )
        values.update(zip(body.state, init, strict=True))
        values.update((e, np.asarray(s[first])) for e, s in zip(body.elements, sequences, strict=True))
        self.tape.bind(values.__getitem__, sizes)
        key = tuple([sizes[s] for s in segment.code.symbols])
        spare = segment.frames.get(key)
        frame = spare.pop() if spare else segment.frame(key)
        kinds = {x: (shape, kind) for x, (_, shape, kind) in zip(segment.outputs, frame.outputs, strict=True)}
        kinds.update((x, (array.shape, array.dtype)) for x, array in values.items())
        made = [kinds[r] if isinstance(r, Node) else (r.shape, r.dtype) for r in self.results]

        rows = [self.rows(k, x, count) for k, x in enumerate(init)]
        outputs = [aligned((count, *shape), kind) for shape, kind in made[carried:]]
        program = Program(2 * (carried + given) + len(self.results) + len(values))
        where: dict[Node, int] = {}
        targets: list[int] = []
        for k, (b, array) in enumerate(zip(body.state, rows, strict=True)):
            begin, step = (count if self.reverse else 0, by) if k in self.kept else (0, 0)
            where[b] = program.cell(array, begin, step)
            targets.append(program.cell(array, begin + step if step else 1, step))
        for e, sequence in zip(body.elements, sequences, strict=True):
            where[e] = program.cell(sequence, first, by)
        targets += [program.cell(array, first, by) for array in outputs]

        for x in segment.inputs:
            if x in where:
                program.emit(driver.LOAD, frame.address + 8 * segment.slot[x], where[x])
            else:
                frame.table[segment.slot[x]] = address(values[x])
        copies = []
        for r, target, (shape, kind) in zip(self.results, targets, made, strict=True):
            if isinstance(r, Node) and r not in where and r not in values:  # computed into its place
                where[r] = target
                program.emit(driver.LOAD, frame.address + 8 * segment.slot[r], target)
            else:
                source = where.get(r) if isinstance(r, Node) else None
                if source is None:
                    source = program.cell(values[r] if isinstance(r, Node) else r)
                copies.append((target, source, math.prod(shape) * kind.itemsize))
        program.emit(driver.CALL, self.entry, frame.address, 1)
        for copy in copies:
            program.emit(driver.COPY, *copy)
        program.advance()
        for k, b in enumerate(body.state):
            if k not in self.kept:
                program.emit(driver.SWAP, where[b], targets[k])
        if not program.run(self.drive, count):
            return None
        segment.frames.setdefault(key, []).append(frame)
        return tuple([self.part(what, k, rows, outputs, count) for what, k in self.keep])

    def rows(self, k: int, init: Array, count: int) -> Array:
        """Memory for a carried value: a row before each step and after the last, or two."""
        array = aligned((count + 1 if k in self.kept else 2, *init.shape), init.dtype)
        array[-1 if self.reverse and k in self.kept else 0] = init
        return array

    def part(self, what: str, k: int, rows: Sequence[Array], outputs: Sequence[Array], count: int) -> Array:
        """One of the results, from the rows."""
        if what == "output":
            return outputs[k]
        array = rows[k]
        if what == "last":
            at = (0 if self.reverse else count) if k in self.kept else count % 2
            return array[at].copy() if array.ndim > 1 else array[at]
        return array[:-1] if (what == "all") == self.reverse else array[1:]


def _whole(x: Array, node: Node) -> Array:
    """A value as an array of its node's dtype, in C order."""
    return np.asarray(x, np.dtype(node.dtype.numpy_name), order="C")


class Program:
    """The operations of a step, on cells that hold the addresses of what it reads and writes."""

    def __init__(self, size: int) -> None:
        self.cells = np.zeros(size, np.int64)
        self.base = address(self.cells)
        self.used = 0
        self.words: list[int] = []
        self.moves: list[tuple[int, int]] = []

    def emit(self, what: int, *arguments: int) -> None:
        """One operation."""
        self.words += [what, *arguments, *[0] * (driver.WORDS - 1 - len(arguments))]

    def cell(self, array: Array, row: int | None = None, by: int = 0) -> int:
        """The address of a new cell with that of an array, or of a row, from which it moves on by `by`."""
        place = self.base + 8 * self.used
        size = 0 if row is None else array.nbytes // len(array)
        self.cells[self.used] = address(array) + size * (row or 0)
        self.used += 1
        if by:
            self.moves.append((place, by * size))
        return place

    def advance(self) -> None:
        """Moves all cells that move."""
        for place, distance in self.moves:
            self.emit(driver.ADD, place, distance)

    def run(self, drive: Any, count: int) -> bool:
        """Makes the steps; False where one fails."""
        table = np.array([0] * driver.HEADER + self.words, np.int64)
        done = 0
        while done < count:
            steps = min(SLICE, count - done)
            if drive(address(table), len(self.words) // driver.WORDS, steps, 0, 0, 1):
                return False
            done += steps
        return True
