"""Interned, typed, immutable nodes; the rows that operations are; functions; iterative walks.

A :class:`Graph` owns the nodes of one function or command and the equations between their sizes.
Equal nodes are one node, so common subexpressions cost nothing. All walks are iterative: a chain
of 100,000 nodes is as good as a tree of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tlang.errors import TlangError, error, placed
from tlang.source import Span
from tlang.types import BOOL, F64, I64, Dim, DType, Mismatch, Solver, Tensor, promote

Attrs: TypeAlias = dict[str, Any]
TypeRule: TypeAlias = Callable[..., Tensor]
GradRule: TypeAlias = "Callable[..., Sequence[Node | None]]"


@dataclass(frozen=True, slots=True)
class Reduction:
    """How elements become one: from `start`, by `combine` of what there is, `{0}`, and an element, `{1}`.

    `start` is a number, or "least" or "greatest" of the dtype. `wide`: f32 accumulates in f64. `some`: of
    no elements it is an error. `adds`: it is a sum, whose terms may be taken in any order.
    """

    start: str
    combine: str
    wide: bool = False
    some: bool = False
    adds: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A row of the table of operations: everything that is known of one operation.

    `signature`  how it is called, as in Python; a name of :data:`STATIC` is an attribute, `*xs` a
                 list of tensors, every other name a tensor
    `type`       rule ``(solver, inputs, **attrs) -> Tensor``
    `numpy`      meaning ``(np, *arrays, **attrs) -> array``; sizes in attrs are integers by then
    `grad`       rule ``(g, out, *inputs, **attrs) -> cotangents``, None for an input without one;
                 None for an operation whose result has no derivative
    `doc`        one line for users
    `convert`    how inputs are cast before the rule sees them: "" not at all, "arith" to their
                 common dtype, "where" all but the first so, "float" the same but at least f64,
                 "bits" bool or integers, "logic" bool
    `view`       elements are only moved or repeated: elementwise functions pass through
    `shape_only` the inputs of which only the shape is used
    `tables`   the inputs of which an element of the result may need any element; the others are aligned
    `cut`        why no gradient flows ("a comparison"), for the message about disconnected names; or a
                 rule that says it of a node
    `flows`      rule ``(node, i) -> bool``: whether a gradient can flow to input i, where not all have one
    `dynamic`    some sizes of the result may be known only when it has run, and are checked then
    `public`     whether programs may call it by name
    `scalar`     one element of the result as text for a kernel, or a rule that gives it for a node:
                 `{0}` is the first input's element, `{zero}` a 0 of its dtype, `{exp}` the function exp
                 for its dtype, `{index}` the element's place along its last axis, `{element}` that of the
                 table at the places that the other inputs give, `{drawn}` a number of a random stream. None:
                 elements are not computed one by one
    `fails`    a condition on the elements of the inputs under which the interpreter reports an error
    `reduce`     how a reduction with attributes `axis` and `keepdims` combines elements, for a kernel
    `lower`      rule ``(out, *inputs, **attrs) -> node``: the same in simpler operations, for kernels
    `extent`     rule ``(node) -> Dim`` of an operation that is a size
    """

    name: str
    signature: str
    type: TypeRule
    numpy: Callable[..., Any] | None
    grad: GradRule | None
    doc: str
    convert: str = ""
    view: bool = False
    shape_only: frozenset[int] = frozenset()
    tables: frozenset[int] = frozenset()
    cut: str | Callable[[Node], str] = ""
    flows: Callable[[Node, int], bool] | None = None
    dynamic: bool = False
    public: bool = True
    scalar: str | Callable[[Node], str | None] | None = None
    fails: str = ""
    reduce: Reduction | None = None
    lower: Callable[..., Node | None] | None = None
    extent: Callable[[Node], Dim] | None = None

    def __repr__(self) -> str:
        return f"Op({self.name})"


#: The operations whose values are given from outside.
LEAVES = frozenset({"tensor", "shared", "value", "stream", "bound"})

#: The one table: every operation by name. The files of `tlang.graph.ops` fill it.
OPS: dict[str, Op] = {}


