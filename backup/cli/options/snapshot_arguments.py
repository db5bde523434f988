"""Arguments and options that name a snapshot: `SNAPSHOT[:PATH]` and `--job`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.config import Config
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName, VaultName


def _job(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A job's name, which is text: bytes that are not UTF-8 name no job, and no database takes them."""
    if value is not None and any(0xD800 <= ord(letter) <= 0xDFFF for letter in value):
        raise UsageError(f"no job can be called {value!r}", advice="`nightvault snapshots` lists the jobs")
    return value


job_option = click.option("--job", metavar="NAME", callback=_job, help="Only of this job.")


def chosen_job(config: Config, tx: Transaction, name: str | None) -> JobName | None:
    """Return the job that `--job` names; None without it. `UsageError` if config and inventory lack it."""
    if not name:
        return None
    from backup.app.base.known_jobs import known_job

    return known_job(config, tx, name)


def chosen_vault(config: Config, name: str | None) -> VaultName | None:
    """Return the vault that `--from-vault` names; None without it. `UsageError` if the config lacks it."""
    from backup.model import VaultName

    return None if name is None else VaultName(config.vault(name).name)


Tags = tuple[frozenset[str], ...]


def _tags(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Tags:
    """Sets of tags: `a,b` is both, '' is no tag at all. `UsageError`."""
    from backup.cli.options.keep_options import tags_of

    return tuple(frozenset(tags_of("--tag", value)) if value.strip() else frozenset() for value in values)


tag_option = click.option(
    "--tag",
    "tags",
    metavar="TAG[,TAG]",
    multiple=True,
    callback=_tags,
    help="Only snapshots with these tags; repeated: with any of them; '': without tags.",
)


def split_snapshot_and_path(words: str) -> tuple[str, bytes]:
    """Split `SNAPSHOT[:PATH]` into snapshot and absolute path; the path is `/` by default. `UsageError`."""
    snapshot, _, path = words.partition(":")
    if not snapshot:
        raise UsageError(f"{words!r} names no snapshot", advice=f"write latest:{path or '/'}")
    if snapshot.startswith("/"):
        raise UsageError(f"{words!r} names no snapshot", advice=f"write latest:{words}")
    if path and not path.startswith("/"):
        raise UsageError(f"the path in {words!r} must be absolute", advice=f"write {snapshot}:/{path}")
    return snapshot, os.fsencode(path) or b"/"


def saved_path(tx: Transaction, snapshot: Snapshot, path: bytes) -> bytes:
    """Return a path as the snapshot has it: a source that was a symlink is replaced by its target.

    The target is that of the backup, or today's if it was not recorded. The path is returned unchanged if
    the snapshot has it, or has neither.
    """
    from backup.inventory.content.entries import entry_at

    job, number = snapshot.job_number, snapshot.number
    if path == b"/" or entry_at(tx, job, path, number) is not None:
        return path
    from backup.source.roots import resolved  # rarely

    path, roots = path.rstrip(b"/"), dict(zip(snapshot.sources, snapshot.roots, strict=False))
    for source in sorted(snapshot.sources, key=len, reverse=True):
        stem = source.rstrip(b"/")
        if path == stem or path.startswith(stem + b"/"):
            root = roots.get(source) or resolved(source)
            other = root.rstrip(b"/") + path[len(stem) :]
            if entry_at(tx, job, other, number) is not None:
                return other
    return path


def paths_that_choose_job(path: bytes, globs: Sequence[str] = ()) -> list[bytes]:
    """Return the paths that choose the job of `latest`: PATH, else the directories of absolute globs."""
    from backup.source.patterns import plain_stem

    if path != b"/":
        return [path]
    return [os.fsencode(plain_stem(glob)) for glob in globs]
