"""Loops without Python between their steps.

The body of a loop is a list of calls of compiled code whose operands are memory that stays where it is.
What one call hands to another are addresses in their tables, and a new value of a shared tensor takes the
place of the old one by an exchange of two addresses. What has no kernel, Python does between two of them.

    memory    arrays of the loop, and the cells that have their addresses
    code      the operations of the loop, in words
    calls     a call of a function, or of another graph, as operations
    lines     the lines of a body as operations
    loop      a loop that is made of these, run, and what it leaves behind
"""
