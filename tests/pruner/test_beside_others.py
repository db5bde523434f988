"""Cases of the walks beside others: labels that lie, and a second heir."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.model import InventoryId
from backup.rebuilder.context import Wish
from tests.pruner import grounds
from tests.pruner.judged import DAY
from tests.pruner.others import Forgery, Others
from tests.support.rebuilds import Bare


@pytest.mark.parametrize("shape", ["full", "delta", "first"])
@pytest.mark.parametrize("number", ["low", "next", "high"])
def test_a_job_of_an_ancestor_is_rebuilt_whatever_a_label_says(
    tmp_path: Path, shape: str, number: str
) -> None:
    """The heir has not stored anything of that job yet; the label says that it has."""
    world = Others(tmp_path, grounds.directory(tmp_path))
    for job in (0, 1):
        world.change(job, 0, 1)
        world.back_up(job)
    world.rebuild()
    world.change(0, 0, 2)
    world.back_up(0)
    world.judge()
    world.store_hostile(Forgery(job=1, shape=shape, number=number, label="server"))
    bare = Bare(tmp_path / "aside", world.elsewhere, world.site)
    bare.new_id = InventoryId(b"aside of others.")
    report = bare.rebuild(Wish(inventory=world.site.inventory.id.hex()))
    assert sorted(job.name for job in report.jobs) == ["first", "second"]
    assert {suspicion.kind for suspicion in report.suspicions} >= {"relabelled"}
    world.close(every=True)


def test_the_keeper_deletes_nothing_beside_a_second_heir_until_somebody_answers(tmp_path: Path) -> None:
    """Also where this one's full catalogs are newer than all that the other stored."""
    world = Others(tmp_path, grounds.directory(tmp_path))
    world.change(0, 0, 1)
    world.back_up(0)
    world.second_heir(0)
    world.site = replace(world.site, most_deltas=1)
    for content in range(2, 6):
        world.pass_time(DAY)
        world.change(0, 0, content)
        world.back_up(0)
        world.judge()
    for _ in range(4):
        world.forget(0)
    for content in range(6):
        world.pass_time(10 * DAY)
        world.change(0, 1, content)
        world.back_up(0)
        world.answer_prune()
        world.prune(deletes=False)
        world.judge()
    held = set(world.vault.held)
    world.keep()
    assert set(world.vault.held) == held
    assert world.rival is not None
    rival = world.rival.with_job(sources=[tmp_path / "first"], name="first")
    assert not rival.restore(rival.snapshots()[0].id, tmp_path / "out").problems
    world.answer()
    world.keep()
    assert set(world.vault.held) < held
    world.judge()
    world.close(every=True)
