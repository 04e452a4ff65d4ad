"""Values made to fit declared types: literals adapt, others are cast safely, sizes are unified."""

from __future__ import annotations

from typing import Any

from tlang.elaborate.reporting import Reporter
from tlang.elaborate.values import convert_number, short
from tlang.errors import Label, error
from tlang.graph.node import Node
from tlang.source import Span
from tlang.types import DType, Tensor, can_cast_safely


class Fitter(Reporter):
    """Fits nodes of its graph to types."""

    def adapt(self, x: Node, dtype: DType, span: Span) -> Node:
        """The node if it has exactly `dtype`; literals adapt; anything else is an error."""
        if x.dtype == dtype and not x.type.weak:
            return x
        if x.type.weak or x.op.name == "const":
            return self.convert(x, dtype, span)
        safe = can_cast_safely(x.dtype, dtype)
        raise error(
            "T105",
            span,
            wanted=dtype,
            found=x.type,
            hint=f"write `{dtype}({short(span.text)})`" + ("" if safe else ", which may lose digits"),
        )

    def convert(self, x: Node, dtype: DType, span: Span) -> Node:
        """A value that comes in: literals and lists if exactly representable, others by safe casting."""
        if x.op.name == "const":
            value = self.convert_literal(x.value, dtype, span)
            return self.graph.const(value, Tensor(dtype, x.type.shape), span)
        if x.type.weak:
            if x.dtype.is_inexact and not dtype.is_inexact:
                raise error("T105", span, wanted=dtype, found=x.type.strong())
            return x.cast(dtype)
        if x.dtype == dtype:
            return x
        if not can_cast_safely(x.dtype, dtype):
            raise error(
                "T106", span, found=x.dtype, wanted=dtype, hint=f"write `{dtype}({short(span.text)})`"
            )
        return x.cast(dtype)

    def convert_literal(self, value: Any, dtype: DType, span: Span) -> Any:
        """Literals, nested in tuples, as values of `dtype`: integers in range, integral, floats rounded."""
        if isinstance(value, tuple):
            return tuple(self.convert_literal(v, dtype, span) for v in value)
        return convert_number(value, dtype, span)

    def fit(self, x: Node, kind: Tensor, span: Span, what: str, *labels: Label) -> None:
        """Unifies a node's shape with a type's; sizes that differ are an error that names both."""
        if x.rank != kind.rank:
            raise error(
                "T107", span, what=what, wanted=kind.declared(), found=self.type_text(x), labels=labels
            )
        for axis, (have, want) in enumerate(zip(x.type.shape, kind.shape, strict=True)):
            if not self.graph.solver.unify(have, want):
                have, want = (d if d.alias else self.graph.solver.resolve(d) for d in (have, want))
                raise error(
                    "T104",
                    span,
                    what=what,
                    axis=axis,
                    wanted=f"{want.alias} = {want.const}" if want.alias else want,
                    found=have.alias or have,
                    labels=labels,
                    notes=[f"wanted {kind.declared()}", f"found  {self.type_text(x)}"],
                )
