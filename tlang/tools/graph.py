"""The body of `tlang graph`: a function's graph as text, for Graphviz, or as a page with a drawing.

Inputs stand at the top, outputs and updates at the bottom; each box shows an operation and its type, and
the formula that it came from. The page draws by itself and needs no network.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass, field

from tlang.elaborate.scope import FunctionDef
from tlang.errors import did_you_mean, error
from tlang.graph.node import Function, Node, toposort
from tlang.run.session import Session
from tlang.source import Source
from tlang.syntax.parse import parse
from tlang.tools.emit import stage_of

FORMATS = ("txt", "dot", "html")


def graph(source: Source, name: str, form: str, unused: str = "error") -> str:
    """The graph of a function of a program after simplification, in one of `FORMATS`. Nothing runs."""
    session = Session(source, unused=unused)
    for command in session.declare(parse(source)):
        session.try_initialise(command)
    found = session.unit.scope.names.get(name)
    if not isinstance(found, FunctionDef):
        functions = [n for n, d in session.unit.scope.names.items() if isinstance(d, FunctionDef)]
        near = did_you_mean(name, functions)
        raise error("A110", name=name, hint=f"did you mean `{near}`?" if near else None)
    function = session.program.function(found)
    if form == "txt":
        return stage_of(session, function, "graph")
    picture = drawing(function)
    return dot(picture) if form == "dot" else page(picture)


def write(path: str, text: str) -> None:
    """Writes a graph into a file."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as e:
        raise error("A123", path=path, why=e.strerror or str(e)) from None


@dataclass(frozen=True)
class Box:
    """A node of the drawing: its kind selects how it looks, `title` is what it came from."""

    kind: str
    label: str
    type: str = ""
    title: str = ""


@dataclass
class Drawing:
    """Boxes, and the arrows between them by their places; a dashed arrow stores or advances state."""

    name: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[tuple[int, int, str, bool]] = field(default_factory=list)

    def add(self, box: Box) -> int:
        """Adds a box; its place."""
        self.boxes.append(box)
        return len(self.boxes) - 1


_LEAVES = {"tensor": "input", "shared": "shared", "value": "value", "stream": "stream"}


def drawing(function: Function) -> Drawing:
    """What there is to draw: operations, parameters, state read, outputs, updates, streams that advance."""
    out = Drawing(function.name)
    labels = {id(p.node): p.name for p in function.params}
    place: dict[int, int] = {}
    for node in toposort(function.roots()):
        place[id(node)] = here = out.add(_box(node, labels))
        several = len(node.inputs) > 1
        for k, x in enumerate(node.inputs):
            out.arrows.append((place[id(x)], here, str(k + 1) if several else "", False))
    for p in function.params:
        if id(p.node) not in place:
            place[id(p.node)] = out.add(_box(p.node, labels))
    names = function.fields or ("",) * len(function.outputs)
    for label, node in zip(names, function.outputs, strict=True):
        to = out.add(Box("output", f"output {label}".strip(), str(node.type)))
        out.arrows.append((place[id(node)], to, "", False))
    for key, node in function.updates.items():
        to = out.add(Box("update", f"update {key}", str(node.type)))
        out.arrows.append((place[id(node)], to, "", True))
    for key in function.advances:
        to = out.add(Box("stream", f"advances {key}"))
        drawn = [n for n in function.draws if n.attr("state") == key]
        out.arrows += [(place[id(n)], to, "", True) for n in drawn if id(n) in place]
    return out


def _box(node: Node, labels: dict[int, str]) -> Box:
    title = " ".join(node.span.text.split()) if node.span is not None else ""
    kind = str(node.type)
    name = node.op.name
    if name in _LEAVES:
        return Box(_LEAVES[name], labels.get(id(node), str(node.attr("name"))), kind, title)
    if name == "const":
        value = node.value if not node.rank else "constant"
        return Box("const", str(value), kind, title)
    if name == "draw":
        return Box("draw", f"{node.attr('variable')} ~ {node.attr('distribution')}", kind, title)
    shown = ("axis", "keepdims", "dtype", "axes", "order", "k")
    attrs = [f"{k} = {v}" for k, v in node.attrs if k in shown and v is not None and v is not False]
    return Box("op", f"{name}({', '.join(attrs)})" if attrs else name, kind, title)


# ---------------------------------------------------------------- Graphviz

_SHAPES = {
    "input": "shape=box, style=filled, fillcolor=lightblue",
    "shared": "shape=cylinder, style=filled, fillcolor=lightyellow",
    "value": "shape=box, style=filled, fillcolor=lightblue",
    "stream": "shape=hexagon, style=filled, fillcolor=lavender",
    "draw": "shape=hexagon, style=filled, fillcolor=lavender",
    "const": "shape=plaintext",
    "op": "shape=box, style=rounded",
    "output": "shape=box, style=filled, fillcolor=lightgreen",
    "update": "shape=cylinder, style=filled, fillcolor=lightyellow",
}


