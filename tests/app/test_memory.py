"""A wish to the C library that may go unheard, and never fails."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest

from backup.app import runs
from backup.app.malloc import share_freed_memory
from tests.support.servers import directory_server


def test_it_asks_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, what: int, value: int) -> int:
            asked.append((what, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library())
    share_freed_memory()
    assert asked == [(-8, 1)]


def test_another_library_has_no_such_thing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[None] = []
    monkeypatch.setattr(ctypes, "CDLL", looked.append)  # which has no `mallopt`
    share_freed_memory()
    assert looked == [None]


def test_a_backup_asks_before_it_has_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each thread that seals keeps freed frames: 28 MiB of a first backup's peak of 240."""
    sealing: list[list[str]] = []

    def asked() -> None:
        sealing.append([one.name for one in threading.enumerate() if one.name.startswith("seal")])

    monkeypatch.setattr(runs, "share_freed_memory", asked)
    server = directory_server(tmp_path)
    server.init()
    server.backup()
    assert sealing == [[]]
