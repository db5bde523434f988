"""One call of an S3 operation, authenticated and parsed: the argument of all operations."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sqlite3
from collections.abc import Mapping

from msgspec import Struct, field

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.meter import BilledStore
from backup.emulator.core.state.settings import Settings
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Inbound, date_ms

CLASSES = (
    *("STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING"),
    *("GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"),
)
MARK_BYTES = 12
METADATA_BYTES = 2048
VERSION_ID = re.compile(r"null|[A-Za-z0-9._]{32}")
KEPT_HEADERS = (
    *("content-type", "content-encoding", "content-disposition", "content-language", "cache-control"),
    *("expires", "x-amz-website-redirect-location"),
)


class Bucket(Struct, frozen=True):
    """A bucket: its row's number, name, owner and region; the text of its policy, if it has one.

    `versioning` is Enabled, Suspended, or None for a bucket that never had versions; `lock` is its
    configuration of Object Lock.
    """

    id: int
    name: str
    account_id: str
    region: str
    policy: str | None
    versioning: str | None
    lock: str | None

    @property
    def place(self) -> BilledStore:
        """The bucket as the meter names it."""
        return BilledStore(self.account_id, "s3", self.region, self.name)

    @property
    def arn(self) -> str:
        """The ARN of the bucket."""
        return f"arn:aws:s3:::{self.name}"


class S3Call(Struct, frozen=True):
    """A call: `caller` is an ARN, `region` the one that it was signed for; `bucket` is None for ListBuckets
    and CreateBucket."""

    operation: str
    bucket_name: str
    key: str
    query: Mapping[str, str]
    inbound: Inbound
    store: Store
    settings: Settings
    account: str = ""
    caller: str = ""
    region: str = ""
    bucket: Bucket | None = None
    body: bytes = b""
    may_list: bool = True
    sees_retention: bool = False
    sees_hold: bool = False
    secure: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def at(self) -> Bucket:
        """The bucket; it has been found before the operation runs."""
        assert self.bucket is not None  # noqa: S101
        return self.bucket

    @property
    def raw_key(self) -> bytes:
        """The key as it is stored and ordered."""
        return self.key.encode()

    def header(self, name: str) -> str | None:
        """A header of the request."""
        return self.inbound.header(name)

    def missing_key(self) -> S3Error:
        """The error for a missing key: NoSuchKey only if the caller may list the bucket."""
        return S3Error("NoSuchKey", None, {"Key": self.key}) if self.may_list else S3Error("AccessDenied")

    def missing_version(self, version: str) -> S3Error:
        """The error for a missing version, likewise."""
        details = {"Key": self.key, "VersionId": version}
        return S3Error("NoSuchVersion", None, details) if self.may_list else S3Error("AccessDenied")

    def number(self, name: str, default: int, *, low: int = 0, high: int = 2**31 - 1) -> int:
        """A whole number of the query."""
        text = self.query.get(name) or str(default)
        if not re.fullmatch(r"-?[0-9]{1,18}", text):
            raise invalid_argument(f"Provided {name} not an integer or within integer range", name, text)
        if not low <= int(text) <= high:
            raise invalid_argument(f"Argument {name} must be an integer between {low} and {high}", name, text)
        return int(text)

    def max_of(self, name: str, most: int) -> int:
        """A page's length, at most `most`."""
        return min(self.number(name, most), most)

    def storage_class(self) -> str:
        """The class asked for, STANDARD if none."""
        wanted = self.header("x-amz-storage-class") or "STANDARD"
        if wanted not in CLASSES:
            raise S3Error("InvalidStorageClass", None, {"StorageClassRequested": wanted})
        return wanted

    def names_an_acl(self, harmless: tuple[str, ...]) -> bool:
        """Whether the headers ask for an ACL other than those allowed."""
        acl = self.header("x-amz-acl")
        grants = any(name.startswith("x-amz-grant-") for name, _ in self.inbound.headers)
        return grants or (acl is not None and acl not in harmless)

    def object_headers(self) -> dict[str, str]:
        """The headers to store: metadata and those that a GET repeats."""
        kept = {name: value for name in KEPT_HEADERS if (value := self.header(name)) is not None}
        kinds = [part.strip() for part in kept.pop("content-encoding", "").split(",")]
        encoding = ",".join(part for part in kinds if part and part != "aws-chunked")
        if encoding:
            kept["content-encoding"] = encoding
        kept.setdefault("content-type", "binary/octet-stream")
        names = {name for name, _ in self.inbound.headers if name.startswith("x-amz-meta-")}
        metadata = {name: self.header(name) or "" for name in sorted(names)}
        size = sum(len(name) - len("x-amz-meta-") + len(value) for name, value in metadata.items())
        if size > METADATA_BYTES:
            raise S3Error(
                "MetadataTooLarge", None, {"Size": str(size), "MaxSizeAllowed": str(METADATA_BYTES)}
            )
        return {**kept, **metadata}


