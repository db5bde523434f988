"""Every header and query parameter of botocore's model, for each operation that is served: done or refused.

The law: with a value that asks for something, the answer or what is there afterwards differs from that of the
same request without it. What was dropped would leave everything as it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache

import botocore.loaders
import botocore.model
import pytest
from msgspec import Struct

from backup.emulator.s3.operation import Operation
from backup.emulator.s3.operations import OPERATIONS
from backup.emulator.s3.request.parameters import NEVER, TAKEN
from tests.support.emulated import REGION
from tests.support.emulator_clients import Reply
from tests.support.s3_clients import DOCUMENTS, S3Talker, new_bucket_name

OTHER, ZEROS = "999999999999", "A" * 22 + "=="
LONG_AGO, FAR_AHEAD = "Thu, 01 Jan 2015 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 GMT"
WRONG = '"00000000000000000000000000000000"'
PROBES: Mapping[str, str] = {
    # what each header asks for, so that it makes a difference
    "cache-control": "no-store",
    "content-disposition": "attachment",
    "content-encoding": "gzip",
    "content-language": "de",
    "content-md5": ZEROS,
    "content-type": "text/plain",
    "expires": FAR_AHEAD,
    "if-match": WRONG,
    "if-modified-since": FAR_AHEAD,
    "if-none-match": "*",
    "if-unmodified-since": LONG_AGO,
    "range": "bytes=1-1",
    "x-amz-acl": "public-read",
    "x-amz-bucket-namespace": "account-regional",
    "x-amz-bucket-object-lock-enabled": "true",
    "x-amz-bypass-governance-retention": "true",
    "x-amz-checksum-algorithm": "NOPE",
    "x-amz-checksum-mode": "ENABLED",
    "x-amz-checksum-type": "NOPE",
    "x-amz-copy-source-if-match": WRONG,
    "x-amz-copy-source-if-modified-since": FAR_AHEAD,
    "x-amz-copy-source-if-none-match": "*",
    "x-amz-copy-source-if-unmodified-since": LONG_AGO,
    "x-amz-copy-source-range": "bytes=9-99",
    "x-amz-expected-bucket-owner": OTHER,
    "x-amz-max-parts": "x",
    "x-amz-meta-a": "b",
    "x-amz-metadata-directive": "NOPE",
    "x-amz-mp-object-size": "7",
    "x-amz-object-attributes": "NOPE",
    "x-amz-object-lock-legal-hold": "ON",
    "x-amz-object-lock-mode": "GOVERNANCE",
    "x-amz-object-lock-retain-until-date": "2031-01-01T00:00:00Z",
    "x-amz-object-ownership": "ObjectWriter",
    "x-amz-optional-object-attributes": "NOPE",
    "x-amz-part-number-marker": "x",
    "x-amz-request-payer": "nobody",
    "x-amz-sdk-checksum-algorithm": "NOPE",
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-source-expected-bucket-owner": OTHER,
    "x-amz-storage-class": "GLACIER_IR",
    "x-amz-tagging": "a=b&c=d",
    "x-amz-tagging-directive": "NOPE",
    "x-amz-transition-default-minimum-object-size": "varies_by_storage_class",
    "x-amz-website-redirect-location": "/elsewhere",
    **{
        f"x-amz-checksum-{name}": base64.b64encode(bytes(width)).decode()
        for name, width in (("crc32", 4), ("crc32c", 4), ("crc64nvme", 8), ("sha1", 20), ("sha256", 32))
    },
    **{f"x-amz-grant-{what}": "id=1" for what in ("full-control", "read", "read-acp", "write", "write-acp")},
    # and each query parameter
    "bucket-region": "us-west-2",
    "continuation-token": "made-up",
    "delimiter": "/",
    "encoding-type": "url",
    "fetch-owner": "true",
    "id": "none",
    "key-marker": "zz",
    "marker": "zz",
    "max-buckets": "0",
    "max-keys": "1",
    "max-parts": "1",
    "max-uploads": "1",
    "part-number-marker": "1",
    "partNumber": "7",
    "prefix": "zz",
    "start-after": "zz",
    "upload-id-marker": "~",
    "uploadId": "none",
    "version-id-marker": "null",
    "versionId": "0" * 32,
    **{
        f"response-{name}": "text/plain"
        for name in ("cache-control", "content-disposition", "content-encoding", "content-language")
    },
    "response-content-type": "text/plain",
    "response-expires": FAR_AHEAD,
}
REPLACED = {"x-amz-metadata-directive": "REPLACE"}
KEPT = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)
BESIDES: Mapping[tuple[str, str], tuple[Mapping[str, str], str]] = {
    # headers and parameters without which one asks for nothing
    ("ListMultipartUploads", "upload-id-marker"): ({}, "key-marker=dir/%20a"),
    ("ListObjectVersions", "version-id-marker"): ({}, "key-marker=dir/%20a"),
    **{("CopyObject", name): (REPLACED, "") for name in (*KEPT, "x-amz-meta-a")},
    ("CopyObject", "x-amz-tagging"): ({"x-amz-tagging-directive": "REPLACE"}, ""),
}
OTHERS: Mapping[tuple[str, str], str] = {
    # values for one operation alone
    ("HeadObject", "partNumber"): "1",
    ("UploadPart", "partNumber"): "0",
    ("UploadPartCopy", "partNumber"): "0",
}
ALWAYS_REFUSED = ("PutBucketAcl", "PutObjectAcl")
BODIES: Mapping[str, str] = {
    "CreateBucket": "<CreateBucketConfiguration><LocationConstraint>"
    f"{REGION}</LocationConstraint></CreateBucketConfiguration>",
    "PutBucketTagging": DOCUMENTS["tagging"],
    "PutBucketVersioning": DOCUMENTS["versioning"],
    "PutPublicAccessBlock": DOCUMENTS["publicAccessBlock"],
    "PutBucketLifecycleConfiguration": DOCUMENTS["lifecycle"],
    "PutBucketOwnershipControls": "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership>"
    "</Rule></OwnershipControls>",
    "PutBucketEncryption": "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
    "<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
    "</ServerSideEncryptionConfiguration>",
    "PutBucketPolicy": json.dumps({"Statement": []}),
    "PutObjectLockConfiguration": "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled>"
    "</ObjectLockConfiguration>",
    "PutObjectLegalHold": "<LegalHold><Status>ON</Status></LegalHold>",
    "PutObjectRetention": "<Retention><Mode>GOVERNANCE</Mode>"
    "<RetainUntilDate>2031-01-01T00:00:00Z</RetainUntilDate></Retention>",
    "PutObjectTagging": DOCUMENTS["tagging"],
    "DeleteObjects": "<Delete><Object><Key>dir/ a</Key><VersionId>VERSION</VersionId></Object></Delete>",
    "RestoreObject": "<RestoreRequest><Days>1</Days></RestoreRequest>",
    "CompleteMultipartUpload": "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>ETAG</ETag>"
    "</Part></CompleteMultipartUpload>",
    "PutObject": "some bytes",
    "UploadPart": "some bytes",
}
KEY, COPY = "dir/ a", "copy"
SERVED = [operation for operation in OPERATIONS if getattr(operation.serve, "__name__", "") != "not_here"]


@cache
def model() -> botocore.model.ServiceModel:
    """S3's own; clients change what they share."""
    return botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("s3", "service-2"), "s3")


