"""CUDA kernels of operations that are no loop nests: joined tensors, running totals, linear recurrences.

A running total along an axis is made by a thread for each row where rows are short, or neighbours in memory
are of different rows; by a team of threads for longer ones, a tile after the other; and by all blocks for the
longest, in two passes, of which the first finds the total of each block's part. How a row is divided depends
on sizes alone: the results are the same on every device, and in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tlang.emit.cuda.actions import Action, Launch, Partial, Product
from tlang.emit.cuda.grids import THREADS, Grid
from tlang.emit.cuda.text import KernelText
from tlang.emit.text import loaded, stored, typed
from tlang.graph.node import Node
from tlang.graph.ops.rules import normal_axis
from tlang.plan.steps import Own, is_literal
from tlang.plan.views import Access
from tlang.types import F32, ONE, Dim

#: The longest rows that a thread does alone: where a row's elements are neighbours, and elsewhere.
SHORT, SHORT_ACROSS = 32, 4096
#: The longest rows that one team does; the elements of a longer one that a thread has at least.
WHOLE, SHARE = 16384, 16
#: So many tensors are stacked by one kernel.
STACKED = 16


def own_kernels(step: Own) -> list[Action]:
    """What an operation does on a device, in order."""
    node = step.node
    match node.op.name:
        case "matmul":
            return [Product(step)]
        case "concatenate":
            return _concatenated(node, step.views)
        case "stack":
            return [_stacked(node, step.views, k) for k in range(0, len(step.views), STACKED)]
        case "part":
            return [_copied(node, step.views[0], node.shape, 0, Dim(0))]
        case "shift":
            return [_shifted(node, step.views[0])]
        case "recur":
            return [_recurrence(node, *step.views)]
    return _running(node, step.views[0])


# ---------------------------------------------------------------- elements


def _loop(out: KernelText, dims: Sequence[Dim]) -> None:
    """A loop over `q`, the number of an element."""
    out.put(1, f"for q in range(cuda.grid(1), {out.product(dims)}, cuda.gridsize(1)):")


def _indices(out: KernelText, depth: int, flat: str, dims: Sequence[Dim]) -> list[str]:
    """The index along each axis, from the number of an element."""
    names = []
    for k, d in enumerate(dims):
        if d == ONE:
            names.append("0")
            continue
        rest = out.product(dims[k + 1 :])
        text = flat if rest == "1" else f"{flat} // ({rest})"
        if any(e != ONE for e in dims[:k]):
            text = f"({text}) % ({out.product([d])})"
        names.append(out.name("i"))
        out.put(depth, f"{names[-1]} = {text}")
    return names


def _place(out: KernelText, view: Access, indices: Sequence[str]) -> str:
    """Where an element of a view is in its base."""
    shape = view.base.shape
    parts = []
    for axis, (start, step) in enumerate(zip(view.starts, view.steps, strict=True)):
        index = [
            f"{step} * {i}" for i, own in zip(indices, view.axes, strict=True) if own == axis and i != "0"
        ]
        if start.terms or start.const:
            index.append(out.dim(start))
        if index:
            parts.append(f"({' + '.join(index)}) * {_paren(out.product(shape[axis + 1 :]))}")
    return " + ".join(parts) or "0"


def _dense(out: KernelText, shape: Sequence[Dim], indices: Sequence[str]) -> str:
    """Where an element is in an array."""
    parts = [f"{i} * {_paren(out.product(shape[k + 1 :]))}" for k, i in enumerate(indices) if i != "0"]
    return " + ".join(parts) or "0"


def _paren(text: str) -> str:
    return f"({text})" if " " in text else text


def _stored_element(out: KernelText, node: Node, view: Access, place: str) -> str:
    """An element of a view as it lies in an array of the same dtype."""
    if is_literal(view.base):
        return stored(node.dtype, out.constant(view.base))
    return f"{out.array(view.base)}[{place}]"


def _element(out: KernelText, view: Access, place: str) -> str:
    """An element of a view."""
    if is_literal(view.base):
        return out.constant(view.base)
    return loaded(view.base.dtype, f"{out.array(view.base)}[{place}]")


# ---------------------------------------------------------------- joined tensors


def _concatenated(node: Node, views: Sequence[Access]) -> list[Action]:
    axis = normal_axis(node.attr("axis"), node.rank)
    out: list[Action] = []
    start = Dim(0)
    for x, view in zip(node.inputs, views, strict=True):
        out.append(_copied(node, view, x.shape, axis, start))
        start = start + x.shape[axis]
    return out


def _copied(node: Node, view: Access, shape: Sequence[Dim], axis: int, start: Dim) -> Launch:
    """The elements of a view, of some shape, go to a part of an array, which begins at `start` of an axis."""
    out = KernelText()
    _loop(out, shape)
    whole = node.shape
    offset = f"{out.dim(start)} * {_paren(out.product(whole[axis + 1 :]))}" if start != Dim(0) else ""
    if is_literal(view.base) or (view.plain and tuple(shape) == tuple(view.base.shape)):
        source, target = "q", "q"
        if any(d != ONE for d in shape[:axis]):
            here, there = (_paren(out.product(s[axis:])) for s in (shape, whole))
            target = f"q // {here} * {there} + q % {here}"
    else:
        indices = _indices(out, 2, "q", shape)
        source, target = _place(out, view, indices), _dense(out, whole, indices)
    value = _stored_element(out, node, view, source)
    out.put(2, f"{out.array(node)}[{' + '.join([target, *([offset] if offset else [])])}] = {value}")
    return out.launch(Grid((), tuple(shape)))


def _stacked(node: Node, views: Sequence[Access], first: int) -> Launch:
    """Some of the tensors of a stack: each thread takes an element of all of them."""
    out = KernelText()
    axis = normal_axis(node.attr("axis"), node.rank)
    shape = node.inputs[0].shape
    _loop(out, shape)
    indices = _indices(out, 2, "q", shape)
    for k, view in enumerate(views[first : first + STACKED], first):
        place = "q" if view.plain else _place(out, view, indices)
        target = _dense(out, node.shape, [*indices[:axis], str(k), *indices[axis:]])
        out.put(2, f"{out.array(node)}[{target}] = {_stored_element(out, node, view, place)}")
    return out.launch(Grid((), tuple(shape)))


def _shifted(node: Node, view: Access) -> Launch:
    """Every element is the one before it along an axis, or behind it; a 0 comes in."""
    out = KernelText()
    axis, by = normal_axis(node.attr("axis"), node.rank), node.attr("by")
    _loop(out, node.shape)
    indices = _indices(out, 2, "q", node.shape)
    at = indices[axis]
    condition = f"{at} > 0" if by > 0 else f"{at} + 1 < {out.product(node.shape[axis : axis + 1])}"
    other = f"({at} {'-' if by > 0 else '+'} 1)"
    p = out.array(node)
    out.put(2, f"{p}[q] = {stored(node.dtype, typed(node.dtype, '0'))}")
    out.put(2, f"if {condition}:")
    place = _place(out, view, [*indices[:axis], other, *indices[axis + 1 :]])
    out.put(3, f"{p}[q] = {_stored_element(out, node, view, place)}")
    return out.launch(Grid((), tuple(node.shape)))


# ---------------------------------------------------------------- along an axis


class _Line:
    """Rows along an axis: `dims` are the other sizes, `length` is that of a row."""

    def __init__(self, node: Node, reverse: bool) -> None:
        self.axis = normal_axis(node.attr("axis"), node.rank)
        self.dims = tuple(d for k, d in enumerate(node.shape) if k != self.axis)
        self.length = node.shape[self.axis]
        self.is_last = all(d == ONE for d in node.shape[self.axis + 1 :])
        self.reverse = reverse

    def rows(self, out: KernelText, depth: int, flat: str) -> list[str]:
        """The indices of a row; that along it is `i`, which :meth:`step` sets."""
        indices = _indices(out, depth, flat, self.dims)
        return [*indices[: self.axis], "i", *indices[self.axis :]]

    def step(self, out: KernelText, depth: int, number: str) -> None:
        """Sets the index along the row."""
        n = out.product([self.length])
        out.put(depth, f"i = {f'{n} - 1 - {number}' if self.reverse else number}")


def _recurrence(node: Node, factors: Access, terms: Access) -> Launch:
    """y[k] = x[k] * y[k - 1] + b[k], a row by each thread."""
    out = KernelText()
    line = _Line(node, node.attr("reverse"))
    _loop(out, line.dims)
    indices = line.rows(out, 2, "q")
    out.put(2, f"s = {typed(node.dtype, '0')}")
    out.put(2, f"for k in range({out.product([line.length])}):")
    line.step(out, 3, "k")
    term = _element(out, terms, _place(out, terms, indices))
    out.put(3, f"b = {typed(node.dtype, term)}")
    out.put(3, "if k > 0:")
    out.put(4, f"s = {typed(node.dtype, f'{_element(out, factors, _place(out, factors, indices))} * s + b')}")
    out.put(3, "else:")
    out.put(4, "s = b")
    out.put(3, f"{out.array(node)}[{_dense(out, node.shape, indices)}] = s")
    return out.launch(Grid((), line.dims))


def _running(node: Node, view: Access) -> list[Action]:
    """The running sum or product in each of its forms, of which sizes choose one."""
    made = _Running(node, view)
    short = SHORT if made.line.is_last else SHORT_ACROSS
    whole = max(WHOLE, short)
    length = (made.line.length,)
    part = Partial(node.dtype, made.line.dims, grid=Grid((), length, lanes=SHARE))
    return [
        replace(made.alone(), updates=length, most=short),
        replace(made.team(), updates=length, most=whole, least=short),
        replace(made.totals(part), updates=length, least=whole),
        replace(made.team(part), updates=length, least=whole),
    ]


class _Running:
    """Kernels of a running total."""

    def __init__(self, node: Node, view: Access) -> None:
        self.node = node
        self.view = view
        self.line = _Line(node, node.attr("reverse"))
        self.sign = "+" if node.op.name == "cumsum" else "*"
        self.start = typed(node.dtype, "0" if self.sign == "+" else "1")

    def combined(self, a: str, b: str) -> str:
        """The total of two."""
        return typed(self.node.dtype, f"{a} {self.sign} {b}")

    def item(self, out: KernelText, indices: Sequence[str]) -> str:
        """An element, in the dtype of the totals."""
        return typed(self.node.dtype, _element(out, self.view, _place(out, self.view, indices)))

    def alone(self) -> Launch:
        """A row by each thread. A sum of f32 has what rounding took from it beside it."""
        out, line = KernelText(), self.line
        careful = self.sign == "+" and self.node.dtype is F32
        _loop(out, line.dims)
        indices = line.rows(out, 2, "q")
        out.put(2, f"s = {self.start}")
        if careful:
            out.put(2, f"c = {self.start}")
        out.put(2, f"for k in range({out.product([line.length])}):")
        line.step(out, 3, "k")
        out.put(3, f"v = {self.item(out, indices)}")
        if careful:
            out.put(3, "y = v - c")
            out.put(3, "t = s + y")
            out.put(3, "c = (t - s) - y")
            out.put(3, "if c - c != c - c:")  # beside an infinity
            out.put(4, f"c = {self.start}")
            out.put(3, "s = t")
        else:
            out.put(3, f"s = {self.combined('s', 'v')}")
        out.put(3, f"{out.array(self.node)}[{_dense(out, self.node.shape, indices)}] = s")
        return out.launch(Grid((), line.dims))

    def team(self, part: Partial | None = None) -> Launch:
        """A row by each team of threads along x; with totals of parts, its parts by the blocks along x."""
        out, line = KernelText(), self.line
        indices = self.begin(out, part)
        if part is not None:
            out.put(2, f"s = {self.start}")
            out.put(2, "for k in range(x, cuda.blockIdx.x, cuda.blockDim.x):")
            out.put(3, f"v = {out.array(part)}[r * cuda.gridDim.x + k]")
            out.put(3, f"s = {self.combined('s', 'v')}")
            self.meet(out)
            out.put(2, "s = w[y * cuda.blockDim.x]")
            out.put(2, "cuda.syncthreads()")
        else:
            out.put(2, f"s = {self.start}")
        for depth, line_of_text in (
            (2, "for first in range(begin, end, cuda.blockDim.x):"),
            (3, "k = first + x"),
            (3, f"v = {self.start}"),
            (3, "if on and k < end:"),
        ):
            out.put(depth, line_of_text)
        line.step(out, 4, "k")
        out.put(4, f"v = {self.item(out, indices)}")
        for depth, line_of_text in (
            (3, "w[t] = v"),
            (3, "cuda.syncthreads()"),
            (3, "h = 1"),
            (3, "while h < cuda.blockDim.x:"),
            (4, f"u = {self.start}"),
            (4, "if x >= h:"),
            (5, "u = w[t - h]"),
            (4, "cuda.syncthreads()"),
            (4, f"v = {self.combined('u', 'v')}"),
            (4, "w[t] = v"),
            (4, "cuda.syncthreads()"),
            (4, "h = h * 2"),
            (3, "if on and k < end:"),
        ):
            out.put(depth, line_of_text)
        line.step(out, 4, "k")
        place = _dense(out, self.node.shape, indices)
        out.put(4, f"{out.array(self.node)}[{place}] = {self.combined('s', 'v')}")
        out.put(3, "v = w[y * cuda.blockDim.x + cuda.blockDim.x - 1]")
        out.put(3, f"s = {self.combined('s', 'v')}")
        out.put(3, "cuda.syncthreads()")
        return out.launch(self.grid(part))

    def totals(self, part: Partial) -> Launch:
        """The totals of the parts of rows, a part by each block."""
        out, line = KernelText(), self.line
        indices = self.begin(out, part)
        out.put(2, f"s = {self.start}")
        out.put(2, "for k in range(begin + x, end, cuda.blockDim.x):")
        line.step(out, 3, "k")
        out.put(3, f"v = {self.item(out, indices)}")
        out.put(3, f"s = {self.combined('s', 'v')}")
        self.meet(out)
        out.put(2, "if on and x == 0:")
        out.put(3, f"{out.array(part)}[r * cuda.gridDim.x + cuda.blockIdx.x] = w[t]")
        out.put(2, "cuda.syncthreads()")
        return out.launch(self.grid(part))

    def grid(self, part: Partial | None) -> Grid:
        """The grid of a team, or of all blocks."""
        if part is None:
            return Grid(self.line.dims, (self.line.length,), team=True)
        return Grid(self.line.dims, (self.line.length,), lanes=SHARE)

    def begin(self, out: KernelText, part: Partial | None) -> list[str]:
        """The loop over rows: `r` is the row, the elements from `begin` to `end` are those of this block."""
        line = self.line
        n = out.product([line.length])
        out.put(1, f"w = cuda.shared.array({THREADS}, np.{self.node.dtype.numpy_name})")
        out.put(1, "x = cuda.threadIdx.x")
        out.put(1, "y = cuda.threadIdx.y")
        out.put(1, "t = y * cuda.blockDim.x + x")
        if part is None:
            out.put(1, "begin = 0")
            out.put(1, f"end = {n}")
        else:
            out.put(1, f"c = ({n} + cuda.gridDim.x - 1) // cuda.gridDim.x")
            out.put(1, "begin = cuda.blockIdx.x * c")
            out.put(1, f"end = min({n}, begin + c)")
        rows = out.product(line.dims)
        step = "cuda.gridDim.y * cuda.blockDim.y"
        out.put(1, f"for top in range(cuda.blockIdx.y * cuda.blockDim.y, {rows}, {step}):")
        out.put(2, f"on = top + y < {rows}")
        out.put(2, f"r = top + y if on else {rows} - 1")
        return line.rows(out, 2, "r")

    def meet(self, out: KernelText) -> None:
        """The totals `s` of the threads of a row become one, in the first place of the row."""
        for depth, line in (
            (2, "w[t] = s"),
            (2, "cuda.syncthreads()"),
            (2, "h = cuda.blockDim.x // 2"),
            (2, "while h > 0:"),
            (3, "if x < h:"),
            (4, "u = w[t]"),
            (4, "v = w[t + h]"),
            (4, f"w[t] = {self.combined('u', 'v')}"),
            (3, "cuda.syncthreads()"),
            (3, "h = h // 2"),
        ):
            out.put(depth, line)
