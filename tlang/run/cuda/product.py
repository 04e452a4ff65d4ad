"""Products of matrices and of stacks of them on the device: calls of cuBLAS, on memory as it lies.

Stacks are taken through views: a stretched operand is not copied, nor are heads that lie between rows. BLAS
knows one step from matrix to matrix: of several axes of a stack those that are one in memory become one, the
longest is left to BLAS, and for the others there is a call each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product as pairs

from tlang.emit.cuda.actions import Product
from tlang.graph.node import Node
from tlang.plan.own import batch_rank
from tlang.plan.steps import Gemm
from tlang.plan.views import Access
from tlang.run.cuda import cublas, gpu
from tlang.types import Dim

Size = Callable[[Dim], int]
#: A product with the first elements of its operands and its result.
Call = tuple[cublas.Product, tuple[int, int, int]]


def products(action: Product, size: Size) -> list[Call]:
    """The calls that make a product."""
    node, views = action.step.node, _views(action)
    batch = batch_rank(node)
    left, right = (
        _operand(x, view, batch, is_right, size)
        for x, view, is_right in zip(node.inputs, views, (False, True), strict=True)
    )
    m, n, k = left.rows, right.columns, left.columns
    turn_a, lda = left.layout()
    turn_b, ldb = right.layout()
    sizes = [size(d) for d in node.shape[:batch]]
    if 0 in (m, n, *sizes):
        return []
    steps = [math.prod(sizes[i + 1 :]) * m * n for i in range(batch)]
    axes = _merged(list(zip(sizes, left.steps, right.steps, steps, strict=True)))
    if axes and not turn_a and axes[-1][2:] == (0, m * n):  # rows of all matrices as of one
        each = axes[-1][1]
        if m == 1 and each >= k:
            lda = each
        if each == m * lda:
            m *= axes.pop()[0]
    best = max(range(len(axes)), key=lambda i: axes[i][0], default=None)
    count, *strides = axes.pop(best) if best is not None else (1, 0, 0, 0)
    one = cublas.Product(
        node.dtype.numpy_name,
        turn_a,
        turn_b,
        m,
        n,
        k,
        lda,
        ldb,
        n,
        count,
        (strides[0], strides[1], strides[2]),
    )
    calls: list[Call] = []
    for places in pairs(*(range(axis[0]) for axis in axes)):
        a, b, c = (sum(i * axis[which] for i, axis in zip(places, axes, strict=True)) for which in (1, 2, 3))
        calls.append((one, (left.start + a, right.start + b, c)))
    return calls


def operands(action: Product) -> tuple[Node, Node]:
    """The arrays that a product reads."""
    left, right = _views(action)
    return left.base, right.base


def _views(action: Product) -> tuple[Access, Access]:
    step = action.step
    if isinstance(step, Gemm):
        return step.left, step.right
    left, right = step.views
    return left, right


def prepared(calls: list[Call], a: gpu.Array, b: gpu.Array, c: gpu.Array) -> Callable[[], None]:
    """The calls on some arrays, to be done any number of times."""
    works = [
        cublas.prepare(one, *(_from(x, start) for x, start in zip((a, b, c), starts, strict=True)))
        for one, starts in calls
    ]
    if len(works) == 1:
        return works[0]

    def work() -> None:
        for one in works:
            one()

    return work


def _from(array: gpu.Array, start: int) -> gpu.Array:
    return gpu.part(array, start, array.count - start) if start else array


@dataclass(frozen=True, slots=True)
class _Operand:
    """A stack of matrices: their sizes, and the steps in memory from row to row, column to column, and along
    each axis of the stack.
    """

    rows: int
    columns: int
    down: int
    across: int
    steps: tuple[int, ...]
    start: int

    def layout(self) -> tuple[bool, int]:
        """Whether the rows are what BLAS takes for columns; the step between those."""
        if self.across == 1 or self.columns == 1:
            return False, max(self.down if self.rows > 1 else 1, self.columns, 1)
        assert self.down == 1 or self.rows <= 1 or not self.columns
        return True, max(self.across, self.rows, 1)


def _operand(x: Node, view: Access, batch: int, is_right: bool, size: Size) -> _Operand:
    shape = [size(d) for d in view.base.shape]
    each = [step * math.prod(shape[a + 1 :]) for a, step in enumerate(view.steps)]
    start = sum(size(d) * math.prod(shape[a + 1 :]) for a, d in enumerate(view.starts))
    sizes = [size(d) for d in x.shape]
    steps = [0 if a is None else each[a] for a in view.axes]
    if x.rank == 1:
        sizes, steps = ([*sizes, 1], [*steps, 0]) if is_right else ([1, *sizes], [0, *steps])
    stack = [0 if n == 1 else step for n, step in zip(sizes[:-2], steps[:-2], strict=True)]
    before = (0,) * (batch - len(stack))
    return _Operand(sizes[-2], sizes[-1], steps[-2], steps[-1], (*before, *stack), start)


def _merged(axes: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """The axes of a stack (size, steps of operands and result), with neighbours that are one in memory."""
    out: list[tuple[int, int, int, int]] = []
    for axis in axes:
        if axis[0] == 1:
            continue
        if out and all(before == axis[0] * step for before, step in zip(out[-1][1:], axis[1:], strict=True)):
            axis = (out.pop()[0] * axis[0], *axis[1:])
        out.append(axis)
    return out