def parameters_of(operation: str) -> Iterator[tuple[str, str]]:
    """Where each parameter of an operation is, and its name, but what a request needs to be this one."""
    shape = model().operation_model(operation).input_shape
    for member in shape.members.values() if shape else ():
        kind, name = member.serialization.get("location"), member.serialization.get("name", "")
        if kind == "headers":
            yield "header", f"{name}a".lower()
        elif kind == "header" and name.lower() not in ("content-length", "x-amz-copy-source"):
            yield "header", name.lower()
        elif kind == "querystring":
            yield "query", name


class Place(Struct, frozen=True):
    """A bucket that was just made, with versions, objects, a locked one, uploads and settings."""

    raw: S3Talker
    name: str
    version: str = "null"
    upload: str = ""
    etag: str = ""

    def send(self, operation: str, headers: Mapping[str, str], query: str) -> Reply:
        """The operation's usual request, with these headers and query parameters besides."""
        one = next(known for known in OPERATIONS if known.name == operation)
        path = {"service": "/", "bucket": f"/{self.name}", "object": f"/{self.name}/dir/%20a"}[one.on]
        if operation == "CreateBucket":
            path = f"/{self.name}-new"
        elif operation in ("CopyObject", "PutObject", "UploadPartCopy"):
            path = f"/{self.name}/{COPY}" if operation == "CopyObject" else path
            headers = {**({"x-amz-copy-source": f"{self.name}/dir/%20a"} if one.copies else {}), **headers}
        body = BODIES.get(operation, "").replace("VERSION", self.version).replace("ETAG", self.etag)
        if operation == "GetObjectAttributes":
            headers = {"x-amz-object-attributes": "ETag,ObjectParts", **headers}
        if operation in BODIES:
            plain = not any(name.startswith("x-amz-checksum-") for name in headers)
            digest = base64.b64encode(hashlib.md5(body.encode()).digest()).decode()
            headers = {**({"content-md5": digest} if plain else {}), **headers}
        given = dict(part.partition("=")[::2] for part in query.split("&") if part)
        usual = {
            flag: {"list-type": "2", "uploadId": self.upload, "partNumber": "1"}.get(flag, "")
            for flag in one.flags
        }
        if "versionId" in one.options and operation == "DeleteObject":
            usual["versionId"] = self.version
        sent = "&".join(f"{name}={value}" for name, value in sorted({**usual, **given}.items()))
        return self.raw.ask(one.method, path, body.encode(), headers, query=sent)

    def outcome(self, operation: Operation, reply: Reply) -> tuple[object, ...]:
        """What came of a request, without what differs by itself."""
        if operation.method in ("GET", "HEAD"):
            return (self._plain(reply),)
        if operation.name == "CreateMultipartUpload" and reply.status == 200:
            upload = re.findall(b"<UploadId>(.*)</UploadId>", reply.body)[0].decode()
            where = f"/{self.name}/dir/%20a"
            etag = self.raw.ask("PUT", where, b"x", query=f"partNumber=1&uploadId={upload}").headers["etag"]
            body = BODIES["CompleteMultipartUpload"].replace("ETAG", etag).encode()
            self.raw.ask("POST", where, body, query=f"uploadId={upload}")
        looks = [self.raw.ask("HEAD", f"/{self.name}/{key}") for key in ("dir/%20a", COPY)]
        looks += [self.raw.ask("GET", f"/{self.name}/{key}", query="tagging=") for key in ("dir/%20a", COPY)]
        settings = (
            "versioning",
            "ownershipControls",
            "object-lock",
            "lifecycle",
            "publicAccessBlock",
            "policy",
        )
        for name in (self.name, f"{self.name}-new"):
            looks += [self.raw.ask("GET", f"/{name}", query=f"{setting}=") for setting in settings]
        return tuple(self._plain(look) for look in (reply, *looks))

    def _plain(self, reply: Reply) -> object:
        own = (
            "x-amz-request-id",
            "x-amz-id-2",
            "date",
            "last-modified",
            "x-amz-version-id",
            "content-length",
        )
        headers = {name: value for name, value in reply.headers.items() if name not in own}
        text = re.sub(
            rb"<(RequestId|HostId|UploadId|LastModified|VersionId|CreationDate|Initiated)>[^<]*",
            b"",
            reply.body,
        )
        return reply.status, headers, text.replace(self.name.encode(), b"NAME")


