"""Messages about declarations: reserved names, missing types and values, heads of functions."""

from __future__ import annotations

from tlang.errors import Diagnostic
from tlang.syntax.trouble import ENDS, KEYWORDS, OPERANDS, OPERATORS, Trouble, shown, write

_DECLARED = frozenset({"TENSOR", "SHARED", "STREAM", "RANDOM"})
_JOINING = frozenset({"IN", "AS", "WHERE", "GIVEN", "COPY", "AND", "OR"})


def reserved(t: Trouble) -> Diagnostic | None:
    """A reserved word where a name is to stand."""
    at = None
    if (
        t.at == t.begin + 1
        and t.token.type in ("EQUAL", "DOT", "COLON", "COMMA")
        and t.first.type in KEYWORDS
    ):
        at = None if t.first.type in _DECLARED and t.token.type == "COLON" else t.begin
    elif t.token.type in KEYWORDS and t.token.type not in ("BOOL", "NONE"):
        named = t.near(1).type in ("EQUAL", "COLON", "COMMA") or (
            t.at != t.begin and t.token.type not in _JOINING
        )
        if t.expects("NAME") and named and not (t.token.type == "NOT" and t.expects("MINUS")):
            at = t.at
    elif t.token.type in ("BOOL", "NONE") and t.expects("NAME") and not t.expects("STRING"):
        at = t.at
    if at is None:
        return None
    word = t.tokens[at].text
    return t.report("S002", at, word=word, hint=f"choose another name, such as `{word}_`")


def missing_type(t: Trouble) -> Diagnostic | None:
    """`tensor x`, `random r ~ normal(0, 1)`, `tensor x f64`, `tensor x[n]: f64`."""
    keyword = t.first.text
    if t.first.type not in ("TENSOR", "RANDOM", "SHARED") or t.at == t.begin + 1:
        return None
    names = t.words(t.begin + 1, t.at)
    if t.token.type == "NAME" and t.expects("COLON") and t.near(-1).type == "NAME":
        hint = write(f"{keyword} {names}: {t.words(t.at, t.end)}")
        return t.report("S016", keyword=keyword, names=names, hint=hint)
    if t.token.type == "LSQB" and t.expects("COLON"):
        closing = next((i for i in range(t.at, t.end) if t.tokens[i].type == "RSQB"), None)
        if closing is not None:
            dims = t.words(t.at, closing + 1)
            named = t.tokens[closing + 1].type == "COLON" and t.tokens[closing + 2].type == "NAME"
            dtype = t.tokens[closing + 2].text if named else "f64"
            rest = t.words(closing + (3 if named else 1), t.end)
            hint = write(f"{keyword} {names}: {dtype}{dims} {rest}".rstrip())
            return t.report("S016", keyword=keyword, names=names, hint=hint)
    if keyword == "shared":
        return None
    if t.token.type == "TILDE" and keyword == "random" and t.expects("COLON"):
        rest = t.words(t.at, t.end)
        return t.report("S016", keyword=keyword, names=names, hint=write(f"random {names}: f64[n] {rest}"))
    if t.token.type in ENDS | {"RBRACE"} and t.expects("COLON"):
        drawn = " ~ normal(0, 1)" if keyword == "random" else ""
        hint = write(f"{keyword} {names}: f64[n]{drawn}")
        return t.report("S016", t.begin, t.at, keyword=keyword, names=names, hint=hint)
    return None


# What follows the word that begins a statement, with an example.
_EXAMPLES = {
    "tensor": ("a name", "tensor x: f64"),
    "shared": ("a name", "shared w: f64[n] = zeros(n)"),
    "stream": ("a name", "stream s = philox(0)"),
    "random": ("a name", "random r: f64[n] ~ normal(0, 1)"),
    "function": ("a name", "function f(x: f64) = x + 1"),
    "import": ("a file", 'import "layers.tl" as layers'),
    "update": ("a shared value", "update w = w - 0.1 * gw"),
    "given": ("an equation", "given x = 1"),
    "hold": ("a random variable", "hold all"),
    "swap": ("two shared values", "swap a = b"),
    "drop": ("a shared value", "drop updates"),
    "set": ("a name", "set x = 3"),
    "check": ("a condition", "check x == 3"),
    "repeat": ("a count", "repeat 10 { ... }"),
    "for": ("a name", "for i in 0..10 { ... }"),
    "bench": ("an expression", "bench f(x)"),
}


