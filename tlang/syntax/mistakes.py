"""Messages by example: what a token in the wrong place was most likely meant to be.

Each rule looks at the trouble and gives a message or None; the first that knows wins, and the last
says what was expected, in words.
"""

from __future__ import annotations

from tlang.errors import Diagnostic
from tlang.source import Source
from tlang.syntax.automaton import Failure
from tlang.syntax.brackets import forgotten_bracket, missing_braces, stray_bracket
from tlang.syntax.characters import CHARACTERS
from tlang.syntax.declarations import (
    dimension,
    function_head,
    missing_type,
    missing_value,
    reserved,
    typed_argument,
)
from tlang.syntax.habits import HABITS
from tlang.syntax.layout import END, STATEMENT_WORDS, Token, kinds
from tlang.syntax.trouble import ENDS, KEYWORDS, NUMBERS, OPERANDS, OPERATORS, Trouble, shown, write


def explain(source: Source, tokens: list[Token], failure: Failure) -> Diagnostic:
    """The message for one failure."""
    trouble = Trouble(source, tokens, failure)
    for rule in _RULES:
        found = rule(trouble)
        if found is not None:
            return found
    return _unexpected(trouble)


# ---------------------------------------------------------------- equations and values


def _wrong_sign(t: Trouble) -> Diagnostic | None:
    """`=` for `~`, `==` for `=`, and a value where none can be."""
    value = t.words(t.at + 1, t.end)
    declared = t.words(t.begin + 1, t.at)
    hint: str | None
    if t.token.type == "EQUAL" and t.first.type == "RANDOM":
        typed = declared if t.find("COLON") is not None else f"{declared}: f64[n]"
        return t.report("S036", hint=write(f"random {typed} ~ {value}"))
    if t.token.type == "EQUAL" and t.first.type == "TENSOR":
        typed = declared if t.find("COLON") is not None else f"{declared}: f64"
        hint = (
            f"for a value that is kept write `shared {typed} = {value}`, for a formula `{declared} = {value}`"
        )
        return t.report("S030", what="a `tensor`", hint=hint)
    if t.token.type == "TILDE" and t.expects("EQUAL"):
        hint = write(f"{t.words(t.begin, t.at)} = {value}")
        return t.report("S001", found="`~`", expected="`=`", hint=hint)
    if t.token.text == "==" and t.expects("EQUAL") and not t.expects("COMPARE"):
        hint = write(f"{t.words(t.begin, t.at)} = {value}")
        return t.report("S001", found="`==`", expected="`=`", hint=hint)
    return None


def _inner_equation(t: Trouble) -> Diagnostic | None:
    """`check x = 3`, `p = s = 3`, `f(x[0] = 1)`."""
    if t.token.type != "EQUAL" or t.expects("NAME"):
        return None
    value = t.words(t.at + 1, t.end)
    defined = t.find("EQUAL")
    if defined is not None and t.opened is None and t.first.type == "NAME":
        inner = t.words(defined + 1, t.at)
        hint = f"write two equations, `{inner} = {value}` and `{t.words(t.begin, defined)} = {inner}`; "
        return t.report("S009", hint=f"{hint}to compare write `==`")
    compared = f"{t.words(t.begin, t.at)} == {value}"
    plain = "to compare write `==`"
    return t.report("S009", hint=write(compared, plain) if t.opened is None else plain)


def _bare_given(t: Trouble) -> Diagnostic | None:
    """`q = z given x = 1`, `print(z given x = 1)`."""
    if t.token.type != "GIVEN" or t.at == t.begin:
        return None
    start = t.begin
    for at in range(t.at - 1, t.begin - 1, -1):
        if (
            t.tokens[at].type in ("EQUAL", "COMMA", "LPAR", "LSQB")
            or t.tokens[at].type in KEYWORDS - OPERANDS
        ):
            start = at + 1
            break
    end = next((i for i in range(t.at, t.end) if t.tokens[i].type in ("WHERE", "STRING")), t.end)
    if t.tokens[end - 1].type == "COMMA":
        end -= 1
    return t.report("S021", hint=write(f"({t.words(start, end)})"))


