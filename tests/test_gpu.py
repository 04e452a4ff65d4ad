"""The layer under the CUDA backend: states, compilation without a device, memory, launches, products.

Tests that are marked `on_a_gpu` run on what there is: a device, numba-cuda's simulator, or a driver that
computes on the host (`fake_cuda.c`). The last two need a process of their own, which two tests here start.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import re
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlang.emit.product import Tiles, tiled_text
from tlang.errors import TlangError
from tlang.run import cublas, cudacompile, cudadriver, gpu
from tlang.run.gpu import State
from tlang.tools import doctor

FAKE = "TLANG_FAKE_CUDA" in os.environ
SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
EXTRA = "numba-cuda is needed (the extra `cuda`)"

if FAKE:  # what must be installed is not asked for, nor is anything compiled
    cudacompile.installed = lambda: True
    cudacompile.missing_libraries = list
    cudacompile.toolkit = lambda: (13, 0)
    cudacompile.cubin = lambda *arguments: b"\x7fELF"
    cublas._library = lambda: ctypes.CDLL("libcublas.so")

needs_extra = pytest.mark.skipif(find_spec("numba_cuda") is None, reason=EXTRA)
compiles = pytest.mark.skipif(
    find_spec("numba_cuda") is None or SIMULATED or FAKE, reason=f"{EXTRA}, and no simulator"
)
on_a_gpu = pytest.mark.skipif(
    gpu.find_state()[0] not in (State.READY, State.SIMULATED),
    reason="a GPU is needed; elsewhere these tests run in processes of their own",
)
runs_kernels = pytest.mark.skipif(FAKE, reason="the fake driver cannot run this kernel")

AXPY = """import math
import numpy as np
from numba import cuda


def axpy(n, p0, p1):
    i = cuda.grid(1)
    while i < n:
        p1[i] += p0[i]
        i += cuda.gridsize(1)
"""
ARRAYS = ("int64", "float32*", "float32*")


# ---------------------------------------------------------------- other processes


def run_again(**environment: str) -> str:
    """What pytest says of this file in another process."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a GPU is needed" not in done.stdout
    return done.stdout


