"""A choice is kept with its restore: later sittings judge nothing anew, and remove only what was listed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.inventory.retrievals import Restore
from backup.model import MIB, Tier
from backup.restorer.restore import RestoreReport, advance, begin_restore, deliver, plan_restore
from backup.restorer.selection.choice import Choice, Overwrite
from backup.restorer.target.directories import Target, way_to
from tests.support.backups import Site
from tests.support.checking import proof_of, query
from tests.support.doubles import Fault, FaultyVault, PowerCut
from tests.support.trees import assert_same_tree, snapshot_of


def begin(site: Site, out: Path, choice: Choice) -> Restore:
    world = site.restore_world
    with way_to(str(out)) as way:
        plan = plan_restore(site.snapshot(), site.job.sources[0], world, choice, target=way)
    return begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, keys=lambda: [site.key])


def finish(site: Site, restore: Restore) -> RestoreReport:
    return deliver(restore, advance(restore, site.restore_world), site.restore_world)


def test_a_directory_of_the_same_name_deeper_in_what_else_was_chosen(
    site: Site, source: Path, out: Path
) -> None:
    """Found by docs/restore.md's own example: after what lies deep, what lies at the top is no way out."""
    for path in ("nginx/ssl/deep.pem", "nginx/nginx.conf", "ssl/site.pem", "ssl/site.txt"):
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_text(path)
    site.backup()
    choice = Choice(paths=(os.fsencode(source / "nginx"),), globs=(f"{source}/ssl/*.pem",))
    report = finish(site, begin(site, out, choice))
    assert report.problems == ()
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["nginx/nginx.conf", "nginx/ssl/deep.pem", "ssl/site.pem"]


def test_what_came_after_the_question_is_not_removed(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out)
    (out / "sub" / "old").mkdir()
    (out / "sub" / "old" / "listed").write_text("x")
    restore = begin(full, out, Choice(delete=True))
    (out / "sub" / "old" / "later").write_text("x")
    (out / "later").write_text("x")
    report = finish(full, restore)
    assert report.removed == 1
    assert [os.fsdecode(one.path) for one in report.problems] == ["sub/old"]
    assert (out / "later").exists()
    assert sorted(path.name for path in (out / "sub" / "old").iterdir()) == ["later"]


def test_what_turned_into_a_symlink_meanwhile_leads_nowhere(full: Site, out: Path, tmp_path: Path) -> None:
    full.restore("latest", out)
    elsewhere = tmp_path / "elsewhere"
    (out / "old").mkdir()
    (out / "old" / "listed").write_text("x")
    restore = begin(full, out, Choice(delete=True))
    (out / "old").rename(elsewhere)
    (out / "old").symlink_to(elsewhere)
    finish(full, restore)
    assert (elsewhere / "listed").exists()


def test_what_was_unchanged_is_not_retrieved_and_stays_so_in_later_sittings(
    full: Site, source: Path, out: Path
) -> None:
    full.restore("latest", out)
    (out / "sub" / "deep" / "small-7").unlink()
    restore = begin(full, out, Choice(overwrite=Overwrite.IF_CHANGED))
    known = advance(restore, full.restore_world)
    assert sum(one.extent.length for one in known) < 2 * MIB
    (out / "large").write_bytes(b"changed after the look: it was agreed that it stays")
    report = finish(full, restore)
    assert (report.problems, report.files) == ((), 1)
    assert (out / "large").read_bytes().startswith(b"changed after")
    full.restore("latest", out)
    assert_same_tree(out, source)


@pytest.mark.parametrize("what", ["file", "symlink", "directory"])
def test_never_replaces_what_appears_while_it_waits(full: Site, out: Path, what: str) -> None:
    restore = begin(full, out, Choice(overwrite=Overwrite.NEVER))
    out.mkdir()
    place = out / "large"
    if what == "file":
        place.write_text("mine")
    elif what == "symlink":
        place.symlink_to("/nowhere")
    else:
        place.mkdir()
    before = os.lstat(place)
    report = finish(full, restore)
    assert [one.path for one in report.problems] == [b"large"]
    assert os.lstat(place).st_ino == before.st_ino
    assert not [name for name in os.listdir(out) if name.startswith(".nightvault-")]


