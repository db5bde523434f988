"""The snapshot hooks of `deploy/hooks` on machines whose LVM, ZFS, Btrfs and mounts are fakes."""

from __future__ import annotations

import functools
import marshal
import os
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import Any

from msgspec import Struct

from tests.support.emulated import REPOSITORY

HOOKS = Path(REPOSITORY) / "deploy" / "hooks"
PROGRAMS = ("lvs", "lvcreate", "lvremove", "blkid", "zfs", "btrfs", "mount", "umount", "findmnt", "sleep")
KINDS = ("lvm", "zfs", "btrfs")


class Machine(Struct, frozen=True):
    """A volume of one kind that has something foreign beside it, and the hook that makes snapshots of it."""

    kind: str
    folder: Path
    volume: str
    point: str
    more: tuple[str, ...] = ()

    @classmethod
    def create(cls, kind: str, folder: Path, *, name: str = "home", point: str = "point") -> Machine:
        """A new one in `folder`."""
        bin_folder = folder / "bin"
        bin_folder.mkdir(parents=True)
        compiled = bin_folder / "compiled"  # once, not at each of a thousand starts
        compiled.write_bytes(marshal.dumps(_fake()))
        start = f"import marshal; exec(marshal.loads(open({str(compiled)!r}, 'rb').read()))"
        for program in PROGRAMS:
            (bin_folder / program).write_text(f"#!{sys.executable} -IS\n{start}\n")
            (bin_folder / program).chmod(0o755)
        made = cls(kind, folder, _volume(kind, folder, name), str(folder / point))
        made.write(_state(kind, made.volume))
        return made

    @property
    def hook(self) -> str:
        """The hook's program."""
        return str(HOOKS / f"{self.kind}-snapshot")

    @property
    def path(self) -> str:
        """PATH with the fakes first."""
        return f"{self.folder / 'bin'}:{os.environ['PATH']}"

    @property
    def state(self) -> dict[str, Any]:
        """What the fakes know."""
        known: dict[str, Any] = marshal.loads((self.folder / "bin" / "state").read_bytes())
        return known

    def write(self, state: dict[str, Any]) -> None:
        """What the fakes are to know."""
        (self.folder / "bin" / "state").write_bytes(marshal.dumps(state))

    def change(self, **values: object) -> None:
        """Change what they know."""
        self.write(self.state | values)

    def words(self, verb: str) -> list[str]:
        """The hook's command line."""
        return [self.hook, verb, self.volume, self.point, *self.more]

    def run(self, verb: str, *, job: str = "nightly") -> subprocess.CompletedProcess[str]:
        """Run the hook as nightvault does: in a session of its own, with nothing on its standard input."""
        return subprocess.run(
            self.words(verb),
            env={"PATH": self.path, "NIGHTVAULT_JOB": job},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            cwd="/",
            timeout=60,
        )

    def done(self, verb: str, *, job: str = "nightly") -> None:
        """Run the hook, which must succeed."""
        ran = self.run(verb, job=job)
        assert ran.returncode == 0, ran.stderr

    def refused(self, verb: str, *, job: str = "nightly") -> str:
        """Run the hook, which must fail and say why."""
        ran = self.run(verb, job=job)
        assert ran.returncode == 1, ran.stderr
        return ran.stderr

    def snapshots(self) -> set[str]:
        """All snapshots that there are, also foreign ones."""
        state = self.state
        if self.kind == "lvm":
            (volumes,) = state["lvm"].values()
            return {name for name, volume in volumes.items() if volume["origin"]}
        if self.kind == "zfs":
            return {name for names in state["zfs"].values() for name in names}
        return {
            path.rpartition("/")[2]
            for path, subvolume in state["btrfs"].items()
            if subvolume["parent"] != "-"
        }

    def ours(self) -> set[str]:
        """Those that bear nightvault's name."""
        return {name for name in self.snapshots() if "nightvault" in name}

    def mounts(self) -> list[list[str]]:
        """Target, source and options of everything that is mounted."""
        mounts: list[list[str]] = self.state["mounts"]
        return mounts

    def commands(self, program: str) -> list[list[str]]:
        """The words with which a program was called."""
        return [call[1:] for call in self.state["calls"] if call[0] == program]


@functools.cache
def _fake() -> CodeType:
    path = Path(__file__).parent / "fake_system.py"
    return compile(path.read_text(), str(path), "exec", dont_inherit=True)


def _volume(kind: str, folder: Path, name: str) -> str:
    if kind == "lvm":
        return f"vg-0/{name}"
    if kind == "zfs":
        return f"tank/{name}"
    (folder / "btrfs" / name).mkdir(parents=True)
    return str(folder / "btrfs" / name)


def _state(kind: str, volume: str) -> dict[str, Any]:
    """A volume with a foreign snapshot, and nothing mounted."""
    plain = {
        "tags": "",
        "origin": "",
        "segtype": "linear",
        "attr": "owi-aos---",
        "percent": "",
        "type": "ext4",
    }
    foreign = plain | {"origin": volume.partition("/")[2], "attr": "swi-a-s---", "tags": "mine"}
    above, _, name = volume.rpartition("/")
    origin = {"uuid": "origin", "parent": "-", "flags": "-"}
    mine = {"uuid": "mine", "parent": "origin", "flags": "readonly"}
    return {
        "lvm": {above: {name: plain, "before-upgrade": foreign}} if kind == "lvm" else {},
        "zfs": {volume: {"before-upgrade": "-"}} if kind == "zfs" else {},
        "btrfs": {volume: origin, f"{above}/before-upgrade": mine} if kind == "btrfs" else {},
        "mounts": [],
        "content": {},
        "frozen": {},
        "really": False,
        "busy": 0,
        "calls": [],
        "cut": None,
        "met": False,
    }