def find_bucket(tx: Transaction, name: str) -> Bucket | None:
    """A bucket by name."""
    row = tx.db.execute(
        "SELECT id, name, account_id, region, (SELECT text FROM bucket_documents "
        "WHERE bucket = buckets.id AND kind = 'policy'), (SELECT text FROM bucket_documents "
        "WHERE bucket = buckets.id AND kind = 'versioning'), (SELECT text FROM bucket_documents "
        "WHERE bucket = buckets.id AND kind = 'object lock') FROM buckets WHERE name = ?",
        (name,),
    ).fetchone()
    return None if row is None else Bucket(*row)


def find_object(call: S3Call, tx: Transaction) -> sqlite3.Row | None:
    """The row of the call's key: of the version that it names, else of the newest, if that is no marker."""
    row = find_version(call, tx)
    return None if row is None or row["is_marker"] else row


def find_version(call: S3Call, tx: Transaction) -> sqlite3.Row | None:
    """The row of the version that a call names, else of the newest; it may be a delete marker."""
    version = call.query.get("versionId")
    which = "is_latest = 1" if version is None else "version = ?"
    row: sqlite3.Row | None = tx.db.execute(
        f"SELECT * FROM objects WHERE bucket = ? AND key = ? AND {which}",  # noqa: S608
        (call.at.id, call.raw_key, *(() if version is None else (version,))),
    ).fetchone()
    return row


def need_object(call: S3Call, tx: Transaction) -> sqlite3.Row:
    """The row of the call's key or version.

    Without one 404 (403 to who may not list), which tells of a delete marker; 405 for a marker that is named.
    """
    row = find_version(call, tx)
    version = call.query.get("versionId")
    if row is None:
        raise call.missing_key() if version is None else call.missing_version(version)
    if row["is_marker"]:
        told = {"x-amz-delete-marker": "true", "x-amz-version-id": row["version"]}
        if version is not None:
            detail = {"Method": call.inbound.method, "ResourceType": "DeleteMarker"}
            raise S3Error("MethodNotAllowed", None, detail, {"Allow": "DELETE", **told})
        missing = call.missing_key()
        raise S3Error(missing.code, None, missing.details, told)
    return row


def check_version(call: S3Call) -> None:
    """Check that the version asked for has the form of one."""
    version = call.query.get("versionId")
    if version == "":
        raise invalid_argument("Version id cannot be the empty string", "versionId", "")
    if version is not None and not is_version(version):
        raise invalid_argument("Invalid version id specified", "versionId", version)


def is_version(text: str) -> bool:
    """Whether a text has the form of a version id."""
    return VERSION_ID.fullmatch(text) is not None


def iso_date(ms: int) -> str:
    """A time as `2009-10-12T17:50:30.000Z`, to the second as S3 keeps it."""
    return date_ms(ms - ms % 1000)


def to_token(raw: bytes, kind: str = "key") -> str:
    """An opaque continuation token of a list of such things, with a mark that tells it from made-up ones."""
    return base64.urlsafe_b64encode(_mark(raw, kind) + raw).decode()


def from_token(text: str, name: str, kind: str = "key") -> bytes:
    """The text in a continuation token; InvalidArgument for one that was never given."""
    try:
        found = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        found = b""
    mark, raw = found[:MARK_BYTES], found[MARK_BYTES:]
    if not raw or mark != _mark(raw, kind):
        raise invalid_argument(f"The {name.replace('-', ' ')} provided is incorrect", name, text)
    return raw


def _mark(raw: bytes, kind: str) -> bytes:
    return hashlib.blake2b(raw, digest_size=MARK_BYTES, person=kind.encode()).digest()
