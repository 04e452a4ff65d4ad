"""Cases for every operation of the table, with what NumPy or SciPy says of each; walks over it share them.

`tests/test_ops.py` compares values and gradients in the interpreter, `tests/test_ops_cpu.py` runs the same
cases as compiled code, and `tests/test_ops_jax.py` compares gradients with JAX's.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import mpmath
import numpy as np
import scipy.linalg
import scipy.special as special

from tlang.elaborate.options import STATIC, signature
from tlang.graph.node import Graph, Node, verify
from tlang.graph.ops import FORMULAS, OPS
from tlang.graph.ops.formula import SIZES, Size
from tlang.interpret import Tape
from tlang.rewrite import rewrite
from tlang.types import FROM_NUMPY, I64, ONE, Dim, Symbol, Tensor

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


def put_in(name: str, xs: Sequence[Node], attrs: dict[str, Any]) -> Any:
    """A formula with tensors, in order, attributes, sizes as integers, and other constants."""
    values = dict(signature(name))
    graph = xs[0].graph
    if "*xs" in values:
        return FORMULAS[name].define(xs=xs, **{k: attrs.get(k, v) for k, v in values.items() if k != "*xs"})
    values |= attrs
    rest = iter(xs)
    for p in values:
        if p in SIZES and isinstance(values[p], int):
            values[p] = Size(Dim(values[p]), graph.const(values[p], Tensor(I64)))
        elif p in attrs and p not in STATIC:
            shape = tuple(map(Dim, np.shape(attrs[p])))
            values[p] = graph.const(attrs[p], Tensor(FROM_NUMPY[np.asarray(attrs[p]).dtype.name], shape))
        elif p not in {*attrs, *SIZES, *STATIC} and (x := next(rest, None)) is not None:
            values[p] = x
    return FORMULAS[name].define(**values)


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
    item: str = ""  # which item of a record

    def build(self, name: str) -> Callable[..., Node]:
        def made(*xs: Node) -> Node:
            if name in OPS:
                return xs[0].graph.make(OPS[name], xs, None, **self.attrs)
            found: Any = put_in(name, xs, self.attrs)
            return found[self.item] if self.item else found

        return made

    def arrays(self, dtype: Any, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng(seed)
        drawn = [self.draw(rng, np.dtype(dtype), s) for s in self.shapes]
        if self.make is not None:
            made = self.make(drawn[0])
            drawn[0] = made if made.dtype.kind == "b" else np.asarray(made, dtype)
        return drawn + list(self.extra)

    def draw(self, rng: np.random.Generator, dtype: np.dtype, shape: tuple[int, ...]) -> Any:
        if dtype.kind == "b":
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.kind == "c":
            return np.asarray(rng.normal(size=shape) + 1j * rng.normal(size=shape), dtype)
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


def descending(x: Any, k: int, axis: int) -> tuple[Any, Any]:
    """The k greatest elements and their places, the first of equal ones first."""
    order = np.argsort(-x.astype(np.float64), axis=axis, kind="stable")
    order = np.take(order, np.arange(k), axis=axis)
    return np.take_along_axis(x, order, axis), order


def quantiles(oracle: Callable[..., Any], extra: tuple[Any, ...] = ()) -> list[Case]:
    def wanted(x: Any, *rest: Any, a: dict[str, Any]) -> Any:
        x = x.astype(np.float64) if x.dtype.kind != "f" else x
        return np.asarray(oracle(x, *rest, **a), x.dtype)[()]

    out = []
    for shape, axis, keep in (
        ((), None, False),
        ((4,), None, False),
        ((5,), 0, True),
        ((2, 3), None, True),
        ((2, 3), 0, False),
        ((2, 3), -1, True),
        ((2, 3, 2), (0, 2), False),
        ((2, 3, 2), (-1, 1), True),
        ((1, 3), 0, False),
        ((0, 3), 1, False),
    ):
        a = {"axis": axis, "keepdims": keep}
        out.append(Case((shape,), partial(wanted, a=a), a, extra=extra, dtypes="fiu"))
    return out


def moved(x: Any, axis: int, by: int) -> Any:
    """The elements moved along an axis by one place, with a 0 in front or behind."""
    one = np.take(np.zeros_like(x), range(min(1, x.shape[axis])), axis)
    rest = np.take(x, range(max(0, -by), x.shape[axis] - max(0, by)), axis)
    return np.concatenate([one, rest] if by > 0 else [rest, one], axis) if x.size else x


def in_parts(x: Any, y: Any) -> Any:
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), np.result_type(x, np.complex64))
    out.real, out.imag = x, y
    return out[()]


def bessel(f: Callable[..., Any], great: Callable[..., Any]) -> Callable[..., Any]:
    """SciPy's function; for great arguments, where it is NaN or wrong, its value by mpmath or its limit."""

    def oracle(x: Any) -> Any:
        out = np.array(f(x))
        for i in np.ndindex(out.shape):
            v = float(np.asarray(x)[i])
            if abs(v) > 1e6:
                out[i] = float(great(v))
        return out[()]

    return oracle


def recurrence(x: Any, b: Any, axis: int, reverse: bool) -> Any:
    """y[k] = x[k] * y[k - 1] + b[k], one row after the other."""
    rows = range(b.shape[axis])
    out, before = np.moveaxis(b.copy(), axis, 0), 0
    for k in reversed(rows) if reverse else rows:
        out[k] = np.moveaxis(x, axis, 0)[k] * before + out[k]
        before = out[k]
    return np.moveaxis(out, 0, axis)


