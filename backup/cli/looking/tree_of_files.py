"""The tree of files that `mount` and `serve-files` show, opened with the keys that were given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from backup.app.base.opened import opened
from backup.cli.options.snapshot_arguments import (
    chosen_job,
    paths_that_choose_job,
    saved_path,
    split_snapshot_and_path,
)
from backup.cli.restoring.restore_terms import RetrievalTerms
from backup.cli.support.context import Cli
from backup.cli.support.operating import context_of
from backup.cli.support.quoting import limit_of
from backup.inventory.content.snapshots import Snapshot, find_snapshot
from backup.inventory.store.connections import Transaction
from backup.model import Tier
from backup.served.opened import ServedTree, keep_memory_private, served_tree


@contextmanager
def opened_tree(
    cli: Cli, words: str | None, job: str | None, given: dict[str, Any], **owners: bool
) -> Iterator[ServedTree]:
    """The tree of the config's inventory, or what `words` name of it, with the keys of `given` options.

    Requests that the vault still works on at the end are told. The process is closed to others from now on.
    """
    terms = RetrievalTerms.taken_from(given | {"on_capacity": None})
    config = cli.config()
    keep_memory_private()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            of = None if words is None else _snapshot_path(cli, tx, words, job)
        with served_tree(
            context_of(cli, config, inventory),
            terms.keys,
            of=of,
            tier=Tier(terms.tier) if terms.tier else None,
            max_cost=limit_of(terms.max_cost, config),
            **owners,
        ) as served:
            yield served
            for name in served.thawing.close():
                cli.say(f"request {name} goes on: `nightvault restores` shows it")


def _snapshot_path(cli: Cli, tx: Transaction, words: str, job: str | None) -> tuple[Snapshot, bytes]:
    """Return the snapshot and the path in it that words name. `UsageError`."""
    name, path = split_snapshot_and_path(words)
    of_job = chosen_job(cli.config(), tx, job)
    snapshot = find_snapshot(tx, name, job=of_job, paths=paths_that_choose_job(path))
    return snapshot, saved_path(tx, snapshot, path)
