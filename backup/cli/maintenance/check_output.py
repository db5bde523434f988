"""The outcome of a check, for people and as JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from backup.cli.support.choosing_vault import Result, show_result
from backup.cli.support.context import Cli
from backup.cli.support.operating import report_lines, result_of
from backup.errors import ExitCode
from backup.inventory.store.states import StepStage

if TYPE_CHECKING:
    from backup.checker.report import Affected, CheckFinding, CheckReport, ReadBack
    from backup.locker.versions import VersionsReport

_MOST_SHOWN = 20


def show_check(cli: Cli, report: CheckReport) -> None:
    """Show the outcome of a check; exit with 1 or 3 if something is wrong, with 17 if it waits."""
    show_result(cli, check_result(cli, report))


def check_result(cli: Cli, report: CheckReport) -> Result:
    """Return the outcome of a check; its exit code is 1 or 3 if something is wrong, 17 if it waits."""
    from backup.cli.render.render import path_document

    document = report.document()
    document["affected"]["paths"] = [path_document(path) for path in report.affected.paths]
    if report.state is not StepStage.DONE:
        text = (
            f"the check of vault {report.vault} waits for {report.waits_for}\n"
            "next: run the same command again in some hours, or now with --wait"
        )
        return Result(document, ExitCode.WAITING, text)
    code = ExitCode.FAILED if report.is_grave else ExitCode.PARTIAL if report.is_partial else ExitCode.DONE

    def remark() -> None:
        _tell_findings(cli, report.findings)
        _tell_affected(cli, report.affected)
        for line in next_steps(report):
            cli.say(f"next: {line}")

    return Result(document, code, "\n".join(_lines(report)), remark)


def versions_result(cli: Cli, report: VersionsReport) -> Result:
    """Return the outcome of a look at all versions, or of taking back what was found."""
    lines = report_lines(report, "", is_plan=report.is_plan)
    return result_of(cli, report, "\n".join(lines))


def _lines(report: CheckReport) -> list[str]:
    """The lines that tell what was compared and read, and the verdict."""
    from backup.cli.render.render import counted, local_time

    lines: list[str] = []
    if (compared := report.compared) is not None:
        total = compared.shown + sum(finding.kind in {"missing", "differs"} for finding in report.findings)
        lines.append(
            f"vault {report.vault}, its list as of {local_time(compared.as_of)}: "
            f"{compared.shown} of {counted(total, 'archive')} as stored"
        )
        if compared.newer:
            newer = counted(compared.newer, "archive")
            lines.append(f"  newer than the list  {newer}: it says nothing of them")
        if compared.confirmed:
            confirmed = counted(compared.confirmed, "archive")
            lines.append(f"  confirmed            {confirmed}: built upon from now on")
    if report.read is not None:
        lines += _read_lines(report.read)
    if (held := report.laws) is not None:
        lines.append(f"inventory: {held.laws} invariants, {counted(held.entries, 'version')} of files")
    verdict = "nothing is missing or damaged"
    if report.is_grave:
        kinds = {finding.kind for finding in report.findings if finding.is_grave}
        verdict = "something is missing or damaged: see below"
        if kinds == {"newer-catalog"} and not report.affected.files:
            verdict = "this inventory is older than its vault: see below"
        elif kinds <= {"not-its-own", "newer-catalog"} and not report.affected.files:
            verdict = "somebody else writes of this server's jobs, and that wants an answer: see below"
    elif report.is_partial:
        verdict = "nothing is known to be missing or damaged, but not all could be looked at: see below"
    return [*lines, verdict]


def _read_lines(read: ReadBack) -> list[str]:
    """The lines that tell how much was read, how far it was verified, and how much was never read yet."""
    from backup.cli.render.render import counted, size

    whole = f", {read.whole_archives} of them whole" if read.whole_archives else ""
    where = f"{counted(read.archives, 'archive')}{whole}"
    lines = [f"read {size(read.bytes)} in {where}: {counted(read.frames, 'frame')} compared"]
    if read.opened_frames:
        opened, chunks = counted(read.opened_frames, "frame"), counted(read.chunks, "chunk")
        lines.append(f"  opened      {opened}, {chunks} compared by name")
    else:
        lines.append("  not opened  no recovery key was given: frames were read back, not decrypted")
    stored = size(read.stored_bytes)
    nothing = f"nothing: checks have read all {stored}"
    lines.append(f"  never read  {f'{size(read.never_read)} of {stored}' if read.never_read else nothing}")
    return lines


def _tell_findings(cli: Cli, findings: Sequence[CheckFinding]) -> None:
    from backup.cli.render.render import shown_archive

    for kind in dict.fromkeys(finding.kind for finding in findings):
        some = [finding for finding in findings if finding.kind == kind]
        for finding in some[:_MOST_SHOWN]:
            told = shown_archive(finding.what) if kind not in {"law", "unnamed"} else finding.what
            (cli.warn if finding.is_grave else cli.say)(f"{kind}: {told}: {finding.detail}")
        if len(some) > _MOST_SHOWN:
            cli.warn(f"{kind}: … and {len(some) - _MOST_SHOWN} more; --json has them all")


_REPEATS = "the same command again"


def next_steps(report: CheckReport) -> Iterator[str]:
    """Yield the advice for each kind of finding that needs an action, the most urgent first."""
    kinds = {finding.kind for finding in report.findings}
    if "other-vault" in kinds:
        yield (
            f"put the right disk or bucket in place, then {_REPEATS}; if it is this one from now on: "
            f"`nightvault vaults accept {report.vault}`"
        )
    if "newer-catalog" in kinds:
        yield "what the finding advises; no backup is made until then (docs/check.md)"
    if "not-its-own" in kinds:
        yield f"find out who it is; then `nightvault check --vault {report.vault} --accept PACK-ID`"
    if "law" in kinds:
        yield "`nightvault rebuild --set-aside --key FILE`: the inventory is made anew from the vault"
    if "other-vault" not in kinds:
        yield from _about_losses(report, kinds)
    if "sealed" in kinds:
        yield f"{_REPEATS}, also with the other recovery key: `nightvault key status` shows for whom they are"
    if "unread" in kinds:
        yield f"{_REPEATS}, later: what could not be read now is read first then"


def _about_losses(report: CheckReport, kinds: Collection[str]) -> Iterator[str]:
    affected = report.affected
    if affected.comfort:
        yield (
            "`nightvault copy`: it makes again what is lost of copies"
            if affected.again
            else "`nightvault restore`: it reads what this vault has lost from the other one"
        )
    if (affected.live_files and not affected.again) or "unnamed" in kinds:
        yield "`nightvault backup`: it stores again what is still on this machine"
    if affected.files > affected.live_files and not affected.comfort:
        yield (
            "find out what deleted or changed it: what only older snapshots had is gone unless the archive "
            "comes back; everything else in them can be restored"
        )
    elif not affected.files and {"missing", "differs", "damaged", "lost"} & set(kinds):
        yield "`nightvault backup`: no file needs it, and a catalog that is gone is stored anew"


def _tell_affected(cli: Cli, affected: Affected) -> None:
    """Tell which snapshots and files cannot be restored whole, and what to do."""
    from backup.cli.render.render import counted, shown_id, shown_path, size

    if not affected.files:
        return
    count = counted(affected.files, "version")
    live = f"{affected.live_files} of them as the newest snapshot has them"
    cli.warn(f"affected: {count} of files, {size(affected.size)}, {live}")
    for snapshot in affected.snapshots[-_MOST_SHOWN:]:
        cli.warn(
            f"affected: snapshot {shown_id(snapshot.id)} of job {snapshot.job}: "
            f"{counted(snapshot.files, 'file')}"
        )
    if affected.comfort:
        cli.warn(f"affected: all of it is {affected.comfort}")
    for path in affected.paths:
        cli.warn(f"affected: {shown_path(path)}")
    if affected.files > len(affected.paths):
        cli.warn(f"affected: … and {affected.files - len(affected.paths)} more")
