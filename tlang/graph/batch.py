"""Stacks: a graph that maps one tensor to another becomes one that maps a stack of them to a stack.

A jacobian is the cotangents of all elements of a result at once: `vjp` of a stack, the rows of an identity.
Axes of the stack stand in front. `RULES` says for each row how it is applied to a stack; whatever has no rule
is done one after the other by the row `each`. What is stacked is mostly linear (cotangents are), so few rules
matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tlang.graph.node import OPS, Node, Op, operation, substitute, toposort
from tlang.graph.ops.elementwise import real
from tlang.graph.ops.rules import (
    elementwise,
    normal_axes,
    normal_axis,
    numeric,
    predicate,
    reshaped,
    size_of,
)
from tlang.graph.ops.shape import transpose_axes
from tlang.types import ONE, Dim, Solver, Tensor

_FULL = ("slice", None, None, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The axes in front: their sizes, each as a dimension and as an i64 scalar."""

    sizes: tuple[tuple[Dim, Node], ...]

    @property
    def depth(self) -> int:
        """How many axes there are in front."""
        return len(self.sizes)

    def stretched(self, x: Node) -> Node:
        """A tensor that is no stack as a stack of copies."""
        own = [(d, size_of(x, i)) for i, d in enumerate(x.shape)]
        sizes = [*self.sizes, *own]
        runtime = tuple(i for i, (d, _) in enumerate(sizes) if any(not s.rigid for s in d.symbols()))
        inputs = [x, *(sizes[i][1] for i in runtime)]
        shape = tuple(d for d, _ in sizes)
        return x.graph.make(OPS["broadcast_to"], inputs, x.span, shape=shape, runtime=runtime)

    def padded(self, x: Node, rank: int) -> Node:
        """A stack of tensors with axes of size 1 put in front of each, up to a rank."""
        missing = rank - (x.rank - self.depth)
        new = tuple(range(self.depth, self.depth + missing))
        return x.apply("expand_dims", axis=new) if missing else x

    def shifted(self, axes: Sequence[int]) -> tuple[int, ...]:
        """Axes of a tensor as axes of a stack of it."""
        return tuple(a + self.depth for a in axes)


#: The node for a stack: of the axes, the node, its inputs of which some are stacks, and which. None if this
#: rule cannot do it.
Rule: TypeAlias = Callable[[Stack, Node, Sequence[Node], Sequence[bool]], "Node | None"]
RULES: dict[str, Rule] = {}


def over(roots: Sequence[Node], stacks: Mapping[Node, Node], depth: int) -> list[Node]:
    """The roots for stacks in the place of some nodes, as stacks whose first `depth` axes are those given.

    Where only the shape of such a node is used, it stays as it is.
    """
    first = next(iter(stacks.values()))
    stack = Stack(tuple((first.shape[i], size_of(first, i)) for i in range(depth)))
    made: dict[Node, Node] = dict(stacks)
    for node in toposort(roots):
        if node in made:
            continue
        apart = node.op.shape_only
        on = [x in made and i not in apart for i, x in enumerate(node.inputs)]
        if any(on):
            inputs = [made[x] if o else x for x, o in zip(node.inputs, on, strict=True)]
            made[node] = _applied(stack, node, inputs, on)
    return [made[r] if r in made else stack.stretched(r) for r in roots]


