"""Factorisations with several results: qr, svd, eigh, slogdet, and what is computed by them.

The results of one factorisation are parts of one node: Q stands above the transposed R in one matrix, so that
it is computed once, and the gradient rule sees the cotangents of all parts together. A stack of matrices is
factorised one by one; a matrix that holds a NaN or an infinity gives NaN. The gradients are those of

    Giles, "Collected matrix derivative results for forward and reverse mode differentiation" (2008)
    Townsend, "Differentiating the singular value decomposition" (2016)
    Liao, Liu, Wang, Xiang, "Differentiable programming tensor networks" (2019), for qr of tall matrices
    Roberts, Roberts, "QR and LQ decomposition matrix backpropagation algorithms" (2020), of wide ones
    Golub, Pereyra, "The differentiation of pseudo-inverses" (1973)

Where singular values or eigenvalues coincide, their vectors may turn; what does not depend on that has a
gradient, and only that is right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.decompositions import keep_nan, matrix
from tlang.graph.ops.formula import formula
from tlang.graph.ops.linalg import swapped
from tlang.graph.ops.rules import float_dtype, unknown_dim
from tlang.types import I64, ONE, Dim, Solver, Tensor


def real_matrix(name: str, x: Node, square: bool = False) -> Node:
    """A stack of real matrices, as floats."""
    if x.dtype.kind == "c":
        raise error("T141", op=name, found=x.type)
    matrix(name, x, square=square)
    return x.cast(float_dtype(x.dtype))


def _least(x: Node) -> Dim:
    """The smaller one of a matrix's sizes; where they are not known, a fresh unknown."""
    m, n = x.shape[-2:]
    if m == n:
        return m
    return Dim(min(m.const, n.const)) if m.is_const and n.is_const else unknown_dim()


def of_finite(np: Any, x: Any, f: Callable[[Any], Any]) -> Any:
    """`f` of a stack of matrices; NaN for those that are not finite."""
    good = np.isfinite(x).all(axis=(-2, -1))
    if good.all():
        return f(x)
    out = f(np.where(good[..., None, None], x, np.zeros((), x.dtype)))
    bad = ~good.reshape(good.shape + (1,) * (out.ndim - good.ndim))
    return np.where(bad, out.dtype.type(np.nan), out)


def rows(x: Node, start: Dim | None, stop: Dim | None) -> Node:
    """Rows of a stack of matrices."""
    full = ("slice", None, None, 1)
    return x.apply("index", spec=(*(full,) * (x.rank - 2), ("slice", start, stop, 1), full))


def columns(x: Node, start: Dim | None, stop: Dim | None) -> Node:
    """Columns of a stack of matrices."""
    return x.apply("index", spec=(*(("slice", None, None, 1),) * (x.rank - 1), ("slice", start, stop, 1)))


def _row(x: Node, k: int) -> Node:
    """One row of a stack of matrices, counted from 0 or from the end."""
    return x.apply("index", spec=(*(("slice", None, None, 1),) * (x.rank - 2), ("int", k)))


def beside(xs: list[Node], axis: int) -> Node:
    """Blocks of a matrix, side by side (axis -1) or one above the other (-2)."""
    return xs[0].graph.make(OPS["concatenate"], xs, xs[0].span, axis=axis)


def _column_scale(x: Node, v: Node) -> Node:
    """Each column of a matrix times an element of a vector."""
    return x * v.apply("expand_dims", axis=-2)


def _differences(v: Node) -> Node:
    """1 / (v[j] - v[i]), and 0 where they are equal."""
    gap = v.apply("expand_dims", axis=-2) - v.apply("expand_dims", axis=-1)
    return _inverse(gap)


def _inverse(x: Node) -> Node:
    """1 / x, and 0 for 0."""
    zero = x.apply("eq", 0)
    return zero.apply("where", 0, 1 / zero.apply("where", 1, x))


# ---------------------------------------------------------------- qr


