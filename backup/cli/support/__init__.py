"""Code that all commands share: their context, how they are found and parsed, errors, waiting, logs.

Begin with `context.py`, the context of every command; `grouping.py` finds and parses commands, and
`failures.py` turns errors into exit codes, in one place. Only `waiting.py` polls a vault; `quoting.py` shows
what a restore costs. Nothing here imports a command.
"""
