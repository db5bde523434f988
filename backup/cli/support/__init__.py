"""What all commands share: the context they are given, how they are found and parsed, and how they fail.

Begin with `context.py`, which every command is given; `grouping.py` finds and parses commands, and
`failures.py` turns errors into exit codes, in one place. Only `waiting.py` polls a vault; `quoting.py` shows
what a restore costs. Nothing here imports a command.
"""
