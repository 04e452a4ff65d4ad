"""Which backend computes what: NumPy, or code that is compiled for the processor or for a GPU.

Whatever computes a function is a :class:`tlang.interpret.Tape`. The backend "numpy" has no other, "cpu" has
compiled ones, and with "auto" NumPy answers until a tier says that compiled code is worth it. What "cuda"
computes stays on the device until somebody looks at it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlang.graph.node import Function, Node, toposort
from tlang.interpret import Draw, HostTape, Leaf, Tape, Watch
from tlang.run import rng
from tlang.run.store import Store

if TYPE_CHECKING:
    from tlang.run.build import CompiledTape
    from tlang.run.tiers import Tier

Array = Any


class Backends:
    """What computes the functions and the loops of a program, made when first used.

    `epoch` counts how often all of it was forgotten; `watch` sees every operation of the interpreter. With
    `device_arrays` callers from Python get what lies on the device as it is.
    """

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.threads = 1
        self.watch: Watch | None = None
        self.device_arrays = False
        self.epoch = np.zeros(1, np.int64)
        self._calls: dict[Function, Tape] = {}
        self._compiled: dict[Function, CompiledTape] = {}
        self._loop_tapes: dict[object, Tape] = {}
        self._tiers: dict[object, Tier[Any]] = {}
        self.name = ""
        self.use(name)

    # ------------------------------------------------------------ choices

    def use(self, name: str) -> None:
        """Lets another backend compute from now on. Raises a coded error for "cuda" without a GPU."""
        if name == "cuda":
            from tlang.run.cuda.gpu import require

            require()
        self.name = name
        self.forget()

    def use_threads(self, count: int) -> None:
        """Lets compiled loops and calls use some threads, and BLAS as many; with one BLAS keeps its own."""
        self.threads = count
        if count > 1:
            from tlang.run.blas import set_threads

            set_threads(count)

    def check_finite(self) -> None:
        """Lets the interpreter compute, and stop where a NaN or an infinity is made of finite numbers."""
        from tlang.run.finite import check_finite

        self.name, self.watch = "numpy", check_finite

    def forget(self) -> None:
        """Drops what was made for functions: they may mean something else now."""
        self.epoch += 1
        self._calls.clear()
        self._compiled.clear()
        self._tiers.clear()

    def forget_command(self) -> None:
        """Drops what was made for the loops of one command."""
        self._loop_tapes.clear()
        self._tiers = {k: t for k, t in self._tiers.items() if not isinstance(k, int)}

    # ------------------------------------------------------------ functions

    def compute(self, function: Function, tape: Tape, leaf: Leaf, drawn: Draw) -> list[Array]:
        """The roots of a function by its tape; from time to time another one takes over for the next call."""
        if self.name != "auto" or function in self._compiled:
            return tape.run(leaf, drawn, watch=self.watch)
        begin = time.perf_counter()
        results = tape.run(leaf, drawn, watch=self.watch)
        self._look(function, time.perf_counter() - begin)
        return results

    def tape(self, function: Function) -> Tape:
        """What computes a function's calls."""
        tape = self._calls.get(function)
        if tape is None:
            if self.name == "cpu":
                tape = self.compiled(function)
            elif self.name == "cuda":
                tape = self._kind_of_tape()(*self.to_compile(function))
            else:
                tape = Tape(function.roots(), _leaves_of(function))
            self._calls[function] = tape
        return tape

    def compiled(self, function: Function) -> CompiledTape:
        """The compiled form of a function's calls."""
        from tlang.run.build import CompiledTape

        tape = self._compiled.get(function)
        if tape is None:
            tape = CompiledTape(*self.to_compile(function), self.threads)
            if tape.is_built:
                self._compiled[function] = tape
        return tape

    def to_compile(self, function: Function) -> tuple[list[Node], list[Node], list[Node] | None, set[str]]:
        """What a function's compiled form computes: roots, reads, roots that are state, Philox states.

        Draws that kernels make need no root of their own, since their state moves on by a count; but one
        whose parameters are to be examined does, if nothing else needs it.
        """
        from tlang.plan.draws import examined, is_native, may_fail

        philox = {
            n.attr("state")
            for n in toposort(function.roots())
            if n.op.name == "draw" and isinstance(self.store.streams.state(n.attr("state")), rng.PhiloxState)
        }
        reached = examined([*function.outputs, *function.updates.values()])
        drawn = [
            n
            for n in function.draws
            if n.attr("state") not in philox or not is_native(n) or (may_fail(n) and n not in reached)
        ]
        state = [*function.updates.values(), *drawn]
        return (
            [*function.outputs, *state],
            _leaves_of(function),
            state if function.has_effects else None,
            philox,
        )

    def plain(self, roots: Sequence[Node], reads: Sequence[Node] = ()) -> Tape:
        """What NumPy computes of an expression outside of functions."""
        return HostTape(roots, reads) if self.name == "cuda" else Tape(roots, reads)

    def taken(self, value: Any) -> Any:
        """A value from Python: what a library of the GPU has on the device stays there with "cuda"."""
        if self.name != "cuda" or hasattr(value, "host") or not hasattr(value, "__cuda_array_interface__"):
            return value
        from tlang.run.cuda.resident import wrapped

        return wrapped(value)

    def given(self, value: Array) -> Array:
        """An argument of a caller who may write to it after the call."""
        if self.name != "cuda":
            return value
        from tlang.run.cuda.resident import Resident, resident

        return value if isinstance(value, Resident) else resident(value, np.asarray(value).dtype, fixed=False)

    def fast(self, function: Function, args: Mapping[str, Array]) -> Any:
        """A quick form of calls like one that has been made; None where there is none."""
        if function not in self._compiled:
            return None
        from tlang.run.build import Unfit
        from tlang.run.fast import fast_call

        try:
            return fast_call(self.store, self.tape(function), self.epoch, function, args)
        except Unfit:
            return None

    def _look(self, function: Function, seconds: float) -> None:
        """Lets the compiled form of a function take over when its calls have taken long enough."""

        def make() -> CompiledTape | None:
            tape = self.compiled(function)
            return tape if tape.segments or tape.inner else None

        tier = self.tier(function, make)
        if tier is not None and (made := tier.look(seconds)) is not None:
            self._calls[function] = made

    # ------------------------------------------------------------ loops

    def loop_tape(
        self, key: object, roots: Sequence[Node], reads: Sequence[Node], state: Sequence[Node] | None
    ) -> Tape:
        """What computes an expression inside a compiled loop."""
        tape = self._loop_tapes.get(key)
        if tape is None:
            tape = self._kind_of_tape()(roots, reads, state)
            if tape.is_built:
                self._loop_tapes[key] = tape
        return tape

    def _kind_of_tape(self) -> type[CompiledTape]:
        if self.name == "cuda":
            from tlang.run.cuda.tape import DeviceTape

            return DeviceTape
        from tlang.run.build import CompiledTape

        return CompiledTape

    def tier(self, key: object, make: Callable[[], Any]) -> Tier[Any] | None:
        """What watches a loop, or the calls of a function, to let compiled code take over."""
        if self.name == "numpy":
            return None
        found = self._tiers.get(key)
        if found is None:
            from tlang.run.tiers import Tier

            found = self._tiers[key] = Tier(make, at_once=self.name in ("cpu", "cuda"))
        found.renew(make)
        return found


def _leaves_of(function: Function) -> list[Node]:
    return [*function.reads, *(p.node for p in function.params)]
