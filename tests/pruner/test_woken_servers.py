"""Servers that were thought to be gone wake up, and jobs that a rebuild left out: nothing of theirs goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest
from msgspec.structs import replace

from backup.format.records import ForgottenRecord, TakenBackRecord
from backup.inventory.store.times import micros
from backup.pruner.listed import PruneStoppedError
from backup.transfer.answers import accept_catalogs
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.checks import query
from tests.support.doubles import Blindfolded, ManualClock, Silent
from tests.support.keepers import Keeper
from tests.support.shared_vaults import AGE, DAY, SharedVault, source_of
from tests.support.trees import Seen, assert_same_tree, snapshot_of

NIGHTS = 2


def _blind(shared: SharedVault, site: Site) -> Site:
    """The server as where lists are late: it sees of the vault what it wrote itself."""
    return replace(site, vault=Blindfolded(site.vault, own=[*shared.archives()]))


def _take_away(site: Site) -> dict[str, bytes]:
    """All files of its source, which is empty then."""
    files = {path.name: path.read_bytes() for path in source_of(site).iterdir()}
    for name in files:
        (source_of(site) / name).unlink()
    return files


def _condemn(shared: SharedVault, heir: Site, job: str = "job") -> set[str]:
    """The heir has forgotten all of before, and condemned it; the data archives.

    Older catalogs than its own last full ones are deleted: their numbers are below all that it knows.
    """
    site = replace(heir, most_deltas=1).with_job(name=job)
    before = shared.data_of(*site.inventory.ancestors)
    numbers = [snapshot.number for snapshot in site.snapshots()]
    for number in range(4):
        shared.night(site, f"of the heir {job} {number}")
    for _ in range(2):
        shared.prune(site, deletes=True)
        shared.pass_time(AGE)
    known = "SELECT min(c.number) FROM catalogs c JOIN archives a ON a.number = c.archive"
    assert query(site, f"{known} WHERE a.state = 'stored'")[0][0] > NIGHTS + 1
    assert before <= shared.data_of(*site.inventory.ancestors)
    site.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    shared.prune(site)
    shared.pass_time(4 * DAY)
    return before


def _wake(shared: SharedVault, old: Site, files: Mapping[str, bytes]) -> dict[bytes, Seen]:
    """The old server's next night, with the files that it had; the tree."""
    _take_away(old)
    for name, content in files.items():
        (source_of(old) / name).write_bytes(content)
    shared.night(old, "woken")
    return snapshot_of(source_of(old))


def _assert_stops(shared: SharedVault, site: Site, words: str) -> Sequence[str]:
    """Its prune, and nothing goes."""
    before = shared.archives()
    with pytest.raises(PruneStoppedError, match=words) as caught:
        shared.prune(site, deletes=True)
    assert before.keys() <= shared.archives().keys()
    return caught.value.accept


def test_a_woken_server_with_low_numbers_stops_the_prune(shared: SharedVault) -> None:
    """L4: nothing goes that its listed catalog needs, until somebody answers."""
    first = shared.first(NIGHTS)
    shared.pass_time(AGE)
    files = _take_away(first)
    heir = shared.heir(first, "heir")
    old = _blind(shared, first)
    before, of_heir = _condemn(shared, heir), snapshot_of(source_of(heir))
    tree = _wake(shared, old, files)
    shared.pass_time(40 * DAY)
    accepted = _assert_stops(shared, heir, "does not know")
    shared.pass_time(AGE)
    assert _assert_stops(shared, heir, "does not know") == accepted
    assert before <= shared.data_of(first.inventory.id)
    first.restore("latest", shared.folder / "out")
    assert_same_tree(tree, shared.folder / "out")
    accept_catalogs(heir.inventory, shared.vault.name, accepted, "ada", shared.clock.now())
    assert shared.prune(heir, deletes=True).deleted.archives
    heir.restore("latest", shared.folder / "out heir")
    assert_same_tree(of_heir, shared.folder / "out heir")


def test_a_woken_server_before_a_second_rebuild_stops_the_prune(shared: SharedVault) -> None:
    """Its catalog's number is below all that the second heir knows, and it is from before that one's mark."""
    first = shared.first(NIGHTS)
    files = _take_away(first)
    heir = replace(shared.heir(first, "heir"), most_deltas=1)
    old = _blind(shared, first)
    for number in range(4):
        shared.night(heir, f"of the heir {number}")
    _wake(shared, old, files)
    again = shared.heir(heir, "second heir")
    shared.night(again, "of that one")
    _assert_stops(shared, again, "does not know")


@pytest.mark.parametrize("shared", ["directory"], indirect=True)
def test_a_woken_server_whose_clock_is_behind_stops_the_prune(shared: SharedVault) -> None:
    """L4: a directory's dates are those of whoever writes into it; its numbers are low as well."""
    first = shared.first(NIGHTS)
    shared.pass_time(AGE)
    files = _take_away(first)
    heir = shared.heir(first, "heir")
    own, long_ago = [*shared.archives()], ManualClock(shared.clock.now())
    before = _condemn(shared, heir)
    behind = DirectoryVault(shared.vault.name, str(shared.folder / "vault"), long_ago)
    old = replace(first, clock=long_ago, vault=Blindfolded(behind, own=own))
    tree = _wake(shared, old, files)
    shared.pass_time(40 * DAY)
    _assert_stops(shared, heir, "does not know")
    assert before <= shared.data_of(first.inventory.id)
    first.restore("latest", shared.folder / "out")
    assert_same_tree(tree, shared.folder / "out")


