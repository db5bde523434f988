"""Archives whose bytes can be read now, and the keys that open them. Nothing is retrieved."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from backup.errors import FormatError, IntegrityError, UsageError
from backup.format.keys import RecoveryKey
from backup.format.pack import PackKeys, derive_keys, open_with, parse_header, verify_header
from backup.inventory.content import archives, copied
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.records.restore_state import alive_retrievals
from backup.inventory.records.retrievals import split_id
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
    is_sound: bool
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
        """An archive that some vault holds; None if it is gone from all."""
        return self._look(number).archive

    def is_sound(self, number: int) -> bool:
        """Whether some vault holds an archive that was not found damaged there."""
        return self._look(number).is_sound

    def ranges(self, number: int) -> Sequence[ReadableRange]:
        """Places where an archive can be read now, the best first: on a disk, in its own vault, output."""
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
                every = [] if archive is None else self._lying(tx, archive)
                ranges = tuple(self._ranges(tx, archive, every)) if archive is not None else ()
            is_sound = any(at.state is not ArchiveState.DAMAGED for at in every)
            known = _Known(self._seconds(), archive if every else None, is_sound, ranges)
            if len(self._known) > _MOST_KEPT:
                self._known.clear()
            self._known[number] = known
        return known

    def _lying(self, tx: Transaction, archive: Archive) -> list[Archive]:
        """An archive as it lies in its own vault and in each that has a copy, the best to read from first."""
        known = [archive, *copied.copies_of(tx, {archive.number: archive})]
        every = [at for at in known if at.archive_id is not None and at.state not in _GONE]
        return sorted((at for at in every if at is archive or self._named(at.vault)), key=self._rank)

    def _rank(self, archive: Archive) -> tuple[bool, bool]:
        vault = self._named(archive.vault)
        return archive.state is ArchiveState.DAMAGED, vault is None or not vault.traits.fetches_for_nothing

    def _ranges(self, tx: Transaction, archive: Archive, every: Iterable[Archive]) -> Iterator[ReadableRange]:
        for at in every:
            vault = self._named(at.vault)
            readable = vault and at.archive_id and _as_it_lies(vault, at.archive_id, at.size)
            if vault is not None and readable:
                yield ReadableRange(vault, RetrievalId(readable), ByteRange(0, at.size))
        alive = alive_retrievals(tx, [archive.number], self._clock.now())
        for retrieval in alive.get(archive.number, ()):
            name, its_id = split_id(retrieval.retrieval_id)
            vault = self._named(name or archive.vault)
            is_there = retrieval.state in {RetrievalStage.READY, RetrievalStage.FETCHED}
            if is_there and vault is not None and its_id and retrieval.asked:
                yield ReadableRange(vault, RetrievalId(its_id), retrieval.asked)

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
