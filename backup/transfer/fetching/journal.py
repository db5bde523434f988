"""The journal of what a rebuild, or a copy, requested and fetched, so that it goes on hours later.

    <state>/rebuild/journal.json   what was asked for: tokens and ids; rewritten whole
    <state>/rebuild/listing.json   the listing, once it came
    <state>/rebuild/<name>.pack    a catalog, once all of it came

Nothing in here is secret or trusted; if it is lost, only the requests must be repeated. Two rebuilds at once
have separate folders, and so have the rebuilds of two vaults. A rebuild without requests and files leaves no
folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from backup.errors import SpoolError, UsageError
from backup.files import file_lock, write_durably
from backup.format.pack import parse_description
from backup.model import ArchiveId, ListedArchive, Listing, TreeHash
from backup.safe_paths import make_folders
from backup.transfer.retrievals.once import new_token

_JOURNAL, _LISTING = "journal.json", "listing.json"


class JournalRequest(msgspec.Struct):
    """One request: its token before it is sent, the vault's id after; how often the vault has `failed`.

    `again`: how often the same was made readable before, and expired.
    """

    token: str
    id: str | None = None
    asked_at: datetime | None = None
    start: int = 0
    end: int = 0
    failed: int = 0
    again: int = 0


PACK = ".pack"
"""The ending of the names of files that hold archives."""


class _Document(msgspec.Struct):
    vault: str
    listing: JournalRequest | None = None
    retrievals: dict[str, JournalRequest] = {}
    told_name: str = ""  # the vault's name as its catalogs have it, which the user was told to write


class _ListedArchive(msgspec.Struct):
    archive_id: str
    description: str
    size: int
    tree_hash: str
    created_at: datetime
    version: str = ""


class _Listed(msgspec.Struct):
    as_of: datetime
    archives: list[_ListedArchive]


class Journal:
    """The folder of one rebuild; use it from one thread, within `opened`."""

    def __init__(self, folder: str, document: _Document) -> None:
        self.folder = folder
        self._document = document

    @classmethod
    @contextmanager
    def opened(cls, folder: str, vault: str, *, of: str = "rebuild") -> Iterator[Journal]:
        """Open the folder's journal under its lock. `LockedError`; `UsageError` if it is of another vault.

        `of`: the kind of run whose journal it is.
        """
        try:
            make_folders(folder)
            lock = file_lock(
                os.path.join(folder, "lock"), told=f"another {of} is at work in this state directory"
            )
        except OSError as error:
            raise SpoolError(f"{folder} cannot be made: {error.strerror}") from error
        with lock:
            journal = cls(folder, _read(folder, vault, of))
            try:
                yield journal
            finally:
                if _is_empty(folder, journal._document):
                    journal._remove()

    @property
    def listing(self) -> JournalRequest | None:
        """The requested listing."""
        return self._document.listing

    @property
    def retrievals(self) -> dict[str, JournalRequest]:
        """The requests, by names that the caller chooses; call `save` after a change."""
        return self._document.retrievals

    def plan_again(self, name: str, *, has_failed: bool = False) -> None:
        """Plan a request anew whose output is gone, or that the vault could not serve; then call `save`."""
        was = self._document.retrievals[name]
        self._document.retrievals[name] = JournalRequest(
            new_token(), failed=was.failed + has_failed, again=was.again + (not has_failed)
        )

    @property
    def began_at(self) -> datetime | None:
        """The time of the first request; None before it was sent."""
        asked = [self._document.listing, *self._document.retrievals.values()]
        return min((answer.asked_at for answer in asked if answer and answer.asked_at), default=None)

    def tell_name(self, name: str) -> None:
        """Continue the same rebuild under the vault name that the user was told to use."""
        self._document.told_name = name
        self.save()

    def ask_listing(self, asked: JournalRequest | None) -> None:
        """Record, or remove, a request for a listing."""
        self._document.listing = asked
        self.save()

    def save(self) -> None:
        """Write the journal durably."""
        self._write(_JOURNAL, msgspec.json.encode(self._document))

    def keep_listing(self, listing: Listing) -> None:
        """Save the listing, as its output is gone within a day."""
        lines = [
            _ListedArchive(
                *(archive.archive_id, archive.description, archive.size),
                *((archive.tree_hash or b"").hex(), archive.created_at, archive.version),
            )
            for archive in listing.archives
        ]
        self._write(_LISTING, msgspec.json.encode(_Listed(listing.as_of, lines)))

    def kept_listing(self) -> Listing | None:
        """Return the saved listing; None if it has not come yet."""
        try:
            with open(os.path.join(self.folder, _LISTING), "rb") as file:
                read = msgspec.json.decode(file.read(), type=_Listed)
        except (FileNotFoundError, ValueError):
            return None
        return Listing(read.as_of, [_listed(line) for line in read.archives])

    def forget_listing(self) -> None:
        """Delete the listing, so that a newer one is requested the next time."""
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self.folder, _LISTING))
        self.ask_listing(None)

    def path_of(self, archive_id: ArchiveId) -> str:
        """Return the path of the file for an archive's bytes, which exists once all of them came."""
        name = hashlib.sha256(archive_id.encode()).hexdigest()[:32]
        return os.path.join(self.folder, name + PACK)

    def has(self, archive_id: ArchiveId) -> bool:
        """Whether all of an archive was asked for, or came."""
        return archive_id in self.retrievals or os.path.exists(self.path_of(archive_id))

    def drop(self, archive_id: ArchiveId) -> None:
        """Forget that all of an archive was asked for, and delete its file, if it is here."""
        with suppress(FileNotFoundError):
            os.unlink(self.path_of(archive_id))
        if self.retrievals.pop(archive_id, None) is not None:
            self.save()

    def clear(self) -> None:
        """Remove the folder: the rebuild is over."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _remove(self) -> None:
        with suppress(OSError):
            for name in (_JOURNAL, _LISTING, f"{_JOURNAL}.new", f"{_LISTING}.new", "lock"):
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.folder, name))
            os.rmdir(self.folder)

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self.folder, name)
        try:
            write_durably(path, data, beside=f"{path}.new")
        except OSError as error:
            raise SpoolError(f"{path} cannot be written: {error.strerror}") from error


def _read(folder: str, vault: str, of: str) -> _Document:
    with suppress(FileNotFoundError, ValueError), open(os.path.join(folder, _JOURNAL), "rb") as file:
        document = msgspec.json.decode(file.read(), type=_Document)
        if _is_empty(folder, document):
            return _Document(vault)
        if vault not in {document.vault, document.told_name}:
            raise UsageError(
                f"a {of} from vault {document.vault} was begun in {folder}",
                advice=f"finish it, or remove {folder} to begin anew",
            )
        return document
    return _Document(vault)


def _is_empty(folder: str, document: _Document) -> bool:
    """Whether nothing was requested, or may have been, and nothing is here that came."""
    if document.listing is not None or document.retrievals:
        return False
    return not any(name == _LISTING or name.endswith(PACK) for name in os.listdir(folder))


def _listed(line: _ListedArchive) -> ListedArchive:
    tree_hash = TreeHash(bytes.fromhex(line.tree_hash)) if line.tree_hash else None
    label = parse_description(line.description)
    return ListedArchive(
        ArchiveId(line.archive_id),
        line.description,
        label,
        line.size,
        tree_hash,
        line.created_at,
        line.version,
    )
