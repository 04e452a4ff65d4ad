"""A recurrence in segments: less memory for its gradient, and the same values.

The gradient of a recurrence keeps what is carried into each step. In segments it keeps what is carried into
each segment, and makes the steps of one segment anew when it comes there: with segments of about the root of
the number of steps that is twice the root of it, for one more run of the steps. Nothing else is needed than a
recurrence whose body is one: the gradient of a body computes again what is inside of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from tlang.graph.node import OPS, Node
from tlang.graph.ops.rules import size_of, unknown_dim
from tlang.graph.recurrence import Open, bound, open_scan
from tlang.types import F64, I64, Dim, Tensor


def in_segments(scan: Open, size: int | None, last: bool) -> list[Node]:
    """The carried values, after each step or the last, and the outputs, of a recurrence in segments.

    `size` is the number of steps of a segment; None is the root of all, rounded up. What is left over is a
    shorter segment: in the order of the sequences the last.
    """
    graph, span = scan.node.graph, scan.node.span
    count = scan.steps if scan.steps is not None else size_of(scan.sequences[0], 0)
    if size is None:
        each = count.cast(F64).apply("sqrt").apply("ceil").cast(I64).apply("maximum", 1)
    else:
        each = graph.const(size, Tensor(I64), span)
    segments = count.apply("floordiv", each)
    whole = segments * each
    rows = (unknown_dim(), unknown_dim())
    main = [_reshaped(_slice(x, None, whole), rows, [segments, each]) for x in scan.sequences]
    rest = [_slice(x, whole, None) for x in scan.sequences]
    state = [bound(graph, b.type.with_shape(b.shape), "carried", span) for b in scan.state]
    elements = [bound(graph, x.type.with_shape(x.shape[1:]), "segment", span) for x in main]
    counted = scan.steps is not None

    def steps(init: Sequence[Node], sequences: Sequence[Node], length: Dim, count: Node) -> Open:
        return open_scan(
            graph,
            span,
            init,
            sequences,
            scan.state,
            scan.elements,
            scan.new,
            scan.outputs,
            length=length,
            steps=count if counted else None,
            reverse=scan.reverse,
        )

    def shorter(init: Sequence[Node]) -> Open:
        return steps(init, rest, rest[0].shape[0] if rest else unknown_dim(), count - whole)

    first = shorter(scan.init) if scan.reverse else None
    inner = steps(state, elements, rows[1], each)
    numbers = range(len(scan.init))
    kept = [] if last else [inner.part("all", k) for k in numbers]
    outer = open_scan(
        graph,
        span,
        scan.init if first is None else [first.part("last", k) for k in numbers],
        main,
        state,
        elements,
        [inner.part("last", k) for k in numbers],
        [*kept, *(inner.part("output", k) for k in range(len(scan.outputs)))],
        length=rows[0],
        steps=segments if counted else None,
        reverse=scan.reverse,
    )
    other = first if first is not None else shorter([outer.part("last", k) for k in numbers])

    def joined(a: Node, b: Node) -> Node:
        flat = _reshaped(a, (unknown_dim(),), [whole], 2)
        both = graph.make(OPS["concatenate"], [flat, b], span, axis=0)
        return _reshaped(both, (scan.length,), [count])

    end = other if first is None else outer
    out = [
        end.part("last", k) if last else joined(outer.part("output", k), other.part("all", k))
        for k in numbers
    ]
    for k in range(len(scan.outputs)):
        out.append(joined(outer.part("output", len(kept) + k), other.part("output", k)))
    return out


def _slice(x: Node, start: Node | None, stop: Node | None) -> Node:
    """`x[start:stop]` along the first axis."""
    bounds = [b for b in (start, stop) if b is not None]
    entry = ("slice", None if start is None else ("input", 1), None if stop is None else ("input", 1), 1)
    return x.graph.make(OPS["index"], [x, *bounds], x.span, spec=(entry,))


def _reshaped(x: Node, rows: tuple[Dim, ...], sizes: Sequence[Node], replaced: int = 1) -> Node:
    """Other axes in the place of the first ones, of sizes that are computed."""
    shape = (*rows, *x.shape[replaced:])
    return x.graph.make(OPS["reshape"], [x, *sizes], x.span, shape=shape, runtime=tuple(range(len(rows))))
