"""The daemon renews the certificate beside all other work, and tells of failures."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from backup.app.machine import renewal
from backup.app.tasks.tasks import renewal_tasks
from backup.config import load_config
from backup.daemon.task_run import TaskRun
from backup.daemon.work import TaskWork
from tests.support.daemons import Daemon
from tests.support.renewals import RenewalSite, renewal_site


def look(daemon: Daemon, site: RenewalSite, minutes: int) -> None:
    """Let so many minutes pass, with a look in each."""
    for _ in range(minutes):
        daemon.look()
        site.clock.sleep(60)


def test_it_looks_every_five_minutes_and_renews_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "backup")
    with renewal_site(tmp_path) as site:
        monkeypatch.setattr(renewal, "asking", lambda _: site.ask)
        work = TaskWork(site.config, site.clock)

        def act(run: TaskRun) -> None:
            work(run)

        daemon = Daemon(renewal_tasks(site.config), site.clock, act, leaves_record=False)
        before = site.certificate()
        look(daemon, site, 16)
        assert len(daemon.ran) == 4
        assert site.certificate() == before
        site.clock.sleep(4 * 86_400)
        site.authority_is_away = True
        look(daemon, site, 6)
        assert "certificate's renewal: failed: the authority is away" in caplog.text
        assert site.night()
        site.authority_is_away = False
        look(daemon, site, 70)
        assert site.certificate() != before
        assert caplog.text.count("the certificate was renewed") == 1
        assert site.asked == 1
        assert daemon.book.rows == {}
        path = site.write_config()
        path.write_text(path.read_text().replace('[identity.renew]\ncommand = ["true"]\n', ""))
        assert renewal_tasks(load_config(str(path))) == []
