"""Snapshot hooks on fakes: made, mounted, taken down; cut at every command; nothing foreign touched."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.deploy.snapshots import HOOKS, KINDS, Machine
from tests.support import campaigns

pytestmark = pytest.mark.slow

FOREIGN = {"before-upgrade"}
EVERY = campaigns.share("NIGHTVAULT_TEST_HOOK_CUTS", 3)
HOWS = ("fails", "killed", "fails late", "stopped")


def before_the_first(how: str) -> int:
    """A step before the first command that is cut so: each is cut in some way, not each in all."""
    return HOWS.index(how) % EVERY + 1 - EVERY


@pytest.fixture(params=KINDS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    return Machine.create(request.param, tmp_path / "machine")


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(str(path) for path in HOOKS.iterdir())
    assert len(scripts) == 5
    ran = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_they_can_be_run_and_are_read_by_any_posix_shell() -> None:
    for path in HOOKS.iterdir():
        is_hook = path.name != "snapshot.sh"
        assert bool(path.stat().st_mode & stat.S_IXUSR) == is_hook
        assert not is_hook or path.read_text().startswith("#!/bin/sh\n")
        assert "rm -r" not in path.read_text()


def test_a_night(machine: Machine) -> None:
    machine.done("before")
    (name,) = machine.ours()
    assert "nightly" in name
    ((target, source, options),) = machine.mounts()
    assert target == machine.point
    assert name in source
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(options.split(","))
    machine.done("after")
    machine.done("finally")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)
    calls = [" ".join(call) for call in machine.state["calls"]]
    removals = [
        n
        for n, call in enumerate(calls)
        if call.startswith(("lvremove", "zfs destroy", "btrfs subvolume delete"))
    ]
    assert max(n for n, call in enumerate(calls) if call.startswith("umount")) < min(removals)


def test_the_same_path_every_night(machine: Machine) -> None:
    seen = set()
    for _ in range(3):
        machine.done("before")
        seen.add(machine.mounts()[0][0])
        machine.done("finally")
    assert seen == {machine.point}


def test_finally_where_nothing_is(machine: Machine) -> None:
    machine.done("finally")
    machine.done("finally")
    assert machine.snapshots() == FOREIGN
    assert not os.path.exists(machine.point)


def test_before_twice_leaves_one_of_today(machine: Machine) -> None:
    machine.done("before")
    machine.done("before")
    assert len(machine.ours()) == len(machine.mounts()) == 1
    machine.done("finally")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)


@pytest.mark.parametrize("how", HOWS)
def test_cut_at_every_command_of_before(machine: Machine, how: str) -> None:
    """Whatever goes wrong, `finally` leaves nothing, and so does a failure that is not a kill by itself."""
    at, met = before_the_first(how), True
    while met:
        at += EVERY
        machine.change(calls=[], met=False, cut={"at": at, "how": how})
        ran = machine.run("before")
        met = machine.state["met"]
        machine.change(cut=None)
        assert met == (ran.returncode != 0), (at, ran.stderr)
        assert len(machine.ours()) <= 1
        if how == "killed" or not met:
            machine.done("finally")
        assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN), at
    assert at > 6


@pytest.mark.parametrize("how", HOWS[:2])
def test_cut_at_every_command_of_finally_and_a_new_night(machine: Machine, how: str) -> None:
    """What a cut left is taken down by the next night's `before`, which then makes its own."""
    at, met = before_the_first(how), True
    machine.done("before")
    while met:
        at += EVERY
        machine.change(calls=[], met=False, cut={"at": at, "how": how})
        machine.run("finally")
        met = machine.state["met"]
        machine.change(cut=None)
        machine.done("before")
        assert len(machine.ours()) == len(machine.mounts()) == 1
    machine.done("after")
    machine.done("finally")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)
    assert at > 3


def test_a_crash_of_the_machine_leaves_a_snapshot_and_no_mount(machine: Machine) -> None:
    machine.done("before")
    machine.change(mounts=[])
    machine.done("before")
    assert len(machine.ours()) == len(machine.mounts()) == 1
    machine.done("finally")
    assert machine.snapshots() == FOREIGN


def test_two_jobs_of_one_volume_do_not_meet(machine: Machine, tmp_path: Path) -> None:
    other = Machine(machine.kind, machine.folder, machine.volume, str(tmp_path / "other"))
    machine.done("before", job="nightly")
    other.done("before", job="night")
    assert len(machine.ours()) == len(machine.mounts()) == 2
    machine.done("finally", job="nightly")
    other.done("after", job="night")
    assert [mount[0] for mount in machine.mounts()] == [other.point]
    other.done("finally", job="night")
    assert machine.snapshots() == FOREIGN


def test_what_bears_our_name_and_not_our_mark_is_left_alone(machine: Machine) -> None:
    machine.done("before")
    (name,) = machine.ours()
    state = machine.state
    state["mounts"] = []
    if machine.kind == "lvm":
        state["lvm"]["vg-0"][name]["tags"] = "mine"
    elif machine.kind == "zfs":
        state["zfs"][machine.volume][name] = ""
    else:
        state["btrfs"][f"{machine.volume}/{name}"]["parent"] = "another"
    machine.write(state)
    for verb in ("before", "finally", "after"):
        assert "not ours, and left alone" in machine.refused(verb)
    assert machine.ours() == {name}


