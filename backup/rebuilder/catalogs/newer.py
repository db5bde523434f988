"""Catalogs of a later version: stops the rebuild of a job that needs one.

If its signer is vouched for, such a catalog stops the rebuild of its job: an older state would bring back
forgotten snapshots, and later writes would fork from the newer state. If nobody can vouch for it, it may be
junk of anybody who can write to the vault: it is reported and left out. With `--tip` an older state is
accepted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from backup.errors import NewerFormatError
from backup.model import ArchiveId, InventoryId, VaultName
from backup.rebuilder.catalogs.found import FoundJob
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Chain, Member, NewerCatalogError


class NewerCatalogs:
    """The catalogs of a later version that a rebuild found."""

    def __init__(self, wish: Wish, vault: VaultName) -> None:
        self._wish = wish
        self._vault = vault
        self._vouched: list[Member] = []
        self._unknown: set[ArchiveId] = set()  # so much newer that nobody can tell who wrote them

    def add(self, member: Member) -> None:
        """Add one whose signer is vouched for."""
        self._vouched.append(member)

    def add_unknown(self, archive_id: ArchiveId) -> None:
        """Add one whose header cannot even be verified."""
        self._unknown.add(archive_id)

    def jobs(self, inventory_id: InventoryId) -> set[bytes]:
        """Return the ids of the jobs of which the inventory wrote such catalogs."""
        return {member.catalog.job_id for member in self._vouched if member.inventory_id == inventory_id}

    def note(self, job: FoundJob, lineage: Collection[InventoryId], chain: Chain | None) -> None:
        """Record whether a chain lacks a newer version's catalog; `NewerCatalogError` if all jobs are wanted.

        If only some jobs are wanted, the job's name is not known before an older state is read.
        """
        lacking = (member for member in self._vouched if _is_lacking(member, job.id, lineage, chain))
        job.newer = next(lacking, None)
        if not self._wish.jobs and self._wish.tip is None:
            self._refuse(job)

    def refuse(self, jobs: Sequence[FoundJob], found: Sequence[FoundJob]) -> None:
        """`NewerCatalogError` if a wanted job lacks one; an unnamed job may be the wanted one."""
        lacks_some = not self._wish.jobs <= {job.name for job in found}
        for job in jobs:
            if (job.chain is None and lacks_some) or (job in found and self._wish.tip is None):
                self._refuse(job)

    def refuse_line(self, job: FoundJob) -> None:
        """`NewerFormatError` if that is why the vault does not show a catalog of the job's line."""
        self._refuse(job)
        if job.line is not None and job.line.delta.archive_id in self._unknown:
            what = f"catalog {job.line.number} of job {job.line.job}, which the recovery line names,"
            raise NewerFormatError(f"{what} was written by a newer nightvault")

    def refuse_nothing(self) -> None:
        """`NewerFormatError` if nothing else was found than some that nobody can vouch for."""
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
