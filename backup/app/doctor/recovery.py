"""Checks of a recovery: that the given key opens the newest catalogs, and how long a full restore takes.

The key must open each job's newest catalog; the test costs nothing. The header of every catalog is in the
inventory: a key that opens it opens the catalog, if that is as it was stored. Where reading costs no
retrieval the whole catalog is fetched, too, and each of its frames opened. How long a restore of everything
takes, and its price, are those of a restore's plan.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from decimal import Decimal
from functools import partial

from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, make_vault
from backup.app.doctor import table
from backup.app.doctor.finding import DoctorContext, Finding, FullRestore
from backup.app.doctor.vaults import within
from backup.app.money.prices import Quote, currency_of, kind_of, price_of, quotes
from backup.app.restores.contexts import LinkOrigin, link_from, restore_context
from backup.app.restores.silence import Silent
from backup.config import VaultSettings
from backup.errors import NightvaultError, VaultError
from backup.files import Draft, spool_errors
from backup.format.pack import open_with, read_header
from backup.format.treehash import aligned_pieces
from backup.inventory.content import archives, snapshots
from backup.inventory.content.archives import Archive
from backup.inventory.records import runs
from backup.model import MIB, ByteRange, JobName, RetrievalId, Tier
from backup.protocols import Vault
from backup.rebuilder.catalogs.file import read_catalog_file
from backup.restorer.restore import plan_restore
from backup.vault.s3.keys import retrieval_id_of
from backup.wording import duration, size

LARGEST = 64 * MIB
"""The largest catalog that is read back: a look should be quick, and traffic is paid for."""
_PIECE = 16 * MIB
LONG = timedelta(days=7)
"""A restore that takes longer because of a limit of ours is a finding."""


def opens_header(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs whose newest catalog the keys do not open, by its header in the inventory."""
    for job, catalog in _newest_catalogs(context):
        if error := _refusal(context, catalog):
            yield table.KEY_OPENS_NOTHING.finding(job=job, error=error)


def opens_catalog(context: DoctorContext) -> Iterator[Finding]:
    """Find jobs whose newest catalog cannot be read back and opened; cold vaults are skipped."""
    for job, catalog in _newest_catalogs(context):
        if _refusal(context, catalog) or not _may_be_fetched(context, job, catalog):
            continue
        what = f"open the newest catalog of job {job} in vault {catalog.vault}"
        try:
            within(context.seconds, what, partial(_prove, context, catalog))
        except NightvaultError as error:
            yield table.CATALOG_UNREADABLE.finding(doing=what, error=error, vault=catalog.vault)
        else:
            where = f"read back from vault {catalog.vault}"
            context.notes.append(f"the recovery key opens the newest catalog of job {job}, {where}")


def _newest_catalogs(context: DoctorContext) -> list[tuple[JobName, Archive]]:
    """The newest stored catalog of each job that was backed up."""
    if context.status is None:
        return []
    found: list[tuple[JobName, Archive]] = []
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        for job in context.config.jobs:
            row = runs.find_job(tx, job.name)
            stored = archives.stored_catalogs(tx, row.number, inventory.id) if row else []
            found += [(job.name, catalog) for catalog, _ in stored[-1:]]
    return found


def _refusal(context: DoctorContext, catalog: Archive) -> NightvaultError | None:
    try:
        open_with(read_header(catalog.header), context.keys)
    except NightvaultError as error:
        return error
    return None


def _may_be_fetched(context: DoctorContext, job: JobName, catalog: Archive) -> bool:
    """Whether fetching it costs no retrieval, and takes little; what is not tried is noted."""
    if context.config.vault(catalog.vault).kind == "glacier":
        why = f"vault {catalog.vault} makes it readable for money only"
    elif catalog.size > LARGEST:
        why = f"it has {size(catalog.size)}"
    else:
        return True
    context.notes.append(
        f"the recovery key opens the newest catalog of job {job}, as its header in the inventory shows; the "
        f"catalog was not read back: {why}"
    )
    return False


def _prove(context: DoctorContext, catalog: Archive) -> None:
    """Fetch the whole catalog and open each of its frames; nothing of it stays."""
    vault = make_vault(context.config, catalog.vault, Purpose.RESTORE, context.clock)
    retrieval = _readable(context, vault, catalog)
    whole = ByteRange(0, catalog.size)
    with _folder() as folder:
        path = os.path.join(folder, "catalog")
        with Draft(path) as draft:
            for piece in aligned_pieces(whole, catalog.size, _PIECE):
                draft.file.write(vault.fetch(retrieval, piece).data)
            draft.place()
        read_catalog_file(path).prove(context.keys)


