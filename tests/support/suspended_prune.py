"""A prune that suspends itself: `-m tests.support.suspended_prune STATE VAULT SOURCE WHEN NOW`.

It stops as by Ctrl-Z at its first deletion, before or after it reached the vault (WHEN). Its exit code is
that of its error, as the command's would be.
"""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from backup.errors import NightvaultError
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.suspended_backup import Suspending


def main(state: str, vault: str, source: str, when: str, now: str) -> int:
    """Run it at that time; 0 if it got through."""
    clock = ManualClock(datetime.fromisoformat(now))
    disk: Any = Suspending(DirectoryVault(VaultName("disk"), vault, clock), "delete_archives", 1, when)
    site = Site.attach(Path(state), disk, [source], clock=clock)
    try:
        site.prune()
    except NightvaultError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
