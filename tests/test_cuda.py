"""Kernels of the GPU: in numba-cuda's simulator, and as code that is made without a device.

The simulator needs processes of their own. There `compiled.py` lets other files test these kernels, and the
tests below that are marked `in_the_simulator` run programs with smaller sizes, and draws. With a GPU the same
is `TLANG_TEST_BACKEND=cuda pytest FILES`, with the sizes as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from compiled import BACKEND, SIMULATED, CompiledTape
from op_cases import CASES, leaves
from test_ops_cpu import chunks

from tlang.emit.cuda.actions import Launch
from tlang.errors import TlangError
from tlang.graph.node import OPS, Function, Graph, verify
from tlang.interpret import Tape, on_host
from tlang.rewrite import rewrite
from tlang.run import rng
from tlang.run.backends import Backends
from tlang.run.cuda import compiler, gpu
from tlang.run.cuda.tape import DeviceSegment, DeviceTape, signature
from tlang.run.files import read_source
from tlang.run.rng import PhiloxState
from tlang.run.session import Session
from tlang.source import Source
from tlang.syntax.parse import parse
from tlang.tools.testing import FileTest
from tlang.types import FROM_NUMPY, I64, Dim, Symbol, Tensor

ROOT = Path(__file__).parent.parent
EXTRA = "numba-cuda is needed (the extra `cuda`)"
apart = pytest.mark.skipif(
    find_spec("numba_cuda") is None or "NUMBA_ENABLE_CUDASIM" in os.environ or BACKEND == "cuda",
    reason=f"{EXTRA}, and no simulator",
)
in_the_simulator = pytest.mark.skipif(
    not SIMULATED, reason="the simulator is needed; elsewhere these tests run in a process of their own"
)


# ---------------------------------------------------------------- other processes

#: Arguments of pytest: what takes less than a minute in all, and the rest.
QUICK = {
    "operations": ["test_ops_cpu.py", "-k", "not gradients"],
    "kernels": ["test_kernels.py", "-k", "not reductions and not random_graphs and not products"],
    "arrays": ["test_device_arrays.py"],
    "cases": ["test_cases.py::test_case"],
    "programs": [Path(__file__).name],
}
SLOW = {
    "loops": ["test_loops.py"],
    "places": ["test_places.py"],
    "draws": ["test_native_random.py", "-k", "run or in_kernels or parameters or between"],
    "gradients": ["test_ops_cpu.py", "-k", "gradients"],
    "every operation": ["test_ops_cpu.py", "-m", "slow"],
    "reductions": ["test_kernels.py", "-k", "reductions or random_graphs or products"],
    "random programs": ["test_kernels.py", "-m", "slow", "-k", "1000 or 1100"],
}


def simulate(arguments: list[str]) -> None:
    """Runs tests of this folder again, in the simulator."""
    file, *rest = arguments
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", ROOT / "tests" / file, *rest],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NUMBA_ENABLE_CUDASIM": "1",
            "TLANG_TEST_BACKEND": "cuda",
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)


@apart
@pytest.mark.parametrize("what", QUICK)
def test_in_the_simulator(what: str) -> None:
    simulate(QUICK[what])


@apart
@pytest.mark.slow
@pytest.mark.parametrize("what", SLOW)
def test_more_in_the_simulator(what: str) -> None:
    simulate(SLOW[what])


# ---------------------------------------------------------------- programs with small sizes

#: How many rows there are of the data files.
PATIENTS, IMAGES = 40, 30
#: What is replaced in a program; what a check says of long training goes, since all values are compared.
SMALLER: dict[str, dict[str, str]] = {
    "07_random.tl": {
        "100_000": "800",
        "check abs(estimate() - pi) < 0.03": "print(estimate())",
        "60_000": "900",
        "check abs(t.average - 3.5) < 0.05": "print(t.average)",
        "ones(10_000)": "ones(500)",
        "check abs(mean(kept) - 1) < 0.05": "check abs(mean(kept) - 1) < 0.1",
    },
    "09_gradients.tl": {"repeat 1_000": "repeat 5"},
    "breast_cancer.tl": {
        "rows  = 569": f"rows  = {PATIENTS}",
        "split = 455": "split = 30",
        "repeat 100": "repeat 2",
        "check fresh.accuracy > 0.95": "check fresh.accuracy >= 0",
    },
    "digits.tl": {
        "images  = 1797": f"images  = {IMAGES}",
        "repeat 5 as": "repeat 2 as",
        "repeat 100": "repeat 2",
        "test_x[:10]": "test_x[:3]",
        "test_y[:10]": "test_y[:3]",
        "check held_out.accuracy > 0.95": "check held_out.accuracy >= 0",
    },
    "digits_mlp.tl": {
        "images  = 1797": f"images  = {IMAGES}",
        "hidden  = 96": "hidden  = 5",
        "repeat 30": "repeat 1",
        "size = 64": "size = 10",
        "check held_out.accuracy > 0.97": "check held_out.accuracy >= 0",
    },
    "files.tl": {"repeat 2_000": "repeat 20"},
    "gaussian_process.tl": {
        "repeat 300": "repeat 3",
        "check abs(guess.mean[0] - sin(1.25)) < 0.1": "",
        "check guess.sigma[2] > 0.5": "check guess.sigma[2] > 0",
    },
    "logistic_regression.tl": {
        "N     = 400 ": "N     = 12 ",
        "feats = 784": "feats = 7",
        "repeat 10_000": "repeat 4",
        "check all(predict(data) == (target == 1))": "check all(predict(data) == predict(data))",
    },
    "mlp.tl": {"repeat 2_000": "repeat 5", "check final_cost < 0.02": "print(final_cost)"},
    "newton.tl": {
        "repeat 5_000": "repeat 20",
        "feats = 30\n": "feats = 30\nrows = 40\n",
        "train_rows = 455": "train_rows = 30",
        "f64[569, feats + 1]": "f64[rows, feats + 1]",
        "ones((569, 1))": "ones((rows, 1))",
        "repeat 7": "repeat 2",
        "check last.steepness < 1e-12": "check last.steepness < 1",
    },
    "rnn.tl": {
        "train_count = 1000": "train_count = 20",
        "test_count  = 500": "test_count  = 10",
        "hidden = 16": "hidden = 3",
        "repeat 120": "repeat 2",
        "0..10 {": "0..2 {",
        "i * 100 : (i + 1) * 100": "i * 10 : (i + 1) * 10",
    },
}
PROGRAMS = sorted(p.name for p in (ROOT / "programs").glob("*.tl"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the programs, with fewer rows in their data."""
    folder = tmp_path_factory.mktemp("copy") / "programs"
    shutil.copytree(ROOT / "programs", folder)
    table = folder / "data/breast_cancer.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[: PATIENTS + (len(lines) - 569)]))
    with np.load(folder / "data/digits.npz") as digits:
        np.savez(folder / "data/digits.npz", x=digits["x"][:IMAGES], y=digits["y"][:IMAGES])
    return folder


