"""Recovery lines are kept in two places, one for each job, and a place that fails is told of."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

from backup.catalogs.report import BackupReport
from backup.config import Config, load_config
from backup.format.line import RecoveryLine, find_lines
from backup.operations.backup import Backup
from backup.operations.recorded import step_of
from tests.support.doubles import ManualClock, Silent
from tests.support.servers import directory_server


def back_up(config: Config, job: str = "main") -> BackupReport:
    stop = threading.Event()
    return step_of(config, Backup, job, clock=ManualClock(), progress=Silent(), stop=stop).report


def test_a_run_keeps_its_line(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.init()
    copy = tmp_path / "elsewhere" / "lines.txt"
    text = server.config.read_text()
    text = text.replace("[state]", f'[state]\nrecovery_file = "{copy}"')
    other = text[text.index("[[job]]") :].replace('"main"', '"other"')
    server.config.write_text(text + other)
    config = load_config(str(server.config))
    report = back_up(config)
    line = RecoveryLine.from_text(report.recovery_line)
    assert (line.vault, line.job, line.number) == ("cold", "main", 1)
    assert line.full is not None
    assert [warning for warning in report.warnings if str(copy) in warning], "the folder is not there"

    copy.parent.mkdir()
    second = back_up(config)
    third = back_up(config, "other")
    assert not third.warnings
    own = Path(config.state_dir) / "recovery-lines.txt"
    assert list(find_lines(own.read_text())) == [second.recovery_line, third.recovery_line]
    assert list(find_lines(copy.read_text())) == [second.recovery_line, third.recovery_line]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert RecoveryLine.from_text(second.recovery_line).number > line.number
