"""The pages of `grammar/`, which the wheel takes in beside the code."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path


@cache
def page(name: str) -> str:
    """The text of a page such as "errors.md"."""
    package = Path(__file__).parents[1]
    inside = package / "grammar" / name
    return (inside if inside.exists() else package.parent / "grammar" / name).read_text(encoding="utf-8")


@cache
def sections(name: str, level: int = 2) -> dict[str, str]:
    """The sections of a page by the first word of their heading, in order, without the headings."""
    parts = re.split(rf"^{'#' * level} +(.*)$", page(name), flags=re.MULTILINE)
    found = {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        body = re.split(rf"^#{{1,{level}}} ", body, maxsplit=1, flags=re.MULTILINE)[0]
        found[title.split()[0].strip("`:")] = body.strip()
    return found


def plain(text: str) -> str:
    """A section as a terminal shows it: blocks indented, links and marks left out."""
    out = []
    inside = False
    for line in text.split("\n"):
        if line.startswith("```"):
            inside = not inside
            continue
        if inside:
            out.append(f"    {line}".rstrip())
        else:
            line = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line)
            out.append(line.replace("**", "").replace("<br>", ""))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()
