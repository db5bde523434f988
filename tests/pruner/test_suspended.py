"""A prune is suspended while it deletes, its lock taken away, others go on; then it wakes up."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.errors import ExitCode
from backup.inventory.content.archives import ArchiveState
from tests.support.nightly_servers import DAY, Nights
from tests.support.suspended import suspended

pytestmark = pytest.mark.slow

CONTENTS = bytes(range(256)) * 1000


@pytest.fixture
def nights(tmp_path: Path) -> Iterator[Nights]:
    """A forgotten night whose archives are due."""
    made = Nights(tmp_path)
    made.night("file 1", CONTENTS)
    for _ in range(4):
        made.night()
    made.forget(1, 2, 3)
    assert made.site.prune().condemned.archives == 1
    made.clock.advance(4 * DAY)
    yield made
    made.site.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_it_decided_is_deleted_once_and_nothing_else(nights: Nights, when: str) -> None:
    """The file of the first night is met again meanwhile: it is stored anew, whatever the vault still has."""
    process = suspended(nights.site, "prune", "delete_archives", 1, when)
    try:
        nights.site.inventory.take_lock_away()
        nights.clock.advance(DAY)
        nights.night("again", CONTENTS)
        report = nights.site.prune()
        done = (report.deleted.archives, report.deleted_elsewhere)
        assert done == ((1, 0) if when == "before" else (0, 1)), "it carries out what was decided"
    finally:
        process.send_signal(signal.SIGCONT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == ExitCode.LOCKED, told
    assert "was taken away" in told
    assert set(nights.states()) == {ArchiveState.STORED}
    nights.assert_kept()
    nights.assert_lawful()
    assert nights.site.prune().deleted.archives == 0
