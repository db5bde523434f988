"""The fencing number: a process whose lock was taken away writes nothing more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backup.errors import LockedError, StateDeniedError
from backup.files import file_lock, renew_lock_file
from backup.inventory.store.driver import insert_row
from backup.inventory.store.holders import holders
from backup.inventory.store.locks import is_held, take_away
from backup.inventory.store.read_only import Access
from tests.support.backups import Site


def write(site: Site, name: str) -> None:
    with site.inventory.writing() as tx:
        insert_row(tx, "vaults", name=name)


def test_who_lost_the_lock_writes_nothing(site: Site) -> None:
    other = Site.attach(site.folder, site.vault, [], clock=site.clock)
    with site.inventory.locked("backup"):
        write(site, "before")
        with pytest.raises(LockedError, match="another backup"), other.inventory.locked("backup"):
            pass
        other.inventory.take_lock_away()
        with pytest.raises(LockedError, match="was taken away") as caught:
            write(site, "after")
        assert "nothing is lost" in caught.value.advice
        with other.inventory.locked("backup"):
            write(other, "other")
            with pytest.raises(LockedError):
                write(site, "again")
    write(site, "without the lock, as a restore does")
    with site.inventory.locked("backup"):
        write(site, "with a lock of its own")
    other.close()


def test_only_the_lock_of_backups_is_fenced(site: Site) -> None:
    other = Site.attach(site.folder, site.vault, [], clock=site.clock)
    with site.inventory.locked("check"):
        other.inventory.take_lock_away()
        write(site, "a check goes on")
    other.close()


def test_a_lock_that_is_taken_away_while_it_is_taken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspended between the lock of the file and the number: the one who came since is not shut out."""
    other = Site.attach(site.folder, site.vault, [], clock=site.clock)
    real = type(site.inventory).require_same_file
    came: list[object] = []

    def once(inventory: object) -> None:
        real(inventory)  # type: ignore[arg-type]
        if not came:
            came.append(inventory)
            other.inventory.take_lock_away()
            came.append(held := other.inventory.locked("backup"))
            held.__enter__()

    monkeypatch.setattr(type(site.inventory), "require_same_file", once)
    with pytest.raises(LockedError, match="at this moment"), site.inventory.locked("backup"):
        pass
    write(other, "it still holds it")
    came[-1].__exit__(None, None, None)  # type: ignore[attr-defined]
    other.close()


def test_the_new_file_is_the_old_ones_owners(tmp_path: Path) -> None:
    path = tmp_path / "backup.lock"
    with file_lock(str(path)) as lock:
        os.chmod(path, 0o640)
        before = path.stat()
        assert lock.counts()
        renew_lock_file(str(path))
        after = path.stat()
        assert not lock.counts()
        assert after.st_ino != before.st_ino
        assert (after.st_uid, after.st_gid, stat.S_IMODE(after.st_mode)) == (
            before.st_uid,
            before.st_gid,
            0o640,
        )
        with file_lock(str(path)) as second:
            assert second.counts()
    assert os.listdir(tmp_path) == ["backup.lock"]


def test_there_is_nothing_to_take(tmp_path: Path) -> None:
    take_away(str(tmp_path), "backup")
    assert os.listdir(tmp_path) == []


def test_who_holds_what(site: Site) -> None:
    folder = str(site.folder)
    assert not is_held(folder, "backup")
    with site.inventory.locked("backup"):
        assert is_held(folder, "backup")
        found = holders(folder)
        assert found is not None
        assert {name: [holder.process for holder in some] for name, some in found.items()} == {
            "backup": [os.getpid()],
            "open": [os.getpid()],
        }
        assert "pytest" in found["backup"][0].command or "python" in found["backup"][0].command
        assert not found["backup"][0].is_suspended


def test_of_an_inventory_that_may_only_be_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes its lock, or takes it away, without the right to write."""
    lock = site.folder / "backup.lock"
    with site.inventory.locked("backup"):
        before = lock.stat().st_ino
    monkeypatch.setattr("backup.inventory.store.database.access_to", lambda _: Access.READS)
    reader = Site.attach(site.folder, site.vault, [], clock=site.clock)
    with pytest.raises(StateDeniedError, match="can only be read"):
        reader.inventory.take_lock_away()
    assert lock.stat().st_ino == before
    with pytest.raises(StateDeniedError), reader.inventory.locked("backup"):
        pass
    with site.inventory.locked("backup"):
        write(site, "its number was not raised by who may not")
    reader.close()
