"""Compares the inventory with the vault's own list, in steps that may lie hours apart.

    ask for a list → it comes → compare, mark what is lost or found again → adopt orphans → what is affected

A list says nothing about archives newer than itself. Where the vault makes a list at once, these are the
archives stored since the request; elsewhere times decide, by clocks that may differ. A vault that cannot be
reached is an error, never a finding. If another vault is there than before, the report says what it lacks,
and nothing is marked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from backup.checker.affected import affected_by
from backup.checker.context import CheckContext
from backup.checker.report import CheckFinding, CheckReport, ComparedList
from backup.errors import LockedError, VaultMissingError
from backup.format.enrolment import HeirMark
from backup.format.pack import parse_description
from backup.inventory.content import archives, strangers
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.lost import lost_chunks, replacements, spoiled_archives
from backup.inventory.questions import compared
from backup.inventory.records import readings, retrievals, runs
from backup.inventory.records.retrievals import ListedRow, ListingRow
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import StepStage
from backup.inventory.store.times import moment
from backup.model import ArchiveId, ArchiveLabel, PackKind, VaultName
from backup.transfer.recognise import Meeting, meet, missing_vault, other_vault
from backup.transfer.retrievals.listing import THE_LIST, newest_kept_head, see_to_listing
from backup.transfer.succession import OLDER, accept_made_up, advice_on, look_for_others, one_each, told_of
from backup.wording import sentences


def find_unnamed(tx: Transaction, vault: VaultName) -> Iterator[CheckFinding]:
    """A finding for each job whose catalogs do not name all it needs. Cheap if nothing is lost or damaged."""
    if not spoiled_archives(tx, vault):
        return
    for job in runs.list_jobs(tx, vault):
        unnamed = replacements(tx, archives.named_archives(tx, job.number, also_spoiled=True))
        if unnamed:
            count = f"{len(unnamed)} archive{'s' * (len(unnamed) > 1)}"
            detail = (
                f"what it may need was lost and is stored again in {count} that its catalogs do not name:"
                " its next backup names them"
            )
            yield CheckFinding("unnamed", job.name, detail)


def compare_with_vault(context: CheckContext) -> CheckReport:
    """One step: "waiting" until there is a fresh list, then "done", recorded as a run."""
    meeting = _greet(context)
    stored = _stored_before(context)
    note = context.progress.note
    waits_for = see_to_listing(context.inventory, context.vault, context.clock, context.patience, note)
    if waits_for:
        return CheckReport(StepStage.WAITING, context.vault.name, waits_for=waits_for)
    with context.inventory.reading() as tx:
        head = newest_kept_head(tx, context.vault)
    if head is None:
        return CheckReport(StepStage.WAITING, context.vault.name, waits_for=THE_LIST)
    began = context.clock.now()
    with context.inventory.writing() as tx:
        run = runs.open_check(tx, began)
    comparison = _ListComparison(context, head, meeting, stored)
    report = replace(comparison.report(), run=run.number)
    now = context.clock.now()
    report = replace(report, seconds=(now - began).total_seconds())
    with context.inventory.writing() as tx:
        if comparison.is_other:  # nobody may take its list for that of our vault
            retrievals.forget_listing(tx, head.number)
        runs.finish_run(tx, run.number, report.outcome, report.summary(), now)
    return report


def _greet(context: CheckContext) -> Meeting:
    """A vault that is not there has lost nothing: its disk is not mounted, or its name is wrong."""
    patience = context.patience
    state = patience.call(context.vault.state)
    if not state.exists:
        missing = missing_vault(context.inventory, context.vault.name, state.location)
        raise VaultMissingError(str(missing), advice=f"nothing was marked as lost: {missing.advice}")
    return meet(context.inventory, context.vault, patience)


def _stored_before(context: CheckContext) -> frozenset[int] | None:
    """The archives that a list made at once must show: all stored now. None for vaults with slow lists."""
    if not context.vault.traits.lists_at_once:
        return None
    with context.inventory.reading() as tx:
        return compared.stored_numbers(tx, context.vault.name)


class _ListComparison:
    """One list against the inventory."""

    def __init__(
        self, context: CheckContext, head: ListingRow, meeting: Meeting, stored: frozenset[int] | None
    ) -> None:
        self._context = context
        self._meeting = meeting
        self._stored = stored
        self._head = head
        self._listing = int(head.number)
        self._as_of = head.made_at
        self._requested_at = moment(head.requested_at)
        self._findings: list[CheckFinding] = []
        self.is_other = meeting.is_other

    def report(self) -> CheckReport:
        """Compare the inventory with the list, and record the result."""
        inventory, vault = self._context.inventory, self._context.vault.name
        with inventory.writing() as tx:
            self.is_other = self.is_other or self._shows_nothing(tx)
            unconfirmed = archives.count_unconfirmed(tx, vault)
            if not self.is_other:
                compared.confirm(tx, self._listing, at_once=self._context.vault.traits.lists_at_once)
            left = archives.count_unconfirmed(tx, vault)
            known = frozenset(spoiled_archives(tx, vault))
            newer = self._judge(tx)
        self._tell_other()
        self._look_at_unknown()
        with inventory.reading() as tx:
            found = ComparedList(
                as_of=self._as_of,
                listed=compared.count_lines(tx, self._listing),
                shown=compared.count_shown(tx, self._listing, vault),
                newer=newer,
                unconfirmed=left,
                confirmed=unconfirmed - left,
            )
            lost = lost_chunks(tx, vault, bad_frames=readings.bad_frames(tx))
            affected = affected_by(tx, lost, vault)
            if affected.files:
                self._findings += lost_before(tx, known & lost.archives, self._context)
            self._findings += find_unnamed(tx, vault)
        return CheckReport(
            StepStage.DONE, vault, compared=found, findings=tuple(self._findings), affected=affected
        )

    def _shows_nothing(self, tx: Transaction) -> bool:
        """Whether a vault whose identity is not known yet shows nothing at all of what is stored in it."""
        vault = self._context.vault.name
        if self._meeting.known is not None or not self._stored:
            return False
        return not compared.count_shown(tx, self._listing, vault)

    def _tell_other(self) -> None:
        """Name both vaults, and say that nothing was concluded."""
        if not self.is_other:
            return
        error = other_vault(self._meeting, self._context.vault)
        detail = f"{error}. Nothing was marked as lost: {error.advice}"
        self._findings.insert(0, CheckFinding("other-vault", self._context.vault.name, detail))

    def _mark(self, tx: Transaction, rows: Sequence[compared.OurArchive], state: ArchiveState) -> None:
        """Believe the list, if it is our vault's; a copy that is not as it was sent is made again."""
        if self.is_other:
            return
        compared.record(tx, self._context.vault.name, rows, state, self._context.clock.now())

    def _judge(self, tx: Transaction) -> int:
        """Mark what the list says of ours; how many are newer than it."""
        vault = self._context.vault.name
        missed = readings.missed_since(
            tx, min(self._as_of, self._requested_at)
        )  # what is newer than the list
        proven, likely = (
            [row for row in rows if row.number not in missed]
            for rows in compared.found_again(tx, self._listing, vault)
        )
        self._mark(tx, proven, ArchiveState.STORED)
        self._mark(tx, [row for row in likely if row.is_copy], ArchiveState.UNCONFIRMED)
        if not self.is_other:
            own = [row for row in likely if not row.is_copy]
            compared.doubt(tx, own, self._context.clock.now())
            compared.condemn_again(tx, self._listing)
        differing = compared.differing_archives(tx, self._listing, vault)
        self._mark(tx, differing, ArchiveState.DAMAGED)
        now = self._context.clock.now()
        covered = compared.must_show(tx, self._head, vault, now, stored=self._stored)
        missing, newer = compared.absent_archives(tx, self._listing, vault, covered)
        self._mark(tx, missing, ArchiveState.LOST)
        hint = self._context.vault.traits.if_missing
        self._add_findings("missing", missing, sentences("the vault's list does not show it", hint))
        self._add_findings(
            "differs", differing, "the vault lists it with another size or hash than was stored"
        )
        self._add_findings("found-again", proven, "it seemed lost, and the vault lists it as it was stored")
        self._add_findings(
            "found-again",
            likely,
            "it seemed lost, and the vault lists something of its size: nothing proves that it is the same; "
            "it is restored from, and nothing is built on it",
        )
        return len(newer)

    def _add_findings(self, kind: str, rows: Sequence[compared.OurArchive], why: str) -> None:
        for row in rows:
            again = "; the next copy makes it again" if row.is_copy and kind != "found-again" else ""
            detail = f"{_named(row)}, stored {moment(row.stored_at):%Y-%m-%d %H:%M} UTC: {why}{again}"
            self._findings.append(CheckFinding(kind, row.archive_id, detail))

    # What the list shows and the inventory does not.

    def _look_at_unknown(self) -> None:
        with self._context.inventory.reading() as tx:
            lines = compared.unknown_lines(tx, self._listing)
        self._see_to_mark(lines)
        if not lines:
            return
        ours = {self._context.inventory.id, *self._context.inventory.ancestors}
        others = self._tell_others(lines)
        orphans: list[tuple[ListedRow, ArchiveLabel]] = []
        for line in lines:
            label = parse_description(line.description)
            if label is None and HeirMark.from_text(line.description) is not None:
                continue
            if label is None:
                self._findings.append(CheckFinding("foreign", line.archive_id, "not made by nightvault"))
            elif label.pack_id in others:
                continue  # told already
            elif label.inventory_id not in ours:
                whose = "another server's, or this server's from before or after a rebuild"
                detail = f"of inventory {label.inventory_id.hex()[:8]}: {whose}"
                self._findings.append(CheckFinding("other-inventory", line.archive_id, detail))
            else:
                orphans.append((line, label))
        self._findings += self._judge_orphans(orphans)

    def _see_to_mark(self, lines: Sequence[ListedRow]) -> None:
        """Make the next run leave this inventory's mark again, if the vault's list lacks it."""
        vault = self._context.vault
        if not vault.traits.lists_at_once or self.is_other:
            return
        with self._context.inventory.reading() as tx:
            mark = strangers.heir_mark(tx, vault.name)
        if mark and all(mark != line.description for line in lines):
            with self._context.inventory.writing() as tx:
                strangers.set_heir_mark(tx, vault.name, "")

    def _tell_others(self, lines: Sequence[ListedRow]) -> set[bytes]:
        """Add a finding for each heir and each stranger in the list; returns the strangers' packs."""
        context = self._context
        if self.is_other:
            return set()
        with context.inventory.writing() as tx:
            found = look_for_others(tx, context.inventory, context.vault, lines, context.successors)
            strangers.note_strangers(tx, context.vault.name, found.strangers, context.clock.now())
        for heir in found.heirs:
            self._findings.append(CheckFinding("newer-catalog", "", f"{heir}. {heir.advice}"))
        for stranger in one_each(found.strangers):
            vault = context.vault.name
            detail = f"{told_of([stranger], vault)}: {advice_on([stranger], vault, 'check')}"
            self._findings.append(CheckFinding("not-its-own", stranger.pack_id.hex(), detail))
        return {stranger.pack_id for stranger in found.strangers}

    def _judge_orphans(self, orphans: Sequence[tuple[ListedRow, ArchiveLabel]]) -> list[CheckFinding]:
        """Adopt archives that a killed run stored but did not record; no backup may run meanwhile."""
        if not orphans:
            return []
        if self.is_other:
            return self._not_adopted(orphans)
        try:
            with self._context.inventory.locked("backup"), self._context.inventory.writing() as tx:
                return [self._orphan(tx, line, label, may_adopt=True) for line, label in orphans]
        except LockedError:
            return self._not_adopted(orphans)

    def _not_adopted(self, orphans: Sequence[tuple[ListedRow, ArchiveLabel]]) -> list[CheckFinding]:
        with self._context.inventory.reading() as tx:
            return [self._orphan(tx, line, label, may_adopt=False) for line, label in orphans]

    def _orphan(
        self, tx: Transaction, line: ListedRow, label: ArchiveLabel, *, may_adopt: bool
    ) -> CheckFinding:
        recorded = compared.pack_row(tx, label.pack_id)
        pack = f"pack {label.pack_id.hex()[:8]}"
        if recorded is None:
            return self._stranger(tx, line, label)
        if recorded.archive_id is not None:
            return CheckFinding(
                "duplicate", line.archive_id, f"{pack} is stored as {recorded.archive_id}, too"
            )
        if recorded.upload is None:
            return CheckFinding("orphan", line.archive_id, f"{pack}: its upload was given up before")
        if (line.size, line.tree_hash) != (recorded.size, recorded.tree_hash):
            return CheckFinding(
                "orphan", line.archive_id, f"{pack}: not the size and tree hash that were sent"
            )
        if not may_adopt:
            return CheckFinding(
                "orphan", line.archive_id, f"{pack}: a backup is at work, which may be sending it"
            )
        archives.mark_stored(tx, recorded.number, ArchiveId(line.archive_id), moment(line.created_at))
        return CheckFinding(
            "adopted", line.archive_id, f"{pack}: a cut came between its arrival and our record"
        )

    def _stranger(self, tx: Transaction, line: ListedRow, label: ArchiveLabel) -> CheckFinding:
        """The finding on an archive that bears our id and is not in the inventory."""
        if label.kind is not PackKind.CATALOG:
            detail = f"pack {label.pack_id.hex()[:8]} of this inventory, which it does not know"
            return CheckFinding("orphan", line.archive_id, detail)
        before = label.inventory_id != self._context.inventory.id
        newest = compared.newest_catalog(tx, self._context.vault.name, label.job_id)
        if label.pack_id in strangers.passed_catalogs(tx):
            detail = f"catalog {label.number} from before the rebuild, which is not needed any more"
            if not before:
                detail = f"what is called catalog {label.number} takes no part, by a person's word"
            return CheckFinding("orphan", line.archive_id, detail)
        detail = (
            f"catalog {label.number}, stored {moment(line.created_at):%Y-%m-%d %H:%M} UTC: this inventory"
        )
        if before or label.number < newest:
            why = "another machine worked with a copy of it, or a rebuild left it out"
            detail = f"{detail} does not know it: {why}"
            return CheckFinding("orphan", line.archive_id, detail)
        made_up = accept_made_up(self._context.vault.name, label.pack_id)
        detail = f"{detail} does not know it, and has none of that job but up to {newest}: it is an old copy"
        return CheckFinding(
            "newer-catalog", line.archive_id, f"{detail}. {OLDER[:1].upper()}{OLDER[1:]}. {made_up}"
        )


def lost_before(tx: Transaction, numbers: frozenset[int], context: CheckContext) -> Iterator[CheckFinding]:
    """Archives that an earlier check found lost or damaged, while something needs them still."""
    found = archives.get_archives(tx, sorted(numbers), context.inventory.id)
    for archive in found.values():
        detail = (
            f"archive {archive.number}: found {archive.state} before, and not all it held is stored "
            "elsewhere yet"
        )
        yield CheckFinding("lost", archive.archive_id or "", detail)


def _named(row: compared.OurArchive) -> str:
    what = "copy of archive" if row.is_copy else "archive"
    return f"{what} {row.number} ({PackKind(row.kind).name.lower()}, {row.size} bytes)"
