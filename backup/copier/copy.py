"""Copies snapshots of a vault into another one: packs first, then what its catalogs say of them.

    report = copy(context, JobName("main"), CopyChoice())

Packs are recorded as on their way, compared with their recorded hashes, and sent: those of a directory as
they are read there; others are brought down before, one after the other. It runs beside backups, for days if
need be: only its catalogs take the lock of backups. Nothing counts as copied before a catalog of the
destination is stored that says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import islice

from msgspec import Struct
from msgspec.structs import replace

from backup.catalogs.run_setup import require_domain, require_ours
from backup.copier.context import CopyChoice, CopyContext, CopyRecords, Packs
from backup.copier.learning import has_unknown_copies, learn_copies, refuse_unknown
from backup.copier.report import Asks, CopyReport
from backup.copier.saying import (
    destination,
    domain_there,
    finish_dead,
    going_there,
    locked_for_catalogs,
    numbers_of,
    say,
    to_say,
)
from backup.copier.thawing import TIER, Thawing, good_leaves
from backup.errors import (
    InterruptedRunError,
    NightvaultError,
    UsageError,
    as_stopped,
    failure_report,
)
from backup.format.treehash import part_size_for
from backup.inventory.content import archives, copied, identities
from backup.inventory.content.archives import Archive, PendingUpload
from backup.inventory.content.copied import KeptThere
from backup.inventory.content.snapshots import Snapshot, list_snapshots
from backup.inventory.records import runs
from backup.inventory.records.ended_runs import open_copies
from backup.inventory.records.runs import JobRow, Run
from backup.inventory.store.connections import Transaction
from backup.kinds import RunKind
from backup.model import ArchiveId, ByteRange, JobName, Tier
from backup.protocols import phase
from backup.retention.copies import ArchiveThere, packs_to_send
from backup.transfer.recognise import missing_vault
from backup.transfer.retrievals.once import new_token
from backup.transfer.sent import named, outgoing_of, remove
from backup.transfer.upload import Uploader
from backup.transfer.whole import WhereTheyLie, WholeArchive, fetch_to_files

_BATCH = 500


class CopyPlan(Struct, frozen=True):
    """The snapshots that are to be copied, and the archives to send."""

    row: JobRow
    new: tuple[Snapshot, ...]
    send: Packs


def copy(context: CopyContext, job: JobName, choice: CopyChoice, *, only_plan: bool = False) -> CopyReport:
    """Copy snapshots of a job that the destination lacks. `LockedError` if another copy runs; `UsageError`.

    A pack that is not at the source, or not what was recorded, is a problem: snapshots that need it are not
    copied, all others are. A source that waits is asked for a round of packs at a time: what the report waits
    for another call goes on with, in any process.
    """
    is_unknown = has_unknown_copies(context)
    if is_unknown and (only_plan or context.reading is None):
        raise refuse_unknown(context.vault.name)
    inventory = context.inventory
    with inventory.writing() as tx:
        vault, row = archives.get_or_create_vault(tx, context.vault.name), runs.find_job(tx, job)
        home = None if row is None else runs.vault_of_job(tx, row.number)
    if row is None or home != context.source.name:
        raise UsageError(f"job {job} was never backed up into vault {context.source.name}")
    if only_plan:
        _require_there(context)
        plan = _plan(context, row, choice, vault)
        with inventory.reading() as tx:
            new = {snapshot.number for snapshot in plan.new}
            going = going_there(tx, vault, row, choice.rule, new, context.clock.now())
        gone = tuple(snapshot.id for snapshot in going)
        return replace(_report(context, plan), forgotten=len(gone), forgets=gone)
    with inventory.locked("copy"):
        waits_for = _learn(context) if is_unknown else ""
        if waits_for:
            return CopyReport(row.name, context.vault.name, context.source.name, waits_for=waits_for)
        _begin(context)
        if context.source.traits.waits:
            return _copy_in_rounds(context, row, choice, vault)
        return _copy_once(context, row, choice, vault)


def _learn(context: CopyContext) -> str:
    """Read what the vault has of before the rebuild; what that waits for, "" once it is known."""
    if context.reading is None or not has_unknown_copies(context):  # another process was quicker
        return ""
    with locked_for_catalogs(context, waits=True):
        require_ours(context.keys, context)  # leaves the mark that stops the machine before this one
    return learn_copies(context, context.reading.within(context.retry_limit))


def _begin(context: CopyContext) -> None:
    """Check that the destination is ours; a backup may run, unless something is to be written there first."""
    inventory, name = context.inventory, context.vault.name
    with inventory.reading() as tx:
        is_known = identities.was_used(tx, name) and not inventory.ancestors
        has_dead = bool(open_copies(tx))
    if is_known and not has_dead:
        require_domain(context.keys, context, accept=False)
        require_ours(context.keys, context)
        return
    with destination(context) as at:
        finish_dead(at)


def _copy_in_rounds(context: CopyContext, row: JobRow, choice: CopyChoice, vault: int) -> CopyReport:
    """Copy what was made readable, and ask for the next packs, until the vault is to be waited for."""
    done: CopyReport | None = None
    given_up: set[int] = set()
    while True:
        plan = _plan(context, row, choice, vault)
        send = plan.send.without(given_up)
        with Thawing.opened(context, send, context.round_bytes, given_up) as thawing:
            waits_for = thawing.bring()
            if waits_for:
                with context.inventory.writing() as tx:
                    copied.want(tx, vault, row.number, [snapshot.number for snapshot in plan.new])
                waiting = replace(_report(context, plan), snapshots=(), archives=0, bytes=0)
                return replace(done or waiting, waits_for=waits_for)
            report = _copy_once(context, row, choice, vault, thawing)
            done = report if done is None else done.then(report)
            if not thawing.has_more:
                return done


def _copy_once(
    context: CopyContext, row: JobRow, choice: CopyChoice, vault: int, thawing: Thawing | None = None
) -> CopyReport:
    """Copy all that is missing; of a source that waits what came of this round."""
    with context.inventory.writing() as tx:
        run = runs.open_amendment(tx, RunKind.COPY, row, context.clock.now(), b"", copied_to=vault)
    with _recorded_end(context, run):
        return _copy(context, row, choice, vault, run, thawing)


@contextmanager
def _recorded_end(context: CopyContext, run: Run) -> Iterator[None]:
    """A context manager that records an end by an error, unless a catalog may still arrive."""
    try:
        with as_stopped(context.stop):
            yield
    except (NightvaultError, KeyboardInterrupt) as error:
        inventory, now = context.inventory, context.clock.now()
        with suppress(NightvaultError), inventory.writing() as tx:  # the first error is the one to report
            if archives.catalog_of_run(tx, run.number) is None:
                told = failure_report(error) if isinstance(error, NightvaultError) else {"error": str(error)}
                told = {"vault": context.vault.name, **told}
                runs.finish_run(tx, run.number, runs.outcome_of(error), told, now)
        raise


def _copy(
    context: CopyContext, row: JobRow, choice: CopyChoice, vault: int, run: Run, thawing: Thawing | None
) -> CopyReport:
    """The run under its lock: from its record to its report."""
    inventory = context.inventory
    with _uploader(context, vault) as uploader:
        with inventory.reading() as tx:
            pending = [
                upload
                for upload in copied.pending_copies(tx, vault, inventory.id)
                if upload.spool_file or upload.archive.vault == context.source.name
            ]
        _sweep(context.folder, {upload.spool_file for upload in pending})
        uploader.resume([_as_sealed(upload) for upload in pending])
        plan = _plan(context, row, choice, vault)
        with inventory.writing() as tx:
            copied.want(tx, vault, row.number, [snapshot.number for snapshot in plan.new])
        problems = _send(context, plan, vault, uploader, thawing)
        sent = uploader.stored_archives, uploader.stored_bytes
    report = replace(_report(context, plan), archives=sent[0], bytes=sent[1], problems=tuple(problems))
    with inventory.reading() as tx:
        said = to_say(tx, context, row, plan.new, choice)
    if not said.is_empty:
        with destination(context, waits=True) as at:
            with inventory.reading() as tx:
                said = to_say(tx, context, row, plan.new, choice)  # others may have come in between
            if said.is_empty:
                context.progress.note(f"vault {context.vault.name} lacks again what was sent: copy once more")
            line = "" if said.is_empty else say(at, row, said, run)
        warnings = () if context.keep_line is None or not line else tuple(context.keep_line(line))
        report = replace(report, recovery_line=line, warnings=warnings)
    with inventory.writing() as tx:
        names = {snapshot.number: snapshot.id for snapshot in plan.new}
        lacking = [number for number in names if number not in said.whole]
        later = lacking if thawing is not None and thawing.has_more else []
        report = replace(
            report,
            snapshots=tuple(names[number] for number in said.whole),
            not_copied=() if later else tuple(names[number] for number in lacking),
            forgotten=len(said.forgotten),
        )
        copied.want(tx, vault, row.number, later)
        runs.finish_run(tx, run.number, report.outcome, report.document(), context.clock.now())
    return report


def _require_there(context: CopyContext) -> None:
    """`VaultMissingError` if there is no destination: a plan fails as the copy would."""
    state = context.patience.call(context.vault.state)
    if not state.exists:
        raise missing_vault(context.inventory, context.vault.name, state.location)


def _report(context: CopyContext, plan: CopyPlan) -> CopyReport:
    asks = None
    if context.source.traits.waits and plan.send:
        costs = {of.tier: of.total for of in context.limit_on(len(plan.send), plan.send.bytes).costs}
        asks = Asks(TIER, costs.get(TIER))
    return CopyReport(
        plan.row.name,
        context.vault.name,
        context.source.name,
        tuple(snapshot.id for snapshot in plan.new),
        len(plan.send),
        plan.send.bytes,
        asks=asks,
    )


def _plan(context: CopyContext, row: JobRow, choice: CopyChoice, vault: int) -> CopyPlan:
    inventory = context.inventory
    with inventory.reading() as tx:
        states = copied.kept_there(tx, vault, row.number)
        known = list_snapshots(tx, job=row.name, also_forgotten=True, also_alone=True)
        kept = [snapshot for snapshot in known if states.get(snapshot.number) is KeptThere.COPIED]
        listed = [
            snapshot
            for snapshot in list_snapshots(tx, job=row.name)
            if states.get(snapshot.number, KeptThere.WANTED) is KeptThere.WANTED
        ]
        new = tuple(choice.of(listed, kept, context.clock.now()))
        wanted = sorted(snapshot.number for snapshot in (*new, *kept))
        numbers = _to_send(tx, vault, copied.each_need(tx, {row.number: wanted}), context.clock.now())
    return CopyPlan(row, new, Packs.of(inventory, numbers))


def _to_send(tx: Transaction, vault: int, needs: Iterator[list[int]], now: datetime) -> Sequence[int]:
    """The archives to send, rising: decided some at a time, as there may be a million of them."""
    ordered = bytearray(archives.largest_number(tx) + 1)  # a byte for each number: 1 if it is sent
    while some := list(islice(needs, _BATCH)):
        left = [among for among in some if not any(ordered[pack] for pack in among)]
        packs = sorted({pack for among in left for pack in among})
        there = [
            ArchiveThere(pack, pack, state, since, is_said=False)  # said or not is the same here
            for pack, state, since in copied.states_there(tx, vault, packs)
        ]
        for pack in packs_to_send([left], there, archives.states(tx, packs), now):
            ordered[pack] = 1
    return numbers_of(ordered)


# Packs.


def _uploader(context: CopyContext, vault: int) -> Uploader:
    return Uploader(
        inventory=context.inventory,
        vault=context.vault,
        clock=context.clock,
        progress=context.progress,
        spool=context.folder,
        part_size=context.sending.part_size,
        records=CopyRecords(context.inventory, vault),
        source=_where_they_lie(context),
        parts_at_once=context.sending.most_parts_at_once,
    )


def _send(
    context: CopyContext, plan: CopyPlan, vault: int, uploader: Uploader, thawing: Thawing | None
) -> list[str]:
    """Read the packs and send them; returns what could not be copied, in sentences."""
    problems: list[str] = []
    if thawing is None:
        context.limit_on(len(plan.send), plan.send.bytes).hold(Tier.STANDARD)
    with phase(context.progress, f"Copying to vault {context.vault.name}", plan.send.bytes, counts="archive"):
        for archive in plan.send:
            if context.stop():
                raise InterruptedRunError("the copy was asked to stop: the next one goes on with it")
            file = f"{archive.label.pack_id.hex()}.pack"
            path = os.path.join(context.folder, file)
            if context.source.traits.fetches_for_nothing:
                upload = _record(context, archive, vault, "")
                uploader.send(outgoing_of(_as_sealed(upload), None))
            elif (leaves := _brought(context, archive, path, problems, thawing)) is not None:
                upload = _record(context, archive, vault, file)
                if thawing is not None:
                    thawing.take(archive, path)  # recorded before: what is cut now is not asked for again
                uploader.send(outgoing_of(_as_sealed(upload), leaves))
            context.progress.advance(files=1, done=archive.size)
        uploader.drain()
    return [*problems, *uploader.unreadable.values()]


def _where_they_lie(context: CopyContext) -> WhereTheyLie | None:
    """What reads packs as they are sent, where the source gives their bytes at once and for nothing."""
    source = context.source
    return WhereTheyLie(source, context.patience) if source.traits.fetches_for_nothing else None


def _brought(
    context: CopyContext, archive: Archive, path: str, problems: list[str], thawing: Thawing | None
) -> list[bytes] | None:
    """The leaves of a pack that came to this machine; None, and a problem more if it never will."""
    return _bring(context, archive, path, problems) if thawing is None else thawing.leaves(archive, problems)


def _bring(context: CopyContext, archive: Archive, path: str, problems: list[str]) -> list[bytes] | None:
    """Bring a pack down; its leaves. None, and a problem more, if it is not what was recorded."""
    source, pack = context.source, named(archive)
    archive_id, token = ArchiveId(archive.archive_id or ""), new_token()
    try:
        asked = context.patience.call(
            lambda: source.request_retrieval(archive_id, None, Tier.STANDARD, token)
        )
    except NightvaultError as error:
        if error.retryable:
            raise
        problems.append(f"{pack} cannot be read, and is not copied: {error}")
        return None
    leaves: list[bytes] = []
    whole = WholeArchive(asked, archive.size, ByteRange(0, archive.size), path, leaves.extend)
    ((_, failure),) = fetch_to_files(source, context.clock, [whole], tell=context.progress.note)
    if failure is not None:
        problems.append(f"{pack} cannot be read, and is not copied: {failure}")
        return None
    return good_leaves(path, archive, problems, leaves)


def _record(context: CopyContext, archive: Archive, vault: int, file: str) -> PendingUpload:
    """Record a copy before its first byte is sent."""
    name, secret = context.vault.name, context.keys.secret
    part_size, now = part_size_for(archive.size, context.sending.part_size), context.clock.now()
    with context.inventory.writing() as tx:
        recipients = copied.recipients_of(tx, [archive.number])[archive.number]
        domain = domain_there(tx, name, vault, secret, recipients, now)
        copied.submit_copy(tx, archive.number, vault, domain, spool_file=file, part_size=part_size, now=now)
    return PendingUpload(archive, None, part_size, file)


def _as_sealed(upload: PendingUpload) -> PendingUpload:
    """The same under the inventory id that its header has: an ancestor may have made the pack."""
    archive = upload.archive
    label = replace(archive.label, inventory_id=archive.header[48:64])
    return replace(upload, archive=replace(archive, label=label))


def _sweep(folder: str, kept: Iterable[str]) -> None:
    """Delete what a dead copy left in the folder, but for the files that are still to be sent."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    for name in set(os.listdir(folder)) - set(kept):
        remove(os.path.join(folder, name))
