"""`nightvault find` and `nightvault versions`: in which snapshots a file is, and which versions there are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.commands.snapshots import deciding, job_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.moments import at_option
from backup.errors import UsageError
from backup.model import JobName

if TYPE_CHECKING:
    from datetime import datetime

    from backup.cli.support.tables import Sheet
    from backup.inventory.database import Transaction
    from backup.inventory.entry_versions import Series, Takes, Version
    from backup.inventory.snapshots import Snapshot

    _Row = tuple[Version, Sequence[Snapshot], Version | None]

_TITLE = f"{'first':<8}  {'last':<8}  {'snapshots':>9}  {'size':>10}  {'changed':<20}  path"


@click.command()
@click.argument("pattern")
@job_option
@click.option("--snapshot", metavar="SNAPSHOT", help="As this snapshot has it; else all versions of all.")
@at_option
@click.option("--newest", is_flag=True, help="Of each path the newest version only.")
@click.option("--oldest", is_flag=True, help="Of each path the oldest version only.")
@click.option("-i", "--ignore-case", is_flag=True, help="Upper and lower case alike.")
@pass_cli
def find(
    cli: Cli,
    pattern: str,
    job: str | None,
    snapshot: str | None,
    at: datetime | None,
    newest: bool,
    oldest: bool,
    ignore_case: bool,
) -> None:
    """Find entries by name, or by path if PATTERN has a slash: `*`, `?`, `[…]`, `**` for any directories.

    A pattern is the whole name: '*report*' finds what only contains it.
    """
    from backup.app.runs import opened
    from backup.cli.support.streamed import show_each
    from backup.inventory.entry_versions import series_by_job
    from backup.source.globs import of_name_or_path

    if newest and oldest:
        raise UsageError("--newest and --oldest: which of both?")
    test = of_name_or_path(pattern, ignores_case=ignore_case)
    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        chosen = _chosen(tx, job, snapshot or ("latest" if at else None), at, pattern)
        series = series_by_job(tx)
        found = _found(tx, series, chosen, job, test)
        rows = _rows(_one_each(found, newest=newest) if newest or oldest else found, series)
        nothing = f"nothing is called {pattern!r}" + ("" if "*" in pattern else f"; try '*{pattern}*'")
        count = show_each(cli, rows, title=_TITLE, nothing=nothing)
    if not count:
        raise click.exceptions.Exit(1)


def _chosen(
    tx: Transaction, job: str | None, words: str | None, at: datetime | None, pattern: str
) -> Snapshot | None:
    from backup.inventory.snapshots import find_snapshot

    if words is None:
        return None
    holds = deciding(b"/", [pattern] if pattern.startswith("/") else [])
    return find_snapshot(tx, words, job=JobName(job) if job else None, at=at, paths=holds)


def _found(
    tx: Transaction, series: dict[int, Series], chosen: Snapshot | None, job: str | None, test: Takes
) -> Iterator[tuple[int, Version]]:
    """Versions that the test takes, each with its job's number."""
    from backup.inventory.entry_versions import versions_below

    numbers = [chosen.job_number] if chosen else _job_numbers(tx, series, job)
    at = chosen.number if chosen else None
    for number in numbers:
        for one in versions_below(tx, number, at=at, takes=test):
            yield number, one


def _one_each(found: Iterator[tuple[int, Version]], *, newest: bool) -> Iterator[tuple[int, Version]]:
    """Of versions in the order of paths and age, one for each path."""
    held: tuple[int, Version] | None = None
    for number, one in found:
        same = held is not None and (number, one.directory, one.name) == (
            held[0], held[1].directory, held[1].name
        )  # fmt: skip
        if held is not None and not same:
            yield held
        if newest or not same:
            held = (number, one)
    if held is not None:
        yield held


def _rows(
    found: Iterator[tuple[int, Version]], series: dict[int, Series]
) -> Iterator[tuple[dict[str, Any], str]]:
    for number, one in found:
        known = series[number].of(one) if number in series else ()
        if known:
            yield version_document(one, known), _line(one, known)


