"""What the page's group was allowed is taken back, and through no link."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backup.app.page_access import close_to_page
from backup.config import Config, load_config
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