@pytest.mark.parametrize("choice", [{"paths": True}, {"overwrite": Overwrite.NEVER}], ids=["way", "never"])
def test_directories_are_as_they_were_when_the_power_goes_before_the_first_record(
    site: Site, source: Path, out: Path, choice: dict[str, Any]
) -> None:
    deep = source / "way" / "to"
    deep.mkdir(parents=True)
    (deep / "file").write_bytes(b"x" * 1000)
    for place, mode, day in ((deep, 0o750, 5), (deep.parent, 0o711, 6)):
        place.chmod(mode)
        os.utime(place, (day * 86_400, day * 86_400))
    site.backup()
    chosen = Choice(**(choice | ({"paths": (os.fsencode(deep / "file"),)} if "paths" in choice else {})))
    restore = begin(site, out, chosen)
    dark = site.reopen(FaultyVault(site.vault, Fault("fetch", PowerCut("before the first record"))))
    with pytest.raises(PowerCut):
        finish(dark, restore)
    assert (out / "way").stat().st_mode & 0o777 == 0o700
    site = dark.reopen(site.vault)
    assert finish(site, restore).problems == ()
    assert_same_tree(snapshot_of(deep.parent), out / "way")


def test_directories_of_others_keep_their_modes(site: Site, source: Path, out: Path) -> None:
    (source / "way").mkdir()
    (source / "way" / "file").write_bytes(b"x" * 1000)
    site.backup()
    (out / "way").mkdir(parents=True, mode=0o700)
    os.utime(out / "way", (86_400, 86_400))
    report = finish(site, begin(site, out, Choice(paths=(os.fsencode(source / "way" / "file"),))))
    assert report.problems == ()
    assert (out / "way").stat().st_mode & 0o777 == 0o700


def test_reading_back_finds_what_a_bad_disk_did(
    full: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Target.syncing

    def syncing_and_spoiling(self: Target, paths: Sequence[bytes]) -> Callable[[], None]:
        sync = real(self, paths)

        def sync_and_spoil() -> None:
            sync()
            with (out / "large").open("r+b") as file:
                file.seek(MIB)
                file.write(b"bad disk")

        return sync_and_spoil

    monkeypatch.setattr(Target, "syncing", syncing_and_spoiling)
    report = finish(full, begin(full, out, Choice(verify=True)))
    assert [(one.path, "read back" in one.detail) for one in report.problems] == [(b"large", True)]
    assert report.verified == report.files - 3 - 1  # two symlinks and a FIFO have no content
    assert proof_of(full).opened < frames_of_data(full), "of its frames nothing counts"


def frames_of_data(site: Site) -> int:
    """Bytes of all frames that hold files."""
    sql = "SELECT sum(f.sealed_length) FROM frames f JOIN archives a ON a.number = f.archive WHERE a.kind = 1"
    return int(query(site, sql)[0][0])


def test_what_was_read_back_counts_as_opened(full: Site, out: Path) -> None:
    finish(full, begin(full, out / "first", Choice()))
    assert proof_of(full).last_opened is None, "it was not compared"
    finish(full, begin(full, out / "second", Choice(verify=True)))
    proof = proof_of(full)
    assert (proof.opened, proof.last_opened) == (frames_of_data(full), full.clock.now())


def test_what_was_kept_counts_for_nothing(full: Site, out: Path) -> None:
    """It was compared with names of chunks, and nothing of it came from the vault."""
    full.restore("latest", out)
    (out / "large").unlink()
    again = Choice(overwrite=Overwrite.IF_CHANGED, verify=True)
    finish(full, begin(full, out, again))
    assert 0 < proof_of(full).opened < frames_of_data(full)


def test_the_last_session_counts_what_earlier_ones_brought(framed: Site, out: Path) -> None:
    restore = begin(framed, out, Choice(verify=True))
    framed = replace(framed, checkpoint=MIB)
    cut = framed.reopen(FaultyVault(framed.vault, Fault("fetch", PowerCut("in the middle"), skip=3)))
    with pytest.raises(PowerCut):
        finish(cut, restore)
    assert proof_of(cut).last_opened is None
    site = cut.reopen(framed.vault)
    assert finish(site, restore).problems == ()
    assert proof_of(site).opened == frames_of_data(site)