def version_document(one: Version, known: Sequence[Snapshot]) -> dict[str, Any]:
    """A version as JSON, with the first and last snapshot that have it."""
    from backup.cli.support.render import path_document
    from backup.model import EntryKind

    return {
        **path_document(one.path),
        "job": known[0].job,
        "kind": EntryKind(one.kind).name.lower().replace("_", "-"),
        "size": one.size,
        "mode": f"{one.mode:04o}",
        "mtime_ns": one.mtime_ns,
        "first": {"id": known[0].id, "started_at": known[0].started_at},
        "last": {"id": known[-1].id, "started_at": known[-1].started_at},
        "snapshots": len(known),
    }


def _line(one: Version, known: Sequence[Snapshot]) -> str:
    from backup.cli.support.render import shown_id, shown_path, size, time_of

    first, last = shown_id(known[0].id), shown_id(known[-1].id)
    count = f"{len(known):,}"
    shown = f"{first}  {last}  {count:>9}  {size(one.size):>10}  {time_of(one.mtime_ns):<20}"
    return f"{shown}  {shown_path(one.path)}" + ("/" if one.kind == 2 else "")


@click.command()
@click.argument("path")
@job_option
@pass_cli
def versions(cli: Cli, path: str, job: str | None) -> None:
    """List every version of one file: the snapshots that have it, its size and time, and what changed."""
    from backup.app.runs import opened
    from backup.inventory.entry_versions import series_by_job

    wanted = os.fsencode(os.path.abspath(path))
    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        series = series_by_job(tx)
        numbers = _job_numbers(tx, series, job)
        kept = [row for number in numbers for row in _history(tx, series[number], number, wanted)]
        if not kept:
            raise _nowhere(tx, series, numbers, wanted)
    documents = [
        {**version_document(one, known), "change": _change(before, one)} for one, known, before in kept
    ]
    cli.show(documents, _versions_table(kept, documents))


def _versions_table(kept: Sequence[_Row], documents: Sequence[dict[str, Any]]) -> Sheet:
    from backup.cli.support.render import local_time, shown_id, size, table, time_of
    from backup.cli.support.tables import Column

    several = len({document["job"] for document in documents}) > 1
    rows = [
        (
            *((document["job"],) if several else ()),
            shown_id(known[0].id),
            local_time(known[0].started_at),
            shown_id(known[-1].id),
            size(one.size),
            time_of(one.mtime_ns),
            document["change"],
        )
        for document, (one, known, _) in zip(documents, kept, strict=True)
    ]
    titles = ["first", "from", Column("last", rank=2), Column("size", right=True), "modified", "change"]
    job = [Column("job", rank=1, least=8)] if several else []
    return table([*job, *titles], rows)


def _job_numbers(tx: Transaction, series: dict[int, Series], job: str | None) -> list[int]:
    """The jobs to look at: all that have snapshots, or the one of that name."""
    from backup.inventory.runs import find_job

    if job is None:
        return list(series)
    found = find_job(tx, JobName(job))
    if found is None or found.number not in series:
        raise UsageError(
            f"there are no snapshots of a job {job!r}", advice="`nightvault snapshots` lists them"
        )
    return [found.number]


def _history(tx: Transaction, series: Series, job: int, path: bytes) -> Iterator[_Row]:
    """A path's versions that a snapshot still has, each with those snapshots and the version before it."""
    from backup.inventory.entry_versions import versions_of

    before: Version | None = None
    for one in versions_of(tx, job, path):
        known = series.of(one)
        if known:
            yield one, known, before
        before = one


def _change(before: Version | None, one: Version) -> str:
    """What sets a version apart from the one before."""
    from backup.inventory.entry_versions import changes

    if before is None or before.removed_in != one.added_in:
        return "new" if before is None else "back"
    return "content" if "content" in (found := changes(before, one)) else ", ".join(found) or "nothing seen"


def _nowhere(tx: Transaction, series: dict[int, Series], numbers: Sequence[int], path: bytes) -> UsageError:
    from backup.inventory.entry_versions import no_such_path

    for number in numbers:
        newest = series[number].newest if number in series else None
        if newest is not None:
            return no_such_path(tx, newest, path)
    return UsageError("there are no snapshots yet", advice="run `nightvault backup`")