@needs_extra
@pytest.mark.skipif(FAKE or SIMULATED, reason="this is that process")
def test_in_the_simulator() -> None:
    run_again(NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="session")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a driver and a cuBLAS that compute on the host."""
    if (compiler := shutil.which("cc")) is None or sys.platform != "linux":
        pytest.skip("the fake driver needs a C compiler and Linux")
    folder = tmp_path_factory.mktemp("fake")
    source = Path(__file__).with_name("fake_cuda.c")
    command = [compiler, "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o"]
    subprocess.run([*command, folder / "libcuda.so.1", source], check=True)
    shutil.copy(folder / "libcuda.so.1", folder / "libcublas.so")
    return folder


@pytest.mark.skipif(FAKE or SIMULATED, reason="this is that process")
@pytest.mark.parametrize("pools", ["0", "1"])
def test_with_a_fake_driver(fake: Path, pools: str) -> None:
    run_again(TLANG_FAKE_CUDA="1", LD_LIBRARY_PATH=str(fake), FAKE_POOLS=pools)


# ---------------------------------------------------------------- states


@pytest.fixture
def unknown_state() -> Any:
    """The state is looked for anew in this test, and after it."""

    kept = (gpu.find_state, gpu.simulated, gpu.device)

    def forget() -> None:
        for function in kept:
            function.cache_clear()

    forget()
    yield
    forget()


def pretend(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """A computer with a driver, one device and all packages, except for the facts."""
    numbers = {"cuDeviceGetCount": facts.get("devices", 1), "cuDeviceGetAttribute": 9}

    def call(function: str, *args: Any) -> None:
        if facts.get("status"):
            raise cudadriver.DriverError(function, facts["status"])

    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(cudadriver, "library", lambda: facts.get("library", "there"))
    monkeypatch.setattr(cudadriver, "error_name", lambda status: "CUDA_ERROR_OF_A_TEST")
    monkeypatch.setattr(cudadriver, "call", call)
    monkeypatch.setattr(cudadriver, "number_from", lambda function, *args: numbers[function])
    monkeypatch.setattr(cudadriver, "attribute", lambda device, which: facts.get("attribute", 9))
    monkeypatch.setattr(cudadriver, "version", lambda: facts.get("version", (13, 0)))
    monkeypatch.setattr(cudacompile, "installed", lambda: facts.get("installed", True))
    monkeypatch.setattr(cudacompile, "missing_libraries", lambda: facts.get("missing", []))
    monkeypatch.setattr(cudacompile, "toolkit", lambda: (13, 0))


STATES = [
    (State.NO_DRIVER, {"library": None}, "libcuda is not found"),
    (State.NO_DRIVER, {"status": 999}, "CUDA_ERROR_OF_A_TEST (999)"),
    (State.NO_DEVICE, {"status": cudadriver.NO_DEVICE}, "sees no GPU"),
    (State.NO_DEVICE, {"devices": 0}, "sees no GPU"),
    (State.NO_DEVICE, {"attribute": 5}, "need a GPU of version 7.5; this one has 5.5"),
    (State.NO_EXTRA, {"installed": False}, "numba-cuda is not installed"),
    (State.NO_LIBRARIES, {"missing": ["nvvm", "nvrtc"]}, "nvvm, nvrtc not found"),
    (State.OLD_DRIVER, {"version": (12, 8)}, "driver of CUDA 12.8, libraries of CUDA 13.0"),
]


@pytest.mark.usefixtures("unknown_state")
@pytest.mark.parametrize(("state", "facts", "said"), STATES)
def test_what_is_missing(
    state: State, facts: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, **facts)
    assert gpu.find_state()[0] is state
    with pytest.raises(TlangError, match=re.escape(said)) as raised:
        gpu.require()
    assert raised.value.code == state.value
    found = {f.what: f for f in doctor.examine()}["CUDA"]
    assert said in found.found
    assert state.value in found.found
    assert bool(found.advice) == (state in (State.NO_LIBRARIES, State.OLD_DRIVER))


@pytest.mark.usefixtures("unknown_state")
def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    assert gpu.find_state() == (State.READY, "driver of CUDA 13.0, libraries of CUDA 13.0")
    gpu.require()
    device = gpu.Device("A GPU", (9, 0), 132, 80 * 2**30)
    monkeypatch.setattr(gpu, "device", lambda: device)
    monkeypatch.setattr(cublas, "found", lambda: False)
    found = {f.what: f for f in doctor.examine()}["CUDA"]
    assert found.found.startswith("A GPU, version 9.0, 80 GiB; driver of CUDA 13.0")
    assert "no cuBLAS" in found.found

    def broken() -> None:
        raise cudadriver.DriverError("cuDevicePrimaryCtxRetain", 2)

    monkeypatch.setattr(gpu, "device", broken)
    assert {f.what: f for f in doctor.examine()}["CUDA"].advice


@pytest.mark.usefixtures("unknown_state")
def test_the_simulator_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, library=None)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert gpu.find_state()[0] is State.SIMULATED
    gpu.require()
    assert "simul" in gpu.device().name or "SIM" in {f.what: f for f in doctor.examine()}["CUDA"].found
    monkeypatch.setattr(cudacompile, "installed", lambda: False)
    gpu.find_state.cache_clear()
    assert gpu.find_state()[0] is State.NO_EXTRA


# ---------------------------------------------------------------- compilation


def words_of_a_launch() -> list[int]:
    """What a launch of the kernel passes, a word for each of its parameters."""
    dtypes = [None, np.dtype("float32"), np.dtype("float32")]
    array = gpu.Array(4096, 10, np.dtype("float32"), None)
    return gpu._words(dtypes, (10, array, array))


@compiles
@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
def test_code_is_made_without_a_device(cc: tuple[int, int]) -> None:
    ptx = gpu.to_ptx(AXPY, "axpy", ARRAYS, cc)
    assert f".target sm_{cc[0]}{cc[1]}" in ptx
    assert re.search(r"\.entry axpy\(", ptx)
    assert ".f64" not in ptx
    assert len(re.findall(r"\.param \.u64 axpy_param", ptx)) == len(words_of_a_launch()) == 15
    code, log = gpu.to_cubin(AXPY, "axpy", ARRAYS, cc)
    assert code.startswith(b"\x7fELF")
    assert b".text.axpy\0" in code
    assert "0 bytes spill stores" in log
    assert int(re.search(r"Used (\d+) registers", log)[1]) < 64  # type: ignore[index]


@compiles
def test_an_index_is_taken_as_it_is() -> None:
    """Numba's question whether it is negative costs instructions at every access; others still ask."""
    from numba import cuda, types

    def asks(ptx: str) -> bool:
        return bool(re.search(r"shr\.s64|setp\.lt\.s64|and\.b64", ptx))

    text = AXPY.replace("while i < n", "if i != n").replace("        i += cuda.gridsize(1)\n", "")
    assert not asks(gpu.to_ptx(text, "axpy", ARRAYS))
    array = types.Array(types.float32, 1, "C")
    usual, _ = cuda.compile_ptx(
        cudacompile.load(text)["axpy"], types.void(types.int64, array, array), cc=(9, 0)
    )
    assert asks(usual)


