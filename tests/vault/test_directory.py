"""What is a directory's alone: full disks, empty mount points, symlinks, damage."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import (
    ArchiveMissingError,
    IntegrityError,
    NightvaultError,
    RetrievalExpiredError,
    UnmarkedVaultError,
    UnreachableError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.model import (
    MIB,
    ArchiveId,
    ByteRange,
    RetrievalId,
    StoredPart,
    Tier,
    TreeHash,
    UploadId,
    VaultName,
)
from backup.vault import layout
from backup.vault.directory import DirectoryVault
from backup.vault.marker import DAMAGED, MARKER
from tests.support.archives import CATALOG, complete, cut, part_of, read_directly, send, some_bytes, store
from tests.support.backups import INVENTORY_ID
from tests.support.doubles import ManualClock
from tests.support.integrity import list_now

DATA = some_bytes(2 * MIB + 77)


def path_of(vault: DirectoryVault, archive_id: ArchiveId) -> Path:
    """The file of an archive."""
    return Path(vault.state().location, "archives", archive_id[:2], archive_id)


# The disk says no.


def failing(number: int) -> Callable[..., Any]:
    """A system call that fails."""

    def call(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("number", "expected", "advice"),
    [
        (errno.ENOSPC, VaultError, "make room"),
        (errno.EDQUOT, VaultError, "make room"),
        (errno.EIO, VaultError, "disk"),
        (errno.EROFS, VaultError, "read-only"),
        (errno.EACCES, VaultError, "let this user"),
        (errno.ESTALE, UnreachableError, "mount"),
    ],
)
@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_fails_is_told_and_nothing_is_kept(
    directory: DirectoryVault,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    expected: type[NightvaultError],
    advice: str,
) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(number))
        with pytest.raises(NightvaultError) as caught:
            send(directory, upload_id, DATA, cut(DATA))
    assert type(caught.value) is expected
    assert advice in caught.value.advice
    assert directory.state().location in str(caught.value)
    assert not directory.list_parts(upload_id, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_full_disk_at_complete_leaves_the_upload(
    directory: DirectoryVault, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(VaultError, match="No space left"):
            complete(directory, upload_id, CATALOG, DATA)
    assert [upload.upload_id for upload in directory.list_uploads()] == [upload_id]
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA


def test_writes_that_the_system_cuts_short_go_on(
    directory: DirectoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:300_000], at))
    monkeypatch.setattr(os, "pread", lambda fd, length, at: pread(fd, min(length, 300_000), at))
    upload_id = directory.begin_upload(CATALOG, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    assert read_directly(directory, complete(directory, upload_id, CATALOG, DATA), len(DATA)) == DATA


# The wrong directory.


def test_an_empty_mount_point_is_not_the_vault(directory: DirectoryVault) -> None:
    path = Path(directory.state().location)
    path.rename(path.with_name("unmounted"))
    path.mkdir()
    with pytest.raises(VaultMissingError) as caught:
        directory.begin_upload(CATALOG, MIB)
    assert f"mount the disk that belongs at {path}" in caught.value.advice
    assert not directory.state().exists
    assert not os.listdir(path)
    path.rmdir()
    path.with_name("unmounted").rename(path)
    assert directory.begin_upload(CATALOG, MIB)


def test_a_vault_is_not_made_below_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(VaultMissingError) as caught:
        DirectoryVault(VaultName("disk"), str(tmp_path / "usb" / "vault"), ManualClock()).create()
    assert "mount" in caught.value.advice
    assert not os.listdir(tmp_path)


def test_a_file_is_no_vault(tmp_path: Path) -> None:
    (tmp_path / "vault").write_text("hello")
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), ManualClock())
    with pytest.raises(VaultError):
        vault.create()
    with pytest.raises(VaultMissingError):
        vault.list_uploads()


def test_a_marker_of_another_layout_is_not_worked_on(directory: DirectoryVault) -> None:
    store(directory, b"abc")
    marker = Path(directory.state().location, MARKER)
    marker.write_text('{"layout":2,"name":"of a later version"}')
    calls: list[Callable[[], object]] = [
        lambda: directory.begin_upload(CATALOG, MIB),
        lambda: list_now(directory),
        lambda: directory.identities(INVENTORY_ID),
        lambda: directory.add_identity(INVENTORY_ID, "a" * 32),
        directory.create,
    ]
    for call in calls:
        with pytest.raises(VaultError, match="another version") as caught:
            call()
        assert "or a newer one" in caught.value.advice
    assert "later" in marker.read_text()


@pytest.mark.parametrize("marker", ["", "{}", '{"layout":1,"id":"x"', '{"layout":1}', "[1", "\0" * 500, None])
def test_without_a_sound_marker_archives_are_read_and_nothing_is_written(
    directory: DirectoryVault, marker: str | None
) -> None:
    archive_id = store(directory, b"abc")
    path = Path(directory.state().location, MARKER)
    path.unlink()
    if marker is not None:
        path.write_text(marker)
    before = sorted(os.listdir(path.parent))
    assert directory.state().exists
    assert [archive.archive_id for archive in list_now(directory).archives] == [archive_id]
    retrieval_id = directory.request_retrieval(archive_id, None, Tier.BULK, "t")
    assert directory.fetch(retrieval_id, ByteRange(0, 3)).data == b"abc"
    calls: list[Callable[[], object]] = [
        lambda: directory.begin_upload(CATALOG, MIB),
        lambda: directory.delete_archives({archive_id: None}),
        lambda: directory.identities(INVENTORY_ID),
        directory.create,
    ]
    for call in calls:
        with pytest.raises(UnmarkedVaultError, match=MARKER) as caught:
            call()
        assert "`nightvault vaults accept disk`" in caught.value.advice
    assert sorted(os.listdir(path.parent)) == before
    assert directory.read_unmarked().identities(INVENTORY_ID) == []
    directory.add_identity(INVENTORY_ID, "b" * 32)
    assert directory.identities(INVENTORY_ID) == ["b" * 32]
    assert path.with_name(DAMAGED).exists() == (marker is not None)
    directory.add_identity(INVENTORY_ID, "c" * 32)
    assert directory.identities(INVENTORY_ID) == ["b" * 32], "it has one"


def test_a_directory_that_is_there_becomes_a_vault_without_losing_a_file(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    vault = DirectoryVault(VaultName("disk"), str(tmp_path), ManualClock())
    vault.create()
    marker = (tmp_path / MARKER).read_bytes()
    vault.create()
    assert (tmp_path / MARKER).read_bytes() == marker
    assert (tmp_path / "lost+found").is_dir()


def test_nobody_else_may_look(directory: DirectoryVault) -> None:
    store(directory, b"abc")
    directory.begin_upload(CATALOG, MIB)
    for folder, _, files in os.walk(directory.state().location):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert all(stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o600 for name in files)


# Somebody put something there.


def test_symlinks_in_the_vault_are_not_followed(directory: DirectoryVault, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 100)
    archive_id = store(directory, b"a" * 100)
    retrieval_id = directory.request_retrieval(archive_id, None, Tier.BULK, "t")
    path_of(directory, archive_id).unlink()
    path_of(directory, archive_id).symlink_to(secret)
    with pytest.raises(VaultError) as caught:
        directory.fetch(retrieval_id, ByteRange(0, 100))
    assert "symlink" in caught.value.advice
    with pytest.raises(ArchiveMissingError):
        directory.request_retrieval(archive_id, None, Tier.BULK, "t")
    directory.delete_archives({archive_id: None})
    assert secret.read_bytes() == b"s" * 100


def test_an_upload_is_not_written_through_a_symlink(directory: DirectoryVault, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    upload_id = directory.begin_upload(CATALOG, MIB)
    upload = Path(directory.state().location, "uploads", upload_id)
    shutil.copytree(upload, victim, dirs_exist_ok=True)
    shutil.rmtree(upload)
    upload.symlink_to(victim)
    with pytest.raises(VaultError):
        directory.put_part(upload_id, part_of(b"abc", 0), memoryview(b"abc"))
    assert (victim / "data").read_bytes() == b""


@pytest.mark.parametrize("bad", ["..", "../../etc/passwd", "/etc/passwd", "a" * 31, "A" * 32, "", "\0" * 32])
def test_ids_cannot_lead_elsewhere(directory: DirectoryVault, bad: str) -> None:
    directory.delete_archives({ArchiveId(bad): None})
    directory.abort_upload(UploadId(bad))
    with pytest.raises(ArchiveMissingError):
        directory.request_retrieval(ArchiveId(bad), None, Tier.BULK, "t")
    with pytest.raises(RetrievalExpiredError):
        directory.fetch(RetrievalId(f"{bad}:0-100"), ByteRange(0, 1))
    with pytest.raises(UploadExpiredError):
        directory.list_parts(UploadId(bad), MIB)
    assert directory.state().exists


# Damage.


def test_an_archive_that_was_cut_short_shows(directory: DirectoryVault) -> None:
    archive_id = store(directory, DATA)
    retrieval_id = directory.request_retrieval(archive_id, None, Tier.BULK, "t")
    os.truncate(path_of(directory, archive_id), len(DATA) - 1)
    with pytest.raises(IntegrityError):
        directory.fetch(retrieval_id, ByteRange(0, len(DATA)))
    (listed,) = directory.fetch_listing(directory.request_listing("t")).archives
    assert (listed.size, listed.tree_hash) == (len(DATA) - 1, None)


@pytest.mark.parametrize("record", [b"", b"{", b'{"description":1}', None])
def test_an_archive_without_its_record_is_listed_all_the_same(
    directory: DirectoryVault, record: bytes | None
) -> None:
    archive_id = store(directory, DATA)
    path = path_of(directory, archive_id).with_suffix(".json")
    if record is None:
        path.unlink()
    else:
        path.write_bytes(record)
    (listed,) = directory.fetch_listing(directory.request_listing("t")).archives
    assert (listed.archive_id, listed.label, listed.size) == (archive_id, None, len(DATA))
    assert read_directly(directory, archive_id, len(DATA)) == DATA


def test_completing_again_with_other_bytes_is_refused(directory: DirectoryVault) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    complete(directory, upload_id, CATALOG, DATA)
    with pytest.raises(IntegrityError):
        complete(directory, upload_id, CATALOG, DATA[1:])


PARTS = [StoredPart(n * MIB, 10 + n, TreeHash(bytes([n]) * 32)) for n in range(4)]


@given(st.lists(st.sampled_from(PARTS), max_size=6), st.integers(0, 600), st.binary(max_size=40))
def test_torn_notes_name_no_part_that_was_not_noted(
    tmp_path_factory: pytest.TempPathFactory, noted: list[StoredPart], left: int, garbage: bytes
) -> None:
    folder = tmp_path_factory.mktemp("upload")
    (folder / "data").touch()
    (folder / "parts").touch()
    fd = os.open(folder, os.O_RDONLY)
    try:
        for part in noted:
            layout.write_part(fd, part, memoryview(b"x"))
        assert layout.read_parts(fd) == sorted(set(noted), key=lambda part: part.offset)
        (folder / "parts").write_bytes((folder / "parts").read_bytes()[:left] + garbage)
        assert set(layout.read_parts(fd)) <= set(noted)
        layout.write_part(fd, PARTS[0], memoryview(b"x"))
        assert PARTS[0] in layout.read_parts(fd)
    finally:
        os.close(fd)
        shutil.rmtree(folder)
