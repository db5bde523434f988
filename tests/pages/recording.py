"""A terminal session of the demo as SVG, for the top of the README.

`python -m tests.pages.recording` runs `nightvault demo`, keeps what shows most, and has rich draw it. Times
and ids are those of that run.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.support.emulated import REPOSITORY
from tests.support.servers import SCRIPT

PICTURE = REPOSITORY / "docs" / "pictures" / "demo.svg"
WIDTH = 92
SHOWN = ("init", "backup", "snapshots", "restore", "rebuild")
"""The commands of the demo that are shown; of each its first time, and `backup` twice."""
PASSED_OVER = re.compile(r"^    \w+ = |^    \[job|no job has a policy|^Backing up|^Restoring|: done in")
"""Lines that say little: the policy that `init` proposes, and progress, which is a bar on a terminal."""
END = "every byte, name, mode and time"
THEME = TerminalTheme(
    (30, 33, 41),
    (222, 226, 232),
    [(30, 33, 41), (224, 108, 96), (126, 188, 122), (229, 192, 123),
     (110, 168, 222), (190, 140, 220), (92, 190, 190), (222, 226, 232)],
)  # fmt: skip
FORM = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def demo(folder: Path) -> str:
    """What the demo prints."""
    (folder / "documents").mkdir()
    for path in sorted(Path("/usr/share/common-licenses").iterdir()):
        if path.is_file() and not path.is_symlink():
            (folder / "documents" / path.name).write_bytes(path.read_bytes())
    words = [SCRIPT, "demo", "--source", "documents", "--dir", "demo"]
    environment = {**os.environ, "COLUMNS": str(WIDTH), "TZ": "UTC"}
    done = subprocess.run(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    shown = done.stdout.decode().replace(f"{folder}/", "")
    return re.sub(rf"  {platform.node()} *$", "  web1", shown, flags=re.MULTILINE)


def parts_of(output: str) -> list[str]:
    """The shown commands, each with what it printed, and the end."""
    found, seen = [], dict.fromkeys(SHOWN, 0)
    for part in output.split("\n\n"):
        command = re.match(r"\$ nightvault (\w+)", part)
        if command and command[1] in seen and seen[command[1]] < 1 + (command[1] == "backup"):
            seen[command[1]] += 1
            found.append(part)
    end = output[: output.index(END)].rsplit("\n", 7)[1:]
    summary = output[output.index(END) :].partition("\n")[0]
    return [*found, "\n".join([*end, summary]).strip("\n")]


def line_of(line: str) -> Text:
    """A line as it is drawn: commands stand out, what is wider than the terminal is cut."""
    text = Text(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…")
    if line.startswith("$ "):
        text.stylize("bold green", 0, 1)
        text.stylize("bold", 2)
    elif line.startswith("NVL1,"):
        text.stylize("dim")
    return text


def drawn(parts: list[str], name: str = "demo") -> str:
    """The picture of what a command prints."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    with console.file:
        for number, part in enumerate(parts):
            if number:
                console.print()
            for line in part.splitlines():
                if not PASSED_OVER.search(line):
                    console.print(line_of(line), no_wrap=True)
        svg = console.export_svg(title=f"nightvault {name}", theme=THEME, code_format=FORM, unique_id=name)
    return svg.replace("\u00a0", "&#160;")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nightvault-recording-") as place:
        PICTURE.write_text(drawn(parts_of(demo(Path(os.path.realpath(place))))))
