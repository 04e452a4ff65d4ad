"""The prompt on a terminal: keys, colours, completion and the toolbar, on prompt_toolkit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import has_completions, is_searching
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.styles import Style

from tlang import __version__
from tlang.syntax.parse import classified, words
from tlang.tools.repl.shell import Shell, is_whole

PROMPT, MORE, INDENT = "> ", "| ", 4

STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "word": "bold ansiblue",
        "builtin": "ansicyan",
        "number": "ansimagenta",
        "string": "ansigreen",
        "comment": "ansibrightblack",
        "operator": "",
        "wrong": "ansired",
        "bottom-toolbar": "noreverse ansibrightblack",
    }
)


def converse(shell: Shell, file: str | None = None) -> None:
    """Reads and runs submissions until the user leaves."""
    if file is not None:
        shell.attempt(lambda: shell.load(file))
    print(f"tlang {__version__}   :help lists the commands, Ctrl-D leaves")
    prompt = _prompt(shell)
    while True:
        try:
            text = prompt.prompt()
        except KeyboardInterrupt:
            continue  # Ctrl-C at the prompt drops the line
        except EOFError:
            return
        if not shell.enter(text):
            return


def _prompt(shell: Shell) -> PromptSession[str]:
    made: PromptSession[str] = PromptSession(
        message=[("class:prompt", PROMPT)],
        prompt_continuation=lambda width, number, is_soft: [("class:prompt", MORE)],
        multiline=True,
        history=_history(),
        enable_history_search=True,
        auto_suggest=AutoSuggestFromHistory(),
        lexer=Colours(),
        completer=Names(shell),
        complete_while_typing=False,
        bottom_toolbar=Toolbar(shell),
        key_bindings=_keys(),
        style=STYLE,
    )

    def begin(_: Any) -> None:
        """The session is made while the first line is typed."""
        made.app.after_render -= begin
        threading.Thread(target=lambda: shell.session, daemon=True).start()

    made.app.after_render += begin
    return made


def history_path() -> Path | None:
    """Where the history is kept; None without a home folder."""
    try:
        base = os.environ.get("XDG_STATE_HOME")
        folder = Path(base) if base else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return folder / "tlang" / "history"


def _history() -> History:
    """The history across sessions; of this one alone where no file can be written."""
    path = history_path()
    try:
        if path is None:
            return InMemoryHistory()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a"):
            pass
    except OSError:
        return InMemoryHistory()
    return FileHistory(str(path))


def _keys() -> KeyBindings:
    """Enter submits what is whole and goes on otherwise; Alt-Enter always goes on."""
    keys = KeyBindings()

    @keys.add("enter", filter=~is_searching & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if is_whole(buffer.text):
            buffer.validate_and_handle()
        else:
            _break(event)

    @keys.add("enter", filter=has_completions & ~is_searching)
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
            buffer.complete_state = None
        else:
            buffer.cancel_completion()
            if is_whole(buffer.text):
                buffer.validate_and_handle()
            else:
                _break(event)

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        _break(event)

    @keys.add("}")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        line = buffer.document.current_line_before_cursor
        if line and line.isspace():
            buffer.delete_before_cursor(min(INDENT, len(line)))
        buffer.insert_text("}")

    return keys


def _break(event: KeyPressEvent) -> None:
    """A new line, indented as the one above, and more after an opening bracket."""
    line = event.current_buffer.document.current_line_before_cursor
    deeper = INDENT if line.rstrip().endswith(("{", "(", "[")) else 0
    event.current_buffer.insert_text("\n" + " " * (len(line) - len(line.lstrip()) + deeper))


# ---------------------------------------------------------------- colours


def style_of(kind: str, text: str) -> str:
    """The style of a token, by its kind in the grammar."""
    from tlang.elaborate.values import BUILTINS

    if kind in ("UNCLOSED", "STRING"):
        return "class:string"
    if kind in ("QUOTED", "ILLEGAL"):
        return "class:wrong"
    if kind == "COMMENT":
        return "class:comment"
    if kind in ("INT", "FLOAT"):
        return "class:number"
    if kind == "BOOL" or text in words():
        return "class:word"
    if kind == "NAME" and text in BUILTINS:
        return "class:builtin"
    return "" if kind in ("NAME", "BLANK", "_NEWLINE") else "class:operator"


class Colours(Lexer):
    """Colours by the tokens of the grammar."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """The styled pieces of each line."""
        lines: list[StyleAndTextTuples] = [[]]
        if document.text.lstrip().startswith(":"):
            lines = [[("", line)] for line in document.lines]
        else:
            for token in classified(document.text):
                style = style_of(token.type, token.text)
                first, *others = token.text.split("\n")
                lines[-1].append((style, first))
                lines += [[(style, other)] for other in others]
        return lambda number: lines[number] if number < len(lines) else []


# ---------------------------------------------------------------- completion and toolbar


class Names(Completer):
    """Completion from the parser's state and the names of the program."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What may stand at the cursor, with what it is."""
        from tlang.tools.repl.completion import candidates

        begun, found = candidates(self.shell.session, document.text_before_cursor)
        for c in found:
            yield Completion(c.text, -len(begun), display_meta=c.about)


class Toolbar:
    """The type of what is being typed, or what is wrong with it, below the prompt."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self._text = self._said = ""

    def __call__(self) -> str:
        """The toolbar for what is in the buffer."""
        from prompt_toolkit.application import get_app

        text = get_app().current_buffer.text
        if text != self._text:
            self._text, self._said = text, self.say(text)
        return self._said

    def say(self, text: str) -> str:
        """The toolbar for a text."""
        from tlang.errors import TlangError
        from tlang.tools.repl.inquire import LONGEST, type_of_text

        session = self.shell.ready
        if session is None or not text.strip() or len(text) > LONGEST or text.lstrip().startswith(":"):
            return ""
        try:
            return type_of_text(session, text) if is_whole(text) else "..."
        except TlangError as e:
            return f"{e.code}: {e.diagnostics[0].message}"
        except Exception:  # the toolbar is a service: whatever it cannot say, entering the line will
            return ""
