"""Sums of products by labels: `einsum`, and what is one: `tensordot`, `inner`, `dot`, `kron`.

The formula of a call brings the subscripts into a plain form: `...` becomes labels, a written 1 that
stretches is dropped, a label that stands twice in one term keeps the diagonal. The row has a label for each
axis, all different in one term, and equal sizes for equal labels; its gradient is a row of the same kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import like, normal_axis, reshaped, size_of, unknown_dim
from tlang.types import ONE, Dim, Solver, Tensor


def _terms(subscripts: str) -> tuple[list[str], str]:
    """The labels of each operand, and those of the result."""
    left, _, out = subscripts.partition("->")
    return left.split(","), out


def _einsum_rule(solver: Solver, inputs: tuple[Node, ...], *, subscripts: str) -> Tensor:
    terms, out = _terms(subscripts)
    sizes: dict[str, Dim] = {}
    for k, (term, x) in enumerate(zip(terms, inputs, strict=True)):
        for label, dim in zip(term, x.shape, strict=True):
            if not solver.unify(sizes.setdefault(label, dim), dim):
                raise _sizes(terms, k, label, sizes[label], dim)
    return Tensor(inputs[0].dtype, tuple(sizes[label] for label in out))


def _sizes(terms: Sequence[str], k: int, label: str, before: Dim, dim: Dim) -> Exception:
    first = next(i for i, t in enumerate(terms) if label in t)
    notes = [f"{_place(i)} has {d} along `{label}`" for i, d in ((first, before), (k, dim))]
    return error("T171", name=label, notes=notes)


def _place(k: int) -> str:
    """The operand in words."""
    return f"operand {k + 1}"


def _product(xs: Sequence[Node], terms: Sequence[str], out: str) -> Node:
    """The node of a sum of products in plain form."""
    x = xs[0]
    return x.graph.make(OPS["einsum_of"], xs, x.span, subscripts=f"{','.join(terms)}->{out}")


def _einsum_grad(g: Node, out: Node, *xs: Node, subscripts: str) -> tuple[Node, ...]:
    """The cotangent times the other operands; along labels that stand nowhere else it is the same."""
    terms, result = _terms(subscripts)
    parts = []
    for k, (x, term) in enumerate(zip(xs, terms, strict=True)):
        others = [*xs[:k], *xs[k + 1 :]]
        labels = [result, *terms[:k], *terms[k + 1 :]]
        there = "".join(a for a in term if any(a in t for t in labels))
        part = _product([g, *others], labels, there) if labels != [there] else g
        missing = tuple(i for i, a in enumerate(term) if a not in there)
        parts.append(like(part.apply("expand_dims", axis=missing), x) if missing else part)
    return tuple(parts)


def _aligned(x: Node, term: str, wanted: str) -> Node:
    """The axes of x in the order of `wanted`; labels that x has not are new axes of size 1."""
    order = tuple(term.index(a) for a in wanted if a in term)
    x = x.apply("transpose", axes=order) if order != tuple(range(x.rank)) else x
    new = tuple(i for i, a in enumerate(wanted) if a not in term)
    return x.apply("expand_dims", axis=new) if new else x


def _lower_einsum(node: Node, *xs: Node, subscripts: str) -> Node | None:
    """A product of two with at most one label of each kind is a matrix product, or one of elements."""
    terms, out = _terms(subscripts)
    if len(xs) != 2 or node.dtype.kind == "b":
        return None
    parts = []
    for k, (x, term) in enumerate(zip(xs, terms, strict=True)):
        alone = tuple(i for i, a in enumerate(term) if a not in out + terms[1 - k])
        parts.append(x.apply("contract", axis=alone, keepdims=False) if alone else x)
        terms[k] = "".join(a for i, a in enumerate(term) if i not in alone)
    (a, b), (left, right) = parts, terms
    batch = "".join(c for c in left if c in right and c in out)
    inner = "".join(c for c in left if c in right and c not in out)
    rows, columns = ("".join(c for c in t if c not in batch + inner) for t in terms)
    if not inner:
        return _aligned(a, left, out) * _aligned(b, right, out)
    if len(inner) > 1 or len(rows) > 1 or len(columns) > 1:
        return None
    r, c = rows or "<", columns or ">"  # a vector is a matrix of one row or column
    if batch:
        product = _aligned(a, left, batch + r + inner).apply("matmul", _aligned(b, right, batch + inner + c))
        gone = tuple(-2 + i for i, t in enumerate((rows, columns)) if not t)
        product = product.apply("squeeze", axis=gone) if gone else product
    else:
        product = _aligned(a, left, rows + inner).apply("matmul", _aligned(b, right, inner + columns))
    return _aligned(product, batch + rows + columns, out)


def _einsum(np: Any, *xs: Any, subscripts: str) -> Any:
    return np.asarray(np.einsum(subscripts, *xs, optimize=len(xs) > 1))[()]


operation(
    "einsum_of",
    "*xs, subscripts=0",
    _einsum_rule,
    _einsum,
    convert="arith",
    grad=_einsum_grad,
    lower=_lower_einsum,
    doc="A sum of products in plain form.",
    public=False,
)


# ---------------------------------------------------------------- the plain form


def _parsed(subscripts: str, xs: Sequence[Node]) -> tuple[list[str], str]:
    """The terms with `...` written out as labels, and the labels of the result."""
    text = subscripts.replace(" ", "")
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(xs):
        raise _wrong(subscripts, f"there are {len(terms)} terms for {len(xs)} operands")
    for term in (*terms, out):
        bad = next((c for c in term.replace("...", "", 1) if c not in ascii_letters), None)
        if bad is not None:
            raise _wrong(
                subscripts, f"`{bad}` is no label: labels are letters, and `...` stands for other axes"
            )
    spare = [c for c in ascii_letters if c not in text]
    most = 0
    for k, (term, x) in enumerate(zip(terms, xs, strict=True)):
        named = len(term.replace("...", ""))
        if named > x.rank or (named < x.rank and "..." not in term):
            raise _wrong(subscripts, f"`{term}` names {named} axes, but {_place(k)} is {x.type}")
        if "..." in term:
            most = max(most, x.rank - named)
    if most > len(spare):
        raise _wrong(subscripts, "there are more axes than letters")
    rest = "".join(spare[:most])
    full = []
    for term, x in zip(terms, xs, strict=True):
        count = x.rank - len(term.replace("...", "")) if "..." in term else 0
        full.append(term.replace("...", rest[most - count :]))
    if not arrow:
        once = sorted(c for c in set(left.replace("...", "").replace(",", "")) if left.count(c) == 1)
        return full, rest + "".join(once)
    if most and "..." not in out:
        raise _wrong(subscripts, "the result needs `...` too: what it stands for is never summed")
    out = out.replace("...", rest)
    for label in out:
        if out.count(label) > 1:
            raise _wrong(subscripts, f"`{label}` stands twice in the result")
        if not any(label in t for t in full):
            raise _wrong(subscripts, f"no operand has `{label}`")
    return full, out


def _wrong(subscripts: str, reason: str) -> Exception:
    return error("T170", subscripts=subscripts, reason=reason)


def _without_repeats(x: Node, term: str) -> tuple[Node, str]:
    """The diagonal along axes of one label: zeros elsewhere, and one of the two axes summed."""
    while True:
        second = next((i for i, c in enumerate(term) if c in term[:i]), None)
        if second is None:
            return x, term
        first = term.index(term[second])
        if not x.graph.solver.unify(x.shape[first], x.shape[second]):
            raise _sizes([term], 0, term[first], x.shape[first], x.shape[second])
        axes = tuple(i for i in range(x.rank) if i not in (first, second))
        x = x.apply("transpose", axes=(*axes, first, second)).apply("diagonal_of")
        term = "".join(term[i] for i in axes) + term[first]


def _stretched(xs: Sequence[Node], terms: Sequence[str]) -> tuple[list[Node], list[str]]:
    """Without the axes of a written 1 along which another operand has another size."""
    longer = {a for x, t in zip(xs, terms, strict=True) for a, d in zip(t, x.shape, strict=True) if d != ONE}
    nodes, labels = [], []
    for x, term in zip(xs, terms, strict=True):
        gone = tuple(i for i, a in enumerate(term) if a in longer and x.shape[i] == ONE)
        nodes.append(x.apply("squeeze", axis=gone) if gone else x)
        labels.append("".join(a for i, a in enumerate(term) if i not in gone))
    return nodes, labels


def product_of(xs: Sequence[Node], terms: Sequence[str], out: str) -> Node:
    """The sum of products of operands whose axes have labels; the result has those of `out`, in order."""
    pairs = [_without_repeats(x, t) for x, t in zip(xs, terms, strict=True)]
    nodes, labels = _stretched(*zip(*pairs, strict=True))
    if len(nodes) > 1:
        return _product(nodes, labels, out)
    (x,), (term,) = nodes, labels
    alone = tuple(i for i, a in enumerate(term) if a not in out)
    x = x.apply("contract", axis=alone, keepdims=False) if alone else x
    return _aligned(x, "".join(a for a in term if a in out), out)


@formula(
    "einsum",
    "subscripts, *xs",
    '`einsum("ij,jk->ik", x, y)`: the sum of products over the labels that the result has not. Without `->` '
    "the labels that stand once are those of the result, in order of the alphabet; `...` is what other axes "
    "there are, which stretch.",
)
def einsum(subscripts: str, xs: Sequence[Node]) -> Node:
    """The subscripts in plain form."""
    terms, out = _parsed(subscripts, xs)
    return product_of(xs, terms, out)


def _diagonal_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    return Tensor(inputs[0].dtype, inputs[0].shape[:-1])


def _diagonal_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (g.apply("diagonal_matrix"),)


operation(
    "diagonal_of",
    "x",
    _diagonal_rule,
    lambda np, x: np.diagonal(x, axis1=-2, axis2=-1),
    grad=_diagonal_grad,
    doc="The diagonals of a stack of square matrices.",
    public=False,
)
operation(
    "diagonal_matrix",
    "x",
    lambda solver, inputs: Tensor(inputs[0].dtype, (*inputs[0].shape, inputs[0].shape[-1])),
    lambda np, x: np.where(np.eye(x.shape[-1], dtype=bool), x[..., None, :], np.zeros((), x.dtype)),
    grad=lambda g, out, x: (g.apply("diagonal_of"),),
    doc="Vectors as the diagonals of matrices.",
    public=False,
)


# ---------------------------------------------------------------- other products


def _counted(axes: Any, a: Node, b: Node) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of both operands that `tensordot` sums over."""
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.rank, b.rank):
            raise error("T172", axes=axes, left=a.type, right=b.type)
        return tuple(range(a.rank - axes, a.rank)), tuple(range(axes))
    pair = [(p,) if isinstance(p, int) else p for p in axes or ()]
    if len(pair) != 2 or len(pair[0]) != len(pair[1]):
        raise error("T172", axes=axes, left=a.type, right=b.type)
    both = [tuple(normal_axis(i, x.rank) for i in p) for p, x in zip(pair, (a, b), strict=True)]
    if any(len(set(p)) != len(p) for p in both):
        raise error("T132", axes=axes)
    return both[0], both[1]