def make_place(raw: S3Talker, operation: str) -> Place:
    """All that a request may be about."""
    name = new_bucket_name()
    bucket, key = f"/{name}", f"/{name}/dir/%20a"
    lock = {"x-amz-bucket-object-lock-enabled": "true"}
    locked = operation in ("DeleteObject", "DeleteObjects") or "Lock" in operation or "Retention" in operation
    locked = locked or "Hold" in operation
    assert raw.ask("PUT", bucket, BODIES["CreateBucket"].encode(), lock if locked else {}).status == 200
    one = next(served for served in SERVED if served.name == operation)
    if one.on != "object" and not operation.startswith(("List", "DeleteObjects")):
        return Place(raw, name)
    storage_class = {"x-amz-storage-class": "GLACIER"} if operation == "RestoreObject" else {}
    for path in (f"/{name}/b", f"/{name}/{COPY}", key):
        made = raw.ask("PUT", path, b"what is there", storage_class)
        assert made.status == 200
    version = made.headers.get("x-amz-version-id", "null")
    if locked:
        _document(raw, key, "retention", BODIES["PutObjectRetention"].replace("2031", "2032"))
    uploads = [
        re.findall(b"<UploadId>(.*)</UploadId>", raw.ask("POST", path, query="uploads=").body)[0].decode()
        for path in (f"/{name}/b", key)
    ]
    etag = ""
    for number in (2, 1):
        made = raw.ask("PUT", key, b"part", query=f"partNumber={number}&uploadId={uploads[1]}")
        etag = made.headers["etag"]
    return Place(raw, name, version, uploads[1], etag)