def _several_values(t: Trouble) -> Diagnostic | None:
    """`function f() = x, y`, `set a, b = c, d`, `a, b`, `tensor x: f64, y: i64`."""
    if t.opened is not None and t.opened.type != "LBRACE":
        return None
    if t.token.type == "COMMA":
        sign = t.find("EQUAL")
        if t.first.type == "TENSOR" and t.find("COLON") is not None:
            hint = write(f"{t.words(t.begin, t.at)}; tensor {t.words(t.at + 1, t.end)}")
            return t.report("S001", found="`,`", expected="the end of the declaration", hint=hint)
        if sign is None or t.first.type in ("CHECK", "REPEAT", "FOR"):
            return None
        end = next((i for i in range(t.at, t.end) if t.tokens[i].type == "WHERE"), t.end)
        return t.report("S034", hint=write(f"{t.words(t.begin, sign + 1)} ({t.words(sign + 1, end)})"))
    if t.token.type in ENDS | {"RBRACE"} and t.expects("EQUAL") and t.first.type not in STATEMENT_WORDS:
        if t.find("COMMA") is not None:
            return t.report("S034", t.begin, t.at, hint=write(f"({t.words(t.begin, t.at)})"))
        if t.find("COLON") is not None:
            declared = t.words(t.begin, t.at)
            hint = write(f"tensor {declared}", "for an input write `tensor x: f64`")
            return t.report("S030", t.begin, t.at, what=f"`{t.first.text}`", hint=hint)
    return None


# ---------------------------------------------------------------- operators


def _leading_operator(t: Trouble) -> Diagnostic | None:
    """A line that begins with an operator, which does not continue the line above."""
    if t.at != t.begin or t.begin < 2 or t.token.type not in OPERATORS | {"LEADING", "TILDE"}:
        return None
    if t.tokens[t.at - 1].type != "_NEWLINE":
        return None
    start = t.at - 1
    while start > 0 and t.tokens[start - 1].type not in ENDS | {"LBRACE"}:
        start -= 1
    sign = next((i for i in range(start, t.at - 1) if t.tokens[i].type == "EQUAL"), None)
    value = start if sign is None else sign + 1
    joined = f"({t.words(value, t.at - 1)} {t.words(t.at, t.end)})"
    if sign is not None:
        joined = f"{t.words(start, value)} {joined}"
    otherwise = f"wrap the whole in ( ), or put `{t.token.text}` at the end of the line above"
    balanced = joined.count("(") == joined.count(")")
    hint = write(joined, otherwise) if balanced and t.tokens[start].type == "NAME" else otherwise
    if hint and hint != otherwise:
        hint = f"wrap it in ( ): {hint}"
    return t.report("S008", op=t.token.text, hint=hint)


def _side_by_side(t: Trouble) -> Diagnostic | None:
    """`x y`, `f(a b)`, `x "text"`."""
    before, token = t.near(-1), t.token
    if token.type not in OPERANDS or before.type not in OPERANDS | {"RPAR", "RSQB"}:
        return None
    left, right = shown(before), shown(token)
    if before.type in ("RPAR", "RSQB"):
        operand = t.words(t.operand_start(t.index(-1)), t.at)
        left = f"`{operand}`" if len(operand) <= 30 else left
    hint: str | None = "write `*` or another operator between them"
    if t.opened is not None and t.opened.type != "LBRACE":
        hint = f"write `{before.text}, {token.text}` for two items, or an operator between them"
    elif before.type in NUMBERS and token.type == "NAME":
        hint = f"write `{before.text} * {token.text}`"
    elif before.type == "NAME" and token.text[0] == "." and t.touches():
        hint = f"for an element write `{before.text}[{token.text[1:]}]`"
    elif before.type == "NAME" and token.type in NUMBERS | {"NAME"}:
        hint = f"write `{before.text} * {token.text}`, or `{before.text}({token.text})` for a call"
    elif before.type == "NAME" and token.type == "STRING":
        hint = f"for a call write `{before.text}({token.text})`"
    return t.report("S014", t.index(-1), t.at + 1, left=left, right=right, hint=hint)


# ---------------------------------------------------------------- whatever else

