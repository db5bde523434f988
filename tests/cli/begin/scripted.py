"""A person who types from a list, and a machine that is as a test wants it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from backup.app.beginning.answers import Answers, ConfigPaths
from backup.cli.begin.course import COURSE, NOTHING_YET
from backup.cli.begin.question import Facts
from backup.cli.begin.walk import LeftError, Screen, Walk
from tests.support.servers import fill

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


class Scripted(Screen):
    """A screen that types the next line whenever it asks; after the last one the person goes away."""

    def __init__(self, typed: Iterable[str]) -> None:
        self.shown = io.StringIO()
        super().__init__(self.shown)
        self._typed = iter(typed)
        self.prompts: list[str] = []
        self.heights: list[int] = []

    def prompt(self, prompt: str) -> None:
        """Show a question; how many lines were shown for it is in `heights`."""
        self.prompts.append(prompt)
        self.say(f"{prompt} ")
        self.heights.append(self.shown.getvalue().count("\n") - sum(self.heights))

    def ask(self, prompt: str) -> str:
        """The next line."""
        self.prompt(prompt)
        for line in self._typed:
            return line
        raise LeftError("stopped")


def facts(folder: Path, environ: Mapping[str, str] | None = None) -> Facts:
    """A machine whose home, source and config lie in a folder."""
    source = folder / "source"
    if not source.exists():
        fill(source)
    return Facts(
        place=ConfigPaths(str(folder / "config.toml"), str(folder / "state"), "web1.example.org"),
        home=str(folder),
        is_root=True,
        now=NOW,
        environ=environ or {},
        folders=[str(source)],
    )


def walked(known: Facts, typed: Sequence[str]) -> tuple[Answers, Scripted]:
    """The answers of a walk in which this is typed, and its screen."""
    screen = Scripted(typed)
    return Walk(screen, known, COURSE, NOTHING_YET).run(), screen
