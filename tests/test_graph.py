"""`tlang graph`: text, Graphviz and a page, with types, updates and streams."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Callable
from pathlib import Path

import pytest

from tlang.errors import TlangError
from tlang.source import Source
from tlang.tools.cli import main
from tlang.tools.emit import emit
from tlang.tools.graph import graph

PROGRAM = Source(
    "<text>",
    """shared w: f64[3] = [0, 0, 0]
stream s = philox(1)
random noise: f64[3] ~ s.normal(0, 1)
function f(x: f64[n, 3], k: f64 = 2) = (a = sum(x @ w, axis = 0) * k, b = n) where {
    update w = w + noise * k
}
""",
)


@pytest.mark.parametrize("form", ["dot", "html", "txt"])
def test_golden(form: str, golden: Callable[[str, str], None]) -> None:
    golden(f"graph/function.{form}", graph(PROGRAM, "f", form) + "\n")


def test_text_is_that_of_emit() -> None:
    assert graph(PROGRAM, "f", "txt") == emit(PROGRAM, "graph", "f")


def test_dot_names_every_node_once() -> None:
    text = graph(PROGRAM, "f", "dot")
    nodes = re.findall(r"^    (n\d+) \[label", text, re.MULTILINE)
    assert len(nodes) == len(set(nodes))
    ends = set(re.findall(r"n\d+", " ".join(re.findall(r"^    (n\d+ -> n\d+)", text, re.MULTILINE))))
    assert ends <= set(nodes)
    assert text.count("{") == text.count("}")
    for wanted in ("update w", "advances noise", "x\\nf64[n, 3]", "output a", "output b", "style=dashed"):
        assert wanted in text, wanted


def test_page_is_a_drawing() -> None:
    text = graph(PROGRAM, "f", "html")
    svg = xml.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    kinds = [g.get("class") for g in svg.iter("{http://www.w3.org/2000/svg}g")]
    assert {"box input", "box shared", "box draw", "box update", "box stream", "box output"} <= set(kinds)
    boxes = list(svg.iter("{http://www.w3.org/2000/svg}rect"))
    places = {(b.get("x"), b.get("y")) for b in boxes}
    assert len(places) == len(boxes), "no box lies on another"
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), "it needs no network"


def test_names_are_escaped() -> None:
    source = Source("<text>", 'tensor x: f64\nfunction f(x) = where(x < 1 and "a" == "a", x, 0)\n')
    with pytest.raises(TlangError):
        graph(source, "f", "html")
    source = Source("<text>", "tensor x: f64\nfunction f(x) = where(x < 1, x, 0)\n")
    assert "x &lt; 1" in graph(source, "f", "html")


def test_a_long_chain() -> None:
    lines = ["tensor a0: f64", *(f"a{k + 1} = sin(a{k})" for k in range(3_000)), "function f(a0) = a3000"]
    for form in ("dot", "html"):
        assert graph(Source("<text>", "\n".join(lines)), "f", form).count("sin") >= 3_000


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.tl"
    path.write_text(PROGRAM.text)
    assert main(["graph", str(path), "f"]) == 0
    assert capsys.readouterr().out.startswith("function f(")
    assert main(["graph", str(path), "f", "-o", "dot"]) == 0
    assert capsys.readouterr().out.startswith('digraph "f"')
    assert main(["graph", str(path), "f", "-o", str(tmp_path / "f.html")]) == 0
    assert (tmp_path / "f.html").read_text().startswith("<!doctype html>")
    assert main(["graph", str(path), "g", "-o", "dot"]) == 1
    assert "A110" in capsys.readouterr().err
    assert main(["graph", str(path), "f", "-o", "picture.png"]) == 2
    assert main(["graph", str(path), "f", "-o", str(tmp_path / "no" / "f.dot")]) == 1
    assert "A123" in capsys.readouterr().err