def operation(name: str, signature: str, type: TypeRule, numpy: Callable[..., Any] | None, **row: Any) -> Op:
    """Adds a row to the table."""
    assert name not in OPS, name
    OPS[name] = Op(name, signature, type, numpy, **row)
    return OPS[name]


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operation applied to nodes, with its type and the place in the source that it came from."""

    op: Op
    inputs: tuple[Node, ...]
    attrs: tuple[tuple[str, Any], ...]
    type: Tensor
    graph: Graph = field(repr=False)
    span: Span | None = field(repr=False)

    def attr(self, name: str) -> Any:
        """The value of an attribute."""
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

    @property
    def value(self) -> Any:
        """The value of a `const` node."""
        return self.attr("value")

    @property
    def shape(self) -> tuple[Dim, ...]:
        """The shape, with the sizes that are solved by now."""
        return self.graph.solver.shape(self.type)

    @property
    def dtype(self) -> DType:
        """The dtype of the type."""
        return self.type.dtype

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.type.shape)

    @property
    def operands(self) -> tuple[Node, ...]:
        """The inputs that are aligned with the result, and of which elements are used."""
        apart = self.op.shape_only | self.op.tables
        return tuple(x for i, x in enumerate(self.inputs) if i not in apart) if apart else self.inputs

    @property
    def tables(self) -> tuple[Node, ...]:
        """The inputs of which any element may be needed."""
        return tuple(self.inputs[i] for i in sorted(self.op.tables))

    def apply(self, name: str, *others: Node | float, **attrs: Any) -> Node:
        """The operation `name` of this node and others; Python numbers become literals."""
        inputs = [self, *(x if isinstance(x, Node) else self.graph.literal(x, self.span) for x in others)]
        return self.graph.make(OPS[name], inputs, self.span, **attrs)

    def cast(self, dtype: DType) -> Node:
        """The same values in another dtype; the node itself if it has it."""
        if self.dtype == dtype and not self.type.weak:
            return self
        if self.type.weak and is_const(self) and dtype.kind in "iuf":
            return self.graph.const(_literal_as(self, dtype), Tensor(dtype), self.span)
        return self.graph.make(OPS["cast"], [self], self.span, dtype=dtype)

    def __add__(self, other: Node | float) -> Node:
        return self.apply("add", other)

    def __sub__(self, other: Node | float) -> Node:
        return self.apply("sub", other)

    def __mul__(self, other: Node | float) -> Node:
        return self.apply("mul", other)

    def __truediv__(self, other: Node | float) -> Node:
        return self.apply("div", other)

    def __pow__(self, other: Node | float) -> Node:
        return self.apply("pow", other)

    def __neg__(self) -> Node:
        return self.apply("neg")

    def __radd__(self, other: float) -> Node:
        return self.graph.literal(other, self.span) + self

    def __rsub__(self, other: float) -> Node:
        return self.graph.literal(other, self.span) - self

    def __rmul__(self, other: float) -> Node:
        return self.graph.literal(other, self.span) * self

    def __rtruediv__(self, other: float) -> Node:
        return self.graph.literal(other, self.span) / self

    def __repr__(self) -> str:
        attrs = "".join(f" {k}={v}" for k, v in self.attrs)
        return f"<{self.op.name}{attrs}: {self.type}>"


class Graph:
    """The nodes of one function or command, each once, and the equations between their sizes."""

    def __init__(self) -> None:
        self.solver = Solver()
        self._nodes: dict[tuple[Any, ...], Node] = {}
        self._place: Span | None = None

    @contextmanager
    def at(self, span: Span) -> Iterator[None]:
        """Nodes that are made meanwhile come from one place: that of a call which a formula replaces."""
        before, self._place = self._place, span
        try:
            yield
        finally:
            self._place = before

    def make(self, op: Op, inputs: Sequence[Node], span: Span | None = None, **attrs: Any) -> Node:
        """The node for an operation: converts the inputs, applies the type rule, interns."""
        if op.convert:
            inputs = _convert(op, inputs)
        items = tuple(attrs.items())
        key = (op, tuple(map(id, inputs)), items)
        found = self._nodes.get(key)
        if found is None:
            span = self._place or span
            try:
                kind = op.type(self.solver, tuple(inputs), **attrs)
            except TlangError as e:
                raise placed(e, span) from None
            found = Node(op, tuple(inputs), items, kind, self, span)
            self._nodes[key] = found
        return found

    def leaf(self, op: str, kind: Tensor, span: Span | None = None, **attrs: Any) -> Node:
        """A node without inputs whose type is given."""
        return self.make(OPS[op], (), span, kind=kind, **attrs)

    def literal(self, value: bool | int | float, span: Span | None = None) -> Node:
        """A literal of the program: weak, except for bool."""
        dtype = BOOL if isinstance(value, bool) else I64 if isinstance(value, int) else F64
        return self.const(value, Tensor(dtype, (), dtype is not BOOL), span)

    def const(self, value: Any, kind: Tensor, span: Span | None = None) -> Node:
        """A constant scalar, or a nested tuple of them, of a type.

        `text` tells 0.0 from -0.0 and 1 from 1.0 and True, which compare equal.
        """
        return self.make(OPS["const"], (), span, kind=kind, text=repr(value), value=value)


def _literal_as(node: Node, dtype: DType) -> int | float:
    """A literal's value in a dtype; an integer out of range is an error."""
    value = node.value
    if dtype.kind == "f":
        return float(value)
    low, high = dtype.integer_range()
    if isinstance(value, int) and not low <= value <= high:
        raise error("T124", value=value, dtype=dtype)  # equal literals share a node: its place may be another
    return int(value)


