"""The table of operations: complete rows, values against NumPy and SciPy, gradients against differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import scipy.special as special

import tlang
from tlang.errors import TlangError
from tlang.graph.grad import find_cut, grad, jvp, vjp
from tlang.graph.node import Graph, Node, verify
from tlang.graph.ops import OPS
from tlang.graph.ops.random import DISTRIBUTIONS
from tlang.interpret import Tape
from tlang.rewrite import rewrite
from tlang.types import FROM_NUMPY, ONE, Dim, Symbol, Tensor

# ---------------------------------------------------------------- running a graph


def size(n: int) -> Dim:
    """A named size for every number but 1, which is written and stretches."""
    return ONE if n == 1 else Dim.of(Symbol(f"n{n}"))


def leaves(graph: Graph, arrays: Sequence[Any], dim: Callable[[int], Dim] = size) -> list[Node]:
    out = []
    for k, a in enumerate(map(np.asarray, arrays)):
        kind = Tensor(FROM_NUMPY[a.dtype.name], tuple(map(dim, a.shape)))
        out.append(graph.leaf("tensor", kind, name=f"x{k}"))
    return out


def run(roots: Sequence[Node], arrays: Sequence[Any]) -> list[Any]:
    """The roots as every backend sees them, by the interpreter."""
    verify(roots)
    tape = Tape(rewrite(roots, verify))
    return tape.run(lambda node: np.asarray(arrays[int(node.attr("name")[1:])])[()], None)


def value(build: Callable[..., Node], *arrays: Any, dim: Callable[[int], Dim] = size) -> tuple[Node, Any]:
    graph = Graph()
    node = build(*leaves(graph, arrays, dim))
    return node, run([node], arrays)[0]


# ---------------------------------------------------------------- the cases


@dataclass(frozen=True)
class Case:
    """How a row is called, on inputs of which shapes, and what NumPy says of it."""

    shapes: tuple[tuple[int, ...], ...]
    oracle: Callable[..., Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    low: float = -2.0
    high: float = 2.0
    dtypes: str = "fiub"
    extra: tuple[Any, ...] = ()  # index arrays and sizes, put in as they are
    dim: Callable[[int], Dim] = size  # `Dim` where the sizes must be known
    make: Callable[[Any], Any] | None = None  # what the first array is made into

    def build(self, name: str) -> Callable[..., Node]:
        def made(*xs: Node) -> Node:
            return xs[0].graph.make(OPS[name], xs, None, **self.attrs)

        return made

    def arrays(self, dtype: Any, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        drawn = [self.draw(rng, np.dtype(dtype), s) for s in self.shapes]
        if self.make is not None:
            drawn[0] = np.asarray(self.make(drawn[0]), dtype)
        return drawn + list(self.extra)

    def draw(self, rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind in "iu":
            low = max(1 if self.low > 0 else int(self.low), 0 if dtype.kind == "u" else -3)
            return rng.integers(low, 4, shape).astype(dtype)
        return np.asarray(rng.uniform(self.low, self.high, shape), dtype)


SHAPES = ((), (3,), (2, 3), (0,), (1,), (2, 0), (2, 1, 3))
PAIRS = (
    ((), ()),
    ((3,), ()),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((2, 3), (2, 1)),
    ((0, 3), (3,)),
    ((1,), (1,)),
)


def unary(oracle: Callable[..., Any], **how: Any) -> list[Case]:
    return [Case((s,), oracle, **how) for s in SHAPES]


def binary(oracle: Callable[..., Any], **how: Any) -> list[Case]:
    return [Case(p, oracle, **how) for p in PAIRS]


def reductions(oracle: Callable[..., Any], empty: bool = True, one: bool = False, **how: Any) -> list[Case]:
    out = []
    attrs = how.pop("attrs", {})
    for shape, axis, keep in (
        ((), None, False),
        ((4,), None, False),
        ((2, 3), None, True),
        ((2, 3), 0, False),
        ((2, 3), -1, True),
        ((2, 3, 2), (0, 2), False),
        ((2, 3, 2), (-1, 1), True),
        ((1, 3), 0, False),
        ((0,), None, False),
        ((0, 3), 0, False),
        ((0, 3), 1, False),
    ):
        if (one and isinstance(axis, tuple)) or (not empty and 0 in shape):
            continue
        a = {"axis": axis, "keepdims": keep, **attrs}
        out.append(Case((shape,), lambda x, a=a: oracle(x, **a), a, **how))
    return out


def softmax_cases(oracle: Callable[..., Any]) -> list[Case]:
    shapes = (((3,), -1), ((2, 3), 0), ((2, 3), (0, 1)), ((2, 3), None), ((1,), 0))
    return [Case((s,), lambda x, a=a: oracle(x, axis=a), {"axis": a}) for s, a in shapes]


def index_cases(name: str) -> list[Case]:
    sl = ("slice", None, None, 1)
    rows, cols = np.array([2, 0, 2]), np.array([[1], [0]])
    base = 1 if name == "index" else 2

    def at(j: int) -> tuple[str, int]:
        return ("input", j + base)

    def cut(start: int | None, stop: int | None, step: int = 1) -> tuple[Any, ...]:
        d = [None if b is None else Dim(b) for b in (start, stop)]
        return ("slice", *d, step)

    specs: list[tuple[tuple[int, ...], Any, Any, tuple[Any, ...]]] = [
        ((4,), (("int", 1),), np.s_[1], ()),
        ((4,), (("int", -4),), np.s_[-4], ()),
        ((4, 3), (sl, ("int", 1)), np.s_[:, 1], ()),
        ((4,), (cut(1, None),), np.s_[1:], ()),
        ((4,), (cut(None, -1),), np.s_[:-1], ()),
        ((4,), (cut(-3, None),), np.s_[-3:], ()),
        ((4,), (cut(None, 10),), np.s_[:10], ()),
        ((4,), (cut(None, None, -1),), np.s_[::-1], ()),
        ((4,), (cut(3, 0, -2),), np.s_[3:0:-2], ()),
        ((5, 3), (cut(1, -1), sl), np.s_[1:-1], ()),
        ((4,), (("new",), sl, ("new",)), np.s_[None, :, None], ()),
        ((4, 3), (at(0),), np.s_[rows], (rows,)),
        ((4, 3), (sl, at(0)), np.s_[:, rows], (rows,)),
        ((4, 3), (at(0), at(1)), np.s_[rows, cols], (rows, cols)),
        ((4, 2, 3), (at(0), sl, at(1)), np.s_[rows, :, cols], (rows, cols)),
        ((2, 4, 3), (sl, at(0), ("int", 1)), np.s_[:, rows, 1], (rows,)),
        ((4, 2, 3), (at(0), sl, ("int", 1)), np.s_[rows, :, 1], (rows,)),
        ((4, 3), (at(0), ("new",)), np.s_[rows, None], (rows,)),
        ((4,), (at(0),), np.s_[np.int64(2)], (np.int64(2),)),
        ((4,), (("slice", at(0), None, 1),), np.s_[2:], (np.int64(2),)),
        ((0, 3), (sl, ("int", 0)), np.s_[:, 0], ()),
    ]
    out = []
    for shape, spec, index, extra in specs:
        place = np.zeros(shape)[index].shape

        def added(x: Any, v: Any, *_: Any, index: Any = index) -> Any:
            y = x.copy()
            np.add.at(y, index, v)
            return y

        def stored(x: Any, v: Any, *_: Any, index: Any = index) -> Any:
            y = x.copy()
            y[index] = v
            return y

        def read(x: Any, *_: Any, index: Any = index) -> Any:
            return x[index]

        oracle = {"index": read, "add_at": added, "set_at": stored}[name]
        shapes = (shape,) if name == "index" else (shape, place)
        dtypes = "fiub" if name == "index" else "fi"
        out.append(Case(shapes, oracle, {"spec": spec}, extra=extra, dtypes=dtypes, dim=Dim))
        if name == "index":
            out.append(Case(shapes, oracle, {"spec": spec}, extra=extra, dtypes=dtypes))
    return out


MATRICES = ((3, 3), (2, 4), (4, 2), (2, 3, 3), (1, 1), (0, 3))
SQUARE = ((3, 3), (1, 1), (2, 3, 3), (0, 0))
SOLVED = (((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3,)), ((2, 3, 3), (2, 3, 2)), ((2, 3, 3), (3, 2)))


def regular(x: Any) -> Any:
    """A matrix whose diagonal is great enough."""
    return x + 7 * np.eye(x.shape[-1], dtype=x.dtype)


def positive(x: Any) -> Any:
    """A symmetric positive definite matrix."""
    return np.swapaxes(x, -1, -2) @ x + 2 * np.eye(x.shape[-1])


def triangular(a: Any, b: Any, lower: bool, trans: bool) -> Any:
    part = np.tril(a) if lower else np.triu(a)
    return np.linalg.solve(np.swapaxes(part, -1, -2) if trans else part, b)


def keep(result: Any, x: Any) -> Any:
    """A result of SciPy's, which is f64, in the dtype of floats that were given."""
    return result.astype(x.dtype) if x.dtype.kind == "f" else result


