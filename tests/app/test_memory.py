"""A wish to the C library that may go unheard, and never fails."""

from __future__ import annotations

import ctypes

import pytest

from backup.app.malloc import share_freed_memory


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
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    share_freed_memory()
