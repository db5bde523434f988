"""What the page's group was allowed is taken back, and through no link."""

from __future__ import annotations

import grp
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backup.app.doctor.finding import DoctorContext
from backup.app.doctor.machine import modes
from backup.app.machine.page_access import close_to_page
from backup.config import Config, load_config
from tests.support.doubles import ManualClock
from tests.support.servers import directory_server


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = load_config(str(directory_server(tmp_path / "server").config))
    os.mkdir(made.state_dir)
    return made


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_rights_go_and_links_are_left_alone(config: Config, tmp_path: Path) -> None:
    state, elsewhere = Path(config.state_dir), tmp_path / "elsewhere"
    state.chmod(0o750)
    elsewhere.touch()
    elsewhere.chmod(0o640)
    (state / "inventory.sqlite").touch()
    (state / "inventory.sqlite").chmod(0o640)
    (state / "inventory.sqlite-wal").symlink_to(elsewhere)
    close_to_page(config)
    assert (mode_of(state), mode_of(state / "inventory.sqlite")) == (0o700, 0o600)
    assert mode_of(elsewhere) == 0o640


def test_a_state_that_the_page_may_enter_is_no_finding(tmp_path: Path) -> None:
    """The mode that the daemon gives it is right for that group alone, and where there is a page."""
    server = directory_server(tmp_path / "server")
    server.state.mkdir()
    own = grp.getgrgid(os.getegid()).gr_name
    found: dict[tuple[str, int], bool] = {}
    for group in ("", own, "nobody-has-it"):
        web = f'[web]\ngroup = "{group}"\n' if group else ""
        with server.config.open("a") as file:
            file.write(web)
        config = load_config(str(server.config))
        for mode in (0o700, 0o750, 0o755):
            server.state.chmod(mode)
            told = [finding.what for finding in modes(DoctorContext(config, ManualClock(), None))]
            found[group, mode] = any("open to others" in text for text in told)
        server.config.write_text(server.config.read_text().removesuffix(web))
    assert {place for place, is_told in found.items() if not is_told} == {
        ("", 0o700), (own, 0o700), (own, 0o750), ("nobody-has-it", 0o700)
    }  # fmt: skip


def test_the_locks_that_sqlite_has_stay(config: Config) -> None:
    path = Path(config.state_dir, "inventory.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as ours:
        ours.execute("CREATE TABLE t (x)")
        path.chmod(0o640)
        ours.execute("BEGIN IMMEDIATE")
        close_to_page(config)
        assert mode_of(path) == 0o600
        other = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
        ended = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
        assert "database is locked" in ended.stderr