def _summed(x: Node, y: Node, left: Sequence[int], right: Sequence[int]) -> Node:
    """The sum of products over axes of x and of y: those have one label for both."""
    a, b = ascii_letters[: x.rank], list(ascii_letters[x.rank : x.rank + y.rank])
    for i, j in zip(left, right, strict=True):
        if not x.graph.solver.unify(x.shape[i], y.shape[j]):
            raise error("T173", first=x.shape[i], second=y.shape[j])
        b[j] = a[i]
    kept = [c for i, c in enumerate(a) if i not in left] + [c for j, c in enumerate(b) if j not in right]
    return _product([x, y], [a, "".join(b)], "".join(kept))


@formula(
    "tensordot",
    "x, y, axes=2",
    "The sum of products over the last `axes` axes of x and the first of y, or over two lists of axes, "
    "`axes = ((1, 0), (0, 1))`.",
)
def tensordot(x: Node, y: Node, axes: Any) -> Node:
    """The summed axes have one label for both."""
    left, right = _counted(axes, x, y)
    return _summed(x, y, left, right)


@formula("dot", "x, y", "`x @ y` of vectors and matrices, `x * y` with a scalar; else NumPy's `dot`.")
def dot(x: Node, y: Node) -> Node:
    """The last axis of x with the last but one of y."""
    if x.rank == 0 or y.rank == 0:
        return x * y
    if x.rank <= 2 and y.rank <= 2:
        return x.apply("matmul", y)
    return _summed(x, y, [x.rank - 1], [max(y.rank - 2, 0)])


