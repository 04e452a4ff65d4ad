"""Operations that have kernels of their own where there are many threads: which, and what they read.

They are no loop nests: an element of a product of stacks, or of a running total, needs many others, and a
joined tensor has several inputs one after the other. What they read they read through views.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from tlang.graph.node import Node
from tlang.graph.ops.rules import normal_axis
from tlang.plan.steps import is_settled
from tlang.plan.views import Access, access, access_itself
from tlang.types import F32, F64, ONE, Symbol


def own_views(node: Node, known: Collection[Symbol]) -> tuple[Access, ...] | None:
    """What an operation with kernels of its own reads; None for any other.

    `known` are the sizes that are known before the call.
    """
    if node.op.name not in _READS or any(x.dtype.kind == "c" for x in (node, *node.inputs)):
        return None
    if not all(is_settled(x, known) for x in (node, *node.inputs)):
        return None
    return _READS[node.op.name](node)


def _joined(node: Node) -> tuple[Access, ...] | None:
    if any(x.dtype is not node.dtype for x in node.inputs):
        return None
    return tuple(map(access, node.inputs))


def _part(node: Node) -> tuple[Access, ...]:
    """The part of a joined tensor is a view of it."""
    view = access(node.inputs[0])
    axis = normal_axis(node.attr("axis"), node.rank)
    own = view.axes[axis]
    if own is None:
        return (view,)
    starts = list(view.starts)
    for x in node.inputs[1 : 1 + node.attr("which")]:
        starts[own] = starts[own] + x.shape[axis].scale(view.steps[own])
    return (replace(view, starts=tuple(starts)),)


def _along(node: Node) -> tuple[Access, ...] | None:
    """Inputs of the shape of the result; a number at all places is one that must lie in memory."""
    if any(x.shape != node.shape for x in node.inputs):
        return None
    views = map(access, node.inputs)
    return tuple(
        v if v.base.op.name != "const" else access_itself(x) for v, x in zip(views, node.inputs, strict=True)
    )


def _product(node: Node) -> tuple[Access, ...] | None:
    """Matrices, or stacks of them, of which BLAS can take the rows or the columns as they lie."""
    left, right = node.inputs
    if node.dtype not in (F32, F64) or left.dtype is not node.dtype or right.dtype is not node.dtype:
        return None
    if left.shape[-1] != right.shape[-1 if right.rank == 1 else -2]:
        return None
    batch = batch_rank(node)
    for x in node.inputs:
        own = x.shape[:-2]
        if any(a not in (b, ONE) for a, b in zip(own, node.shape[batch - len(own) : batch], strict=True)):
            return None
    return tuple(v if _lies_well(x, v := access(x)) else access_itself(x) for x in node.inputs)


def batch_rank(node: Node) -> int:
    """How many axes of a product are those of its stack."""
    return node.rank - sum(x.rank > 1 for x in node.inputs)


def _lies_well(x: Node, view: Access) -> bool:
    """Whether the elements of the rows of a matrix, or of its columns, are neighbours in memory."""
    if view.base.op.name == "const" or any(step < 1 for step in view.steps):
        return False
    axes = [a for a, d in zip(view.axes[-2:], x.shape[-2:], strict=True) if d != ONE]
    if None in axes:
        return False
    if len(axes) < 2:
        return True
    return any(
        a is not None and view.steps[a] == 1 and all(d == ONE for d in view.base.shape[a + 1 :]) for a in axes
    )


_READS = {
    "matmul": _product,
    "concatenate": _joined,
    "stack": _joined,
    "part": _part,
    "cumsum": _along,
    "cumprod": _along,
    "recur": _along,
    "shift": _along,
}
