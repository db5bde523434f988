"""Manual pages: one for the program, one for each command (`man nightvault-backup`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from backup import __version__
from backup.cli import SECTIONS
from backup.cli.manual.pages import Option, Page

EXIT_CODES = (
    ("0", "done"),
    ("1", "failed"),
    ("2", "the command's words or the config are wrong"),
    ("3", "partial: what could not be read, restored or set is named"),
    ("10", "there is no inventory"),
    ("11", "locked by another process"),
    ("12", "the recovery key is wrong or missing"),
    ("13", "the certificate or its private key cannot be used"),
    ("14", "AWS denied it"),
    ("15", "the service or the network is away"),
    ("16", "refused by a limit that was set"),
    ("17", "requested, and the vault is not ready yet: run it again later"),
    ("75", "of the daemon: it ended in order to be restarted, which its service manager does"),
    ("130", "interrupted"),
)
_FILES = (
    ("/etc/nightvault/config.toml", "the config; --config FILE and $NIGHTVAULT_CONFIG go before it"),
    ("~/.config/nightvault/config.toml", "the config where the one above is not there"),
    ("/var/lib/nightvault", "inventory, spool and the server's own keys"),
)


def files_of(pages: Sequence[Page]) -> dict[str, str]:
    """Return the manual pages by file name: one for each command with its subcommands."""
    program, *rest = pages
    found = {"nightvault.1": "\n".join(_program(program, rest)) + "\n"}
    for page in rest:
        if " " not in page.path:
            below = [subpage for subpage in rest if subpage.path.startswith(f"{page.path} ")]
            found[f"nightvault-{page.path}.1"] = "\n".join(_command(page, below)) + "\n"
    return found


def _program(program: Page, pages: Sequence[Page]) -> Iterator[str]:
    yield from _head("nightvault", program.paragraphs[0])
    yield from _synopsis([program])
    yield from _description(program.paragraphs)
    yield from _options(program.options)
    for section in SECTIONS:
        yield f".SH {_text(section.upper())}"
        for page in pages:
            if page.section == section and " " not in page.path:
                yield from _item(f"\\fB{_text(page.path)}\\fR(1)", page.summary)
    yield ".SH EXIT STATUS"
    for code, meaning in EXIT_CODES:
        yield from _item(f"\\fB{code}\\fR", meaning)
    yield ".SH FILES"
    for file, meaning in _FILES:
        yield from _item(f"\\fI{_text(file)}\\fR", meaning)
    yield ".SH SEE ALSO"
    yield "Each command has a page of its own, as \\fBnightvault\\-backup\\fR(1)."


def _command(page: Page, below: Sequence[Page]) -> Iterator[str]:
    yield from _head(page.name.replace(" ", "-"), page.summary)
    yield from _synopsis([page, *below])
    yield from _description(page.paragraphs)
    yield from _options(page.options)
    for subpage in below:
        yield f".SH {_text(subpage.name.upper())}"
        for number, paragraph in enumerate(subpage.paragraphs):
            yield from ([".PP"] if number else [])
            yield _text(paragraph)
        for option in subpage.options:
            yield from _item(f"\\fB{_text(option.flags)}\\fR", option.text)
    examples = [*page.examples, *(example for subpage in below for example in subpage.examples)]
    if examples:
        yield ".SH EXAMPLES"
        for example in examples:
            yield from [".EX", _text(example), ".EE"]
    yield ".SH SEE ALSO"
    yield "\\fBnightvault\\fR(1), for the options of every command and the exit status."


def _head(name: str, summary: str) -> Iterator[str]:
    yield f'.TH {_text(name.upper())} 1 "" "nightvault {__version__}" "User Commands"'
    yield ".SH NAME"
    yield f"{_text(name)} \\- {_text(summary.rstrip('.'))}"


def _synopsis(pages: Sequence[Page]) -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for number, page in enumerate(pages):
        yield from ([".br"] if number else [])
        yield f"\\fB{_text(page.name)}\\fR {_text(page.usage.removeprefix(page.name).strip())}"


def _description(paragraphs: Sequence[str]) -> Iterator[str]:
    yield ".SH DESCRIPTION"
    for number, paragraph in enumerate(paragraphs):
        yield from ([".PP"] if number else [])
        yield _text(paragraph)


def _options(options: Sequence[Option]) -> Iterator[str]:
    if options:
        yield ".SH OPTIONS"
    for option in options:
        yield from _item(f"\\fB{_text(option.flags)}\\fR", option.text)


def _item(term: str, text: str) -> Iterator[str]:
    yield ".TP"
    yield term
    yield _text(text)


def _text(text: str) -> str:
    """A text in roff: backslashes, hyphens that are to be copied, and lines that would be requests."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace("`", "\\(ga")
    return re.sub(r"^([.'])", r"\\&\1", escaped)
