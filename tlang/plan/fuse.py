"""Fusion: elementwise operations of one shape become one loop, a :class:`Map`.

A node's level counts the kernels that must run before its own: it is its inputs' level where they
can be in the same loop, and one more where they cannot. Nodes of one level and one shape form a
kernel. An edge from one kernel to another always raises the level, so kernels cannot wait for each
other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tlang.graph.node import Node, toposort
from tlang.types import ONE, Dim

#: A kernel's text and its time to compile grow with its nodes: more than these are divided.
LARGEST = 128
#: Operations that are not computed: their values are given.
LEAVES = frozenset({"const", "tensor", "shared", "value"})


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """An input of a kernel. `axes` says for each axis of the loop whether the input has it; where it
    has not, it is stretched. An operand that is not `read` only gives sizes.
    """

    node: Node
    axes: tuple[bool, ...]
    read: bool


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """One loop over `shape`: its nodes in order, what it reads, and the nodes whose values are kept."""

    shape: tuple[Dim, ...]
    nodes: tuple[Node, ...]
    operands: tuple[Operand, ...]
    outputs: tuple[Node, ...]


Step: TypeAlias = Node | Map


def fused(roots: Sequence[Node]) -> list[Step]:
    """The operations that the roots need, in an order in which they can run; leaves are not listed."""
    order = toposort(roots)
    levels: dict[Node, int] = {}
    groups: dict[tuple[int, tuple[Dim, ...]], list[Node]] = {}
    member: dict[Node, tuple[int, tuple[Dim, ...]]] = {}
    for node in order:
        if node.op.name in LEAVES:
            levels[node] = 0
            continue
        shape = node.shape
        can = not why_not(node)
        level = 0
        for i, x in enumerate(node.inputs):
            same = can and x in member and x.shape == shape and i not in node.op.shape_only
            level = max(level, levels[x] + (x.op.name not in LEAVES and not same))
        while can and len(groups.get((level, shape), ())) >= LARGEST:
            level += 1
        levels[node] = level
        if can:
            member[node] = level, shape
            groups.setdefault((level, shape), []).append(node)
    wanted = set(roots) | {x for n in order for x in n.inputs if member.get(x) != member.get(n)}
    wanted |= {n.inputs[i] for n in order for i in n.op.shape_only}
    steps: list[tuple[int, int, Step]] = []
    for at, node in enumerate(order):
        if node.op.name not in LEAVES and node not in member:
            steps.append((levels[node], at, node))
    for at, ((level, shape), nodes) in enumerate(groups.items()):
        if worth_a_kernel(nodes):
            steps.append((level, at, _map(shape, nodes, wanted)))
        else:
            steps += [(level, at, n) for n in nodes]
    steps.sort(key=lambda s: s[0])
    return [step for _, _, step in steps]


def why_not(node: Node) -> str:
    """Why a node cannot be part of an elementwise loop; "" if it can."""
    if node.op.scalar is None:
        return f"`{node.op.name}` is not elementwise, or has no scalar form"
    if node.op.name == "cast" and node.inputs[0].dtype.kind == "f" and node.dtype.kind in "iu":
        return "NumPy alone decides what a float out of an integer's range becomes"
    for x in (node, *node.inputs):
        if x.dtype.kind == "c":
            return "complex numbers have no scalar form"
    for x in node.inputs:
        if _axes(x, node.shape) is None:
            return f"the sizes of {x.type} and {node.type} are known to fit only when it runs"
    return ""


def worth_a_kernel(nodes: Sequence[Node]) -> bool:
    """Whether one loop is better than NumPy: two operations; for scalars, several."""
    return len(nodes) > (4 if not nodes[0].shape else 1)


def _axes(x: Node, shape: Sequence[Dim]) -> tuple[bool, ...] | None:
    """Which axes of a loop an input has; None if that is not known."""
    own = x.shape
    extra = len(shape) - len(own)
    axes = [False] * extra
    for have, want in zip(own, shape[extra:], strict=True):
        if have != want and have != ONE:
            return None
        axes.append(have == want)
    return tuple(axes)


def _map(shape: tuple[Dim, ...], nodes: Sequence[Node], wanted: set[Node]) -> Map:
    inside = set(nodes)
    operands: dict[tuple[Node, bool], Operand] = {}
    for n in nodes:
        for i, x in enumerate(n.inputs):
            read = i not in n.op.shape_only
            if (x in inside and read) or (x.op.name == "const" and not x.type.shape):
                continue
            axes = _axes(x, shape)
            assert axes is not None
            operands.setdefault((x, read), Operand(x, axes, read))
    return Map(shape, tuple(nodes), tuple(operands.values()), tuple(n for n in nodes if n in wanted))


def show(steps: Sequence[Step]) -> str:
    """A plan for people: one line a kernel or operation, and why an operation stands alone."""
    lines = []
    for step in steps:
        if isinstance(step, Map):
            shape = ", ".join(map(str, step.shape))
            reads = ", ".join(f"{o.node.op.name}: {o.node.type}" for o in step.operands if o.read)
            lines.append(f"map [{shape}] reads {reads or 'nothing'}")
            lines += [f"    {n.op.name}: {n.type}" for n in step.nodes]
            lines.append(f"    keeps {', '.join(n.op.name for n in step.outputs)}")
        else:
            reason = why_not(step) or "alone: one NumPy call is as good as a loop"
            lines.append(f"numpy {step.op.name}: {step.type}  ({reason})")
    return "\n".join(lines)
