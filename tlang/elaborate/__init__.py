"""Syntax to typed graphs: names, templates, functions, givens, copies, gradients, commands.

No such construct survives elaboration; what leaves this package are functions and command plans.
"""
