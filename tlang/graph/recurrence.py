"""Recurrences in the graph: a body that is repeated, what it reads from outside, and its closed form.

While a function is elaborated, a recurrence is an `open_scan` node, and its body is part of the graph around
it: it hangs on `bound` leaves, which stand for the element of each sequence and for each carried value.
So givens, swaps and stable forms need to know nothing of bodies. `tlang.rewrite.close` cuts the bodies out
for backends: a `scan` node has a :class:`Body`, and what that reads from outside is one of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tlang.graph.node import OPS, Graph, Node, toposort
from tlang.source import Span
from tlang.types import Dim, Tensor

_serials = count(1)


def bound(graph: Graph, kind: Tensor, name: str, span: Span | None) -> Node:
    """A new leaf that stands for a value of the current step; like no other."""
    return graph.leaf("bound", kind.strong(), span, name=name, serial=next(_serials))


@dataclass(frozen=True, slots=True, eq=False)
class Open:
    """An `open_scan` node taken apart.

    `steps` is the number of steps, unless sequences or the condition decide it; `init` are the values
    carried into the first step. `state` and `elements` are the bound leaves; `new` and `outputs` what a
    step makes of them, `condition` whether it is made at all.
    """

    node: Node
    steps: Node | None
    init: tuple[Node, ...]
    sequences: tuple[Node, ...]
    state: tuple[Node, ...]
    elements: tuple[Node, ...]
    new: tuple[Node, ...]
    outputs: tuple[Node, ...]
    condition: Node | None

    @staticmethod
    def of(node: Node) -> Open:
        """The parts of a node."""
        rest = iter(node.inputs)

        def take(k: int) -> tuple[Node, ...]:
            return tuple(next(rest) for _ in range(k))

        carried, sequences = node.attr("carried"), node.attr("sequences")
        steps = take(node.attr("steps"))
        init, given, state = take(carried), take(sequences), take(carried)
        elements, new, outputs = take(sequences), take(carried), take(node.attr("outputs"))
        condition = take(node.attr("condition"))
        first, last = (x[0] if x else None for x in (steps, condition))
        return Open(node, first, init, given, state, elements, new, outputs, last)

    @property
    def reverse(self) -> bool:
        """Whether the last element comes first."""
        return bool(self.node.attr("reverse"))

    @property
    def length(self) -> Dim:
        """The number of steps that are made."""
        return self.node.graph.solver.resolve(self.node.attr("length"))

    @property
    def bound(self) -> tuple[Node, ...]:
        """The leaves of the body."""
        return (*self.state, *self.elements)

    @property
    def results(self) -> tuple[Node, ...]:
        """What a step computes."""
        return (*self.new, *self.outputs, *((self.condition,) if self.condition is not None else ()))

    @property
    def outside(self) -> tuple[Node, ...]:
        """The inputs that are no part of the body."""
        return (*((self.steps,) if self.steps is not None else ()), *self.init, *self.sequences)

    def part(self, what: str, index: int) -> Node:
        """One of the results of all steps.

        `what` is "last" or "all" of a carried value, "before" for its values at the beginning of each step,
        or "output".
        """
        return self.node.graph.make(OPS["result"], [self.node], self.node.span, what=what, index=index)


def open_scan(
    graph: Graph,
    span: Span | None,
    init: Sequence[Node],
    sequences: Sequence[Node],
    state: Sequence[Node],
    elements: Sequence[Node],
    new: Sequence[Node],
    outputs: Sequence[Node],
    *,
    length: Dim,
    steps: Node | None = None,
    condition: Node | None = None,
    reverse: bool = False,
) -> Open:
    """The node of a recurrence, taken apart."""
    first = [] if steps is None else [steps]
    last = [] if condition is None else [condition]
    node = graph.make(
        OPS["open_scan"],
        [*first, *init, *sequences, *state, *elements, *new, *outputs, *last],
        span,
        carried=len(init),
        sequences=len(sequences),
        outputs=len(outputs),
        steps=len(first),
        condition=len(last),
        reverse=reverse,
        length=length,
    )
    return Open.of(node)


# ---------------------------------------------------------------- what bodies read


def captures(roots: Sequence[Node]) -> dict[Node, tuple[Node, ...]]:
    """For each `open_scan` that the roots reach: what its body reads that is the same in all steps.

    These are the outermost formulas without its bound leaves, constants aside: what does not change is
    computed once.
    """
    order = toposort(roots)
    found: dict[Node, tuple[Node, ...]] = {}
    if not any(n.op.name == "open_scan" for n in order):
        return found
    none: frozenset[Node] = frozenset()
    depends: dict[Node, frozenset[Node]] = {}
    for node in order:
        if node.op.name == "bound":
            depends[node] = frozenset((node,))
        elif node.op.name != "open_scan":
            sets = {s for x in node.inputs if (s := depends[x])}
            depends[node] = none.union(*sets) if len(sets) > 1 else sets.pop() if sets else none
        else:
            scan = Open.of(node)
            own = frozenset(scan.bound)
            inside = none.union(*(depends[x] for x in scan.results)) - own
            depends[node] = inside.union(*(depends[x] for x in scan.outside))
            found[node] = _captured(scan, own, depends, found)
    return found


def _captured(
    scan: Open,
    own: frozenset[Node],
    depends: Mapping[Node, frozenset[Node]],
    found: Mapping[Node, tuple[Node, ...]],
) -> tuple[Node, ...]:
    out: dict[Node, None] = {}
    seen: set[Node] = set()
    todo = list(reversed(scan.results))
    while todo:
        node = todo.pop()
        if node in seen or node.op.name == "const":
            continue
        seen.add(node)
        if depends[node] & own:
            todo.extend(reversed(inputs_of(node, found)))
        else:
            out[node] = None
    return tuple(out)


def inputs_of(node: Node, captured: Mapping[Node, tuple[Node, ...]]) -> tuple[Node, ...]:
    """What a node needs from its own level: of a recurrence not the body, but what that captures."""
    if node.op.name != "open_scan":
        return node.inputs
    return (*Open.of(node).outside, *captured[node])


def level(
    roots: Sequence[Node], captured: Mapping[Node, tuple[Node, ...]], stop: Collection[Node] = ()
) -> list[Node]:
    """The nodes of one level, inputs before users; what comes before those of `stop` is left out."""
    return toposort(roots, lambda n: () if n in stop else inputs_of(n, captured))


# ---------------------------------------------------------------- the closed form


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """What a step computes, over leaves alone.

    `state`, `elements` and `free` are the leaves; `new` gives each carried value anew, `outputs` the others.
    """

    state: tuple[Node, ...]
    elements: tuple[Node, ...]
    free: tuple[Node, ...]
    new: tuple[Node, ...]
    outputs: tuple[Node, ...]
    condition: Node | None

    @property
    def results(self) -> tuple[Node, ...]:
        """Everything that a step computes."""
        return (*self.new, *self.outputs, *((self.condition,) if self.condition is not None else ()))

    def __str__(self) -> str:
        return f"<{len(toposort(self.results))} nodes>"


# ---------------------------------------------------------------- what it means


def iterate(
    np: Any,
    body: Body,
    step: Callable[[Sequence[Any]], Sequence[Any]],
    state: list[Any],
    sequences: Sequence[Any],
    count: int | None,
    reverse: bool,
    keep: Sequence[tuple[str, int]],
    shapes: Sequence[tuple[tuple[int | None, ...], str]],
) -> tuple[Any, ...]:
    """The parts `keep` of a recurrence, step by step.

    `step` takes the carried values and the elements and gives the body's results; `count` is the number of
    steps, None where the condition alone decides; `shapes` are shapes and dtypes of the rows of each part: a
    size that only the steps decide is None.
    """
    rows: list[Any] = [None if what == "last" else [] for what, _ in keep]
    if count is not None and body.condition is None:
        for k, ((what, _), (shape, dtype)) in enumerate(zip(keep, shapes, strict=True)):
            if what != "last" and None not in shape:
                rows[k] = np.empty((count, *shape), dtype)
    carried = len(state)
    t = 0
    while count is None or t < count:
        at = count - 1 - t if reverse and count is not None else t
        made = step([*state, *(s[at] for s in sequences)])
        if body.condition is not None and not made[-1]:
            break
        for (what, k), stored in zip(keep, rows, strict=True):
            if stored is None:
                continue
            value = state[k] if what == "before" else made[k if what == "all" else carried + k]
            if isinstance(stored, list):
                stored.append(value)
            else:
                stored[at] = value
        state = list(made[:carried])
        t += 1
    out = []
    for (_, k), stored, (shape, dtype) in zip(keep, rows, shapes, strict=True):
        if stored is None:
            out.append(state[k])
        elif isinstance(stored, list):
            none = (0, *(size or 0 for size in shape))
            out.append(np.array(stored, dtype) if stored else np.empty(none, dtype))
        else:
            out.append(stored)
    return tuple(out)
