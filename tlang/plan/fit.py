"""Whether a node fits into a loop nest, and where: its axes and those of its inputs among the nest's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlang.graph.node import Node
from tlang.graph.ops.rules import normal_axes
from tlang.plan.steps import (
    STAGES,
    STREAMS,
    Labels,
    Nest,
    Place,
    Role,
    bases_of,
    is_literal,
    is_placed,
    placed_shape,
)
from tlang.plan.views import Access, access
from tlang.types import ONE, Dim

#: So many columns are a row that a loop is worth.
SHORT = 16


def is_of_rows(nest: Nest, node: Node) -> bool:
    """Whether a node is computed of values of rows alone."""
    inputs = bases_of(node)
    roles = {nest.roles[b] for b in inputs if b in nest.roles}
    if nest.roles[node] is Role.FULL or Role.FULL in roles:
        return False
    return bool(roles)


def domain_of(node: Node, parallel: bool = False) -> tuple[Dim, ...]:
    """The axes of a nest that a node begins: of a reduction those of its input, in the order of memory.

    In a `parallel` nest the axes that it keeps come first, unless they are the last ones in memory.
    """
    if is_placed(node):
        return tuple(d for d in placed_shape(node) if d != ONE)
    if not node.op.reduce:
        whole = [access(x) for x in node.operands]
        whole = [v for v in whole if sum(a is not None for a in v.axes) == node.rank]
        if whole and node.rank > 1:
            view = whole[0]
            order = sorted(range(node.rank), key=lambda k: view.axes[k] or 0)
            return tuple(node.shape[k] for k in order if node.shape[k] != ONE)
        return tuple(d for d in node.shape if d != ONE)
    return tuple(node.inputs[0].shape[k] for k in _order_of(node, parallel))


def _order_of(node: Node, parallel: bool) -> list[int]:
    """The axes of a reduction's input that are not of size 1, in the order of the nest that it begins."""
    view = access(node.inputs[0])
    shape = node.inputs[0].shape
    order = sorted(range(len(shape)), key=lambda k: -1 if (a := view.axes[k]) is None else a)
    order = [k for k in order if shape[k] != ONE]
    if parallel:
        over = normal_axes(node.attr("axis"), len(shape))
        kept = [k for k in order if k not in over]
        if order[len(order) - len(kept) :] != kept:
            order = kept + [k for k in order if k in over]
    return order


def _seen(nest: Nest, x: Node) -> tuple[Access, Labels | None, bool]:
    """An input of a nest: its access; its labels, or None where they are free; whether it can be used."""
    view = access(x)
    base = view.base
    if base in nest.labels:
        usable = nest.roles[base] not in (Role.AFTER, Role.PLACED) and view.whole
        own = nest.labels[base]
        return view, tuple(None if a is None else own[a] for a in view.axes), usable
    for (other, seen), labels in nest.reads.items():
        if other is base and view.whole and seen.whole:
            by_axis = {a: label for a, label in zip(seen.axes, labels, strict=True) if a is not None}
            if all(a is None or a in by_axis for a in view.axes):
                return view, tuple(None if a is None else by_axis[a] for a in view.axes), True
    return view, None, True


def _align(nest: Nest, shape: Sequence[Dim], inputs: Sequence[Node], strict: bool = True) -> Labels | None:
    """Labels for axes to which the inputs are aligned from the right; None if they do not fit the nest.

    Inputs from outside that the nest reads already suggest labels, which are tried first.
    """
    labels: list[int | None] = [None] * len(shape)
    hints: list[int | None] = [None] * len(shape)
    for x in inputs:
        view, own, usable = _seen(nest, x)
        if not usable:
            return None
        if own is None:
            continue
        inside = view.base in nest.labels
        for k, label in enumerate(own, len(shape) - len(own)):
            if label is None:
                continue
            if inside:
                if labels[k] not in (None, label):
                    return None
                labels[k] = label
            elif hints[k] is None:
                hints[k] = label
    for k, size in enumerate(shape):
        if size == ONE:
            if labels[k] is not None:
                return None
            continue
        if labels[k] is None and hints[k] is not None and hints[k] not in labels:
            labels[k] = hints[k]
    for k, size in enumerate(shape):
        if size != ONE and labels[k] is None:
            free = [a for a, d in enumerate(nest.domain) if d == size and a not in labels]
            if not free:
                return None
            labels[k] = free[0]
    used = [a for a in labels if a is not None]
    if len(set(used)) != len(used):
        return None
    if any(a is not None and nest.domain[a] != d for a, d in zip(labels, shape, strict=True)):
        return None
    return tuple(labels)


def reading(
    nest: Nest, shape: Sequence[Dim], labels: Labels, inputs: Sequence[Node], many: bool = False
) -> tuple[tuple[Node, Access, Labels], ...] | None:
    """The inputs from outside with the labels of their axes; None if there are too many, or they conflict."""
    reads = []
    for x in inputs:
        view = access(x)
        if view.base in nest.labels or is_literal(x):
            continue
        aligned = labels[len(labels) - x.rank :]
        own = tuple(
            None if a is None or d == ONE else k for a, k, d in zip(view.axes, aligned, x.shape, strict=True)
        )
        if nest.reads.get((view.base, view), own) != own:  # the same array along other axes
            return None
        reads.append((view.base, view, own))
    new = {(x, v) for x, v, _ in reads} - nest.reads.keys()
    if new and nest.nodes and not many and len(nest.reads) + len(new) > STREAMS:
        return None
    return tuple(reads)


