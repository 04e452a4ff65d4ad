"""The body of `tlang doctor`: whether this computer can do what tlang needs, and what to do if not."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from tlang import __version__
from tlang.codes import CODES
from tlang.run import blas
from tlang.run.cache import Cache
from tlang.run.cuda import cublas, gpu
from tlang.run.objects import ObjectError, compile_text, load_object

_PROBE = "def probe(n):\n    return n + 1\n"


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do if that is a problem."""

    what: str
    found: str
    advice: str = ""


def examine() -> list[Finding]:
    """Everything that is looked at."""
    return [
        *_versions(),
        *_processor(),
        _threads(),
        _blas(),
        _cache(),
        _objects(),
        _cuda(),
        *_extras(),
        _prompt(),
    ]


def report(findings: list[Finding]) -> str:
    """The findings as a table, each problem followed by what to do."""
    wide = max(len(f.what) for f in findings)
    lines = []
    for f in findings:
        lines.append(f"{'!' if f.advice else ' '} {f.what:<{wide}}  {f.found}")
        if f.advice:
            lines.append(f"  {'':<{wide}}  -> {f.advice}")
    return "\n".join(lines)


def to_json(findings: list[Finding]) -> list[dict[str, str]]:
    """The findings for tools."""
    return [asdict(f) for f in findings]


def _versions() -> list[Finding]:
    out = [Finding("tlang", __version__), Finding("python", platform.python_version())]
    for package in ("numpy", "lark", "llvmlite", "prompt_toolkit", "rich"):
        found = _version(package)
        advice = "" if found else f"pip install {package}"
        out.append(Finding(package, found or "not installed", advice))
    return out


def _processor() -> list[Finding]:
    import llvmlite.binding as llvm

    there = [name for name, has in llvm.get_host_cpu_features().items() if has]
    wide = [name for name in ("fma", "avx2", "avx512f", "neon", "sve") if name in there]
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    slow = "" if "fma" in wide or "neon" in wide else "vector functions call the C library for each fma: slow"
    return [
        Finding("processor", f"{platform.machine()}, {llvm.get_host_cpu_name()}"),
        Finding("vectors", ", ".join(wide) or "none", slow),
        Finding("cores", str(count)),
    ]


def _threads() -> Finding:
    """How many threads compiled code and BLAS may use, and what in the environment says otherwise."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    set_here = {n: os.environ[n] for n in names if n in os.environ}
    found = f"tlang's own, 1 unless --threads says more; {cores} cores may be used"
    if set_here:
        found += "; " + ", ".join(f"{n}={v}" for n, v in set_here.items())
    wrong = [n for n, v in set_here.items() if not v.isdigit() or not 1 <= int(v) <= 2 * cores]
    advice = f"unset {' and '.join(wrong)}, or give a number from 1 to {cores}" if wrong else ""
    return Finding("threads", found, advice)


def _cuda() -> Finding:
    """The state of the backend `cuda`. A computer without a GPU, or without the extra, has no problem."""
    state, found = gpu.find_state()
    if state is gpu.State.SIMULATED:
        return Finding("CUDA", found)
    if state is gpu.State.READY:
        try:
            it = gpu.device()
        except gpu.DriverError as e:
            return Finding("CUDA", f"{found}; {e}", "a program that uses the GPU may hold it, or its memory")
        version = ".".join(map(str, it.capability))
        library = "" if cublas.found() else "; no cuBLAS: products of matrices are a kernel of tlang's own"
        return Finding("CUDA", f"{it.name}, version {version}, {it.memory / 2**30:.0f} GiB; {found}{library}")
    shown = f"{CODES[state.value].sentence.format(found=found)} ({state.value})"
    if state in (gpu.State.NO_LIBRARIES, gpu.State.OLD_DRIVER):
        return Finding("CUDA", shown, CODES[state.value].why)
    return Finding("CUDA", f"{shown}; `tlang explain {state.value}` says what to do")


def _extras() -> Iterator[Finding]:
    """What is installed of the optional packages; nobody needs them to run programs."""
    for extra, packages in _optional().items():
        there = [p for p in packages if _version(p) is not None]
        missing = [p for p in packages if p not in there]
        shown = ", ".join(f"{p} {_version(p)}" for p in there) or "nothing"
        if missing:
            shown += f"; not {', '.join(missing)} (pip install 'tlang-compiler[{extra}]')"
        yield Finding(f"extra {extra}", shown)


def _optional() -> dict[str, list[str]]:
    """The packages of each extra, from the metadata of the distribution."""
    try:
        lines = requires("tlang-compiler") or []
    except PackageNotFoundError:
        return {}
    out: dict[str, list[str]] = {}
    for line in lines:
        extra = re.search(r"extra\s*==\s*['\"](\w+)['\"]", line)
        name = re.match(r"[\w.-]+", line)
        if extra and name:
            out.setdefault(extra[1], []).append(name[0])
    return out


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _prompt() -> Finding:
    """Whether the history of the prompt can be kept."""
    from tlang.tools.repl.terminal import history_path

    path = history_path()
    if path is None:
        return Finding("history", "no home folder", "set XDG_STATE_HOME to a folder that can be written")
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding("history", f"{path} cannot be written", "set XDG_STATE_HOME to a folder that can be")
    return Finding("history", str(path))


def _blas() -> Finding:
    if blas.symbols():
        forced = os.environ.get("OPENBLAS_CORETYPE")
        kernels = f"; OPENBLAS_CORETYPE makes it use its kernels for {forced}" if forced else ""
        return Finding("BLAS", f"that of NumPy, called from compiled code{kernels}")
    return Finding(
        "BLAS",
        "NumPy has another than OpenBLAS",
        "products of matrices are NumPy calls; a wheel of NumPy from PyPI has OpenBLAS",
    )


def _cache() -> Finding:
    cache = Cache()
    if cache.folder is None:
        return Finding("cache", "no folder", "set TLANG_CACHE_DIR: kernels are compiled in every process")
    held = cache.stats()
    shown = f"{cache.folder}: {held.entries} kernels, {held.size / 2**20:.1f} MiB"
    place = cache.folder
    while not place.exists() and place != place.parent:
        place = Path(place.parent)
    if not os.access(place, os.W_OK):
        return Finding("cache", shown, "the folder cannot be written: set TLANG_CACHE_DIR to one that can")
    return Finding("cache", shown)


def _objects() -> Finding:
    """Compiles a function, loads the object code and calls it."""
    try:
        made = load_object(compile_text(_PROBE, {"probe": "int64(int64)"}))["probe"](41)
    except ObjectError as e:
        return Finding("object code", str(e), "programs run on NumPy alone; is llvmlite's version supported?")
    if made != 42:
        return Finding("object code", f"42 was expected, {made} computed", "report this as a bug of tlang")
    return Finding("object code", f"compiled and loaded on {sys.platform}")
