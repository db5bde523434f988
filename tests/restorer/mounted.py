"""Restores amid real mounts: `python -m tests.restorer.mounted FOLDER`, in a mount namespace of its own.

It prints one JSON line: by case, what is left below the place and what was told.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backup.app.backups.source_warnings import own_in_sources
from backup.config.reading import config_of
from backup.model import Tier, VaultName
from backup.restorer.restore import RestorePlan, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice
from backup.restorer.writer.directories import way_to
from backup.source.filters import Filters
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, ManualClock

VAULTS = {"disk": "vault", "other": "apart"}
DELETING = Choice(delete=True)


def mount(*words: object) -> None:
    """Mount something; the namespace ends with this process."""
    subprocess.run(["mount", *map(str, words)], check=True)


def tmpfs(place: Path, *names: str) -> None:
    """An empty file system with these files on it."""
    place.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "tmpfs", place)
    for name in names:
        plant(place / name)


def plant(path: Path) -> None:
    """A file, and the directories that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name)


def below(place: Path) -> list[str]:
    """The paths of files below a place, mounts included."""
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


class Case:
    """One folder with a source and a vault."""

    def __init__(self, folder: Path, source: str = "source") -> None:
        self.folder, self.source, self.clock = folder, folder / source, ManualClock()
        self.source.mkdir(parents=True, exist_ok=True)

    def back_up(self, **filters: Any) -> None:
        """Make the snapshot that is restored afterwards."""
        vault = DirectoryVault(VaultName("disk"), str(self.folder / "vault"), self.clock)
        vault.create()
        places = self.folder / "site", vault, [self.source]
        self.site = Site.create(*places, clock=self.clock, filters=Filters(**filters))
        self.site.backup()

    def plan(self, choice: Choice = DELETING, target: Path = Path("/"), path: bytes = b"/") -> RestorePlan:
        """Plan a restore in place, or the restore of a path elsewhere."""
        world = replace(self.site.restore_world, spared=(str(self.source / "nv" / "spool"),))
        with way_to(str(target)) as way:
            return plan_restore(self.site.snapshot(), path, world, choice, target=way)

    def carry_out(self, plan: RestorePlan, target: Path = Path("/")) -> dict[str, Any]:
        """Restore, and tell what is left at the source and what was said."""
        world = self.site.restore_world
        restore = begin_restore(
            plan, os.fsencode(target), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [self.site.key]
        )
        report = deliver(restore, advance(restore, world), world)
        left = self.source if target == Path("/") else target
        return {
            "files": below(left),
            "removed": report.removed,
            "problems": [problem.detail for problem in report.problems],
            "left_alone": [sentence.replace(f"{self.folder}/", "") for sentence in plan.left_alone],
        }


def entered_by_none(case: Case) -> dict[str, Any]:
    """A job of one file system saves a mount point as an empty directory."""
    tmpfs(case.source / "disk", "one", "deep/two")
    plant(case.source / "top")
    case.back_up(one_file_system=True)
    plant(case.source / "stray")
    return case.carry_out(case.plan())


def named_alone(case: Case) -> dict[str, Any]:
    """The same, and somebody chooses just that directory."""
    tmpfs(case.source / "disk", "one", "deep/two")
    case.back_up(one_file_system=True)
    return case.carry_out(case.plan(Choice(delete=True, paths=(os.fsencode(case.source / "disk"),))))


def entered_by_the_job(case: Case) -> dict[str, Any]:
    """The job saves what is on the disk, and `--delete` stays on that of the source all the same."""
    tmpfs(case.source / "disk", "one")
    case.back_up()
    plant(case.source / "disk" / "stray")
    plant(case.source / "stray")
    return case.carry_out(case.plan())


def chosen_on_a_disk(case: Case) -> dict[str, Any]:
    """The same, and somebody chooses just that directory."""
    tmpfs(case.source / "disk", "one")
    case.back_up()
    plant(case.source / "disk" / "stray")
    plant(case.source / "stray")
    return case.carry_out(case.plan(Choice(delete=True, paths=(os.fsencode(case.source / "disk"),))))


def mounted_since(case: Case) -> dict[str, Any]:
    """A disk is mounted over a directory of the snapshot afterwards."""
    plant(case.source / "disk" / "old")
    case.back_up()
    tmpfs(case.source / "disk", "one", "deep/two")
    plant(case.source / "stray")
    return case.carry_out(case.plan())


def bound_since(case: Case) -> dict[str, Any]:
    """The same file system is mounted there: its device is the one around it."""
    plant(case.source / "disk" / "old")
    case.back_up()
    plant(case.folder / "elsewhere" / "one")
    mount("--bind", case.folder / "elsewhere", case.source / "disk")
    return case.carry_out(case.plan())


def over_the_source(case: Case) -> dict[str, Any]:
    """A disk is mounted over the source itself."""
    plant(case.source / "old")
    case.back_up()
    tmpfs(case.source, "one")
    return case.carry_out(case.plan())


def source_on_a_disk(case: Case) -> dict[str, Any]:
    """The source is a disk of its own, as `/home` often is: that is judged as always."""
    tmpfs(case.source, "top")
    case.back_up()
    plant(case.source / "stray")
    return case.carry_out(case.plan())


def source_below_a_disk(case: Case) -> dict[str, Any]:
    """The disk is mounted above the source."""
    tmpfs(case.source.parent)
    plant(case.source / "top")
    case.back_up()
    plant(case.source / "stray")
    return case.carry_out(case.plan())


