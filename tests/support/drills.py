"""Drills of a site, with prices that the test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from msgspec.structs import asdict

from backup.checker.read_sample import Piece
from backup.cost.limit import CostLimit, TierCost
from backup.driller import read_back
from backup.driller.context import DrillContext
from backup.driller.report import DrillReport
from backup.driller.sample import Sample
from backup.inventory.records import drills
from backup.inventory.records.drills import Drill
from backup.model import MIB, JobName, Tier
from backup.protocols import Vault
from tests.support.backups import Site
from tests.support.checks import check_world


def free(_pieces: Sequence[Piece]) -> Decimal:
    """Nothing costs anything."""
    return Decimal(0)


def by_megabyte(pieces: Sequence[Piece]) -> Decimal:
    """A cent for each MiB that is begun, of each piece."""
    return sum((Decimal(-(-piece.asked.length // MIB)) / 100 for piece in pieces), Decimal(0))


def priced(
    amount: Decimal | None, price: Callable[[Sequence[Piece]], Decimal | None]
) -> Callable[[Sequence[Piece]], CostLimit]:
    """A drill's limit on pieces that cost this."""
    return lambda pieces: CostLimit(amount, "drill weekly", [TierCost(tier, price(pieces)) for tier in Tier])


def drill_world(
    site: Site,
    *,
    files: int | None = None,
    size: int = 0,
    limit: str | None = None,
    price: Callable[[Sequence[Piece]], Decimal | None] = free,
    vault: Vault | None = None,
    name: str = "weekly",
    jobs: Sequence[str] | None = None,
    **more: Any,
) -> DrillContext:
    """The context of a drill of a site."""
    amount = None if limit is None else Decimal(limit)
    return DrillContext(
        **asdict(check_world(site, vault=vault, **more)),
        name=name,
        jobs=None if jobs is None else [JobName(job) for job in jobs],
        sample=Sample(files, size),
        limit=amount,
        currency="USD",
        limit_on=priced(amount, price),
        restore=site.restore_world,
        scratch=str(site.folder / "drills"),
    )


def drill(site: Site, context: DrillContext) -> DrillReport:
    """A drill that reads back, waiting as needed."""
    for _ in range(30):
        report = read_back.step(context)
        if report.state == "done":
            return report
        site.wait()
    raise AssertionError(f"it waits for ever for {report.waits_for}")


def recorded(site: Site) -> Sequence[Drill]:
    """The drills in the inventory, newest first."""
    with site.inventory.reading() as tx:
        return drills.list_drills(tx)
