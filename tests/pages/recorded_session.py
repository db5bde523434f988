"""The recorded session of docs/aws.md: `setup aws` on an emulated account, drawn as a terminal by rich.

`python -m tests.pages.recorded_session` writes docs/setup-aws.svg; a test holds it to what is said today.
"""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from backup.cli.render.render import wrapped
from tests.support.aws_setups import become, emulated_account, new_server
from tests.support.emulated import REPOSITORY

PICTURE = REPOSITORY / "docs" / "setup-aws.svg"
WIDTH = 80
SESSION = (
    ("--plan --ca ca/ca.pem", ("--plan",)),
    ("--apply --ca ca/ca.pem --yes", ("--apply", "--yes")),
    ("--status --ca ca/ca.pem", ("--status",)),
)


class _Terminal(io.StringIO):
    """What `render.wrapped` takes for a terminal, as wide as COLUMNS says."""

    def isatty(self) -> bool:
        return True


def recorded(folder: Path) -> list[tuple[str, str]]:
    """The commands of the session, and what each says on an empty account."""
    said = []
    with pytest.MonkeyPatch.context() as patch, emulated_account(folder / "aws") as emulator:
        become(patch, emulator)
        patch.setenv("COLUMNS", str(WIDTH))
        server = new_server(folder / "web1", emulator, "s3")
        for shown, words in SESSION:
            result = server.done("setup", "aws", "--ca", server.folder / "ca" / "ca.pem", *words)
            said.append((f"nightvault setup aws {shown}", wrapped(result.stdout, _Terminal())))
    return said


def svg(session: Sequence[tuple[str, str]]) -> str:
    """The session as a picture of a terminal."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command, output in session:
        console.print(Text(f"$ {command}", style="bold"))
        console.print(Text(output.rstrip("\n")), soft_wrap=False)
        console.print()
    drawn = console.export_svg(title="nightvault setup aws", unique_id="setup-aws")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)  # which a page would fetch elsewhere


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        PICTURE.write_text(svg(recorded(Path(made))), encoding="utf-8")