@pytest.mark.parametrize("kind", ["lvm", "btrfs"])
def test_marked_but_of_another_kind_is_left_alone(kind: str, tmp_path: Path) -> None:
    machine = Machine.create(kind, tmp_path / "machine")
    machine.done("before")
    machine.change(mounts=[])
    (name,) = machine.ours()
    state = machine.state
    if kind == "lvm":
        state["lvm"]["vg-0"][name]["origin"] = ""  # somebody made it a volume of its own
    else:
        state["btrfs"][f"{machine.volume}/{name}"]["flags"] = "-"  # somebody writes to it
    machine.write(state)
    machine.change(calls=[])
    assert "left alone" in machine.refused("finally")
    assert not machine.commands("lvremove")
    assert all(words[1] == "show" for words in machine.commands("btrfs"))


def test_a_mount_point_that_is_something_else_s(machine: Machine) -> None:
    os.mkdir(machine.point)
    machine.change(mounts=[[machine.point, "/dev/sda7", "rw"]])
    assert "/dev/sda7 is mounted at" in machine.refused("before")
    machine.done("finally")
    assert machine.mounts() == [[machine.point, "/dev/sda7", "rw"]]
    assert machine.snapshots() == FOREIGN


def test_a_mount_point_that_something_else_took_meanwhile(machine: Machine) -> None:
    machine.done("before")
    machine.change(mounts=[[machine.point, "/dev/sda7", "rw"]])
    assert "does not show the snapshot" in machine.refused("after")
    machine.done("finally")
    assert machine.mounts() == [[machine.point, "/dev/sda7", "rw"]]
    assert machine.snapshots() == FOREIGN


def test_a_mount_point_that_is_not_empty(machine: Machine) -> None:
    os.mkdir(machine.point)
    (Path(machine.point) / "\n").write_text("keep me")
    assert "is not empty" in machine.refused("before")
    machine.done("finally")
    assert os.listdir(machine.point) == ["\n"]
    assert machine.snapshots() == FOREIGN


def test_a_mount_point_that_others_could_swap(machine: Machine, tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    other = Machine(machine.kind, machine.folder, machine.volume, str(open_to_all / "point"))
    assert "can be changed by, others" in other.refused("before")
    (tmp_path / "link").symlink_to(tmp_path)
    other = Machine(machine.kind, machine.folder, machine.volume, str(tmp_path / "link" / "point"))
    assert "without symlinks" in other.refused("before")
    assert machine.snapshots() == FOREIGN


def test_something_that_still_looks_is_waited_for(machine: Machine) -> None:
    machine.done("before")
    machine.change(busy=4)
    machine.done("finally")
    assert machine.snapshots() == FOREIGN
    assert [int(words[0]) for words in machine.commands("sleep")] == [1, 1, 2, 4]


def test_something_that_never_ends_looking_is_told_of_and_tried_again(machine: Machine) -> None:
    machine.done("before")
    machine.change(busy=5)
    assert "stays mounted" in machine.refused("finally")
    assert len(machine.ours()) == len(machine.mounts()) == 1
    machine.done("before")
    machine.done("finally")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)


@pytest.mark.parametrize("kind", KINDS)
def test_names_with_odd_characters(kind: str, tmp_path: Path) -> None:
    name = {"lvm": "a-b+c.d_e", "zfs": "A b:c-d.e_f", "btrfs": 'it\'s $HOME; `a` "b" *\\n ü'}[kind]
    machine = Machine.create(kind, tmp_path / "ma chine's *", name=name, point="po int's $x *")
    machine.done("before", job="a-b.c_D")
    assert len(machine.ours()) == len(machine.mounts()) == 1
    machine.done("after", job="a-b.c_D")
    machine.done("finally", job="a-b.c_D")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)


@pytest.mark.parametrize("job", ["", "a b", "a/b", "a\nb", "$(id)", "é", "a+b", "a:b"])
def test_a_job_s_name_that_nightvault_never_gives(machine: Machine, job: str) -> None:
    assert "NIGHTVAULT_JOB" in machine.refused("before", job=job)
    assert machine.state["calls"] == []


@pytest.mark.parametrize(
    ("kind", "volume"),
    [
        ("lvm", "vg-0"),
        ("lvm", "/dev/vg-0/home"),
        ("lvm", "vg-0/-f"),
        ("lvm", 'vg-0/x" || lv_name="home'),
        ("zfs", "tank/home@before-upgrade"),
        ("zfs", "-r"),
        ("zfs", "tank/"),
        ("btrfs", "btrfs/home"),
        ("btrfs", "/a\nb"),
    ],
)
def test_words_that_name_no_volume(kind: str, volume: str, tmp_path: Path) -> None:
    made = Machine.create(kind, tmp_path / "machine")
    machine = Machine(kind, made.folder, volume, made.point)
    for verb in ("before", "finally"):
        machine.refused(verb)
    assert machine.state["calls"] == []


