"""`docs/commands/`: a page for each group of commands, and the list of all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from backup.cli import SECTIONS
from backup.cli.manual.pages import Option, Page

_MADE = "<!-- Made from the commands by `make reference`; change their help in backup/cli/. -->\n"


def files_of(pages: Sequence[Page]) -> dict[str, str]:
    """Return the contents of the files of `docs/commands/`, by file name."""
    found = {"index.md": _index(pages)}
    for section in SECTIONS:
        of_section = [page for page in pages if page.path and page.section == section]
        found[file_of(section)] = "\n".join([_MADE, f"# {section}\n", *_section(of_section)])
    return found


def file_of(section: str) -> str:
    """Return the file name of a group, such as `keeping-house.md`."""
    return f"{section.lower().replace(' ', '-')}.md"


def _index(pages: Sequence[Page]) -> str:
    program = pages[0]
    lines = [
        _MADE,
        "# Commands\n",
        f"    {program.usage}\n",
        *(f"{_prose(paragraph)}\n" for paragraph in program.paragraphs),
    ]
    for section in SECTIONS:
        lines += [f"## {section}\n", "| command | does |", "|---|---|"]
        lines += [
            f"| [`{page.path}`]({file_of(section)}#{_anchor(page)}) | {_cell(page.summary)} |"
            for page in pages
            if page.path and page.section == section
        ]
        lines.append("")
    lines += ["## Options of every command\n", "They may stand before or after the command's name.\n"]
    lines += [*_table(program.options), ""]
    lines += [
        "[json.md](../json.md) describes what a command prints with `--json`, and the exit codes. The same",
        "is in manual pages (`man nightvault-backup`). `nightvault completion` lets a shell complete jobs,",
        "vaults, snapshots and paths.",
    ]
    return "\n".join(lines) + "\n"


def _section(pages: Sequence[Page]) -> Iterator[str]:
    for page in pages:
        yield f"{'###' if ' ' in page.path else '##'} {page.path}\n"
        yield f"    {page.usage}\n"
        for paragraph in page.paragraphs:
            yield f"{_prose(paragraph)}\n"
        options = [
            option for option in page.options if "--help" not in option.flags and option.flags != "--json"
        ]
        if options:
            yield from _table(options)
            yield ""
        if page.examples:
            yield "```"
            yield from page.examples
            yield "```\n"


def _table(options: Sequence[Option]) -> Iterator[str]:
    yield "| option | meaning |"
    yield "|---|---|"
    for option in options:
        yield f"| `{option.flags.replace('|', chr(92) + '|')}` | {_cell(option.text)} |"


def _anchor(page: Page) -> str:
    return page.path.replace(" ", "-")


def _cell(text: str) -> str:
    """A text for a cell of a table."""
    return _prose(text).replace("|", "\\|")


def _prose(text: str) -> str:
    """A text of a command's help: outside of backticks nothing in it is Markdown; options get backticks."""
    pieces = re.split(r"(`[^`]*`|(?<![\w-])--[a-z][a-z-]*[a-z](?![\w-]))", text)
    marked = [
        re.sub(r"([*_<>\[\]])", r"\\\1", piece) if n % 2 == 0 else f"`{piece.strip('`')}`"
        for n, piece in enumerate(pieces)
    ]
    return "".join(marked).replace("docs/", "")
