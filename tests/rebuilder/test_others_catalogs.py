"""Catalogs of a server's job that another server of the vault wrote: a rebuild never uses them, and tells."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import NightvaultError, UsageError
from backup.format.keys import RecoveryKey, Signer
from backup.format.line import RecoveryLine
from backup.model import Generation, InventoryId
from backup.rebuilder.context import Wish
from backup.rebuilder.report import RebuildReport
from tests.support.backups import INVENTORY_ID, Site
from tests.support.catalogs import kinds
from tests.support.rebuilding import line_of
from tests.support.shared_vaults import SharedVault, source_of
from tests.support.strangers import FIRST, NONE, Forgery, forge, packs_of, stranger

OTHERS = InventoryId(b"nobody of these.")
HIGH = 1000
FORGERIES = {
    "a full one of the newest state": Forgery(),
    "one of that number": Forgery(number=3),
    "one with a high number": Forgery(number=HIGH),
    "one by another name": Forgery(name="another name"),
    "a full one that follows nothing": Forgery(parent=NONE),
    "a job's first": Forgery(parent=FIRST, number=HIGH),
    "a delta": Forgery(generation=Generation.DELTA),
    "a delta with a high number": Forgery(generation=Generation.DELTA, number=HIGH),
    "one that claims": Forgery(claims=[INVENTORY_ID]),
    "one that claims others, too": Forgery(claims=[OTHERS, INVENTORY_ID]),
    "a delta that claims": Forgery(generation=Generation.DELTA, claims=[INVENTORY_ID]),
    "one that is labelled as ours": Forgery(labelled=INVENTORY_ID),
    "a delta that is labelled as ours": Forgery(generation=Generation.DELTA, labelled=INVENTORY_ID),
    "one that claims and is labelled as ours": Forgery(claims=[INVENTORY_ID], labelled=INVENTORY_ID),
}


def rebuilt(
    shared: SharedVault, of: Site, name: str, *, lines: Collection[RecoveryLine] = (), whole: str = ""
) -> tuple[RebuildReport, Site]:
    """A bare machine's report, and its server."""
    machine = shared.bare(of, name)
    inventory = None if lines else whole or of.inventory.id.hex()
    report = machine.rebuild(Wish(inventory=inventory, lines=list(lines)), wait=shared.wait)
    site = machine.site()
    shared.open.append(site)
    return report, site


def assert_comes_back(shared: SharedVault, of: Site, name: str, told: Collection[str], **wish: object) -> None:
    """Exactly its snapshots and its files, and something of `told` is named."""
    report, back = rebuilt(shared, of, name, **wish)  # type: ignore[arg-type]
    assert [one.id for one in back.snapshots()] == [one.id for one in of.snapshots()]
    assert [job.name for job in report.jobs] == [of.job.name]
    shared.assert_whole(back, shared.folder / f"out {name}", source_of(of))
    assert bool(told) == bool({"not-its-own", "relabelled"} & set(kinds(report))), report.suspicions
    assert set(told) <= set(kinds(report))
    if told:
        assert report.is_partial


@pytest.mark.parametrize("name", FORGERIES)
def test_what_another_server_forges_is_named_and_not_used(shared: SharedVault, name: str) -> None:
    """F1: with the vault alone; and with a recovery line, where nothing else is looked at."""
    forgery, first = FORGERIES[name], shared.first(2)
    line = line_of(first)
    thief = stranger(first)
    shared.open.append(thief)
    forge(thief, first, replace(forgery, condemned=packs_of(first)))
    shared.pass_time()
    told = "relabelled" if forgery.labelled else "not-its-own"
    assert_comes_back(shared, first, "by list", [told])
    assert_comes_back(shared, first, "by line", [], lines=[line])


def _forge_all(thief: Site, first: Site) -> None:
    for forgery in FORGERIES.values():
        forge(thief, first, replace(forgery, condemned=packs_of(first)))
