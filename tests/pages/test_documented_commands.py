"""Every command and option that a page writes behind `nightvault` is there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from backup.cli import COMMANDS, main
from backup.cli.support.grouping import walk
from tests.pages.findings import assert_none
from tests.support.emulated import REPOSITORY

PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), REPOSITORY / "config.example.toml"]
)
ALL = {path: command for name, lazy in COMMANDS.items() for path, command in walk(name, lazy.load())}
_WITH_VALUE = {"--config", "--patience"}
_WORDS = re.compile(  # not where it is a user or a role: the value of another program's option
    r"(?:^|[\s`(/\"'])(?<!-u )(?<!-name )(?<!--reuid )(?<!--regid )nightvault((?: [^`|;&>\n#]*)?)"
)


def code_of(page: Path) -> Iterator[str]:
    """The lines of fenced blocks, and what is in backticks."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    if page.suffix == ".toml":
        yield from re.findall(r"`([^`\n]+)`", text)
        return
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    yield from re.findall(
        r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    )


def said(line: str) -> Iterator[list[str]]:
    """The words behind `nightvault`, for each time that a command line is written."""
    for found in _WORDS.findall(line):
        try:
            words = shlex.split(found)
        except ValueError:  # an apostrophe of a sentence
            words = found.split()
        while words and words[0] == "nightvault":  # a container's name, then the command
            words.pop(0)
        if words:
            yield words


def missing_of(words: list[str]) -> str | None:
    """What of these words is not there."""
    path, rest = "", list(words)
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in _WITH_VALUE else rest[1:]
    if not rest or not re.fullmatch(r"[a-z][a-z-]*", rest[0]):
        return None  # a version, a placeholder
    command: click.Command = main
    while rest and f"{path} {rest[0]}".strip() in ALL:
        path = f"{path} {rest.pop(0)}".strip()
        command = ALL[path]
    if not path:
        return f"command {rest[0]}"
    flags = {
        flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "-h"}
    for word in rest:
        flag = word.partition("=")[0].rstrip(".,:)")
        if re.fullmatch(r"--[a-z][a-z-]*", flag) and flag not in flags:
            return f"{flag} of {path}"
    return None


def test_each_command_and_option_of_a_page_is_there() -> None:
    assert_none(
        f"{page.relative_to(REPOSITORY)} shows nightvault {' '.join(words)}: {missing} is not there"
        for page in PAGES
        for line in code_of(page)
        for words in said(line)
        if (missing := missing_of(words))
    )


def test_what_is_not_there_is_seen() -> None:
    assert missing_of(["restor", "latest"]) == "command restor"
    assert missing_of(["restore", "latest", "--tagret", "/x"]) == "--tagret of restore"
    assert missing_of(["--json", "restore", "resume", "ID", "--target"]) == "--target of restore resume"
    assert missing_of(["--config", "x", "key", "generate", "--out", "k"]) is None
    assert list(said("run `nightvault backup etc | tee log`")) == [["backup", "etc"]]
