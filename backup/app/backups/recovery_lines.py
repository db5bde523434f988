"""Saves recovery lines to files: one in the state directory, and another that the config names."""

from __future__ import annotations

import errno
import os
import stat

from msgspec.structs import replace

from backup.catalogs.report import BackupReport
from backup.config import Config
from backup.errors import UsageError
from backup.files import write_durably
from backup.format.line import RecoveryLine, find_lines
from backup.safe_paths import held_folder

_NAME = "recovery-lines.txt"
_TOP = (
    "# nightvault recovery lines, one for each job. Keep a copy off this server: with the recovery key,\n"
    "# `nightvault rebuild --from FILE` makes the inventory anew from them. No secret is in here.\n"
)
_LARGEST = 1024 * 1024
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def line_files(config: Config) -> list[str]:
    """Return the paths of the files: in the state directory, and the config's `recovery_file`."""
    own = os.path.join(config.state_dir, _NAME)
    return [own, config.recovery_file] if config.recovery_file else [own]


def keep_line(config: Config, report: BackupReport) -> BackupReport:
    """Save a report's recovery line in place of the job's last.

    Returns the report, with a warning for each file that failed.
    """
    warnings = keep_line_of(config, report.recovery_line)
    return replace(report, warnings=[*report.warnings, *warnings]) if report.recovery_line else report


def keep_line_of(config: Config, line: str) -> list[str]:
    """Save a recovery line, unless empty, in place of its job's last.

    Returns a warning for each file that failed.
    """
    warnings: list[str] = []
    for path in line_files(config) if line else ():
        try:
            _keep(path, RecoveryLine.from_text(line))
        except OSError as error:
            warnings.append(f"the recovery line could not be kept in {path}: {error.strerror}")
    return warnings


def _keep(path: str, line: RecoveryLine) -> None:
    with held_folder(path, follows=True) as (folder, name):
        kept = [text for text in find_lines(_read(name, folder)) if not _is_of(text, line)]
        text = _TOP + "\n".join([*kept, line.to_text()]) + "\n"
        write_durably(name, text.encode("ascii"), dir_fd=folder)


def _read(name: str, folder: int) -> str:
    """The text of a file of lines; empty if there is none. `OSError` for a device or other content."""
    try:
        handle = os.open(name, _LOOK, dir_fd=folder)
    except FileNotFoundError:
        return ""
    with open(handle, encoding="ascii", errors="replace") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EEXIST, "it is no file, and stays as it is")
        text = file.read(_LARGEST)
    if text.strip() and not text.startswith(_TOP.splitlines()[0]) and not any(find_lines(text)):
        raise OSError(errno.EEXIST, "it holds something else, and stays as it is")
    return text


def _is_of(text: str, line: RecoveryLine) -> bool:
    """Whether a kept line is of the same job, or no line at all."""
    try:
        known = RecoveryLine.from_text(text)
    except UsageError:
        return True
    return (known.vault, known.job) == (line.vault, line.job)
