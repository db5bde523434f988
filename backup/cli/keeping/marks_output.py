"""What `tag`, `pin` and `unpin` share: which snapshots, the change, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from backup.cli.options.snapshot_arguments import chosen_job
from backup.cli.support.run_context import run_context
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.app.retention.marking import Change
    from backup.cli.options.snapshot_arguments import Tags
    from backup.cli.support.context import Cli
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.model import JobName


def mark_snapshots(
    cli: Cli, words: Sequence[str], change: Change, *, job: str | None = None, tags: Tags = ()
) -> None:
    """Change the marks of the snapshots of these words (ids, `latest`), and show them."""
    from backup.app.base.opened import opened
    from backup.app.retention.marking import mark

    config = cli.config()
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            ids = {one.id for one in _found(tx, words, chosen_job(config, tx, job), tags)}
        with run_context(cli, config, inventory) as at:
            done = list(mark(at, ids, change))
        with inventory.reading() as tx:
            after = [one for one in _every(tx) if one.id in ids]
    for warning in (text for one in done for text in one.warnings):
        cli.warn(f"warning: {warning}")
    amended = [
        {"job": one.job, "vault": one.vault, "run": one.run, "recovery_line": one.recovery_line,
         "warnings": one.warnings}
        for one in done
    ]  # fmt: skip
    cli.report({"snapshots": [_document(one) for one in after], "amended": amended}, _text(after))


def _found(tx: Transaction, words: Sequence[str], job: JobName | None, tags: Tags) -> list[Snapshot]:
    from backup.inventory.content.snapshots import find_snapshot

    return [find_snapshot(tx, word, job=job, tags=tags) for word in words]


def _every(tx: Transaction) -> list[Snapshot]:
    from backup.inventory.content.snapshots import list_snapshots

    return list_snapshots(tx)


def _document(one: Snapshot) -> dict[str, Any]:
    pin = None if one.pin is None else {"note": one.pin.note, "until": one.pin.until}
    return {"snapshot": one.id, "job": one.job, "tags": list(one.tags), "pin": pin}


def _text(found: Sequence[Snapshot]) -> str:
    from backup.cli.render.render import local_time, printable, shown_id

    lines = []
    for one in found:
        tags = f", tagged {', '.join(one.tags)}" if one.tags else ""
        pin = "" if one.pin is None else ", pinned"
        if one.pin is not None and one.pin.until is not None:
            pin += f" until {local_time(one.pin.until)}"
        if one.pin is not None and one.pin.note:
            pin += f" ({one.pin.note})"
        lines.append(printable(f"snapshot {shown_id(one.id)} of job {one.job}{tags}{pin or ''}"))
    return "\n".join(lines)


def checked_note(note: str) -> str:
    """A note that can be kept. `UsageError`."""
    from backup.format.marks import note_fault

    if fault := note_fault(note):
        raise UsageError(f"--note {note!r}: {fault}")
    return note
