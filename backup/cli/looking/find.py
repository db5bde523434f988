"""`nightvault find`: entries of all snapshots, by name or path."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.looking.version_rows import numbers_of_jobs, version_document
from backup.cli.options.moments import at_option
from backup.cli.options.snapshot_arguments import (
    Tags,
    chosen_job,
    job_option,
    paths_that_choose_job,
    tag_option,
)
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError
from backup.model import EntryKind

if TYPE_CHECKING:
    from datetime import datetime

    from backup.inventory.content.entry_versions import Series, Version
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName

EXAMPLES = {"find": ("nightvault find '*.key'", "nightvault find /etc/fstab --snapshot latest")}

_NOT_PLAIN = re.compile(r"[^ -$&-)+->@-Z^-~]")
"""Wildcards of globs, `%` of LIKE, and what is not ASCII."""
_NOT_PLAIN_IN_ANY_CASE = re.compile(f"[iksIKS]|{_NOT_PLAIN.pattern}")
"""Also letters that are the other case of some that are not ASCII, which LIKE does not know."""
_TITLE = f"{'first':<8}  {'last':<8}  {'snapshots':>9}  {'size':>10}  {'changed':<20}  path"


@click.command()
@click.argument("pattern")
@job_option
@tag_option
@click.option("--snapshot", metavar="SNAPSHOT", help="Only in this snapshot; else in all of them.")
@at_option
@click.option("--newest", is_flag=True, help="Only the newest version of each path.")
@click.option("--oldest", is_flag=True, help="Only the oldest version of each path.")
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore upper and lower case.")
@pass_cli
def find(
    cli: Cli,
    pattern: str,
    job: str | None,
    tags: Tags,
    snapshot: str | None,
    at: datetime | None,
    newest: bool,
    oldest: bool,
    ignore_case: bool,
) -> None:
    """Find entries by name, or by path if PATTERN has a slash: `*`, `?`, `[…]`, `**` for any directories.

    A pattern must match the whole name: '*report*' also finds names that only contain it.
    """
    from backup.app.base.opened import opened
    from backup.cli.looking.streamed import show_each
    from backup.inventory.content.entry_versions import series_by_job
    from backup.source.patterns import of_name_or_path

    if newest and oldest:
        raise UsageError("--newest and --oldest: which of the two?")
    test = of_name_or_path(pattern, ignores_case=ignore_case)
    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        named = chosen_job(config, tx, job)
        chosen = _chosen(tx, named, tags, snapshot or ("latest" if at else None), at, pattern)
        series = series_by_job(tx, tags)
        numbers = [chosen.job_number] if chosen else numbers_of_jobs(tx, series, named)
        found = _found(tx, numbers, chosen, test, part_of_names(pattern, ignores_case=ignore_case))
        hidden: list[Version] = []
        held = _held(found, series, hidden)
        shown = _one_of_each_path(held, newest=newest) if newest or oldest else held
        rows = _rows(shown, series, of_several=len(numbers) > 1)
        nothing = f"nothing is called {pattern!r}" + ("" if "*" in pattern else f"; try '*{pattern}*'")
        count = show_each(cli, rows, title=_TITLE, nothing=nothing)
    if not count:
        if hidden and not tags:
            cli.say("only forgotten snapshots have it: `nightvault snapshots --forgotten`")
        raise click.exceptions.Exit(1)


def _chosen(
    tx: Transaction,
    job: JobName | None,
    tags: Tags,
    words: str | None,
    at: datetime | None,
    pattern: str,
) -> Snapshot | None:
    from backup.inventory.content.snapshots import find_snapshot

    if words is None:
        return None
    holds = paths_that_choose_job(b"/", [pattern] if pattern.startswith("/") else [])
    return find_snapshot(tx, words, job=job, at=at, paths=holds, tags=tags)


def _found(
    tx: Transaction,
    numbers: Sequence[int],
    chosen: Snapshot | None,
    test: Callable[[bytes, bytes], object],
    names: str | None,
) -> Iterator[tuple[int, Version]]:
    """The versions in those jobs that pass the test, each with its job's number; its name fits `names`."""
    from backup.inventory.content.entry_versions import versions_called

    at = chosen.number if chosen else None
    for number in numbers:
        for found in versions_called(tx, job=number, names=names, at=at):
            if test(found[1].directory, found[1].name):
                yield found


def part_of_names(pattern: str, *, ignores_case: bool) -> str | None:
    """A LIKE pattern that all names fit which the glob may match, by its longest run of plain characters."""
    last = pattern.rstrip("/").rpartition("/")[2]
    if "**" in last or "[" in pattern:  # more than a name, or not only plain characters
        return None
    parts = (_NOT_PLAIN_IN_ANY_CASE if ignores_case else _NOT_PLAIN).split(last)
    longest = max(parts, key=len)
    return "%" + longest.replace("_", r"\_") + "%" if longest else None


def _one_of_each_path(found: Iterator[tuple[int, Version]], *, newest: bool) -> Iterator[tuple[int, Version]]:
    """One version of each path: the newest or the oldest, of versions sorted by path and age."""
    held: tuple[int, Version] | None = None
    for number, version in found:
        same = held is not None and (number, version.directory, version.name) == (
            held[0], held[1].directory, held[1].name
        )  # fmt: skip
        if held is not None and not same:
            yield held
        if newest or not same:
            held = (number, version)
    if held is not None:
        yield held


def _held(
    found: Iterator[tuple[int, Version]], series: dict[int, Series[Snapshot]], hidden: list[Version]
) -> Iterator[tuple[int, Version]]:
    """Those that a snapshot holds which is not forgotten; the first that none holds is put into `hidden`."""
    for number, version in found:
        if number in series and series[number].of(version):
            yield number, version
        elif not hidden:
            hidden.append(version)


def _rows(
    found: Iterator[tuple[int, Version]], series: dict[int, Series[Snapshot]], *, of_several: bool
) -> Iterator[tuple[dict[str, Any], str]]:
    """A document and a line for each; of several jobs, each one's name stands above its lines."""
    above: int | None = None
    for number, version in found:
        known = series[number].of(version)
        name = f"job {known[0].job}:\n" if of_several and number != above else ""
        above = number
        yield version_document(version, known), name + _line(version, known)


def _line(version: Version, known: Sequence[Snapshot]) -> str:
    from backup.cli.render.render import shown_id, shown_path, size, time_of

    first, last = shown_id(known[0].id), shown_id(known[-1].id)
    count = f"{len(known):,}"
    shown = f"{first}  {last}  {count:>9}  {size(version.size):>10}  {time_of(version.mtime_ns):<20}"
    return f"{shown}  {shown_path(version.path)}" + ("/" if version.kind == EntryKind.DIRECTORY else "")