def log_gamma(x: Any) -> Any:
    """SciPy's, but right for subnormal numbers and minus infinity."""
    tiny = (x != 0) & (np.abs(x) < 1e-300) & (np.asarray(x).dtype == np.float64)
    found = np.where(tiny, -np.log(np.abs(np.where(tiny, x, 1))), special.gammaln(x))
    return keep(np.where(np.isneginf(x), np.inf, found), x)


def fold(f: Callable[..., Any]) -> Callable[..., Any]:
    """The oracle of a reduction of f32: computed in f64."""

    def oracle(x: Any, **how: Any) -> Any:
        out = f(x.astype(np.float64), **how) if x.dtype == np.float32 else f(x, **how)
        return out.astype(np.float32) if x.dtype == np.float32 else out

    return oracle


def others(x: Any, axis: Any) -> Any:
    """prod_of_others by its definition: one element replaced by 1 at a time."""
    out = np.empty_like(x)
    for i in np.ndindex(x.shape):
        y = x.copy()
        y[i] = 1
        p = np.broadcast_to(np.prod(y, axis=axis, keepdims=True), x.shape)
        out[i] = p[i]
    return out


N3, N2 = size(3), size(2)
CASES: dict[str, list[Case]] = {
    "add": binary(np.add),
    "sub": binary(np.subtract, dtypes="fiu"),
    "mul": binary(np.multiply),
    "div": binary(np.divide, low=0.5),
    "floordiv": binary(np.floor_divide, low=0.7, dtypes="fiu"),
    "mod": binary(np.remainder, low=0.7, dtypes="fiu"),
    "pow": binary(np.power, low=0.5, dtypes="fiu"),
    "eq": binary(np.equal),
    "ne": binary(np.not_equal),
    "lt": binary(np.less),
    "le": binary(np.less_equal),
    "gt": binary(np.greater),
    "ge": binary(np.greater_equal),
    "and": binary(np.logical_and, dtypes="b"),
    "or": binary(np.logical_or, dtypes="b"),
    "not": unary(np.logical_not, dtypes="b"),
    "bit_and": binary(np.bitwise_and, dtypes="iub"),
    "bit_or": binary(np.bitwise_or, dtypes="iub"),
    "bit_xor": binary(np.bitwise_xor, dtypes="iub"),
    "bit_not": unary(np.invert, dtypes="iub"),
    "maximum": binary(np.maximum),
    "minimum": binary(np.minimum),
    "clip": [
        Case(s, np.clip, low=-3, high=3)
        for s in (((), (), ()), ((4,), (), ()), ((2, 3), (3,), (2, 1)), ((0,), (), ()))
    ],
    "neg": unary(np.negative, dtypes="fiu"),
    "abs": unary(np.abs, dtypes="fiu"),
    "sign": unary(np.sign, dtypes="fiu"),
    "square": unary(np.square, dtypes="fiu"),
    "floor": unary(np.floor),
    "ceil": unary(np.ceil),
    "round": unary(np.round),
    "trunc": unary(np.trunc),
    "exp": unary(np.exp),
    "expm1": unary(np.expm1),
    "log": unary(np.log, low=0.1),
    "log1p": unary(np.log1p, low=-0.9),
    "log2": unary(np.log2, low=0.1),
    "log10": unary(np.log10, low=0.1),
    "sqrt": unary(np.sqrt, low=0.1),
    "sin": unary(np.sin),
    "cos": unary(np.cos),
    "tan": unary(np.tan, low=-1, high=1),
    "tanh": unary(np.tanh),
    "sigmoid": unary(special.expit),
    "softplus": unary(lambda x: np.logaddexp(x.dtype.type(0), x)),
    "relu": unary(lambda x: np.maximum(x, x.dtype.type(0)), dtypes="fiu"),
    "arcsin": unary(np.arcsin, low=-0.9, high=0.9),
    "arccos": unary(np.arccos, low=-0.9, high=0.9),
    "arctan": unary(np.arctan),
    "sinh": unary(np.sinh),
    "cosh": unary(np.cosh),
    "arcsinh": unary(np.arcsinh),
    "arccosh": unary(np.arccosh, low=1.1, high=3),
    "arctanh": unary(np.arctanh, low=-0.9, high=0.9),
    "exp2": unary(np.exp2),
    "cbrt": unary(np.cbrt, low=0.2),
    "deg2rad": unary(np.deg2rad),
    "rad2deg": unary(np.rad2deg),
    "reciprocal": unary(lambda x: 1 / x, low=0.3),
    "erf": unary(special.erf),
    "erfc": unary(special.erfc),
    "gamma": unary(special.gamma, low=0.2),
    "lgamma": unary(log_gamma, low=0.2),
    "digamma": unary(special.digamma, low=0.2),
    "polygamma": [
        Case((s,), lambda x, k=k: keep(special.polygamma(k, x), x), {"order": k}, low=0.3, high=9)
        for s in SHAPES
        for k in (1, 2, 3)
    ],
    "arctan2": binary(np.arctan2, low=0.3),
    "hypot": binary(np.hypot, low=0.3),
    "logaddexp": binary(np.logaddexp),
    "isclose": [
        Case(p, np.isclose, {"rtol": 1e-5, "atol": 1e-8, "equal_nan": False}, dtypes="fiu") for p in PAIRS
    ],
    "hard_sigmoid": unary(lambda x: np.clip(0.2 * x + 0.5, 0, 1)),
    "softsign": unary(lambda x: x / (1 + np.abs(x))),
    "leaky_relu": [
        Case((s,), lambda x, k=k: np.where(x > 0, x, k * x), {"slope": k})
        for s in SHAPES
        for k in (0.01, 0.5)
    ],
    "elu": [
        Case((s,), lambda x, k=k: np.where(x > 0, x, k * np.expm1(x)), {"alpha": k})
        for s in SHAPES
        for k in (1.0, 0.3)
    ],
    "selu": unary(lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "gelu": unary(lambda x: x * special.ndtr(x)),
    "silu": unary(lambda x: x * special.expit(x)),
    "tril": [Case((s,), lambda x, k=k: np.tril(x, k), {"k": k}) for s in MATRICES for k in (-1, 0, 2)],
    "triu": [Case((s,), lambda x, k=k: np.triu(x, k), {"k": k}) for s in MATRICES for k in (-1, 0, 2)],
    "diag": [
        *(Case((s,), np.diag) for s in ((3,), (1,), (0,), (3, 3))),
        *(Case((s,), np.diag, dim=Dim) for s in ((2, 3), (4, 2))),
    ],
    "trace": [Case((s,), lambda x: np.trace(x, axis1=-2, axis2=-1), dtypes="fiu") for s in MATRICES],
    "cholesky": [Case((s,), np.linalg.cholesky, make=positive, dtypes="f") for s in SQUARE],
    "solve": [Case(s, np.linalg.solve, make=regular, dtypes="fi") for s in SOLVED],
    "solve_triangular": [
        Case(
            s,
            lambda a, b, lower=lower, trans=trans: triangular(a, b, lower, trans),
            {"lower": lower, "trans": trans},
            make=regular,
            dtypes="fi",
        )
        for s in SOLVED
        for lower in (False, True)
        for trans in (False, True)
    ],
    "inv": [Case((s,), np.linalg.inv, make=regular, dtypes="fi") for s in SQUARE],
    "det": [Case((s,), np.linalg.det, make=regular, dtypes="fi") for s in SQUARE],
    "logdet": [Case((s,), lambda x: np.linalg.slogdet(x)[1], make=regular, dtypes="fi") for s in SQUARE],
    "isnan": unary(np.isnan),
    "isinf": unary(np.isinf),
    "isfinite": unary(np.isfinite),
    "sum": reductions(fold(np.sum)),
    "mean": reductions(fold(np.mean), empty=False),
    "var": [
        *reductions(fold(np.var), empty=False, attrs={"ddof": 0}),
        Case(((2, 3),), lambda x: fold(np.var)(x, axis=1, ddof=1), {"axis": 1, "keepdims": False, "ddof": 1}),
    ],
    "std": [
        Case(
            (s,),
            lambda x, a=a, d=d: fold(np.std)(x, axis=a, ddof=d),
            {"axis": a, "keepdims": False, "ddof": d},
        )
        for s, a, d in (((4,), None, 0), ((2, 3), 1, 0), ((2, 3), (0, 1), 0))
    ],
    "contract": reductions(lambda x, **how: np.sum(x, dtype=x.dtype, **how)),
    "prod": reductions(fold(np.prod)),
    "prod_of_others": [
        Case((s,), lambda x, a=a: others(x, a), {"axis": a}, dtypes="f")
        for s, a in (((3,), None), ((2, 3), 1), ((2, 3), 0), ((2, 2, 2), (0, 2)), ((), None), ((2, 0), 1))
    ],
    "max": reductions(np.max, empty=False),
    "min": reductions(np.min, empty=False),
    "any": reductions(np.any, dtypes="b"),
    "all": reductions(np.all, dtypes="b"),
    "argmax": reductions(np.argmax, empty=False, one=True),
    "argmin": reductions(np.argmin, empty=False, one=True),
    "softmax": softmax_cases(special.softmax),
    "log_softmax": softmax_cases(special.log_softmax),
    "logsumexp": reductions(special.logsumexp, empty=False),
    "cumsum": [
        Case((s,), lambda x, a=a: fold(np.cumsum)(x, axis=a), {"axis": a, "reverse": False})
        for s, a in (((4,), -1), ((2, 3), 0), ((2, 3), 1), ((0,), 0), ((2, 0), 0))
    ]
    + [
        Case(
            ((2, 3),),
            lambda x: np.flip(fold(np.cumsum)(np.flip(x, 1), axis=1), 1),
            {"axis": 1, "reverse": True},
        )
    ],
    "allclose": [
        Case(s, lambda x, y: np.bool_(np.allclose(x, y)), {"rtol": 1e-5, "atol": 1e-8, "equal_nan": False})
        for s in PAIRS
    ],
    "full": [
        Case(((),), lambda v: np.full((3, 2), v), {"shape": (Dim(3), Dim(2)), "runtime": ()}),
        Case(((),), lambda v, n: np.full((3,), v), {"shape": (N3,), "runtime": (0,)}, extra=(np.int64(3),)),
    ],
    "zeros_like": unary(np.zeros_like),
    "ones_like": unary(np.ones_like),
    "broadcast_to": [
        Case((s,), lambda x, t=t: np.broadcast_to(x, t), {"shape": tuple(map(Dim, t)), "runtime": ()})
        for s, t in (((), (2, 3)), ((1,), (4,)), ((2, 1), (5, 2, 3)), ((1,), (0,)), ((1,), (1,)))
        if s != (2, 1)
    ]
    + [
        Case(
            ((2, 1),), lambda x: np.broadcast_to(x, (3, 2, 3)), {"shape": (Dim(3), N2, Dim(3)), "runtime": ()}
        )
    ],
    "broadcast_like": [
        Case(p, lambda x, y: np.broadcast_to(x, y.shape))
        for p in (((), (2, 3)), ((1,), (2, 3)), ((2, 1), (2, 3)), ((3,), (3,)), ((1,), (0,)))
    ],
    "reshape": [
        Case((s,), lambda x, t=t: x.reshape(t), {"shape": tuple(map(Dim, t)), "runtime": ()})
        for s, t in (
            ((2, 3), (6,)),
            ((2, 3), (-1,)),
            ((2, 3), (3, -1)),
            ((), (1, 1)),
            ((0,), (0, 3)),
            ((4,), (2, 2)),
        )
    ],
    "reshape_like": [Case(((2, 3), (3, 2)), lambda x, y: x.reshape(y.shape))],
    "transpose": [
        Case((s,), lambda x, a=a: np.transpose(x, a), {"axes": a})
        for s, a in (
            ((2, 3), None),
            ((3,), None),
            ((), None),
            ((2, 3, 1), (2, 0, 1)),
            ((2, 3, 1), (-1, 0, -2)),
        )
    ],
    "expand_dims": [
        Case((s,), lambda x, a=a: np.expand_dims(x, a), {"axis": a})
        for s, a in (((), 0), ((3,), 0), ((3,), -1), ((2, 3), 1), ((2, 3), (0, 3)), ((2, 3), (-1, 1)))
    ],
    "squeeze": [
        Case((s,), lambda x, a=a: np.squeeze(x, a), {"axis": a})
        for s, a in (
            ((1, 3), None),
            ((3, 1), 1),
            ((3, 1), -1),
            ((1, 3, 1), (0, 2)),
            ((1, 3, 1), 0),
            ((3,), None),
        )
    ],
    "concatenate": [
        Case(s, lambda *xs, a=a: np.concatenate(xs, a), {"axis": a})
        for s, a in (
            (((2,), (3,)), 0),
            (((2, 3), (2, 1)), 1),
            (((2, 3), (2, 3), (0, 3)), 0),
            (((2, 3), (2, 2)), -1),
        )
    ],
    "part": [
        Case(((5,), (2,), (3,)), lambda g, a, b: g[2:], {"axis": 0, "which": 1}, dim=Dim),
        Case(((2, 3), (2, 3), (2, 0)), lambda g, a, b: g[:, 3:], {"axis": 1, "which": 1}, dim=Dim),
    ],
    "stack": [
        Case(s, lambda *xs, a=a: np.stack(xs, a), {"axis": a})
        for s, a in (
            (((), ()), 0),
            (((3,), (3,)), 0),
            (((3,), (3,), (3,)), -1),
            (((2, 3), (2, 3)), 1),
            (((0,), (0,)), 1),
        )
    ],
    "matmul": [
        Case(s, np.matmul)
        for s in (
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((2,), (2, 3)),
            ((2, 3), (3, 4)),
            ((5, 2, 3), (3, 4)),
            ((2, 3), (5, 3, 4)),
            ((5, 2, 3), (1, 3, 4)),
            ((5, 1, 2, 3), (4, 3, 2)),
            ((3,), (5, 3, 4)),
            ((5, 2, 3), (3,)),
            ((0, 3), (3, 2)),
            ((2, 0), (0, 3)),
            ((1, 1), (1, 1)),
        )
    ],
    "outer": [Case(s, np.multiply.outer) for s in (((2,), (3,)), ((3,), (3,)), ((0,), (2,)))],
    "dot": [Case(s, np.dot) for s in (((3,), (3,)), ((2, 3), (3,)), ((2,), (2, 3)), ((2, 3), (3, 4)))],
    "index": index_cases("index"),
    "add_at": index_cases("add_at"),
    "set_at": index_cases("set_at"),
    "is_last": [
        Case(
            ((4,),),
            lambda x, i: np.array([False, True, True]),
            {"spec": (("input", 1),)},
            extra=(np.array([2, 0, 2]),),
        )
    ],
    "one_hot": [
        Case(
            (),
            lambda i: np.eye(4)[i],
            {"shape": (Dim(4),), "runtime": ()},
            extra=(np.array([[3, 0], [1, 1]]),),
            dtypes="i",
        )
    ],
    "stop_gradient": unary(lambda x: x),
    "named": [Case((s,), lambda x: x, {"name": "a"}) for s in SHAPES],
    "size": [
        Case((s,), lambda x, a=a: np.int64(x.shape[a]), {"axis": a})
        for s, a in (((3,), 0), ((2, 3), -1), ((0,), 0))
    ],
}
#: Rows whose cases are tests of their own below, and leaves.
ELSEWHERE = {"where", "cast", "zeros", "ones", "eye", "arange", "dim", "draw", "peak", "unit", "scaled"}
ELSEWHERE |= {"between", "not_negative", "probability"}  # tests/test_native_random.py
ELSEWHERE |= {"place", "gather", "scatter"}  # tests/test_places.py
LEAVES = {"const", "tensor", "shared", "value", "stream", "hole"}

DTYPES = {"f": ("f8", "f4"), "i": ("i8", "i1", "i4"), "u": ("u1", "u8"), "b": ("?",)}
FLAT = [(name, k) for name, cases in CASES.items() for k in range(len(cases))]
IDS = [f"{name}-{k}" for name, k in FLAT]


def test_every_row_is_complete() -> None:
    for name, op in OPS.items():
        assert op.name == name
        assert callable(op.type), name
        assert op.doc.strip(), name
        assert op.doc.rstrip().endswith("." if op.public else (".", "?")), name
        if name not in LEAVES | {"draw", "unit"}:
            assert callable(op.numpy), name
        if name not in LEAVES:
            assert op.grad is not None or op.cut, (
                f"{name} has neither a gradient nor a reason for having none"
            )
        assert all(part.strip() for part in op.signature.split(",")) or not op.signature, name


def test_every_row_has_cases() -> None:
    assert set(OPS) == set(CASES) | ELSEWHERE | LEAVES


def test_view_rows_only_move_or_repeat_elements() -> None:
    """What `view` promises to the rewrites: an elementwise function may pass."""
    views = [name for name, op in OPS.items() if op.view]
    assert {"named", "transpose", "reshape", "index", "broadcast_to", "stop_gradient"} <= set(views)
    for name in views:
        for case in CASES[name]:
            arrays = case.arrays("f8")
            made = case.build(name)
            _, inside = value(lambda x, *r, made=made: made(x.apply("sin"), *r), *arrays)
            _, outside = value(lambda x, *r, made=made: made(x, *r).apply("sin"), *arrays)
            np.testing.assert_array_equal(inside, outside)


def test_shape_only_inputs_are_read_for_their_shape_only() -> None:
    for name, op in OPS.items():
        for case in CASES.get(name, []) if op.shape_only else []:
            arrays = case.arrays("f8")
            changed = [a * np.nan if i in op.shape_only else a for i, a in enumerate(arrays)]
            np.testing.assert_array_equal(
                value(case.build(name), *arrays)[1], value(case.build(name), *changed)[1]
            )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(("name", "k"), FLAT, ids=IDS)
def test_values_agree_with_numpy(name: str, k: int) -> None:
    case = CASES[name][k]
    row = OPS[name]
    for dtype in [d for kind in case.dtypes for d in DTYPES[kind]]:
        arrays = case.arrays(dtype, seed=k)
        node, got = value(case.build(name), *arrays, dim=case.dim)
        wanted_of = [
            a.astype("f8") if row.convert == "float" and a.dtype.kind in "iub" else a
            for a in map(np.asarray, arrays)
        ]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            wanted = case.oracle(*wanted_of)
        assert np.shape(got) == np.shape(wanted), dtype
        assert np.asarray(got).dtype.name == node.dtype.numpy_name, dtype
        if name not in ("zeros_like", "ones_like"):
            assert np.asarray(got).dtype == np.asarray(wanted).dtype, dtype
        tolerance = 3e-6 if np.dtype(dtype) == "f4" else 1e-13
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True, err_msg=dtype)
        settled = tuple(d for d in node.shape if d.is_const)
        assert all(d.const in np.shape(got) for d in settled)


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324, 700.0, -750.0])


