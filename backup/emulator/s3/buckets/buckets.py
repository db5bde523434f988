"""Buckets: created, found, listed, located and deleted.

Source: S3 API Reference (CreateBucket, HeadBucket, ListBuckets, GetBucketLocation, DeleteBucket).
"""

from __future__ import annotations

import re

from backup.emulator.core.s3_errors import S3Error, invalid_argument
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.call import Bucket, S3Call, find_bucket, from_token, iso_date, to_token
from backup.emulator.s3.removing import remove_upload
from backup.emulator.s3.xml import DECLARATION, NAMESPACE, Node, document, parse

from .documents import write_document, xml_answer
from .object_lock import EMPTY, KIND

HOME = "us-east-1"
REGION_HEADER = "x-amz-bucket-region"
_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)(?!xn--)(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
RESERVED = (
    ("sthree-", "amzn-s3-demo-"),
    ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"),
)
"""Beginnings and ends of no bucket's name (S3 User Guide, bucketnamingrules); `xn--` and `-an` aside."""

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d{1,2}")


def create_bucket(call: S3Call, tx: Transaction) -> Answer:
    """Create a bucket in the region of the signature, or in any if that is us-east-1."""
    name = call.bucket_name
    if not _NAME.fullmatch(name) or name.startswith(RESERVED[0]) or name.endswith(RESERVED[1]):
        raise S3Error("InvalidBucketName", None, {"BucketName": name})
    region = _wanted_region(call)
    _check_namespace(call, region)
    ownership = _wanted_ownership(call)
    found = find_bucket(tx, name)
    if found is not None and found.account_id != call.account:
        raise S3Error("BucketAlreadyExists", None, {"BucketName": name})
    if found is not None and (found.region != HOME or region != HOME):
        raise S3Error("BucketAlreadyOwnedByYou", None, {"BucketName": name})
    if found is None:
        tx.db.execute(
            "INSERT INTO buckets (name, account_id, region, created_ms) VALUES (?, ?, ?, ?)",
            (name, call.account, region, tx.now_ms),
        )
        made = find_bucket(tx, name)
        if made is not None and ownership is not None:
            rule: list[Node] = [("Rule", [("ObjectOwnership", ownership)])]
            write_document(tx, made.id, "ownershipControls", document("OwnershipControls", rule).decode())
        if made is not None and wants_lock(call):
            write_document(tx, made.id, "versioning", "Enabled")
            write_document(tx, made.id, KIND, EMPTY)
        if made is not None and (tags := _wanted_tags(call)):
            write_document(tx, made.id, "tagging", document("Tagging", [("TagSet", tags)]).decode())
    return Answer(200, {"Location": f"/{name}"})


def has_tags(call: S3Call) -> bool:
    """Whether a new bucket is to have tags."""
    return bool(_wanted_tags(call))


def wants_lock(call: S3Call) -> bool:
    """Whether a new bucket is to have Object Lock."""
    return (call.header("x-amz-bucket-object-lock-enabled") or "").lower() == "true"


def _check_namespace(call: S3Call, region: str) -> None:
    """A name that ends in -an belongs to one account and region, and is made only in that namespace."""
    namespace = call.header("x-amz-bucket-namespace") or "global"
    if namespace not in ("global", "account-regional"):
        raise invalid_argument("Invalid namespace", "x-amz-bucket-namespace", namespace)
    reserved = call.bucket_name.endswith(f"-{call.account}-{region}-an")
    if (namespace == "account-regional") != reserved or (call.bucket_name.endswith("-an") and not reserved):
        raise S3Error("InvalidBucketName", None, {"BucketName": call.bucket_name})


def _wanted_tags(call: S3Call) -> list[Node]:
    """The tags of a new bucket."""
    if not call.body:
        return []
    tags = parse(call.body, "CreateBucketConfiguration").child("Tags")
    found = [] if tags is None else tags.children("Tag")
    return [("Tag", [("Key", tag.get("Key")), ("Value", tag.get("Value"))]) for tag in found]


def _wanted_ownership(call: S3Call) -> str | None:
    """The requested ownership; an S3Error for an ACL that grants anybody else a right."""
    ownership = call.header("x-amz-object-ownership")
    if ownership not in (None, "BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"):
        raise invalid_argument(
            "Invalid x-amz-object-ownership header", "x-amz-object-ownership", ownership or ""
        )
    if call.names_an_acl(("private",)):
        if ownership in (None, "BucketOwnerEnforced"):
            raise S3Error("InvalidBucketAclWithObjectOwnership")
        raise S3Error("InvalidBucketAclWithBlockPublicAccessError")
    return ownership


def _wanted_region(call: S3Call) -> str:
    wanted = None
    if call.body:
        wanted = parse(call.body, "CreateBucketConfiguration").get("LocationConstraint") or None
    wanted = "eu-west-1" if wanted == "EU" else wanted
    if wanted is None and call.region != HOME:
        raise S3Error(
            "IllegalLocationConstraintException",
            "The unspecified location constraint is incompatible for the region specific endpoint this "
            "request was sent to.",
        )
    if wanted is not None and call.region not in (HOME, wanted):
        raise S3Error(
            "IllegalLocationConstraintException",
            f"The {wanted} location constraint is incompatible for the region specific endpoint this request "
            "was sent to.",
        )
    if wanted is not None and not _REGION.fullmatch(wanted):
        raise S3Error("InvalidRequest", "The specified location-constraint is not valid")
    return wanted or HOME


def head_bucket(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """Status 200, with the region in a header."""
    return Answer(200, {REGION_HEADER: call.at.region, "x-amz-access-point-alias": "false"})


def get_location(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """The region of a bucket; us-east-1 is written as an empty element."""
    region = "" if call.at.region == HOME else call.at.region
    body = f'{DECLARATION}<LocationConstraint xmlns="{NAMESPACE}">{region}</LocationConstraint>'
    return xml_answer(body.encode())


def list_buckets(call: S3Call, tx: Transaction) -> Answer:
    """The caller's own buckets by name."""
    prefix = call.query.get("prefix", "")
    limit = call.number("max-buckets", 10_000, low=1, high=10_000)
    region, token = call.query.get("bucket-region", ""), call.query.get("continuation-token")
    after = "" if not token else from_token(token, "continuation-token", "bucket").decode()
    rows = tx.db.execute(
        "SELECT name, region, created_ms FROM buckets WHERE account_id = ? AND substr(name, 1, ?) = ? "
        "AND (? = '' OR region = ?) AND name > ? ORDER BY name LIMIT ?",
        (call.account, len(prefix), prefix, *(region, region), after, limit + 1),
    ).fetchall()
    shown = rows[:limit]
    buckets = [
        (
            "Bucket",
            [
                ("Name", row["name"]),
                ("CreationDate", iso_date(row["created_ms"])),
                ("BucketRegion", row["region"]),
            ],
        )
        for row in shown
    ]
    following = to_token(shown[-1]["name"].encode(), "bucket") if len(rows) > limit else None
    return xml_answer(
        document(
            "ListAllMyBucketsResult",
            [
                ("Owner", [("ID", owner_id(call.account))]),
                ("Buckets", buckets),
                ("ContinuationToken", following),
                ("Prefix", prefix or None),
            ],
        )
    )


def delete_bucket(call: S3Call, tx: Transaction) -> Answer:
    """Delete a bucket without any version or marker, with its open uploads."""
    found = tx.db.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (call.at.id,)).fetchone()
    if found is not None:
        raise S3Error("BucketNotEmpty", None, {"BucketName": call.at.name})
    for row in tx.db.execute("SELECT id FROM object_uploads WHERE bucket = ?", (call.at.id,)).fetchall():
        remove_upload(tx, row["id"])
    tx.db.execute("DELETE FROM bucket_documents WHERE bucket = ?", (call.at.id,))
    tx.db.execute("DELETE FROM buckets WHERE id = ?", (call.at.id,))
    return Answer(204)


def owner_id(account: str) -> str:
    """A canonical user id of 64 hex digits that belongs to an account."""
    return account.rjust(64, "0")


def check_region(call: S3Call, bucket: Bucket, host_region: str | None) -> None:
    """Refuse a request for a bucket in another region, naming that region."""
    headers = {REGION_HEADER: bucket.region}
    if host_region is not None and host_region != bucket.region:
        endpoint = f"{bucket.name}.s3.{bucket.region}.amazonaws.com"
        details = {"Endpoint": endpoint, "Bucket": bucket.name}
        raise S3Error("PermanentRedirect", None, details, headers)
    anywhere = call.operation == "GetBucketLocation" and call.region == HOME
    if call.region != bucket.region and not anywhere:
        raise S3Error(
            "AuthorizationHeaderMalformed",
            f"The authorization header is malformed; the region '{call.region}' is wrong; expecting "
            f"'{bucket.region}'",
            {"Region": bucket.region},
            headers,
        )