def fit_map(nest: Nest, node: Node, many: bool) -> Place | None:
    """The place of an operation element by element; `many`: however many arrays are read then."""
    inputs = node.operands
    labels = _align(nest, node.shape, inputs)
    if labels is None:
        return None
    inside = [b for x in inputs if (b := access(x).base) in nest.labels]
    stage = max((nest.stages[b] for b in inside), default=0)
    used = {a for a in labels if a is not None}
    if used == set(range(len(nest.domain))):
        role = Role.FULL
    elif nest.split and used == set(nest.rows) and inside:
        role = Role.ROW
    else:
        return None
    reads = reading(nest, node.shape, labels, inputs, many)
    return None if reads is None else Place(labels, role, stage, nest.split, reads)


def fit_placed(nest: Nest, node: Node, many: bool) -> Place | None:
    """A nest of its own, over the values: what computes them joins it."""
    if any(role is not Role.FULL for role in nest.roles.values()):
        return None
    labels = _align(nest, placed_shape(node), node.operands)
    if labels is None or {a for a in labels if a is not None} != set(range(len(nest.domain))):
        return None
    if nest.split is not None or [a for a in labels if a is not None] != list(range(len(nest.domain))):
        return None
    inside = [b for x in node.operands if (b := access(x).base) in nest.labels]
    if any(nest.stages[b] for b in inside):
        return None
    reads = reading(nest, placed_shape(node), labels, node.operands, many)
    return None if reads is None else Place(labels, Role.PLACED, 0, None, reads)


def fit_reduce(nest: Nest, node: Node, many: bool) -> Place | None:
    """The place of a reduction, which may divide the nest into rows and columns."""
    x = node.inputs[0]
    base = access(x).base
    if nest.parallel and not nest.nodes:  # axes of equal size in the order that this reduction wants
        order = _order_of(node, True)
        given: Labels | None = tuple(order.index(k) if k in order else None for k in range(x.rank))
    else:
        given = _align(nest, x.shape, [x])
    if given is None:
        return None
    axes = normal_axes(node.attr("axis"), x.rank)
    over = {given[a] for a in axes} - {None}
    kept = tuple(None if k in axes else a for k, a in enumerate(given))
    labels = kept if node.attr("keepdims") else tuple(a for k, a in enumerate(given) if k not in axes)
    reads = reading(nest, x.shape, given, [x], many)
    if reads is None:
        return None
    stage, split, rank = nest.stages.get(base, 0), nest.split, len(nest.domain)
    row = nest.roles.get(base) is Role.ROW
    used = {a for a in given if a is not None}
    if not row and used != set(range(rank)):
        return None
    if row:
        if not over or used & set(nest.columns):  # a value of a row that stretches is not taken once a column
            return None
        if nest.parallel and any(a is not None for a in labels):
            return None
        return Place(labels, Role.AFTER, stage, split, reads)
    if not over:
        return Place(labels, Role.FULL, stage, split, reads)
    left = set(range(rank)) - {a for a in over if a is not None}
    if len(over) == rank:
        return Place(labels, Role.AFTER, stage, split, reads)
    is_prefix = left == set(range(len(left)))
    if is_prefix and split in (None, len(left)):
        if stage + 1 >= STAGES or (split is None and not _may_split(nest, len(left))):
            return None
        return Place(labels, Role.ROW, stage + 1, len(left), reads)
    if split is None:
        split = max(a for a in over if a is not None) + 1
        if not _may_split(nest, split):
            return None
    columns = set(range(split, rank))
    if over & columns and not columns <= over:
        return None
    if nest.parallel and any(a is not None and a < split for a in labels):
        return None
    return Place(labels, Role.AFTER, stage, split, reads)


def may_draw(nest: Nest) -> bool:
    """Whether random numbers may come in parts of columns, in the order of memory, by all threads of a nest.

    Short rows go faster as loops whose length the compiler knows.
    """
    columns = set(nest.columns)
    if not columns:
        return False
    for n, role in nest.roles.items():
        if role is Role.PLACED or (role is Role.AFTER and not {*nest.labels[n]} - {None} <= columns):
            return False
    natural = list(range(len(nest.domain)))
    in_rows = nest.split or any([a for a in own if a is not None] != natural for own in nest.reads.values())
    row = nest.domain[nest.split or -1 :]
    return not in_rows or math.prod(d.const if d.is_const else SHORT for d in row) >= SHORT


def _may_split(nest: Nest, split: int) -> bool:
    """Whether a nest can be divided there: its reductions so far must be over all axes, or over none."""
    return all(
        nest.roles[n] is Role.FULL or not any(a is not None for a in nest.labels[n]) for n in nest.nodes
    )
