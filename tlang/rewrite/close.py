"""Recurrences closed: the last pass, after which a body is a graph of its own and no longer in sight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tlang.graph.node import OPS, Node
from tlang.graph.recurrence import Body, Open, bound, captures, level


def close(roots: Sequence[Node]) -> list[Node]:
    """Every recurrence in its closed form: a body of its own, and only what is used of it."""
    captured = captures(roots)
    return _closed(roots, captured, {}) if captured else list(roots)


def _closed(
    roots: Sequence[Node], captured: Mapping[Node, tuple[Node, ...]], new: dict[Node, Node]
) -> list[Node]:
    """The roots of one level with closed recurrences; `new` has what stands for some nodes already."""
    order = level(roots, captured, frozenset(new))
    parts: dict[Node, dict[tuple[str, int], int]] = {}
    for node in order:
        if node.op.name == "result" and node not in new:
            found = parts.setdefault(node.inputs[0], {})
            found.setdefault((node.attr("what"), node.attr("index")), len(found))
    for node in order:
        if node in new:
            continue
        if node.op.name == "open_scan":
            new[node] = _close_one(Open.of(node), parts.get(node, {}), captured, new)
        elif node.op.name == "result":
            at = parts[node.inputs[0]][node.attr("what"), node.attr("index")]
            kind = node.type.with_shape(node.shape)
            new[node] = node.graph.make(OPS["item"], [new[node.inputs[0]]], node.span, at=at, kind=kind)
        else:
            inputs = tuple(new[x] for x in node.inputs)
            same = inputs == node.inputs
            new[node] = node if same else node.graph.make(node.op, inputs, node.span, **dict(node.attrs))
    return [new[r] for r in roots]


def _close_one(
    scan: Open,
    parts: Mapping[tuple[str, int], int],
    captured: Mapping[Node, tuple[Node, ...]],
    new: Mapping[Node, Node],
) -> Node:
    graph = scan.node.graph
    carried, outputs, reached = _needed(scan, parts, captured)
    elements = [k for k, b in enumerate(scan.elements) if b in reached]
    if scan.steps is None and not elements and scan.elements:
        elements = [0]  # says how many steps there are
    free = [f for f in captured[scan.node] if f in reached]
    leaves = [bound(graph, f.type.with_shape(f.shape), _called(f), f.span) for f in free]
    inside: dict[Node, Node] = {b: b for b in scan.bound} | dict(zip(free, leaves, strict=True))
    made = [scan.new[k] for k in carried] + [scan.outputs[k] for k in outputs]
    condition = [] if scan.condition is None else [scan.condition]
    results = _closed([*made, *condition], captured, inside)
    body = Body(
        tuple(scan.state[k] for k in carried),
        tuple(scan.elements[k] for k in elements),
        tuple(leaves),
        tuple(results[: len(carried)]),
        tuple(results[len(carried) : len(made)]),
        results[-1] if condition else None,
    )
    where = {"output": {k: at for at, k in enumerate(outputs)}}
    own = {k: at for at, k in enumerate(carried)}
    keep = tuple((what, where.get(what, own)[k]) for what, k in parts)
    outside = [
        *([scan.steps] if scan.steps is not None else []),
        *(scan.init[k] for k in carried),
        *(scan.sequences[k] for k in elements),
        *free,
    ]
    return graph.make(
        OPS["scan"],
        [new[x] for x in outside],
        scan.node.span,
        body=body,
        steps=scan.steps is not None,
        reverse=scan.reverse,
        length=scan.length,
        keep=keep,
    )


def _called(node: Node) -> str:
    """What a message calls a value that a body reads."""
    return next((str(v) for k, v in node.attrs if k == "name"), node.op.name)


def _needed(
    scan: Open, parts: Mapping[tuple[str, int], int], captured: Mapping[Node, tuple[Node, ...]]
) -> tuple[list[int], list[int], set[Node]]:
    """The carried values and the outputs that the parts need, and the nodes of the body with them."""
    carried = {k for what, k in parts if what != "output"}
    outputs = sorted({k for what, k in parts if what == "output"})
    stop = frozenset(captured[scan.node])
    while True:
        roots = [scan.new[k] for k in sorted(carried)] + [scan.outputs[k] for k in outputs]
        if scan.condition is not None:
            roots.append(scan.condition)
        reached = set(level(roots, captured, stop))
        more = {k for k, b in enumerate(scan.state) if b in reached} - carried
        if not more:
            return sorted(carried), outputs, reached
        carried |= more
