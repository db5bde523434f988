"""A restore in several sittings: what was written is not fetched again, whatever ended the sitting before."""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from backup.errors import DeniedError, IntegrityError, InterruptedRunError, LimitRefusedError
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome
from backup.restorer.frame_opener import Opened
from backup.restorer.restore import RestoreReport, cancel, deliver, room_at
from backup.restorer.writer.assemble import Assembly
from tests.restorer.sites import begun, leftovers
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, PowerCut
from tests.support.trees import assert_same_tree


@pytest.fixture
def often(framed: Site) -> None:
    """Record after each frame, not after hundreds of megabytes."""
    framed.checkpoint = 1


@pytest.fixture
def whole(framed: Site, out: Path) -> RestoreReport:
    """What a restore in one sitting reports."""
    return framed.restore("latest", out.with_name("whole"))


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.usefixtures("often")
def test_the_power_goes_at_every_frame(
    framed: Site, source: Path, out: Path, whole: RestoreReport, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    real, cuts = Assembly.accept, [0]

    def accept(self: Assembly, *given: Any) -> int:
        cuts[0] += 1
        if stage == "before" and cuts[0] % 3 == 0:  # the first of the two frames before is recorded
            raise PowerCut
        done = real(self, *given)
        if stage == "after" and cuts[0] % 3 == 0:
            raise PowerCut
        return done

    monkeypatch.setattr(Assembly, "accept", accept)
    report = None
    for _ in range(200):
        try:
            report = framed.restore("latest", out)
            break
        except PowerCut:
            framed = framed.reopen()
    assert report is not None
    assert cuts[0] > 8
    assert (report.outcome, report.fetched, report.problems) == (Outcome.DONE, whole.fetched, ())
    assert_same_tree(source, out)
    assert not leftovers(out)


@pytest.mark.usefixtures("often")
def test_a_vault_that_refuses_in_between(framed: Site, source: Path, out: Path, whole: RestoreReport) -> None:
    for skip in itertools.count(1):
        site = framed.reopen(FaultyVault(framed.vault, Fault("fetch", DeniedError("no"), skip=skip)))
        try:
            report = site.restore("latest", out)
            break
        except DeniedError:
            continue
    assert (report.fetched, report.files, report.bytes) == (whole.fetched, whole.files, whole.bytes)
    assert_same_tree(source, out)


@pytest.mark.usefixtures("often")
def test_a_file_that_was_changed_between_the_sittings_is_made_again(
    framed: Site, source: Path, out: Path
) -> None:
    stopping = iter([False] * 3 + [True])
    framed.stop = lambda: next(stopping, False)
    with pytest.raises(InterruptedRunError, match="was stopped"):
        framed.restore("latest", out)
    half = list(out.rglob(".nightvault-*"))
    assert half
    for path in half:
        path.write_bytes(b"something else")
    report = framed.restore("latest", out)
    assert (report.outcome, report.problems) == (Outcome.DONE, ())
    assert_same_tree(source, out)


@pytest.mark.usefixtures("often")
def test_half_done_files_that_vanish_are_made_again(framed: Site, source: Path, out: Path) -> None:
    stopping = iter([False] * 3 + [True])
    framed.stop = lambda: next(stopping, False)
    with pytest.raises(InterruptedRunError):
        framed.restore("latest", out)
    for path in out.rglob(".nightvault-*"):
        path.unlink()
    assert framed.restore("latest", out).outcome is Outcome.DONE
    assert_same_tree(source, out)


@pytest.mark.usefixtures("often")
def test_cancel_takes_half_done_files_away(framed: Site, out: Path) -> None:
    stopping = iter([False] * 3 + [True])
    framed.stop = lambda: next(stopping, False)
    restore, known = begun(framed, out)
    with pytest.raises(InterruptedRunError):
        deliver(restore, known, framed.restore_world)
    assert leftovers(out)
    with framed.inventory.reading() as tx:
        assert list_runs(tx)[0].outcome is Outcome.INTERRUPTED
    cancel(restore, framed.inventory, framed.restore_world.key_directory, framed.clock)
    assert not leftovers(out)
    assert not os.listdir(framed.folder / "restores")


@pytest.mark.usefixtures("often")
def test_problems_of_all_sittings_are_reported_once(
    framed: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Assembly.accept
    calls = [0]
    damaged: Future[Opened] = Future()
    damaged.set_exception(IntegrityError("its data came back damaged from the vault"))

    def accept(self: Assembly, archive: int, row: Any, opened: Future[Opened]) -> int:
        calls[0] += 1
        if calls[0] == 4:
            raise DeniedError("a rest")
        return real(self, archive, row, damaged if calls[0] == 1 else opened)

    monkeypatch.setattr(Assembly, "accept", accept)
    with pytest.raises(DeniedError):
        framed.restore("latest", out)
    report = framed.restore("latest", out)
    assert report.outcome is Outcome.PARTIAL
    paths = [problem.path for problem in report.problems]
    assert paths
    assert len(paths) == len(set(paths))
    for path in paths:
        assert not os.path.lexists(os.fsencode(out) + b"/" + path)
    assert report.files + len(paths) == framed.restore("latest", out.with_name("other")).files


def test_no_room_is_told_before_anything_is_asked_for(
    framed: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = FaultyVault(framed.vault)
    site = framed.reopen(vault)
    monkeypatch.setattr("backup.restorer.restore.room_at", lambda _target: 1000)
    with pytest.raises(LimitRefusedError, match=r"has room for 1000 B, but [0-9.]+ [KM]iB would") as caught:
        site.restore("latest", out)
    assert caught.value.exit_code == 16
    assert vault.total == 0


def test_a_target_without_a_size_has_room(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system in memory alone (ramfs) says 0 of everything."""
    assert 0 < room_at(str(out)) < sys.maxsize
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _path: nothing)
    assert room_at(str(out)) == sys.maxsize


@pytest.fixture
def several(site: Site, source: Path) -> Site:
    """A site with a dozen archives."""
    for number in range(12):
        (source / f"file-{number}").write_bytes(os.urandom(50_000))
        site.backup()
    return site


def test_many_requests_side_by_side(several: Site, source: Path, out: Path) -> None:
    several.askers = 8
    vault = FaultyVault(several.vault)
    report = several.reopen(vault).restore("latest", out)
    assert report.outcome is Outcome.DONE
    assert vault.calls["request_retrieval"] == report.retrievals == 12
    assert_same_tree(source, out)


def test_a_request_that_is_refused_among_others_leaves_those_recorded(several: Site, out: Path) -> None:
    several.askers = 4
    site = several.reopen(FaultyVault(several.vault, Fault("request_retrieval", DeniedError("no"), skip=5)))
    with pytest.raises(DeniedError):
        begun(site, out)
    restore, known = begun(several, out)
    assert {retrieval.state for retrieval in known} == {"ready"}
    assert deliver(restore, known, several.restore_world).outcome is Outcome.DONE
