"""`python -m backup.cli.manual man|markdown DIRECTORY`: writes the manual pages, or `docs/commands/`."""

from __future__ import annotations

import os
import sys

from backup.cli.manual import markdown, roff
from backup.cli.manual.pages import all_pages


def write(form: str, directory: str) -> None:
    """Write all files of a format, and remove those of commands that no longer exist."""
    files = {"man": roff.files_of, "markdown": markdown.files_of}[form](all_pages())
    os.makedirs(directory, exist_ok=True)
    for name in set(os.listdir(directory)) - set(files):
        os.unlink(os.path.join(directory, name))
    for name, text in files.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    write(*sys.argv[1:])
