"""The rules of the tour in `tlang/__init__.py`: imports point one way, the compiler is pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tlang

ROOT = Path(tlang.__file__).parent
#: The rooms in the order of the tour; a module imports only from rooms up to its own.
ORDER = (
    "source",
    "codes",
    "errors",
    "syntax",
    "types",
    "graph",
    "rewrite",
    "elaborate",
    "interpret",
    "plan",
    "emit",
    "run",
    "api",
    "tools",
)
FILES = sorted(ROOT.rglob("*.py"))
#: What the rooms before `run` must not touch: they are pure.
EFFECTS = {"os", "io", "time", "subprocess", "socket", "shutil", "tempfile", "random", "threading"}
#: The grammar is loaded from a file and cached: the one effect of parsing.
GRAMMAR = {"syntax/tables.py", "syntax/parse.py"}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path, *, typing_too: bool = True) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                skipped.update(ast.walk(node))
    found = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "tlang")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = room(path)
    if own == "__init__":
        return
    for name in imports(path):
        if name.startswith("tlang."):
            other = name.split(".")[1]
            if other in ORDER:
                assert ORDER.index(other) <= ORDER.index(own), f"{own} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_interpreter_and_what_follows_import_numpy(path: Path) -> None:
    own = room(path)
    if own == "__init__" or ORDER.index(own) < ORDER.index("interpret"):
        assert not {n.split(".")[0] for n in imports(path, typing_too=False)} & {"numpy", "numba"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_compiler_is_pure(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    own = room(path)
    if own != "__init__" and ORDER.index(own) < ORDER.index("run") and name not in GRAMMAR:
        assert not {n.split(".")[0] for n in imports(path)} & EFFECTS


def test_every_room_is_in_the_tour() -> None:
    assert {room(p) for p in FILES} - {"__init__"} == set(ORDER)
    for name in ORDER:
        assert name in (tlang.__doc__ or "")


def test_passes_do_not_know_the_backends() -> None:
    for path in (ROOT / "rewrite").glob("*.py"):
        assert not any(
            n.startswith(("tlang.run", "tlang.interpret", "tlang.elaborate")) for n in imports(path)
        )