def filled(dtype: str | None, n: int) -> dict[str, Any]:
    """The attributes of zeros of a size that only the run knows, by 2."""
    kind = FROM_NUMPY[np.dtype(dtype).name] if dtype else None
    return {"shape": (size(n), Dim(2)), "runtime": (0,), "dtype": kind}


N3, N2, ONE_I = size(3), size(2), np.int64(1)
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
    "left_shift": binary(np.left_shift, low=1, dtypes="iu"),
    "right_shift": binary(np.right_shift, low=1, dtypes="iu"),
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
    "rint": unary(np.rint),
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
    "erfinv": unary(special.erfinv, low=-0.99, high=0.99),
    "beta": binary(special.beta, low=0.2),
    "betaln": binary(special.betaln, low=0.2),
    "bessel_j": [
        Case((s,), lambda x, k=k: keep(special.jv(k, x), x), {"order": k}, high=9)
        for s in SHAPES
        for k in range(4)
    ],
    "bessel_i": [
        Case((s,), lambda x, k=k: keep(special.iv(k, x), x), {"order": k}) for s in SHAPES for k in range(4)
    ],
    "real": unary(np.real, dtypes="fiubc"),
    "imag": unary(lambda x: np.array(np.imag(x))[()], dtypes="fiubc"),
    "conj": unary(lambda x: x if x.dtype.kind == "b" else np.conj(x), dtypes="fiubc"),
    "angle": unary(lambda x: np.angle(x).astype(x.real.dtype)[()], dtypes="fiubc"),
    "complex": binary(in_parts),
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
        *(
            Case((s,), lambda x, k=k: np.diag(x, k), {"k": k})
            for s, k in (((3,), 0), ((1,), 0), ((0,), 0), ((3, 3), 0), ((3,), 1), ((2,), -2), ((3, 3), 1))
        ),
        *(
            Case((s,), lambda x, k=k: np.diag(x, k), {"k": k}, dim=dim)
            for s, k in (((2, 3), 0), ((4, 2), 0), ((2, 3), 1), ((4, 2), -1), ((3, 3), -2), ((2, 2), 5))
            for dim in (Dim, size)
        ),
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
    "cumprod": [
        Case((s,), lambda x, a=a: fold(np.cumprod)(x, axis=a), {"axis": a, "reverse": False})
        for s, a in (((4,), -1), ((2, 3), 0), ((2, 3), 1), ((0,), 0), ((2, 0), 0), ((1, 1), 0))
    ]
    + [
        Case(
            ((2, 3),),
            lambda x: np.flip(fold(np.cumprod)(np.flip(x, 1), axis=1), 1),
            {"axis": 1, "reverse": True},
        ),
        Case(
            ((2, 3),),
            lambda x: np.cumprod(x, axis=1),
            {"axis": 1, "reverse": False},
            make=lambda x: np.where(np.arange(3) == 1, 0, x),
            dtypes="f",
        ),
    ],
    "shift": [
        Case((s,), lambda x, a=a, k=k: moved(x, a, k), {"axis": a, "by": k})
        for s, a, k in (
            ((4,), 0, 1),
            ((4,), -1, -1),
            ((2, 3), 0, 1),
            ((2, 3), 1, -1),
            ((0,), 0, 1),
            ((1,), 0, -1),
        )
    ],
    "recur": [
        Case((s, s), lambda x, b, a=a, r=r: recurrence(x, b, a, r), {"axis": a, "reverse": r}, dtypes="f")
        for s in ((4,), (2, 3), (0,), (1,))
        for a in (0, -1)
        for r in (False, True)
    ],
    "sort": [
        Case((s,), lambda x, a=a: np.sort(x, axis=a), {"axis": a})
        for s, a in (((5,), -1), ((3, 2), 0), ((2, 3), 1), ((0,), 0), ((1,), 0), ((2, 3, 4), 1))
    ],
    "argsort": [
        Case((s,), lambda x, a=a: np.argsort(x, axis=a, kind="stable"), {"axis": a, "descending": False})
        for s, a in (((5,), -1), ((3, 2), 0), ((2, 3), 1), ((0,), 0), ((9,), 0))
    ]
    + [
        Case((s,), lambda x, a=a: descending(x, x.shape[a], a)[1], {"axis": a, "descending": True})
        for s, a in (((5,), -1), ((3, 2), 0), ((9,), 0))
    ],
    "searchsorted": [
        Case(
            ((4,), s),
            lambda a, v, side=side: np.asarray(np.searchsorted(a, v, side), np.int64)[()],
            {"side": side},
            make=np.sort,
        )
        for s in ((), (3,), (2, 3), (0,))
        for side in ("left", "right")
    ],
    "some": [Case((s,), lambda x: x, {"what": "median"}) for s in ((3,), (2, 3), (0, 3))],
    "within": [Case((s,), lambda x: x, {"what": "x", "low": -9, "high": 9}) for s in ((), (3,), (0,))],
    "bordered": [
        Case((s, ()), lambda x, v, w=w: np.pad(x, w, constant_values=v), {"widths": w})
        for s, w in (((3,), ((1, 2),)), ((2, 3), ((0, 1), (2, 0))), ((0,), ((1, 1),)))
    ],
    "stretched": [
        Case(p, lambda x, y: np.broadcast_to(x, np.broadcast_shapes(x.shape, y.shape))) for p in PAIRS
    ],
    "peak": reductions(
        lambda x, axis, keepdims: np.max(x, axis, keepdims=keepdims, initial=-np.inf), dtypes="f"
    ),
    "scaled": [Case((s, (), ()), lambda u, low, width: low + width * u, dtypes="f") for s in SHAPES],
    "where": [
        Case(p, np.where, make=lambda x: x > 0)
        for p in (
            ((), (), ()),
            ((3,), (2, 3), ()),
            ((2, 1), (3,), (2, 3)),
            ((0,), (0,), ()),
            ((1,), (1,), (1,)),
        )
    ],
    "cast": [
        Case((s,), lambda x, t=t: x.astype(t)[()], {"dtype": FROM_NUMPY[t]}, low=0)
        for s in SHAPES
        for t in ("float64", "float32", "int64", "int8", "uint8", "bool", "complex128")
    ],
    "zeros": [
        Case((), lambda n, t=t: np.zeros((n, 2), t or "f8"), filled(t, n), extra=(np.int64(n),), dtypes="i")
        for t in (None, "i1")
        for n in (3, 0)
    ],
    "ones": [
        Case((), lambda n, t=t: np.ones((n, 2), t or "f8"), filled(t, n), extra=(np.int64(n),), dtypes="i")
        for t in (None, "i1")
        for n in (3, 0)
    ],
    "arange": [
        Case(
            (),
            lambda a, b, c: np.arange(a, b, c),
            {"size": None},
            extra=tuple(map(np.asarray, e)),
            dtypes="i",
        )
        for e in ((0, 4, 1), (2, 11, 3), (5, 0, -2), (3, 3, 1), (0.5, 2.0, 0.25), (5, 2, 1))
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

#: Formulas: the defaults of attributes are those of their signatures.


def f64(x: Any) -> Any:
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def norms(order: Any, axis: Any) -> Callable[..., Any]:
    def oracle(x: Any) -> Any:
        x = f64(x)
        if order is None or order == "fro":
            return np.sqrt(np.sum(x * x, axis=axis, dtype=np.float64)).astype(x.dtype)
        return np.linalg.norm(x.astype(np.float64), order, axis).astype(x.dtype)

    return oracle


def spread(x: Any, reps: Any) -> Any:
    return np.tile(x, reps)


ROWS3, EDGES = np.array([2, 0, 2]), {"edge": None, "reflect": None, "symmetric": None, "wrap": None}
CASES |= {
    "divmod": [
        Case(p, lambda x, y, k=k: np.divmod(x, y)[k], low=0.7, dtypes="fiu", item=item)
        for p in PAIRS
        for k, item in enumerate(("quotient", "remainder"))
    ],
    "ravel": [Case((s,), np.ravel) for s in SHAPES],
    "round": [
        Case((s,), lambda x, d=d: np.round(f64(x), d), {"decimals": d}, low=-200, high=200)
        for s in SHAPES
        for d in (0, 1, -1)
    ],
    "swapaxes": [
        Case((s,), lambda x, a=a, b=b: np.swapaxes(x, a, b), {"axis1": a, "axis2": b})
        for s, a, b in (((2, 3), 0, 1), ((2, 3, 1), -1, 0), ((3,), 0, 0), ((2, 0), 0, 1))
    ],
    "moveaxis": [
        Case((s,), lambda x, a=a, b=b: np.moveaxis(x, a, b), {"source": a, "destination": b})
        for s, a, b in (((2, 3), 0, 1), ((2, 3, 4), 0, -1), ((2, 3, 4), (0, 1), (-1, 0)), ((2, 0), -1, 0))
    ],
    "flip": [
        Case((s,), lambda x, a=a: np.flip(x, a), {"axis": a})
        for s, a in (((), None), ((3,), None), ((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3, 2), (0, 2)))
    ],
    "roll": [
        Case(
            (s,),
            lambda x, k, a=a: np.roll(x, tuple(k.tolist()) if k.ndim else int(k), a),
            {"axis": a},
            extra=(np.array(k),),
        )
        for s, k, a in (
            ((4,), 1, None),
            ((4,), -5, None),
            ((2, 3), 2, None),
            ((2, 3), 1, 0),
            ((0,), 1, 0),
            ((2, 0), 1, 1),
            ((), 1, None),
        )
    ]
    + [
        Case(((2, 3),), lambda x, k=k, a=a: np.roll(x, k, a), {"shift": k, "axis": a})
        for k, a in (((1, -1), (0, 1)), (2, None), (-4, 1))
    ],
    "tile": [
        Case((s,), lambda x, r=r: np.tile(x, r), {"reps": r})
        for s, r in (((3,), 2), ((2, 3), 2), ((2, 3), (2, 1)), ((3,), (2, 2)), ((2,), 0), ((), 3), ((0,), 2))
    ],
    "repeat": [
        Case((s,), lambda x, r, a=a: np.repeat(x, r, a), {"axis": a}, extra=(np.array(r),))
        for s, r, a in (
            ((3,), 2, None),
            ((2, 3), 2, None),
            ((2, 3), 3, 0),
            ((2, 3), 0, -1),
            ((3,), [2, 0, 1], 0),
            ((2, 3), [1, 2], 0),
            ((0,), 2, 0),
        )
    ]
    + [
        Case((s,), lambda x, r=r, a=a: np.repeat(x, r, a), {"repeats": r, "axis": a})
        for s, r, a in (((3,), 2, None), ((2, 3), 2, 0), ((2, 3), 0, -1), ((2, 3), 1, 1), ((0,), 2, 0))
    ],
    "split": [
        Case(
            (s,),
            lambda x, k=k, a=a, i=i: np.split(x, k if isinstance(k, int) else list(k), a)[i],
            {"sections": k, "axis": a},
            item=f"out{i}",
            dim=dim,
        )
        for s, k, a, i in (
            ((4,), 2, 0, 1),
            ((2, 6), 3, 1, 0),
            ((2, 6), 3, -1, 2),
            ((6,), (2, 3), 0, 2),
            ((6,), (2, 3), 0, 0),
            ((5, 2), (1, -1), 0, 1),
            ((0,), 2, 0, 0),
        )
        for dim in (Dim, size)
    ],
    "pad": [
        *(
            Case((s,), lambda x, w=w: np.pad(x, w), {"pad_width": w})
            for s, w in (
                ((3,), 1),
                ((3,), (0, 2)),
                ((2, 3), ((1, 0), (0, 2))),
                ((2, 0), 1),
                ((), 2),
                ((2, 3), 0),
            )
        ),
        Case(((2, 3), ()), lambda x, v: np.pad(x, 1, constant_values=v), {"pad_width": 1}),
        *(
            Case((s,), lambda x, w=w, m=m: np.pad(x, w, mode=m), {"pad_width": w, "mode": m})
            for m in EDGES
            for s, w in (((3,), 2), ((4,), (9, 7)), ((2, 3), ((1, 0), (0, 2))), ((1,), 3))
        ),
    ],
    "full_like": [
        Case((s, ()), lambda x, v: np.full_like(x, v), {"dtype": None}, dtypes="fiub")
        for s in ((), (3,), (2, 3), (0,))
    ],
    "eye": [
        Case((), lambda _, a=a: np.eye(*a), dict(zip(("n", "m", "k"), a, strict=False)), extra=(ONE_I,))
        for a in ((3,), (0,), (2, 3), (3, 2, 1), (2, 2, -1))
    ],
    "tri": [
        Case((), lambda _, a=a: np.tri(*a), dict(zip(("n", "m", "k"), a, strict=False)), extra=(ONE_I,))
        for a in ((3,), (0,), (2, 3), (3, 2, 1), (2, 2, -1))
    ],
    "linspace": [
        Case(
            ((), ()),
            lambda a, b, n=n, e=e: np.linspace(f64(a), f64(b), n, endpoint=e).astype(f64(a).dtype),
            {"num": n, "endpoint": e},
        )
        for n, e in ((5, True), (5, False), (1, True), (0, True), (2, True))
    ],
    "meshgrid": [
        Case(
            s,
            lambda *xs, i=i, k=k: np.meshgrid(*xs, indexing=i)[k],
            {"indexing": i},
            item=f"out{k}",
        )
        for s in (((2,), (3,)), ((2,), (3,), (4,)), ((1,), (3,)), ((0,), (2,)), ((3,),))
        for i in ("xy", "ij")
        for k in range(len(s))
    ],
    "take": [
        Case((s,), lambda x, i, a=a: np.take(x, i, a), {"axis": a}, extra=(np.array(i),))
        for s, i, a in (
            ((4,), [2, 0, 2, -1], None),
            ((2, 3), [5, 0], None),
            ((3, 2), [[2, 0], [1, 1]], 0),
            ((2, 3), [2, 0], -1),
            ((3,), 1, 0),
        )
    ],
    "take_along_axis": [
        Case((s,), lambda x, i, a=a: np.take_along_axis(x, i, a), {"axis": a}, extra=(np.array(i),))
        for s, i, a in (
            ((4,), [2, 0, 2, -1], 0),
            ((2, 3), [[2, 0], [1, 1]], 1),
            ((2, 3), [[1, 0, 1]], 0),
            ((2, 3, 1), [[[0], [2]], [[1], [1]]], 1),
        )
    ],
    "topk": [
        Case((s,), lambda x, k=k, a=a: descending(x, k, a)[0], {"k": k, "axis": a}, item="values")
        for s, k, a in (((4,), 2, -1), ((2, 3), 3, 1), ((3, 2), 1, 0), ((3,), 0, 0), ((2, 0), 0, 1))
    ]
    + [
        Case((s,), lambda x, k=k, a=a: descending(x, k, a)[1], {"k": k, "axis": a}, item="indices")
        for s, k, a in (((4,), 2, -1), ((9,), 9, -1), ((2, 3), 3, 1), ((3, 2), 1, 0))
    ],
    "bincount": [
        Case((), lambda x: np.bincount(x), extra=(np.array([0, 3, 3, 1]),), dtypes="i"),
        Case(
            (),
            lambda x: np.bincount(x, minlength=7),
            {"minlength": 7},
            extra=(np.array([0, 3, 3, 1]),),
            dtypes="i",
        ),
        Case(
            (),
            lambda x: np.bincount(x, minlength=4),
            {"length": 4},
            extra=(np.array([0, 3, 3, 1]),),
            dtypes="i",
        ),
        Case((), lambda x: np.bincount(x), extra=(np.zeros(0, np.int64),), dtypes="i"),
    ],
    "median": quantiles(lambda x, axis, keepdims: np.median(x, axis=axis, keepdims=keepdims)),
    "quantile": [
        case
        for q in (0.3, [0.27, 0.81])
        for case in quantiles(
            lambda x, _, axis, keepdims, q=q: np.quantile(x, q, axis=axis, keepdims=keepdims),
            extra=(np.array(q),),
        )
    ]
    + [
        Case((s,), lambda x, q=q: np.quantile(f64(x), q).astype(f64(x).dtype), {"q": q})
        for q in (0.0, 1.0, (0.25, 0.5))
        for s in ((5,), (2, 3), (1,))
    ]
    + [
        Case(
            ((2, 5),),
            lambda x, _, m=m: np.quantile(f64(x), 0.4, axis=1, method=m),
            {"axis": 1, "method": m},
            extra=(np.array(0.4),),
            dtypes="f",
        )
        for m in ("lower", "higher", "midpoint", "nearest")
    ],
    "ptp": reductions(np.ptp, empty=False, dtypes="fiu"),
    "count_nonzero": reductions(
        lambda x, axis, keepdims: np.asarray(np.count_nonzero(x, axis=axis, keepdims=keepdims), np.int64)[()]
    ),
    "norm": [
        Case((s,), norms(o, a), {"ord": o, "axis": a})
        for s, o, a in (
            ((4,), None, None),
            ((2, 3), None, None),
            ((2, 3, 2), None, (0, 2)),
            ((2, 3), None, -1),
            ((0,), None, 0),
            *(((2, 3), o, 1) for o in (1.0, 2.0, 3.0, 0.5, -1.0, 0.0, np.inf, -np.inf)),
            *(((2, 3), o, a) for o in (1.0, -1.0, np.inf, -np.inf, "fro") for a in ((0, 1), (1, 0))),
        )
    ],
    "j0": unary(bessel(special.j0, lambda x: mpmath.besselj(0, x) if abs(x) < mpmath.inf else 0), high=9),
    "j1": unary(bessel(special.j1, lambda x: mpmath.besselj(1, x) if abs(x) < mpmath.inf else 0), high=9),
    "i0": unary(bessel(special.i0, lambda x: mpmath.inf)),
    "i1": unary(bessel(special.i1, lambda x: mpmath.sign(x) * mpmath.inf)),
}


# ---------------------------------------------------------------- linear algebra


def einsum_cases() -> list[Case]:
    """Products of every kind; the last ones have an axis of 1 that stretches."""
    return [
        Case(s, lambda *xs, t=t: np.einsum(t, *xs), {"subscripts": t}, dtypes=kinds)
        for t, s, kinds in (
            ("ij,jk->ik", ((2, 3), (3, 4)), "fiub"),
            ("ij,jk", ((2, 3), (3, 4)), "f"),
            ("ba", ((2, 3),), "fi"),
            ("ij->", ((2, 3),), "fi"),
            ("ij->j", ((2, 3),), "fi"),
            ("ii", ((3, 3),), "fi"),
            ("ii->i", ((3, 3),), "fi"),
            ("iji->j", ((2, 3, 2),), "f"),
            ("iii->i", ((2, 2, 2),), "f"),
            ("i,i->", ((3,), (3,)), "f"),
            ("i,i->i", ((3,), (3,)), "f"),
            ("i,j->ji", ((2,), (3,)), "f"),
            ("bij,bjk->bik", ((2, 3, 4), (2, 4, 3)), "f"),
            ("bij,bj->ib", ((2, 3, 4), (2, 4)), "f"),
            ("...ij,...j->...i", ((5, 2, 3), (3,)), "f"),
            ("...ij,...jk", ((2, 1, 3, 2), (4, 2, 3)), "f"),
            ("...,...->...", ((2, 3), ()), "f"),
            ("i...->...", ((2, 3, 4),), "f"),
            ("ijk,ijl->kl", ((2, 3, 4), (2, 3, 2)), "f"),
            ("ij,kl->", ((2, 3), (3, 2)), "f"),
            ("ij,i,j->", ((2, 3), (2,), (3,)), "f"),
            ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2)), "f"),
            ("ij, ij -> i", ((2, 3), (2, 3)), "f"),
            ("ij,ij->ij", ((2, 1), (2, 3)), "f"),
            ("ij,jk->ik", ((2, 1), (3, 4)), "f"),
            ("ij,jk->ik", ((0, 3), (3, 2)), "f"),
            ("ij,jk->ik", ((2, 0), (0, 3)), "f"),
        )
    ]


