"""Draws: the node that a random variable is, and the rows of the distributions.

A draw's parameters are its inputs; which state it reads is an attribute. The numbers themselves
come from `tlang.run.rng`, which the interpreter is handed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, operation
from tlang.types import Dim, Mismatch, Solver, Tensor


@dataclass(frozen=True, slots=True)
class Distribution:
    """A row: parameters with defaults, the kinds of dtype it draws, how a gradient passes.

    `location` and `scale` name the parameters through which a draw is differentiable
    (reparameterised): a draw z of the standard form becomes location + scale * z.
    """

    name: str
    params: tuple[str, ...]
    defaults: tuple[float | None, ...]
    kinds: str
    doc: str
    location: str = ""
    scale: str = ""


DISTRIBUTIONS = {
    d.name: d
    for d in (
        Distribution(
            "uniform",
            ("low", "high"),
            (0.0, 1.0),
            "f",
            "Uniform on [low, high).",
            location="low",
            scale="high",
        ),
        Distribution(
            "normal",
            ("mean", "std"),
            (0.0, 1.0),
            "f",
            "The normal distribution with a mean and a standard deviation.",
            location="mean",
            scale="std",
        ),
        Distribution("integers", ("low", "high"), (None, None), "iu", "Integers from low to high - 1."),
    )
}


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
        raise error("T160", name=distribution, found=kind)
    shape = solver.shape(kind)
    for p, name in zip(inputs, row.params, strict=True):
        if p.rank > len(shape):
            raise error("T161", name=name, found=p.type, shape=kind)
        for want, have in zip(shape[len(shape) - p.rank :], p.shape, strict=True):
            if have != Dim(1) and not solver.unify(want, have):
                raise Mismatch("T101", [(inputs.index(p), f"of `{name}`", have), (-1, "of the draw", want)])
    return Tensor(kind.dtype, shape)


def _draw_grad(g: Node, out: Node, *params: Node, **attrs: Any) -> Sequence[Node | None]:
    """Reparameterisation: x = location + scale * z with z constant (for uniform, scale is high - low)."""
    from tlang.graph.ops.rules import unbroadcast

    row = DISTRIBUTIONS[attrs["distribution"]]
    if not row.location:
        return [None] * len(params)
    first, second = params
    scale = second - first if row.name == "uniform" else second
    flat = scale.apply("eq", 0)  # then every draw is the location
    z = flat.apply("where", 0, (out - first) / flat.apply("where", 1, scale)).apply("stop_gradient")
    return [unbroadcast(g * (1 - z) if row.name == "uniform" else g, first), unbroadcast(g * z, second)]


operation(
    "draw",
    "*params",
    _draw_rule,
    None,
    grad=_draw_grad,
    doc="A random variable: one draw a call.",
    public=False,
    cut="a draw",
)


def _scaled_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """The type of u, a tensor of floats."""
    if inputs[0].dtype.kind != "f":
        raise error("T160", name="scaled", found=inputs[0].type)
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
