"""Views: which element of an array in memory an element of a view is.

Transposes, slices, new axes and stretching move no element. A chain of them is an :class:`Access` of its
base, so that a kernel reads the base itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tlang.graph.node import Node
from tlang.graph.ops.shape import moved_axes
from tlang.types import ONE, Dim

ZERO = Dim(0)


@dataclass(frozen=True, slots=True)
class Access:
    """A view of `base`: element (i, j, ...) is `base[start + step * i, ...]`.

    `axes` says for each axis of the view which axis of the base it runs along; None: the view repeats its
    elements along it. `starts` and `steps` are those of the axes of the base. `positive` are the sizes that
    must not be negative for the view to exist.
    """

    base: Node
    axes: tuple[int | None, ...]
    starts: tuple[Dim, ...]
    steps: tuple[int, ...]
    positive: tuple[Dim, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether the axes run from the first element of the base to the last, and none is left out."""
        return (
            all(s == ZERO for s in self.starts)
            and all(k == 1 for k in self.steps)
            and {a for a in self.axes if a is not None}
            >= {a for a, d in enumerate(self.base.shape) if d != ONE}
        )

    @property
    def plain(self) -> bool:
        """Whether the view is its base as it is."""
        return self.whole and self.axes == tuple(range(self.base.rank))


def access(node: Node) -> Access:
    """What a node reads: through the views whose places are known before the run, from what is behind."""
    chain = []
    while node.op.view and (found := one_step(node)) is not None:
        chain.append(found)
        node = node.inputs[0]
    rank = node.rank
    made = Access(node, tuple(range(rank)), (ZERO,) * rank, (1,) * rank)
    for found in reversed(chain):
        starts, steps = list(made.starts), list(made.steps)
        for own, start, step in zip(made.axes, found.starts, found.steps, strict=True):
            if own is not None:
                starts[own] = starts[own] + start.scale(steps[own])
                steps[own] *= step
        axes = tuple(None if a is None else made.axes[a] for a in found.axes)
        made = Access(node, axes, tuple(starts), tuple(steps), made.positive + found.positive)
    return made


def access_itself(node: Node) -> Access:
    """A node read as it is."""
    return Access(node, tuple(range(node.rank)), (ZERO,) * node.rank, (1,) * node.rank)


def seen_by(node: Node) -> Access | None:
    """The view of a node, or of its table, in which its places are; None if only the run knows it."""
    table = node.tables[0]
    (view,) = (x for i, x in enumerate(node.inputs) if i in node.op.shape_only)
    return access_itself(table) if view is table else one_step(view)


def one_step(view: Node) -> Access | None:
    """One view of its input; None if only the run knows what it sees."""
    x = view.inputs[0]
    if view.op.name == "index":
        return _slices(view)
    moved = moved_axes(view, list(range(x.rank)))
    if moved is None or view.dtype is not x.dtype:
        return None
    one = Access(x, tuple(moved), (ZERO,) * x.rank, (1,) * x.rank)
    return replace(one, axes=tuple(a if a is None or x.shape[a] != ONE else None for a in one.axes))


def _slices(view: Node) -> Access | None:
    """Constant indices and slices whose bounds are sizes."""
    x = view.inputs[0]
    axes: list[int | None] = []
    starts, steps, positive = [ZERO] * x.rank, [1] * x.rank, []
    at = 0
    for entry in view.attr("spec"):
        if entry[0] == "new":
            axes.append(None)
            continue
        size = x.shape[at]
        if entry[0] == "int":
            starts[at] = Dim(entry[1]) if entry[1] >= 0 else size + Dim(entry[1])
            positive += [size - Dim(entry[1] + 1)] if entry[1] >= 0 else [starts[at]]
        elif entry[0] == "slice" and not isinstance(entry[1], tuple) and not isinstance(entry[2], tuple):
            length = view.shape[len(axes)]
            first = _first(view, entry, size, length)
            if first is None:
                return None
            starts[at], steps[at] = first
            if first != (ZERO, 1) or length != size:
                last = starts[at] + (length - ONE).scale(steps[at])
                positive += [length, starts[at], size - ONE - last]
            axes.append(None if length == ONE else at)
        else:
            return None
        at += 1
    for rest in range(at, x.rank):
        axes.append(None if x.shape[rest] == ONE else rest)
    return Access(x, tuple(axes), tuple(starts), tuple(steps), tuple(positive))


def _first(view: Node, entry: tuple[object, ...], size: Dim, length: Dim) -> tuple[Dim, int] | None:
    """Where a slice begins, and its step; None if only the run knows."""
    _, start, stop, step = entry
    resolve = view.graph.solver.resolve
    assert isinstance(step, int)
    if any(not s.rigid for s in length.symbols()):
        return None
    if (start, stop, step) == (None, None, -1):
        return size - ONE, -1
    first = None if start is None else resolve(start)  # type: ignore[arg-type]
    last = None if stop is None else resolve(stop)  # type: ignore[arg-type]
    if all(d is None or d.is_const for d in (size, first, last)):
        bounds = slice(first and first.const, last and last.const, step).indices(size.const)
        return (Dim(bounds[0]), step) if length.const else (ZERO, 1)
    if step != 1:
        return None
    if first is None:
        return ZERO, 1
    return (size + first if first.is_const and first.const < 0 else first), 1
