"""Products lifted out of recurrences: what steps compute apart from each other is one product for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlang.graph.node import OPS, Node, rebuild, substitute, toposort
from tlang.graph.recurrence import Open, bound, captures, inputs_of, level, open_scan
from tlang.graph.vectorise import NoRule, for_all

#: For a carried sum: the pairs of vectors whose outer products it adds up, each one for all steps.
Pairs = list[tuple[Node, Node]]


def lift(roots: Sequence[Node]) -> list[Node]:
    """The roots with three changes in the bodies of recurrences.

    A vector of the sequences times a matrix that stays is one product of matrices before the first step. A
    sum of outer products is one product of matrices after the last, as in the gradient for a matrix that
    every step reads. Of the products that are left, those of a vector and a matrix become products with the
    transposed matrix, which is made once, so that a step goes along its rows.
    """
    order = toposort(roots)
    if not any(n.op.name == "open_scan" for n in order):
        return list(roots)
    asked: dict[Node, set[tuple[str, int]]] = {}
    for node in order:
        if node.op.name == "result":
            asked.setdefault(node.inputs[0], set()).add((node.attr("what"), node.attr("index")))
    lifted: dict[Node, dict[int, Pairs]] = {}

    def change(node: Node, new: tuple[Node, ...]) -> Node | None:
        if node.op.name == "open_scan":
            made = node.graph.make(node.op, new, node.span, **dict(node.attrs))
            scan, sums = _Lifting(Open.of(made), asked.get(node, set())).scan()
            lifted[scan.node] = sums
            return scan.node
        if node.op.name == "result" and node.attr("what") == "last":
            pairs = lifted[new[0]].get(node.attr("index"))
            if pairs is not None:
                scan, k = Open.of(new[0]), node.attr("index")
                total = scan.init[k] if scan.new[k] is scan.state[k] else scan.part("last", k)
                for a, b in pairs:
                    total = total + _transposed(a).apply("matmul", b)
                return total
        return None

    return rebuild(roots, change, roots[0].graph)


@dataclass(frozen=True, slots=True, eq=False)
class _Lifting:
    """The changes in one recurrence, of whose results `asked` are used."""

    given: Open
    asked: set[tuple[str, int]]

    def scan(self) -> tuple[Open, dict[int, Pairs]]:
        """The recurrence that is left, and what is added to its sums afterwards."""
        scan = self.given
        if scan.condition is None:
            scan = _products_before(scan)
            scan, sums = _sums_after(scan, self.asked)
        else:
            sums = {}
        return _rows(scan), sums


def _again(
    scan: Open, results: Sequence[Node], more: Sequence[tuple[Node, Node]] = (), extra: int = 0
) -> Open:
    """A recurrence with other results, the last of them `extra` new outputs, and `more` sequences."""
    carried = len(scan.init)
    outputs = len(scan.outputs) + extra
    return open_scan(
        scan.node.graph,
        scan.node.span,
        scan.init,
        [*scan.sequences, *(s for s, _ in more)],
        scan.state,
        [*scan.elements, *(e for _, e in more)],
        results[:carried],
        results[carried : carried + outputs],
        length=scan.length,
        steps=scan.steps,
        condition=results[carried + outputs] if scan.condition is not None else None,
        reverse=scan.reverse,
    )


def _reads(scan: Open, captured: Mapping[Node, tuple[Node, ...]]) -> dict[Node, frozenset[Node]]:
    """For the nodes of a body: the leaves of it that they depend on."""
    stop = frozenset((*captured[scan.node], *scan.bound))
    own, none = frozenset(scan.bound), frozenset[Node]()
    reads: dict[Node, frozenset[Node]] = {}
    for node in level(scan.results, captured, stop):
        if node in own:
            reads[node] = frozenset((node,))
        else:
            inputs = () if node in stop else inputs_of(node, captured)
            reads[node] = none.union(*(reads[x] for x in inputs))
    return reads


def _products_before(scan: Open) -> Open:
    captured = captures([scan.node])
    state, free = frozenset(scan.state), set(captured[scan.node])
    seeds = dict(zip(scan.elements, scan.sequences, strict=True))
    found: dict[Node, tuple[Node, Node]] = {}
    for node, reads in _reads(scan, captured).items():
        if node.op.name != "matmul" or not reads or reads & state:
            continue
        vector, matrix = node.inputs if node.inputs[0].rank == 1 else node.inputs[::-1]
        if (vector.rank, matrix.rank) != (1, 2) or matrix not in free:
            continue
        try:
            whole = for_all(node, seeds)
        except NoRule:
            continue
        found[node] = whole, bound(node.graph, node.type.with_shape(node.shape), "product", node.span)
    if not found:
        return scan
    results = substitute(scan.results, {node: element for node, (_, element) in found.items()})
    return _again(scan, results, list(found.values()))


def _sums_after(scan: Open, asked: set[tuple[str, int]]) -> tuple[Open, dict[int, Pairs]]:
    """Carried sums without the outer products that they add up, which become outputs."""
    captured = captures([scan.node])
    reads = _reads(scan, captured)
    new = list(scan.new)
    outputs: list[Node] = []
    sums: dict[int, list[tuple[int, int]]] = {}
    for k, b in enumerate(scan.state):
        if {what for what, index in asked if index == k and what != "output"} != {"last"}:
            continue
        others = [r for at, r in enumerate(scan.results) if at != k]
        terms = _terms(scan.new[k])
        if terms.count(b) != 1 or any(b in reads[x] for x in others):
            continue
        rest = [t for t in terms if t is not b]
        products = [t for t in rest if t.op.name == "outer_of" and t.dtype == b.dtype and t.shape == b.shape]
        if any(b in reads[t] for t in rest) or not products:
            continue
        left = b
        for t in rest:
            if t not in products:
                left = left + t
        new[k] = left
        outputs += [x for x in dict.fromkeys(x for t in products for x in t.inputs) if x not in outputs]
        sums[k] = [(outputs.index(t.inputs[0]), outputs.index(t.inputs[1])) for t in products]
    if not sums:
        return scan, {}
    base = len(scan.outputs)
    made = _again(scan, [*new, *scan.outputs, *outputs], extra=len(outputs))
    given = dict(zip(scan.elements, scan.sequences, strict=True))

    def rows(at: int) -> Node:
        known = given.get(outputs[at])
        return made.part("output", base + at) if known is None else known

    return made, {k: [(rows(i), rows(j)) for i, j in pairs] for k, pairs in sums.items()}


def _terms(node: Node) -> list[Node]:
    """The terms of a sum."""
    out, todo = [], [node]
    while todo:
        x = todo.pop()
        if x.op.name == "add" and all(i.shape == node.shape for i in x.inputs):
            todo += x.inputs
        else:
            out.append(x)
    return out


def _rows(scan: Open) -> Open:
    """Products of a vector and a matrix that stays, as products of its transpose and the vector."""
    captured = captures([scan.node])
    free = set(captured[scan.node])
    found: dict[Node, Node] = {}
    for node, reads in _reads(scan, captured).items():
        if (
            node.op.name == "matmul"
            and reads
            and [x.rank for x in node.inputs] == [1, 2]
            and node.inputs[1] in free
        ):
            vector, matrix = node.inputs
            found[node] = node.graph.make(node.op, [_transposed(matrix), vector], node.span)
    return _again(scan, substitute(scan.results, found)) if found else scan


def _transposed(x: Node) -> Node:
    if x.op.name == "transpose" and x.rank == 2 and x.attr("axes") in (None, (1, 0)):
        return x.inputs[0]
    return x.graph.make(OPS["transpose"], [x], x.span, axes=(1, 0))
