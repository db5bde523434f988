"""The order of the tests: the longest begin, lest a worker is left alone with one of them at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

LONGEST = (
    "tests/systemd/test_machine.py",
    "tests/systemd/test_packages.py",
    "tests/systemd/test_container_files.py",
    "tests/databases/test_large_dump.py",
    "tests/databases/test_real_servers.py",
    "tests/scenarios/test_ten_years.py",
    "tests/pruner/test_model.py",
    "tests/month/test_month.py",
    "tests/daemon/test_kills.py",
    "tests/daemon/test_well_each_hour.py",
    "tests/archiver/test_kill.py",
    "tests/test_counts.py",
    "tests/test_demo.py",
    "tests/cli/test_setup_export.py",
    "tests/emulator/test_clients.py",
    "tests/emulator/test_at_once.py",
    "tests/emulator/test_server.py",
    "tests/emulator/test_pytest_plugin.py",
    "tests/archiver/test_memory.py",
)
"""Files with tests of ten seconds and more, as `--durations` shows them."""


class Named(Protocol):
    """A test, by its name."""

    @property
    def nodeid(self) -> str:
        """`tests/FILE::TEST`."""


T = TypeVar("T", bound=Named)


def longest_first(items: Sequence[T]) -> list[T]:
    """The tests of `LONGEST` in that order, then all others in theirs."""
    places = {path: place for place, path in enumerate(LONGEST)}
    return sorted(items, key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))
