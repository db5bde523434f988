"""An inventory is made whole, kept private, migrated, locked; its failures speak our words."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from backup.catalogs.context import Keys
from backup.errors import (
    ConfigError,
    InventoryDamagedError,
    InventoryNewerError,
    LockedError,
    NightvaultError,
    NoInventoryError,
    SpoolError,
    StateDeniedError,
    UsageError,
)
from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.store import database, schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import (
    HEAD,
    Inventory,
    create_inventory,
    open_inventory,
)
from backup.inventory.store.driver import insert_row, number_of
from backup.inventory.store.migrating import as_sqlalchemy, migrations_folder
from backup.model import InventoryId
from tests.support.backups import INVENTORY_ID
from tests.support.doubles import START

pytestmark = pytest.mark.usefixtures("real_migrations")


def url_of(state: Path) -> str:
    return f"sqlite:///{state / 'inventory.sqlite'}"


@contextmanager
def opened(state: Path) -> Iterator[Inventory]:
    inventory = open_inventory(url_of(state), lock_directory=str(state))
    try:
        yield inventory
    finally:
        inventory.close()


def fill_up(tx: Transaction) -> None:
    """Write more than the database may grow."""
    tx.connection.execute("PRAGMA max_page_count = 1")
    rows = [(number, "x" * 500 + str(number)) for number in range(1, 500)]
    insert_rows(tx, schema.vaults, rows, ["number", "name"])


class TestMaking:
    def test_tables_are_those_of_the_schema(self, inventory: Inventory) -> None:
        with inventory.reading() as tx, as_sqlalchemy(tx) as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, schema.METADATA) == []

    def test_the_head_is_the_newest_migration(self) -> None:
        assert ScriptDirectory(migrations_folder()).get_current_head() == HEAD

    def test_files_are_their_owner_s_alone(self, inventory: Inventory, state: Path) -> None:
        with inventory.writing() as tx:
            insert_row(tx, "vaults", name="v")
            modes = {name: stat.S_IMODE(os.stat(state / name).st_mode) for name in os.listdir(state)}
        files = {name: mode for name, mode in modes.items() if name.startswith("inventory")}
        assert len(files) == 3, "the database, its log and its index"
        assert set(files.values()) == {0o600}

    def test_a_permissive_umask_changes_nothing(self, state: Path) -> None:
        old = os.umask(0)
        try:
            made = create_inventory(
                url_of(state),
                inventory_id=INVENTORY_ID,
                signer_public=b"s",
                now=START,
                lock_directory=str(state),
            )
        finally:
            os.umask(old)
        made.close()
        assert stat.S_IMODE(os.stat(state / "inventory.sqlite").st_mode) == 0o600

    def test_what_is_there_is_not_made_again(self, inventory: Inventory, state: Path) -> None:
        with pytest.raises(NightvaultError, match="already"):
            create_inventory(
                url_of(state),
                inventory_id=InventoryId(b"another one's id"),
                signer_public=b"x",
                now=START,
                lock_directory=str(state),
            )
        with opened(state) as again:
            assert again.id == INVENTORY_ID

    def test_what_was_never_finished_can_be_made_again(self, state: Path, keys: Keys) -> None:
        connections = database.connections_to(str(state / "inventory.sqlite"))
        database.migrate(connections)
        connections.close()
        with pytest.raises(NoInventoryError, match="is incomplete"):
            open_inventory(url_of(state), lock_directory=str(state))
        create_inventory(
            url_of(state),
            inventory_id=INVENTORY_ID,
            signer_public=keys.signer.public,
            now=START,
            lock_directory=str(state),
        ).close()
        with opened(state) as made:
            assert made.signer_public == keys.signer.public

    @pytest.mark.usefixtures("real_syncs")
    @pytest.mark.parametrize(
        ("pragma", "value"),
        [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1), ("secure_delete", 2)],
    )
    def test_every_connection_is_durable_and_checked(
        self, inventory: Inventory, pragma: str, value: object
    ) -> None:
        for transaction in (inventory.reading, inventory.writing):
            with transaction() as tx:
                assert tx.connection.execute(f"PRAGMA {pragma}").fetchone()[0] == value


class TestOpening:
    def test_finds_what_was_made(self, inventory: Inventory, state: Path) -> None:
        with opened(state) as again:
            assert (again.id, again.signer_public) == (inventory.id, inventory.signer_public)

    def test_nothing_there(self, state: Path) -> None:
        with pytest.raises(NoInventoryError, match="no inventory at"):
            open_inventory(url_of(state), lock_directory=str(state))
        assert not (state / "inventory.sqlite").exists(), "looking makes nothing"

    def test_an_empty_file(self, state: Path) -> None:
        (state / "inventory.sqlite").touch()
        with pytest.raises(NoInventoryError):
            open_inventory(url_of(state), lock_directory=str(state))

    def test_a_newer_schema_is_refused(self, inventory: Inventory, state: Path) -> None:
        with inventory.writing() as tx:
            tx.connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(InventoryNewerError, match="newer nightvault") as caught:
            open_inventory(url_of(state), lock_directory=str(state))
        assert "install" in caught.value.advice

    @pytest.mark.parametrize("content", [b"this is no database", b"SQLite format 3\0" + bytes(200)])
    def test_a_file_that_is_no_database(self, state: Path, content: bytes) -> None:
        (state / "inventory.sqlite").write_bytes(content * 100)
        with pytest.raises(InventoryDamagedError, match=r"inventory\.sqlite"):
            open_inventory(url_of(state), lock_directory=str(state))

    def test_a_damaged_database(self, inventory: Inventory, state: Path) -> None:
        inventory.close()
        data = bytearray((state / "inventory.sqlite").read_bytes())
        data[4096:] = b"\xa5" * (len(data) - 4096)
        (state / "inventory.sqlite").write_bytes(data)
        with pytest.raises(InventoryDamagedError):
            open_inventory(url_of(state), lock_directory=str(state))

    def test_a_folder_in_its_place(self, state: Path) -> None:
        (state / "inventory.sqlite").mkdir()
        with pytest.raises(InventoryDamagedError, match="unable to open"):
            open_inventory(url_of(state), lock_directory=str(state))

    def test_a_url_that_is_none(self, state: Path) -> None:
        with pytest.raises(ConfigError, match=r"inventory\.url"):
            open_inventory("no url at all", lock_directory=str(state))

    def test_a_database_without_a_driver(self, state: Path) -> None:
        path = state / "inventory.sqlite"
        path.touch()
        with pytest.raises(ConfigError, match="driver"):
            open_inventory(f"sqlite+nosuch:///{path}", lock_directory=str(state))

    def test_a_database_on_a_server(self, state: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be used yet") as caught:
            open_inventory("mysql+nosuch://user:secret@host/name", lock_directory=str(state))
        assert "secret" not in str(caught.value)


class TestTransactions:
    def test_an_exception_undoes_all(self, inventory: Inventory) -> None:
        with pytest.raises(KeyError), inventory.writing() as tx:
            raise KeyError(str(insert_row(tx, "vaults", name="v")))
        with inventory.reading() as tx:
            assert tx.connection.execute("SELECT count(*) FROM vaults").fetchone()[0] == 0

    def test_our_own_errors_pass_through(self, inventory: Inventory) -> None:
        with pytest.raises(UsageError, match="mine"), inventory.writing():
            raise UsageError("mine")

    def test_a_view_stays_as_it_was(self, inventory: Inventory) -> None:
        count = "SELECT count(*) FROM vaults"
        with inventory.reading() as reader:
            assert number_of(reader, count, ()) == 0
            with inventory.writing() as writer:
                insert_row(writer, "vaults", name="v")
            assert number_of(reader, count, ()) == 0
        with inventory.reading() as reader:
            assert number_of(reader, count, ()) == 1

    def test_a_writer_waits_for_another_thread_s(self, inventory: Inventory) -> None:
        def write(number: int) -> None:
            with inventory.writing() as tx:
                insert_row(tx, "vaults", name=str(number))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with inventory.reading() as tx:
            assert tx.connection.execute("SELECT count(*) FROM vaults").fetchone()[0] == 8

    @pytest.mark.parametrize(
        ("statement", "error"),
        [
            ("INSERT INTO directories (number, job, path) VALUES (1, 999, 'x')", InventoryDamagedError),
            ("SELECT nonsense FROM nowhere", InventoryDamagedError),
            ("SELECT full, locked FROM readonly", InventoryDamagedError),  # by SQLite's code, not by words
            ("INSERT INTO vaults (number) VALUES (1)", InventoryDamagedError),
        ],
    )
    def test_the_database_s_errors_become_ours(
        self, inventory: Inventory, statement: str, error: type[NightvaultError]
    ) -> None:
        with pytest.raises(error) as caught, inventory.writing() as tx:
            tx.connection.execute(statement)
        assert isinstance(caught.value.__cause__, sqlite3.Error)

    def test_errors_that_are_not_of_the_database_s_making_become_ours_too(self, inventory: Inventory) -> None:
        with pytest.raises(InventoryDamagedError), inventory.reading() as tx, as_sqlalchemy(tx) as connection:
            connection.execute(text("SELECT :missing"))

    def test_a_full_disk(self, inventory: Inventory) -> None:
        with pytest.raises(SpoolError, match="full"), inventory.writing() as tx:
            fill_up(tx)

    def test_a_database_that_another_program_holds(
        self, inventory: Inventory, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with inventory.reading():
            pass
        other = sqlite3.connect(state / "inventory.sqlite", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        with inventory.connections.outside() as connection:
            connection.execute("PRAGMA busy_timeout = 10")
        with pytest.raises(LockedError, match="in use"), inventory.writing():
            pass
        other.close()


def read(inventory: Inventory, *statements: str) -> None:
    """Give statements to the database, in a transaction that is not told to write."""
    with inventory.reading() as tx:
        for statement in statements:
            tx.connection.execute(statement)


class TestFailures:
    """The database's failures are told apart by their codes, whatever its messages say."""

    def test_no_room(self, inventory: Inventory) -> None:
        statements = ("PRAGMA max_page_count = 1", "CREATE TABLE more AS SELECT randomblob(1000000)")
        with pytest.raises(SpoolError, match="cannot grow"):
            read(inventory, *statements)

    def test_no_right_to_write(self, inventory: Inventory) -> None:
        with pytest.raises(StateDeniedError, match="can only be read"):
            read(inventory, "PRAGMA query_only = 1", "DELETE FROM about")

    def test_another_writer(self, inventory: Inventory) -> None:
        with inventory.writing(), pytest.raises(LockedError, match="is in use"):
            read(inventory, "PRAGMA busy_timeout = 1", "DELETE FROM about")

    @pytest.mark.parametrize("name", ["full", "readonly", "locked"])
    def test_a_name_that_sounds_like_another_failure(self, inventory: Inventory, name: str) -> None:
        with pytest.raises(InventoryDamagedError, match=f"cannot be used: no such table: {name}"):
            read(inventory, f"SELECT * FROM {name}")


