"""Draws: the node that a random variable is, and the rows of the distributions.

A draw's parameters are its inputs; which state it reads is an attribute. The numbers themselves
come from `tlang.run.distributions`, which the interpreter is handed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, operation
from tlang.graph.ops.rules import unbroadcast
from tlang.types import Dim, Mismatch, Solver, Tensor


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a distribution.

    `default` None: it must be given, unless it is `optional`. `kind` is its dtype: "own" that of the draw
    (floats), "real" f32 or f64, "integer" i64, "element" the draw's whatever it is. `place` says how it lies
    beside the draw: "each" stretches to the draw's shape, "row" to that without the last axis, "weights" to
    that with a last axis of its own, "whole" has exactly the draw's shape, "alone" is a scalar, "items" a
    scalar or a vector.
    """

    name: str
    default: float | None = None
    kind: str = "own"
    place: str = "each"
    optional: bool = False


#: The kinds of dtype of a row in words.
_WORDS = {
    "f": "f32 and f64",
    "iu": "integers",
    "biuf": "bool, integers, f32 and f64",
    "biufc": "the dtype of its elements",
}


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row: parameters, the kinds of dtype it draws, how a gradient passes.

    `rank` is the least number of dimensions of a draw. `through` names the parameters through which a draw is
    differentiable (reparameterised): it is a smooth function of them and of a draw of the standard form,
    which is a constant. `grad(g, out, *params)` gives their cotangents, None for the others.
    """

    name: str
    params: tuple[Parameter, ...]
    kinds: str
    doc: str
    rank: int = 0
    through: tuple[str, ...] = ()
    grad: Callable[..., Sequence[Node | None]] | None = None

    @property
    def dtypes(self) -> str:
        """The dtypes of a draw in words."""
        return _WORDS[self.kinds]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters in order."""
        return tuple(p.name for p in self.params)


# ---------------------------------------------------------------- gradients


def _constant(z: Node, where_not: Node) -> Node:
    """A number of the standard form as a constant; 0 where the parameters tell nothing about it."""
    return where_not.apply("where", 0, z).apply("stop_gradient")


def _ratio(x: Node, scale: Node) -> Node:
    """X / scale as a constant, 0 where the scale is."""
    flat = scale.apply("eq", 0)
    return _constant(x / flat.apply("where", 1, scale), flat)


def _uniform_grad(g: Node, out: Node, low: Node, high: Node) -> Sequence[Node]:
    """X = low + (high - low) u."""
    u = _ratio(out - low, high - low)
    return g * (1 - u), g * u


def _normal_grad(g: Node, out: Node, mean: Node, std: Node) -> Sequence[Node]:
    """X = mean + std z."""
    return g, g * _ratio(out - mean, std)


def _lognormal_grad(g: Node, out: Node, mean: Node, sigma: Node) -> Sequence[Node]:
    """X = exp(mean + sigma z)."""
    gone = out.apply("eq", 0)
    z = _ratio(gone.apply("where", 1, out).apply("log") - mean, sigma)
    return g * out, g * out * _constant(z, gone)


def _scale_grad(g: Node, out: Node, *params: Node) -> Sequence[Node | None]:
    """X = scale z, of the last parameter."""
    return [None] * (len(params) - 1) + [g * _ratio(out, params[-1])]


# ---------------------------------------------------------------- the rows

_P = Parameter
_PROBABILITY = _P("p", kind="real")
_COUNT = _P("n", kind="integer")

