"""What `restore` and `dump -o` do to files that are there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.app.base.opened import opened
from backup.cli.support.context import Cli
from backup.config import Config
from backup.inventory.store.database import Inventory
from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody is there to answer."""
    monkeypatch.setattr(Cli, "can_ask", property(lambda _: True))


def words(server: Server, *more: object) -> tuple[object, ...]:
    target = server.folder / "out"
    return ("restore", f"latest:{server.source}", "--target", target, "--key", server.key_file, *more)


def test_where_nobody_is_it_warns_and_goes_on(server: Server) -> None:
    """Scripts go on as before in this release, and are told what will be needed."""
    assert "replaces" not in server.done(*words(server)).stderr
    (server.folder / "out" / "a.txt").write_text("mine")
    told = server.done(*words(server)).stderr
    assert "replaces 4 files" in told
    assert "from 1.0" in told
    assert (server.folder / "out" / "a.txt").read_text() == "alpha\n"
    for more in (["--overwrite", "always"], ["--yes"], ["--overwrite", "if-changed"]):
        assert "from 1.0" not in server.done(*words(server, *more)).stderr


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_it_asks(server: Server) -> None:
    """How many, and no is no."""
    server.done(*words(server))
    (server.folder / "out" / "a.txt").write_text("mine")
    told = server.run(*words(server), typed="n\n")
    assert (told.exit_code, "replace 4 files?" in told.stderr) == (2, True)
    assert (server.folder / "out" / "a.txt").read_text() == "mine"
    assert server.json("restores") == []
    server.done(*words(server), typed="y\n")
    assert (server.folder / "out" / "a.txt").read_text() == "alpha\n"
    server.done(*words(server, "--overwrite", "always"))  # asks nothing


def test_dump_does_not_overwrite(server: Server, tmp_path: Path) -> None:
    """A file that is there stays, unless --force says otherwise."""
    out = tmp_path / "out.txt"
    dump = ("dump", f"latest:{server.source}/a.txt", "--key", server.key_file, "-o", out)
    server.done(*dump)
    out.write_text("mine")
    assert "--force" in server.fails(2, *dump)
    assert out.read_text() == "mine"
    server.done(*dump, "--force")
    assert out.read_text() == "alpha\n"
    assert sorted(path.name for path in tmp_path.iterdir() if "nightvault-" in path.name) == []


def test_dump_writes_into_no_directory(server: Server, tmp_path: Path) -> None:
    """Told before anything is asked for."""
    dump = ("dump", f"latest:{server.source}/a.txt", "--key", server.key_file, "-o", tmp_path)
    assert "is a directory" in server.fails(2, *dump)
    assert "--force goes with" in server.fails(2, *dump[:-2], "--force")


def test_dump_replaces_nothing_that_came_meanwhile(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what appears while it waits for the vault stays."""
    out = tmp_path / "out.txt"

    def come(config: Config) -> Inventory:
        out.write_text("mine")
        return opened(config)

    monkeypatch.setattr("backup.app.base.opened.opened", come)
    told = server.fails(1, "dump", f"latest:{server.source}/a.txt", "--key", server.key_file, "-o", out)
    assert "cannot be written: File exists" in told
    assert out.read_text() == "mine"
