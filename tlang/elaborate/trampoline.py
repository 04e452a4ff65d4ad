"""Recursion without a stack, for programs that are deep."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


def trampoline(task: Generator[Any, Any, Any]) -> Any:
    """Runs generators that yield generators and receive their results: recursion without a stack."""
    stack = [task]
    result: Any = None
    while stack:
        try:
            child = stack[-1].send(result)
        except StopIteration as stop:
            stack.pop()
            result = stop.value
        else:
            stack.append(child)
            result = None
    return result
