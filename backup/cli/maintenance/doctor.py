"""`nightvault doctor`: finds mistakes of the set-up, and names the command that repairs each."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.retrieval_options import keys_option, passphrase_files_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.errors import ExitCode
from backup.installed import with_places

if TYPE_CHECKING:
    from backup.app.doctor import Finding, FullRestore

EXAMPLES = {"doctor": ("nightvault doctor", "nightvault doctor --key /media/stick/recovery.key")}

_PIPE = 10_000
_ORIGINS = {
    "set": "[restore] link",
    "measured": "measured by restores",
    "assumed": "assumed: set link in [restore]",
    "limited": "its download_limit",
}


@click.command()
@click.option("--fix", is_flag=True, help="Repair what is safe to repair: files that others may read.")
@click.option("--offline", is_flag=True, help="Ask no vault, and not AWS.")
@click.option("--fresh", is_flag=True, help="Repeat tests of a vault that passed within the last week, too.")
@click.option(
    "--timeout",
    type=click.IntRange(1, 600),
    default=20,
    show_default=True,
    help="Seconds that each test of a vault may take.",
)
@keys_option("Try whether this recovery key opens the newest catalogs; no retrieval is paid for.")
@passphrase_files_option
@pass_cli
def doctor(
    cli: Cli,
    timeout: int,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    *,
    fix: bool,
    offline: bool,
    fresh: bool,
) -> int:
    """Check the set-up for common omissions; show what is wrong, why it matters, and what to do.

    Exit code 0: nothing was found; 1: something was. It stores nothing. It tests permissions by some
    requests to each vault, which `nightvault -v doctor` lists at the end: among them deletions of nothing,
    an upload that is aborted, and a retrieval of nothing. The last two are left out if backups and restores
    did the same within the last week: give --fresh after a change of policies.
    It also shows how long a restore of everything would take, and what it would cost.
    """
    from backup.app.doctor import examine
    from backup.app.doctor.finding import Mended, mend

    config, keys = cli.config(), read_keys(key_files, passphrase_files) if key_files else []
    seconds = float(timeout)
    report = examine(config, cli.clock, offline=offline, seconds=seconds, keys=keys, fresh=fresh)
    mended = mend(report.findings) if fix else Mended([], report.findings)
    document = {
        "findings": [_document(finding) for finding in mended.left],
        "fixed": list(mended.done),
        "looked_at": list(report.looked_at),
        "requests": list(report.requests),
        "notes": list(report.notes),
        "full_restores": [_restore_document(restore) for restore in report.restores],
    }
    lines = [f"mended   {text}" for text in mended.done]
    for finding in mended.left:
        lines += _lines(finding)
    if not lines:
        lines = _wrapped("", f"nothing was found; checked: {', '.join(report.looked_at)}")
    for restore in report.restores:
        lines += _wrapped("restore  ", _restore_text(restore))
    for note in report.notes:
        lines += _wrapped("note     ", note)
    cli.show(document, "\n".join(lines))
    if report.requests and cli.verbose:
        cli.say(f"requests that were sent: {'; '.join(report.requests)}")
    if not fix and any(finding.fix is not None for finding in mended.left):
        cli.say("some of it can be repaired by `nightvault doctor --fix`")
    return ExitCode.FAILED if mended.left else ExitCode.DONE


def _lines(finding: Finding) -> list[str]:
    """A finding as lines that fit the terminal."""
    begins = (f"{finding.level:<8} ", "         why: ", "         do:  ")
    texts = zip(begins, map(with_places, (finding.what, finding.why, finding.command)), strict=True)
    return [line for begin, text in texts for line in _wrapped(begin, text)]


def _wrapped(begin: str, text: str) -> list[str]:
    """Lines that fit the terminal; what goes into a pipe is not broken."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE
    how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, width, initial_indent=begin, subsequent_indent=" " * len(begin), **how)


def _restore_text(restore: FullRestore) -> str:
    """Return the time and cost of a restore of everything, as a sentence."""
    from backup.cli.render.render import counted, duration, size

    what = f"all of job {restore.job}: {counted(restore.files, 'file')}, {size(restore.bytes)}"
    link = f"{size(round(restore.link.speed))}/s ({_ORIGINS[restore.link.origin]})"
    wait = f", after up to {restore.hours[1]:g} h of waiting ({restore.tier})" if restore.hours else ""
    price = (
        "price unknown"
        if restore.cost is None
        else f"{restore.cost:.2f} {restore.currency}"
        if restore.cost
        else "free"
    )
    price += " by prices of another region" if restore.is_unverified else ""
    return (
        f"{what}; {size(restore.fetched)} to fetch, {duration(max(restore.seconds, 1))} at {link}{wait}; "
        f"{price}"
    )


def _restore_document(restore: FullRestore) -> dict[str, object]:
    return {
        "job": restore.job,
        "vault": restore.vault,
        "snapshot": restore.snapshot,
        "files": restore.files,
        "bytes": restore.bytes,
        "fetched": restore.fetched,
        "link": round(restore.link.speed),
        "link_is": str(restore.link.origin),
        "seconds": round(restore.seconds, 1),
        "tier": str(restore.tier),
        "hours": restore.hours,
        "cost": None if restore.cost is None else str(restore.cost),
        "currency": restore.currency,
        "unverified": restore.is_unverified,
    }


def _document(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "level": finding.level,
        "what": finding.what,
        "why": finding.why,
        "command": finding.command,
        "fixable": finding.fix is not None,
    }
