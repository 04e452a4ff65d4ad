"""Messages about what other languages write differently."""

from __future__ import annotations

from tlang.errors import Diagnostic
from tlang.syntax.layout import CLOSING, kinds
from tlang.syntax.trouble import ENDS, NUMBERS, OPERANDS, Trouble, write

# Two tokens without a space between them: what tlang writes for them ...
_PAIRS = {
    "&&": "and",
    "||": "or",
    "<>": "!=",
    "~=": "!=",
    "===": "==",
    "!==": "!=",
    "=<": "<=",
    "<<": "* 2 **",
    ">>": "// 2 **",
    ".*": "*",
    "./": "/",
    ".^": "**",
}

# ... or does instead.
_PHRASES = {
    "=>": "to compare write `>=`; a function is written `f(x) = ...`",
    "->": "types of outputs are not written: `function f(x: f64) = ...`; they follow from the formula",
    "|>": "write the call `f(x)`",
    "::": "write `.`, as in `layers.w`",
}

_ARITHMETIC = kinds("PLUS MINUS STAR SLASH POWER AMPERSAND BAR CARET")

_EQUATION = "a name is defined by an equation, `{}`"
_LOOP = "loops are `repeat n {{ ... }}` and `for i in a..b {{ ... }}`, with commands in the body"
_CHOICE = "write `where(condition, a, b)`, which chooses element by element"
_NO_CONTROL = "a program has no jumps; the outputs of a function follow `=`, as in `function f(x) = x + 1`"

# Words that begin statements elsewhere, and what tlang writes; `{}` is the statement without the word.
_WORDS = {
    **dict.fromkeys(("let", "var", "val", "const", "final", "auto", "local", "global", "mut"), _EQUATION),
    **dict.fromkeys(("int", "float", "double", "bool", "long", "char", "string", "void"), _EQUATION),
    **dict.fromkeys(("while", "do", "loop", "until", "foreach"), _LOOP),
    **dict.fromkeys(("if", "elif", "else", "elseif", "unless", "switch", "case", "match"), _CHOICE),
    **dict.fromkeys(
        ("return", "break", "continue", "pass", "yield", "goto", "exit", "raise", "throw"), _NO_CONTROL
    ),
    **dict.fromkeys(
        ("class", "struct", "type", "enum", "interface", "trait", "impl", "module", "namespace"),
        'what belongs together is put into a file and imported: `import "layers.tl" as layers`',
    ),
    **dict.fromkeys(
        ("try", "except", "catch", "finally", "with", "async", "await"),
        "an error stops the program and leaves every shared value as it was",
    ),
    **dict.fromkeys(("del", "delete", "free"), "values are freed by themselves"),
    "assert": "write `check {}`",
    "parameter": "write `shared {}`",
    "variable": "write `shared {}`",
    "placeholder": "write `tensor {}`",
    "end": "blocks end with `}}`",
}

_FUNCTIONS = frozenset({"def", "fn", "func", "fun", "proc", "procedure", "sub", "subroutine"})


def comment(t: Trouble) -> Diagnostic | None:
    """`// text` and `/* text */`."""
    token = t.token
    if token.type == "SLASH" and t.at == t.begin:
        text = " ".join(t.source.text[token.end :].split("\n", 1)[0].split())
        if token.text == "//":
            return t.report("S024", hint=write(f"# {text}"))
        if token.text == "/" and t.near(1).text in ("*", "**") and t.touches(1):
            return t.report("S024", t.at, t.at + 2, hint=write(f"# {text.strip('*/ ')}"))
    for at in range(t.at - 1, t.begin - 1, -1):
        if t.tokens[at].type == "_NEWLINE":
            break
        if t.tokens[at].text == "//" and token.type in OPERANDS and t.near(-1).type in OPERANDS:
            line = t.source.text[t.tokens[at].end :].split("\n", 1)[0].strip()
            return t.report("S024", at, hint=write(f"# {line}"))
    return None


def magic(t: Trouble) -> Diagnostic | None:
    """`%time f(x)` of a notebook."""
    if t.at != t.begin or t.token.text != "%" or t.near(1).type != "NAME" or not t.touches(1):
        return None
    word = f"%{t.near(1).text}"
    hint = "write `bench f(x)`" if "time" in word else "leave it out; such lines belong to notebooks"
    return t.report("S012", t.at, t.at + 2, word=word, hint=hint)