@pytest.mark.parametrize(
    "words", [[], ["before"], ["destroy", "a", "/b"], ["before", "a"], ["finally", "a/b", "/b", "1", "a/b"]]
)
@pytest.mark.parametrize("kind", KINDS)
def test_words_that_are_none(kind: str, words: list[str], tmp_path: Path) -> None:
    machine = Machine.create(kind, tmp_path / "machine")
    environment = {"PATH": machine.path, "NIGHTVAULT_JOB": "nightly"}
    ran = subprocess.run([machine.hook, *words], env=environment, capture_output=True, check=False)
    assert ran.returncode == 1
    assert machine.state["calls"] == []


def test_a_volume_that_is_not_there(machine: Machine, tmp_path: Path) -> None:
    gone = {"lvm": "vg-0/none", "zfs": "tank/none", "btrfs": str(machine.folder / "none")}[machine.kind]
    other = Machine(machine.kind, machine.folder, gone, machine.point)
    other.refused("before")
    assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)


def test_after_that_finds_it_gone(machine: Machine) -> None:
    assert "is gone" in machine.refused("after")


class TestLvm:
    @pytest.fixture
    def machine(self, tmp_path: Path) -> Machine:
        return Machine.create("lvm", tmp_path / "machine")

    @pytest.mark.parametrize(
        ("attributes", "percent", "words"),
        [
            ("swi-I-s---", "100.00", "no longer valid"),
            ("swi-S-s---", "", "no longer valid"),
            ("swi---s---", "", "no longer valid"),
            ("swi-a-s---", "100.00", "ran full: give it more than 5G"),
            ("swi-a-s-p-", "3.10", "reports a failure"),
            ("Vwi-aotzF-", "3.10", "reports a failure"),
        ],
    )
    def test_one_that_did_not_last(self, machine: Machine, attributes: str, percent: str, words: str) -> None:
        machine = Machine(machine.kind, machine.folder, machine.volume, machine.point, ("5G",))
        machine.done("before")
        machine.done("after")
        state = machine.state
        state["lvm"]["vg-0"]["nightvault+nightly+home"] |= {"attr": attributes, "percent": percent}
        machine.write(state)
        assert words in machine.refused("after")
        machine.done("finally")
        assert machine.snapshots() == FOREIGN

    @pytest.mark.parametrize(
        ("attributes", "percent"), [("swi-aos---", "99.97"), ("Vwi-aotz--", "100.00"), ("Vwi-aotz-k", "")]
    )
    def test_one_that_did(self, machine: Machine, attributes: str, percent: str) -> None:
        machine.done("before")
        state = machine.state
        state["lvm"]["vg-0"]["nightvault+nightly+home"] |= {"attr": attributes, "percent": percent}
        machine.write(state)
        machine.done("after")

    @pytest.mark.parametrize(
        ("size", "words"),
        [((), ["-l", "10%ORIGIN"]), (("5G",), ["-L", "5G"]), (("20%FREE",), ["-l", "20%FREE"])],
    )
    def test_its_size(self, machine: Machine, size: tuple[str, ...], words: list[str]) -> None:
        Machine(machine.kind, machine.folder, machine.volume, machine.point, size).done("before")
        ((_, *made),) = machine.commands("lvcreate")
        assert made[:2] == words

    @pytest.mark.parametrize("size", ["-f", "5G --config x", "5;G"])
    def test_no_size(self, machine: Machine, size: str) -> None:
        other = Machine(machine.kind, machine.folder, machine.volume, machine.point, (size,))
        assert "is no size" in other.refused("before")

    def test_a_thin_volume(self, machine: Machine) -> None:
        state = machine.state
        state["lvm"]["vg-0"]["home"]["segtype"] = "thin"
        machine.write(state)
        machine.done("before")
        assert machine.commands("lvcreate")[0][:2] == ["-s", "-kn"]
        machine.done("after")
        machine.done("finally")

    def test_xfs_and_btrfs_on_it(self, machine: Machine) -> None:
        state = machine.state
        state["lvm"]["vg-0"]["home"]["type"] = "xfs"
        machine.write(state)
        machine.done("before")
        assert machine.mounts()[0][2] == "ro,nosuid,nodev,noexec,nouuid"
        state["lvm"]["vg-0"]["home"]["type"] = "btrfs"
        machine.write(state)
        assert "use btrfs-snapshot" in machine.refused("before")
        assert (machine.mounts(), machine.snapshots()) == ([], FOREIGN)


def test_btrfs_in_a_folder_of_its_own(tmp_path: Path) -> None:
    made = Machine.create("btrfs", tmp_path / "machine")
    folder = tmp_path / "snapshots"
    folder.mkdir()
    machine = Machine(made.kind, made.folder, made.volume, made.point, (str(folder),))
    machine.done("before")
    assert os.listdir(folder) == [".nightvault+nightly+" + re.sub("[^A-Za-z0-9_.-]", "+", made.volume[1:])]
    machine.done("finally")
    assert os.listdir(folder) == []
    folder.chmod(0o777)
    assert "can be changed by, others" in machine.refused("before")
