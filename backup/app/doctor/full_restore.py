"""What a restore of everything would take: how long the link needs, and its price; by a restore's plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from functools import partial

from backup.app.base.opened import opened
from backup.app.doctor.deadline import within
from backup.app.doctor.finding import DoctorContext, Finding, FullRestore, warning
from backup.app.money.prices import Quote, currency_of, kind_of, price_of, quotes
from backup.app.restores.contexts import LinkOrigin, link_from, restore_context
from backup.app.restores.silence import Silent
from backup.config import VaultSettings
from backup.errors import NightvaultError
from backup.inventory.content import snapshots
from backup.inventory.records import runs
from backup.model import JobName
from backup.restorer.restore import plan_restore
from backup.wording import duration, size

LONG = timedelta(days=7)
"""A restore that takes longer because of a limit of ours is a finding."""


def expected(context: DoctorContext) -> Iterator[Finding]:
    """Full restores that the config refuses, or slows down; what each would take is kept."""
    vaults = {one.name for one in context.config.vaults}
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
        of_restore = restore_context(config, inventory, vault, clock=context.clock, progress=Silent())
        plan, settings = plan_restore(snapshot, b"/", of_restore), config.vault(vault)
        days = settings.retrieval_days if settings.kind == "s3" else 0
        traits, price = of_restore.vault.traits, price_of(config, settings)
        offers = quotes(plan, price, kind_of(settings), traits, copy_days=days)
        chosen = next((one for one in offers if one.tier is settings.tier), offers[0])
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


def _refused(context: DoctorContext, one: FullRestore) -> Iterator[Finding]:
    """A full restore that `max_restore_cost` would refuse."""
    limit = context.config.restore.max_restore_cost
    if limit is None or (one.cost is not None and one.cost <= limit):
        return
    costs = "has no known price" if one.cost is None else f"costs {one.cost} {one.currency}"
    yield warning(
        "restore-cost",
        f"a full restore of job {one.job} ({one.tier}) {costs}, and max_restore_cost is {limit}",
        "it would be refused (exit code 16) on the day when you need it",
        f"raise max_restore_cost in [restore] of {context.config.path}, or give --max-cost then",
    )


def _slowed(context: DoctorContext, one: FullRestore) -> Iterator[Finding]:
    """A full restore that takes very long because of a limit in the config."""
    if one.link.origin is LinkOrigin.LIMITED and one.seconds > LONG.total_seconds():
        speed = f"{size(round(one.link.speed))}/s"
        yield warning(
            "restore-time",
            f"a full restore of job {one.job} takes {duration(one.seconds)} at its limit of {speed}",
            "the server is without its data for so long",
            f"raise download_limit of vault {one.vault} in {context.config.path}, if the link is faster",
        )