FUNCTIONS = [n for n, c in CASES.items() if c[0].shapes == ((),) and len(c) == len(SHAPES)]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "f" in CASES[n][0].dtypes])
def test_special_values(name: str) -> None:
    case = CASES[name][0]
    with np.errstate(all="ignore"):
        single = SPECIAL.astype("f4")
    for x in (SPECIAL, single):
        with np.errstate(all="ignore"):
            wanted = case.oracle(x)
            _, got = value(case.build(name), x)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=0)


OF_TWO = [n for n, c in CASES.items() if tuple(x.shapes for x in c) == PAIRS and n != "allclose"]


@pytest.mark.parametrize("name", [n for n in OF_TWO if "f" in CASES[n][0].dtypes])
def test_special_values_of_pairs(name: str) -> None:
    case = CASES[name][0]
    x, y = SPECIAL[:, None].copy(), SPECIAL[None, :].copy()
    with np.errstate(all="ignore"):
        wanted = case.oracle(x, y)
        graph = Graph()
        n = len(SPECIAL)
        a = graph.leaf("tensor", Tensor(FROM_NUMPY["float64"], (size(n), ONE)), name="x0")
        b = graph.leaf("tensor", Tensor(FROM_NUMPY["float64"], (ONE, size(n))), name="x1")
        (got,) = run([case.build(name)(a, b)], [x, y])
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "prod", "max", "min", "var", "softmax", "log_softmax", "logsumexp"]
)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_special_values_in_reductions(name: str, bad: float) -> None:
    x = np.array([[1.0, bad, 2.0], [3.0, 4.0, 5.0]])
    oracle = getattr(special, name, None) or getattr(np, name)
    attrs: dict[str, Any] = {"axis": 1}
    if name not in ("softmax", "log_softmax"):
        attrs["keepdims"] = False
    if name == "var":
        attrs["ddof"] = 0
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            value(lambda a: a.apply(name, **attrs), x)[1], oracle(x, axis=1), rtol=1e-12
        )


