"""What a user sees of a bug of tlang: that it is one, and how to report it."""

from __future__ import annotations

import os
import traceback


def bug_report(e: BaseException) -> str:
    """The text for an exception that should not have come out; with TLANG_DEBUG where it happened."""
    text = f"{type(e).__name__}: {e}".split("\n")[0][:200]
    lines = [
        f"internal error: {text}",
        "  This is a bug of tlang, not of your program. Please report it with the program.",
    ]
    if os.environ.get("TLANG_DEBUG"):
        lines.append("".join(traceback.format_exception(e)).rstrip("\n"))
    else:
        lines.append("  TLANG_DEBUG=1 shows where it happened.")
    return "\n".join(lines)
