"""The table of codes: every error and warning that tlang can give, with its kind and sentence.

Letters: S the text is not a program; N names; T types, shapes, arguments and updates; F functions
and their clauses; A Python, the prompt and the command line; R what only a run can find; D data files; C checks. `kind` selects the exception
(:mod:`tlang.errors`), `sentence` takes the facts of the case, `why` is the general explanation.
"""

from __future__ import annotations

from typing import NamedTuple


class Code(NamedTuple):
    """A row: the exception's kind, the sentence with `{facts}`, and the explanation."""

    kind: str
    sentence: str
    why: str


CODES: dict[str, Code] = {}


def _codes(kind: str, rows: dict[str, tuple[str, str]]) -> None:
    for code, (sentence, why) in rows.items():
        assert code not in CODES, code
        CODES[code] = Code(kind, sentence, why)


_codes(
    "syntax",
    {
        "S001": (
            "unexpected {found}: expected {expected}",
            "The text up to here can be the beginning of a statement, but no statement goes on like this.",
        ),
        "S002": (
            "`{word}` is a reserved word and cannot be a name",
            "Reserved everywhere: tensor shared random stream function copy where given update hold swap "
            "drop set check repeat for in as bench import and or not True False None true false. A name "
            "next to one, such as `set_` or `inputs`, is free, and so are `updates`, `all`, `state` and "
            "`seed`.",
        ),
        "S003": (
            "{character} cannot stand in a program",
            "Outside strings and comments a program is written in ASCII: names from the letters A to Z, "
            "digits and `_`, operators as on a keyboard. Text copied from a page may hold characters that "
            "only look like these.",
        ),
        "S004": (
            "the string is not closed",
            'A string is written between double quotes on one line; `\\n` in it is a new line and `\\"` a '
            "double quote.",
        ),
        "S005": (
            "strings are written between double quotes",
            "A single quote has no meaning in tlang. The transpose of `x` is written `x.T`.",
        ),
        "S006": (
            "`{bracket}` is never closed",
            "Inside `(` and `[` a statement goes on over newlines; it was read until a word that can only "
            "begin a statement, a token that cannot stand in the brackets, or the end of the text.",
        ),
        "S007": (
            "`{bracket}` {wrong}",
            "Brackets come in pairs of one kind: `( )`, `[ ]`, `{ }`, properly nested.",
        ),
        "S008": (
            "a line cannot begin with the operator `{op}`",
            "A newline ends a statement, so the line above was complete without this one. A statement goes "
            "on after a line that ends with an operator, `=`, `,`, `~` or `given`, and anywhere inside ( ) "
            "and [ ].",
        ),
        "S009": (
            "`=` cannot stand inside an expression",
            "`=` is an equation and defines the names on its left; equality is compared with `==`. In a "
            "call `name = value` gives an argument by name.",
        ),
        "S010": (
            "tlang has no `{op}`",
            "Nothing is assigned: `=` is an equation that holds everywhere. Only `set` (at top level) and "
            "`update` (inside a function) change a value, and both say in full what it becomes.",
        ),
        "S011": (
            "`{op}` is not an operator of tlang",
            "Operators: + - * / // % @ ** == != < <= > >= and or not & | ^ ~. `and`, `or` and `not` are "
            "elementwise on booleans.",
        ),
        "S012": (
            "tlang has no `{word}`",
            "A program is made of `tensor`, `shared`, `stream`, `random`, `function`, equations, and the "
            "commands `set`, `check`, `repeat`, `for`, `bench`, `print(...)` and `save(...)`.",
        ),
        "S013": (
            "a choice is not written with `if` and `else`",
            "`where(condition, a, b)` takes a where the condition holds and b elsewhere, element by element.",
        ),
        "S014": (
            "{left} and {right} stand side by side without an operator",
            "A product is written `a * b`, a call `f(x)`, and a list or a call separates its items by "
            "commas.",
        ),
        "S015": (
            "the number {number} is directly followed by {right}",
            "A product is written with `*`; a name begins with a letter or `_`. Numbers are decimal: 12, "
            "1_000, 0.5, 1e-3.",
        ),
        "S016": (
            "`{keyword} {names}` needs a type",
            "`tensor` and `random` declare what has no value yet, so the type has to say what it will be: "
            "a dtype, and in brackets one dimension for each axis. `_` is an unknown size.",
        ),
        "S017": (
            "an equation cannot define {what}",
            "On the left of `=` stand names, as in `a = 1` or `a, b = f(x)`, or one name with parameters, "
            "as in `s(x) = 1 / (1 + exp(-x))`. What is there already is changed by `set` at top level and "
            "by `update` inside a function.",
        ),
        "S018": (
            "{what} cannot stand in the body of a loop",
            "A body holds commands only (`set`, `check`, `repeat`, `for`, `bench`, calls): what is "
            "timeless is declared once, at top level, and holds in the body too.",
        ),
        "S019": (
            "{what} cannot stand in `where`",
            "`where { }` holds equations, which are local to the function, and the clauses `update`, "
            "`given`, `hold`, `swap` and `drop`. Commands and declarations stand at top level.",
        ),
        "S020": (
            "`{word}` stands outside of a function",
            "`update`, `given`, `hold`, `swap` and `drop` say how one function behaves and are written in "
            "its `where { }`.",
        ),
        "S021": (
            "`given` needs parentheses here",
            "Without them `given` follows a bare expression, the value of `set`, or `bench`; its list of "
            "`name = value` would otherwise run into what comes after.",
        ),
        "S022": (
            "`function {name}` has neither outputs nor clauses",
            "A function is written `function f(x) = outputs`, with `where { ... }` after it if need be; `= "
            "outputs` may be left out if it has updates.",
        ),
        "S023": (
            "{what} needs {value}",
            "The statement ends before it is complete. It may go on in the next line after an operator, "
            "`=` or `,`, and inside brackets.",
        ),
        "S024": (
            "comments are written with `#`",
            "A comment begins with `#` and ends with the line. `//` is the operator of floor division.",
        ),
        "S025": (
            "`{escape}` is not an escape",
            'Inside a string a backslash is followed by `n` (new line), `t` (tab), `"` or another '
            "backslash. Paths may be written with `/` on every system.",
        ),
        "S026": (
            "an argument by position follows one by name",
            "Arguments by position come first, as in `f(9, s = 4)`.",
        ),
        "S027": (
            "either all items have names or none has",
            "`(a, b)` names its fields after the expressions, `(first = a, second = b)` as it says; a "
            "mixture would leave unclear which is which.",
        ),
        "S028": (
            "the number is written wrongly: {reason}",
            "Numbers are decimal: 12, 1_000, 0.5, .5, 1., 1e-3. An integer has at most 4300 digits.",
        ),
        "S029": (
            "{found} cannot be a dimension",
            "A dimension is an integer, a name, `_`, or built from these with `+`, `-` and `*`, such as `n "
            "+ m + 1` or `2 * n`.",
        ),
        "S030": (
            "{what} is declared without a value",
            "A `tensor` gets its value from a call or from `given`. A value that is kept is a `shared`, a "
            "formula is an equation, and a draw is a `random` with `~`.",
        ),
        "S031": (
            "the body of `{word}` stands in braces",
            "`repeat n { ... }`, `for i in a..b { ... }`, `where { ... }`: the opening brace is on the "
            "line of the word, and statements are separated by newlines or `;`.",
        ),
        "S032": (
            "a comprehension has no `in`",
            "`[x[i] ** 2 for i]` names indices, whose ranges follow from what they index. Operations work on whole "
            "tensors too: `x ** 2` squares every element; a loop `for i in 0..n { ... }` repeats commands.",
        ),
        "S033": (
            "{where} takes no type",
            "Types stand in declarations and in the parameters of functions; a template (an equation with "
            "parameters) fits every type that its formula admits.",
        ),
        "S034": (
            "several values stand in parentheses",
            "`(a, b)` is a tuple; without parentheses a comma separates the names on the left of `=`, "
            "arguments, and items.",
        ),
        "S035": (
            "a call is written with parentheses",
            '`print("cost:", cost)` prints; a bare expression echoes its value.',
        ),
        "S036": (
            "a draw is written with `~`",
            "`random r: f64[n] ~ normal(0, 1)` is drawn afresh by each call that uses it; `=` would be an "
            "equation, which always has the same value.",
        ),
        "S037": (
            "`import` takes a file",
            '`import "layers.tl" as layers` takes the declarations of another program; there are no '
            "modules, and every operation is known without an import.",
        ),
    },
)


