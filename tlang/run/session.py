"""A session: a program with its state, the calls of its functions, and the run of its commands.

The only place with effects. A call is a transaction: outputs and new values are computed first,
then everything is stored; an error leaves shared values and streams as they were.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tlang.elaborate import plans
from tlang.elaborate.checking import check_commands
from tlang.elaborate.commands import Commands
from tlang.elaborate.plans import Evaluation
from tlang.elaborate.program import Host, Program
from tlang.elaborate.scope import (
    RandomDef,
    RecordType,
    SharedDef,
    StreamDef,
    Unit,
    ValueDef,
    is_declaration,
)
from tlang.elaborate.values import Dynamic, StateRef, Text
from tlang.errors import Label, TlangError, error, join_errors, labelled
from tlang.graph.node import Function, Node, Param, toposort
from tlang.interpret import Tape, Watch, bind_sizes, constant
from tlang.run import interrupts, rng
from tlang.run.iteration import Iteration
from tlang.run.state import Streams, draw, state_words
from tlang.run.text import format_value
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.types import FROM_NUMPY, Dim, Tensor

if TYPE_CHECKING:
    from tlang.run.bench import Measurement
    from tlang.run.build import CompiledTape
    from tlang.run.tiers import Tier

Array = Any
Results = tuple[Array, ...]


class Progress(Protocol):
    """Who is told how far the outermost loops are."""

    def begin(self) -> None:
        """A loop begins."""

    def advance(self, done: int, total: int, values: Callable[[], Mapping[str, Any]]) -> None:
        """So many of its iterations are done; `values` gives the numbers that it has changed by now."""

    def end(self) -> None:
        """It is over."""


@dataclass(frozen=True)
class Snapshot:
    """The definitions of the main file, and all shared values, states and seeds of streams."""

    definitions: tuple[dict[str, Any], ...]
    shared: Mapping[str, Array]
    states: Mapping[str, rng.State]
    seeds: Mapping[str, int]


class Session(Host):
    """One running program. `write` receives what `print` and bare expressions show."""

    def __init__(
        self,
        source: Source,
        *,
        seed: int = 0,
        unused: str = "error",
        backend: str = "auto",
        write: Callable[[str], None] | None = None,
    ) -> None:
        self.program = Program(Unit(source), self, unused)
        self.unit = self.program.main
        self.write = write if write is not None else lambda text: print(text, flush=True)
        self.show: Callable[[Sequence[Any], Sequence[str] | None], None] = self._show
        self.shared: dict[str, Array] = {}
        self.values: dict[str, Any] = {}
        self.streams = Streams(self.program, seed)
        self._tapes: dict[int, tuple[object, list[Tape]]] = {}
        self._calls: dict[Function, Tape] = {}
        self._loop_tapes: dict[object, Tape] = {}
        self.backend = backend
        self.threads = 1
        self.epoch = np.zeros(1, np.int64)
        self.bench_seconds = 0.5
        self.measurements: list[Measurement] = []
        self.why_slow = ""
        self.watch: Watch | None = None
        self.progress: Progress | None = None
        self._loops = Iteration(self)
        self._compiled: dict[Function, CompiledTape] = {}
        self._tiers: dict[object, Tier[Any]] = {}
        self._loaded = 0
        self._checking = False
        self.last: Any = None

    # ------------------------------------------------------------ files

    def resolve(self, path: str, unit: Unit | None = None) -> str:
        """A path of a program: relative to its source file, or to the working directory without one."""
        base = (unit or self.unit).source.path
        return os.path.join(os.path.dirname(base), path) if base is not None else path

    def read_source(self, path: str, importer: Unit, span: Span) -> Source:
        """The text of an imported file; what begins with `std/` lies in the package."""
        from tlang.run.files import imported, read_source

        return read_source(path, imported(path, importer.source.path), span)

    def load_value(self, path: str, key: str | None, span: Span, unit: Unit) -> ValueDef:
        """Reads a data file; the value gets a name of its own. A check does not open files."""
        if self._checking:
            raise Dynamic
        from tlang.run import data

        array = data.read(self.resolve(path, unit), key, span, shown=path)
        self._loaded += 1
        name = f"%load{self._loaded}"
        self.values[name] = array
        return ValueDef(name, span, type_of(array))

    def holds_state(self, path: str, unit: Unit) -> bool:
        """Whether a file holds the state of a program. A check does not open files."""
        if self._checking:
            raise Dynamic
        from tlang.run import data

        return bool(data.note_of(self.resolve(path, unit)))

    def save_state(self, path: str, span: Span | None = None, shown: str | None = None) -> None:
        """Writes all shared values and the states of all streams to a file."""
        from tlang.run import data
        from tlang.run.checkpoint import checkpoint, to_arrays

        arrays, note = to_arrays(checkpoint(self, span))
        data.write(path, arrays, span, shown=shown, note=note)

    def load_state(self, path: str, span: Span | None = None, shown: str | None = None) -> None:
        """Gives the program the state that a file holds, if it is one of this program; all at once."""
        from tlang.run import data
        from tlang.run.checkpoint import Unfit, from_arrays, require_fit

        arrays, note = data.read_all(path, span, shown=shown)
        if not note:
            raise error("D120", span, path=shown or path, what="it holds arrays alone")
        try:
            found = from_arrays(arrays, note)
            require_fit(self, found)
        except Unfit as e:
            raise error("D120", span, path=shown or path, what=str(e)) from None
        streams = self.streams.restored(found.states, found.seeds, found.default_seed)
        self.shared, self.streams = {**self.shared, **found.shared}, streams

    # ------------------------------------------------------------ programs

    def declare(self, tree: ast.Program, replace: bool = False) -> list[ast.Command | ast.SharedDecl]:
        """Enters a program's declarations and checks all of it; returns the commands to run.

        With `replace` new definitions replace old ones of their names; random variables, and shared values
        with their lines, start anew. An error leaves the program as it was.
        """
        before = self.snapshot()
        try:
            commands, errors = self.enter(tree, replace)
        except BaseException:  # an interrupt, too, leaves nothing behind
            self.restore(before)
            raise
        if errors:
            self.restore(before)
            raise join_errors(errors)
        if replace:
            self._start_anew(before.definitions[0])
        return commands

    def snapshot(self) -> Snapshot:
        """What `restore` needs to make the main file's definitions and their state what they are now."""
        streams = self.streams
        return Snapshot(self.unit.snapshot(), self.shared, dict(streams.states), dict(streams.seeds))

    def restore(self, before: Snapshot) -> None:
        """Undoes definitions since a snapshot; those that come back have their state again."""
        now, old = dict(self.unit.scope.names), before.definitions[0]
        self.unit.restore(before.definitions)
        changed = {d.key for name, d in now.items() if old.get(name) is not d and hasattr(d, "key")}
        self.shared = _kept(self.shared, before.shared, changed)
        self.streams.states = _kept(self.streams.states, before.states, changed)
        self.streams.seeds = _kept(self.streams.seeds, before.seeds, changed)
        self.program.forget()
        self._forget_calls()

    def _start_anew(self, before: Mapping[str, Any]) -> None:
        """Forgets the streams of names that have another definition than before."""
        names = self.unit.scope.names
        fresh = [d for name, d in names.items() if before.get(name) is not d]
        keys = {d.key for d in fresh if isinstance(d, RandomDef | SharedDef)}
        streams = [d for d in fresh if isinstance(d, StreamDef)]
        for s in streams:
            self.streams.seeds.pop(s.key, None)
        if streams:
            keys |= {
                d.key
                for d in names.values()
                if isinstance(d, RandomDef) and self.program.stream_of(d) in streams
            }
        for key in keys:
            self.streams.states.pop(key, None)

    def enter(
        self, tree: ast.Program, replace: bool = False
    ) -> tuple[list[ast.Command | ast.SharedDecl], list[TlangError]]:
        """Enters declarations; returns the commands, and all errors of the whole program."""
        collected = self.program.add(tree, self.unit, replace)
        errors = list(collected.errors)
        declares = any(map(is_declaration, tree.statements))
        self._checking = True
        try:
            if declares:
                errors += [e for u in self.program.all_units() for e in self.program.check_definitions(u)]
            errors += check_commands(self.program, collected.commands)
        finally:
            self._checking = False
        if not declares:
            return collected.commands, errors
        self._forget_calls()
        for unit in self.program.all_units():
            if unit is not self.unit:
                self._initialise(unit, strict=not errors)
        return collected.commands, errors

    def without_files(self, action: Callable[[], Any]) -> Any:
        """The result of an action for which no data file is opened: a `load` in it raises `Dynamic`."""
        before, self._checking = self._checking, True
        try:
            return action()
        finally:
            self._checking = before

    def use_threads(self, count: int) -> None:
        """Lets compiled loops and calls use some threads, and BLAS as many; with one BLAS keeps its own."""
        self.threads = count
        if count > 1:
            from tlang.run.blas import set_threads

            set_threads(count)

    def check_finite(self) -> None:
        """Lets the interpreter compute, and stop where a NaN or an infinity is made of finite numbers."""
        from tlang.run.finite import check_finite

        self.backend, self.watch = "numpy", check_finite

    def set_backend(self, backend: str) -> None:
        """Lets another backend compute from now on."""
        self.backend = backend
        self._forget_calls()

    def try_initialise(self, c: ast.Command | ast.SharedDecl) -> None:
        """Runs the line of a shared value where that needs no command that was skipped."""
        if isinstance(c, ast.SharedDecl):
            with contextlib.suppress(TlangError):
                self.command(c)

    def _forget_calls(self) -> None:
        self.epoch += 1
        self._calls.clear()
        self._compiled.clear()
        self._tiers.clear()

    def forget_tapes(self) -> None:
        """Drops what was made for the expressions of one command."""
        self._tapes.clear()
        self._loop_tapes.clear()
        self._tiers = {k: t for k, t in self._tiers.items() if not isinstance(k, int)}

    def value_of(self, name: str) -> Any:
        """A value made by `set`: an array, a state, or a named tuple of a record's fields."""
        kind = self.unit.values[name].type
        if isinstance(kind, RecordType):
            items = [self.values[f"{name}.{f}"] for f in kind.fields]
            return namedtuple(name, kind.fields, rename=True)(*items)
        return self.values[name]

    def store_shared(self, found: SharedDef, value: Array) -> None:
        """Stores a shared value whose dtype and rank fit; its sizes are checked."""
        self._check_declared((found.type, value, found.name, found.span))
        self.shared = {**self.shared, found.key: value}

    def _initialise(self, unit: Unit, strict: bool) -> None:
        """The shared values of an imported file: its commands do not run, its declarations do.

        In a program with errors, what can have its value gets it (`strict` false).
        """
        for found in unit.scope.names.values():
            if isinstance(found, SharedDef) and found.key not in self.shared:
                with contextlib.suppress(*(() if strict else (TlangError,))):
                    value = Commands(self.program).initial(found)
                    self._store_initial(found, self.evaluate(value)[0])

    def run(self, commands: Sequence[ast.Command | ast.SharedDecl]) -> None:
        """Runs commands in order."""
        for c in commands:
            self.command(c)

    def command(self, c: ast.Command | ast.SharedDecl) -> None:
        """Plans one command against the values that exist by now, and executes it."""
        known = dict(self.unit.values)
        try:
            self.execute(Commands(self.program).plan(c))
        finally:
            self.forget_tapes()
            self._settle_types(known)

    def _settle_types(self, known: dict[str, ValueDef]) -> None:
        """After a command, values have the types of what is stored; what was not stored has none."""
        for name in [n for n in self.unit.values if n not in self.values and not self._is_record(n)]:
            if name in known and name in self.values:
                self.unit.values[name] = known[name]
            else:
                del self.unit.values[name]

    def _is_record(self, name: str) -> bool:
        kind = self.unit.values[name].type
        return isinstance(kind, RecordType) and all(f"{name}.{f}" in self.values for f in kind.fields)

    # ------------------------------------------------------------ functions

    def call(self, function: Function, args: Mapping[str, Array], apart: bool = False) -> Results:
        """One call as a transaction: everything is computed, then state and streams are stored.

        With `apart` what it gives and what it stores share no memory with each other or with what there is,
        for callers who may write to their arrays.
        """
        tape = self.tape(function)
        inputs = {
            p.node.attr("name"): args[p.name] if p.name in args else self.default(p) for p in function.params
        }
        after: dict[str, rng.State] = {}

        def leaf(node: Node) -> Array:
            if node.op.name == "tensor":
                return inputs[node.attr("name")]
            if node.op.name == "stream":
                return state_words(self.streams.state(node.attr("name")))
            return self.shared_value(node.attr("name"), node.span)

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            key = node.attr("state")
            numbers, after[key] = draw(self.streams.state(key), node, params, shape)
            return numbers

        if self.backend == "auto" and function not in self._compiled:
            begin = time.perf_counter()
            results = tape.run(leaf, drawn, watch=self.watch)
            self._watch(function, time.perf_counter() - begin)
        else:
            results = tape.run(leaf, drawn, watch=self.watch)
        if apart:
            given = [v for v in (*inputs.values(), *self.shared.values()) if isinstance(v, np.ndarray)]
            results = _apart(results, [*given, *(v for _, v in tape.constants)])
        count = len(function.outputs)
        updates = dict(zip(function.updates, results[count : count + len(function.updates)], strict=True))
        self._check_sizes(updates, function)
        if function.has_effects:
            moved = {
                key: after[key] if key in after else rng.next_draw(self.streams.state(key))
                for key in function.advances
            }
            self.commit({**self.shared, **updates}, {**self.streams.states, **moved})
        return tuple(results[:count])

    def commit(self, shared: dict[str, Array], states: dict[str, rng.State]) -> None:
        """Stores shared values and states together.

        An interrupt comes before or after both: Python looks for signals at calls and at jumps backward, of
        which there is none between two stores of one statement.
        """
        self.shared, self.streams.states = shared, states

    def tape(self, function: Function) -> Tape:
        """What computes a function's calls."""
        tape = self._calls.get(function)
        if tape is None:
            if self.backend == "cpu":
                tape = self.compiled(function)
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
            if n.op.name == "draw" and isinstance(self.streams.state(n.attr("state")), rng.PhiloxState)
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

    def loop_tape(
        self, key: object, roots: Sequence[Node], reads: Sequence[Node], state: Sequence[Node] | None
    ) -> Tape:
        """What computes an expression inside a compiled loop."""
        from tlang.run.build import CompiledTape

        tape = self._loop_tapes.get(key)
        if tape is None:
            tape = CompiledTape(roots, reads, state)
            if tape.is_built:
                self._loop_tapes[key] = tape
        return tape

    def tier(self, key: object, make: Callable[[], Any]) -> Tier[Any] | None:
        """What watches a loop, or the calls of a function, to let compiled code take over."""
        if self.backend == "numpy":
            return None
        found = self._tiers.get(key)
        if found is None:
            from tlang.run.tiers import Tier

            found = self._tiers[key] = Tier(make, at_once=self.backend == "cpu")
        found.renew(make)
        return found

    def _watch(self, function: Function, seconds: float) -> None:
        """Lets the compiled form of a function take over when its calls have taken long enough."""

        def make() -> CompiledTape | None:
            tape = self.compiled(function)
            return tape if tape.segments or tape.inner else None

        tier = self.tier(function, make)
        if tier is not None and (made := tier.look(seconds)) is not None:
            self._calls[function] = made

    def fast(self, function: Function, args: Mapping[str, Array]) -> Any:
        """A quick form of calls like one that has been made; None where there is none."""
        if function not in self._compiled:
            return None
        from tlang.run.build import Unfit
        from tlang.run.fast import fast_call

        try:
            return fast_call(self, function, args)
        except Unfit:
            return None

    def repeat(self, function: Function, args: Mapping[str, Array], count: int) -> Results | None:
        """Calls of a function with the same arguments; what the last one gave."""

        def make() -> Any:
            from tlang.run.loops import native_loop

            return native_loop(self, function, threads=self.threads, args=args)

        results: Results | None = None
        begin, at = time.perf_counter(), 0
        tier = self.tier(("repeat", function), make) if count > 2 else None
        while at < count:
            last = time.perf_counter()
            results = self.call(function, args, apart=True)
            at += 1
            if tier is not None and count - at > 1:
                now = time.perf_counter()
                loop = tier.look(now - last, (now - begin) / at * (count - at))
                if loop is not None:
                    at += loop.run(count - at)
                    results = tuple(loop.result(r) for r in loop.given)
        return results

    def fixed(self, node: Node, e: Evaluation) -> Array:
        """The value of an expression that nothing changes for now."""

        def leaf(x: Node) -> Array:
            name = x.attr("name")
            return self.shared_value(name, x.span) if x.op.name == "shared" else self.values[name]

        return np.asarray(Tape([node], e.reads).run(leaf, _no_draw)[0])

    def default(self, p: Param) -> Array:
        """The value of a parameter that a call leaves out."""
        assert p.default is not None
        if p.default.op.name == "const":
            return constant(p.default)
        return Tape([p.default]).run(_no_leaf, _no_draw)[0]

    def _check_sizes(self, updates: Mapping[str, Array], function: Function) -> None:
        """Constant sizes of a state stay; only what the run decided can still differ."""
        for key, value in updates.items():
            found = self.shared_def(key)
            kind = found.type
            assert kind is not None
            for axis, (d, size) in enumerate(zip(kind.shape, np.shape(value), strict=True)):
                if d.is_const and d.const != size:
                    raise error(
                        "R131", function.updates[key].span, name=key, axis=axis, found=size, wanted=d.const
                    )

    def shared_def(self, key: str) -> SharedDef:
        """The definition of a shared value."""
        for unit in self.program.all_units():
            if key.startswith(unit.prefix):
                found = unit.scope.names.get(key[len(unit.prefix) :])
                if isinstance(found, SharedDef):
                    return found
        raise AssertionError(key)

    def shared_value(self, key: str, span: Span | None) -> Array:
        """A shared value; before its line has run it has none."""
        try:
            return self.shared[key]
        except KeyError:
            raise error("R150", span, name=key) from None

    # ------------------------------------------------------------ expressions

    def evaluate(self, e: Evaluation) -> list[Any]:
        """The items of an expression; its calls run in order, each a transaction."""
        tapes = self._tapes.get(id(e))
        if tapes is None:
            early = [n for n in e.reads if not (n.op.name == "value" and n.attr("name").startswith("%"))]
            early = [n for n in early if n.op.name != "shared" or n.attr("version") == 0]
            made = [Tape([e.nodes[i] for i in step.args.values()], early) for step in e.steps]
            made.append(Tape([e.nodes[i] for i in e.items if isinstance(i, int)], e.reads))
            tapes = self._tapes[id(e)] = (e, made)
        versions = [self.shared]
        results: dict[str, Array] = {}
        memo: dict[str, tuple[Array, rng.State]] = {}
        before = {key: self.streams.state(key) for key in e.advances}

        def leaf(node: Node) -> Array:
            name = node.attr("name")
            if node.op.name == "shared":
                version = versions[node.attr("version")]
                return version[name] if name in version else self.shared_value(name, node.span)
            if name in results:
                return results[name]
            if name in self.values:
                return self.values[name]
            raise error("R151", node.span, name=name)

        def drawn(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
            variable, key = node.attr("variable"), node.attr("state")
            if variable not in memo:
                state = before[key] if key in before else self.streams.state(key)
                memo[variable] = draw(state, node, params, shape)
                if key in before:
                    self.streams.states[key] = memo[variable][1]
            return memo[variable][0]

        done = 0
        try:
            for step, tape in zip(e.steps, tapes[1], strict=False):
                values = tape.run(leaf, drawn, watch=self.watch)
                function = self.program.function(step.function)
                outputs = self.call_checked(function, dict(zip(step.args, values, strict=True)), step.span)
                done += 1
                results.update(zip(step.results, outputs, strict=True))
                if function.has_effects:
                    versions.append(self.shared)
            final = iter(tapes[1][-1].run(leaf, drawn, watch=self.watch))
        except BaseException:  # an interrupt, too
            if not done:
                self.streams.states = {**self.streams.states, **before}
            raise
        return [
            next(final) if isinstance(i, int) else i.value if isinstance(i, Text) else self.read_state(i)
            for i in e.items
        ]

    def call_checked(self, function: Function, args: Mapping[str, Array], span: Span) -> Results:
        """A call whose errors show the place of the call as well."""
        try:
            return self.call(function, args)
        except TlangError as e:
            raise labelled(e, Label(span, "in this call")) from None

    def read_state(self, ref: StateRef) -> Any:
        """The state, or the seed, that an expression names."""
        found = ref.definition
        if isinstance(found, ValueDef):
            return self.values[found.name]
        assert isinstance(found, RandomDef | StreamDef)
        if ref.what == "seed":
            seed = self.streams.seed_of(found)
            return np.int64(seed) if seed < 2**63 else np.uint64(seed)
        return self.streams.state(found.key)

    # ------------------------------------------------------------ commands

    def execute(self, plan: plans.Plan) -> None:
        """Runs one plan."""
        match plan:
            case plans.SetPlan():
                self._set(plan)
            case plans.EchoPlan(value=e, quiet=quiet):
                items = self.evaluate(e)
                if items and not quiet:
                    self.last = items[0] if e.fields is None else dict(zip(e.fields, items, strict=True))
                    self.show(items, e.fields)
            case plans.PrintPlan(value=e):
                self.write(
                    " ".join(v if isinstance(v, str) else format_value([v], None) for v in self.evaluate(e))
                )
            case plans.CheckPlan(value=e, message=message, span=span):
                if not bool(self.evaluate(e)[0]):
                    raise error(
                        "C101", span, message=f": {message}" if message else "", notes=self._operands(e)
                    )
            case plans.InitPlan(shared=defs, values=values):
                results = [self.evaluate(v)[0] for v in values]
                for found, value in zip(defs, results, strict=True):
                    self._store_initial(found, value)
            case plans.SavePlan():
                from tlang.run import data

                arrays = [_as_array(v) for v in self.evaluate(plan.value)]
                named = list(zip(plan.names, arrays, strict=True))
                data.write(self.resolve(plan.path, plan.unit), named, plan.span, shown=plan.path)
            case plans.StatePlan(path=path, saves=saves, unit=unit, span=span):
                act = self.save_state if saves else self.load_state
                act(self.resolve(path, unit), span, path)
            case plans.BenchPlan(value=e, span=span):
                from tlang.run.bench import measure

                self.measurements.append(measure(self, e, span))
                self.write(str(self.measurements[-1]))
            case _:
                self._loops.run(plan)

    def _show(self, items: Sequence[Any], fields: Sequence[str] | None) -> None:
        self.write(format_value(items, fields))

    def _operands(self, e: Evaluation) -> list[str]:
        """What a failed check compared: the values on both sides, where they are small."""
        item = e.items[0]
        node = e.nodes[item] if isinstance(item, int) else None
        if node is None or e.steps or len(node.inputs) != 2 or any(x.op.name == "draw" for x in _all(node)):
            return []
        pair = Evaluation(node.inputs, (), (0, 1), None, (), e.reads, e.span)
        try:
            values = self.evaluate(pair)
        except TlangError:
            return []
        return [
            f"{side:<5} {format_value([v], None)}"
            for side, v in zip(("left", "right"), values, strict=True)
            if np.size(v) <= 8
        ]

    def _store_initial(self, found: SharedDef, value: Array) -> None:
        if found.decl.type is None:
            actual = type_of(value)
            if found.type != actual:
                found.type = actual
                self.program.forget()
                self._forget_calls()
        self._check_declared((found.type, value, found.name, found.span))
        self.shared = {**self.shared, found.key: np.asarray(value)[()]}

    def _check_declared(self, *stored: tuple[Tensor | None, Array, str, Span]) -> None:
        """Sizes of what is stored together: a dimension that several types name is one size."""
        bind_sizes(
            [
                (name, _leaf(kind, name, span), np.shape(value))
                for kind, value, name, span in stored
                if kind is not None and kind.shape
            ],
            {},
        )

    def _set(self, plan: plans.SetPlan) -> None:
        items = self.evaluate(plan.value)
        if plan.value.fields is not None:
            (target,) = plan.targets
            if target.kind == "value":
                self.store_record(target, plan.value.fields, items)
            return
        tensors = [
            (target.type, item, target.name, target.span)
            for target, item in zip(plan.targets, items, strict=True)
            if target.kind in ("value", "shared") and not isinstance(item, rng.PhiloxState | rng.Mt19937State)
        ]
        self._check_declared(*tensors)
        items = [self._as_state(target, item) for target, item in zip(plan.targets, items, strict=True)]
        with interrupts.held() if len(items) > 1 else contextlib.nullcontext():
            for target, item in zip(plan.targets, items, strict=True):
                self._store(target, item)

    def _store(self, target: plans.Target, item: Any) -> None:
        if target.kind == "value":
            self.store_value(target.name, item, target.type, target.span)
        elif target.kind == "shared":
            assert target.shared is not None
            self.shared = {**self.shared, target.shared.key: item}
        elif target.kind == "state":
            assert target.state is not None
            found = target.state.definition
            assert isinstance(found, RandomDef | StreamDef)
            if target.state.what == "seed":
                self.streams.reseed(found, int(item), target.span)
            else:
                self.streams.assign(found.key, item, target.span)

    def _as_state(self, target: plans.Target, item: Any) -> Any:
        """What a target takes: for that of a state a state of its generator, also as a file has it."""
        if target.state is None or target.state.what != "state":
            return item
        if not isinstance(item, rng.PhiloxState | rng.Mt19937State):
            from tlang.run.checkpoint import state_from_array

            item = state_from_array(np.asarray(item))
            if item is None:
                raise error("R142", target.span, name=target.name)
        assert isinstance(target.state.definition, RandomDef)
        self.streams.require(target.state.definition.key, item, target.span)
        return item

    def store_record(self, target: plans.Target, fields: tuple[str, ...], items: Sequence[Any]) -> None:
        """Stores the fields of a record that `set` names."""
        for field, item in zip(fields, items, strict=True):
            self.values[f"{target.name}.{field}"] = item
        self.values.pop(target.name, None)
        kinds = tuple(type_of(v) for v in items)
        self.unit.values[target.name] = ValueDef(target.name, target.span, RecordType(fields, kinds))

    def store_value(self, name: str, item: Any, declared: Tensor | None, span: Span | None) -> None:
        """Stores a value made by `set`; without a declared type its actual sizes are its dimensions."""
        kind: Tensor | str = "state"
        if not isinstance(item, rng.PhiloxState | rng.Mt19937State):
            kind = declared if declared is not None else type_of(item)
        self.values[name] = item
        before = self.unit.values.get(name)
        self.unit.values[name] = ValueDef(name, before.span if before is not None else span, kind)


def _kept(now: dict[str, Any], before: Mapping[str, Any], changed: set[str]) -> dict[str, Any]:
    """What there is now, with what there was before for the keys that changed."""
    rest = {k: v for k, v in now.items() if k not in changed}
    return rest | {k: before[k] for k in changed if k in before}


def _apart(results: Sequence[Array], given: Sequence[Array]) -> list[Array]:
    """The results; those that share memory with what is given, or with one before them, as copies."""
    taken = {id(part) for x in given for part in (x, x.base)}
    taken.discard(id(None))
    out = []
    for x in results:
        if isinstance(x, np.ndarray):
            owner = x if x.base is None else x.base
            if id(owner) in taken or not (isinstance(owner, np.ndarray) and owner.flags.owndata):
                x = np.array(x)
            taken.add(id(owner))
        out.append(x)
    return out


def _as_array(value: Any) -> Array:
    """A value, or a state in words, as an array."""
    if isinstance(value, rng.PhiloxState | rng.Mt19937State):
        from tlang.run.checkpoint import state_to_array

        return state_to_array(value)
    return np.asarray(value)


def _leaves_of(function: Function) -> list[Node]:
    return [*function.reads, *(p.node for p in function.params)]


def _all(node: Node) -> list[Node]:
    from tlang.graph.node import toposort

    return toposort([node])


def _leaf(kind: Tensor, name: str, span: Span) -> Node:
    from tlang.graph.node import Graph

    return Graph().leaf("value", kind, span, name=name)


def _no_leaf(node: Node) -> Array:
    raise AssertionError(node)


def _no_draw(node: Node, params: Sequence[Array], shape: tuple[int, ...]) -> Array:
    raise AssertionError(node)


def type_of(value: Array) -> Tensor:
    """The type of an array: its actual sizes are its dimensions."""
    return Tensor(FROM_NUMPY[np.asarray(value).dtype.name], tuple(map(Dim, np.shape(value))))
