"""Two machines of one server at work at once: what one deletes, the other does not rely on and call done."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec.structs import replace

from backup.app.retention.undo import undo_of_job
from backup.catalogs.amend import amending
from backup.errors import HeirError, NightvaultError, OlderInventoryError, UsageError
from backup.format.records import ForgottenRecord
from backup.inventory.records.runs import list_jobs
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.protocols import Vault
from backup.transfer.answers import accept_catalogs
from tests.support.backups import Site
from tests.support.checks import check, query
from tests.support.doubles import FaultyVault
from tests.support.shared_vaults import AGE, SharedVault, of_version_1, source_of

T = TypeVar("T")
GRACE = timedelta(days=4)


class Meanwhile(FaultyVault):
    """A vault that something happens to, once, before a call of a method; `skip` calls come before."""

    def __init__(self, vault: Vault, method: str, happens: Callable[[], object], *, skip: int = 0) -> None:
        super().__init__(vault)
        self._method, self._happens, self._skip = method, [happens], skip

    def _meet(self, method: str, call: Callable[[], T]) -> T:
        if method == self._method and self.calls[method] == self._skip and self._happens:
            self._happens.pop()()
        return super()._meet(method, call)


def take_away(site: Site) -> dict[Path, bytes]:
    """All files of its source, which is empty then."""
    files = {path: path.read_bytes() for path in source_of(site).iterdir()}
    for path in files:
        path.unlink()
    return files


def put_back(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        path.write_bytes(content)


def lists(shared: SharedVault, site: Site) -> None:
    """The server has a list of the vault, where that takes hours."""
    if not shared.vault.traits.lists_at_once:
        check(site)


def forget_all_but_newest(shared: SharedVault, site: Site) -> None:
    numbers = [snapshot.number for snapshot in site.snapshots()][:-1]
    site.amend(ForgottenRecord(numbers, micros(shared.clock.now())))


def gone_on(shared: SharedVault, first: Site) -> dict[Path, bytes]:
    """A machine goes on after its rebuild elsewhere: what its nights were made of is condemned."""
    shared.pass_time(AGE)
    files = take_away(first)
    shared.night(first, "of the old machine")
    forget_all_but_newest(shared, first)
    assert shared.prune(first).condemned.archives
    shared.pass_time(GRACE)
    return files


# A rebuilt server whose ancestor goes on.


def test_a_rebuilt_server_waits_while_the_one_before_it_goes_on(shared: SharedVault) -> None:
    """The old one's prune has its list when the heir's first night begins, and deletes what that shows."""
    first = shared.first(2)
    before = shared.data_of(first.inventory.id)
    heir = shared.heir(first, "heir")
    files = gone_on(shared, first)
    put_back(files)
    lists(shared, heir)
    told: list[str] = []

    def first_night() -> None:
        with pytest.raises(OlderInventoryError) as caught:
            heir.backup()
        told.append(caught.value.advice)

    old = replace(first, vault=Meanwhile(first.vault, "delete_archives", first_night))
    assert shared.prune(old, deletes=True).deleted.archives
    assert "rebuild --set-aside" in told[0]
    assert not before & shared.data_of(first.inventory.id)
    assert not shared.marks()
    assert not query(heir, "SELECT 1 FROM archives WHERE run IS NOT NULL")
    again = shared.heir(first, "again")
    lists(shared, again)
    assert again.backup().outcome is Outcome.DONE
    shared.assert_whole(again, shared.folder / "out")


def test_a_person_may_let_it_go_on_without_what_came_after_its_rebuild(shared: SharedVault) -> None:
    """It builds on nothing that the list lacks."""
    first = shared.first(2)
    before = shared.data_of(first.inventory.id)
    heir = shared.heir(first, "heir")
    files = gone_on(shared, first)
    assert shared.prune(first, deletes=True).deleted.archives
    shared.pass_time()
    assert not before & shared.data_of(first.inventory.id)
    put_back(files)
    lists(shared, heir)
    with pytest.raises(OlderInventoryError) as caught:
        heir.backup()
    (pack,) = re.findall("--accept ([0-9a-f]{32})", caught.value.advice)
    accept_catalogs(heir.inventory, shared.vault.name, [pack], "ada", shared.clock.now())
    assert heir.backup().outcome is Outcome.DONE
    shared.assert_whole(heir, shared.folder / "out")


@pytest.mark.parametrize("has_night", [False, True], ids=["before its first night", "after it"])
def test_a_rebuilt_server_takes_back_nothing_that_is_gone(shared: SharedVault, has_night: bool) -> None:
    """The machine before it deletes what it has condemned, and dies before its catalog tells of that."""
    first = shared.first(2)
    before = shared.data_of(first.inventory.id)
    gone_on(shared, first)
    heir = shared.heir(first, "heir")

    def night() -> None:
        if has_night:
            assert heir.backup().outcome is Outcome.DONE

    def dies() -> None:
        raise KeyboardInterrupt

    dying = Meanwhile(Meanwhile(first.vault, "delete_archives", night), "complete_upload", dies)
    with pytest.raises(KeyboardInterrupt):
        shared.prune(replace(first, vault=dying), deletes=True)
    assert not before & shared.data_of(first.inventory.id)
    shared.pass_time()
    lists(shared, heir)
    forgotten = {row[0] for row in query(heir, "SELECT id FROM snapshots WHERE forgotten_at IS NOT NULL")}
    assert forgotten
    with heir.inventory.reading() as tx:
        rows = list_jobs(tx, heir.vault.name)
    with amending(heir.keys, heir.world, heir.job.sending) as amender:
        back = undo_of_job(heir.inventory, amender, rows, rows[0], forgotten, if_all=True)
        with pytest.raises(UsageError, match="were deleted"):
            list(back)


# A machine that sleeps, and is replaced meanwhile.

_AT_ONCE = pytest.mark.parametrize(
    "shared", ["directory", pytest.param("bucket", marks=pytest.mark.slow)], indirect=True
)


def replaced(shared: SharedVault, first: Site, before: set[str], *, is_signed: bool = True) -> Site:
    """Its heir, which has forgotten and deleted what its snapshots were made of: the archives `before`."""
    heir = shared.heir(first, "heir", is_signed=is_signed)
    lists(shared, heir)
    files = take_away(heir)
    shared.night(heir, "of the heir")
    forget_all_but_newest(shared, heir)
    for _ in range(3):
        shared.prune(heir, deletes=True)
        shared.pass_time(GRACE)
    take_away(heir)
    put_back(files)
    assert not before & shared.data_of(first.inventory.id)
    return heir


@_AT_ONCE
@pytest.mark.parametrize("is_signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("moment", [0, 1], ids=["before its catalog", "while that is sent"])
def test_a_backup_that_slept_says_nothing_of_what_is_gone(
    shared: SharedVault, is_signed: bool, moment: int
) -> None:
    """It is suspended; meanwhile its server is rebuilt elsewhere, and deletes by the rules."""
    first = shared.first(2)
    first = first if is_signed else of_version_1(first)
    shared.pass_time(AGE)
    (source_of(first) / "new").write_bytes(b"new" * 10_000)
    before = shared.data_of(first.inventory.id)
    replacing = partial(replaced, shared, first, before, is_signed=is_signed)
    sleeping = replace(first, vault=Meanwhile(first.vault, "complete_upload", replacing, skip=moment))
    with pytest.raises(NightvaultError) as caught:
        sleeping.backup()
    assert isinstance(caught.value, HeirError) is is_signed, caught.value
    assert len(first.snapshots()) == 2


@_AT_ONCE
def test_a_long_run_looks_at_the_vault_once_more(shared: SharedVault) -> None:
    """A usual one does not."""
    first = shared.first(2)
    asked: list[int] = []
    for hours in (11, 13):
        (source_of(first) / f"after {hours}").write_bytes(b"new")
        vault = Meanwhile(first.vault, "complete_upload", partial(shared.pass_time, timedelta(hours=hours)))
        assert replace(first, vault=vault).backup().outcome is Outcome.DONE
        asked.append(vault.calls["newest_catalogs"] + vault.calls["request_listing"])
    assert asked[1] > asked[0]
    shared.assert_whole(first, shared.folder / "out")
