"""What generated code calls and Numba lacks: BLAS, and threads that wait for each other."""

from __future__ import annotations

import platform
import time
from functools import cache
from typing import Any

#: So often a waiting thread looks before it lets others run.
_SPINS = 4096


@cache
def externals() -> dict[str, Any]:
    """The names that a module text finds beside `math`, `np`, `njit` and pointers."""
    return {**_blas(), "barrier": _barrier(), "invoke": _invoke(), "clock_gettime": _clock()}


def _clock() -> Any:
    """`clock_gettime(p)`: the seconds and nanoseconds of a steady clock go to the two words at `p`."""
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.core.extending import intrinsic

    kinds: Any = types
    insert: Any = cgutils.get_or_insert_function
    small, word = ir.IntType(32), ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(small, [small, word])
        function = insert(builder.module, kind, "clock_gettime")
        builder.call(function, [small(time.CLOCK_MONOTONIC), arguments[0]])
        return context.get_dummy_value()

    def clock_gettime(typing_context: Any, place: Any) -> Any:
        return kinds.void(kinds.int64), generate

    return intrinsic(clock_gettime)


def _blas() -> dict[str, Any]:
    """`cblas_?gemm`, with addresses in the place of pointers."""
    from numba.core import types

    kinds: Any = types
    long, small = kinds.int64, kinds.int32
    made = {}
    for dtype, symbol in (("float64", "tlang_dgemm"), ("float32", "tlang_sgemm")):
        real = getattr(kinds, dtype)
        sizes, pair = (long, long, long), (long, long)
        signature = kinds.void(small, small, small, *sizes, real, *pair, *pair, real, *pair)
        made[f"cblas_{dtype}"] = kinds.ExternalFunction(symbol, signature)
    return made


def _invoke() -> Any:
    """`invoke(entry, table, tid, nt, last)`: calls compiled code by its address."""
    from llvmlite import ir
    from numba.core import types
    from numba.core.extending import intrinsic

    kinds: Any = types
    word = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(word, [word] * 4)
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    def invoke(typing_context: Any, entry: Any, table: Any, tid: Any, nt: Any, last: Any) -> Any:
        return kinds.int64(*[kinds.int64] * 5), generate

    return intrinsic(invoke)


def _barrier() -> Any:
    """`barrier(t, n)`: returns when `n` threads have called it. `t[0]` counts them, `t[1]` the times."""
    from llvmlite import ir
    from numba.core import cgutils, types
    from numba.core.extending import intrinsic

    kinds: Any = types
    insert: Any = cgutils.get_or_insert_function
    word = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter, threads = arguments
        turn = builder.gep(counter, [word(1)], source_etype=word)
        function = builder.function
        before = builder.load_atomic(turn, "acquire", 8, typ=word)
        arrived = builder.atomic_rmw("add", counter, word(1), "acq_rel")
        last = builder.icmp_signed("==", builder.add(arrived, word(1)), threads)
        release, spin, again, rest, done = (
            function.append_basic_block(name) for name in ("release", "spin", "again", "rest", "done")
        )
        start = builder.block
        builder.cbranch(last, release, spin)
        builder.position_at_end(release)
        builder.store_atomic(word(0), counter, "monotonic", 8)
        builder.store_atomic(builder.add(before, word(1)), turn, "release", 8)
        builder.branch(done)
        builder.position_at_end(spin)
        count = builder.phi(word)
        now = builder.load_atomic(turn, "acquire", 8, typ=word)
        builder.cbranch(builder.icmp_signed("!=", now, before), done, again)
        builder.position_at_end(again)
        if platform.machine() in ("x86_64", "AMD64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(insert(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        more = builder.add(count, word(1))
        builder.cbranch(builder.icmp_signed("==", builder.and_(more, word(_SPINS - 1)), word(0)), rest, spin)
        builder.position_at_end(rest)
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(insert(builder.module, kind, "sched_yield"), [])
        builder.branch(spin)
        count.add_incoming(word(0), start)
        count.add_incoming(more, again)
        count.add_incoming(more, rest)
        builder.position_at_end(done)
        return context.get_dummy_value()

    def barrier(typing_context: Any, counter: Any, threads: Any) -> Any:
        return kinds.void(kinds.CPointer(kinds.int64), kinds.int64), generate

    return intrinsic(barrier)