_codes(
    "state",
    {
        "D101": (
            "`{path}` does not exist",
            "A path is relative to the folder of the source file (in the REPL: the working directory).",
        ),
        "D102": (
            "`{path}` is {what}, not a file",
            "Data is read from and written to files proper; a device or a pipe may have no end.",
        ),
        "D103": (
            "`{path}` may not be {done}",
            "The operating system does not permit it; the file's owner can.",
        ),
        "D104": (
            "`{path}` could not be {done}: {reason}",
            "The operating system reported this. A file that was to be written is as it was before.",
        ),
        "D105": (
            "`{path}` has {ending}, but a data file is told by its ending",
            ".npy holds one array, .npz and .safetensors several, exactly and compactly; .csv is a table as text.",
        ),
        "D106": (
            "`{path}` is not a {format} file, or is damaged: {reason}",
            "The bytes of the file are not as its format has them: it was cut short or changed, or it is a "
            "file of another kind under this name.",
        ),
        "D107": (
            "the folder of `{path}` does not exist",
            "A file is written into a folder that is there; folders are not made on the way.",
        ),
        "D108": (
            "`{path}` holds {what}, which tlang does not load",
            "An array has one of the dtypes bool, i8 to i64, u8 to u64, f32, f64, c64 and c128. Pickled "
            "Python objects are never loaded, since a file could make them run any code.",
        ),
        "D109": (
            "`{path}` holds {count} arrays, {names}: say which",
            "An .npz file has a name for each of its arrays. The name may be left out if there is only one.",
        ),
        "D110": (
            "`{path}` has no {what} `{name}`; it has {names}",
            "The names of an .npz file are those given when it was saved, those of a .csv file its header.",
        ),
        "D111": (
            "`{path}` cannot be read by name: {reason}",
            "An .npz file has named arrays, and a .csv file with a header has named columns; an .npy file "
            "has one array without a name.",
        ),
        "D112": (
            "`{path}` holds {what}",
            "There is nothing in the file that could be read. A .csv file without rows has no dtype.",
        ),
        "D113": (
            "`{path}`, line {line}: {found}, but the first row has {expected}",
            "A table has the same number of cells in every row. A cell that holds a comma is quoted.",
        ),
        "D114": (
            "`{path}`, line {line}, column {column}: {found} not {expected}",
            "A .csv file is a table of numbers, or of True and False, separated by commas, with nan for a "
            "missing number. Its first line may be a header; blank lines and lines that begin with # are "
            "skipped. Of columns that are not read the cells may be anything.",
        ),
        "D115": (
            "`{path}`, line {line}, column {column}: an integer that i64 cannot hold",
            "A table of integers is read as i64, from -2^63 to 2^63 - 1. A table with a decimal point "
            "somewhere is read as f64.",
        ),
        "D116": (
            "`{path}`, line {line}: the byte {byte} is not UTF-8 text",
            "A .csv file is text in UTF-8, with or without a byte order mark.",
        ),
        "D117": (
            "`{path}`, line {line}: this is no row of cells: {reason}",
            'A cell that begins with " ends with ", and then a comma or the end of the line follows; inside '
            'it, "" stands for one ".',
        ),
        "D118": (
            "`{path}` cannot take {what}",
            "An .npy file takes one array, an .npz or .safetensors file any number with different names, and a .csv "
            "file one 2-D array or 1-D arrays of one length, of bool, integers that i64 holds, and floats.",
        ),
        "D120": (
            "`{path}` does not hold the state of this program: {what}",
            "The shared values and random variables of the program that saves and of the one that loads have the "
            "same names, types and generators. Nothing was changed.",
        ),
        "D119": (
            "`{path}` does not fit into memory",
            "The array that the file holds needs more memory than there is.",
        ),
    },
)

