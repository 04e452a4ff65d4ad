"""Identities that hold exactly, for every value: they save work and never change a bit."""

from __future__ import annotations

from collections.abc import Sequence

from tlang.graph.node import Node, is_const, rebuild
from tlang.graph.ops.shape import moved_axes
from tlang.types import ONE


def simplify(roots: Sequence[Node]) -> list[Node]:
    """Drops x * 1, x / 1, x ** 1, --x and views that change nothing; makes x ** 2 a square.

    Two transposes become one. The axes that `squeeze` removes are written out, so that a backend
    needs no types to know them: a named size is not removed, even where it happens to be 1.
    """
    return rebuild(roots, _simpler, roots[0].graph)


def _same(x: Node, node: Node) -> bool:
    return x.dtype == node.dtype and x.type.weak == node.type.weak and x.shape == node.shape


def _simpler(node: Node, new: tuple[Node, ...]) -> Node | None:
    name = node.op.name
    if name == "mul":
        for x, y in (new, new[::-1]):
            if is_const(y, 1) and _same(x, node):
                return x
    elif name in ("div", "pow") and is_const(new[1], 1) and _same(new[0], node):
        return new[0]
    elif name == "pow" and is_const(new[1], 2) and new[0].dtype == node.dtype:
        return new[0].apply("square")
    elif name == "neg" and new[0].op.name == "neg":
        return new[0].inputs[0]
    elif name == "transpose":
        return _transposed(node, new[0])
    elif name == "squeeze" and node.attr("axis") is None:
        axes = tuple(i for i, d in enumerate(new[0].shape) if d == ONE)
        return new[0].apply("squeeze", axis=axes) if axes else new[0]
    elif name in ("reshape_like", "broadcast_like") and _same(new[0], node):
        return new[0]
    return None


def _transposed(node: Node, x: Node) -> Node | None:
    """A transpose of a transpose as one, or as nothing."""
    inner = x
    order: list[int] | None = moved_axes(node, list(range(x.rank)))
    if x.op.name == "transpose" and order is not None:
        inner = x.inputs[0]
        before = moved_axes(x, list(range(x.rank)))
        assert before is not None
        order = [before[a] for a in order]
    if order == list(range(x.rank)):
        return inner
    return None if inner is x or order is None else inner.apply("transpose", axes=tuple(order))
