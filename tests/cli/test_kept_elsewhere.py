"""What a vault has lost, and another archive holds, too, comes back by the command that meets the loss."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from backup.inventory.content.lost import needed_losses
from backup.inventory.records.readings import bad_frames
from backup.inventory.store.database import open_inventory
from tests.support.servers import Server, directory_server
from tests.support.trees import assert_same_tree, extract_tar


@contextmanager
def taken_away(server: Server, archive_id: str) -> Iterator[None]:
    """The archive's file is not in the vault."""
    away = server.folder / archive_id
    here = server.folder / "vault" / "archives" / archive_id[:2] / archive_id
    here.rename(away)
    yield
    away.rename(here)


@pytest.fixture
def twice(tmp_path: Path) -> Server:
    """A server whose files are stored in two archives: one was lost, stored again, and found again."""
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    (data,) = data_archives(server)
    with taken_away(server, data):
        assert server.run("check").exit_code == 1
        server.backup()
    server.done("check")
    assert len(data_archives(server)) == 2
    return server


def data_archives(server: Server) -> list[str]:
    return [archive["archive_id"] for archive in server.json("archives") if archive["kind"] == "data"]


def flat(text: str) -> str:
    """The text in one line."""
    return " ".join(text.split())


def planned(server: Server) -> str:
    """The archive that a restore would read."""
    plan = server.json("restore", "latest", "--target", server.folder / "none", "--dry-run")
    (archive,) = {retrieval["archive"] for retrieval in plan["retrievals"]}
    return str(archive)


def test_a_restore_takes_it_from_the_other_archive(twice: Server, tmp_path: Path) -> None:
    words = ("restore", "latest", "--key", twice.key_file, "--target", tmp_path / "out")
    with taken_away(twice, planned(twice)):
        lost = planned(twice)
        done = twice.done(*words)
        assert "what it held is kept in another archive, too" in done.stderr
        assert f"has lost archive {lost}: what is needed of it was taken" in flat(done.stderr)
        assert_same_tree(Path(f"{tmp_path}/out{twice.source}"), twice.source)
        assert not list((tmp_path / "out").glob(".nightvault*")), "no mark is left"
        assert [restore["state"] for restore in twice.json("restores", "--all")] == ["done", "cancelled"]
    assert [run["outcome"] for run in twice.json("runs") if run["kind"] == "restore"] == ["done"]


def test_the_document_names_what_the_vault_has_lost(twice: Server, tmp_path: Path) -> None:
    lost = planned(twice)
    with taken_away(twice, lost):
        done = twice.json("restore", "latest", "--key", twice.key_file, "--target", tmp_path / "out")
    assert (done["outcome"], done["problems"]) == ("done", [])
    (warning,) = done["warnings"]
    assert lost in warning
    assert "the next backup stores again what is still on this machine" in warning


def test_the_key_is_read_once(twice: Server, tmp_path: Path) -> None:
    """From standard input it comes only once."""
    words = ("restore", "latest", "--key", "-", "--target", tmp_path / "out")
    with taken_away(twice, planned(twice)):
        twice.done(*words, typed=twice.key_file.read_bytes())
    assert_same_tree(Path(f"{tmp_path}/out{twice.source}"), twice.source)


def test_a_dump_takes_it_from_there_too(twice: Server, tmp_path: Path) -> None:
    words = ("dump", f"latest:{twice.source}", "--tar", "--key", twice.key_file, "-o", tmp_path / "out.tar")
    with taken_away(twice, planned(twice)):
        lost = planned(twice)
        done = twice.done(*words)
        assert f"has lost archive {lost}" in flat(done.stderr)
    with tarfile.open(tmp_path / "out.tar") as tar:
        extract_tar(tar, tmp_path / "out")
    files = [path.relative_to(twice.source) for path in twice.source.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert (tmp_path / "out" / path).read_bytes() == (twice.source / path).read_bytes()


def test_what_is_nowhere_else_is_named_once(twice: Server, tmp_path: Path) -> None:
    first, second = data_archives(twice)
    words = ("restore", "latest", "--key", twice.key_file, "--target", tmp_path / "out")
    with taken_away(twice, first):
        (twice.folder / "vault" / "archives" / second[:2] / second).unlink()
        result = twice.run(*words)
    assert result.exit_code == 3
    told = result.stderr
    for archive_id in (first, second):
        assert told.count(f"has no archive {archive_id}") == 1
    assert "its archive is gone from the vault" in told or "is not in the vault (lost)" in told


def losses(server: Server) -> list[str]:
    """What `status` tells of archives of the vault that are lost or damaged."""
    told = server.json("status", exit_code=1)  # also as no daemon runs
    return [concern["text"] for concern in told["concerns"] if "lost or damaged" in concern["text"]]


def test_status_tells_of_what_a_restore_found_lost_until_nothing_kept_needs_it(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    (server.source / "a.txt").write_text("only the second snapshot has this\n")
    server.backup()
    (server.source / "a.txt").write_text("alpha\n")
    server.backup()
    first, second = data_archives(server)
    assert losses(server) == []
    words = ("restore", "latest", "--key", server.key_file, "--target", tmp_path / "out", "--yes")
    with taken_away(server, first), taken_away(server, second):
        assert server.run(*words).exit_code == 3
        assert losses(server) == [
            "1 archive of vault cold is lost or damaged, and kept snapshots need what is in it"
        ]
        server.backup()
        assert losses(server) == [], "stored again in another archive"
        old = server.json("snapshots")[1]["id"]
        again = ("restore", old, "--key", server.key_file, "--target", tmp_path / "old")
        assert server.run(*again).exit_code == 3
        assert len(losses(server)) == 1, "what the second snapshot alone has"
        server.done("forget", old)
        assert losses(server) == []


def test_of_a_damaged_archive_only_what_is_bad_counts(twice: Server) -> None:
    url = f"sqlite:///{twice.state / 'inventory.sqlite'}"
    for archive, expected in zip(data_archives(twice), ({}, {"cold": 2}), strict=True):
        path = twice.folder / "vault" / "archives" / archive[:2] / archive
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        assert twice.run("check", "--read-data", "100%", "--key", twice.key_file).exit_code == 1
        with (
            closing(open_inventory(url, lock_directory=str(twice.state))) as inventory,
            inventory.reading() as tx,
        ):
            assert needed_losses(tx, bad_frames(tx), lambda *_: True) == expected
            assert needed_losses(tx, dict.fromkeys(bad_frames(tx), ()), lambda *_: True) == {}
