"""The command with a clock that stands still."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import click
from click.testing import CliRunner, Result

from backup.cli import main
from backup.cli.support.context import Cli
from backup.cli.support.grouping import CommandWithSubcommands
from backup.protocols import Clock
from tests.support.doubles import ManualClock

ACCOUNT = "111122223333"
ANCHOR = f"arn:aws:rolesanywhere:eu-central-1:{ACCOUNT}:trust-anchor/0aaaaaaa-1111-4222-8333-444444444444"
PROFILE = f"arn:aws:rolesanywhere:eu-central-1:{ACCOUNT}:profile/0bbbbbbb-1111-4222-8333-444444444444"

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


class CliAt(Cli):
    """A `Cli` whose clock is given."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._given = clock

    @property
    def clock(self) -> Clock:
        """The clock that was given."""
        return self._given


def run(*words: object, now: datetime = NOW, typed: str | None = None) -> Result:
    """Run `nightvault` with these words; `typed` is what somebody types."""
    return CliRunner().invoke(main, [str(word) for word in words], obj=CliAt(ManualClock(now)), input=typed)


def run_json(*words: object, now: datetime = NOW, exit_code: int = 0) -> Any:
    """The JSON document that a command prints."""
    result = run("--json", *words, now=now)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def identity_settings(certificate: object, key: object) -> str:
    """The sections of a config that are about the identity."""
    return (
        f'[identity]\ncertificate = "{certificate}"\nprivate_key = "{key}"\n'
        f'[roles_anywhere]\nregion = "eu-central-1"\ntrust_anchor_arn = "{ANCHOR}"\n'
        f'profile_arn = "{PROFILE}"\nsession_duration = 7200\n'
    )


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