_codes(
    "name",
    {
        "N101": (
            "unknown name `{name}`",
            "Every name must be declared, defined or built in before it can be used.",
        ),
        "N102": (
            "`{name}` is defined twice",
            "A name has one definition; `=` is an equation, not an assignment. Use another name, or `shared` and `update` for what changes.",
        ),
        "N103": (
            "`{name}` is a value made by `set`, which an equation cannot use",
            "Equations are timeless; a value made by `set` exists from its line on. Make it `shared`, or pass it as an argument.",
        ),
        "N104": (
            "this definition depends on itself: {cycle}",
            "An equation cannot need its own value. What changes over time is `shared`, with an `update`.",
        ),
        "N105": (
            "`{what}` can be read in commands only",
            "The state of a stream changes with every call, so a timeless formula cannot name it.",
        ),
        "N106": (
            "`{file}` defines no `{name}`",
            "After an import, `alias.name` is a name of the imported file.",
        ),
        "N107": (
            "`{text}` is not a name",
            "A clause names a tensor, shared value, random variable or equation, or `alias.name` of an import.",
        ),
        "N108": (
            "`{name}` stands here twice",
            "Parameters, outputs and saved names must differ; name an output with `(name = expr)`.",
        ),
        "N109": (
            "template `{name}` uses itself",
            "Templates are put in place of their use, so recursion would never end. Iterate with `repeat` and `shared`.",
        ),
        "N110": (
            "`{name}` hides tlang's own `{name}`",
            "A definition may take the name of a built-in one; from then on the name means yours.",
        ),
        "N111": (
            "`{name}` is a {kind}: a `where` block cannot redefine it",
            "Local equations may hide equations and tensors of the top level, never state, streams or functions.",
        ),
        "N112": (
            "function `{name}` calls itself: {cycle}",
            "Calls in formulas are put in place of the call, so recursion would never end.",
        ),
        "N113": (
            "{names} cannot be redefined like this: {unfit} would no longer fit",
            "At the prompt a new definition replaces the old one, and everything that uses the name is checked "
            "anew. If something fails, the old definition stays. Enter the new definitions together, in one "
            "submission: they are checked as a whole.",
        ),
        "N120": (
            "imports form a cycle: {cycle}",
            "A file cannot import itself, directly or through others. Move what both need to a third file.",
        ),
        "N190": (
            "{where} uses {names}",
            "It costs nothing and does nothing. Often another name was meant somewhere, or it is left over; a name "
            "that begins with `_` may stay unused.",
        ),
    },
)

