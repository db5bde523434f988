"""One tree of all snapshots, by the inventory alone: a directory page by page, a name by one query.

snapshots/by-time/TIME_JOB/…     the snapshots, under the paths that they were saved from
snapshots/by-job, by-id, latest  symlinks to these
versions/PATH/…                  every path of every night; a file is a folder of its versions
databases/ENGINE/NAME/…          dumps of databases, where there are any

What was found is kept, within a bound, as long as the list of snapshots stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Final

from msgspec import Struct

from backup.browser.databases import Databases
from backup.browser.node import Node, alias, gathered, made_up, node_of
from backup.browser.versions import Versions
from backup.inventory.content import entries
from backup.inventory.content.entry_versions import Series
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.questions import browsing
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.times import micros
from backup.model import Owner

Named = Iterator[tuple[bytes, Node]]
TRUE_FOR: Final = 10.0
"""So many seconds a list of snapshots is believed."""
_MOST_KEPT: Final = 16_000  # nodes, of some 500 bytes with their paths; twice as many at most
_BY_TIME: Final = (b"snapshots", b"by-time")


class Snapshots(Struct, frozen=True):
    """The list of snapshots as the tree names them: by their names in `by-time`, and by job."""

    named: Mapping[bytes, Snapshot]
    by_job: Mapping[bytes, Mapping[bytes, bytes]]  # the time: the name in `by-time`, oldest first
    series: Mapping[int, Series[Snapshot]]


class Tree:
    """The tree. For any thread; `top` is a path in it that becomes its root.

    `stamp` names a moment; `seconds` is a clock that never goes back.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        stamp: Callable[[datetime], str],
        seconds: Callable[[], float],
        top: bytes = b"",
    ) -> None:
        self._inventory = inventory
        self._stamp = stamp
        self._seconds = seconds
        self._top = top.rstrip(b"/")
        self._young: dict[bytes, Node | None] = {}
        self._old: dict[bytes, Node | None] = {}
        self._owners: dict[int, Owner] = {}
        self._looked = seconds()
        self._snapshots = self._read_snapshots()
        self._versions = Versions(inventory, self._series, self._name)
        self._databases = Databases(inventory, self._series, self._name)

    def node(self, path: bytes) -> Node | None:
        """The entry at a path; None if there is none."""
        self._refresh()
        path = self._top + path
        found = self._young.get(path, self)
        if found is not self:
            return found  # type: ignore[return-value]
        made = self._old.get(path) or self._find(_steps(path))
        self._keep(path, made)
        return made

    def entries(self, path: bytes) -> Named | None:
        """The entries of a directory, by name as far as they were saved; None if it is none."""
        node = self.node(path)
        if node is None or not node.is_directory:
            return None
        return self._below_with_folders((self._top + path).rstrip(b"/"))

    def keep(self, path: bytes, node: Node) -> None:
        """Keep an entry that `entries` gave: it is likely to be asked for."""
        self._keep(self._top + path, node)

    def owner(self, node: Node) -> Owner | None:
        """The owner of an entry; None for whoever looks."""
        if not node.owner:
            return None
        if node.owner not in self._owners:
            with self._inventory.reading() as tx:
                self._owners = entries.owners_by_number(tx)
        return self._owners.get(node.owner)

    def plain(self, path: bytes) -> bytes:
        """The path without the tree's own symlinks, for ways in that know none."""
        steps = _steps(self._top + path)
        for count in (3, 4):
            if steps[0:1] == [b"snapshots"] and len(steps) >= count and steps[1] != b"by-time":
                found = self._find(steps[:count])
                if found is not None and found.target:
                    name = found.target.rpartition(b"/")[2]
                    return b"/" + b"/".join((*_BY_TIME, name, *steps[count:]))
        return path

    def place_of(self, path: bytes) -> tuple[Snapshot, bytes] | None:
        """The snapshot that a path leads into, and the saved path in it."""
        self._refresh()
        steps = _steps(self._top + path)
        if tuple(steps[:2]) != _BY_TIME or len(steps) < 3 or steps[2] not in self._snapshots.named:
            return None
        return self._snapshots.named[steps[2]], b"/" + b"/".join(steps[3:])

    def top_of(self, snapshot: Snapshot, path: bytes) -> bytes:
        """The path in the tree at which a snapshot's path is."""
        self._refresh()
        for name, named in self._snapshots.named.items():
            if named.id == snapshot.id:
                return b"/" + b"/".join((*_BY_TIME, name)) + path.rstrip(b"/")
        raise KeyError(snapshot.id)

    def _below_with_folders(self, path: bytes) -> Named:
        """The entries of a directory; directories among them are kept, since whoever walks goes in."""
        for name, node in self._below(_steps(path)):
            if node.is_directory:
                self._keep(path + b"/" + name, node)
            yield name, node

    def _keep(self, path: bytes, node: Node | None) -> None:
        self._young[path] = node
        if len(self._young) > _MOST_KEPT:
            self._young, self._old = {}, self._young

    # Where a path leads.

    def _find(self, steps: list[bytes]) -> Node | None:
        """The entry at these steps from the root."""
        if tuple(steps[:2]) == _BY_TIME and len(steps) > 3:
            snapshot = self._snapshots.named.get(steps[2])
            return None if snapshot is None else self._saved(snapshot, steps[3:])
        if steps[:1] == [b"versions"]:
            return self._versions.find(steps[1:])
        if not steps:
            return made_up(b"/")
        return next((node for name, node in self._below(steps[:-1]) if name == steps[-1]), None)

    def _saved(self, snapshot: Snapshot, steps: list[bytes]) -> Node | None:
        folder = b"/" + b"/".join(steps[:-1])
        with self._inventory.reading() as tx:
            row = browsing.status_at(tx, snapshot.job_number, folder, steps[-1], snapshot.number)
        return None if row is None else node_of(row)

    def _below(self, steps: list[bytes]) -> Named:
        """The entries of the directory at these steps."""
        match steps:
            case [b"snapshots", *below]:
                yield from self._below_snapshots(below, b"/".join(steps))
            case [b"versions", *below]:
                yield from self._versions.below(below)
            case [b"databases", *below]:
                yield from self._databases.below(below)
            case []:
                yield b"snapshots", made_up(b"snapshots")
                yield b"versions", gathered(b"versions")
                if self._databases.are_there():
                    yield b"databases", gathered(b"databases")

    def _below_snapshots(self, steps: list[bytes], path: bytes) -> Named:
        match steps:
            case []:
                for name in (b"by-id", b"by-job", b"by-time", b"latest"):
                    yield name, made_up(path + b"/" + name)
            case [b"by-time"]:
                for name, snapshot in self._snapshots.named.items():
                    yield name, made_up(path + b"/" + name, _ns(snapshot))
            case [b"by-time", name, *below]:
                if name in self._snapshots.named:
                    yield from self._of_snapshot(self._snapshots.named[name], b"/" + b"/".join(below))
            case _:
                yield from self._aliases(steps, path)

    def _of_snapshot(self, snapshot: Snapshot, folder: bytes) -> Named:
        after, more = b"", True
        while more:
            with self._inventory.reading() as tx:
                rows, more = browsing.page_of_directory(
                    tx, snapshot.job_number, folder, snapshot.number, after=after
                )
            for row in rows:
                node = node_of(row)
                if node is not None:
                    yield row.name, node
            after = rows[-1].name if rows else b""

    def _aliases(self, steps: list[bytes], path: bytes) -> Named:
        found = self._snapshots
        match steps:
            case [b"by-id"]:
                links = {snapshot.id.encode(): name for name, snapshot in found.named.items()}
            case [b"latest"]:
                links = {job: list(named.values())[-1] for job, named in found.by_job.items()}
            case [b"by-job", job] if job in found.by_job:
                links = {**found.by_job[job], b"latest": list(found.by_job[job].values())[-1]}
            case [b"by-job"]:
                for job in found.by_job:
                    yield job, made_up(path + b"/" + job)
                return
            case _:
                return
        up = b"../" * len(steps)
        for link, name in links.items():
            yield link, alias(path + b"/" + link, up + b"by-time/" + name, _ns(found.named[name]))

    # The list of snapshots.

    def _refresh(self) -> None:
        if self._seconds() - self._looked < TRUE_FOR:
            return
        self._looked = self._seconds()
        found = self._read_snapshots()
        if {snapshot.id for snapshot in found.named.values()} != {
            snapshot.id for snapshot in self._snapshots.named.values()
        }:
            self._snapshots = found
            self._young, self._old = {}, {}

    def _read_snapshots(self) -> Snapshots:
        with self._inventory.reading() as tx:
            return self._named(tx)

    def _named(self, tx: Transaction) -> Snapshots:
        named: dict[bytes, Snapshot] = {}
        by_job: dict[bytes, dict[bytes, bytes]] = {}
        of_job: dict[int, list[Snapshot]] = {}
        for snapshot in list_snapshots(tx):
            job, time = snapshot.job.encode(), self._stamp(snapshot.started_at).encode()
            if time in by_job.setdefault(job, {}):
                time += b"_" + snapshot.id[:8].encode()
            name = time + b"_" + job
            named[name] = snapshot
            by_job[job][time] = name
            of_job.setdefault(snapshot.job_number, []).append(snapshot)
        return Snapshots(named, by_job, {number: Series(some) for number, some in of_job.items()})

    def _series(self) -> Mapping[int, Series[Snapshot]]:
        return self._snapshots.series

    def _name(self, snapshot: Snapshot) -> bytes:
        return self._stamp(snapshot.started_at).encode()


def _steps(path: bytes) -> list[bytes]:
    return [step for step in path.split(b"/") if step]


def _ns(snapshot: Snapshot) -> int:
    return micros(snapshot.started_at) * 1000
