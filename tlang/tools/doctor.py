"""The body of `tlang doctor`: whether this computer can do what tlang needs, and what to do if not."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tlang import __version__
from tlang.run import blas
from tlang.run.cache import Cache
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
    return [*_versions(), *_processor(), _blas(), _cache(), _objects()]


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
    for package in ("numpy", "lark", "llvmlite"):
        try:
            out.append(Finding(package, version(package)))
        except PackageNotFoundError:
            out.append(Finding(package, "not installed", f"pip install {package}"))
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
