"""Kernels as functions: their text compiled by Numba, called with arrays. Imports numba when it must.

A kernel is compiled once in a process, whatever functions need it: equal texts are one kernel.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tlang.emit.cpu import kernel
from tlang.graph.node import Node
from tlang.interpret import Call, Draw, Sizes, Tape
from tlang.plan.fuse import Map, fused

Array = Any
#: Never `nnan` or `ninf`: NaN and infinities mean what they mean in NumPy.
FLAGS = frozenset({"contract", "nsz", "arcp"})


@cache
def build(text: str, entry: str, sizes: int, dtypes: tuple[str, ...]) -> Callable[..., None]:
    """The entry of a kernel's text, as a function of sizes and addresses (all i64)."""
    import numba as typed_numba

    numba: Any = typed_numba  # its annotations are newer than some versions that we take
    types = numba.types
    how = {"error_model": "numpy", "fastmath": set(FLAGS)}
    scope = {"np": np, "math": math, "njit": numba.njit, "INLINE": how}
    exec(compile(text, f"<kernel {entry}>", "exec"), scope)
    pointers = [types.CPointer(types.uint8 if t == "bool" else getattr(types, t)) for t in dtypes]
    signature = types.void(*[types.int64] * sizes, *pointers)
    compiled = numba.cfunc(signature, **how)(scope[entry])
    made = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * (sizes + len(dtypes)))(compiled.address)
    made.kept = compiled  # type: ignore[attr-defined]  # the code lives as long as the function
    return made


class CompiledTape(Tape):
    """A tape whose elementwise loops are kernels; every other operation is its NumPy call."""

    def calls(self, roots: Sequence[Node]) -> list[Call]:
        """The fused steps of the graph: a kernel gives a tuple, from which its outputs are taken."""
        calls: list[Call] = []
        for step in fused(roots):
            if isinstance(step, Map):
                calls.append((self.kernel(step), [o.node for o in step.operands], step, step.nodes[-1]))
                calls += [(_item(k), [step], x, x) for k, x in enumerate(step.outputs)]
            else:
                calls.append((self._call(step), step.inputs, step, step))
        return calls

    def kernel(self, step: Map) -> Callable[..., Array]:
        """A loop as a function of (sizes, draw, *operands): a tuple of its outputs."""
        made = kernel(step)
        call = build(made.text, made.entry, len(made.loops), tuple(t.numpy_name for t in made.dtypes))
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
