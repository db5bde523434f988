"""A backup or a prune that suspends itself, as by Ctrl-Z, at a call of its vault.

`python -m tests.support.suspended backup|prune STATE VAULT SOURCE METHOD COUNT before|after NOW` stops at the
COUNTth call of a method of its vault, before or after that call. Its exit code is that of its error, as the
command's would be.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from backup.errors import NightvaultError
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock
from tests.support.emulated import REPOSITORY

T = TypeVar("T")


def suspended(site: Site, act: str, method: str, count: int, when: str) -> subprocess.Popen[str]:
    """A process that does this act ("backup", "prune") and is suspended at that call.

    The site's directory vault is the folder `vault` beside its state.
    """
    places = [str(site.folder), str(site.folder.parent / "vault"), os.fsdecode(site.job.sources[0])]
    where = [method, str(count), when]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.suspended", act, *places, *where, site.clock.now().isoformat()],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
    return process


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


def main(act: str, state: str, vault: str, source: str, method: str, count: str, when: str, now: str) -> int:
    """Do it at that time; 0 if it got through."""
    clock = ManualClock(datetime.fromisoformat(now))
    disk: Any = Suspending(DirectoryVault(VaultName("disk"), vault, clock), method, int(count), when)
    site = Site.attach(Path(state), disk, [source], clock=clock)
    try:
        site.backup() if act == "backup" else site.prune()
    except NightvaultError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
