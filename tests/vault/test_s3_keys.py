"""Keys of a bucket say what archives are, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import FormatError
from backup.model import (
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Generation,
    InventoryId,
    PackId,
    PackKind,
    RetrievalId,
    UploadId,
)
from backup.vault.s3 import keys

IDS = st.binary(min_size=16, max_size=16)
DATA = st.builds(ArchiveLabel, st.just(PackKind.DATA), IDS, IDS)
CATALOGS = st.builds(
    ArchiveLabel,
    st.just(PackKind.CATALOG),
    IDS,
    IDS,
    st.integers(0, 10**10 - 1),
    st.sampled_from(Generation),
    st.none() | IDS.filter(any),
)


@given(DATA | CATALOGS)
def test_a_key_gives_its_label_back(label: ArchiveLabel) -> None:
    assert keys.label_of(keys.key_of(label)) == label


def test_keys_are_those_of_the_format() -> None:
    pack_id, inventory, job = PackId(b"\1" * 16), InventoryId(b"\2" * 16), b"\3" * 16
    data = ArchiveLabel(PackKind.DATA, pack_id, inventory)
    assert keys.key_of(data) == f"data/{'02' * 16}/{'01' * 16}"
    catalog = ArchiveLabel(PackKind.CATALOG, pack_id, inventory, 7, Generation.DELTA, job)
    assert keys.key_of(catalog) == f"meta/{'02' * 16}/{'03' * 16}/0000000007-delta-{'01' * 16}"


@pytest.mark.parametrize(
    ("number", "generation"), [(1, None), (-1, Generation.FULL), (10**10, Generation.FULL)]
)
def test_a_catalog_that_has_no_key(number: int, generation: Generation | None) -> None:
    with pytest.raises(FormatError):
        keys.key_of(
            ArchiveLabel(PackKind.CATALOG, PackId(bytes(16)), InventoryId(bytes(16)), number, generation)
        )


@given(st.text() | st.from_regex(r"(data|meta)/[0-9a-f/.-]*"))
def test_what_is_not_ours_has_no_label(text: str) -> None:
    label = keys.label_of(text)
    assert label is None or keys.key_of(label) == text


@given(DATA | CATALOGS, st.from_regex(r"[A-Za-z0-9._:-]+", fullmatch=True))
def test_an_upload_id_is_taken_apart_again(label: ArchiveLabel, service_id: str) -> None:
    key = keys.key_of(label)
    assert keys.parse_upload_id(keys.upload_id_of(key, service_id)) == (key, service_id)


@pytest.mark.parametrize(
    "text", ["", ":", "abc", "abc:", "abc:data/../x", ":data/" + "0" * 32 + "/" + "0" * 32]
)
def test_no_upload_id(text: str) -> None:
    assert keys.parse_upload_id(UploadId(text)) is None


@given(DATA | CATALOGS, st.none() | st.builds(ByteRange, st.integers(0, 10**15), st.integers(0, 10**15)))
def test_a_retrieval_id_is_taken_apart_again(label: ArchiveLabel, extent: ByteRange | None) -> None:
    key = keys.key_of(label)
    assert keys.parse_retrieval_id(keys.retrieval_id_of(key, extent)) == (key, extent)


@pytest.mark.parametrize(
    "text", ["", "now", "data/x", "../x:0-1", "data/" + "0" * 32 + "/" + "0" * 32 + ":1"]
)
def test_no_retrieval_id(text: str) -> None:
    assert keys.parse_retrieval_id(RetrievalId(text)) is None


@given(DATA | CATALOGS, DATA | CATALOGS)
def test_a_list_can_begin_with_any_key(one: ArchiveLabel, other: ArchiveLabel) -> None:
    key, another = sorted((keys.key_of(one), keys.key_of(other)))
    assert keys.just_before(ArchiveId(another)) < another
    if key != another:
        assert not keys.just_before(ArchiveId(another)) < key


def test_the_key_by_which_a_bucket_is_known() -> None:
    """It is no archive's, and comes after all catalogs of its inventory in a list."""
    inventory, token = InventoryId(b"\xff" * 16), "0" * 32
    key = keys.identity_key(inventory, token)
    assert key == f"meta/{'ff' * 16}/vault-{token}"
    assert keys.token_of(key) == token
    assert keys.label_of(key) is None
    assert key > keys.catalogs_of(inventory) + "f" * 32
    for other in (key.upper(), key[:-1], f"{key}0", f"x/{key}", key.replace("meta", "data")):
        assert keys.token_of(other) is None


def test_a_list_of_catalogs_goes_on_at_the_newest_known() -> None:
    """And never goes back."""
    inventory, job = InventoryId(b"i" * 16), b"j" * 16
    label = ArchiveLabel(PackKind.CATALOG, PackId(b"p" * 16), inventory, 3, Generation.DELTA, job)
    third = keys.key_of(label)
    newest = keys.key_of(replace(label, number=7))
    assert third < keys.next_to_list(third, {job: 7}) < newest
    assert keys.next_to_list(third, {job: 3}) == third
    assert keys.next_to_list(third, {}) == third
    assert keys.next_to_list(newest, {job: 3}) == newest
    assert keys.next_to_list("meta/elsewhere", {job: 3}) == "meta/elsewhere"
