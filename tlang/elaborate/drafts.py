"""Drafts: elaborated functions whose names are still there, and the work that changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tlang.elaborate.scope import (
    KIND,
    Def,
    EquationDef,
    FunctionDef,
    RandomDef,
    Scope,
    SharedDef,
    StreamDef,
    TensorDef,
)
from tlang.elaborate.values import LeafUse
from tlang.errors import Diagnostic, Label, TlangError, error, placed
from tlang.graph.node import OPS, Function, Graph, Node, Param, dims_of, rebuild, toposort
from tlang.rewrite import rewrite
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import Dim, Symbol, Tensor

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator


#: The leaf operations that a `given` can replace, with the attribute that holds their key.
_KEYS = {"tensor": "name", "shared": "name", "named": "name", "draw": "variable"}


@dataclass(frozen=True, slots=True)
class Draft:
    """An elaborated function whose names are still there; `reads` are all leaves that it mentions."""

    definition: FunctionDef
    params: tuple[Param, ...]
    outputs: tuple[Node, ...]
    fields: tuple[str, ...] | None
    updates: dict[str, Node]
    reads: tuple[Node, ...]
    graph: Graph
    warnings: tuple[Diagnostic, ...]

    def roots(self) -> list[Node]:
        """Everything that a call computes."""
        return [*self.outputs, *self.updates.values()]

    def advances(self) -> tuple[str, ...]:
        """The random variables whose state a call moves on."""
        return advances_of(self.roots())

    @property
    def has_effects(self) -> bool:
        """Whether a call changes shared values or streams."""
        return bool(self.updates or self.advances())


def draws_of(roots: Sequence[Node]) -> list[Node]:
    """The draws that are not held: their states move on with a call."""
    return [n for n in toposort(roots) if n.op.name == "draw" and not n.attr("held")]


def advances_of(roots: Sequence[Node]) -> tuple[str, ...]:
    """The states that draws which are not held move on."""
    return tuple(dict.fromkeys(n.attr("state") for n in draws_of(roots)))


def key_of(node: Node) -> tuple[str, str] | None:
    """What a given, a cut or a swap knows a node by: its kind and its qualified name."""
    attr = _KEYS.get(node.op.name)
    return None if attr is None else (node.op.name, str(node.attr(attr)))


def def_key(found: Def) -> tuple[str, str] | None:
    """The key of the nodes that a definition makes."""
    match found:
        case TensorDef(key=key):
            return "tensor", key
        case SharedDef(key=key):
            return "shared", key
        case EquationDef(key=key):
            return "named", key
        case RandomDef(key=key):
            return "draw", key
    return None


class Work:
    """A function in the making: what is replaced in its roots, parameters and reads together."""

    def __init__(
        self, el: Elaborator, params: list[Param], outputs: list[Node], updates: dict[str, Node]
    ) -> None:
        self.el = el
        self.params = params
        self.outputs = outputs
        self.updates = updates
        self.reads: list[Node] = []

    def roots(self) -> list[Node]:
        """Everything that a call computes."""
        return [*self.outputs, *self.updates.values()]

    def set_roots(self, roots: Sequence[Node]) -> None:
        """Puts new nodes in the place of all roots."""
        count = len(self.outputs)
        self.outputs = list(roots[:count])
        self.updates = dict(zip(self.updates, roots[count:], strict=True))

    def map(
        self,
        change: Callable[[Node, tuple[Node, ...]], Node | None],
        dims: Callable[[Dim], Dim] | None = None,
        graph: Graph | None = None,
    ) -> None:
        """Rebuilds roots, parameters and reads with one function."""
        nodes = [*self.roots(), *(p.node for p in self.params), *self.reads]
        new = rebuild(nodes, change, graph or self.el.graph, dims)
        count = len(self.roots())
        self.set_roots(new[:count])
        leaves = new[count : count + len(self.params)]
        self.params = [replace(p, node=n) for p, n in zip(self.params, leaves, strict=True)]
        self.reads = new[count + len(self.params) :]

    def replace_keys(self, mapping: Mapping[tuple[str, str], Node]) -> None:
        """Replaces every read of some keys in the roots, all at once, and of their sizes."""
        if not mapping or not self.roots():
            return
        el, sources = self.el, [(x, axis) for x in mapping.values() for axis in range(x.rank)]

        def put(node: Node, new: tuple[Node, ...]) -> Node | None:
            found = mapping.get(key_of(node) or ("", ""))
            return found or with_sizes(el, node, new, el.graph.solver.resolve, sources)

        self.set_roots(rebuild(self.roots(), put, el.graph))

    def hold(self, states: set[str] | None) -> set[str]:
        """Holds the draws of some variables, or of all; returns those that were there."""
        seen: set[str] = set()

        def held(node: Node, new: tuple[Node, ...]) -> Node | None:
            if node.op.name != "draw" or not (states is None or node.attr("variable") in states):
                return None
            seen.add(node.attr("variable"))
            attrs = dict(node.attrs) | {"held": True}
            return self.el.graph.make(node.op, new, node.span, **attrs)

        if self.roots():
            self.set_roots(rebuild(self.roots(), held, self.el.graph))
        return seen


def replace_leaves(el: Elaborator, nodes: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """Nodes with leaves replaced; types are inferred afresh."""
    return rebuild(nodes, lambda n, _: mapping.get(n), el.graph)


def strong(x: Node, span: Span) -> Node:
    """A value that leaves a formula: a literal takes its own dtype."""
    try:
        return x.cast(x.dtype) if x.type.weak else x
    except TlangError as e:
        raise placed(e, span) from None


def renamer(rename: Mapping[Symbol, Dim]) -> Callable[[Dim], Dim]:
    """The function that puts sizes in the place of symbols."""

    def change(dim: Dim) -> Dim:
        if not any(s in rename for s in dim.symbols()):
            return dim
        total = Dim(dim.const)
        for s, k in dim.terms:
            total = total + rename.get(s, Dim.of(s)).scale(k)
        return total

    return change


def size_of(el: Elaborator, dim: Dim, sources: Sequence[tuple[Node, int]], span: Span | None) -> Node | None:
    """A size that only a computed value has, read from that value; None for any other size."""
    total: Node | None = None
    for s, k in dim.terms:
        if s.rigid:
            continue
        source = next(((x, axis) for x, axis in sources if x.shape[axis] == Dim.of(s)), None)
        if source is None:
            return None
        part = source[0].apply("size", axis=source[1])
        part = part if k == 1 else part * k
        total = part if total is None else total + part
    if total is None:
        return None
    known = Dim(dim.const, tuple((s, k) for s, k in dim.terms if s.rigid))
    return total if known == Dim(0) else total + el.graph.make(OPS["dim"], (), span, dim=known)


def with_sizes(
    el: Elaborator,
    node: Node,
    new: tuple[Node, ...],
    dims: Callable[[Dim], Dim],
    sources: Sequence[tuple[Node, int]],
) -> Node | None:
    """A node that names sizes, put where those may be the sizes of computed values.

    A dimension that is read, and the sizes of a shape argument, become reads of the value's size.
    """
    attrs = dict(node.attrs)
    if node.op.name == "dim":
        return size_of(el, dims(attrs["dim"]), sources, node.span)
    if "runtime" not in attrs:
        return None
    runtime, extra = list(attrs["runtime"]), []
    for i, d in enumerate(attrs["shape"]):
        size = None if i in runtime else size_of(el, dims(d), sources, node.span)
        if size is not None:
            runtime.append(i)
            extra.append(size)
    if not extra:
        return None
    attrs |= {"shape": tuple(map(dims, attrs["shape"])), "runtime": tuple(runtime)}
    return el.graph.make(node.op, [*new, *extra], node.span, **attrs)


def free_tensor(node: Node, use: LeafUse | None, where: str, span: Span, typed: set[str]) -> TlangError:
    """The error for a tensor without a value, at the formula that reads it."""
    name = str(node.attr("name")).rpartition(".")[2]
    labels = [Label(node.span, "declared here")] if node.span is not None else []
    formula = f"`{use.formula}` needs it" if use is not None and use.formula else f"`{where}` reads it"
    hint = (
        f"drop the type of the parameter `{name}`: with a type it is another, local tensor"
        if name in typed
        else f"make it a parameter, or write `given {name} = ...`"
    )
    return error(
        "F110",
        span,
        name=name,
        where=where,
        formula=formula,
        labels=[*labels, *([Label(use.span, "read here")] if use is not None else [])],
        hint=hint,
    )


def check_sizes(work: Work, found: FunctionDef) -> None:
    """A named size that nothing in the function brings along cannot be known."""
    bound = {
        s
        for n in [*(p.node for p in work.params), *work.reads]
        if n.op.name != "draw"
        for d in n.type.shape
        for s in d.symbols()
    }
    for node in toposort(work.roots()):
        for _, value in node.attrs:
            dims = value.shape if isinstance(value, Tensor) else dims_of(value)
            for dim in dims:
                for s in dim.symbols():
                    if s.rigid and s not in bound:
                        raise error("T145", node.span or found.span, name=s.name, function=found.name)


def check_free(work: Work, found: FunctionDef) -> None:
    """A tensor that no call gives is an error which names the formula that needs it."""
    bound = {p.node for p in work.params}
    typed = (
        {p.name.id for p in found.decl.params if p.type is not None}
        if isinstance(found.decl, ast.FunctionDecl)
        else set()
    )
    uses = {key_of(n): use for n, use in work.el.leaves.items()}
    for node in toposort(work.roots()):
        if node.op.name == "tensor" and node not in bound:
            raise free_tensor(node, uses.get(key_of(node)), found.name, found.span, typed)


def finish_draft(work: Work, found: FunctionDef, fields: tuple[str, ...] | None) -> Draft:
    """The finished draft in a graph of its own, every size in its solved form."""
    graph = Graph()
    work.reads = [n for n in work.reads if n.op.name != "tensor"]
    work.map(lambda n, _: None, work.el.graph.solver.resolve, graph)
    check_sizes(work, found)
    return Draft(
        found,
        tuple(work.params),
        tuple(work.outputs),
        fields,
        work.updates,
        tuple(work.reads),
        graph,
        tuple(work.el.warnings),
    )


def finish(draft: Draft, check: Callable[[Sequence[Node]], None] | None = None) -> Function:
    """The function that backends see: names dissolved, stable, simplified."""
    draws = draws_of(draft.roots())  # rewriting may drop one, a call reaches it all the same
    roots = [*draft.roots(), *draws]
    new = rewrite(roots, check) if roots else []
    count, rest = len(draft.outputs), len(roots) - len(draws)
    return Function(
        draft.definition.name,
        draft.params,
        tuple(new[:count]),
        draft.fields,
        dict(zip(draft.updates, new[count:rest], strict=True)),
        tuple(new[rest:]),
        draft.reads,
        draft.definition.span,
    )


def apply_holds(work: Work, clauses: Sequence[ast.Clause], scope: Scope) -> None:
    """The draws that `hold` clauses name do not advance; a clause that matches nothing is an error."""
    for c in clauses:
        if not isinstance(c, ast.Hold):
            continue
        if c.names is None:
            if not work.hold(None):
                raise error("F155", c.span, what="hold all")
            continue
        for name in c.names:
            found = work.el.target(name, scope)
            if isinstance(found, StreamDef):
                keys = {
                    d.key
                    for d in found.unit.scope.names.values()
                    if isinstance(d, RandomDef) and work.el.program.stream_of(d) is found
                }
            elif isinstance(found, RandomDef):
                keys = {found.key}
            else:
                raise error("F156", name.span, name=name.span.text, kind=KIND[type(found)])
            if not work.hold(keys):
                raise error("F155", name.span, what=f"hold {name.span.text}")
