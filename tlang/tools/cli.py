"""The command line: the table of the commands of `tlang`, their options, and what they print.

Results go to standard output, diagnostics to standard error. Exit status: 0; 1 the program is wrong
or a check failed; 2 wrong usage; 70 a bug of tlang.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tlang import __version__
from tlang.run import BACKENDS

if TYPE_CHECKING:
    import argparse

    from tlang.errors import Diagnostic
    from tlang.source import Source

OK, WRONG, USAGE, BUG, INTERRUPTED = 0, 1, 2, 70, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--version"], ["-V"]):
        print(f"tlang {__version__}")
        return OK
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))
    options = _parser().parse_args(args or ["repl"])
    try:
        status: int = options.action(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except Exception as e:
        from tlang.errors import TlangError

        if isinstance(e, TlangError):
            show_diagnostics(e.diagnostics, getattr(options, "json", False))
            return WRONG
        from tlang.tools.report import bug_report

        print(bug_report(e), file=sys.stderr)
        return BUG


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="tlang", description="A small declarative language for tensor programs."
    )
    parser.add_argument("-V", "--version", action="version", version=f"tlang {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, action, text, arguments in COMMANDS:
        sub = commands.add_parser(name, help=text, description=text)
        arguments(sub)
        sub.set_defaults(action=action)
    return parser


def _count(text: str) -> int:
    """A number of threads."""
    count = int(text)
    if not 1 <= count <= 256:
        raise argparse.ArgumentTypeError("expected 1 to 256")
    return count


def _session_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--backend", choices=BACKENDS, default="auto", help="what computes (default: auto)")
    sub.add_argument(
        "--threads",
        type=_count,
        default=1,
        metavar="N",
        help="threads of compiled loops, and of BLAS if more than 1 (default: 1); the bits are the same",
    )
    sub.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the default random stream (default: 0)"
    )
    sub.add_argument(
        "--unused", choices=("error", "warn", "ignore"), default="error", help="policy for unused parameters"
    )


def _progress_option(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--progress",
        choices=("auto", "plain", "none"),
        default="auto",
        help="how far loops of over a second are: a line on a terminal, or lines for a log (default: auto)",
    )


def _repl_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", nargs="?", metavar="FILE", help="a program that is run first")
    _session_options(sub)
    _progress_option(sub)


def _repl(options: argparse.Namespace) -> int:
    from tlang.tools.repl.shell import Shell

    shell = Shell(
        backend=options.backend,
        threads=options.threads,
        seed=options.seed,
        unused=options.unused,
        colour=_coloured(),
        progress=options.progress,
    )
    if not sys.stdin.isatty():
        if options.file is not None:
            shell.attempt(lambda: shell.load(options.file))
        return OK if shell.feed(sys.stdin) else WRONG
    from tlang.tools.repl.terminal import converse

    converse(shell, options.file)
    return OK


def _run_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", nargs="?", metavar="FILE", help="a program; `-` is standard input")
    sub.add_argument("-c", dest="text", metavar="TEXT", help="program text, run after FILE if there is one")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        dest="replaced",
        metavar="NAME=VALUE",
        help="replaces the right side of an equation, a shared value or a `set` of the program",
    )
    sub.add_argument("--json", action="store_true", help="messages as lines of JSON on standard error")
    sub.add_argument(
        "--check-finite",
        action="store_true",
        help="stop at the first operation that makes a NaN or an infinity of finite numbers (on numpy)",
    )
    sub.add_argument(
        "--profile", action="store_true", help="shows at the end where the time went, on standard error"
    )
    _session_options(sub)
    _progress_option(sub)


def _check_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("files", nargs="+", metavar="FILE")
    sub.add_argument("--json", action="store_true", help="messages as a JSON list on standard output")
    sub.add_argument("--unused", choices=("error", "warn", "ignore"), default="error")


def _test_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("paths", nargs="+", metavar="PATH", help="programs, or folders of them")
    sub.add_argument("--update", action="store_true", help="rewrite the values after `#=>`")
    _session_options(sub)


# ---------------------------------------------------------------- showing


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_diagnostics(found: Iterable[Diagnostic], as_json: bool = False) -> None:
    """Diagnostics on standard error, sorted by place; for tools a line of JSON for each."""
    from tlang.errors import Diagnostic, render

    sys.stdout.flush()
    for d in sorted(found, key=Diagnostic.sort_key):
        if as_json:
            import json

            print(json.dumps(d.to_json()), file=sys.stderr)
        else:
            print(render(d, _coloured()), file=sys.stderr)


# ---------------------------------------------------------------- commands


def read_program(name: str) -> Source:
    """The source that a command line names; `-` is standard input."""
    from tlang.run.files import read_source
    from tlang.source import Source

    if name == "-":
        return Source("<stdin>", sys.stdin.read())
    return read_source(name, name)


def _run(options: argparse.Namespace) -> int:
    from tlang.elaborate.advice import advice
    from tlang.errors import TlangError
    from tlang.run.session import Session
    from tlang.source import Source
    from tlang.syntax.parse import parse
    from tlang.tools.override import override

    if options.file is None and options.text is None:
        print("tlang run: a FILE or -c TEXT is needed", file=sys.stderr)
        return USAGE
    texts = [] if options.file is None else [read_program(options.file)]
    if options.text is not None:
        first = texts[0] if texts else None
        texts.append(
            Source("<text>", options.text, first.path if first else None, first.stem if first else "main")
        )
    session = Session(texts[0], seed=options.seed, unused=options.unused, backend=options.backend)
    session.backends.use_threads(options.threads)
    if options.check_finite:
        session.backends.check_finite()
    from tlang.tools.progress import progress_for

    session.loops.progress = progress_for(options.progress)
    with contextlib.ExitStack() as stack:
        timed: Any = lambda name: contextlib.nullcontext()  # noqa: E731
        if options.profile:
            from tlang.run.profile import profiled

            profile = stack.enter_context(profiled())
            if not options.check_finite:
                session.backends.watch = profile.watch
            timed = profile.phase
            stack.callback(lambda: (sys.stdout.flush(), print(f"\n{profile}", file=sys.stderr)))
        for k, source in enumerate(texts):
            with timed("read and check"):
                tree = parse(source)
                if k == 0:
                    try:
                        tree = override(tree, options.replaced)
                    except ValueError as e:
                        print(f"tlang run: --set {e}", file=sys.stderr)
                        return USAGE
                try:
                    commands = session.declare(tree)
                finally:
                    _warn(session.program, options.json)
                if k == 0:
                    with contextlib.suppress(TlangError):  # a fault of a later text is told at its turn
                        show_diagnostics(advice([tree, *map(parse, texts[1:])]), options.json)
            session.run(commands)
            _warn(session.program, options.json)
    return OK


def _warn(program: Any, as_json: bool) -> None:
    show_diagnostics(program.warnings, as_json)
    program.warnings.clear()


def _check(options: argparse.Namespace) -> int:
    from tlang.errors import TlangError
    from tlang.tools.check import check_source

    found: list[Diagnostic] = []
    for name in options.files:
        try:
            found += check_source(read_program(name), options.unused)
        except TlangError as e:
            found += e.diagnostics
    if options.json:
        import json

        print(json.dumps([d.to_json() for d in found], indent=2))
    else:
        show_diagnostics(found)
    return WRONG if any(d.severity == "error" for d in found) else OK


def _test(options: argparse.Namespace) -> int:
    from tlang.tools.testing import run_paths

    return (
        OK
        if run_paths(options.paths, options.update, options.seed, options.unused, options.backend)
        else WRONG
    )


def _cache_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "what", choices=("dir", "stats", "clear"), help="print the folder, print what it holds, empty it"
    )


def _cache(options: argparse.Namespace) -> int:
    from tlang.tools import cache

    actions = {"dir": cache.show_folder, "stats": cache.show_stats, "clear": cache.clear}
    return OK if actions[options.what]() else WRONG


def _bench_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="FILE", help="a program; `-` is standard input")
    sub.add_argument("--json", action="store_true", help="the measurements as a JSON list, in seconds")
    sub.add_argument(
        "--time", type=float, default=5.0, metavar="S", help="seconds for a line at most (default: 5)"
    )
    _session_options(sub)
    sub.set_defaults(backend="cpu")


def _bench(options: argparse.Namespace) -> int:
    from tlang.tools.bench import report, run_benchmarks, to_json

    found = run_benchmarks(
        read_program(options.file),
        options.backend,
        options.threads,
        options.seed,
        options.unused,
        options.time,
    )
    if options.json:
        import json

        print(json.dumps(to_json(found), indent=2))
    else:
        print(report(found))
    return OK


def _emit_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="FILE", help="a program; `-` is standard input")
    sub.add_argument("name", nargs="?", metavar="NAME", help="a function (default: all)")
    sub.add_argument(
        "--stage", choices=("ast", "graph", "plan", "code", "llvm", "cuda", "ptx"), default="plan"
    )
    sub.add_argument("--unused", choices=("error", "warn", "ignore"), default="error")


def _emit(options: argparse.Namespace) -> int:
    from tlang.tools.emit import emit

    print(emit(read_program(options.file), options.stage, options.name, options.unused))
    return OK


def _streams_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="FILE", help="a program; `-` is standard input")
    sub.add_argument("--json", action="store_true", help="the moves as a JSON list")
    sub.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the default random stream (default: 0)"
    )
    sub.add_argument("--unused", choices=("error", "warn", "ignore"), default="error")


def _streams(options: argparse.Namespace) -> int:
    from tlang.tools.streams import report, streams, to_json

    found = streams(read_program(options.file), options.seed, options.unused)
    if options.json:
        import json

        print(json.dumps(to_json(found), indent=2))
    else:
        print(report(found))
    return OK


def _doctor_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="the findings as a JSON list")


def _doctor(options: argparse.Namespace) -> int:
    from tlang.tools.doctor import examine, report, to_json

    findings = examine()
    if options.json:
        import json

        print(json.dumps(to_json(findings), indent=2))
    else:
        print(report(findings))
    return WRONG if any(f.advice for f in findings) else OK


def _fmt_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("files", nargs="*", metavar="FILE", help="programs; `-` or none is standard input")
    sub.add_argument("--check", action="store_true", help="rewrite nothing; status 1 if a file would change")
    sub.add_argument("--diff", action="store_true", help="rewrite nothing; show what would change")


def _fmt(options: argparse.Namespace) -> int:
    from tlang.tools.format import format_files

    return OK if format_files(options.files or ["-"], options.check, options.diff, read_program) else WRONG


def _explain_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("what", metavar="CODE|OPERATION|TOPIC", help="for instance T102, exp, broadcasting")


def _explain(options: argparse.Namespace) -> int:
    from tlang.tools.explain import explain

    print(explain(options.what))
    return OK


def _graph_arguments(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("file", metavar="FILE", help="a program; `-` is standard input")
    sub.add_argument("name", metavar="NAME", help="a function")
    sub.add_argument(
        "-o",
        dest="out",
        default="txt",
        metavar="FORMAT|FILE",
        help="txt, dot or html on standard output, or a file with such an ending (default: txt)",
    )
    sub.add_argument("--unused", choices=("error", "warn", "ignore"), default="error")


def _graph(options: argparse.Namespace) -> int:
    from tlang.tools.graph import FORMATS, graph, write

    form = options.out.rpartition(".")[2]
    if form not in FORMATS:
        print(f"tlang graph: -o {options.out}: choose from {', '.join(FORMATS)}", file=sys.stderr)
        return USAGE
    text = graph(read_program(options.file), options.name, form, options.unused)
    if options.out == form:
        print(text)
    else:
        write(options.out, text)
    return OK


#: Every command: name, action, help, arguments.
COMMANDS = (
    ("repl", _repl, "the interactive prompt (also without a command)", _repl_arguments),
    ("run", _run, "run a program", _run_arguments),
    ("check", _check, "check programs without running them", _check_arguments),
    ("test", _test, "run programs and compare with the answers written in them", _test_arguments),
    ("bench", _bench, "measure the `bench` lines of a program", _bench_arguments),
    ("fmt", _fmt, "bring programs into the one style", _fmt_arguments),
    ("emit", _emit, "print what the compiler makes of a program", _emit_arguments),
    ("graph", _graph, "show the graph of a function", _graph_arguments),
    ("explain", _explain, "explain a message, an operation or a topic", _explain_arguments),
    ("streams", _streams, "print which function advances which random stream", _streams_arguments),
    ("doctor", _doctor, "examine what tlang needs of this computer", _doctor_arguments),
    ("cache", _cache, "show or empty the cache of compiled code", _cache_arguments),
)

if __name__ == "__main__":
    sys.exit(main())
