"""Statistics on a terminal of 80 columns: sums of a vault, and bars by job, month, age and night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.bar import END_BLOCK_ELEMENTS, FULL_BLOCK

from backup.cli.render.render import counted, size, table
from backup.cli.render.tables import Column, Sheet
from backup.model import PackKind, VaultName
from backup.retention.nights import YEAR, Amount, Night
from backup.retention.stats import MONTH, months_of
from backup.wording import money

if TYPE_CHECKING:
    from backup.app.money.stats import Statistics
    from backup.retention.stats import Requests, Summary, Terms

BAR = 24
"""Cells of the longest bar."""


def bar(value: float, most: float, cells: int = BAR) -> str:
    """Return a bar for `value`, where `most` fills all `cells`; a value above 0 is always visible."""
    if value <= 0 or most <= 0:
        return ""
    steps = len(END_BLOCK_ELEMENTS)
    eighths = max(1, round(min(value, most) / most * cells * steps))
    return FULL_BLOCK * (eighths // steps) + END_BLOCK_ELEMENTS[eighths % steps].strip()


_BAR = Column("", rank=1)


def vault_sheet(found: Statistics, vault: VaultName) -> Sheet:
    """Return the sums of a vault, or of the chosen jobs in it: a name and a value on each line."""
    terms, summary = found.terms[vault], found.of_vault(vault)
    jobs = [job for name, job in found.rows.parts if name == vault and job is not None]
    of_jobs = f"job {jobs[0]}" if len(jobs) == 1 else counted(len(jobs), "job")
    about = ", ".join(filter(None, [terms.kind, terms.region, of_jobs]))
    lines = [*_contents(summary), *_costs(found, terms, summary), *_minimum(found, summary)]
    return table([Column(f"vault {vault}", least=18), Column(about, folds=True)], lines)


def _contents(summary: Summary) -> Iterator[tuple[str, str]]:
    newest = f"{size(summary.newest_bytes)} in {counted(summary.newest_files, 'file')}"
    yield "newest snapshots", newest
    forgotten = f", and {summary.forgotten:,} forgotten" if summary.forgotten else ""
    yield "all snapshots", f"{summary.snapshots:,}, as full copies {size(summary.snapshot_bytes)}{forgotten}"
    if summary.versions or not summary.snapshots:  # of copies they are those of the job's own vault
        versions = f"{counted(summary.versions, 'version')} of files"
        yield "all versions", f"{size(summary.version_bytes)} in {versions}"
    yield "deduplicated", f"{size(summary.chunk_bytes)} of chunks{_times(summary.deduplication)}"
    yield "compressed", f"{size(summary.sealed_bytes)} sealed{_times(summary.compression)}"
    data, catalogs = summary.held[PackKind.DATA], summary.held[PackKind.CATALOG]
    yield "stored", _shown(summary.all)
    yield "  data", _shown(data)
    yield "  catalogs", _shown(catalogs)
    if summary.condemned.archives:
        yield "  condemned", f"{_shown(summary.condemned)} of these"
    if summary.dead.archives:
        last = summary.dead_minimum.last
        free = f"free from {last} on" if last else "free now"
        them = "it" if summary.dead.archives == 1 else "them"
        yield "  dead", f"{_shown(summary.dead)} of these, {free}: no kept snapshot needs {them}"


def _shown(amount: Amount) -> str:
    return f"{size(amount.bytes)} in {counted(amount.archives, 'archive')}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f", a ratio of {ratio:.2f} to 1"


def _costs(found: Statistics, terms: Terms, summary: Summary) -> Iterator[tuple[str, str]]:
    if summary.pace is None:
        yield "grows by", "not known yet: it takes backups on two days"
    else:
        a_day = sum(summary.pace.values(), Amount()).scaled(1, YEAR)
        yield "grows by", f"{size(a_day.bytes)} a day at the pace of the last {MONTH} days"
    if terms.is_free:
        yield "costs", "nothing: the vault is a directory"
        return
    currency = found.currency
    mark = "*" if any(cost.unverified for cost in summary.classes) else ""
    later = (
        f", {money(summary.month_in_a_year, currency, mark)} in a year at this pace" if summary.pace else ""
    )
    yield "costs a month", f"{money(summary.month, currency, mark)} now{later}"
    for cost in summary.classes:
        overhead = f" (and {size(cost.overhead)} of overhead)" if cost.overhead else ""
        yield f"  {cost.name}", f"{money(cost.month, currency)} for {size(cost.held.bytes)}{overhead}"
    yield from _requests(summary.requests, currency, mark)


def _requests(requests: Requests, currency: str, mark: str) -> Iterator[tuple[str, str]]:
    yield "requests", f"{money(requests.total, currency, mark)} in the last {MONTH} days"
    uploads = f"{counted(requests.uploads, 'request')} for {counted(requests.archives, 'archive')}"
    yield "  to upload", f"{money(requests.upload_cost, currency)}: {uploads}"
    retrievals = f"{counted(requests.retrievals, 'retrieval')} of {size(requests.bytes)}"
    yield "  to retrieve", f"{money(requests.retrieval_cost, currency)}: {retrievals}"


def _minimum(found: Statistics, summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield rows on bytes whose deletion would cost the rest of their minimum duration."""
    minimum = summary.minimum
    if minimum.last is not None:
        yield "minimum duration", f"not over yet for {_shown(minimum.running)}"
        yield "  free to delete", f"the first from {minimum.first}, all from {minimum.last} on"
        yield "  deleted today", f"{money(minimum.early, found.currency)} for the rest"