def ended(name: str, text: str, folder: Path, backend: str) -> tuple[str, dict[str, Any]]:
    """What a program prints, and its state at the end."""
    printed: list[str] = []
    source = Source(name, text, str(folder / name), Path(name).stem)
    session = Session(source, unused="ignore", backend=backend, write=printed.append)
    session.run(session.declare(parse(source)))
    values = {
        **{f"shared {k}": v for k, v in session.store.shared.items()},
        **{f"set {k}": v for k, v in session.store.values.items()},
    }
    return "\n".join(printed), values


def flat(value: Any) -> list[Any]:
    """The arrays of a value, which may be a record."""
    if isinstance(value, tuple | list):
        return [x for v in value for x in flat(v)]
    if isinstance(value, dict):
        return [x for v in value.values() for x in flat(v)]
    return [np.asarray(on_host(value))]


NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


@in_the_simulator
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, small: Path) -> None:
    """All that a program prints, and all its values at the end, are those of the interpreter."""
    text = (small / name).read_text(encoding="utf-8")
    for old, new in SMALLER.get(name, {}).items():
        assert old in text, old
        text = text.replace(old, new)
    wanted_text, wanted = ended(name, text, small, "numpy")
    found_text, found = ended(name, text, small, "cuda")
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        for f, w in zip(flat(found[key]), flat(value), strict=True):
            assert (f.dtype, f.shape) == (w.dtype, w.shape), key
            if w.dtype.kind == "O":
                assert f[()] == w[()], key
                continue
            np.testing.assert_allclose(f, w, rtol=1e-9, atol=1e-12, err_msg=key)
    assert NUMBER.sub("", found_text).split() == NUMBER.sub("", wanted_text).split()
    numbers = [np.array(NUMBER.findall(t), float) for t in (found_text, wanted_text)]
    np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-8)


