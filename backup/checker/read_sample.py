"""Read a sample of the vault back, in steps that may lie hours apart.

    plan     which pieces, from the inventory alone: free
    begin    record them as a run
    go on    ask for what was not asked for yet, read what is ready; at last, say what is affected

Each step may be interrupted anywhere and run again: a request is recorded before it is sent, a piece once it
was read. What cannot be read now is asked for again, and never taken for missing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.checker.affected import affected_by
from backup.checker.check import lost_before
from backup.checker.context import CheckContext
from backup.checker.reading_store import ReadingStore
from backup.checker.report import CheckFinding, CheckReport, ReadBack
from backup.checker.sample import Amount, choose, extent_of, frames_in, join, slices_of
from backup.checker.verify_slice import Prover, pack_keys
from backup.cost.limit import CostLimit
from backup.errors import (
    RecoveryKeyError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    UsageError,
    VaultError,
)
from backup.format.pack import PackKeys
from backup.inventory.content import archives, packed
from backup.inventory.content.archives import Archive
from backup.inventory.content.lost import lost_chunks
from backup.inventory.records import readings, runs
from backup.inventory.records.readings import Reading, Result
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import ReadingStage, StepStage
from backup.kinds import Outcome
from backup.model import ByteRange
from backup.protocols import phase
from backup.transfer.recognise import require_same
from backup.transfer.retrievals.ask import ask
from backup.transfer.retrievals.client import RetrievalClient, Verdict
from backup.transfer.retrievals.look import look
from backup.transfer.retrievals.once import new_token
from backup.transfer.retrievals.rounds import due
from backup.transfer.retrieve import Fetcher

Summary = Callable[[CheckReport], Mapping[str, Any]]


class Piece(Struct, frozen=True):
    """Bytes `start` to `end` of an archive; the range to ask for holds all frames that begin there."""

    archive: int
    size: int
    start: int
    end: int
    asked: ByteRange


def plan_sample(
    amount: Amount, context: CheckContext, *, among: Collection[int] | None = None
) -> list[Piece]:
    """The pieces that a check would read next, of the archives `among` or of all. Nothing is asked for."""
    vault = context.vault.name
    with context.inventory.reading() as tx:
        stored = {
            number: size
            for number, size in readings.readable_archives(tx, vault)
            if among is None or number in among
        }
        before = readings.read_before(tx, vault, context.clock.now())
        whole = not context.vault.traits.retrieves_ranges
        slices = [
            slice_
            for number, size in stored.items()
            for slice_ in slices_of(
                number, size, size if whole else context.slice_size, before.get(number, ())
            )
        ]
        lot = {number: context.chance.random() for number in stored}
        pieces: list[Piece] = []
        for slice_ in join(choose(slices, amount.of(sum(stored.values())), lot)):
            size = stored[slice_.archive]
            frames = frames_in(slice_, packed.frame_rows(tx, slice_.archive))
            asked = extent_of(slice_, size, frames)
            pieces.append(Piece(slice_.archive, size, slice_.start, slice_.end, asked))
    return pieces


def find_open(context: CheckContext) -> int | None:
    """The run of a check of this vault that has not read everything yet."""
    with context.inventory.reading() as tx:
        return readings.open_reading_run(tx, context.vault.name)


def begin_reading(
    pieces: Sequence[Piece],
    context: CheckContext,
    limit: CostLimit,
    open_run: Callable[[Transaction, datetime], Run] = runs.open_check,
) -> int:
    """Record the pieces to read; returns the run's number. `RecoveryKeyError` if no key given opens any.

    `LimitRefusedError` if they cost more than the `limit`.
    `open_run` records the run, in the same transaction: a check, unless it says otherwise.
    """
    if not pieces:
        raise UsageError(f"nothing is stored in vault {context.vault.name} that could be read")
    limit.hold(context.tier)
    if context.keys:
        with context.inventory.reading() as tx:
            found = archives.get_archives(
                tx, sorted({piece.archive for piece in pieces}), context.inventory.id
            )
        if all(pack_keys(archive.header, context.keys) is None for archive in found.values()):
            raise RecoveryKeyError(
                "the recovery key opens none of the archives that would be read",
                advice="nothing was asked for; `nightvault key status` shows for whom they are sealed",
            )
    rows = [(piece.archive, piece.start, piece.end, piece.asked, new_token()) for piece in pieces]
    with context.inventory.writing() as tx:
        run = open_run(tx, context.clock.now())
        readings.plan_readings(tx, run.number, context.vault.name, rows, context.tier)
    return run.number


def give_up(run: int, context: CheckContext) -> None:
    """End a check that waits; what it has read stays known."""
    with context.inventory.locked("check"), context.inventory.writing() as tx:
        readings.forget_unread(tx, run)
        runs.finish_run(tx, run, Outcome.INTERRUPTED, {"error": "given up"}, context.clock.now())


def go_on(run: int, context: CheckContext, summary: Summary = CheckReport.summary) -> CheckReport:
    """One step: "waiting" until all was read, then "done". `LockedError` if another process reads one.

    `summary` makes the summary that is kept with the run. `OtherVaultError` if another vault is there: what
    that one lacks is not lost.
    """
    with context.inventory.locked("check"):
        require_same(context.inventory, context.vault, context.patience)
        return _Reader(run, context, summary).step()


def _is_finding(result: Result) -> bool:
    return result.is_missing or result.is_damaged


def _is_opened(result: Result) -> bool:
    return (
        result.size > 0 and result.opened == result.frames and not (_is_finding(result) or result.is_unread)
    )


class _Reader:
    """One step of one check."""

    def __init__(self, run: int, context: CheckContext, summary: Summary) -> None:
        self._run = run
        self._summary = summary
        self._context = context
        self._store = ReadingStore(run, context)
        self._archives = self._store.archives
        self._known = self._store.known
        note = context.progress.note
        self._client = RetrievalClient(context.vault, context.clock, context.patience, note, context.askers)
        self._keys: dict[int, PackKeys | None] = {}

    def step(self) -> CheckReport:
        """Look what is ready, request more, and read; repeated as long as the vault delivers at once."""
        while True:
            ready = self._look_for_ready()
            asked = self._ask()
            if asked and not self._context.vault.traits.waits:
                ready = self._look_for_ready()
            self._read(ready)
            left = [reading for reading in self._known() if reading.state is not ReadingStage.READ]
            if not left:
                return self._finish()
            if self._context.vault.traits.waits or not (asked or ready):
                count = f"{len(left)} of {len(self._known())} retrievals"
                return CheckReport(
                    StepStage.WAITING, self._context.vault.name, waits_for=count, run=self._run
                )

    # Asking.

    def _look_for_ready(self) -> list[Reading]:
        """The pieces whose outputs are ready."""
        return [seen.record for seen in look(self._store, self._client) if seen.verdict is Verdict.READY]

    def _ask(self) -> bool:
        """Request what can be downloaded before outputs expire; returns whether any request was settled."""
        known = self._known()
        wanted = due(
            [reading for reading in known if reading.state is ReadingStage.PLANNED],
            lambda reading: reading.asked.length,
            under_way=sum(reading.asked.length for reading in known if reading.state is ReadingStage.WAITING),
            budget=self._context.round_bytes,
            traits=self._context.vault.traits,
        )
        if not wanted:
            return False
        outcome = ask(self._store.wanted(wanted), self._store, self._client, self._client.open_retrievals())
        if outcome.short is not None:
            self._context.progress.note(f"{outcome.short}: it is tried again the next time")
        return outcome.has_settled

    # Reading.

    def _read(self, ready: Sequence[Reading]) -> None:
        progress = self._context.progress
        if not ready:
            return
        total, context = sum(reading.asked.length for reading in ready), self._context
        with (
            phase(progress, "Reading archives back", total, counts="slice"),
            Fetcher(context.vault, context.clock, piece=context.piece, tell=progress.note) as fetcher,
        ):
            prover = Prover(context.inventory, fetcher, context.secret.chunk_key)
            for reading in ready:
                self._read_one(reading, prover)
                progress.advance(files=1, done=reading.asked.length)

    def _read_one(self, reading: Reading, prover: Prover) -> None:
        archive = self._archives[reading.archive]
        try:
            result = prover.prove(reading, archive, self._keys_of(archive))
        except (RetrievalExpiredError, RetrievalNotReadyError):
            self._store.again(reading)
            return
        except VaultError as error:
            result = Result(note=str(error), is_unread=True)
        self._store.keep(reading, result)

    def _keys_of(self, archive: Archive) -> PackKeys | None:
        if archive.number not in self._keys:
            self._keys[archive.number] = pack_keys(archive.header, self._context.keys)
        return self._keys[archive.number]

    # The end.

    def _finish(self) -> CheckReport:
        known = self._known()
        vault = self._context.vault.name
        findings = [found for reading in known if (found := self._finding(reading)) is not None]
        findings += self._sealed(known)
        with self._context.inventory.reading() as tx:
            lost = lost_chunks(tx, vault, bad_frames=readings.bad_frames(tx))
            affected = affected_by(tx, lost, vault)
            if affected.files:
                told = {
                    reading.archive for reading in known if reading.result and _is_finding(reading.result)
                }
                findings += lost_before(tx, lost.archives - told, self._context)
            run = runs.find_run(tx, self._run)
        now = self._context.clock.now()
        took = 0.0 if run is None else (now - run.started_at).total_seconds()
        report = CheckReport(
            StepStage.DONE,
            vault,
            run=self._run,
            read=self._read_back(known),
            findings=tuple(findings),
            affected=affected,
            seconds=took,
        )
        with self._context.inventory.writing() as tx:
            self._record_opened(tx, known, now)
            runs.finish_run(tx, self._run, report.outcome, self._summary(report), now)
        return report

    def _record_opened(self, tx: Transaction, known: Sequence[Reading], now: datetime) -> None:
        """Record as opened the pieces of which a key opened every frame, and its chunks have their names."""
        pieces: dict[int, list[ByteRange]] = {
            reading.archive: [] for reading in known if reading.result and reading.result.opened
        }
        of_copies = {reading.archive: reading.copied_to for reading in known}
        for reading in known:
            if reading.archive in pieces and reading.result and _is_opened(reading.result):
                pieces[reading.archive].append(ByteRange(reading.start, reading.end))
        for archive, opened in pieces.items():
            tier, copied_to = self._context.tier, of_copies[archive]
            readings.record_opened(tx, self._run, archive, opened, tier, now, copied_to)

    def _finding(self, reading: Reading) -> CheckFinding | None:
        result, archive = reading.result, self._archives[reading.archive]
        if result is None:
            return None
        what = archive.archive_id or ""
        named = f"archive {archive.number}, bytes {reading.start} to {reading.end}"
        again = "" if reading.copied_to is None else "; the next copy makes it again"
        if result.is_missing:
            return CheckFinding("missing", what, f"{named}: {result.note}{again}")
        if result.is_unread:
            return CheckFinding("unread", what, f"{named}: {result.note}")
        if result.is_damaged:
            why = result.note or f"{len(result.bad)} of {result.frames} frames are not what was stored"
            return CheckFinding("damaged", what, f"{named}: {why}{again}")
        return None

    def _sealed(self, known: Sequence[Reading]) -> list[CheckFinding]:
        """Archives that a key was given for, and that it does not open."""
        if not self._context.keys:
            return []
        numbers = sorted({reading.archive for reading in known if reading.result and reading.result.size})
        return [
            CheckFinding("sealed", self._archives[number].archive_id or "", "no key that was given opens it")
            for number in numbers
            if self._keys_of(self._archives[number]) is None
        ]

    def _read_back(self, known: Sequence[Reading]) -> ReadBack:
        results = [(reading, reading.result) for reading in known if reading.result and reading.result.size]
        totals = [result for _, result in results]
        with self._context.inventory.reading() as tx:
            stored = readings.readable_archives(tx, self._context.vault.name)
            before = readings.read_before(tx, self._context.vault.name, self._context.clock.now())
        length = self._context.slice_size if self._context.vault.traits.retrieves_ranges else 0
        never = sum(
            slice_.length
            for number, size in stored
            for slice_ in slices_of(number, size, length or size, before.get(number, ()))
            if slice_.read_at is None
        )
        back = ReadBack(
            archives=len({reading.archive for reading, _ in results}),
            whole_archives=sum(result.is_whole for result in totals),
            frames=sum(result.frames for result in totals),
            bytes=sum(result.size for result in totals),
            opened_frames=sum(result.opened for result in totals),
            chunks=sum(result.chunks for result in totals),
            damaged_frames=sum(len(result.bad) for result in totals),
        )
        return replace(back, stored_bytes=sum(size for _, size in stored), never_read=never)