class TestLocks:
    def test_one_at_a_time_by_name(self, inventory: Inventory) -> None:
        with inventory.locked("backup"):
            with pytest.raises(LockedError, match="another backup"), inventory.locked("backup"):
                pass
            with inventory.locked("restore"):
                pass
        with inventory.locked("backup"):
            pass

    def test_none_after_an_upgrade_by_a_newer_nightvault(self, inventory: Inventory) -> None:
        with inventory.writing() as tx:
            tx.connection.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(InventoryNewerError, match="newer nightvault"), inventory.locked("backup"):
            pass

    def test_dies_with_its_process(self, inventory: Inventory, state: Path) -> None:
        script = (
            "import fcntl, os, sys, time\n"
            f"handle = os.open({str(state / 'backup.lock')!r}, os.O_RDWR | os.O_CREAT)\n"
            "fcntl.flock(handle, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\n"
            "time.sleep(60)\n"
        )
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockedError), inventory.locked("backup"):
            pass
        process.kill()
        process.communicate()
        with inventory.locked("backup"):
            pass

    def test_is_let_go_after_an_exception(self, inventory: Inventory) -> None:
        with pytest.raises(ValueError, match="x"), inventory.locked("backup"):
            raise ValueError("x")
        with inventory.locked("backup"):
            pass

    def test_a_state_folder_that_is_gone(self, inventory: Inventory, state: Path) -> None:
        inventory.close()
        shutil.rmtree(state)
        with pytest.raises(NightvaultError, match="lock"), inventory.locked("backup"):
            pass
