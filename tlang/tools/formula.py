"""Graphs as formulas: what a person would write for a node."""

from __future__ import annotations

from tlang.graph.node import Node, is_const, toposort

_INFIX = {
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
    "div": ("/", 5),
    "floordiv": ("//", 5),
    "mod": ("%", 5),
    "matmul": ("@", 5),
    "pow": ("**", 7),
    "lt": ("<", 3),
    "le": ("<=", 3),
    "gt": (">", 3),
    "ge": (">=", 3),
    "eq": ("==", 3),
    "ne": ("!=", 3),
    "and": ("and", 1),
    "or": ("or", 0),
}
_ATOM, _NEGATIVE = 9, 6


def formula(root: Node) -> str:
    """The node as a formula over its leaves; casts and broadcasts of constants are left out."""
    texts: dict[int, tuple[str, int]] = {}
    for node in toposort([root]):
        texts[id(node)] = _one(node, [texts[id(x)] for x in node.inputs])
    return texts[id(root)][0]


def _one(node: Node, parts: list[tuple[str, int]]) -> tuple[str, int]:
    name = node.op.name
    if is_const(node):
        text = f"{node.value:.8g}" if isinstance(node.value, float) else str(node.value)
        return text, _ATOM if not text.startswith("-") else _NEGATIVE
    if name in ("tensor", "shared", "value"):
        return str(node.attr("name")).rpartition(".")[2], _ATOM
    if name in ("cast", "named", "broadcast_like"):
        return parts[0]
    if name == "neg":
        return "-" + _within(parts[0], _NEGATIVE), _NEGATIVE
    if name in _INFIX:
        sign, level = _INFIX[name]
        right = level if name == "pow" else level + 1
        return f"{_within(parts[0], level)} {sign} {_within(parts[1], right)}", level
    arguments = [text for text, _ in parts]
    arguments += [f"{k} = {v}" for k, v in node.attrs if k in ("axis", "keepdims", "order", "lower", "trans")]
    return f"{name}({', '.join(arguments)})", _ATOM


def _within(part: tuple[str, int], level: int) -> str:
    """A part in parentheses, if it binds less tightly than what is around it."""
    text, own = part
    return f"({text})" if own < level else text
