"""The outcome of a prune, for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from textwrap import fill, wrap
from typing import TYPE_CHECKING

from backup.cli.support.choosing_vault import Result
from backup.cli.support.context import Cli
from backup.errors import ExitCode
from backup.inventory.store.states import StepStage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.cli.render.tables import Sheet
    from backup.inventory.records.old_runs import OldRuns
    from backup.pruner.report import Group, PruneReport

_MOST_GROUPS = 12
_WIDTH = 80
_WORDS = {
    "grace": "grace period",
    "duration": "minimum duration",
    "catalogs": "word of each job",
    "listing": "a newer list",
    "refused": "the vault's refusal",
    "others": "who may delete",
}


def prune_result(cli: Cli, report: PruneReport, currency: str) -> Result:
    """Return the outcome of a prune, money in `currency`; exit code 17 if it waits, 3 if it is partial."""
    from rich.console import Group as Screen
    from rich.text import Text

    from backup.app.retention.pruning import is_partial
    from backup.cli.render.render import printable

    if report.state is not StepStage.DONE:
        text = (
            f"the prune of vault {report.vault} waits for {report.waits_for}; nothing was done yet\n"
            "next: run the same command again in some hours, or now with --wait"
        )
        return Result(report.document(), ExitCode.WAITING, text)
    lines = Text(printable("\n".join(_lines(report, currency))))
    notes = [printable(line) for note in _notes(report) for line in wrap(note, _WIDTH)]
    screen: list[RenderableType] = [lines]
    if report.waiting or report.condemned_groups:
        screen += [Text(), _table(report, currency)]

    def remark() -> None:
        for note in notes:
            cli.say(note)
        for warning in (*report.held, *report.warnings):
            cli.warn(f"warning: {warning}")

    code = ExitCode.PARTIAL if is_partial(report) else ExitCode.DONE
    return Result(report.document(), code, Screen(*screen), remark)


def _lines(report: PruneReport, currency: str) -> Iterator[str]:
    """What was done, or would be."""
    from backup.cli.render.render import counted
    from backup.cli.render.stats_screen import money

    yield f"prune of vault {report.vault}" + (", a plan: nothing was done" if report.is_plan else "")
    told = [
        ("condemned", report.condemned, _one_or(report.condemned, "no kept snapshot needs", "it", "them")),
        ("taken up", report.taken_up, _one_or(report.taken_up, "needed again:", "it stays", "they stay")),
        ("deleted", report.deleted, _saved(report.deleted, currency)),
    ]
    lines = [_line(word, f"{_amount(group)}: {why}") for word, group, why in told if group.archives]
    if report.deleted.fee:
        paid = money(report.deleted.fee, currency)
        their = _one_or(report.deleted, "since", "its", "their")
        lines.append(_line("", f"for {paid}, {their} minimum duration was not over"))
    if report.deleted_elsewhere:
        lines.append(_line("gone", f"{counted(report.deleted_elsewhere, 'archive')}, deleted elsewhere"))
    lines += [_line("refused", f"{_amount(group)}: {_kept(group)}") for group in report.refused]
    lines += [_line("gone for good", _names(job, ids)) for job, ids in report.dropped.items()]
    if report.old_runs is not None and (report.old_runs.runs or report.old_runs.restores):
        lines.append(_line("old runs", _removed(report.old_runs, is_plan=report.is_plan)))
    waits = "; what waits is below" if report.waiting else ": all that is stored is needed"
    yield from lines or [f"  there is nothing to do{waits}"]


def _one_or(group: Group, words: str, of_one: str, of_many: str) -> str:
    """Words that end by whether they are of one archive or of many."""
    return f"{words} {of_one if group.archives == 1 else of_many}"


def _line(word: str, text: str) -> str:
    start = f"  {word:<15}"
    return fill(text, _WIDTH, initial_indent=start, subsequent_indent=" " * len(start))


def _names(job: str, ids: Sequence[str]) -> str:
    """The snapshots of a job that cannot come back."""
    from backup.cli.render.render import counted

    names = ", ".join(snapshot_id[:8] for snapshot_id in ids[:_MOST_GROUPS])
    more = f" and {len(ids) - _MOST_GROUPS} more" if len(ids) > _MOST_GROUPS else ""
    return f"{counted(len(ids), 'forgotten snapshot')} of job {job}: {names}{more}"


def _removed(old: OldRuns, *, is_plan: bool) -> str:
    """The records that the inventory does without."""
    from backup.cli.render.render import counted

    parts = [(old.runs, "run"), (old.restores, "restore")]
    what = " and ".join(counted(count, noun) for count, noun in parts if count)
    end = "would be removed" if is_plan else "removed"
    return f"records of {what} from before {_day(old.before)} {end}: nothing needs them"


def _saved(group: Group, currency: str) -> str:
    from backup.cli.render.stats_screen import money

    if not group.month:
        return "gone from the vault"
    return f"{money(group.month, currency)} a month less"


def _kept(group: Group) -> str:
    until = "kept by the vault" if group.until is None else f"kept until {_when(group.until)}"
    return f"{until}: {group.detail}" if group.detail else until


def _amount(group: Group) -> str:
    from backup.cli.render.render import counted, size

    return f"{counted(group.archives, 'archive')}, {size(group.bytes)}"


def _table(report: PruneReport, currency: str) -> Sheet:
    """What is condemned, and on which days it comes free."""
    from backup.cli.render.render import size, table
    from backup.cli.render.stats_screen import money
    from backup.cli.render.tables import Column

    groups = _fewer([*report.condemned_groups, *report.waiting])
    shows_fees = any(group.fee for group in groups)
    right = [Column(title, right=True) for title in ("archives", "size")]
    fee = [Column("if deleted now", right=True, rank=1)] if shows_fees else []
    columns = [Column("waits for", folds=True, least=16), *right, "grace ends", "free from", *fee]
    rows = [
        (
            _word(group),
            *(f"{group.archives:,}", size(group.bytes)),
            *(_day(group.grace_ends), _day(group.free_from)),
            *([money(group.fee, currency)] if shows_fees else []),
        )
        for group in groups
    ]
    return table(columns, rows)


def _word(group: Group) -> str:
    if group.why == "refused":
        return f"kept until {_day(group.until)}"
    return _WORDS.get(group.why, group.detail)


def _fewer(groups: Sequence[Group]) -> list[Group]:
    """The groups, or where they are many those of a month and reason together."""
    if len(groups) <= _MOST_GROUPS:
        return list(groups)
    by_month: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        by_month.setdefault((group.why, (_day(group.until) or "")[:7]), []).append(group)
    return [_together(of_month) for of_month in by_month.values()]


def _together(some: Sequence[Group]) -> Group:
    from backup.pruner.report import Group

    fees = [group.fee for group in some if group.fee is not None]
    return Group(
        sum(group.archives for group in some),
        sum(group.bytes for group in some),
        some[0].why,
        some[0].detail,
        max((group.until for group in some if group.until), default=None),
        max((group.grace_ends for group in some if group.grace_ends), default=None),
        max((group.free_from for group in some if group.free_from), default=None),
        sum(fees, Decimal(0)) if fees else None,
    )


def _notes(report: PruneReport) -> Iterator[str]:
    """What to do next, and what can still be undone."""
    reasons = {group.why for group in report.waiting}
    refusals = {group.detail for group in report.waiting if group.why == "refused"}
    yield from (f"refused before: {refusal}" for refusal in sorted(refusals))
    if report.condemned.archives and not report.is_plan:
        yield f"until their grace ends, `nightvault undelete --vault {report.vault}` takes them back"
    if "duration" in reasons and report.may_delete:
        yield "what waits for its minimum duration costs the same, kept or deleted; --max-fee M deletes early"
    yield from _of_lists(report)
    if not report.may_delete and (report.waiting or report.condemned.archives):
        yield (
            'this server condemns, and does not delete (deletes = "elsewhere"): '
            "`nightvault prune --delete-only` on another machine does, or this server with a prune_role_arn"
        )


def _of_lists(report: PruneReport) -> Iterator[str]:
    """For how long a list is waited for that shows the catalogs which condemn, and what to do after that."""
    untils = [group.until for group in report.waiting if group.why == "listing"]
    known = [until for until in untils if until is not None]
    if known:
        latest = _day(max(known))
        yield f"the vault's list shows the catalogs that condemn by {latest} at the latest: prune again then"
    if None in untils:
        yield (
            f"the list of vault {report.vault} does not show all that was stored days ago: `nightvault check "
            f"--vault {report.vault}` says what it lacks; after the next backup the vault makes a new one"
        )


def _day(at: datetime | None) -> str | None:
    return None if at is None else f"{at.astimezone():%Y-%m-%d}"


def _when(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"
