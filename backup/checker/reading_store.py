"""The `RetrievalStore` of a check: the pieces to request, and what the vault's answers mean for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backup.checker.context import CheckContext
from backup.checker.sample import Slice, frames_in
from backup.errors import ArchiveMissingError, ArchiveShortError, NightvaultError
from backup.inventory.content import archives, copied, copied_pruning, packed
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.content.lost import mark
from backup.inventory.records import readings
from backup.inventory.records.readings import Reading, Result
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import ReadingStage
from backup.model import RetrievalState
from backup.transfer.retrievals.client import Pending, RetrievalAnswer, Seen, Verdict, Wanted
from backup.transfer.retrievals.once import new_token


class ReadingStore:
    """The pieces of one check that are to be read, as rows of the inventory."""

    def __init__(self, run: int, context: CheckContext) -> None:
        self._run = run
        self._context = context
        with context.inventory.reading() as tx:
            numbers = sorted({reading.archive for reading in readings.readings_of(tx, run)})
            own = archives.get_archives(tx, numbers, context.inventory.id)
            vault = copied.vault_number(tx, context.vault.name)
            self.archives: Mapping[int, Archive] = copied.as_in_vault(tx, vault, own)

    def known(self) -> list[Reading]:
        """All pieces, as they are recorded now."""
        with self._context.inventory.reading() as tx:
            return readings.readings_of(tx, self._run)

    def pending(self) -> list[Pending[Reading]]:
        """The pieces that wait; one that the vault failed to retrieve before has a result."""
        return [
            Pending(reading, reading.retrieval_id, reading.requested_at, int(reading.result is not None))
            for reading in self.known()
            if reading.state is ReadingStage.WAITING and reading.retrieval_id
        ]

    def seen(self, seen: Sequence[Seen[Reading]]) -> None:
        """Plan pieces again whose output is gone; those that the vault failed at twice are not read."""
        for answer in seen:
            failed: Result | None = None
            if answer.status.state is RetrievalState.FAILED:
                failed = Result(note=f"the vault could not retrieve it: {answer.why}", is_unread=True)
            if answer.verdict is Verdict.GIVEN_UP and failed is not None:
                self.keep(answer.record, failed)
            elif answer.verdict is Verdict.AGAIN:
                self.again(answer.record, failed)

    def again(self, reading: Reading, failed: Result | None = None) -> None:
        """Request a piece again whose output is gone, if paying for it once more is allowed."""
        with self._context.inventory.writing() as tx:
            may = self._context.may_ask_again(tx, reading)
            if may:
                readings.planned_anew(tx, reading.number, new_token(), failed)
        if not may:
            why = failed.note if failed is not None else "the retrieval expired before it was read"
            self.keep(
                reading,
                Result(note=f"{why}; requesting it again may cost more than is allowed", is_unread=True),
            )

    def has_granted(self) -> bool:
        """Whether the vault ever took one of this check's requests."""
        return any(reading.retrieval_id for reading in self.known())

    def wanted(self, planned: Sequence[Reading]) -> list[Wanted[Reading]]:
        """The pieces to request, each with its archive; if that was cut short, this is a finding."""
        return [
            Wanted(
                reading,
                archive.archive_id,
                archive.size,
                reading.asked,
                reading.tier,
                reading.token,
                f"archive {reading.archive}",
            )
            for reading in planned
            for archive in [self.archives[reading.archive]]
        ]

    def answered(self, answers: Sequence[RetrievalAnswer[Reading]]) -> None:
        """Record granted requests, and the result for a piece whose archive was refused."""
        for answer in answers:
            if answer.refused is not None:
                self.keep(answer.record, self._refused(answer.record, answer.refused))
            elif answer.retrieval_id is not None:
                with self._context.inventory.writing() as tx:
                    now = self._context.clock.now()
                    readings.asked(tx, answer.record.number, answer.retrieval_id, now)

    def _refused(self, reading: Reading, error: NightvaultError) -> Result:
        if isinstance(error, ArchiveMissingError):
            return Result(note=str(error), is_missing=True)
        if not isinstance(error, ArchiveShortError):
            return Result(note=str(error), is_unread=True)
        with self._context.inventory.reading() as tx:  # none of it can be had by ranges
            rows = packed.frame_rows(tx, reading.archive)
        bad = [row.number for row in frames_in(Slice(reading.archive, reading.start, reading.end), rows)]
        return Result(frames=len(bad), bad=bad, note=str(error))

    def keep(self, reading: Reading, result: Result) -> None:
        """Record the result for a piece and the new state of its archive, in one transaction."""
        with self._context.inventory.writing() as tx:
            readings.was_read(tx, reading, result, self._context.clock.now())
            if result.is_missing:
                self._mark(tx, reading, ArchiveState.LOST)
            elif result.is_damaged:
                self._mark(tx, reading, ArchiveState.DAMAGED)

    def _mark(self, tx: Transaction, reading: Reading, state: ArchiveState) -> None:
        """Set the state of an archive in its own vault; a damaged copy counts as lost: it is sent again."""
        if reading.copied_to is None:
            mark(tx, [reading.archive], state)
        else:
            now = self._context.clock.now()
            copied_pruning.mark(tx, reading.copied_to, [reading.archive], ArchiveState.LOST, now)
