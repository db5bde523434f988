"""Another server of the same vault, enrolled by the same recovery key, that forges catalogs of its neighbour.

    thief = stranger(site)                              # backs up its own source, once
    forged_full(thief, site)                            # a full catalog of the site's job, with its own files
    forged_full(thief, site, condemned=packs_of(site))  # the same, which condemns the site's archives
    forged_full(thief, RecoveryLine.from_text(line))    # all that it needs to know is in a recovery line
    forge(thief, site, Forgery(parent=NONE))            # any other way to do it

It has its own signer alone: what it writes carries its own inventory id and its own signature.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.catalogs.catalogs import (
    CatalogWriter,
    full_records,
    position_after,
    read_chain,
    snapshot_records,
)
from backup.catalogs.context import BackupJob, Keys
from backup.catalogs.run_setup import open_spool
from backup.format.catalog import (
    ArchiveRecord,
    ChunksRecord,
    CondemnedRecord,
    DirectoryRecord,
    DroppedRecord,
    FramesRecord,
    Record,
    SnapshotRecord,
    Start,
    pack_chunks,
    pack_frames,
    pack_u32,
)
from backup.format.header import (
    NO_FEATURE,
    NO_HASH,
    NO_PACK,
    CatalogFeature,
    CatalogFields,
    CatalogOption,
    HeaderFields,
    seal_header,
)
from backup.format.keys import ChunkSecret, RecoveryKey, Signer
from backup.format.line import RecoveryLine
from backup.inventory.content import archives
from backup.inventory.records.runs import find_job
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import create_inventory
from backup.inventory.store.times import micros
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ChunkRow,
    FrameRow,
    Generation,
    InventoryId,
    JobName,
    ListedArchive,
    Listing,
    PackId,
    PackKind,
)
from tests.support.archives import store
from tests.support.backups import Site, enrolled
from tests.support.doubles import Silent
from tests.support.integrity import list_now
from tests.support.rebuilds import line_of

STRANGER_ID = InventoryId(b"a stranger's id.")
CONTENT = b"what the stranger would have you restore"
NEWEST, NONE, FIRST = "the newest delta", "nothing", "nothing, as a job's first catalog does"
_numbers = itertools.count()
_GUESSED = tuple((2**30 + number, b"/guessed/%d" % number) for number in range(3))


def stranger(
    site: Site,
    folder: Path | None = None,
    *,
    inventory_id: InventoryId = STRANGER_ID,
    signer: Signer | None = None,
    by: Sequence[RecoveryKey] = (),
    ancestors: Sequence[InventoryId] = (),
) -> Site:
    """A second server into the site's vault: its own folder, source, job, inventory and keys; one night.

    `by` enrols it, the site's recovery key by default, as a successor of `ancestors`.
    """
    folder = folder or site.folder.parent / "stranger"
    for path in (folder, folder / "spool", folder / "restores", folder / "source"):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "source" / "theirs").write_bytes(CONTENT)
    signer = signer or Signer(b"t" * 32)
    keys = enrolled(
        Keys(signer, ChunkSecret(b"d" * 32), site.keys.recipients, ()),
        inventory_id,
        by or [site.key],
        ancestors,
    )
    inventory = create_inventory(
        f"sqlite:///{folder / 'inventory.sqlite'}",
        inventory_id=inventory_id,
        signer_public=signer.public,
        now=site.clock.now(),
        lock_directory=str(folder),
    )
    job = BackupJob(
        JobName("theirs"),
        (os.fsencode(folder / "source"),),
        site.job.filters,
        site.job.pack_size,
        site.job.part_size,
    )
    made = replace(site, folder=folder, inventory=inventory, job=job, keys=keys, progress=Silent())
    made.backup()
    return made


def listing_of(site: Site) -> Listing:
    """The vault's list as of now, however long it takes."""
    vault = site.vault
    if vault.traits.lists_at_once:
        return list_now(vault)
    site.wait()
    listing_id = vault.request_listing(f"look {next(_numbers)}")
    site.wait()
    return vault.fetch_listing(listing_id)


def packs_of(site: Site) -> list[PackId]:
    """The data packs of a site, which anybody reads in the vault's list."""
    labels = [line.label for line in listing_of(site).archives]
    ours = [label for label in labels if label is not None and label.inventory_id == site.inventory.id]
    return sorted(label.pack_id for label in ours if label.kind is PackKind.DATA)


class Forgery(Struct, frozen=True, kw_only=True):
    """A catalog of somebody else's job: for the state of its newest delta and full, unless said otherwise.

    It holds all that the thief saved itself, some guessed directories, and a word that condemns `condemned`.
    `claims`: the inventories that it calls its ancestors, without a recovery key's word for it. `number` is
    the next after the victim's by default, `name` the job's. `parent`: NEWEST, or what else it goes on from;
    `labelled`: the inventory that its description names, while the header has the thief's. `named`: lines of
    others' data archives that it names as stored by them and signed by the thief.
    """

    condemned: Sequence[PackId] = ()
    claims: Sequence[InventoryId] = ()
    number: int | None = None
    name: str | None = None
    generation: Generation = Generation.FULL
    parent: str = NEWEST
    labelled: InventoryId | None = None
    named: Sequence[ListedArchive] = ()

    def place(self, line: RecoveryLine, pack: PackId, thief: Site) -> CatalogFields:
        """Its header's place in the chain."""
        made = CatalogFields(
            line.job_id,
            line.number + 1 if self.number is None else self.number,
            self.generation,
            pack,
            line.header_hash,
            thief.keys.enrolments,
            options=CatalogOption.SIGNED_CONTENT,
        )
        if self.parent == NEWEST:
            return made
        feature = CatalogFeature.FIRST_DELTA if self.parent == FIRST else NO_FEATURE
        return replace(made, parent_pack_id=NO_PACK, parent_header_hash=NO_HASH, features=feature)


