"""A server on which the doctor finds nothing, to be harmed by tests."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.opened import opened
from backup.app.doctor import Report, examine
from backup.app.doctor.finding import Finding
from backup.config import Config, load_config
from backup.inventory.records import runs
from backup.kinds import Outcome
from backup.model import JobName
from tests.support.servers import Server, directory_server, replace


@dataclass
class HealthyServer:
    """A server that is well; its recovery key is elsewhere, in `key`."""

    server: Server
    key: Path

    @property
    def config(self) -> Config:
        """Its config, as it is now."""
        return load_config(str(self.server.config))

    def examined(self, **how: Any) -> Report:
        """What the doctor says."""
        return examine(self.config, self.server.clock, **{"seconds": 5, **how})

    def findings(self) -> list[Finding]:
        """What the doctor finds."""
        return list(self.examined().findings)

    def found(self) -> set[str]:
        """The kinds of what it finds."""
        return {finding.check for finding in self.findings()}

    def record_backup(self, **report: Any) -> int:
        """A backup of `main` that ended well, with that report; the number of its run."""
        now = self.server.clock.now()
        with closing(opened(self.config)) as inventory, inventory.writing() as tx:
            job = runs.find_job(tx, JobName("main"))
            assert job is not None
            run = runs.open_backup(tx, job, now)
            runs.finish_run(tx, run.number, Outcome.DONE, report, now)
        return run.number


def healthy_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> HealthyServer:
    """A server with a directory as its vault, and one backup."""
    for name in ("home", "elsewhere", "server"):
        (folder / name).mkdir()
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.chdir(folder / "home")
    server = directory_server(folder / "server")
    replace(server, 'schedule = "every 6h"\n', "[job.retention]\nkeep_daily = 7\n")
    replace(server, "[state]\n", f'[state]\nrecovery_file = "{folder}/elsewhere/lines"\n')
    server.init()
    key = folder / "elsewhere" / "recovery.key"
    shutil.move(server.key_file, key)
    server.backup()
    return HealthyServer(server, key)
