"""The versions of every path over all kept snapshots: a folder for each path, in which its versions lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import groupby
from operator import itemgetter

from backup.browser.node import Node, can_be_named, gathered, made_up, node_of
from backup.inventory.content.entry_versions import Series
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.questions import browsing
from backup.inventory.questions.browsing import Status
from backup.inventory.store.database import Inventory
from backup.model import EntryKind

SeriesByJob = Mapping[int, Series[Snapshot]]
_LONGEST_ENDING = 16


class Versions:
    """The folder `versions`; `series` has the kept snapshots by job, `name` names a snapshot's time."""

    def __init__(
        self, inventory: Inventory, series: Callable[[], SeriesByJob], name: Callable[[Snapshot], bytes]
    ) -> None:
        self._inventory = inventory
        self._series = series
        self._name = name

    def find(self, steps: list[bytes]) -> Node | None:
        """A path of any night as a folder, or a version in it."""
        if not steps:
            return gathered(b"versions")
        if any(self._versions_at(steps)):
            return made_up(b"versions/" + b"/".join(steps))
        return dict(self._own(steps[:-1])).get(steps[-1]) if steps[1:] else None

    def below(self, steps: list[bytes]) -> Iterator[tuple[bytes, Node]]:
        """The names below a path, whenever they were there, and the versions of the path itself."""
        folder, taken = b"/" + b"/".join(steps), set[bytes]()
        own = dict(self._own(steps)) if steps else {}
        by_name = [self._names_in(job, folder) for job in self._series()]
        for name, _ in groupby(merge(*by_name)):
            if name in own:
                taken.add(name)
            yield name, made_up(b"versions" + folder.rstrip(b"/") + b"/" + name)
        yield from ((name, node) for name, node in own.items() if name not in taken)

    def _names_in(self, job: int, folder: bytes) -> Iterator[bytes]:
        series = self._series()[job]
        after, more = (b"", 0), True
        while more:
            with self._inventory.reading() as tx:
                rows, more = browsing.page_of_versions(tx, job, folder, after=after)
            for name, versions in groupby(rows, key=itemgetter(0)):
                kept = any(series.having(row.added_in, row.removed_in) for row in versions)
                if kept and can_be_named(name):
                    yield name
            if rows:
                after = rows[-1].name, rows[-1].added_in

    def _versions_at(self, steps: list[bytes]) -> Iterator[tuple[Snapshot, Status]]:
        """The kept versions of a path, with the first snapshot that has each."""
        folder = b"/" + b"/".join(steps[:-1])
        for job, series in self._series().items():
            with self._inventory.reading() as tx:
                rows = browsing.statuses_of(tx, job, folder, steps[-1])
            for row in rows:
                if having := series.having(row.added_in, row.removed_in):
                    yield having[0], row

    def _own(self, steps: list[bytes]) -> Iterator[tuple[bytes, Node]]:
        """The versions of a path that is no directory, by their names."""
        found = sorted(
            ((self._name(first), first.job, row) for first, row in self._versions_at(steps)),
            key=itemgetter(0, 1),
        )
        files = [(time, job, row) for time, job, row in found if row.kind != EntryKind.DIRECTORY]
        return named(files, ending_of(steps[-1]))


def named(found: Sequence[tuple[bytes, str, Status]], ending: bytes) -> Iterator[tuple[bytes, Node]]:
    """Versions by the time of the snapshot that first had them; of one time the second has its job, too."""
    taken = set[bytes]()
    for time, job, row in found:
        name = time + ending
        if name in taken:
            name = time + b"_" + job.encode() + ending
        if name in taken:
            name = b"%s_%s_%d%s" % (time, job.encode(), row.number, ending)
        node = node_of(row)
        if node is not None:
            taken.add(name)
            yield name, node


def ending_of(name: bytes) -> bytes:
    """The ending of a name, by which programs know its kind: `.pdf`; empty if it has none."""
    stem, dot, ending = name.rpartition(b".")
    is_one = bool(stem and dot) and len(ending) < _LONGEST_ENDING and ending.isalnum()
    return b"." + ending if is_one else b""
