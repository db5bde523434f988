"""The emulator's state on disk: one SQLite database and the files of parts and outputs beside it.

A transaction is all or nothing over a kill -9; a file is written and named before the transaction that
mentions it, and what no row mentions is swept away at the next start.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from backup.emulator.core.errors import EmulatorError

from .clock import ClockState, EmulatorClock
from .schema import STEPS, TABLES_WITH_FILES

Asking = tuple[str, str, bool]
"""A principal, an action, and whether policies allowed it."""


@dataclass(slots=True)
class Transaction:
    """One transaction at one moment; files added to `discarded` are removed once it is committed, those added
    to `made` if it is taken back. `asked` counts what policies were asked for.
    """

    db: sqlite3.Connection
    moment: ClockState
    asked: Counter[Asking] = field(default_factory=Counter)
    discarded: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    @property
    def now_ms(self) -> int:
        """The emulator's time in ms since the epoch."""
        return self.moment.emulated_ms


class Duties(Struct, frozen=True):
    """The work of the services as time passes, each piece within a transaction.

    `next_ms`: when a service's next thing falls due, by the emulator's clock; `when_due` are then done, in
    their order; `at_times` look for what is old, now and then.
    """

    next_ms: Sequence[Callable[[Transaction], int]] = ()
    when_due: Sequence[Callable[[Transaction], object]] = ()
    at_times: Sequence[Callable[[Transaction], object]] = ()


_NO_DUTIES = Duties()


class Outlook(Struct, frozen=True):
    """The moment when work is next due by the emulator's clock, valid while no more than `changes` rows
    changed."""

    changes: int
    due_ms: int


class FileHold:
    """A hold on files that are being sent: they are kept until it is dropped, even if discarded meanwhile."""

    def __init__(self, names: Sequence[str], let_go: Callable[[Sequence[str]], None]) -> None:
        self._names = names
        self._let_go = let_go

    def __del__(self) -> None:
        """Release the files: an answer holds them as long as it exists, however it ends."""
        self._let_go(self._names)


class Store:
    """The state directory: its database, by transactions one at a time, and its files."""

    def __init__(self, folder: Path, *, speed: float, duties: Duties = _NO_DUTIES) -> None:
        self.duties = duties
        self._folder = folder
        self._files = folder / "files"
        _make_private(folder)
        _make_private(self._files)
        self._held = _hold(folder)
        self._lock = threading.Lock()
        self._holding = threading.RLock()  # of its own: who lets a file go must not wait for a transaction
        self._holders: Counter[str] = Counter()
        self._doomed: set[str] = set()  # discarded, and held still
        self._db = self._open()
        self.clock = EmulatorClock(self._saved_clock(), speed=speed)
        self.asked: Counter[Asking] = Counter()
        self.swept = ClockState(0, 0, 0, 1.0)  # when it was last looked for what is old
        self.outlook = Outlook(-1, 0)
        self._save_clock(self.clock.now())
        self._sweep()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._folder / "emulator.sqlite", isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA locking_mode = EXCLUSIVE")  # the folder is ours alone: no lock a transaction
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > len(STEPS):
            raise EmulatorError(f"{self._folder} was written by a newer version of the emulator.")
        for number, step in enumerate(STEPS[version:], version + 1):
            db.executescript(f"BEGIN; {step} PRAGMA user_version = {number}; COMMIT;")
        return db

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Read and write as one; an exception takes everything back."""
        with self._lock:
            tx = self._begin()
            yield from self._ending(tx)
        self._remove(tx.discarded)

    @contextmanager
    def unless_busy(self) -> Iterator[Transaction | None]:
        """A transaction, or None where it would have to wait for another one."""
        if not self._lock.acquire(blocking=False):
            yield None
            return
        try:
            tx = self._begin()
            yield from self._ending(tx)
        finally:
            self._lock.release()
        self._remove(tx.discarded)

    def now_ms(self) -> int:
        """The emulator's time, ms since the epoch."""
        return self.clock.now().emulated_ms

    def _begin(self) -> Transaction:
        self._db.execute("BEGIN IMMEDIATE")
        return Transaction(self._db, self.clock.now(), self.asked)

    def _ending(self, tx: Transaction) -> Iterator[Transaction]:
        try:
            yield tx
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite takes it back by itself when the disk is full
                self._db.execute("ROLLBACK")
            for name in tx.made:
                self.path(name).unlink(missing_ok=True)
            raise

    def _remove(self, names: Sequence[str]) -> None:
        if not names:
            return
        with self._holding:
            self._doomed.update(name for name in names if self._holders[name])
            for name in set(names) - self._doomed:
                self.path(name).unlink(missing_ok=True)

    def hold(self, names: Sequence[str]) -> FileHold:
        """Keep these files until what is returned is dropped."""
        with self._holding:
            self._holders.update(names)
        return FileHold(names, self._let_go)

    def _let_go(self, names: Sequence[str]) -> None:
        with self._holding:
            self._holders.subtract(names)
            for name in names:
                if not self._holders[name]:
                    del self._holders[name]
                    if name in self._doomed:
                        self._doomed.discard(name)
                        self.path(name).unlink(missing_ok=True)

    def new_file(self) -> str:
        """A name for a new file."""
        return secrets.token_hex(16)

    def path(self, name: str) -> Path:
        """The path of the file of that name."""
        return self._files / name

    def advance(self, seconds: float) -> ClockState:
        """Step the clock and remember it."""
        moment = self.clock.advance(seconds)
        self._save_clock(moment)
        return moment

    def close(self) -> None:
        """Close the database and unlock the directory."""
        with self._lock:
            self._db.close()
        os.close(self._held)

    def _saved_clock(self) -> ClockState | None:
        row = self._db.execute("SELECT real_ms, emulated_ms, stepped_ms, speed FROM clock").fetchone()
        return ClockState(*row) if row else None

    def _save_clock(self, moment: ClockState) -> None:
        with self.transaction() as tx:
            tx.db.execute(
                "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?)",
                (moment.real_ms, moment.emulated_ms, moment.stepped_ms, moment.speed),
            )

    def _sweep(self) -> None:
        named = " UNION ".join(f"SELECT file FROM {table}" for table in TABLES_WITH_FILES)  # noqa: S608
        known = {row["file"] for row in self._db.execute(named)}
        for path in self._files.iterdir():
            if path.name not in known:
                path.unlink()


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise EmulatorError(f"Cannot use the state directory {folder}: {error}.") from error


def _hold(folder: Path) -> int:
    held = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise EmulatorError(f"Another emulator uses the state directory {folder}.") from error
    return held