_STARTS_EXPRESSION = kinds("NAME INT FLOAT STRING BOOL NONE LPAR LSQB MINUS PLUS TILDE NOT")
_EXPECTED = {
    "NAME": "a name",
    "INT": "an integer",
    "STRING": "a string",
    "COMMA": "`,`",
    "COLON": "`:`",
    "EQUAL": "`=`",
    "TILDE": "`~`",
    "RANGE": "`..`",
    "ELLIPSIS": "`...`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "DOT": "`.`",
    "STAR": "`*`",
    "PLUS": "`+`",
    "MINUS": "`-`",
}


def _unexpected(t: Trouble) -> Diagnostic:
    """What stands there and what could have stood there."""
    return t.report(
        "S001", found=shown(t.token), expected=_in_words(set(t.failure.expected)), hint=_advice(t)
    )


def _advice(t: Trouble) -> str:
    """A hint for what no rule knows better."""
    kind, begins = t.token.type, t.at == t.begin
    if kind == "WHERE":
        return "`where { ... }` belongs to a function; the operation is written `where(condition, a, b)`"
    if kind == "RANGE":
        return "an interval `a..b` stands in `for i in a..b { ... }`"
    if kind == "RSQB" and t.near(-1).type == "LSQB":
        return "write `[:]` for all elements"
    if kind == "LBRACE":
        return "braces hold bodies; a list is written `[a, b]`, a record `(n = a)`"
    if kind == "SEMICOLON" and t.opened is not None:
        return "in brackets items are separated by `,`"
    if kind == "NOT" and not begins:
        return "`not` stands before its operand, as in `a and not b`"
    if t.token.text == "@" and begins and t.near(1).type == "NAME":
        return "a function needs no decorator: it is compiled in any case"
    if t.opened is not None and t.token.text in ("*", "**") and t.first.type != "FUNCTION":
        return "arguments are written one by one"
    if t.opened is not None and t.first.type == "FUNCTION" and t.expects("RPAR"):
        return "parameters are names with types and defaults, as in `function f(x: f64, y: f64 = 1) = x + y`"
    if t.first.type == "SET" and t.expects("EQUAL"):
        return "on the left of `set` stand names, fields such as `r.state`, and places such as `w[0]`"
    if kind in ("COLON", "ELLIPSIS"):
        return "slices stand in an index, as in `x[1:3]`, types after a new name, as in `tensor x: f64`"
    if kind in STATEMENT_WORDS and not begins:
        return f"`{t.token.text}` begins a statement: write it on a line of its own"
    if kind == "DOT" and t.expects("EQUAL"):
        return "a name with a dot belongs to another file or variable, and can only be read or set"
    if t.expects("OR") and kind not in ENDS:
        return "an operator or a comma may be missing before it"
    if begins:
        return "a statement begins with a name, a value or a word such as `set`"
    return f"write {_in_words(set(t.failure.expected))} in its place"


def _in_words(expected: set[str]) -> str:
    """The kinds of token that could stand somewhere, summed up."""
    words: list[str] = []
    if expected >= {"TENSOR", "SET"}:
        words.append("a statement")
        expected -= _STARTS_EXPRESSION | STATEMENT_WORDS | {"GIVEN", END}
    elif expected >= {"INT", "STRING", "LPAR"}:
        words.append("an expression")
        expected -= _STARTS_EXPRESSION
    elif "INT" in expected and "NAME" in expected:
        words.append("a dimension")
        expected -= {"INT", "NAME", "LPAR"}
    if "OR" in expected:
        words.append("an operator")
        expected -= OPERATORS | {"NOT", "LPAR", "LSQB", "DOT"}
    if expected & ENDS:
        words.append("the end of the statement")
        expected -= ENDS
    words += [_EXPECTED.get(kind, f"`{kind.lower()}`") for kind in sorted(expected)]
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "nothing more"


_RULES = (
    *CHARACTERS,
    forgotten_bracket,
    *HABITS,
    stray_bracket,
    reserved,
    _leading_operator,
    missing_type,
    _wrong_sign,
    _bare_given,
    dimension,
    typed_argument,
    missing_braces,
    function_head,
    _several_values,
    _inner_equation,
    missing_value,
    _side_by_side,
)
