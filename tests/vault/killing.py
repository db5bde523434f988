"""A directory vault in a process that is killed before a given change of the disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.doubles import ManualClock

CHANGING = ("open", "mkdir", "pwrite", "write", "fsync", "fdatasync", "rename", "link", "unlink", "rmdir")


def reopened(vault: DirectoryVault) -> DirectoryVault:
    """As another process would see it."""
    return DirectoryVault(VaultName("disk"), vault.state().location, ManualClock())


def killed_at(step: int, action: Callable[[], object]) -> bool:
    """Run `action` in a child that kills itself before change number `step`; False if it got through."""
    child = os.fork()
    if child == 0:
        left = [step]

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*arguments, **options)

            return call

        for name in CHANGING:
            setattr(os, name, counted(getattr(os, name)))
        try:
            action()
        except BaseException:
            os._exit(9)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}
    return status == signal.SIGKILL
