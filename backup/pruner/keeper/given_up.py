"""Finds what servers have given up for good, by their catalogs: its locks may run out, all else is renewed.

    given_up = find_given_up(context)      # nothing is deleted, and nothing is asked to be

It is what the keeper would delete if no minimum duration held it, but that snapshots which were forgotten
before the floor need nothing. A server whose catalogs cannot be relied on, for whatever reason, has given up
nothing: a catalog that nobody can read must not end a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from msgspec.structs import replace

from backup.errors import InterruptedRunError, LockedError, NightvaultError, ThrottledError, UnreachableError
from backup.model import ArchiveId, Listing, PackKind
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.keep import KeeperContext, KeptServer, Waits, list_of, rules_of, servers_in
from backup.pruner.keeper.lineages import Lineage, require_covered, require_its_own
from backup.pruner.keeper.rules import KeeperRules, decide
from backup.pruner.keeper.signs import find_signs
from backup.retention.locks import GivenUp
from backup.transfer.succession import MOST_NAMED
from backup.wording import counted

_PASSES = (InterruptedRunError, LockedError, ThrottledError, UnreachableError)  # no word of a catalog
_AT_ONCE = dict.fromkeys(PackKind, timedelta(0))


def find_given_up(context: KeeperContext, folder: KeeperFolder) -> GivenUp:
    """Rebuild both states of each server in a new list, and decide. Errors are those of requests alone."""
    folder.clear()
    try:
        listing = list_of(context, folder)
        if listing is None:
            return GivenUp(problems=("the vault has no list yet: everything is renewed",))
        found = _Look(context, folder, listing)
        return GivenUp(
            archives=frozenset(found.archives()),
            inventories=frozenset(line.label.inventory_id for line in listing.archives if line.label),
            stored={line.archive_id: line.created_at for line in listing.archives},
            problems=tuple(found.problems),
        )
    finally:
        folder.clear()


class _Look:
    """One look at all servers of a list; `problems` are those that were met."""

    def __init__(self, context: KeeperContext, folder: KeeperFolder, listing: Listing) -> None:
        self._context = context
        self._folder = folder
        self._listing = listing
        self._rules = replace(rules_of(context, listing), minimum=_AT_ONCE)
        self.problems: list[str] = []

    def archives(self) -> Iterator[ArchiveId]:
        """Yield the archives that the servers have given up."""
        context, unbelieved = self._context, 0
        try:
            servers = servers_in(context, self._folder, self._listing)
        except _PASSES:
            raise
        except Exception as error:  # noqa: BLE001 (whatever catalogs do to this program: locks are renewed)
            servers = str(error)
        if isinstance(servers, str):
            self.problems.append(f"servers are not told apart: {servers}; everything is renewed")
            return
        for server in servers:
            unbelieved += not server.signers
            if server.signers or unbelieved <= MOST_NAMED:
                yield from self._given_up(server)
        if unbelieved > MOST_NAMED:
            more = counted(unbelieved - MOST_NAMED, "server")
            self.problems.append(f"{more} more, of which no catalog can be believed: all of them is renewed")

    def _given_up(self, server: Lineage) -> list[ArchiveId]:
        try:
            return self._decided(server, self._rules)
        except _PASSES:
            raise
        except Exception as error:  # noqa: BLE001 (as above)
            why = str(error) or type(error).__name__
            if isinstance(error, Waits):
                why = f"its catalogs can not be read at once ({why})"
            advice = error.advice if isinstance(error, NightvaultError) else ""
            name = server.newest.hex()[:8]
            self.problems.append(f"server {name}: all of it is renewed: {why}" + f"; {advice}" * bool(advice))
            return []

    def _decided(self, server: Lineage, rules: KeeperRules) -> list[ArchiveId]:
        require_its_own(server)
        kept = KeptServer(self._context, self._folder, server, rules, self._context.clock.now())
        floor, newest = kept.states(self._listing, forgotten_since=rules.floor)
        require_covered(server, newest, floor)
        for finding in find_signs(server, newest, floor, rules):
            job = f", job {finding.job}" if finding.job else ""
            name = server.newest.hex()[:8]
            self.problems.append(f"server {name}{job}: {finding.sign}: {finding.detail}")
        return [archive.archive_id for archive in decide(server, newest, floor, rules).delete]