_codes(
    "shape",
    {
        "T101": (
            "these sizes do not fit together",
            "Shapes are aligned at the right; a dimension written 1 stretches, all others must be equal. A named dimension equals only itself, even when its size happens to be 1.",
        ),
        "T102": (
            "`@` needs matching inner dimensions",
            "In `a @ b` the last dimension of a meets the first of a vector b, or the second last of a matrix b.",
        ),
        "T103": (
            "the parts must agree in all other dimensions",
            "Tensors that are joined or stacked have equal sizes, except along the axis on which they are joined.",
        ),
        "T109": ("a square matrix is needed", "The last two dimensions are equal."),
        "T104": (
            "{what} has size {found} on axis {axis}, {wanted} is wanted",
            "The size that comes in differs from the declared one.",
        ),
        "T107": (
            "{what} is {found}, {wanted} is wanted",
            "The number of dimensions differs from the declared one.",
        ),
        "R130": (
            "`{name}` is {wanted}, but has {found} dimensions",
            "The value that comes in has another number of dimensions than its type.",
        ),
        "R131": (
            "`{name}` has size {found} on axis {axis}, {wanted} is wanted",
            "A size that only this call could decide differs from what the types say.",
        ),
        "R132": (
            "this has {found} elements on an axis where {wanted} are wanted",
            "A size that depends on computed data came out otherwise than the types say.",
        ),
    },
)

