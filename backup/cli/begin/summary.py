"""The summary that `begin` shows before it does anything: the config, the commands, warnings."""

from __future__ import annotations

import shlex
import shutil
import threading
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.silent_mounts import Places, silent_places
from backup.app.base.vaults import warnings_of_vault
from backup.app.beginning.answers import DRILL, Answers, Where
from backup.app.beginning.document import config_text
from backup.app.beginning.foresee import Foreseen, foreseen
from backup.cli.begin.question import Facts, config_from
from backup.cli.begin.walk import Screen
from backup.cli.support.config_warnings import gaps_of, warnings_of
from backup.config import Config
from backup.protocols import Clock

_WIDEST = 76
SECONDS = 10.0
"""Seconds that a service gets to say what it knows of a bucket."""


class Summary(Struct, frozen=True):
    """The text of the config, the commands to run, warnings of `config check`, findings of `doctor`."""

    text: str
    commands: tuple[tuple[str, ...], ...]
    warnings: tuple[str, ...]
    findings: tuple[Foreseen, ...]


def summary_of(answers: Answers, facts: Facts, clock: Clock, *, asks: bool) -> Summary:
    """Return the summary of the answers; without `asks`, commands get `--yes` and ask nothing. `ConfigError`.

    If a mount does not answer, the first backup is left out: it could hang there, and could not be ended.
    """
    config, places = config_from(answers, facts.place), Places()
    if silent := silent_places(config, places):
        answers = replace(answers, first_backup=False)
    return Summary(
        text=config_text(answers, facts.place),
        commands=tuple(commands_of(answers, asks=asks)),
        warnings=(*warnings_of(config, places), *gaps_of(config), *_of_bucket(answers, config, clock)),
        findings=tuple(foreseen(answers, config, clock, silent, is_root=facts.is_root)),
    )


def _of_bucket(answers: Answers, config: Config, clock: Clock) -> list[str]:
    """Warnings of a service that is no AWS about the bucket, if it answers soon."""
    if answers.where is not Where.S3:
        return []
    (vault,) = config.vaults
    found: list[str] = []
    failed: list[BaseException] = []

    def look() -> None:
        try:
            found.extend(warnings_of_vault(config, vault, clock))
        except Exception as error:  # noqa: BLE001  raised below, by whoever asked
            failed.append(error)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(SECONDS)
    if looking.is_alive():
        found = [f"{answers.endpoint} has not answered in {SECONDS:g} s: check the address and the network"]
    elif failed:
        raise failed[0]
    return [f"vault {vault.name}: {warning}" for warning in found]


def commands_of(answers: Answers, *, asks: bool) -> Iterator[tuple[str, ...]]:
    """Yield the commands that are run, in order."""
    can_be_used = answers.authority is not None or not answers.where.is_set_up
    if answers.authority is not None:
        yield ("setup", "aws", "--apply", "--ca", answers.authority, *(() if asks else ("--yes",)))
    key = ("--key-file", answers.key_file) if answers.key_file else ()
    yield ("init", "--non-interactive", *(() if can_be_used else ("--no-vaults",)), *key)
    if answers.first_backup and can_be_used:
        yield ("backup",)
        yield drill_words(answers, *(("--dry-run",) if answers.where.is_set_up else ()))


def drill_words(answers: Answers, *more: str) -> tuple[str, ...]:
    """Return the command of a drill of one file; with `--key` if the recovery key was made here."""
    key = ("--key", answers.key_file) if answers.key_file else ()
    return ("drill", "run", DRILL, *more, *key)


def show(screen: Screen, made: Summary, facts: Facts, named: Sequence[str]) -> None:
    """Show the summary, wrapped to the terminal; `named` are the words `--config FILE`, or none."""
    screen.say(f"\n{facts.place.config} would be:\n")
    screen.say("\n".join(f"  {line}" if line else "" for line in made.text.rstrip().splitlines()))
    screen.say("\nThen these are run:\n")
    for words in made.commands:
        screen.say(folded("  ", named, words))
    is_set_up_here = any(words[0] == "setup" for words in made.commands)
    if made.warnings:
        until = ", until `setup aws` has run" if is_set_up_here else ""
        screen.say(f"\n`nightvault config check` would warn{until}:")
        for text in made.warnings:
            screen.say(f"- {text}")
    if made.findings:
        screen.say("\n`nightvault doctor` would name, until it is mended:")
        for finding in made.findings:
            screen.say(f"- {finding.what}")
    screen.say()


def folded(begin: str, named: Sequence[str], words: Sequence[str]) -> str:
    """Return a `nightvault` command as it is typed; `named` are the words `--config FILE`, or none."""
    return typed(begin, ("nightvault", *named, *words))


def typed(begin: str, words: Sequence[str]) -> str:
    """Return a command as it is typed, wrapped with backslashes so that it can be copied into a shell."""
    widest = min(_WIDEST, shutil.get_terminal_size((_WIDEST + 4, 24)).columns - 4)
    lines, indent = [begin], " " * (len(begin) + 4)
    parts: list[str] = []
    for word in words:  # an option stays beside its value
        if parts and parts[-1].startswith("--") and " " not in parts[-1] and not word.startswith("-"):
            parts[-1] += f" {shlex.quote(word)}"
        else:
            parts.append(shlex.quote(word))
    for part in parts:
        if lines[-1].strip() and len(lines[-1]) + len(part) > widest:
            lines[-1] += "\\"
            lines.append(indent)
        lines[-1] += f"{part} "
    return "\n".join(line.rstrip() for line in lines)
