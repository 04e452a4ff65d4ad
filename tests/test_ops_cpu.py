"""The walk over the table as compiled code: the same cases, dtypes, layouts and special values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from compiled import CompiledTape
from op_cases import (
    CASES,
    DTYPES,
    ELSEWHERE,
    LAYOUTS,
    LEAVES,
    Case,
    expected,
    has_gradient,
    leaves,
    size,
    spoiled,
)

from tlang.graph.grad import vjp
from tlang.graph.node import OPS, Graph, Node, verify
from tlang.graph.ops import FORMULAS
from tlang.interpret import Tape
from tlang.rewrite import rewrite
from tlang.types import F64, FROM_NUMPY, Tensor

#: So many cases are one program: compiling many at once costs less than one by one.
TOGETHER = 60
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324, 700.0, -750.0])


def some_of(cases: Sequence[Case]) -> list[int]:
    """The numbers of some cases of a row: the first, one of the middle, and the last."""
    return sorted({0, len(cases) // 2, len(cases) - 1})


def chunks(every: bool, dtype: str | None = None) -> list[list[tuple[str, int, str]]]:
    """Cases in portions: all of each row, or some; of one dtype, or of the first that a row takes."""
    found = [
        (name, k, dtype or DTYPES[CASES[name][k].dtypes[0]][0])
        for name, cases in CASES.items()
        for k in (range(len(cases)) if every else some_of(cases))
        if dtype is None or any(dtype in DTYPES[kind] for kind in cases[k].dtypes)
    ]
    return [found[at : at + TOGETHER] for at in range(0, len(found), TOGETHER)]


def check(chunk: Sequence[tuple[str, int, str]], layouts: bool) -> None:
    """One compiled program of several cases against NumPy and SciPy, with arrays of each layout."""
    graph = Graph()
    roots: list[Node] = []
    arrays: list[Any] = []
    wanted: list[Any] = []
    for name, k, dtype in chunk:
        case = CASES[name][k]
        drawn = list(map(np.asarray, case.arrays(dtype, seed=k)))
        kinds = [Tensor(FROM_NUMPY[a.dtype.name], tuple(map(case.dim, a.shape))) for a in drawn]
        xs = [graph.leaf("tensor", t, name=f"x{j}") for j, t in enumerate(kinds, len(arrays))]
        roots.append(case.build(name)(*xs))
        arrays += drawn
        wanted.append(expected(name, k, drawn))
    tape = CompiledTape(rewrite(roots, verify))
    assert not tape.failed
    for layout in [np.asarray, *(LAYOUTS if layouts else ())]:
        laid = [layout(a) for a in arrays]
        found = tape.run(lambda x, laid=laid: laid[int(x.attr("name")[1:])][()], None)  # type: ignore[misc]
        for (name, k, dtype), root, w, f in zip(chunk, roots, wanted, found, strict=True):
            what = f"{name}-{k} of {dtype}, {layout.__name__}"
            assert np.shape(f) == np.shape(w), what
            assert np.asarray(f).dtype.name == root.dtype.numpy_name, what
            tolerance = 3e-6 if dtype in ("f4", "c8") else 1e-13
            np.testing.assert_allclose(f, w, rtol=tolerance, atol=tolerance, err_msg=what)
    if layouts:
        check_spoiled(chunk, roots, tape, arrays)


def check_spoiled(
    chunk: Sequence[tuple[str, int, str]], roots: list[Node], tape: CompiledTape, arrays: list[Any]
) -> None:
    """The same program with NaN and infinities in its arrays gives what the interpreter gives."""
    interpreter = Tape(rewrite(roots, verify))
    for bad in (np.nan, np.inf, -np.inf):
        given = []
        for name, k, dtype in chunk:
            own = arrays[len(given) : len(given) + len(CASES[name][k].arrays(dtype))]
            given += (dtype == "f8" and spoiled(name, k, bad, -1)) or own
        wanted, found = (
            t.run(lambda x, given=given: given[int(x.attr("name")[1:])][()], None)  # type: ignore[misc]
            for t in (interpreter, tape)
        )
        for (name, k, _), w, f in zip(chunk, wanted, found, strict=True):
            np.testing.assert_allclose(f, w, rtol=1e-12, atol=1e-12, err_msg=f"{name}-{k} with {bad}")


@pytest.mark.parametrize("chunk", chunks(every=False), ids=lambda chunk: f"from-{chunk[0][0]}")
def test_some_cases_of_every_row(chunk: list[tuple[str, int, str]]) -> None:
    check(chunk, layouts=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [d for kind in DTYPES.values() for d in kind])
def test_every_case(dtype: str) -> None:
    for chunk in chunks(every=True, dtype=dtype):
        check(chunk, layouts=dtype == "f8")


def slopes(every: bool) -> list[list[tuple[str, int, str]]]:
    """Cases with a derivative, in portions: all of each row, or the last."""
    found = [c for chunk in chunks(True, "f8") for c in chunk if has_gradient(c[0], c[1])]
    if not every:
        found = list({name: (name, k, dtype) for name, k, dtype in found}.values())
    return [found[at : at + TOGETHER] for at in range(0, len(found), TOGETHER)]


def check_slopes(chunk: Sequence[tuple[str, int, str]]) -> None:
    """Gradients of first and second order of several cases in one program, as the interpreter has them."""
    graph = Graph()
    roots: list[Node] = []
    names: list[str] = []
    arrays: list[Any] = []
    for name, k, dtype in chunk:
        case = CASES[name][k]
        drawn = list(map(np.asarray, case.arrays(dtype, seed=k)))
        kinds = [Tensor(FROM_NUMPY[a.dtype.name], tuple(map(case.dim, a.shape))) for a in drawn]
        xs = [graph.leaf("tensor", t, name=f"x{j}") for j, t in enumerate(kinds, len(arrays))]
        arrays += drawn
        floats = [x for x in xs if x.dtype.kind == "f"]
        out = case.build(name)(*xs)
        for order in (1, 2):
            squares = out * out + out  # whose slope is not the same everywhere
            found = vjp(squares.apply("sum", axis=None, keepdims=False), floats, graph.literal(1.0).cast(F64))
            parts = [g for g in found if g is not None]
            if not parts:
                break
            roots += parts
            names += [f"{name}-{k}, order {order}"] * len(parts)
            sums = [g.apply("sum", axis=None, keepdims=False) for g in parts]
            out = sum(sums[1:], sums[0])
    roots = rewrite(roots, verify)

    def given(node: Node) -> Any:
        return arrays[int(node.attr("name")[1:])][()]

    wanted = Tape(roots).run(given, None)  # type: ignore[arg-type]
    found = CompiledTape(roots).run(given, None)  # type: ignore[arg-type]
    for name, w, f in zip(names, wanted, found, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("chunk", slopes(every=False), ids=lambda chunk: f"from-{chunk[0][0]}")
def test_gradients_of_a_case_of_every_row(chunk: list[tuple[str, int, str]]) -> None:
    check_slopes(chunk)


@pytest.mark.slow
def test_gradients_of_every_case() -> None:
    for chunk in slopes(every=True):
        check_slopes(chunk)


ONE_NUMBER = [n for n, cases in CASES.items() if {c.shapes for c in cases} >= {((),), ((2, 1, 3),)}]
TWO_NUMBERS = [n for n, cases in CASES.items() if {c.shapes for c in cases} >= {((), ()), ((2, 1), (1, 3))}]


@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_special_values(dtype: str) -> None:
    """NaN, infinities, zeros with a sign, subnormal and great numbers: as the interpreter has them."""
    with np.errstate(all="ignore"):
        special = SPECIAL.astype(dtype)
    grid = np.meshgrid(special, special)
    arrays = [special, *(g.ravel() for g in grid)]
    graph = Graph()
    x, a, b = leaves(graph, arrays, size)
    names, roots = [], []
    for some, inputs in ((ONE_NUMBER, [x]), (TWO_NUMBERS, [a, b])):
        for name in some:
            if "f" in CASES[name][0].dtypes:
                names.append(name)
                roots.append(CASES[name][0].build(name)(*inputs))
    roots = rewrite(roots, verify)

    def given(node: Node) -> Any:
        return arrays[int(node.attr("name")[1:])]

    wanted = Tape(roots).run(given, None)  # type: ignore[arg-type]
    found = CompiledTape(roots).run(given, None)  # type: ignore[arg-type]
    for name, w, f in zip(names, wanted, found, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-12 if dtype == "f8" else 2e-6, atol=5e-324, err_msg=name)


def test_every_row_that_compiles_is_in_the_walk() -> None:
    assert (OPS.keys() | FORMULAS.keys()) - LEAVES - ELSEWHERE <= CASES.keys()
