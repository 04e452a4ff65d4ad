"""Stability by meaning: formulas that overflow or cancel become the functions that they mean.

    1 / (1 + exp(-z)), exp(z) / (1 + exp(z)), (1 + tanh(z / 2)) / 2     sigmoid(z)
    1 - sigmoid(z)                                                      sigmoid(-z)
    log(sigmoid(z)), log(1 - sigmoid(z))                                -softplus(-z), -softplus(z)
    log(1 + exp(z))                                                     softplus(z)
    exp(x) / sum(exp(x)), log(softmax(x)), log(sum(exp(x)))             softmax, log_softmax, logsumexp
    log(1 + x), exp(x) - 1                                              log1p(x), expm1(x)

They are found in sums in any order, and through names, transposes, reshapes, indexing and casts:
an elementwise function may pass such a view. The pass runs before `grad` (so that derivatives are
those of the stable form) and in every backend: it is part of what a program means.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from tlang.graph.node import OPS, Node, is_const, rebuild, toposort
from tlang.graph.ops.leaves import is_lossless

#: How many terms of a sum are looked at.
_MOST_TERMS = 4


def stabilise(roots: Sequence[Node], opaque: Collection[str] = ()) -> list[Node]:
    """The roots with every pattern replaced; names in `opaque` are not looked through.

    Opaque are the equations that a `given` replaces or that a gradient is taken for: their reads
    must stay what they are.
    """
    if not any(node.op.name in _INTERESTING for node in toposort(roots)):
        return list(roots)
    rules = _Rules(frozenset(opaque))
    return rebuild(roots, rules.better, roots[0].graph)


_INTERESTING = frozenset({"exp", "log", "log1p", "sigmoid", "tanh", "softmax"})
Views = list[Node]


class _Rules:
    """The patterns, over nodes whose inputs are already in stable form."""

    def __init__(self, opaque: frozenset[str]) -> None:
        self.opaque = opaque
        self.table: dict[str, Callable[..., Node | None]] = {
            "div": self.quotient,
            "mul": self.product,
            "pow": self.power,
            "add": self.total,
            "sub": self.total,
            "neg": self.total,
            "log": self.logarithm,
            "log1p": self.logarithm_of_one_plus,
        }

    def better(self, node: Node, new: tuple[Node, ...]) -> Node | None:
        """The stable form of `node` over its new inputs, or None."""
        rule = self.table.get(node.op.name)
        if rule is None:
            return None
        if node.inputs != new:
            node = node.graph.make(node.op, new, node.span, **dict(node.attrs))
        found = rule(node, *node.inputs)
        if found is None or found.type.dtype != node.dtype:
            return node
        return found

    # ------------------------------------------------------------ looking

    def plain(self, node: Node) -> Node:
        """A node without the names that may be looked through."""
        while node.op.name == "named" and node.attr("name") not in self.opaque:
            node = node.inputs[0]
        return node

    def peel(self, node: Node) -> tuple[Node, Views]:
        """The node under views and lossless casts, and those, outermost first."""
        views: Views = []
        while True:
            node = self.plain(node)
            through = node.op.view and node.op.name != "named"
            if not (through or (node.op.name == "cast" and not node.type.weak and is_lossless(node))):
                return node, views
            views.append(node)
            node = node.inputs[0]

    def argument(self, node: Node, function: str) -> Node | None:
        """X where the node is function(x), or views of that: then x with the same views."""
        core, views = self.peel(node)
        if core.op.name != function:
            return None
        return dressed(core.inputs[0], views)

    def terms(self, node: Node) -> tuple[float, list[tuple[int, Node]]] | None:
        """A short sum as its constant and its signed terms; None if it is longer than is looked at."""
        const, out = 0.0, []
        todo = [(1, node)]
        while todo:
            sign, x = todo.pop()
            x = self.plain(x)
            if x.op.name in ("add", "sub"):
                todo.append((sign, x.inputs[0]))
                todo.append((sign if x.op.name == "add" else -sign, x.inputs[1]))
            elif x.op.name == "neg":
                todo.append((-sign, x.inputs[0]))
            elif is_const(x):
                const += sign * x.value
            else:
                out.append((sign, x))
            if len(out) + len(todo) > _MOST_TERMS:
                return None
        return const, out

    def one_plus(self, node: Node) -> tuple[int, Node] | None:
        """(sign, x) where the node is 1 + x or 1 - x."""
        core, views = self.peel(node)
        if core.op.name not in ("add", "sub"):
            return None
        found = self.terms(core)
        if found is None or found[0] != 1 or len(found[1]) != 1:
            return None
        sign, x = found[1][0]
        if core.shape != x.shape:
            return None
        return sign, dressed(x, views)

    def one_plus_exp(self, node: Node) -> Node | None:
        """U where the node is 1 + exp(u)."""
        found = self.one_plus(node)
        return self.argument(found[1], "exp") if found is not None and found[0] == 1 else None

    def exp_sum(self, node: Node) -> tuple[Node, Node] | None:
        """(x, the sum's node) where the node is sum(exp(x))."""
        if node.op.name != "sum":
            return None
        x = self.argument(node.inputs[0], "exp")
        return None if x is None else (x, node)

    # ------------------------------------------------------------ rules

    def quotient(self, node: Node, a: Node, b: Node) -> Node | None:
        u = self.one_plus_exp(b)
        if u is not None:
            e = self.argument(a, "exp")
            if e is not None and e is u:
                return u.apply("sigmoid")
            s = negative(u).apply("sigmoid")
            return s if is_const(a, 1) and s.shape == node.shape else a * s
        if is_const(b, 2):
            return self.half_one_plus_tanh(a)
        core, views = self.peel(b)
        found = self.exp_sum(core)
        e = self.argument(a, "exp")
        if found is not None and e is not None and self.same(found[0], e):
            total = found[1]
            kept = not any(v.op.name in ("reshape", "transpose", "index") for v in views)
            if kept and (total.attr("keepdims") or (e.rank == total.inputs[0].rank and total.rank == 0)):
                axis = total.attr("axis")
                return e.apply("softmax", axis=axis if axis is not None else tuple(range(e.rank)))
        return None

    def same(self, a: Node, b: Node) -> bool:
        """Whether two nodes are equal when names are not looked at."""
        return a is b or self.plain(a) is self.plain(b)

    def product(self, node: Node, a: Node, b: Node) -> Node | None:
        for half, rest in ((a, b), (b, a)):
            if is_const(half, 0.5):
                return self.half_one_plus_tanh(rest)
        return None

    def half_one_plus_tanh(self, node: Node) -> Node | None:
        found = self.one_plus(node)
        z = self.argument(found[1], "tanh") if found is not None else None
        if found is None or z is None:
            return None
        return doubled(z if found[0] == 1 else negative(z), self.plain).apply("sigmoid")

    def power(self, node: Node, base: Node, exponent: Node) -> Node | None:
        if not is_const(exponent, -1):
            return None
        u = self.one_plus_exp(base)
        return None if u is None else negative(u).apply("sigmoid")

    def total(self, node: Node, *_: Node) -> Node | None:
        if node.op.name == "neg" and node.inputs[0].op.name == "neg":
            return node.inputs[0].inputs[0]
        found = self.terms(node) if node.dtype.kind == "f" else None
        if found is None or len(found[1]) != 1 or abs(found[0]) != 1:
            return None
        (sign, x), const = found[1][0], int(found[0])
        if sign == const or x.shape != node.shape:
            return None
        z = self.argument(x, "sigmoid")
        if z is not None:
            s = negative(z).apply("sigmoid")
            return s if const == 1 else -s
        z = self.argument(x, "exp")
        if z is not None:
            return z.apply("expm1") if const == -1 else -z.apply("expm1")
        return None

    def logarithm(self, node: Node, a: Node) -> Node | None:
        core, views = self.peel(a)
        z = core.inputs[0] if core.inputs else core
        if core.op.name == "exp":
            return dressed(z, views)
        if core.op.name == "sigmoid":
            return dressed(-negative(z).apply("softplus"), views)
        if core.op.name == "softmax":
            return dressed(z.apply("log_softmax", axis=core.attr("axis")), views)
        found = self.exp_sum(core)
        if found is not None:
            axis, keepdims = core.attr("axis"), core.attr("keepdims")
            return dressed(found[0].apply("logsumexp", axis=axis, keepdims=keepdims), views)
        plus = self.one_plus(a)
        if plus is None:
            return None
        rest = plus[1] if plus[0] == 1 else -plus[1]
        return self.logarithm_of_one_plus(node, rest) or rest.apply("log1p")

    def logarithm_of_one_plus(self, node: Node, a: Node) -> Node | None:
        u = self.argument(a, "exp")
        if u is not None:
            return u.apply("softplus")
        found = self.terms(a)
        if found is not None and found[0] == 0 and len(found[1]) == 1 and found[1][0][0] == -1:
            z = self.argument(found[1][0][1], "sigmoid")
            return None if z is None else -z.apply("softplus")
        return None


def negative(x: Node) -> Node:
    """-x, without a double negation."""
    return x.inputs[0] if x.op.name == "neg" else -x


def doubled(x: Node, plain: Callable[[Node], Node]) -> Node:
    """2 * x, where x is a half of something without the detour."""
    half = plain(x)
    if half.op.name == "div" and is_const(half.inputs[1], 2):
        return half.inputs[0]
    if half.op.name == "mul":
        for a, b in (half.inputs, half.inputs[::-1]):
            if is_const(a, 0.5):
                return b
    return x * 2


def dressed(x: Node, views: Views) -> Node:
    """Views put on again, innermost last in the list."""
    for view in reversed(views):
        if view.op.name == "cast":
            x = x.cast(view.dtype)
        else:
            x = x.graph.make(OPS[view.op.name], (x, *view.inputs[1:]), view.span, **dict(view.attrs))
    return x
