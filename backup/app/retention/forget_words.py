"""Interprets the arguments of `forget`: jobs, or ids of snapshots."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct

from backup.app.base.known_jobs import known_job
from backup.config import Config
from backup.errors import UsageError
from backup.inventory.content import snapshots
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.model import JobName

_ID = re.compile(r"[0-9a-f]{1,16}")


class Targets(Struct, frozen=True):
    """The jobs or the snapshots that were named, each once; not both."""

    jobs: tuple[JobName, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()


def targets_of(
    config: Config,
    tx: Transaction,
    words: Sequence[str],
    jobs: Iterable[str] = (),
    *,
    undo: bool = False,
    among: Sequence[Snapshot] | None = None,
) -> Targets:
    """Return the jobs, or else the snapshots, that these words name; `jobs` can only be jobs. `UsageError`.

    With `undo` the snapshots are forgotten ones, else those that are not; all are `among` these, if given.
    """
    known = {job.name for job in config.jobs} | set(runs.all_job_names(tx))
    named = [known_job(config, tx, job) for job in jobs]
    chosen: list[Snapshot] = []
    every = snapshots.list_snapshots(tx, also_forgotten=True) if among is None else among
    for word in words:
        if word == "latest" and word not in known:
            raise UsageError(
                "name a snapshot by its id: which one is the latest changes with each backup",
                advice="`nightvault snapshots` lists them",
            )
        may_be_id = _ID.fullmatch(word.lower()) is not None
        found = [snapshot for snapshot in every if may_be_id and snapshot.id.startswith(word.lower())]
        if word in known and found:
            raise UsageError(
                f"{word} is a job, and the id of snapshot {found[0].id} begins with it, too",
                advice=f"say --job {word} for the job, or give more digits of the snapshot",
            )
        if word in known or not may_be_id:
            named.append(known_job(config, tx, word))
        else:
            chosen.append(_one(word, found, undo=undo))
    if named and chosen:
        raise UsageError("jobs and snapshots in one command: which of the two?", advice="give two commands")
    return Targets(
        tuple(dict.fromkeys(named)), tuple({snapshot.id: snapshot for snapshot in chosen}.values())
    )


def _one(word: str, found: Sequence[Snapshot], *, undo: bool) -> Snapshot:
    if not found:
        raise UsageError(
            f"{word!r} is no job, and no snapshot's id begins with it",
            advice="`nightvault snapshots` lists both"
            + (", with --forgotten what can come back" if undo else ""),
        )
    fitting = [snapshot for snapshot in found if (snapshot.forgotten_at is not None) is undo]
    if len(fitting) > 1:
        shown = ", ".join(snapshot.id for snapshot in fitting[:5])
        raise UsageError(f"several snapshots begin with {word!r}: {shown}", advice="give more digits")
    if not fitting:
        state = "not forgotten" if undo else "forgotten already"
        raise UsageError(f"snapshot {found[0].id[:8]} of job {found[0].job} is {state}")
    return fitting[0]