@compiles
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int32", "int64", "uint32", "uint64", "float32", "float64"]
)
def test_arrays_of_every_dtype(dtype: str) -> None:
    text = AXPY.replace("+= p0[i]", "= p0[i]")
    code, _ = gpu.to_cubin(text, "axpy", ("int64", f"{dtype}*", f"{dtype}*"))
    assert code


@compiles
def test_a_text_that_does_not_compile() -> None:
    with pytest.raises(cudacompile.CompileError, match="cannot compile axpy"):
        gpu.to_ptx(AXPY.replace("p0[i]", "math.nothing(p0[i])"), "axpy", ARRAYS)
    with pytest.raises(cudacompile.CompileError, match="cannot link axpy"):
        gpu.to_cubin(AXPY, "axpy", ARRAYS, (9, 7))


@compiles
def test_code_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    first = cudacompile.cubin(AXPY, "axpy", ARRAYS, (9, 0))
    assert len(list(tmp_path.rglob("*.object"))) == 1
    monkeypatch.setattr(cudacompile, "to_cubin", lambda *arguments: pytest.fail("compiled again"))
    assert cudacompile.cubin(AXPY, "axpy", ARRAYS, (9, 0)) == first
    with pytest.raises(pytest.fail.Exception):
        cudacompile.cubin(AXPY, "axpy", ARRAYS, (8, 0))


@compiles
@pytest.mark.parametrize(("dtype", "turned"), [("float32", (False, True)), ("float64", (True, False))])
def test_the_product_kernel_needs_few_registers(dtype: str, turned: tuple[bool, bool]) -> None:
    text = tiled_text(dtype, *turned, Tiles())
    signature = (*["int64"] * 10, *[f"{dtype}*"] * 3)
    assert (".f64" in gpu.to_ptx(text, "product", signature)) == (dtype == "float64")
    _, log = gpu.to_cubin(text, "product", signature)
    assert "0 bytes spill stores" in log
    assert int(re.search(r"Used (\d+) registers", log)[1]) <= 128  # type: ignore[index]


# ---------------------------------------------------------------- memory


@on_a_gpu
@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint32", "float32", "float64"])
def test_there_and_back(dtype: str) -> None:
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    for given in (x, x.T, x[:, ::-1], x[0, 0, 0], x[:0]):
        there = gpu.upload(given)
        assert (there.count, there.dtype) == (given.size, np.dtype(dtype))
        back = gpu.download(there, given.shape)
        np.testing.assert_array_equal(back, given)


