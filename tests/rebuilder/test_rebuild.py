"""The server is gone: from the vault and the recovery key its inventory comes back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from backup import errors
from backup.errors import ConfigError, NightvaultError, UnreachableError, UsageError
from backup.format.line import RecoveryLine
from backup.model import InventoryId
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from tests.support.backups import INVENTORY_ID, Site
from tests.support.catalogs import catalogs, remove
from tests.support.checks import check
from tests.support.integrity import list_now
from tests.support.rebuilds import NEW_ID, Bare, bare, catalog_rows, counters, line_of, rows
from tests.support.trees import assert_same_tree, snapshot_of


def assert_as_it_was(site: Site, new: Bare, *, confirmed: bool) -> None:
    """Row by row, but for what only the first server can know."""
    before, after = rows(site.folder), rows(new.folder)
    if not confirmed:
        assert {row[3] for row in after["data"]} == {"unconfirmed"}
        after["data"] = [(*row[:3], "stored", *row[4:]) for row in after["data"]]
    assert after == before
    known = {row[4]: row for row in catalog_rows(site.folder)}
    for row in catalog_rows(new.folder):
        state = "stored" if confirmed else "unconfirmed"
        assert row == (*known[row[4]][:9], state, *known[row[4]][10:])
    for name, following in counters(new.folder).items():
        assert following >= max((row[0] for row in before.get(name, [])), default=0) + 1, name


def test_row_by_row_from_the_list(site: Site, tmp_path: Path, source: Path) -> None:
    new = bare(tmp_path, site)
    report = new.rebuild()
    assert (report.state, report.predecessor, report.inventory_id) == ("done", INVENTORY_ID, NEW_ID)
    assert not report.suspicions
    (job,) = report.jobs
    assert (job.name, job.snapshots, list(job.not_covered), job.line_met) == ("job", 3, [], False)
    assert_as_it_was(site, new, confirmed=True)
    again = new.site()
    assert (again.inventory.id, again.inventory.predecessor) == (NEW_ID, INVENTORY_ID)
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


def test_from_the_line_no_list_is_needed(site: Site, tmp_path: Path) -> None:
    new = bare(tmp_path, site)
    report = new.rebuild(Wish(lines=[line_of(site)]))
    assert report.jobs[0].line_met
    assert report.listed_at is None
    assert report.unconfirmed == report.archives
    assert_as_it_was(site, new, confirmed=False)
    again = new.site()
    night = again.backup()
    assert night.bytes_new == 0, "the vault's list confirms what it has before anything is read"
    assert "unconfirmed" not in {row[3] for row in rows(new.folder)["data"]}
    again.close()


def test_it_goes_on_backing_up(site: Site, tmp_path: Path, source: Path) -> None:
    new = bare(tmp_path, site)
    new.rebuild()
    again = new.site()
    trees = {}
    for snapshot in again.snapshots():
        again.restore(snapshot.id, tmp_path / "was" / snapshot.id)
        trees[snapshot.number] = snapshot_of(tmp_path / "was" / snapshot.id)
    (source / "after").write_text("the disaster")
    report = again.backup()
    assert report.bytes_new < 1000, "nothing that the vault has is sent again"
    trees[again.snapshot().number] = snapshot_of(source)
    known = [archive.archive_id for archive in list_now(site.vault).archives]
    assert len(known) == len(set(known))
    # And the server that was rebuilt is lost as well.
    third = Bare(tmp_path / "third", site.vault, site, new_id=INVENTORY_ID)
    told = third.rebuild(Wish(lines=[RecoveryLine.from_text(report.recovery_line)]))
    assert told.predecessor == NEW_ID
    last = third.site()
    for snapshot in last.snapshots():
        last.restore(snapshot.id, tmp_path / "third out" / snapshot.id)
        assert_same_tree(trees[snapshot.number], tmp_path / "third out" / snapshot.id)
    assert {snapshot.number for snapshot in last.snapshots()} == set(trees)
    again.close()
    last.close()


def test_an_inventory_is_never_overwritten(site: Site, tmp_path: Path) -> None:
    new = Bare(site.folder, site.vault, site)
    before = rows(site.folder)
    with pytest.raises(NightvaultError, match="there is an inventory already"):
        new.rebuild()
    assert rows(site.folder) == before
    assert not list(site.folder.glob("*.building*"))


@pytest.mark.parametrize("keeps_full", [True, False], ids=["its full one arrives", "its full one is lost"])
def test_what_was_rebuilt_from_a_full_catalog_alone_goes_on(
    site: Site, tmp_path: Path, source: Path, keeps_full: bool
) -> None:
    """The first run after it writes a delta, never a first catalog, which would hold its changes alone."""
    replace(site, most_deltas=1).backup()
    new = bare(tmp_path, site)
    (job,) = new.rebuild().jobs
    assert (job.catalogs, job.snapshots) == (1, 4)
    again = new.site()
    (source / "after the rebuild").write_text("night")
    again.backup()
    if not keeps_full:
        newest = max(number for number, generation in catalogs(again) if generation == "full")
        remove(again, catalogs(again)[newest, "full"].archive_id)
        again.clock.sleep(7200)
        assert check(again).is_grave
        again.backup()
    last = Bare(tmp_path / "last", again.vault, again, new_id=InventoryId(b"last inventory".ljust(16)))
    (job,) = last.rebuild(Wish(inventory=NEW_ID.hex())).jobs
    assert job.snapshots == (5 if keeps_full else 6)
    assert rows(last.folder)["entries"] == rows(new.folder)["entries"]
    assert rows(last.folder)["snapshots"] == rows(new.folder)["snapshots"]
    again.close()


_REFUSALS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, NightvaultError) and not error.retryable
]


class _Refusing:
    """A vault of which one request fails."""

    def __init__(self, vault: Vault, name: str, refused: str, error: NightvaultError) -> None:
        self._vault, self.name, self._refused, self._error = vault, name, refused, error

    def __getattr__(self, name: str) -> Any:
        if name == self._refused:
            raise self._error
        return getattr(self._vault, name)


@pytest.mark.parametrize("refused", ["request_listing", "request_retrieval"])
def test_a_start_that_fails_leaves_nothing(site: Site, tmp_path: Path, refused: str) -> None:
    new = bare(tmp_path, site)
    wish = Wish(lines=[line_of(site)]) if refused == "request_retrieval" else None
    for error in _REFUSALS:
        vault = cast("Vault", _Refusing(site.vault, "mistyped", refused, error("no")))
        with pytest.raises(NightvaultError):
            new.act(wish, vault=vault)
        assert not (new.folder / "rebuild").exists(), error
    assert new.rebuild(wish).state == "done", "under another name, too"


def test_a_request_that_may_be_taken_is_kept_for_its_vault(site: Site, tmp_path: Path) -> None:
    new = bare(tmp_path, site)
    wish = Wish(lines=[line_of(site)])
    away = _Refusing(site.vault, "other", "request_retrieval", UnreachableError("no answer"))
    with pytest.raises(UnreachableError):
        new.act(wish, vault=cast("Vault", away))
    with pytest.raises(UsageError, match="a rebuild from vault other was begun"):
        new.act(wish)


def test_it_goes_on_under_the_name_that_it_asks_for(site: Site, tmp_path: Path) -> None:
    new = bare(tmp_path, site)
    for _ in range(2):
        with pytest.raises(ConfigError) as told:
            new.act(vault=cast("Vault", _Refusing(site.vault, "mistyped", "", NightvaultError(""))))
        assert f'name = "{site.vault.name}"' in told.value.advice
    came = sorted((new.folder / "rebuild").glob("*.pack"))
    assert came
    with pytest.raises(UsageError, match="was begun in"):
        new.act(vault=cast("Vault", _Refusing(site.vault, "third", "", NightvaultError(""))))
    assert new.rebuild().state == "done"
