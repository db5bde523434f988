"""`nightvault doctor`: what a human forgets, with the command that mends it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode

if TYPE_CHECKING:
    from backup.app.doctor import Finding

_PIPE = 10_000


@click.command()
@click.option("--fix", is_flag=True, help="Mend what cannot hurt: files that others may read.")
@click.option("--offline", is_flag=True, help="Ask no vault, and not AWS.")
@click.option(
    "--timeout",
    type=click.IntRange(1, 600),
    default=20,
    show_default=True,
    help="Seconds that each look at a vault may take.",
)
@pass_cli
def doctor(cli: Cli, timeout: int, *, fix: bool, offline: bool) -> int:
    """Look for what is easily forgotten: what it is, why it matters, and the command that mends it.

    Exit code 0: nothing was found; 1: something was. It stores nothing, and sends a handful of requests to
    each vault, which it names at the end. Among them is a deletion of nothing, which must be denied.
    """
    from backup.app.doctor import examine
    from backup.app.doctor.mending import Mended, mend

    report = examine(cli.config(), cli.clock, offline=offline, seconds=float(timeout))
    mended = mend(report.findings) if fix else Mended([], report.findings)
    document = {
        "findings": [_document(one) for one in mended.left],
        "fixed": list(mended.done),
        "looked_at": list(report.looked_at),
        "requests": list(report.requests),
    }
    lines = [f"mended   {text}" for text in mended.done]
    for one in mended.left:
        lines += _lines(one)
    nothing = f"nothing was found: looked at {', '.join(report.looked_at)}"
    cli.show(document, "\n".join(lines) if lines else nothing)
    if report.requests:
        cli.say(f"requests that were sent: {'; '.join(report.requests)}")
    if not fix and any(one.fix is not None for one in mended.left):
        cli.say("some of it can be mended by `nightvault doctor --fix`")
    return ExitCode.FAILED if mended.left else ExitCode.DONE


def _lines(one: Finding) -> list[str]:
    """A finding as lines that fit the terminal; what goes into a pipe is not broken."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE
    begins = (f"{one.level:<8} ", "         why: ", "         do:  ")
    texts = zip(begins, (one.what, one.why, one.command), strict=True)
    how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return [
        line
        for begin, text in texts
        for line in textwrap.wrap(
            text, width, initial_indent=begin, subsequent_indent=" " * len(begin), **how
        )
    ]


def _document(one: Finding) -> dict[str, object]:
    return {
        "check": one.check,
        "level": one.level,
        "what": one.what,
        "why": one.why,
        "command": one.command,
        "fixable": one.fix is not None,
    }
