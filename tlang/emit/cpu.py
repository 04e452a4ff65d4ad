"""The text of CPU kernels: a loop nest over pointers, around the scalar forms of its operations.

Sizes are arguments, so one kernel serves every size. Arrays are contiguous; an axis that an operand
lacks is stretched by leaving it out of the index. Neighbouring axes that every operand has, or lacks,
are one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlang.emit.functions import Names, helpers
from tlang.graph.node import Node
from tlang.plan.fuse import Map, Operand
from tlang.types import BOOL, DType


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's text, its one entry with its signature, and the axes of which each of its loops is made.

    The arguments of the entry are the lengths of the loops, the addresses of the operands that are read,
    and those of the outputs. It returns 0.
    """

    text: str
    entry: dict[str, str]
    loops: tuple[tuple[int, ...], ...]


def kernel(step: Map, entry: str = "kernel") -> Kernel:
    """The kernel of a loop over elements."""
    operands = tuple(o for o in step.operands if o.read)
    loops = _loops(len(step.shape), operands)
    sizes = [f"n{k}" for k in range(len(loops))]
    indices = [f"i{k}" for k in range(len(loops))]
    names = Names()
    value: dict[Node, str] = {}
    body: list[list[str]] = [[] for _ in range(len(loops) + 1)]
    for at, o in enumerate(operands):
        has = [bool(axes) and o.axes[axes[0]] for axes in loops]
        depth = max((k + 1 for k, h in enumerate(has) if h), default=0)
        item = f"a{at}[{_index(has, indices, sizes)}]"
        value[o.node] = f"x{at}"
        body[depth].append(f"x{at} = {item}" + (" != 0" if o.node.dtype is BOOL else ""))
    inside = body[-1]
    for at, node in enumerate(step.nodes):
        inputs = [
            _constant(x) if x.op.name == "const" and not x.rank else value.get(x, "") for x in node.inputs
        ]
        inside.append(f"t{at} = {_wrap(node.dtype, scalar(node, inputs, names))}")
        value[node] = f"t{at}"
    place = _index([True] * len(loops), indices, sizes)
    for at, node in enumerate(step.outputs):
        stored = f"np.uint8({value[node]})" if node.dtype is BOOL else value[node]
        inside.append(f"o{at}[{place}] = {stored}")
    arguments = [
        *sizes,
        *(f"a{k}" for k in range(len(operands))),
        *(f"o{k}" for k in range(len(step.outputs))),
    ]
    lines = [f"def {entry}({', '.join(arguments)}):"]
    dtypes = [x.dtype.numpy_name for x in (*(o.node for o in operands), *step.outputs)]
    for name, dtype in zip(arguments[len(sizes) :], dtypes, strict=True):
        lines.append(f"    {name} = {dtype}_at({name})")
    for depth, statements in enumerate(body):
        lines += ["    " * (depth + 1) + s for s in statements]
        if depth < len(loops):
            lines.append("    " * (depth + 1) + f"for {indices[depth]} in range({sizes[depth]}):")
    lines.append("    return 0")
    text = helpers(names) + "\n".join(lines) + "\n"
    return Kernel(text, {entry: f"int64({', '.join(['int64'] * len(arguments))})"}, loops)


def scalar(node: Node, inputs: Sequence[str], names: Names) -> str:
    """One element of an operation's result, from its inputs' elements."""
    form = node.op.scalar
    text = form if isinstance(form, str) or form is None else form(node)
    assert text is not None, node
    names.dtype = node.inputs[0].dtype if node.inputs else node.dtype
    names["zero"] = _typed(names.dtype, "0")
    for k, x in enumerate(inputs):
        text = text.replace(f"{{{k}}}", x)
    return text.format_map(names)


def _loops(rank: int, operands: Sequence[Operand]) -> tuple[tuple[int, ...], ...]:
    loops: list[list[int]] = []
    for axis in range(rank):
        if loops and all(o.axes[axis] == o.axes[axis - 1] for o in operands):
            loops[-1].append(axis)
        else:
            loops.append([axis])
    return tuple(map(tuple, loops))


def _index(has: Sequence[bool], indices: Sequence[str], sizes: Sequence[str]) -> str:
    """The place of an element in a contiguous array that has some of the loops' axes."""
    text = ""
    for own, index, size in zip(has, indices, sizes, strict=True):
        if own:
            text = f"({text}) * {size} + {index}" if text else index
    return text or "0"


def _typed(dtype: DType, text: str) -> str:
    return f"bool({text})" if dtype is BOOL else f"np.{dtype.numpy_name}({text})"


_wrap = _typed


def _constant(node: Node) -> str:
    """A constant as a typed literal."""
    value = node.value
    if node.dtype.is_inexact:
        value = float(value)
        shown = "np.nan" if value != value else repr(value).replace("inf", "np.inf")
        return _typed(node.dtype, shown)
    return _typed(node.dtype, repr(value))