def _qr_rule(solver: Solver, inputs: tuple[Node, ...], *, size: Dim) -> Tensor:
    (x,) = inputs
    *batch, m, n = x.shape
    return Tensor(x.dtype, (*batch, m + n, size))


def _qr(mode: str) -> Callable[..., Any]:
    def meaning(np: Any, x: Any, size: Any) -> Any:
        def packed(a: Any) -> Any:
            q, r = np.linalg.qr(a, mode=mode)
            return np.concatenate([q, np.swapaxes(r, -1, -2)], axis=-2)

        return of_finite(np, x, packed)

    return meaning


def _qr_grad(g: Node, out: Node, a: Node, size: Dim) -> tuple[Node]:
    """Of a tall matrix, and of a wide one by its square part: what follows is Q^T times the rest."""
    m, n = a.shape[-2:]
    q, r = rows(out, None, m), swapped(rows(out, m, None))
    gq, gr = rows(g, None, m), swapped(rows(g, m, None))
    if n == size:
        return (_tall_grad(q, r, gq, gr),)
    rest = columns(a, size, None)
    g_rest = columns(gr, size, None)
    gq = gq + rest.apply("matmul", swapped(g_rest))
    square = _tall_grad(q, columns(r, None, size), gq, columns(gr, None, size))
    return (beside([square, q.apply("matmul", g_rest)], -1),)


def _tall_grad(q: Node, r: Node, gq: Node, gr: Node) -> Node:
    """(gq + Q M) R^-T with M the lower triangle of R gr^T - gq^T Q, mirrored."""
    m = r.apply("matmul", swapped(gr)) - swapped(gq).apply("matmul", q)
    mirrored = m.apply("tril", k=0) + swapped(m.apply("tril", k=-1))
    b = gq + q.apply("matmul", mirrored)
    return swapped(r.apply("solve_triangular", swapped(b), lower=False, trans=False))


operation(
    "qr_of",
    "x, size=0",
    _qr_rule,
    _qr("reduced"),
    grad=_qr_grad,
    doc="Q, and below it R transposed.",
    dynamic=True,
    public=False,
)
operation(
    "full_qr_of",
    "x, size=0",
    _qr_rule,
    _qr("complete"),
    grad=None,
    cut='`qr` with `mode = "complete"`, whose added columns are arbitrary',
    doc="Q with all columns, and below it R transposed.",
    public=False,
)


@formula(
    "qr",
    'x, mode="reduced"',
    "A record of Q, whose columns are orthonormal, and R, an upper triangle, with Q @ R == x. The smaller "
    'size of x is that between them; with `mode = "complete"` Q is square, with "r" the result is R alone.',
)
def qr(x: Node, mode: str) -> Node | dict[str, Node]:
    """Both parts of one node."""
    x = real_matrix("qr", x)
    if mode not in ("reduced", "complete", "r"):
        raise error("F108", name="mode", wanted='"reduced", "complete" or "r"')
    m, n = x.shape[-2:]
    if mode == "complete" and m != n:
        packed = x.apply("full_qr_of", size=m)
    else:
        packed = x.apply("qr_of", size=_least(x))
    q, r = rows(packed, None, m), swapped(rows(packed, m, None))
    return r if mode == "r" else {"Q": q, "R": r}


# ---------------------------------------------------------------- svd


def _svd_rule(solver: Solver, inputs: tuple[Node, ...], *, size: Dim) -> Tensor:
    (x,) = inputs
    *batch, m, n = x.shape
    return Tensor(x.dtype, (*batch, m + n + ONE, size))


def _svd(np: Any, x: Any, size: Any) -> Any:
    def packed(a: Any) -> Any:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        return np.concatenate([u, np.swapaxes(vh, -1, -2), s[..., None, :]], axis=-2)

    return of_finite(np, x, packed)


