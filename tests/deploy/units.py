"""Commands run under the real settings of our systemd units without systemd: by `unshare` and `setpriv`.

Of a unit's sandbox this makes `ProtectSystem=strict`, `ReadWritePaths=` (symlinks followed, as systemd does),
`StateDirectory=`, `RuntimeDirectory=`, `PrivateTmp=`, `CapabilityBoundingSet=` and `NoNewPrivileges=`. Where
systemd-analyze and libseccomp are there, it makes the filters of system calls, too (`confined.py`).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from functools import cache
from pathlib import Path

from msgspec import Struct

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
_STAY = ("/proc", "/sys", "/dev")


def can_sandbox() -> bool:
    """Whether we are root and may make mount namespaces."""
    if os.geteuid() != 0 or shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return False
    tried = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


@cache
def can_confine() -> bool:
    """Whether the lists of system calls, and the library that refuses the others, are there."""
    return shutil.which("systemd-analyze") is not None and find_library("seccomp") is not None


class Unit(Struct, frozen=True):
    """A unit of `deploy/systemd`, with other places than the real ones."""

    file: Path
    settings: Mapping[str, Sequence[str]]
    places: Mapping[str, str]

    @classmethod
    def read(cls, name: str, places: Mapping[str, str], instance: str = "") -> Unit:
        """`places` are what stands for directories such as `/var/lib/nightvault`."""
        text = (UNITS / name).read_text().replace("%i", instance)
        settings: dict[str, list[str]] = {}
        for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
            settings.setdefault(key, []).append(value)
        return cls(UNITS / name, settings, places)

    def place(self, path: str) -> str:
        """What stands for a path of the unit here."""
        for real, here in self.places.items():
            if path == real or path.startswith(real + "/"):
                return here + path[len(real) :]
        return path

    @property
    def command(self) -> list[str]:
        """The words of `ExecStart=`."""
        return shlex.split(self.settings["ExecStart"][-1])

    @property
    def writable(self) -> list[str]:
        """Paths that a process of the unit may write below."""
        state = [f"/var/lib/{name}" for name in self._words("StateDirectory")]
        runtime = [f"/run/{name}" for name in self._words("RuntimeDirectory")]
        paths = [*state, *runtime, *self._words("ReadWritePaths")]
        return [os.path.realpath(self.place(path)) for path in paths]

    def sandboxed(self, words: Sequence[str]) -> list[str]:
        """The words of a command that runs these in the unit's sandbox."""
        assert self._words("ProtectSystem") == ["strict"]
        assert self._words("NoNewPrivileges") == ["true"]
        lines = ["set -e"]
        lines += [f"mount --rbind {shlex.quote(path)} {shlex.quote(path)}" for path in self.writable]
        # In the order of the mounts, so that what is mounted over others is met last.
        lines.append("cut -d' ' -f2 /proc/self/mounts | sort -u | while read -r point; do")
        lines.append(f'case "$point" in {"|".join(f"{path}|{path}/*" for path in _STAY)}) continue;; esac')
        lines.append('mount -o remount,bind,ro "$(printf %b "$point")"; done')
        lines += [f"mount -o remount,bind,rw {shlex.quote(path)}" for path in self.writable]
        if self._words("PrivateTmp") == ["true"]:
            lines += ["mount -t tmpfs none /tmp", "mount -t tmpfs none /var/tmp"]
        bounding = ",".join(f"+{name}" for name in self._capabilities())
        drop = ["setpriv", "--no-new-privs", "--inh-caps=-all", f"--bounding-set=-all,{bounding}"]
        lines.append(f"cd /; exec {shlex.join([*drop, *self.confined(words)])}")
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(lines)]

    def confined(self, words: Sequence[str]) -> list[str]:
        """The words of a command that runs these with the unit's filters of system calls, if that can be."""
        if not can_confine():
            return list(words)
        return [sys.executable, str(Path(__file__).with_name("confined.py")), str(self.file), "--", *words]

    def _words(self, key: str) -> list[str]:
        return [word for value in self.settings.get(key, ()) for word in value.split()]

    def _capabilities(self) -> list[str]:
        return [name.lower().removeprefix("cap_") for name in self._words("CapabilityBoundingSet")]
