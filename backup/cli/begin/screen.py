"""The terminal as `begin` uses it: texts within its width, and a line that is read."""

from __future__ import annotations

import shutil
import textwrap
from typing import IO

import click

from backup.cli.support.render import printable
from backup.errors import NightvaultError
from backup.installed import with_places

_WIDEST = 80
_TYPED = 30  # cells that are left for an answer
_LONGEST = 400  # of a line that is shown: a recipient has 2,000 characters


class LeftError(NightvaultError):
    """Somebody went away in the middle: Ctrl-C, the end of the input, a signal."""


class Screen:
    """A person at a terminal. Questions go to standard error, where a bar is drawn, too."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @property
    def width(self) -> int:
        """The cells of a line that may be used."""
        return min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns) - 1

    def say(self, text: str = "") -> None:
        """A text, each of its lines wrapped by itself, below the blanks that it begins with."""
        for line in with_places(text).splitlines() or [""]:
            self._line(line)

    def _line(self, line: str) -> None:
        plain = printable(line)
        if len(plain) > _LONGEST:
            plain = plain[:_LONGEST] + "…"
        if len(plain) > self.width:
            blanks = len(plain) - len(plain.lstrip(" "))
            indent = "  " if plain.startswith("- ") else " " * (blanks + 4 if blanks else 0)
            wrapper = textwrap.TextWrapper(self.width, subsequent_indent=indent, break_on_hyphens=False)
            wrapper.break_long_words = len(plain) > _LONGEST  # a path or a command is to be copied
            plain = wrapper.fill(plain)
        click.echo(plain, file=self._stream)

    def ask(self, prompt: str) -> str:
        """A line that somebody types, without blanks around it. `LeftError` if nobody does any more."""
        shown = printable(prompt)
        if len(shown) > self.width - _TYPED:  # so that there is room to type
            self.say(shown)
            shown = ">"
        click.echo(f"{shown} ", nl=False, file=self._stream)
        try:
            return input().strip()
        except UnicodeDecodeError:
            self.say("this was no text that could be read; type it again")
            return self.ask(prompt)
        except (KeyboardInterrupt, EOFError) as error:
            click.echo(file=self._stream)
            raise LeftError("stopped") from error
