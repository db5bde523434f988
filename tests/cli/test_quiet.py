"""--quiet prints nothing but problems, and what was asked to be shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


def test_what_goes_well_is_not_told(server: Server, tmp_path: Path) -> None:
    """From `init` to `rebuild`, a good end prints nothing at all."""
    key = ("--key", server.key_file)
    for words in (
        ("init", "--key-file", server.key_file),
        ("config", "check"),
        ("backup",),
        ("check",),
        ("check", "--inventory"),
        ("restore", "latest", "--target", tmp_path / "out", *key),
        ("dump", f"latest:{server.source}/a.txt", "-o", tmp_path / "a.txt", *key),
        ("rebuild", "--set-aside", "--from", server.state / "recovery-lines.txt", *key),
    ):
        result = server.done("--quiet", *words)
        assert (result.stdout, result.stderr) == ("", ""), words


def test_what_goes_wrong_is_told(server: Server) -> None:
    """An archive that is gone is told by `check -q` with its figures."""
    server.init()
    server.backup()
    archives = [path for path in (server.folder / "vault" / "archives").rglob("*") if path.is_file()]
    for path in archives:
        path.unlink()
    server.clock.sleep(3 * 86400)  # a list of now says nothing of what is just stored
    result = server.run("--quiet", "check")
    assert result.exit_code == 1
    assert "missing" in result.stdout + result.stderr


def test_what_was_asked_for_is_shown(server: Server) -> None:
    """Lists, and the documents of --json, are what the command is for."""
    server.init()
    document = json.loads(server.done("--quiet", "--json", "backup").stdout)
    assert document[0]["job"] == "main"
    assert document[0]["snapshot"][:8] in server.done("--quiet", "snapshots").stdout