def _full_svd(np: Any, x: Any) -> Any:
    def packed(a: Any) -> Any:
        m, n = a.shape[-2:]
        u, s, vh = np.linalg.svd(a, full_matrices=True)
        out = np.zeros((*a.shape[:-2], m + n + 1, m + n), a.dtype)
        out[..., :m, :m] = u
        out[..., m : m + n, m:] = np.swapaxes(vh, -1, -2)
        out[..., -1, : s.shape[-1]] = s
        return out

    return of_finite(np, x, packed)


def _svd_grad(g: Node, out: Node, a: Node, size: Dim) -> tuple[Node]:
    """Townsend's formula; F has 1 / (s_j^2 - s_i^2), and 0 where they are equal.

    U [(F o (U^T gU - gU^T U)) S + S (F o (V^T gV - gV^T V)) + diag(gs)] V^T, and what turns U and V out of
    their spans: (1 - U U^T) gU S^-1 V^T + U S^-1 gV^T (1 - V V^T).
    """
    m, n = a.shape[-2:]
    u, v, s = rows(out, None, m), rows(out, m, m + n), _row(out, -1)
    gu, gv, gs = rows(g, None, m), rows(g, m, m + n), _row(g, -1)
    f = _differences(s * s)
    ut_gu, vt_gv = swapped(u).apply("matmul", gu), swapped(v).apply("matmul", gv)
    inner = _column_scale(f * (ut_gu - swapped(ut_gu)), s)
    inner = inner + swapped(_column_scale(swapped(f * (vt_gv - swapped(vt_gv))), s))
    inner = inner + gs.apply("diagonal_matrix")
    back = u.apply("matmul", inner)
    less = _inverse(s)
    if m != size:
        back = back + _column_scale(gu - u.apply("matmul", ut_gu), less)
    total = back.apply("matmul", swapped(v))
    if n != size:
        outside = gv - v.apply("matmul", vt_gv)
        total = total + _column_scale(u, less).apply("matmul", swapped(outside))
    return (total,)


operation(
    "svd_of",
    "x, size=0",
    _svd_rule,
    _svd,
    grad=_svd_grad,
    doc="U, below it V, and below that the singular values.",
    dynamic=True,
    public=False,
)
operation(
    "full_svd_of",
    "x",
    lambda solver, inputs: Tensor(
        inputs[0].dtype,
        (
            *inputs[0].shape[:-2],
            inputs[0].shape[-2] + inputs[0].shape[-1] + ONE,
            inputs[0].shape[-2] + inputs[0].shape[-1],
        ),
    ),
    _full_svd,
    grad=None,
    cut="`svd` with all columns, of which some are arbitrary: write `full_matrices = False`",
    doc="U with all columns, right below it V with all, and below that the singular values.",
    public=False,
)


operation(
    "values_of",
    "packed, x, size=0",
    lambda solver, inputs, size: Tensor(inputs[0].dtype, (*inputs[0].shape[:-2], size)),
    lambda np, packed, x, size: packed[..., -1, : min(x.shape[-2:])],
    grad=None,
    cut="`svd` with all columns, of which some are arbitrary: write `full_matrices = False`",
    shape_only=frozenset({1}),
    dynamic=True,
    doc="The singular values of a decomposition with all columns.",
    public=False,
)


@formula(
    "svd",
    "x, full_matrices=True",
    "A record of U, S and Vh with U @ diag(S) @ Vh == x: singular values in descending order, orthonormal "
    "columns and rows. U and Vh are square, or with `full_matrices = False` have a vector for each value; a "
    "gradient needs the latter, or a square x.",
)
def svd(x: Node, full_matrices: bool) -> dict[str, Node]:
    """The parts of one node."""
    x = real_matrix("svd", x)
    m, n = x.shape[-2:]
    if full_matrices and m != n:
        packed = x.apply("full_svd_of")
        size = _least(x)
        u = columns(rows(packed, None, m), None, m)
        v = columns(rows(packed, m, m + n), m, None)
        values = packed.apply("values_of", x, size=size)
        return {"U": u, "S": values, "Vh": swapped(v)}
    return parts_of_svd(x)


