"""The disk of a small Debian with systemd and what nightvault needs, made once and kept outside the clone.

    python -m tests.systemd.image       # make it, if it is not there; prints its folder

Debian comes from the mirror that apt of this machine knows (mmdebstrap), libraries from where its pip finds
them; `mke2fs -d` makes a file system of them without mounting one. It has the packages that an admin of a
server installs, QEMU's guest agent, and an environment in /opt/nightvault with nightvault's pinned libraries,
but not nightvault: each run of the tests brings its own wheel.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from msgspec import Struct

from tests.support.emulated import REPOSITORY

CACHE = "NIGHTVAULT_MACHINE_CACHE"
"""The variable with the folder that images are kept in; ~/.cache/nightvault-tests without it."""

SUITE, PYTHON = "trixie", "3.13"
PACKAGES = (
    *("linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "python3-venv"),
    "fuse3",
    "qemu-guest-agent",  # runs what tests ask for
)
TOOLS = {
    "apt-get": "apt",
    "mke2fs": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "qemu-system-x86_64": "qemu-system-x86",
}
"""The programs that making or booting an image needs, and Debian's packages with them."""

DISK, KERNEL, INITRD, ROOT = "disk.ext4", "vmlinuz", "initrd.img", "root"
_SIZE = "4G"  # of the file system; the file itself is sparse
_MINUTES = 20
_UNUSED_DAYS = 14  # after that an image of another state of the repository goes
_EXTRAS = "emulator,mount,web"
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")


class NoImageError(Exception):
    """An image cannot be made here; its text is the reason, in a sentence."""


class Image(Struct, frozen=True):
    """A made image; its files are never written to."""

    folder: Path

    @property
    def disk(self) -> Path:
        """A raw ext4 file system, the root of the machine."""
        return self.folder / DISK

    @property
    def kernel(self) -> Path:
        """Its kernel."""
        return self.folder / KERNEL

    @property
    def initrd(self) -> Path:
        """What the kernel begins with."""
        return self.folder / INITRD

    @property
    def root(self) -> Path:
        """As much of the machine's root as its Python needs, to compile for it without the machine."""
        return self.folder / ROOT

    def install(self, folder: Path) -> None:
        """Install the program of this checkout from its wheel into `folder`, as it is to lie below /.

        It is compiled by the machine's own Python, but here, which takes two seconds in place of a minute.
        """
        with tempfile.TemporaryDirectory(dir=self.root / "tmp") as place:
            _build_wheel(Path(place))
            (wheel,) = Path(place).glob("*.whl")
            inside = Path("/tmp") / Path(place).name
            pip = ("/opt/nightvault/bin/pip", "install", "--quiet", "--disable-pip-version-check")
            into = ("--no-index", "--no-deps", f"--root={inside / 'made'}")
            _run("chroot", self.root, *pip, *into, inside / wheel.name)
            shutil.copytree(Path(place) / "made", folder, symlinks=True, dirs_exist_ok=True)


def what_is_missing() -> str | None:
    """The reason for which no image can be made or booted here; None if nothing is known to be missing."""
    missing = sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})
    if missing:
        return f"needs {', '.join(missing)} (`apt-get install {' '.join(missing)}`)"
    if os.geteuid() != 0:
        return "needs root: Debian is put together in a chroot"
    if os.uname().machine != "x86_64":
        return "the machine is one of x86_64"
    return None


def prepared() -> Image:
    """The image for this state of the repository, made if it is not there. `NoImageError` where it cannot."""
    place = _cache() / _key()
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            _make(place)
        os.utime(place)
        for other in place.parent.glob("machine-*"):
            if other.stat().st_mtime < place.stat().st_mtime - _UNUSED_DAYS * 86400:
                shutil.rmtree(other)
    return Image(place)


def _cache() -> Path:
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "nightvault-tests")


def _key() -> str:
    """A name that changes with everything that goes into an image."""
    parts = [path.read_bytes() for path in (Path(__file__), REPOSITORY / "constraints.txt")]
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = json.dumps([project["dependencies"], project["optional-dependencies"]])
    return "machine-" + hashlib.sha256(b"".join([*parts, wanted.encode()])).hexdigest()[:12]


