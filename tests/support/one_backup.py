"""One backup in a process of its own: `-m tests.support.one_backup STATE VAULT SOURCE [PACK PART [blind]]`.

Prints "ready" before it begins, and at the end the run's figures and its peak of memory as JSON. "blind"
reads as on a file system that tells of no holes.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from backup.app.base.clock import SystemClock
from backup.archiver import contents
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import PACK, PART, Site


def main(
    state: str,
    vault_path: str,
    source: str,
    pack_size: str = str(PACK),
    part_size: str = str(PART),
    sight: str = "",
) -> None:
    """Open or create the installation and run its job."""
    if sight == "blind":
        vars(contents)["find_holes"] = lambda *_: None
    clock = SystemClock()
    vault = DirectoryVault(VaultName("disk"), vault_path, clock)
    vault.create()
    site = Site.attach(
        Path(state), vault, [source], clock=clock, pack_size=int(pack_size), part_size=int(part_size)
    )
    print("ready", flush=True)
    report = site.backup()
    print(json.dumps({"new": report.bytes_new, "read": report.bytes_read, "peak": peak()}), flush=True)


def peak() -> int:
    """The most memory that this process had at once, in bytes (rusage counts the parent's before exec)."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
