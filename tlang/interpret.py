"""The definition of what a graph means: its nodes in order, each by the NumPy meaning of its row.

Slow and obvious. Compiled backends must agree with it; it is also the first tier, which answers at
once. A graph becomes a :class:`Tape`, a list of NumPy calls over numbered slots, made once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tlang.errors import TlangError, error, placed
from tlang.graph.node import LEAVES, Node, toposort
from tlang.graph.ops.random import DISTRIBUTIONS, beside
from tlang.graph.recurrence import Body, iterate
from tlang.source import Span
from tlang.types import Dim, Symbol, Tensor

Array = Any
Sizes = dict[Symbol, int]
Leaf = Callable[[Node], Array]
Draw = Callable[[Node, Sequence[Array], tuple[int, ...]], Array]
#: What does an operation in the place of the tape, to watch it: a function of its node, itself (to be called
#: without arguments) and its operands, which gives its result.
Watch = Callable[[Node, Callable[[], Array], Sequence[Array]], Array]
#: A function of (sizes, draw, *operands), its operands, what its result stands for, and whose place an
#: error has. Operands and results are nodes, or what else a backend makes.
Call = tuple[Callable[..., Array], Sequence[object], object, Node]


def constant(node: Node) -> Array:
    """The array, or NumPy scalar, of a const node."""
    try:
        with np.errstate(all="ignore"):
            return np.array(node.value, dtype=node.dtype.numpy_name).reshape(_const_shape(node.type))[()]
    except OverflowError:
        raise error("T124", node.span, value=node.value, dtype=node.dtype) from None


def _const_shape(kind: Tensor) -> tuple[int, ...]:
    return tuple(d.const for d in kind.shape)


def evaluate_dims(value: Any, sizes: Sizes) -> Any:
    """An attribute with every size as an integer; None for a size that is not known yet."""
    if isinstance(value, Dim):
        try:
            return value.evaluate(sizes)
        except KeyError:
            return None
    if isinstance(value, tuple):
        return tuple(evaluate_dims(v, sizes) for v in value)
    return value


def _has_symbols(value: Any) -> bool:
    if isinstance(value, Dim):
        return not value.is_const
    return isinstance(value, tuple) and any(map(_has_symbols, value))


class Tape:
    """The roots of a graph as NumPy calls; `reads` are leaves whose shapes also name sizes."""

    def __init__(self, roots: Sequence[Node], reads: Sequence[Node] = ()) -> None:
        order = toposort(roots)
        calls = self.calls(roots)
        slot: dict[object, int] = {x: i for i, x in enumerate(order)}
        for _, _, made, _ in calls:
            slot.setdefault(made, len(slot))
        self.size = len(slot)
        self.roots = [slot[r] for r in roots]
        self.leaves: list[tuple[int, Node]] = []
        self.constants: list[tuple[int, Array]] = []
        self.steps: list[tuple[Any, ...]] = []
        leaf_nodes: dict[tuple[str, Any], Node] = {}
        for node in order:
            if node.op.name == "const":
                self.constants.append((slot[node], constant(node)))
            elif node.op.name in LEAVES:
                self.leaves.append((slot[node], node))
                leaf_nodes[node.op.name, node.attrs[1:]] = node
        last = {slot[x]: at for at, (_, inputs, _, _) in enumerate(calls) for x in inputs}
        kept = set(self.roots)
        for at, (call, operands, made, node) in enumerate(calls):
            inputs = tuple(slot[x] for x in operands)
            free = tuple(x for x in set(inputs) if last[x] == at and x not in kept)
            self.steps.append((call, inputs, slot[made], free, node))
        others = {}
        for n in reads:
            if n.op.name in LEAVES and (n.op.name, n.attrs[1:]) not in leaf_nodes:
                others[n.op.name, n.attrs[1:]] = n
        self.others = [n for n in others.values() if any(not d.is_const for d in n.shape)]

    def calls(self, roots: Sequence[Node]) -> list[Call]:
        """What to run, in order: here the NumPy meaning of each operation alone."""
        return [
            (self._call(n), n.inputs, n, n)
            for n in toposort(roots)
            if n.op.name != "const" and n.op.name not in LEAVES
        ]

    def _call(self, node: Node) -> Callable[..., Array]:
        """The node as a function of (sizes, draw, *inputs)."""
        shape = node.shape
        if node.op.name == "draw":
            places = [p.place for p in DISTRIBUTIONS[node.attr("distribution")].params]
            return lambda sizes, draw, *xs: draw(node, xs, _draw_shape(shape, sizes, xs, places))
        if node.op.name == "scan":
            return self._scan(node)
        meaning = node.op.numpy
        assert meaning is not None, node
        attrs = dict(node.attrs)
        resolve = node.graph.solver.resolve
        if any(isinstance(v, Dim | tuple) for v in attrs.values()):
            from tlang.graph.node import map_dims

            attrs = {k: map_dims(v, resolve) for k, v in attrs.items()}
        if any(map(_has_symbols, attrs.values())):

            def with_sizes(sizes: Sizes, draw: Draw, *xs: Array) -> Array:
                return meaning(np, *xs, **{k: evaluate_dims(v, sizes) for k, v in attrs.items()})

            call: Callable[..., Array] = with_sizes
        else:
            fixed = partial(meaning, np, **{k: evaluate_dims(v, {}) for k, v in attrs.items()})

            def plain(sizes: Sizes, draw: Draw, *xs: Array) -> Array:
                return fixed(*xs)

            call = plain
        if not node.op.dynamic:
            return call

        def checked(sizes: Sizes, draw: Draw, *xs: Array) -> Array:
            out = call(sizes, draw, *xs)
            bind_result(out.shape, shape, sizes)
            return out

        return checked

    def _scan(self, node: Node) -> Callable[..., Array]:
        """A closed recurrence as a function of (sizes, draw, *inputs)."""
        body: Body = node.attr("body")
        steps = Steps(body, self._body(body), node.span)
        counted = node.attr("steps")
        reverse, keep = node.attr("reverse"), node.attr("keep")
        of = {"last": body.state, "all": body.state, "before": body.state, "output": body.outputs}
        rows = [of[what][k] for what, k in keep]

        def run(sizes: Sizes, draw: Draw, *xs: Array, watch: Watch | None = None) -> Array:
            count = int(xs[0]) if counted else None
            carried, given = len(body.state), len(body.elements)
            state, rest = list(xs[counted : counted + carried]), xs[counted + carried :]
            sequences, free = rest[:given], rest[given:]
            if sequences:
                lengths = {len(s) for s in sequences}
                if len(lengths) > 1:
                    raise error("F203", node.span, notes=[f"lengths {', '.join(map(str, sorted(lengths)))}"])
                count = lengths.pop()
            if count is not None and count < 0:
                raise error("R113", size=count)
            shapes = [(evaluate_shape(r, sizes), r.dtype.numpy_name) for r in rows]
            step = steps.start(free, dict(sizes), draw, watch)
            return iterate(np, body, step, state, sequences, count, reverse, keep, shapes)

        return run

    def _body(self, body: Body) -> Tape:
        """The tape of a body."""
        return Tape(body.results)

    def run(
        self, leaf: Leaf, draw: Draw, sizes: Sizes | None = None, watch: Watch | None = None
    ) -> list[Array]:
        """The roots' values; `leaf` gives the leaves, `sizes` what is known of the call's sizes."""
        sizes = {} if sizes is None else sizes
        slots: list[Array] = [None] * self.size
        for i, value in self.constants:
            slots[i] = value
        for i, value in zip((i for i, _ in self.leaves), self.bind(leaf, sizes), strict=True):
            slots[i] = value
        return self.execute(slots, draw, sizes, watch)

    def bind(self, leaf: Leaf, sizes: Sizes) -> list[Array]:
        """The values of the leaves, whose shapes give sizes their values."""
        values: list[Array] = []
        bound: list[tuple[str, Node, tuple[int, ...]]] = []
        for _, node in self.leaves:
            values.append(value := leaf(node))
            if node.type.shape:
                bound.append((leaf_name(node), node, value.shape))
        for node in self.others:
            bound.append((leaf_name(node), node, np.shape(leaf(node))))
        if bound:
            bind_sizes(bound, sizes)
        return values

    def execute(
        self, slots: list[Array], draw: Draw, sizes: Sizes, watch: Watch | None = None
    ) -> list[Array]:
        """The roots' values; `slots` has constants and leaves in their places."""
        at: Node | None = None
        try:
            with np.errstate(all="ignore"):
                for call, inputs, i, free, node in self.steps:
                    at = node
                    operands = [slots[x] for x in inputs]
                    if watch is None:
                        slots[i] = call(sizes, draw, *operands)
                    else:
                        inside = {"watch": watch} if node.op.name == "scan" else {}
                        slots[i] = watch(node, partial(call, sizes, draw, *operands, **inside), operands)
                    for x in free:
                        slots[x] = None
        except TlangError as e:
            raise placed(e, at.span if at is not None else None) from None
        except MemoryError:
            raise error("R121", at.span if at is not None else None) from None
        except (ValueError, IndexError, TypeError, OverflowError) as e:
            raise error("R120", at.span if at is not None else None, what=str(e)) from None
        return [slots[r] for r in self.roots]


