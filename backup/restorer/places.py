"""The places of archives: a job's own vault, and others that have copies; a restore reads them as one vault.

    vault = JoinedVaults({name: make, ...}, home=home, first=first)
    found = vault.places(tx, archives)       # each as it lies where it is read from

An archive is read from the vault `first`, if it is sound there; else from wherever it is. Ids of retrievals
carry the name of their vault, so another process finds them, and other restores may share them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from backup.errors import UsageError
from backup.inventory.content import copied
from backup.inventory.content.archives import SOUND, Archive, ArchiveState
from backup.inventory.records.retrievals import id_at, split_id
from backup.inventory.store.connections import Transaction
from backup.model import (
    ArchiveId,
    ByteRange,
    Fetched,
    InventoryId,
    RetrievalId,
    RetrievalStatus,
    Tier,
    VaultIdentity,
    VaultName,
    VaultState,
)
from backup.protocols import Vault, VaultTraits
from backup.transfer.fault_scope import look_beneath

_GRADES = {
    **dict.fromkeys(SOUND, 0),
    ArchiveState.RETIRED: 1,
    ArchiveState.CONDEMNED: 1,
    ArchiveState.DAMAGED: 2,
}
_NOT_THERE = 3


class JoinedVaults:
    """Reads archives of several vaults, each made when it is first used. For what restores ask of a `Vault`.

    `home` is the vault of the job, and that of ids without a name: of restores from before there were copies.
    """

    def __init__(
        self, vaults: Mapping[VaultName, Callable[[], Vault]], *, home: VaultName, first: VaultName
    ) -> None:
        self._make = vaults
        self._made: dict[VaultName, Vault] = {}
        self._used: set[VaultName] = set()
        self._home = home
        self.name = first
        self.unsound: dict[int, VaultName] = {}
        """Archives that a vault did not give back to the restore as they were stored, and another did."""
        self.left = set[int]()
        """Those of them that are read from another vault from now on."""
        self._vault(first)

    @property
    def traits(self) -> VaultTraits:
        """Those of the vaults that were used, together."""
        every = [self._made[name].traits for name in self._used]
        return replace(
            self._vault(self.name).traits,
            waits=any(traits.waits for traits in every),
            retrieves_ranges=all(traits.retrieves_ranges for traits in every),
            fetches_for_nothing=all(traits.fetches_for_nothing for traits in every),
        )

    def places(self, tx: Transaction, found: Mapping[int, Archive]) -> dict[int, Archive]:
        """The archives as they lie where they are read from."""
        best = dict(found)
        for copy in copied.copies_of(tx, found):
            if self._rank(copy) < self._rank(best[copy.number]):
                best[copy.number] = copy
        for vault in {archive.vault for archive in best.values()} & self._make.keys():
            self._vault(vault)
        return best

    def _rank(self, archive: Archive) -> tuple[int, bool]:
        """A sort key: a lower one is better; where nothing is known to be readable the job's own vault is."""
        is_known = archive.vault in self._make and archive.archive_id is not None
        grade = _GRADES.get(archive.state, _NOT_THERE) if is_known else _NOT_THERE
        if archive.number in self.left and self.unsound.get(archive.number) == archive.vault:
            grade = max(grade, _GRADES[ArchiveState.DAMAGED])
        return grade, archive.vault != self.name

    def beside(
        self, tx: Transaction, archive: Archive, vault: VaultName
    ) -> list[tuple[VaultName, ArchiveId]]:
        """The vaults that answer at once and have an archive, but for that one, with its id there."""
        every = [archive, *copied.copies_of(tx, {archive.number: archive})]
        some = [copy for copy in every if copy.vault != vault and self._rank(copy)[0] < _NOT_THERE]
        return [
            (copy.vault, copy.archive_id)
            for copy in some
            if copy.archive_id is not None and not self._look_at(copy.vault).traits.waits
        ]

    def vault_of(self, retrieval_id: RetrievalId) -> VaultName:
        """The vault of a retrieval."""
        return self._split(retrieval_id)[0]

    def vault_asked(self, retrieval_id: RetrievalId | None) -> VaultName | None:
        """The vault of a retrieval; None if none was asked yet."""
        return None if retrieval_id is None else self.vault_of(retrieval_id)

    def at(self, vault: VaultName) -> Vault:
        """One of the vaults."""
        return self._vault(vault)

    def is_sound(self, archive: Archive) -> bool:
        """Whether an archive can be read from where it lies."""
        return self._rank(archive)[0] < _NOT_THERE

    # What restores ask of a vault.

    def state(self) -> VaultState:
        """The status of the vault that comes first."""
        return self._vault(self.name).state()

    def identities(self, inventory_id: InventoryId) -> Iterable[VaultIdentity]:
        """Those of the vault that comes first."""
        return self._vault(self.name).identities(inventory_id)

    def request_retrieval(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, token: str
    ) -> RetrievalId:
        """Ask the vault that the id names (`named_in`)."""
        vault, its_id = self._split(archive_id)
        asked = self._vault(vault).request_retrieval(ArchiveId(its_id), extent, tier, token)
        return RetrievalId(id_at(vault, asked))

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """Those of all vaults that were used."""
        return {
            token: RetrievalId(id_at(name, asked))
            for name in sorted(self._used)
            for token, asked in self._made[name].open_retrievals().items()
        }

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        """The state of each, from its vault."""
        by_vault: dict[VaultName, dict[RetrievalId, RetrievalId]] = {}
        for asked in ids:
            vault, its_id = self._split(asked)
            by_vault.setdefault(vault, {})[RetrievalId(its_id)] = asked
        return {
            of_ours[its_id]: status
            for vault, of_ours in by_vault.items()
            for its_id, status in self._vault(vault).retrieval_statuses(of_ours).items()
        }

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """Bytes of a ready retrieval, from its vault."""
        vault, its_id = self._split(retrieval_id)
        return self._vault(vault).fetch(RetrievalId(its_id), extent)

    def look_beneath(self, retrieval_id: RetrievalId) -> bool:
        """As of `LooksBeneath`, in the vault of a retrieval."""
        vault, its_id = self._split(retrieval_id)
        return look_beneath(self._vault(vault), RetrievalId(its_id))

    def _vault(self, name: VaultName) -> Vault:
        """A vault that is read from: from now on its traits count."""
        vault = self._look_at(name)
        self._used.add(name)
        return vault

    def _look_at(self, name: VaultName) -> Vault:
        if name not in self._made:
            if name not in self._make:
                raise UsageError(f"vault {name} is not in the config, and holds what is to be restored")
            self._made[name] = self._make[name]()
        return self._made[name]

    def _split(self, words: str) -> tuple[VaultName, str]:
        name, its_id = split_id(words)
        return (name, its_id) if name is not None and name in self._make else (self._home, words)


def named_in(archive: Archive) -> ArchiveId | None:
    """The id by which joined vaults are asked for an archive."""
    return None if archive.archive_id is None else ArchiveId(id_at(archive.vault, archive.archive_id))
