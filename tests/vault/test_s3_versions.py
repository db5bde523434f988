"""A bucket that keeps versions and locks nothing: ours is read beneath what somebody puts over it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backup.errors import ArchiveMissingError
from backup.model import ArchiveId, ByteRange, RetrievalId, RetrievalState, Tier
from backup.vault.s3.vault import S3Vault
from tests.support.archives import store
from tests.support.emulated import RunningEmulator
from tests.support.rigs import s3_vault
from tests.support.s3_clients import new_bucket_name

OURS = b"pack %d"
NO = {"Effect": "Deny", "Principal": "*", "Action": "s3:ListBucketVersions"}


def made(client: Any, storage_class: str = "STANDARD") -> S3Vault:
    """A vault in a new bucket that keeps versions."""
    vault = s3_vault(client, new_bucket_name(), storage_class=storage_class, prefix="web1/")
    vault.create()
    on = {"Status": "Enabled"}
    client.put_bucket_versioning(Bucket=bucket_of(vault), VersioningConfiguration=on)
    return vault


def again(client: Any, vault: S3Vault, storage_class: str = "STANDARD") -> S3Vault:
    """The same in another process, that remembers nothing."""
    return s3_vault(client, bucket_of(vault), storage_class=storage_class, prefix="web1/")


def bucket_of(vault: S3Vault) -> str:
    """The name of its bucket."""
    return vault.state().location.split("/")[2]


def hide(client: Any, vault: S3Vault, key: ArchiveId) -> None:
    """Put a delete marker over it."""
    client.delete_object(Bucket=bucket_of(vault), Key=f"web1/{key}")


def cover(client: Any, vault: S3Vault, key: ArchiveId, body: bytes = b"junk!!") -> None:
    """Put something else over it."""
    client.put_object(Bucket=bucket_of(vault), Key=f"web1/{key}", Body=body)


def ask(vault: S3Vault, key: ArchiveId) -> RetrievalId:
    """The retrieval of an archive."""
    return vault.request_retrieval(key, None, Tier.STANDARD, "token")


def read(vault: S3Vault, retrieval: RetrievalId) -> bytes:
    """Its six bytes, as the vault gives them."""
    return bytes(vault.fetch(retrieval, ByteRange(0, 6)).data)


@contextmanager
def sent(client: Any) -> Iterator[list[str]]:
    """The operations that a client sends."""
    found: list[str] = []

    def note(model: Any, **_: Any) -> None:
        found.append(model.name)

    client.meta.events.register("before-call.s3", note)
    yield found
    client.meta.events.unregister("before-call.s3", note)


def test_where_nothing_is_wrong_nothing_more_is_asked(emulated_s3: Any) -> None:
    vault = made(emulated_s3)
    archive = store(vault, OURS % 1)
    seen = again(emulated_s3, vault)
    with sent(emulated_s3) as operations:
        assert read(seen, ask(seen, archive)) == OURS % 1
    assert operations == ["HeadObject", "GetObject"]


def test_below_a_delete_marker(emulated_s3: Any) -> None:
    """Also once that it was asked for; a deletion takes ours away, and leaves the marker."""
    vault = made(emulated_s3)
    archive = store(vault, OURS % 1)
    before = ask(vault, archive)
    hide(emulated_s3, vault, archive)
    for seen in (vault, again(emulated_s3, vault)):
        assert read(seen, before) == OURS % 1
        assert read(seen, ask(seen, archive)) == OURS % 1
    with sent(emulated_s3) as operations:
        assert read(vault, before) == OURS % 1
    assert operations == ["GetObject"]
    assert again(emulated_s3, vault).delete_archives({archive: None}) == {}
    left = emulated_s3.list_object_versions(Bucket=bucket_of(vault))
    assert (len(left["DeleteMarkers"]), left.get("Versions", [])) == (1, [])
    with pytest.raises(ArchiveMissingError):
        ask(again(emulated_s3, vault), archive)


def test_beneath_something_shorter(emulated_s3: Any) -> None:
    vault = made(emulated_s3)
    archive = store(vault, OURS % 1)
    cover(emulated_s3, vault, archive, b"abc")
    assert read(again(emulated_s3, vault), ask(vault, archive)) == OURS % 1
    other = store(vault, OURS % 2)
    cover(emulated_s3, vault, other, b"")
    assert read(vault, ask(vault, other)) == OURS % 2


def test_beneath_something_of_the_same_size(emulated_s3: Any) -> None:
    """Who sees that the bytes are not ours says so: then those that were stored first are read."""
    vault = made(emulated_s3)
    archives = [store(vault, OURS % number) for number in range(2)]
    retrievals = [ask(vault, archive) for archive in archives]
    cover(emulated_s3, vault, archives[0])
    seen = again(emulated_s3, vault)
    assert read(seen, retrievals[0]) == b"junk!!"
    assert [seen.look_beneath(retrieval) for retrieval in retrievals] == [True, False]
    assert [read(seen, retrieval) for retrieval in retrievals] == [OURS % 0, OURS % 1]
    with sent(emulated_s3) as operations:
        assert [seen.look_beneath(retrieval) for retrieval in retrievals] == [True, False]
        assert not seen.look_beneath(RetrievalId("what is no key: "))
    assert len(operations) <= 1


def test_what_is_frozen_is_retrieved(emulated_s3: Any, emulator: RunningEmulator) -> None:
    """Ours has to be asked for anew, as something else was retrieved."""
    vault = made(emulated_s3, "GLACIER")
    archives = [store(vault, OURS % number) for number in range(5)]
    hide(emulated_s3, vault, archives[0])
    retrievals = [ask(vault, archive) for archive in archives]
    for few in (retrievals[:1], retrievals):
        states = {status.state for status in vault.retrieval_statuses(few).values()}
        assert states == {RetrievalState.WAITING}
    emulator.advance(13 * 3600)
    for few in (retrievals[:1], retrievals):
        states = {status.state for status in vault.retrieval_statuses(few).values()}
        assert states == {RetrievalState.READY}
    assert [read(vault, retrieval) for retrieval in retrievals] == [OURS % n for n in range(5)]


@pytest.mark.parametrize("is_versioned", [True, False])
def test_a_role_that_sees_no_versions_and_a_bucket_without_them(emulated_s3: Any, is_versioned: bool) -> None:
    """As before: what any program sees is read, and what is hidden is missing."""
    vault = made(emulated_s3)
    archives = [store(vault, OURS % number) for number in range(2)]
    where = {"Bucket": bucket_of(vault)}
    if is_versioned:
        policy = {"Statement": [{**NO, "Resource": f"arn:aws:s3:::{where['Bucket']}"}]}
        emulated_s3.put_bucket_policy(**where, Policy=json.dumps(policy))
        hide(emulated_s3, vault, archives[0])
    else:
        gone = emulated_s3.head_object(**where, Key=f"web1/{archives[0]}")["VersionId"]
        emulated_s3.delete_object(**where, Key=f"web1/{archives[0]}", VersionId=gone)
    cover(emulated_s3, vault, archives[1])
    with pytest.raises(ArchiveMissingError):
        ask(vault, archives[0])
    retrieval = ask(vault, archives[1])
    assert vault.look_beneath(retrieval) is not is_versioned
    emulated_s3.delete_bucket_policy(**where)
