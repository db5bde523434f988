"""What the vault of several inventories shows: real signed headers, labels, lists, and chains by the program.

Headers are made once for each catalog, and what is decided by them is kept by the catalogs that were shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from unittest.mock import patch

from msgspec import Struct

from backup.format import records
from backup.format.enrolment import HeirMark, enrol, enrolment_key, slots
from backup.format.header import (
    NO_HASH,
    NO_PACK,
    CatalogFeature,
    CatalogFields,
    Header,
    HeaderFields,
    Stanza,
    assemble_header,
    parse_header,
    verify_header,
)
from backup.format.keys import RecoveryKey, Signer
from backup.format.pack import describe
from backup.inventory.records.retrievals import ListedRow
from backup.inventory.store.times import micros
from backup.lineage import Family, Voucher
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    Generation,
    InventoryId,
    ListedArchive,
    Listing,
    PackId,
    PackKind,
)
from backup.rebuilder.catalogs import chain
from backup.rebuilder.catalogs.chain import TrustedCatalogs
from backup.rebuilder.members import Trust, UntrustedError
from backup.transfer.succession import ShownCatalog
from tests.model.servers.world import (
    DELTA,
    FIRST,
    FULL,
    NEVER,
    PERIOD,
    START,
    Cast,
    Catalog,
    Mark,
    Pack,
    World,
    dated,
    now,
)

KEY = RecoveryKey.from_seed(b"k" * 32)
VOUCHING = (enrolment_key(KEY),)
SIGNERS = tuple(Signer(bytes([number + 1]) * 32) for number in range(5))
PUBLIC = tuple(signer.public for signer in SIGNERS)
IDS = tuple(InventoryId(bytes([number + 65]) * 16) for number in range(5))
INVENTORIES = {inventory_id: number for number, inventory_id in enumerate(IDS)}
JOB = b"j" * 16
OTHER_JOB = b"o" * 16
_BEFORE = timedelta(hours=1)
_MADE_UP = b"h" * 32
_GENERATIONS = {FIRST: Generation.FULL, DELTA: Generation.DELTA, FULL: Generation.FULL}


def pack_id(order: int) -> PackId:
    """The id of what was stored with that number."""
    return PackId(order.to_bytes(16, "big"))


def archive_id(order: int) -> ArchiveId:
    """The vault's id of it."""
    return ArchiveId(f"a{order}")


class Shown(Struct, frozen=True):
    """What a list shows: catalogs by the model's numbers, packs that are there, marks; `at` is its time.

    `every` has order, chunk and period of all packs that ever were, for whoever knows of them.
    """

    period: int
    at: datetime
    catalogs: tuple[int, ...]
    packs: tuple[Pack, ...]
    marks: tuple[Mark, ...]
    every: tuple[tuple[int, int, int], ...] = ()

    @property
    def chunks(self) -> dict[int, int]:
        """The chunk of each pack."""
        return {order: chunk for order, chunk, _ in self.every}

    @property
    def periods(self) -> dict[int, int]:
        """The period in which each pack was stored."""
        return {order: period for order, _, period in self.every}


