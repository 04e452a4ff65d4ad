"""Functions of square matrices: the exponential, and powers."""

from __future__ import annotations

from typing import Any

from tlang.graph.node import Node, operation
from tlang.graph.ops.decompositions import matrix
from tlang.graph.ops.factors import beside, columns, of_finite, real_matrix, rows
from tlang.graph.ops.formula import formula
from tlang.graph.ops.linalg import swapped
from tlang.graph.ops.rules import iota, like, zeros_like

#: The coefficients of the diagonal Pade approximant of exp of order 13, and the norm up to which it is exact
#: in f64: Higham, "The scaling and squaring method for the matrix exponential revisited" (2005).
_PADE = (
    64764752532480000.0,
    32382376266240000.0,
    7771770303897600.0,
    1187353796428800.0,
    129060195264000.0,
    10559470521600.0,
    670442572800.0,
    33522128640.0,
    1323241920.0,
    40840800.0,
    960960.0,
    16380.0,
    182.0,
    1.0,
)
_THETA = 5.371920351148152


def _expm(np: Any, x: Any) -> Any:
    return of_finite(np, x, lambda a: _pade(np, a.astype(np.float64)).astype(x.dtype))


def _pade(np: Any, a: Any) -> Any:
    """Scaled so that its norm is small, approximated by a quotient of polynomials, squared again."""
    norm = np.abs(a).sum(axis=-2).max(axis=-1, initial=0)
    halvings = np.ceil(np.log2(np.maximum(norm / _THETA, 1))).astype(np.int64)
    a = np.ldexp(a, -halvings[..., None, None])
    b = _PADE
    one = np.eye(a.shape[-1])
    a2 = a @ a
    a4 = a2 @ a2
    a6 = a4 @ a2
    odd = a @ (a6 @ (b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * one)
    even = a6 @ (b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * one
    out = np.linalg.solve(even - odd, even + odd)
    for k in range(int(halvings.max(initial=0))):
        out = np.where((k < halvings)[..., None, None], out @ out, out)
    return out


def _expm_grad(g: Node, out: Node, a: Node) -> tuple[Node]:
    """The derivative of exp at A^T along g, a block of exp of [[A^T, g], [0, A^T]] (Mathias, 1996)."""
    n = a.shape[-1]
    turned = swapped(a)
    upper = beside([turned, g], -1)
    lower = beside([zeros_like(turned), turned], -1)
    whole = beside([upper, lower], -2).apply("expm_of")
    return (columns(rows(whole, None, n), n, None),)


operation(
    "expm_of",
    "x",
    lambda solver, inputs: inputs[0].type.strong(),
    _expm,
    grad=_expm_grad,
    doc="The exponential of square matrices.",
    public=False,
)


@formula("expm", "x", "The exponential of a square matrix, the sum of its powers over factorials.")
def expm(x: Node) -> Node:
    """Of real matrices."""
    return real_matrix("expm", x, square=True).apply("expm_of")


@formula(
    "matrix_power",
    "x, k",
    "x @ x @ ... k times; the identity for 0, powers of the inverse for a negative k.",
)
def matrix_power(x: Node, k: int) -> Node:
    """By squaring."""
    matrix("matrix_power", x)
    if k < 0:
        x, k = x.apply("inv"), -k
    if k == 0:
        row, column = (iota(x, x.rank - k) for k in (2, 1))
        one, zero = ((1.0, 0.0) if x.dtype.is_inexact else (1, 0)) if x.dtype.kind != "b" else (True, False)
        same = row.apply("expand_dims", axis=1).apply("eq", column)
        return like(same.apply("where", one, zero).cast(x.dtype), x)
    result = None
    while k:
        if k & 1:
            result = x if result is None else result.apply("matmul", x)
        k >>= 1
        x = x.apply("matmul", x) if k else x
    assert result is not None
    return result
