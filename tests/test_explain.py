"""`tlang explain`: every code, every operation, every topic."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest

from tlang.codes import CODES
from tlang.errors import TlangError
from tlang.graph.ops import CALLABLE, EXAMPLES
from tlang.tools.cli import main
from tlang.tools.explain import SAME, explain, explain_operation, stable_forms, subjects
from tlang.tools.pages import sections

PUBLIC = list(CALLABLE)
#: The questions of the notes that the language grew from.
ASKED = ("tensor", "allclose", "exp", "dmatrix", "given", "broadcasting", "training", "bias")


@pytest.mark.parametrize("topic", ASKED)
def test_the_questions_are_answered(topic: str) -> None:
    assert topic in sections("topics.md")
    text = explain(topic)
    assert "#=>" in text or "check " in text
    assert "```" not in text


@pytest.mark.parametrize("code", CODES)
def test_codes(code: str) -> None:
    text = explain(code)
    assert text.startswith(code)
    assert " ".join(CODES[code].why.split()[:4]) in text
    assert explain(code.lower()) == text


@pytest.mark.parametrize("name", PUBLIC)
def test_operations(name: str) -> None:
    text = explain_operation(CALLABLE[name])
    assert text.startswith(f"{name}({CALLABLE[name].signature})")
    assert "\ngradient\n" in text
    shown = text.partition(f"{EXAMPLES[name][0]}\n")[2].strip()
    assert shown
    assert "error[" not in shown


def test_gradients_are_formulas_that_are_right() -> None:
    """The formula shown for an operation of one number, evaluated at a point, is its slope there."""
    from tlang import compile

    seen = 0
    for name in PUBLIC:
        found = re.search(r"^    d/dx  (.*)$", explain_operation(CALLABLE[name]), re.MULTILINE)
        one = re.fullmatch(r"x(, \w+=[^,]+)*", CALLABLE[name].signature)
        if found is None or one is None:
            continue
        at = 1.7 if name in ("arccosh",) else 0.6
        call = f"{name}(x)"
        m = compile(f"tensor x: f64\nshown = 0 * x + {found[1]}\nreal = grad({call}, x)")
        shown, real = (m.eval(f"{n} given x = {at}") for n in ("shown", "real"))
        assert math.isclose(float(shown), float(real), rel_tol=1e-6, abs_tol=1e-12), name
        seen += 1
    assert seen > 30


def test_stable_forms() -> None:
    assert any("sigmoid(z)" in rule for rule in stable_forms("exp"))
    assert stable_forms("sin") == []


def test_golden(golden: Callable[[str, str], None]) -> None:
    golden("explain/exp.txt", explain("exp") + "\n")
    golden("explain/T102.txt", explain("T102") + "\n")
    golden("explain/D113.txt", explain("D113") + "\n")
    golden("explain/maximum.txt", explain("maximum") + "\n")


def test_other_names() -> None:
    for name, topic in SAME.items():
        assert explain(name) == explain(topic)
    assert explain("`tanh`") == explain("tanh")
    with pytest.raises(TlangError, match="did you mean `broadcasting`"):
        explain("broadcastin")
    with pytest.raises(TlangError, match="topics: tensor, allclose"):
        explain("qqqq")
    assert {n for n, _ in subjects()} >= {"T102", "exp", "training"}


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "bias"]) == 0
    assert "weighted sum" in capsys.readouterr().out
    assert main(["explain", "nothing of that kind"]) == 1
    assert "A122" in capsys.readouterr().err
