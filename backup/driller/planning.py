"""Plans what a drill reads next, within its monthly limit. Nothing is requested."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from backup.checker import read_sample
from backup.checker.read_sample import Piece
from backup.checker.sample import Amount
from backup.cost.limit import CostLimit
from backup.driller import budget, candidates
from backup.driller.context import DrillContext
from backup.driller.sample import FileCandidate, Sample, choose_files
from backup.errors import IntegrityError
from backup.inventory.content import packed
from backup.inventory.records.readings import Grade
from backup.inventory.store.connections import Transaction
from backup.model import ByteRange, FrameRow, JobName
from backup.restorer.plan import RestorePlan, plan_restore
from backup.restorer.ranges import RangePlan, plan_ranges
from backup.restorer.selection.choice import Choice

_ALL = b"/"


class Chosen(Struct, frozen=True):
    """The chosen files, the plans of their restores by job, and the pieces that both grades read.

    A sample in bytes that is only read back has pieces alone.
    """

    files: Sequence[FileCandidate]
    plans: dict[JobName, RestorePlan]
    pieces: Sequence[Piece]
    limit: CostLimit
    cost: int


def plan(context: DrillContext, grade: Grade) -> Chosen | None:
    """Return the pieces to read next; None if nothing is stored yet.

    `MonthSpentError` if the rest of the month is too small, `LimitRefusedError` if every month is, or if the
    price is not known. If a sample is too expensive, half of it is tried, and so on; then smaller files.
    """
    with context.inventory.reading() as tx:
        room = budget.left(tx, context)
    if room is not None and room <= 0 and budget.cost_of(context.limit_on(_something(context)), context):
        raise budget.month_spent(context, room)
    sample = context.sample
    chosen = first = _choose(sample, context, grade)
    while chosen is not None and room is not None and chosen.cost > room:
        smaller = _smaller(sample, chosen, context.sample)
        sample = smaller or sample
        chosen = None if smaller is None else _choose(smaller, context, grade)
    if chosen is None and first is not None:
        raise budget.month_spent(context, room or 0)
    return chosen


def nothing_readable(context: DrillContext, chosen: Chosen) -> IntegrityError:
    """Return the error that says that the archives of all chosen files are lost."""
    lost = sorted({why for plan in chosen.plans.values() for why in plan.lost.values()})
    return IntegrityError(
        f"drill {context.name} cannot read any of its files: {'; '.join(lost)}",
        advice=f"`nightvault check --vault {context.vault.name}`, then `nightvault backup`",
    )


def _choose(sample: Sample, context: DrillContext, grade: Grade) -> Chosen | None:
    """A sample's choice; None if there is nothing."""
    if grade is Grade.READ_BACK and sample.files is None:
        return _slices(sample, context)
    return _files(sample, context, grade)


def _something(context: DrillContext) -> Sequence[Piece]:
    """The least that can be read, to see whether it costs anything."""
    return read_sample.plan_sample(Amount(size=1), context)


def _smaller(sample: Sample, chosen: Chosen, whole: Sample) -> Sample | None:
    """The next smaller sample; None if there is none that could cost less."""
    if len(chosen.files) > 1:
        if sample.files is not None:
            return replace(sample, files=len(chosen.files) // 2)
        return replace(sample, bytes=sum(candidate.size for candidate in chosen.files) // 2)
    if chosen.files:
        largest = chosen.files[0].size // 2
        return replace(whole, largest=largest) if largest else None
    size = sum(piece.end - piece.start for piece in chosen.pieces)
    return replace(sample, bytes=size // 2) if 1 < size <= sample.bytes else None


def _slices(sample: Sample, context: DrillContext) -> Chosen | None:
    """Slices of archives, as checks read them."""
    with context.inventory.reading() as tx:
        if not candidates.jobs_of(tx, context):
            return None
        among = candidates.archives_of_jobs(tx, context)
    pieces = read_sample.plan_sample(Amount(size=sample.bytes), context, among=among)
    return _within((), {}, pieces, context) if pieces else None


def _files(sample: Sample, context: DrillContext, grade: Grade) -> Chosen | None:
    """Files, and what has to be read for them."""
    with context.inventory.reading() as tx:
        chosen = choose_files(candidates.files(tx, context, grade), sample)
        snapshots = candidates.newest_snapshots(tx, context)
    if not chosen:
        return None
    plans: dict[JobName, RestorePlan] = {}
    for job in dict.fromkeys(candidate.job for candidate in chosen):
        names = [candidate.path for candidate in chosen if candidate.job == job]
        with context.inventory.reading() as tx:
            if grade is not Grade.READ_BACK:
                names = candidates.with_links(tx, snapshots[job], names)
        paths = tuple(sorted(names))
        plans[job] = plan_restore(snapshots[job], _ALL, context.restore, Choice(paths=paths))
    with context.inventory.reading() as tx:
        pieces = _together(tx, plans, context) if grade is Grade.READ_BACK else pieces_of_plans(tx, plans)
    return _within(chosen, plans, pieces, context)


def _within(
    files: Sequence[FileCandidate],
    plans: dict[JobName, RestorePlan],
    pieces: Sequence[Piece],
    context: DrillContext,
) -> Chosen:
    """Those, with the limit that their reading is held to, and its cost."""
    limit = context.limit_on(pieces)
    return Chosen(files, plans, pieces, limit, budget.cost_of(limit, context))


def _together(tx: Transaction, plans: dict[JobName, RestorePlan], context: DrillContext) -> list[Piece]:
    """The pieces of all plans; what several need is read once."""
    frames: dict[int, dict[int, FrameRow]] = {}
    sizes: dict[int, int] = {}
    for restore_plan in plans.values():
        for part in restore_plan.ranges:
            frames.setdefault(part.archive, {}).update((row.number, row) for row in part.frames)
            sizes[part.archive] = restore_plan.archives[part.archive].size
    whole = not context.vault.traits.retrieves_ranges
    ranges = [
        part
        for archive, rows in sorted(frames.items())
        for part in plan_ranges(archive, sizes[archive], rows.values(), whole=whole)
    ]
    return [_piece(tx, part, sizes[part.archive]) for part in ranges]


def pieces_of_plans(tx: Transaction, plans: dict[JobName, RestorePlan]) -> list[Piece]:
    """Return the pieces of each plan, as its restore would request them."""
    return [
        _piece(tx, part, restore_plan.archives[part.archive].size)
        for restore_plan in plans.values()
        for part in restore_plan.ranges
    ]


def _piece(tx: Transaction, part: RangePlan, size: int) -> Piece:
    """All that lies whole in a range: what is retrieved anyway is proven, too."""
    extent = part.extent
    if extent == ByteRange(0, size):
        return Piece(part.archive, size, 0, size, extent)
    rows = [
        row
        for row in packed.frame_rows(tx, part.archive)
        if extent.start <= row.offset and row.offset + row.sealed_length <= extent.end
    ]
    start = 0 if extent.start == 0 else min(row.offset for row in rows)
    end = size if extent.end == size else max(row.offset + row.sealed_length for row in rows)
    return Piece(part.archive, size, start, end, extent)
