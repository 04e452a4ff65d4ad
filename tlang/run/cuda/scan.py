"""Recurrences on the device: each step is the launches of the body's segment, with no transfer between two.

What is carried lies in rows: a step reads one and writes the next, so that all values are there in the end;
where only the last is wanted there are two, which change places. Launches whose arrays stay where they are
are prepared once, those whose arrays change places twice, all others for each step. A step that has a
recurrence of its own, or reshapes, is made by the tape of its body. Whether an element has
made a step an error is looked at once, at the end: then the steps are made again with NumPy, which says what
is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tlang.emit.cuda.actions import arrays_of
from tlang.graph.node import OPS, Node
from tlang.graph.recurrence import Body
from tlang.interpret import Draw, Sizes, Steps, Watch
from tlang.plan.fuse import fused, lower
from tlang.plan.steps import Alone
from tlang.run.build import Item, Unfit
from tlang.run.cuda import gpu
from tlang.run.cuda.resident import Resident, host, resident
from tlang.run.cuda.tape import DeviceFrame, DeviceSegment, DeviceTape, kind_of

Array = Any


def device_scan(node: Node, plain: Callable[..., Any]) -> DeviceScan | None:
    """The form of a closed recurrence for the device; None where a step has an operation without a kernel.

    `plain` makes the steps with NumPy, and says what is wrong where something is.
    """
    body: Body = node.attr("body")
    if body.condition is not None:
        return None
    results = [r.graph.make(OPS["conj"], [r], r.span) if r.op.view else r for r in body.results]
    if any(isinstance(s, Alone) and not _stays(s.node) for s in fused(lower(results), parallel=True)):
        return None
    tape = DeviceTape(results)
    scans = [
        call for call, *_, n in tape.steps if n.op.name == "scan" and not isinstance(call, DeviceSegment)
    ]
    return DeviceScan(node, body, tape, plain) if all(isinstance(s, DeviceScan) for s in scans) else None


def _stays(node: Node) -> bool:
    """Whether an operation without a kernel may leave its operands where they are."""
    return node.op.view or node.op.name in ("scan", "item")


class DeviceScan:
    """A recurrence whose steps are launches: a function of (sizes, draw, *inputs)."""

    def __init__(self, node: Node, body: Body, tape: DeviceTape, plain: Callable[..., Any]) -> None:
        self.body = body
        self.tape = tape
        self.plain = plain
        self.span = node.span
        calls = [call for call, *_ in tape.steps]
        #: Whether a step is nothing but launches, which can be prepared.
        self.is_one = all(isinstance(c, DeviceSegment | Item) for c in calls) and len(tape.segments) < 2
        segments: Sequence[Any] = tape.segments
        self.segment: DeviceSegment | None = segments[0] if segments and self.is_one else None
        self.counted = int(node.attr("steps"))
        self.reverse = bool(node.attr("reverse"))
        self.keep: Sequence[tuple[str, int]] = node.attr("keep")
        self.kept = {k for what, k in self.keep if what in ("all", "before")}
        made = {i: n for call, _, i, _, n in tape.steps if isinstance(call, Item)}
        leaves, constants = dict(tape.leaves), dict(tape.constants)
        #: What a step gives: a node that the segment computes, a leaf, or a constant.
        self.results: list[Node | Array] = []
        if self.is_one:
            self.results = [made.get(r) or leaves.get(r) or np.asarray(constants[r]) for r in tape.roots]

    def __call__(self, sizes: Sizes, draw: Draw, *xs: Array, watch: Watch | None = None) -> tuple[Array, ...]:
        """The parts that are kept."""
        try:
            made = self.run(dict(sizes), draw, xs)
        except (Unfit, KeyError):
            made = None
        if made is not None:
            return made
        found: tuple[Array, ...] = self.plain(sizes, draw, *map(host, xs), watch=watch)
        return found

    def run(self, sizes: Sizes, draw: Draw, xs: Sequence[Array]) -> tuple[Resident, ...] | None:
        """The parts that are kept; None where their number makes no sense, or one fails."""
        body, rest = self.body, xs[self.counted :]
        carried, given = len(body.state), len(body.elements)
        sequences = list(map(_on_device, rest[carried : carried + given], body.elements))
        count = len(sequences[0]) if sequences else int(host(xs[0]))
        if count < 0 or any(len(s) != count for s in sequences):
            return None
        rows = [
            Rows(np.shape(x), b, count, self.reverse, k in self.kept)
            for k, (x, b) in enumerate(zip(rest[:carried], body.state, strict=True))
        ]
        elements = [Row(s, count, self.reverse) for s in sequences]
        free = map(_on_device, rest[carried + given :], body.free)
        values: dict[Node, Resident] = dict(zip(body.free, free, strict=True))
        shapes: dict[Node, Resident] = dict(values)
        shapes.update(zip(body.state, (r.first for r in rows), strict=True))
        of_each = (Resident(s.shape[1:], s.dtype, None) for s in sequences)
        shapes.update(zip(body.elements, of_each, strict=True))
        self.tape.bind(shapes.__getitem__, sizes)
        for x, row in zip(rest[:carried], rows, strict=True):
            row.begin(x)
        outputs = [
            Row(_empty((count, *(d.evaluate(sizes) for d in r.shape)), r), count, self.reverse)
            for r in body.outputs
        ]
        targets: list[Track] = [*map(Next, rows), *outputs]
        if not self.is_one:
            step = Steps(body, self.tape, self.span).start(list(values.values()), sizes, draw)
            for t in range(count):
                state = [r.array.row(r.number(t)) for r in rows]
                made = step([*state, *(e.array.row(e.number(t)) for e in elements)])
                for x, target, r in zip(made, targets, body.results, strict=True):
                    gpu.copy(target.at(t), _on_device(x, r).device())
        elif not self.launched(sizes, values, [*rows, *elements], targets, count):
            return None
        return tuple([self.part(what, k, rows, outputs) for what, k in self.keep])

    def launched(
        self,
        sizes: Sizes,
        values: Mapping[Node, Resident],
        sources: Sequence[Track],
        targets: Sequence[Track],
        count: int,
    ) -> bool:
        """Makes all steps, of which each is the launches of the segment; False where one fails."""
        frame = self.frame(sizes)
        moves = Moves(values)
        moves.move(zip((*self.body.state, *self.body.elements), sources, strict=True))
        copies: list[tuple[Node | Resident, Track]] = []
        for r, target in zip(self.results, targets, strict=True):
            if isinstance(r, Node) and r not in moves.tracks and r not in values:  # computed into its place
                moves.move([(r, target)])
            elif isinstance(r, Node):
                copies.append((r, target))
            else:
                copies.append((resident(r, r.dtype, fixed=False), target))
        if frame is not None:
            moves.launches(frame)
        moves.copies(copies)
        moves.make(count)
        if frame is not None:
            if frame.segment.fails and frame.failed():
                return False
            frame.segment.frames.setdefault(self.key(sizes), []).append(frame)
        return True

    def key(self, sizes: Sizes) -> tuple[int, ...]:
        """The sizes that the segment depends on."""
        return tuple([sizes[s] for s in self.segment.symbols]) if self.segment is not None else ()

    def frame(self, sizes: Sizes) -> DeviceFrame | None:
        """The memory of a step; None where a step computes nothing."""
        if self.segment is None:
            return None
        key = self.key(sizes)
        if len(self.segment.frames) > 8:
            self.segment.frames.clear()
        spare = self.segment.frames.get(key)
        return spare.pop() if spare else DeviceFrame(self.segment, key)

    def part(self, what: str, k: int, rows: Sequence[Rows], outputs: Sequence[Row]) -> Resident:
        """One of the results."""
        if what == "output":
            return outputs[k].array
        if what == "last":
            return rows[k].last
        count = rows[k].count
        return (
            rows[k].array.rows(0, count)
            if (what == "all") == self.reverse
            else rows[k].array.rows(1, count + 1)
        )


# ---------------------------------------------------------------- where things are in a step


class Track(Protocol):
    """Where an array is in each step; after `period` steps it is there again, if that is not 0."""

    period: int

    def at(self, step: int) -> gpu.Array:
        """The elements of a step."""


class Row:
    """A row of a sequence for each step."""

    period = 0

    def __init__(self, array: Resident, count: int, reverse: bool) -> None:
        self.array = array
        self.memory = array.device()
        self.each = math.prod(array.shape[1:])
        self.start, self.by = (count - 1, -1) if reverse else (0, 1)

    def number(self, step: int) -> int:
        """Which row is that of a step."""
        return self.start + self.by * step

    def at(self, step: int) -> gpu.Array:
        """The elements of a step."""
        return gpu.part(self.memory, self.number(step) * self.each, self.each)


class Rows:
    """A row of what is carried before each step and after the last, or two that change places."""

    def __init__(self, shape: tuple[int, ...], node: Node, count: int, reverse: bool, kept: bool) -> None:
        self.count = count
        self.array = _empty((count + 1 if kept else 2, *shape), node)
        self.memory = self.array.device()
        self.each = math.prod(shape)
        self.period = 0 if kept else 2
        self.start, self.by = (count, -1) if reverse and kept else (0, 1)

    def number(self, step: int) -> int:
        """Which row is read by a step."""
        return step % 2 if self.period else self.start + self.by * step

    def at(self, step: int) -> gpu.Array:
        """The elements that a step reads, and the step before it writes."""
        return gpu.part(self.memory, self.number(step) * self.each, self.each)

    @property
    def first(self) -> Resident:
        """What the first step reads."""
        return self.array.row(self.number(0))

    @property
    def last(self) -> Resident:
        """What the last step wrote."""
        return self.array.row(self.number(self.count))

    def begin(self, x: Array) -> None:
        """Sets what the first step reads."""
        target = self.at(0)
        if not isinstance(x, Resident) and _is_zero(x):
            gpu.clear(target)
        else:
            gpu.copy(target, resident(x, self.array.dtype).device())


class Next:
    """What a step writes of what is carried."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.period = rows.period

    def at(self, step: int) -> gpu.Array:
        """The elements that a step writes."""
        return self.rows.at(step + 1)


