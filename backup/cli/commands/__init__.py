"""The commands: one file for each command or group of commands, and none imports another.

`backup.cli.COMMANDS` names them all and imports only the one that is used. A command reads its options, has
`backup.app` put together what it needs, calls one function of the package that does the work, and shows the
report: a line of JSON with --json, else text. What several commands share is in `backup.cli.support`. Heavy
imports are inside functions, so that `--help` and shell completion stay fast. Begin with `snapshots.py`, the
smallest, then read `restore.py`, which has everything: a plan, a quote, waiting, and subcommands.
"""
