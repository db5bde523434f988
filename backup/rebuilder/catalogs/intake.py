"""Retrieves catalogs from a vault and verifies them: trusted, refused, or reported as suspicious."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress

from backup.errors import (
    FormatError,
    IntegrityError,
    NewerFormatError,
    NightvaultError,
    RecoveryKeyError,
)
from backup.format.enrolment import MOST_ANCESTORS, is_job_of
from backup.format.header import Header, read_header, verify_header
from backup.format.records import Start
from backup.model import MIB, ArchiveId, ArchiveLabel, InventoryId, Listing, PackKind
from backup.rebuilder.catalogs.candidates import NothingToRebuildError
from backup.rebuilder.catalogs.chain import TrustedCatalogs
from backup.rebuilder.catalogs.file import CatalogFile, read_catalog_file, tree_hash_of_file
from backup.rebuilder.catalogs.found import KnownVault, Refused
from backup.rebuilder.catalogs.newer import NewerCatalogs
from backup.rebuilder.context import RebuildContext, Wish
from backup.rebuilder.members import CatalogCandidate, Member, UntrustedError
from backup.rebuilder.report import Suspicion
from backup.transfer.fetching.fetch import ArchiveFetcher
from backup.transfer.fetching.wants import whole
from backup.wording import sentences

_REFUSED = (FormatError, IntegrityError)
_FROZEN = ", which something has frozen: `nightvault config check` names it"


_PLAUSIBLE = 64 * MIB
_TIMES_THE_USUAL = 16


class WaitsError(Exception):
    """The vault is not ready; `str` says what is waited for."""


class Intake:
    """The retrieved catalogs; `known`, `trusted` and `suspicions` are the results."""

    def __init__(self, wish: Wish, context: RebuildContext, bringer: ArchiveFetcher) -> None:
        self._context = context
        self._bringer = bringer
        self.trusted = TrustedCatalogs(context.recovery_keys, wish.trust, wish.accepted)
        self.known = KnownVault()
        self.newer = NewerCatalogs(wish, context.vault.name)
        self.suspicions: list[Suspicion] = []
        self.refused: dict[ArchiveId, Refused] = {}  # until somebody vouches for their signers
        self.wrong_key: RecoveryKeyError | None = None
        self._largest: dict[InventoryId, int] = {}  # bytes that a catalog may have
        self._places: dict[ArchiveId, tuple[bytes, InventoryId]] = {}  # job and inventory, as headers say

    def offered(
        self, job_id: bytes, inventories: Collection[InventoryId] | None = None
    ) -> list[CatalogCandidate]:
        """Return archives that may be a job's catalogs by these inventories, None for all; headers decide."""
        found: list[CatalogCandidate] = []
        for candidate in self.known.candidates.values():
            said = candidate.label.job_id or job_id, candidate.label.inventory_id
            job, inventory = self._places.get(candidate.archive_id, said)
            if job == job_id and (inventories is None or inventory in inventories):
                found.append(candidate)
        return found

    def fetch(self, wanted: Sequence[CatalogCandidate]) -> None:
        """Retrieve catalogs, all at once, and add those that can be trusted. `WaitsError`."""
        new = [candidate for candidate in wanted if candidate.archive_id not in self.known.seen]
        if not new:
            return
        new = [candidate for candidate in new if self._is_plausible(candidate)]
        labels = {candidate.archive_id: candidate.label for candidate in new}
        brought = self._bringer.bring(
            [whole(candidate.archive_id, candidate.size) for candidate in new],
            lambda want, data: self._screen(labels[want.archive_id], data),
        )
        if brought.waiting:
            hot = self._context.vault.traits.keeps_metadata_hot
            raise WaitsError(f"{brought.waiting} of {len(new)} catalogs{_FROZEN * hot}")
        for candidate in sorted(new, key=lambda candidate: (candidate.label.number, candidate.archive_id)):
            self.known.seen.add(candidate.archive_id)
            if candidate.archive_id in brought.missing:
                self.suspect("missing", candidate.archive_id, brought.missing[candidate.archive_id])
            elif candidate.archive_id in brought.refused:
                self._name_damage(candidate, brought.refused[candidate.archive_id])
            else:
                self._take_in(candidate, brought.paths[candidate.archive_id])
        self.reconsider()

    def reconsider(self) -> None:
        """Add refused catalogs whose signer is by now vouched for."""
        for refused in list(self.refused.values()):
            if self.trusted.vouches_for(refused.header):
                del self.refused[refused.candidate.archive_id]
                self._take_in(refused.candidate, refused.path)

    def suspect(self, kind: str, archive_id: str, detail: str) -> None:
        """Report something suspicious."""
        suspicion = Suspicion(kind, archive_id, detail)
        if suspicion not in self.suspicions:
            self.suspicions.append(suspicion)

    def give_up(self, member: Member, why: str) -> None:
        """Report a catalog that cannot be applied, and find the newest state without it."""
        self.suspect("damaged", member.archive_id, why)
        self._drop(member)

    def pass_over(self, member: Member) -> None:
        """Leave out a catalog of a later version, by a signer that is vouched for."""
        detail = f"catalog {member.catalog.number} was written by a newer nightvault"
        self.suspect("newer-format", member.archive_id, detail)
        self._drop(member)
        self.newer.add(member)

    def _drop(self, member: Member) -> None:
        self.trusted.drop(member.archive_id)
        self.known.files.pop(member.header.hash, None)

    def give_up_all(self) -> None:
        """Raise the reason why nothing can be rebuilt."""
        if self.wrong_key is not None and not self.known.files:
            raise self.wrong_key
        if self.refused:
            raise self._key_of_others() or next(iter(self.refused.values())).error
        self.newer.refuse_nothing()
        told = "; ".join(
            f"{suspicion.archive_id[:16]}: {suspicion.detail}" for suspicion in self.suspicions[:5]
        )
        raise NothingToRebuildError(
            f"no state can be rebuilt from vault {self._context.vault.name}: {told or 'it shows no catalog'}",
            advice=sentences(
                self._context.vault.traits.if_missing,
                "a list may be a day old; is it the right vault, and the right --inventory?",
            ),
        )

    def _key_of_others(self) -> RecoveryKeyError | None:
        """The error for keys that not one refused catalog is sealed for: then no signer is to be believed."""
        ours = {key.recipient.id for key in self._context.recovery_keys}
        sealed_for = {
            stanza.recipient_id for refused in self.refused.values() for stanza in refused.header.stanzas
        }
        if not sealed_for or ours & sealed_for:
            return None
        whom = ", ".join(sorted(recipient.hex() for recipient in sealed_for))
        return RecoveryKeyError(
            f"no recovery key that was given opens what is in vault {self._context.vault.name}: "
            f"its catalogs are sealed for {whom}",
            advice="`nightvault key show FILE` names a key's recipient: give the key of one of these; "
            "is it the right vault, and the right --inventory?",
        )

    def _take_in(self, candidate: CatalogCandidate, path: str, *, again: bool = True) -> None:
        """Believe a catalog, or name what is wrong; one that came back damaged is fetched once more.

        Not if it is as the list says: requested again in each step, two such catalogs would never be there
        together.
        """
        try:
            file = read_catalog_file(path)
            if candidate.tree_hash is not None and file.tree_hash != candidate.tree_hash:
                raise IntegrityError("its content is not what the vault's list says")
            self._believe(candidate, file)
        except UntrustedError as error:
            self.refused[candidate.archive_id] = Refused(candidate, path, file.header, error)
            self._note_ancestors(file)
        except _REFUSED as error:
            if candidate.tree_hash is not None and tree_hash_of_file(path) == candidate.tree_hash:
                self._name_damage(candidate, error)
                return
            want = whole(candidate.archive_id, candidate.size)
            self._bringer.forget(want)
            fresh = self._bringer.bring([want]).paths.get(want.name) if again else None
            if fresh is not None:
                self._take_in(candidate, fresh, again=False)
            else:
                self._name_damage(candidate, error)

    def _name_damage(self, candidate: CatalogCandidate, error: NightvaultError) -> None:
        if isinstance(error, NewerFormatError):
            self.newer.add_unknown(candidate.archive_id)
            self.suspect("newer-format", candidate.archive_id, f"nobody can tell who wrote it: {error}")
        else:
            self.suspect("damaged", candidate.archive_id, str(error))

    def _is_plausible(self, candidate: CatalogCandidate) -> bool:
        """Whether a catalog may be as large as it is, beside all that its inventory stored: else it is named.

        Somebody else may have given junk its name; to retrieve it costs money, time and room.
        """
        most = self._largest.get(candidate.label.inventory_id)
        if most is None or candidate.size <= most or self._is_accepted(candidate.label):
            return True
        self.known.seen.add(candidate.archive_id)
        detail = (
            f"it has {candidate.size:,} bytes, far more than inventory "
            f"{candidate.label.inventory_id.hex()[:8]} stored in any other; it was not retrieved: --accept "
            f"{candidate.label.pack_id.hex()} if it is right"
        )
        self.suspect("too-large", candidate.archive_id, detail)
        return False

    def _is_accepted(self, label: ArchiveLabel) -> bool:
        return self.trusted.is_accepted(label.inventory_id, label.pack_id)

    def learn_sizes(self, listing: Listing) -> None:
        """Record what each inventory stored, by the vault's list."""
        data: dict[InventoryId, int] = defaultdict(int)
        catalogs: dict[InventoryId, list[int]] = defaultdict(list)
        for line in listing.archives:
            if line.label is not None and line.label.kind is PackKind.DATA:
                data[line.label.inventory_id] += line.size
            elif line.label is not None:
                catalogs[line.label.inventory_id].append(line.size)
        for inventory_id, sizes in catalogs.items():
            *others, _ = sorted(sizes)
            usual = others[-1] if others else max(sizes)
            self._largest[inventory_id] = _PLAUSIBLE + _TIMES_THE_USUAL * usual + data[inventory_id]

    def _screen(self, label: ArchiveLabel, data: bytes | memoryview) -> None:
        """`FormatError` unless it begins with a signed header of the inventory that its label names."""
        header = read_header(data)
        verify_header(header, header.fields.signer_public)
        if header.fields.inventory_id != label.inventory_id:
            raise FormatError(
                f"its description lies: its header is of inventory {header.fields.inventory_id.hex()}"
            )

    def _believe(self, candidate: CatalogCandidate, file: CatalogFile) -> None:
        """Header, description, body. `UntrustedError`; `FormatError` or `IntegrityError` for damage."""
        member = self.trusted.add(candidate.archive_id, file.header)
        self._compare_label(candidate, file.header)
        if file.header.fields.catalog is not None:
            self._places[candidate.archive_id] = (
                file.header.fields.catalog.job_id,
                file.header.fields.inventory_id,
            )
        if member is None:
            self.suspect("duplicate", candidate.archive_id, "another archive is the same catalog")
            return
        if file.header.unknown_features:
            self.pass_over(member)
            return
        try:
            start = file.prove(self._context.recovery_keys)
            _check_start(start)
        except RecoveryKeyError as error:
            self.wrong_key = error
            self.trusted.drop(member.archive_id)
            self.suspect("other-key", member.archive_id, str(error))
        except NewerFormatError:
            self.pass_over(member)
        except _REFUSED:
            self.trusted.drop(member.archive_id)
            raise
        else:
            self.trusted.note_start(file.header, start)
            self.known.files[member.header.hash] = file
            self.known.starts[member.header.hash] = start

    def _note_ancestors(self, file: CatalogFile) -> None:
        """Of a catalog for whose signer only a later key vouches: who came before it may be believed."""
        if self.trusted.rank_of(file.header) is not None:
            with suppress(RecoveryKeyError, *_REFUSED):
                start = file.prove(self._context.recovery_keys)
                _check_start(start)
                self.trusted.note_start(file.header, start)

    def _compare_label(self, candidate: CatalogCandidate, member: Header) -> None:
        """Rule 2: what a listing says of an archive, against its header."""
        place, label = member.fields.catalog, candidate.label
        if place is None or candidate.created_at is None:  # not from a listing
            return
        says = (
            label.pack_id,
            label.inventory_id,
            label.number,
            label.generation,
            label.job_id or place.job_id,
        )
        fields = member.fields
        if says != (fields.pack_id, fields.inventory_id, place.number, place.generation, place.job_id):
            detail = f"its description lies: it is catalog {place.number}, pack {fields.pack_id.hex()}"
            self.suspect("relabelled", candidate.archive_id, detail)


def _check_start(start: Start) -> None:
    """`FormatError` unless the job's id follows from the inventory that is said to have made it."""
    if len(start.ancestors) > MOST_ANCESTORS:
        raise FormatError(f"it names {len(start.ancestors)} inventories before its own")
    maker, nonce = start.job_inventory, start.job_nonce
    if maker is None or nonce is None:
        return  # of a version before that
    if not is_job_of(start.job_id, InventoryId(maker), nonce):
        raise FormatError("the job's id does not follow from the inventory that is said to have made it")