def _applied(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    rule = RULES.get(node.op.name)
    if rule is None and _is_elementwise(node):
        rule = _elementwise
    made = rule(stack, node, xs, on) if rule is not None else None
    return made if made is not None else _each(stack, node, xs, on)


def _again(node: Node, xs: Sequence[Node], **attrs: Any) -> Node:
    """The operation of a node on other inputs, with some other attributes."""
    return node.graph.make(node.op, xs, node.span, **(dict(node.attrs) | attrs))


# ---------------------------------------------------------------- element by element


def _is_elementwise(node: Node) -> bool:
    op = node.op
    if op.type in (elementwise, numeric, predicate, real):
        return True
    moves = {"axis", "axes", "spec", "shape", "k", "reps"} & {k for k, _ in node.attrs}
    return op.scalar is not None and not (op.reduce or op.tables or op.shape_only or moves)


def _elementwise(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    return _again(node, [stack.padded(x, node.rank) if o else x for x, o in zip(xs, on, strict=True)])


def _itself(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    return xs[0]


def _leading(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    """Operations on the last axes, which take stacks as they are."""
    return _again(node, xs) if all(on) else None


RULES["named"] = _itself
for _name in ("stop_gradient", "cast", "grad_clip"):
    RULES[_name] = _elementwise
for _name in ("tril", "triu", "trace", "inv", "det", "logdet", "cholesky", "diagonal_of", "diagonal_matrix"):
    RULES[_name] = _leading
for _name in ("qr_of", "svd_of", "eigh_of", "slogdet_of", "pinv_of", "expm_of"):
    RULES[_name] = _leading


# ---------------------------------------------------------------- along axes


def _along(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    """An axis, or several, of the one input; None is all of them."""
    return _again(node, xs, axis=stack.shifted(normal_axes(node.attr("axis"), node.inputs[0].rank)))


def _along_one(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    axis = node.attr("axis")
    if not isinstance(axis, int) or not all(on):
        return None
    return _again(node, xs, axis=normal_axis(axis, node.inputs[0].rank) + stack.depth)


for _name in (
    "sum",
    "contract",
    "mean",
    "var",
    "std",
    "prod",
    "max",
    "min",
    "logsumexp",
    "softmax",
    "log_softmax",
):
    RULES[_name] = _along
for _name in ("cumsum", "cumprod", "sort"):
    RULES[_name] = _along_one


def _along_first(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    if not on[0] or any(on[1:]):
        return None
    return _again(node, xs, axis=node.attr("axis") + stack.depth)


def _prod_of_others(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    full = [x if o else stack.stretched(x) for x, o in zip(xs, on, strict=True)]
    return _again(node, full, axis=stack.shifted(normal_axes(node.attr("axis"), node.rank)))


def _expand_dims(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    return _again(node, xs, axis=stack.shifted(normal_axes(node.attr("axis"), node.rank)))


def _squeeze(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    x, axis = node.inputs[0], node.attr("axis")
    axes = normal_axes(axis, x.rank) if axis is not None else [i for i, d in enumerate(x.shape) if d == ONE]
    return _again(node, xs, axis=stack.shifted(axes)) if axes else xs[0]


def _transpose(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    order = transpose_axes(node.inputs[0].rank, node.attr("axes"))
    return _again(node, xs, axes=(*range(stack.depth), *stack.shifted(order)))


for _name in ("fft_of", "rfft_of", "irfft_of", "fit"):
    RULES[_name] = _along_first
RULES["prod_of_others"] = _prod_of_others
RULES["expand_dims"] = _expand_dims
RULES["squeeze"] = _squeeze
RULES["transpose"] = _transpose


# ---------------------------------------------------------------- shapes


def _sizes(x: Node) -> list[tuple[Dim, Node]]:
    return [(d, size_of(x, i)) for i, d in enumerate(x.shape)]


def _reshape(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    """To the shape of the node itself, which has no -1."""
    return reshaped(xs[0], [*stack.sizes, *_sizes(node)])


def _broadcast(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    """Stretched to the shape of the node itself."""
    return stack.padded(xs[0], node.rank).apply("stretched", node)


for _name in ("reshape", "reshape_like"):
    RULES[_name] = _reshape
for _name in ("broadcast_to", "broadcast_like", "stretched"):
    RULES[_name] = _broadcast


def _joined(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    full = [x if o else stack.stretched(x) for x, o in zip(xs, on, strict=True)]
    return _again(node, full, axis=normal_axis(node.attr("axis"), node.rank) + stack.depth)


def _part(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    """The other inputs are there for their sizes."""
    if not on[0]:
        return stack.stretched(node)
    whole, *rest = node.inputs
    axis = normal_axis(node.attr("axis"), whole.rank) + stack.depth
    return _again(node, [xs[0], *map(stack.stretched, rest)], axis=axis)


RULES["concatenate"] = RULES["stack"] = _joined
RULES["part"] = _part


# ---------------------------------------------------------------- places


def _adjacent(node: Node, spec: Sequence[tuple[Any, ...]]) -> bool:
    """Whether arrays, and numbers beside them, stand together in an index: else their axes come first."""
    arrays = [e for e in spec if e[0] == "input" and node.inputs[e[1]].rank]
    at = [i for i, e in enumerate(spec) if e[0] in ("int", "input")] if arrays else []
    return not at or at[-1] - at[0] == len(at) - 1


def _array_rank(node: Node, spec: Sequence[tuple[Any, ...]]) -> int:
    """The rank of the arrays of an index, stretched to one shape."""
    return max((node.inputs[e[1]].rank for e in spec if e[0] == "input"), default=0)


def _index(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    if any(on[1:]):
        return None
    spec, k = node.attr("spec"), stack.depth
    out = _again(node, xs, spec=((_FULL,) * k + tuple(spec)))
    if _adjacent(node, spec):
        return out
    r = _array_rank(node, spec)
    return out.apply("transpose", axes=(*range(r, r + k), *range(r), *range(r + k, out.rank)))


def _update(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    if any(on[2:]):
        return None
    spec, k = node.attr("spec"), stack.depth
    x, v = xs[0] if on[0] else stack.stretched(xs[0]), xs[1]
    base = node.inputs[0]
    shifted = tuple(_as_read(e) for e in spec)
    place = base.graph.make(OPS["index"], [base, *node.inputs[2:]], node.span, spec=shifted)
    if on[1]:
        v = stack.padded(v, place.rank)
        if not _adjacent(node, spec):
            r = _array_rank(node, spec)
            v = v.apply("transpose", axes=(*range(k, k + r), *range(k), *range(k + r, v.rank)))
    elif not _adjacent(node, spec):
        return None
    return _again(node, [x, v, *xs[2:]], spec=((_FULL,) * k + tuple(spec)))


def _as_read(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """An entry of an update's index, whose inputs come after the value, as one of a reading."""
    if entry[0] == "input":
        return ("input", entry[1] - 1)
    return tuple(("input", p[1] - 1) if isinstance(p, tuple) and p[0] == "input" else p for p in entry)


RULES["index"] = _index
RULES["add_at"] = RULES["set_at"] = _update


def _windows(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    return _again(node, [xs[0], *node.inputs[1:]])


def _unwindows(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    g, x, like = xs[0], *node.inputs[1:]
    return _again(node, [g, stack.stretched(x), like])


RULES["windows"] = _windows
RULES["unwindows"] = _unwindows


# ---------------------------------------------------------------- products and solutions


def _matmul(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    """Stacks of matrices; where one side is one matrix, a stack of vectors is a matrix itself."""
    a, b = node.inputs
    x, y = xs
    if on[0] and not on[1] and b.rank <= 2:
        return x.apply("matmul", y)
    if on[1] and not on[0] and a.rank <= 2 and b.rank == 1:
        turned = x.apply("transpose", axes=(1, 0)) if a.rank == 2 else x
        return y.apply("matmul", turned)
    rank = max(a.rank, b.rank, 2)
    if a.rank == 1:
        x = x.apply("expand_dims", axis=-2)
    if b.rank == 1:
        y = y.apply("expand_dims", axis=-1)
    x, y = (stack.padded(v, rank) if o else v for v, o in ((x, on[0]), (y, on[1])))
    out = x.apply("matmul", y)
    gone = tuple(i for i, v in ((-2, a), (-1, b)) if v.rank == 1)
    return out.apply("squeeze", axis=gone) if gone else out


def _outer(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    u, v = xs
    return u.apply("expand_dims", axis=-1) * v.apply("expand_dims", axis=-2 if on[1] else 0)


def _einsum(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    """The axes in front have labels of their own."""
    from string import ascii_letters

    text = node.attr("subscripts")
    left, _, out = text.partition("->")
    new = "".join([c for c in ascii_letters if c not in text][: stack.depth])
    if len(new) < stack.depth:
        return None
    terms = ",".join(new + t if o else t for t, o in zip(left.split(","), on, strict=True))
    return _again(node, xs, subscripts=f"{terms}->{new + out}")


def _solve(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    """Many right sides of one matrix are columns of one; else there is a matrix for each."""
    a, b = node.inputs
    x, y = xs
    if not on[0] and a.rank == 2 and b.rank == 1 and stack.depth == 1:
        return _again(node, [x, y.apply("transpose", axes=(1, 0))]).apply("transpose", axes=(1, 0))
    if b.rank == 1:
        y = y.apply("expand_dims", axis=-1)
    rank = max(a.rank, y.rank - (stack.depth if on[1] else 0))
    x, y = (stack.padded(v, rank) if o else v for v, o in ((x, on[0]), (y, on[1])))
    out = _again(node, [x, y])
    return out.apply("squeeze", axis=-1) if b.rank == 1 else out


def _diag(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node | None:
    x = node.inputs[0]
    if node.attr("k"):
        return None
    if x.rank == 1:
        return xs[0].apply("diagonal_matrix")
    return xs[0].apply("diagonal_of") if x.shape[0] == x.shape[1] else None


RULES["matmul"] = _matmul
RULES["outer_of"] = _outer
RULES["einsum_of"] = _einsum
RULES["solve"] = RULES["solve_triangular"] = _solve
RULES["diag"] = _diag


# ---------------------------------------------------------------- one after the other


def _each(stack: Stack, node: Node, xs: Sequence[Node], on: Sequence[bool]) -> Node:
    return node.graph.make(
        OPS["each"], xs, node.span, row=node.op, items=node.attrs, on=tuple(on), depth=stack.depth
    )


def _inner(inputs: Sequence[Node], row: Op, items: Any, on: Sequence[bool], depth: int) -> list[Node]:
    """One of each stack, as holes; the others as they are."""
    return [
        x.graph.leaf("hole", Tensor(x.dtype, x.shape[depth:]), x.span, name=("each", row.name, i, id(x)))
        if o
        else x
        for i, (x, o) in enumerate(zip(inputs, on, strict=True))
    ]


def _each_rule(solver: Solver, inputs: tuple[Node, ...], **how: Any) -> Tensor:
    one = how["row"].type(solver, tuple(_inner(inputs, **how)), **dict(how["items"]))
    front = next(x for x, o in zip(inputs, how["on"], strict=True) if o).shape[: how["depth"]]
    return Tensor(one.dtype, (*front, *one.shape))


def _each_numpy(np: Any, *xs: Any, row: Op, items: Any, on: Sequence[bool], depth: int) -> Any:
    attrs = dict(items)
    front = next(x for x, o in zip(xs, on, strict=True) if o).shape[:depth]
    meaning: Any = row.numpy

    def one(at: tuple[int, ...]) -> Any:
        return meaning(np, *(x[at] if o else x for x, o in zip(xs, on, strict=True)), **attrs)

    if 0 in front:  # nothing to compute, but the shape of what would be
        xs = tuple(
            np.zeros((1,) * depth + x.shape[depth:], x.dtype) if o else x for x, o in zip(xs, on, strict=True)
        )
        some = np.asarray(one((0,) * depth))
        return np.zeros((*front, *some.shape), some.dtype)
    results = [np.asarray(one(at)) for at in np.ndindex(*front)]
    return np.stack(results).reshape(*front, *results[0].shape)


def _each_grad(g: Node, out: Node, *inputs: Node, **how: Any) -> list[Node | None]:
    """The operation's own rule for one of the stack, applied to the stack."""
    row, on, depth = how["row"], how["on"], how["depth"]
    attrs = dict(how["items"])
    inner = _inner(inputs, **how)
    one = g.graph.make(row, inner, g.span, **attrs)
    seed = g.graph.leaf("hole", Tensor(g.dtype, one.shape), g.span, name=("each", row.name, "g", id(out)))
    stacks = {i: x for i, x, o in zip(inner, inputs, on, strict=True) if o} | {seed: g, one: out}
    parts = row.grad(seed, one, *inner, **attrs) if row.grad is not None else [None] * len(inner)
    found = over([p for p in parts if p is not None], stacks, depth)
    shapes = {i: _first_shape(x, depth) for i, x in stacks.items() if i is not one}
    rest = iter(substitute(found, shapes))
    total: list[Node | None] = []
    for part, o in zip(parts, on, strict=True):
        whole = next(rest) if part is not None else None
        if whole is not None and not o:
            whole = whole.apply("sum", axis=tuple(range(depth)), keepdims=False)
        total.append(whole)
    return total


def _first_shape(x: Node, depth: int) -> Node:
    """A tensor of the shape of one of a stack."""
    return x.apply("contract", axis=tuple(range(depth)), keepdims=False)


operation(
    "each",
    "*xs",
    _each_rule,
    _each_numpy,
    grad=_each_grad,
    doc="An operation applied to each one of a stack.",
    dynamic=True,
    public=False,
)
