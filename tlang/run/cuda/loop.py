"""Loops on a GPU: the launches of two iterations, prepared once and done again and again.

A new value of a shared tensor is written to the memory of the one before the last, so that after two
iterations everything is where it was: there are launches for even and for odd iterations. Where the device
can, each of the two lists is a graph of CUDA, and an iteration is one call. Nothing comes back before the
end; batches of an array that is on the device are copied there, others come through page-locked memory
beside the work.

Where an element may make a step an error, some iterations are done before anybody looks. If one of them has
failed, all memory becomes again what it was before them, and the loop goes on line by line from there, to
meet the error where it is.

Only lines that call functions are taken, of arguments that are there, and only functions all of whose steps
are launches; other loops go on line by line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tlang.elaborate import plans
from tlang.emit.cuda.text import ADVANCE
from tlang.graph.node import Function, Node, toposort
from tlang.interpret import Sizes, bind_sizes, constant, leaf_name
from tlang.run import interrupts
from tlang.run.build import Item, Unfit
from tlang.run.cuda import gpu
from tlang.run.cuda.resident import Resident, batch, resident
from tlang.run.cuda.tape import DeviceFrame, DeviceSegment, DeviceTape, Places
from tlang.run.evaluation import Evaluator
from tlang.run.native.lines import changed, reads
from tlang.run.native.memory import Foreign, Name
from tlang.run.rng import PhiloxState, State
from tlang.run.streams import state_words

Array = Any
#: So often progress is shown, in seconds.
SLICE = 0.05
#: For fewer iterations than these a graph is not worth its making.
FEW = 16
#: So many iterations at most are done again one by one where one of them fails.
MOST = 64


class Variable:
    """A variable of the loop: where it is now, and memory for its next value."""

    def __init__(self, value: Resident, owned: bool) -> None:
        self.shape, self.dtype = value.shape, value.dtype
        self.now = value.device()
        if owned:
            self.now = gpu.empty(self.now.count, self.now.dtype)
            gpu.copy(self.now, value.device())
        #: Where it is when the loop begins; None if no line reads what it is then.
        self.first: gpu.Array | None = self.now
        self.spare: list[gpu.Array] = []

    def next(self) -> gpu.Array:
        """Memory for the next value."""
        return self.spare.pop() if self.spare else gpu.empty(self.now.count, self.now.dtype)

    def exchange(self, new: gpu.Array) -> None:
        """The next value is there."""
        self.spare.append(self.now)
        self.now = new


class DeviceLoop:
    """The iterations of a loop from the second on: of lines, or of calls of a function with `args`.

    `counter` is the name that has the number of the iteration, and that number; `moving` says of names of
    batches which array is divided, where the first batch begins, and by how many rows it moves in each
    iteration. Raises `Foreign` where the loop goes on line by line.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        body: Sequence[plans.Plan] | Function,
        *,
        counter: tuple[str, int] | None = None,
        moving: Mapping[str, tuple[Array, int, int]] | None = None,
        args: Mapping[str, Array] | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.counter = counter
        self.moving = dict(moving or {})
        self.variables: dict[Name, Variable] = {}
        self.held: dict[Any, Resident] = {}
        self.made: list[Resident] = []
        self.frames: list[DeviceFrame] = []
        self.updated: dict[str, None] = {}
        self.streams: dict[str, int] = {}
        self.changing: set[Name] = {("value", name) for name in self.moving}
        self.done = 0
        self.middle: dict[str, gpu.Array] = {}
        self.read = set() if isinstance(body, Function) else reads(body)
        #: The works of even and odd iterations, whether each is late, and the outputs of both.
        self.works: list[list[tuple[Callable[[], None], bool]]] = []
        self.results: list[dict[str, Resident]] = []
        self.targets: dict[str, tuple[plans.Target, tuple[str, ...] | None]] = {}
        if counter is not None:
            self.changing.add(("value", counter[0]))
        if not isinstance(body, Function):
            self.changing |= changed(evaluator.program, body)
        for _ in range(2):
            self.list: list[tuple[Callable[[], None], bool]] = []
            self.found: dict[str, Resident] = {}
            if isinstance(body, Function):
                given = {name: resident(v, np.asarray(v).dtype) for name, v in (args or {}).items()}
                for k, output in enumerate(self.call(body, given, False)):
                    self.found[f"%{k}"] = output
            else:
                for plan in body:
                    self.line(plan)
            if counter is not None and ("value", counter[0]) in self.variables:
                self.advance(self.variables["value", counter[0]].now, 0)
            self.works.append(self.list)
            self.results.append(self.found)
            if not self.middle:
                self.middle = {key: self.variables["shared", key].now for key in self.updated}
        for variable in self.variables.values():
            if variable.first is not None and variable.now is not variable.first:
                self.list.append((partial(gpu.copy, variable.first, variable.now), False))
        self.graphs: list[Callable[[], None]] = []
        self.checked = [f for f in self.frames if f.status is not None]
        if self.checked:  # what lines leave is that of the last good iteration
            self.works = [[(start, False) for start, _ in works] for works in self.works]
        self.backups: list[tuple[gpu.Array, gpu.Array]] = []

    # ------------------------------------------------------------ what an iteration does

    def line(self, plan: plans.Plan) -> None:
        """A line of the body: a call, whose results may be kept."""
        match plan:
            case plans.EchoPlan(value=e, quiet=True):
                self.evaluation(e, False)
            case plans.SetPlan(targets=targets, value=e):
                if any(t.kind != "value" for t in targets):
                    raise Foreign("it sets what is not a plain value")
                names = [t.name for t in targets]
                if e.fields is not None:
                    names = [f"{names[0]}.{f}" for f in e.fields]
                outputs = self.evaluation(e, not self.read.isdisjoint(names))
                for name, output in zip(names, outputs, strict=True):
                    self.found[name] = output
                    if name in self.read:
                        self.assign(name, output)
                for target in targets:
                    self.targets[target.name] = target, e.fields
            case _:
                raise Foreign(f"{type(plan).__name__} goes line by line")

    def assign(self, name: str, output: Resident) -> None:
        """A value that a line reads is another one from here on."""
        variable = self.variables.get(("value", name))
        if variable is None:  # no line reads what it was when the loop began
            variable = self.variables["value", name] = Variable(output, False)
            variable.first = None
        if variable.shape != output.shape or variable.dtype != output.dtype:
            raise Foreign(f"`{name}` changes its shape")
        variable.now = output.device()

    def evaluation(self, e: plans.Evaluation, wanted: bool) -> list[Resident]:
        """The calls of an expression, and those of their results that are its items.

        What is `wanted` is computed in every iteration.
        """
        if e.advances or not all(isinstance(i, int) for i in e.items):
            raise Foreign("an expression draws")
        own: dict[str, Resident] = {}
        if sum(self.evaluator.program.function(s.function).has_effects for s in e.steps) > 1:
            raise Foreign("a line has several calls with effects")
        for step in e.steps:
            function = self.evaluator.program.function(step.function)
            given = {name: self.value(e.nodes[i], own, e) for name, i in step.args.items()}
            used = wanted or len(e.steps) > 1
            own.update(zip(step.results, self.call(function, given, used), strict=True))
        return [self.value(e.nodes[i], own, e) for i in e.items if isinstance(i, int)]

    def value(self, node: Node, own: Mapping[str, Resident], e: plans.Evaluation) -> Resident:
        """What a leaf is now, or an expression of leaves."""
        if node.op.name == "const":
            return self.hold(node, constant(node))
        if node.op.name == "value" and node.attr("name") in own:
            return own[node.attr("name")]
        if node.op.name not in ("value", "shared"):
            return self.computed(node, own, e)
        if node.op.name == "shared" and node.attr("name") in self.updated:
            raise Foreign("it reads a shared value beside a call that changes it")
        variable = self.variable((node.op.name, node.attr("name")))
        return Resident(variable.shape, variable.dtype, variable.now)

    def computed(self, node: Node, own: Mapping[str, Resident], e: plans.Evaluation) -> Resident:
        """An expression outside of functions: once where nothing that it reads changes, else each time."""
        leaves = [n for n in toposort([node]) if n.op.name in ("value", "shared")]
        if not any((n.op.name, n.attr("name")) in self.changing or n.attr("name") in own for n in leaves):
            if node not in self.held:
                self.held[node] = resident(self.evaluator.fixed(node, e), node.dtype.numpy_name, fixed=False)
            return self.held[node]
        known = [n for n in e.reads if n.attr("name") in own or not n.attr("name").startswith("%")]
        tape = self.evaluator.backends.loop_tape(("item", node), [node], known, None)
        assert isinstance(tape, DeviceTape)
        return self.compute(tape, lambda leaf: self.value(leaf, own, e), {})[0]

    def variable(self, name: Name) -> Variable:
        """A variable with its value when the loop begins; what changes is copied."""
        if name not in self.variables:
            kind, key = name
            store = self.evaluator.store
            if kind == "value" and key in self.moving:
                base, start, step = self.moving[key]
                value = base[start : start + step]
            elif kind == "stream":
                value = state_words(store.streams.state(key))
            elif kind == "shared":
                value = store.shared_value(key, None)
            else:
                value = store.values.get(key)
            if not isinstance(value, np.ndarray | np.generic | Resident):
                raise Foreign(f"`{key}` is not an array")
            owned = kind != "value" or name in self.changing
            self.variables[name] = Variable(resident(value, value.dtype), owned)
        return self.variables[name]

    def hold(self, key: Any, value: Array) -> Resident:
        """A value that does not change."""
        if key not in self.held:
            self.held[key] = resident(value, np.asarray(value).dtype, fixed=False)
        return self.held[key]

    def call(self, function: Function, given: Mapping[str, Resident], wanted: bool) -> list[Resident]:
        """The launches of a call; its updates are there afterwards. Gives its outputs."""
        tape = self.evaluator.backends.tape(function)
        if not isinstance(tape, DeviceTape):
            raise Foreign("it is not compiled for the device")
        arguments = {
            p.node.attr("name"): given[p.name] if p.name in given else self.hold(p, self.evaluator.default(p))
            for p in function.params
        }

        def found(leaf: Node) -> Resident:
            if leaf.op.name == "tensor":
                return arguments[leaf.attr("name")]
            variable = self.variable((leaf.op.name, leaf.attr("name")))
            return Resident(variable.shape, variable.dtype, variable.now)

        count = len(function.outputs)
        keys = dict(enumerate(function.updates, count))
        begin = len(self.list)
        results = self.compute(tape, found, keys)
        if wanted:
            self.list[begin:] = [(start, False) for start, _ in self.list[begin:]]
        new = [results[at] for at in keys]
        if len(set(map(id, new))) < len(new):
            raise Foreign("two shared values become one array")
        outputs = [self.copied(r) if r in new or r not in self.made else r for r in results[:count]]
        for at, key in keys.items():
            variable = self.variable(("shared", key))
            if results[at].shape != variable.shape or results[at].dtype != variable.dtype:
                raise Foreign(f"`{key}` changes its shape")
            variable.exchange(results[at].device())
            self.updated[key] = None
        for state in function.advances:
            self.advance(self.variable(("stream", state)).now, 1)
            self.streams[state] = self.streams.get(state, 0) + 1
        return outputs

    def copied(self, value: Resident) -> Resident:
        """What a value is at this point of an iteration, in memory of its own."""
        memory = gpu.empty(value.device().count, value.device().dtype)
        self.list.append((partial(gpu.copy, memory, value.device()), False))
        return Resident(value.shape, value.dtype, memory)

    def compute(
        self, tape: DeviceTape, found: Callable[[Node], Resident], updates: Mapping[int, str]
    ) -> list[Resident]:
        """The launches of a tape; the roots with the numbers `updates` go to the memory of shared values."""
        sizes: Sizes = {}
        leaves = {slot: found(node) for slot, node in tape.leaves}
        nodes = [(node, leaves[slot].shape) for slot, node in tape.leaves if node.type.shape]
        nodes += [(node, found(node).shape) for node in tape.others]
        bind_sizes([(leaf_name(node), node, shape) for node, shape in nodes], sizes)
        slots: dict[int, Resident] = dict(leaves)
        slots.update((slot, self.hold((tape, slot), value)) for slot, value in tape.constants)
        parts: dict[int, list[Resident]] = {}
        targets = {tape.roots[at]: key for at, key in updates.items()}
        items = {
            (inputs[0], call.number): made for call, inputs, made, *_ in tape.steps if isinstance(call, Item)
        }
        for call, inputs, made, _, node in tape.steps:
            if isinstance(call, DeviceSegment):
                into = {
                    k: self.variable(("shared", targets[items[made, k]]))
                    for k in range(len(call.outputs))
                    if items[made, k] in targets
                }
                parts[made] = self.segment(call, sizes, [slots[x] for x in inputs], into)
            elif isinstance(call, Item):
                slots[made] = parts[inputs[0]][call.number]
            else:
                raise Foreign(f"`{node.op.name}` is done on the host")
        self.made = [x for group in parts.values() for x in group]
        if any(slots[root] not in self.made for root in targets):
            raise Foreign("a shared value becomes another value as it is")
        return [slots[root] for root in tape.roots]

    def segment(
        self, segment: DeviceSegment, sizes: Sizes, inputs: Sequence[Resident], into: Mapping[int, Variable]
    ) -> list[Resident]:
        """The launches of a segment, with memory of their own."""
        try:
            frame = DeviceFrame(segment, tuple([sizes[s] for s in segment.symbols]))
        except (Unfit, KeyError):
            raise Foreign("its sizes do not fit") from None
        self.frames.append(frame)
        outputs = []
        for k, (shape, dtype, kind) in enumerate(frame.outputs):
            fits = k in into and into[k].shape == shape and into[k].dtype == dtype
            memory = into[k].next() if fits else gpu.empty(int(np.prod(shape, dtype=np.int64)), kind)
            outputs.append(Resident(shape, dtype, memory))
        places: Places = {
            n: resident(x, n.dtype.numpy_name).device() for n, x in zip(segment.inputs, inputs, strict=True)
        }
        places |= {n: x.device() for n, x in zip(segment.outputs, outputs, strict=True)}
        self.list += frame.bound(places)
        return outputs

    def advance(self, words: gpu.Array, at: int) -> None:
        """An integer on the device is one more."""
        kernel = gpu.kernel(ADVANCE, "kernel", ("int64*", "int64"))
        self.list.append((kernel.prepare((1, 1), (1, 1), (words, at)), False))

    # ------------------------------------------------------------ running

    def run(self, count: int, progress: Callable[[int], None] | None = None) -> int:
        """Iterates up to `count` times, fewer where an iteration fails; gives how many are done.

        On an interrupt too the state is that after a whole iteration.
        """
        if count >= FEW:
            self.record()
        shown, step = time.perf_counter(), 1
        try:
            while self.done < count:
                with interrupts.held():
                    if not self.checked:
                        self.iterate(self.done + 1 == count)
                    elif not self.try_some(min(step, count - self.done)):
                        break
                    step = min(2 * step, MOST)
                if progress is not None and time.perf_counter() - shown > SLICE:
                    progress(self.done)
                    shown = time.perf_counter()
        except KeyboardInterrupt:
            if 0 < self.done < count and not self.checked:
                with interrupts.held():
                    self.iterate(True)
            raise
        finally:
            with interrupts.held():
                self.publish()
        return self.done

    def try_some(self, count: int) -> bool:
        """Some iterations; whether none has failed. If one has, it is as if there had been none."""
        if not self.backups:
            self.backups = [(a, gpu.empty(a.count, a.dtype)) for a in self.memory()]
        for array, backup in self.backups:
            gpu.copy(backup, array)
        for _ in range(count):
            self.iterate(False)
        failed = [frame for frame in self.checked if frame.failed()]  # each is asked, and begins anew
        if not failed:
            return True
        for array, backup in self.backups:
            gpu.copy(array, backup)
        self.done -= count
        return False

    def memory(self) -> list[gpu.Array]:
        """All arrays that iterations write and others read."""
        found = [x.device() for results in self.results for x in results.values()]
        for v in self.variables.values():
            found += [v.now, *v.spare, *([v.first] if v.first is not None else [])]
        return list({a.address: a for a in found}.values())

    def record(self) -> None:
        """Both iterations as graphs, where the device can record them."""
        for works in self.works:
            early = [start for start, late in works if not late]
            try:
                self.graphs.append(gpu.Graph(partial(_all, early)))
            except gpu.DriverError:
                self.graphs = []
                return

    def iterate(self, final: bool) -> None:
        """One iteration; what only outputs need is computed in the last."""
        half = self.done % 2
        for name, (base, start, step) in self.moving.items():
            variable = self.variables.get(("value", name))
            if variable is not None and self.done:
                at = start + step * self.done
                rows = batch(base[at : at + step])
                if rows.on_device:
                    gpu.copy(variable.now, rows.device())
                else:
                    gpu.write(variable.now, rows.plain())
        if final or not self.graphs:
            _all([start for start, late in self.works[half] if final or not late])
        else:
            self.graphs[half]()
        self.done += 1

    def publish(self) -> None:
        """The store gets what the loop has computed."""
        if not self.done:
            return
        store = self.evaluator.store
        odd = self.done % 2
        fresh = {key: self.state(key, odd) for key in self.updated}
        after: dict[str, State] = {}
        for key in self.streams:
            words = gpu.download(self.variables["stream", key].now, (2,)).view(np.uint64)
            after[key] = PhiloxState(*words.tolist())
        store.commit({**store.shared, **fresh}, {**store.streams.states, **after})
        found = self.results[1 - odd]
        for name, (target, fields) in self.targets.items():
            if fields is None:
                store.store_value(name, found[name], target.type, target.span)
            else:
                store.store_record(target, fields, [found[f"{name}.{f}"] for f in fields])
        if self.counter is not None:
            store.values[self.counter[0]] = np.int64(self.counter[1] + self.done - 1)

    def state(self, key: str, odd: int) -> Resident:
        """A shared value after the iterations so far: after an even number it is where it began."""
        variable = self.variables["shared", key]
        return Resident(variable.shape, variable.dtype, self.middle[key] if odd else variable.now)

    def results_now(self) -> tuple[Array, ...]:
        """The results of the function after the iterations so far."""
        return tuple(self.results[1 - self.done % 2].values())

    def shared_now(self) -> dict[str, Any]:
        """The shared numbers that the loop changes, as they are after the iterations so far."""
        numbers = [k for k in self.updated if not self.variables["shared", k].shape]
        return {key: self.state(key, self.done % 2).host() for key in numbers}


def _all(works: Sequence[Callable[[], None]]) -> None:
    for start in works:
        start()