def forged_full(
    thief: Site,
    victim: Site | RecoveryLine,
    *,
    condemned: Sequence[PackId] = (),
    claims: Sequence[InventoryId] = (),
    number: int | None = None,
    name: str | None = None,
) -> ArchiveId:
    """Store a full catalog of the victim's job, for the state of its newest delta, by the thief's hand."""
    return forge(thief, victim, Forgery(condemned=condemned, claims=claims, number=number, name=name))


def forge(thief: Site, victim: Site | RecoveryLine, forgery: Forgery) -> ArchiveId:
    """Store a catalog of the victim's job by the thief's hand."""
    line = victim if isinstance(victim, RecoveryLine) else line_of(victim)
    place = forgery.place(line, _pack_of(thief, line), thief)
    start = start_of(place, forgery.name or line.job, line.number, forgery.claims)
    words: list[Record] = [CondemnedRecord(list(forgery.condemned), 1)] if forgery.condemned else []
    if place.generation is Generation.DELTA:  # it takes away what was there
        words = [DroppedRecord(list(range(1, 100))), CondemnedRecord(list(forgery.condemned), 1)]
    named = [
        record
        for number, archive in enumerate(forgery.named, 1000)
        for record in _named(archive, number, thief)
    ]

    def relabel(label: ArchiveLabel) -> ArchiveLabel:
        return replace(label, inventory_id=forgery.labelled or label.inventory_id)

    return store_forged(thief, place, start, words, relabel, named)


def start_of(place: CatalogFields, name: str, parent: int, claims: Sequence[InventoryId]) -> Start:
    """A first record; it cannot say how the job's id came about."""
    return Start(
        *(1, place.number, int(place.generation), place.job_id, name, parent, "host", "nightvault 0"),
        predecessor=claims[0] if claims else None,
        ancestors=list(claims),
    )


def store_forged(
    thief: Site,
    place: CatalogFields,
    start: Start,
    words: Sequence[Record],
    relabel: Callable[[ArchiveLabel], ArchiveLabel] = lambda label: label,
    named: Sequence[Record] = (),
) -> ArchiveId:
    """Store a catalog at any place of any job, by the thief's hand.

    With `words` it says more than the thief saved itself, and names archives by `named`. A delta has nothing
    else but a snapshot.
    """
    spool = open_spool(thief.keys, thief.job.sending, thief.world)
    writer = CatalogWriter(spool.open_pack(PackKind.CATALOG, place), None)
    with thief.inventory.reading() as tx:
        honest = list(_honest(thief, tx))
    if place.generation is Generation.DELTA:
        honest = [record for record in honest if isinstance(record, Start | SnapshotRecord)]
    writer.add(_forged(honest, start, words, named))
    pack, file_name = writer.finish()
    path = thief.spool / file_name
    archive_id = store(thief.vault, path.read_bytes(), relabel(pack.label))
    path.unlink()
    return archive_id


def _pack_of(thief: Site, line: RecoveryLine) -> PackId:
    """The pack id of the line's delta, by its label, where that is seen at once."""
    if not thief.vault.traits.lists_at_once:
        return PackId(bytes(16))
    found = (
        archive.label
        for archive in list_now(thief.vault).archives
        if archive.archive_id == line.delta.archive_id
    )
    return next((label.pack_id for label in found if label is not None), PackId(bytes(16)))


def _honest(thief: Site, tx: Transaction) -> Iterator[Any]:
    """A full catalog of its own job."""
    row = find_job(tx, thief.job.name)
    assert row is not None
    chain = read_chain(tx, row.number, row.vault, thief.inventory)
    names = archives.named_archives(tx, row.number, also_spoiled=True)
    at: Any = SimpleNamespace(keys=thief.keys, context=thief.world, row=row)
    position = position_after(chain, row, 1, Generation.FULL, names)
    yield from full_records(tx, at, position, chain, snapshot_records(tx, row, names))


def _forged(
    honest: Iterable[Any], start: Start, words: Sequence[Record], named: Sequence[Record]
) -> Iterator[Any]:
    """The same as one of another job, with some guessed directories before what else it says."""
    for record in honest:
        if isinstance(record, Start):
            yield replace(start, format=record.format)
        elif isinstance(record, SnapshotRecord) and words:
            yield from (DirectoryRecord(number, path) for number, path in _GUESSED)
            yield from named
            yield record
            yield from words
        else:
            yield record


def _named(line: ListedArchive, number: int, thief: Site) -> Iterator[Record]:
    """Somebody's data archive, as if it were theirs, the thief had signed it, and it knew what is in it."""
    assert line.label is not None
    pack, signer = line.label.pack_id, thief.keys.signer
    fields = HeaderFields(PackKind.DATA, pack, line.label.inventory_id, signer.public)
    header = seal_header(fields, pack_key=bytes(32), recipients=thief.keys.recipients, signer=signer)
    told = line.tree_hash or bytes(32), line.archive_id, micros(line.created_at), "stored"
    yield ArchiveRecord(number, 1, int(PackKind.DATA), pack, header, line.size, *told)
    yield FramesRecord(number, pack_frames([FrameRow(0, 0, 100, 100, 0, bytes(16))]))
    yield ChunksRecord(number, pack_u32([number]), pack_chunks([ChunkRow(pack * 2, 0, 0, 100)]))
