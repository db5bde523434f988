"""The questions of `nightvault begin` as SVG: as they are asked today, on a machine that is made up.

`python -m tests.pages.recorded_begin` writes docs/pictures/begin.svg; a test holds it to what is asked.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime

from backup.app.beginning.answers import ConfigPaths
from backup.app.beginning.measure import Measured
from backup.cli.begin.course import COURSE, NOTHING_YET
from backup.cli.begin.question import Facts
from backup.cli.begin.summary import commands_of, folded
from backup.cli.begin.walk import Screen, Walk
from tests.pages.recording import drawn
from tests.support.emulated import REPOSITORY

PICTURE = REPOSITORY / "docs" / "pictures" / "begin.svg"
_GIB = 1 << 30
_FOLDERS = {"/etc": _GIB // 160, "/home": 212 * _GIB, "/srv": 38 * _GIB}
_TYPED: Mapping[str, str] = {"Where to?": "aws", "Who is told when something is wrong?": "ntfy",
                             "To which address?": "https://ntfy.example.org/backups"}  # fmt: skip
_STICK = "/media/stick"


class _Recorded(Screen):
    """A screen on which somebody types what the picture shows."""

    def __init__(self) -> None:
        self.shown = io.StringIO()
        super().__init__(self.shown)

    def ask(self, prompt: str) -> str:
        """What is typed at this question; mostly Enter alone."""
        title = prompt.partition(" [")[0]
        typed = _TYPED.get(title, "")
        self.say(f"{prompt} {typed}")
        return typed


def recorded() -> list[str]:
    """The screens, one after the other, and the commands that follow."""
    screen = _Recorded()
    with tempfile.TemporaryDirectory(
        prefix="nv-", dir="/tmp"
    ) as stick:  # of a length that is always the same
        facts = Facts(
            place=ConfigPaths("/etc/nightvault/config.toml", "/var/lib/nightvault", "web1"),
            home=stick,
            is_root=True,
            now=datetime(2026, 12, 1, 12, tzinfo=UTC),
            environ={"AWS_REGION": "eu-central-1"},
            folders=list(_FOLDERS),
            sizes={path: Measured(path, size, 1, is_whole=True) for path, size in _FOLDERS.items()},
        )
        answers = Walk(screen, facts, COURSE, NOTHING_YET).run()
        commands = [folded("$ ", (), words) for words in commands_of(answers, asks=True)]
        text = screen.shown.getvalue().replace(stick, _STICK)
        return [*text.strip().split("\n\n"), "\n".join(commands).replace(stick, _STICK)]


def picture() -> str:
    """The picture."""
    return drawn(recorded(), name="begin")


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
