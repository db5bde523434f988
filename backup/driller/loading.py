"""The grade "loaded": dumps that were opened are loaded into servers of the drill's own, and counted."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from backup.checker.report import CheckFinding
from backup.databases.dumps import engine_of
from backup.databases.engine import Rows
from backup.databases.loading import LoadFailedError, telling
from backup.databases.server import Server
from backup.databases.throwaway import NoServerError, load
from backup.driller.context import DrillContext
from backup.driller.report import LoadedDump
from backup.format.records import DumpRecord
from backup.inventory.content.dumps import dump_of
from backup.inventory.content.entries import entry_at
from backup.inventory.content.snapshots import Snapshot
from backup.wording import counted, printable

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


def load_dumps(
    context: DrillContext, target: int, snapshot: Snapshot, paths: Collection[bytes]
) -> tuple[list[LoadedDump], list[CheckFinding]]:
    """Load the dumps among some restored files, by their paths below an open directory."""
    loaded: list[LoadedDump] = []
    findings: list[CheckFinding] = []
    for path in sorted(paths):
        known = _known(context, snapshot, path)
        if known is None:
            continue
        what = f"{known.engine} {printable(known.database)}"
        try:
            rows = _loaded(context, target, path, known)
        except NoServerError as error:
            findings.append(CheckFinding("unread", what, str(error)))
            continue
        except LoadFailedError as error:
            findings.append(CheckFinding("not-loaded", what, str(error)))
            continue
        wrong = list(differences(known.tables, rows))
        findings += [CheckFinding("not-loaded", what, text) for text in wrong]
        if not wrong:
            count = sum(most for _, _, most in rows)
            loaded.append(LoadedDump(snapshot.job, known.engine, known.database, len(rows), count))
    return loaded, findings


def differences(noted: Sequence[tuple[str, int, int]], loaded: Rows) -> Iterator[str]:
    """Yield how tables and rows differ from what was noted by the dump.

    A table that was written to meanwhile may have so many rows more or less as it changed by.
    """
    there = {name: count for name, count, _ in loaded}
    for name, fewest, most in noted:
        count = there.pop(name, None)
        if count is None:
            if most:
                yield f"it has no table {printable(name)}"
        elif not fewest - (most - fewest) <= count <= most + (most - fewest):
            saved = f"{most}" if fewest == most else f"{fewest} to {most}"
            yield f"table {printable(name)} has {counted(count, 'row')}, and had {saved}"
    for name in there:
        yield f"it has a table {printable(name)} that was not there"


def _known(context: DrillContext, snapshot: Snapshot, path: bytes) -> DumpRecord | None:
    with context.inventory.reading() as tx:
        row = entry_at(tx, snapshot.job_number, b"/" + path, snapshot.number)
        return None if row is None else dump_of(tx, row.number)


def _loaded(context: DrillContext, target: int, path: bytes, known: DumpRecord) -> Rows:
    handle = os.open(path, _LOOK, dir_fd=target)
    try:
        if known.engine == "sqlite":
            with telling():
                return engine_of(Server(kind="sqlite")).rows(f"/proc/self/fd/{handle}", context.stop)
        programs = context.programs.get(known.engine, "")
        return load(
            handle, known.engine, known.charset, state=context.scratch, programs=programs, stop=context.stop
        )
    finally:
        os.close(handle)
