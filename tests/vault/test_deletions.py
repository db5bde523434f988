"""What `protocols.Vault` promises about deletions, asked of every vault; locks as each kind has them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.errors import ArchiveMissingError, DeniedError, ThrottledError, UnreachableError, VaultError
from backup.format import records
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.model import MIB, ArchiveId, ByteRange, Refusal, Tier
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.vault import S3Vault
from tests.support.archives import store
from tests.support.backups import Site
from tests.support.checks import check, kinds, query
from tests.support.clocks import EmulatorClock
from tests.support.doubles import Fault, FaultyVault
from tests.support.emulated import REGION, RunningEmulator
from tests.support.integrity import list_now
from tests.support.rigs import KEPT_DAYS, Rig, s3_client, s3_vault
from tests.support.trees import assert_same_tree
from tests.vault.scripted_s3 import Answer, ScriptedS3, refusal

KEYS = [ArchiveId(f"data/{'a' * 32}/{number:032x}") for number in range(2500)]


def is_empty(client: Any, where: dict[str, Any], prefix: str) -> bool:
    """Whether a bucket shows no key that begins so."""
    return not client.list_objects_v2(**where, Prefix=prefix)["KeyCount"]


def is_there(vault: Vault, archive_id: ArchiveId) -> bool:
    """Whether an archive can be retrieved."""
    try:
        vault.request_retrieval(archive_id, None, Tier.BULK, "t")
    except ArchiveMissingError:
        return False
    return True


@contextmanager
def counted(client: Any) -> Iterator[Counter[str]]:
    """How often each operation is asked for."""
    counts: Counter[str] = Counter()

    def count(event_name: str, **_: Any) -> None:
        counts[event_name.rpartition(".")[2]] += 1

    client.meta.events.register("before-send", count)
    try:
        yield counts
    finally:
        client.meta.events.unregister("before-send", count)


# Of every vault.


def test_what_is_deleted_is_gone_and_nothing_else(rig: Rig) -> None:
    gone = [store(rig.vault, b"abc") for _ in range(3)]
    kept = store(rig.vault, b"def")
    for _ in range(2):  # the second time there is nothing to delete
        assert rig.vault.delete_archives(dict.fromkeys(gone)) == {}
    assert [is_there(rig.vault, archive_id) for archive_id in [*gone, kept]] == [False] * 3 + [True]
    retrieval_id = rig.vault.request_retrieval(kept, None, Tier.BULK, "t")
    rig.make_ready()
    assert bytes(rig.vault.fetch(retrieval_id, ByteRange(0, 3)).data) == b"def"


def test_what_never_was_is_no_refusal_and_hinders_nothing(rig: Rig) -> None:
    there = store(rig.vault, b"abc")
    ids = [ArchiveId(key) for key in ("0" * 32, "a" * 138, "..", "-x", KEYS[0])]
    assert rig.vault.delete_archives(dict.fromkeys([*ids, there])) == {}
    assert not is_there(rig.vault, there)
    assert rig.vault.delete_archives({}) == {}


def test_what_the_vault_protects_is_told_and_the_rest_is_deleted(rig: Rig) -> None:
    if rig.store_protected is None:
        pytest.skip("this vault protects no archive")
    gone = [store(rig.vault, b"abc") for _ in range(2)]
    kept = rig.store_protected()
    for _ in range(2):
        refusals = rig.vault.delete_archives(dict.fromkeys([gone[0], kept, gone[1]]))
        assert list(refusals) == [kept]
        assert refusals[kept].detail
        assert refusals[kept].kept_until is None
    assert [is_there(rig.vault, archive_id) for archive_id in (*gone, kept)] == [False, False, True]


def test_only_protected_archives_are_no_missing_permission(rig: Rig) -> None:
    if rig.store_protected is None:
        pytest.skip("this vault protects no archive")
    kept = rig.store_protected()
    assert list(rig.vault.delete_archives({kept: None})) == [kept]


def test_when_the_answer_is_lost_it_is_asked_again(rig: Rig) -> None:
    archive_id = store(rig.vault, b"abc")
    vault = FaultyVault(rig.vault, Fault("delete_archives", UnreachableError("away"), after=True))
    with pytest.raises(UnreachableError):
        vault.delete_archives({archive_id: None})
    assert vault.delete_archives({archive_id: None}) == {}
    vault.assert_all_met()
    assert not is_there(rig.vault, archive_id)


def test_many_threads_may_delete_the_same(rig: Rig) -> None:
    ids = [store(rig.vault, b"abc") for _ in range(4)]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(rig.vault.delete_archives, [dict.fromkeys(ids)] * 6)) == [{}] * 6
    assert not any(is_there(rig.vault, archive_id) for archive_id in ids)


@pytest.mark.parametrize("date", [None, "", "soon", "Fri, 99 Jan 2026 03:04:05 GMT"])
def test_a_time_that_cannot_be_read_is_none(date: str | None) -> None:
    s3 = ScriptedS3(HeadBucket=Answer(headers={} if date is None else {"date": date}))
    assert s3.vault().state().at is None


def test_the_time_is_the_vaults_own(rig: Rig) -> None:
    at = rig.vault.state().at
    assert rig.elsewhere.state().at is None
    if rig.vault.name == "disk":  # what it dates, it dates by this machine's clock
        assert at is None
    else:
        assert at is not None
        assert at.utcoffset() == timedelta(0)


def test_the_emulators_services_tell_their_own_time(
    glacier: GlacierVault, bucket: S3Vault, emulator: RunningEmulator
) -> None:
    emulator.advance(10 * 3600)
    for vault in (glacier, bucket):
        at = vault.state().at
        assert at is not None
        assert abs(datetime.fromisoformat(emulator.now()) - at) < timedelta(seconds=60)


# A directory.


def test_each_directory_is_synced_once_after_its_files_are_gone(
    directory: DirectoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [store(directory, b"abc") for _ in range(4)]
    synced: list[int] = []
    left: list[int] = []

    def sync(fd: int) -> None:
        synced.append(fd)
        left.append(sum(is_there(directory, archive_id) for archive_id in ids))

    monkeypatch.setattr("backup.vault.layout.sync_directory", sync)
    assert directory.delete_archives(dict.fromkeys(ids)) == {}
    assert len(synced) == len({archive_id[:2] for archive_id in ids})
    assert left[-1] == 0


def test_an_immutable_file_is_kept_with_its_record(directory: DirectoryVault) -> None:
    kept, gone = (store(directory, b"abc") for _ in range(2))
    path = Path(directory.state().location, "archives", kept[:2], kept)
    if subprocess.run(["chattr", "+i", path], capture_output=True, check=False).returncode:
        pytest.skip("no immutable files here")
    try:
        refusals = directory.delete_archives({kept: None, gone: None})
    finally:
        subprocess.run(["chattr", "-i", path], check=True)
    assert list(refusals) == [kept]
    assert "chattr +i" in refusals[kept].detail
    assert path.with_name(f"{kept}.json").exists()
    assert not is_there(directory, gone)


def test_a_user_who_may_not_write_there_is_refused_nothing(
    directory: DirectoryVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive_id = store(directory, b"abc")

    def denied(name: str, *, dir_fd: int) -> None:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr("backup.vault.dirfd.remove", denied)
    with pytest.raises(VaultError, match="Permission denied") as caught:
        directory.delete_archives({archive_id: None})
    assert "let this user read and write" in caught.value.advice


# Glacier.


def test_glacier_tells_until_when_its_lock_keeps_an_archive(rig: Rig, emulator: RunningEmulator) -> None:
    if rig.store_protected is None or rig.vault.name != "cold":
        pytest.skip("only a Glacier vault has such a lock")
    kept = rig.store_protected()
    stored_at = datetime.fromisoformat(emulator.now())
    refusals = rig.vault.delete_archives({kept: stored_at})
    assert refusals[kept].kept_until == stored_at + timedelta(days=KEPT_DAYS)
    assert refusals[kept].detail == f"the vault's lock forbids it until it is {KEPT_DAYS} days old"
    emulator.advance(KEPT_DAYS * 24 * 3600)
    assert rig.vault.delete_archives({kept: stored_at}) == {}


def test_a_lock_for_ever_is_read_once(glacier: GlacierVault, client: Any) -> None:
    ids, arn = [store(glacier, b"abc") for _ in range(3)], glacier.state().location
    name, age = arn.rpartition("/")[2], {"NumericLessThan": {"glacier:ArchiveAgeInDays": "7"}}
    statement = {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": arn, "Condition": age}
    policy = {"Policy": json.dumps({"Statement": [statement]})}
    lock_id = client.initiate_vault_lock(vaultName=name, policy=policy)["lockId"]
    for reads in (3, 1):  # it may change until it is complete
        with counted(client) as counts:
            refusals = glacier.delete_archives(dict.fromkeys(ids))
        assert {refused.detail for refused in refusals.values()} == {
            "the vault's lock forbids it until it is 7 days old"
        }
        assert counts == {"DeleteArchive": 3, "GetVaultLock": reads}
        client.complete_vault_lock(vaultName=name, lockId=lock_id)


@pytest.mark.parametrize(
    "fault",
    [{"code": "ThrottlingException"}, {"reset": True}, {"reset": True, "after": True}],
    ids=["throttled", "cut before", "cut after"],
)
def test_what_glacier_deleted_before_an_error_stays_deleted(
    glacier: GlacierVault, emulator: RunningEmulator, fault: dict[str, Any]
) -> None:
    ids = [store(glacier, b"abc") for _ in range(3)]
    emulator.set_faults([{"operation": "DeleteArchive", "skip": 1, **fault}])
    with pytest.raises(ThrottledError if "code" in fault else UnreachableError):
        glacier.delete_archives(dict.fromkeys(ids))
    assert [is_there(glacier, archive_id) for archive_id in ids] == [False, "after" not in fault, True]
    assert glacier.delete_archives(dict.fromkeys(ids)) == {}
    assert not any(is_there(glacier, archive_id) for archive_id in ids)


# S3.


@pytest.fixture
def bucket(emulated_s3: Any, request: pytest.FixtureRequest) -> S3Vault:
    vault = s3_vault(emulated_s3, f"deletions-{abs(hash(request.node.name))}", prefix="p/")
    vault.create()
    return vault


def test_a_thousand_keys_go_in_one_request(bucket: S3Vault, emulated_s3: Any) -> None:
    there = [store(bucket, b"abc") for _ in range(2)]
    listed = {line.archive_id: line.version for line in list_now(bucket).archives}
    versions = {**dict.fromkeys(KEYS, "0" * 32), **listed}
    with counted(emulated_s3) as counts:
        assert bucket.delete_archives(dict.fromkeys([there[0], *KEYS[:2498], there[1]]), versions) == {}
    assert counts == {"DeleteObjects": 3, "GetBucketVersioning": 1}
    assert bucket.traits.deletes_at_once == 1000
    assert bucket.fetch_listing(bucket.request_listing("t")).archives == []


@pytest.mark.parametrize("versioning", ["", "Enabled"])
def test_another_object_than_the_list_showed_stays(
    bucket: S3Vault, emulated_s3: Any, versioning: str
) -> None:
    """Somebody put it there since; in a bucket that keeps versions ours lies beneath it."""
    ids = [store(bucket, b"abc"), store(bucket, b"def")]
    versions = {line.archive_id: line.version for line in list_now(bucket).archives}
    where = {"Bucket": bucket.state().location.split("/")[2]}
    if versioning:
        emulated_s3.put_bucket_versioning(**where, VersioningConfiguration={"Status": versioning})
    emulated_s3.put_object(**where, Key=f"p/{ids[0]}", Body=b"another")
    refused = bucket.delete_archives(dict.fromkeys(ids), versions)
    assert refused == {ids[0]: Refusal("another object lies in its place than the list showed")}
    assert emulated_s3.get_object(**where, Key=f"p/{ids[0]}")["Body"].read() == b"another"
    assert [line.archive_id for line in list_now(bucket).archives] == [ids[0]]
    assert "DeleteMarkers" not in emulated_s3.list_object_versions(**where)


def test_what_no_list_showed_is_looked_at_and_deleted_by_its_etag(bucket: S3Vault, emulated_s3: Any) -> None:
    ids = [store(bucket, b"abc"), store(bucket, b"def")]
    versions = {line.archive_id: line.version for line in list_now(bucket).archives[:1]}
    with counted(emulated_s3) as counts:
        assert bucket.delete_archives(dict.fromkeys([*ids, KEYS[0]]), versions) == {}
    assert counts == {"HeadObject": 2, "HeadBucket": 1, "DeleteObjects": 1, "GetBucketVersioning": 1}
    assert list_now(bucket).archives == []


@pytest.mark.parametrize(
    "fault",
    [{"code": "SlowDown"}, {"code": "InternalError"}, {"reset": True, "after": True}],
    ids=["throttled", "broken", "cut after"],
)
def test_what_s3_deleted_before_an_error_stays_deleted(
    bucket: S3Vault, emulator: RunningEmulator, fault: dict[str, Any]
) -> None:
    there = [store(bucket, b"abc") for _ in range(2)]
    ids = [there[0], *KEYS[:999], there[1]]
    emulator.set_faults([{"operation": "s3:DeleteObjects", "skip": 1, **fault}])
    try:
        with pytest.raises(ThrottledError if fault.get("code") == "SlowDown" else UnreachableError):
            bucket.delete_archives(dict.fromkeys(ids))
    finally:
        emulator.set_faults([])
    left = {archive.archive_id for archive in bucket.fetch_listing(bucket.request_listing("t")).archives}
    assert left == (set() if "after" in fault else {there[1]})
    assert bucket.delete_archives(dict.fromkeys(ids)) == {}


def test_when_s3_is_short_of_time_for_one_key_the_others_are_gone(
    bucket: S3Vault, emulator: RunningEmulator
) -> None:
    ids = [store(bucket, b"abc") for _ in range(3)]
    emulator.set_faults([{"operation": "s3:DeleteObjects", "key": f"*{ids[1]}", "code": "SlowDown"}])
    try:
        with pytest.raises(ThrottledError, match="SlowDown"):
            bucket.delete_archives(dict.fromkeys(ids))
    finally:
        emulator.set_faults([])
    assert [is_there(bucket, archive_id) for archive_id in ids] == [False, True, False]
    assert bucket.delete_archives(dict.fromkeys(ids)) == {}


def answered(*nodes: str) -> ScriptedS3:
    """S3 without versions, with this answer to DeleteObjects."""
    body = f"<DeleteResult>{''.join(nodes)}</DeleteResult>"
    plain = Answer(body="<VersioningConfiguration/>")
    head = Answer(headers={"etag": '"0123"'})
    return ScriptedS3(GetBucketVersioning=plain, HeadObject=head, DeleteObjects=Answer(body=body))


def deleted(key: str) -> str:
    return f"<Deleted><Key>{key}</Key></Deleted>"


def failed(key: str, code: str, message: str = "") -> str:
    return f"<Error><Key>{key}</Key><Code>{code}</Code><Message>{message}</Message></Error>"


FIRST, SECOND = KEYS[:2]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("SlowDown", ThrottledError),
        ("InternalError", UnreachableError),
        ("ExpiredToken", DeniedError),
        ("InvalidRequest", VaultError),
    ],
)
def test_an_error_for_one_key_is_an_error(code: str, kind: type[Exception]) -> None:
    s3 = answered(deleted(FIRST), failed(SECOND, code, "wait"))
    with pytest.raises(kind, match=f"cannot delete 2 archives \\(bucket some-bucket\\): wait \\({code}\\)"):
        s3.vault().delete_archives(dict.fromkeys([FIRST, SECOND]))


def test_haste_is_told_before_what_cannot_be_cured() -> None:
    s3 = answered(failed(FIRST, "InvalidRequest"), failed(SECOND, "SlowDown"))
    with pytest.raises(ThrottledError):
        s3.vault().delete_archives(dict.fromkeys([FIRST, SECOND]))


def test_keys_that_are_gone_are_no_error() -> None:
    s3 = answered(failed(FIRST, "NoSuchKey"), failed(SECOND, "NoSuchVersion"))
    assert s3.vault().delete_archives(dict.fromkeys([FIRST, SECOND])) == {}


@pytest.mark.parametrize("told", ["", deleted(FIRST), deleted("another")])
def test_an_answer_that_does_not_name_every_key_is_not_believed(told: str) -> None:
    with pytest.raises(UnreachableError, match="does not name all") as caught:
        answered(told).vault().delete_archives(dict.fromkeys([FIRST, SECOND]))
    assert "not AWS" in caught.value.advice


def test_all_denied_without_a_reason_is_a_missing_permission() -> None:
    s3 = answered(*(failed(key, "AccessDenied", "Access Denied") for key in (FIRST, SECOND)))
    with pytest.raises(DeniedError, match="Access Denied") as caught:
        s3.vault().delete_archives(dict.fromkeys([FIRST, SECOND]))
    assert "nightvault aws policy" in caught.value.advice


def test_some_denied_without_a_reason_are_refused() -> None:
    s3 = answered(deleted(FIRST), failed(SECOND, "AccessDenied", "Access Denied"))
    assert list(s3.vault().delete_archives(dict.fromkeys([FIRST, SECOND]))) == [SECOND]


@pytest.fixture
def nightly(bucket: S3Vault, emulator: RunningEmulator, tmp_path: Path) -> Iterator[Site]:
    """Three nights in a bucket; what only the second had is condemned, and its grace is over."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "stays").write_bytes(b"s" * 100_000)
    clock, size = EmulatorClock(emulator), 8 * MIB
    vault = s3_vault(
        s3_client(emulator.s3_url),
        bucket.state().location.split("/")[2],
        prefix="p/",
        storage_class="STANDARD",
        clock=clock,
    )
    site = Site.create(
        tmp_path / "site", vault, [tmp_path / "source"], clock=clock, part_size=size, pack_size=size
    )
    for night in range(3):
        (tmp_path / "source" / f"only {night}").write_bytes(os.urandom(50_000))
        site.backup()
        if night == 1:
            (tmp_path / "source" / "only 1").unlink()
        emulator.advance(24 * 3600)
    site.amend(records.ForgottenRecord([1, 2], micros(clock.now())))
    assert site.prune().condemned.archives == 1
    emulator.advance(5 * 24 * 3600)
    yield site
    site.close()


