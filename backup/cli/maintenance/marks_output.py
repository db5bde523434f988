"""Code shared by `tag`, `pin` and `unpin`: finds the snapshots, changes their marks, shows the result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.snapshot_arguments import chosen_job
from backup.cli.support.operating import run_context
from backup.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from backup.app.retention.marking import Change
    from backup.cli.options.snapshot_arguments import Tags
    from backup.cli.support.context import Cli
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.locker.hold import HoldReport
    from backup.model import JobName


def mark_snapshots(
    cli: Cli,
    words: Sequence[str],
    change: Change,
    *,
    job: str | None = None,
    tags: Tags = (),
    holds: bool | None = None,
) -> None:
    """Change the marks of the snapshots that the words name (ids, `latest`), and show the result.

    `holds`: what they need is put under a legal hold then, or before that the holds are ended.
    """
    from backup.app.base.opened import opened
    from backup.app.retention.marking import mark
    from backup.cli.render.render import shown_id
    from backup.inventory.records.readings import held_snapshots

    config = cli.config()
    held: list[HoldReport] = []
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            ids = {snapshot.id for snapshot in _found(tx, words, chosen_job(config, tx, job), tags)}
        with run_context(cli, config, inventory) as at:
            if holds is not None:
                from backup.app.retention.holding import hold_snapshots, require_holds

                require_holds(at, ids)
                held += [] if holds else hold_snapshots(at, ids, is_on=False)
            done = list(mark(at, ids, change))
            if holds:
                held += hold_snapshots(at, ids, is_on=True)
        with inventory.reading() as tx:
            stay = held_snapshots(tx).keys() & ids if holds is None else set()
        with inventory.reading() as tx:
            after = [snapshot for snapshot in _every(tx) if snapshot.id in ids]
    for warning in (text for of_job in done for text in of_job.warnings):
        cli.warn(f"warning: {warning}")
    amended = [
        {"job": of_job.job, "vault": of_job.vault, "run": of_job.run, "recovery_line": of_job.recovery_line,
         "warnings": of_job.warnings}
        for of_job in done
    ]  # fmt: skip
    document: dict[str, Any] = {"snapshots": [_document(each) for each in after], "amended": amended}
    if holds is not None:
        document["holds"] = [report.document() for report in held]
    lines = [_text(after), *(f"  {fact.label}: {fact.value}" for report in held for fact in report.facts())]
    cli.report(document, "\n".join(lines))
    for snapshot in after:
        if snapshot.id in stay and snapshot.pin is None:
            name = shown_id(snapshot.id)
            cli.warn(
                f"what snapshot {name} needs stays under a legal hold: `unpin {name} --legal-hold` ends it"
            )
    problems = [problem for report in held for problem in report.problems]
    for problem in problems:
        cli.warn(problem)
    if problems:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _found(tx: Transaction, words: Sequence[str], job: JobName | None, tags: Tags) -> list[Snapshot]:
    from backup.inventory.content.snapshots import find_snapshot

    return [find_snapshot(tx, word, job=job, tags=tags) for word in words]


def _every(tx: Transaction) -> list[Snapshot]:
    from backup.inventory.content.snapshots import list_snapshots

    return list_snapshots(tx)


def _document(snapshot: Snapshot) -> dict[str, Any]:
    pin = None if snapshot.pin is None else {"note": snapshot.pin.note, "until": snapshot.pin.until}
    return {"snapshot": snapshot.id, "job": snapshot.job, "tags": list(snapshot.tags), "pin": pin}


def _text(found: Sequence[Snapshot]) -> str:
    from backup.cli.render.render import local_time, printable, shown_id

    lines = []
    for snapshot in found:
        tags = f", tagged {', '.join(snapshot.tags)}" if snapshot.tags else ""
        pin = "" if snapshot.pin is None else ", pinned"
        if snapshot.pin is not None and snapshot.pin.until is not None:
            pin += f" until {local_time(snapshot.pin.until)}"
        if snapshot.pin is not None and snapshot.pin.note:
            pin += f" ({snapshot.pin.note})"
        lines.append(printable(f"snapshot {shown_id(snapshot.id)} of job {snapshot.job}{tags}{pin or ''}"))
    return "\n".join(lines)


def checked_note(note: str) -> str:
    """Return the note of a pin if it is valid: one line, not too long. `UsageError`."""
    from backup.format.marks import note_fault

    if fault := note_fault(note):
        raise UsageError(f"--note {note!r}: {fault}")
    return note
