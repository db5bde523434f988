"""A person answers to what stops a prune: any catalog of a pair of inventory and job stands for the pair."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import UsageError
from backup.format.enrolment import HeirMark
from backup.inventory.content.strangers import job_ids
from backup.lineage import Stranger
from backup.model import ArchiveLabel, Generation, InventoryId, PackId, PackKind, VaultName
from backup.pruner.listed import PruneStoppedError
from backup.transfer.answers import accept_catalogs
from backup.transfer.succession import advice_on, told_of
from tests.support.archives import store
from tests.support.backups import Site
from tests.support.keepers import keeper_of
from tests.support.nightly_servers import Nights
from tests.support.strangers import STRANGER_ID, forged_full, packs_of, stranger


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A server after two nights."""
    nights = Nights(tmp_path)
    nights.night()
    nights.night()
    yield nights.site
    nights.site.close()


def _answer(site: Site, *packs: str) -> list[str]:
    return accept_catalogs(site.inventory, site.vault.name, packs, "somebody", site.clock.now())


def _asked(site: Site) -> tuple[str, ...]:
    """The packs that a prune asks about."""
    with pytest.raises(PruneStoppedError) as caught:
        site.prune()
    return caught.value.accept


def test_a_later_catalog_than_the_first_that_was_seen_is_an_answer(site: Site, tmp_path: Path) -> None:
    """A backup names the first, a prune the newest: both are the same pair."""
    thief = stranger(site, tmp_path / "thief")
    forged_full(thief, site, condemned=packs_of(site))
    assert "nothing proves" in site.backup().warnings[-1]
    forged_full(thief, site)
    assert len(_answer(site, *_asked(site))) == 1
    assert site.prune().state == "done"
    thief.close()


def test_two_catalogs_of_one_pair_are_one_answer(site: Site, tmp_path: Path) -> None:
    thief = stranger(site, tmp_path / "thief")
    forged_full(thief, site)
    (first,) = _asked(site)
    forged_full(thief, site, number=900)
    (second,) = _asked(site)
    assert first != second
    assert len(_answer(site, first, second)) == 1
    assert site.prune().state == "done"
    with pytest.raises(UsageError, match="nothing in vault"):
        _answer(site, "0123456789abcdef")
    thief.close()


def test_a_mark_that_no_backup_has_seen_is_answered(site: Site) -> None:
    mark = HeirMark(site.inventory.id, STRANGER_ID, b"p" * 32, b"s" * 64)
    site.vault.add_mark(mark.to_text())
    assert _asked(site) == (STRANGER_ID.hex(),)
    assert len(_answer(site, STRANGER_ID.hex())) == 1
    assert site.prune().state == "done"
    assert site.backup().warnings == ()


def test_an_answer_to_one_inventory_is_none_to_another_with_the_same_pack_id(site: Site) -> None:
    """Who writes a catalog chooses its pack id: that of another heir's catalog, which needs what is there."""
    with site.inventory.reading() as tx:
        (job_id,) = job_ids(tx, site.vault.name)
    pack, other = PackId(b"the same pack id"), InventoryId(b"another heir's..")
    for inventory_id in (STRANGER_ID, other):
        label = ArchiveLabel(PackKind.CATALOG, pack, inventory_id, 9, Generation.DELTA, job_id)
        store(site.vault, b"a catalog", label)
    assert set(_asked(site)) == {pack.hex()}
    with pytest.raises(UsageError, match="several inventories") as caught:
        _answer(site, pack.hex())
    words = re.findall("--accept ([0-9a-f]{32}:[0-9a-f]{32})", caught.value.advice)
    assert words == sorted(f"{inventory_id.hex()}:{pack.hex()}" for inventory_id in (STRANGER_ID, other))
    assert len(_answer(site, f"{STRANGER_ID.hex()}:{pack.hex()}")) == 1
    assert _asked(site) == (pack.hex(),)
    assert len(_answer(site, f"{other.hex()}:{pack.hex()}")) == 1
    assert site.prune().state == "done"


