"""`--check-finite`: which operation made the first NaN or infinity."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlang

PROGRAM = """
tensor x: f64[n]
shared s: f64 = 1
root(t) = sqrt(t - 1)
function logs(x) = sum(log(x) * 2)
function roots(x) = root(x)
function ratio(x) = (x / x[0], s) where { update s = s + 1 }
function grows(x) = exp(x) - exp(x)
function same(x) = x * 2
function counts(x) = cumsum(i64(x))
"""


def module() -> Any:
    return tlang.compile(PROGRAM, check_finite=True)


@pytest.mark.parametrize(
    ("name", "x", "sentence", "operand"),
    [
        (
            "logs",
            [2.0, 0.0],
            "`log` made -inf at [1] of finite numbers",
            "f64[2], from 0.0 to 2.0, 0.0 at [1]",
        ),
        (
            "roots",
            [1.0, 5.0, 0.0],
            "`sqrt` made nan at [2] of finite numbers",
            "from -1.0 to 4.0, -1.0 at [2]",
        ),
        ("ratio", [0.0, 3.0], "`div` made nan at [0] of finite numbers", "operand 2: 0.0"),
        ("grows", [1.0, 1e3], "`exp` made inf at [1] of finite numbers", "1000.0 at [1]"),
    ],
)
def test_the_first_operation_is_named(name: str, x: Any, sentence: str, operand: str) -> None:
    m = module()
    with pytest.raises(tlang.StateError, match="R160") as caught:
        getattr(m, name)(x)
    assert sentence in str(caught.value)
    assert operand in str(caught.value)
    assert caught.value.span is not None
    assert m.s.value == 1


def test_what_is_given_and_what_is_finite_passes() -> None:
    """NaNs and infinities of the caller are theirs; integers have none."""
    m = module()
    given = np.array([np.nan, np.inf, 1.0])
    np.testing.assert_array_equal(m.same(given), 2 * given)
    assert np.isnan(m.grows(given)).any()
    assert m.logs([1.0]) == 0
    assert m.counts([1.0, 2.0]).tolist() == [1, 3]


def test_the_place_is_in_a_template_too() -> None:
    with pytest.raises(tlang.StateError) as caught:
        module().roots([0.0])
    assert "root(t) = sqrt(t - 1)" in str(caught.value)


def test_stable_forms_make_none(tmp_path: Path) -> None:
    """And the command line has the option."""
    (tmp_path / "p.tl").write_text(
        "tensor x: f64[n]\np = 1 / (1 + exp(-x))\nfunction f(x) = log(p)\nf([-800, 800]) #=> [-800., -0.]\n"
        "function g(x) = 1 / x\ng([1, 0])\n"
    )
    command = [sys.executable, "-c", "import sys; from tlang.tools.cli import main; sys.exit(main())"]
    done = subprocess.run(
        [*command, "run", "--check-finite", str(tmp_path / "p.tl")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.split() == ["[-800.,", "-0.]"]
    assert "error[R160]: `div` made inf at [1] of finite numbers" in done.stderr
    assert "p.tl:5:17" in done.stderr
