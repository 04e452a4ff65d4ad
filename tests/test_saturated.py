"""Probabilities that round to 0 or 1: their logarithms, however they are written, with finite gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tlang

TEMPLATES = """
sigma(t) = 1 / (1 + exp(-t))
sigma2(t) = (1 + tanh(t / 2)) / 2
weights(t) = exp(t) / sum(exp(t), axis = -1, keepdims = True)
ln(t) = log(t)
less(t) = 1 - t
same(t) = t
total(t) = sum(exp(t), axis = -1)
"""
X = np.array([[-800.0, 100.0], [800.0, -3.0], [0.5, -100.0]])
SOFT = np.array([[1000.0, 0.0], [0.0, 1000.0], [-1.0, 1.0]])


def log_sigmoid(x: Any) -> Any:
    return np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))


def log_softmax(x: Any) -> Any:
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


#: A formula of x with holes: what stands between the parts of it, and what it is.
FORMULAS: dict[str, tuple[str, Any, Any]] = {
    "log of sigmoid": ("log({b}{a}sigmoid(x){z}{y})", X, log_sigmoid),
    "log of a quotient": ("log({b}{a}1 / (1 + exp(-x)){z}{y})", X, log_sigmoid),
    "log of a template": ("ln({b}{a}sigma(x){z}{y})", X, log_sigmoid),
    "log of half a tanh": ("log({b}{a}sigma2(x){z}{y})", X, log_sigmoid),
    "log of what is left": ("log(1 - {b}{a}sigmoid(x){z}{y})", X, lambda x: log_sigmoid(-x)),
    "log of what is left, otherwise": ("log(-{b}{a}sigma(x){z}{y} + 1)", X, lambda x: log_sigmoid(-x)),
    "log of what a template leaves": ("ln(less({b}{a}sigma(x){z}{y}))", X, lambda x: log_sigmoid(-x)),
    "log of softmax": ("log({b}{a}softmax(x, axis = -1){z}{y})", SOFT, log_softmax),
    "log of a quotient of exps": ("log({b}{a}weights(x){z}{y})", SOFT, log_softmax),
}
#: What may come between: the marks around the inner formula, and what it does to the result.
BETWEEN: dict[str, tuple[str, str, Any]] = {
    "nothing": ("", "", lambda r: r),
    "brackets": ("(", ")", lambda r: r),
    "a template": ("same(", ")", lambda r: r),
    "a transpose": ("(", ").T", lambda r: r.T),
    "two transposes": ("transpose((", ").T)", lambda r: r),
    "an index": ("(", ")[1]", lambda r: r[1]),
    "a slice": ("(", ")[::2]", lambda r: r[::2]),
    "an index of both axes": ("(", ")[2, 1]", lambda r: r[2, 1]),
    "rows that are picked": ("(", ")[[2, 0]]", lambda r: r[[2, 0]]),
    "a reshape": ("reshape(", ", (6,))", lambda r: r.reshape(6)),
    "a new axis": ("(", ")[None]", lambda r: r[None]),
    "a cast": ("f64(f64(", "))", lambda r: r),
    "a cast and an index": ("f64((", ")[0])", lambda r: r[0]),
    "a flip": ("(", ")[:, ::-1]", lambda r: r[:, ::-1]),
}


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("name", FORMULAS)
def test_logarithms(name: str, between: str) -> None:
    formula, x, wanted = FORMULAS[name]
    begin, end, effect = BETWEEN[between]
    text = formula.format(b="", a=begin, z=end, y="")
    m = tlang.compile(
        f"{TEMPLATES}tensor x: f64[3, 2]\nr = {text}\n"
        "function f(x) = (value = r, slope = grad(sum(r), x), twice = grad(sum(grad(sum(r), x) ** 2), x))\n"
    )
    found = m.f(x)
    np.testing.assert_allclose(found.value, effect(wanted(x)), rtol=1e-12)
    assert np.isfinite(found.slope).all()
    assert np.isfinite(found.twice).all()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("log(sum(exp(x), axis = -1))", [1000 + np.log(2), -1000 + np.log(2), 1000.0]),
        ("ln(total(x))", [1000 + np.log(2), -1000 + np.log(2), 1000.0]),
        ("log(sum(exp(x), axis = -1)[::-1])[::-1]", [1000 + np.log(2), -1000 + np.log(2), 1000.0]),
        ("log(sum(exp(x.T), axis = 0))", [1000 + np.log(2), -1000 + np.log(2), 1000.0]),
        ("log(f64(sum(exp(x), axis = -1)))", [1000 + np.log(2), -1000 + np.log(2), 1000.0]),
    ],
)
def test_sums_of_exponentials(text: str, wanted: Any) -> None:
    m = tlang.compile(
        f"{TEMPLATES}tensor x: f64[n, m]\nr = {text}\nfunction f(x) = (value = r, slope = grad(sum(r), x))\n"
    )
    found = m.f([[1000.0, 1000.0], [-1000.0, -1000.0], [1000.0, 0.0]])
    np.testing.assert_allclose(found.value, wanted, rtol=1e-14)
    np.testing.assert_allclose(found.slope.sum(1), [1, 1, 1], rtol=1e-12)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize(
    "probability", ["1 / (1 + exp(-(x @ w) - b))", "sigma(x @ w + b)", "(1 + tanh((x @ w + b) / 2)) / 2"]
)
def test_logistic_regression_with_weights_thirty_times_larger(probability: str, backend: str) -> None:
    """Of section 1 of the language: every sample is saturated, and nothing is NaN."""
    m = tlang.compile(
        f"""{TEMPLATES}
set data: f64[400, 784] ~ normal(0, 1)
set target: i64[400] ~ integers(0, 2)
tensor x: f64[n, 784]
tensor y: f64[n]
shared w: f64[784] ~ normal(0, 30)
shared b: f64 = 0
p = {probability}
xent = -y * log(p) - (1 - y) * log(1 - p)
cost = mean(xent) + 0.01 * sum(w ** 2)
gw, gb = grad(cost, w, b)
function train(x, y) = (cost, xent) where {{
    update w = w - 0.1 * gw
    update b = b - 0.1 * gb
}}
set before = w
""",
        backend=backend,
    )
    data, target, w = (m[name] for name in ("data", "target", "before"))
    z = data @ w
    cost, xent = m.train(data, target)
    np.testing.assert_allclose(xent, np.maximum(z, 0) - target * z + np.log1p(np.exp(-abs(z))), rtol=1e-9)
    assert np.abs(z).max() > 1000
    m.repeat(300, "train", data, target)
    assert np.isfinite(m.w.value).all()
    assert np.isfinite(m.train(data, target)[0])
    assert m.train(data, target)[0] < cost / 3
