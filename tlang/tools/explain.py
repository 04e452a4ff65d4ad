"""The body of `tlang explain`: a code of a message, an operation, or a topic."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module

from tlang.codes import CODES
from tlang.errors import TlangError, did_you_mean, error
from tlang.graph.grad import vjp
from tlang.graph.node import Graph, Node, Op
from tlang.graph.ops import CALLABLE, EXAMPLES, Formula
from tlang.source import Source
from tlang.tools.formula import formula
from tlang.tools.pages import plain, sections
from tlang.types import F64, Tensor

TOPICS = "topics.md"
#: Another subject's names: what people look for, and the topic or operation that answers.
SAME = {
    "bias": "bias",
    "e": "exp",
    "givens": "given",
    "pattern": "broadcasting",
    "broadcast": "broadcasting",
    "tensors": "tensor",
    "gradient": "grad",
    "gradients": "grad",
    "matrix": "dmatrix",
    "recurrence": "scan",
    "comprehensions": "comprehension",
    "train": "training",
}


def explain(what: str) -> str:
    """The text for a code, an operation or a topic; an error names what is near."""
    word = what.strip().strip("`")
    word = SAME.get(word.lower(), word)
    parts = []
    if word.upper() in CODES:
        parts.append(explain_code(word.upper()))
    if word in CALLABLE:
        parts.append(explain_operation(CALLABLE[word]))
    topics = sections(TOPICS)
    if word.lower() in topics:
        parts.append(plain(topics[word.lower()]))
    if not parts:
        near = did_you_mean(word, [name for name, _ in subjects()])
        listed = ", ".join(topics)
        raise error("A122", name=what, hint=f"did you mean `{near}`?" if near else f"topics: {listed}")
    return "\n\n".join(parts)


def subjects() -> Iterator[tuple[str, str]]:
    """Everything that can be asked for, with what it is."""
    yield from ((topic, "topic") for topic in sections(TOPICS))
    yield from ((name, row.doc) for name, row in CALLABLE.items())
    yield from ((code, row.sentence) for code, row in CODES.items())


def explain_code(code: str) -> str:
    """A message: its sentence, why, a wrong program with what is said of it, and a right one."""
    text = sections("errors.md", 3)[code]
    text = re.sub(r"^```\w+ wrong$", "wrong:\n\n```", text, flags=re.MULTILINE)
    text = re.sub(r"^```text$", "what is said:\n\n```", text, flags=re.MULTILINE)
    text = re.sub(r"^```\w+ (\S+)$", r"with the file \1:\n\n```", text, flags=re.MULTILINE)
    text = re.sub(r"^```\w+$", "right:\n\n```", text, flags=re.MULTILINE)
    return f"{code}\n\n{plain(text)}"


# ---------------------------------------------------------------- operations


def explain_operation(row: Op | Formula) -> str:
    """A row of the table: signature, meaning, types, gradient, stable forms, and an example."""
    out = [f"{row.name}({row.signature})", "", f"    {row.doc}"]
    if isinstance(row, Formula):
        out += ["", "gradient", "    that of the formula for which the call stands"]
    else:
        if kinds := _TYPES.get(row.convert):
            out.append(f"    {kinds}")
        out += ["", "gradient", *(f"    {line}" for line in _gradient(row))]
    if rules := stable_forms(row.name):
        out += ["", "stability", *(f"    {rule}" for rule in rules)]
    text = EXAMPLES[row.name][0]
    value = evaluated(text).replace("\n", "\n        ")
    out += ["", "example", f"    {text}", f"        {value}"]
    return "\n".join(out)


_TYPES = {
    "arith": "Operands of several dtypes are converted to their common one, as in NumPy.",
    "float": "Integers and booleans are converted to f64.",
    "where": "The two choices are converted to their common dtype.",
    "bits": "For integers and booleans.",
    "logic": "For booleans.",
}


def _gradient(op: Op) -> list[str]:
    if op.grad is None:
        return [f"none: {op.cut} has no derivative" if op.cut else "none"]
    parts = [p.strip() for p in op.signature.split(",")]
    names = [p for p in parts if "=" not in p]
    attrs = {p.split("=")[0]: ast.literal_eval(p.split("=")[1]) for p in parts if "=" in p}
    general = ["exact, of every order; see `tlang explain grad`"]
    if op.convert not in ("float", "arith") or "axis" in attrs or "*" in op.signature:
        return general
    graph = Graph()
    inputs = [graph.leaf("tensor", Tensor(F64), name=name) for name in names]
    try:  # of numbers, which matrices and the like are not
        made = graph.make(op, inputs, **attrs)
        found = vjp(made, inputs, graph.const(1.0, Tensor(F64)))
    except TlangError:
        return general
    return [f"d/d{n}  {_slope(g)}" for n, g in zip(names, found, strict=True)]


def _slope(g: Node | None) -> str:
    from tlang.rewrite.simplify import simplify

    return "0" if g is None else formula(simplify([g])[0])


def stable_forms(name: str) -> list[str]:
    """The rules of `tlang.rewrite.stabilise` that an operation takes part in."""
    text = import_module("tlang.rewrite.stabilise").__doc__ or ""
    rows = re.findall(r"^    (\S.*?) {2,}(\S.*)$", text, re.MULTILINE)
    return [f"{a}  is computed as  {b}" for a, b in rows if re.search(rf"\b{name}\b", f"{a} {b}")]


def evaluated(text: str) -> str:
    """What the prompt would show for an expression."""
    from tlang.run.session import Session
    from tlang.syntax.parse import parse

    source = Source("<example>", text)
    out: list[str] = []
    session = Session(source, backend="numpy", write=out.append)
    try:
        session.run(session.declare(parse(source)))
    except TlangError as e:  # an example that fails would be a bug of this page: say so where it stands
        return str(e)
    return "\n".join(out)
