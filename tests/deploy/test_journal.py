"""The log in systemd's own journal: a real journald, in a mount namespace, with a /run of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.units import can_sandbox
from tests.support.servers import SCRIPT, Server, directory_server, replace
from tests.support.without_coverage import unmeasured

JOURNALD = "/lib/systemd/systemd-journald"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real,
    pytest.mark.skipif(
        not (can_sandbox() and Path(JOURNALD).exists() and shutil.which("systemd-cat")),
        reason="needs root, mount namespaces, journald and systemd-cat",
    ),
]
WITH_JOURNALD = f"""\
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/log
mkdir -p /run/systemd/journal /run/log/journal
{JOURNALD} & journald=$!
trap 'kill $journald; wait $journald || true' EXIT
until [ -S /run/systemd/journal/socket ]; do sleep 0.1; done
"$@" || code=$?
read="journalctl --directory=/run/log/journal --no-pager -o json"
$read --sync >/dev/null 2>&1 || sleep 1
$read SYSLOG_IDENTIFIER=nightvault + SYSLOG_IDENTIFIER=as-a-unit
exit ${{code:-0}}
"""


def journal_of(*words: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of a command that logs as a unit does, and what the journal has of it."""
    logged = ["systemd-cat", "--identifier=as-a-unit", *words]
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", WITH_JOURNALD, "sh", *logged],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=unmeasured(),
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    replace(made, f'sources = ["{made.source}"]', f'sources = ["{made.source}", "{tmp_path}/gone"]')
    made.init()
    return made


def test_lines_are_entries_with_fields_and_told_once(server: Server) -> None:
    code, entries = journal_of(SCRIPT, "--config", str(server.config), "backup", "main")
    assert code == 3, entries
    (gone,) = [entry for entry in entries if "/gone: it is not there" in entry["MESSAGE"]]
    fields = ("PRIORITY", "SYSLOG_IDENTIFIER", "_TRANSPORT", "NIGHTVAULT_VAULT", "NIGHTVAULT_RUN")
    assert [gone[name] for name in fields] == ["4", "nightvault", "journal", "cold", "1"]
    assert gone["MESSAGE"].startswith("run 1: unreadable: ")  # no time: the journal has its own


def test_a_failure_is_an_error_there(server: Server) -> None:
    (server.state / "inventory.sqlite").unlink()
    code, entries = journal_of(SCRIPT, "--config", str(server.config), "backup", "main")
    assert code == 10
    (failed,) = (entry for entry in entries if entry["PRIORITY"] == "3")
    assert failed["MESSAGE"].startswith("nightvault: job main: no inventory at ")