def jobs_sheet(found: Statistics) -> Sheet:
    """Return a bar for each job: the size of its archives, and their cost a month."""
    rows = [(vault, job, found.of_job(vault, job)) for vault, job in found.rows.parts]
    most = max((summary.all.bytes for _, _, summary in rows), default=0)
    right = [Column(title, right=True, rank=rank) for title, rank in (("archives", 4), ("newest", 3))]
    columns = [
        Column("job", least=8),
        Column("vault", rank=5, least=6),
        *right,
        Column("stored", right=True),
        _BAR,
        Column("a month", right=True),
    ]
    shown = [
        (
            *(job, vault, summary.all.archives, size(summary.newest_bytes), size(summary.all.bytes)),
            bar(summary.all.bytes, most, 16),
            _a_month(found, vault, summary),
        )
        for vault, job, summary in rows
    ]
    return table(columns, shown)


def _a_month(found: Statistics, vault: VaultName, summary: Summary) -> str | None:
    if found.terms[vault].is_free or summary.month is None:
        return None
    return money(summary.month, found.currency)


def months_sheet(found: Statistics) -> Sheet:
    """Return a bar for each month: bytes stored then that still exist, of all vaults and jobs shown."""
    held: dict[str, Amount] = {}
    for month in months_of(found.rows.stored):
        held[month.month] = held.get(month.month, Amount()) + sum(month.held.values(), Amount())
    most = max((amount.bytes for amount in held.values()), default=0)
    columns = ["month", Column("archives", right=True), Column("stored", right=True), _BAR]
    rows = [
        (name, amount.archives, size(amount.bytes), bar(amount.bytes, most)) for name, amount in held.items()
    ]
    return table(columns, rows)


def ages_sheet(found: Statistics, vault: VaultName) -> Sheet:
    """Return a bar for each age of a vault's archives, and the part within its minimum duration."""
    ages = found.of_vault(vault).ages
    most = max((age.held.bytes for age in ages), default=0)
    titles = [Column("archives", right=True, rank=2), Column("stored", right=True), _BAR]
    columns = [
        "days old",
        *titles,
        Column("not free yet", right=True, rank=1),
        Column("free from", rank=1),
    ]
    rows = [
        (
            f"{age.least} to {age.most - 1}" if age.most else f"{age.least} or more",
            *(age.held.archives, size(age.held.bytes), bar(age.held.bytes, most, 16)),
            *(size(age.minimum.running.bytes) if age.minimum.last else None, age.minimum.last),
        )
        for age in ages
    ]
    return table(columns, rows, title=f"vault {vault}")


def nights_sheet(nights: Sequence[Night]) -> Sheet:
    """Return a bar for each night: bytes that the jobs shown uploaded, and remarks on unusual nights."""
    of_day: dict[object, list[Night]] = {}
    for night in nights:
        of_day.setdefault(night.day, []).append(night)
    sums = {day: sum(night.bytes_uploaded for night in of_night) for day, of_night in of_day.items()}
    most = max(sums.values(), default=0)
    several = len({(night.vault, night.job) for night in nights}) > 1
    columns = [
        "night",
        *(Column("uploaded", right=True), _BAR, Column("changed", right=True)),
        Column("", folds=True, least=16),
    ]
    rows = []
    for day, of_night in of_day.items():
        files = [night.files_read for night in of_night if night.files_read is not None]
        told = "\n".join(_unusual_text(of_night, named=several))
        changed = f"{sum(files):,}" if files else None
        rows.append((day, size(sums[day]), bar(sums[day], most, 12), changed, told))
    return table(columns, rows)


def _unusual_text(nights: Sequence[Night], *, named: bool) -> Iterator[str]:
    for night in nights:
        of_job = f" ({night.job})" if named else ""
        if night.unusual_bytes is not None:
            yield f"unusual: mostly {size(round(night.unusual_bytes.usual))}{of_job}"
        if night.unusual_files is not None:
            yield f"unusual: mostly {counted(round(night.unusual_files.usual), 'file')}{of_job}"


def notes(found: Statistics) -> Iterator[str]:
    """Return notes on the prices used, and on those not verified for a vault's region."""
    if all(terms.is_free for terms in found.terms.values()):
        return
    if found.table is None:
        yield found.unknown or ""
        return
    made = f"the price table of {found.table.date} ({found.table.origin})"
    yield f"{found.currency} by {made}, without tax"
    for vault, terms in found.terms.items():
        if terms.endpoint is not None:
            yield f"these are AWS's prices, and vault {vault} is at {terms.endpoint}"
        for cost in found.of_vault(vault).classes:
            for region in dict.fromkeys(figure.as_in for figure in cost.unverified):
                names = ", ".join(figure.name for figure in cost.unverified if figure.as_in == region)
                yield f"* taken from {region}, not verified for {terms.region}, kind {cost.name}: {names}"
