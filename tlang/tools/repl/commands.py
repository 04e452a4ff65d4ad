"""The commands of the prompt: one table, which is also the help."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tlang.elaborate.scope import FunctionDef, RandomDef, SharedDef, StreamDef, ValueDef
from tlang.errors import did_you_mean, error
from tlang.run import BACKENDS
from tlang.tools.repl.inquire import definitions, kind_of, meaning, type_of_text

if TYPE_CHECKING:
    from tlang.tools.repl.shell import Shell


class Row(NamedTuple):
    """A command: its name, its argument for the help, one line of help, and what it does."""

    name: str
    argument: str
    help: str
    action: Callable[[Shell, str], bool | None]


def run_command(shell: Shell, text: str) -> bool:
    """Runs a line that begins with `:`; False if it says to leave."""
    word, _, rest = text[1:].partition(" ")
    rows = [r for r in COMMANDS if r.name == word] or [
        r for r in COMMANDS if word and r.name.startswith(word)
    ]
    if len(rows) != 1:
        near = did_you_mean(word, [r.name for r in COMMANDS])
        hint = f"did you mean `:{near}`?" if near and not rows else "`:help` lists the commands"
        raise error("A120", name=word, hint=hint)
    if not rest.strip() and rows[0].argument and not rows[0].argument.startswith("["):
        raise error("A121", name=rows[0].name, argument=rows[0].argument)
    return rows[0].action(shell, rest.strip()) is not False


# ---------------------------------------------------------------- about names and expressions


def _type(shell: Shell, text: str) -> None:
    shell.write(type_of_text(shell.session, text))


def _find(shell: Shell, name: str) -> Any:
    names = definitions(shell.session)
    if name not in names:
        near = did_you_mean(name, names)
        raise error("A110", name=name, hint=f"did you mean `{near}`?" if near else "`:names` lists them")
    return names[name]


def _show(shell: Shell, name: str) -> None:
    """What a name is, how it was written, and its value if it has one."""
    from tlang.run.text import format_one

    session, found = shell.session, _find(shell, name)
    shell.write(f"{kind_of(found)} {name}: {meaning(session, found)}".rstrip(": "))
    decl = getattr(found, "decl", None)
    if decl is not None:
        shell.write(decl.span.text)
    if isinstance(found, SharedDef) and found.key in session.store.shared:
        shell.write(format_one(session.store.shared[found.key]))
    elif isinstance(found, ValueDef) and name in session.store.values:
        shell.write(format_one(session.store.values[name]))


def _stage(stage: str) -> Callable[[Shell, str], None]:
    def action(shell: Shell, name: str) -> None:
        from tlang.tools.emit import stage_of

        found = _find(shell, name)
        if not isinstance(found, FunctionDef):
            raise error("A113", name=name, hint=f"make one: `function g() = {name}`")
        shell.write(stage_of(shell.session, shell.session.program.function(found), stage))

    return action


def _names(shell: Shell, prefix: str) -> None:
    rows = [
        (kind_of(found), name, meaning(shell.session, found))
        for name, found in definitions(shell.session).items()
        if name.startswith(prefix)
    ]
    wide = [max((len(r[k]) for r in rows), default=0) for k in range(2)]
    for kind, name, what in rows:
        shell.write(f"{kind:<{wide[0]}}  {name:<{wide[1]}}  {what}".rstrip())


def _state(shell: Shell, _: str) -> None:
    """The shared values, and where the random variables and streams are."""
    import numpy as np

    from tlang.run.text import format_one

    session = shell.session
    for name, found in session.unit.scope.names.items():
        if isinstance(found, SharedDef):
            value: Any = session.store.shared.get(found.key)
            if value is None:
                text = "has no value yet"
            elif np.size(value) <= 8:
                text = f"= {' '.join(format_one(value).split())}"
            else:
                text = f"in {np.min(value)} .. {np.max(value)}"
            shell.write(f"shared {name}: {meaning(session, found)} {text}")
        elif isinstance(found, RandomDef):
            shell.write(f"random {name}: {format_one(session.store.streams.state(found.key))}")
        elif isinstance(found, StreamDef):
            shell.write(f"stream {name}: seed {session.store.streams.seed_of(found)}")


# ---------------------------------------------------------------- time


def _time(shell: Shell, text: str) -> bool:
    shell.session  # noqa: B018 - what it takes to begin is not the text's time
    begin = time.perf_counter()
    going_on = shell.enter(text)
    shell.write(f"{1e3 * (time.perf_counter() - begin):.3g} ms")
    return going_on


def _bench(shell: Shell, text: str) -> bool:
    return shell.enter(f"bench {text}")


def _profile(shell: Shell, text: str) -> bool:
    from tlang.run.profile import profiled

    with profiled() as profile:
        shell.session.backends.watch = profile.watch
        try:
            going_on = shell.enter(text)
        finally:
            shell.session.backends.watch = None
        shell.write(str(profile))
    return going_on


# ---------------------------------------------------------------- files


def _load(shell: Shell, path: str) -> None:
    shell.load(path.strip('"'))


def _reload(shell: Shell, _: str) -> None:
    if shell.file is None:
        raise error("A121", name="reload", argument="a file that `:load` has read before")
    shell.reset()
    shell.load(shell.file)


def _save(shell: Shell, path: str) -> None:
    """Writes definitions as they are now, and the `set`s and loops in their order."""
    path = path.strip('"')
    try:
        with contextlib.closing(Path(path).open("w", encoding="utf-8")) as file:
            file.writelines(f"{text}\n" for _, text in shell.lines)
    except OSError as e:
        raise error("A123", path=path, why=e.strerror or str(e)) from None
    shell.write(f"{len(shell.lines)} statements in {path}")


# ---------------------------------------------------------------- the session


def _backend(shell: Shell, name: str) -> None:
    if name and name not in BACKENDS:
        raise error("A112", name="backend", value=name, choices=", ".join(BACKENDS))
    if name:
        shell.session.backends.use(name)
        shell.backend = name
    shell.write(shell.backend)


def _explain(shell: Shell, what: str) -> None:
    from tlang.tools.explain import explain

    shell.write(explain(what))


def _help(shell: Shell, word: str) -> None:
    word = word.removeprefix(":")
    rows = [r for r in COMMANDS if not word or r.name == word]
    if not rows:
        raise error("A120", name=word, hint="`:help` lists the commands")
    wide = max(len(f"{r.name} {r.argument}") for r in rows)
    for r in rows:
        shell.write(f":{f'{r.name} {r.argument}':<{wide}}  {r.help}")
    if not word:
        shell.write(
            "Enter runs a statement that is complete, Alt-Enter begins another line, Tab completes,\n"
            "Ctrl-R searches what was entered, Ctrl-C stops what runs, Ctrl-D leaves. _ is the last value."
        )


def _reset(shell: Shell, _: str) -> None:
    shell.reset()


def _quit(shell: Shell, _: str) -> bool:
    return False


COMMANDS = (
    Row("type", "EXPR", "the type of an expression; nothing is computed", _type),
    Row("show", "NAME", "what a name is, its definition and its value", _show),
    Row("graph", "FUNCTION", "the graph of a function after simplification", _stage("graph")),
    Row("plan", "FUNCTION", "its loop nests, and what is left to NumPy", _stage("plan")),
    Row("code", "FUNCTION", "the text of its kernels", _stage("code")),
    Row("time", "LINE", "runs a line and says how long it took", _time),
    Row("bench", "EXPR", "evaluates again and again, and says the median time", _bench),
    Row("profile", "LINE", "runs a line and says where the time went", _profile),
    Row("names", "[PREFIX]", "all names with their types", _names),
    Row("state", "", "shared values, streams and random variables", _state),
    Row("load", "FILE", "runs a file as if it were typed", _load),
    Row("reload", "", "forgets everything and runs that file again", _reload),
    Row(
        "save",
        "FILE",
        "writes the definitions as they are now, the `set`s and the loops, as a program",
        _save,
    ),
    Row("backend", "[NAME]", "what computes, or another one: auto, numpy, cpu, cuda", _backend),
    Row("explain", "WHAT", "a code, an operation or a topic", _explain),
    Row("help", "[COMMAND]", "this list", _help),
    Row("reset", "", "forgets everything", _reset),
    Row("quit", "", "leaves", _quit),
)

#: The commands whose argument is a line or an expression of the language.
OF_LINES = frozenset({"type", "time", "bench", "profile"})
