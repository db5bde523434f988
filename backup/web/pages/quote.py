"""The page with the quote of a restore of chosen paths, from the inventory alone, and the command for it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.app.money.prices import (
    Quote,
    gap_for,
    kind_of,
    known_table,
    load_of,
    price_of,
    priced,
    tiers_where,
)
from backup.config import Config, VaultSettings
from backup.cost import Price
from backup.cost.prices import Figure
from backup.format.rows import unpack_u32
from backup.inventory.content import copied
from backup.inventory.content.entries import ROOT
from backup.inventory.content.entry_versions import version_at
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.questions import browsing as queries
from backup.inventory.questions.browsing import HeldChunk, WantedFrame
from backup.inventory.records.runs import vault_of_job
from backup.inventory.store.connections import Transaction
from backup.model import EntryKind, FrameRow, SnapshotId, Tier, VaultName
from backup.restorer.ranges import RangePlan, plan_ranges
from backup.web.context import context_of
from backup.web.pages.entries import COLD, Name, Place, readable, summed, the_snapshot
from backup.web.pages.html import framed, texts
from backup.web.pages.parameters import Parameters, paths_of
from backup.web.texts import Texts
from backup.wording import escape

TARGET = "restored"
MOST_ENTRIES = 50_000
_MOST_CHUNKS = 200_000


class TierQuote(Struct, frozen=True):
    """The quote for a tier: bytes retrieved, costs, and hours; `total` None: no price is known.

    The other amounts are parts of `total`. `hours` are the least and the most, None if unknown. `command`
    restores with this tier, and can be copied into a shell.
    """

    tier: Tier
    retrievals: int
    archives: int
    retrieved: int
    total: Decimal | None
    retrieval: Decimal | None
    requests: Decimal | None
    egress: Decimal | None
    copies: Decimal | None
    hours: tuple[float, float] | None
    unverified: Sequence[str]
    command: str


class QuotePage(Struct, frozen=True):
    """The quote for some paths of a snapshot.

    `command` restores with the config's tier. `is_too_much`: there are more entries than a page may count
    (`limit`); `tiers` is empty then, and the command with `--dry-run` shows the price.
    `files_command` serves the files of the snapshot: what is not cold can be opened without a restore.
    `is_free`: nothing is retrieved or paid, as from a directory. `missing` are paths not in the snapshot.
    """

    snapshot: Snapshot
    vault: VaultName
    paths: Sequence[Name]
    missing: Sequence[Name]
    files: int
    bytes: int
    tiers: Sequence[TierQuote]
    is_free: bool
    is_too_much: bool
    limit: int
    currency: str
    prices_of: date | None
    places: Sequence[Place]
    command: str
    dry_run_command: str
    files_command: str


def restore_command(
    snapshot: SnapshotId, paths: Sequence[bytes], *, tier: Tier | None = None, dry_run: bool = False
) -> str:
    """Return the `nightvault restore` command for paths of a snapshot, into a new directory.

    A single path is restored directly into it; several paths keep their full paths below it.
    """
    first = paths[0] if len(paths) == 1 else b"/"
    words = [b"nightvault", b"restore", snapshot.encode() + b":" + first]
    words += [] if len(paths) == 1 else paths
    words += [b"--target", TARGET.encode()]
    words += [] if tier is None else [b"--tier", tier.encode()]
    words += [b"--dry-run"] if dry_run else []
    return " ".join(map(quoted, words))


def quoted(word: bytes) -> str:
    """Quote a word for bash, zsh or ksh; unprintable bytes are written as octal numbers in $'…'."""
    try:
        text = word.decode()
    except UnicodeDecodeError:
        return _by_number(word)
    is_shown = text.isprintable() and escape(text) == text
    return shlex.quote(text) if is_shown else _by_number(word)


def _by_number(word: bytes) -> str:
    shown = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\{byte:03o}" for byte in word)
    return f"$'{''.join(shown)}'"


class _Chosen(Struct, frozen=True):
    """The choice: counts, and the chunks of all files; `is_too_much`: it was not counted to its end."""

    paths: Sequence[bytes]
    missing: Sequence[bytes]
    files: int
    bytes: int
    chunks: Sequence[int]
    is_too_much: bool


def quote(tx: Transaction, config: Config, now: datetime, snapshot: str, paths: Sequence[bytes]) -> QuotePage:
    """Return the cost of a restore of these paths for each tier, and the commands for it."""
    wanted = paths_of(paths)
    of = the_snapshot(tx, snapshot)
    chosen = _chosen(tx, of, wanted)
    vault = _vault_to_read(tx, config, of)
    settings = next((candidate for candidate in config.vaults if candidate.name == vault), None)
    frames = [] if chosen.is_too_much else queries.wanted_frames(tx, chosen.chunks)
    held = [_held(frame, vault) for frame in frames]
    table = known_table(config)
    is_free = settings is not None and settings.kind == "directory"
    found = _quotes(config, settings, frames) if settings is not None and frames and not is_free else []
    names = chosen.paths or wanted
    return QuotePage(
        snapshot=of,
        vault=vault,
        paths=[Name(path) for path in chosen.paths],
        missing=[Name(path) for path in chosen.missing],
        files=chosen.files,
        bytes=chosen.bytes,
        tiers=[_tier(tier_quote, of.id, names) for tier_quote in found],
        is_free=not chosen.is_too_much and (is_free or not frames),
        is_too_much=chosen.is_too_much,
        limit=MOST_ENTRIES,
        currency="" if table is None else table.currency,
        prices_of=None if is_free or table is None else table.date,
        places=summed(config, held, readable(tx, now, held)),
        command=restore_command(of.id, names),
        dry_run_command=restore_command(of.id, names, dry_run=True),
        files_command=f"nightvault serve-files --snapshot {of.id}",
    )


def _vault_to_read(tx: Transaction, config: Config, of: Snapshot) -> VaultName:
    """The vault that `restore` takes of those with a snapshot: a directory, then one that answers at once."""
    known = {vault.name: vault for vault in config.vaults}
    home = vault_of_job(tx, of.job_number)
    having = [home, *copied.vaults_with(tx, of.job_number, of.number)]
    among = [vault for vault in having if vault in known]
    return min(
        among,
        key=lambda vault: (kind_of(known[vault]) in COLD, known[vault].kind != "directory"),
        default=home,
    )


def _chosen(tx: Transaction, of: Snapshot, wanted: Sequence[bytes]) -> _Chosen:
    """Count what lies at and below the paths, up to the bounds."""
    missing: list[bytes] = []
    files = total = 0
    chunks: set[int] = set()
    room = MOST_ENTRIES
    for path in wanted:
        row = None if path == ROOT else version_at(tx, of.job_number, path, of.number)
        if path != ROOT and row is None:
            missing.append(path)
            continue
        below: list[tuple[int, int, bytes | None]] = []
        if row is not None and row.kind != EntryKind.DIRECTORY:
            below = [(row.kind, row.size, queries.chunk_lists(tx, [row.number]).get(row.number))]
        else:
            rows = queries.entries_below(tx, of.job_number, path, of.number, limit=room + 1)
            below = [(folder.kind, folder.size, folder.chunks) for folder in rows]
        room -= len(below)
        files += sum(kind != EntryKind.DIRECTORY for kind, _, _ in below)
        total += sum(size for _, size, _ in below)
        for _, _, packed in below:
            if packed and len(chunks) <= _MOST_CHUNKS:
                chunks.update(unpack_u32(packed[: 4 * _MOST_CHUNKS + 4]))
        if room < 0 or len(chunks) > _MOST_CHUNKS:
            return _Chosen(
                [wanted_path for wanted_path in wanted if wanted_path not in missing],
                missing,
                0,
                0,
                (),
                is_too_much=True,
            )
    there = [path for path in wanted if path not in missing]
    return _Chosen(there, missing, files, total, sorted(chunks), is_too_much=False)


def _quotes(config: Config, settings: VaultSettings, frames: Sequence[WantedFrame]) -> list[Quote]:
    """A quote for each tier that the vault has, as `restore --dry-run` makes it."""
    price, kind = price_of(config, settings), kind_of(settings)
    waits = kind in COLD
    days = settings.retrieval_days if settings.kind == "s3" else 0
    found = []
    for tier in tiers_where(price, kind, waits=waits):
        ranges = _ranges(frames, price, tier, whole=waits and settings.kind == "s3")
        load = load_of({frame.archive: frame.archive_size for frame in frames}, ranges)
        found.append(priced(tier, load, ranges, price, kind, copy_days=days))
    return found


def _ranges(
    frames: Sequence[WantedFrame], price: Price | None, tier: Tier, *, whole: bool
) -> list[RangePlan]:
    by_archive: dict[tuple[int, int], list[FrameRow]] = {}
    for frame in frames:
        by_archive.setdefault((frame.archive, frame.archive_size), []).append(frame.frame)
    gap = gap_for(price, tier)
    return [
        plan
        for (number, size), rows in sorted(by_archive.items())
        for plan in plan_ranges(number, size, rows, whole=whole, gap=gap)
    ]


def _tier(of_tier: Quote, snapshot: SnapshotId, paths: Sequence[bytes]) -> TierQuote:
    bill, load = of_tier.bill, of_tier.load
    return TierQuote(
        tier=of_tier.tier,
        retrievals=load.requests,
        archives=load.archives,
        retrieved=load.retrieved,
        total=bill.total if bill else None,
        retrieval=bill.retrieval if bill else None,
        requests=bill.requests if bill else None,
        egress=bill.egress if bill else None,
        copies=bill.copies if bill else None,
        hours=of_tier.hours,
        unverified=[borrowed(figure) for figure in of_tier.unverified],
        command=restore_command(snapshot, paths, tier=of_tier.tier),
    )


def borrowed(figure: Figure) -> str:
    """Return the note that a price is taken from another region, as this region's is not verified."""
    tier, _, unit = figure.name.rpartition(".")
    what = {"gb": "a GB", "requests": "1,000 requests", "hours": "the hours"}.get(
        unit, unit.replace("_", " ")
    )
    return f"{what}{f' of tier {tier}' if tier else ''}: as in {figure.as_in}, not verified for this region"