def is_const(node: Node, value: float | None = None) -> bool:
    """Whether a node is a scalar constant (with this value, if one is given)."""
    if node.op.name != "const" or node.type.shape:
        return False
    return value is None or bool(node.value == value)


#: How messages call the operations that are written as signs.
_SIGNS = {"bit_and": "&", "bit_or": "|", "bit_xor": "^", "bit_not": "~"}


def _convert(op: Op, inputs: Sequence[Node]) -> Sequence[Node]:
    """The inputs cast as the row's `convert` says; weak results stay weak (no cast of literals alone)."""
    mode = op.convert
    if mode == "logic":
        for x in inputs:
            if x.dtype is not BOOL:
                raise error("T120", op=_SIGNS.get(op.name, op.name), found=x.type)
        return inputs
    if mode == "bits":
        for x in inputs:
            if x.dtype.is_inexact:
                raise error("T121", op=_SIGNS.get(op.name, op.name), found=x.type)
    if mode == "where":
        return [inputs[0], *_common(inputs[1:], "arith")]
    return _common(inputs, mode)


def _common(inputs: Sequence[Node], mode: str) -> Sequence[Node]:
    types = [x.type for x in inputs]
    if mode == "float":
        dtype = promote(types)
        if not dtype.is_inexact:
            dtype = F64
    elif len(inputs) == 1:
        return inputs
    else:
        dtype = promote(types)
    if all(t.weak for t in types):
        return [x if x.dtype is dtype else weak_cast(x, dtype) for x in inputs]
    return [x if x.dtype is dtype and not x.type.weak else x.cast(dtype) for x in inputs]


def weak_cast(node: Node, dtype: DType) -> Node:
    """A literal in another dtype, still a literal."""
    if is_const(node):
        value = float(node.value) if dtype.is_inexact else node.value
        return node.graph.const(value, Tensor(dtype, (), True), node.span)
    return node.graph.make(OPS["cast"], [node], node.span, dtype=dtype, weak=True)


# ---------------------------------------------------------------- functions


@dataclass(frozen=True, slots=True, eq=False)
class Param:
    """A parameter of a function: its leaf, and its default value (a const node) if it has one."""

    name: str
    node: Node
    default: Node | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """What a call computes: `outputs` and `updates` of `params`, state and draws.

    `fields` names the outputs (None where there is one bare value); `updates` maps a shared
    value's name to its new value; `draws` are those whose states move on with the call; `reads` are
    all leaves that the formulas mention, whose sizes name the call's dimensions.
    """

    name: str
    params: tuple[Param, ...]
    outputs: tuple[Node, ...]
    fields: tuple[str, ...] | None
    updates: dict[str, Node]
    draws: tuple[Node, ...]
    reads: tuple[Node, ...]
    span: Span | None

    def roots(self) -> tuple[Node, ...]:
        """Everything that a call computes."""
        return (*self.outputs, *self.updates.values(), *self.draws)

    def state(self) -> tuple[Node, ...] | None:
        """Those of the roots that a call stores; None if it stores nothing."""
        return (*self.updates.values(), *self.draws) if self.has_effects else None

    @property
    def advances(self) -> tuple[str, ...]:
        """The random states that a call moves on."""
        return tuple(dict.fromkeys(n.attr("state") for n in self.draws))

    @property
    def has_effects(self) -> bool:
        """Whether a call changes any state."""
        return bool(self.updates or self.draws)


