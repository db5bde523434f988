"""`nightvault center fetch`: what servers told through a bucket."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from backup.cli.center.opened import database, opened_center, trusted
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.config import Config, VaultSettings

_SHOWN = 20


@click.command("fetch")
@database
@trusted
@click.option("--vault", "name", metavar="NAME", help="The vault of the config in that bucket, if several.")
@click.option("--uninvited", is_flag=True, help="Servers that were not invited may tell, too.")
@pass_cli
def fetch(
    cli: Cli,
    url: str,
    authorities: tuple[str, ...],
    revocations: tuple[str, ...],
    name: str | None,
    uninvited: bool,
) -> None:
    """Take what servers told through a bucket, once; for a timer, beside `center serve` or without it.

    The bucket is that of an S3 vault of the config, whose role may list `reports/` and read it, and nothing
    else; below the vault's prefix each server has its own. Of each, the newest catalog is compared with what
    it says was stored, every six hours. Each report counts once, also when two of these run, or one is cut
    off. With --uninvited and a new database it brings back what servers told lately.
    """
    from backup.app.base.vaults import Purpose, bucket_requests
    from backup.center.bucket import PlaceReader, first_name
    from backup.center.serve import TrustFiles
    from backup.format.host_report import BUCKET, MOST_OBJECT, REPORTS
    from backup.vault.s3.keys import META
    from backup.vault.s3.reports import ReportObjects

    config = cli.config()
    vault, now = _vault_of(config, name), cli.clock.now()
    address = f"{BUCKET}{vault.bucket}"
    objects = ReportObjects(bucket_requests(config, vault, Purpose.BACKUP, cli.clock))
    trust = TrustFiles(authorities, revocations, frozenset({address})).current()
    with opened_center(url) as engine:
        reader = PlaceReader(engine, trust, address, partial(objects.read, most=MOST_OBJECT), now, uninvited)
        after = first_name(now)
        found, contradicted = [], 0
        for place in objects.places():
            found.append(reader.read_place(place, objects.lines(place, REPORTS, after)))
            contradicted += reader.compare(place, partial(objects.lines, place, META, META)) is False
    refused = [(of.place, why) for of in found for why in of.refused]
    for place, why in refused[:_SHOWN]:
        who = f" of {why.host}" if why.host else ""
        cli.warn(f"warning: {place}{why.name}{who} was refused: {why.why}")
    if len(refused) > _SHOWN:
        cli.warn(f"warning: {len(refused) - _SHOWN} more were refused")
    document = {
        "places": len(found),
        "taken": sum(of.taken for of in found),
        "joined": sum(of.joined for of in found),
        "refused": [
            {"place": place, "name": why.name, "host": why.host, "why": why.why} for place, why in refused
        ],
        "contradicted": contradicted,
        "has_more": any(of.has_more for of in found),
    }
    if contradicted:
        cli.warn(
            f"warning: of {contradicted} servers the bucket lacks what they say was stored: `center status`"
        )
    more = "; there is more: give this again" if document["has_more"] else ""
    told = f"{document['taken']} reports taken, {document['joined']} servers joined"
    cli.report(document, f"{told}, {len(refused)} objects refused{more}")


def _vault_of(config: Config, name: str | None) -> VaultSettings:
    """Return the S3 vault of that name, or the only one. `UsageError`."""
    found = [vault for vault in config.vaults if vault.kind == "s3" and name in {None, str(vault.name)}]
    if len(found) != 1:
        what = (
            f"vault {name} is no S3 vault of the config" if name else f"{len(found)} S3 vaults in the config"
        )
        raise UsageError(f"--vault: {what}", advice="name the vault in the bucket that servers tell through")
    return found[0]