def tall(x: Any) -> Any:
    """A matrix whose singular values are well apart."""
    u, _, vh = np.linalg.svd(x, full_matrices=False)
    return u * (1.0 + np.arange(min(x.shape[-2:]))) @ vh


def symmetric(x: Any) -> Any:
    """A symmetric matrix whose eigenvalues are well apart."""
    q, _ = np.linalg.qr(x)
    return q * (np.arange(x.shape[-1]) - 0.7) @ np.swapaxes(q, -1, -2)


def parts(
    name: str, f: Callable[..., Any], shapes: Sequence[Any], items: Sequence[str], **how: Any
) -> list[Case]:
    """A case for each item of a record."""
    return [
        Case(s if isinstance(s[0], tuple) else (s,), lambda *xs, i=i: f(*xs)[i], item=item, dtypes="f", **how)
        for s in shapes
        for i, item in enumerate(items)
    ]


def least_squares(a: Any, b: Any) -> tuple[Any, ...]:
    """NumPy's, with residuals also where it leaves them out."""
    x, _, rank, s = np.linalg.lstsq(a, b)
    return x, np.sum((a @ x - b) ** 2, axis=0, dtype=np.float64).astype(a.dtype), np.int64(rank), s


def matrix_norms(order: Any, axis: Any, keepdims: bool) -> Callable[..., Any]:
    return lambda x: np.asarray(np.linalg.norm(x, order, axis, keepdims), x.dtype)[()]


