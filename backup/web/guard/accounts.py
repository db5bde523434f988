"""The file of accounts: users, sessions, tokens and the audit log. Only the page's system user owns it.

Only hashes of secrets are stored. The file is an SQLite database of mode 0600; it is not part of the
inventory, and cannot be rebuilt from a vault.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from msgspec import Struct

from backup.errors import NightvaultError, StateDeniedError, UsageError
from backup.inventory.store.times import micros, moment
from backup.web.guard.passwords import hash_secret, new_secret
from backup.web.guard.users import Role, Scope, User, Way

FRESH = timedelta(minutes=5)
LINK_LIVES = timedelta(hours=24)
_KNOWN_LIVES = timedelta(days=180)
_TOUCH = timedelta(minutes=1)
_MOST_SESSIONS = 1000
_MOST_OF_A_USER = 20
_MOST_AUDIT = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, password TEXT, made_at INTEGER NOT NULL,
    link BLOB, link_until INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    id BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    made_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, proved_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS browsers (
    id BLOB PRIMARY KEY, user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
    until INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS tokens (
    name TEXT PRIMARY KEY, id BLOB NOT NULL UNIQUE, scope TEXT NOT NULL,
    made_at INTEGER NOT NULL, until INTEGER NOT NULL,
    user TEXT NOT NULL REFERENCES users ON DELETE CASCADE) STRICT;
CREATE TABLE IF NOT EXISTS audit (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL) STRICT;
"""

_SURPLUS_OF_USER = (
    "DELETE FROM {0} WHERE id IN (SELECT id FROM {0} WHERE user = ? "
    "ORDER BY {1} DESC, rowid DESC LIMIT -1 OFFSET ?)"
)
_SURPLUS_SESSIONS = (
    "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions ORDER BY seen_at DESC LIMIT -1 OFFSET ?)"
)


class Account(Struct, frozen=True):
    """A user in the file of accounts."""

    name: str
    role: Role
    made_at: datetime
    has_password: bool
    link_until: datetime | None


class Token(Struct, frozen=True):
    """A token without its secret; it belongs to a user, and is removed with the user."""

    name: str
    user: str
    scope: Scope
    made_at: datetime
    until: datetime


class Deed(Struct, frozen=True):
    """An entry of the audit log."""

    at: datetime
    who: str
    what: str