def _held(wanted: WantedFrame, vault: VaultName) -> HeldChunk:
    frame = wanted.frame
    return HeldChunk(
        0,
        wanted.archive,
        frame.number,
        frame.offset,
        frame.sealed_length,
        wanted.kind,
        vault,
        wanted.wanted,
    )


def tier_word(tier: Tier, said: Texts) -> str:
    """Return a tier as a heading."""
    return {
        Tier.EXPEDITED: said.say("Expedited"),
        Tier.STANDARD: said.say("Standard"),
        Tier.BULK: said.say("Bulk"),
    }[tier]


def hours(bounds: tuple[float, float], said: Texts) -> str:
    """Return how long a tier takes, as text: minutes below an hour, days above two."""
    least, most = bounds
    if most <= 0:
        return said.say("at once")
    if most < 1:
        return said.say("%(least)s to %(most)s min", least=round(least * 60), most=round(most * 60))
    if most == least:
        return said.say("up to %(most)s h", most=f"{most:g}")
    return said.say("%(least)s to %(most)s h", least=f"{least:g}", most=f"{most:g}")


async def show(request: Request) -> Response:
    """Show the cost of restoring the chosen paths, and the command for it."""
    context, asked = context_of(request), Parameters(request)
    found = await context.reading.view(
        quote, context.config, context.clock.now(), asked.text("snapshot") or "", asked.paths() or [b"/"]
    )
    said = texts()
    return await framed(
        request,
        "quote.html",
        here="browse",
        it=found,
        tier_word=lambda tier: tier_word(tier, said),
        hours=lambda bounds: hours(bounds, said),
    )


QUOTE = (Route("/quote", show, name="quote"),)
