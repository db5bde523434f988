"""The recovery key that was given: whether it opens each job's newest catalog, without paying for that.

The header of every catalog is in the inventory: a key that opens it opens the catalog, if that is as it was
stored. Where reading costs no retrieval the whole catalog is fetched, too, and each of its frames opened.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from backup.app.base.opened import opened
from backup.app.base.vaults import Purpose, make_vault
from backup.app.doctor.deadline import within
from backup.app.doctor.finding import DoctorContext, Finding, critical
from backup.errors import NightvaultError, VaultError
from backup.files import Draft, spool_errors
from backup.format.pack import open_with, read_header
from backup.format.treehash import aligned_pieces
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.inventory.records import runs
from backup.model import MIB, ByteRange, JobName, RetrievalId, Tier
from backup.protocols import Vault
from backup.rebuilder.catalog_file import read_catalog_file
from backup.vault.s3_keys import retrieval_id_of
from backup.wording import size

LARGEST = 64 * MIB
"""The largest catalog that is read back: a look should be quick, and traffic is paid for."""
_PIECE = 16 * MIB


def opens_header(context: DoctorContext) -> Iterator[Finding]:
    """Jobs whose newest catalog the keys do not open, by its header in the inventory."""
    for job, catalog in _newest_catalogs(context):
        if error := _refusal(context, catalog):
            yield critical(
                "key",
                f"the recovery key does not open the newest catalog of job {job}: {error}",
                "if this server is lost, nothing comes back without a key that does",
                "look for the key of a recipient that `nightvault key status` shows, and give it with --key",
            )


def opens_catalog(context: DoctorContext) -> Iterator[Finding]:
    """Jobs whose newest catalog cannot be read back and opened; a cold vault is not asked for it."""
    for job, catalog in _newest_catalogs(context):
        if _refusal(context, catalog) or not _may_be_fetched(context, job, catalog):
            continue
        what = f"open the newest catalog of job {job} in vault {catalog.vault}"
        try:
            within(context.seconds, what, partial(_prove, context, catalog))
        except NightvaultError as error:
            why = "a rebuild would have to do with an older state, if there is one"
            yield critical("key", f"cannot {what}: {error}", why, f"nightvault check --vault {catalog.vault}")
        else:
            where = f"read back from vault {catalog.vault}"
            context.notes.append(f"the recovery key opens the newest catalog of job {job}, {where}")


def _newest_catalogs(context: DoctorContext) -> list[tuple[JobName, Archive]]:
    """The newest stored catalog of each job that was backed up."""
    if context.status is None:
        return []
    found: list[tuple[JobName, Archive]] = []
    with closing(opened(context.config)) as inventory, inventory.reading() as tx:
        for job in context.config.jobs:
            row = runs.find_job(tx, job.name)
            stored = archives.stored_catalogs(tx, row.number, inventory.id) if row else []
            found += [(job.name, one) for one, _ in stored[-1:]]
    return found


def _refusal(context: DoctorContext, catalog: Archive) -> NightvaultError | None:
    try:
        open_with(read_header(catalog.header), context.keys)
    except NightvaultError as error:
        return error
    return None


def _may_be_fetched(context: DoctorContext, job: JobName, catalog: Archive) -> bool:
    """Whether fetching it costs no retrieval, and takes little; what is not tried is noted."""
    if context.config.vault(catalog.vault).kind == "glacier":
        why = f"vault {catalog.vault} makes it readable for money only"
    elif catalog.size > LARGEST:
        why = f"it has {size(catalog.size)}"
    else:
        return True
    context.notes.append(
        f"the recovery key opens the newest catalog of job {job}, as its header in the inventory shows; the "
        f"catalog was not read back: {why}"
    )
    return False


def _prove(context: DoctorContext, catalog: Archive) -> None:
    """Fetch the whole catalog and open each of its frames; nothing of it stays."""
    vault = make_vault(context.config, catalog.vault, Purpose.RESTORE, context.clock)
    retrieval = _readable(context, vault, catalog)
    whole = ByteRange(0, catalog.size)
    with _folder() as folder:
        path = os.path.join(folder, "catalog")
        with Draft(path) as draft:
            for piece in aligned_pieces(whole, catalog.size, _PIECE):
                draft.file.write(vault.fetch(retrieval, piece).data)
            draft.place()
        read_catalog_file(path).prove(context.keys)


@contextmanager
def _folder() -> Iterator[str]:
    """A folder that is gone afterwards."""
    place = tempfile.gettempdir()
    with spool_errors(place, "used"), tempfile.TemporaryDirectory(prefix="nightvault-doctor-") as folder:
        yield folder


def _readable(context: DoctorContext, vault: Vault, catalog: Archive) -> RetrievalId:
    """What to fetch from. A bucket is not asked for a retrieval: of a frozen object it would be paid for."""
    name = catalog.archive_id
    if name is None:
        raise VaultError("it has no id")
    if context.config.vault(catalog.vault).kind == "s3":
        context.requests.append(f"GetObject of a catalog of {size(catalog.size)} in vault {catalog.vault}")
        return retrieval_id_of(name, None)
    return vault.request_retrieval(name, None, Tier.STANDARD, secrets.token_hex(16))