def augmented(t: Trouble) -> Diagnostic | None:
    """`x += 1` and its kin, `x := 1`, `x++`."""
    one, two = t.near(-1), t.near(-2)
    command = "update" if t.in_where else "set"
    if t.token.type == "EQUAL" and t.touches():
        target, value = t.words(t.begin, t.at - 1), t.words(t.at + 1, t.end)
        if one.type == "COLON":
            return t.report("S010", t.at - 1, t.at + 1, op=":=", hint=write(f"{target} = {value}"))
        if one.type in _ARITHMETIC:
            if t.end - t.at > 2 and one.type != "PLUS":
                value = f"({value})"
            hint = write(
                f"{command} {target} = {target} {one.text} {value}", f"write `{command} x = x {one.text} ...`"
            )
            return t.report("S010", t.at - 1, t.at + 1, op=f"{one.text}=", hint=hint)
    doubled = one.type == two.type and one.type in ("PLUS", "MINUS") and one.start == two.end
    if doubled and (t.token.type in ENDS or t.token.type in CLOSING):
        target = t.words(t.begin, t.at - 2)
        hint = write(f"{command} {target} = {target} {one.text} 1")
        return t.report("S010", t.at - 2, t.at, op=one.text * 2, hint=hint)
    return None


def foreign_operator(t: Trouble) -> Diagnostic | None:
    """`&&`, `||`, `->` and other operators of two characters."""
    for start in (t.at - 1, t.at):
        if start < t.begin or start + 1 >= len(t.tokens):
            continue
        one, two = t.tokens[start], t.tokens[start + 1]
        op = one.text + two.text
        if one.end != two.start:
            continue
        if op in _PAIRS:
            corrected = f"{t.words(t.begin, start)} {_PAIRS[op]} {t.words(start + 2, t.end)}"
            return t.report("S011", start, start + 2, op=op, hint=write(corrected, f"write `{_PAIRS[op]}`"))
        if op in _PHRASES:
            return t.report("S011", start, start + 2, op=op, hint=_PHRASES[op])
    return None


def choice(t: Trouble) -> Diagnostic | None:
    """`a if c else b`."""
    if t.token.text != "if" or t.at == t.begin:
        return None
    start = t.begin
    for at in range(t.at - 1, t.begin - 1, -1):
        if t.tokens[at].type in ("EQUAL", "COMMA", "LPAR", "LSQB"):
            start = at + 1
            break
    otherwise = next((i for i in range(t.at, t.end) if t.tokens[i].text == "else"), None)
    hint = _CHOICE
    if otherwise is not None and start < t.at:
        parts = t.words(t.at + 1, otherwise), t.words(start, t.at), t.words(otherwise + 1, t.end)
        hint = write(f"where({', '.join(parts)})", _CHOICE) or _CHOICE
    return t.report("S013", hint=hint)


def comprehension(t: Trouble) -> Diagnostic | None:
    """`[x for x in y]`."""
    if t.token.type != "IN" or t.opened is None or t.near(-1).type != "NAME":
        return None
    if not any(token.type == "FOR" for token in t.tokens[t.failure.opened : t.at]):
        return None
    return t.report(
        "S032", hint="write the operation on the whole tensor, such as `x ** 2`, or `[x[i] ** 2 for i]`"
    )


def anonymous(t: Trouble) -> Diagnostic | None:
    """`lambda x: x + 1`."""
    if t.near(-1).text != "lambda":
        return None
    colon = next((i for i in range(t.at, t.end) if t.tokens[i].type == "COLON"), None)
    hint = "an equation with parameters is a template: `f(x) = x + 1`"
    if colon is not None:
        name = t.first.text if t.near(-2).type == "EQUAL" and t.at - t.begin == 3 else "f"
        corrected = f"{name}({t.words(t.at, colon)}) = {t.words(colon + 1, t.end)}"
        hint = write(corrected, hint) or hint
    return t.report("S012", t.at - 1, word="lambda", hint=hint)


def foreign_import(t: Trouble) -> Diagnostic | None:
    """`import numpy as np` and `from x import y`."""
    if t.first.type == "IMPORT" and t.at == t.begin + 1 and t.token.type == "NAME":
        name = t.token.text
        if name in ("numpy", "np", "tlang", "math", "torch", "jax", "theano", "scipy"):
            return t.report("S037", hint="leave it out; operations such as `exp` and `sum` are there")
        return t.report("S037", hint=write(f'import "{name}.tl" as {name}'))
    if t.first.text == "from" and t.at == t.begin + 1:
        return t.report("S037", t.begin, hint='write `import "file.tl" as name`, or leave it out')
    return None


