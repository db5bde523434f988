"""What checks have read outlives the server: a full catalog carries it, and the next check goes on."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from backup.checker import read_sample
from backup.checker.sample import Amount
from backup.format import records
from backup.format.catalog import pack_u64
from backup.model import MIB, InventoryId
from backup.rebuilder.context import Wish
from backup.rebuilder.record_ranges import verified_fault
from tests.rebuilder.forging import Absurd, forging
from tests.support.backups import Site, recovery_key
from tests.support.checks import check_world, query
from tests.support.doubles import NO_LIMIT, ManualClock
from tests.support.rebuilds import NEW_ID, Bare, bare

OF_DATA = """SELECT a.pack_id, r.start, r.end, r.read_at FROM readings r
             JOIN archives a ON a.number = r.archive WHERE a.kind = 1 ORDER BY 1, 2, 4"""


def read(site: Site, amount: Amount, *, opens: bool = False) -> None:
    world = check_world(site, keys=[recovery_key()] if opens else [])
    run = read_sample.begin_reading(read_sample.plan_sample(amount, world), world, NO_LIMIT)
    assert read_sample.go_on(run, world).state == "done"


def store_full(site: Site) -> None:
    replace(site, most_deltas=1).backup()


def test_the_next_check_goes_on_where_it_was(site: Site, tmp_path: Path, clock: ManualClock) -> None:
    read(site, Amount(size=2 * MIB))
    clock.advance(timedelta(days=1))
    read(site, Amount(size=MIB), opens=True)
    store_full(site)
    new = bare(tmp_path, site)
    assert new.rebuild().state == "done"
    again = new.site()
    was = query(site, OF_DATA)
    assert len(was) > 1
    assert query(again, OF_DATA) == was
    assert query(again, "SELECT kind, outcome FROM runs") == [("check", "done")]
    read(again, Amount(size=MIB))
    newest = query(again, OF_DATA.replace("ORDER BY 1, 2, 4", "ORDER BY r.number DESC LIMIT 1"))
    assert newest[0][:3] not in {row[:3] for row in was}, "what was never read comes first"
    store_full(again)
    last = Bare(tmp_path / "last", again.vault, again, new_id=InventoryId(b"last inventory".ljust(16)))
    assert last.rebuild(Wish(inventory=NEW_ID.hex())).state == "done"
    third = last.site()
    assert query(third, OF_DATA) == query(again, OF_DATA)
    third.close()
    again.close()


def test_what_was_found_damaged_is_not_told_as_good(site: Site, tmp_path: Path) -> None:
    read(site, Amount(share=Fraction(1)))
    with site.inventory.writing() as tx:
        damaged = "UPDATE readings SET result = ? WHERE number = (SELECT min(number) FROM readings)"
        tx.connection.execute(damaged, (msgspec.msgpack.encode({"bad": [0]}),))
    first = len(query(site, OF_DATA))
    store_full(site)
    new = bare(tmp_path, site)
    new.rebuild()
    assert query(new.site(), "SELECT count(*) FROM readings") == [(first - 1,)]


@pytest.mark.parametrize(
    ("grade", "pieces", "at"),
    [
        (0, [0, 1], 1),
        (3, [0, 1], 1),
        (1, [0, 1], 2**62),
        (1, [1, 0], 1),
        (1, [0, 101], 1),
        (1, [5, 5], 1),
        (1, [0, 1, 2], 1),
    ],
)
def test_what_is_out_of_range(grade: int, pieces: list[int], at: int) -> None:
    assert verified_fault(records.VerifiedRecord(bytes(16), grade, pack_u64(pieces), at), 100)


def test_an_absurd_one_is_left_out_alone(site: Site, tmp_path: Path) -> None:
    read(site, Amount(share=Fraction(1)))
    with forging(Absurd(records.VerifiedRecord, 0, 1, 9), full=True):
        store_full(site)
    new = bare(tmp_path, site)
    report = new.rebuild()
    assert [suspicion.kind for suspicion in report.suspicions] == ["out-of-range"]
    assert report.jobs[0].snapshots == 4