class HostTape(Tape):
    """A tape for leaves that may lie on a device: those that an operation reads are fetched."""

    def execute(
        self, slots: list[Array], draw: Draw, sizes: Sizes, watch: Watch | None = None
    ) -> list[Array]:
        """The roots' values; a root that is a leaf stays where it is."""
        read = {x for _, inputs, *_ in self.steps for x in inputs}
        for i in read:
            slots[i] = on_host(slots[i])
        return super().execute(slots, draw, sizes, watch)


def on_host(value: Any) -> Any:
    """A value for NumPy: what lies on a device is fetched."""
    fetch = getattr(value, "host", None)
    return value if fetch is None else fetch()


class Steps:
    """The steps of a recurrence: its body as a tape, over values that change from step to step."""

    def __init__(self, body: Body, tape: Tape, span: Span | None) -> None:
        self.body = body
        self.tape = tape
        self.slots = {node: i for i, node in self.tape.leaves}
        self.span = span

    def start(
        self, free: Sequence[Array], sizes: Sizes, draw: Draw, watch: Watch | None = None
    ) -> Callable[[Sequence[Array]], list[Array]]:
        """The function that makes a step of carried values and elements; sizes are checked in the first."""
        body, tape = self.body, self.tape
        values: dict[Node, Array] = dict(zip(body.free, free, strict=True))
        base: list[Array] = [None] * tape.size
        for i, value in tape.constants:
            base[i] = value
        for node, value in values.items():
            if node in self.slots:
                base[self.slots[node]] = value
        changing = (*body.state, *body.elements)
        places = [(k, self.slots[n]) for k, n in enumerate(changing) if n in self.slots]
        first = True

        def step(current: Sequence[Array]) -> list[Array]:
            nonlocal first
            if first:
                values.update(zip(changing, current, strict=True))
                tape.bind(values.__getitem__, sizes)  # sizes from inside of a step are new in each
                first = False
            slots = base.copy()
            for k, i in places:
                slots[i] = current[k]
            made = tape.execute(slots, draw, dict(sizes), watch)
            for before, value in zip(current, made[: len(body.new)], strict=False):
                if np.shape(before) != np.shape(value):
                    raise error("R132", self.span, wanted=np.shape(before), found=np.shape(value))
            return made

        return step


