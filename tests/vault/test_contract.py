"""What `protocols.Vault` promises, asked of every vault."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import (
    ArchiveMissingError,
    IntegrityError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.format.treehash import part_size_for, tree_hash
from backup.model import (
    MIB,
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    ListingId,
    RetrievalId,
    RetrievalState,
    StoredPart,
    Tier,
    UploadId,
)
from backup.protocols import Vault
from tests.support.archives import CATALOG, complete, cut, part_of, send, some_bytes, some_label, store
from tests.support.rigs import Rig


def unit(rig: Rig) -> int:
    """The smallest part of the vault."""
    return rig.vault.traits.smallest_part


def size_of(rig: Rig) -> int:
    """Bytes of an archive of three parts."""
    return 2 * unit(rig) + 12345


# The vault.


def test_a_vault_is_made_once_and_no_harm_is_done_by_making_it_again(rig: Rig) -> None:
    vault = rig.elsewhere
    before = vault.state()
    assert not before.exists
    assert before.location
    vault.create()
    upload_id = vault.begin_upload(CATALOG, unit(rig))
    vault.create()
    assert vault.state().exists
    assert [upload.upload_id for upload in vault.list_uploads()] == [upload_id]


CALLS: dict[str, Callable[[Vault], object]] = {
    "identities": lambda vault: vault.identities(CATALOG.inventory_id),
    "begin": lambda vault: vault.begin_upload(CATALOG, 8 * MIB),
    "put": lambda vault: vault.put_part(UploadId("0" * 32), part_of(b"x", 0), memoryview(b"x")),
    "parts": lambda vault: vault.list_parts(UploadId("0" * 32), 8 * MIB),
    "complete": lambda vault: complete(vault, UploadId("0" * 32), CATALOG, b"x"),
    "abort": lambda vault: vault.abort_upload(UploadId("0" * 32)),
    "uploads": lambda vault: vault.list_uploads(),
    "request": lambda vault: vault.request_retrieval(ArchiveId("0" * 32), None, Tier.BULK, "t"),
    "open": lambda vault: vault.open_retrievals(),
    "status": lambda vault: vault.retrieval_statuses([RetrievalId("0" * 32)]),
    "many": lambda vault: vault.retrieval_statuses([RetrievalId(f"{n:032}") for n in range(9)]),
    "fetch": lambda vault: vault.fetch(RetrievalId("0" * 92), ByteRange(0, 1)),
    "list": lambda vault: vault.request_listing("t"),
    "listed": lambda vault: vault.listing_status(ListingId("now")),
    "listing": lambda vault: vault.fetch_listing(ListingId("now")),
    "delete": lambda vault: vault.delete_archives({ArchiveId("0" * 32): None}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_missing_vault_is_named_as_such(rig: Rig, call: str) -> None:
    with pytest.raises(VaultMissingError) as caught:
        CALLS[call](rig.elsewhere)
    assert caught.value.advice


# Uploads.


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_parts_may_come_in_any_order(rig: Rig, order: tuple[int, ...]) -> None:
    data, label = some_bytes(size_of(rig)), some_label()
    parts = cut(data, unit(rig))
    upload_id = rig.vault.begin_upload(label, unit(rig))
    send(rig.vault, upload_id, data, [parts[place] for place in order])
    stored = rig.vault.list_parts(upload_id, unit(rig))
    assert [(part.offset, part.length) for part in stored] == [(part.offset, part.length) for part in parts]
    assert not rig.keeps_part_hashes or all(map(StoredPart.is_same_as, stored, parts))
    archive_id = complete(rig.vault, upload_id, label, data)
    assert read_back(rig, archive_id, len(data)) == data


def test_parts_may_come_from_many_threads(rig: Rig) -> None:
    data, label = some_bytes(15 * unit(rig) + 1), some_label()
    upload_id = rig.vault.begin_upload(label, unit(rig))
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda part: send(rig.vault, upload_id, data, [part]), cut(data, unit(rig))))
    assert read_back(rig, complete(rig.vault, upload_id, label, data), len(data)) == data


def test_uploads_in_many_threads_do_not_mix(rig: Rig) -> None:
    contents = [some_bytes(unit(rig) + number) for number in range(8)]
    with ThreadPoolExecutor(4) as threads:
        ids = list(threads.map(lambda data: store(rig.vault, data), contents))
    assert len(set(ids)) == len(contents)
    assert [read_back(rig, id_, len(data)) for id_, data in zip(ids, contents, strict=True)] == contents


def test_one_small_part_is_enough(rig: Rig) -> None:
    assert read_back(rig, store(rig.vault, b"x"), 1) == b"x"


def test_a_part_sent_again_replaces_the_first(rig: Rig) -> None:
    data, label = some_bytes(size_of(rig)), some_label()
    upload_id = rig.vault.begin_upload(label, unit(rig))
    send(rig.vault, upload_id, data, cut(data, unit(rig)))
    if not rig.forgets_replaced_parts:
        pytest.skip("this kind of vault does not replace a part that is sent again")
    other = some_bytes(unit(rig))
    rig.vault.put_part(upload_id, part_of(other, unit(rig), unit(rig)), memoryview(other))
    data = data[: unit(rig)] + other + data[2 * unit(rig) :]
    assert len(rig.vault.list_parts(upload_id, unit(rig))) == 3
    assert read_back(rig, complete(rig.vault, upload_id, label, data), len(data)) == data


@pytest.mark.parametrize("wrong", ["all", "tree_hash"])
def test_bytes_that_are_not_what_was_hashed_are_not_kept(rig: Rig, wrong: str) -> None:
    upload_id = rig.vault.begin_upload(some_label(), unit(rig))
    body = some_bytes(unit(rig))
    other, right = part_of(some_bytes(unit(rig)), 0), part_of(body, 0)
    part = other if wrong == "all" else replace(right, tree_hash=other.tree_hash)
    with pytest.raises(IntegrityError):
        rig.vault.put_part(upload_id, part, memoryview(body))
    assert not rig.vault.list_parts(upload_id, unit(rig))


def test_a_part_must_have_the_length_it_says(rig: Rig) -> None:
    upload_id = rig.vault.begin_upload(some_label(), unit(rig))
    with pytest.raises(VaultError):
        rig.vault.put_part(upload_id, part_of(b"abc", 0), memoryview(b"ab"))
    assert not rig.vault.list_parts(upload_id, unit(rig))


@pytest.mark.parametrize(("offset", "size"), [(0.1, 0.1), (0.5, 1), (10_000, 0.1)])
def test_a_part_must_have_a_place(rig: Rig, offset: float, size: float) -> None:
    upload_id = rig.vault.begin_upload(some_label(), unit(rig))
    body = some_bytes(int(size * unit(rig)))
    part = part_of(body, int(offset * unit(rig)), unit(rig))
    with pytest.raises(VaultError):
        rig.vault.put_part(upload_id, part, memoryview(body))
    assert not rig.vault.list_parts(upload_id, unit(rig))


def test_a_part_must_not_be_longer_than_was_said(rig: Rig) -> None:
    if not rig.keeps_part_size:
        pytest.skip("this kind of vault has no place to keep the part size that was said")
    upload_id = rig.vault.begin_upload(some_label(), unit(rig))
    body = some_bytes(unit(rig) + 1)
    with pytest.raises(VaultError):
        rig.vault.put_part(upload_id, part_of(body, 0, unit(rig)), memoryview(body))
    assert not rig.vault.list_parts(upload_id, unit(rig))


@pytest.mark.parametrize("part_size", [-MIB, 0, 1, MIB // 2, 3 * MIB, MIB + 1, 8192 * MIB])
def test_part_sizes_are_powers_of_two_mib(rig: Rig, part_size: int) -> None:
    with pytest.raises(VaultError):
        rig.vault.begin_upload(some_label(), part_size)
    assert not rig.vault.list_uploads()


def test_the_traits_agree_with_the_format(rig: Rig) -> None:
    traits = rig.vault.traits
    assert rig.vault.name in {"disk", "cold", "bucket"}
    assert part_size_for(1, traits.smallest_part) == traits.smallest_part
    assert part_size_for(traits.largest_part * traits.most_parts, MIB) == traits.largest_part


def test_completing_again_gives_the_same_archive(rig: Rig) -> None:
    data, label = some_bytes(size_of(rig)), some_label()
    upload_id = rig.vault.begin_upload(label, unit(rig))
    send(rig.vault, upload_id, data, cut(data, unit(rig)))
    ids = {complete(rig.vault, upload_id, label, data) for _ in range(3)}
    assert len(ids) == 1
    assert not rig.vault.list_uploads()
    with pytest.raises(UploadExpiredError):
        rig.vault.list_parts(upload_id, unit(rig))


def test_beginning_again_begins_another_upload(rig: Rig) -> None:
    ids = {rig.vault.begin_upload(CATALOG, unit(rig)) for _ in range(3)}
    assert {upload.upload_id for upload in rig.vault.list_uploads()} == ids
    assert len(ids) == 3


@pytest.mark.parametrize("flaw", ["gap", "no parts", "short", "long", "hash", "short part in the middle"])
def test_an_incomplete_upload_is_refused_and_stays(rig: Rig, flaw: str) -> None:
    if flaw == "short part in the middle" and not rig.forgets_replaced_parts:
        pytest.skip("this kind of vault does not replace a part that is sent again")
    data, label = some_bytes(size_of(rig)), some_label()
    parts = cut(data, unit(rig))
    upload_id = rig.vault.begin_upload(label, unit(rig))
    if flaw != "no parts":
        send(rig.vault, upload_id, data, [parts[0], parts[2]] if flaw == "gap" else parts)
    if flaw == "short part in the middle":
        short = data[unit(rig) : unit(rig) + 5]
        rig.vault.put_part(upload_id, part_of(short, unit(rig), unit(rig)), memoryview(short))
    size = len(data) + {"short": -1, "long": 1}.get(flaw, 0)
    whole = tree_hash(b"other") if flaw == "hash" else tree_hash(data)
    with pytest.raises(IntegrityError):
        rig.vault.complete_upload(upload_id, label, size, whole, parts)
    assert [upload.upload_id for upload in rig.vault.list_uploads()] == [upload_id]
    send(rig.vault, upload_id, data, parts)
    assert read_back(rig, complete(rig.vault, upload_id, label, data), len(data)) == data


@pytest.mark.parametrize("upload_id", ["0" * 32, "A" * 92, "..", "-"])
def test_an_unknown_upload_has_expired(rig: Rig, upload_id: str) -> None:
    unknown = UploadId(upload_id)
    with pytest.raises(UploadExpiredError):
        rig.vault.put_part(unknown, part_of(b"x", 0), memoryview(b"x"))
    with pytest.raises(UploadExpiredError):
        rig.vault.list_parts(unknown, unit(rig))
    with pytest.raises(UploadExpiredError):
        complete(rig.vault, unknown, CATALOG, b"x")
    rig.vault.abort_upload(unknown)


def test_an_aborted_upload_is_gone(rig: Rig) -> None:
    data = some_bytes(size_of(rig))
    upload_id = rig.vault.begin_upload(CATALOG, unit(rig))
    send(rig.vault, upload_id, data, cut(data, unit(rig)))
    rig.vault.abort_upload(upload_id)
    rig.vault.abort_upload(upload_id)
    assert not rig.vault.list_uploads()
    with pytest.raises(UploadExpiredError):
        send(rig.vault, upload_id, data, cut(data, unit(rig)))
    with pytest.raises(UploadExpiredError):
        complete(rig.vault, upload_id, CATALOG, data)


def test_aborting_what_became_an_archive_leaves_the_archive(rig: Rig) -> None:
    label = some_label()
    upload_id = rig.vault.begin_upload(label, unit(rig))
    send(rig.vault, upload_id, b"abc", cut(b"abc", unit(rig)))
    archive_id = complete(rig.vault, upload_id, label, b"abc")
    rig.vault.abort_upload(upload_id)
    assert read_back(rig, archive_id, 3) == b"abc"


@pytest.mark.parametrize("label", [CATALOG, some_label()])
def test_an_upload_says_what_it_will_be(rig: Rig, label: ArchiveLabel) -> None:
    upload_id = rig.vault.begin_upload(label, 16 * MIB)
    (upload,) = rig.vault.list_uploads()
    assert (upload.upload_id, upload.label) == (upload_id, label)
    assert upload.part_size in {16 * MIB, None}
    assert upload.started_at.tzinfo is not None


# Retrievals.


def read_back(rig: Rig, archive_id: ArchiveId, size: int) -> bytes:
    """All of an archive, the long way."""
    retrieval_id = rig.vault.request_retrieval(archive_id, None, Tier.BULK, "whole")
    rig.make_ready()
    return bytes(rig.vault.fetch(retrieval_id, ByteRange(0, size)).data)


def test_a_range_is_retrieved_and_read_in_pieces(rig: Rig) -> None:
    data = some_bytes(size_of(rig))
    archive_id = store(rig.vault, data)
    extent = ByteRange(unit(rig), size_of(rig))
    if not rig.vault.traits.retrieves_ranges:
        with pytest.raises(VaultError):
            rig.vault.request_retrieval(archive_id, extent, Tier.STANDARD, "t")
        return
    retrieval_id = rig.vault.request_retrieval(archive_id, extent, Tier.STANDARD, "t")
    rig.make_ready()
    length = size_of(rig) - unit(rig)
    for extent in (ByteRange(0, length), ByteRange(0, 1), ByteRange(7, 1000), ByteRange(length - 1, length)):
        fetched = rig.vault.fetch(retrieval_id, extent)
        assert bytes(fetched.data) == data[unit(rig) + extent.start : unit(rig) + extent.end]


@pytest.mark.parametrize(("start", "end"), [(0.1, 1), (0, 1.1), (0, 3), (1, 1), (0, 4), (8, 9)])
def test_only_whole_mib_can_be_retrieved(rig: Rig, start: float, end: float) -> None:
    archive_id = store(rig.vault, some_bytes(size_of(rig)))
    extent = ByteRange(int(start * unit(rig)), int(end * unit(rig)))
    with pytest.raises(VaultError):
        rig.vault.request_retrieval(archive_id, extent, Tier.BULK, "t")


def test_what_was_not_retrieved_cannot_be_read(rig: Rig) -> None:
    data = some_bytes(size_of(rig))
    archive_id = store(rig.vault, data)
    if not rig.vault.traits.retrieves_ranges:
        retrieval_id = rig.vault.request_retrieval(archive_id, None, Tier.BULK, "t")
        rig.make_ready()
        for start in (len(data), len(data) - 1):
            with pytest.raises(VaultError):
                rig.vault.fetch(retrieval_id, ByteRange(start, len(data) + 1))
        return
    retrieval_id = rig.vault.request_retrieval(archive_id, ByteRange(0, unit(rig)), Tier.BULK, "t")
    rig.make_ready()
    whole, beyond = unit(rig), unit(rig) + 1
    for extent in (ByteRange(0, beyond), ByteRange(whole, beyond), ByteRange(whole - 1, beyond)):
        with pytest.raises(VaultError):
            rig.vault.fetch(retrieval_id, extent)


@pytest.mark.parametrize("archive_id", ["0" * 32, "a" * 138, "..", "-x"])
def test_an_unknown_archive_is_missing(rig: Rig, archive_id: str) -> None:
    with pytest.raises(ArchiveMissingError):
        rig.vault.request_retrieval(ArchiveId(archive_id), None, Tier.BULK, "t")


@pytest.mark.parametrize("others", [0, 5])
def test_states_go_from_waiting_to_ready(rig: Rig, others: int) -> None:
    archive_id = store(rig.vault, b"abc")
    ids = [rig.vault.request_retrieval(archive_id, None, Tier.BULK, f"t{n}") for n in range(1 + others)]
    if rig.vault.traits.waits and not rig.ripens_by_itself:
        waiting = rig.vault.retrieval_statuses(ids)
        assert {status.state for status in waiting.values()} == {RetrievalState.WAITING}
        with pytest.raises(RetrievalNotReadyError):
            rig.vault.fetch(ids[0], ByteRange(0, 3))
    rig.make_ready()
    ready = rig.vault.retrieval_statuses(iter(ids))
    assert set(ready) == set(ids)
    assert {status.state for status in ready.values()} == {RetrievalState.READY}


@pytest.mark.parametrize("count", [1, 9])
def test_unknown_retrievals_have_expired(rig: Rig, count: int) -> None:
    ids = [RetrievalId(f"{n:032}:0-{MIB}") for n in range(count)]
    statuses = rig.vault.retrieval_statuses(ids)
    assert set(statuses) == set(ids)
    assert {status.state for status in statuses.values()} == {RetrievalState.EXPIRED}
    with pytest.raises(RetrievalExpiredError):
        rig.vault.fetch(ids[0], ByteRange(0, 1))
    assert rig.vault.retrieval_statuses([]) == {}


def test_waiting_retrievals_are_found_by_their_token(rig: Rig) -> None:
    rig.make_listable()
    archive_id = store(rig.vault, b"abc")
    asked: dict[str, Any] = {
        "r/1 ~": rig.vault.request_retrieval(archive_id, None, Tier.BULK, "r/1 ~"),
        "x" * 64: rig.vault.request_retrieval(archive_id, None, Tier.BULK, "x" * 64),
        "listing": rig.vault.request_listing("listing"),
    }
    expected = asked if rig.keeps_tokens else {}
    assert rig.vault.open_retrievals() == expected
    rig.make_ready()
    assert rig.vault.open_retrievals() == expected


# Listings.


def test_a_listing_names_every_archive(rig: Rig) -> None:
    stored: dict[ArchiveId, tuple[object, ...]] = {}
    for label in (CATALOG, some_label(), some_label()):
        data = some_bytes(unit(rig) + len(stored))
        stored[store(rig.vault, data, label)] = (label, len(data), tree_hash(data))
    rig.make_listable()
    listing_id = rig.vault.request_listing("t")
    rig.make_ready()
    assert rig.vault.listing_status(listing_id).state is RetrievalState.READY
    listing = rig.vault.fetch_listing(listing_id)
    listed = {row.archive_id: (row.label, row.size, row.tree_hash) for row in listing.archives}
    if rig.lists_tree_hashes:
        assert listed == stored
    else:
        assert {archive_id: (*seen[:2], None) for archive_id, seen in stored.items()} == listed
    assert listing.as_of.utcoffset() == UTC.utcoffset(None)
    assert all(archive.created_at.tzinfo for archive in listing.archives)


def test_an_unknown_listing_has_expired(rig: Rig) -> None:
    assert rig.vault.listing_status(ListingId("0" * 92)).state is RetrievalState.EXPIRED
    with pytest.raises(RetrievalExpiredError):
        rig.vault.fetch_listing(ListingId("0" * 92))