def foreign_statement(t: Trouble) -> Diagnostic | None:
    """Statements that begin with a word of another language."""
    word = t.first.text
    if t.first.type != "NAME" or t.at == t.begin:
        return None
    rest = t.words(t.begin + 1, t.end).rstrip(":")
    second = t.tokens[t.begin + 1]
    ended = t.near(-1).type
    if not (
        second.type in OPERANDS | {"NOT", "LBRACE"}
        or (second.type == "LPAR" and (t.token.type in ("LBRACE", "COLON") or ended in ("RPAR", "COLON")))
        or (second.type == "COLON" and ended == "COLON")
    ):
        return None
    if word in _FUNCTIONS:
        return t.report("S012", t.begin, word=word, hint=_as_function(t))
    if word == "print" and second.type in OPERANDS:
        return t.report("S035", t.begin, t.begin + 1, hint=write(f"print({rest})"))
    if word in _WORDS:
        return t.report("S012", t.begin, word=word, hint=_WORDS[word].format(rest or "..."))
    return None


def _as_function(t: Trouble) -> str | None:
    """The `function` for a `def` in one line, or one that does nothing but return."""
    closing = next((i for i in range(t.begin, t.end) if t.tokens[i].type == "RPAR"), None)
    if closing is None:
        return "write `function f(x) = ...`"
    at = next((i for i in range(closing, t.end) if t.tokens[i].type == "COLON"), closing) + 1
    if t.tokens[at].type == "_NEWLINE":
        at += 1
    body = "..."
    if t.tokens[at].text == "return":
        end = next(i for i in range(at, len(t.tokens)) if t.tokens[i].type in ENDS)
        body = t.words(at + 1, end) or body
    return write(f"function {t.words(t.begin + 1, closing + 1)} = {body}", "write `function f(x) = ...`")


# Words that stand between two values elsewhere.
_WORD_OPERATORS = {"is": "==", "eq": "==", "mod": "%", "div": "//", "xor": "^"}


def word_operator(t: Trouble) -> Diagnostic | None:
    """`a is b`, `a mod b`."""
    op = _WORD_OPERATORS.get(t.token.text)
    if op is None or t.at == t.begin or t.near(1).type in ENDS or not t.expects("PLUS", "OR"):
        return None
    return t.report("S011", op=t.token.text, hint=f"write `{op}`")


def loop(t: Trouble) -> Diagnostic | None:
    """`for i in range(10):`, `for (i = 0; ...)` and `repeat n:`."""
    if t.first.type not in ("FOR", "REPEAT"):
        return None
    word = t.first.text
    if t.token.type == "EQUAL" and t.expects("IN"):
        return t.report(
            "S001",
            found="`=`",
            expected="`in`",
            hint=write(f"{t.words(t.begin, t.at)} in {t.words(t.at + 1, t.end)} {{ ... }}"),
        )
    if word == "for" and t.at == t.begin + 1 and t.token.type == "LPAR":
        return t.report("S031", word=word, hint="write `for i in 0..10 { ... }`")
    if not t.expects("LBRACE"):
        return None
    head = t.words(t.begin, t.at)
    inside = t.find("IN")
    if inside is not None and t.tokens[inside + 1].text == "range" and t.near(-1).type == "RPAR":
        bounds = t.words(inside + 3, t.at - 1)
        start, comma, stop = bounds.partition(",")
        interval = f"{start.strip()}..{stop.strip()}" if comma else f"0..{bounds}"
        if "," not in stop:
            head = f"{t.words(t.begin, inside + 1)} {interval}"
    return t.report("S031", word=word, hint=write(f"{head} {{ ... }}"))


def suffixed_number(t: Trouble) -> Diagnostic | None:
    """`2x`, `0x1F`, `1e`, `1j`: a number that a name follows directly."""
    if t.near(-1).type not in NUMBERS or not t.touches() or t.token.type not in OPERANDS:
        return None
    number, name = t.near(-1).text, t.token.text
    if number == "0" and name[0] in "xXbBoO" and t.token.type == "NAME":
        try:
            hint = write(str(int(number + name, 0)))
        except ValueError:
            hint = "write it in decimal"
        return t.report("S028", t.at - 1, t.at + 1, reason="it is not decimal", hint=hint)
    if name in ("e", "E"):
        reason = "its exponent has no digits"
        return t.report("S028", t.at - 1, t.at + 1, reason=reason, hint=write(f"{number}e0"))
    if t.token.type == "NAME" and name.strip("_") == "":
        return t.report("S028", t.at - 1, t.at + 1, reason="it ends with `_`", hint=write(number))
    return t.report(
        "S015", t.at - 1, t.at + 1, hint=write(f"{number} * {name}"), number=f"`{number}`", right=f"`{name}`"
    )


HABITS = (
    comment,
    magic,
    augmented,
    foreign_operator,
    choice,
    comprehension,
    anonymous,
    foreign_import,
    foreign_statement,
    loop,
    suffixed_number,
    word_operator,
)
