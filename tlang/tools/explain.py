"""The body of `tlang explain`: a code of a message, an operation, or a topic."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module

from tlang.codes import CODES
from tlang.errors import TlangError, did_you_mean, error
from tlang.graph.grad import vjp
from tlang.graph.node import OPS, Graph, Node, Op
from tlang.graph.ops import OPS as _FILLED
from tlang.source import Source
from tlang.tools.formula import formula
from tlang.tools.pages import plain, sections
from tlang.types import F64, Tensor

assert OPS is _FILLED
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
    "train": "training",
}

#: An example for every operation whose arguments are not one number or list of numbers.
EXAMPLES = {
    "all": "all([True, False])",
    "allclose": "allclose(0.1 + 0.2, 0.3)",
    "any": "any([True, False])",
    "arange": "arange(2, 10, 3)",
    "arccosh": "arccosh([1.0, 2.0])",
    "arctan2": "arctan2(1.0, -1.0)",
    "broadcast_to": "broadcast_to([1, 2], (2, 2))",
    "cholesky": "cholesky([[4.0, 2.0], [2.0, 3.0]])",
    "clip": "clip([-3, 0.5, 7], 0, 1)",
    "concatenate": "concatenate([[1, 2], [3]])",
    "cumsum": "cumsum([1, 2, 3, 4])",
    "det": "det([[1.0, 2.0], [3.0, 4.0]])",
    "diag": "diag([1, 2])",
    "dot": "dot([1, 2], [3, 4])",
    "expand_dims": "expand_dims([1, 2], axis = 1)",
    "eye": "eye(2)",
    "full": "full(7, (2, 2))",
    "hypot": "hypot(3.0, 4.0)",
    "inv": "inv([[1.0, 2.0], [3.0, 4.0]])",
    "isclose": "isclose([1.0, 2.0], [1.0, 2.1])",
    "isfinite": "isfinite([1.0, 1 / 0])",
    "isinf": "isinf([1.0, 1 / 0])",
    "isnan": "isnan([1.0, 0.0 / 0.0])",
    "logaddexp": "logaddexp(1000.0, 1000.0)",
    "logdet": "logdet([[1.0, 2.0], [3.0, 4.0]])",
    "logsumexp": "logsumexp([1000.0, 1000.0])",
    "matmul": "matmul([[1, 2], [3, 4]], [10, 1])",
    "maximum": "maximum([1, 5], 3)",
    "minimum": "minimum([1, 5], 3)",
    "one_hot": "one_hot([2, 0], 3)",
    "ones": "ones((2, 3))",
    "ones_like": "ones_like([1.5, 2.5])",
    "outer": "outer([1, 2], [3, 4, 5])",
    "reshape": "reshape(arange(6), (2, 3))",
    "size": "size([[1, 2, 3]], axis = 1)",
    "solve": "solve([[2.0, 0.0], [1.0, 1.0]], [4.0, 5.0])",
    "solve_triangular": "solve_triangular([[2.0, 0.0], [1.0, 1.0]], [4.0, 5.0], lower = True)",
    "squeeze": "squeeze([[1, 2]])",
    "stack": "stack([[1, 2], [3, 4]], axis = 1)",
    "std": "std([1, 2, 3, 6])",
    "var": "var([1, 2, 3, 6])",
    "trace": "trace([[1, 2], [3, 4]])",
    "transpose": "transpose([[1, 2], [3, 4]])",
    "tril": "tril([[1, 2], [3, 4]])",
    "triu": "triu([[1, 2], [3, 4]])",
    "where": "where([True, False], [1, 2], [10, 20])",
    "zeros": "zeros((2, 3))",
    "zeros_like": "zeros_like([1.5, 2.5])",
}
_MANY = frozenset({"argmax", "argmin", "log_softmax", "max", "mean", "min", "prod", "softmax", "sum"})


def explain(what: str) -> str:
    """The text for a code, an operation or a topic; an error names what is near."""
    word = what.strip().strip("`")
    word = SAME.get(word.lower(), word)
    parts = []
    if word.upper() in CODES:
        parts.append(explain_code(word.upper()))
    if word in OPS and OPS[word].public:
        parts.append(explain_operation(OPS[word]))
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
    yield from ((name, op.doc) for name, op in OPS.items() if op.public)
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


def explain_operation(op: Op) -> str:
    """A row of the table: signature, meaning, types, gradient, stable forms, and an example."""
    out = [f"{op.name}({op.signature})", "", f"    {op.doc}"]
    if kinds := _TYPES.get(op.convert):
        out.append(f"    {kinds}")
    out += ["", "gradient", *(f"    {line}" for line in _gradient(op))]
    if rules := stable_forms(op.name):
        out += ["", "stability", *(f"    {rule}" for rule in rules)]
    text = example(op)
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


def example(op: Op) -> str:
    """A call of an operation."""
    if op.name in EXAMPLES:
        return EXAMPLES[op.name]
    return f"{op.name}([1, 2, 3])" if op.name in _MANY else f"{op.name}([0.5, 1.0])"


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
