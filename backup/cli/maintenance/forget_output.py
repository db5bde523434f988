"""The output of `forget`: tables of snapshots kept and forgotten with the reasons, and JSON documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from backup.cli.render.render import counted, local_time, printable, shown_id, size, table
from backup.cli.render.tables import Column

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.app.money.freed import Freed
    from backup.app.retention.forgetting import JobPlan
    from backup.catalogs.amend import Amended
    from backup.retention.policy import Decision

ESTIMATE = "an estimate"


def job_screen(plan: JobPlan) -> Iterator[RenderableType]:
    """Return a job's heading, and the table of its snapshots kept and forgotten."""
    policy = f": keeps {plan.policy}" if plan.policy else ""
    yield printable(f"job {plan.job.name} in vault {plan.vault}{policy}")
    shown = plan.plan.stays if plan.policy else ()
    for title, decisions in (("stays", shown), ("goes", plan.plan.goes)):
        if decisions:
            why = Column("why", folds=True)
            yield table(
                ["snapshot", "time", why], [_row(plan, decision) for decision in decisions], title=title
            )
    yield f"snapshots that stay: {len(plan.plan.stays):,}, that go: {len(plan.plan.goes):,}"


def freed_lines(found: Sequence[Freed]) -> Iterator[str]:
    """Yield lines on how much prune could delete, and from when on without extra cost."""
    for freed in found:
        if not freed.archives:
            yield f"in vault {freed.vault} it frees nothing yet: other snapshots need the same archives"
            continue
        archives = counted(freed.archives, "archive")
        yield f"in vault {freed.vault} nothing else needs {archives} of {size(freed.bytes)} ({ESTIMATE});"
        yield f"  {_when(freed)}"


def _when(freed: Freed) -> str:
    if freed.free_now is None or freed.last is None:
        return "how long this vault bills at least is not known"
    if freed.free_now == freed.bytes:
        return "they can be deleted at no extra cost now"
    later = f"at no extra cost from {freed.last:%Y-%m-%d} on"
    return f"{size(freed.free_now)} can be deleted at no extra cost now, all of it {later}"


def document(plan: JobPlan, done: Amended | None, error: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what was forgotten of a job as JSON; `run` is null if nothing was changed."""
    found: dict[str, Any] = {
        "job": plan.job.name,
        "vault": plan.vault,
        "policy": str(plan.policy) if plan.policy else None,
        "kept": [_document(plan, decision) for decision in plan.plan.stays],
        "forgotten": [_document(plan, decision) for decision in plan.plan.goes],
        "run": done.run if done else None,
        "warnings": [*plan.warnings, *(done.warnings if done else ())],
        "recovery_line": done.recovery_line if done else None,
    }
    return found if error is None else found | {"error": error}


def freed_document(freed: Freed) -> dict[str, Any]:
    """Return the estimate of what prune could delete in one vault, as JSON."""
    return {
        "vault": freed.vault,
        "archives": freed.archives,
        "bytes": freed.bytes,
        "bytes_free_now": freed.free_now,
        "free_from": freed.last,
    }


def _row(plan: JobPlan, decision: Decision) -> tuple[object, ...]:
    snapshot = plan.snapshots[decision.number]
    return shown_id(snapshot.id), local_time(snapshot.started_at, plan.zone), "; ".join(decision.reasons)


def _document(plan: JobPlan, decision: Decision) -> dict[str, Any]:
    snapshot = plan.snapshots[decision.number]
    return {"snapshot": snapshot.id, "started_at": snapshot.started_at, "reasons": list(decision.reasons)}