@on_a_gpu
def test_more_than_is_copied_at_a_time() -> None:
    x = np.arange(5_000_000, dtype=np.float32)
    for count in (x.size, 1, 2**21, 2**21 + 1):
        there = gpu.upload(x[:count])
        np.testing.assert_array_equal(gpu.download(there, (count,)), x[:count])


@on_a_gpu
def test_an_uploaded_array_may_change_at_once() -> None:
    x = np.ones(1000)
    there = gpu.upload(x)
    x[:] = 2
    assert np.all(gpu.download(there, (1000,)) == 1)
    gpu.write(there, x)
    x[:] = 3
    assert np.all(gpu.download(there, (1000,)) == 2)


@on_a_gpu
def test_parts_share_memory() -> None:
    arena = gpu.empty(1024, np.uint8)
    ints = gpu.cast(gpu.part(arena, 256, 40), np.int32)
    assert ints.count == 10
    gpu.write(ints, np.arange(10, dtype=np.int32))
    gpu.copy(gpu.part(ints, 0, 3), gpu.part(ints, 5, 3))
    del arena
    assert gpu.download(ints, (2, 5)).tolist() == [[5, 6, 7, 3, 4], [5, 6, 7, 8, 9]]
    gpu.clear(gpu.part(ints, 8, 2))
    assert gpu.download(ints, (10,)).tolist() == [5, 6, 7, 3, 4, 5, 6, 7, 0, 0]
    wrapped = gpu.wrap(gpu.part(ints, 1, 2))
    assert gpu.download(wrapped, (2,)).tolist() == [6, 7]
    assert wrapped.__cuda_array_interface__["shape"] == (2,)
    with pytest.raises(AssertionError):
        gpu.part(ints, 5, 6)


@on_a_gpu
def test_only_dense_arrays_are_taken() -> None:
    class Given:
        def __init__(self, **facts: Any) -> None:
            there = gpu.upload(np.arange(12.0))
            self.owner = there
            self.__cuda_array_interface__ = {**there.__cuda_array_interface__, **facts}

    assert gpu.wrap(Given(shape=(3, 4))).count == 12
    assert gpu.wrap(Given(shape=(3, 4), strides=(32, 8))).count == 12
    assert gpu.wrap(Given(shape=(1, 4), strides=(7, 8))).count == 4
    assert gpu.wrap(Given(shape=(0, 4), data=(0, False))).count == 0
    with pytest.raises(ValueError, match="one behind the other"):
        gpu.wrap(Given(shape=(4, 3), strides=(8, 32)))
    with pytest.raises(ValueError, match="mask"):
        gpu.wrap(Given(mask=np.ones(12)))


@on_a_gpu
@pytest.mark.skipif(not FAKE, reason="it fills the memory of the device")
def test_memory_is_freed_and_may_not_suffice() -> None:
    def used() -> int:
        return ctypes.c_int64.in_dll(cudadriver.library(), "fake_used").value

    before = used()
    there = gpu.empty(1000, np.float64)
    view = gpu.part(there, 0, 10)
    assert used() == before + 8000
    del there
    assert used() == before + 8000
    del view
    assert used() == before
    with pytest.raises(TlangError) as raised:
        gpu.empty(2**31, np.float64)
    assert raised.value.code == "R121"
    assert "16384 MiB are asked for; Fake has 1024 MiB" in str(raised.value)


# ---------------------------------------------------------------- launches


def added(n: int) -> tuple[gpu.Kernel, gpu.Array, gpu.Array]:
    """The kernel, and two arrays of n elements: 0, 1, ... and ones."""
    kernel = gpu.kernel(AXPY, "axpy", ARRAYS)
    return kernel, gpu.upload(np.arange(n, dtype=np.float32)), gpu.upload(np.ones(n, np.float32))