# ---------------------------------------------------------------- walks


def toposort(
    roots: Iterable[Node], inputs: Callable[[Node], Sequence[Node]] = lambda node: node.inputs
) -> list[Node]:
    """Every node that the roots reach, inputs before users, each once; `inputs` says what a node needs."""
    order: list[Node] = []
    done: set[int] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in done:
            done.add(id(node))
            stack.append((node, True))
            stack.extend((x, False) for x in reversed(inputs(node)) if id(x) not in done)
    return order


def rebuild(
    roots: Sequence[Node],
    replace: Callable[[Node, tuple[Node, ...]], Node | None],
    graph: Graph,
    dims: Callable[[Dim], Dim] | None = None,
) -> list[Node]:
    """The roots made anew in `graph`, bottom up.

    `replace` sees each node with its new inputs and returns what stands for it, or None to make the
    same operation of the new inputs. `dims` maps the sizes in attributes and leaf types. Types are
    inferred afresh, so what a substitution breaks is found.
    """
    new: dict[int, Node] = {}
    for node in toposort(roots):
        inputs = tuple(new[id(x)] for x in node.inputs)
        made = replace(node, inputs)
        if made is None:
            if graph is node.graph and dims is None and inputs == node.inputs:
                made = node
            else:
                attrs = node.attrs if dims is None else [(k, map_dims(v, dims)) for k, v in node.attrs]
                try:
                    made = graph.make(node.op, inputs, node.span, **dict(attrs))
                except Mismatch as e:
                    raise _unfit(e, node, inputs) from None
        new[id(node)] = made
    return [new[id(r)] for r in roots]


def _unfit(e: Mismatch, node: Node, inputs: Sequence[Node]) -> TlangError:
    """The error for sizes that do not fit any more when something was put in."""
    notes = []
    for index, words, dim in e.sides:
        kind = str(inputs[index].type) if 0 <= index < len(inputs) else ""
        notes.append(f"{kind}  {words} {node.graph.solver.resolve(dim)}")
    return error(e.code, node.span, notes=notes, hint=e.hint)


def substitute(roots: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """The roots with some nodes replaced by others, all at once."""
    if not mapping or not roots:
        return list(roots)
    return rebuild(roots, lambda node, _: mapping.get(node), roots[0].graph)


def map_dims(value: Any, dims: Callable[[Dim], Dim]) -> Any:
    """An attribute with every size in it mapped."""
    if isinstance(value, Dim):
        return dims(value)
    if isinstance(value, Tensor):
        return value.with_shape(map(dims, value.shape))
    if isinstance(value, tuple) and value and not isinstance(value[0], int | float | bool):
        return tuple(map_dims(v, dims) for v in value)
    return value


def dims_of(value: Any) -> Iterator[Dim]:
    """Every size in an attribute."""
    if isinstance(value, Dim):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from dims_of(item)


def verify(roots: Sequence[Node]) -> None:
    """Asserts that a graph is valid: every node's type is what its rule gives, inputs are acyclic."""
    seen: set[int] = set()
    for node in toposort(roots):
        assert all(id(x) in seen for x in node.inputs), f"{node} comes before its inputs"
        seen.add(id(node))
        kind = node.op.type(node.graph.solver, node.inputs, **dict(node.attrs))
        assert (kind.dtype, kind.rank) == (node.dtype, node.rank), f"{node} should be {kind}"
        for a, b in zip(kind.shape, node.type.shape, strict=True):
            settled = all(s.rigid for s in (*a.symbols(), *b.symbols()))
            assert a == b or not settled, f"{node} should be {kind}"


def show(roots: Sequence[Node]) -> str:
    """A listing of a graph, one node a line, for people and golden files."""
    order = toposort(roots)
    number = {id(n): i for i, n in enumerate(order)}
    lines = []
    for i, node in enumerate(order):
        shown = [f"%{number[id(x)]}" for x in node.inputs]
        shown += [f"{k}={v}" for k, v in node.attrs if k not in ("kind", "text") and v is not None]
        lines.append(f"%{i} = {node.op.name}({', '.join(shown)}): {node.type}")
    lines.append("return " + ", ".join(f"%{number[id(r)]}" for r in roots))
    return "\n".join(lines)