def target_is_a_disk(case: Case) -> dict[str, Any]:
    """Whoever names a mount point as the target means what is on it."""
    plant(case.source / "top")
    case.back_up()
    out = case.folder / "out"
    tmpfs(out, "stray", "deep/stray")
    tmpfs(out / "deep" / "disk", "one")
    plan = case.plan(target=out, path=os.fsencode(case.source))
    return case.carry_out(plan, out)


def mounted_while_it_waits(case: Case) -> dict[str, Any]:
    """What was listed lies below a mount point by the time that it is removed."""
    plant(case.source / "disk" / "old")
    case.back_up()
    plant(case.source / "disk" / "stray")
    plant(case.source / "stray")
    plan = case.plan()
    tmpfs(case.source / "disk", "stray")
    return case.carry_out(plan)


def own_state(case: Case) -> dict[str, Any]:
    """The state directory is a folder of the source, mounted where it is used, and excluded."""
    inside = case.source / "nv"
    inside.mkdir()
    plant(case.source / "top")
    (case.folder / "site").mkdir()
    mount("--bind", inside, case.folder / "site")
    case.back_up(patterns=[str(inside)])
    plant(case.source / "stray")
    plant(case.source / "new" / "stray")
    return case.carry_out(case.plan())


def own_state_saved(case: Case) -> dict[str, Any]:
    """The same, and the snapshot has it: it is not written over, nor is anything in it removed."""
    inside = case.source / "nv"
    (case.folder / "site").mkdir()
    inside.mkdir()
    plant(case.source / "top")
    mount("--bind", case.folder / "site", inside)
    case.back_up()
    (case.source / "top").write_text("changed")
    plant(inside / "new")
    before = (inside / "inventory.sqlite").stat().st_ino
    done = case.carry_out(case.plan())
    assert (inside / "inventory.sqlite").stat().st_ino == before
    assert case.site.snapshots()
    (told,) = case.plan(target=inside, path=os.fsencode(inside)).left_alone
    assert "nightvault itself uses it" in told
    return done | {"files": [name for name in done["files"] if "/" not in name or name == "nv/new"]}


def unmounted_since(case: Case) -> dict[str, Any]:
    """A disk of the source is not mounted any more, and something else lies at its mount point."""
    tmpfs(case.source / "disk", "one", "deep/two")
    tmpfs(case.source / "here", "three")
    plant(case.source / "top")
    case.back_up()
    subprocess.run(["umount", case.source / "disk"], check=True)
    plant(case.source / "disk" / "local")
    plant(case.source / "disk" / "deep" / "local")
    plant(case.source / "stray")
    disk = case.source / "disk"
    elsewhere = case.plan(target=case.folder, path=os.fsencode(disk)).left_alone
    assert not [text for text in elsewhere if "mount point" in text], "only in place"
    beside = Choice(paths=(os.fsencode(case.source / "top"),))
    assert not case.plan(beside).left_alone, "only where something is written"
    below = case.plan(target=disk, path=os.fsencode(disk))
    assert below.confirmed.extraneous == ()
    assert len(below.left_alone) == 1
    assert len(case.plan(target=disk / "deep", path=os.fsencode(disk / "deep")).left_alone) == 1
    (told,) = case.plan(Choice()).left_alone
    assert told.endswith("the file system around it")
    return case.carry_out(case.plan())


def source_unmounted_since(case: Case) -> dict[str, Any]:
    """The disk that holds the whole source is away, and its mount point with it."""
    tmpfs(case.source.parent)
    plant(case.source / "top")
    case.back_up()
    subprocess.run(["umount", case.source.parent], check=True)
    shutil.rmtree(case.source.parent)
    (told,) = case.plan().left_alone
    case.source.mkdir(parents=True)
    plant(case.source / "local")
    return case.carry_out(case.plan()) | {"told": told.replace(f"{case.folder}/", "")}


def told_of_nesting(case: Case) -> dict[str, Any]:
    """A vault, and the state, that are mounts of folders inside a source: what the config is warned of."""
    job = {"name": "all", "vault": "disk", "sources": [str(case.source)]}
    places = {name: case.folder / name for name in ("vault", "state", "apart")}
    for name, place in places.items():
        place.mkdir()
        inside = case.source / "in side" / name
        inside.mkdir(parents=True)
        mount("--bind", inside if name != "apart" else place, place)
    vaults = [
        {"name": name, "kind": "directory", "path": str(places[where])} for name, where in VAULTS.items()
    ]
    document = {"state": {"dir": str(places["state"])}, "vault": vaults, "job": [job]}
    told = {}
    for name, more in (("plain", {}), ("excluded", {"exclude": ["in side"]})):
        config = config_of(document | {"job": [job | more]}, "nv.toml")
        warnings = own_in_sources(config, config.jobs[0], list(map(str, places.values())))
        told[name] = [warning.partition(" `")[0] for warning in warnings]
    return {name: [text.replace(f"{case.folder}/", "") for text in some] for name, some in told.items()}


CASES: dict[str, Callable[[Case], dict[str, Any]]] = {
    make.__name__: make
    for make in (
        entered_by_none,
        named_alone,
        entered_by_the_job,
        chosen_on_a_disk,
        mounted_since,
        bound_since,
        over_the_source,
        source_on_a_disk,
        source_below_a_disk,
        target_is_a_disk,
        mounted_while_it_waits,
        own_state,
        own_state_saved,
        told_of_nesting,
        unmounted_since,
        source_unmounted_since,
    )
}


ON_A_DISK = {source_below_a_disk, source_unmounted_since}


def main() -> None:
    """Run each case in a folder of its own."""
    folder = Path(sys.argv[1])
    found = {}
    for name, run in CASES.items():
        case = Case(folder / name, "above/source" if run in ON_A_DISK else "source")
        found[name] = run(case)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
