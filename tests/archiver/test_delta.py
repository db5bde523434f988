"""The delta catalog is written while the run goes on, and tells the same as one written at the end."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.catalogs import catalogs
from backup.catalogs.catalogs import CatalogWriter
from backup.catalogs.delta import Delta
from backup.catalogs.packing import OpenPack, Spool
from backup.errors import NightvaultError, ProofError, SpoolError
from backup.format import records
from backup.format.catalog import Start
from backup.format.keys import plain_key_file
from backup.format.pack import NO_HASH, NO_PACK, CatalogFields
from backup.inventory.content.archives import list_archives
from backup.model import KIB, Generation, PackKind
from tests.archiver.nights import assert_equal, deltas, job_number, live_through_a_week, of_inventory
from tests.archiver.reader import Rebuilt, read_catalogs
from tests.support.backup_results import restored
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, PowerCut, cut_at
from tests.support.extract_script import extract
from tests.support.integrity import assert_nothing_left_over, assert_stored, list_now
from tests.support.trees import assert_same_tree

NUMBERED = (records.EntryRecord, records.DirectoryRecord, records.OwnerRecord, records.ArchiveRecord)
FIELDS = CatalogFields(b"j" * 16, 1, Generation.DELTA, NO_PACK, NO_HASH, ())


@pytest.fixture
def in_pieces(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are staged a few at a time, and a catalog has many frames."""
    site.job = replace(site.job, memory=replace(site.job.memory, rows=5))
    monkeypatch.setattr(catalogs, "BODY", 2 * KIB)


def plant(source: Path, files: int = 60, size: int = 100_000) -> None:
    """Files in some directories: several packs, many batches of staged entries."""
    for number in range(files):
        folder = source / f"d{number % 7}" / "below"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}").write_bytes(os.urandom(size))


@pytest.mark.usefixtures("in_pieces")
def test_in_pieces_it_tells_the_same(site: Site, source: Path) -> None:
    plant(source)
    live_through_a_week(site, source)
    rebuilt = Rebuilt()
    for delta in deltas(read_catalogs(site.vault, site.key)):
        rebuilt.apply(delta)
    assert_equal(rebuilt, of_inventory(site.inventory, job_number(site)))
    assert_same_tree(source, restored(site, source))


@pytest.mark.usefixtures("in_pieces")
def test_what_a_record_refers_to_comes_before_it(site: Site, source: Path) -> None:
    """A reader applies them in their order: owners and directories before entries, archives before chunks."""
    plant(source)
    site.backup()
    (first,) = read_catalogs(site.vault, site.key)
    owners, directories, stored = set[int](), set[int](), set[int]()
    for record in first.records:
        match record:
            case records.OwnerRecord():
                owners.add(record.number)
            case records.DirectoryRecord():
                directories.add(record.number)
            case records.ArchiveRecord():
                assert (record.state, bool(record.archive_id)) == ("stored", True)
                stored.add(record.number)
            case records.EntryRecord():
                assert record.owner in owners
                assert record.directory in directories
            case records.FramesRecord() | records.ChunksRecord():
                assert record.archive in stored
    with site.inventory.reading() as tx:
        own = list_archives(tx, site.inventory.id)
    assert stored == {archive.number for archive in own if archive.label.kind is PackKind.DATA}
    assert len(stored) >= 2


@pytest.mark.usefixtures("in_pieces")
def test_who_knows_the_format_alone_reads_it(site: Site, source: Path, tmp_path: Path) -> None:
    """And an archive's records may stand after the entries that need it."""
    plant(source)
    site.backup()
    key, out = tmp_path / "key", tmp_path / "out"
    key.write_bytes(plain_key_file(site.key))
    extract("--key", key, "--target", out, tmp_path / "vault" / "archives")
    assert_same_tree(source, out / source.relative_to("/"))


@pytest.mark.usefixtures("in_pieces")
def test_a_record_is_there_once(site: Site, source: Path) -> None:
    plant(source)
    site.backup()
    site.backup()
    for opened in read_catalogs(site.vault, site.key):
        told = [type(record).__name__ for record in opened.records]
        assert told[0] == "Start"
        assert [told.count(kind) for kind in ("Start", "SnapshotRecord", "MountsRecord", "ChainRecord")] == [
            1
        ] * 4
        for kind in (
            records.EntryRecord,
            records.DirectoryRecord,
            records.OwnerRecord,
            records.ArchiveRecord,
        ):
            numbers = [record.number for record in opened.records if isinstance(record, kind)]
            assert len(numbers) == len(set(numbers)), kind.__name__