def test_where_keeps_the_condition_apart() -> None:
    c, x, y = np.array([True, False]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.float64(9)
    _, got = value(lambda a, b, d: a.apply("where", b, d), c, x, y)
    np.testing.assert_array_equal(got, np.where(c, x, y))
    node, _ = value(lambda a, b, d: a.apply("where", b, d), c, x.astype("f4"), np.array([1, 2]))
    assert node.dtype.numpy_name == "float64"
    node, got = value(lambda a, b: a.apply("where", b, 0), c, x.astype("f4"))
    assert node.dtype.numpy_name == "float32"
    np.testing.assert_array_equal(got, np.where(c, x, 0))


@pytest.mark.parametrize("source", ["?", "i1", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("target", ["?", "i1", "u8", "i8", "f4", "f8", "c16"])
def test_casts(source: str, target: str) -> None:
    x = np.array([0, 1, 3, 2], source)
    _, got = value(lambda a: a.apply("cast", dtype=FROM_NUMPY[np.dtype(target).name]), x)
    assert got.dtype == np.dtype(target)
    np.testing.assert_array_equal(got, x.astype(target))


def test_making() -> None:
    program = """
    function f(x: f64[n], k: i64) = (zeros(k), ones((n, 2)), eye(k), eye((2, n)), arange(n), arange(2, 11, 3),
                                     full(k, (2, n)), zeros(n, dtype = i8), arange(k), n)
    """
    z, o, e, e2, a, a3, full, zi, ak, n = tlang.compile(program).f(np.ones(4), 3)
    for got, wanted in (
        (z, np.zeros(3)),
        (o, np.ones((4, 2))),
        (e, np.eye(3)),
        (e2, np.eye(2, 4)),
        (a, np.arange(4)),
        (a3, np.arange(2, 11, 3)),
        (full, np.full((2, 4), 3)),
        (zi, np.zeros(4, "i1")),
        (ak, np.arange(3)),
        (n, np.int64(4)),
    ):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype


def test_all_functions_of_one_number_through_the_pipeline() -> None:
    names = [n for n in FUNCTIONS if OPS[n].public and "f" in CASES[n][0].dtypes and not CASES[n][0].attrs]
    outputs = ", ".join(f"{n} = {n}(x)" for n in names)
    m = tlang.compile(f"function f(x: f64[n]) = ({outputs})")
    x = np.linspace(0.6, 0.9, 5)
    results = m.f(x)
    for name in names:
        with np.errstate(all="ignore"):
            wanted = CASES[name][0].oracle(x)
        np.testing.assert_allclose(getattr(results, name), wanted, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("i // 0", "R110"),
        ("i % (i - i)", "R110"),
        ("i ** (i - 9)", "R111"),
        ("i ** -1", "T126"),
        ("max(x[:0])", "R112"),
        ("zeros(-2)", "T159"),
        ("zeros(i[0] - 9)", "R113"),
        ("one_hot(i, 2)", "R115"),
        ("x[i + 7]", "R115"),
        ("x[7]", "R115"),
        ("reshape(x, (5, 7))", "R116"),
        ("x[1:] + x[:-2]", "T101"),
        ("sum(x, axis = 1)", "T131"),
        ("sum(x, axis = (0, 0))", "T132"),
        ("squeeze(x)[0] + squeeze(x, axis = 0)", "T139"),
        ("full(x, 3)", "T141"),
        ("eye((2, 3, 4))", "T141"),
        ("transpose(x, axes = (1, 0))", "T131"),
        ("b - b", "T122"),
        ("b ** b", "T122"),
        ("-b", "T122"),
        ("x & i", "T121"),
        ("x and b", "T120"),
        ("softmax(x[0])", "T131"),
    ],
)
def test_errors(formula: str, code: str) -> None:
    with pytest.raises(TlangError) as caught:
        tlang.compile(f"function f(x: f64[n], i: i64[n], b: bool[n]) = {formula}", unused="ignore").f(
            np.ones(3), np.array([1, 2, 3]), np.array([True, False, True])
        )
    assert caught.value.code == code


# ---------------------------------------------------------------- shapes of results


@pytest.mark.parametrize(
    ("formula", "shape"),
    [
        ("x[1:]", "[n - 1, m]"),
        ("x[:-1]", "[n - 1, m]"),
        ("x[1:-1]", "[n - 2, m]"),
        ("x[::-1]", "[n, m]"),
        ("x[-3:]", "[3, m]"),
        ("x[:10]", "[_, m]"),
        ("x[::2]", "[_, m]"),
        ("x[:, None, 0]", "[n, 1]"),
        ("reshape(x, -1)", "[_]"),
        ("reshape(x, (m, n))", "[m, n]"),
        ("reshape(x, (n, -1))", "[n, m]"),
        ("reshape(x, (2, -1, n))", "[2, _, n]"),
        ("reshape(concatenate([x, x], axis = 0), (2, n, m))", "[2, n, m]"),
        ("reshape(x[:, :1], -1)", "[_]"),
        ("x.T", "[m, n]"),
        ("concatenate([x, x[1:]], axis = 0)", "[2*n - 1, m]"),
        ("stack([x, x], axis = 1)", "[n, 2, m]"),
        ("sum(x, axis = 0, keepdims = True)", "[1, m]"),
        ("broadcast_to(x, (5, n, m))", "[5, n, m]"),
        ("x @ x.T", "[n, n]"),
        ("one_hot(arange(n), 4)", "[n, 4]"),
    ],
)
def test_result_shapes(formula: str, shape: str) -> None:
    signature = tlang.compile(f"function f(x: f64[n, m]) = {formula}").f.signature
    assert signature.endswith(f"-> f64{shape}")


def test_a_slice_may_be_shorter_but_not_negative() -> None:
    m = tlang.compile("""
        function first(x: f64[n]) = x[:10]
        function rest(x: f64[n]) = x[1:]
        function last(x: f64[n]) = x[-3:]
    """)
    assert m.first(np.ones(4)).shape == (4,)
    assert m.first(np.ones(14)).shape == (10,)
    assert m.rest(np.ones(1)).shape == (0,)
    for f in (m.rest, m.last):
        with pytest.raises(TlangError):
            f(np.ones(0))


def test_squeeze_leaves_a_named_size_that_happens_to_be_one() -> None:
    m = tlang.compile("function f(x: f64[n, 1]) = squeeze(x)")
    assert m.f(np.ones((1, 1))).shape == (1,)
    assert m.f(np.ones((3, 1))).shape == (3,)


@pytest.mark.parametrize("target", ["w[0:1]", "w[0]", "w[:2, 1]"])
def test_a_value_must_fit_into_its_place(target: str) -> None:
    with pytest.raises(TlangError):
        tlang.compile(f"""
            shared w: f64[4, 3]
            function f(v: f64[5]) where {{ update {target} = v }}
        """)


# ---------------------------------------------------------------- gradients


def difference(f: Callable[..., Any], arrays: Sequence[Any], i: int, h: float = 1e-5) -> Any:
    """The gradient of a scalar function in its i-th array by central differences."""
    x = np.array(arrays[i], float)
    out = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * h
            ends.append(f(*arrays[:i], moved, *arrays[i + 1 :]))
        out[at] = (ends[0] - ends[1]) / (2 * h)
    return out


def weights(node: Node, seed: int) -> Node:
    """A cotangent of the shape of a node: no symmetric sum hides a fault."""
    phase = node.graph.const(0.3 + seed, Tensor(node.dtype))
    if node.rank == 0:
        return phase
    flat = node.graph.make(OPS["zeros_like"], [node]) + 1.0
    for axis in range(node.rank):
        flat = flat.apply("cumsum", axis=axis, reverse=False)
    return (flat * phase).apply("cos")


def check_gradients(
    build: Callable[..., Node], arrays: Sequence[Any], orders: int = 2, dim: Callable[[int], Dim] = size
) -> None:
    """Gradients of a weighted sum in every float input, and their own gradients, against differences."""
    graph = Graph()
    xs = leaves(graph, arrays, dim)
    floats = [i for i, x in enumerate(xs) if x.dtype.kind == "f"]
    node = build(*xs)

    def summed(out: Node, seed: int) -> Node:
        total = out * weights(out, seed)
        return total.apply("sum", axis=None, keepdims=False) if total.rank else total

    cost = summed(node, 0)
    for order in range(orders):
        tape = Tape(rewrite([cost], verify))

        def f(*values: Any, tape: Tape = tape) -> Any:
            return tape.run(lambda leaf: np.asarray(values[int(leaf.attr("name")[1:])])[()], None)[0]

        found = grad(cost, [xs[i] for i in floats])
        assert order or any(g is not None for g in found)
        for i, g in zip(floats, found, strict=True):
            wanted = difference(f, arrays, i)
            if g is None:
                np.testing.assert_allclose(wanted, 0, atol=1e-8)
                continue
            assert g.shape == xs[i].shape
            assert g.dtype == xs[i].dtype
            (got,) = run([g], arrays)
            np.testing.assert_allclose(
                got, wanted, rtol=2e-6, atol=2e-8, err_msg=f"order {order + 1}, input {i}"
            )
        parts = [summed(g, 1) for g in found if g is not None]
        if not parts:
            return
        cost = sum(parts[1:], parts[0])


DIFFERENTIABLE = [
    (n, k)
    for n, k in FLAT
    if OPS[n].grad is not None
    and "f" in CASES[n][k].dtypes
    and CASES[n][k].shapes
    and all(0 not in s for s in CASES[n][k].shapes)
]


@pytest.mark.parametrize(("name", "k"), DIFFERENTIABLE, ids=[f"{n}-{k}" for n, k in DIFFERENTIABLE])
def test_gradients_agree_with_differences(name: str, k: int) -> None:
    case = CASES[name][k]
    check_gradients(case.build(name), case.arrays("f8", seed=100 + k), dim=case.dim)


EMPTY = [
    (n, k)
    for n, k in FLAT
    if OPS[n].grad is not None and "f" in CASES[n][k].dtypes and any(0 in s for s in CASES[n][k].shapes)
]


@pytest.mark.parametrize(("name", "k"), EMPTY, ids=[f"{n}-{k}" for n, k in EMPTY])
def test_gradients_of_empty_tensors_have_their_shapes(name: str, k: int) -> None:
    case = CASES[name][k]
    arrays = case.arrays("f8")
    graph = Graph()
    xs = leaves(graph, arrays, case.dim)
    out = case.build(name)(*xs)
    found = vjp(out, xs, weights(out, 0))
    for x, g, a in zip(xs, found, arrays, strict=True):
        if g is not None:
            assert g.shape == x.shape
            assert run([g], arrays)[0].shape == np.shape(a)


@pytest.mark.parametrize(("name", "k"), DIFFERENTIABLE, ids=[f"{n}-{k}" for n, k in DIFFERENTIABLE])
def test_jvp_agrees_with_differences_and_vjp(name: str, k: int) -> None:
    case = CASES[name][k]
    arrays = case.arrays("f8", seed=200 + k)
    graph = Graph()
    xs = leaves(graph, arrays, case.dim)
    out = case.build(name)(*xs)
    x = np.asarray(arrays[0])
    t = np.cos(np.arange(x.size) * 1.3 + 0.2).reshape(x.shape)
    tangent = graph.leaf("tensor", xs[0].type, name=f"x{len(arrays)}")
    found = jvp(out, xs[0], tangent)
    (back,) = vjp(out, [xs[0]], weights(out, 0))
    ends = [run([out], [x + h * t, *arrays[1:]])[0] for h in (1e-5, -1e-5)]
    wanted = (ends[0] - ends[1]) / 2e-5
    if found is None:
        np.testing.assert_allclose(wanted, 0, atol=1e-8)
        return
    assert found.dtype == out.dtype
    u, got, pulled = run([weights(out, 0), found, back], [*arrays, t])
    assert np.shape(got) == np.shape(wanted)
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-8)
    np.testing.assert_allclose(np.sum(u * got), np.sum(pulled * t), rtol=1e-9, atol=1e-12)


def grad_of(formula: str, wrt: str, types: str, *args: Any) -> Any:
    names = ", ".join(f"d{w} = g{w}" for w in wrt.split())
    parts = "; ".join(f"g{w} = grad(sum({formula}), {w})" for w in wrt.split())
    out = tlang.compile(f"function f({types}) = ({names}) where {{ {parts} }}", unused="ignore").f(*args)
    return tuple(out)


def test_ties() -> None:
    two = "x, y: f64"
    assert grad_of("maximum(x, y)", "x y", two, 1, 1) == (1, 0)
    assert grad_of("minimum(x, y)", "x y", two, 1, 1) == (1, 0)
    assert tlang.compile("function f(x: f64) = grad(abs(x), x)").f(0.0) == 0
    assert tlang.compile("function f(x: f64) = grad(relu(x), x)").f(0.0) == 0
    m = tlang.compile("function f(x: f64[n]) = (hi, lo) where { hi = grad(max(x), x); lo = grad(min(x), x) }")
    hi, lo = m.f([3, 1, 3, 1])
    np.testing.assert_array_equal(hi, [1, 0, 1, 0])
    np.testing.assert_array_equal(lo, [0, 1, 0, 1])
    clip = tlang.compile("""
        function f(x, a, b: f64) = (dx, da, db) where { dx, da, db = grad(clip(x, a, b), x, a, b) }
    """)
    assert tuple(clip.f(1, 1, 2)) == (1, 0, 0)
    assert tuple(clip.f(2, 1, 2)) == (1, 0, 0)
    assert tuple(clip.f(0, 1, 2)) == (0, 1, 0)
    assert tuple(clip.f(3, 1, 2)) == (0, 0, 1)
    assert tuple(clip.f(0, 5, 2)) == (0, 0, 1)  # low > high: the value is high


def test_prod_with_zeros() -> None:
    x = np.array([[1, 2, 0], [0, 5, 6], [7, 8, 9], [9, 10, 0]], float)
    got = tlang.compile("function f(x: f64[n, m]) = grad(sum(prod(x, axis = 1)), x)").f(x)
    np.testing.assert_array_equal(got, [[0, 0, 2], [30, 0, 0], [72, 63, 56], [0, 0, 90]])


@pytest.mark.parametrize(
    "x", [[2.0, 3.0, 5.0], [0.0, 3.0, 5.0], [0.0, 0.0, 5.0, 2.0], [0.0, 0.0, 0.0, 7.0], [4.0]]
)
def test_higher_derivatives_of_prod(x: list[float]) -> None:
    def build(a: Node) -> Node:
        return a.apply("prod", axis=None, keepdims=False)

    check_gradients(build, [np.array(x)], orders=3)


@pytest.mark.parametrize(
    ("power", "points"),
    [
        ("2", [0.0, -1.5, 2.0]),
        ("3", [0.0, -1.5]),
        ("1", [0.0, 2.0]),
        ("0", [0.0, 2.0]),
        ("0.5", [2.0]),
        ("-2", [-1.5]),
    ],
)
def test_constant_powers(power: str, points: list[float]) -> None:
    """First and second derivatives by hand, also at 0, where x ** (y - 1) is no number for small y."""
    p = float(power)
    m = tlang.compile(f"""
        function f(x: f64) = (d, dd) where {{
            d = grad(x ** {power}, x); dd = grad(d, x, disconnected = "zero")
        }}
    """)
    for x in points:
        d, dd = m.f(x)
        assert d == pytest.approx(p * x ** (p - 1) if p else 0)
        assert dd == pytest.approx(p * (p - 1) * x ** (p - 2) if p * (p - 1) else 0)


def test_powers_of_zero() -> None:
    m = tlang.compile("function f(x, y: f64) = (dx, dy) where { dx, dy = grad(x ** y, x, y) }")
    assert tuple(m.f(0, 0)) == (0, 0)
    assert tuple(m.f(0, 1)) == (1, 0)
    assert tuple(m.f(0, 2)) == (0, 0)
    dx, dy = m.f(-2, 3)
    assert dx == 12
    assert np.isnan(dy)


def test_rounding_has_derivative_zero() -> None:
    for name in ("floor", "ceil", "round", "trunc", "sign"):
        assert tlang.compile(f"function f(x: f64) = grad({name}(x) + x, x)").f(1.3) == 1
    dx, dy = grad_of("x // y", "x y", "x, y: f64", 7, 2)
    assert (dx, dy) == (0, 0)
    dx, dy = grad_of("x % y", "x y", "x, y: f64", 7.5, 2)
    assert (dx, dy) == (1, -3)
    dx, dy = grad_of("x % y", "x y", "x, y: f64", -7.5, 2)
    assert (dx, dy) == (1, 4)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("f64(x > 0)", "comparison"),
        ("where(x > 0, 1.0, 2.0)", "comparison"),
        ("f64(i64(x))", "cast to integers"),
        ("stop_gradient(x)", "stop_gradient"),
        ("f64(argmax(x))", "index"),
        ("f64(size(x, 0))", "size"),
        ("ones_like(x)", "shape"),
        ("f64(isnan(x))", "comparison"),
    ],
)
def test_disconnected_paths_are_explained(formula: str, reason: str) -> None:
    with pytest.raises(TlangError) as caught:
        tlang.compile(f"function f(x: f64[n]) = grad(sum({formula}), x)")
    assert caught.value.code == "F135"
    assert reason in str(caught.value)
    zero = tlang.compile(f'function f(x: f64[n]) = grad(sum({formula}), x, disconnected = "zero")')
    np.testing.assert_array_equal(zero.f(np.ones(3)), np.zeros(3))


