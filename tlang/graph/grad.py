"""Reverse-mode differentiation: one walk over the graph, each operation's own rule from its row.

The cotangent of a complex number x + i y is dL/dx - i dL/dy. So the rule of an analytic function is that of
real numbers, without conjugates, and few others (abs, real, conj ...) need to know of complex numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from tlang.graph.batch import Stack, over
from tlang.graph.node import OPS, Node, rebuild, substitute, toposort
from tlang.graph.ops.rules import iota, size_of, zeros_like
from tlang.graph.recurrence import Open, bound, captures, inputs_of, level, open_scan
from tlang.types import Tensor


def passes(node: Node, i: int, x: Node) -> bool:
    """Whether a gradient can flow from a node to its input `i`, which is `x`."""
    return (
        node.op.grad is not None
        and node.dtype.is_inexact
        and x.dtype.is_inexact
        and i not in node.op.shape_only
        and (node.op.flows is None or node.op.flows(node, i))
    )


def vjp(out: Node, wrt: Sequence[Node], seed: Node) -> list[Node | None]:
    """The cotangents of `wrt` for the cotangent `seed` of `out`; None where nothing connects them.

    A node of `wrt` that lies between `out` and another one still passes its gradient on: every
    result is the total derivative.
    """
    captured = captures([out])
    order = level([out], captured) if captured else toposort([out])
    return pull([out], [seed], wrt, order, captured)


def pull(
    outs: Sequence[Node],
    seeds: Sequence[Node],
    wrt: Sequence[Node],
    order: Sequence[Node],
    captured: Mapping[Node, tuple[Node, ...]],
    stop: Collection[Node] = (),
) -> list[Node | None]:
    """The cotangents of `wrt` for those of several nodes; `order` are the nodes of one level between them.

    Nodes of `stop` come from another level, where their gradients are passed on.
    """
    active = {id(w) for w in wrt}
    for node in order:
        if node not in stop and any(
            id(x) in active and passes(node, i, x) for i, x in enumerate(inputs_of(node, captured))
        ):
            active.add(id(node))
    cotangents: dict[int, Node] = {}
    parts: dict[Node, dict[tuple[str, int], Node]] = {}

    def add(x: Node, part: Node) -> None:
        fits = part.rank == x.rank and all(map(x.graph.solver.unify, part.shape, x.shape))
        assert fits, f"the gradient for {x} is {part}"
        before = cotangents.get(id(x))
        cotangents[id(x)] = part if before is None else before + part

    for out, seed in zip(outs, seeds, strict=True):
        if id(out) in active:
            add(out, seed)
    for node in reversed(order):
        if node in stop:
            continue
        if node in parts:
            wanted = {x for x in inputs_of(node, captured) if id(x) in active and passes(node, 0, x)}
            for x, g in _pull_scan(Open.of(node), parts[node], wanted, captured):
                add(x, g)
            continue
        own = cotangents.get(id(node))
        if own is None or node.op.grad is None:
            continue
        if node.op.name == "result":
            parts.setdefault(node.inputs[0], {})[node.attr("what"), node.attr("index")] = own
            continue
        indices = [i for i, x in enumerate(node.inputs) if id(x) in active and passes(node, i, x)]
        if not indices:
            continue
        made = node.op.grad(own, node, *node.inputs, **dict(node.attrs))
        for i in indices:
            if (part := made[i]) is not None:
                add(node.inputs[i], part)
    return [cotangents.get(id(w)) for w in wrt]


def _pull_scan(
    scan: Open,
    cotangents: Mapping[tuple[str, int], Node],
    wanted: Collection[Node],
    captured: Mapping[Node, tuple[Node, ...]],
) -> list[tuple[Node, Node]]:
    """The cotangents of what a recurrence reads: a recurrence in the other direction.

    It carries the cotangents of the carried values, and sums for what the body captures; the values
    carried into each step and out of it, which the first run keeps, are among its sequences. So the memory is
    linear in the number of steps, and what is inside of a step is computed again.
    """
    graph, span = scan.node.graph, scan.node.span
    sequences: list[Node] = []
    elements: list[Node] = []

    def along(sequence: Node, element: Node) -> Node:
        sequences.append(sequence)
        elements.append(element)
        return element

    def fresh(kind: Node, name: str) -> Node:
        return bound(graph, kind.type.with_shape(kind.shape), name, span)

    def cotangent(what: str, index: int, like: Node) -> Node | None:
        g = cotangents.get((what, index))
        return None if g is None else along(g, fresh(like, "cotangent"))

    given = []
    for x, element in zip(scan.sequences, scan.elements, strict=True):
        given.append(x if scan.condition is None else _first(x, scan.part("before", 0)))
        along(given[-1], element)
    for k, b in enumerate(scan.state):
        along(scan.part("before", k), b)
    floats = [k for k, b in enumerate(scan.state) if b.dtype.kind == "f"]
    sums = [f for f in captured[scan.node] if f in wanted]
    state = [fresh(scan.state[k], "cotangent") for k in floats] + [fresh(f, "sum") for f in sums]
    outs, seeds = [], []
    for k, g in zip(floats, state, strict=False):
        row = cotangent("all", k, g)
        outs.append(scan.new[k])
        seeds.append(g if row is None else g + row)
    for k, out in enumerate(scan.outputs):
        row = cotangent("output", k, out)
        if row is not None:
            outs.append(out)
            seeds.append(row)
    stop = frozenset((*captured[scan.node], *scan.bound))
    inner = level(scan.results, captured, stop)
    places = [scan.state[k] for k in floats]
    through = [b for x, b in zip(scan.sequences, scan.elements, strict=True) if x in wanted]
    found = pull(outs, seeds, [*places, *through, *sums], inner, captured, stop)
    count, rest = len(floats), len(floats) + len(through)
    passed, summed = found[count:rest], found[rest:]
    new: list[Node] = []
    for k, place, back in zip(floats, places, found[:count], strict=True):
        row = cotangent("before", k, place)
        total = row if back is None else back if row is None else back + row
        new.append((zeros_like(place) if total is None else total).cast(place.dtype))
    for s, more in zip(state[count:], summed, strict=True):
        new.append(s if more is None else s + more)
    outputs = [zeros_like(b) if part is None else part for b, part in zip(through, passed, strict=True)]
    known: dict[Node, Node] = {}  # what a step has made is kept as well, and not computed again
    for k, made_new in enumerate(scan.new):
        if made_new.op.name != "const" and made_new not in stop:
            known[made_new] = along(scan.part("all", k), fresh(made_new, "made"))
    results = substitute([*new, *outputs], known)
    new, outputs = results[: len(new)], results[len(new) :]
    init = [cotangents.get(("last", k), zeros_like(scan.init[k])) for k in floats]
    made = open_scan(
        graph,
        span,
        [*init, *(zeros_like(f) for f in sums)],
        sequences,
        state,
        elements,
        new,
        outputs,
        length=scan.length,
        steps=scan.steps if scan.condition is None else None,
        reverse=not scan.reverse,
    )
    pairs = [(scan.init[k], made.part("last", at)) for at, k in enumerate(floats) if scan.init[k] in wanted]
    for at, (b, part) in enumerate(zip(through, passed, strict=True)):
        if part is not None:
            k = scan.elements.index(b)
            pairs.append((scan.sequences[k], _whole(scan.sequences[k], given[k], made.part("output", at))))
    for at, (f, part) in enumerate(zip(sums, summed, strict=True), len(floats)):
        if part is not None:
            pairs.append((f, made.part("last", at)))
    return pairs


def _first(x: Node, like: Node) -> Node:
    """As many elements of a sequence as another has."""
    spec = (("slice", None, ("input", 1), 1),)
    return x.graph.make(OPS["index"], [x, size_of(like, 0)], x.span, spec=spec)


def _whole(x: Node, part: Node, g: Node) -> Node:
    """The cotangent of a sequence for that of its first elements."""
    if part is x:
        return g
    assert part.op.grad is not None
    (made, *_) = part.op.grad(g, part, *part.inputs, **dict(part.attrs))
    assert made is not None
    return made


def grad(cost: Node, wrt: Sequence[Node]) -> list[Node | None]:
    """The gradients of a scalar cost, each of the shape and dtype of its node."""
    one = cost.graph.const(1.0, Tensor(cost.dtype), cost.span)
    return vjp(cost, wrt, one)


def jvp(out: Node, wrt: Node, tangent: Node) -> Node | None:
    """The derivative of `out` along `tangent` in `wrt`, as the transpose of the transpose.

    The cotangent of `wrt` is linear in the cotangent u of `out`; pulling `tangent` back through
    that linear function of u gives J t.
    """
    out, wrt = _unclipped(out, wrt)
    u = out.graph.leaf("hole", out.type.strong(), out.span, name=("jvp", id(out)))
    (pulled,) = vjp(out, [wrt], u)
    if pulled is None:
        return None
    (result,) = vjp(pulled, [u], tangent)
    if result is None:
        return None
    # What is left of u is its shape only.
    return substitute([result], {u: out})[0]


def _unclipped(out: Node, wrt: Node) -> tuple[Node, Node]:
    """Both without `grad_clip`, which changes cotangents and is nothing to tangents."""

    def plain(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        return inputs[0] if node.op.name == "grad_clip" else None

    first, second = rebuild([out, wrt], plain, out.graph)
    return first, second


def jacobian(out: Node, wrt: Node) -> Node | None:
    """The derivative of each element of `out` in each of `wrt`: the axes of `out`, then those of `wrt`."""
    if out.rank == 0:
        return vjp(out, [wrt], out.graph.const(1.0, Tensor(out.dtype), out.span))[0]
    if wrt.rank == 0:
        return jvp(out, wrt, out.graph.const(1.0, Tensor(wrt.dtype), out.span))
    u = out.graph.leaf("hole", out.type.strong(), out.span, name=("jacobian", id(out)))
    (pulled,) = vjp(out, [wrt], u)
    if pulled is None:
        return None
    if any(n.op.name == "open_scan" for n in toposort([pulled])):
        rows = _one_by_one(pulled, u, _identity(out), out.rank)
    else:
        (rows,) = over([pulled], {u: _identity(out)}, out.rank)
    return substitute([rows], {u: out})[0]  # what is left of u is its shape only


def _one_by_one(pulled: Node, u: Node, stack: Node, depth: int) -> Node:
    """What is pulled back for each of a stack in the place of u: a recurrence for each axis of the stack."""
    if depth == 0:
        return substitute([pulled], {u: stack})[0]
    graph, span = stack.graph, stack.span
    element = bound(graph, stack.type.with_shape(stack.shape[1:]), "cotangent", span)
    row = _one_by_one(pulled, u, element, depth - 1)
    scan = open_scan(graph, span, [], [stack], [], [element], [], [row], length=stack.shape[0])
    return scan.part("output", 0)


def _identity(x: Node) -> Node:
    """For each element of x a tensor of its shape that is 1 there and 0 elsewhere."""
    same: Node | None = None
    for axis in range(x.rank):
        place = iota(x, axis)
        row, column = (
            place.apply("expand_dims", axis=tuple(i for i in range(2 * x.rank) if i != at))
            for at in (axis, x.rank + axis)
        )
        hit = row.apply("eq", column)
        same = hit if same is None else same.apply("and", hit)
    assert same is not None
    return same.cast(x.dtype)


def hessian(cost: Node, wrt: Node) -> Node | None:
    """The second derivatives of a scalar cost: the axes of `wrt` twice. Of a constant gradient zeros."""
    (slope,) = grad(cost, [wrt])
    if slope is None:
        return None
    found = jacobian(slope, wrt)
    return found if found is not None else no_derivative("hessian", cost, wrt)


def no_derivative(what: str, out: Node, wrt: Node) -> Node:
    """The zeros that a "grad", a "jacobian" or a "hessian" is where nothing connects the two."""
    if what == "grad":
        return zeros_like(wrt)
    front = wrt if what == "hessian" else out
    stack = Stack(tuple((d, size_of(front, i)) for i, d in enumerate(front.shape)))
    return stack.stretched(zeros_like(wrt))


def find_cut(out: Node, source: Node) -> Node | None:
    """The node where the derivative in `source` ends on a path to `out`; None without such a path."""
    alive = {id(source)}
    cut: Node | None = None
    for node in toposort([out]):
        ways = [passes(node, i, x) for i, x in enumerate(node.inputs) if id(x) in alive]
        if any(ways):
            alive.add(id(node))
        elif ways:
            cut = node
    return cut
