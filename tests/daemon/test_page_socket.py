"""The page's socket of a real daemon on a machine that has no group for the page."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from backup.app.machine.page_access import PAGE_SOCKET
from backup.daemon.client import DaemonError, ask
from tests.support.real_daemons import running
from tests.support.servers import directory_server, replace


def test_without_a_group_the_page_is_for_the_daemons_own_user(tmp_path: Path) -> None:
    server = directory_server(tmp_path, clock=SystemClock())
    replace(server, "[[job]]", '[web]\ngroup = "nobody-made-it"\n[[job]]')
    server.init()
    with running(server.config) as daemon:
        daemon.wait_for("only a page of this daemon's own user is served")
        daemon.wait_for("started with")
        answer = ask(str(server.state), {"do": "status"}, name=PAGE_SOCKET)
        assert answer["version"]
        assert stat.S_IMODE((server.state / PAGE_SOCKET).stat().st_mode) == 0o600
        assert stat.S_IMODE(server.state.stat().st_mode) == 0o700
        with pytest.raises(DaemonError):
            ask(str(server.state), {"do": "cancel", "run": "main"}, name=PAGE_SOCKET)