class ListedVault:
    """The catalogs of all worlds of a search, by number, and what the program says of them."""

    def __init__(self, cast: Cast) -> None:
        self.cast = cast
        self.catalogs: list[Catalog] = []
        self._numbers: dict[Catalog, int] = {}
        self._headers: dict[tuple[object, ...], Header] = {}
        self._header_of: list[Header] = []
        self._shown_catalogs: list[ShownCatalog] = []
        self._verified: set[tuple[bytes, bytes]] = set()
        self._lines: dict[object, ListedArchive] = {}
        self._families: dict[tuple[int, ...], Family] = {}
        self._trusted: dict[tuple[int, ...], tuple[TrustedCatalogs, tuple[tuple[str, int], ...]]] = {}
        self._listings: dict[Shown, Listing] = {}

    # Catalogs.

    def number_of(self, catalog: Catalog, parents: Sequence[int]) -> int:
        """The model's number of a catalog; `parents` are those of the vault in which it is stored."""
        found = self._numbers.get(catalog)
        if found is None:
            found = self._numbers[catalog] = len(self.catalogs)
            self.catalogs.append(catalog)
            parent = next(
                (
                    self._header_of[number]
                    for number in parents
                    if self.catalogs[number].order == catalog.parent
                ),
                None,
            )
            self._header_of.append(self._header(catalog, parent))
        return found

    def _header(self, catalog: Catalog, parent: Header | None) -> Header:
        before = NO_HASH if catalog.parent == NEVER else _MADE_UP if parent is None else parent.hash
        key = (
            *(catalog.order, catalog.writer, catalog.signer, catalog.number, catalog.shape, before),
            *(catalog.claims, catalog.is_signed, catalog.is_enrolled),
        )
        if key not in self._headers:
            signer, inventory_id = SIGNERS[catalog.signer], IDS[catalog.writer]
            recipient = KEY.recipient.id
            ancestors = [IDS[claim] for claim in catalog.claims] if catalog.is_signed else []
            tags = {recipient: KEY.enrolment_tag(inventory_id, signer.public)}
            signed = {recipient: enrol(KEY, inventory_id, signer.public, ancestors)}
            fields = CatalogFields(
                JOB,
                catalog.number,
                _GENERATIONS[catalog.shape],
                parent.fields.pack_id if parent else NO_PACK,
                before,
                slots([recipient], tags, signed) if catalog.is_enrolled else (),
                CatalogFeature.FIRST_DELTA if catalog.shape == FIRST else CatalogFeature(0),
            )
            named = HeaderFields(
                PackKind.CATALOG, pack_id(catalog.order), inventory_id, signer.public, fields
            )
            stanzas = [Stanza(recipient, bytes(1168))]
            raw = assemble_header(named, stanzas, pack_key=bytes(32), signer=signer)
            self._headers[key] = parse_header(raw)
        return self._headers[key]

    # Lists.

    def shown(self, world: World) -> Shown:
        """What a list shows now: where it is late, what was there when the period began."""
        period, lag = world.period, self.cast.lag
        every = tuple((pack.order, pack.chunk, pack.period) for pack in world.packs)
        if not lag:
            packs = tuple(pack for pack in world.packs if pack.there)
            return Shown(period, now(period), world.catalogs, packs, world.marks, every)
        return Shown(
            period,
            START + period * PERIOD - _BEFORE,
            tuple(number for number in world.catalogs if self.catalogs[number].period < period),
            tuple(pack for pack in world.packs if pack.shown and pack.period < period),
            tuple(mark for mark in world.marks if mark.period < period),
            every,
        )

    def label(self, catalog: Catalog) -> ArchiveLabel:
        """The label in its description, which may lie of the inventory and the job."""
        generation = _GENERATIONS[catalog.shape]
        job = JOB if catalog.label >= 0 else OTHER_JOB
        whose = IDS[catalog.label if catalog.label >= 0 else catalog.writer]
        return ArchiveLabel(PackKind.CATALOG, pack_id(catalog.order), whose, catalog.number, generation, job)

    def line(self, number: int) -> ListedArchive:
        """The line of a catalog."""
        if number not in self._lines:
            catalog = self.catalogs[number]
            label = self.label(catalog)
            at = dated(catalog.period, catalog.order)
            self._lines[number] = ListedArchive(
                archive_id(catalog.order), describe(label), label, 1, None, at
            )
        return self._lines[number]

    def shown_catalog(self, number: int) -> ShownCatalog:
        """A catalog as a run sees it before it writes."""
        while len(self._shown_catalogs) <= number:
            line = self.line(len(self._shown_catalogs))
            assert line.label is not None
            self._shown_catalogs.append(ShownCatalog(line.label, line.created_at))
        return self._shown_catalogs[number]

    def _line_of_pack(self, pack: Pack) -> ListedArchive:
        key = "pack", pack.order, pack.period, pack.writer
        if key not in self._lines:
            label = ArchiveLabel(PackKind.DATA, pack_id(pack.order), IDS[pack.writer])
            at = dated(pack.period, pack.order)
            self._lines[key] = ListedArchive(archive_id(pack.order), describe(label), label, 1, None, at)
        return self._lines[key]

    def _line_of_mark(self, mark: Mark) -> ListedArchive:
        if mark not in self._lines:
            at = dated(mark.period, mark.order)
            text = mark_of(mark).to_text()
            self._lines[mark] = ListedArchive(archive_id(mark.order), text, None, 1, None, at)
        return self._lines[mark]

    def listing(self, shown: Shown) -> Listing:
        """The list as the program reads it."""
        if shown not in self._listings:
            lines = [self.line(number) for number in shown.catalogs]
            lines += [self._line_of_pack(pack) for pack in shown.packs]
            lines += [self._line_of_mark(mark) for mark in shown.marks]
            self._listings[shown] = Listing(shown.at, lines)
        return self._listings[shown]

    def rows(self, shown: Shown) -> list[ListedRow]:
        """Catalogs and marks of the list, as an inventory keeps it."""
        lines = [self.line(number) for number in shown.catalogs]
        lines += [self._line_of_mark(mark) for mark in shown.marks]
        return [
            ListedRow(line.archive_id, line.description, line.size, None, micros(line.created_at))
            for line in lines
        ]

    # Who follows whom.

    def trusted(self, catalogs: tuple[int, ...]) -> tuple[TrustedCatalogs, tuple[tuple[str, int], ...]]:
        """The catalogs that a recovery key vouches for, and what is odd of any, by inventory of the label."""
        if catalogs not in self._trusted:
            made = TrustedCatalogs([KEY], Trust())
            odd: list[tuple[str, int]] = []
            with patch.object(chain, "verify_header", self._verify):
                for number in sorted(catalogs, key=lambda number: self.catalogs[number].number):
                    catalog, header = self.catalogs[number], self._header_of[number]
                    try:
                        made.add(archive_id(catalog.order), header)
                    except UntrustedError:
                        odd.append(("refused", catalog.label))
                        continue
                    made.note_start(header, self._start(catalog))
                    if catalog.label != catalog.writer:
                        odd.append(("relabelled", catalog.label))
            self._trusted[catalogs] = made, tuple(odd)
        return self._trusted[catalogs]

    def _verify(self, header: Header, signer_public: bytes) -> None:
        """A signature that was verified before is not verified again: it takes most of the time."""
        key = header.hash, signer_public
        if key not in self._verified:
            verify_header(header, signer_public)
            self._verified.add(key)

    def _start(self, catalog: Catalog) -> records.Start:
        claims = [IDS[claim] for claim in catalog.claims]
        numbers = 1, catalog.number, int(_GENERATIONS[catalog.shape])
        return records.Start(
            *numbers, JOB, "job", 0, "host", "nightvault", claims[0] if claims else None, list(claims)
        )

    def family(self, catalogs: tuple[int, ...]) -> Family:
        """The family, as `find_family` finds it: by what can be read of each inventory that labels name."""
        if catalogs not in self._families:
            found = Family([Voucher.of(KEY)])
            trusted, _ = self.trusted(catalogs)
            labels = {self.catalogs[number].label for number in catalogs} - {NEVER}
            for number in catalogs:
                catalog, header = self.catalogs[number], self._header_of[number]
                if trusted.vouches_for(header):
                    found.note(header, self._start(catalog), 0)
            found.note_unread(IDS[label] for label in labels if not found.is_read(IDS[label]))
            self._families[catalogs] = found
        return self._families[catalogs]

    def ancestors(self, catalogs: tuple[int, ...], inventory: int) -> tuple[int, ...]:
        """Its proven ancestors, nearest first."""
        found = self.trusted(catalogs)[0].family.ancestors(IDS[inventory])
        return tuple(INVENTORIES[other] for other in found)


def mark_of(mark: Mark) -> HeirMark:
    """The mark as it is written; a proof names the heir's ancestors."""
    heir, before = IDS[mark.heir], IDS[mark.predecessor]
    signature = bytes(64)
    if mark.is_proven:
        signature = enrol(KEY, heir, PUBLIC[mark.heir], [before, *_before(mark.predecessor)])
    return HeirMark(before, heir, PUBLIC[mark.heir], signature)


def _before(inventory: int) -> list[InventoryId]:
    return [IDS[0]] if inventory == 1 else []