def evaluate_shape(node: Node, sizes: Sizes) -> tuple[int | None, ...]:
    """A node's shape in a call; None for a size that is not known yet."""
    return tuple(evaluate_dims(d, sizes) for d in node.shape)


def leaf_name(node: Node) -> str:
    """What a message calls a leaf."""
    name = str(node.attr("name"))
    inside = name.partition("(")[2].rstrip(")")
    return inside or name


def _draw_shape(
    shape: Sequence[Dim], sizes: Sizes, params: Sequence[Array], places: Sequence[str]
) -> tuple[int, ...]:
    """A draw's shape: declared sizes, `_` from the parameters."""
    known = zip(params, places, strict=False)
    common = np.broadcast_shapes(*(beside(place, np.shape(p), 1) for p, place in known))
    out = []
    for axis, dim in enumerate(shape):
        size = evaluate_dims(dim, sizes)
        at = axis - len(shape) + len(common)
        if size is None:
            size = common[at] if at >= 0 else None
        if size is None:
            raise error("R122", size=dim)
        out.append(size)
    return tuple(out)


# ---------------------------------------------------------------- sizes of a call


def bind_sizes(leaves: Sequence[tuple[str, Node, tuple[int, ...]]], sizes: Sizes) -> None:
    """Gives every named size its value from actual shapes; two values for one are an error."""
    origin: dict[Symbol, str] = {}
    pending = []
    for name, node, actual in leaves:
        shape = node.shape
        if len(shape) != len(actual):
            raise error("R130", node.span, name=name, wanted=node.type.declared(), found=len(actual))
        for axis, (dim, size) in enumerate(zip(shape, actual, strict=True)):
            if dim.terms or dim.const != size:
                pending.append((name, node, axis, dim, size))
    while pending:
        rest = []
        for item in pending:
            name, node, axis, dim, size = item
            unknown = [(s, k) for s, k in dim.terms if s not in sizes]
            if not unknown:
                have = dim.evaluate(sizes)
                if have != size:
                    raise _size_error(name, node, axis, dim, size, have, origin)
            elif len(unknown) == 1:
                symbol, k = unknown[0]
                others = size - dim.const - sum(sizes[s] * c for s, c in dim.terms if s in sizes)
                if others % k or others // k < 0:
                    raise _size_error(name, node, axis, dim, size, None, origin)
                sizes[symbol] = others // k
                origin[symbol] = f"`{name}` (axis {axis})"
            else:
                rest.append(item)
        if len(rest) == len(pending):
            return
        pending = rest


