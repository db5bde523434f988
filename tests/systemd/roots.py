"""Roots of Debian's releases, made once and kept outside the clone; scripts run in copies, as root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.systemd.image import CACHE, apt_settings, mirror

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "dpkg-deb": "dpkg",
    "apt-ftparchive": "apt-utils",
    "gpg": "gpg",
}
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ARM_TOOLS = {"qemu-aarch64-static": "qemu-user-static", "arch-test": "arch-test"}
"""What roots for another processor need, too."""
_SECONDS = 1200  # of a script in a root; alone the longest takes one minute, by QEMU's ARM five
_INCLUDED = "python3,systemd-standalone-sysusers"


def what_is_missing(*, more: Mapping[str, str] | None = None) -> str:
    """Why there can be no root here, in a sentence; "" if there can be."""
    if os.geteuid():
        return "only root can make roots of other systems"
    tools = {**TOOLS, **(more or {})}
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    return f"needs Debian's {', '.join(missing)}" if missing else ""


def root_of(suite: str, there: Path, machine: str = "amd64") -> Path:
    """A fresh root of that release in the folder `there`."""
    base = os.environ.get(CACHE) or os.path.expanduser("~/.cache/nightvault-tests")
    kept = Path(base) / f"root-{suite}{'' if machine == 'amd64' else f'-{machine}'}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        options = there.parent / f"{there.name}.conf"
        options.write_text(apt_settings())
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        words = [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={_INCLUDED}"),
            *(f"--aptopt={options}", f"--architectures={machine}", "--format=tar"),
            *(suite, str(made), mirror()),
        ]
        by = ["unshare", *_own_ids(machine), "--mount", "--pid", "--fork", "--kill-child"]
        subprocess.run(
            [*by, "sh", "-ec", f"{_register(machine)}exec {shlex.join(words)}"],
            check=True,
            stdin=subprocess.DEVNULL,
        )
        made.rename(kept)
    there.mkdir()
    subprocess.run(["tar", "-C", str(there), "-xf", str(kept)], check=True)
    return there


def run_in(root: Path, script: str, *, code: int = 0, machine: str = "amd64") -> str:
    """Run a script of sh in the root, with /proc and /dev of its own; what it printed."""
    proc, dev = shlex.quote(str(root / "proc")), shlex.quote(str(root / "dev"))
    mounts = f"{_register(machine)}mount -t proc proc {proc}; mount --rbind /dev {dev}"
    env = f"env -i {PATH} HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive"
    inside = f"{mounts}; exec {env} chroot {shlex.quote(str(root))} sh -ec {shlex.quote(script)}"
    by = ["unshare", *_own_ids(machine), "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*by, "sh", "-ec", inside],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        timeout=_SECONDS,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def _own_ids(machine: str) -> list[str]:
    """For another processor's programs: a user namespace, which may say how these are run in it."""
    same = "0:0:65536"
    return [] if machine == "amd64" else ["--user", f"--map-users={same}", f"--map-groups={same}"]


def _register(machine: str) -> str:
    """Have the kernel run programs of 64-bit ARM by QEMU, in this namespace; "" for this machine's own."""
    if machine == "amd64":
        return ""
    magic = "7f454c460201010000000000000000000200b700"
    mask = "ffffffffffffff00fffffffffffffffffeffffff"
    bytes_of = ["".join(f"\\x{byte:02x}" for byte in bytes.fromhex(word)) for word in (magic, mask)]
    line = f":qemu-aarch64:M::{bytes_of[0]}:{bytes_of[1]}:/usr/bin/qemu-aarch64-static:F"
    there = "/proc/sys/fs/binfmt_misc"
    return f"mount -t binfmt_misc none {there}; printf %s {shlex.quote(line)} > {there}/register; "
