"""A restore in a process of its own: `python -m tests.support.restores SITE VAULT SOURCE OUT [UID]`.

It prints one JSON line: outcome, problems, files, peak memory (KiB) and seconds.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from pathlib import Path

from sqlalchemy import create_engine

from backup.catalogs.context import BackupJob
from backup.inventory.store.database import open_inventory
from backup.model import JobName, VaultName
from backup.source.filters import Filters
from backup.vault.directory import DirectoryVault
from tests.support.backups import PACK, PART, Site, recovery_key, server_keys
from tests.support.doubles import ManualClock


def main() -> None:
    """Open the installation as whoever we are to be, and restore its newest snapshot."""
    folder, vault, source, out = sys.argv[1:5]
    if len(sys.argv) > 5:
        become(int(sys.argv[5]))
    started = time.monotonic()
    site = open_site(Path(folder), vault, source)
    report = site.restore("latest", Path(out))
    site.close()
    told = {
        "outcome": str(report.outcome),
        "problems": [
            (os.fsdecode(problem.path), str(problem.kind), problem.detail) for problem in report.problems
        ],
        "files": report.files,
        "peak": peak(),
        "seconds": time.monotonic() - started,
    }
    sys.stdout.write(json.dumps(told) + "\n")


def peak() -> int:
    """The most memory that this process had at once, in KiB; rusage would count the parent's before exec."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def become(uid: int) -> None:
    """An ordinary user, for good."""
    with create_engine("sqlite://").connect():  # the interpreter's own files may be out of reach afterwards
        os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def open_site(folder: Path, vault: str, source: str) -> Site:
    """The installation that `Site.create` made there."""
    clock = ManualClock()
    inventory = open_inventory(f"sqlite:///{folder / 'inventory.sqlite'}", lock_directory=str(folder))
    job = BackupJob(JobName("job"), (os.fsencode(source),), Filters(), PACK, PART)
    disk = DirectoryVault(VaultName("disk"), vault, clock)
    return Site(folder, inventory, disk, job, server_keys(), recovery_key(), clock)


if __name__ == "__main__":
    main()
