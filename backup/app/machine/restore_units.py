"""systemd units for restores that a daemon continues, one for each restore.

The daemon's unit may read everything, write only to its state directory, and has a private `/tmp`. So it
makes systemd start `nightvault-restore@ID.service`, which may write below that restore's target and holds the
capabilities for owners and modes. Where it may write is set by a symlink in the daemon's runtime directory:
`ReadWritePaths=` of the template names the symlink, and systemd follows it when it starts the unit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping

from msgspec import Struct

from backup.errors import TargetError
from backup.inventory.records.retrievals import Restore

LINKS = "nightvault-restores"
"""The last part of the directory's path: `RuntimeDirectory=` of the daemon's unit."""
_STARTED_BY_SYSTEMD = ("INVOCATION_ID", "NOTIFY_SOCKET")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_MESSAGES")
_PATIENCE = 90.0  # seconds


class RestoreUnits(Struct, frozen=True):
    """The means to start units: the path of systemctl, and the directory of links."""

    systemctl: str
    links: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> RestoreUnits | None:
        """Return them for this process; None unless systemd started it and gave it a directory of links."""
        if not any(name in environ for name in _STARTED_BY_SYSTEMD):
            return None
        systemctl = shutil.which("systemctl", path=environ.get("PATH", os.defpath))
        given = environ.get("RUNTIME_DIRECTORY", "").split(":")
        links = next((path for path in given if os.path.basename(path) == LINKS), None)
        return cls(systemctl, links) if systemctl and links else None

    def start(self, restore: Restore, path: bytes | None = None) -> None:
        """Start the unit of the restore, unless it is running. `TargetError` if it cannot be started.

        `path` is the real path of its target, where that is recorded.
        """
        path = path or restore.target
        unit = f"nightvault-restore@{restore.id}.service"
        if os.path.realpath(path) == b"/":
            raise _refused(restore, "it writes in place, and its unit may write below one directory only")
        try:
            self._link(restore, path)
            done = subprocess.run(
                [self.systemctl, "start", "--no-ask-password", unit],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env={name: os.environ[name] for name in _PASSED_ON if name in os.environ},
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _refused(restore, f"{unit} cannot be started: {error}") from error
        if done.returncode:
            said = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
            why = said[0] if said else f"systemctl ended with {done.returncode}"
            raise _refused(restore, f"{unit} cannot be started: {why}")

    def _link(self, restore: Restore, target: bytes) -> None:
        """Link to the target, by which systemd knows where the unit may write."""
        path = os.fsencode(os.path.join(self.links, restore.id))
        try:
            if os.readlink(path) == target:
                return
            os.unlink(path)
        except FileNotFoundError:
            pass
        os.symlink(target, path)


def _refused(restore: Restore, why: str) -> TargetError:
    return TargetError(
        f"the daemon does not go on with restore {restore.id}: {why}",
        advice=f"`nightvault restore resume {restore.id} --wait`, as the user that began it",
    )
