"""The command as a real process: quick, lazy, quiet when its reader leaves, interrupted by signals."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import click
import pytest

from backup.app.base.clock import SystemClock
from backup.app.base.opened import opened
from backup.cli import COMMANDS, OLD_NAMES
from backup.config import load_config
from backup.inventory.records.runs import open_restore
from backup.model import MIB
from tests.support.program_forks import run_command
from tests.support.servers import directory_server

HEAVY = ("sqlalchemy", "boto3", "botocore", "rich", "cryptography", "alembic", "apscheduler", "msgspec")
SCRIPT = str(Path(sys.executable).parent / "nightvault")


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["nope"], ["config", "--help"]])
def test_nothing_heavy_is_imported_before_it_is_needed(words: list[str]) -> None:
    code = (
        "import sys\nfrom backup.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print('HEAVY', [name for name in {HEAVY} if name in sys.modules])"
    )
    assert python(code, *words).stdout.splitlines()[-1] == "HEAVY []"


def test_the_version_comes_quickly() -> None:
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    took = []
    for _ in range(5):
        began = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [SCRIPT, "--version"], capture_output=True, text=True, check=True, env=unmeasured
        )
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
    assert done.stdout.startswith("nightvault, version 0.")
    assert min(took) < 0.25  # seconds of CPU, about 0.05; the rest is for a slow machine


def test_the_help_has_a_line_for_every_command() -> None:
    text = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    words = " ".join(text.split())  # long lines are folded
    for name, command in COMMANDS.items():
        assert (f"  {name} " in text) is (name not in OLD_NAMES)
        if name in OLD_NAMES:
            continue
        assert command.help in words


def test_every_command_that_the_table_names_is_there() -> None:
    for name, command in COMMANDS.items():
        found = getattr(importlib.import_module(command.target.split(":")[0]), command.target.split(":")[1])
        assert isinstance(found, click.Command), name
        assert found.help, name


def test_a_reader_that_leaves_is_no_traceback() -> None:
    code = (
        "import sys\nfrom backup.cli import main\nfrom backup.cli.support.context import Cli\n"
        "import click\n"
        "main._table = {}\n"
        "main.get_command = lambda ctx, name: click.Command('x', callback=lambda: print('y' * 1000000))\n"
        "main.resolve_command = lambda ctx, args: ('x', main.get_command(ctx, 'x'), args[1:])\n"
        "main(['x'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 1


def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "nightvault: standard output cannot be written: No space left on device\n"
        "  what the command did is done; free some space"
    )
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_an_interrupt(number: signal.Signals) -> None:
    code = (
        "import sys, time\nfrom backup.cli import main\nimport click\n"
        "def body():\n    print('here', flush=True)\n    while True: time.sleep(0.01)\n"
        "main.resolve_command = lambda ctx, args: ('x', click.Command('x', callback=body), args[1:])\n"
        "main(['x'])\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(number)
        try:
            assert process.wait(30) == 130
        finally:
            process.kill()
        assert process.stderr.read().strip() == b"nightvault: interrupted"


def test_a_run_that_was_killed_is_shown_as_dead(tmp_path: Path) -> None:
    """`running` is what runs; what was cut off is `dead` until the next backup settles it."""
    server = directory_server(tmp_path, clock=SystemClock())
    (server.source / "large").write_bytes(os.urandom(2 * MIB))
    server.init()
    text, kind = server.config.read_text(), 'kind = "directory"\n'
    server.config.write_text(text.replace(kind, f'{kind}upload_limit = "16KiB/s"\n'))
    with server.process("backup") as process:
        deadline = time.monotonic() + 60
        while not server.json("runs"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (run,) = server.json("runs")
        assert (run["outcome"], run["dead"]) == ("running", False)
        assert " running " in server.done("runs").stdout
        process.kill()
        process.wait()
    (run,) = server.json("runs")
    assert (run["outcome"], run["dead"]) == ("running", True)
    assert " dead " in server.done("runs").stdout
    server.config.write_text(text)
    server.backup()
    assert [(run["outcome"], run["dead"]) for run in server.json("runs")] == [
        ("done", False),
        ("interrupted", False),
    ]


def test_a_restore_that_was_killed_is_settled_by_the_next_restore_or_backup(tmp_path: Path) -> None:
    """Not while another restore is at work: nobody can tell whose run is whose."""
    server = directory_server(tmp_path, clock=SystemClock())
    server.init()
    server.backup()
    words = (
        "restore",
        "latest",
        "--target",
        tmp_path / "out",
        "--key",
        server.key_file,
        "--overwrite",
        "always",
    )

    def die() -> None:
        with closing(opened(load_config(str(server.config)))) as inventory, inventory.writing() as tx:
            open_restore(tx, None, SystemClock().now())

    def outcomes() -> list[tuple[str, bool]]:
        runs = server.json("runs")
        return [(run["outcome"], run["dead"]) for run in runs if run["kind"] == "restore"]

    die()
    assert outcomes() == [("running", True)]
    assert "its process died; the next backup" in server.run("status").stdout
    server.done(*words)
    assert outcomes() == [("done", False), ("interrupted", False)]
    die()
    with (
        closing(opened(load_config(str(server.config)))) as inventory,
        inventory.locked("restore-of another"),
    ):
        server.backup()
        assert outcomes()[0] == ("running", False)
    server.backup()
    assert outcomes()[0] == ("interrupted", False)


def test_a_run_at_a_low_limit_stops_when_asked_and_is_gone_on_with(tmp_path: Path) -> None:
    """At 16 KiB a second this source takes two minutes; nobody waits for them."""
    server = directory_server(tmp_path, clock=SystemClock())
    (server.source / "large").write_bytes(os.urandom(2 * MIB))
    server.init()
    text, kind = server.config.read_text(), 'kind = "directory"\n'
    server.config.write_text(text.replace(kind, f'{kind}upload_limit = "16KiB/s"\n'))
    with server.process("backup") as process:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in (tmp_path / "vault").rglob("data")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert time.monotonic() - asked < 30
    server.config.write_text(text)
    assert server.backup()["outcome"] == "done"
    place = server.restore(tmp_path / "out")
    assert (place / "large").read_bytes() == (server.source / "large").read_bytes()


@pytest.mark.parametrize(
    ("zone", "is_told"),
    [
        ("XXX-24:30", True),
        ("XXX24", True),
        ("XXX0YYY-25,M3.2.0,M11.1.0", True),
        ("XXX-167", True),
        ("XXX-23:59", False),
        ("Pacific/Kiritimati", False),
    ],
)
def test_a_time_zone_that_is_a_day_from_utc_ends_nothing(tmp_path: Path, zone: str, is_told: bool) -> None:
    """Python knows no such zone, and cannot tell a time in it: it is told in UTC."""
    server = directory_server(tmp_path, clock=SystemClock())
    server.config.write_text(server.config.read_text().replace('"every 6h"', '"daily"'))
    server.init()
    server.backup()
    given = {**os.environ, "TZ": zone}
    for words in (["status"], ["runs"], ["pause", "main", "--until", "tomorrow"]):
        done = run_command(["--config", str(server.config), *words], given)
        assert done.returncode in {0, 1}, done.stderr
        assert (f"TZ={zone} is a day or more from UTC" in done.stderr.decode()) is is_told
        assert b"offset must be" not in done.stdout + done.stderr
