"""A backup that suspends itself: `-m tests.support.suspended_backup STATE VAULT SOURCE METHOD COUNT WHEN`.

It stops as by Ctrl-Z at the COUNTth call of a method of its vault, before or after that call (WHEN). Its exit
code is that of its error, as the command's would be.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from backup.errors import NightvaultError
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock

T = TypeVar("T")


class Suspending(FaultyVault):
    """A vault at one call of which the whole process is suspended."""

    def __init__(self, vault: DirectoryVault, method: str, count: int, when: str) -> None:
        super().__init__(vault)
        self._where = method, count, when

    def _meet(self, method: str, call: Callable[[], T]) -> T:
        is_here = (method, self.calls[method] + 1) == self._where[:2]
        if is_here and self._where[2] == "before":
            _suspend()
        result = super()._meet(method, call)
        if is_here and self._where[2] == "after":
            _suspend()
        return result


def _suspend() -> None:
    """Stop, on whichever thread: the signal may reach another one first."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)


def main(state: str, vault: str, source: str, method: str, count: str, when: str) -> int:
    """Run it; 0 if a snapshot was made."""
    clock = ManualClock()
    disk: Any = Suspending(DirectoryVault(VaultName("disk"), vault, clock), method, int(count), when)
    site = Site.attach(Path(state), disk, [source], clock=clock)
    try:
        site.backup()
    except NightvaultError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