RECTANGLES = ((4, 3), (3, 4), (3, 3), (1, 1), (2, 4, 3), (1, 3), (3, 1), (0, 3), (3, 0))
CASES |= {
    "einsum": einsum_cases(),
    "diagonal_of": [Case((s,), lambda x: np.diagonal(x, axis1=-2, axis2=-1)) for s in SQUARE],
    "diagonal_matrix": [
        Case((s,), lambda x: np.where(np.eye(x.shape[-1], dtype=bool), x[..., None], x.dtype.type(0)))
        for s in ((3,), (2, 3), (0,), (1,))
    ],
    "tensordot": [
        Case(s, lambda x, y, a=a: np.tensordot(x, y, a), {"axes": a}, dtypes="fi")
        for s, a in (
            (((2, 3), (3, 4)), 1),
            (((2, 3, 4), (3, 4, 2)), 2),
            (((2, 3), (4,)), 0),
            (((2, 3, 4), (4, 3)), ((1, 2), (1, 0))),
            (((2, 3), (2, 3)), ((-2, -1), (0, 1))),
            (((2, 3), (3, 4)), (1, 0)),
            (((), ()), 0),
        )
    ],
    "dot": [
        Case(s, np.dot, dtypes="fi")
        for s in (
            ((3,), (3,)),
            ((2, 3), (3,)),
            ((2,), (2, 3)),
            ((2, 3), (3, 4)),
            ((), (3,)),
            ((2, 3), ()),
            ((2, 2, 3), (3,)),
            ((2, 3), (4, 3, 2)),
            ((3,), (4, 3, 2)),
        )
    ],
    "inner": [
        Case(s, np.inner, dtypes="fi")
        for s in (((3,), (3,)), ((2, 3), (3,)), ((2, 3), (4, 3)), ((2, 2, 3), (4, 3)), ((), (3,)))
    ],
    "kron": [
        Case(s, np.kron, dtypes="fi")
        for s in (
            ((2,), (3,)),
            ((2, 3), (3, 2)),
            ((2, 2), (3,)),
            ((2,), (2, 3)),
            ((), (2, 3)),
            ((), ()),
            ((0,), (2,)),
        )
    ],
    "outer": [
        Case(s, lambda x, y: np.multiply.outer(np.ravel(x), np.ravel(y)))
        for s in (((2,), (3,)), ((3,), (3,)), ((0,), (2,)), ((2, 3), (2,)), ((), (2,)))
    ],
    "qr": [
        *parts("qr", np.linalg.qr, RECTANGLES, ("Q", "R"), make=tall),
        *parts("qr", np.linalg.qr, RECTANGLES, ("Q", "R"), make=tall, dim=Dim),
        *(
            Case((s,), lambda x: np.linalg.qr(x, "r"), {"mode": "r"}, make=tall, dtypes="f")
            for s in RECTANGLES
        ),
        *parts(
            "qr",
            lambda x: np.linalg.qr(x, "complete"),
            RECTANGLES,
            ("Q", "R"),
            attrs={"mode": "complete"},
            make=tall,
        ),
    ],
    "svd": [
        *parts(
            "svd",
            lambda x: np.linalg.svd(x, full_matrices=False),
            RECTANGLES,
            ("U", "S", "Vh"),
            attrs={"full_matrices": False},
            make=tall,
        ),
        *parts("svd", np.linalg.svd, RECTANGLES, ("U", "S", "Vh"), attrs={"full_matrices": True}, make=tall),
    ],
    "svdvals": [Case((s,), np.linalg.svdvals, make=tall, dtypes="f") for s in RECTANGLES],
    "eigh": parts("eigh", np.linalg.eigh, SQUARE, ("eigenvalues", "eigenvectors"), make=symmetric),
    "eigvalsh": [Case((s,), np.linalg.eigvalsh, make=symmetric, dtypes="f") for s in SQUARE],
    "slogdet": parts("slogdet", np.linalg.slogdet, SQUARE, ("sign", "logabsdet"), make=regular),
    "pinv": [
        Case((s,), lambda x, r=r: np.linalg.pinv(x, r or 1e-6), {"rcond": r}, make=tall, dtypes="f")
        for s in RECTANGLES
        for r in (None, 0.01)
    ],
    "matrix_rank": [
        Case(
            (s,),
            lambda x: np.int64(np.linalg.matrix_rank(x)) if x.ndim == 2 else np.linalg.matrix_rank(x),
            dtypes="f",
        )
        for s in ((4, 3), (3, 3), (2, 4, 3), (1, 1), (0, 3))
    ],
    "lstsq": parts(
        "lstsq",
        least_squares,
        (((4, 3), (4,)), ((4, 3), (4, 2)), ((3, 4), (3,)), ((3, 3), (3,)), ((1, 1), (1,))),
        ("x", "residuals", "rank", "s"),
        make=tall,
    ),
    "expm": [
        Case(
            (s,),
            lambda x: np.asarray(scipy.linalg.expm(f64(x).astype("f8")), x.dtype),
            dtypes="f",
            low=-b,
            high=b,
        )
        for s in ((3, 3), (1, 1), (2, 3, 3), (0, 0))
        for b in (0.1, 1.5)
    ],
    "matrix_power": [
        Case(
            (s,),
            lambda x, k=k: np.linalg.matrix_power(x, k),
            {"k": k},
            make=regular,
            dtypes="fi" if k >= 0 else "f",
        )
        for s in SQUARE
        for k in (0, 1, 2, 5, -1, -3)
    ],
}
CASES["norm"] += [
    Case((s,), matrix_norms(o, a, keep), {"ord": o, "axis": a, "keepdims": keep}, make=tall, dtypes="f")
    for s, a in (((3, 4), None), ((4, 3), (1, 0)), ((2, 4, 3), (1, 2)))
    for o in ("fro", "nuc", 2.0, -2.0, 1.0, np.inf)
    for keep in (False, True)
]


