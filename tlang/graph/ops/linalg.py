"""Products of matrices and vectors."""

from __future__ import annotations

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import mismatch, unbroadcast
from tlang.types import Dim, Solver, Tensor


def _matmul_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    a, b = inputs
    if a.rank == 0 or b.rank == 0:
        raise error("T130", left=a.type, right=b.type)
    axis = -1 if b.rank == 1 else -2
    if not solver.unify(a.shape[-1], b.shape[axis]):
        word = "first dimension" if b.rank <= 2 else "dimension -2"
        raise mismatch("T102", a, -1, b, axis, ("last dimension", word))
    batch = solver.broadcast([a.shape[:-2], b.shape[:-2]]) if a.rank > 2 or b.rank > 2 else ()
    rows = a.shape[-2:-1] if a.rank > 1 else ()
    columns = b.shape[-1:] if b.rank > 1 else ()
    return Tensor(a.dtype, (*batch, *rows, *columns))


def swapped(x: Node) -> Node:
    """The last two axes exchanged."""
    return x.apply("transpose", axes=(*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _matmul_grad(g: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    """d(a @ b): g b^T and a^T g, with vectors as one-row or one-column matrices."""
    if a.rank == 1 and b.rank == 1:
        return g * b, g * a
    if a.rank <= 2 and b.rank <= 2:
        if b.rank == 1:
            return _outer(g, b), swapped(a).apply("matmul", g)
        if a.rank == 1:
            return b.apply("matmul", g), _outer(a, g)
        return g.apply("matmul", swapped(b)), swapped(a).apply("matmul", g)
    row = a.apply("expand_dims", axis=0) if a.rank == 1 else a
    column = b.apply("expand_dims", axis=1) if b.rank == 1 else b
    if a.rank == 1:
        g = g.apply("expand_dims", axis=-2)
    if b.rank == 1:
        g = g.apply("expand_dims", axis=-1)
    da = unbroadcast(g.apply("matmul", swapped(column)), row)
    db = unbroadcast(swapped(row).apply("matmul", g), column)
    if a.rank == 1:
        da = da.apply("squeeze", axis=0)
    if b.rank == 1:
        db = db.apply("squeeze", axis=1)
    return da, db


def _outer(u: Node, v: Node) -> Node:
    return u.apply("outer_of", v)


def _lower_matmul(out: Node, a: Node, b: Node) -> Node | None:
    """A product with a vector as a sum of elementwise products; a product of matrices stays."""
    if a.dtype.kind not in "iuf" or not 1 <= a.rank <= 2 or not 1 <= b.rank <= 2:
        return None
    if b.rank == 1:
        return (a * b).apply("contract", axis=a.rank - 1, keepdims=False)
    if a.rank == 1:
        return (a.apply("expand_dims", axis=1) * b).apply("contract", axis=0, keepdims=False)
    return out.graph.make(OPS["matmul"], [a, b], out.span) if out.op.name != "matmul" else None


operation(
    "matmul",
    "x, y",
    _matmul_rule,
    lambda np, x, y: np.matmul(x, y),
    convert="arith",
    grad=_matmul_grad,
    lower=_lower_matmul,
    doc="`x @ y`: the matrix product with NumPy's rules for vectors and stacks of matrices.",
)


def _outer_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    u, v = inputs
    return Tensor(u.dtype, (*u.shape, *v.shape))


def _outer_grad(g: Node, out: Node, u: Node, v: Node) -> tuple[Node, Node]:
    return g.apply("matmul", v), swapped(g).apply("matmul", u)


operation(
    "outer_of",
    "x, y",
    _outer_rule,
    lambda np, x, y: np.multiply.outer(x, y),
    convert="arith",
    grad=_outer_grad,
    lower=lambda out, u, v: u.apply("expand_dims", axis=1) * v,
    doc="The outer product of two vectors.",
    public=False,
)


@formula("outer", "x, y", "`outer(u, v)[i, j]` is u[i] * v[j]; what is no vector is flattened.")
def outer(x: Node, y: Node) -> Node:
    """Of vectors."""
    flat = [v.apply("reshape", shape=(Dim(-1),), runtime=()) if v.rank != 1 else v for v in (x, y)]
    return flat[0].apply("outer_of", flat[1])