_codes(
    "type",
    {
        "T105": (
            "{found} where {wanted} is wanted",
            "Only literals adapt their dtype; everything else is cast by calling the dtype, as in `f32(x)`.",
        ),
        "T106": (
            "{found} cannot become {wanted} without losing values",
            'Values that come in are cast only where every value of the source is one of the target (NumPy\'s "safe" casting).',
        ),
        "T108": (
            "{value} is not exactly representable as {wanted}",
            "A number or list is converted only if nothing is lost: integers in range, floats to integers only if integral, bool only to bool.",
        ),
        "T110": (
            "unknown type `{name}`",
            "The dtypes are bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 c64 c128, and Theano's names such as dmatrix.",
        ),
        "T111": (
            "`{name}` is a {kind}, and cannot be a dimension",
            "A dimension is an integer, a free name, or an equation that is an integer computed from literals.",
        ),
        "T112": (
            "this is not a dimension",
            "A dimension is an integer, a name, `_`, or a sum such as `n + m + 1` or `2 * n`.",
        ),
        "T113": (
            "`{name}` is a {kind}, not a value",
            "The name stands for something that has to be called or indexed before it is a value.",
        ),
        "T114": (
            "this is a record ({fields}), not one tensor",
            "A function with several outputs gives a record; its parts are taken by name, by `[k]`, or by unpacking.",
        ),
        "T115": (
            "a {what} of a stream is not a tensor",
            "States can be stored by `set` and given back by `set r.state = ...`, no more.",
        ),
        "T116": ("{what} is not a tensor", "Strings and None stand only where an argument asks for them."),
        "T117": ("{wanted} names, but {got}", "Each name takes one item of the record on the right."),
        "T118": (
            "no field `{name}`: there are {fields}",
            "The fields of a record are the names of the function's outputs.",
        ),
        "T119": (
            "a tensor has no `.{name}`",
            "Operations are called by name: `sum(x)`, not `x.sum()`. Only the transpose is written `x.T`.",
        ),
        "T120": (
            "`{op}` needs bool, this is {found}",
            "`and`, `or`, `not`, `any`, `all` and conditions work on bool only; compare first, as in `x != 0`.",
        ),
        "T121": (
            "`{op}` needs bool or integers, this is {found}",
            "`&`, `|`, `^` and `~` work on the bits of bool and integers.",
        ),
        "T122": (
            "this is not defined for bool ({found})",
            "Bool has no sign and no difference, as in NumPy; cast it first, as in `i64(x)`.",
        ),
        "T123": (
            "{found} cannot be cast to {target}",
            "A complex number has no real value: take its real part or its absolute value.",
        ),
        "T124": ("{value} is out of the range of {dtype}", "An integer literal must fit its dtype."),
        "T125": (
            "this is not defined for complex numbers ({found})",
            "The operation needs an order, which complex numbers do not have.",
        ),
        "T126": (
            "an integer to the power {value}",
            "A negative power of integers is no integer; write a float, as in `2.0 ** -1`.",
        ),
        "T130": (
            "`@` needs at least one dimension on both sides: {left} @ {right}",
            "A product with a scalar is written `*`.",
        ),
        "T131": (
            "axis {axis} is out of range for {rank} dimensions",
            "Axes count from 0, or from the end as -1, -2 ...",
        ),
        "T132": ("an axis is named twice in {axes}", "Each axis can be reduced once."),
        "T133": (
            "one axis is wanted, not {axis}",
            "The index of an extreme element is taken along one axis, or over the flattened tensor.",
        ),
        "T134": (
            "`one_hot` needs integers and one size, this is {found}",
            "The first argument holds class numbers from 0, the second is their count.",
        ),
        "T135": (
            "{found} has more dimensions than the {rank} wanted",
            "Broadcasting adds dimensions in front, it never removes one.",
        ),
        "T136": ("{found} cannot take the shape {shape}", "A reshape keeps the number of elements."),
        "T137": (
            "only one size may be -1",
            "One unknown size follows from the number of elements, two do not.",
        ),
        "T138": ("{axes} is not an order of {rank} axes", "Each axis must stand there once."),
        "T139": ("axis {axis} has size {size}, not 1", "Only a dimension written 1 can be removed."),
        "T140": (
            "these cannot be joined: {found}",
            "Tensors that are joined have the same number of dimensions, at least one.",
        ),
        "T141": ("`{op}` does not take {found}", "See the operation's line in the reference."),
        "T142": ("a ragged list: {first}, then {other}", "All items of a list have one shape."),
        "T143": ("bool and numbers in one list", "A list has one dtype, and bool is not converted."),
        "T145": (
            "nothing gives the size `{name}` in `{function}`",
            "A dimension's size comes from a parameter or a shared value whose type names it.",
        ),
        "T146": (
            "{what} must be an integer, this is {found}",
            "Counts, bounds and seeds are scalar integers.",
        ),
        "T147": (
            "`check` needs one bool, this is {found}",
            "A check holds or fails as a whole: combine with `all(...)` or `any(...)`.",
        ),
        "T148": (
            "`{name}` needs a type to be drawn",
            "The declared type gives a draw its shape and dtype: `set x: f64[10] ~ normal(0, 1)`.",
        ),
        "T150": ("{count} indices for {rank} dimensions", "There is at most one index for each dimension."),
        "T151": (
            "an index must be an integer, this is {found}",
            "Indices are integers, slices, None, `...` or integer tensors.",
        ),
        "T152": (
            "index {index} is out of range for size {size} on axis {axis}",
            "Indices run from 0 to size - 1, or from -size to -1.",
        ),
        "T153": (
            "{found} does not fit into the place {place}",
            "A value may stretch into a place, but not have more dimensions.",
        ),
        "T154": (
            "a record of {count} fields is indexed by an integer known before the run",
            "Fields are taken by `[k]` with a constant k, or by name.",
        ),
        "T155": (
            "two `...` in one index",
            "`...` stands for all dimensions that no other index names; two would be ambiguous.",
        ),
        "T156": (
            "a bool tensor is not an index",
            "How many elements a mask selects is known only when it runs, so the shape would not be.",
        ),
        "T157": (
            "a size or bound must be a scalar integer, this is {found}",
            "Sizes of shapes and bounds of slices are integers.",
        ),
        "T158": (
            "the step of a slice must be a constant integer, not 0",
            "The step decides the shape, so it is known before the run.",
        ),
        "T159": ("a size cannot be {size}", 'Sizes are not negative; -1 means "what is left" in `reshape`.'),
        "T160": (
            "`{name}` does not draw {found}, but {kinds}",
            "The declared type of a random variable is that of its draws; nothing is cast.",
        ),
        "T161": (
            "`{name}` is {found}, which is more than the draw {shape}",
            "Parameters stretch to the declared shape; they cannot have more dimensions.",
        ),
        "T162": (
            "`{name}` draws along the last axis, {found} has none",
            "The last axis of such a draw belongs together: shares, counts, or an order.",
        ),
        "T163": (
            "`{name}` is {found}, {wanted} is wanted",
            "The reference says of each distribution what its parameters are.",
        ),
        "T164": (
            "the mask {found} does not fit {tensor}",
            "A mask has the sizes of the first axes of what it selects from.",
        ),
        "T170": (
            "`{subscripts}` does not say a sum of products: {reason}",
            "The subscripts of `einsum` have a term for each operand, with a letter for each axis, and behind `->` "
            'the letters of the result: `einsum("ij,jk->ik", a, b)`.',
        ),
        "T171": (
            "the label `{name}` has two sizes",
            "Axes of one label in `einsum` are summed or kept together, so they have one size; a written 1 stretches.",
        ),
        "T172": (
            "axes {axes} are not axes of {left} and {right}",
            "`tensordot` sums over so many last axes of the first and first axes of the second, or over two lists of "
            "axes that have the same length.",
        ),
        "T173": (
            "the axes that are summed have two sizes: {first} and {second}",
            "A sum of products takes the elements of both operands in pairs.",
        ),
        "T174": (
            "`norm` has no order {order} for {what}",
            'Vectors have the orders 0, 1, 2, any other number, inf and -inf; matrices 1, -1, 2, -2, inf, -inf, "fro" '
            'and "nuc". Without an axis a tensor of one dimension is a vector, one of two a matrix.',
        ),
        "T175": (
            "a window of {size} does not fit into {axis}",
            "Windows lie inside of the tensor and its padding; an axis that is shorter than a window by more than "
            "one has a negative number of places.",
        ),
        "T176": (
            '`padding = "same"` needs sizes that are known before the run, not {size}',
            "How many elements are added follows from the size of the window, and with a stride from that of the "
            "tensor too.",
        ),
        "T177": (
            "the kernel has other channels than the tensor",
            "The kernel of a convolution is w[outputs, channels, ...], the tensor x[..., channels, ...].",
        ),
        "T190": (
            "both operands stretch: {left} and {right} give {result}",
            "Often one of them lacks a transpose; write the `1` or `None` on one side only if this is meant.",
        ),
        "T191": (
            "f32 becomes f64 here: {types}",
            "By NumPy's rules the operation is done in f64, with twice the memory and half the speed, and so is all "
            "that follows. A literal would not do that; values of f64, and integers of 32 and 64 bits, do.",
        ),
        "T192": (
            "the dimension `{name}` occurs once, and `{near}` is one letter away",
            "Each name of a dimension is a size of its own, so that a misspelt one fits everything.",
        ),
        "F101": (
            "a {what} cannot be called",
            "Functions, templates and operations are called; tensors are indexed.",
        ),
        "F102": (
            "more arguments than {what} takes: {count} ({names})",
            "There are more positional arguments than parameters.",
        ),
        "F103": ("{what} has no parameter `{name}`", "Keyword arguments are named as in the definition."),
        "F104": (
            "`{name}` is given twice to {what}",
            "Each parameter takes one argument, by position or by name.",
        ),
        "F106": ("{what} needs {names}", "Every parameter without a default needs an argument."),
        "F107": ("`{name}` needs a list of tensors", "Write `concatenate([a, b])`."),
        "F108": (
            "`{name}` must be {wanted}",
            "The argument decides the type of the result, so it is known before the run.",
        ),
        "F110": (
            "`{where}` needs a value for the tensor `{name}`: {formula}",
            "A tensor gets its value from a parameter or from `given`.",
        ),
        "F111": (
            "`{name}` has neither outputs nor updates",
            "A function gives values, changes state, or both.",
        ),
        "F112": (
            "the parameter `{name}` has no type, and there is no tensor of that name",
            "A parameter without a type is the top-level tensor, or the equation, of that name.",
        ),
        "F113": (
            "the parameter `{name}` is a {kind}",
            "A parameter without a type stands for a tensor or an equation.",
        ),
        "F114": (
            "the default of `{name}` is not a constant",
            "Defaults are constants, evaluated at the definition.",
        ),
        "F115": (
            "`{name}` is a {kind}: only shared values are updated",
            "State that changes is declared with `shared`.",
        ),
        "F116": (
            "`{name}` is updated twice",
            "All updates happen together after the call, so each state has one.",
        ),
        "F117": (
            "the update of `{name}` is {found}, {wanted} is wanted",
            "An update has exactly the dtype and rank of the state, and constant sizes stay.",
        ),
        "F118": (
            "the parameter `{name}` of `{function}` is not used",
            "An input that changes nothing is often a mistake; `--unused=ignore` allows it.",
        ),
        "F120": (
            "`{name}` is a distribution: draw from it with `~`",
            "Random numbers are declared: `random r: f64[n] ~ normal(0, 1)`.",
        ),
        "F121": ("`{name}` is a command, not a value", "Commands stand on a line of their own."),
        "F122": (
            "this is not a form that tlang knows",
            "The line has the shape of a declaration or command, but not its parts.",
        ),
        "F123": ("`{name}` is not a stream", "Random variables draw from a stream: `stream s = philox(0)`."),
        "F124": ("unknown distribution `{name}`", "The distributions are listed in the reference."),
        "F130": (
            "`{what}` is taken for names",
            "The second and further arguments name tensors, shared values, parameters or equations.",
        ),
        "F131": (
            "`{name}` is {found}, which has no derivative",
            "Derivatives are of real floating-point formulas, for real floating-point names.",
        ),
        "F132": (
            '`disconnected` is "error" or "zero"',
            "It says what the gradient is for names that the cost does not depend on.",
        ),
        "F133": ("the cost is {found}, a real scalar is wanted", "A gradient is that of one number."),
        "F134": (
            "`{cost}` does not depend on `{name}`",
            "The formula does not mention the name, so there is no gradient.",
        ),
        "F135": (
            "no gradient reaches `{name}` from `{cost}`: {reason} cuts the path",
            "Comparisons, rounding to integers, indices and the condition of `where` have no derivative.",
        ),
        "F140": (
            "`{name}` {what} {names}: it is a command, not a formula",
            "A formula is timeless; a function that changes state is called by `set`, or on a line of its own.",
        ),
        "F150": (
            "a {kind} such as `{name}` cannot be given",
            "A given replaces a tensor, a shared value, a random variable or a named equation.",
        ),
        "F151": ("`{name}` is used as a dimension", "A constant that shapes are made of cannot be replaced."),
        "F152": ("nothing here reads `{name}`", "A given that matches nothing is often a misspelling."),
        "F153": ("`{name}` is given twice", "All givens are one substitution."),
        "F154": (
            "`{name}` is {wanted}, the value given is {found}",
            "A given has exactly the dtype and rank of what it replaces.",
        ),
        "F155": (
            "`{what}` matches nothing",
            "The function neither reads, draws nor updates what the clause names.",
        ),
        "F156": (
            "`{name}` is a {kind}: only random variables and streams are held",
            "`hold` keeps a random state from advancing.",
        ),
        "F160": ("`{name}` is a {kind}, not a function", "`copy` takes a function."),
        "F161": (
            "a copy takes swap, drop, hold and given only",
            "A copy changes what a function reads and updates, not its formulas.",
        ),
        "F162": (
            "`{a}` is {left}, `{b}` is {right}: they cannot be swapped",
            "States that are exchanged have the same type.",
        ),
        "F163": (
            "`{name}` is a {kind}: shared values, random variables and streams are swapped",
            "`swap a = b` makes a copy read and update b in the place of a, or draw from it.",
        ),
        "F170": (
            "the tensor `{name}` has no value on this line: {formula}",
            "A tensor gets its value from `given`, or as a function's parameter.",
        ),
        "F171": (
            "`{name}` is a {kind}: `set` cannot change it",
            "`set` makes values and stores shared values and states of streams.",
        ),
        "F172": (
            "the stream `{name}` has no state of its own",
            "Each random variable of a stream has its state.",
        ),
        "F173": ("`{name}` has its type already", "The type of a shared value is declared once."),
        "F174": (
            "`{name}` takes a state",
            "States come from `r.state`, or from a file in which they were saved.",
        ),
        "F180": ("one name for a range", "`for i in a..b` counts with one name."),
        "F181": (
            "`for` runs over a range or batches",
            "Write `for i in 0..n { ... }` or `for xb, yb in batches(x, y, size = 128) { ... }`.",
        ),
        "F182": (
            "{found} has no rows to divide into batches",
            "Batches are taken along the first dimension.",
        ),
        "F183": (
            "`{name}` would change its type in the loop, from {before} to {after}",
            "Each iteration reads what the one before stored, so its type stays.",
        ),
        "F190": ("`{name}` is not a generator", "The generators are `philox(seed)` and `mt19937(seed)`."),
        "F191": (
            "the seed of a stream is an integer computed from literals",
            "A declaration does not depend on the run; `set s.seed = k` reseeds.",
        ),
        "F200": (
            "{found} cannot be the step of a recurrence",
            "A step is a template, a function without updates and draws, or an operation, named without brackets: "
            "its parameters are an element of each sequence, then the carried values.",
        ),
        "F201": (
            "{name} takes {takes}, and is given {given}",
            "A step takes an element of each sequence, then the carried values; a condition takes the carried "
            "values. More parameters than that need defaults.",
        ),
        "F202": (
            "a sequence is {found}: it has no axis to go along",
            "A recurrence goes along the first axis of its sequences. What is the same in all steps the step "
            "reads by its name.",
        ),
        "F203": (
            "the sequences differ in length",
            "In each step one element of every sequence is taken: their first axes have one size.",
        ),
        "F204": (
            "`{name}` begins as {begins}, and the step makes {found} of it",
            "A carried value keeps its dtype and its shape from step to step.",
        ),
        "F205": (
            "the step gives {got}, too few for the carried {names}",
            "A step gives the carried values anew, in the order of its parameters, then what else it computes.",
        ),
        "F206": (
            "how many steps? {why}",
            "The number of steps is the length of the sequences, `steps = n`, or left to `while = condition`.",
        ),
        "F207": (
            "a draw of `{name}` in a step depends on the step",
            "A random variable is drawn once a call, however often a formula names it, and a step is part of one "
            "formula. A draw for every step is a sequence.",
        ),
        "F208": (
            "`{a}` and `{b}` do not go together",
            "With `while` the last element is not known before the run, nor where segments end.",
        ),
        "F209": (
            "the step gives `{found}` where the new `{wanted}` is expected",
            "The carried values come in the order of the step's parameters.",
        ),
        "F210": (
            "the condition of `while` is {found}, a bool is wanted",
            "A step is made while the condition, of the carried values, is True.",
        ),
        "F220": (
            "the range of `{name}` is not known",
            "An index runs along the axis that it alone stands for: `a[i]`, where `a[i + 1]` says nothing.",
        ),
        "F221": (
            "`{name}` runs along axes of different sizes",
            "An index has one range, and nothing stretches.",
        ),
        "F222": (
            "`{name}` has no axis to go over: it does not reduce",
            "In a call, `... for k` is reduced over k, by an operation with an `axis` such as `sum` or `max`. A "
            "tensor of all values is written in `[ ]`.",
        ),
        "A101": (
            "argument `{name}` is not a number, a list or an array: {found}",
            "Arguments from Python are numbers, nested lists and NumPy arrays.",
        ),
        "A102": ("argument `{name}` is a ragged list", "All items of a list have one shape."),
    },
)

