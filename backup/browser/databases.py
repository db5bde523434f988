"""The dumps of databases that kept snapshots hold, by engine and name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from backup.browser.node import Node, can_be_named, made_up
from backup.browser.versions import SeriesByJob, ending_of, named
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.questions import browsing
from backup.inventory.questions.browsing import Status
from backup.inventory.store.database import Inventory


class _Dumped(NamedTuple):
    engine: bytes
    database: bytes
    time: bytes
    job: str
    row: Status
    ending: bytes


class Databases:
    """The folder `databases`; `series` has the kept snapshots by job, `name` names a snapshot's time."""

    def __init__(
        self, inventory: Inventory, series: Callable[[], SeriesByJob], name: Callable[[Snapshot], bytes]
    ) -> None:
        self._inventory = inventory
        self._series = series
        self._name = name

    def are_there(self) -> bool:
        """Whether any kept snapshot has a dump."""
        return any(self._dumps())

    def below(self, steps: list[bytes]) -> Iterator[tuple[bytes, Node]]:
        """Engines, the databases of one, or the dumps of one."""
        found = [dump for dump in self._dumps() if [dump.engine, dump.database][: len(steps)] == steps]
        if len(steps) == 2:
            by_ending = attrgetter("ending")
            for ending, some in groupby(sorted(found, key=by_ending), key=by_ending):
                yield from named([(dump.time, dump.job, dump.row) for dump in some], ending)
        elif len(steps) < 2:
            for name in dict.fromkeys(dump.database if steps else dump.engine for dump in found):
                yield name, made_up(b"databases/" + b"/".join([*steps, name]))

    def _dumps(self) -> Iterator[_Dumped]:
        with self._inventory.reading() as tx:
            found = list(browsing.dumped_databases(tx))
        for engine, database, job, row in found:
            series = self._series().get(job)
            having = series.having(row.added_in, row.removed_in) if series else ()
            if having:
                first, ending = having[0], ending_of(row.name)
                yield _Dumped(_name(engine), _name(database), self._name(first), first.job, row, ending)


def _name(text: str) -> bytes:
    """A name as one step of a path."""
    name = text.encode().replace(b"/", b"_").replace(b"\0", b"_")[:255]
    return name if can_be_named(name) else b"_" + name
