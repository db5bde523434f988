"""The pages of the reference as values: usage, text, options, examples and subcommands of a command."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence

import click
from msgspec import Struct

from backup.cli import COMMANDS, main
from backup.cli.support.grouping import HIDDEN, walk


class Option(Struct, frozen=True):
    """An option as the help shows it: `-o, --output FILE`, and its sentence with default and range."""

    flags: str
    text: str


class Page(Struct, frozen=True):
    """A command; `path` are the words after `nightvault`, empty for the program itself."""

    path: str
    section: str
    summary: str
    usage: str
    paragraphs: tuple[str, ...]
    options: tuple[Option, ...]
    examples: tuple[str, ...]
    below: tuple[str, ...]  # the paths of its subcommands

    @property
    def name(self) -> str:
        """The command's full name, such as `nightvault restore resume`."""
        return f"nightvault {self.path}".rstrip()


def all_pages() -> list[Page]:
    """Return the pages of the program and every command, in the order of `nightvault --help`."""
    shown = {name: lazy for name, lazy in COMMANDS.items() if lazy.section != HIDDEN}
    pages = [_page("", main, "", main.short_help or "", (), list(shown))]
    for name, lazy in shown.items():
        commands, examples = list(walk(name, lazy.load())), lazy.examples()
        for path, command in commands:
            below = [subcommand for subcommand, _ in commands if subcommand.rpartition(" ")[0] == path]
            summary = lazy.help if path == name else _first_sentence(command)
            pages.append(_page(path, command, lazy.section, summary, examples.get(path, ()), below))
    return pages


def _page(
    path: str,
    command: click.Command,
    section: str,
    summary: str,
    examples: Sequence[str],
    below: Sequence[str],
) -> Page:
    context = click.Context(command, info_name=f"nightvault {path}".rstrip())
    paragraphs = tuple(_paragraphs(command))
    return Page(
        path=path,
        section=section,
        summary=summary or paragraphs[0],
        usage=" ".join([context.command_path, *command.collect_usage_pieces(context)]),
        paragraphs=paragraphs,
        options=tuple(_options(command, context)),
        examples=tuple(examples),
        below=tuple(below),
    )


def _paragraphs(command: click.Command) -> Iterator[str]:
    """The paragraphs of the help, each as one line."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        text = " ".join(paragraph.replace("\b", "").split())
        if text:
            yield text


def _first_sentence(command: click.Command) -> str:
    """A subcommand's line in a list: its help up to the first full stop."""
    first = next(_paragraphs(command), "")
    return re.split(r"(?<=\.)\s", first, maxsplit=1)[0]


def _options(command: click.Command, context: click.Context) -> Iterator[Option]:
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is not None and isinstance(param, click.Option):
            yield Option(record[0], " ".join(record[1].split()))
