"""Linear algebra on square matrices, and stacks of them: factorisations, solutions, triangles, diagonals.

LAPACK does the work, through NumPy; kernels do what is elementwise. The gradients are those of Giles,
"Collected matrix derivative results for forward and reverse mode algorithmic differentiation" (2008).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.linalg import swapped
from tlang.graph.ops.rules import (
    iota,
    like,
    of_real,
    sum_dtype,
    unbroadcast,
    unknown_dim,
    zero_of,
    zeros_like,
)
from tlang.types import DTYPES, Dim, Mismatch, Solver, Tensor


def matrix(name: str, x: Node, square: bool = True) -> None:
    """Checks that a tensor is a matrix or a stack of them, and that they are square."""
    if x.rank < 2:
        raise error("T141", op=name, found=x.type)
    if square and not x.graph.solver.unify(x.shape[-1], x.shape[-2]):
        raise Mismatch("T109", [(0, "last dimension", x.shape[-1]), (0, "dimension -2", x.shape[-2])])


def _square_rule(name: str, drop: int = 0) -> Callable[..., Tensor]:
    def rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
        (x,) = inputs
        matrix(name, x)
        return Tensor(x.dtype, solver.shape(x.type)[: x.rank - drop])

    return rule


def _lapack(what: str, code: str) -> Callable[..., Any]:
    """A function of `np.linalg`; where it fails the error says of what, unless that holds a NaN."""

    def meaning(np: Any, x: Any, *others: Any) -> Any:
        function = getattr(np.linalg, what)
        try:
            return function(x, *others)
        except np.linalg.LinAlgError:
            bad = np.isnan(x).any(axis=(-2, -1))
            if not bad.any():
                raise error(code, what=what) from None
        try:  # LAPACK calls a matrix with a NaN singular: its result is NaN, and others' are their own
            out = function(np.where(bad[..., None, None], np.eye(x.shape[-1], dtype=x.dtype), x), *others)
        except np.linalg.LinAlgError:
            raise error(code, what=what) from None
        behind = 1 if others and others[0].ndim == 1 else 2
        return np.where(bad.reshape(bad.shape + (1,) * behind), out.dtype.type(np.nan), out)

    return meaning


def keep_nan(np: Any, x: Any, out: Any) -> Any:
    """What was computed of stacked matrices; NaN for one with a NaN, which LAPACK takes for singular."""
    bad = np.isnan(x).any(axis=(-2, -1))
    if not bad.any():
        return out
    return np.where(bad.reshape(bad.shape + (1,) * (out.ndim - bad.ndim)), out.dtype.type(np.nan), out)[()]


# ---------------------------------------------------------------- triangles and diagonals


def _places(x: Node) -> tuple[Node, Node]:
    """The row and the column of each element of a stack of matrices, as they stretch."""
    return iota(x, x.rank - 2).apply("expand_dims", axis=1), iota(x, x.rank - 1)


def _lower_tri(out: Node, x: Node, k: int) -> Node:
    """The elements on one side of a diagonal, compared by place."""
    row, column = _places(x)
    name = "le" if out.op.name == "tril" else "ge"
    return column.apply(name, row + k).apply("where", x, zero_of(x))


def _tri_grad(g: Node, out: Node, x: Node, k: int) -> tuple[Node]:
    return (g.apply(out.op.name, k=k),)


def _tri_rule(solver: Solver, inputs: tuple[Node, ...], *, k: int) -> Tensor:
    matrix("tril", inputs[0], square=False)
    return inputs[0].type.strong()


for _name, _side in (("tril", "below"), ("triu", "above")):
    operation(
        _name,
        "x, k=0",
        _tri_rule,
        lambda np, x, k, _f=_name: getattr(np, _f)(x, k),
        grad=_tri_grad,
        lower=_lower_tri,
        doc=f"A matrix with zeros except on diagonal k and {_side} it.",
    )


def _diag_rule(solver: Solver, inputs: tuple[Node, ...], *, k: int) -> Tensor:
    (x,) = inputs
    if x.rank not in (1, 2):
        raise error("T141", op="diag", found=x.type)
    if x.rank == 1:
        side = x.shape[0] + Dim(abs(k))
        return Tensor(x.dtype, (side, side))
    rows, columns = x.shape
    if rows == columns and (k == 0 or rows.is_const):
        return Tensor(x.dtype, (Dim(max(0, rows.const - abs(k))) if rows.is_const else rows,))
    if rows.is_const and columns.is_const:
        length = min(rows.const - max(0, -k), columns.const - max(0, k))
        return Tensor(x.dtype, (Dim(max(0, length)),))
    return Tensor(x.dtype, (unknown_dim(),))


def _diag_grad(g: Node, out: Node, x: Node, k: int) -> tuple[Node]:
    if x.rank == 1 or (x.shape[0] == x.shape[1] and k == 0):
        return (g.apply("diag", k=k),)
    at = iota(g, 0)
    row, column = (at + max(0, -k)), (at + max(0, k))
    inputs = [zeros_like(x), g, row, column]
    return (g.graph.make(OPS["add_at"], inputs, g.span, spec=(("input", 2), ("input", 3))),)


def _lower_diag(out: Node, x: Node, k: int) -> Node | None:
    if k:
        return None
    if x.rank == 1:
        column = iota(x, 0)  # of `out` itself the size would be one of what is being replaced
        return column.apply("expand_dims", axis=1).apply("eq", column).apply("where", x, zero_of(x))
    if x.shape[0] != x.shape[1]:
        return None
    row, column = _places(x)
    return row.apply("eq", column).apply("where", x, zero_of(x)).apply("contract", axis=1, keepdims=False)


operation(
    "diag",
    "x, k=0",
    _diag_rule,
    lambda np, x, k: np.diag(x, k),
    grad=_diag_grad,
    lower=_lower_diag,
    dynamic=True,
    doc="The matrix with a vector on diagonal k, or that diagonal of a matrix.",
)


def _trace_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    (x,) = inputs
    matrix("trace", x, square=False)
    return Tensor(sum_dtype(x.dtype), solver.shape(x.type)[:-2])


def _trace_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    row, column = _places(x)
    spread = g.apply("expand_dims", axis=(-2, -1))
    return (like(row.apply("eq", column).apply("where", spread, 0), x),)


operation(
    "trace",
    "x",
    _trace_rule,
    lambda np, x: np.trace(x, axis1=-2, axis2=-1),
    grad=_trace_grad,
    lower=lambda out, x: (
        None
        if x.dtype.kind == "b"
        else _places(x)[0]
        .apply("eq", _places(x)[1])
        .apply("where", x, zero_of(x))
        .apply("sum", axis=(x.rank - 2, x.rank - 1), keepdims=False)
        .cast(out.dtype)
    ),
    doc="The sum of the diagonal of a matrix.",
)


# ---------------------------------------------------------------- factorisations and solutions


def _symmetric_half(x: Node) -> Node:
    """The lower triangle with half of the diagonal."""
    return (x.apply("tril", k=0) + x.apply("tril", k=-1)) * 0.5


def _cholesky_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    """S = L^-T P(L^T g) L^-1 with P the lower triangle and half of the diagonal; its symmetric part."""
    inner = _symmetric_half(swapped(out).apply("matmul", g.apply("tril", k=0)))
    left = out.apply("solve_triangular", inner, lower=True, trans=True)
    s = swapped(out.apply("solve_triangular", swapped(left), lower=True, trans=True))
    return ((s + swapped(s)) * 0.5,)


def _cholesky(np: Any, x: Any) -> Any:
    return _lapack("cholesky", "R118")(np, (x + np.conj(np.swapaxes(x, -1, -2))) / 2)


operation(
    "cholesky",
    "x",
    _square_rule("cholesky"),
    _cholesky,
    convert="float",
    grad=_cholesky_grad,
    flows=of_real,
    cut="`cholesky` of complex numbers",
    doc="The lower triangular L with L @ L.T == x, of the symmetric part of a positive definite matrix.",
)


def _solve_rule(solver: Solver, inputs: tuple[Node, ...], **_: Any) -> Tensor:
    a, b = inputs
    matrix("solve", a)
    if b.rank == 0:
        raise error("T141", op="solve", found=b.type)
    axis = -1 if b.rank == 1 else -2
    if not solver.unify(a.shape[-1], b.shape[axis]):
        word = "dimension" if b.rank == 1 else "dimension -2"
        raise Mismatch("T102", [(0, "last dimension", a.shape[-1]), (1, word, b.shape[axis])])
    if b.rank == 1:
        return Tensor(a.dtype, solver.shape(a.type)[:-1])
    batch = solver.broadcast([a.shape[:-2], b.shape[:-2]])
    return Tensor(a.dtype, (*batch, *b.shape[-2:]))


def _solved(g: Node, out: Node, a: Node, b: Node, back: Node) -> tuple[Node, Node]:
    """The cotangents of a and b: `back` is that of a solution, carried through the transposed matrix."""
    if b.rank == 1:
        da = -(back.apply("expand_dims", axis=-1) * out.apply("expand_dims", axis=-2))
        return unbroadcast(da, a), unbroadcast(back, b)
    return unbroadcast(-back.apply("matmul", swapped(out)), a), unbroadcast(back, b)


def _solve_grad(g: Node, out: Node, a: Node, b: Node) -> tuple[Node, Node]:
    if b.rank == 1 and a.rank > 2:
        column = swapped(a).apply("solve", g.apply("expand_dims", axis=-1))
        return _solved(g, out, a, b, column.apply("squeeze", axis=-1))
    return _solved(g, out, a, b, swapped(a).apply("solve", g))


operation(
    "solve",
    "a, b",
    _solve_rule,
    _lapack("solve", "R117"),
    convert="float",
    grad=_solve_grad,
    doc="The x with a @ x == b, of a square matrix; b is a vector or a matrix of columns.",
)


def _solve_triangular(np: Any, a: Any, b: Any, lower: bool, trans: bool) -> Any:
    a = np.tril(a) if lower else np.triu(a)
    return _lapack("solve", "R117")(np, np.swapaxes(a, -1, -2) if trans else a, b)


def _triangular_grad(g: Node, out: Node, a: Node, b: Node, lower: bool, trans: bool) -> tuple[Node, Node]:
    if b.rank == 1 and a.rank > 2:
        column = g.apply("expand_dims", axis=-1)
        back = a.apply("solve_triangular", column, lower=lower, trans=not trans).apply("squeeze", axis=-1)
    else:
        back = a.apply("solve_triangular", g, lower=lower, trans=not trans)
    da, db = _solved(g, out, a, b, back)
    return (swapped(da) if trans else da).apply("tril" if lower else "triu", k=0), db


operation(
    "solve_triangular",
    "a, b, lower=False, trans=False",
    _solve_rule,
    _solve_triangular,
    convert="float",
    grad=_triangular_grad,
    doc="The x with a @ x == b, of the upper triangle of a, or the lower; with `trans` of its transpose.",
)


def _inv_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    turned = swapped(out)
    return (-turned.apply("matmul", g).apply("matmul", turned),)


operation(
    "inv",
    "x",
    _square_rule("inv"),
    _lapack("inv", "R117"),
    convert="float",
    grad=_inv_grad,
    doc="The inverse of a matrix; `solve(a, b)` is more exact than `inv(a) @ b`.",
)


def _det_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    return ((g * out).apply("expand_dims", axis=(-2, -1)) * swapped(a.apply("inv")),)


operation(
    "det",
    "x",
    _square_rule("det", drop=2),
    lambda np, x: keep_nan(np, x, np.linalg.det(x)),
    convert="float",
    grad=_det_grad,
    doc="The determinant of a matrix; its gradient needs the inverse.",
)


def _logdet_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    kind = _square_rule("logdet", drop=2)(solver, inputs)
    return kind.with_dtype(DTYPES[f"f{kind.dtype.bits // 2}"]) if kind.dtype.kind == "c" else kind


operation(
    "logdet",
    "x",
    _logdet_rule,
    lambda np, x: keep_nan(np, x, np.linalg.slogdet(x)[1]),
    convert="float",
    grad=lambda g, out, a: (g.apply("expand_dims", axis=(-2, -1)) * swapped(a.apply("inv")),),
    doc="The logarithm of the absolute value of the determinant, without overflow.",
)
