"""What `forget` tells: tables of what stays and what goes with the reasons, and documents for scripts."""

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
    """A job's heading, and a table of what stays and of what goes."""
    policy = f": keeps {plan.policy}" if plan.policy else ""
    yield printable(f"job {plan.job.name} in vault {plan.vault}{policy}")
    shown = plan.plan.stays if plan.policy else ()
    for title, some in (("stays", shown), ("goes", plan.plan.goes)):
        if some:
            why = Column("why", folds=True)
            yield table(["snapshot", "time", why], [_row(plan, one) for one in some], title=title)
    yield f"snapshots that stay: {len(plan.plan.stays):,}, that go: {len(plan.plan.goes):,}"


def freed_lines(found: Sequence[Freed]) -> Iterator[str]:
    """How much could be deleted, and from when at no extra cost."""
    for one in found:
        if not one.archives:
            yield f"in vault {one.vault} it frees nothing yet: other snapshots need the same archives"
            continue
        archives = counted(one.archives, "archive")
        yield f"in vault {one.vault} nothing else needs {archives} of {size(one.bytes)} ({ESTIMATE});"
        yield f"  {_when(one)}"


def _when(one: Freed) -> str:
    if one.free_now is None or one.last is None:
        return "how long this vault bills at least is not known"
    if one.free_now == one.bytes:
        return "they can be deleted at no extra cost now"
    later = f"at no extra cost from {one.last:%Y-%m-%d} on"
    return f"{size(one.free_now)} can be deleted at no extra cost now, all of it {later}"


def document(plan: JobPlan, done: Amended | None, error: dict[str, Any] | None = None) -> dict[str, Any]:
    """A job as JSON; `run` is null where nothing was changed."""
    found: dict[str, Any] = {
        "job": plan.job.name,
        "vault": plan.vault,
        "policy": str(plan.policy) if plan.policy else None,
        "kept": [_document(plan, one) for one in plan.plan.stays],
        "forgotten": [_document(plan, one) for one in plan.plan.goes],
        "run": done.run if done else None,
        "warnings": [*plan.warnings, *(done.warnings if done else ())],
        "recovery_line": done.recovery_line if done else None,
    }
    return found if error is None else found | {"error": error}


def freed_document(one: Freed) -> dict[str, Any]:
    """The estimate for one vault as JSON."""
    return {
        "vault": one.vault,
        "archives": one.archives,
        "bytes": one.bytes,
        "bytes_free_now": one.free_now,
        "free_from": one.last,
    }


def _row(plan: JobPlan, one: Decision) -> tuple[object, ...]:
    snapshot = plan.snapshots[one.number]
    return shown_id(snapshot.id), local_time(snapshot.started_at, plan.zone), "; ".join(one.reasons)


def _document(plan: JobPlan, one: Decision) -> dict[str, Any]:
    snapshot = plan.snapshots[one.number]
    return {"snapshot": snapshot.id, "started_at": snapshot.started_at, "reasons": list(one.reasons)}
