"""The dry run of a backup: entries that are new, changed, or no longer there."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from backup.cli.render.problems import problem_document
from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from backup.archiver.dryrun import Change
    from backup.catalogs.context import BackupJob
    from backup.catalogs.report import Tally
    from backup.config import Config
    from backup.source.filters import LeftOut


@dataclass
class _Listing:
    """The changes so far: counted, and where all are listed shown, or kept for the JSON document."""

    cli: Cli
    is_listed: bool
    counts: dict[str, int]
    would_read: int = 0
    documents: list[dict[str, Any]] = field(default_factory=list)

    def add(self, change: Change) -> None:
        """Count a changed entry; show it if entries are listed."""
        from backup.archiver.dryrun import ChangeKind
        from backup.cli.render.render import path_document, shown_path

        self.counts[change.what] += 1
        self.would_read += change.size if change.what is not ChangeKind.REMOVED else 0
        self._show(
            {"what": change.what, **path_document(change.path), "size": change.size},
            f"{change.what:<8} {shown_path(change.path)}",
        )

    def leave_out(self, left_out: LeftOut) -> None:
        """Show an excluded entry with the reason, if entries are listed."""
        from backup.cli.render.render import path_document, shown_path

        self._show(
            {
                "what": "left-out",
                **path_document(left_out.path),
                "reason": left_out.reason,
                "why": left_out.detail,
            },
            f"{'left out':<8} {shown_path(left_out.path)}  ({left_out.reason}: {left_out.detail})",
        )

    def _show(self, document: dict[str, Any], line: str) -> None:
        if self.is_listed and self.cli.json:
            self.documents.append(document)
        elif self.is_listed:
            self.cli.show(None, line)


def show_dry_run(cli: Cli, config: Config, job: BackupJob, *, listed: bool) -> dict[str, Any]:
    """Show what a backup of the job would read, with `listed` each entry; return the JSON document."""
    from backup.app.base.opened import opened
    from backup.archiver.dryrun import ChangeKind, changes
    from backup.catalogs.context import require_a_source
    from backup.catalogs.report import Tally

    tally = Tally()
    seen = _Listing(cli, listed, {str(kind): 0 for kind in ChangeKind})
    with closing(opened(config)) as inventory:
        require_a_source(job)
        for change in changes(job, inventory, tally, left_out=seen.leave_out):
            seen.add(change)
    _show_summary(cli, job, tally, seen)
    document: dict[str, Any] = {"job": job.name, "files": tally.files, "bytes": tally.bytes, **seen.counts}
    document["would_read"] = seen.would_read
    document["problems"] = [problem_document(problem) for problem in tally.problems if not problem.is_warning]
    return document | ({"changes": seen.documents} if listed else {})


def _show_summary(cli: Cli, job: BackupJob, tally: Tally, seen: _Listing) -> None:
    """Warn of problems, and show a line of figures to people."""
    from backup.cli.render.render import counted, shown_path, size

    for problem in tally.problems:
        cli.warn(f"{problem.kind}: {shown_path(problem.path)}: {problem.detail}")
    if not cli.json:
        found = ", ".join(f"{count} {word}" for word, count in seen.counts.items())
        entries = f"job {job.name}: {counted(tally.files, 'file')}, {size(tally.bytes)}"
        cli.show(None, f"{entries}; entries: {found}; would read {size(seen.would_read)}")
