"""The body of `tlang emit`: what the compiler makes of a program, stage by stage. Nothing runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tlang.elaborate.scope import FunctionDef
from tlang.errors import did_you_mean, error
from tlang.graph.node import Function, Node, toposort
from tlang.graph.recurrence import Body
from tlang.run.session import Session
from tlang.source import Source, Span
from tlang.syntax.parse import parse

if TYPE_CHECKING:
    from tlang.plan.steps import Step

#: Stages of the backend `cuda`.
_OF_GPUS = ("cuda", "ptx")
STAGES = ("ast", "graph", "plan", "code", "llvm", "cuda", "ptx")


def emit(source: Source, stage: str, name: str | None = None, unused: str = "error") -> str:
    """A stage of a function, or of all functions of a program; the syntax tree is that of its items."""
    tree = parse(source)
    if stage == "ast":
        items = [x for x in tree.statements if name is None or _called(x) == name]
        if not items:
            raise _unknown(name, filter(None, map(_called, tree.statements)))
        return "\n".join("\n".join(_tree(x)) for x in items)
    session = Session(source, unused=unused)
    for command in session.declare(tree):
        session.try_initialise(command)
    found = {k: d for k, d in session.unit.scope.names.items() if isinstance(d, FunctionDef)}
    if name is not None and name not in found:
        raise _unknown(name, found)
    chosen = list(found) if name is None else [name]
    return "\n\n".join(stage_of(session, session.program.function(found[k]), stage) for k in chosen)


def _unknown(name: str | None, known: Any) -> Exception:
    near = did_you_mean(name or "", list(known))
    return error("A110", name=name, hint=f"did you mean `{near}`?" if near else None)


def _called(item: Any) -> str | None:
    name = getattr(item, "name", None)
    name = getattr(name, "id", name)
    return name if isinstance(name, str) else None


def stage_of(session: Session, function: Function, stage: str) -> str:
    """A stage of one function, as text; the tree is no stage of a function."""
    from tlang.plan.draws import lower_draws
    from tlang.plan.fuse import fused, lower

    if stage == "graph":
        return "\n".join(_graph(function))
    roots, reads, state, philox = session.backends.to_compile(function)
    both = lower(lower_draws([*roots, *(state or ())], philox))
    kept = None if state is None else both[len(roots) :]
    steps = fused(both[: len(roots)], kept, reads, parallel=stage in _OF_GPUS)
    parts = [_of_steps(f"function {function.name}", steps, stage)]

    def steps_of(body: Body) -> list[Step]:
        return fused(lower(body.results), parallel=stage in _OF_GPUS)

    for node, body in _bodies(both):
        place = f": {_place(node.span)}" if node.span is not None else ""
        parts.append(_of_steps(f"a step of {function.name}{place}", steps_of(body), stage))
    return "\n\n".join(parts)


def _of_steps(head: str, steps: Sequence[Step], stage: str) -> str:
    """A plan, or the code of its kernels, or what LLVM is given for it."""
    from tlang.emit.cpu import SIGNATURE, Code, code
    from tlang.emit.llvm import lowered
    from tlang.plan.show import show
    from tlang.plan.steps import Alone
    from tlang.run.build import FLAGS

    if stage == "plan":
        return f"{head}\n{show(steps)}"
    if stage in _OF_GPUS:
        return "\n\n".join([f"# {head}\n", *(_of_gpu(step, stage) for step in steps)])
    parts: list[list[Any]] = []
    for step in steps:
        alone = isinstance(step, Alone)
        if parts and not alone and not isinstance(parts[-1][0], Alone):
            parts[-1].append(step)
        else:
            parts.append([step])
    mark = ";" if stage == "llvm" else "#"

    def text(made: Code) -> str:
        found = lowered(made.text, {made.entry: SIGNATURE}, FLAGS) if stage == "llvm" else made.text
        return found.rstrip("\n")

    texts = [
        f"{mark} NumPy: {p[0].node.op.name}" if isinstance(p[0], Alone) else text(code(p)) for p in parts
    ]
    return "\n\n".join([f"{mark} {head}\n", *texts])


def _of_gpu(step: Step, stage: str) -> str:
    """The kernels of a step, each with the rows and columns of its grid; or their PTX."""
    from tlang.emit.cuda.actions import Launch
    from tlang.emit.cuda.kernels import kernels
    from tlang.plan.steps import Alone
    from tlang.run.cuda.compiler import installed, to_ptx
    from tlang.run.cuda.tape import signature

    if isinstance(step, Alone):
        return f"# NumPy: {step.node.op.name}"
    if stage == "ptx" and not installed():
        raise error("R173", found="numba-cuda, which makes PTX, is missing")
    texts = []
    for action in kernels(step):
        if not isinstance(action, Launch):
            texts.append(f"# {type(action).__name__.lower()}")
            continue
        rows, columns = (", ".join(map(str, dims)) for dims in (action.grid.rows, action.grid.columns))
        text = to_ptx(action.text, "kernel", signature(action)) if stage == "ptx" else action.text
        mark = "//" if stage == "ptx" else "#"
        texts.append(f"{mark} rows [{rows}], columns [{columns}]\n{text.rstrip()}")
    return "\n\n".join(texts)


def _bodies(roots: Sequence[Node]) -> Iterator[tuple[Node, Body]]:
    """The recurrences of a graph, those in bodies too, with their bodies."""
    todo = [roots]
    while todo:
        for node in toposort(todo.pop(0)):
            if node.op.name == "scan":
                yield node, node.attr("body")
                todo.append(node.attr("body").results)


# ---------------------------------------------------------------- trees and graphs


def _tree(item: Any, depth: int = 0, label: str = "") -> Iterator[str]:
    """A syntax tree, a line for each node; a stack in the place of recursion, for trees may be deep."""
    stack: list[tuple[Any, int, str]] = [(item, depth, label)]
    while stack:
        x, depth, label = stack.pop()
        head = "  " * depth + (f"{label}: " if label else "")
        if not dataclasses.is_dataclass(x):
            yield head + repr(x)
            continue
        plain, inner = [], []
        for field in dataclasses.fields(x):
            value = getattr(x, field.name)
            if isinstance(value, Span | Source) or value is None or value == ():
                continue
            if dataclasses.is_dataclass(value):
                inner.append((value, depth + 1, field.name))
            elif isinstance(value, tuple) and any(map(dataclasses.is_dataclass, value)):
                inner += [(v, depth + 1, f"{field.name}[{k}]") for k, v in enumerate(value)]
            else:
                plain.append(f" {field.name}={value!r}")
        yield head + type(x).__name__ + "".join(plain)
        stack += reversed(inner)


def _graph(function: Function) -> Iterator[str]:
    """The nodes of a function in order, a line for each, with inputs, types and places."""
    params = ", ".join(f"{p.name}: {p.node.type}" for p in function.params)
    yield f"function {function.name}({params})"
    number: dict[Node, str] = {}
    yield from _nodes(function.roots(), number, "    ")
    names = function.fields or ("",) * len(function.outputs)
    for label, node in zip(names, function.outputs, strict=True):
        yield f"    output{' ' * bool(label)}{label} = {number[node]}"
    for label, node in function.updates.items():
        yield f"    update {label} = {number[node]}"
    for key in function.advances:
        yield f"    advances {key}"


def _nodes(roots: Sequence[Node], number: dict[Node, str], indent: str) -> Iterator[str]:
    """The nodes that are not numbered yet, a line for each; below a recurrence those of its step."""
    for node in toposort(roots):
        if node in number:
            continue
        if node.op.name == "const" and not node.rank:
            number[node] = repr(node.value)
            continue
        number[node] = f"%{len(number)}"
        hidden = ("kind", "text", "version", "serial", "body", "steps", "length")
        attrs = [f"{k}={v}" for k, v in node.attrs if k not in hidden]
        inputs = ", ".join([*(number[x] for x in node.inputs), *attrs])
        place = f"  # {_place(node.span)}" if node.span is not None else ""
        several = node.op.name == "scan"
        kind = "several" if several else node.type
        yield f"{indent}{number[node]} = {node.op.name}({inputs}): {kind}{place}"
        if several:
            body: Body = node.attr("body")
            yield from _nodes(
                [*body.state, *body.elements, *body.free, *body.results], number, indent + "    "
            )
            for what, made in (("carry", body.new), ("output", body.outputs)):
                for x in made:
                    yield f"{indent}    {what} {number[x]}"
            if body.condition is not None:
                yield f"{indent}    while {number[body.condition]}"


def _place(span: Span) -> str:
    text = " ".join(span.text.split())
    return text if len(text) <= 60 else text[:57] + "..."
