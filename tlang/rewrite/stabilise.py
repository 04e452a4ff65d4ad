"""Stability by meaning: formulas that overflow or cancel become the functions that they mean.

    1 / (1 + exp(-z)), exp(z) / (1 + exp(z)), (1 + tanh(z / 2)) / 2     sigmoid(z)
    1 - sigmoid(z)                                                      sigmoid(-z)
    log(sigmoid(z)), log(1 - sigmoid(z))                                -softplus(-z), -softplus(z)
    log(1 + exp(z))                                                     softplus(z)
    exp(x) / sum(exp(x)), log(softmax(x))                               softmax, log_softmax
    log(sum(exp(x))), log(mean(exp(x)))                                 logsumexp(x), less log(n)
    log(1 + x), exp(x) - 1, log(1 - exp(x))                             log1p(x), expm1(x), by halves

They are found in sums in any order, and through names, transposes, reshapes, indexing and casts:
an elementwise function may pass such a view. A 1 may be `ones(n)`, and `e ** x` or `1 / exp(-x)` may
stand for exp(x). The pass runs before `grad` (so that derivatives are those of the stable form) and
in every backend: it is part of what a program means.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tlang.graph.node import OPS, Node, rebuild, toposort
from tlang.graph.ops.leaves import is_lossless
from tlang.graph.ops.rules import count_of, like, normal_axes
from tlang.graph.ops.shape import moved_axes
from tlang.types import ONE

#: How many terms of a sum are looked at.
_MOST_TERMS = 4

_INTERESTING = frozenset({"exp", "log", "log1p", "pow", "sigmoid", "softmax", "tanh"})
#: The constants that a pattern is made of; any other is a term, so that log(1 + 1e-20) is 1e-20.
_PARTS = frozenset({0.0, 0.5, 1.0, 2.0})
_UNIFORM = {"zeros": 0.0, "zeros_like": 0.0, "ones": 1.0, "ones_like": 1.0}
Views = list[Node]


def stabilise(roots: Sequence[Node], opaque: Collection[str] = ()) -> list[Node]:
    """The roots with every pattern replaced; names in `opaque` are not looked through.

    Opaque are the equations that a `given` replaces or that a gradient is taken for: their reads
    must stay what they are.
    """
    if not any(node.op.name in _INTERESTING for node in toposort(roots)):
        return list(roots)
    rules = _Rules(frozenset(opaque))
    return rebuild(roots, rules.better, roots[0].graph)


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
        if node.dtype.kind != "f":
            return node
        found = rule(node, *node.inputs)
        return found if found is not None and stands_for(found, node) else node

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

    def constant(self, node: Node) -> float | None:
        """The number that every element is, if the formula says so."""
        core, _ = self.peel(node)
        if core.op.name == "full":
            core, _ = self.peel(core.inputs[0])
        if core.op.name in _UNIFORM:
            return _UNIFORM[core.op.name]
        if core.op.name == "neg":
            value = self.constant(core.inputs[0])
            return None if value is None else -value
        values = _flat(core.value) if core.op.name == "const" else []
        return values[0] if values and all(v == values[0] for v in values) else None

    def argument(self, node: Node, function: str) -> Node | None:
        """`x` where the node is function(x), or views of that: then x with the same views."""
        core, views = self.peel(node)
        x = self.exponent(core) if function == "exp" else None
        if x is None and core.op.name == function:
            x = core.inputs[0]
        return None if x is None else dressed(x, views)

    def exponent(self, core: Node) -> Node | None:
        """`x` where a node is exp(x), written as e ** x, 1 / exp(-x) or exp(-x) ** -1."""
        x: Node | None = None
        if core.op.name == "exp":
            return core.inputs[0]
        if core.op.name == "pow" and self.constant(core.inputs[0]) == math.e:
            x = core.inputs[1]
        elif core.op.name == "pow" and self.constant(core.inputs[1]) == -1:
            x = self.argument(core.inputs[0], "exp")
            x = None if x is None else negative(x)
        elif core.op.name == "div" and self.constant(core.inputs[0]) == 1:
            x = self.argument(core.inputs[1], "exp")
            x = None if x is None else negative(x)
        return None if x is None else spread(x, core)

    def terms(self, node: Node) -> tuple[float, list[tuple[int, Node]]] | None:
        """A short sum of floats as its constant and signed terms; None if it is longer than is looked at."""
        const, out = 0.0, []
        todo = [(1, node)]
        while todo:
            sign, x = todo.pop()
            x = self.plain(x)
            if x.op.name in ("add", "sub") and x.dtype.kind == "f":
                todo.append((sign, x.inputs[0]))
                todo.append((sign if x.op.name == "add" else -sign, x.inputs[1]))
            elif x.op.name == "neg":
                todo.append((-sign, x.inputs[0]))
            else:
                value = self.constant(x)
                if value is None or abs(value) not in _PARTS:
                    out.append((sign, x))
                else:
                    const += sign * value
            if len(out) + len(todo) > _MOST_TERMS:
                return None
        return const, out

    def one_plus(self, node: Node) -> tuple[int, Node] | None:
        """(sign, x) where the node is 1 + x or 1 - x."""
        core, views = self.peel(node)
        if core.op.name not in ("add", "sub", "neg") or core.dtype.kind != "f":
            return None
        found = self.terms(core)
        if found is None or found[0] != 1 or len(found[1]) != 1:
            return None
        sign, x = found[1][0]
        return sign, dressed(spread(x, core), views)

    def one_plus_exp(self, node: Node) -> Node | None:
        """`u` where the node is 1 + exp(u)."""
        found = self.one_plus(node)
        return self.argument(found[1], "exp") if found is not None and found[0] == 1 else None

    def same(self, a: Node, b: Node) -> bool:
        """Whether two nodes are equal when names are not looked at."""
        return a is b or self.plain(a) is self.plain(b)

    # ------------------------------------------------------------ sigmoid

    def quotient(self, node: Node, a: Node, b: Node) -> Node | None:
        u = self.one_plus_exp(b)
        if u is not None:
            e = self.argument(a, "exp")
            if e is not None and self.same(e, u):
                return spread(u.apply("sigmoid"), node)
            s = negative(u).apply("sigmoid")
            return spread(s, node) if self.constant(a) == 1 else a * s
        if self.constant(b) == 2:
            return self.half_one_plus_tanh(a, node)
        return self.softmax(node, a, b)

    def product(self, node: Node, a: Node, b: Node) -> Node | None:
        for x, y in ((a, b), (b, a)):
            if self.constant(x) == 0.5:
                return self.half_one_plus_tanh(y, node)
            u, z = self.argument(x, "exp"), self.argument(y, "sigmoid")
            if u is not None and z is not None and self.same(negative(z), u):
                return spread(u.apply("sigmoid"), node)
        return None

    def half_one_plus_tanh(self, x: Node, node: Node) -> Node | None:
        found = self.one_plus(x)
        z = self.argument(found[1], "tanh") if found is not None else None
        if found is None or z is None:
            return None
        return spread(self.doubled(z if found[0] == 1 else negative(z)).apply("sigmoid"), node)

    def half_tanh(self, node: Node) -> Node | None:
        """`z` where the node is tanh(z) / 2."""
        core, views = self.peel(node)
        if core.op.name == "div" and self.constant(core.inputs[1]) == 2:
            z = self.argument(core.inputs[0], "tanh")
            return None if z is None else dressed(spread(z, core), views)
        if core.op.name == "mul":
            for half, rest in (core.inputs, core.inputs[::-1]):
                z = self.argument(rest, "tanh")
                if z is not None and self.constant(half) == 0.5:
                    return dressed(spread(z, core), views)
        return None

    def doubled(self, x: Node) -> Node:
        """2 * x, where x is a half of something without the detour."""
        half = self.plain(x)
        if half.op.name == "neg":
            return negative(self.doubled(half.inputs[0]))
        if half.op.name == "div" and self.constant(half.inputs[1]) == 2:
            return spread(half.inputs[0], half)
        if half.op.name == "mul":
            for a, b in (half.inputs, half.inputs[::-1]):
                if self.constant(a) == 0.5:
                    return spread(b, half)
        return x * 2

    def power(self, node: Node, base: Node, exponent: Node) -> Node | None:
        if self.constant(exponent) != -1:
            return None
        u = self.one_plus_exp(base)
        return None if u is None else spread(negative(u).apply("sigmoid"), node)

    def total(self, node: Node, *_: Node) -> Node | None:
        """1 - sigmoid(z), exp(z) - 1, 0.5 + tanh(z / 2) / 2, in any order."""
        if node.op.name == "neg" and node.inputs[0].op.name == "neg":
            return node.inputs[0].inputs[0]
        found = self.terms(node)
        if found is None or len(found[1]) != 1:
            return None
        (sign, x), const = found[1][0], found[0]
        if const == 0.5:
            z = self.half_tanh(x)
            if z is not None:
                return spread(self.doubled(z if sign == 1 else negative(z)).apply("sigmoid"), node)
        if const != -sign:
            return None
        z = self.argument(x, "sigmoid")
        if z is not None:
            s = spread(negative(z).apply("sigmoid"), node)
            return s if const == 1 else -s
        z = self.argument(x, "exp")
        if z is not None:
            change = spread(z.apply("expm1"), node)
            return change if const == -1 else -change
        return None

    # ------------------------------------------------------------ softmax

    def softmax(self, node: Node, a: Node, b: Node) -> Node | None:
        """exp(x) / sum(exp(x)), where the sum's axes meet their places again.

        Axes of exp(x) are followed through the views to both sides of the division: an axis that
        was summed may meet a stretched one only, every other axis must meet itself.
        """
        core, over = self.peel(a)
        total, outer = self.peel(b)
        x = self.exponent(core)
        if x is None or total.op.name != "sum":
            return None
        summed, inner = self.peel(total.inputs[0])
        if summed is not core:
            return None
        rank = core.rank
        above, inside = _followed(range(rank), over), _followed(range(rank), inner)
        if above is None or inside is None:
            return None
        old = [i for i in inside if i is not None]
        if len(old) != rank or {*old} != {*range(rank)}:  # not every element is summed, each once
            return None
        shape = total.inputs[0].shape
        if any(i is None and d != ONE for i, d in zip(inside, shape, strict=True)):
            return None
        axes = normal_axes(total.attr("axis"), len(inside))
        gone = {inside[i] for i in axes}
        left = [None if i in axes else k for i, k in enumerate(inside)]
        if not total.attr("keepdims"):
            left = [k for i, k in enumerate(left) if i not in axes]
        below = _followed(left, outer)
        if below is None or len(below) > len(above):
            return None
        free = {None, *gone, *(i for i in range(rank) if core.shape[i] == ONE)}
        for i, k in zip(above[::-1], [*below[::-1], *[None] * len(above)], strict=False):
            axis = i[1] if isinstance(i, tuple) else i
            if not (axis in free if k is None else i == k):
                return None
        axes = tuple(sorted(i for i in gone if i is not None))
        return dressed(x.apply("softmax", axis=axes[0] if len(axes) == 1 else axes), over).cast(node.dtype)

    # ------------------------------------------------------------ logarithms

    def logarithm(self, node: Node, a: Node) -> Node | None:
        core, views = self.peel(a)
        x = self.exponent(core)
        if x is not None:
            return dressed(x, views)
        if core.op.name == "sigmoid":
            return dressed(-negative(core.inputs[0]).apply("softplus"), views)
        if core.op.name == "softmax":
            return dressed(core.inputs[0].apply("log_softmax", axis=core.attr("axis")), views)
        if core.op.name in ("sum", "mean"):
            x = self.argument(core.inputs[0], "exp")
            if x is None:
                return None
            axis, keepdims = core.attr("axis"), core.attr("keepdims")
            out = x.apply("logsumexp", axis=axis, keepdims=keepdims)
            if core.op.name == "mean":
                out = out - count_of(x, axis, x.dtype).apply("log")
            return dressed(out, views)
        if core.op.name == "neg" and core.inputs[0].op.name == "expm1":
            return dressed(_log_of_one_less_exp(core.inputs[0].inputs[0]), views)
        plus = self.one_plus(a)
        if plus is None:
            return None
        rest = plus[1] if plus[0] == 1 else -plus[1]
        return self.logarithm_of_one_plus(node, rest) or rest.apply("log1p")

    def logarithm_of_one_plus(self, node: Node, a: Node) -> Node | None:
        u = self.argument(a, "exp")
        if u is not None:
            return u.apply("softplus")
        core, views = self.peel(a)
        found = self.terms(core)
        if found is not None and found[0] == 0 and len(found[1]) == 1 and found[1][0][0] == -1:
            z = self.argument(found[1][0][1], "sigmoid")
            return None if z is None else dressed(spread(-z.apply("softplus"), core), views)
        return None


def _log_of_one_less_exp(z: Node) -> Node:
    """log(1 - exp(z)) for z < 0: each of two forms is exact where the other cancels."""
    near = z.apply("gt", -math.log(2))
    return near.apply("where", (-z.apply("expm1")).apply("log"), (-z.apply("exp")).apply("log1p"))


def negative(x: Node) -> Node:
    """-x, without a double negation."""
    return x.inputs[0] if x.op.name == "neg" else -x


def spread(x: Node, node: Node) -> Node:
    """`x` in the shape of a node that it stands for, where a constant stretched it."""
    return x if x.shape == node.shape else like(x, node)


def stands_for(found: Node, node: Node) -> bool:
    """Whether a form has the type of the node that it is to replace; makes unknown sizes equal."""
    if found.dtype != node.dtype or found.type.weak != node.type.weak or found.rank != node.rank:
        return False
    solver = node.graph.solver
    return all(solver.unify(a, b) for a, b in zip(found.shape, node.shape, strict=True))


def dressed(x: Node, views: Views) -> Node:
    """Views put on again, innermost last in the list."""
    for view in reversed(views):
        if view.op.name == "cast":
            x = x.cast(view.dtype)
        else:
            x = x.graph.make(OPS[view.op.name], (x, *view.inputs[1:]), view.span, **dict(view.attrs))
    return x


def _followed(labels: Sequence[Any], views: Views) -> list[Any] | None:
    """Where labelled axes are after views; None for axes that are new, None at all if they mix."""
    out: list[Any] | None = list(labels)
    for view in reversed(views):
        if out is not None:
            out = moved_axes(view, out)
    return out


def _flat(value: Any) -> list[Any]:
    """The numbers of a nested tuple."""
    return [v for item in value for v in _flat(item)] if isinstance(value, tuple) else [value]