class Moves:
    """The work of steps: `tracks` say where arrays are that are not the same in all steps."""

    def __init__(self, fixed: Mapping[Node, Resident]) -> None:
        self.fixed = fixed
        self.tracks: dict[Node, Track] = {}
        self.works: list[Callable[[int], Callable[[], None]]] = []

    def move(self, pairs: Iterable[tuple[Node, Track]]) -> None:
        """Says where nodes are in each step."""
        self.tracks.update(pairs)

    def launches(self, frame: DeviceFrame) -> None:
        """The work of a segment."""
        for action, work in zip(frame.segment.actions, frame.works, strict=True):
            if work is None:
                continue
            touched = [a for a in arrays_of(action) if isinstance(a, Node) and a not in frame.inner]
            moving = [(a, self.tracks[a]) for a in touched if a in self.tracks]
            places = {a: self.fixed[a].device() for a in touched if a not in self.tracks}
            self.add(work, places, moving)

    def copies(self, pairs: Iterable[tuple[Node | Resident, Track]]) -> None:
        """What is not computed but copied, after the work of the segment."""
        for source, target in pairs:
            self.copy(source, target)

    def copy(self, source: Node | Resident, target: Track) -> None:
        """A result of each step that is there already."""
        if isinstance(source, Node) and source in self.tracks:
            track = self.tracks[source]
            self.works.append(lambda t: lambda: gpu.copy(target.at(t), track.at(t)))
        else:
            array = (self.fixed[source] if isinstance(source, Node) else source).device()
            self.works.append(lambda t: lambda: gpu.copy(target.at(t), array))

    def add(
        self,
        work: Callable[[dict[Node, gpu.Array]], Callable[[], None]],
        places: dict[Node, gpu.Array],
        moving: Sequence[tuple[Node, Track]],
    ) -> None:
        """Work whose arrays are at some places, and others that move."""

        def bound(t: int) -> Callable[[], None]:
            return work({**places, **{a: track.at(t) for a, track in moving}})

        if not moving:
            always = bound(0)
            self.works.append(lambda t: always)
        elif all(track.period for _, track in moving):
            both = bound(0), bound(1)
            self.works.append(lambda t: both[t % 2])
        else:
            self.works.append(bound)

    def make(self, count: int) -> None:
        """Makes all steps."""
        works = self.works
        for t in range(count):
            for work in works:
                work(t)()


def _on_device(x: Array, node: Node) -> Resident:
    """A value as an array of its node's dtype."""
    return resident(x, node.dtype.numpy_name)


def _empty(shape: tuple[int, ...], node: Node) -> Resident:
    """Memory for the values of a node."""
    return Resident(shape, node.dtype.numpy_name, gpu.empty(math.prod(shape), kind_of(node.dtype)))


def _is_zero(x: Array) -> bool:
    """Whether a value of the host is one number at all places, whose bytes are 0."""
    array = np.asarray(x)
    if array.size and any(n > 1 and step for n, step in zip(array.shape, array.strides, strict=True)):
        return False
    return not array.size or not any(array[(0,) * array.ndim].tobytes())