_codes(
    "state",
    {
        "R110": (
            "integer division by zero in `{what}`",
            "Integers have no infinity; floats give inf or NaN.",
        ),
        "R111": (
            "an integer to the power {value}",
            "A negative power of integers is no integer; cast to a float first.",
        ),
        "R112": ("`{what}` of no elements", "An empty tensor has no greatest or least element."),
        "R113": ("a size came out as {size}", "Sizes are not negative."),
        "R114": ("the step of `arange` is 0", "A range with step 0 never ends."),
        "R115": (
            "index {index} is out of range for size {size} on axis {axis}",
            "Indices run from 0 to size - 1, or from -size to -1.",
        ),
        "R116": ("shape {found} cannot become {shape}", "A reshape keeps the number of elements."),
        "R117": ("`{what}` of a singular matrix", "Its rows are linearly dependent: it has no inverse."),
        "R118": (
            "`{what}` of a matrix that is not positive definite",
            "All eigenvalues must be positive; adding a small multiple of `eye(n)` often helps.",
        ),
        "R119": (
            "{what} must be {wanted}, this is {found}",
            "An argument of the operation is outside of what it takes.",
        ),
        "R125": (
            "a window of {size} does not fit into {axis} elements",
            "Windows lie inside of the tensor and its padding; an axis that is shorter than a window by more than "
            "one has a negative number of places.",
        ),
        "R120": ("this could not be computed: {what}", "Sizes that only the run decides did not fit."),
        "R121": ("not enough memory", "The result of this operation does not fit into memory."),
        "R122": (
            "the size {size} of this draw is not known",
            "A named size of a random variable must be that of a parameter or a shared value of the call; `_` follows the distribution's parameters.",
        ),
        "R140": (
            "{name}: `{parameter}` is {value}, but must be {wanted}",
            "The parameter is outside of what the distribution allows.",
        ),
        "R141": (
            "`{name}` draws from {wanted}, the state is of {found}",
            "States are exchanged between variables of one generator.",
        ),
        "R142": (
            "`{name}` takes a state, and these u64 are none",
            'A state that `save("s.npz", r.state)` has written is loaded as u64: the name of its generator in ASCII, '
            "then the words of the state.",
        ),
        "R150": (
            "`{name}` has no value yet",
            "A shared value is computed when its line is reached; a line above it cannot read it.",
        ),
        "R151": (
            "`{name}` has no value: the line that sets it has not run",
            "After a loop without iterations, what only the loop sets does not exist.",
        ),
        "R152": ("`repeat` {count} times", "A count is not negative."),
        "R153": ("batches of {size} rows", "A batch has at least one row."),
        "R160": (
            "`{what}` made {found}{where} of finite numbers",
            "`--check-finite` stops at the first operation that makes a NaN or an infinity of finite numbers. Where that is meant, as in a branch of `where` that is not taken, give the operation numbers that it is defined for.",
        ),
        "R171": (
            "the backend `cuda` finds no driver: {found}",
            "Kernels run on an NVIDIA GPU through NVIDIA's driver: install the one for the card. In a container, the host's driver must be passed in, as `docker run --gpus all` does. The other backends need no GPU. `tlang doctor` shows what is found.",
        ),
        "R172": (
            "the backend `cuda` finds no device: {found}",
            "There is a driver of NVIDIA, but no GPU that can be used: `nvidia-smi` shows what it sees, and CUDA_VISIBLE_DEVICES may hide devices. The other backends need no GPU.",
        ),
        "R173": (
            "the backend `cuda` is not installed: {found}",
            "`pip install 'tlang-compiler[cuda]'` installs numba-cuda and the libraries of CUDA that it needs. The other backends do without.",
        ),
        "R174": (
            "the backend `cuda` finds no libraries of CUDA: {found}",
            "numba-cuda compiles kernels with NVIDIA's NVVM, NVRTC and nvJitLink: `pip install 'tlang-compiler[cuda]'` brings them; a CUDA toolkit of the system serves too, if CUDA_HOME names it.",
        ),
        "R175": (
            "the driver is too old for the backend `cuda`: {found}",
            "A driver runs code that libraries of its own or an older major version of CUDA made: install a newer driver, or older libraries, such as those of `pip install 'numba-cuda[cu12]'`.",
        ),
        "R176": (
            "the GPU refused to go on: {what}",
            "A call of NVIDIA's libraries failed. The memory may be full, the device may be lost, or a kernel is wrong, which would be a fault of tlang: `--backend cpu` computes the same without the GPU.",
        ),
        "R177": (
            "a kernel cannot be compiled: {what}",
            "numba-cuda or NVIDIA's linker does not take it: perhaps the GPU is newer than the libraries, or the fault is tlang's. `--backend cpu` computes the same without the GPU.",
        ),
        "D190": (
            "there is no file `{path}`",
            "Paths are relative to the file that names them; in the REPL to the working directory.",
        ),
        "D191": ("`{path}` cannot be read: {why}", "The system refused to read the file."),
        "D192": ("`{path}` is not UTF-8 text (line {line})", "Programs are UTF-8 text."),
        "A110": (
            "this program has no `{name}`",
            "Python reaches functions, shared values, streams and random variables by their names.",
        ),
        "A111": (
            "`{name}` is a formula, not a function or a state",
            'Formulas are evaluated: `m.eval("z given x = 1")`.',
        ),
        "A112": (
            "{name} cannot be {value!r}: choose from {choices}",
            "The option takes one of these values.",
        ),
        "A113": (
            "`{name}` is not a function of this program",
            '`m.repeat(n, "f", ...)` calls a function n times, `:plan f` at the prompt shows one.',
        ),
        "A120": (
            "the prompt has no command `:{name}`",
            "A line that begins with `:` is a command of the prompt; `:help` lists them.",
        ),
        "A121": (
            "`:{name}` needs {argument}",
            "The command works on something that follows it on the line.",
        ),
        "A122": (
            "nothing is known of `{name}`",
            "`tlang explain` takes a code of a message, an operation, or a topic.",
        ),
        "A123": (
            "`{path}` cannot be written: {why}",
            "The system refused to write the file.",
        ),
    },
)

_codes(
    "check",
    {
        "C101": ("the check failed{message}", "The expression of the `check` was False."),
        "C102": (
            "the value is {actual}, {expected} is expected",
            "The value differs from the one written after `#=>`.",
        ),
        "C103": (
            "`{wanted}` is expected here, {found}",
            "The line should fail with the code written after `#!`.",
        ),
    },
)
