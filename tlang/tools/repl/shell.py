"""What runs the lines of the prompt: one program that grows, with no terminal in sight.

A submission is a text: statements, or one command that begins with `:`. Definitions replace those of
the same names, and what depends on them is checked anew; if something no longer fits, nothing changes.
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlang.errors import Diagnostic, Label, TlangError, diagnostic, join_errors, render
from tlang.source import Source, Span
from tlang.syntax import ast
from tlang.syntax.parse import is_incomplete, parse

if TYPE_CHECKING:
    from tlang.run.session import Session
    from tlang.run.store import Snapshot

#: Values with more elements are shortened, and shown with their type.
MANY = 1000
_NOTHING = object()


class Shell:
    """A session that is fed with texts; `write` gets results, `complain` messages.

    The session, and NumPy with it, is made when it is first asked for, so that a prompt is there before.
    """

    def __init__(
        self,
        *,
        backend: str = "auto",
        threads: int = 1,
        seed: int = 0,
        unused: str = "error",
        colour: bool = False,
        progress: str = "none",
        write: Callable[[str], None] = lambda text: print(text, flush=True),
        complain: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self.options = {"seed": seed, "unused": unused}
        self.backend, self.threads, self.colour = backend, threads, colour
        self.write, self.complain = write, complain
        self.progress = progress
        self.file: str | None = None
        self.failed = False
        self.count = 0
        self.lines: list[tuple[ast.Statement, str]] = []
        self._shown: set[Diagnostic] = set()
        self._session: Session | None = None
        self._lock = threading.Lock()

    # ------------------------------------------------------------ the session

    @property
    def session(self) -> Session:
        """The program with its state."""
        with self._lock:
            if self._session is None:
                from tlang.run.session import Session
                from tlang.tools.progress import progress_for

                source = Source("<repl>", "")
                made = Session(source, backend=self.backend, write=self.write, **self.options)  # type: ignore[arg-type]
                made.backends.use_threads(self.threads)
                made.executor.show = self._show
                made.loops.progress = progress_for(self.progress)
                self._session = made
            return self._session

    @property
    def ready(self) -> Session | None:
        """The session if it is there already; nobody waits for it."""
        return self._session

    def reset(self) -> None:
        """Forgets everything."""
        self._session = None
        self.lines.clear()
        self._shown.clear()

    def _show(self, items: Sequence[Any], fields: Sequence[str] | None) -> None:
        from tlang.run.text import format_value

        self.write(format_value(items, fields))
        from tlang.run.store import type_of

        large = [x for x in items if getattr(x, "size", 0) > MANY]
        if large:
            self.write(", ".join(str(type_of(x)) for x in large))

    # ------------------------------------------------------------ submissions

    def enter(self, text: str) -> bool:
        """Runs one submission; False if it says to leave. Whatever is wrong with it is said, never raised."""
        return self.attempt(lambda: self._submit(text)) is not False

    def _submit(self, text: str) -> bool:
        if text.lstrip().startswith(":"):
            from tlang.tools.repl.commands import run_command

            return run_command(self, text.strip())
        if text.strip():
            self.count += 1
            self.run(Source(f"<{self.count}>", text))
        return True

    def attempt(self, action: Callable[[], Any]) -> Any:
        """The result of an action; None, with the message shown, if it fails."""
        try:
            return action()
        except KeyboardInterrupt:
            self.complain("interrupted")
        except TlangError as e:
            self.failed = True
            self.complain(self.rendered(e))
        except Exception as e:
            from tlang.tools.report import bug_report

            self.failed = True
            self.complain(bug_report(e))
        return None

    def rendered(self, e: TlangError) -> str:
        """The messages of an error, as the terminal shows them."""
        ordered = sorted(e.diagnostics, key=lambda d: d.code != "N113")
        return "\n".join(render(d, self.colour) for d in ordered)

    def run(self, source: Source) -> None:
        """Enters the definitions of a text and runs its commands."""
        tree = parse(source)
        before = self.session.store.snapshot()
        try:
            commands = self.session.declare(tree, replace=True)
        except TlangError as e:
            raise self._unfit(e, source, tree, before.definitions[0]) from None
        finally:
            self._warn()
        for s in tree.statements:
            if not isinstance(s, ast.SharedDecl) and _defined(s):
                self._keep(s)
        for c in commands:
            self._command(c, before)
        self._warn()

    def _command(self, c: ast.Command | ast.SharedDecl, before: Snapshot) -> None:
        """Runs one line. A shared value that cannot begin anew leaves the old one, and what uses it."""
        session = self.session
        session.executor.last = _NOTHING
        try:
            session.command(c)
        except BaseException:
            if isinstance(c, ast.SharedDecl) and any(n.id in before.definitions[0] for n in c.names):
                session.restore(before)
            raise
        if session.executor.last is not _NOTHING:
            self._remember(session.executor.last, c.span)
        self._keep(c)

    def _remember(self, value: Any, span: Span) -> None:
        """The name `_` becomes the value shown last."""
        from tlang.elaborate.plans import Target

        if isinstance(value, dict):
            self.session.store.store_record(Target("value", "_", span), tuple(value), list(value.values()))
        else:
            self.session.store.store_value("_", value, None, span)

    def _keep(self, s: ast.Statement) -> None:
        """Notes a statement for `:save`, without what it replaces; what only shows something is left out."""
        if isinstance(s, ast.ExprStmt | ast.Check | ast.Bench):
            return
        names = _defined(s)
        kept = []
        for old, text in self.lines:
            left = _defined(old) - names if names else _defined(old)
            if left == _defined(old):
                kept.append((old, text))
            elif left and isinstance(old, ast.TensorDecl | ast.SharedDecl):
                some = replace(old, names=tuple(n for n in old.names if n.id in left))
                kept.append((some, _with_names(text, some.names)))
        text = _with_names(s.span.text, s.names) if isinstance(s, ast.SharedDecl) else s.span.text
        self.lines = [*kept, (s, text)]

    def _warn(self) -> None:
        """Shows warnings that have not been shown before."""
        program = self.session.program
        for w in sorted(program.warnings, key=Diagnostic.sort_key):
            if w not in self._shown:
                self.complain(render(w, self.colour))
        self._shown.update(program.warnings)
        program.warnings.clear()

    def _unfit(self, e: TlangError, source: Source, tree: ast.Program, before: dict[str, Any]) -> TlangError:
        """The error; of a redefinition that others do not fit, with a sentence that says which."""
        changed = {name for s in tree.statements for name in _defined(s) if name in before}
        others = [d for d in e.diagnostics if d.span is not None and d.span.source is not source]
        if not changed or not others:
            return e
        unfit = dict.fromkeys(name for d in others if d.span and (name := _owner(d.span, before)) is not None)
        place = next(s.span for s in tree.statements if _defined(s) & changed)
        first = diagnostic(
            "N113",
            place,
            names=_listed(sorted(changed)),
            unfit=_listed(list(unfit)) if unfit else "other lines",
            labels=[Label(before[n].span, "this stays") for n in sorted(changed) if before[n].span][:3],
        )
        error = join_errors([e])
        return type(error)(first, *error.diagnostics)

    # ------------------------------------------------------------ files

    def load(self, path: str) -> None:
        """Runs a file as if it were typed; its paths, and its random numbers, are those of `tlang run`."""
        from tlang.run.files import imported, read_source

        source = read_source(path, imported(path, None))
        unit, main = self.session.unit, self.session.unit.source
        unit.source = source
        try:
            self.run(source)
        finally:
            unit.source = main
            if source.path is not None:
                self.session.program.units.pop(source.path, None)
        self.file = path

    def feed(self, lines: Iterable[str]) -> bool:
        """Runs lines as they come, statements whole; False if one of them failed."""
        pending = ""
        for line in lines:
            pending += line if line.endswith("\n") else line + "\n"
            if is_whole(pending):
                text, pending = pending, ""
                if not self.enter(text):
                    return not self.failed
        if pending:
            self.enter(pending)
        return not self.failed


def is_whole(text: str) -> bool:
    """Whether a text can be run, or should go on in another line."""
    return text.lstrip().startswith(":") or not is_incomplete(Source("<input>", text))


def _defined(s: ast.Statement) -> set[str]:
    """The names that a statement defines."""
    match s:
        case ast.TensorDecl(names=names) | ast.SharedDecl(names=names) | ast.Equation(targets=names):
            return {n.id for n in names}
        case (
            ast.StreamDecl(name=n)
            | ast.RandomDecl(name=n)
            | ast.FunctionDecl(name=n)
            | ast.CopyDecl(name=n)
            | ast.Template(name=n)
            | ast.Import(name=n)
        ):
            return {n.id}
    return set()


def _with_names(text: str, names: Sequence[ast.Name]) -> str:
    """A declaration of tensors or shared values with only some of its names."""
    listed = ", ".join(n.id for n in names)
    return re.sub(r"^(\w+)\s[^:=~]*?(?=\s*[:=~])", rf"\1 {listed}", text, count=1)


def _owner(span: Span, names: dict[str, Any]) -> str | None:
    """The definition whose text a place is in."""
    for name, found in names.items():
        around: Any = getattr(getattr(found, "decl", None), "span", None)
        if around is None or around.source is not span.source:
            continue
        if around.start <= span.start and span.end <= around.end:
            return name
    return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
