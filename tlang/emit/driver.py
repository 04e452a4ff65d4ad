"""The text of the loop around compiled steps: it follows a short program of words, so one code serves all
loops.

A program is a table of int64: two words for threads to wait for each other, then four words for each
operation:

    CALL  entry, table, wanted   calls compiled code; `wanted` is 1 if its late steps are needed in every
    iteration SWAP  a, b                   exchanges the words at two addresses
    LOAD  a, b                   the word at address a becomes that at b
    ADD   a, k                   k is added to the word at address a
    COPY  a, b, n                n bytes go from the address that is at b to that at a

Only the first thread does what is not a CALL, while the others wait.
"""

from __future__ import annotations

CALL, SWAP, LOAD, ADD, COPY = range(5)
#: Words of a program before its operations, and of an operation.
HEADER, WORDS = 2, 4
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
        for k in range({HEADER}, {HEADER} + {WORDS} * count, {WORDS}):
            what = p[k]
            a = p[k + 1]
            b = p[k + 2]
            c = p[k + 3]
            if what == {CALL}:
                if nt > 1:
                    barrier(p, nt)
                invoke(a, b, tid, nt, c | last)
                if nt > 1:
                    barrier(p, nt)
            elif tid == 0:
                if what == {SWAP}:
                    held = word(a)[0]
                    word(a)[0] = word(b)[0]
                    word(b)[0] = held
                elif what == {LOAD}:
                    word(a)[0] = word(b)[0]
                elif what == {ADD}:
                    word(a)[0] = word(a)[0] + b
                else:
                    copy(word(a)[0], word(b)[0], c)
    return 0
"""
