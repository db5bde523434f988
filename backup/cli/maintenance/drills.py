"""`nightvault drills`: the newest drills with their findings, and how much of each job was read back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from backup.cli.render.tables import Sheet
    from backup.inventory.questions.proofs import Proof
    from backup.inventory.records.drills import Drill

EXAMPLES = {"drills": ("nightvault drills", "nightvault drills --json")}


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=20, metavar="N", help="The newest N drills."
)
@pass_cli
def drills(cli: Cli, limit: int) -> None:
    """List drills and what they found; and when something of each job was last read back and opened.

    Read back: it was read from the vault, and its hashes are those that were stored. Opened: it was decrypted
    with a recovery key, and is as it was saved. The shares are of all archives of the job; a vault with
    copies has a line of its own.
    """
    from rich.console import Group
    from rich.text import Text

    from backup.app.base.opened import opened
    from backup.app.status.verified import proofs_of_jobs
    from backup.cli.render.status_output import proof_document
    from backup.inventory.questions.proofs import proofs_of_copies
    from backup.inventory.records import drills as rows

    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        proofs, copies = proofs_of_jobs(tx, cli.clock.now()), proofs_of_copies(tx, cli.clock.now())
        found = rows.list_drills(tx, limit=limit)
    document = {
        "drills": [_document(drill) for drill in found],
        "jobs": [{"job": job} | proof_document(proof) for job, proof in sorted(proofs.items())],
        "copies": [{"vault": vault} | proof_document(proof) for vault, proof in copies.items()],
    }
    proven = [*sorted(proofs.items()), *((f"copies in {vault}", proof) for vault, proof in copies.items())]
    runs = _runs(found) if found else Text("no drill was run yet")
    cli.show(document, Group(_jobs(proven), Text(), runs) if proofs else runs)


def _document(drill: Drill) -> dict[str, Any]:
    from backup.driller.money import money_of
    from backup.driller.report import GRADES

    report = drill.run.report
    return {
        "drill": drill.name,
        "grade": GRADES[drill.grade],
        "vault": drill.vault,
        "run": drill.run.number,
        "outcome": drill.run.outcome,
        "started_at": drill.run.started_at,
        "finished_at": drill.run.finished_at,
        "cost": f"{money_of(drill.cost):f}",
        "currency": report.get("currency"),
        "read": report.get("read"),
        "opened": report.get("opened"),
        "findings": report.get("findings", []),
        "error": report.get("error"),
        "advice": report.get("advice"),
    }


def _jobs(proven: Sequence[tuple[str, Proof]]) -> Sheet:
    from backup.app.status.verified import percent
    from backup.cli.render.render import size, table
    from backup.cli.render.tables import Column
    from backup.inventory.records.readings import Grade

    columns = [
        Column("job", least=10),
        Column("stored", right=True),
        "last read back",
        Column("ever", right=True),
        "last opened",
        Column("ever ", right=True),
    ]
    rows = [
        (
            *(job, size(row.bytes)),
            *(_day(row.last_read_back), percent(row.share(Grade.READ_BACK))),
            *(_day(row.last_opened), percent(row.share(Grade.OPENED))),
        )
        for job, row in proven
    ]
    return table(columns, rows)


def _runs(found: Any) -> Sheet:
    from backup.cli.render.render import local_time, table
    from backup.cli.render.tables import Column
    from backup.driller.money import money_of
    from backup.driller.report import GRADES

    columns = [
        *("run", "drill", "grade", "began", "outcome"),
        Column("cost", rank=2, right=True),
        Column("found", rank=1, folds=True),
    ]
    rows = [
        (
            *(drill.run.number, drill.name, GRADES[drill.grade], local_time(drill.run.started_at)),
            "waits" if drill.is_open else str(drill.run.outcome),
            f"{money_of(drill.cost):.2f}",
            drill.run.error,
        )
        for drill in found
    ]
    return table(columns, rows)


def _day(when: Any) -> str:
    return "never" if when is None else f"{when.astimezone():%Y-%m-%d %H:%M}"
