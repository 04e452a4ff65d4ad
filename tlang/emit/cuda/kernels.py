"""The text of CUDA kernels: for each step one or more, each a module of its own, with the grid to run on.

A kernel gets sizes and flat arrays; the elements are those of the CPU (`tlang.emit.elements`), around them
are other loops. A nest without rows of stages is one grid-stride loop. Where rows pass through stages, a team
of threads does a row: those along x its columns, those along y other rows. Totals of a block meet in shared
memory, and a second kernel combines those of all blocks, in an order that sizes alone decide: results do not
depend on the device. Nothing is kept between the stages of a row: to compute is cheaper than to write.

An error of an element (`fails`) sets the first word of `status`; what the call gives is then of no use.
"""

from __future__ import annotations

from tlang.emit.cuda.actions import Action, Copy, Launch, Product
from tlang.emit.cuda.grids import Grid
from tlang.emit.cuda.nests import Flat, Rows, combine
from tlang.emit.cuda.own import own_kernels
from tlang.emit.cuda.philox import per_block, words_of
from tlang.emit.cuda.places import Atomic, Ordered, Others
from tlang.emit.cuda.text import KernelText
from tlang.emit.text import stored
from tlang.graph.node import Node
from tlang.plan.steps import Fill, Gemm, Nest, Own, Role, Step, is_literal
from tlang.plan.views import access

#: So many updates of places at most are made in their order; of more, floats are added as they come.
ORDERED = 1 << 14
#: What can be added to a place by several threads at once.
_ATOMIC = frozenset({"int32", "int64", "uint32", "uint64", "float32", "float64"})


def kernels(step: Step) -> list[Action]:
    """What a step does on a device, in order."""
    if isinstance(step, Nest):
        return _Nest(step).actions()
    if isinstance(step, Gemm):
        return [Product(step)]
    if isinstance(step, Own):
        return own_kernels(step)
    assert isinstance(step, Fill), step
    return [_fill(step)]


class _Nest:
    """The kernels of one nest."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest

    def actions(self) -> list[Action]:
        """What a nest does, in order."""
        placed = [n for n in self.nest.nodes if self.nest.roles[n] is Role.PLACED]
        if placed:
            return self.places(*placed)
        writer = Rows(self.nest) if self.nest.split is not None else Flat(self.nest)
        main = writer.write()
        return [main, *(combine(n, part) for n, part in writer.partials.items())]

    def places(self, node: Node) -> list[Action]:
        """All places are looked at, what is changed is copied, and then the values go there."""
        out: list[Action] = []
        if any(n.op.fails for n in self.nest.nodes) or len(self.nest.outputs) > 1:
            out.append(Others(self.nest).write())
        base = access(node.inputs[0]).base
        out.append(_filled(node, base) if is_literal(base) else Copy(base, node))
        exact = node.dtype.kind != "f"
        if not node.attr("add") or node.dtype.numpy_name not in _ATOMIC:
            return [*out, Ordered(self.nest).write()]
        if exact:
            return [*out, Atomic(self.nest).write()]
        return [*out, Ordered(self.nest).write(most=ORDERED), Atomic(self.nest).write(least=ORDERED)]


def _filled(node: Node, value: Node) -> Launch:
    """A literal at all places of an array."""
    out = KernelText()
    n = out.product(node.shape)
    out.put(1, f"for i in range(cuda.grid(1), {n}, cuda.gridsize(1)):")
    out.put(2, f"{out.array(node)}[i] = {stored(node.dtype, out.constant(value))}")
    return out.launch(Grid((), tuple(node.shape)))


def _fill(step: Fill) -> Launch:
    """Random numbers: each thread makes those of some blocks of the generator."""
    out = KernelText()
    node = step.node
    (state,) = node.inputs
    each = per_block(node)
    n, words, p = out.product(node.shape), out.array(state), out.array(node)
    out.put(1, f"for b in range(cuda.grid(1), ({n} + {each - 1}) // {each}, cuda.gridsize(1)):")
    numbers = words_of(out, 2, node, "b", words)
    for k, number in enumerate(numbers):
        if each == 1:
            out.put(2, f"{p}[b] = {number}")
        else:
            out.put(2, f"if {each} * b + {k} < {n}:")
            out.put(3, f"{p}[{each} * b + {k}] = {number}")
    return out.launch(Grid((), (*node.shape,)))
