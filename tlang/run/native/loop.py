"""A loop that is made, run, and what the program has after it.

A :class:`NativeLoop` is made for arrays of certain sizes, after one iteration has shown them. Where something
fails, it stops before the operation that did, and the interpreter runs that line of the body again, to say
what is wrong. So everything is then computed in every iteration, as it is there.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tlang.elaborate import plans
from tlang.emit import driver
from tlang.graph.node import Function
from tlang.run import interrupts
from tlang.run.build import address, build
from tlang.run.evaluation import Evaluator
from tlang.run.native.calls import Calls
from tlang.run.native.code import Code
from tlang.run.native.lines import Lines, changed
from tlang.run.native.memory import Foreign, Memory, Name
from tlang.run.rng import PhiloxState, State

Array = Any
#: So long a loop stays in compiled code: then Python looks for Ctrl-C and shows progress.
SLICE = 0.05


class NativeLoop:
    """The iterations of a loop from the second on: of lines, or of calls of a function with `args`.

    `execute` runs a line as usual, and `write` receives what lines print. `counter` is the name that has the
    number of the iteration, and that number. `moving` says of names of batches which array is divided, where
    the first batch begins, and by how many rows it moves in each iteration. `given` are the results of a
    function. Raises `Foreign` where Python is needed.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        body: Sequence[plans.Plan] | Function,
        *,
        execute: Callable[[plans.Plan], None],
        write: Callable[[str], None],
        threads: int = 1,
        counter: tuple[str, int] | None = None,
        moving: Mapping[str, tuple[Array, int, int]] | None = None,
        args: Mapping[str, Array] | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.body = body
        self.execute = execute
        self.threads = threads
        self.counter = counter
        self.args = dict(args or {})
        self.given: list[str] = []
        self.last = 0
        self.code = Code()
        self.memory = Memory(evaluator.store, self._changing(moving or {}), moving or {})
        self.calls = Calls(evaluator, self.memory, self.code, threads)
        if isinstance(body, Function):
            self.lines = Lines(self.calls, (), write)
            held = {name: self.memory.hold(array) for name, array in self.args.items()}
            self.given = self.calls.call(body, held, False)
        else:
            self.lines = Lines(self.calls, body, write)
        if self.code.can_fail:
            if self.lines.several_effects:
                raise Foreign("a line with several calls may fail")
            self.code.want_all()
        self._advance()
        self.program = self.code.program()
        self.drive = build(driver.TEXT, driver.ENTRY, signature=driver.SIGNATURE)

    def _changing(self, moving: Mapping[str, object]) -> set[Name]:
        """The variables that may change from one iteration to the next."""
        if isinstance(self.body, Function):
            return set()
        names: set[Name] = {("value", name) for name in moving}
        if self.counter is not None:
            names.add(("value", self.counter[0]))
        return names | changed(self.evaluator.program, self.body)

    def _advance(self) -> None:
        """The last operations of an iteration: the counter and the batches move."""
        variables = self.memory.variables
        if self.counter is not None and ("value", self.counter[0]) in variables:
            self.code.emit(driver.ADD, address(variables["value", self.counter[0]].arrays[0]), 1)
        for name, (base, _, step) in self.memory.moving.items():
            if step and ("value", name) in variables:
                bytes_a_row = base.strides[0] if base.shape[0] > 1 else base.nbytes
                self.code.emit(driver.ADD, variables["value", name].cell, step * bytes_a_row)

    # ------------------------------------------------------------ running

    def run(self, count: int, progress: Callable[[int], None] | None = None) -> int:
        """Iterates `count` times; on an interrupt too the state is that after a whole iteration."""
        host = self.code.host
        step, spent, failed = 1, 0.0, 0
        try:
            while (done := self.done) < count:
                if host.interrupted:
                    raise KeyboardInterrupt
                step = min(step, count - done)
                start = time.perf_counter()
                self.last = count
                failed = self.drive_all(step, done + step == count)
                if failed:
                    break
                spent = time.perf_counter() - start
                step = max(
                    1, min(2 * step if spent < SLICE / 2 else step, int(step * SLICE / max(spent, 1e-9)))
                )
                if progress is not None:
                    progress(self.done)
            if host.interrupted:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            # for what is computed last
            if self.done < count and not self.code.can_fail and spent < 2 * SLICE:
                self.last = self.done + 1
                self.drive_all(1, True)
            raise
        finally:
            with interrupts.held():
                self._publish(self.done, bool(failed))
        if failed:
            self._explain(failed - 1)
        return self.done

    @property
    def done(self) -> int:
        """How many iterations are whole."""
        return int(self.program[driver.DONE])

    def drive_all(self, iterations: int, final: bool) -> int:
        """Some iterations, on all threads; the number of the operation that failed, and one.

        An interrupt waits, since threads wait for each other.
        """
        with interrupts.held():
            return self._drive_all(iterations, final)

    def _drive_all(self, iterations: int, final: bool) -> int:
        arguments = (address(self.program), len(self.code), iterations, int(final))
        others = [
            threading.Thread(target=self.drive, args=(*arguments, tid, self.threads))
            for tid in range(1, self.threads)
        ]
        for t in others:
            t.start()
        failed: int = self.drive(*arguments, 0, self.threads)
        for t in others:
            t.join()
        return failed

    def _explain(self, operation: int) -> None:
        """Raises the error of the line that an operation belongs to."""
        reason = self.code.host.error
        if operation in self.lines.prints and reason is not None:
            raise reason
        if isinstance(self.body, Function):
            self.evaluator.call(self.body, self.args)
        else:
            self.execute(self.body[bisect.bisect_right(self.lines.starts, operation) - 1])
        raise reason or AssertionError("compiled code failed where the interpreter does not")

    # ------------------------------------------------------------ what it leaves behind

    def _publish(self, done: int, failed: bool) -> None:
        """The store gets what the loop has computed: all shared values at once, then the values."""
        if not (done or failed):
            return
        store, memory, lines = self.evaluator.store, self.memory, self.lines
        fresh = {key: memory.current(("shared", key)) for key in self.calls.updated}
        after: dict[str, State] = {key: PhiloxState(*memory.words(key)) for key in self.calls.streams}
        store.commit({**store.shared, **fresh}, {**store.streams.states, **after})
        if self.done == self.last or self.code.can_fail:
            for name, (source, target) in lines.sets.items():
                store.store_value(name, memory.result(source), target.type, target.span)
            for target, fields, sources in lines.records:
                store.store_record(target, fields, [memory.result(s) for s in sources])
        if done:
            store.values.update({name: np.int64(last) for name, last in lines.counters.items()})
            store.values.update(lines.last_batches)
        if self.counter is not None:
            store.values[self.counter[0]] = np.int64(self.counter[1] + done - (not failed))
        if failed:
            for name, (base, at, step) in memory.moving.items():
                store.values[name] = base[at + step * done : at + step * (done + 1)]

    def results_now(self) -> tuple[Array, ...]:
        """The results of the function after the iterations so far."""
        return tuple(self.memory.result(r) for r in self.given)

    def shared_now(self) -> dict[str, Any]:
        """The shared numbers that the loop changes, as they are after the iterations so far."""
        numbers = [k for k in self.calls.updated if not self.memory.variables["shared", k].shape]
        return {key: self.memory.current(("shared", key)) for key in numbers}