@formula("inner", "x, y", "The sum of products over the last axes, `x * y` with a scalar.")
def inner(x: Node, y: Node) -> Node:
    """The last axis of both."""
    if x.rank == 0 or y.rank == 0:
        return x * y
    return _summed(x, y, [x.rank - 1], [y.rank - 1])


@formula("kron", "x, y", "The Kronecker product: each element of x times the matrix y, as blocks.")
def kron(x: Node, y: Node) -> Node:
    """The axes of both side by side, then pairs of them as one."""
    rank = max(x.rank, y.rank)
    pairs = []
    for v in (x, y):
        pairs.append(v.apply("expand_dims", axis=tuple(range(rank - v.rank))) if v.rank < rank else v)
    a, b = pairs
    if rank == 0:
        return a * b
    first, second = (tuple(range(k, 2 * rank, 2)) for k in (1, 0))
    out = a.apply("expand_dims", axis=first) * b.apply("expand_dims", axis=second)
    return reshaped(out, [_times(a, b, k) for k in range(rank)])


def _times(a: Node, b: Node, axis: int) -> tuple[Dim, Node]:
    """The product of two sizes; a fresh unknown where it is not linear."""
    m, n = a.shape[axis], b.shape[axis]
    dim = m.scale(n.const) if n.is_const else n.scale(m.const) if m.is_const else unknown_dim()
    return dim, size_of(a, axis) * size_of(b, axis)