def dot(d: Drawing) -> str:
    """The drawing in Graphviz's language: `dot -Tsvg` makes a picture of it."""
    lines = [f"digraph {_quoted(d.name)} {{", "    node [fontname=monospace, fontsize=10];"]
    for k, box in enumerate(d.boxes):
        text = "\n".join(filter(None, (box.label, box.type)))
        lines.append(f"    n{k} [label={_quoted(text)}, tooltip={_quoted(box.title)}, {_SHAPES[box.kind]}];")
    for a, b, label, dashed in d.arrows:
        looks = [f"label={_quoted(label)}"] if label else []
        looks += ["style=dashed"] if dashed else []
        shown = f" [{', '.join(looks)}]" if looks else ""
        lines.append(f"    n{a} -> n{b}{shown};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{text}"'


# ---------------------------------------------------------------- a page

_HIGH, _GAP, _LETTER = 40, 34, 7.3

_STYLE = """
body { font: 13px monospace; margin: 1em; background: #fff; color: #222; }
rect { fill: #fafafa; stroke: #888; rx: 4; }
.input rect, .value rect { fill: #ddeeff; } .output rect { fill: #ddf5dd; }
.shared rect, .update rect { fill: #fff6cc; } .draw rect, .stream rect { fill: #ece4ff; }
.const rect { fill: none; stroke: none; } .type { fill: #777; font-size: 11px; }
path { fill: none; stroke: #999; } path.dashed { stroke-dasharray: 5 4; }
g.box:hover rect { stroke: #000; stroke-width: 2; }
"""


def page(d: Drawing) -> str:
    """The drawing as one page of HTML with the picture inside."""
    rows = layers(d)
    width = [max(len(b.label), len(b.type)) * _LETTER + 18 for b in d.boxes]
    total = max((sum(width[k] + 20 for k in row) for row in rows), default=100)
    at: dict[int, tuple[float, float]] = {}
    for depth, row in enumerate(rows):
        x = (total - sum(width[k] + 20 for k in row)) / 2
        for k in row:
            at[k] = (x + 10, depth * (_HIGH + _GAP) + 10)
            x += width[k] + 20
    height = len(rows) * (_HIGH + _GAP) + 20
    parts = list(_svg(d, at, width))
    name = html.escape(d.name)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>function {name}</h1>\n"
        "<p>Inputs and state above, results below; dashed lines store. Point at a box for its formula.</p>\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total + 20:.0f}" height="{height:.0f}">\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8"/></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg></body></html>"
    )


def layers(d: Drawing) -> list[list[int]]:
    """The boxes by rows: each below all that it needs, in the order of what is above it."""
    above: list[list[int]] = [[] for _ in d.boxes]
    for a, b, *_ in d.arrows:
        above[b].append(a)
    depth = [0] * len(d.boxes)
    for k in range(len(d.boxes)):  # inputs have smaller places than what needs them
        depth[k] = max((depth[a] + 1 for a in above[k]), default=0)
    rows: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for k, number in enumerate(depth):
        rows[number].append(k)
    position: dict[int, float] = {}
    for row in rows:
        row.sort(key=lambda k: sum(position[a] for a in above[k]) / max(1, len(above[k])))
        position |= {k: (i + 0.5) / len(row) for i, k in enumerate(row)}
    return rows


def _svg(d: Drawing, at: dict[int, tuple[float, float]], width: list[float]) -> Iterator[str]:
    for a, b, _, dashed in d.arrows:
        x, y = at[a][0] + width[a] / 2, at[a][1] + _HIGH
        u, v = at[b][0] + width[b] / 2, at[b][1]
        middle = (y + v) / 2
        kind = ' class="dashed"' if dashed else ""
        yield (
            f'<path{kind} marker-end="url(#tip)" '
            f'd="M{x:.0f} {y:.0f} C{x:.0f} {middle:.0f} {u:.0f} {middle:.0f} {u:.0f} {v:.0f}"/>'
        )
    for k, box in enumerate(d.boxes):
        x, y = at[k]
        yield (
            f'<g class="box {box.kind}"><title>{html.escape(box.title or box.label)}</title>'
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width[k]:.0f}" height="{_HIGH}"/>'
            f'<text x="{x + 9:.0f}" y="{y + 16:.0f}">{html.escape(box.label)}</text>'
            f'<text class="type" x="{x + 9:.0f}" y="{y + 32:.0f}">{html.escape(box.type)}</text></g>'
        )
