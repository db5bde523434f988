"""What a dead process left behind: finished where it can be, given up where it must be, never sent twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from backup.catalogs import commit
from backup.inventory.content import archives
from backup.inventory.content.archives import ArchiveState
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import value_of
from backup.kinds import Outcome
from backup.model import Generation, JobName, Listing, PackKind, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, PowerCut
from tests.support.integrity import assert_stored, assert_whole, change, fill, list_now
from tests.support.trees import snapshot_of

SIZE = 6 * 1024 * 1024


def cut(site: Site, *faults: Fault) -> FaultyVault:
    """Run a backup into the dark; the vault as it was seen."""
    dark = FaultyVault(site.vault, *faults)
    with pytest.raises(PowerCut):
        replace(site, vault=dark).backup()
    return dark


def power(method: str, *, skip: int = 0, after: bool = False) -> Fault:
    """A power cut at a call of that method."""
    return Fault(method, PowerCut("here"), skip=skip, after=after)


def spooled(site: Site) -> list[Path]:
    """The packs in the spool."""
    return sorted(site.spool.iterdir())


def states(site: Site) -> list[ArchiveState]:
    """The state of every archive ever submitted."""
    with site.inventory.reading() as tx:
        found = archives.get_archives(tx, range(1, 100), site.inventory.id)
    return [found[number].state for number in sorted(found)]


def test_a_stored_catalog_is_committed_by_the_next_run(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(source, 1, SIZE // 4)
    (source / "socket").touch()
    first = snapshot_of(source)

    def die(*_: object) -> None:
        raise PowerCut("just before the commit")

    with monkeypatch.context() as patch:
        patch.setattr(commit, "make_true", die)
        with pytest.raises(PowerCut):
            site.backup()
    site = site.reopen()
    assert site.snapshots() == []
    change(source, 2, 1000)
    second = snapshot_of(source)
    site.backup()
    with site.inventory.reading() as tx:
        newest, oldest = runs.list_runs(tx)
    assert (oldest.outcome, newest.outcome) == (Outcome.DONE, Outcome.DONE), "its catalog is full, too"
    assert oldest.report["recovered"] is True
    assert oldest.report["snapshot"] == site.snapshots()[0].id
    assert_whole(site, tmp_path / "out", {1: first, 2: second}, list_now(site.vault))


def _cut_before_its_commit(site: Site) -> None:
    def die(*_: object) -> None:
        raise PowerCut("just before the commit")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "make_true", die)
        with pytest.raises(PowerCut):
            site.backup()


def _prepare_otherwise(site: Site, change: Callable[[bytes], bytes]) -> None:
    """Put something else in place of what the newest run prepared."""
    with site.inventory.writing() as tx:
        number = runs.list_runs(tx)[0].number
        prepared = value_of(tx, "SELECT prepared FROM runs WHERE number = ?", (number,))
        runs.prepare(tx, number, change(prepared))


def test_what_an_older_version_prepared_with_sums_that_fit_nowhere_is_applied(
    site: Site, source: Path, tmp_path: Path
) -> None:
    def with_sums(prepared: bytes) -> bytes:
        (record,) = [
            msgspec.msgpack.decode(record_bytes) for record_bytes in msgspec.msgpack.decode(prepared)
        ]
        record[8], record[10] = 2**63 + 7, [[1, 2**63 + 7]]
        return msgspec.msgpack.encode([msgspec.msgpack.encode(record)])

    (source / "file").write_bytes(b"one")
    first = snapshot_of(source)
    _cut_before_its_commit(site)
    _prepare_otherwise(site, with_sums)
    site = site.reopen()
    site.backup()
    before, after = site.snapshots()
    assert (before.bytes, before.counts, after.bytes) == (2**63 - 1, ((1, 2**63 - 1),), 3)
    assert_whole(site, tmp_path / "out", {1: first, 2: first}, list_now(site.vault))


@pytest.mark.parametrize("prepared", [b"", b"\xc1", b"\x91\xc4\x01\x00", b"\x90", b"\x93\x09\x91\x01\x02"])
def test_what_cannot_be_applied_ends_its_own_run_alone(
    site: Site, source: Path, tmp_path: Path, prepared: bytes
) -> None:
    (source / "file").write_bytes(b"one")
    site.backup()
    (source / "file").write_bytes(b"two")
    _cut_before_its_commit(site)
    _prepare_otherwise(site, lambda _: prepared)
    other = site.reopen().with_job(name="other")
    other.backup()
    site = other.with_job(name="job")
    site.backup()
    with site.inventory.reading() as tx:
        found = runs.list_runs(tx, job=JobName("job"))[::-1]
    assert [run.outcome for run in found] == [Outcome.DONE, Outcome.FAILED, Outcome.DONE]
    assert "given up" in found[1].report["error"]
    assert [snapshot.number for snapshot in site.snapshots()] == [1, 3]
    site.restore("latest", tmp_path / "out")
    assert (tmp_path / "out" / "file").read_bytes() == b"two"
    made = [
        archive.label.generation
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.generation
    ]
    assert made.count(Generation.FULL) == 3, "a catalog that cannot be applied is replaced by a full one"


def test_a_recovered_snapshot_keeps_its_problems(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = site.with_job(sources=[source, source / "missing" / "x"])

    def die(tx: Transaction, *_: object) -> None:
        raise PowerCut("just before the commit")

    with monkeypatch.context() as patch:
        patch.setattr(commit, "make_true", die)
        with pytest.raises(PowerCut):
            two.backup()
    two.reopen().backup()
    with site.inventory.reading() as tx:
        assert [run.outcome for run in runs.list_runs(tx)] == [Outcome.PARTIAL, Outcome.PARTIAL]
    first, second = two.snapshots()
    assert first.problems == second.problems != ()


@pytest.mark.parametrize("damage", ["gone", "short", "flipped"])
def test_a_pack_that_the_spool_lost_is_never_built_upon(
    site: Site, source: Path, tmp_path: Path, damage: str
) -> None:
    fill(source, 1, SIZE)
    cut(site, power("put_part", skip=1))
    for path in spooled(site):
        data = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
        elif damage == "short":
            path.write_bytes(data[:-1])
        else:
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
    site = site.reopen()
    report = site.backup()
    assert ArchiveState.LOST in states(site)
    assert report.bytes_new == report.bytes_read, "nothing may be taken from a pack that is lost"
    assert site.vault.list_uploads() == []
    assert_stored(site, list_now(site.vault))
    site.restore("latest", tmp_path / "out")
    assert "gone or damaged" in site.progress.notes[0]


def test_an_upload_whose_begin_was_not_answered_is_adopted(site: Site, source: Path, tmp_path: Path) -> None:
    fill(source, 1, SIZE)
    cut(site, power("begin_upload", after=True))
    (begun,) = site.vault.list_uploads()
    again = FaultyVault(site.vault)
    site.reopen(again).backup()
    with site.inventory.reading() as tx:
        first = archives.list_archives(tx, site.inventory.id)[0]
    assert str(first.archive_id) == str(begun.upload_id), (
        "a directory vault's archives are called as their uploads"
    )
    assert site.vault.list_uploads() == []
    assert (
        again.calls["begin_upload"] == again.calls["complete_upload"] - 2
    )  # it was tried to complete it first


def test_an_upload_that_the_vault_forgot_is_begun_anew_and_then_kept(
    site: Site, source: Path, tmp_path: Path
) -> None:
    fill(source, 1, SIZE)
    cut(site, power("put_part", skip=2))
    for open_upload in site.vault.list_uploads():
        site.vault.abort_upload(open_upload.upload_id)
    site = site.reopen()
    second = cut(site, power("put_part", skip=2))
    assert second.calls["begin_upload"] >= 1
    third = FaultyVault(site.vault)
    site = site.reopen(third)
    site.backup()
    assert not [place for place, count in (second.sent + third.sent).items() if count > 1]
    now = snapshot_of(source)
    trees = dict.fromkeys((snapshot.number for snapshot in site.snapshots()), now)
    assert_whole(site, tmp_path / "out", trees, list_now(site.vault))


def test_recovery_itself_may_be_cut_again_and_again(site: Site, source: Path, tmp_path: Path) -> None:
    fill(source, 1, SIZE)
    seen = [cut(site, power("*", skip=4))]
    for call in range(12):
        site = site.reopen()
        seen.append(cut(site, power("*", skip=call % 4, after=call % 2 == 1)))
    last = FaultyVault(site.vault)
    site = site.reopen(last)
    site.backup()
    sent = sum((vault.sent for vault in seen), last.sent)
    assert max(sent.values()) == 1
    trees = dict.fromkeys((snapshot.number for snapshot in site.snapshots()), snapshot_of(source))
    assert_whole(site.reopen(site.vault), tmp_path / "out", trees, list_now(last.vault))


def test_another_vault_s_uploads_wait_for_their_own_run(
    site: Site, source: Path, tmp_path: Path, disk: DirectoryVault
) -> None:
    fill(source, 1, SIZE)
    cut(site, power("put_part", skip=1))
    with site.inventory.reading() as tx:
        waiting = {upload.spool_file for upload in archives.pending_uploads(tx, site.inventory.id)}
    other = DirectoryVault(VaultName("other"), str(tmp_path / "other"), site.clock)
    other.create()
    elsewhere = replace(site.with_job(name="elsewhere"), vault=other).reopen()
    elsewhere.backup()
    assert waiting
    assert {path.name for path in spooled(site)} == waiting
    assert {archive.label.kind for archive in list_now(other).archives if archive.label} == set(PackKind)
    site = elsewhere.reopen(disk).with_job(name="job")
    site.backup()
    assert os.listdir(site.spool) == []
    both = [*list_now(disk).archives, *list_now(other).archives]
    assert_stored(site, Listing(site.clock.now(), both))


def test_numbers_are_not_given_out_again_after_a_cut(site: Site, source: Path) -> None:
    (source / "file").write_bytes(os.urandom(2000))
    for call in range(8):
        site = site.reopen()
        dark = FaultyVault(site.vault, power("*", skip=call))
        try:
            replace(site, vault=dark).backup()
        except PowerCut:
            (source / "file").write_bytes(os.urandom(2000))
    site.backup()
    with site.inventory.reading() as tx:
        given = [run.snapshot_number for run in runs.list_runs(tx)]
        found = archives.get_archives(tx, range(1, 100), site.inventory.id).values()
    assert len(given) == len(set(given)) == 9
    numbers = [archive.label.number for archive in found if archive.label.kind is PackKind.CATALOG]
    assert len(numbers) == len(set(numbers))