def missing_value(t: Trouble) -> Diagnostic | None:
    """Statements that end before they are complete."""
    before, keyword = t.near(-1), t.first.text
    if t.failure.expected == {"NAME"} and keyword in _EXAMPLES and t.at == t.begin + 1:
        value, example = _EXAMPLES[keyword]
        return t.report(
            "S023", t.begin, t.begin + 1, what=f"`{keyword}`", value=value, hint=f"write `{example}`"
        )
    if t.token.type not in ENDS | {"RBRACE"}:
        return None
    written = t.words(t.begin, t.at)
    if t.first.type in ("SET", "SHARED", "STREAM", "UPDATE") and t.expects("EQUAL"):
        value = "philox(0)" if keyword == "stream" else "0"
        return t.report(
            "S023", t.begin, t.at, what=f"`{written}`", value="a value", hint=write(f"{written} = {value}")
        )
    if t.first.type == "IMPORT" and t.expects("AS"):
        path = t.near(-1).text.strip('"')
        name = path.replace("\\", "/").rsplit("/", 1)[-1].split(".")[0]
        name = name if name.isidentifier() and name.isascii() else "name"
        return t.report(
            "S023", t.begin, t.at, what="`import`", value="a name", hint=write(f"{written} as {name}")
        )
    if t.first.type == "RANDOM" and t.expects("TILDE"):
        hint = write(f"{written} ~ normal(0, 1)")
        return t.report("S023", t.begin, t.at, what=f"`{written}`", value="a distribution", hint=hint)
    if t.first.type == "SWAP" and t.expects("EQUAL"):
        hint = write(f"{written} = other")
        return t.report("S023", t.begin, t.at, what=f"`{written}`", value="another shared value", hint=hint)
    if not t.expects("INT", "NAME", "STRING") or before.text == "":
        return None
    if keyword in _EXAMPLES and t.index(-1) == t.begin:
        value, example = _EXAMPLES[keyword]
        return t.report(
            "S023", t.begin, t.begin + 1, what=f"`{keyword}`", value=value, hint=f"write `{example}`"
        )
    value = "a value" if t.expects("INT") else "a type" if before.type == "COLON" else "a name"
    if before.type in OPERATORS | {"TILDE", "NOT", "EQUAL"}:
        value = "a right side"
    if t.first.type == "FOR" and before.type == "IN":
        value = "an interval or batches"
    hint = (
        "write `for i in 0..10 { ... }`"
        if t.first.type == "FOR"
        else f"write {value} behind it, or delete it"
    )
    if before.type == "COLON":
        hint = f"write `{written} f64`"
    return t.report("S023", t.index(-1), what=f"`{before.text}`", value=value, hint=hint)


def function_head(t: Trouble) -> Diagnostic | None:
    """`function f(x) x + 1`, `function f(x):`, `function f = x`, `function f x = x`."""
    if t.first.type != "FUNCTION" or (t.opened is not None and t.opened.type != "LBRACE"):
        return None
    head = t.words(t.begin, t.at)
    hint: str | None
    if t.expects("WHERE") and t.expects("EQUAL"):
        if t.token.type == "COLON" and t.near(1).type == "NAME":
            hint = "leave out the type of the outputs; it follows from the formula"
            return t.report("S033", where="the value of a function", hint=hint)
        body = t.words(t.at + (t.token.type in ("COLON", "COMPARE")), t.end).removeprefix("return ") or "..."
        hint = write(f"{head} = {body}", "write `=` before the outputs")
        return t.report("S001", found=shown(t.token), expected="`=`", hint=hint)
    if t.expects("COPY"):
        value = t.words(t.at, t.end) or "..."
        hint = write(f"{t.words(t.begin, t.begin + 2)}() = {value}")
        hint = f"{hint}, or `= copy` and the name of a function" if hint else None
        return t.report("S001", found=shown(t.token), expected="`copy`", hint=hint)
    if t.at == t.begin + 2:
        params = t.words(t.at, t.find_sign()) if t.token.type == "NAME" else ""
        rest = t.words(t.find_sign(), t.end) or "= ..."
        hint = write(f"{head}({', '.join(params.replace(',', ' ').split())}) {rest}")
        return t.report("S001", found=shown(t.token), expected="`(`", hint=hint)
    return None


def typed_argument(t: Trouble) -> Diagnostic | None:
    """`s(x: f64) = ...` and `f(x: f64)`."""
    if t.token.type != "COLON" or t.opened is None or t.opened.type != "LPAR" or t.failure.opened is None:
        return None
    called = t.tokens[t.failure.opened - 1]
    if t.failure.opened - 1 != t.begin or called.type != "NAME":
        return t.report("S033", where="an argument", hint="leave out the type")
    hint = f"leave it out, or write `function {called.text}(...) = ...` with typed parameters"
    return t.report("S033", where="a parameter of a template", hint=hint)


def dimension(t: Trouble) -> Diagnostic | None:
    """`f64[-1]`, `f64[n // 2]`, `f64[]`, `f64[...]`, `f64[2.5]`."""
    at = t.failure.opened
    while at is not None and at >= t.begin and t.tokens[at].type == "LPAR":
        at -= 1
    if at is None or at - 2 < t.begin or t.tokens[at].type != "LSQB":
        return None
    if (t.tokens[at - 2].type, t.tokens[at - 1].type) != ("COLON", "NAME"):
        return None
    kind, dtype = t.token.type, t.tokens[at - 1].text
    hint: str | None = "name the size, and let a call or an equation such as `k = 10` say what it is"
    if kind == "RSQB" and t.near(-1).type == "LSQB":
        hint = f"a scalar is `{dtype}`, a vector of any length `{dtype}[_]`"
    elif kind == "MINUS" or kind in ("COLON", "ELLIPSIS", "NONE"):
        hint = f"for an unknown size write `_`, one for each axis: `{dtype}[_, _]`"
    elif kind == "FLOAT":
        hint = "write an integer"
    elif t.near(-1).type in OPERANDS and kind in OPERANDS:
        hint = write(f"{t.near(-1).text}, {t.token.text}")
    found = "nothing" if kind == "RSQB" else shown(t.token)
    return t.report("S029", found=found, hint=hint)
