"""Kernels in the place of NumPy calls: built from their text, called with arrays.

A kernel is built once in a process, whatever functions need it, since equal texts are one kernel; and
compiled once on a computer, since object code is kept. Numba is imported only to compile.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tlang.emit.cpu import kernel
from tlang.graph.node import Node
from tlang.interpret import Call, Draw, Sizes, Tape
from tlang.plan.fuse import Map, fused
from tlang.run.cache import Cache
from tlang.run.objects import ObjectError

Array = Any
#: Never `nnan` or `ninf`: NaN and infinities mean what they mean in NumPy.
FLAGS = frozenset({"contract", "nsz", "arcp"})


@cache
def build(text: str, entry: str, signature: str) -> Callable[..., int]:
    """The entry of a kernel's text, as a function of sizes and addresses: from the cache, or compiled.

    Raises `ObjectError` where object code cannot be made or loaded.
    """
    return Cache().load(text, {entry: signature}, FLAGS)[entry]


class CompiledTape(Tape):
    """A tape whose elementwise loops are kernels; every other operation is its NumPy call."""

    def __init__(self, roots: Sequence[Node], reads: Sequence[Node] = ()) -> None:
        self.failed: list[str] = []
        super().__init__(roots, reads)

    def calls(self, roots: Sequence[Node]) -> list[Call]:
        """The fused steps of the graph: a kernel gives a tuple, from which its outputs are taken."""
        calls: list[Call] = []
        for step in fused(roots):
            call = self._kernel(step) if isinstance(step, Map) else None
            if isinstance(step, Map) and call is not None:
                calls.append((call, [o.node for o in step.operands], step, step.nodes[-1]))
                calls += [(_item(k), [step], x, x) for k, x in enumerate(step.outputs)]
            else:
                alone = step.nodes if isinstance(step, Map) else (step,)
                calls += [(self._call(n), n.inputs, n, n) for n in alone]
        return calls

    def _kernel(self, step: Map) -> Callable[..., Array] | None:
        """A loop as a function of (sizes, draw, *operands): a tuple of its outputs.

        None where it cannot be built; `failed` keeps the reason, and NumPy does the work.
        """
        made = kernel(step)
        ((entry, signature),) = made.entry.items()
        try:
            call = build(made.text, entry, signature)
        except ObjectError as e:
            self.failed.append(str(e))
            return None
        rank = len(step.shape)
        givers = [_giver(step, axis) for axis in range(rank)]
        reads = [at for at, o in enumerate(step.operands) if o.read]
        dtypes = [np.dtype(x.dtype.numpy_name) for x in step.outputs]

        def run(sizes: Sizes, draw: Draw, *arrays: Array) -> tuple[Array, ...]:
            shape = tuple([1 if g is None else arrays[g[0]].shape[g[1]] for g in givers])
            operands = []
            for at in reads:
                axes = step.operands[at].axes
                array = np.ascontiguousarray(arrays[at], made_dtypes[at])
                own = array.shape if np.ndim(arrays[at]) else ()
                wanted = [n if has else 1 for n, has in zip(shape, axes, strict=True)]
                if [*[1] * (rank - len(own)), *own] != wanted:
                    raise ValueError(f"an operand of {own} where {wanted} was expected")
                operands.append(array)
            outputs = [np.empty(shape, dtype) for dtype in dtypes]
            counts = [math.prod(shape[a] for a in axes) for axes in made.loops]
            call(*counts, *[x.ctypes.data for x in (*operands, *outputs)])
            return tuple([x[()] for x in outputs]) if not rank else tuple(outputs)

        made_dtypes = {at: np.dtype(step.operands[at].node.dtype.numpy_name) for at in reads}
        return run


def _item(k: int) -> Callable[..., Array]:
    return lambda sizes, draw, results: results[k]


def _giver(step: Map, axis: int) -> tuple[int, int] | None:
    """The operand, and its axis, that has an axis of the loop; None where the size is the constant 1."""
    rank = len(step.shape)
    for at, o in enumerate(step.operands):
        if o.axes[axis]:
            return at, axis - (rank - o.node.rank)
    return None
