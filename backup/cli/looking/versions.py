"""`nightvault versions`: every version of one file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.looking.version_rows import numbers_of_jobs, version_document
from backup.cli.options.snapshot_arguments import Tags, chosen_job, job_option, tag_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.cli.render.tables import Sheet
    from backup.inventory.content.entry_versions import Series, Version
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction

    _Row = tuple[Version, Sequence[Snapshot], Version | None]

EXAMPLES = {"versions": ("nightvault versions /etc/fstab", "nightvault versions /etc/fstab --json")}


@click.command()
@click.argument("path")
@job_option
@tag_option
@pass_cli
def versions(cli: Cli, path: str, job: str | None, tags: Tags) -> None:
    """List every version of one file: the snapshots that have it, its size and time, and what changed."""
    from backup.app.base.opened import opened
    from backup.inventory.content.entry_versions import series_by_job

    wanted = os.fsencode(os.path.abspath(path))
    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        series = series_by_job(tx, tags)
        numbers = numbers_of_jobs(tx, series, chosen_job(config, tx, job))
        kept = [row for number in numbers for row in _history(tx, series[number], number, wanted)]
        if not kept:
            error = _not_found(tx, series, numbers, wanted)
            if not os.path.isabs(path):
                name = shlex.quote(os.path.basename(path.rstrip("/")) or path)
                error.advice = f"`nightvault find {name}` looks for the name everywhere; or {error.advice}"
            raise error
    documents = [
        {**version_document(version, known), "change": _change(before, version)}
        for version, known, before in kept
    ]
    cli.show(documents, _versions_table(kept, documents))


def _versions_table(kept: Sequence[_Row], documents: Sequence[dict[str, Any]]) -> Sheet:
    from backup.cli.render.render import local_time, shown_id, size, table, time_of
    from backup.cli.render.tables import Column

    several = len({document["job"] for document in documents}) > 1
    rows = [
        (
            *((document["job"],) if several else ()),
            shown_id(known[0].id),
            local_time(known[0].started_at),
            shown_id(known[-1].id),
            size(version.size),
            time_of(version.mtime_ns),
            document["change"],
        )
        for document, (version, known, _) in zip(documents, kept, strict=True)
    ]
    titles = ["first", "since", Column("last", rank=2), Column("size", right=True), "modified", "change"]
    job = [Column("job", rank=1, least=8)] if several else []
    return table([*job, *titles], rows)


def _history(tx: Transaction, series: Series[Snapshot], job: int, path: bytes) -> Iterator[_Row]:
    """The versions of a path that are still in a snapshot, each with its snapshots and its predecessor."""
    from backup.inventory.content.entry_versions import versions_of

    before: Version | None = None
    for version in reversed(versions_of(tx, job, path)):
        known = series.of(version)
        if known:
            yield version, known, before
        before = version


def _change(before: Version | None, version: Version) -> str:
    """The words for what a version changed against the one before."""
    from backup.inventory.content.entry_versions import changes

    if before is None or before.removed_in != version.added_in:
        return "new" if before is None else "back"
    return (
        "content" if "content" in (found := changes(before, version)) else ", ".join(found) or "nothing seen"
    )


def _not_found(
    tx: Transaction, series: dict[int, Series[Snapshot]], numbers: Sequence[int], path: bytes
) -> UsageError:
    from backup.inventory.content.entry_versions import no_such_path

    for number in numbers:
        newest = series[number].newest if number in series else None
        if newest is not None:
            return no_such_path(tx, newest, path)
    return UsageError("there are no snapshots yet", advice="run `nightvault backup`")
