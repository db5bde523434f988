"""Opens an SQLite inventory that cannot be written: on a read-only disk, a copy, another user's.

SQLite keeps its newest changes in a file beside the database, and an index of that in a third one, which it
must be able to write. Where it cannot, a database without such changes is opened as immutable; one with
changes is copied, for the lifetime of this process.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
from collections.abc import Callable
from enum import Enum, auto

from backup.errors import NoInventoryError, StateDeniedError


class Access(Enum):
    """The access that this process has to an inventory."""

    READS = auto()
    WRITES = auto()


def access_to(path: str) -> Access:
    """The access of this process. `NoInventoryError`; `StateDeniedError` if it may not even read."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoInventoryError(f"no inventory at {path}") from error
    except PermissionError as error:
        raise StateDeniedError(f"permission denied: {path}") from error
    if not os.access(path, os.R_OK):
        raise StateDeniedError(f"permission denied: {path}")
    writes = os.access(path, os.W_OK) and os.access(os.path.dirname(path) or ".", os.W_OK)
    return Access.WRITES if writes else Access.READS


def read_only_creator(path: str) -> Callable[[], sqlite3.Connection]:
    """A function that opens connections to the database at `path` without writing beside it."""
    uri = _uri(path)
    return lambda: sqlite3.connect(uri, uri=True, timeout=60, check_same_thread=False)


def _uri(path: str) -> str:
    """The URI by which SQLite reads the database at `path` without writing beside it."""
    from urllib.parse import quote

    log = f"{path}-wal"
    if not _size_of(log):
        return f"file:{quote(os.fsencode(path))}?mode=ro&immutable=1"
    if os.access(f"{path}-shm", os.R_OK):  # a writer exists, and keeps the index up to date
        return f"file:{quote(os.fsencode(path))}?mode=ro"
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="nightvault-look-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    copy = os.path.join(folder, "inventory.sqlite")
    shutil.copyfile(path, copy)
    shutil.copyfile(log, f"{copy}-wal")
    return f"file:{quote(os.fsencode(copy))}"


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