class Accounts:
    """The opened file of accounts; thread-safe."""

    def __init__(self, path: str, *, idle: timedelta, absolute: timedelta) -> None:
        self._path, self._idle, self._absolute = path, idle, absolute
        self._lock = RLock()
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise StateDeniedError(
                f"the file of accounts {path} cannot be opened: {error.strerror}",
                advice="run it as root or as the page's user, or set accounts in [web]",
            ) from error
        self._db = sqlite3.connect(path, timeout=5, check_same_thread=False, isolation_level=None)
        with self._translated_errors():
            self._db.execute("PRAGMA foreign_keys=ON")
            self._db.execute("PRAGMA secure_delete=ON")
            self._db.executescript(_SCHEMA)
            columns = {row[1] for row in self._db.execute("PRAGMA table_info(tokens)")}
            if "user" not in columns:
                self._db.executescript(f"DROP TABLE tokens; {_SCHEMA}")  # of nobody, from before 0.1.0

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # Users.

    def users(self) -> list[Account]:
        """Return all users, sorted by name."""
        words = "SELECT name, role, made_at, password IS NOT NULL, link_until FROM users ORDER BY name"
        return [
            Account(name, Role(role), moment(made), bool(has), moment(until) if until else None)
            for name, role, made, has, until in self._read(words)
        ]

    def add_user(self, name: str, role: Role, password: str | None, now: datetime) -> None:
        """Add a user with the hash of a password. `UsageError` if the name is taken."""
        with self._writing() as db:
            if db.execute("SELECT 1 FROM users WHERE name = ?", [name]).fetchone():
                raise UsageError(
                    f"there is a user named {name} already", advice="remove it first, or give a link"
                )
            values = [name, role, password, micros(now)]
            db.execute("INSERT INTO users (name, role, password, made_at) VALUES (?, ?, ?, ?)", values)

    def remove_user(self, name: str) -> bool:
        """Remove a user with all sessions and tokens; return whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM users WHERE name = ?", [name]).rowcount > 0

    def role_of(self, name: str) -> Role | None:
        """Return the role of a user; None if there is no such user."""
        found = self._one("SELECT role FROM users WHERE name = ?", name)
        return None if found is None else Role(found[0])

    def password_of(self, name: str) -> str | None:
        """Return the hash of a user's password; None without one."""
        found = self._one("SELECT password FROM users WHERE name = ?", name)
        return None if found is None else found[0]

    def set_password(self, name: str, password: str) -> None:
        """Store the hash of a new password, and end all sessions and the link of the user."""
        with self._writing() as db:
            words = "UPDATE users SET password = ?, link = NULL, link_until = NULL WHERE name = ?"
            db.execute(words, [password, name])
            db.execute("DELETE FROM sessions WHERE user = ?", [name])
            db.execute("DELETE FROM browsers WHERE user = ?", [name])

    def make_link(self, name: str, now: datetime) -> str:
        """Return the secret of a link for setting a password, once, within a day. `UsageError`."""
        secret = new_secret()
        with self._writing() as db:
            words = "UPDATE users SET link = ?, link_until = ? WHERE name = ?"
            if not db.execute(words, [hash_secret(secret), micros(now + LINK_LIVES), name]).rowcount:
                raise UsageError(f"there is no user named {name}", advice="`nightvault web user list`")
        return secret

    def use_link(self, secret: str, password: str, now: datetime) -> str | None:
        """Store the password's hash, use up the link, and return its user; None if the link is invalid."""
        with self._writing() as db:
            words = (
                "UPDATE users SET password = ?, link = NULL, link_until = NULL"
                " WHERE link = ? AND link_until > ? RETURNING name"
            )
            found = db.execute(words, [password, hash_secret(secret), micros(now)]).fetchone()
            if found is None:
                return None
            db.execute("DELETE FROM sessions WHERE user = ?", [found[0]])
            db.execute("DELETE FROM browsers WHERE user = ?", [found[0]])
        return str(found[0])

    def user_of_link(self, secret: str, now: datetime) -> str | None:
        """Return the user of a link; None if the link was used or has expired."""
        words = "SELECT name FROM users WHERE link = ? AND link_until > ?"
        found = self._one(words, hash_secret(secret), micros(now))
        return None if found is None else str(found[0])

    # Sessions.

    def open_session(self, name: str, now: datetime) -> str:
        """Open a session; return the secret for its cookie. Beyond a limit, the oldest sessions end."""
        secret, at = new_secret(), micros(now)
        with self._writing() as db:
            self._remove_ended(db, now)
            db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", [hash_secret(secret), name, at, at, at])
            db.execute(_SURPLUS_OF_USER.format("sessions", "made_at"), [name, _MOST_OF_A_USER])
            db.execute(_SURPLUS_SESSIONS, [_MOST_SESSIONS])
        return secret

    def user_of_session(self, secret: str, now: datetime, *, touch: bool = True) -> User | None:
        """Return the user of a session; None if it has ended. `touch` records that it was used now."""
        session = hash_secret(secret)
        words = (
            "SELECT user, role, seen_at, proved_at FROM sessions JOIN users ON name = user "
            "WHERE id = ? AND seen_at > ? AND sessions.made_at > ?"
        )
        found = self._one(words, session, micros(now - self._idle), micros(now - self._absolute))
        if found is None:
            return None
        name, role, seen_at, proved_at = found
        if touch and moment(seen_at) + _TOUCH <= now:
            with self._writing() as db:
                db.execute("UPDATE sessions SET seen_at = ? WHERE id = ?", [micros(now), session])
        return User(name, Role(role), Way.SESSION, moment(proved_at) + FRESH, session)

    def is_open(self, session: bytes, now: datetime) -> bool:
        """Whether the session with this hash is still open."""
        words = "SELECT 1 FROM sessions WHERE id = ? AND seen_at > ? AND made_at > ?"
        return self._one(words, session, micros(now - self._idle), micros(now - self._absolute)) is not None

    def close_session(self, session: bytes) -> None:
        """End a session."""
        with self._writing() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", [session])

    def _remove_ended(self, db: sqlite3.Connection, now: datetime) -> None:
        times = [micros(now - self._idle), micros(now - self._absolute)]
        db.execute("DELETE FROM sessions WHERE seen_at <= ? OR made_at <= ?", times)
        db.execute("DELETE FROM browsers WHERE until <= ?", [micros(now)])

    # Browsers in which a user has logged in before.

    def know_browser(self, name: str, now: datetime) -> str:
        """Return a secret that marks a browser as a user's. It is no login: the throttle uses it."""
        secret = new_secret()
        with self._writing() as db:
            row = [hash_secret(secret), name, micros(now + _KNOWN_LIVES)]
            db.execute("INSERT INTO browsers VALUES (?, ?, ?)", row)
            db.execute(_SURPLUS_OF_USER.format("browsers", "until"), [name, _MOST_OF_A_USER])
        return secret

    def known_browser(self, secret: str, name: str, now: datetime) -> bytes:
        """Return the browser's key for the throttle; empty if the browser is not marked as that user's."""
        words = "SELECT id FROM browsers WHERE id = ? AND user = ? AND until > ?"
        found = self._one(words, hash_secret(secret), name, micros(now))
        return b"" if found is None else bytes(found[0])

    # Tokens.

    def add_token(self, name: str, user: str, scope: Scope, until: datetime, now: datetime) -> str:
        """Add a token; return its secret. `UsageError` if the name is taken, or there is no such user."""
        secret = "nvw_" + new_secret()
        with self._writing() as db:
            if db.execute("SELECT 1 FROM tokens WHERE name = ?", [name]).fetchone():
                raise UsageError(f"there is a token named {name} already", advice="remove it first")
            if not db.execute("SELECT 1 FROM users WHERE name = ?", [user]).fetchone():
                raise UsageError(f"there is no user named {user}", advice="`nightvault web user list`")
            row = [name, hash_secret(secret), scope, micros(now), micros(until), user]
            db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?)", row)
        return secret

    def tokens(self) -> list[Token]:
        """Return all tokens, sorted by name."""
        words = "SELECT name, user, scope, made_at, until FROM tokens ORDER BY name"
        return [
            Token(name, user, Scope(scope), moment(made), moment(until))
            for name, user, scope, made, until in self._read(words)
        ]

    def remove_token(self, name: str) -> bool:
        """Remove a token; return whether there was one."""
        with self._writing() as db:
            return db.execute("DELETE FROM tokens WHERE name = ?", [name]).rowcount > 0

    def user_of_token(self, secret: str, scope: Scope, now: datetime) -> User | None:
        """Return the user of a token; None if the token has another scope or has expired."""
        words = "SELECT name FROM tokens WHERE id = ? AND scope = ? AND until > ?"
        found = self._one(words, hash_secret(secret), scope, micros(now))
        return None if found is None else User(found[0], Role.VIEWER, Way.TOKEN)

    # What was done.

    def note(self, who: str, what: str, now: datetime) -> None:
        """Add an entry to the audit log, which keeps the newest 10,000."""
        with self._writing() as db:
            row = [micros(now), who[:64], what[:200]]
            number = db.execute("INSERT INTO audit (at, who, what) VALUES (?, ?, ?)", row).lastrowid or 0
            db.execute("DELETE FROM audit WHERE number <= ?", [number - _MOST_AUDIT])

    def deeds(self, most: int = 100) -> list[Deed]:
        """Return the newest entries of the audit log."""
        words = "SELECT at, who, what FROM audit ORDER BY number DESC LIMIT ?"
        return [Deed(moment(at), user, what) for at, user, what in self._read(words, most)]

    # SQLite.

    def _read(self, words: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self._lock, self._translated_errors():
            return self._db.execute(words, values).fetchall()

    def _one(self, words: str, *values: object) -> tuple[Any, ...] | None:
        found = self._read(words, *values)
        return found[0] if found else None

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise NightvaultError(f"the file of accounts {self._path} cannot be used: {error}") from error
