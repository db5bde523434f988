"""An archive that cannot be had spoils the files that need it, and nothing else.

Over each kind of vault. What is damaged is one archive of data; the others, and what is right in it, come.
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import (
    ArchiveUnreadableError,
    DeniedError,
    IntegrityError,
    NightvaultError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.lost import mark
from backup.inventory.records import retrievals
from backup.inventory.records.retrievals import Restore, Retrieval
from backup.kinds import Outcome
from backup.model import (
    MIB,
    ArchiveId,
    ByteRange,
    Fetched,
    RetrievalId,
    RetrievalState,
    RetrievalStatus,
    Tier,
    VaultName,
)
from backup.protocols import Vault
from backup.restorer.dump.dump import STDOUT, dump
from backup.restorer.restore import RestoreReport, advance, begin_restore, deliver, is_ready, step
from backup.restorer.restore import plan_restore as plan_of
from backup.restorer.selection.choice import Choice, Output
from backup.vault import dirfd
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.restorer.sites import frame_places, leftovers, plant, users_of
from tests.support.backups import Site
from tests.support.checks import check, query, state_of
from tests.support.clocks import EmulatorClock
from tests.support.doubles import NO_LIMIT, Fault, FaultyVault, ManualClock
from tests.support.emulated import REGION, RunningEmulator
from tests.support.rigs import HOUR, glacier_client, s3_client
from tests.support.trees import assert_same_tree, snapshot_of

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

_numbers = itertools.count()
HOURS = 13
COPIES_LIVE = timedelta(days=40)


@dataclass
class Rig:
    """A site on a vault of some kind, and hands on what that vault holds."""

    site: Site
    source: Path
    kind: str
    clock: ManualClock
    emulator: RunningEmulator | None = None
    client: Any = None
    bucket: str = ""

    def pass_hours(self) -> None:
        """Let everything that was asked for become ready."""
        if self.emulator is not None:
            self.clock.advance(timedelta(hours=HOURS))
            self.emulator.advance(HOURS * HOUR)

    def let_copies_go(self) -> None:
        """Let all that was made readable be so no more: the next restore asks for it anew."""
        if self.emulator is not None:
            self.clock.advance(COPIES_LIVE)
            self.emulator.advance(COPIES_LIVE.total_seconds())

    def spoil(self, archive_id: str, change: Callable[[bytes], bytes]) -> bytes:
        """Change what the vault holds of an archive; what it held before."""
        if self.bucket:
            data: bytes = self.site_bytes(archive_id)
            self.put(archive_id, change(data))
            return data
        path = self.file_of(archive_id)
        data = path.read_bytes()
        path.write_bytes(change(data))
        return data

    def put(self, archive_id: str, data: bytes) -> None:
        """Give the archive these bytes."""
        if self.bucket:
            frozen = {"StorageClass": "DEEP_ARCHIVE"} if self.kind == "s3-frozen" else {}
            self.client.put_object(Bucket=self.bucket, Key=archive_id, Body=data, **frozen)
        else:
            self.file_of(archive_id).write_bytes(data)

    def site_bytes(self, archive_id: str) -> bytes:
        """The bytes of an archive, wherever the emulator keeps them."""
        return self.file_of(archive_id).read_bytes()

    def file_of(self, archive_id: str) -> Path:
        """The file that holds an archive: there is one of that beginning alone."""
        if self.kind == "directory":
            return self.site.folder.parent / "vault" / "archives" / archive_id[:2] / archive_id
        assert self.emulator is not None
        ((header,),) = query(self.site, "SELECT header FROM archives WHERE archive_id = ?", archive_id)
        for path in self.emulator.state.rglob("*"):
            if path.is_file() and path.open("rb").read(len(header)) == header:
                return path
        raise AssertionError(archive_id)

    def begin(self, out: Path) -> Restore:
        """A restore of everything, planned and begun."""
        world = self.site.restore_world
        plan = plan_of(self.site.snapshot(), os.fsencode(self.source), world)
        return begin_restore(
            plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [self.site.key]
        )

    def go_on(self, begun: Restore) -> RestoreReport:
        """What the command does until the restore is over."""
        world = self.site.restore_world
        known = advance(begun, world, anew=True)
        for _ in range(6):
            done = step(begun, world, known=known)
            known = done.known
            if done.report is None:
                self.pass_hours()
                known = advance(begun, world)
            elif done.report.outcome is not Outcome.RUNNING:
                return done.report
        raise AssertionError("it goes on and on")

    def restore(self, out: Path) -> RestoreReport:
        """A restore from beginning to end."""
        return self.go_on(self.begin(out))

    def known(self, begun: Restore) -> list[Retrieval]:
        """Its retrievals as they are recorded."""
        with self.site.inventory.reading() as tx:
            return retrievals.retrievals_of(tx, begun.number)

    def behind(self, vault: Vault) -> None:
        """From now on the site sees its vault through another."""
        self.site = replace(self.site, vault=vault)


@pytest.fixture(params=["directory", "glacier", "s3-frozen", "s3"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, source: Path, clock: ManualClock) -> Iterator[Rig]:
    """Some of everything in several archives of a vault of each kind."""
    kind = request.param
    made = Rig(None, source, kind, clock)  # type: ignore[arg-type]
    vault: Vault
    if kind == "directory":
        vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    else:
        made.emulator = running = request.getfixturevalue("emulator")
        if kind == "glacier":
            vault = GlacierVault(VaultName("cold"), glacier_client(running), f"bad-{next(_numbers)}")
        else:
            made.bucket, made.client = f"bad-{next(_numbers)}", s3_client(running.s3_url)
            frozen = "DEEP_ARCHIVE" if kind == "s3-frozen" else "STANDARD"
            bucket = Bucket(made.bucket, REGION, storage_class=frozen)
            vault = S3Vault(VaultName("bucket"), made.client, bucket, EmulatorClock(running))
    vault.create()
    plant(source)
    content = random.Random(9)
    (source / "larger").write_bytes(content.randbytes(6 * MIB))
    for number in range(12):
        (source / f"some-{number}").write_bytes(content.randbytes(MIB // 2))
    part = 16 * MIB  # so that the emulator keeps each archive in one file
    site = Site.create(tmp_path / "state", vault, [source], clock=clock, pack_size=9 * MIB, part_size=part)
    site.backup()
    made.site = replace(site, wait=made.pass_hours)
    assert len({archive for _, archive, *_ in frame_places(site)}) > 1
    yield made
    made.site.close()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def assert_spoilt(rig: Rig, report: RestoreReport, spoilt: set[bytes], out: Path, why: str) -> None:
    """These files are named with that reason, the others are there."""
    assert {os.path.basename(problem.path) for problem in report.problems} == spoilt
    assert all(why in problem.detail for problem in report.problems), report.problems
    assert report.outcome is (Outcome.PARTIAL if spoilt else Outcome.DONE)
    seen = snapshot_of(rig.source)
    assert_same_tree(
        {name: entry for name, entry in seen.items() if os.path.basename(name) not in spoilt}, out
    )
    assert leftovers(out) == []


def with_most_frames(rig: Rig) -> tuple[str, int]:
    """The archive that holds most frames: some lie before a cut, and some behind."""
    (row,) = query(
        rig.site,
        "SELECT a.archive_id, a.number FROM frames f JOIN archives a ON a.number = f.archive"
        " WHERE a.kind = 1 GROUP BY a.number ORDER BY count(*) DESC LIMIT 1",
    )
    return str(row[0]), int(row[1])


@pytest.mark.parametrize("left", [0, 100, 2 * MIB + 4711, 6 * MIB + 1])
def test_an_archive_that_was_cut_short(rig: Rig, out: Path, left: int, tmp_path: Path) -> None:
    """Frames before the cut are delivered; also once a check knows of it."""
    if rig.kind == "glacier":
        pytest.skip("what the service keeps cannot be cut short")
    archive_id, number = with_most_frames(rig)
    beyond = f"SELECT number FROM frames WHERE archive = {number} AND offset + sealed_length > {left}"
    spoilt = users_of(rig.site, f"archive = {number} AND frame IN ({beyond})")
    good = rig.spoil(archive_id, lambda data: data[:left])
    assert spoilt
    assert_spoilt(rig, rig.restore(out), spoilt, out, "")
    rig.clock.advance(timedelta(hours=2))
    check(rig.site)
    assert state_of(rig.site, archive_id) == "damaged"
    again = tmp_path / "again"
    assert_spoilt(rig, rig.restore(again), spoilt, again, "")
    rig.put(archive_id, good)
    whole = tmp_path / "whole"
    assert rig.restore(whole).outcome is Outcome.DONE
    assert_same_tree(rig.source, whole)


def test_a_flipped_bit_in_a_frame(rig: Rig, out: Path) -> None:
    archive_id, archive, frame, offset, length = frame_places(rig.site)[0]
    rig.spoil(archive_id, lambda data: flipped(data, offset + length // 2))
    spoilt = users_of(rig.site, f"archive = {archive} AND frame = {frame}")
    assert_spoilt(rig, rig.restore(out), spoilt, out, "came back damaged")


def test_a_damaged_header_or_trailer_spoils_nothing(rig: Rig, tmp_path: Path) -> None:
    """The inventory has what they say."""
    archive_id, *_ = frame_places(rig.site)[0]
    good = rig.site_bytes(archive_id)
    file = None if rig.bucket else rig.file_of(archive_id)
    for place in (0, 20, -1, -20, -200):
        out, bad = tmp_path / f"out {place}", flipped(good, place)
        if file is None:
            rig.put(archive_id, bad)
        else:  # which is not found again by its header
            file.write_bytes(bad)
        assert_spoilt(rig, rig.restore(out), set(), out, "")


def flipped(data: bytes, place: int) -> bytes:
    """The same with one other bit."""
    changed = bytearray(data)
    changed[place] ^= 4
    return bytes(changed)


def test_an_archive_that_was_removed(rig: Rig, out: Path) -> None:
    archive_id, archive, *_ = frame_places(rig.site)[0]
    rig.site.vault.delete_archives({ArchiveId(archive_id): None})
    spoilt = users_of(rig.site, f"archive = {archive}")
    report = rig.restore(out)
    assert_spoilt(rig, report, spoilt, out, "its archive is gone from the vault")
    (warning,) = report.warnings
    assert f"has lost archive {archive_id}: what lies in another one, too, was taken from there" in warning


class Unreadable(FaultyVault):
    """A vault that cannot fetch one archive, from some byte of its outputs on."""

    def __init__(self, vault: Vault, bad: str, error: NightvaultError, *, begins: int = 0) -> None:
        super().__init__(vault)
        self._bad, self._error, self._begins = bad, error, begins
        self._starts: dict[RetrievalId, int] = {}

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        given = super().request_retrieval(archive_id, extent, tier, token)
        if archive_id == self._bad:
            self._starts[given] = extent.start if extent else 0
        return given

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        if retrieval_id in self._starts and self._starts[retrieval_id] + extent.end > self._begins:
            self.calls["failed fetch"] += 1
            raise self._error
        return super().fetch(retrieval_id, extent)


def test_what_cannot_be_read_is_named_and_what_lies_behind_it_comes(rig: Rig, tmp_path: Path) -> None:
    archive_id, archive, *_ = frame_places(rig.site)[0]
    good = rig.site.vault
    spoilt = users_of(rig.site, f"archive = {archive}")
    for error in (
        VaultError("Input/output error"),
        ArchiveUnreadableError("Input/output error"),
        IntegrityError("Input/output error: cut short"),
    ):
        vault, out = Unreadable(good, archive_id, error), tmp_path / f"out {type(error).__name__}"
        rig.behind(vault)
        assert_spoilt(rig, rig.restore(out), spoilt, out, "Input/output error")
        assert vault.calls["failed fetch"] > 1
        rig.let_copies_go()


def test_a_bad_sector_spoils_the_frame_that_lies_on_it(rig: Rig, out: Path) -> None:
    lasts = {
        archive: (archive_id, frame, begins)
        for archive_id, archive, frame, begins, _ in frame_places(rig.site)
    }
    archive_id, begins, spoilt = next(
        (archive_id, begins, spoilt)
        for archive, (archive_id, frame, begins) in lasts.items()
        for spoilt in [users_of(rig.site, f"archive = {archive} AND frame = {frame}")]
        if spoilt < users_of(rig.site, f"archive = {archive}")
    )
    vault = Unreadable(rig.site.vault, archive_id, VaultError("Input/output error"), begins=begins)
    rig.behind(vault)
    assert_spoilt(rig, rig.restore(out), spoilt, out, "Input/output error")


def test_one_request_that_is_refused(rig: Rig, out: Path) -> None:
    """The vault grants the others, so it is not the vault that refuses."""
    rig.behind(FaultyVault(rig.site.vault, Fault("request_retrieval", VaultError("no such range"))))
    begun = rig.begin(out)
    refused = rig.known(begun)[0].archive
    report = rig.go_on(begun)
    if rig.site.vault.traits.waits or report.outcome is Outcome.DONE:
        return assert_spoilt(rig, report, set(), out, "")  # it was asked for once more when the rest had come
    assert_spoilt(rig, report, users_of(rig.site, f"archive = {refused}"), out, "no such range")
    return None


def test_what_refuses_all_ends_the_command_and_spoils_nothing(rig: Rig, tmp_path: Path) -> None:
    vault = rig.site.vault
    for error in (DeniedError("no"), VaultError("not that tier"), UnreachableError("away")):
        rig.behind(FaultyVault(vault, Fault("request_retrieval", error, count=1000)))
        out = tmp_path / f"out {type(error).__name__}"
        begun = rig.begin(out)
        with pytest.raises(type(error)):
            rig.go_on(begun)
        assert {retrieval.state for retrieval in rig.known(begun)} == {"planned"}
        rig.behind(vault)
        assert_spoilt(rig, rig.go_on(begun), set(), out, "")
        rig.let_copies_go()


def test_a_vault_that_goes_away_ends_the_sitting_and_spoils_nothing(rig: Rig, tmp_path: Path) -> None:
    vault = rig.site.vault
    for error in (DeniedError("no"), VaultMissingError("unmounted"), UnreachableError("away")):
        rig.behind(FaultyVault(vault, Fault("fetch", error, skip=1, count=1000)))
        out = tmp_path / f"out {type(error).__name__}"
        begun = rig.begin(out)
        with pytest.raises(type(error)):
            rig.go_on(begun)
        rig.behind(vault)
        assert_spoilt(rig, rig.go_on(begun), set(), out, "")
        rig.let_copies_go()


def test_a_disk_that_died_is_not_the_fault_of_its_archives(rig: Rig, out: Path) -> None:
    """It fails each fetch as if of one archive, but does not answer for itself either."""
    vault = rig.site.vault
    begun = rig.begin(out)
    known = advance(begun, rig.site.restore_world)
    rig.pass_hours()
    known = advance(begun, rig.site.restore_world)
    dead = VaultError("Input/output error")
    rig.behind(FaultyVault(vault, Fault("fetch", dead, count=99), Fault("open_retrievals", dead, count=99)))
    with pytest.raises(VaultError):
        deliver(begun, known, rig.site.restore_world)
    rig.behind(vault)
    assert_spoilt(rig, rig.go_on(begun), set(), out, "")


def test_what_became_whole_again_is_asked_for_anew(rig: Rig, out: Path) -> None:
    """It was gone when it was asked for, and is back when the user goes on."""
    if rig.kind == "glacier":
        pytest.skip("what was deleted from the service never comes back")
    archive_id, archive, *_ = frame_places(rig.site)[0]
    data = rig.site_bytes(archive_id)
    rig.site.vault.delete_archives({ArchiveId(archive_id): None})
    begun = rig.begin(out)
    known = advance(begun, rig.site.restore_world)
    assert [retrieval.state for retrieval in known if retrieval.archive == archive] == ["failed"]
    rig.put(archive_id, data)
    assert_spoilt(rig, rig.go_on(begun), set(), out, "")


def test_the_daemon_asks_once_more_when_all_else_came(rig: Rig, out: Path) -> None:
    if rig.kind == "glacier":
        pytest.skip("what was deleted from the service never comes back")
    archive_id, archive, *_ = frame_places(rig.site)[0]
    data = rig.site_bytes(archive_id)
    rig.site.vault.delete_archives({ArchiveId(archive_id): None})
    begun = rig.begin(out)
    world = rig.site.restore_world
    advance(begun, world)
    rig.put(archive_id, data)
    rig.pass_hours()
    known = advance(begun, world)
    assert [retrieval.state for retrieval in known if retrieval.archive == archive] != ["failed"]
    rig.pass_hours()
    assert_spoilt(rig, deliver(begun, advance(begun, world), world), set(), out, "")


def test_a_retrieval_that_fails_time_and_again_is_not_paid_for_ever(rig: Rig, out: Path) -> None:
    class Failing(FaultyVault):
        def retrieval_statuses(self, ids: Any) -> Any:
            return {
                retrieval_id: RetrievalStatus(RetrievalState.FAILED, "out of order")
                if retrieval_id in bad
                else status
                for retrieval_id, status in super().retrieval_statuses(ids).items()
            }

        def request_retrieval(self, archive_id: ArchiveId, *rest: Any) -> RetrievalId:
            given = super().request_retrieval(archive_id, *rest)
            if archive_id == bad_archive:
                bad.add(given)
                self.calls["bad"] += 1
            return given

    bad: set[RetrievalId] = set()
    bad_archive, archive, *_ = frame_places(rig.site)[0]
    vault = Failing(rig.site.vault)
    rig.behind(vault)
    report = rig.restore(out)
    assert_spoilt(rig, report, users_of(rig.site, f"archive = {archive}"), out, "out of order")
    assert vault.calls["bad"] == 2


def test_a_tar_lacks_what_cannot_be_had_and_a_file_breaks_off(rig: Rig) -> None:
    archive_id, archive, *_ = frame_places(rig.site)[0]
    rig.site.vault.delete_archives({ArchiveId(archive_id): None})
    spoilt = users_of(rig.site, f"archive = {archive}")
    data = io.BytesIO()
    report = dumped(rig, os.fsencode(rig.source), "tar", data)
    assert report.outcome is Outcome.PARTIAL
    assert {os.path.basename(problem.path) for problem in report.problems} == spoilt
    assert all("gone from the vault" in problem.detail for problem in report.problems)
    assert [archive_id in warning for warning in report.warnings] == [True]
    with tarfile.open(fileobj=io.BytesIO(data.getvalue())) as tar:
        names = {os.fsencode(os.path.basename(name)) for name in tar.getnames()}
    assert not names & spoilt
    assert b"empty" in names
    one = next(
        os.path.join(place, name)
        for place, _, some in os.walk(os.fsencode(rig.source))
        for name in some
        if name in spoilt
    )
    with pytest.raises(IntegrityError, match=r"not in the vault \(lost\)"):  # as the first one found
        dumped(rig, one, "file", io.BytesIO())


def dumped(rig: Rig, path: bytes, output: str, sink: io.BytesIO) -> RestoreReport:
    world = rig.site.restore_world
    plan = plan_of(rig.site.snapshot(), path, world, Choice(output=Output(output)))
    begun = begin_restore(plan, STDOUT, world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [rig.site.key])
    known = advance(begun, world)
    while not is_ready(known):
        rig.pass_hours()
        known = advance(begun, world)
    return dump(begun, world, sink.write)


def test_input_output_errors_of_a_real_disk(
    tmp_path: Path, site: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO as the system raises it, of one archive's file; the vault's own marker can be read."""
    plant(source)
    (source / "larger").write_bytes(random.Random(9).randbytes(6 * MIB))
    site.backup()
    archive_id, archive, *_ = frame_places(site)[0]
    inode = (tmp_path / "vault" / "archives" / archive_id[:2] / archive_id).stat().st_ino
    real = dirfd.read_at

    def failing(fd: int, length: int, offset: int) -> bytes:
        if os.fstat(fd).st_ino == inode:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(fd, length, offset)

    monkeypatch.setattr(dirfd, "read_at", failing)
    made = Rig(site, source, "directory", ManualClock())
    spoilt = users_of(site, f"archive = {archive}")
    assert_spoilt(made, made.restore(out), spoilt, out, "Input/output error")


