"""Catalogs of a later version: which of them a rebuild must not do without.

One that is signed, and whose signer is vouched for, stops the rebuild of its job: an older state would bring
back what was forgotten, and what is then written would stand beside the newer. One that nobody can vouch for
may be junk of whoever can write to the vault: it is named, and passed over. With `--tip` an older state will
do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backup.errors import NewerFormatError
from backup.model import ArchiveId, InventoryId, VaultName
from backup.rebuilder.catalogs.found import FoundJob
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Chain, Member, NewerCatalogError


class NewerCatalogs:
    """The catalogs of a later version that a rebuild came across."""

    def __init__(self, wish: Wish, vault: VaultName) -> None:
        self._wish = wish
        self._vault = vault
        self._vouched: list[Member] = []
        self._unknown: set[ArchiveId] = set()  # so much newer that nobody can tell who wrote them

    def add(self, member: Member) -> None:
        """One that is signed by a signer who is vouched for."""
        self._vouched.append(member)

    def add_unknown(self, archive_id: ArchiveId) -> None:
        """One whose header cannot even be verified."""
        self._unknown.add(archive_id)

    def jobs(self, inventory_id: InventoryId) -> set[bytes]:
        """Ids of the jobs that the inventory wrote such catalogs of."""
        return {member.catalog.job_id for member in self._vouched if member.inventory_id == inventory_id}

    def note(self, job: FoundJob, lineage: Collection[InventoryId], chain: Chain | None) -> None:
        """Note whether a chain lacks what a later version wrote; `NewerCatalogError` if the job is wanted.

        Where only some jobs are wanted, an older state must tell this one's name first.
        """
        lacking = (member for member in self._vouched if _is_lacking(member, job.id, lineage, chain))
        job.newer = next(lacking, None)
        if not self._wish.jobs and self._wish.tip is None:
            self._refuse(job)

    def refuse(self, jobs: Sequence[FoundJob], found: Sequence[FoundJob]) -> None:
        """`NewerCatalogError` if a wanted job lacks one; a job without a name may be what is not found."""
        lacks_some = not self._wish.jobs <= {job.name for job in found}
        for job in jobs:
            if (job.chain is None and lacks_some) or (job in found and self._wish.tip is None):
                self._refuse(job)

    def refuse_line(self, job: FoundJob) -> None:
        """`NewerFormatError` if that is why the vault does not show what the job's line names."""
        self._refuse(job)
        if job.line is not None and job.line.delta.archive_id in self._unknown:
            what = f"catalog {job.line.number} of job {job.line.job}, which the recovery line names,"
            raise NewerFormatError(f"{what} was written by a newer nightvault")

    def refuse_nothing(self) -> None:
        """`NewerFormatError` if nothing was found, and there are some that nobody can vouch for."""
        if self._unknown:
            raise NewerFormatError(
                f"vault {self._vault} holds {len(self._unknown)} catalogs that were written by a newer "
                "nightvault, and no other that can be used"
            )

    def _refuse(self, job: FoundJob) -> None:
        if job.newer is not None:
            raise NewerCatalogError(job.newer, self._vault)


def _is_lacking(member: Member, job_id: bytes, lineage: Collection[InventoryId], chain: Chain | None) -> bool:
    if member.catalog.job_id != job_id or member.inventory_id not in lineage:
        return False
    if chain is None or chain.gap == member.header.hash:
        return True
    return member.catalog.number > chain.number
