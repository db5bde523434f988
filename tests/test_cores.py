"""How many cores a run works on: those it may use, and no more than the configuration says."""

from __future__ import annotations

import os

import pytest

from backup.cores import usable_cores


@pytest.fixture
def affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cores of a larger machine, as by `taskset`."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 7})


@pytest.mark.usefixtures("affinity")
@pytest.mark.parametrize(("setting", "cores"), [(None, 3), (1, 1), (2, 2), (3, 3), (64, 3)])
def test_they_are_those_of_the_process(setting: int | None, cores: int) -> None:
    assert usable_cores(setting) == cores


def test_a_system_without_affinity_has_all_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert usable_cores() == 8
    assert usable_cores(5) == 5
