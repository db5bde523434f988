"""Jobs that read snapshots: by the command with hooks on fakes, and a real Btrfs where there can be one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.catalogs.hooks import Command, Hook, Hooks
from backup.kinds import Outcome
from tests.deploy.snapshots import HOOKS, KINDS, Machine
from tests.support.backup_results import restored
from tests.support.backups import Site
from tests.support.loop_devices import loop_device
from tests.support.trees import assert_same_tree, snapshot_of

pytestmark = [pytest.mark.slow, pytest.mark.real]


def can_mount() -> bool:
    """Whether root may mount here, in a mount namespace of its own."""
    unshare = shutil.which("unshare")
    words = ["unshare", "--mount", "mount", "--bind", "/", "/"]
    return bool(unshare) and not subprocess.run(words, capture_output=True, check=False).returncode


@pytest.mark.parametrize("kind", KINDS)
def test_two_nights_by_the_command(kind: str, tmp_path: Path) -> None:
    """Each saves what the volume was when `before` ran, under the same path, and leaves nothing behind."""
    machine = Machine.create(kind, tmp_path / "machine")
    live = tmp_path / "live"
    live.mkdir()
    (live / "file").write_text("first")
    really = can_mount()
    machine.change(content={machine.volume: str(live)}, really=really)
    nightvault = installed(tmp_path, machine, live, ["unshare", "--mount"] if really else [])
    key = tmp_path / "recovery.key"
    nightvault("init", "--key-file", key, "--non-interactive")

    nightvault("backup", "nightly")
    first = json.loads(nightvault("--json", "snapshots"))[0]["id"]
    (live / "file").write_text("second")
    nightvault("backup", "nightly")
    assert (live / "file").read_text() == "changed in the meantime"
    assert (machine.mounts(), machine.snapshots()) == ([], {"before-upgrade"})
    assert os.listdir(machine.point) == []

    for snapshot, content in ((first, "first"), ("latest", "second")):
        target = tmp_path / f"out-{content}"
        nightvault("restore", f"{snapshot}:{machine.point}", "--target", target, "--key", key, "--wait")
        assert [path.read_text() for path in target.rglob("file")] == [content]


def installed(tmp_path: Path, machine: Machine, live: Path, started_by: list[str]) -> Callable[..., str]:
    """nightvault with a job of the machine's mount point; the volume changes once the snapshot is made."""
    changes = ["/bin/sh", "-c", f"printf 'changed in the meantime' > '{live}/file'"]
    hooks = {
        "before": [machine.words("before"), changes],
        "after": machine.words("after"),
        "finally": machine.words("finally"),
    }
    config = tmp_path / "config.toml"
    config.write_text(
        f'[state]\ndir = "{tmp_path}/state"\n'
        f'[[vault]]\nname = "cold"\nkind = "directory"\npath = "{tmp_path}/vault"\n'
        f'[[job]]\nname = "nightly"\nvault = "cold"\nsources = ["{machine.point}"]\n[job.hooks]\n'
        + "".join(f"{name} = {json.dumps(words)}\n" for name, words in hooks.items())
    )
    program = str(Path(sys.executable).parent / "nightvault")

    def nightvault(*words: object) -> str:
        ran = subprocess.run(
            [*started_by, program, "--config", str(config), *map(str, words)],
            env={"PATH": machine.path, "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    return nightvault


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A subvolume of a real Btrfs."""
    if shutil.which("mkfs.btrfs") is None or shutil.which("btrfs") is None:
        pytest.skip("btrfs-progs is not installed")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(256 * 1024 * 1024)
    with loop_device(image) as device:
        subprocess.run(["mkfs.btrfs", "-q", device], check=True)
        disk = tmp_path / "the disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", device, str(disk)], capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"this kernel mounts no Btrfs: {mounted.stderr.strip()}")
        try:
            subprocess.run(["btrfs", "-q", "subvolume", "create", str(disk / "höme")], check=True)
            yield disk / "höme"
        finally:
            subprocess.run(
                ["umount", "--recursive", str(tmp_path / "po int")], capture_output=True, check=False
            )
            subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def job(site: Site, volume: Path, tmp_path: Path) -> Site:
    """A job of snapshots of the subvolume, after each of which the file changes."""
    point = tmp_path / "po int"
    environment = {"PATH": os.environ["PATH"], "NIGHTVAULT_JOB": "job"}

    def hook(verb: str) -> Command:
        return Command((str(HOOKS / "btrfs-snapshot"), verb, str(volume), str(point)), 60)

    write = Command(("/bin/sh", "-c", f"date +%N > '{volume}/file'"), 20)
    commands = {
        Hook.BEFORE: [hook("before"), write],
        Hook.AFTER: [hook("after")],
        Hook.FINALLY: [hook("finally")],
    }
    site = site.with_job(sources=[point])
    site.job = replace(site.job, hooks=Hooks(commands, environment))
    return site


def subvolumes(volume: Path) -> int:
    listed = subprocess.run(["btrfs", "subvolume", "list", str(volume)], capture_output=True, check=True)
    return len(listed.stdout.splitlines())


def test_a_real_btrfs(job: Site, volume: Path, tmp_path: Path) -> None:
    """The snapshot is what is saved; another device number makes nothing new of the same inodes."""
    (volume / "file").write_text("first")
    (volume / "deep").mkdir()
    (volume / "deep" / "one").write_bytes(os.urandom(10_000))
    os.link(volume / "deep" / "one", volume / "deep" / "two")
    (volume / "quiet").write_text("never changed")
    before = snapshot_of(volume)
    first = job.backup()
    assert (first.outcome, first.problems, first.warnings) == (Outcome.DONE, (), ())
    assert first.files == 4
    assert_same_tree(restored(job, volume.parent.parent / "x"), before)
    assert not os.path.ismount(tmp_path / "po int")
    assert subvolumes(volume) == 1

    now = (volume / "file").read_text()
    second = job.backup()
    assert second.outcome is Outcome.DONE
    assert second.files_read == 1
    assert (restored(job, volume.parent.parent / "x") / "file").read_text() == now
    assert subvolumes(volume) == 1


def test_a_real_btrfs_after_a_crash(job: Site, volume: Path, tmp_path: Path) -> None:
    """What a dead run left is taken down: mounted, as after a kill, and unmounted, as after a power cut."""
    (volume / "file").write_text("x")
    words = [str(HOOKS / "btrfs-snapshot"), "before", str(volume), str(tmp_path / "po int")]
    environment = {"PATH": os.environ["PATH"], "NIGHTVAULT_JOB": "job"}
    for is_mounted in (True, False):
        subprocess.run(words, env=environment, check=True)
        assert os.path.ismount(tmp_path / "po int")
        with pytest.raises(OSError, match="Read-only"):
            (tmp_path / "po int" / "file").write_text("y")
        if not is_mounted:
            subprocess.run(["umount", str(tmp_path / "po int")], check=True)
        assert job.backup().outcome is Outcome.DONE
        assert subvolumes(volume) == 1
    made = volume / "mine"
    subprocess.run(["btrfs", "-q", "subvolume", "snapshot", "-r", str(volume), str(made)], check=True)
    assert job.backup().outcome is Outcome.DONE
    assert made.exists()
