"""Archives from submitted to stored; which chunks may be built upon; where they lie."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.inventory.content import archives, identities, packed, pruning
from backup.inventory.content.archives import ArchiveState, CatalogPosition
from backup.inventory.questions import compared
from backup.inventory.records import runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ChunkRow,
    FrameRow,
    Generation,
    JobName,
    Pack,
    PackId,
    PackKind,
    TreeHash,
    UploadId,
    VaultName,
)
from tests.support.doubles import START


@dataclass
class Shelf:
    """A transaction with a job, two runs and two domains."""

    tx: Transaction
    inventory: Inventory
    job: int
    run: int
    other_run: int
    domain: int
    other_domain: int
    packs: int = 0

    def submit(self, *chunks: bytes, numbers: list[int], **where: object) -> int:
        """A submitted pack of those chunk ids."""
        self.packs += 1
        pack_id = PackId(hashlib.sha256(b"%d" % self.packs).digest()[:16])
        kind = PackKind.CATALOG if "catalog" in where else PackKind.DATA
        pack = Pack(
            ArchiveLabel(kind, pack_id, self.inventory.id),
            b"header",
            100,
            TreeHash(b"t" * 32),
            [FrameRow(0, 6, 50, 60, 1, b"d" * 16), FrameRow(1, 56, 40, 60, 0, b"e" * 16)],
            [ChunkRow(chunk, 0, 10 * place, 10) for place, chunk in enumerate(chunks)],
            [b"l" * 32],
        )
        options: dict[str, object] = {"domain": self.domain, "run": self.run} | where
        return archives.submit(
            self.tx,
            pack,
            chunk_numbers=numbers,
            spool_file=f"{self.packs}.pack",
            part_size=1024,
            now=START,
            **options,  # type: ignore[arg-type]
        )

    def store(self, number: int) -> None:
        archives.mark_stored(self.tx, number, ArchiveId(f"id {number}"), START)


@pytest.fixture
def shelf(inventory: Inventory) -> Iterator[Shelf]:
    with inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, VaultName("v"))
        domains = [
            archives.get_or_create_domain(tx, bytes([n]) * 16, vault, b"r" * 16, START) for n in (1, 2)
        ]
        job = runs.get_or_create_job(tx, JobName("job"), vault, b"j" * 16)
        numbers = [runs.open_backup(tx, job, START).number for _ in range(2)]
    with inventory.connections.transaction(writes=True) as tx:
        yield Shelf(tx, inventory, job.number, *numbers, *domains)


def chunk(text: object) -> bytes:
    return hashlib.sha256(str(text).encode()).digest()


@pytest.mark.parametrize("reached", list(ArchiveState))
@pytest.mark.parametrize("own_run", [True, False])
@pytest.mark.parametrize("own_domain", [True, False])
def test_only_stored_chunks_and_the_run_s_own_are_known(
    shelf: Shelf, reached: ArchiveState, own_run: bool, own_domain: bool
) -> None:
    number = shelf.submit(
        chunk("x"),
        numbers=[5],
        run=shelf.run if own_run else shelf.other_run,
        domain=shelf.domain if own_domain else shelf.other_domain,
    )
    shelf.tx.connection.execute("UPDATE archives SET state = ?", (reached,))
    known = packed.known_chunks(shelf.tx, shelf.domain, shelf.run, [chunk("x"), chunk("y")])
    is_known = own_domain and (
        reached is ArchiveState.STORED or (own_run and reached is ArchiveState.SUBMITTED)
    )
    assert known == ({chunk("x"): (5, number)} if is_known else {})


def test_ids_that_begin_alike_are_told_apart(shelf: Shelf) -> None:
    one, two = b"same8byt" + b"1" * 24, b"same8byt" + b"2" * 24
    number = shelf.submit(one, numbers=[1])
    assert packed.known_chunks(shelf.tx, shelf.domain, shelf.run, [one, two]) == {one: (1, number)}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.sets(st.integers(0, 1500), max_size=1200))
def test_many_chunks_are_asked_at_once(shelf: Shelf, wanted: set[int]) -> None:
    if shelf.packs == 0:
        shelf.submit(*map(chunk, range(0, 1500, 2)), numbers=list(range(1, 751)))
    known = packed.known_chunks(shelf.tx, shelf.domain, shelf.run, map(chunk, wanted))
    assert set(known) == {chunk(number) for number in wanted if number % 2 == 0 and number < 1500}
    places = list(packed.chunk_locations(shelf.tx, [found.number for found in known.values()]))
    assert {place.id: (place.number, place.archive) for place in places} == known
    if places:
        least, most = min(places).number, max(places).number
        between = packed.chunk_locations_between(shelf.tx, least, most)
        assert [row[0] for row in between] == list(range(least, most + 1))
        assert set(places) <= set(between)


@given(st.binary(min_size=32, max_size=32))
def test_prefixes_are_signed_64_bits(chunk_id: bytes) -> None:
    prefix = packed.chunk_prefix(chunk_id)
    assert -(2**63) <= prefix < 2**63
    assert (prefix % 2**64).to_bytes(8, "little") == chunk_id[:8]


def test_chunks_that_nobody_finds_are_found_again(shelf: Shelf) -> None:
    numbers = [3, 2**20 + 7, 8]
    shelf.store(shelf.submit(*map(chunk, numbers), numbers=numbers))
    shelf.tx.connection.execute("DELETE FROM chunk_prefixes WHERE chunk > 7")
    shelf.tx.connection.execute("INSERT INTO chunk_prefixes VALUES (5, 4711)")
    asked = list(map(chunk, numbers))
    assert packed.known_chunks(shelf.tx, shelf.domain, shelf.run, asked).keys() == {chunk(3)}
    packed.index_chunks(shelf.tx)
    assert packed.known_chunks(shelf.tx, shelf.domain, shelf.run, asked).keys() == set(asked)
    rows = [
        value for (value,) in shelf.tx.connection.execute("SELECT chunk FROM chunk_prefixes ORDER BY chunk")
    ]
    assert list(rows) == sorted(numbers), "what is no chunk's is gone"


def test_an_archive_s_road(shelf: Shelf) -> None:
    number = shelf.submit(chunk(1), chunk(2), numbers=[7, 8])
    (pending,) = archives.pending_uploads(shelf.tx, shelf.inventory.id)
    assert (pending.archive.state, pending.upload_id, pending.part_size) == (
        ArchiveState.SUBMITTED,
        None,
        1024,
    )
    archives.upload_begun(shelf.tx, number, UploadId("up"))
    (pending,) = archives.pending_uploads(shelf.tx, shelf.inventory.id)
    assert (pending.upload_id, pending.spool_file, pending.archive.archive_id) == ("up", "1.pack", None)
    shelf.store(number)
    assert archives.pending_uploads(shelf.tx, shelf.inventory.id) == []
    archive = archives.get_archives(shelf.tx, [number], shelf.inventory.id)[number]
    assert (archive.archive_id, archive.stored_at, archive.vault) == (f"id {number}", START, "v")
    assert [row.offset for row in packed.frame_rows(shelf.tx, number)] == [6, 56]
    assert packed.chunks_of(shelf.tx, number)[0] == [7, 8]
    assert archives.vault_totals(shelf.tx) == {"v": (1, 100)}


def test_a_lost_archive_is_listed_no_more(shelf: Shelf) -> None:
    number = shelf.submit(chunk(1), numbers=[1])
    archives.mark_lost(shelf.tx, number)
    assert archives.pending_uploads(shelf.tx, shelf.inventory.id) == []
    assert archives.list_archives(shelf.tx, shelf.inventory.id) == []
    assert packed.known_chunks(shelf.tx, shelf.domain, shelf.run, [chunk(1)]) == {}
    assert archives.vault_totals(shelf.tx) == {}


def test_lists_by_vault_and_run(shelf: Shelf) -> None:
    one = shelf.submit(numbers=[], run=shelf.run)
    two = shelf.submit(numbers=[], run=shelf.other_run)

    def listed(**only: object) -> list[int]:
        found = archives.list_archives(shelf.tx, shelf.inventory.id, **only)  # type: ignore[arg-type]
        return [archive.number for archive in found]

    assert listed() == listed(vault=VaultName("v")) == [one, two]
    assert listed(run=shelf.run) == [one]
    assert listed(vault=VaultName("w")) == []


def test_a_job_has_a_chain_in_each_vault(shelf: Shelf) -> None:
    other = archives.get_or_create_vault(shelf.tx, VaultName("w"))
    there = archives.get_or_create_domain(shelf.tx, b"w" * 16, other, b"r" * 16, START)
    data = [shelf.submit(numbers=[]) for _ in range(3)]
    full, delta, last = Generation.FULL, Generation.DELTA, PackId(b"p" * 16)
    places = [(shelf.domain, 1, full), (there, 2, full), (shelf.domain, 3, delta)]
    places += [(there, 4, full), (there, 5, full), (there, 6, delta)]
    numbers = [
        shelf.submit(
            numbers=[],
            domain=domain,
            catalog=CatalogPosition(shelf.job, number, generation, last, [data[number % 3]]),
        )
        for domain, number, generation in places
    ]
    own, job_id = [numbers[0], numbers[2]], b"j" * 16
    copied = [number for number in numbers if number not in own]
    for number in numbers[:-1]:
        shelf.store(number)

    def stored(vault: int | None) -> list[int]:
        found = archives.stored_catalogs(shelf.tx, shelf.job, shelf.inventory.id, vault=vault)
        return [archive.number for archive, _ in found]

    assert (stored(None), stored(other)) == (own, copied[:-1])
    archives.mark_damaged(shelf.tx, numbers[2])
    spoiled = archives.spoiled_catalogs(shelf.tx, shelf.job, shelf.inventory.id)
    assert [archive.number for archive, _ in spoiled] == [numbers[2]]
    assert archives.spoiled_catalogs(shelf.tx, shelf.job, shelf.inventory.id, vault=other) == []
    assert archives.named_archives(shelf.tx, shelf.job, also_spoiled=True) == {data[1], data[0]}
    assert archives.named_archives(shelf.tx, shelf.job, vault=other) == {data[2], data[1]}
    here, away = VaultName("v"), VaultName("w")
    newest = [identities.newest_known(shelf.tx, vault)[job_id].number for vault in (here, away)]
    assert newest == [3, 6], "also one that is on its way"
    assert [identities.chains_begin(shelf.tx, vault) for vault in (here, away)] == [{job_id: 1}, {job_id: 5}]
    assert compared.newest_catalog(shelf.tx, here, job_id) == 3
    assert pruning.needed_catalogs(shelf.tx) == {*own, *numbers[3:5]}, "two generations of each chain"


def test_catalogs_and_what_they_name(shelf: Shelf) -> None:
    data = [shelf.submit(numbers=[]) for _ in range(3)]
    first = shelf.submit(numbers=[], catalog=CatalogPosition(shelf.job, 4, Generation.DELTA, None, data[:2]))
    full = shelf.submit(
        numbers=[], catalog=CatalogPosition(shelf.job, 5, Generation.FULL, PackId(b"p" * 16), data)
    )
    assert archives.catalog_of_run(shelf.tx, shelf.run) == (first, ArchiveState.SUBMITTED)
    assert archives.catalog_of_run(shelf.tx, shelf.other_run) is None
    assert archives.stored_catalogs(shelf.tx, shelf.job, shelf.inventory.id) == []
    assert archives.named_archives(shelf.tx, shelf.job) == set(), "what is not stored names nothing"
    shelf.store(first)
    assert archives.named_archives(shelf.tx, shelf.job) == set(data[:2])
    shelf.store(full)
    assert archives.named_archives(shelf.tx, shelf.job) == set(data)
    found = archives.stored_catalogs(shelf.tx, shelf.job, shelf.inventory.id)
    assert [(archive.label.number, archive.label.generation, parent) for archive, parent in found] == [
        (4, Generation.DELTA, None),
        (5, Generation.FULL, b"p" * 16),
    ]


def test_domains_and_their_recipients(shelf: Shelf) -> None:
    vault = archives.get_or_create_vault(shelf.tx, VaultName("v"))
    assert archives.recipients_of_newest_archive(shelf.tx, vault) is None
    again = archives.get_or_create_domain(shelf.tx, b"\x01" * 16, vault, b"ignored", START)
    assert again == shelf.domain
    new = archives.get_or_create_domain(shelf.tx, b"\x03" * 16, vault, b"n" * 16, START)
    number = shelf.submit(numbers=[], domain=new)
    assert archives.recipients_of_newest_archive(shelf.tx, vault) == b"n" * 16
    old = shelf.submit(numbers=[], domain=shelf.domain)
    assert archives.recipients_of_newest_archive(shelf.tx, vault) == b"r" * 16
    rows = archives.domains_of(shelf.tx, [number, old])
    assert [(row["number"], row["recipients"], row["vault_name"]) for row in rows] == [
        (shelf.domain, b"r" * 16, "v"),
        (new, b"n" * 16, "v"),
    ]