@on_a_gpu
def test_a_kernel() -> None:
    kernel, x, y = added(50)
    assert gpu.kernel(AXPY, "axpy", ARRAYS) is kernel
    kernel.launch((gpu.most_blocks(), 1), (gpu.threads(), 1), (np.int64(49), x, y))
    np.testing.assert_array_equal(gpu.download(y, (50,)), [*range(1, 50), 1])
    kernel.launch((0, 1), (gpu.threads(), 1), (50, x, y))
    kernel.launch((2,), (gpu.threads(),), (0, x, y))
    kernel.launch((2,), (gpu.threads(),), (3, gpu.part(x, 47, 3), gpu.part(y, 0, 3)))
    np.testing.assert_array_equal(gpu.download(gpu.part(y, 0, 4), (4,)), [48, 50, 52, 4])
    with pytest.raises(AssertionError, match="float64 for float32"):
        kernel.launch((1,), (1,), (50, x, gpu.upload(np.ones(50))))
    gpu.synchronize()


@on_a_gpu
def test_a_launch_is_prepared_once() -> None:
    kernel, x, y = added(20)
    launch = kernel.prepare((2, 1), (4, 1), (20, x, y))
    for _ in range(3):
        launch()
    np.testing.assert_array_equal(gpu.download(y, (20,)), 1 + 3 * np.arange(20))


@on_a_gpu
def test_a_graph_does_again_what_was_recorded() -> None:
    kernel, x, y = added(20)
    z = gpu.upload(np.zeros(20, np.float32))
    launch = kernel.prepare((2, 1), (4, 1), (20, x, y))

    def work() -> None:
        launch()
        gpu.copy(z, y)
        if not gpu.simulated():  # what is freed meanwhile must wait
            cyclic.clear()

    cyclic = [gpu.empty(10, np.float32)]
    graph = gpu.Graph(work)
    np.testing.assert_array_equal(gpu.download(y, (20,)), np.ones(20))
    for _ in range(3):
        graph()
    np.testing.assert_array_equal(gpu.download(z, (20,)), 1 + 3 * np.arange(20))


