"""Rows of arrays on the device whose numbers only the run knows: slices, joined tensors and their parts.

What is known before the run has kernels, or is a view that a kernel reads through. Segments of recurrences
are of sizes that are computed: only those numbers are fetched, the rows stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlang.graph.node import Node
from tlang.graph.ops.rules import normal_axis
from tlang.interpret import Draw, Sizes, bind_result
from tlang.run.cuda import gpu
from tlang.run.cuda.resident import Resident, host, resident

Array = Any


def of_rows(node: Node) -> Callable[..., Resident] | None:
    """An operation on rows as a function of (sizes, draw, *arrays), which are on the device."""
    found = _found(node)
    if found is None:
        return None
    make = found

    def call(sizes: Sizes, draw: Draw, *xs: Array) -> Resident:
        made = make(*xs)
        bind_result(made.shape, node.shape, sizes)
        return made

    return call


def _found(node: Node) -> Callable[..., Resident] | None:
    name = node.op.name
    if name == "index":
        spec = node.attr("spec")
        if len(spec) == 1 and spec[0][0] == "slice" and spec[0][3] == 1 and all(map(_is_bound, spec[0][1:3])):
            return lambda x, *bounds: _slice(spec[0], x, bounds)
    elif name in ("concatenate", "part") and normal_axis(node.attr("axis"), node.rank) == 0:
        if name == "concatenate":
            return lambda *xs: _joined(node, xs)
        which = node.attr("which")
        return lambda x, *xs: _part(x, xs, which)
    return None


def _is_bound(given: Any) -> bool:
    """Whether the bound of a slice is left out, or one of the inputs."""
    return given is None or isinstance(given, tuple)


def _slice(entry: Any, x: Resident, bounds: Sequence[Array]) -> Resident:
    def bound(given: Any) -> int | None:
        return None if given is None else int(host(bounds[given[1] - 1]))

    start, stop, _ = slice(bound(entry[1]), bound(entry[2])).indices(len(x))
    return x.rows(start, max(start, stop))


def _joined(node: Node, xs: Sequence[Array]) -> Resident:
    parts = [resident(x, node.dtype.numpy_name) for x in xs]
    count, each = sum(map(len, parts)), parts[0].shape[1:]
    if any(p.shape[1:] != each for p in parts):
        raise ValueError("the sizes do not fit")
    memory = gpu.empty(sum(p.size for p in parts), parts[0].device().dtype)
    start = 0
    for p in parts:
        gpu.copy(gpu.part(memory, start, p.size), p.device())
        start += p.size
    return Resident((count, *each), parts[0].dtype, memory)


def _part(x: Resident, xs: Sequence[Array], which: int) -> Resident:
    start = sum(np.shape(y)[0] for y in xs[:which])
    return x.rows(start, start + np.shape(xs[which])[0])
