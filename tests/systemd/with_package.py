"""Cases of a machine on which the program comes from its package, in this order."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.systemd.editions import Builder
from tests.systemd.image import Image
from tests.systemd.machine import Machine
from tests.systemd.site import CONFIG_FILE
from tests.systemd.with_daemon import IS_ASLEEP, UNIT, commands_of

PLACE = "/srv/packages"
CONFIG = """\
[[vault]]
name = "disk"
kind = "directory"
path = "/srv/packaged"

[[job]]
name = "near"
vault = "disk"
sources = ["/srv/data"]
schedule = "daily at 02:30"
"""
WAITS = '[job.hooks]\nbefore = ["/usr/local/lib/waits"]\n'
HOOK = "#!/bin/sh\nuntil test -e /srv/go-on; do sleep 1; done\n"
COMPILES = f"""\
import subprocess
subprocess.run(["tar", "-xf", "{PLACE}/compiled.tar", "-C", "/"], check=True)
"""
"""In the place of Python's compileall, which takes minutes here: what it would make, made beforehand."""
KEPT = "find /etc/nightvault /root/recovery.key /var/lib/nightvault/keys -type f -exec sha256sum {} + | sort"


def prepare(image: Image, files: Path, scratch: Path) -> None:
    """Packages of two commits, and what the machine's Python compiles of each, as they are to lie below /."""
    place = files / PLACE.lstrip("/")
    place.mkdir(parents=True)
    with Builder(scratch) as builder:
        for name in ("first", "second"):
            builder.commit()
            (package,) = builder.build(scratch / name, "--distribution=debian13", "--machine=amd64")
            shutil.copy(package, place / f"{name}.deb")
            _compile(image.root, package, place / f"{name}.tar")


def _compile(root: Path, package: Path, to: Path) -> None:
    made = root / "tmp" / package.stem
    subprocess.run(["dpkg-deb", "-x", package, made], check=True)
    try:
        inside = f"/tmp/{package.stem}"
        words = ["-m", "compileall", "-q", "-j", "0", "-s", inside, "-p", "/", f"{inside}/opt/nightvault/lib"]
        subprocess.run(["chroot", root, "python3", *words], check=True)
        names = [str(path.relative_to(made)) for path in made.rglob("__pycache__")]
        subprocess.run(["tar", "-cf", to, "-C", made, *names], check=True)
    finally:
        shutil.rmtree(made)


def _apt(machine: Machine, name: str) -> str:
    """Install that package by apt."""
    machine.run(f"cp {PLACE}/{name}.tar {PLACE}/compiled.tar")
    return machine.run(f"apt-get -q -y install {PLACE}/{name}.deb 2>&1", seconds=600)


def an_installation_that_starts_nothing(machine: Machine) -> None:
    """Users, units and the command are there; no unit is enabled, and nothing runs."""
    machine.run(
        "systemctl disable --quiet --now aws.service; rm -r /opt/nightvault /usr/local/bin/nightvault"
    )
    machine.run("rm -rf /var/lib/nightvault /etc/nightvault /root/recovery.key")
    machine.write("/usr/lib/python3.13/compileall.py", COMPILES, "0644")
    _apt(machine, "first")
    assert machine.run("systemctl list-units --all --no-legend --plain 'nightvault*'") == ""
    states = machine.run("systemctl list-unit-files --no-legend 'nightvault*' | awk '{print $2}' | sort -u")
    assert set(states.split()) == {"disabled", "static"}
    assert machine.run("grep -lsx nightvault /proc/[0-9]*/comm", code=None) == ""
    machine.run("getent passwd nightvault nightvault-web")
    assert machine.run("systemd-analyze verify /usr/lib/systemd/system/nightvault.service 2>&1") == ""


def a_first_night(machine: Machine) -> None:
    """Set up, and enabled by hand, as docs/install.md says; the daemon makes the first backup when asked."""
    machine.run("install -d -m 0700 /srv/packaged")
    machine.write(CONFIG_FILE, CONFIG)
    machine.run("nightvault init --non-interactive --key-file /root/recovery.key 2>&1")
    for command in commands_of(machine.run("nightvault install --systemd 2>&1")):
        machine.run(f"{command} 2>&1")
    _run_now(machine)
    assert machine.run(f"systemctl is-enabled {UNIT}") == "enabled"


def _run_now(machine: Machine) -> None:
    mark = machine.mark()
    machine.run("nightvault run near 2>&1")
    machine.wait_for_word(mark, "job near: done")


def an_upgrade_in_a_run(machine: Machine) -> None:
    """The run goes on to its end; then the daemon ends by itself, and begins as the new version."""
    kept, versions = machine.run(KEPT), [machine.run("nightvault --version")]
    machine.write("/usr/local/lib/waits", HOOK, "0755")
    machine.write(CONFIG_FILE, CONFIG + WAITS)
    machine.run(f"systemctl reload {UNIT}; nightvault run near 2>&1")
    machine.wait(IS_ASLEEP)
    process, mark = machine.run(f"systemctl show {UNIT} -P MainPID"), machine.mark()
    _apt(machine, "second")
    assert machine.run(f"systemctl show {UNIT} -P MainPID") == process
    assert "asked to begin anew: as soon as nothing runs" in machine.said(mark)
    machine.run("touch /srv/go-on")
    ends = ("job near: done", "stopped", "Scheduled restart job", "started with 1 task")
    said = machine.wait_for_word(mark, *ends)
    assert sorted(ends, key=said.index) == list(ends)
    assert machine.run(f"systemctl show {UNIT} -P MainPID") != process
    versions.append(machine.run("nightvault --version"))
    assert len(set(versions)) == 2
    machine.write(CONFIG_FILE, CONFIG)
    machine.run(f"systemctl reload {UNIT}")
    _run_now(machine)
    assert machine.run("nightvault --json snapshots | grep -o '\"job\"' | wc -l") == "3"
    assert machine.run(KEPT) == kept


def a_removal_and_a_purge(machine: Machine) -> None:
    """The daemon is stopped, and its units go; config, keys, inventory and vault stay, also after a purge."""
    kept = machine.run(KEPT)
    machine.run("apt-get -q -y remove nightvault 2>&1")
    assert machine.run("systemctl list-units --all --no-legend --plain 'nightvault*'") == ""
    assert machine.run("systemctl list-unit-files --no-legend 'nightvault*'", code=None) == ""
    assert machine.run("grep -lsx nightvault /proc/[0-9]*/comm", code=None) == ""
    machine.run("test ! -e /opt/nightvault -a ! -e /usr/bin/nightvault")
    said = machine.run("apt-get -q -y purge nightvault 2>&1")
    assert "/var/lib/nightvault stays: it may hold the only keys to your backups" in said
    assert machine.run(KEPT) == kept
    machine.run("test -e /var/lib/nightvault/inventory.sqlite -a -d /srv/packaged/archives")


CASES = (
    an_installation_that_starts_nothing,
    a_first_night,
    an_upgrade_in_a_run,
    a_removal_and_a_purge,
)
