"""`nightvault ca renew-root`: a new root for the authority, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backup.cli.keys.authority.unlock import DAYS, directory_option, passphrase_option, present_passphrase
from backup.cli.keys.certificates import key_type_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from backup.pki.roots import Roots

_MOST_NAMES = 10


@click.command("renew-root")
@directory_option
@click.option("--switch", is_flag=True, help="Let the new root sign: AWS has both by now.")
@click.option("--finish", is_flag=True, help="Take the old root out of the trust anchor's file.")
@click.option("--force", is_flag=True, help="Finish although servers have certificates of the old root.")
@click.option("--name", metavar="CN", help="The new root's name; else the old one's with a number.")
@click.option("--days", type=DAYS, help="Its days of validity; else as the old one.")
@key_type_option
@passphrase_option
@pass_cli
def renew_root(
    cli: Cli,
    directory: str,
    name: str | None,
    days: int | None,
    key_type: str,
    passphrase_file: str | None,
    *,
    switch: bool,
    finish: bool,
    force: bool,
) -> None:
    """Replace the authority's root while servers go on: make a new one, switch, finish.

    Without --switch and --finish: make the new root, or show how far the change is. anchor.pem is what
    belongs in the trust anchor. The passphrase stays the same.
    """
    from backup.pki.keys import KeyType
    from backup.pki.roots import add_root, finish_root, switch_root

    now = cli.clock.now()
    if switch and finish:
        raise UsageError("--switch and --finish are two steps", advice="give one of them at a time")
    if switch:
        roots = switch_root(directory, now)
    elif finish:
        roots = finish_root(directory, now, force=force)
    else:
        passphrase = present_passphrase(directory, passphrase_file)
        roots = add_root(directory, passphrase, name=name, days=days, key_type=KeyType(key_type), now=now)
    cli.show(_document(roots), "\n".join(_lines(roots)))
    for line in _next(roots, directory, now):
        cli.say(line)


def _document(roots: Roots) -> dict[str, object]:
    from backup.credentials.certificate import name_text
    from backup.pki.index import root_id

    numbered = zip(roots.numbers, roots.certificates, strict=True)
    return {
        "stage": roots.stage,
        "roots": [
            {
                "number": number,
                "subject": name_text(certificate.subject),
                "root": root_id(certificate),
                "not_after": certificate.not_valid_after_utc,
                "signs": number == roots.signing,
            }
            for number, certificate in numbered
        ],
        "anchor": roots.anchor,
        "waiting": [entry.name for entry in roots.waiting],
    }


def _lines(roots: Roots) -> list[str]:
    from backup.credentials.certificate import name_text

    lines = []
    for number, certificate in zip(roots.numbers, roots.certificates, strict=True):
        signs = ", signs" if number == roots.signing else ""
        until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
        lines.append(f"root {number:<8}{name_text(certificate.subject)}, until {until}{signs}")
    return [*lines, f"anchor       {roots.anchor}"]


def _next(roots: Roots, directory: str, now: datetime) -> list[str]:
    from backup.pki.roots import RootStage

    again = f"`nightvault ca renew-root --dir {directory}"
    match roots.stage:
        case RootStage.ADDED:
            return [f"next: put both of {roots.anchor} into the trust anchor, then {again} --switch`"]
        case RootStage.SWITCHED if roots.waiting:
            names = [f"{entry.name} ({max((entry.not_after - now).days, 0)} d)" for entry in roots.waiting]
            more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
            return [
                f"certificates of the old root, with the days left: {', '.join(names[:_MOST_NAMES])}{more}",
                f"next: once they are renewed, {again} --finish`",
            ]
        case RootStage.SWITCHED:
            return [f"no valid certificate of the old root is in use: {again} --finish`"]
        case _:
            return [f"next: put {roots.anchor} into the trust anchor, if it is not there yet"]
