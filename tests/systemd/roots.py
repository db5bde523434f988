"""Roots of Debian's releases, made once and kept outside the clone; scripts run in copies, as root."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.systemd.image import CACHE, apt_settings, mirror

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "dpkg-deb": "dpkg",
    "apt-ftparchive": "apt-utils",
    "gpg": "gpg",
}
_INCLUDED = "python3,systemd-standalone-sysusers"


def what_is_missing() -> str:
    """Why there can be no root here, in a sentence; "" if there can be."""
    if os.geteuid():
        return "only root can make roots of other systems"
    missing = [package for tool, package in TOOLS.items() if shutil.which(tool) is None]
    return f"needs Debian's {', '.join(missing)}" if missing else ""


def root_of(suite: str, there: Path) -> Path:
    """A fresh root of that release in the folder `there`."""
    base = os.environ.get(CACHE) or os.path.expanduser("~/.cache/nightvault-tests")
    kept = Path(base) / f"root-{suite}.tar"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        options = there.parent / f"{there.name}.conf"
        options.write_text(apt_settings())
        made = kept.with_name(f"{kept.name}.{os.getpid()}")
        subprocess.run(
            ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={_INCLUDED}",
             f"--aptopt={options}", "--format=tar", suite, str(made), mirror()],
            check=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        made.rename(kept)
    there.mkdir()
    subprocess.run(["tar", "-C", str(there), "-xf", str(kept)], check=True)
    return there


def run_in(root: Path, script: str, *, code: int = 0) -> str:
    """Run a script of sh in the root, with /proc and /dev of its own; what it printed."""
    proc, dev = shlex.quote(str(root / "proc")), shlex.quote(str(root / "dev"))
    mounts = f"mount -t proc proc {proc}; mount --rbind /dev {dev}"
    env = "env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive"
    inside = f"{mounts}; exec {env} chroot {shlex.quote(str(root))} sh -ec {shlex.quote(script)}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", inside],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout
