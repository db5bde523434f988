"""Archives read back: what is damaged is named and stored again, what cannot be read now is not."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.checker import read_sample
from backup.checker.read_sample import Piece
from backup.checker.report import CheckReport
from backup.checker.sample import Amount
from backup.errors import LockedError, RecoveryKeyError, UnreachableError, UsageError, VaultError
from backup.format.keys import RecoveryKey
from backup.inventory.records import readings, runs
from backup.inventory.records.readings import Grade
from backup.model import MIB, ArchiveId, ByteRange
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site, recovery_key
from tests.support.checks import (
    archive_file,
    archive_ids,
    check_world,
    corrupt,
    kinds,
    needing,
    proof_of,
    query,
    state_of,
)
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, ManualClock, PowerCut
from tests.support.trees import assert_same_tree

ALL = Amount(share=Fraction(1))


def read(
    site: Site,
    amount: Amount = ALL,
    *,
    keys: Sequence[RecoveryKey] = (),
    vault: Vault | None = None,
    seed: int = 1,
) -> CheckReport:
    """Begin a sample or go on with it, until it is over."""
    world = check_world(site, keys=keys, vault=vault, seed=seed)
    run = read_sample.find_open(world)
    if run is None:
        run = read_sample.begin_reading(read_sample.plan_sample(amount, world), world, NO_LIMIT)
    report = read_sample.go_on(run, world)
    while report.state == "waiting":
        site.wait()
        report = read_sample.go_on(run, world)
    return report


def test_all_of_it_without_a_key(site: Site) -> None:
    report = read(site)
    count = len(archive_ids(site, "1"))
    assert (report.state, report.findings, report.is_grave) == ("done", (), False)
    back = report.read
    assert back is not None
    assert (back.archives, back.whole_archives) == (count, count)
    assert back.frames == query(site, "SELECT count(*) FROM frames")[0][0]
    assert back.bytes == back.stored_bytes == query(site, "SELECT sum(size) FROM archives")[0][0]
    assert (back.opened_frames, back.chunks, back.never_read) == (0, 0, 0)
    with site.inventory.reading() as tx:
        assert (runs.list_runs(tx)[0].kind, runs.list_runs(tx)[0].outcome) == ("check", "done")


def test_with_a_key_it_is_opened_and_named_anew(site: Site) -> None:
    back = read(site, keys=[recovery_key()]).read
    assert back is not None
    assert back.opened_frames == back.frames > 0
    assert back.chunks == query(site, "SELECT count(*) FROM chunks")[0][0] > 0
    proof = proof_of(site)
    assert (proof.opened, proof.last_opened) == (proof.bytes, site.clock.now())


def test_what_is_compared_only_is_not_opened(site: Site, clock: ManualClock) -> None:
    read(site)
    assert (proof_of(site).share(Grade.READ_BACK), proof_of(site).opened) == (1.0, 0)
    read(site, keys=[recovery_key()])
    opened = proof_of(site)
    clock.advance(timedelta(days=1))
    read(site)
    assert (proof_of(site).opened, proof_of(site).last_opened) == (opened.bytes, opened.last_opened)


def of_several_frames(site: Site, source: Path) -> tuple[int, int, int]:
    """The number and the size of an archive that holds several frames, and where the last of them begins."""
    (source / "of several frames").write_bytes(random.Random(3).randbytes(7 * MIB))
    replace(site, job=replace(site.job, pack_size=16 * MIB, part_size=8 * MIB)).backup()
    sql = """SELECT a.number, a.size, max(f."offset") FROM frames f JOIN archives a ON a.number = f.archive
             GROUP BY a.number HAVING count(*) > 1"""
    ((number, size, last),) = query(site, sql)
    return number, size, last


def test_of_an_archive_with_a_bad_frame_the_others_are_opened(
    site: Site, source: Path, tmp_path: Path
) -> None:
    archive, size, last = of_several_frames(site, source)
    ((bad,),) = query(site, "SELECT archive_id FROM archives WHERE number = ?", archive)
    corrupt(archive_file(tmp_path / "vault", bad), 2000)
    world, end = check_world(site, keys=[recovery_key()]), ByteRange(last // MIB * MIB, size)
    pieces = [
        Piece(archive, size, 0, last, ByteRange(0, last // MIB * MIB + MIB)),
        Piece(archive, size, last, size - 1, end),
        Piece(archive, size, size - 1, size, end),
    ]
    report = read_sample.go_on(read_sample.begin_reading(pieces, world, NO_LIMIT), world)
    assert kinds(report) == {"damaged": 1}
    assert query(site, 'SELECT start, "end" FROM readings WHERE proven = 2') == [(last, size)], "also the end"


def test_what_was_read_before_the_key_was_given_is_not_opened(site: Site, source: Path) -> None:
    """The key is given with the command that reads; the sample went on without it, or was begun so."""
    archive, size, last = of_several_frames(site, source)
    middle = last // MIB * MIB
    pieces = [
        Piece(archive, size, 0, last, ByteRange(0, middle + MIB)),
        Piece(archive, size, last, size, ByteRange(middle, size)),
    ]
    without = check_world(site, vault=FaultyVault(site.vault, Fault("fetch", PowerCut("cut"), skip=1)))
    run = read_sample.begin_reading(pieces, without, NO_LIMIT)
    with pytest.raises(PowerCut):
        read_sample.go_on(run, without)
    report = read_sample.go_on(run, check_world(site, keys=[recovery_key()]))
    assert (report.state, report.findings) == ("done", ())
    assert query(site, 'SELECT proven, start, "end" FROM readings ORDER BY start') == [
        (1, 0, last),
        (2, last, size),
    ]


def test_a_key_that_opens_some_of_it_proves_those(site: Site, source: Path) -> None:
    """Recipients change: what the key does not open is read back, and no more."""
    other = RecoveryKey.from_seed(b"y" * 32)
    site = replace(site, keys=replace(site.keys, recipients=(other.recipient,)))
    (source / "for the other").write_bytes(os.urandom(MIB))
    run_backup(site.job, site.keys, site.world, accept_recipients=True)
    report = read(site, keys=[recovery_key()])
    assert set(kinds(report)) == {"sealed"}
    proof = proof_of(site)
    assert 0 < proof.opened < proof.read_back == proof.bytes


def test_a_wrong_key_is_told_before_anything_is_asked_for(site: Site) -> None:
    faulty = FaultyVault(site.vault)
    with pytest.raises(RecoveryKeyError):
        read(site, keys=[RecoveryKey.from_seed(b"x" * 32)], vault=faulty)
    assert faulty.total == 0
    assert query(site, "SELECT count(*) FROM readings") == [(0,)]


def test_in_time_everything_is_read(site: Site, clock: ManualClock) -> None:
    """A megabyte at a time, never-read slices first; then the oldest are read again."""
    left: list[int] = []
    for _ in range(100):
        clock.advance(timedelta(days=1))
        back = read(site, Amount(size=MIB), seed=len(left)).read
        assert back is not None
        left.append(back.never_read)
        if not back.never_read:
            break
    assert left[-1] == 0
    assert left == sorted(set(left), reverse=True), "each time something that was never read"
    oldest = query(site, "SELECT archive FROM readings ORDER BY read_at LIMIT 1")
    clock.advance(timedelta(days=1))
    read(site, Amount(size=MIB))
    assert query(site, "SELECT archive FROM readings ORDER BY number DESC LIMIT 1") == oldest
    assert len(left) > 5


@pytest.mark.parametrize("keys", [(), (recovery_key(),)])
def test_a_damaged_frame(
    site: Site, source: Path, tmp_path: Path, clock: ManualClock, keys: tuple[RecoveryKey, ...]
) -> None:
    bad = archive_ids(site)[0]
    ((offset, number),) = query(
        site,
        """SELECT f."offset", f.number FROM frames f JOIN archives a ON a.number = f.archive
           WHERE a.archive_id = ? ORDER BY f.number LIMIT 1""",
        bad,
    )
    corrupt(archive_file(tmp_path / "vault", bad), offset + 5)
    before = site.snapshots()[-1].id
    report = read(site, keys=keys)
    assert kinds(report) == {"damaged": 1}
    assert report.findings[0].what == bad
    assert report.is_grave
    assert report.read is not None
    assert report.read.damaged_frames == 1
    assert state_of(site, bad) == "damaged"
    within = f"archive = (SELECT number FROM archives WHERE archive_id = '{bad}') AND frame = {number}"
    chunks = {row[0] for row in query(site, f"SELECT number FROM chunks WHERE {within}")}
    rows = query(site, "SELECT name, chunks FROM entries WHERE chunks IS NOT NULL")
    needs = {name for name, some in rows if chunks & set(memoryview(some).cast("I"))}
    assert {path.rsplit(b"/", 1)[1] for path in report.affected.paths} == needs, "of this frame, no others"
    spoilt = {
        os.path.basename(problem.path) for problem in site.restore(before, tmp_path / "before").problems
    }
    assert spoilt <= needs, "what is right in a damaged archive is restored"
    assert site.backup().bytes_new > 0
    assert needing(site, [bad], live=True) == set()
    assert site.restore("latest", tmp_path / "out").problems == ()
    assert_same_tree(source, tmp_path / "out")
    assert kinds(read(site)) in ({}, {"lost": 1}), "a damaged archive is not read again"


def test_damage_outside_of_frames_shows_when_all_of_it_is_read(site: Site, tmp_path: Path) -> None:
    bad = archive_ids(site)[0]
    path = archive_file(tmp_path / "vault", bad)
    corrupt(path, path.stat().st_size - 200)
    report = read(site)
    assert kinds(report) == {"damaged": 1}
    assert "tree hash" in report.findings[0].detail
    assert report.affected.files == 0


def test_cut_short(site: Site, tmp_path: Path) -> None:
    bad = archive_ids(site)[0]
    path = archive_file(tmp_path / "vault", bad)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    report = read(site)
    assert kinds(report) == {"damaged": 1}
    assert "ends too soon" in report.findings[0].detail
    assert state_of(site, bad) == "damaged"


def test_gone(site: Site) -> None:
    lost = archive_ids(site)[0]
    site.vault.delete_archives({ArchiveId(lost): None})
    report = read(site)
    assert kinds(report) == {"missing": 1}
    assert state_of(site, lost) == "lost"
    assert report.affected.files > 0


def test_sealed_otherwise_than_recorded_shows_with_a_key_only(site: Site) -> None:
    """A chunk row that names another chunk than its frame holds: the digests are right."""
    with site.inventory.writing() as tx:
        tx.connection.execute(
            "UPDATE chunks SET id = zeroblob(32) WHERE number = (SELECT min(number) FROM chunks)"
        )
    assert not read(site).is_grave
    assert kinds(read(site, keys=[recovery_key()])) == {"damaged": 1}


@pytest.mark.parametrize("method", ["open_retrievals", "request_retrieval", "retrieval_statuses", "fetch"])
def test_cannot_read_now_is_not_missing(site: Site, method: str) -> None:
    faulty = FaultyVault(site.vault, Fault(method, UnreachableError("away"), count=99))
    with pytest.raises(UnreachableError):
        read(site, vault=faulty)
    assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]
    report = read(site)
    assert (report.findings, report.is_grave) == ((), False), "the same sample, once the vault is back"
    assert query(site, "SELECT count(*) FROM runs WHERE kind = 'check'") == [(1,)]


def test_a_disk_that_cannot_read_one_archive_leaves_it_unread(site: Site) -> None:
    faulty = FaultyVault(site.vault, Fault("fetch", VaultError("input/output error")))
    report = read(site, vault=faulty)
    assert kinds(report) == {"unread": 1}
    assert (report.is_grave, report.is_partial, report.outcome) == (False, True, "partial")
    assert report.read is not None
    assert report.read.never_read > 0
    assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]
    ((unread,),) = query(site, "SELECT archive FROM readings WHERE read_at IS NULL")
    read(site, Amount(size=1))
    assert query(site, "SELECT archive, read_at IS NULL FROM readings ORDER BY number DESC LIMIT 1") == [
        (unread, 0)
    ], "taken first"


def test_a_piece_that_a_wire_spoilt_is_fetched_again(site: Site) -> None:
    class Spoiling(FaultyVault):
        left = 1

        def fetch(self, retrieval_id, extent):  # type: ignore[no-untyped-def]
            fetched = super().fetch(retrieval_id, extent)
            if self.left:
                self.left -= 1
                data = bytearray(fetched.data)
                data[-300] ^= 1
                return type(fetched)(bytes(data), None)
            return fetched

    assert not read(site, vault=Spoiling(site.vault)).findings


def test_cut_at_every_call(site: Site, disk: DirectoryVault) -> None:
    """The same sample goes on; nothing is called lost that is not."""
    calls = 0
    while True:
        faulty = FaultyVault(disk, Fault("*", PowerCut("cut"), skip=calls))
        site = site.reopen(faulty)
        try:
            report = read(site)
        except PowerCut:
            calls = calls * 2 + 1 if calls > 3 else calls + 1
            continue
        break
    assert calls > 4
    assert (report.findings, report.read and report.read.never_read) == ((), 0)
    assert query(site, "SELECT count(*) FROM archives WHERE state != 'stored'") == [(0,)]


def test_a_vault_that_refuses_everything_leaves_the_check_open(site: Site) -> None:
    """It took every piece for unreadable, and was over."""
    faulty = FaultyVault(site.vault, Fault("request_retrieval", VaultError("input/output error"), count=99))
    with pytest.raises(VaultError, match="input/output error"):
        read(site, vault=faulty)
    assert query(site, "SELECT DISTINCT state FROM readings") == [("planned",)]
    report = read(site)
    assert (report.findings, report.is_grave) == ((), False), "the same sample, once the vault is well"
    assert query(site, "SELECT count(*) FROM runs WHERE kind = 'check'") == [(1,)]


def test_one_at_a_time_and_given_up(site: Site) -> None:
    world = check_world(site)
    run = read_sample.begin_reading(read_sample.plan_sample(ALL, world), world, NO_LIMIT)
    with site.inventory.locked("check"), pytest.raises(LockedError):
        read_sample.go_on(run, world)
    read_sample.give_up(run, world)
    assert read_sample.find_open(world) is None
    with site.inventory.reading() as tx:
        assert readings.readings_of(tx, run) == []
        assert runs.list_runs(tx)[0].outcome == "interrupted"


def test_nothing_to_read(tmp_path: Path, disk: DirectoryVault) -> None:
    site = Site.create(tmp_path / "new", disk, [tmp_path])
    with pytest.raises(UsageError):
        read(site)
    site.close()
