"""Archives that the vault lost, and copies of what was in them: no check has seen the loss yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.model import Tier, VaultName
from backup.pruner.listed import PruneStoppedError
from backup.restorer.restore import advance, begin_restore, plan_restore
from backup.vault.directory import DirectoryVault
from tests.pruner import grounds
from tests.pruner.judged import DAY
from tests.pruner.world import World
from tests.support.checks import check, kinds
from tests.support.doubles import NO_LIMIT


@pytest.fixture(params=["directory", "glacier", "bucket"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A server with three files, on each kind of vault."""
    make = grounds.directory
    if request.param != "directory":
        make = getattr(grounds, request.param)(request.getfixturevalue("emulator"))
    made = World(tmp_path, make(tmp_path))
    _store(made, 1, 2, 3)
    yield made
    made.close(every=True)


def _store(world: World, *contents: int) -> None:
    """A backup of files with these contents."""
    for file, content in enumerate(contents):
        world.change(0, file, content)
    world.back_up(0)
    world.judge()


def _prune(world: World, *, deletes: bool = False) -> None:
    """A prune, with whatever list it waits for."""
    while world.prune(deletes=deletes).state == "waiting":
        world.wait()
    world.judge()


def _states(world: World) -> list[str]:
    """Of the data archives."""
    return [state for (state,) in world._rows("SELECT state FROM archives WHERE kind = 1 ORDER BY number")]


def _two_copies(world: World) -> None:
    """The archive is retired, and the next backup stores anew what it holds."""
    world.retire(0)
    world.back_up(0)
    world.judge()
    assert _states(world) == ["retired", "stored"]


def test_a_restore_that_meets_a_loss_leads_the_next_one_to_the_copy(world: World) -> None:
    """Also where the list is of before the loss, and asked for once a day."""
    _two_copies(world)
    world.pass_time(2 * DAY)
    world.check()
    world.lose(1)
    world.judge()
    assert not world.unreadable
    for which in range(2):
        world.restore(which)
    assert _states(world) == ["retired", "lost"]


def test_a_list_of_before_the_loss_does_not_find_it_again(world: World) -> None:
    _two_copies(world)
    world.pass_time(2 * DAY)
    world.check()
    world.lose(1)
    world.judge()
    world.restore(0)
    found = kinds(check(world.site))
    assert "found-again" not in found
    assert _states(world) == ["retired", "lost"]


def test_nothing_is_deleted_for_the_sake_of_a_copy_that_is_lost(world: World) -> None:
    _two_copies(world)
    world.pass_time(2 * DAY)
    _prune(world)
    world.pass_time(100 * DAY)
    assert _states(world) == ["condemned", "stored"]
    world.lose(1)
    world.pass_time(2 * DAY)  # a late list shows it by then
    with pytest.raises(PruneStoppedError, match="lacks 1 archive that was stored"):
        _prune(world, deletes=True)
    world.check()
    world.judge()
    assert not world.unreadable
    _prune(world, deletes=True)
    assert _states(world) == ["unconfirmed", "lost"]


def test_another_vault_in_its_place_has_lost_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, grounds.directory(tmp_path))
    _store(world, 1, 2, 3)
    other = DirectoryVault(VaultName("vault"), str(tmp_path / "other"), world.clock)
    other.create()
    site = world.job(0)
    plan = plan_restore(site.snapshots()[0], site.job.sources[0], site.restore_world)
    target = bytes(tmp_path / "out")
    restore = begin_restore(
        plan, target, site.restore_world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
    )
    advance(restore, replace(site, vault=other).restore_world)
    assert _states(world) == ["stored"]
    world.site.close()


def test_the_next_backup_stores_anew_what_a_restore_found_lost(world: World) -> None:
    world.pass_time(2 * DAY)
    world.lose(0)
    world.judge()
    snapshot, job, *_ = world.snapshots()[0]
    report = world.site.with_job(sources=[world.folder / job], name=job).restore(
        snapshot, world.folder / "out"
    )
    assert {problem.path for problem in report.problems} == {b"a", b"b", b"c"}
    assert _states(world) == ["lost"]
    world.back_up(0)
    world.judge()
    assert _states(world) == ["lost", "stored"]
    assert not world.unreadable


def test_after_a_rebuild_nothing_is_built_on_what_others_may_be_about_to_delete(world: World) -> None:
    """They go by a view of before it was taken back."""
    _store(world, 8, 8, 8, 5)  # 8: the file goes
    world.forget(0)
    world.pass_time(2 * DAY)
    _prune(world)
    world.pass_time(100 * DAY)
    _prune(world)  # whoever deletes may do so from now on
    world.pass_time(DAY)
    world.others_look()
    assert len(world.seen) == 1
    world.undelete()
    world.rebuild()
    world.others_delete()
    _store(world, 1, 2, 3)
    world.restore(1)