DISTRIBUTIONS = {
    d.name: d
    for d in (
        Distribution(
            "uniform",
            (_P("low", 0.0), _P("high", 1.0)),
            "f",
            "Uniform on [low, high).",
            through=("low", "high"),
            grad=_uniform_grad,
        ),
        Distribution(
            "normal",
            (_P("mean", 0.0), _P("std", 1.0)),
            "f",
            "The normal distribution with a mean and a standard deviation.",
            through=("mean", "std"),
            grad=_normal_grad,
        ),
        Distribution(
            "lognormal",
            (_P("mean", 0.0), _P("sigma", 1.0)),
            "f",
            "exp of a normal draw with this mean and standard deviation.",
            through=("mean", "sigma"),
            grad=_lognormal_grad,
        ),
        Distribution(
            "exponential",
            (_P("scale", 1.0),),
            "f",
            "Exponential with mean `scale`.",
            through=("scale",),
            grad=_scale_grad,
        ),
        Distribution(
            "gamma",
            (_P("shape"), _P("scale", 1.0)),
            "f",
            "Gamma with mean `shape * scale`.",
            through=("scale",),
            grad=_scale_grad,
        ),
        Distribution("beta", (_P("a"), _P("b")), "f", "Beta on [0, 1] with mean a / (a + b)."),
        Distribution(
            "dirichlet",
            (_P("alpha"),),
            "f",
            "Shares that add up to 1 along the last axis, with means alpha / sum(alpha).",
            rank=1,
        ),
        Distribution("bernoulli", (_PROBABILITY,), "biuf", "True, or 1, with probability p."),
        Distribution("binomial", (_COUNT, _PROBABILITY), "iu", "Successes of n trials with probability p."),
        Distribution("poisson", (_P("lam", 1.0, "real"),), "iu", "Poisson with mean `lam`."),
        Distribution(
            "integers",
            (_P("low", kind="integer"), _P("high", kind="integer")),
            "iu",
            "Integers from low to high - 1.",
        ),
        Distribution(
            "random_integers",
            (_P("low", kind="integer"), _P("high", kind="integer")),
            "iu",
            "Integers from low to high, both included (Theano's name).",
        ),
        Distribution(
            "categorical",
            (_P("p", kind="real", place="weights"),),
            "iu",
            "The index of a category; p has their probabilities along its last axis.",
        ),
        Distribution(
            "multinomial",
            (_P("n", kind="integer", place="row"), _PROBABILITY),
            "iu",
            "How often each category, along the last axis, comes in n trials.",
            rank=1,
        ),
        Distribution(
            "permutation",
            (_P("n", kind="integer", place="alone"),),
            "iu",
            "0 to n - 1 in a random order along the last axis, for each row anew.",
            rank=1,
        ),
        Distribution(
            "shuffle",
            (_P("x", kind="element", place="whole"),),
            "biufc",
            "x with its first axis in a random order.",
            rank=1,
        ),
        Distribution(
            "shuffle_row_elements",
            (_P("x", kind="element", place="whole"),),
            "biufc",
            "x with its last axis in a random order, for each row anew (Theano's name).",
            rank=1,
        ),
        Distribution(
            "choice",
            (_P("a", kind="element", place="items"), _P("p", kind="real", place="items", optional=True)),
            "biufc",
            "Elements of the vector a, or of 0 to a - 1, with equal probabilities or those of p.",
        ),
        Distribution(
            "choice without replacement",
            (_P("a", kind="element", place="items"), _P("p", kind="real", place="items", optional=True)),
            "biufc",
            "The same, no element twice in one draw.",
        ),
    )
}
#: The rows that programs name; the other one is `choice(..., replace = False)`.
PUBLIC = tuple(name for name in DISTRIBUTIONS if name.isidentifier())


# ---------------------------------------------------------------- shapes


def beside(place: str, shape: Sequence[Any], one: Any) -> tuple[Any, ...]:
    """What the shape of a parameter says about that of the draw, aligned right; `one` says nothing."""
    match place:
        case "each" | "whole":
            return tuple(shape)
        case "row":
            return (*shape, one)
        case "weights":
            return tuple(shape[:-1])
    return ()


def _draw_rule(
    solver: Solver,
    inputs: tuple[Node, ...],
    *,
    kind: Tensor,
    distribution: str,
    variable: str,
    state: str,
    held: bool,
) -> Tensor:
    """The declared type, which the parameters must stretch to."""
    row = DISTRIBUTIONS[distribution]
    if kind.dtype.kind not in row.kinds:
        raise error("T160", name=distribution, found=kind, kinds=row.dtypes)
    shape = solver.shape(kind)
    if len(shape) < row.rank:
        raise error("T162", name=distribution, found=kind)
    for i, (x, p) in enumerate(zip(inputs, row.params, strict=False)):
        if p.place == "weights" and not x.rank:
            raise error("T163", name=p.name, found=x.type, wanted="at least one dimension")
        if p.place in ("alone", "items") and x.rank > (p.place == "items"):
            wanted = "a scalar" if p.place == "alone" else "a scalar or a vector"
            raise error("T163", name=p.name, found=x.type, wanted=wanted)
        sizes = beside(p.place, x.shape, Dim(1))
        if len(sizes) > len(shape) or (p.place == "whole" and len(sizes) < len(shape)):
            raise error("T161", name=p.name, found=x.type, shape=kind)
        for want, have in zip(shape[len(shape) - len(sizes) :], sizes, strict=True):
            stretches = have == Dim(1) and p.place != "whole"
            if not stretches and not solver.unify(want, have):
                raise Mismatch("T101", [(i, f"of `{p.name}`", have), (-1, "of the draw", want)])
    if row.params[-1].optional and len(inputs) == 2:
        _check_weights(solver, inputs)
    return Tensor(kind.dtype, shape)