def test_a_keeper_takes_an_answer_for_one_inventory(site: Site, tmp_path: Path) -> None:
    with site.inventory.reading() as tx:
        (job_id,) = job_ids(tx, site.vault.name)
    pack, other = PackId(b"the same pack id"), InventoryId(b"another heir's..")
    for inventory_id in (STRANGER_ID, other):
        label = ArchiveLabel(PackKind.CATALOG, pack, inventory_id, 9, Generation.DELTA, job_id)
        store(site.vault, b"a catalog", label)
    keeper = keeper_of(site, tmp_path / "keeper")
    keeper.accept = [pack.hex()]
    with pytest.raises(UsageError, match="several inventories"):
        keeper.keep()
    keeper.accept = [f"{STRANGER_ID.hex()}:{pack.hex()}"]
    stopped = {report.inventory: report.stopped for report in keeper.keep().inventories}[
        site.inventory.id.hex()
    ]
    assert other.hex() in stopped
    assert STRANGER_ID.hex() not in stopped


def test_a_keeper_is_not_held_up_by_inventories_that_somebody_invents(site: Site, tmp_path: Path) -> None:
    """They can be stored by the thousand: 20 are looked at closely, and the server itself is answered to."""
    with site.inventory.reading() as tx:
        (job_id,) = job_ids(tx, site.vault.name)
    for number in range(300):
        made = InventoryId(b"invented %07d" % number)
        label = ArchiveLabel(PackKind.CATALOG, PackId(made), made, 9, Generation.DELTA, job_id)
        store(site.vault, b"no catalog", label)
    keeper = keeper_of(site, tmp_path / "keeper")
    began = time.process_time()
    reports = {report.inventory: report for report in keeper.keep().inventories}
    assert time.process_time() - began < 15
    assert "not-its-own" in reports[site.inventory.id.hex()].stopped
    assert len(reports) == 301
    closely = [report for report in reports.values() if "of its newest catalogs" not in report.stopped]
    assert len(closely) == 21


def test_an_older_catalog_than_the_newest_is_an_answer_to_the_keeper(site: Site, tmp_path: Path) -> None:
    """A newer one has come since the report named that."""
    thief = stranger(site, tmp_path / "thief")
    forged_full(thief, site)
    keeper = keeper_of(site, tmp_path / "keeper")
    reports = {report.inventory: report for report in keeper.keep().inventories}
    ours = site.inventory.id.hex()
    asked = re.findall("--accept ([0-9a-f]{32})", reports[ours].advice)
    forged_full(thief, site, number=700)
    keeper.accept = asked
    assert not {report.inventory: report for report in keeper.keep().inventories}[ours].stopped
    thief.close()


def test_an_answer_for_one_server_is_none_for_another(site: Site, tmp_path: Path) -> None:
    """What the report on a thief advises says nothing of what that thief stored of the server's job."""
    site.with_job(name="second").backup()
    thief = stranger(site, tmp_path / "thief")
    forged_full(thief, site)
    keeper = keeper_of(site, tmp_path / "keeper")
    reports = {report.inventory: report for report in keeper.keep().inventories}
    ours, theirs = site.inventory.id.hex(), STRANGER_ID.hex()
    asked = re.findall("--accept ([0-9a-f]{32})", reports[theirs].advice)
    keeper.accept = asked
    reports = {report.inventory: report for report in keeper.keep().inventories}
    assert "not-its-own" not in reports[theirs].stopped
    assert "not-its-own" in reports[ours].stopped
    thief.close()


def test_a_mark_of_a_server_for_itself_stops_no_keeper(site: Site, tmp_path: Path) -> None:
    """Anybody can leave one; nobody could answer to it."""
    own = site.inventory.id
    site.vault.add_mark(HeirMark(own, own, site.keys.signer.public, bytes(64)).to_text())
    for _ in range(8):
        site.clock.sleep(86400)
        replace(site, most_deltas=2).backup()
    keeper = keeper_of(site, tmp_path / "keeper")
    for _ in range(2):
        site.clock.sleep(40 * 86400)
        assert not any(report.stopped for report in keeper.keep().inventories)


def test_a_message_names_no_more_than_twenty_others() -> None:
    """Whoever may store makes up ten thousand: the next message names the next ones."""
    ids = [number.to_bytes(16) for number in range(25)]
    others = [Stranger(InventoryId(id_), b"j" * 16, PackId(id_)) for id_ in ids]
    assert told_of(others, VaultName("vault")).count(", ") == 20  # and one later
    assert " and 5 more has" in told_of(others, VaultName("vault"))
    assert advice_on(others, VaultName("vault"), "prune").count("--accept") == 20
