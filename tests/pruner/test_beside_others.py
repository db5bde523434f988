"""Cases of the walks beside others: a label that lies leaves no job out of a rebuild."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.model import InventoryId
from backup.rebuilder.context import Wish
from tests.pruner import grounds
from tests.pruner.others import Forgery, Others
from tests.support.rebuilding import Bare


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
    assert {one.kind for one in report.suspicions} >= {"relabelled"}
    world.close(every=True)