@on_a_gpu
def test_another_thread_may_launch() -> None:
    kernel, x, y = added(20)
    thread = threading.Thread(target=kernel.launch, args=((2, 1), (4, 1), (20, x, y)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(gpu.download(y, (20,)), 1 + np.arange(20))


@on_a_gpu
@runs_kernels
def test_threads_of_a_block_work_together() -> None:
    text = """import math
import numpy as np
from numba import cuda


def total(n, p0, p1):
    mine = cuda.shared.array(8, np.float32)
    other = cuda.shared.array(8, np.float32)
    t = cuda.threadIdx.x
    sum = np.float32(0)
    i = cuda.grid(1)
    while i < n:
        sum += p0[i]
        i += cuda.gridsize(1)
    mine[t] = sum
    cuda.syncthreads()
    other[t] = mine[7 - t]
    cuda.syncthreads()
    if t == 0:
        for j in range(8):
            p1[cuda.blockIdx.x] += other[j]
"""
    kernel = gpu.kernel(text, "total", ARRAYS)
    for _ in range(20):
        x, y = gpu.upload(np.arange(1000, dtype=np.float32)), gpu.upload(np.zeros(3, np.float32))
        kernel.launch((3, 1), (8, 1), (1000, x, y))
        assert gpu.download(y, (3,)).sum() == 499500


@on_a_gpu
@pytest.mark.skipif(not SIMULATED, reason="a device does not ask")
def test_the_simulator_finds_wrong_indices() -> None:
    x, y = gpu.upload(np.ones(4, np.float32)), gpu.upload(np.ones(4, np.float32))
    for wrong in ("i - 1", "i + 1"):
        kernel = gpu.kernel(AXPY.replace("+= p0[i]", f"+= p0[{wrong}]"), "axpy", ARRAYS)
        with pytest.raises(IndexError):
            kernel.launch((1,), (2,), (4, x, y))


@on_a_gpu
def test_limits_and_the_device() -> None:
    assert gpu.threads() == (4 if SIMULATED else 256)
    assert gpu.most_blocks() == (3 if SIMULATED else 1024)
    assert gpu.device().multiprocessors > 0
    assert gpu.device().capability >= (7, 5)


@on_a_gpu
@pytest.mark.skipif(not FAKE, reason="the fake driver tells what it got")
def test_what_the_driver_gets() -> None:
    kernel, x, y = added(20)
    kernel.launch((3, 2), (32, 4), (20, x, y))
    assert [*(ctypes.c_int64 * 6).in_dll(cudadriver.library(), "fake_shape")] == [3, 2, 1, 32, 4, 1]
    with pytest.raises(cudadriver.DriverError, match=r"launch of axpy: CUDA_ERROR_OF_THE_FAKE \(1\)"):
        kernel.launch((3, 2), (32, 4), (21, x, y))


# ---------------------------------------------------------------- products of matrices

SHAPES = [(5, 7, 3), (4, 4, 4), (1, 9, 5), (6, 1, 2), (1, 1, 6), (9, 11, 10), (3, 3, 0), (0, 2, 2)]
FLAGS = list(itertools.product((False, True), (False, True)))


def product_of(
    dtype: str, flags: tuple[bool, bool], shape: tuple[int, int, int], batch: int, make: Any
) -> None:
    """Compares a product with NumPy's; the rows of every matrix are longer than what is used of them."""
    m, n, k = shape
    rng = np.random.default_rng(m + 10 * n + 100 * k)
    a = rng.standard_normal((batch, *((k, m + 2) if flags[0] else (m, k + 2)))).astype(dtype)
    b = rng.standard_normal((batch, *((n, k + 1) if flags[1] else (k, n + 1)))).astype(dtype)
    c = np.full((batch, m, n + 3), 7, dtype)
    left = a[:, :, :m].swapaxes(1, 2) if flags[0] else a[:, :, :k]
    right = b[:, :, :k].swapaxes(1, 2) if flags[1] else b[:, :, :n]
    strides = (a[0].size, b[0].size, c[0].size)
    there = gpu.upload(c)
    sizes = (a.shape[2], b.shape[2], c.shape[2])
    make(
        cublas.Product(dtype, *flags, m, n, k, *sizes, batch, strides), gpu.upload(a), gpu.upload(b), there
    )()
    c[:, :, :n] = left @ right
    np.testing.assert_allclose(gpu.download(there, c.shape), c, rtol=1e-4, atol=1e-5)


@on_a_gpu
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products(dtype: str, flags: tuple[bool, bool], batch: int) -> None:
    for shape in SHAPES:
        if not FAKE or shape[2]:
            product_of(dtype, flags, shape, batch, cublas.prepare)


@on_a_gpu
@runs_kernels
@pytest.mark.parametrize("flags", FLAGS)
def test_products_by_our_own_kernel(flags: tuple[bool, bool]) -> None:
    tiles = Tiles(2, 2, 2, 4) if SIMULATED else Tiles()
    for shape, batch in itertools.product(SHAPES, (1, 2)):
        product_of("float32", flags, shape, batch, lambda *args: cublas.tiled(*args, tiles))


@on_a_gpu
def test_a_product_with_a_shared_operand() -> None:
    x, w = np.arange(24.0).reshape(4, 2, 3), np.arange(6.0).reshape(3, 2)
    out = gpu.empty(16, np.float64)
    cublas.gemm(np.float64, False, False, 2, 2, 3, gpu.upload(x), 3, gpu.upload(w), 2, out, 2, 4, (6, 0, 4))
    np.testing.assert_array_equal(gpu.download(out, (4, 2, 2)), x @ w)


@on_a_gpu
@pytest.mark.skipif(not FAKE, reason="the fake cuBLAS counts")
def test_cublas_is_what_computes() -> None:
    count = ctypes.c_int64.in_dll(cublas._library(), "fake_products")
    before = count.value
    product_of("float32", (False, True), (4, 5, 6), 1, cublas.prepare)
    assert count.value == before + 1
