"""Where the files of a program lie, and reading those of programs."""

from __future__ import annotations

import os
from pathlib import Path

from tlang.errors import error
from tlang.source import Source, Span

#: The folder of the package, with its programs in `std`.
PACKAGE = Path(__file__).parents[1]


def imported(path: str, importer: str | None) -> str:
    """Where a file lies that a program imports: relative to it, or in the package if it begins with `std/`.

    `importer` is the path of the program, None for text without a file: then of the working directory.
    """
    return str(PACKAGE / path) if path.startswith("std/") else beside(path, importer)


def beside(path: str, program: str | None) -> str:
    """Where a file lies that a program names: relative to its own path, or to the working directory."""
    return os.path.join(os.path.dirname(program), path) if program is not None else path


def read_source(shown: str, path: str, span: Span | None = None) -> Source:
    """The text of a program file; a file that cannot be read, or is not UTF-8, is a coded error."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError:
        raise error("D190", span, path=shown) from None
    except IsADirectoryError:
        raise error("D191", span, path=shown, why="it is a folder") from None
    except (OSError, ValueError) as e:
        raise error("D191", span, path=shown, why=getattr(e, "strerror", None) or str(e)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise error("D192", span, path=shown, line=line) from None
    stem = os.path.splitext(os.path.basename(path))[0]
    return Source(shown, text, os.path.abspath(path), stem)
