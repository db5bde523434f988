"""Files that a directory vault takes as they are, by a hard link instead of a copy."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from backup.errors import ArchiveMissingError, IntegrityError, UploadExpiredError, VaultError
from backup.format import treehash
from backup.model import MIB, FileStamp, UploadId, VaultName
from backup.protocols import TakesFiles
from backup.vault import layout
from backup.vault.directory import DirectoryVault
from backup.vault.rate_limit import UNLIMITED, RateLimit, RateLimits, Timetable, Window
from tests.support.archives import CATALOG, complete, cut, read_directly, send, some_bytes, store
from tests.support.doubles import ManualClock
from tests.vault.killing import killed_at, reopened

DATA = some_bytes(2 * MIB + 77)


@pytest.fixture
def spooled(tmp_path: Path) -> Path:
    """A finished file in the spool."""
    path = tmp_path / "spooled.pack"
    path.write_bytes(DATA)
    return path


def upload_folder(vault: DirectoryVault, upload_id: UploadId) -> Path:
    """Where an upload lies."""
    return Path(vault.state().location, "uploads", upload_id)


def test_it_takes_the_file_itself(directory: DirectoryVault, spooled: Path) -> None:
    assert isinstance(directory, TakesFiles)
    upload_id = directory.begin_upload(CATALOG, MIB)
    assert directory.put_file(upload_id, str(spooled), cut(DATA))
    assert upload_folder(directory, upload_id).joinpath("data").samefile(spooled)
    assert [part.length for part in directory.list_parts(upload_id, MIB)] == [MIB, MIB, 77]
    archive = complete(directory, upload_id, CATALOG, DATA)
    spooled.unlink()
    assert read_directly(directory, archive, len(DATA)) == DATA


def test_it_says_before_whether_it_will_take_files(directory: DirectoryVault, spooled: Path) -> None:
    folder = str(spooled.parent)
    assert directory.takes_from(folder)
    assert not directory.takes_from(str(spooled / "gone"))
    where = directory.state().location
    slow = RateLimits(_slowly(ManualClock()), UNLIMITED)
    assert not DirectoryVault(VaultName("slow"), where, ManualClock(), slow).takes_from(folder)
    if os.stat("/dev/shm").st_dev != os.stat(where).st_dev:
        assert not directory.takes_from("/dev/shm")


def test_taking_it_again_changes_nothing(directory: DirectoryVault, spooled: Path) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    for _ in range(2):
        assert directory.put_file(upload_id, str(spooled), cut(DATA))
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA
    assert os.stat(spooled).st_nlink == 2, "the spool's name and the archive's"


def test_parts_may_follow_a_file(directory: DirectoryVault, spooled: Path) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    assert directory.put_file(upload_id, str(spooled), cut(DATA))
    send(directory, upload_id, DATA, cut(DATA))
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA


@pytest.mark.parametrize("place", [0, MIB, 2 * MIB + 76])
def test_one_changed_byte_is_met(directory: DirectoryVault, spooled: Path, place: int) -> None:
    changed = bytearray(DATA)
    changed[place] ^= 1
    spooled.write_bytes(changed)
    upload_id = directory.begin_upload(CATALOG, MIB)
    with pytest.raises(IntegrityError, match=f"the part at {place // MIB * MIB} of upload"):
        directory.put_file(upload_id, str(spooled), cut(DATA))
    assert directory.list_parts(upload_id, MIB) == []
    assert os.stat(spooled).st_nlink == 1


def test_a_file_cut_short_is_met(directory: DirectoryVault, spooled: Path) -> None:
    os.truncate(spooled, len(DATA) - 1)
    upload_id = directory.begin_upload(CATALOG, MIB)
    with pytest.raises(IntegrityError):
        directory.put_file(upload_id, str(spooled), cut(DATA))


def test_a_file_with_more_in_it_is_met(directory: DirectoryVault, spooled: Path) -> None:
    spooled.write_bytes(DATA + b"more")
    upload_id = directory.begin_upload(CATALOG, MIB)
    with pytest.raises(IntegrityError, match=f"has not the {len(DATA)} bytes"):
        directory.put_file(upload_id, str(spooled), cut(DATA))
    assert directory.list_parts(upload_id, MIB) == []
    assert os.stat(spooled).st_nlink == 1


class TestStamp:
    """A file that has the stamp of its proof is not read again; any other is."""

    @pytest.fixture(autouse=True)
    def counting(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        hashed: list[int] = []
        hasher = treehash.TreeHasher

        class Counting(hasher):  # type: ignore[misc, valid-type]
            def update(self, data: bytes | bytearray | memoryview) -> None:
                hashed.append(len(data))
                super().update(data)

        monkeypatch.setattr(layout, "TreeHasher", Counting)
        return hashed

    def put(self, vault: DirectoryVault, path: Path, stamp: FileStamp) -> UploadId:
        upload_id = vault.begin_upload(CATALOG, MIB)
        assert vault.put_file(upload_id, str(path), cut(DATA), stamp)
        return upload_id

    def test_as_it_was_proven(self, directory: DirectoryVault, spooled: Path, counting: list[int]) -> None:
        upload_id = self.put(directory, spooled, FileStamp.of(spooled.stat()))
        assert counting == []
        archive = complete(directory, upload_id, CATALOG, DATA)
        assert read_directly(directory, archive, len(DATA)) == DATA

    def test_another_file_of_the_same_bytes(
        self, directory: DirectoryVault, spooled: Path, counting: list[int]
    ) -> None:
        """As where a link is a copy: another inode."""
        found = spooled.stat()
        spooled.rename(spooled.with_name("before"))
        spooled.write_bytes(DATA)
        os.utime(spooled, ns=(found.st_mtime_ns, found.st_mtime_ns))
        self.put(directory, spooled, FileStamp.of(found))
        assert sum(counting) == len(DATA)

    @pytest.mark.parametrize("end", [0, 1])
    def test_written_to_since(self, directory: DirectoryVault, spooled: Path, end: int) -> None:
        stamp = FileStamp.of(spooled.stat())._replace(mtime_ns=1)
        with spooled.open("r+b") as file:
            file.seek(-end, os.SEEK_END)
            file.write(b"?")
        upload_id = directory.begin_upload(CATALOG, MIB)
        with pytest.raises(IntegrityError):
            directory.put_file(upload_id, str(spooled), cut(DATA), stamp)
        assert directory.list_parts(upload_id, MIB) == []
        assert os.stat(spooled).st_nlink == 1

    def test_a_stamp_of_another_length_than_the_parts(self, directory: DirectoryVault, spooled: Path) -> None:
        stamp = FileStamp.of(spooled.stat())
        upload_id = directory.begin_upload(CATALOG, MIB)
        with pytest.raises(IntegrityError, match="has not the"):
            directory.put_file(upload_id, str(spooled), cut(DATA + b"more"), stamp)


def test_it_is_on_the_disk_before_it_has_its_name(
    directory: DirectoryVault, spooled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where links are copies, nobody synced the copy."""
    done: list[str] = []
    real_sync, real_rename = os.fdatasync, os.rename

    def sync(handle: int) -> None:
        done.append(f"sync {os.fstat(handle).st_ino == spooled.stat().st_ino}")
        real_sync(handle)

    def rename(*given: Any, **more: Any) -> None:
        done.append("rename")
        real_rename(*given, **more)

    upload_id = directory.begin_upload(CATALOG, MIB)
    monkeypatch.setattr(os, "fdatasync", sync)
    monkeypatch.setattr(os, "rename", rename)
    assert directory.put_file(upload_id, str(spooled), cut(DATA))
    assert done[:2] == ["sync True", "rename"]


