"""Statistics on a terminal: a vault on one screen, and bars by job, month, age and night, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.bar import END_BLOCK_ELEMENTS, FULL_BLOCK

from backup.cli.render.render import counted, size, table
from backup.cli.render.tables import Column, Sheet
from backup.model import PackKind, VaultName
from backup.retention.nights import YEAR, Amount, Night
from backup.retention.stats import MONTH, months_of

if TYPE_CHECKING:
    from backup.app.money.stats import Statistics
    from backup.retention.stats import Requests, Summary, Terms

BAR = 24
"""Cells of the longest bar."""


def bar(value: float, most: float, cells: int = BAR) -> str:
    """A bar as long as `value` is in proportion to `most`, which has so many cells; what is there is seen."""
    if value <= 0 or most <= 0:
        return ""
    steps = len(END_BLOCK_ELEMENTS)
    eighths = max(1, round(min(value, most) / most * cells * steps))
    return FULL_BLOCK * (eighths // steps) + END_BLOCK_ELEMENTS[eighths % steps].strip()


_CENT = Decimal("0.01")
_BAR = Column("", rank=1)


def money(amount: Decimal | None, currency: str, mark: str = "") -> str:
    """An amount rounded up to the cent, as bills are."""
    if amount is None:
        return "no known price"
    if 0 < amount < _CENT:
        return f"under {_CENT}{mark} {currency}"
    return f"{amount.quantize(_CENT, rounding='ROUND_CEILING')}{mark} {currency}"


def vault_sheet(found: Statistics, vault: VaultName) -> Sheet:
    """A vault's sums, or those of the jobs in it that were asked for: a name and a value on each line."""
    terms, one = found.terms[vault], found.of_vault(vault)
    jobs = [job for name, job in found.rows.parts if name == vault and job is not None]
    of_jobs = f"job {jobs[0]}" if len(jobs) == 1 else counted(len(jobs), "job")
    about = ", ".join(filter(None, [terms.kind, terms.region, of_jobs]))
    lines = [*_contents(one), *_costs(found, terms, one), *_minimum(found, one)]
    return table([Column(f"vault {vault}", least=18), Column(about, folds=True)], lines)


def _contents(one: Summary) -> Iterator[tuple[str, str]]:
    newest = f"{size(one.newest_bytes)} in {counted(one.newest_files, 'file')}"
    yield "newest snapshots", newest
    forgotten = f", and {one.forgotten:,} forgotten" if one.forgotten else ""
    yield "all snapshots", f"{one.snapshots:,}, as full copies {size(one.snapshot_bytes)}{forgotten}"
    yield "all versions", f"{size(one.version_bytes)} in {counted(one.versions, 'version')} of files"
    yield "deduplicated", f"{size(one.chunk_bytes)} of chunks{_times(one.deduplication)}"
    yield "compressed", f"{size(one.sealed_bytes)} sealed{_times(one.compression)}"
    data, catalogs = one.held[PackKind.DATA], one.held[PackKind.CATALOG]
    yield "stored", _shown(one.all)
    yield "  data", _shown(data)
    yield "  catalogs", _shown(catalogs)
    if one.condemned.archives:
        yield "  condemned", f"{_shown(one.condemned)} of these"
    if one.dead.archives:
        last = one.dead_minimum.last
        free = f"free from {last} on" if last else "free now"
        them = "it" if one.dead.archives == 1 else "them"
        yield "  dead", f"{_shown(one.dead)} of these, {free}: no kept snapshot needs {them}"


def _shown(amount: Amount) -> str:
    return f"{size(amount.bytes)} in {counted(amount.archives, 'archive')}"


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f", a ratio of {ratio:.2f} to 1"


def _costs(found: Statistics, terms: Terms, one: Summary) -> Iterator[tuple[str, str]]:
    if one.pace is None:
        yield "grows by", "not known yet: it takes backups on two days"
    else:
        a_day = sum(one.pace.values(), Amount()).scaled(1, YEAR)
        yield "grows by", f"{size(a_day.bytes)} a day at the pace of the last {MONTH} days"
    if terms.is_free:
        yield "costs", "nothing: the vault is a directory"
        return
    currency = found.currency
    mark = "*" if any(each.unverified for each in one.classes) else ""
    later = f", {money(one.month_in_a_year, currency, mark)} in a year at this pace" if one.pace else ""
    yield "costs a month", f"{money(one.month, currency, mark)} now{later}"
    for each in one.classes:
        overhead = f" (and {size(each.overhead)} of overhead)" if each.overhead else ""
        yield f"  {each.name}", f"{money(each.month, currency)} for {size(each.held.bytes)}{overhead}"
    yield from _requests(one.requests, currency, mark)


def _requests(one: Requests, currency: str, mark: str) -> Iterator[tuple[str, str]]:
    yield "requests", f"{money(one.total, currency, mark)} in the last {MONTH} days"
    uploads = f"{counted(one.uploads, 'request')} for {counted(one.archives, 'archive')}"
    yield "  to upload", f"{money(one.upload_cost, currency)}: {uploads}"
    retrievals = f"{counted(one.retrievals, 'retrieval')} of {size(one.bytes)}"
    yield "  to retrieve", f"{money(one.retrieval_cost, currency)}: {retrievals}"


