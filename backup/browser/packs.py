"""Archives whose bytes can be read now, and the keys that open them. Nothing is retrieved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from backup.errors import FormatError, IntegrityError, UsageError
from backup.format.keys import RecoveryKey
from backup.format.pack import PackKeys, derive_keys, open_with, parse_header, verify_header
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.questions import browsing
from backup.inventory.records.restore_state import alive_retrievals
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.inventory.store.states import RetrievalStage
from backup.model import ArchiveId, ByteRange, FrameRow, RetrievalId, VaultName
from backup.protocols import Clock, ReadsDirectly, Vault

TRUE_FOR: Final = 15.0
"""So many seconds it is believed where an archive can be read."""
_GONE: Final = {ArchiveState.LOST, ArchiveState.DELETING, ArchiveState.DELETED, ArchiveState.SUBMITTED}
_MOST_KEPT: Final = 4_096


class ColdContentError(Exception):
    """Bytes that cannot be read before their vault has made them readable."""


class ReadableRange(NamedTuple):
    """A range of an archive that `vault` gives now, by `retrieval`."""

    vault: Vault
    retrieval: RetrievalId
    extent: ByteRange

    def holds(self, row: FrameRow) -> bool:
        """Whether a frame lies in it."""
        return self.extent.start <= row.offset and row.offset + row.sealed_length <= self.extent.end

    def within(self, row: FrameRow) -> ByteRange:
        """The place of a frame in it."""
        start = row.offset - self.extent.start
        return ByteRange(start, start + row.sealed_length)


class _Known(NamedTuple):
    at: float
    archive: Archive | None
    ranges: Sequence[ReadableRange]


class Packs:
    """The archives of an inventory as far as they are hot, and opened. For any thread.

    `vault` gives a vault by its name; `keys` are recovery keys; `seconds` is a clock that never goes back.
    """

    def __init__(
        self,
        inventory: Inventory,
        vault: Callable[[VaultName], Vault],
        keys: Sequence[RecoveryKey],
        clock: Clock,
        seconds: Callable[[], float],
    ) -> None:
        self._inventory = inventory
        self._vault = vault
        self._keys = keys
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._vaults: dict[VaultName, Vault | None] = {}
        self._known: dict[int, _Known] = {}
        self._opened: dict[int, PackKeys] = {}

    def archive(self, number: int) -> Archive | None:
        """An archive that a vault holds; None if it is gone."""
        archive = self._look(number).archive
        return None if archive is None or archive.state in _GONE else archive

    def ranges(self, number: int) -> Sequence[ReadableRange]:
        """Places where an archive can be read now, the nearest first: a copy on disk, its vault, output."""
        return self._look(number).ranges

    def forget(self, number: int) -> None:
        """Look again where an archive can be read: it could not."""
        self._known.pop(number, None)

    def forget_all(self) -> None:
        """Look again where each archive can be read: something has come."""
        self._known.clear()

    def opened(self, archive: Archive) -> PackKeys:
        """The keys of a pack. `RecoveryKeyError`; `IntegrityError` if it is none of ours."""
        keys = self._opened.get(archive.number)
        if keys is None:
            try:
                header = parse_header(archive.header)
                verify_header(header, self._inventory.signer_public)
                keys = derive_keys(open_with(header, self._keys), archive.header)
            except FormatError as error:
                raise IntegrityError(f"archive {archive.number} is not one of ours: {error}") from error
            if len(self._opened) > _MOST_KEPT:
                self._opened.clear()
            self._opened[archive.number] = keys
        return keys

    def _look(self, number: int) -> _Known:
        known = self._known.get(number)
        if known is None or self._seconds() - known.at > TRUE_FOR:
            with self._inventory.reading() as tx:
                archive = archives.get_archives(tx, [number], self._inventory.id).get(number)
                ranges = () if archive is None else tuple(self._ranges(tx, archive, self._clock.now()))
            known = _Known(self._seconds(), archive, ranges)
            if len(self._known) > _MOST_KEPT:
                self._known.clear()
            self._known[number] = known
        return known

    def _ranges(self, tx: Transaction, archive: Archive, now: datetime) -> Iterator[ReadableRange]:
        whole = ByteRange(0, archive.size)
        places = [(VaultName(name), ArchiveId(id_)) for name, id_ in browsing.copies_of(tx, archive.number)]
        if archive.archive_id is not None and archive.state not in _GONE:
            places.append((archive.vault, archive.archive_id))
        for name, archive_id in places:
            vault = self._named(name)
            readable = None if vault is None else _as_it_lies(vault, archive_id, archive.size)
            if vault is not None and readable is not None:
                yield ReadableRange(vault, readable, whole)
        for retrieval in alive_retrievals(tx, [archive.number], now).get(archive.number, ()):
            vault = self._named(archive.vault)
            is_there = retrieval.state in {RetrievalStage.READY, RetrievalStage.FETCHED}
            if is_there and vault is not None and retrieval.retrieval_id and retrieval.asked:
                yield ReadableRange(vault, retrieval.retrieval_id, retrieval.asked)

    def _named(self, name: VaultName) -> Vault | None:
        """The vault of that name; None if the config has it no more."""
        with self._lock:
            if name not in self._vaults:
                try:
                    self._vaults[name] = self._vault(name)
                except UsageError:
                    self._vaults[name] = None
            return self._vaults[name]


def _as_it_lies(vault: Vault, archive_id: ArchiveId, size: int) -> RetrievalId | None:
    """The id by which an archive is read that needs no retrieval."""
    return vault.readable(archive_id, size) if isinstance(vault, ReadsDirectly) else None
