"""A directory vault whose process is killed at every call that changes the disk, in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from backup.errors import IntegrityError
from backup.format.treehash import tree_hash
from backup.model import MIB, UploadId, VaultName
from backup.vault.directory import DirectoryVault
from tests.support.archives import CATALOG, complete, cut, part_of, read_directly, send, some_bytes, store
from tests.support.doubles import ManualClock
from tests.vault.killing import killed_at, reopened

pytestmark = pytest.mark.slow

DATA = some_bytes(2 * MIB + 77)


def test_complete_killed_anywhere_leaves_an_upload_or_an_archive(tmp_path: Path) -> None:
    outcomes = set()
    for step in range(200):
        vault = DirectoryVault(VaultName("disk"), str(tmp_path / str(step)), ManualClock())
        vault.create()
        upload_id = vault.begin_upload(CATALOG, MIB)
        send(vault, upload_id, DATA, cut(DATA))
        was_killed = killed_at(step, lambda: complete(vault, upload_id, CATALOG, DATA))  # noqa: B023
        after = reopened(vault)
        uploads = [upload.upload_id for upload in after.list_uploads()]
        archives = [
            (archive.archive_id, archive.size)
            for archive in after.fetch_listing(after.request_listing("t")).archives
        ]
        outcomes.add((len(uploads), len(archives)))
        assert (uploads, archives) in (([upload_id], []), ([], [(upload_id, len(DATA))]))
        assert read_directly(after, complete(after, upload_id, CATALOG, DATA), len(DATA)) == DATA
        assert not os.listdir(tmp_path / str(step) / "uploads")
        shutil.rmtree(tmp_path / str(step))
        if not was_killed:
            break
    assert not was_killed
    assert outcomes == {(1, 0), (0, 1)}
    assert step > 20


def test_sending_again_killed_anywhere_never_leaves_a_part_that_is_not_what_it_says(
    directory: DirectoryVault,
) -> None:
    other = some_bytes(MIB)
    for step in range(60):
        upload_id = directory.begin_upload(CATALOG, MIB)
        send(directory, upload_id, DATA, cut(DATA))
        was_killed = killed_at(
            step,
            lambda: directory.put_part(upload_id, part_of(other, 0), memoryview(other)),  # noqa: B023
        )
        after = reopened(directory)
        data = Path(directory.state().location, "uploads", upload_id, "data").read_bytes()
        for part in after.list_parts(upload_id, MIB):
            assert tree_hash(data[part.offset : part.offset + part.length]) == part.tree_hash
        send(after, upload_id, DATA, cut(DATA))
        assert read_directly(after, complete(after, upload_id, CATALOG, DATA), len(DATA)) == DATA
        if not was_killed:
            break
    assert not was_killed


@pytest.mark.parametrize("action", ["begin", "abort", "delete", "create"])
def test_everything_else_killed_anywhere_can_be_done_again(tmp_path: Path, action: str) -> None:
    for step in range(100):
        vault = DirectoryVault(VaultName("disk"), str(tmp_path / str(step)), ManualClock())
        if action != "create":
            vault.create()
            upload_id = vault.begin_upload(CATALOG, MIB)
            archive_id = store(vault, b"abc")
        calls: dict[str, Callable[[], object]] = {
            "create": vault.create,
            "begin": lambda: vault.begin_upload(CATALOG, MIB),  # noqa: B023
            "abort": lambda: vault.abort_upload(upload_id),  # noqa: B023
            "delete": lambda: vault.delete_archives({archive_id: None}),  # noqa: B023
        }
        was_killed = killed_at(step, calls[action])
        calls[action]()
        begun = {"create": 0, "abort": 0, "delete": 1}.get(action)
        uploads = vault.list_uploads()
        assert len(uploads) == begun if begun is not None else len(uploads) >= 2
        assert all(complete_empty_is_refused(vault, upload.upload_id) for upload in uploads)
        archives = vault.fetch_listing(vault.request_listing("t")).archives
        assert len(archives) == (1 if action in {"begin", "abort"} else 0)
        if not was_killed:
            break
    assert not was_killed


def complete_empty_is_refused(vault: DirectoryVault, upload_id: UploadId) -> bool:
    """Whether an upload is one that can go on."""
    with pytest.raises(IntegrityError):
        complete(vault, upload_id, CATALOG, b"abc")
    return not vault.list_parts(upload_id, MIB)


def test_nothing_gets_its_name_before_it_is_synced(
    directory: DirectoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_id = directory.begin_upload(CATALOG, MIB)
    send(directory, upload_id, DATA, cut(DATA))
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_sync(fd: int) -> None:
        steps.append(f"sync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        fsync(fd)

    def note_rename(source: str, target: str, **where: int) -> None:
        steps.append(f"rename {source}")
        rename(source, target, **where)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    complete(directory, upload_id, CATALOG, DATA)
    record, shelf = f"{upload_id}.json.new", upload_id[:2]
    assert steps == [
        "sync archives",
        "sync data",
        f"sync {record}",
        f"rename {record}",
        f"sync {shelf}",
        "rename data",
        f"sync {shelf}",
        f"sync {upload_id}",
        "sync uploads",
    ]