def _document(raw: S3Talker, path: str, kind: str, body: str) -> None:
    digest = {"content-md5": base64.b64encode(hashlib.md5(body.encode()).digest()).decode()}
    assert raw.ask("PUT", path, body.encode(), digest, query=f"{kind}=").status == 200


@pytest.mark.parametrize("operation", [operation.name for operation in SERVED])
def test_every_parameter_is_done_or_refused(raw: S3Talker, operation: str) -> None:
    found, one = list(parameters_of(operation)), next(served for served in SERVED if served.name == operation)
    reads = one.method in ("GET", "HEAD")
    there: Place | None = None
    plain: dict[tuple[str, str], tuple[Place, Reply]] = {}
    outcomes: dict[tuple[str, str], tuple[object, ...]] = {}
    for kind, name in found:
        value = OTHERS.get((operation, name)) or PROBES.get(name, "1" if name in NEVER else "")
        assert value, f"{operation} has a new {kind} {name}: done or refused?"
        headers, query = BESIDES.get((operation, name), ({}, ""))
        if (str(headers), query) not in plain:
            place = there if reads and there is not None else make_place(raw, operation)
            plain[str(headers), query] = place, place.send(operation, headers, query)
            there = place if reads else there
        place, usual = plain[str(headers), query]
        there = there or make_place(raw, operation)
        more = {name: value} if kind == "header" else {}
        reply = there.send(operation, {**headers, **more}, query if more else f"{query}&{name}={value}")
        refused = reply.status >= 400
        if not (refused and (usual.status < 400 or operation in ALWAYS_REFUSED)):
            if (str(headers), query) not in outcomes:  # looking changes what is there: it is done once
                outcomes[str(headers), query] = place.outcome(one, usual)
            assert there.outcome(one, reply) != outcomes[str(headers), query], (kind, name)
        if name in NEVER or (operation not in TAKEN.get(name, [operation])):
            assert reply.status == 501, name
        there = there if refused or reads else None


@pytest.mark.parametrize(
    ("operation", "name", "value"),
    [
        ("UploadPart", "if-none-match", "*"),
        ("UploadPart", "x-amz-object-lock-mode", "GOVERNANCE"),
        ("UploadPart", "x-amz-storage-class", "GLACIER"),
        ("DeleteObject", "if-none-match", "*"),
        ("DeleteObject", "if-unmodified-since", LONG_AGO),
        ("DeleteObjects", "if-match", WRONG),
        ("DeleteBucket", "x-amz-copy-source", "a/b"),
        ("ListObjectsV2", "if-match", WRONG),
        ("CreateBucket", "x-amz-expected-bucket-owner", OTHER),
    ],
)
def test_a_header_of_another_operation_is_refused(
    raw: S3Talker, operation: str, name: str, value: str
) -> None:
    """Nothing is done without the condition, or without the lock, that was asked for."""
    place = make_place(raw, operation)
    reply = place.send(operation, {name: value}, "")
    assert (reply.status, name in str(reply.body)) == (501, True)
    assert raw.ask("HEAD", f"/{place.name}-new").status == 404
    assert raw.ask("HEAD", f"/{place.name}").status == 200
