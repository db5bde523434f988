"""The words of a command line as `nightvault` takes them, for examples in help and pages."""

from __future__ import annotations

import click

from backup.cli import main
from backup.cli.support.grouping import CommandWithSubcommands


def parsed(words: list[str]) -> str:
    """The path of the command that takes these words; `click.UsageError` if none does."""
    context = main.make_context("nightvault", list(words))
    names: list[str] = []
    command: click.Command = main
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            break
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command, names = found, [*names, str(name)]
        context = found.make_context(str(name), rest, parent=context)
    assert not isinstance(command, CommandWithSubcommands) or context.command in {
        command, *command.subcommands.values()
    }  # fmt: skip
    if context.command is not command:
        names.append(str(context.command.name))
    return " ".join(names)