def test_a_woken_server_stops_the_keeper(shared: SharedVault) -> None:
    """L4: a catalog of an inventory that was replaced when it came."""
    first = shared.first(NIGHTS)
    shared.pass_time(AGE)
    files = _take_away(first)
    heir = shared.heir(first, "heir")
    old = _blind(shared, first)
    before = _condemn(shared, heir)
    _wake(shared, old, files)
    keeper = Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait)
    for _ in range(2):
        shared.pass_time(AGE)
        stopped = keeper.only().stopped
        assert "older machine of this server" in stopped or "not part of the state" in stopped
    assert before <= shared.data_of(first.inventory.id)


class _Sleeps(Silent):
    """A progress during which, as the deletion begins, others go on."""

    def __init__(self, others: Callable[[], object]) -> None:
        super().__init__()
        self._others = others

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        if title.startswith("Deleting"):
            self._others()


def test_a_prune_that_slept_before_it_deletes_asks_for_nothing(shared: SharedVault) -> None:
    """It has decided; its server is rebuilt elsewhere meanwhile, and takes the snapshots back."""
    first = shared.first(NIGHTS)
    shared.pass_time(AGE)
    tree = snapshot_of(source_of(first))
    _take_away(first)
    numbers = [snapshot.number for snapshot in first.snapshots()]
    shared.night(first, "without them")
    first.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    assert shared.prune(first).condemned.archives
    shared.pass_time(4 * DAY)
    made: list[Site] = []

    def others() -> None:
        heir = shared.heir(first, "heir")
        heir.amend(TakenBackRecord(numbers))
        assert shared.prune(heir).taken_up.archives
        made.append(heir)
        shared.pass_time()

    before = shared.archives()
    with pytest.raises(PruneStoppedError, match="slept"):
        shared.prune(replace(first, progress=_Sleeps(others)), deletes=True)
    assert before.keys() <= shared.archives().keys()
    (heir,) = made
    heir.restore(heir.snapshots()[NIGHTS - 1].id, shared.folder / "out")
    assert_same_tree(tree, shared.folder / "out")


# L5.


def _second_job(shared: SharedVault, first: Site) -> Site:
    """A second job over the same source: it shares all archives with the first one."""
    second = first.with_job(name="second")
    second.backup()
    shared.pass_time()
    return second


def test_what_a_job_needs_that_a_rebuild_left_out_stays(shared: SharedVault) -> None:
    """L5: neither that inventory's prune nor that of one rebuilt from it deletes it without an answer."""
    first = shared.first(NIGHTS)
    _second_job(shared, first)
    shared.pass_time(AGE)
    tree = snapshot_of(source_of(first))
    _take_away(first)
    one = shared.heir(first, "one job", jobs="second").with_job(name="second")
    numbers = [snapshot.number for snapshot in one.snapshots()]
    shared.night(one, "of the heir")
    one.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    shared.pass_time()
    _assert_stops(shared, one, "a rebuild left some jobs out")
    again = shared.heir(one, "again", jobs="second").with_job(name="second")
    shared.night(again, "of that heir")
    _assert_stops(shared, again, "a rebuild left some jobs out")
    both = shared.heir(again, "both")
    for job in ("job", "second"):
        shared.night(both.with_job(name=job), f"of both {job}")
    for _ in range(3):
        shared.prune(both, deletes=True)
        shared.pass_time(40 * DAY)
    of_job = both.with_job(name="job")
    of_job.restore(of_job.snapshots()[1].id, shared.folder / "out")
    assert_same_tree(tree, shared.folder / "out")


def test_two_heirs_with_a_job_each_do_not_delete_what_the_other_needs(shared: SharedVault) -> None:
    """The jobs that a rebuild left out were answered to; then somebody goes on with them elsewhere."""
    first = shared.first(NIGHTS)
    _second_job(shared, first)
    shared.pass_time(AGE)
    tree = snapshot_of(source_of(first))
    _take_away(first)
    one = shared.heir(first, "one job", jobs="second").with_job(name="second")
    numbers = [snapshot.number for snapshot in one.snapshots()]
    shared.night(one, "of the heir")
    one.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    shared.pass_time()
    asked = _assert_stops(shared, one, "a rebuild left some jobs out")
    accept_catalogs(one.inventory, one.vault.name, asked, "ada", shared.clock.now())
    other = shared.heir(first, "other job", jobs="job").with_job(name="job")
    shared.night(other, "of the other heir")
    for _ in range(2):
        assert _assert_stops(shared, one, "a mark that it goes on") == (other.inventory.id.hex(),)
        shared.pass_time(40 * DAY)
    kept = other.snapshots()[0]
    other.restore(kept.id, shared.folder / "out")
    assert tree.items() >= snapshot_of(shared.folder / "out").items()
    accept_catalogs(one.inventory, one.vault.name, [other.inventory.id.hex()], "ada", shared.clock.now())
    assert shared.prune(one, deletes=True).state == "done"


def test_a_keeper_knows_the_job_that_a_rebuild_left_out(shared: SharedVault) -> None:
    """L5: it goes by all of the lineage's catalogs."""
    first = shared.first(NIGHTS)
    _second_job(shared, first)
    shared.pass_time(AGE)
    before = shared.data_of(first.inventory.id)
    one = shared.heir(first, "one job", jobs="second").with_job(name="second")
    _take_away(first)
    numbers = [snapshot.number for snapshot in one.snapshots()]
    shared.night(one, "of the heir")
    one.amend(ForgottenRecord(numbers, micros(shared.clock.now())))
    keeper = Keeper(shared.folder / "keeper", shared.vault, shared.clock, wait=shared.wait)
    for _ in range(3):
        shared.pass_time(40 * DAY)
        keeper.keep()
    assert before <= shared.data_of(first.inventory.id)