def _size_error(
    name: str, node: Node, axis: int, dim: Dim, size: int, have: int | None, origin: dict[Symbol, str]
) -> TlangError:
    declared = node.type.shape[axis]
    shown = declared.alias or str(dim)
    sources = [f"{s.name} comes from {origin[s]}" for s in dim.symbols() if s in origin]
    wanted = f"{have}" if have is not None else f"of the form {dim}"
    if shown != wanted:
        wanted = f"{shown} = {wanted}" if have is not None else wanted
    return error("R131", node.span, name=name, axis=axis, found=size, wanted=wanted, notes=sources)


def bind_result(actual: tuple[int, ...], shape: Sequence[Dim], sizes: Sizes) -> None:
    """Checks the actual sizes of a result against its type; sizes met for the first time get a value."""
    for dim, size in zip(shape, actual, strict=True):
        unknown = [(s, k) for s, k in dim.terms if s not in sizes]
        if not unknown:
            wanted = dim.evaluate(sizes)
            if wanted != size:
                if wanted < 0:
                    raise error("R113", size=wanted)
                raise error("R132", wanted=f"{dim} = {wanted}" if dim.terms else wanted, found=size)
        elif len(unknown) == 1 and unknown[0][1] == 1:
            sizes[unknown[0][0]] = size - dim.const - sum(sizes[s] * c for s, c in dim.terms if s in sizes)