def _minimum(found: Statistics, one: Summary) -> Iterator[tuple[str, str]]:
    """How much cannot be deleted without paying for the rest of its minimum duration."""
    minimum = one.minimum
    if minimum.last is not None:
        yield "minimum duration", f"not over yet for {_shown(minimum.running)}"
        yield "  free to delete", f"the first from {minimum.first}, all from {minimum.last} on"
        yield "  deleted today", f"{money(minimum.early, found.currency)} for the rest"


def jobs_sheet(found: Statistics) -> Sheet:
    """A bar for each job: what its archives take, and what a month of them costs."""
    rows = [(vault, job, found.of_job(vault, job)) for vault, job in found.rows.parts]
    most = max((one.all.bytes for _, _, one in rows), default=0)
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
            *(job, vault, one.all.archives, size(one.newest_bytes), size(one.all.bytes)),
            bar(one.all.bytes, most, 16),
            _a_month(found, vault, one),
        )
        for vault, job, one in rows
    ]
    return table(columns, shown)


def _a_month(found: Statistics, vault: VaultName, one: Summary) -> str | None:
    if found.terms[vault].is_free or one.month is None:
        return None
    return money(one.month, found.currency)


def months_sheet(found: Statistics) -> Sheet:
    """A bar for each month: what was stored in it and is there still, of all vaults and jobs shown."""
    held: dict[str, Amount] = {}
    for one in months_of(found.rows.stored):
        held[one.month] = held.get(one.month, Amount()) + sum(one.held.values(), Amount())
    most = max((one.bytes for one in held.values()), default=0)
    columns = ["month", Column("archives", right=True), Column("stored", right=True), _BAR]
    rows = [(name, one.archives, size(one.bytes), bar(one.bytes, most)) for name, one in held.items()]
    return table(columns, rows)


def ages_sheet(found: Statistics, vault: VaultName) -> Sheet:
    """A bar for each age of what is stored in a vault, and what of it is free to delete only later."""
    ages = found.of_vault(vault).ages
    most = max((one.held.bytes for one in ages), default=0)
    titles = [Column("archives", right=True, rank=2), Column("stored", right=True), _BAR]
    columns = [
        "days old",
        *titles,
        Column("not free yet", right=True, rank=1),
        Column("free from", rank=1),
    ]
    rows = [
        (
            f"{one.least} to {one.most - 1}" if one.most else f"{one.least} or more",
            *(one.held.archives, size(one.held.bytes), bar(one.held.bytes, most, 16)),
            *(size(one.minimum.running.bytes) if one.minimum.last else None, one.minimum.last),
        )
        for one in ages
    ]
    return table(columns, rows, title=f"vault {vault}")


def nights_sheet(nights: Sequence[Night]) -> Sheet:
    """A bar for each night: what the jobs shown uploaded, with what was unusual."""
    of_day: dict[object, list[Night]] = {}
    for one in nights:
        of_day.setdefault(one.day, []).append(one)
    sums = {day: sum(one.bytes_uploaded for one in some) for day, some in of_day.items()}
    most = max(sums.values(), default=0)
    several = len({(one.vault, one.job) for one in nights}) > 1
    columns = [
        "night",
        *(Column("uploaded", right=True), _BAR, Column("changed", right=True)),
        Column("", folds=True, least=16),
    ]
    rows = []
    for day, some in of_day.items():
        files = [one.files_read for one in some if one.files_read is not None]
        told = "\n".join(_told(some, named=several))
        changed = f"{sum(files):,}" if files else None
        rows.append((day, size(sums[day]), bar(sums[day], most, 12), changed, told))
    return table(columns, rows)


def _told(nights: Sequence[Night], *, named: bool) -> Iterator[str]:
    for one in nights:
        of_job = f" ({one.job})" if named else ""
        if one.unusual_bytes is not None:
            yield f"unusual: mostly {size(round(one.unusual_bytes.usual))}{of_job}"
        if one.unusual_files is not None:
            yield f"unusual: mostly {counted(round(one.unusual_files.usual), 'file')}{of_job}"


def notes(found: Statistics) -> Iterator[str]:
    """The prices behind the figures, and those that are not verified for a vault's region."""
    if all(one.is_free for one in found.terms.values()):
        return
    if found.table is None:
        yield found.unknown or ""
        return
    made = f"the price table of {found.table.date} ({found.table.origin})"
    yield f"{found.currency} by {made}, without tax"
    for vault, terms in found.terms.items():
        if terms.endpoint is not None:
            yield f"these are AWS's prices, and vault {vault} is at {terms.endpoint}"
        for each in found.of_vault(vault).classes:
            for whose in dict.fromkeys(figure.as_in for figure in each.unverified):
                names = ", ".join(figure.name for figure in each.unverified if figure.as_in == whose)
                yield f"* taken from {whose}, not verified for {terms.region}, kind {each.name}: {names}"
