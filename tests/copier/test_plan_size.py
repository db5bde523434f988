"""The plan of a copy of many archives, and what it says then: questions to the database, and memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from backup.inventory.store.database import open_inventory
from tests.copier.measure_plan import made, place_there, plan, saying
from tests.support.sql_statements import listening_to_sql

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

FEW, MANY = 25_000, 60_000  # more than a page of rows, and than the statements that the driver keeps


def planned(folder: Path, count: int, *, is_there: bool, says: bool = False) -> tuple[int, int, int]:
    """The archives to send (or, where it `says`, to name), the statements, the most bytes of memory."""
    folder.mkdir()
    inventory = open_inventory(made(folder, count), lock_directory=str(folder))
    if is_there:
        with inventory.writing() as tx:
            place_there(tx, count)
    heard: list[str] = []
    tracemalloc.start()
    try:
        with listening_to_sql(heard.append):
            found = len(saying(inventory, folder).names) if says else plan(inventory, folder).archives
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        inventory.close()
    return found, len(heard), most


@pytest.mark.parametrize("is_there", [False, True], ids=["nothing is there", "all is there"])
def test_it_asks_by_the_batch_and_holds_a_few_bytes_an_archive(tmp_path: Path, is_there: bool) -> None:
    planned(tmp_path / "first", 10, is_there=is_there)  # what is made at the first use is not counted
    sent, asked, held = planned(tmp_path / "few", FEW, is_there=is_there)
    sent_of_many, asked_of_many, held_by_many = planned(tmp_path / "many", MANY, is_there=is_there)
    assert (sent, sent_of_many) == ((0, 0) if is_there else (FEW, MANY))
    assert asked_of_many - asked <= 3 * (MANY - FEW) / 500 + 3
    assert held_by_many - held <= 40 * (MANY - FEW)


def test_what_it_says_holds_a_few_bytes_an_archive(tmp_path: Path) -> None:
    planned(tmp_path / "first", 10, is_there=True, says=True)
    named, asked, held = planned(tmp_path / "few", FEW, is_there=True, says=True)
    named_of_many, asked_of_many, held_by_many = planned(tmp_path / "many", MANY, is_there=True, says=True)
    assert (named, named_of_many) == (FEW, MANY)
    assert asked_of_many - asked <= 3 * (MANY - FEW) / 500 + 3
    assert held_by_many - held <= 40 * (MANY - FEW)
