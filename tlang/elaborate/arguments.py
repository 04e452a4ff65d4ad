"""Arguments bound to parameters, as Python binds them."""

from __future__ import annotations

from collections.abc import Sequence

from tlang.errors import Label, did_you_mean, error
from tlang.syntax import ast


def bind(e: ast.Call, what: str, params: Sequence[str], required: Sequence[str]) -> dict[str, ast.Arg]:
    """The arguments by parameter name, as Python binds them; what does not fit is an error."""
    out: dict[str, ast.Arg] = {}
    positional = iter(params)
    for arg in e.args:
        if arg.name is None:
            name = next(positional, None)
            if name is None:
                raise error("F102", arg.span, what=what, count=len(params), names=listed(params))
        else:
            name = arg.name.id
            if name not in params:
                near = did_you_mean(name, params)
                hint = f"did you mean `{near}`?" if near else f"its parameters are {listed(params)}"
                raise error("F103", arg.name.span, what=what, name=name, hint=hint)
        if name in out:
            raise error("F104", arg.span, what=what, name=name, labels=[Label(out[name].span, "first here")])
        out[name] = arg
    missing = [p for p in required if p not in out]
    if missing:
        raise error("F106", e.span, what=what, names=listed(missing))
    return out


def listed(names: Sequence[str]) -> str:
    """Names for a message."""
    return ", ".join(f"`{n}`" for n in names) or "none"
