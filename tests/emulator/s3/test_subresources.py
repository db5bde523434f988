"""Every subresource of S3, with every method, at every place: done, or refused before anything is changed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import botocore.loaders
import botocore.model
import pytest
from msgspec import Struct

from backup.emulator.s3.operations import FLAGS, OPERATIONS
from tests.emulator.s3.state import everything_in
from tests.support.emulated import REGION, RunningEmulator, StaticKey, write_accounts
from tests.support.emulator_clients import Reply
from tests.support.s3_clients import S3Talker, client, code, error_of

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
PLACES = {
    "service": ("/",),
    "bucket": ("/full-bucket", "/empty-bucket", "/none-yet"),
    "object": ("/full-bucket/key", "/full-bucket/none", "/empty-bucket/key"),
}
PLAIN = (
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:GetObject",
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:ListBucket",
)
OTHER_KEY = StaticKey("AKIAOTHEROTHEROTHER0", "other-secret")
UPLOAD = ("uploadId", "partNumber")
VALUES = {"list-type": "2", "partNumber": "1", "versionId": "null"}
SPELLED_OUT = ["acl&tagging", "uploads&acl", "partNumber=1&tagging", "list-type=2&acl"]


class Watched(Struct, frozen=True):
    """An emulator of the module's own, whose whole state is looked at."""

    running: RunningEmulator
    raw: S3Talker
    s3: Any

    def state(self) -> dict[str, list[tuple[object, ...]]]:
        return everything_in(self.running.state)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("subresources")
    accounts = write_accounts(folder / "accounts.toml", others={"999999999999": OTHER_KEY})
    with RunningEmulator(folder / "state", accounts) as running:
        s3 = client(running.s3_url)
        for name in ("full-bucket", "empty-bucket", "denying-bucket"):
            s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        for name in ("full-bucket", "denying-bucket"):
            s3.put_object(Bucket=name, Key="key", Body=b"what must stay", Tagging="a=b")
            upload = s3.create_multipart_upload(Bucket=name, Key="key")["UploadId"]
            s3.upload_part(Bucket=name, Key="key", UploadId=upload, PartNumber=1, Body=b"part")
            s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
        yield Watched(running, S3Talker(running.s3_url), s3)


def of_aws() -> dict[tuple[str, str, str], str]:
    """S3's own operations, from botocore's model, by method, place and the flag that tells them."""
    described = botocore.loaders.Loader().load_service_model(
        "s3", "service-2"
    )  # clients change what they share
    model = botocore.model.ServiceModel(described, "s3")
    found = {}
    for name in model.operation_names:
        http = model.operation_model(name).http
        path, _, query = http["requestUri"].partition("?")
        place = {"/": "service", "/{Bucket}": "bucket", "/{Bucket}/{Key+}": "object"}.get(path)
        flag = query.partition("&")[0].partition("=")[0]
        if place is not None and flag:
            found[http["method"], place, flag] = name
    return found


def done_with(method: str, place: str, flag: str) -> bool:
    """Whether the emulator has an operation that this flag alone may stand in."""
    return any(
        (o.method, o.on) == (method, place)
        and o.takes(frozenset({flag}))
        and getattr(o.serve, "__name__", "") != "not_here"
        for o in OPERATIONS
    )


def code_of(reply: Reply, method: str) -> str:
    return "" if method == "HEAD" else error_of(reply)[1]


def test_all_of_s3s_flags_are_known() -> None:
    """What S3 has and the emulator has not is known as what it is."""
    for (method, place, flag), name in of_aws().items():
        assert flag in FLAGS
        named = [o.name for o in OPERATIONS if (o.method, o.on) == (method, place) and flag in o.flags]
        assert len(named) == 1, (name, named)


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_a_flag_is_done_or_refused_before_anything_changes(watched: Watched, flag: str) -> None:
    """A flag with a method that has no use for it changes and destroys nothing."""
    known, before = of_aws(), watched.state()
    for method, (place, paths) in itertools.product(METHODS, PLACES.items()):
        if done_with(method, place, flag) and method not in ("GET", "HEAD"):
            continue
        for path in paths:
            body = b"in its place" if method in ("PUT", "POST") else b""
            reply = watched.raw.ask(method, path, body, query=f"{flag}={VALUES.get(flag, '')}")
            where = (method, path, flag, reply.body)
            if not done_with(method, place, flag):
                expected: tuple[int, ...] = (501, 404) if (method, place, flag) in known else (400, 405)
                assert reply.status in expected, where
                assert reply.status != 404 or path == "/none-yet", where
                assert reply.status != 400 or flag == "versionId", where
                assert reply.status != 405 or code_of(reply, method) in ("", "MethodNotAllowed"), where
        assert watched.state() == before, (method, place, flag)


@pytest.mark.parametrize("query", SPELLED_OUT)
def test_two_flags_conflict(watched: Watched, query: str) -> None:
    before = watched.state()
    for method, path in itertools.product(METHODS, itertools.chain(*PLACES.values())):
        reply = watched.raw.ask(method, path, b"", query="&".join(sorted(_valued(query))))
        assert reply.status == 400, (method, path, query)
        assert code_of(reply, method) in ("", "InvalidArgument")
    assert watched.state() == before


