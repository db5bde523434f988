"""The catalogs in the vault tell, to the holder of the recovery key alone, exactly what the inventory has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.catalogs import catalogs
from backup.catalogs import full as full_catalogs
from backup.format import records
from backup.format.header import CatalogFeature
from backup.format.keys import RecoveryKey
from backup.format.line import RecoveryLine
from backup.format.pack import NO_HASH, NO_PACK, is_enrolled
from backup.inventory.content import archives
from backup.inventory.content.archives import ArchiveState
from backup.model import ArchiveId, Generation, PackKind
from tests.archiver.nights import assert_equal, deltas, job_number, live_through_a_week, of_inventory
from tests.archiver.reader import OpenedCatalog, Rebuilt, read_catalogs
from tests.support.backups import Site


def fulls(found: list[OpenedCatalog]) -> list[OpenedCatalog]:
    return [catalog for catalog in found if catalog.generation is Generation.FULL]


def test_all_deltas_give_the_inventory(site: Site, source: Path) -> None:
    live_through_a_week(site, source)
    rebuilt = Rebuilt()
    for delta in deltas(read_catalogs(site.vault, site.key)):
        rebuilt.apply(delta)
    assert_equal(rebuilt, of_inventory(site.inventory, job_number(site)))


def test_the_first_catalog_is_delta_and_full_in_one(site: Site, source: Path) -> None:
    """The next delta follows it, and it counts as one full generation."""
    (source / "kept").write_bytes(os.urandom(1000))
    report = site.backup()
    (first,) = read_catalogs(site.vault, site.key)
    place = first.header.fields.catalog
    assert place is not None
    assert (place.generation, place.features) == (Generation.FULL, CatalogFeature.FIRST_DELTA)
    assert (place.parent_pack_id, place.parent_header_hash) == (NO_PACK, NO_HASH)
    line = RecoveryLine.from_text(report.recovery_line)
    assert line.full == line.delta
    assert (line.delta.archive_id, line.header_hash) == (first.listed.archive_id, first.header.hash)
    site.backup()
    _, second = read_catalogs(site.vault, site.key)
    assert second.header.fields.catalog is not None
    assert second.header.fields.catalog.parent_header_hash == first.header.hash
    assert second.header.fields.catalog.features == 0


def test_a_full_catalog_and_the_deltas_after_it_give_the_inventory(site: Site, source: Path) -> None:
    site.most_deltas = 3
    live_through_a_week(site, source)
    found = read_catalogs(site.vault, site.key)
    kept = of_inventory(site.inventory, job_number(site))
    assert len(fulls(found)) == 3
    for full in fulls(found):
        rebuilt = Rebuilt()
        rebuilt.apply(full)
        assert full.listed.label is not None
        for delta in deltas(found):
            assert delta.listed.label is not None
            if delta.listed.label.number > full.listed.label.number:
                rebuilt.apply(delta)
        assert_equal(rebuilt, kept)


def test_every_catalog_is_signed_enrolled_and_names_its_parent(site: Site, source: Path) -> None:
    live_through_a_week(site, source)
    found = read_catalogs(site.vault, site.key)
    numbers, parent = [], None
    for catalog in found:
        fields = catalog.header.fields
        assert fields.catalog is not None
        assert fields.inventory_id == site.inventory.id
        assert fields.signer_public == site.keys.signer.public
        assert is_enrolled(catalog.header, site.key)
        start = catalog.records[0]
        assert (start.number, start.generation) == (fields.catalog.number, fields.catalog.generation)
        assert (start.job_id, start.job_name) == (fields.catalog.job_id, "job")
        expected = (parent.header.fields.pack_id, parent.header.hash) if parent else (NO_PACK, NO_HASH)
        assert (fields.catalog.parent_pack_id, fields.catalog.parent_header_hash) == expected
        numbers.append(fields.catalog.number)
        if catalog.is_delta:
            parent = catalog
    assert numbers == sorted(set(numbers)), "a number was given out twice"


def test_a_catalog_carries_its_chain_with_archive_ids(site: Site, source: Path) -> None:
    site.most_deltas = 3
    live_through_a_week(site, source)
    found = read_catalogs(site.vault, site.key)
    for place, catalog in enumerate(found):
        (chain,) = [record for record in catalog.records if isinstance(record, records.ChainRecord)]
        before = found[:place]
        newest = max((index for index, other in enumerate(before) if other in fulls(found)), default=0)
        expected = [
            (
                other.records[0].number,
                other.records[0].generation,
                other.header.fields.pack_id,
                other.header.hash,
                other.listed.archive_id,
            )
            for other in before[newest:]
        ]
        assert [tuple(link) for link in chain.links] == expected


def test_secrets_are_in_full_catalogs_only(site: Site, source: Path) -> None:
    live_through_a_week(site, source)
    for catalog in read_catalogs(site.vault, site.key):
        secrets = [record for record in catalog.records if isinstance(record, records.Secrets)]
        if catalog.generation is Generation.FULL:
            assert [(secret.signer_seed, secret.chunk_secret) for secret in secrets] == [
                (b"s" * 32, b"c" * 32)
            ]
        else:
            assert secrets == []


def test_archives_that_a_catalog_names_are_as_the_vault_has_them(site: Site, source: Path) -> None:
    live_through_a_week(site, source)
    listing = {
        archive.archive_id: archive
        for archive in site.vault.fetch_listing(site.vault.request_listing("x")).archives
    }
    rebuilt = Rebuilt()
    for delta in deltas(read_catalogs(site.vault, site.key)):
        rebuilt.apply(delta)
    assert rebuilt.archives
    for record in rebuilt.archives.values():
        listed = listing[ArchiveId(record.archive_id)]
        assert (listed.size, listed.tree_hash) == (record.size, record.tree_hash)
        assert record.state == ArchiveState.STORED
        assert listed.label is not None
        assert (listed.label.kind, listed.label.pack_id) == (PackKind(record.kind), record.pack_id)


def test_a_job_s_catalogs_name_what_another_job_stored_first(site: Site, source: Path) -> None:
    (source / "shared").write_bytes(os.urandom(50_000))
    site.backup()
    other = site.with_job(name="other")
    other.backup()
    rebuilt = Rebuilt()
    for catalog in deltas(read_catalogs(site.vault, site.key)):
        if catalog.records[0].job_name == "other":
            rebuilt.apply(catalog)
    assert_equal(rebuilt, of_inventory(site.inventory, job_number(other)))
    assert rebuilt.chunks


def test_nothing_in_clear_tells_names(site: Site, source: Path, tmp_path: Path) -> None:
    (source / "telltale-name").write_text("telltale-content" * 100)
    site.with_job(name="telltale-job").backup()
    for path, _, files in os.walk(tmp_path / "vault"):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                data = file.read()
            for word in (b"telltale", b"source", os.fsencode(source), b"host"):
                assert word not in data


@pytest.mark.parametrize(
    ("sizes", "due"),
    [
        ([], True),
        ([100], False),
        ([100, 2_000_000], True),
        ([10_000_000, 2_000_000, 2_000_000], False),
        ([10_000_000, 2_000_000, 3_500_000], True),
        ([100, *[1] * 99], False),
        ([100, *[1] * 100], True),
    ],
)
def test_when_a_full_catalog_is_due(site: Site, sizes: list[int], due: bool) -> None:
    site.backup()
    site.backup()
    with site.inventory.reading() as tx:
        stored = archives.stored_catalogs(tx, job_number(site), site.inventory.id)
    (full, _), (delta, _) = stored
    assert full.is_first
    assert full.label.generation is Generation.FULL
    links = [
        replace(archive, size=size) for archive, size in zip([full, *[delta] * 200], sizes, strict=False)
    ]
    found = full_catalogs.full_due(catalogs.Chain(tuple(links), delta), site.keys)
    assert (found is not None) is due


def test_each_catalog_s_start_names_the_delta_it_follows(site: Site, source: Path) -> None:
    """0 for the first delta; a full catalog names the delta whose state it holds."""
    live_through_a_week(site, source)
    newest_delta = 0
    for catalog in read_catalogs(site.vault, site.key):
        start = catalog.records[0]
        assert start.parent_number == newest_delta
        if catalog.is_delta:
            newest_delta = start.number
    assert newest_delta > 1


def test_a_domain_s_record_names_each_of_its_recipients(site: Site, source: Path) -> None:
    other = RecoveryKey.from_seed(b"o" * 32)
    site.keys = replace(site.keys, recipients=(*site.keys.recipients, other.recipient))
    (source / "file").write_bytes(b"for two readers")
    site.backup()
    found = [
        record
        for catalog in read_catalogs(site.vault, site.key)
        for record in catalog.records
        if isinstance(record, records.DomainRecord)
    ]
    assert found
    for domain in found:
        assert set(domain.recipients) == {recipient.id for recipient in site.keys.recipients}