@contextmanager
def _folder() -> Iterator[str]:
    """A folder that is gone afterwards."""
    place = tempfile.gettempdir()
    with spool_errors(place, "used"), tempfile.TemporaryDirectory(prefix="nightvault-doctor-") as folder:
        yield folder


def _readable(context: DoctorContext, vault: Vault, catalog: Archive) -> RetrievalId:
    """Return where to fetch from. A bucket is not asked for a retrieval, which would cost money."""
    name = catalog.archive_id
    if name is None:
        raise VaultError("it has no id")
    if context.config.vault(catalog.vault).kind == "s3":
        context.requests.append(f"GetObject of a catalog of {size(catalog.size)} in vault {catalog.vault}")
        return retrieval_id_of(name, None)
    return vault.request_retrieval(name, None, Tier.STANDARD, secrets.token_hex(16))


def expected(context: DoctorContext) -> Iterator[Finding]:
    """Estimate full restores, and find those that the config refuses or slows down."""
    vaults = {vault.name for vault in context.config.vaults}
    for job in context.status.jobs if context.status else ():
        if job.last_good is None or job.vault not in vaults:
            continue
        try:
            what = f"plan a restore of job {job.name}"
            found = within(context.seconds, what, partial(_estimate, context, job.name))
        except NightvaultError as error:
            again = f"nightvault restore latest --job {job.name} --target DIR --dry-run"
            context.notes.append(
                f"what a full restore of job {job.name} takes is not known: {error}: {again}"
            )
            continue
        context.restores.append(found)
        yield from _refused(context, found)
        yield from _slowed(context, found)


def _estimate(context: DoctorContext, name: JobName) -> FullRestore:
    config = context.config
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            snapshot = snapshots.find_snapshot(tx, "latest", job=name)
            vault = runs.vault_of_job(tx, snapshot.job_number)
        at = RunContext(config=config, inventory=inventory, clock=context.clock, progress=Silent())
        of_restore = restore_context(at, vault)
        plan, settings = plan_restore(snapshot, b"/", of_restore), config.vault(vault)
        days = settings.retrieval_days if settings.kind == "s3" else 0
        traits, price = of_restore.vault.traits, price_of(config, settings)
        offers = quotes(plan, price, kind_of(settings), traits, copy_days=days)
        chosen = next((offer for offer in offers if offer.tier is settings.tier), offers[0])
        return FullRestore(
            job=name,
            vault=vault,
            snapshot=snapshot.id,
            files=plan.selection.names,
            bytes=plan.selection.bytes,
            fetched=chosen.load.fetched,
            link=link_from(config, inventory, vault),
            tier=chosen.tier,
            hours=chosen.hours if traits.waits else None,
            cost=_cost(settings, chosen),
            currency=currency_of(config),
            is_unverified=bool(chosen.unverified),
        )


def _cost(settings: VaultSettings, quote: Quote) -> Decimal | None:
    if settings.kind == "directory":
        return Decimal(0)
    return None if quote.bill is None else quote.bill.total


def _refused(context: DoctorContext, restore: FullRestore) -> Iterator[Finding]:
    """A full restore that `max_restore_cost` would refuse."""
    limit = context.config.restore.max_restore_cost
    if limit is None or (restore.cost is not None and restore.cost <= limit):
        return
    costs = "has no known price" if restore.cost is None else f"costs {restore.cost} {restore.currency}"
    yield table.RESTORE_REFUSED.finding(
        job=restore.job, tier=restore.tier, costs=costs, limit=limit, config=context.config.path
    )


def _slowed(context: DoctorContext, restore: FullRestore) -> Iterator[Finding]:
    """A full restore that takes very long because of a limit in the config."""
    if restore.link.origin is LinkOrigin.LIMITED and restore.seconds > LONG.total_seconds():
        yield table.RESTORE_SLOW.finding(
            job=restore.job,
            time=duration(restore.seconds),
            speed=f"{size(round(restore.link.speed))}/s",
            vault=restore.vault,
            config=context.config.path,
        )