@in_the_simulator
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in SMALLER])
def test_answers_of_a_program(name: str, small: Path) -> None:
    result = FileTest(read_source(str(small / name), str(small / name)), backend="cuda").run()
    assert not result.failures, [str(TlangError(d)) for d in result.failures]


# ---------------------------------------------------------------- draws

STATES = [PhiloxState(0, 0), PhiloxState(2**64 - 1, 2**64 - 1), PhiloxState(0x0123456789ABCDEF, 2**32 - 1)]
BOUNDS = {
    "int64": [(-(2**63), 2**63), (-5, 5), (0, 2**40 + 3)],
    "uint64": [(0, 2**64), (2**63, 2**64 - 1)],
    "int8": [(-128, 128), (-3, 100)],
}
NUMBERS = [
    *((name, dtype, ()) for name in ("uniform", "normal") for dtype in ("float64", "float32")),
    *(("integers", dtype, bounds) for dtype, some in BOUNDS.items() for bounds in some),
]


@in_the_simulator
@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_draws(kind: tuple[str, str, tuple[int, ...]]) -> None:
    """Those of the definition, as an array of them, and where a nest reads them in an order of its own."""
    name, dtype, bounds = kind
    graph = Graph()
    state = graph.leaf("stream", Tensor(I64, (Dim(2),)), name="state")
    shape = Tensor(FROM_NUMPY[dtype], (Dim.of(Symbol("n")), Dim.of(Symbol("m"))))
    like = graph.leaf("tensor", shape, name="like")
    unit = graph.make(OPS["unit"], [state], kind=shape, distribution=name, bounds=bounds)
    turned = unit.apply("transpose", axes=None).apply("maximum", like.apply("transpose", axes=None))
    array, tapes = None, [CompiledTape([unit], [like, state]), CompiledTape([turned], [like, state])]
    for at in STATES:
        words = np.array([at.key, at.counter], np.uint64).view(np.int64)
        for sizes in ((1, 1), (1, 2), (3, 1), (7, 5), (1, 63), (17, 21), (0, 3)):
            least = -np.inf if dtype.startswith("f") else np.iinfo(dtype).min
            array = np.full(sizes, least, dtype)
            match name:
                case "uniform":
                    wanted = rng.uniform01(at, sizes, np.dtype(dtype))
                case "normal":
                    wanted = rng.normal01(at, sizes, np.dtype(dtype))
                case _:
                    low, high = (np.array(b % 2**64, np.uint64) for b in bounds)
                    wanted = rng.integers_between(at, sizes, np.dtype(dtype), low, high)
            for tape, right in zip(tapes, (wanted, wanted.T), strict=True):
                (found,) = tape.run(lambda x, a=array, w=words: a if x.attr("name") == "like" else w, None)
                assert (found.dtype, found.shape) == (right.dtype, right.shape)
                if name == "normal":
                    assert np.all(np.abs(found - right) <= 4 * np.spacing(np.abs(right)))
                else:
                    np.testing.assert_array_equal(found, right)


# ---------------------------------------------------------------- code without a device

#: Texts with their signatures.
Kernels: TypeAlias = dict[tuple[str, gpu.Signature], None]


@contextmanager
def collected() -> Iterator[Kernels]:
    """Gets the kernels of all that is made meanwhile for functions, which NumPy runs, and of tapes."""
    found: Kernels = {}
    segment, tape = DeviceSegment.__init__, Backends.tape

    def made(self: DeviceSegment, *args: Any) -> None:
        segment(self, *args)
        found.update({(a.text, signature(a)): None for a in self.actions if isinstance(a, Launch)})

    def asked(self: Backends, function: Function) -> Tape:
        if function not in self._calls:
            DeviceTape(*self.to_compile(function))
        return tape(self, function)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DeviceSegment, "__init__", made)
        patch.setattr(Backends, "tape", asked)
        yield found


#: What the device's sine and cosine of an f32 do with an angle above 10^5.
GREAT_ANGLES = re.compile(r"\.reg \.f64|cvt\.rn\.f64\.s64|mul\.f64.*, 0d3BF921FB54442D19;|cvt\.rn\.f32\.f64")