def parts_of_svd(x: Node) -> dict[str, Node]:
    """U, S and Vh of a stack of real matrices, without columns that are arbitrary."""
    m, n = x.shape[-2:]
    packed = x.apply("svd_of", size=_least(x))
    u, v = rows(packed, None, m), rows(packed, m, m + n)
    return {"U": u, "S": _row(packed, -1), "Vh": swapped(v)}


@formula("svdvals", "x", "The singular values of a matrix, in descending order.")
def svdvals(x: Node) -> Node:
    """One part of the decomposition."""
    return parts_of_svd(real_matrix("svdvals", x))["S"]


# ---------------------------------------------------------------- eigh


def _eigh_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    (x,) = inputs
    *batch, m, n = x.shape
    return Tensor(x.dtype, (*batch, m + ONE, n))


def _eigh(np: Any, x: Any) -> Any:
    def packed(a: Any) -> Any:
        w, v = np.linalg.eigh((a + np.swapaxes(a, -1, -2)) / 2)
        return np.concatenate([v, w[..., None, :]], axis=-2)

    return of_finite(np, x, packed)


def _eigh_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    """V (diag(gw) + F o V^T gV) V^T with F = 1 / (w_j - w_i), 0 where they are equal; its symmetric part."""
    n = a.shape[-1]
    v, w = rows(out, None, n), _row(out, -1)
    gv, gw = rows(g, None, n), _row(g, -1)
    inner = _differences(w) * swapped(v).apply("matmul", gv) + gw.apply("diagonal_matrix")
    s = v.apply("matmul", inner).apply("matmul", swapped(v))
    return ((s + swapped(s)) * 0.5,)


operation(
    "eigh_of",
    "x",
    _eigh_rule,
    _eigh,
    grad=_eigh_grad,
    doc="The eigenvectors as columns, and below them the eigenvalues.",
    public=False,
)


@formula(
    "eigh",
    "x",
    "A record of the `eigenvalues`, ascending, and `eigenvectors`, as columns, of the symmetric part of x.",
)
def eigh(x: Node) -> dict[str, Node]:
    """Both parts of one node."""
    x = real_matrix("eigh", x, square=True)
    packed = x.apply("eigh_of")
    return {"eigenvalues": _row(packed, -1), "eigenvectors": rows(packed, None, x.shape[-1])}


@formula("eigvalsh", "x", "The eigenvalues of the symmetric part of a matrix, ascending.")
def eigvalsh(x: Node) -> Node:
    """One part of the decomposition."""
    return _row(real_matrix("eigvalsh", x, square=True).apply("eigh_of"), -1)


# ---------------------------------------------------------------- slogdet


def _slogdet(np: Any, x: Any) -> Any:
    return keep_nan(np, x, np.stack(np.linalg.slogdet(x), axis=-1))


def _slogdet_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    """The sign is constant; the logarithm has the transposed inverse."""
    along = g.apply("index", spec=(*(("slice", None, None, 1),) * (g.rank - 1), ("int", 1)))
    return (along.apply("expand_dims", axis=(-2, -1)) * swapped(a.apply("inv")),)


operation(
    "slogdet_of",
    "x",
    lambda solver, inputs: Tensor(inputs[0].dtype, (*inputs[0].shape[:-2], Dim(2))),
    _slogdet,
    grad=_slogdet_grad,
    doc="The sign of the determinant and the logarithm of its absolute value.",
    public=False,
)


@formula(
    "slogdet",
    "x",
    "A record of the `sign` of the determinant and of `logabsdet`, the logarithm of its absolute value.",
)
def slogdet(x: Node) -> dict[str, Node]:
    """Both parts of one node."""
    packed = real_matrix("slogdet", x, square=True).apply("slogdet_of")
    full = (("slice", None, None, 1),) * (packed.rank - 1)
    sign, size = (packed.apply("index", spec=(*full, ("int", k))) for k in (0, 1))
    return {"sign": sign.apply("stop_gradient"), "logabsdet": size}


