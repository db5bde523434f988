"""The process is killed between a run and its message, and between a message and the record of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from backup.app.base.clock import SystemClock
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.receivers import Request, webhook

pytestmark = pytest.mark.slow


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    """A server that tells, in real time."""
    with notified_server(tmp_path, SystemClock()) as made:
        yield made


def test_a_kill_right_after_a_run_loses_no_message(told: NotifiedServer) -> None:
    """The hook after the snapshot kills the process: the run is in the inventory, and nobody was told."""
    told.server.backup()
    told.break_vault()
    told.server.run("backup")
    told.mend_vault()
    told.back_up_and_die()
    assert told.kinds() == ["failed"]
    told.server.run("status", "--notify")
    told.server.run("status", "--notify")
    assert told.kinds() == ["failed", "recovered"]


def test_a_kill_before_the_answer_sends_it_again_with_the_same_id(told: NotifiedServer) -> None:
    told.server.backup()
    told.break_vault()
    killed: list[int] = []

    def kill_first(request: Request) -> tuple[int, str]:
        if not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
        return webhook(request)

    told.hook.judge = kill_first
    with told.server.process("backup") as process:
        assert process.wait(60) == -signal.SIGKILL
    told.server.done("notify", "send")
    told.server.done("notify", "send")
    first, second = told.hook.taken
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert json.loads(first.body)["id"] == json.loads(second.body)["id"]
    assert told.kinds() == ["failed", "failed"]
    assert len(told.mail.mails) == 1
