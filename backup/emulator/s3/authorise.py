"""Whether a caller may make an S3 call: its role's policy and the bucket's policy together.

Source: IAM User Guide (policy evaluation logic), S3's actions and condition keys (Service Authorization
Reference). Static keys count as their account's root: they may do everything that no bucket denies, and may
read and change a bucket's policy even if it denies that.
"""

from __future__ import annotations

from backup.emulator.core.access.accounts import Accounts
from backup.emulator.core.access.callers import Caller
from backup.emulator.core.access.conditions import Context
from backup.emulator.core.access.evaluate import AccessRequest
from backup.emulator.core.access.identities import common_context, refusal
from backup.emulator.core.access.policy import Policy
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.s3.buckets.buckets import has_tags
from backup.emulator.s3.buckets.object_lock import LOCKING, lock_context
from backup.emulator.s3.buckets.public_access import block_of, is_public, parsed
from backup.emulator.s3.uploads.copying import source_call

from .actions import actions_of
from .call import S3Call

POLICY_OPERATIONS = ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy")
_CREATING = ("PutObject", "CopyObject", "CompleteMultipartUpload", "CreateMultipartUpload", "UploadPart")
_FROM_HEADERS = {
    "s3:x-amz-storage-class": "x-amz-storage-class",
    "s3:x-amz-acl": "x-amz-acl",
    "s3:x-amz-server-side-encryption": "x-amz-server-side-encryption",
    "s3:x-amz-content-sha256": "x-amz-content-sha256",
    "s3:x-amz-copy-source": "x-amz-copy-source",
    "s3:x-amz-bucket-namespace": "x-amz-bucket-namespace",
    "s3:if-none-match": "if-none-match",
    "s3:if-match": "if-match",
}
_FROM_QUERY = {
    "s3:prefix": "prefix",
    "s3:delimiter": "delimiter",
    "s3:max-keys": "max-keys",
    "s3:VersionId": "versionId",
}


def authorise(call: S3Call, caller: Caller, accounts: Accounts, tx: Transaction) -> None:
    """Raise 403 AccessDenied if the call is not allowed; DeleteObjects is authorised key by key."""
    if call.operation == "DeleteObjects":
        return
    for needed in (call, *_sources(call, tx)):
        for action in actions_of(needed):
            refusal = judge(needed, caller, accounts, tx, action, needed.key)
            if refusal is not None:
                raise S3Error("AccessDenied", refusal)


def authorise_body(call: S3Call, caller: Caller, accounts: Accounts, tx: Transaction) -> None:
    """Raise 403 for what only the body asks for, once it is checked: locks, and tags of a new bucket."""
    if call.operation in LOCKING:
        authorise(call, caller, accounts, tx)
    if call.operation == "CreateBucket" and has_tags(call):
        refusal = judge(call, caller, accounts, tx, "s3:TagResource", "")
        if refusal is not None:
            raise S3Error("AccessDenied", refusal)


def _sources(call: S3Call, tx: Transaction) -> list[S3Call]:
    """The reads that a copy needs, as calls to authorise."""
    source = source_call(call, tx) if call.operation in ("CopyObject", "UploadPartCopy") else None
    return [] if source is None else [source]


def judge(
    call: S3Call, caller: Caller, accounts: Accounts, tx: Transaction, action: str, key: str
) -> str | None:
    """The reason to refuse an action on the key (empty: on the bucket); None if it is allowed."""
    bucket = call.bucket
    policy = None if bucket is None or bucket.policy is None else parsed(bucket.policy)
    owner = caller.account_id if bucket is None else bucket.account_id
    if policy is not None and owner != caller.account_id and _keeps_out_others(call, tx, policy):
        return "Access Denied"  # S3 gives no reasons to callers of other accounts
    harmless = policy is None or call.operation in POLICY_OPERATIONS
    if caller.is_root and owner == caller.account_id and harmless:
        return None  # a root, whom nothing denies this
    resource = "*" if action == "s3:ListAllMyBuckets" else f"arn:aws:s3:::{call.bucket_name}"
    resource = f"{resource}/{key}" if key else resource
    asked = AccessRequest(action, resource, owner, _context(call, caller, tx))
    return refusal(asked, caller, accounts, tx, of_resource=() if policy is None else (policy,))


def _keeps_out_others(call: S3Call, tx: Transaction, policy: Policy) -> bool:
    """Whether the bucket's policy is public, and its access block lets in nobody of another account then."""
    return is_public(policy) and block_of(tx, call.at.id).access


def _context(call: S3Call, caller: Caller, tx: Transaction) -> Context:
    """The condition keys of a call; parts and Complete have the class with which their upload was begun."""
    context = {
        **common_context(caller, call.inbound, tx, secure=call.secure),
        "s3:signatureversion": "AWS4-HMAC-SHA256",
        "s3:authType": "REST-QUERY-STRING" if call.header("authorization") is None else "REST-HEADER",
    }
    if call.bucket is not None:
        context["s3:ResourceAccount"] = context["aws:ResourceAccount"] = call.bucket.account_id
    if call.operation in _CREATING:
        creating = call.operation not in ("CreateMultipartUpload", "UploadPart")
        context["s3:ObjectCreationOperation"] = "true" if creating else "false"
    context |= lock_context(call, tx)
    for key, header in _FROM_HEADERS.items():
        value = call.header(header)
        if value is not None:
            context[key] = value
    for key, name in _FROM_QUERY.items():
        if name in call.query:
            context[key] = call.query[name]
    if call.operation in ("UploadPart", "UploadPartCopy", "CompleteMultipartUpload"):
        row = tx.db.execute(
            "SELECT class FROM object_uploads WHERE upload_id = ?", (call.query.get("uploadId", ""),)
        ).fetchone()
        if row is not None:
            context["s3:x-amz-storage-class"] = row["class"]
    return context