def test_a_lock_that_is_switched_on_beneath_a_server(
    nightly: Site, emulated_s3: Any, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """What it stored before and what it stores now: nothing seems gone that is not, none is billed unseen."""
    where = {"Bucket": nightly.vault.state().location.split("/")[2]}
    versioning = {"Status": "Enabled"}
    emulated_s3.put_bucket_versioning(**where, VersioningConfiguration=versioning)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 40}}
    lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
    emulated_s3.put_object_lock_configuration(**where, ObjectLockConfiguration=lock)
    ((condemned,),) = query(nightly, "SELECT archive_id FROM archives WHERE state = 'condemned'")
    until = datetime.fromisoformat(emulator.now()).replace(microsecond=0) + timedelta(days=30)
    kept = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    emulated_s3.put_object_retention(**where, Key=f"p/{condemned}", Retention=kept)
    report = nightly.prune()
    assert [(group.archives, group.until) for group in report.refused] == [(1, until)]
    assert (report.deleted.archives, report.dropped) == (0, {})
    assert "DeleteMarkers" not in emulated_s3.list_object_versions(**where)
    assert nightly.backup().outcome is Outcome.DONE
    emulator.advance(31 * 24 * 3600)
    report = nightly.prune()
    assert (report.deleted.archives, report.refused) == (1, [])
    found = emulated_s3.list_object_versions(**where)
    assert "DeleteMarkers" not in found
    assert f"p/{condemned}" not in {version["Key"] for version in found["Versions"]}
    assert not nightly.restore("latest", tmp_path / "out").problems
    assert_same_tree(tmp_path / "source", tmp_path / "out")


