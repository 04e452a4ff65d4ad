"""tlang: a small declarative language for tensor programs, and its compiler.

This docstring is the tour. Text becomes results in the order of this list; a module imports only
what stands above it.

    source, codes, errors   places in texts; the table of messages; diagnostics as data
    syntax/                 text to syntax tree, by the grammar in `grammar/tlang.lark`
    types                   dtypes, dimensions as linear sums, unification, broadcasting, promotion
    graph/                  typed nodes, the table of operations (`graph/ops/`), gradients
    rewrite/                passes from graph to equal graph: names dissolved, stable, simplified
    elaborate/              syntax tree to graph: names, templates, functions, givens, copies, commands
    interpret               a graph's meaning with NumPy: the definition, and the first tier
    plan/                   which operations are one loop, and why others are not
    emit/                   the text of kernels, for the processor and for a GPU (`emit/cuda/`)
    run/                    kernels, state, random generators, data files, loops without Python
                            (`run/native/`), the GPU (`run/cuda/`), the session: all effects are here
    api                     compile, load and call from Python
    std/                    losses, layers and optimisers in tlang itself, for programs to import
    tools/                  the command line, tests inside programs

From Python, `tlang.compile(text)` and `tlang.load(path)` give a :class:`tlang.api.Module`. Everything
is imported on first use, so that `tlang --version` and `tlang check` start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tlang.api import Module, compile, load
    from tlang.errors import (
        CheckFailed,
        NameError,
        ShapeError,
        StateError,
        SyntaxError,
        TlangError,
        TypeError,
    )

_API = {"Module", "compile", "load"}
_ERRORS = {"CheckFailed", "NameError", "ShapeError", "StateError", "SyntaxError", "TlangError", "TypeError"}

__all__ = [
    "compile",
    "load",
    "Module",
    "TlangError",
    "SyntaxError",
    "NameError",
    "TypeError",
    "ShapeError",
    "StateError",
    "CheckFailed",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _API:
        from tlang import api

        return getattr(api, name)
    if name in _ERRORS:
        from tlang import errors

        return getattr(errors, name)
    raise AttributeError(f"module 'tlang' has no attribute {name!r}")