def _valued(query: str) -> list[str]:
    return [part if "=" in part else f"{part}=" for part in query.split("&")]


def test_what_destroyed_data(watched: Watched) -> None:
    """They do not answer 200 or 204 and empty or delete the object, or the bucket."""
    s3, there = watched.s3, {"Bucket": "full-bucket", "Key": "key"}
    before = watched.state()
    with pytest.raises(s3.exceptions.ClientError):
        s3.put_object_acl(**there, ACL="private")
    with pytest.raises(s3.exceptions.ClientError):
        s3.put_object_legal_hold(**there, LegalHold={"Status": "ON"})
    for query in ("restore", "uploads", "attributes", "encryption", "partNumber", "uploadId", "versionId"):
        assert watched.raw.ask("PUT", "/full-bucket/key", b"", query=f"{query}=1").status in (400, 405, 501)
    for query in ("acl", "restore"):
        assert watched.raw.ask("DELETE", "/full-bucket/key", query=f"{query}=").status == 405
    for query in ("acl", "location", "uploads"):
        assert watched.raw.ask("DELETE", "/empty-bucket", query=f"{query}=").status == 405
    assert watched.raw.ask("PUT", "/none-yet", query="acl=").status == 404
    assert watched.state() == before


def test_a_flagged_call_is_authorised_as_what_it_is(watched: Watched) -> None:
    """Who may only do the plain operations is denied all others, whether they are here or not."""
    arn = "arn:aws:s3:::denying-bucket"
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Resource": [arn, f"{arn}/*"],
        "NotAction": [*PLAIN, "s3:PutBucketPolicy", "s3:DeleteBucketPolicy"],
    }
    watched.s3.put_bucket_policy(Bucket="denying-bucket", Policy=json.dumps({"Statement": [statement]}))
    before = watched.state()
    plain = {"ListObjects", "ListObjectsV2", "UploadPart", "UploadPartCopy", "CreateMultipartUpload"}
    plain |= {"CompleteMultipartUpload", "RenameObject", "SelectObjectContent", "DeleteObjects"}
    for operation in OPERATIONS:
        if not operation.flags or operation.name in plain or operation.name.endswith("BucketPolicy"):
            continue
        path = "/denying-bucket/key" if operation.on == "object" else "/denying-bucket"
        query = "&".join(f"{flag}=" for flag in sorted(operation.flags))
        reply = watched.raw.ask(operation.method, path, query=query)
        assert error_of(reply) == (403, "AccessDenied"), operation.name
    with pytest.raises(watched.s3.exceptions.ClientError) as error:
        watched.s3.delete_object(Bucket="denying-bucket", Key="key", VersionId="null")
    assert code(error) == (403, "AccessDenied")
    assert "s3:DeleteObjectVersion" in str(error.value)
    gone = watched.s3.delete_objects(
        Bucket="denying-bucket", Delete={"Objects": [{"Key": "key", "VersionId": "null"}]}
    )
    assert [entry["Code"] for entry in gone["Errors"]] == ["AccessDenied"]
    with pytest.raises(watched.s3.exceptions.ClientError, match="s3:PutObjectTagging"):
        watched.s3.put_object(Bucket="denying-bucket", Key="new", Body=b"", Tagging="a=b")
    assert watched.state() == before


def test_a_copy_needs_to_read_its_source(watched: Watched) -> None:
    """CopyObject and UploadPartCopy read only what the caller may read."""
    theirs = client(
        watched.running.s3_url, OTHER_KEY.access_key_id, OTHER_KEY.secret_access_key, region=REGION
    )
    theirs.create_bucket(Bucket="their-bucket", CreateBucketConfiguration={"LocationConstraint": REGION})
    upload = theirs.create_multipart_upload(Bucket="their-bucket", Key="k")["UploadId"]
    before = watched.state()
    source = {"CopySource": "full-bucket/key", "Bucket": "their-bucket", "Key": "k"}
    with pytest.raises(theirs.exceptions.ClientError) as error:
        theirs.copy_object(**source)
    assert code(error) == (403, "AccessDenied")
    with pytest.raises(theirs.exceptions.ClientError) as error:
        theirs.upload_part_copy(**source, UploadId=upload, PartNumber=1)
    assert code(error) == (403, "AccessDenied")
    assert watched.state() == before


@pytest.mark.parametrize("version", ["", "other"])
def test_a_version_that_is_not_there_is_refused_everywhere(watched: Watched, version: str) -> None:
    """Tags belong to one version: they are read, written and deleted as that version's."""
    before = watched.state()
    for method, flag in (
        *itertools.product(("GET", "HEAD", "DELETE"), ("",)),
        *itertools.product(("GET", "PUT", "DELETE"), ("tagging",)),
        *(("GET", "acl"), ("GET", "attributes"), ("POST", "restore")),
    ):
        query = f"{flag}=&versionId={version}" if flag else f"versionId={version}"
        reply = watched.raw.ask(method, "/full-bucket/key", query=query)
        assert reply.status == 400, (method, flag)
        assert code_of(reply, method) in ("", "InvalidArgument")
    assert watched.state() == before
    assert watched.raw.ask("GET", "/full-bucket/key", query="versionId=null").status == 200
