"""Snapshots are copied into another vault, and come back from there alone."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.copier.context import CopyChoice
from backup.copier.copy import copy
from backup.errors import ConfigError, LockedError, OtherVaultError, VaultMissingError
from backup.format.keys import RecoveryKey
from backup.format.records import ForgottenRecord, MarksRecord
from backup.inventory.content import archives, copied, copied_pruning, identities
from backup.inventory.content.archives import ArchiveState
from backup.inventory.records import runs
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import MIB, ByteRange, Fetched, RetrievalId, VaultName
from backup.protocols import Vault
from backup.rebuilder.context import Wish
from backup.retention.copies import CopyRule
from backup.retention.policy import Policy
from backup.vault.directory import DirectoryVault
from tests.copier.support import brought_back, context_of, copies, nights
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.rebuilds import Bare
from tests.support.recovery_keys import NEW, OLD, with_keys
from tests.support.rigs import s3_client, s3_vault
from tests.support.transaction_cuts import cut_transaction
from tests.support.trees import snapshot_of


class Sleeping(ManualClock):
    """A clock of which each sleep is told."""

    def __init__(self, start: datetime, sleeps: Callable[[float], None]) -> None:
        super().__init__(start)
        self._sleeps = sleeps

    def sleep(self, seconds: float) -> None:
        """Tell of it, and move on."""
        super().sleep(seconds)
        self._sleeps(seconds)


@pytest.mark.parametrize("only_plan", [True, False])
def test_a_vault_that_is_not_there_is_told_of_by_the_plan_and_by_the_copy(
    site: Site, source: Path, clock: ManualClock, tmp_path: Path, only_plan: bool
) -> None:
    nights(site, source, 1)
    nowhere = DirectoryVault(VaultName("nowhere"), str(tmp_path / "nowhere"), clock)
    with pytest.raises(VaultMissingError, match="nowhere") as told:
        copy(context_of(site, nowhere), site.job.name, CopyChoice(), only_plan=only_plan)
    assert "nightvault init" in told.value.advice


def test_all_comes_back_from_the_copy_alone(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 3)
    report = copies(site, second)
    assert (report.outcome, len(report.snapshots), report.problems) == (Outcome.DONE, 3, ())
    assert report.archives
    assert report.bytes
    again = copies(site, second)
    assert (again.archives, again.snapshots) == (0, ()), "nothing copied is sent again"
    seen += nights(site, source, 2, first=3)
    later = copies(site, second)
    assert len(later.snapshots) == 2
    assert later.archives < report.archives + 2
    shutil.rmtree(tmp_path / "vault", ignore_errors=True)
    assert brought_back(site, second, tmp_path, "bare") == seen


class Read(FaultyVault):
    """Counts what is read of a vault: each stretch of each retrieval."""

    def __init__(self, vault: Vault, *faults: Fault) -> None:
        super().__init__(vault, *faults)
        self.stretches: Counter[tuple[str, ByteRange]] = Counter()

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """See `Vault`."""
        self.stretches[retrieval_id, extent] += 1
        return super().fetch(retrieval_id, extent)


def test_nothing_copied_is_read_or_sent_again(site: Site, source: Path, second: DirectoryVault) -> None:
    """By the calls at both vaults: each stretch is read, each archive begun once, over all copies."""
    nights(site, source, 3)
    read, to = Read(site.vault), FaultyVault(second)
    archives_sent = bytes_sent = 0
    for more in (0, 2, 0):
        nights(site, source, more, first=3)
        before = Counter(read.calls), Counter(to.calls)
        report = copy(replace(context_of(site, to), source=read), site.job.name, CopyChoice())
        archives_sent += report.archives
        bytes_sent += report.bytes
        assert set(read.stretches.values()) == {1}
        assert sum(extent.length for _, extent in read.stretches) == bytes_sent
        catalogs = to.calls["begin_upload"] - before[1]["begin_upload"] - report.archives
        assert catalogs <= 2
        if not report.archives:
            assert read.calls["fetch"] == before[0]["fetch"]
            assert catalogs == 0
    assert archives_sent > 3


def test_tags_pins_and_what_is_kept_come_back_from_the_copy_alone(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    """As they were at the newest copy, also of what the source has forgotten since."""
    seen = nights(site, source, 3)
    site.amend(MarksRecord(1, ["before the move", "keep"], pinned=True, note="by hand"))
    rule = CopyRule(Policy(last=1, tags=(frozenset({"keep"}),)), ZoneInfo("UTC"))
    copies(site, second)
    site.amend(MarksRecord(2, ["keep"], pinned=False))
    clock.advance(timedelta(days=1))
    seen += nights(site, source, 1, first=3)
    assert copies(site, second, CopyChoice(rule=rule)).forgotten == 1
    site.amend(ForgottenRecord([1, 3], micros(clock.now())))
    shutil.rmtree(tmp_path / "vault", ignore_errors=True)
    machine = Bare(tmp_path / "bare", second, site)
    machine.rebuild()
    built = machine.site()
    back = {snapshot.number: snapshot for snapshot in built.snapshots(also_forgotten=True)}
    at_home = {snapshot.number: snapshot for snapshot in site.snapshots(also_forgotten=True)}
    assert {number for number, snapshot in back.items() if snapshot.forgotten_at} == {3}
    for number, snapshot in back.items():
        was = at_home[number]
        assert (snapshot.id, snapshot.started_at, snapshot.tags, snapshot.pin) == (
            was.id,
            was.started_at,
            was.tags,
            was.pin,
        )
        target = tmp_path / f"back-{number}"
        if not snapshot.forgotten_at:
            built.restore(snapshot.id, target)
            assert dict(snapshot_of(target)) == seen[number - 1]
    assert back[1].pin is not None
    assert back[2].tags == ("keep",)
    built.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_cut_at_every_call_of_a_vault(
    site: Site, source: Path, tmp_path: Path, clock: ManualClock, side: str, after: bool
) -> None:
    seen = nights(site, source, 2)
    for call in range(200):
        to = DirectoryVault(VaultName(f"second-{call}"), str(tmp_path / f"second-{call}"), clock)
        to.create()
        faulty = FaultyVault(to if side == "destination" else site.vault, cut_at(call, after=after))
        context = context_of(site, to)
        changed = {"vault": faulty} if side == "destination" else {"source": faulty}
        try:
            copy(replace(context, **changed), site.job.name, CopyChoice())
        except PowerCut:
            is_cut = True
        else:
            is_cut = False
        site = site.reopen()
        there = FaultyVault(to)
        report = copies(site, there)
        assert report.outcome is Outcome.DONE, report
        assert copies(site, to).snapshots == ()
        assert brought_back(site, to, tmp_path, f"bare-{call}") == seen
        shutil.rmtree(tmp_path / f"second-{call}")
        if not is_cut:
            assert call > 3
            return
    pytest.fail("it never came to an end")


def test_a_cut_at_every_transaction(site: Site, source: Path, tmp_path: Path, clock: ManualClock) -> None:
    seen = nights(site, source, 2)
    for number in range(200):
        to = DirectoryVault(VaultName(f"second-{number}"), str(tmp_path / f"second-{number}"), clock)
        to.create()
        try:
            with cut_transaction(site, number):
                copies(site, to)
        except PowerCut:
            is_cut = True
        else:
            is_cut = False
        site = site.reopen()
        assert copies(site, to).outcome is Outcome.DONE
        assert brought_back(site, to, tmp_path, f"bare-{number}") == seen
        shutil.rmtree(tmp_path / f"second-{number}")
        if not is_cut:
            assert number > 8
            return
    pytest.fail("it never came to an end")


@pytest.mark.parametrize("harm", ["flipped", "short", "swapped", "gone"])
def test_what_is_not_as_it_was_stored_is_no_copy(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, harm: str
) -> None:
    seen = nights(site, source, 2)
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
    data = [archive for archive in every if not archive.label.generation]
    files = {path.name: path for path in (tmp_path / "vault").rglob("*") if path.is_file()}
    place = {archive.number: files[str(archive.archive_id).rsplit("/", 1)[-1]] for archive in data}
    victim = place[data[-1].number]
    good = victim.read_bytes()
    victim.chmod(0o600)
    if harm == "flipped":
        victim.write_bytes(good[:5000] + bytes([good[5000] ^ 1]) + good[5001:])
    elif harm == "short":
        victim.write_bytes(good[:-1])
    elif harm == "swapped":
        victim.write_bytes(place[data[0].number].read_bytes())
    else:
        victim.unlink()
    report = copies(site, second)
    assert report.outcome is Outcome.PARTIAL
    assert len(report.problems) == 1
    with site.inventory.reading() as tx:
        number = archives.get_or_create_vault(tx, second.name)
        states = {copy.archive: copy.state for copy in copied.list_copies(tx, number)}
        assert states.pop(data[-1].number) is ArchiveState.LOST
        assert set(states.values()) == {ArchiveState.STORED}
    assert not second.list_uploads()
    there = second.fetch_listing(second.request_listing("all")).archives
    assert data[-1].label.pack_id not in {entry.label.pack_id for entry in there if entry.label}
    assert report.snapshots == (site.snapshots()[0].id,)
    assert report.not_copied == (site.snapshots()[1].id,)
    assert brought_back(site, second, tmp_path, "partly") == seen[:1]
    victim.write_bytes(good)
    assert copies(site, second).outcome is Outcome.DONE
    assert brought_back(site, second, tmp_path, "whole") == seen


def test_packs_of_a_directory_go_on_where_they_were_cut_and_take_no_room_here(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """Each part is sent once, over two processes, and none of it is a file on this machine meanwhile."""
    (source / "large").write_bytes(os.urandom(3 * MIB))
    seen = nights(site, source, 1)
    cut = FaultyVault(second, Fault("put_part", PowerCut("in the middle"), skip=2))
    with pytest.raises(PowerCut):
        copies(site, cut)
    site = site.reopen()
    assert not any((site.folder / "copies" / "second").iterdir())
    begun = {of.label.pack_id for of in second.list_uploads() if of.label}
    assert begun
    again = FaultyVault(second)
    report = copies(site, again)
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    both = cut.sent + again.sent
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
    data = {archive.label.pack_id for archive in every if not archive.label.generation}
    assert begun <= data
    assert {count for (pack, _), count in both.items() if pack in data} == {1}
    assert brought_back(site, second, tmp_path, "bare") == seen


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_what_was_spoiled_while_a_copy_was_cut_is_given_up(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, harm: str
) -> None:
    """Its upload is aborted, all others go on; once it is whole again, so is the copy."""
    seen = nights(site, source, 1)
    with pytest.raises(PowerCut):
        copies(site, FaultyVault(second, Fault("complete_upload", PowerCut("as all of it is there"))))
    site = site.reopen()
    (left, *_) = [of.label.pack_id for of in second.list_uploads() if of.label]
    with site.inventory.reading() as tx:
        every = archives.list_archives(tx, site.inventory.id, vault=site.vault.name)
    (name,) = (str(archive.archive_id) for archive in every if archive.label.pack_id == left)
    (victim,) = (path for path in (tmp_path / "vault").rglob(name.rsplit("/", 1)[-1]) if path.is_file())
    good = victim.read_bytes()
    victim.chmod(0o600)
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    report = copies(site, second)
    assert (report.outcome, len(report.problems), report.snapshots) == (Outcome.PARTIAL, 1, ())
    assert left.hex() in report.problems[0]
    assert not second.list_uploads()
    victim.write_bytes(good)
    assert copies(site, second).outcome is Outcome.DONE
    assert brought_back(site, second, tmp_path, "whole") == seen


def test_two_copies_at_once_are_refused_and_a_backup_runs_beside(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 1)
    found: list[object] = []

    def meanwhile() -> None:
        with pytest.raises(LockedError):
            copies(site, second)
        found.append(site.backup().outcome)

    class Beside(FaultyVault):
        def _meet(self, method: str, call: Callable[[], Any]) -> Any:
            if method == "begin_upload" and not found:
                meanwhile()
            return super()._meet(method, call)

    context = replace(context_of(site, second), vault=Beside(second))
    assert copy(context, site.job.name, CopyChoice()).outcome is Outcome.DONE
    assert found == [Outcome.DONE]
    copies(site, second)
    assert brought_back(site, second, tmp_path, "bare") == [*seen, seen[0]]


def test_a_copy_begins_and_sends_while_a_backup_runs_and_its_catalog_waits(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 1)
    copies(site, second)
    seen += nights(site, source, 1, first=1)
    sent = FaultyVault(second)
    with ExitStack() as backup:
        backup.enter_context(site.reopen().inventory.locked("backup"))
        looks: list[int] = []

        def sleep(_seconds: float) -> None:
            looks.append(sum(sent.sent.values()))
            if len(looks) == 3:
                backup.close()

        waits = replace(context_of(site, sent), clock=Sleeping(clock.now(), sleep))
        assert copy(waits, site.job.name, CopyChoice()).outcome is Outcome.DONE
    assert looks[0] > 0
    assert len(looks) == 3
    assert brought_back(site, second, tmp_path, "bare") == seen


@pytest.mark.parametrize("deltas", [None, 1], ids=["delta", "full"])
def test_what_the_source_has_given_up_stays_in_the_copy(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock, deltas: int | None
) -> None:
    site = replace(site, most_deltas=deltas)
    seen = nights(site, source, 3)
    copies(site, second)
    site.amend(ForgottenRecord([1, 2], micros(clock.now())))
    for _ in range(3):
        site.prune(grace=timedelta(0))
        clock.advance(timedelta(days=2))
    assert [kept.number for kept in site.snapshots(also_forgotten=True)] == [3]
    seen += nights(site, source, 1, first=3)
    copies(site, second)
    with site.inventory.reading() as tx:
        number = archives.get_or_create_vault(tx, second.name)
        row = runs.find_job(tx, site.job.name)
        assert row is not None
        assert list(copied.kept_there(tx, number, row.number)) == [1, 2, 3, 4]
    assert brought_back(site, second, tmp_path, "copy") == seen
    assert brought_back(site, site.vault, tmp_path, "source") == seen[2:]
    report = replace(site, vault=second).prune()
    assert (report.condemned.archives, report.deleted.archives) == (0, 0)


def test_a_vault_that_took_the_place_of_one_with_copies_gets_all_again(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 2)
    first = copies(site, second)
    shutil.rmtree(tmp_path / "second")
    second.create()
    with pytest.raises(OtherVaultError):
        copies(site, second)
    accept_empty(site, second)
    assert copies(site, second).archives == first.archives
    assert brought_back(site, second, tmp_path, "again") == seen


def accept_empty(site: Site, vault: DirectoryVault) -> None:
    """A person says that the vault is another one, with nothing in it."""
    with site.inventory.writing() as tx:
        identities.set_state_of_contents(tx, vault.name, ArchiveState.LOST)
    vault.add_identity(site.inventory.id, "0" * 32)
    with site.inventory.writing() as tx:
        identities.set_vault_identity(tx, vault.name, vault.identities(site.inventory.id)[0])


def test_what_goes_while_the_catalog_waits_is_not_said_to_be_copied(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, clock: ManualClock
) -> None:
    seen = nights(site, source, 1)
    copies(site, second)
    seen += nights(site, source, 1, first=1)
    with ExitStack() as backup:
        backup.enter_context(site.reopen().inventory.locked("backup"))

        def sleep(_seconds: float) -> None:
            shutil.rmtree(tmp_path / "second")
            second.create()
            accept_empty(site, second)
            backup.close()

        waits = replace(context_of(site, second), clock=Sleeping(clock.now(), sleep))
        report = copy(waits, site.job.name, CopyChoice())
    assert (report.snapshots, len(report.not_copied)) == ((), 1)
    assert copies(site, second).snapshots == tuple(snapshot.id for snapshot in site.snapshots())
    assert brought_back(site, second, tmp_path, "again") == seen


@pytest.mark.parametrize("recipients", [(NEW,), (NEW, OLD)], ids=["changed", "added"])
def test_recipients_that_were_accepted_at_home_are_accepted_there(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path, recipients: tuple[RecoveryKey, ...]
) -> None:
    seen = nights(site, source, 2)
    copies(site, second)
    site = with_keys(site, *recipients, enrolled_by=[NEW, OLD])
    with pytest.raises(ConfigError, match="recipients"):
        copies(site, second)  # nobody has said yet that they are right
    (source / "another").write_text("another")
    run_backup(site.job, site.keys, site.world, accept_recipients=True)
    seen.append(dict(snapshot_of(source)))
    assert len(copies(site, second).snapshots) == 1
    machine = Bare(tmp_path / "bare", second, site, NEW, [OLD])
    machine.rebuild()
    back = machine.site()
    for snapshot in back.snapshots():
        back.restore(snapshot.id, tmp_path / snapshot.id)
        assert dict(snapshot_of(tmp_path / snapshot.id)) == seen[snapshot.number - 1]
    back.close()


def test_chosen_snapshots_alone_and_older_ones_later(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    seen = nights(site, source, 4)
    third = site.snapshots()[2].id
    assert copies(site, second, CopyChoice(snapshot=third)).snapshots == (third,)
    assert brought_back(site, second, tmp_path, "third") == [seen[2]]
    first = site.snapshots()[0].id
    copies(site, second, CopyChoice(snapshot=first))
    assert brought_back(site, second, tmp_path, "first") == [seen[0], seen[2]]
    copies(site, second)
    assert brought_back(site, second, tmp_path, "all") == seen


def test_into_a_cold_bucket_cut_at_its_calls(
    site: Site, source: Path, emulator: RunningEmulator, tmp_path: Path, clock: ManualClock
) -> None:
    client = s3_client(emulator.s3_url)
    site = replace(
        site,
        job=replace(site.job, part_size=8 * MIB),
        wait=lambda: emulator.advance(13 * 3600),
    )
    seen = nights(site, source, 2)
    for call in range(0, 200, 3):
        bucket = s3_vault(client, f"copies-{call}", name=f"bucket-{call}", clock=clock)
        bucket.create()
        cut = FaultyVault(bucket, cut_at(call, after=bool(call % 2)))
        try:
            copies(site, cut)
        except PowerCut:
            is_cut = True
        else:
            is_cut = False
        site = site.reopen()
        again = FaultyVault(bucket)
        assert copies(site, again).outcome is Outcome.DONE
        twice = {place for place, count in (cut.sent + again.sent).items() if count > 1}
        assert not twice, "a part that the vault had was sent again"
        if not is_cut:
            break
    assert brought_back(site, bucket, tmp_path, "bare") == seen


def test_the_catalogs_of_one_job_suffice_for_it(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    """Two jobs save the same files; the second one's packs are the first one's, and it comes back alone."""
    other = site.with_job(name="other", sources=[source])
    for night in range(2):
        nights(site, source, 1, first=night)
        other.backup()
        copies(site, second)
        copies(other, second)
    machine = Bare(tmp_path / "bare", second, other)
    machine.rebuild(Wish(jobs=frozenset({"other"})))
    built = machine.site()
    newest = max(built.snapshots(), key=lambda snapshot: snapshot.number)
    built.restore(newest.id, tmp_path / "back")
    assert dict(snapshot_of(tmp_path / "back")) == dict(snapshot_of(source))
    built.close()


def test_what_was_sent_again_is_named_by_each_job_that_needs_it(
    site: Site, source: Path, second: DirectoryVault, tmp_path: Path
) -> None:
    other = site.with_job(name="other", sources=[source])
    nights(site, source, 1)
    other.backup()
    copies(site, second)
    copies(other, second)
    with site.inventory.writing() as tx:
        vault = copied.vault_number(tx, second.name)
        numbers = [copy.archive for copy in copied.list_copies(tx, vault)]
        copied_pruning.mark(tx, vault, numbers, ArchiveState.LOST, site.clock.now())
    assert copies(site, second).archives
    copies(other, second)
    with site.inventory.reading() as tx:
        for job in (site.job.name, other.job.name):
            row = runs.find_job(tx, job)
            assert row is not None
            assert set(numbers) <= archives.named_archives(tx, row.number, vault=vault), job
