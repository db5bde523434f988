"""A real process is killed at random moments, also while it recovers: the next run makes all whole."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from backup.vault.directory import DirectoryVault
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.integrity import assert_whole, change, fill, list_now
from tests.support.other_processes import start_ready
from tests.support.trees import Seen, snapshot_of

pytestmark = pytest.mark.slow

PROGRAM = "tests.support.one_backup"
ROUNDS = campaigns.share("NIGHTVAULT_TEST_KILLS", 4)
KILLS_A_ROUND = 2


def end(process: subprocess.Popen[str], after: float) -> int:
    """Kill the process after so many seconds, if it has not ended; its exit code (-9 if it was killed)."""
    time.sleep(after)
    process.kill()
    process.communicate()
    return process.returncode


def test_kills_at_random_moments(
    tmp_path: Path, source: Path, disk: DirectoryVault, clock: ManualClock
) -> None:
    chance = random.Random(20260301)
    fill(source, 1, 8 * 1024 * 1024)
    for number in range(1500):
        (source / "void" / f"tiny {number}").write_text(str(number) * 7)
    state = tmp_path / "state"
    began = time.monotonic()
    start_ready(PROGRAM, state, tmp_path / "other vault", source).communicate()
    latest = (time.monotonic() - began) / 3
    site = Site.create(tmp_path / "site", disk, [source], clock=clock)
    trees: dict[int, dict[bytes, Seen]] = {}
    codes = []
    for number in range(ROUNDS):
        (source / f"fresh {number}").write_bytes(chance.randbytes(4 * 1024 * 1024))
        if number == 1:
            change(source, 3, 1024)
        now = snapshot_of(source)
        site.close()
        for _ in range(KILLS_A_ROUND):
            process = start_ready(PROGRAM, site.folder, tmp_path / "vault", source)
            codes.append(end(process, chance.uniform(0, latest)))
            if codes[-1] != -9:
                latest *= 0.5  # it was ready before us: the machine is less busy than it was
        site = site.reopen()
        site.backup()
        trees |= {snapshot.number: now for snapshot in site.snapshots() if snapshot.number not in trees}
    assert codes.count(-9) >= ROUNDS, f"too few were killed in time: {codes}"
    assert_whole(site, tmp_path / "restored", trees, list_now(disk))
    assert not disk.list_uploads()
