"""An inventory on a server is refused, with the reason, before anything is made or moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.errors import ConfigError
from backup.inventory.store.database import create_inventory, open_inventory
from backup.model import InventoryId
from tests.support.doubles import START
from tests.support.servers import Server, directory_server

URL = "postgresql+psycopg://me:hunter2@db.example.org/nightvault"
COMMANDS = (
    *("config check", "backup", "daemon", "check", "snapshots", "vaults", "runs", "restore latest"),
    "listing request cold",
)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server whose config names an inventory on another one."""
    made = directory_server(tmp_path)
    made.config.write_text(f'{made.config.read_text()}\n[inventory]\nurl = "{URL}"\n')
    return made


def assert_says_why(said: str) -> None:
    assert "inventory.url: postgresql+psycopg cannot be used yet: the locks" in said
    assert "write sqlite:////PATH" in said
    assert "hunter2" not in said
    assert "pip install" not in said, "a driver would not help"


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_that_would_write_refuses_it(server: Server, words: str) -> None:
    if words.startswith("restore"):
        words += f" --target {server.folder / 'out'}"
    assert_says_why(server.fails(2, *words.split()))


def test_init_makes_nothing(server: Server) -> None:
    assert_says_why(server.fails(2, "init", "--non-interactive", "--key-file", server.key_file))
    assert not server.state.exists()
    assert not server.key_file.exists()


def test_a_rebuild_moves_no_key_out_of_the_way(server: Server) -> None:
    config = server.config.read_text()
    server.config.write_text(config.replace(f'[inventory]\nurl = "{URL}"\n', ""))
    server.init()
    server.config.write_text(config)
    before = sorted(server.state.rglob("*"))
    assert_says_why(server.fails(2, "rebuild", "--set-aside", "--key", server.key_file))
    assert sorted(server.state.rglob("*")) == before


def test_neither_a_new_one_nor_one_that_is_there_is_opened(tmp_path: Path) -> None:
    """The seam itself, whoever calls it."""
    with pytest.raises(ConfigError, match="cannot be used yet"):
        open_inventory(URL, lock_directory=str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be used yet"):
        create_inventory(
            URL,
            inventory_id=InventoryId(bytes(16)),
            signer_public=bytes(32),
            now=START,
            lock_directory=str(tmp_path),
        )
