"""`nightvault --help` in groups, and two examples for each command that are true to it."""

from __future__ import annotations

import shlex

import click
import pytest
from click.testing import CliRunner

from backup.cli import COMMANDS, OLD_NAMES, SECTIONS, main
from backup.cli.support.completing import lookup_of, plain_metavar
from backup.cli.support.grouping import walk
from tests.support.command_line import parsed

WIDTH = 80


def everything() -> dict[str, click.Command]:
    """Every command and subcommand, by the words behind `nightvault`."""
    return {path: command for name, lazy in COMMANDS.items() for path, command in walk(name, lazy.load())}


ALL = everything()
EXAMPLES = {path: given for lazy in COMMANDS.values() for path, given in lazy.examples().items()}
LEAVES = {
    path: command
    for path, command in ALL.items()
    if path not in OLD_NAMES and (not isinstance(command, click.Group) or command.invoke_without_command)
}


def help_of(*words: str) -> str:
    result = CliRunner().invoke(main, [*words, "--help"], terminal_width=WIDTH)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_help_shows_every_command_in_its_group() -> None:
    lines = help_of().splitlines()
    for section, commands in SECTIONS.items():
        start = lines.index(f"{section}:")
        end = start + 1 + len(commands)
        assert [line.split()[0] for line in lines[start + 1 : end]] == list(commands)
        assert end == len(lines) or lines[end] == "", "a summary takes more than its line: make it shorter"


def test_no_command_is_in_two_groups() -> None:
    assert len(COMMANDS) - len(OLD_NAMES) == sum(map(len, SECTIONS.values()))


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_is_the_same_command_and_no_help_shows_it(old: str, new: str) -> None:
    one, other = ALL[old], ALL[new]
    assert one.callback is other.callback
    assert one.params == other.params
    assert help_of(*old.split()).splitlines()[2:8] == help_of(*new.split()).splitlines()[2:8]
    assert not any(line.startswith(f"  {old} ") for line in help_of().splitlines())


@pytest.mark.parametrize("path", LEAVES)
def test_each_command_shows_two_examples(path: str) -> None:
    examples = EXAMPLES.get(path, ())
    assert len(examples) == 2, f"give `{path}` two examples in EXAMPLES of its file"
    shown = help_of(*path.split()).split("Examples:\n")[1].splitlines()
    assert [line.strip() for line in shown] == list(examples)
    assert max(map(len, shown)) <= WIDTH - 1, "an example is wider than a terminal"


def test_no_example_is_left_of_a_command_that_is_gone() -> None:
    assert sorted(set(EXAMPLES) - set(ALL)) == []


@pytest.mark.parametrize("path", EXAMPLES)
def test_each_example_is_as_the_command_takes_it(path: str) -> None:
    for example in EXAMPLES[path]:
        text = example.partition("  #")[0]
        words = shlex.split(text.partition(" > ")[0])
        assert words[0] == "nightvault"
        assert parsed(words[1:]) == path, example


def test_each_option_says_what_it_means() -> None:
    silent = [
        f"{path} {param.opts[0]}"
        for path, command in ALL.items()
        for param in command.params
        if isinstance(param, click.Option) and not param.help
    ]
    assert silent == [], "give these options a help= of one sentence"


NOTHING = {
    *(
        "nvr1…",
        "TOKEN",
        "CN",
        "O",
        "OU",
        "HOST",
        "ADDRESS",
        "ID",
        "ARN",
        "NAME",
        "NEW",
        "TABLE",
        "CONNECTION",
        "TEXT",
        "TEXT|file://",
        "SECONDS",
        "URL",
        "TIME",
    ),
    *(
        "SPAN",
        "TAG[,TAG]",
        "SCHEDULE",
        "N|all",
        "PATTERN",
        "MONEY",
        "KEY=VALUE",
        "REGION",
        "PACK",
        "PACK-ID",
        "FINGERPRINT",
    ),
    *("1%|5GiB", "ARCHIVE", "DURATION", "JSON", "NAME|SERIAL", "CHANNEL"),
}
"""Metavars that a shell completes to nothing."""


def test_each_metavar_is_known_to_the_completion() -> None:
    unknown = {
        plain_metavar(param)
        for command in ALL.values()
        for param in command.params
        if isinstance(param.type, click.types.StringParamType) and not lookup_of(param)
        if not (isinstance(param, click.Option) and param.is_flag)
    } - NOTHING
    assert not unknown, (
        f"what does a shell complete {sorted(unknown)} to? Use a metavar of backup/cli/support/completing.py "
        "(JOB, VAULT, SNAPSHOT, PATH, FILE, DIR, …), add it there, or add it to NOTHING in this test"
    )
