"""The text of the loop around compiled steps: it follows a short program of words, so one code serves all
loops.

A program is a table of int64: two words for threads to wait for each other, the number of whole iterations
so far, what a call of Python gave, then four words for each operation:

    CALL   entry, table, wanted   calls compiled code; `wanted` is 1 if its late steps are needed each time
    HOST   entry, number          calls Python, which does what has no kernel
    SWAP   a, b                   exchanges the words at two addresses
    LOAD   a, b                   the word at address a becomes that at b
    STORE  a, k                   the word at address a becomes k
    ADD    a, k                   k is added to the word at address a
    COPY   a, b, n                n bytes go from the address that is at b to that at a
    TEST   a                      fails where the byte at the address that is at a is 0
    AGAIN  a, to                  the word at address a less 1; unless it is 0, on with operation `to`

Only the first thread does what is not a CALL, while the others wait. A run ends early where an operation
fails: it gives that operation's number and one, otherwise 0.
"""

from __future__ import annotations

from tlang.emit.text import STATUS

CALL, HOST, SWAP, LOAD, STORE, ADD, COPY, TEST, AGAIN = range(9)
#: Words of a program before its operations, and of an operation; where the counts are.
HEADER, WORDS = 4, 4
DONE, ANSWER = 2, 3
ENTRY = "drive"
#: The program, the number of its operations, how many iterations, whether the last of them is the loop's
#: last, this thread's number, the number of threads.
SIGNATURE = "int64(int64, int64, int64, int64, int64, int64)"

TEXT = f"""\
@njit
def copy(target, source, n):
    a = uint8_at(target)
    b = uint8_at(source)
    for i in range(n):
        a[i] = b[i]


@njit
def word(a):
    return int64_at(a)


def {ENTRY}(program, count, iterations, final, tid, nt):
    p = int64_at(program)
    for i in range(iterations):
        last = 1 if final != 0 and i == iterations - 1 else 0
        at = 0
        while at < count:
            k = {HEADER} + {WORDS} * at
            what = p[k]
            a = p[k + 1]
            b = p[k + 2]
            c = p[k + 3]
            at = at + 1
            if what <= {HOST} or what >= {TEST}:
                if nt > 1:
                    barrier(p, nt)
                if what == {CALL}:
                    invoke(a, b, tid, nt, c | last)
                elif tid == 0:
                    if what == {HOST}:
                        p[{ANSWER}] = invoke(a, b, 0, 0, 0)
                    elif what == {TEST}:
                        p[{ANSWER}] = uint8_at(word(a)[0])[0] == 0
                    else:
                        word(a)[0] = word(a)[0] - 1
                        p[{ANSWER}] = word(a)[0]
                if nt > 1:
                    barrier(p, nt)
                if what == {CALL}:
                    if word(b)[{STATUS}] != 0:
                        return at
                elif what == {AGAIN}:
                    if p[{ANSWER}] != 0:
                        at = b
                elif p[{ANSWER}] != 0:
                    return at
            elif tid == 0:
                if what == {SWAP}:
                    held = word(a)[0]
                    word(a)[0] = word(b)[0]
                    word(b)[0] = held
                elif what == {LOAD}:
                    word(a)[0] = word(b)[0]
                elif what == {STORE}:
                    word(a)[0] = b
                elif what == {ADD}:
                    word(a)[0] = word(a)[0] + b
                else:
                    copy(word(a)[0], word(b)[0], c)
        if tid == 0:
            p[{DONE}] = p[{DONE}] + 1
    return 0
"""
