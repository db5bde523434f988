"""The parts that commands share.

Begin with `context.py`, which every command is given; `grouping.py` finds and parses commands, and
`failures.py` turns errors into exit codes, in one place. Options are in `snapshot_arguments.py`,
`retrieval_options.py`, `restore_choice.py`, `restore_terms.py`, `choosing_vault.py`, `moments.py` and
`identity_flags.py`. Output is in `render.py` and `tables.py` (values and tables), `progress.py` and
`terminal.py` (a run's progress), `streamed.py` (long lists), `problems.py`, `quoting.py`, `check_output.py`,
`restore_output.py` and `backup_dry_run.py`. Only `waiting.py` polls a vault. Nothing here imports a command.
Text from outside reaches a terminal through `render.printable` only.
"""