def test_a_cut_is_found_nearest_to_the_result() -> None:
    graph = Graph()
    (x,) = leaves(graph, [np.ones(3)])
    out = x.apply("floor").apply("gt", 0).apply("where", 1.0, 2.0)
    cut = find_cut(out, x)
    assert cut is not None
    assert cut.op.name in ("gt", "where")
    assert find_cut(out, leaves(Graph(), [np.ones(2)])[0]) is None


def test_the_last_of_repeated_stores_gets_the_gradient() -> None:
    graph = Graph()
    arrays = [np.arange(4.0), np.array([10.0, 20.0, 30.0]), np.array([2, 0, 2])]
    x, v, i = leaves(graph, arrays)
    out = graph.make(OPS["set_at"], [x, v, i], None, spec=(("input", 2),))
    dx, dv = vjp(out, [x, v], weights(out, 0))
    w, dx, dv = run([weights(out, 0), dx, dv], arrays)
    np.testing.assert_array_equal(dx, [0, w[1], 0, w[3]])
    np.testing.assert_array_equal(dv, [0, w[0], w[2]])


def test_gradients_of_draws_pass_through_location_and_scale() -> None:
    m = tlang.compile("""
        tensor m, s: f64
        stream g = philox(3)
        random r: f64 ~ g.normal(m, s)
        random u: f64 ~ g.uniform(m, s)
        function f(m, s) = (r, dm, ds) where { dm, ds = grad(r, m, s) }
        function h(m, s) = (u, dm, ds) where { dm, ds = grad(u, m, s) }
    """)
    r, dm, ds = m.f(1.5, 2.0)
    assert dm == 1
    assert ds == pytest.approx((r - 1.5) / 2.0)
    u, dm, ds = m.h(1.5, 2.0)
    assert dm + ds == pytest.approx(1)
    assert 1.5 * dm + 2.0 * ds == pytest.approx(u)
    assert np.isfinite(m.f(1.5, 0.0).ds)
    assert set(DISTRIBUTIONS) >= {"uniform", "normal", "integers"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_gradients_at_many_points(seed: int) -> None:
    for name, k in DIFFERENTIABLE:
        case = CASES[name][k]
        check_gradients(case.build(name), case.arrays("f8", seed=1000 * seed + k), dim=case.dim)