# ---------------------------------------------------------------- windows


def padded(x: Any, pads: Sequence[tuple[int, int]], value: Any = 0) -> Any:
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + list(pads), constant_values=value)


def by_windows(x: Any, size: Any, stride: Any, dilation: Any, one: Callable[[Any], Any]) -> Any:
    """A number for each window over the last axes, one window after the other."""
    d = len(size)
    lengths = x.shape[x.ndim - d :]
    counts = [
        (n - t * (k - 1) - 1) // s + 1 for n, k, s, t in zip(lengths, size, stride, dilation, strict=True)
    ]
    results = {}
    for at in np.ndindex(*counts):
        cut = tuple(
            slice(i * s, i * s + t * (k - 1) + 1, t)
            for i, k, s, t in zip(at, size, stride, dilation, strict=True)
        )
        results[at] = one(x[(..., *cut)])
    first = one(np.zeros((*x.shape[: x.ndim - d], *size), x.dtype))
    out = np.zeros((*first.shape, *counts), first.dtype)
    for at, result in results.items():
        out[(..., *at)] = result
    return out


def convolution(x: Any, w: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    d = w.ndim - 2
    axes = tuple(range(-d - 1, 0))

    def one(window: Any) -> Any:
        return np.tensordot(window, w, (axes, tuple(range(1, d + 2))))

    return by_windows(padded(x, pads), w.shape[2:], stride, dilation, one)


def conv_cases() -> dict[str, list[Case]]:
    out: dict[str, list[Case]] = {"conv1d": [], "conv2d": []}
    for x, w, stride, padding, dilation, pads in (
        ((2, 3, 5), (4, 3, 2), 1, 0, 1, (0, 0)),
        ((2, 3, 6), (4, 3, 2), 2, 0, 1, (0, 0)),
        ((2, 3, 5), (2, 3, 3), 1, "same", 1, (1, 1)),
        ((2, 3, 5), (2, 3, 2), 1, "same", 1, (0, 1)),
        ((2, 3, 5), (2, 3, 3), 2, 2, 1, (2, 2)),
        ((2, 3, 6), (2, 3, 2), 3, ((1, 2),), 2, (1, 2)),
        ((3, 6), (2, 3, 3), 1, "valid", 2, (0, 0)),
        ((5, 2, 3, 4), (2, 3, 4), 1, 0, 1, (0, 0)),
        ((1, 1, 1), (1, 1, 1), 1, 0, 1, (0, 0)),
        ((0, 3, 5), (2, 3, 2), 1, 0, 1, (0, 0)),
        ((2, 3, 2), (2, 3, 3), 1, 0, 1, (0, 0)),
    ):
        how = {"stride": stride, "padding": padding, "dilation": dilation}
        out["conv1d"].append(
            Case(
                (x, w),
                partial(convolution, stride=(stride,), pads=[pads], dilation=(dilation,)),
                how,
                dtypes="fi",
                dim=Dim if isinstance(padding, str) and stride == 1 and padding == "same" else size,
            )
        )
    for x, w, stride, padding, dilation, pads in (
        ((2, 2, 4, 5), (3, 2, 2, 3), (1, 1), 0, (1, 1), ((0, 0), (0, 0))),
        ((1, 2, 5, 4), (3, 2, 2, 2), (2, 1), (1, 0), (1, 2), ((1, 1), (0, 0))),
        ((2, 1, 4, 4), (2, 1, 3, 3), (2, 2), "same", (1, 1), ((0, 1), (0, 1))),
        ((2, 4, 5), (3, 2, 3, 3), (1, 1), "same", (1, 1), ((1, 1), (1, 1))),
        ((1, 2, 5, 5), (1, 2, 2, 2), (3, 2), ((1, 0), (0, 2)), (1, 1), ((1, 0), (0, 2))),
    ):
        how = {"stride": stride, "padding": padding, "dilation": dilation}
        out["conv2d"].append(
            Case(
                (x, w),
                partial(convolution, stride=stride, pads=pads, dilation=dilation),
                how,
                dtypes="f",
                dim=Dim if padding == "same" else size,
            )
        )
    return out


def pool_cases(d: int, reduce: Any, fill: Any) -> list[Case]:
    out = []
    for shape, k, stride, padding in (
        ((6,) * d, 2, None, 0),
        ((2, *(5,) * d), 2, None, 0),
        ((2, 3, *(5,) * d), 3, 1, 1),
        ((2, *(5, 4)[:d]), (2, 3)[:d], (1, 2)[:d], 0),
        ((1,) * d, 1, None, 0),
        ((0, *(4,) * d), 2, None, 0),
        ((2, *(1,) * d), 2, 1, 0),
    ):
        sizes, strides = (v if isinstance(v, tuple) else (v,) * d for v in (k, stride or k))

        def wanted(x: Any, sizes: Any = sizes, strides: Any = strides, p: int = padding) -> Any:
            least = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
            y = padded(x, [(p, p)] * d, least if fill else 0)
            return by_windows(y, sizes, strides, (1,) * d, lambda w: reduce(w, axis=tuple(range(-d, 0))))

        how = {"size": k, "stride": stride, "padding": padding}
        out.append(Case((shape,), wanted, how, dtypes="fi"))
    return out


CASES |= conv_cases()
CASES |= {
    "max_pool1d": pool_cases(1, np.max, True),
    "max_pool2d": pool_cases(2, np.max, True),
    "avg_pool1d": pool_cases(1, fold(np.mean), False),
    "avg_pool2d": pool_cases(2, fold(np.mean), False),
}
#: Formulas that are counts, places or constants.
FLAT_FORMULAS = {"matrix_rank", "count_nonzero", "eye", "tri", "bincount"}

#: Rows with tests of their own, and leaves.
ELSEWHERE = {"dim", "draw", "unit"}
ELSEWHERE |= {"between", "not_negative", "probability"}  # tests/test_native_random.py
ELSEWHERE |= {"place", "gather", "scatter"}  # tests/test_places.py
ELSEWHERE |= {
    "fft",
    "ifft",
    "rfft",
    "irfft",
    "fft_of",
    "rfft_of",
    "irfft_of",
    "fit",
}  # test_complex_gradients.py
ELSEWHERE |= {"each", "grad_clip"}  # tests/test_batch.py, tests/cases/semantics/derivatives.tl
#: What formulas are made of: their cases are those of the formulas.
ELSEWHERE |= {"einsum_of", "outer_of", "qr_of", "full_qr_of", "svd_of", "full_svd_of", "values_of", "eigh_of"}
ELSEWHERE |= {"slogdet_of", "pinv_of", "rank_of", "expm_of", "windows", "unwindows"}
RECURRENCE = {"open_scan", "result", "scan", "item"}  # tests/test_scan.py
ELSEWHERE |= RECURRENCE
LEAVES = {"const", "tensor", "shared", "value", "stream", "hole", "bound"}

DTYPES = {"f": ("f8", "f4"), "i": ("i8", "i1", "i4"), "u": ("u1", "u8"), "b": ("?",), "c": ("c16", "c8")}
FLAT = [(name, k) for name, cases in CASES.items() for k in range(len(cases))]
IDS = [f"{name}-{k}" for name, k in FLAT]


def has_gradient(name: str, k: int) -> bool:
    """Whether the derivative of a case, in one of its drawn inputs, is to be looked at."""
    case = CASES[name][k]
    dtype = case.attrs.get("dtype") or FROM_NUMPY["float64"]
    passes = OPS[name].grad is not None if name in OPS else name not in FLAT_FORMULAS
    flat = (
        dtype.name != "f64"
        or case.item in ("indices", "sign", "rank")
        or case.attrs.get("ord") == 0
        or (name == "matrix_power" and case.attrs["k"] == 0)
    )
    square = all(s[-1:] == s[-2:-1] for s in case.shapes)
    full = (name == "svd" and case.attrs["full_matrices"]) or case.attrs.get("mode") == "complete"
    flat = flat or (full and not square)
    return passes and "f" in case.dtypes and not flat


def expected(name: str, k: int, arrays: Sequence[Any]) -> Any:
    """What NumPy or SciPy says of a case."""
    row = OPS.get(name)
    converts = row is not None and row.convert == "float"
    inputs = [a.astype("f8") if converts and a.dtype.kind in "iub" else a for a in map(np.asarray, arrays)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return CASES[name][k].oracle(*inputs)


def fortran(a: Any) -> Any:
    """The same numbers in Fortran's order: a transposed array."""
    return np.asfortranarray(a) if a.ndim else a


def strided(a: Any) -> Any:
    """The same numbers, every second of a larger array."""
    room = np.zeros(tuple(2 * n for n in a.shape), a.dtype)
    view = room[(..., *(slice(None, None, 2),) * a.ndim)]
    view[...] = a
    return view


def backwards(a: Any) -> Any:
    """The same numbers in memory from the last to the first."""
    return np.flip(np.flip(a).copy())


#: Ways in which an array may lie in memory.
LAYOUTS: tuple[Callable[[Any], Any], ...] = (fortran, strided, backwards)


#: What LAPACK does with NaN is its own affair; `within` is there to refuse infinities. The order in which
#: `einsum` sums decides whether infinities meet.
UNSAFE = {"solve", "inv", "det", "logdet", "cholesky", "solve_triangular", "within", "einsum", "slogdet"}
UNSAFE |= {
    "qr",
    "svd",
    "svdvals",
    "eigh",
    "eigvalsh",
    "pinv",
    "lstsq",
    "matrix_rank",
    "expm",
    "matrix_power",
    "norm",
}


def spoiled(name: str, k: int, value: float, place: int) -> list[Any] | None:
    """The arrays of a case with NaN or an infinity in one place of each; None if there is no place for it."""
    case = CASES[name][k]
    if "f" not in case.dtypes or name in UNSAFE:
        return None
    arrays = [np.array(a) for a in case.arrays("f8", seed=k)]
    drawn = [a for a in arrays[: len(case.shapes)] if a.dtype.kind == "f" and a.size]
    for a in drawn:
        a.flat[place] = value
    return arrays if drawn else None