def _check_weights(solver: Solver, inputs: tuple[Node, ...]) -> None:
    """The p of `choice` is a vector, as long as its a if that is one."""
    a, p = inputs
    if not p.rank:
        raise error("T163", name="p", found=p.type, wanted="a vector")
    if a.rank and not solver.unify(a.shape[0], p.shape[0]):
        raise Mismatch("T101", [(0, "of `a`", a.shape[0]), (1, "of `p`", p.shape[0])])


# ---------------------------------------------------------------- the operations


def _draw_grad(g: Node, out: Node, *params: Node, **attrs: Any) -> Sequence[Node | None]:
    """Reparameterisation, where the row has it."""
    row = DISTRIBUTIONS[attrs["distribution"]]
    if row.grad is None:
        return [None] * len(params)
    parts = row.grad(g, out, *params)
    return [None if d is None else unbroadcast(d, p) for d, p in zip(parts, params, strict=True)]


def _flows(node: Node, i: int) -> bool:
    row = DISTRIBUTIONS[node.attr("distribution")]
    return row.params[i].name in row.through


def _why_cut(node: Node) -> str:
    """Why a gradient ends at a draw."""
    row = DISTRIBUTIONS[node.attr("distribution")]
    if not row.through:
        return f"a draw of `{row.name}`, which is a constant,"
    names = " and ".join(f"`{n}`" for n in row.through)
    return f"a draw of `{row.name}`, which has a derivative in {names} alone,"


operation(
    "draw",
    "*params",
    _draw_rule,
    None,
    grad=_draw_grad,
    doc="A random variable: one draw a call.",
    public=False,
    cut=_why_cut,
    flows=_flows,
)


def _scaled_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """The type of u, a tensor of floats."""
    if inputs[0].dtype.kind != "f":
        raise error("T160", name="scaled", found=inputs[0].type, kinds="f32 and f64")
    return inputs[0].type


# What a draw is for kernels: see `tlang.plan.draws`.

operation(
    "stream",
    "",
    lambda solver, inputs, kind, **rest: kind,
    None,
    grad=None,
    cut="a state",
    doc="The key and the counter of a Philox state.",
    public=False,
)
operation(
    "unit",
    "stream",
    lambda solver, inputs, kind, **rest: kind,
    None,
    grad=None,
    cut="a draw",
    doc="Numbers of the standard form of a distribution.",
    public=False,
    tables=frozenset({0}),
    scalar="{drawn}",
)
operation(
    "scaled",
    "u, low, width",
    _scaled_rule,
    lambda np, u, low, width: low + width * u,
    grad=None,
    cut="a draw",
    doc="`low + width * u`, each operation rounded.",
    public=False,
    scalar="{scaled}({0}, {1}, {2})",
)
operation(
    "between",
    "u, low, high",
    _scaled_rule,
    lambda np, u, low, high: low + (high - low) * u,
    grad=None,
    cut="a draw",
    doc="`low + (high - low) * u`, each operation rounded.",
    public=False,
    scalar="{between}({0}, {1}, {2})",
    fails="not (({2} - {1} >= 0) & (({2} - {1}) * 0 == 0))",
)
for _name, _wanted, _doc in (
    ("not_negative", "{0} >= 0", "x, which is 0 or more."),
    ("probability", "({0} >= 0) & ({0} <= 1)", "x, which is from 0 to 1."),
):
    operation(
        _name,
        "x",
        lambda solver, inputs: inputs[0].type,
        lambda np, x: x,
        grad=None,
        cut="a draw",
        doc=_doc,
        public=False,
        scalar="{0}",
        fails=f"not ({_wanted})",
    )
