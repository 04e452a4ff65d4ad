"""The step of logistic regression: tlang beside plain NumPy, on the same data, taking turns.

    python tests/bench/interpreter.py [--backend numpy] [--rounds 15] [--steps 200]

Both begin with the same weights and must end with the same ones, or there is no table. A round times one
side, then the other, so that a busy machine slows both down; the table has the medians over the rounds, and
the median of the ratios. Two questions are asked:

- *calls*: every step is a call from Python and returns the predictions and the cross-entropies, as
  `m.train(x, y)` does;
- *a loop*: the steps are one loop of which only the weights are wanted, `m.repeat(steps, "train", x, y)`;
  NumPy leaves the outputs out as well.
"""

import argparse
import platform
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np

import tlang

ROWS, FEATURES, RATE, PENALTY = 400, 784, 0.1, 0.01

PROGRAM = f"""
tensor x: f64[n, {FEATURES}]
tensor y: f64[n]
shared w: f64[{FEATURES}] = zeros({FEATURES})
shared b: f64 = 0

p_1        = 1 / (1 + exp(-(x @ w) - b))
prediction = p_1 > 0.5
xent       = -y * log(p_1) - (1 - y) * log(1 - p_1)
cost       = mean(xent) + {PENALTY} * sum(w ** 2)
gw, gb     = grad(cost, w, b)

function train(x, y) = (prediction, xent) where {{
    update w = w - {RATE} * gw
    update b = b - {RATE} * gb
}}
"""


class Plain:
    """The same model as somebody would write it with NumPy, gradients by hand."""

    def __init__(self, w: np.ndarray) -> None:
        self.w = w.copy()
        self.b = 0.0

    def train(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One step with its outputs; the cross-entropy is in the form that does not overflow."""
        z = x @ self.w + self.b
        p = 1 / (1 + np.exp(-z))
        xent = np.logaddexp(0, z) - y * z
        self._descend(x, y, p)
        return p > 0.5, xent

    def repeat(self, steps: int, x: np.ndarray, y: np.ndarray) -> None:
        """Steps of which only the weights are wanted."""
        for _ in range(steps):
            self._descend(x, y, 1 / (1 + np.exp(-(x @ self.w + self.b))))

    def _descend(self, x: np.ndarray, y: np.ndarray, p: np.ndarray) -> None:
        error = (p - y) / len(y)
        self.w = self.w - RATE * (error @ x + 2 * PENALTY * self.w)
        self.b = self.b - RATE * error.sum()


def seconds(work: Callable[[], object]) -> float:
    """The time that a piece of work takes."""
    start = perf_counter()
    work()
    return perf_counter() - start


def take_turns(
    left: Callable[[], object], right: Callable[[], object], rounds: int
) -> tuple[float, float, float]:
    """The median times of both, and the median of right / left in a round; the first is not counted."""
    pairs = []
    for turn in range(rounds + 1):
        if turn % 2:
            a, b = seconds(left), seconds(right)
        else:
            b, a = seconds(right), seconds(left)
        if turn:
            pairs.append((a, b))
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(b / a for a, b in pairs)


def main() -> None:
    """Check that both sides agree, then time them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", default="auto", help="tlang's backend (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds that count (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="steps a round (default: %(default)s)")
    options = parser.parse_args()

    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, FEATURES))
    y = random.integers(0, 2, ROWS).astype(np.float64)
    w = random.normal(size=FEATURES)

    module = tlang.compile(PROGRAM, backend=options.backend)
    module.w.value = w
    plain = Plain(w)

    for _ in range(3):
        predicted, xent = module.train(x, y)
        expected = plain.train(x, y)
        np.testing.assert_array_equal(predicted, expected[0])
        np.testing.assert_allclose(xent, expected[1], rtol=1e-8, atol=1e-12)
    module.repeat(20, "train", x, y)
    plain.repeat(20, x, y)
    np.testing.assert_allclose(module.w.value, plain.w, rtol=1e-8)
    np.testing.assert_allclose(module.b.value, plain.b, rtol=1e-8)

    def calls(train: Callable[[np.ndarray, np.ndarray], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(options.steps):
                train(x, y)

        return run

    questions = {
        "calls, with outputs": (calls(plain.train), calls(module.train)),
        "a loop, weights only": (
            lambda: plain.repeat(options.steps, x, y),
            lambda: module.repeat(options.steps, "train", x, y),
        ),
    }
    print(f"Logistic regression, {ROWS} x {FEATURES}, f64: microseconds a step, medians of {options.rounds}")
    print(f"rounds of {options.steps} steps. tlang {tlang.__version__}, backend {options.backend};")
    print(f"NumPy {np.__version__}, Python {platform.python_version()}, {platform.machine()}.\n")
    print("| step | NumPy | tlang | tlang / NumPy |")
    print("|---|---:|---:|---:|")
    for question, (numpy_side, tlang_side) in questions.items():
        a, b, ratio = take_turns(numpy_side, tlang_side, options.rounds)
        scale = 1e6 / options.steps
        print(f"| {question} | {a * scale:.1f} | {b * scale:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
