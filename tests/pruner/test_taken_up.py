"""What was condemned and is taken back is built upon again only when a later list shows that it is there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.catalogs import catalogs
from backup.catalogs.catalogs import full_records
from backup.format import records
from backup.inventory.content.archives import ArchiveState
from backup.kinds import RunKind
from tests.support.checks import check, query
from tests.support.nightly_servers import DAY, Nights
from tests.support.rebuilds import bare

CONTENTS = bytes(range(256)) * 1000


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    """A file of the first night is gone, that night forgotten, and the archive that held it condemned."""
    made = Nights(tmp_path)
    made.night("once", CONTENTS)
    (made.source / "once").unlink()
    made.night()
    made.forget(1)
    made.site.prune(deletes=False)
    assert made.states() == [ArchiveState.CONDEMNED, ArchiveState.STORED]
    yield made
    made.site.close()


def _take_up(nights: Nights) -> None:
    ((pack,),) = query(nights.site, "SELECT pack_id FROM archives WHERE state = 'condemned'")
    nights.site.amend(records.TakenUpRecord([pack]), kind=RunKind.PRUNE)
    assert nights.states()[0] is ArchiveState.UNCONFIRMED


def _delete_elsewhere(nights: Nights) -> None:
    """As somebody does who went by a list of before it was taken up."""
    ((archive,),) = query(
        nights.site, "SELECT archive_id FROM archives WHERE kind = 1 ORDER BY number LIMIT 1"
    )
    nights.vault.delete_archives({archive: None})


@pytest.mark.parametrize("when", ["before", "after"], ids=["gone before", "gone after"])
def test_a_backup_does_not_build_on_what_somebody_else_deletes(nights: Nights, when: str) -> None:
    if when == "before":
        _delete_elsewhere(nights)
    _take_up(nights)
    if when == "after":
        nights.night()  # its list shows it, and somebody may be about to delete it
        _delete_elsewhere(nights)
    nights.night("once again", CONTENTS)
    assert ArchiveState.UNCONFIRMED in nights.states()
    nights.assert_kept()
    assert {finding.kind for finding in check(nights.site).findings} == {"missing"}
    nights.assert_kept()


@pytest.mark.parametrize(("later", "state"), [
    (timedelta(minutes=59), ArchiveState.UNCONFIRMED),
    (timedelta(minutes=61), ArchiveState.STORED),
])  # fmt: skip
def test_a_later_list_that_shows_it_confirms_it(
    nights: Nights, later: timedelta, state: ArchiveState
) -> None:
    _take_up(nights)
    check(nights.site)
    assert nights.states()[0] is ArchiveState.UNCONFIRMED
    nights.clock.advance(later)
    nights.site.backup()
    assert nights.states()[0] is state


def test_a_prune_confirms_what_its_list_shows_and_a_plan_does_not(nights: Nights) -> None:
    nights.take_back(1)
    _take_up(nights)
    nights.clock.advance(timedelta(hours=2))
    nights.site.prune(only_plan=True)
    assert nights.states()[0] is ArchiveState.UNCONFIRMED
    nights.site.prune()
    assert nights.states()[0] is ArchiveState.STORED
    nights.assert_kept()


def test_where_lists_are_late_it_takes_one_of_days_later(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who deletes goes by a list of the last three days there, which is as of the day before."""
    late = replace(nights.vault.traits, lists_at_once=False)
    monkeypatch.setattr(type(nights.vault), "traits", property(lambda _: late))
    _take_up(nights)
    for days in range(1, 7):
        nights.clock.advance(DAY)
        nights.site.backup()
        confirmed = nights.states()[0] is ArchiveState.STORED
        assert confirmed == (days > 5), days


@pytest.mark.parametrize("place", ["delta", "full", "full of before"])
def test_a_rebuild_waits_for_a_later_list_as_well(
    nights: Nights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Also by a full catalog of a job that was stored while another job still condemned the archive."""

    def said_before(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for record in full_records(*args, **kwargs):
            if isinstance(record, records.ArchiveRecord) and record.state == ArchiveState.UNCONFIRMED:
                yield replace(record, state=str(ArchiveState.CONDEMNED))
            else:
                yield record

    _take_up(nights)
    if place != "delta":
        monkeypatch.setattr("backup.catalogs.full.DELTAS_A_FULL", 1)
        if place == "full of before":
            monkeypatch.setattr(catalogs, "full_records", said_before)
        nights.site.backup()
        assert nights.states()[0] is ArchiveState.UNCONFIRMED
    again = bare(tmp_path, nights.site)
    assert again.rebuild().state == "done"
    state = "SELECT state FROM archives WHERE kind = 1 ORDER BY number LIMIT 1"
    with again.site().inventory.reading() as tx:
        assert tx.connection.execute(state).fetchone()[0] == ArchiveState.UNCONFIRMED
