"""Reverse-mode differentiation: one walk over the graph, each operation's own rule from its row."""

from __future__ import annotations

from collections.abc import Sequence

from tlang.graph.node import Node, substitute, toposort
from tlang.types import Tensor


def passes(node: Node, i: int) -> bool:
    """Whether a gradient can flow from a node to its input `i`."""
    x = node.inputs[i]
    return (
        node.op.grad is not None
        and node.dtype.kind == "f"
        and x.dtype.kind == "f"
        and i not in node.op.shape_only
        and (node.op.flows is None or node.op.flows(node, i))
    )


def vjp(out: Node, wrt: Sequence[Node], seed: Node) -> list[Node | None]:
    """The cotangents of `wrt` for the cotangent `seed` of `out`; None where nothing connects them.

    A node of `wrt` that lies between `out` and another one still passes its gradient on: every
    result is the total derivative.
    """
    order = toposort([out])
    active = {id(w) for w in wrt}
    for node in order:
        if any(id(x) in active and passes(node, i) for i, x in enumerate(node.inputs)):
            active.add(id(node))
    cotangents: dict[int, Node] = {id(out): seed} if id(out) in active else {}
    for node in reversed(order):
        g = cotangents.get(id(node))
        if g is None or node.op.grad is None:
            continue
        wanted = [i for i, x in enumerate(node.inputs) if id(x) in active and passes(node, i)]
        if not wanted:
            continue
        parts = node.op.grad(g, node, *node.inputs, **dict(node.attrs))
        for i in wanted:
            part = parts[i]
            if part is not None:
                x = node.inputs[i]
                fits = part.rank == x.rank and all(map(out.graph.solver.unify, part.shape, x.shape))
                assert fits, f"the gradient of {node} for {x} is {part}"
                before = cotangents.get(id(x))
                cotangents[id(x)] = part if before is None else before + part
    return [cotangents.get(id(w)) for w in wrt]


def grad(cost: Node, wrt: Sequence[Node]) -> list[Node | None]:
    """The gradients of a scalar cost, each of the shape and dtype of its node."""
    one = cost.graph.const(1.0, Tensor(cost.dtype), cost.span)
    return vjp(cost, wrt, one)


def jvp(out: Node, wrt: Node, tangent: Node) -> Node | None:
    """The derivative of `out` along `tangent` in `wrt`, as the transpose of the transpose.

    The cotangent of `wrt` is linear in the cotangent u of `out`; pulling `tangent` back through
    that linear function of u gives J t.
    """
    u = out.graph.leaf("hole", out.type.strong(), out.span, name=("jvp", id(out)))
    (pulled,) = vjp(out, [wrt], u)
    if pulled is None:
        return None
    (result,) = vjp(pulled, [u], tangent)
    if result is None:
        return None
    # What is left of u is its shape only.
    return substitute([result], {u: out})[0]


def find_cut(out: Node, source: Node) -> Node | None:
    """The node where the derivative in `source` ends on a path to `out`; None without such a path."""
    alive = {id(source)}
    cut: Node | None = None
    for node in toposort([out]):
        ways = [passes(node, i) for i, x in enumerate(node.inputs) if id(x) in alive]
        if any(ways):
            alive.add(id(node))
        elif ways:
            cut = node
    return cut