def is_wide(text: str, ptx: str) -> bool:
    """Whether code computes in f64."""
    lines = [line for line in ptx.splitlines() if ".f64" in line]
    if re.search(r"math\.(sin|cos|tan)\(", text):
        lines = [line for line in lines if not GREAT_ANGLES.search(line)]
    return bool(lines)


def check_code(kernels: Kernels, capabilities: Sequence[tuple[int, int]] = ((8, 0), (9, 0))) -> None:
    """Each kernel compiles for old and new GPUs, keeps all in registers, and is of f64 only if it says so."""
    assert kernels
    wrong = []
    for text, kinds in kernels:
        for cc in capabilities:
            ptx = gpu.to_ptx(text, "kernel", kinds, cc)
            if "float64*" not in kinds and "np.float64(" not in text and is_wide(text, ptx):
                wrong.append(f"f64 in {kinds}\n{text}")
            _, log = compiler.linked(ptx, "kernel", cc)
            if not re.search(r"\b0 bytes spill stores, 0 bytes spill loads", log):
                wrong.append(f"{log}\n{text}")
    assert not wrong, "\n\n".join(wrong)


#: What becomes f32 beside the types, `zeros`, `ones` and what is loaded from tables.
NARROWER = {
    "09_gradients.tl": {
        "train(inputs, targets)": "train(f32(inputs), f32(targets))",
        "check allclose((f(3.001) - f(2.999)) / 0.002, 6)": "",
    },
    "digits.tl": {"raw / 16": "f32(raw / 16)"},
    "digits_mlp.tl": {"raw / 16": "f32(raw / 16)", "steps: i64 = 0": "steps: f32 = 0"},
    "gaussian_process.tl": {
        "arange(12) * 0.5": "f32(arange(12) * 0.5)",
        "(where_seen, seen": "(where_seen, f32(seen)",
    },
    "logistic_regression.tl": {"train(data, target)": "train(data, f32(target))"},
    "newton.tl": {"check last.steepness < 1e-12": ""},
    "rnn.tl": {
        "stack([numbers, marked], axis = 2)": "f32(stack([numbers, marked], axis = 2))",
        "sum(numbers * marked, axis = 0)": "f32(sum(numbers * marked, axis = 0))",
    },
}


def narrow(name: str, text: str) -> str:
    """A program with f32 in the place of f64, and without the answers."""
    text = re.sub(r"#=>.*", "", re.sub(r"\bf64\b", "f32", text))
    text = re.sub(r"\b(zeros|ones)\(([^()]|\([^()]*\))*\)", r"f32(\g<0>)", text)
    text = re.sub(r'load\("[^"]*(csv|npy)"\)', r"f32(\g<0>)", text)
    for old, new in NARROWER.get(name, {}).items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the programs as they are."""
    return Path(shutil.copytree(ROOT / "programs", tmp_path_factory.mktemp("copy") / "programs"))


#: Programs with functions that have kernels.
COMPUTING = [n for n in PROGRAMS if n not in ("layers.tl", "files.tl")]


@apart
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(n, t, marks=() if (n, t) == ("09_gradients.tl", "f32") else pytest.mark.slow)
        for n in COMPUTING
        for t in ("f64", "f32")
    ],
)
def test_code_of_a_program(name: str, dtype: str, copied: Path) -> None:
    text = (copied / name).read_text(encoding="utf-8")
    with collected() as kernels:
        test = FileTest(
            Source(name, text if dtype == "f64" else narrow(name, text), str(copied / name), Path(name).stem),
            unused="ignore",
            backend="numpy",
        )
        assert not test.run().failures
    check_code(kernels)


@apart
@pytest.mark.slow
def test_code_of_the_cases() -> None:
    with collected() as kernels:
        for path in sorted((ROOT / "tests/cases").rglob("*.tl")):
            FileTest(read_source(str(path), str(path)), backend="numpy").run()
    check_code(kernels)


@apart
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8"])
def test_code_of_every_operation(dtype: str) -> None:
    """Some cases of every row of the table of operations, in portions that are one graph."""
    with collected() as kernels:
        for chunk in chunks(every=False, dtype=dtype):
            graph, roots = Graph(), []
            for name, k, _ in chunk:
                case = CASES[name][k]
                roots.append(case.build(name)(*leaves(graph, case.arrays(dtype, seed=k), case.dim)))
            DeviceTape(rewrite(roots, verify))
    check_code(kernels, [(9, 0)])
