"""A command is found in the file of its name."""

from __future__ import annotations

import pkgutil

from backup.cli import COMMANDS, commands


def test_each_command_has_a_file_of_its_name() -> None:
    places = {name: command.target for name, command in COMMANDS.items()}
    for name, place in places.items():
        word = name.replace("-", "_")
        assert place == f"backup.cli.commands.{word}:{word}"


def test_each_file_has_a_command() -> None:
    files = {module.name for module in pkgutil.iter_modules(commands.__path__)}
    assert files == {name.replace("-", "_") for name in COMMANDS}