def _make(place: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="making-", dir=place.parent) as folder:
        work = Path(folder)
        root, made = work / "root", work / "made"
        made.mkdir()
        _download_libraries(work / "wheels")
        _put_debian_together(root, work)
        _set_up(root)
        for name in (KERNEL, INITRD):
            shutil.copy((root / name).resolve(), made / name)
        _run("mke2fs", "-q", "-t", "ext4", "-d", root, made / DISK, _SIZE)
        for name in ("boot", "var", "usr/lib/modules", "usr/share/doc"):
            shutil.rmtree(root / name)
        root.rename(made / ROOT)
        made.rename(place)


def _download_libraries(folder: Path) -> None:
    """The pinned libraries as the wheels of the machine's Python, each with its hash compared."""
    platforms = [f"--platform={name}" for name in _PLATFORMS]
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    wanted = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}", *platforms]
    _run(*words, *wanted, "--dest", folder, "-r", REPOSITORY / "constraints.txt")
    _build_wheel(folder)


def _build_wheel(folder: Path) -> None:
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPOSITORY)


def _put_debian_together(root: Path, work: Path) -> None:
    """A minimal Debian in the folder `root`, with the libraries in an environment of its own."""
    options = work / "apt.conf"
    options.write_text(apt_settings())
    environment = f"""
python3 -m venv /opt/nightvault
cd /opt/nightvault/bin
./pip install --quiet --disable-pip-version-check --no-index --find-links /wheels 'nightvault[{_EXTRAS}]'
./pip uninstall --quiet --yes nightvault
ln -s /opt/nightvault/bin/nightvault /usr/local/bin/nightvault
"""
    wheels = shlex.quote(str(work / "wheels"))
    hooks = [
        f"copy-in {wheels} /",
        f'env -i PATH="$PATH" chroot "$1" sh -ec {shlex.quote(environment)}',
        'rm -r "$1/wheels"',
    ]
    _run(
        *("mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=minbase"),
        *(f"--include={','.join(PACKAGES)}", f"--aptopt={options}"),
        *(f"--customize-hook={hook}" for hook in hooks),
        *(SUITE, root, mirror()),
    )


def apt_settings() -> str:
    """How apt reaches its mirrors: proxies, certificates and the like, as on this machine."""
    dumped = _run("apt-config", "dump").splitlines()
    return "\n".join(line for line in dumped if line.startswith("Acquire::")) + "\n"


def mirror() -> str:
    """The address of Debian's packages, as apt of this machine has it."""
    form = "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"
    for line in _run("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines():
        *whose, address = line.split("|")
        if whose == ["Debian", "Debian", "main"]:
            return address
    raise NoImageError("apt of this machine knows no mirror of Debian (`apt-get update` makes it look)")


def _set_up(root: Path) -> None:
    """The few settings of the machine: its name, a journal that is kept, no work of its own at odd times."""
    (root / "etc" / "machine-id").write_text(f"{uuid4().hex}\n")
    (root / "etc" / "hostname").write_text("machine\n")
    (root / "etc" / "hosts").write_text("127.0.0.1 localhost machine\n")
    (root / "etc" / "fstab").write_text("/dev/vda / ext4 rw 0 1\n")
    (root / "var" / "log" / "journal").mkdir(exist_ok=True)
    for name in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim"):
        (root / "etc" / "systemd" / "system" / f"{name}.timer").symlink_to("/dev/null")


def _run(*words: str | Path, cwd: Path | None = None) -> str:
    """Run a program, and what it printed. `NoImageError` with its last words if it failed."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_MINUTES * 60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoImageError(str(error)) from error
    if done.returncode:
        raise NoImageError(f"{words[0]} failed: {_last(done.stderr.splitlines())}")
    return done.stdout


def _last(lines: Sequence[str], count: int = 5) -> str:
    return " / ".join(re.sub(r"\s+", " ", line) for line in lines[-count:])


if __name__ == "__main__":
    print(prepared().folder)
