"""Packs on their way up: recorded first, sent by parts, completed once, resumed with nothing sent twice."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import (
    ArchiveTakenError,
    DeniedError,
    IntegrityError,
    SpoolError,
    ThrottledError,
    UnreachableError,
    UploadExpiredError,
)
from backup.format.treehash import TreeHasher, tree_hash
from backup.inventory.content import archives, packed
from backup.inventory.content.archives import ArchiveState, CatalogPosition
from backup.inventory.records import runs
from backup.inventory.store.database import Inventory
from backup.model import (
    MIB,
    ArchiveLabel,
    ByteRange,
    ChunkRow,
    FrameRow,
    Generation,
    JobName,
    Pack,
    PackId,
    PackKind,
    Part,
    Tier,
    UploadId,
    VaultName,
)
from backup.transfer.upload import Uploader
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.doubles import Fault, FaultyVault, ManualClock, PowerCut, Silent, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.rigs import glacier_client

HEADER = b"header"


class Yard:
    """A spool, an inventory with a run, and packs of any bytes: the uploader looks into none."""

    def __init__(self, state: Path, inventory: Inventory, vault: DirectoryVault, clock: ManualClock) -> None:
        self.spool = state / "spool"
        self.inventory = inventory
        self.vault = vault
        self.clock = clock
        self.progress = Silent()
        self.data: dict[PackId, bytes] = {}
        with inventory.writing() as tx:
            number = archives.get_or_create_vault(tx, vault.name)
            self.domain = archives.get_or_create_domain(tx, b"d" * 16, number, b"r" * 16, clock.now())
            self.job = runs.get_or_create_job(tx, JobName("job"), number, b"j" * 16)
            self.run = runs.open_backup(tx, self.job, clock.now()).number

    def pack(self, size: int, seed: int = 0) -> tuple[Pack, str]:
        """A pack of random bytes in the spool."""
        data = random.Random(seed).randbytes(size)
        pack_id = PackId(hashlib.sha256(b"%d" % seed).digest()[:16])
        name = f"{seed}.pack"
        (self.spool / name).write_bytes(data)
        self.data[pack_id] = data
        hasher = TreeHasher()
        hasher.update(data)
        return (
            Pack(
                ArchiveLabel(PackKind.DATA, pack_id, self.inventory.id),
                HEADER,
                size,
                hasher.digest(),
                [FrameRow(0, 6, 10, 10, 0, b"d" * 16)],
                [ChunkRow(hashlib.sha256(data).digest(), 0, 0, 10)],
                hasher.digests,
            ),
            name,
        )

    @contextmanager
    def uploader(self, vault: object = None, part_size: int = MIB, **lanes: Any) -> Iterator[Uploader]:
        """An uploader to the vault (or a wrapper of it)."""
        with Uploader(
            inventory=self.inventory,
            vault=vault or self.vault,  # type: ignore[arg-type]
            clock=self.clock,
            progress=self.progress,
            spool=str(self.spool),
            part_size=part_size,
            **lanes,
        ) as made:
            yield made

    def submit(self, uploader: Uploader, size: int, seed: int = 0) -> int:
        """Make a pack and submit it; its archive number."""
        pack, name = self.pack(size, seed)
        recorded = uploader.record(pack, name, domain=self.domain, run=self.run, chunk_numbers=[seed + 1])
        return uploader.send(recorded)

    def send(self, size: int, vault: object = None, *, spoil: bytes | None = b"") -> None:
        """Submit a pack and wait for it; its file first becomes `spoil`, or goes (None)."""
        with self.uploader(vault) as uploader:
            pack, name = self.pack(size)
            if spoil is None:
                (self.spool / name).unlink()
            elif spoil:
                (self.spool / name).write_bytes(spoil)
            uploader.send(uploader.record(pack, name, domain=self.domain, run=self.run, chunk_numbers=[1]))
            uploader.drain()

    def resume(self, vault: object = None) -> None:
        """Finish what is pending."""
        with self.uploader(vault) as uploader:
            uploader.resume(self.pending())

    def archive(self, number: int) -> archives.Archive:
        """What is recorded of an archive."""
        with self.inventory.reading() as tx:
            return archives.get_archives(tx, [number], self.inventory.id)[number]

    def pending(self) -> list[archives.PendingUpload]:
        """What is recorded as not yet stored."""
        with self.inventory.reading() as tx:
            return list(archives.pending_uploads(tx, self.inventory.id))

    def assert_stored(self, number: int) -> None:
        """The vault holds the archive byte for byte, and its spool file is gone."""
        archive = self.archive(number)
        assert archive.state is ArchiveState.STORED
        assert archive.archive_id is not None
        retrieval = self.vault.request_retrieval(archive.archive_id, None, Tier.BULK, "x")
        data = bytes(self.vault.fetch(retrieval, ByteRange(0, archive.size)).data)
        assert data == self.data[archive.label.pack_id]
        assert tree_hash(data) == archive.tree_hash
        assert os.listdir(self.spool) == []


class _Held(FaultyVault):
    """Holds each part until it is told to go on."""

    def __init__(self, vault: DirectoryVault) -> None:
        super().__init__(vault)
        self.two_are_inside = threading.Event()
        self.go_on = threading.Event()

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        """As ever, but later."""
        super().put_part(upload_id, part, body)
        if self.calls["put_part"] >= 2:
            self.two_are_inside.set()
        assert self.go_on.wait(60)


@pytest.fixture
def yard(state: Path, inventory: Inventory, disk: DirectoryVault, clock: ManualClock) -> Yard:
    return Yard(state, inventory, disk, clock)


class TestSubmit:
    @pytest.mark.parametrize("size", [1, MIB - 1, MIB, MIB + 1, 5 * MIB, 5 * MIB + 17])
    @pytest.mark.parametrize("part_size", [MIB, 4 * MIB])
    def test_any_size_arrives_whole(self, yard: Yard, size: int, part_size: int) -> None:
        vault = FaultyVault(yard.vault)
        with yard.uploader(vault, part_size) as uploader:
            number = yard.submit(uploader, size)
            uploader.drain()
        yard.assert_stored(number)
        assert vault.calls["put_part"] == -(-size // part_size)
        assert yard.progress.stored == size
        assert (uploader.stored_archives, uploader.stored_bytes) == (1, size)

    def test_is_recorded_before_the_vault_hears_of_it(self, yard: Yard) -> None:
        away = FaultyVault(yard.vault, Fault("begin_upload", PowerCut("now")))
        with pytest.raises(PowerCut):
            yard.send(MIB, away)
        (pending,) = yard.pending()
        assert pending.archive.state is ArchiveState.SUBMITTED
        assert (pending.upload_id, pending.spool_file) == (None, "0.pack")
        with yard.inventory.reading() as tx:
            assert len(packed.chunks_of(tx, pending.archive.number)[0]) == 1
            assert len(packed.frame_rows(tx, pending.archive.number)) == 1

    def test_the_upload_s_name_is_recorded_before_a_part_goes(self, yard: Yard) -> None:
        cut = FaultyVault(yard.vault, Fault("put_part", PowerCut("now")))
        with pytest.raises(PowerCut):
            yard.send(MIB, cut)
        assert [upload.upload_id for upload in yard.pending()] == [
            upload.upload_id for upload in yard.vault.list_uploads()
        ]

    def test_no_more_packs_at_once_than_agreed(self, yard: Yard) -> None:
        with yard.uploader() as uploader:
            for seed in range(6):
                yard.submit(uploader, 2 * MIB, seed)
                assert len(yard.pending()) <= 2
            uploader.drain()
        assert yard.pending() == []
        assert len(yard.vault.fetch_listing(yard.vault.request_listing("x")).archives) == 6

    def test_parts_hold_both_hashes_where_the_vault_checks_them(self, yard: Yard) -> None:
        seen: list[tuple[Part, bytes]] = []

        class Checking(FaultyVault):
            traits = replace(yard.vault.traits, checks_sha256=True)

            def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
                seen.append((part, bytes(body)))
                super().put_part(upload_id, part, body)

        with yard.uploader(Checking(yard.vault)) as uploader:
            yard.submit(uploader, 3 * MIB + 5)
            uploader.drain()
        assert len(seen) == 4
        for part, body in seen:
            assert part.sha256 == hashlib.sha256(body).digest()
            assert part.tree_hash == tree_hash(body)

    @pytest.mark.parametrize("part_size", [MIB, 2 * MIB])
    def test_hashes_that_packing_made_are_taken_if_the_parts_are_the_same(
        self, yard: Yard, part_size: int
    ) -> None:
        seen: list[bytes] = []

        class Checking(FaultyVault):
            traits = replace(yard.vault.traits, checks_sha256=True)

            def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
                seen.append(part.sha256)
                super().put_part(upload_id, part, body)

        pack, name = yard.pack(2 * MIB)
        pack = replace(pack, part_size=MIB, part_hashes=[b"one", b"two"])
        with yard.uploader(Checking(yard.vault), part_size) as uploader:
            uploader.send(uploader.record(pack, name, domain=yard.domain, run=yard.run, chunk_numbers=[1]))
            uploader.drain()
        whole = hashlib.sha256(yard.data[pack.label.pack_id]).digest()
        assert sorted(seen) == ([b"one", b"two"] if part_size == MIB else [whole])

    def test_a_catalog_is_placed_with_its_archive(self, yard: Yard) -> None:
        with yard.uploader() as uploader:
            data = yard.submit(uploader, 1000, 1)
            pack, name = yard.pack(2000, 2)
            delta = replace(pack.label, kind=PackKind.CATALOG, number=7, generation=Generation.DELTA)
            label = replace(delta, job_id=yard.job.id)
            place = CatalogPosition(yard.job.number, 7, Generation.DELTA, None, [data])
            pack = replace(pack, label=label, chunks=[])
            recorded = uploader.record(pack, name, domain=yard.domain, run=yard.run, catalog=place)
            number = uploader.send(recorded)
            uploader.drain()
        assert yard.archive(number).label == label
        with yard.inventory.reading() as tx:
            assert archives.named_archives(tx, yard.job.number) == {data}
            assert archives.catalog_of_run(tx, yard.run) == (number, ArchiveState.STORED)

    def test_bytes_that_changed_in_the_spool_never_become_an_archive(self, yard: Yard) -> None:
        with pytest.raises(IntegrityError):
            yard.send(2 * MIB, spoil=bytes(2 * MIB))
        assert yard.vault.fetch_listing(yard.vault.request_listing("x")).archives == []

    def test_nor_do_bytes_that_aws_knows_by_the_hash_of_packing(
        self, yard: Yard, emulator: RunningEmulator
    ) -> None:
        vault = GlacierVault(VaultName("cold"), glacier_client(emulator), "changed")
        vault.create()
        pack, name = yard.pack(2 * MIB)
        data = yard.data[pack.label.pack_id]
        pack = replace(pack, part_size=2 * MIB, part_hashes=[hashlib.sha256(data).digest()])
        (yard.spool / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with yard.uploader(vault, 2 * MIB) as uploader:
            uploader.send(uploader.record(pack, name, domain=yard.domain, run=yard.run, chunk_numbers=[1]))
            with pytest.raises(IntegrityError, match="does not match the computed payload hash"):
                uploader.drain()

    def test_a_spool_file_that_is_gone_is_the_spool_s_failure(self, yard: Yard) -> None:
        with pytest.raises(SpoolError, match="cannot be read"):
            yard.send(2 * MIB, spoil=None)

    def test_threads_end_even_after_a_failure(self, yard: Yard) -> None:
        before = threading.active_count()
        failing = FaultyVault(yard.vault, Fault("put_part", UploadExpiredError("gone"), count=100))
        with pytest.raises(UploadExpiredError):
            yard.send(4 * MIB, failing)
        assert threading.active_count() == before

    def test_what_waits_for_its_turn_is_not_sent_once_a_run_ends_early(self, yard: Yard) -> None:
        vault = _Held(yard.vault)
        with yard.uploader(vault, parts_at_once=2, most_at_once=8) as uploader:
            yard.submit(uploader, 12 * MIB)
            assert vault.two_are_inside.wait(60)
            threading.Timer(0.5, vault.go_on.set).start()
            uploader.__exit__(KeyboardInterrupt, None, None)
        assert vault.calls["put_part"] == 2
        assert len(yard.pending()) == 1
        yard.resume()
        assert yard.pending() == []


class TestResume:
    def leave_behind(self, yard: Yard, *faults: Fault, size: int = 4 * MIB) -> FaultyVault:
        """One pack that a dead process left; the vault as that process saw it."""
        cut = FaultyVault(yard.vault, *faults)
        with pytest.raises(PowerCut):
            yard.send(size, cut)
        return cut

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize("call", range(6))
    def test_after_a_cut_at_each_call(self, yard: Yard, call: int, after: bool) -> None:
        cut = self.leave_behind(yard, cut_at(call, after=after))
        again = FaultyVault(yard.vault)
        with yard.uploader(again) as uploader:
            uploader.resume(yard.pending())
            assert (uploader.stored_archives, uploader.stored_bytes) == (0, 0), "they are another run's"
        yard.assert_stored(1)
        assert max((cut.sent + again.sent).values()) == 1
        assert yard.vault.list_uploads() == []
        if call == 5 and after:
            assert again.calls["complete_upload"] == 1
            assert again.calls["put_part"] == again.calls["list_parts"] == 0

    def test_a_part_that_is_there_with_other_bytes_is_sent_again(self, yard: Yard) -> None:
        self.leave_behind(yard, Fault("complete_upload", PowerCut("now")))
        (upload,) = yard.vault.list_uploads()
        other = bytes(MIB)
        yard.vault.put_part(upload.upload_id, Part(MIB, MIB, tree_hash(other), b"", 2), memoryview(other))
        again = FaultyVault(yard.vault)
        with yard.uploader(again) as uploader:
            uploader.resume(yard.pending())
        yard.assert_stored(1)
        assert {offset for _, offset in again.sent} == {MIB}

    def test_an_expired_upload_is_begun_anew(self, yard: Yard) -> None:
        self.leave_behind(yard, Fault("put_part", PowerCut("now"), skip=2))
        (upload,) = yard.vault.list_uploads()
        yard.vault.abort_upload(upload.upload_id)
        yard.resume()
        yard.assert_stored(1)

    @pytest.mark.parametrize("method", ["put_part", "complete_upload"])
    def test_an_upload_that_the_vault_gives_up_is_begun_anew_at_once(self, yard: Yard, method: str) -> None:
        failing = FaultyVault(yard.vault, Fault(method, UploadExpiredError("just now")))
        with yard.uploader(failing) as uploader:
            yard.submit(uploader, 4 * MIB)
            uploader.drain()
        failing.assert_all_met()
        yard.assert_stored(1)

    def test_an_upload_that_expires_again_and_again_fails_and_is_begun_anew_next_time(
        self, yard: Yard
    ) -> None:
        self.leave_behind(yard, Fault("put_part", PowerCut("now"), skip=1))
        failing = FaultyVault(yard.vault, Fault("put_part", UploadExpiredError("just now"), count=99))
        with pytest.raises(UploadExpiredError):
            yard.resume(failing)
        for upload in yard.vault.list_uploads():
            yard.vault.abort_upload(upload.upload_id)
        yard.resume()
        yard.assert_stored(1)

    def test_a_pack_whose_place_is_taken_is_given_up(self, yard: Yard) -> None:
        """By a resume with all its uploads, and the run goes on; of this run's own pack it is an error."""
        self.leave_behind(yard, Fault("put_part", PowerCut("now")))
        (left,) = yard.pending()
        yard.vault.begin_upload(left.archive.label, MIB)
        taken = ArchiveTakenError("something else lies there")
        vault = FaultyVault(yard.vault, Fault("complete_upload", taken, count=2))
        yard.resume(vault)
        assert (yard.archive(left.archive.number).state, yard.pending()) == (ArchiveState.LOST, [])
        assert len(yard.vault.list_uploads()) == 1, "the first one a vault aborts itself"
        assert os.listdir(yard.spool) == []
        assert any(
            "something else lies there; its files are read again" in note for note in yard.progress.notes
        )
        with yard.uploader(vault) as uploader:
            yard.submit(uploader, 2 * MIB, seed=1)
            with pytest.raises(ArchiveTakenError):
                uploader.drain()
        assert (yard.archive(left.archive.number + 1).state, yard.pending()) == (ArchiveState.LOST, [])
        assert os.listdir(yard.spool) == []

    @pytest.mark.parametrize("expires", [False, True], ids=["never begun", "given up"])
    def test_an_upload_that_is_begun_anew_is_recorded(self, yard: Yard, expires: bool) -> None:
        """Else a pack is paid for twice where Complete is repeated by its upload id."""
        first = Fault("put_part" if expires else "begin_upload", PowerCut("now"))
        self.leave_behind(yard, first)
        (left,) = yard.pending()
        if left.upload_id is not None:
            yard.vault.abort_upload(left.upload_id)
        lost = Fault("complete_upload", PowerCut("its answer is lost"), after=True, skip=int(expires))
        cut = FaultyVault(yard.vault, lost)
        with pytest.raises(PowerCut):
            yard.resume(cut)
        cut.assert_all_met()
        again = FaultyVault(yard.vault)
        yard.resume(again)
        assert again.calls["begin_upload"] == again.calls["put_part"] == 0
        yard.assert_stored(1)

    def test_an_upload_that_was_found_by_its_label_is_recorded(self, yard: Yard) -> None:
        """The answer to its begin was lost; its Complete may be the next to be."""
        self.leave_behind(yard, Fault("begin_upload", PowerCut("its answer is lost"), after=True))
        cut = FaultyVault(
            yard.vault, Fault("complete_upload", PowerCut("its answer is lost"), after=True, skip=1)
        )
        with pytest.raises(PowerCut):
            yard.resume(cut)
        cut.assert_all_met()
        assert yard.vault.list_uploads() == []
        again = FaultyVault(yard.vault)
        yard.resume(again)
        assert again.calls["begin_upload"] == again.calls["put_part"] == 0
        yard.assert_stored(1)

    @pytest.mark.parametrize("damage", ["gone", "longer", "flipped"])
    def test_a_damaged_pack_is_lost_and_its_upload_aborted(self, yard: Yard, damage: str) -> None:
        self.leave_behind(yard, Fault("put_part", PowerCut("now"), skip=2))
        file = yard.spool / "0.pack"
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(data if damage == "flipped" else bytes(len(data) + 1))
        yard.resume()
        assert yard.archive(1).state is ArchiveState.LOST
        assert yard.pending() == []
        assert os.listdir(yard.spool) == []
        assert yard.vault.list_uploads() == []
        assert len(yard.progress.notes) == 1

    def test_uploads_of_others_are_left_alone(self, yard: Yard) -> None:
        stranger = ArchiveLabel(
            PackKind.DATA, PackId(b"p" * 16), type(yard.inventory.id)(b"another one's id")
        )
        theirs = yard.vault.begin_upload(stranger, MIB)
        self.leave_behind(yard, Fault("begin_upload", PowerCut("now"), after=True))
        yard.resume()
        yard.assert_stored(1)
        assert [upload.upload_id for upload in yard.vault.list_uploads()] == [theirs]

    def test_nothing_pending_asks_the_vault_nothing(self, yard: Yard) -> None:
        quiet = FaultyVault(yard.vault)
        with yard.uploader(quiet) as uploader:
            uploader.resume([])
        assert quiet.total == 0

    def test_an_outage_is_outlasted(self, yard: Yard) -> None:
        self.leave_behind(yard, Fault("put_part", PowerCut("now"), skip=2))
        flaky = FaultyVault(
            yard.vault,
            *(
                Fault(method, UnreachableError("away"), count=3)
                for method in ("list_uploads", "list_parts", "complete_upload")
            ),
        )
        yard.resume(flaky)
        flaky.assert_all_met()
        yard.assert_stored(1)


class Clinging(FaultyVault):
    """Refuses each part with an error whose traceback keeps a piece of the part."""

    def put_part(self, upload_id: UploadId, part: Part, body: memoryview) -> None:
        piece = body.cast("B")[:10]
        raise DeniedError(f"no part of {piece.nbytes} bytes is taken")


def test_a_refusal_that_holds_on_to_the_bytes_is_told_as_it_is(yard: Yard) -> None:
    with pytest.raises(DeniedError, match="no part of 10 bytes is taken"):
        yard.send(3 * MIB, Clinging(yard.vault))
    yard.resume()
    assert yard.pending() == []


@pytest.mark.parametrize(("most", "left"), [(8, 1), (None, 3)])
def test_a_vault_that_is_asked_too_often_gets_fewer_parts_at_once(
    yard: Yard, most: int | None, left: int
) -> None:
    pressed = FaultyVault(yard.vault, Fault("put_part", ThrottledError("slow down"), count=4))
    with yard.uploader(pressed, most_at_once=most) as uploader:
        yard.submit(uploader, 6 * MIB)
        uploader.drain()
        assert uploader._gate.lanes.now == left
    pressed.assert_all_met()
    yard.assert_stored(1)