# ---------------------------------------------------------------- the pseudo-inverse, and least squares


def _limit(np: Any, shape: tuple[int, ...], dtype: Any, rcond: float | None) -> float:
    """Which singular values count as 0, as a part of the greatest one."""
    return max(shape[-2:]) * float(np.finfo(dtype).eps) if rcond is None else rcond


def _pinv(np: Any, x: Any, rcond: float | None) -> Any:
    limit = _limit(np, x.shape, x.dtype, rcond)
    return of_finite(np, x, lambda a: np.linalg.pinv(a, limit))


def _pinv_grad(g: Node, out: Node, a: Node, rcond: float | None) -> tuple[Node]:
    """Of P: -P^T g P^T + (1 - A P) g^T P P^T + P^T P g^T (1 - P A), where the rank stays the same."""
    turned, back = swapped(out), swapped(g)
    total = -turned.apply("matmul", g).apply("matmul", turned)
    left = back - a.apply("matmul", out.apply("matmul", back))
    right = back - back.apply("matmul", out).apply("matmul", a)
    total = total + left.apply("matmul", out).apply("matmul", turned)
    return (total + turned.apply("matmul", out).apply("matmul", right),)


operation(
    "pinv_of",
    "x, rcond=None",
    lambda solver, inputs, rcond: Tensor(
        inputs[0].dtype, (*inputs[0].shape[:-2], inputs[0].shape[-1], inputs[0].shape[-2])
    ),
    _pinv,
    grad=_pinv_grad,
    doc="The pseudo-inverse of matrices.",
    public=False,
)


@formula(
    "pinv",
    "x, rcond=None",
    "The pseudo-inverse of a matrix: singular values up to `rcond` times the greatest count as 0, which is "
    "the greater size times the precision of the dtype if it is not given.",
)
def pinv(x: Node, rcond: float | None) -> Node:
    """Of real matrices."""
    return real_matrix("pinv", x).apply("pinv_of", rcond=rcond)


def _rank(np: Any, s: Any, x: Any, rcond: float | None) -> Any:
    limit = _limit(np, x.shape, x.dtype, rcond)
    greatest = s.max(axis=-1, initial=0, keepdims=True)
    return np.asarray(np.sum(s > limit * greatest, axis=-1, dtype=np.int64))[()]


operation(
    "rank_of",
    "s, x, rcond=None",
    lambda solver, inputs, rcond: Tensor(I64, inputs[0].shape[:-1]),
    _rank,
    grad=None,
    cut="a count",
    shape_only=frozenset({1}),
    doc="How many singular values are not 0.",
    public=False,
)


@formula("matrix_rank", "x, rcond=None", "How many singular values are not 0, as `pinv` decides it.")
def matrix_rank(x: Node, rcond: float | None) -> Node:
    """By the singular values."""
    x = real_matrix("matrix_rank", x)
    return parts_of_svd(x)["S"].apply("rank_of", x, rcond=rcond)


@formula(
    "lstsq",
    "a, b, rcond=None",
    "A record: `x`, for which the sum of the squares of a @ x - b is least (and of those the shortest), "
    "these sums as `residuals`, the `rank` of a and its singular values `s`.",
)
def lstsq(a: Node, b: Node, rcond: float | None) -> dict[str, Node]:
    """By the pseudo-inverse of a."""
    a = real_matrix("lstsq", a)
    if b.rank == 0 or b.dtype.kind == "c":
        raise error("T141", op="lstsq", found=b.type)
    x = a.apply("pinv_of", rcond=rcond).apply("matmul", b)
    off = a.apply("matmul", x) - b
    residuals = (off * off).apply("sum", axis=-1 if b.rank == 1 else -2, keepdims=False)
    s = parts_of_svd(a)["S"]
    return {"x": x, "residuals": residuals, "rank": s.apply("rank_of", a, rcond=rcond), "s": s}