@pytest.mark.usefixtures("in_pieces")
def test_most_of_it_is_sealed_before_the_last_file_is_read(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the end of a run, on one core, is short."""
    plant(source, 400, 20_000)
    sealed: list[str] = []
    write, flush = OpenPack.append, Delta.finish

    def append(pack: OpenPack, *values: Any) -> Any:
        if pack.label.kind is PackKind.CATALOG:
            sealed.append("frame")
        return write(pack, *values)

    def finish(delta: Delta, *values: Any) -> Any:
        sealed.append("the end begins")
        return flush(delta, *values)

    monkeypatch.setattr(OpenPack, "append", append)
    monkeypatch.setattr(Delta, "finish", finish)
    site.backup()
    before = sealed.index("the end begins")
    assert before >= 0.6 * (len(sealed) - 1)


def _disk_full(pack: OpenPack, *_: Any) -> None:
    raise SpoolError(f"{pack.path} cannot be written: No space left on device")


def _disproved(pack: OpenPack, *_: Any) -> None:
    raise ProofError(f"{pack.path} did not read back as written")


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize(
    ("step", "fails", "error"),
    [
        ("append", _disk_full, SpoolError),
        ("prove_body", _disproved, ProofError),
        ("end", _disk_full, SpoolError),
    ],
)
def test_what_fails_while_it_is_written_ends_the_run(
    site: Site,
    source: Path,
    step: str,
    fails: Callable[..., None],
    error: type[NightvaultError],
) -> None:
    """On its thread, in the midst of the run; nothing is left, and the next run makes all whole."""
    plant(source)
    real = getattr(OpenPack, step)

    def broken(pack: OpenPack, *values: Any) -> Any:
        return (fails if pack.label.kind is PackKind.CATALOG else real)(pack, *values)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OpenPack, step, broken)
        with pytest.raises(error):
            site.backup()
    assert site.snapshots() == []
    assert list(site.spool.iterdir()) == []
    again = site.reopen()
    again.backup()
    assert_nothing_left_over(again)
    assert_stored(again, list_now(again.vault))
    assert_same_tree(source, restored(again, source))


class Killed(BaseException):
    """The process ends here, and nothing of it goes on."""


@pytest.mark.usefixtures("in_pieces")
def test_what_a_killed_run_had_written_of_it_is_swept(
    site: Site, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(source)
    kept = tmp_path / "left"

    def killed(_delta: Delta, *_: Any) -> None:
        shutil.copytree(site.spool, kept)  # as a kill leaves it: whoever is killed cleans nothing up
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Delta, "finish", killed)
        with pytest.raises(Killed):
            site.backup()
    left = [path.name for path in kept.iterdir()]
    assert len(left) == 1, "the catalog, begun"
    shutil.copytree(kept, site.spool, dirs_exist_ok=True)
    again = site.reopen()
    again.backup()
    assert_nothing_left_over(again)
    assert_stored(again, list_now(again.vault))
    (first,) = deltas(read_catalogs(again.vault, again.key))
    assert isinstance(first.records[0], Start)
    assert first.records[0].number == 2, "a number that a run has taken is nobody else's"
    assert_same_tree(source, restored(again, source))


@pytest.mark.usefixtures("in_pieces")
@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_the_power_may_go_at_each_call_of_the_vault(site: Site, source: Path, after: bool) -> None:
    """The catalog in pieces, every cut: the next run commits it if it is stored, and nothing else."""
    plant(source, 40)
    for call in range(100):
        cut = FaultyVault(site.vault, cut_at(call, after=after))
        (source / "d0" / f"night {call}").write_bytes(os.urandom(2000))
        try:
            site.reopen(cut).backup()
        except PowerCut:
            site = site.reopen()
            site.backup()
            assert_nothing_left_over(site)
            assert_stored(site, list_now(site.vault))
        else:
            break
    else:
        raise AssertionError("the cuts never ended")
    rebuilt = Rebuilt()
    for delta in deltas(read_catalogs(site.vault, site.key)):
        rebuilt.apply(delta)
    assert_equal(rebuilt, of_inventory(site.inventory, job_number(site)))
    assert_same_tree(source, restored(site, source))


def test_a_thread_that_is_behind_is_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bodies that wait take 4 MiB each: two at most, and the one that is being filled."""
    monkeypatch.setattr(catalogs, "BODY", 4 * KIB)
    spool = Spool(str(site.spool), site.inventory.id, site.keys.signer, site.keys.recipients, b"c" * 32)
    writer = CatalogWriter(spool.open_pack(PackKind.CATALOG, FIELDS), None)
    may_write, made = threading.Event(), 0
    write = OpenPack.append

    def append(pack: OpenPack, *values: Any) -> Any:
        assert may_write.wait(60)
        return write(pack, *values)

    def some() -> Iterator[records.DirectoryRecord | Start]:
        nonlocal made
        yield Start(1, 1, 1, b"j" * 16, "job", 0, "host", "program")
        for made in range(1, 21):
            yield records.DirectoryRecord(made, b"/" + b"x" * 4000)

    monkeypatch.setattr(OpenPack, "append", append)
    with ThreadPoolExecutor(1) as other:
        adding = other.submit(writer.add, some())
        with pytest.raises(TimeoutError):
            adding.result(0.5)
        assert made <= 4
        may_write.set()
        adding.result(60)
    pack, _ = writer.finish()
    assert len(pack.frames) >= 20