def test_what_is_ready_comes_though_its_archive_was_lost_since(rig: Rig, out: Path) -> None:
    """A check marked it, after it was made readable: what was paid for is not given up."""
    archive, begun, known = asked_and_ready(rig, out)
    mark_lost(rig.site, archive)
    assert_spoilt(rig, deliver(begun, known, rig.site.restore_world), set(), out, "")


def test_what_is_ready_comes_though_it_lies_elsewhere_since(rig: Rig, out: Path) -> None:
    """Stored again meanwhile, in an archive that this restore has not asked for, and whose key it has not."""
    archive, begun, known = asked_and_ready(rig, out)
    mark_lost(rig.site, archive)
    assert rig.site.backup().bytes_new > 0
    assert_spoilt(rig, deliver(begun, known, rig.site.restore_world), set(), out, "")


def asked_and_ready(rig: Rig, out: Path) -> tuple[int, Restore, Sequence[Retrieval]]:
    begun = rig.begin(out)
    advance(begun, rig.site.restore_world)
    rig.pass_hours()
    known = advance(begun, rig.site.restore_world)
    assert is_ready(known)
    return known[0].archive, begun, known


def mark_lost(site: Site, archive: int) -> None:
    with site.inventory.writing() as tx:
        mark(tx, [archive], ArchiveState.LOST)