@pytest.mark.parametrize("planted", ["symlink", "nothing", "no links"])
def test_what_cannot_be_linked_is_to_be_sent(
    directory: DirectoryVault, spooled: Path, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = spooled.with_name("planted")
    if planted == "symlink":
        path.symlink_to(spooled)
    elif planted == "no links":
        path = spooled
        monkeypatch.setattr(os, "link", _no_links)
    upload_id = directory.begin_upload(CATALOG, MIB)
    assert not directory.put_file(upload_id, str(path), cut(DATA))
    assert sorted(os.listdir(upload_folder(directory, upload_id))) == ["data", "parts", "upload.json"]
    send(directory, upload_id, DATA, cut(DATA))
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA


def _no_links(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def _slowly(clock: ManualClock) -> RateLimit:
    return RateLimit(Timetable([Window(0, 0, MIB)]), clock)


def test_a_pace_is_kept_by_sending_parts(tmp_path: Path, spooled: Path) -> None:
    clock = ManualClock()
    vault = DirectoryVault(
        VaultName("disk"), str(tmp_path / "vault"), clock, RateLimits(_slowly(clock), UNLIMITED)
    )
    vault.create()
    assert not vault.put_file(vault.begin_upload(CATALOG, MIB), str(spooled), cut(DATA))


def test_an_unknown_upload_says_so(directory: DirectoryVault, spooled: Path) -> None:
    with pytest.raises(UploadExpiredError):
        directory.put_file(UploadId("0" * 32), str(spooled), cut(DATA))


def test_killed_anywhere_it_is_there_or_is_not(directory: DirectoryVault, spooled: Path) -> None:
    for step in range(60):
        upload_id = directory.begin_upload(CATALOG, MIB)
        was_killed = killed_at(
            step,
            lambda: directory.put_file(upload_id, str(spooled), cut(DATA)),  # noqa: B023
        )
        after = reopened(directory)
        assert len(after.list_parts(upload_id, MIB)) in {0, 3}
        assert after.put_file(upload_id, str(spooled), cut(DATA))
        archive = complete(after, upload_id, CATALOG, DATA)
        assert read_directly(after, archive, len(DATA)) == DATA
        after.delete_archives({archive: None})
        assert os.stat(spooled).st_nlink == 1
        if not was_killed:
            break
    assert not was_killed
    assert step > 5


@pytest.mark.parametrize("what", ["a pipe", "terabytes", "a date of no time zone"])
def test_a_record_that_somebody_else_made_up_holds_nobody_up(directory: DirectoryVault, what: str) -> None:
    archive = store(directory, DATA, CATALOG)
    record = Path(directory.state().location, "archives", archive[:2], f"{archive}.json")
    text = record.read_text()
    if what == "a pipe":
        record.unlink()
        os.mkfifo(record)
    elif what == "terabytes":
        os.truncate(record, 2**42)
    else:
        record.write_text(re.sub(r'("created_at":"[^"]*)Z"', r'\1"', text))
        assert record.read_text() != text
    (line,) = directory.fetch_listing(directory.request_listing("look")).archives
    assert (line.archive_id, line.size, line.label) == (archive, len(DATA), None)
    assert line.created_at.tzinfo is not None


def test_a_pipe_in_the_place_of_an_archive_holds_nobody_up(directory: DirectoryVault) -> None:
    archive = store(directory, DATA, CATALOG)
    path = Path(directory.state().location, "archives", archive[:2], archive)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArchiveMissingError):
        read_directly(directory, archive, len(DATA))


@pytest.mark.parametrize("what", ["a pipe", "terabytes"])
def test_notes_that_somebody_else_made_up_hold_nobody_up(directory: DirectoryVault, what: str) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    notes = upload_folder(directory, upload_id) / "parts"
    if what == "a pipe":
        notes.unlink()
        os.mkfifo(notes)
    else:
        os.truncate(notes, 2**42)
    if what == "a pipe":
        with pytest.raises(VaultError, match="cannot list the parts"):
            directory.list_parts(upload_id, MIB)
    else:
        assert len(directory.list_parts(upload_id, MIB)) == 3