def test_a_lifecycle_that_is_switched_on_beneath_a_server(
    nightly: Site, emulated_s3: Any, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It deletes what is needed: the next check tells, and the backup after it stores all that anew."""
    where = {"Bucket": nightly.vault.state().location.split("/")[2]}
    rule = {
        "ID": "tidy",
        "Status": "Enabled",
        "Filter": {"Prefix": "p/data/"},
        "Expiration": {"Days": 1},
    }
    emulated_s3.put_bucket_lifecycle_configuration(**where, LifecycleConfiguration={"Rules": [rule]})
    emulator.advance(2 * 24 * 3600)
    emulated_s3.delete_bucket_lifecycle(**where)
    assert is_empty(emulated_s3, where, "p/data/")
    assert kinds(check(nightly)) == {"missing": 2}
    report = nightly.backup()
    assert (report.outcome, report.files_again, report.bytes_new) == (Outcome.DONE, 3, 200_000)
    assert not nightly.restore("latest", tmp_path / "out").problems
    assert_same_tree(tmp_path / "source", tmp_path / "out")
    assert nightly.prune().deleted_elsewhere == 1
    assert kinds(check(nightly)) == {}


LOCKED = {"x-amz-version-id": "v1", "x-amz-object-lock-mode": "COMPLIANCE"}
UNTIL = "x-amz-object-lock-retain-until-date"


@pytest.mark.parametrize("versioning", ["Enabled", "denied", "unknown"])
def test_where_versions_may_be_the_lock_is_looked_at(versioning: str) -> None:
    enabled = Answer(body="<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
    looks = {"denied": refusal("AccessDenied", 403), "unknown": refusal("NotImplemented", 501)}
    s3 = answered(failed(FIRST, "AccessDenied", "Access Denied"))
    s3.answer(
        GetBucketVersioning=looks.get(versioning, enabled),
        HeadObject=Answer(headers={**LOCKED, UNTIL: "2031-01-02T03:04:05Z"}),
    )
    until = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    refused = s3.vault().delete_archives({FIRST: None})
    assert refused == {FIRST: Refusal("object lock keeps it (COMPLIANCE)", until)}


def test_a_lock_that_has_ended_explains_nothing() -> None:
    s3 = answered()
    denied = f"<DeleteResult>{failed(FIRST, 'AccessDenied', 'Access Denied')}</DeleteResult>"
    s3.answer(
        GetBucketVersioning=refusal("NotImplemented", 501),
        HeadObject=Answer(headers={**LOCKED, UNTIL: "2026-01-02T03:04:05Z"}),
        DeleteObjects=Answer(body=denied, headers={"date": "Fri, 02 Jan 2026 03:04:05 GMT"}),
    )
    with pytest.raises(DeniedError):
        s3.vault().delete_archives({FIRST: None})


@pytest.mark.parametrize("checksums", ["crc64nvme", "none"])
def test_a_deletion_is_guarded_by_a_checksum_that_the_service_knows(checksums: str) -> None:
    s3 = answered(deleted(FIRST))
    s3.vault(checksums=checksums).delete_archives({FIRST: None})
    request = s3.sent[-1][1]
    digest = base64.b64encode(hashlib.md5(request.body).digest())
    assert request.headers.get("Content-MD5") == (digest if checksums == "none" else None)
    assert "x-amz-checksum-crc32" in request.headers


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("server", ["seaweedfs", "ministack"])
def test_servers_that_are_not_ours_refuse_what_object_lock_keeps(
    server: str, request: pytest.FixtureRequest
) -> None:
    client, where = request.getfixturevalue(server), {}
    if server == "ministack":
        where = {"CreateBucketConfiguration": {"LocationConstraint": REGION}}
    client.create_bucket(Bucket="locked", ObjectLockEnabledForBucket=True, **where)
    vault = s3_vault(client, "locked", storage_class="STANDARD", checksums="none")
    kept, held, gone = (store(vault, b"abc") for _ in range(3))
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    lock = {"Mode": "COMPLIANCE", "RetainUntilDate": until}
    client.put_object_retention(Bucket="locked", Key=kept, Retention=lock)
    client.put_object_legal_hold(Bucket="locked", Key=held, LegalHold={"Status": "ON"})
    refused = vault.delete_archives(dict.fromkeys([kept, gone, held]))
    assert refused == {
        kept: Refusal("object lock keeps it (COMPLIANCE)", until),
        held: Refusal("it is under a legal hold"),
    }
    assert {stored["Key"] for stored in client.list_objects_v2(Bucket="locked")["Contents"]} == {kept, held}
