"""No pattern, name or value of any option ends in a trace: each gets a sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from backup.cli import main
from backup.cli.support.grouping import CommandWithSubcommands
from tests.support.servers import Server, directory_server

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

NASTY = [
    "",
    "[z-a]",
    "-1",
    "9" * 30,
    "latest~" + "9" * 5000,
    "latest:/\udcff",
    "\udcff\x1b[2J",
    "/" + "a/" * 3000,
    "é" * 130,
    "1e99999999%",
    "²",
    "9999-12-31",
    "0001-01-01T00:00+14:00",
    "!",
    "NVL1,a,b",
]
# What listens, waits for ever, or makes a world of its own.
LEFT_OUT = {"demo", "emulator", "daemon", "serve", "update"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = directory_server(tmp_path_factory.mktemp("words"))
    made.init()
    made.backup()
    (made.source / "a.txt").write_text("changed")
    made.backup()
    before = Path.cwd()
    os.chdir(made.folder)
    yield made
    os.chdir(before)


def commands() -> list[tuple[list[str], click.Command]]:
    """Every command that takes words, with its name's steps."""
    found: list[tuple[list[str], click.Command]] = []

    def walk(name: list[str], command: click.Command) -> None:
        if isinstance(command, click.Group):
            for below, subcommand in command.commands.items():
                walk([*name, below], subcommand)
            return
        found.append((name, command))
        if isinstance(command, CommandWithSubcommands):
            found.extend(([*name, word], subcommand) for word, subcommand in command.subcommands.items())

    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        if command is not None and name not in LEFT_OUT:
            walk([name], command)
    return found


def needed(server: Server, name: list[str]) -> list[str]:
    """The words without which a command does not get as far as its options."""
    key = ["--key", str(server.key_file)]
    return {
        "restore": ["latest", "--target", str(server.folder / "out"), "--dry-run"],
        "dump": [f"latest:{server.source}/a.txt", *key],
        "ls": ["latest"],
        "find": ["a"],
        "versions": ["/a"],
        "diff": ["latest~1", "latest"],
    }.get(" ".join(name), [])


@pytest.mark.parametrize(
    ("name", "command"), [pytest.param(*command, id=" ".join(command[0])) for command in commands()]
)
def test_any_words(server: Server, name: list[str], command: click.Command) -> None:
    """`Server.run` fails at the first trace or "unexpected" that it sees."""
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = [
        parameter
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.is_flag
    ]
    if name != ["snapshots"]:  # the global options are the same for all
        options = [option for option in options if not str(option.name).startswith("global_")]
    for value in NASTY:
        for option in options:
            server.run(*name, *needed(server, name), option.opts[-1], value)
        if arguments:
            server.run(*name, "--", *[value for argument in arguments if argument.required] or [value])
