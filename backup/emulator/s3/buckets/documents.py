"""Settings of a bucket that are documents: policy, lifecycle, versioning, ownership, access block, tags.

Source: S3 API Reference. They are stored as they were sent; policy, lifecycle, versioning and access block
have an effect.
"""

from __future__ import annotations

from collections.abc import Mapping

from backup.emulator.core.access.policy import parse_policy
from backup.emulator.core.errors import EmulatorError
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.call import S3Call
from backup.emulator.s3.xml import DECLARATION, Node, document, parse

from .lifecycle_rules import check_lifecycle
from .public_access import KIND, ROOT, SETTINGS, block_of, is_public, read_block

POLICY_BYTES = 20 * 1024
MINIMUM_SIZE = "x-amz-transition-default-minimum-object-size"
DEFAULT_MINIMUM = "all_storage_classes_128K"
_ROOTS = {
    KIND: ROOT,
    "ownershipControls": "OwnershipControls",
    "tagging": "Tagging",
}
_DEFAULTS: dict[str, list[Node]] = {
    KIND: [(setting, True) for setting in SETTINGS],
    "ownershipControls": [("Rule", [("ObjectOwnership", "BucketOwnerEnforced")])],
}
_ABSENT = {
    KIND: "NoSuchPublicAccessBlockConfiguration",
    "ownershipControls": "OwnershipControlsNotFoundError",
    "tagging": "NoSuchTagSet",
}
_DELETED = ""


def read_document(tx: Transaction, bucket: int, kind: str) -> str | None:
    """A bucket's document of a kind."""
    row = tx.db.execute(
        "SELECT text FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind)
    ).fetchone()
    return None if row is None else str(row["text"])


def write_document(tx: Transaction, bucket: int, kind: str, text: str) -> None:
    """Store or replace a document."""
    tx.db.execute("INSERT OR REPLACE INTO bucket_documents VALUES (?, ?, ?)", (bucket, kind, text))


def remove_document(tx: Transaction, bucket: int, kind: str) -> None:
    """Delete a document, if there is one."""
    tx.db.execute("DELETE FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, kind))


def xml_answer(body: bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer of status 200 with XML."""
    return Answer(200, {"Content-Type": "application/xml", **(headers or {})}, body)


def put_policy(call: S3Call, tx: Transaction) -> Answer:
    """Replace the bucket's policy; MalformedPolicy for one that would not be evaluated, AccessDenied for a
    public one that the bucket's access block prevents."""
    if len(call.body) > POLICY_BYTES:
        raise S3Error("MalformedPolicy", "The policy is too large: 20 KB are allowed.")
    try:
        text = call.body.decode()
        policy = parse_policy(text, "Policy")
    except (UnicodeDecodeError, EmulatorError) as error:
        raise S3Error("MalformedPolicy", f"Policies must be valid JSON: {error}") from error
    for statement in policy.statements:
        if not statement.principals and not statement.aws_principals:
            raise S3Error("MalformedPolicy", "Missing required field Principal")
        if not statement.resources:
            raise S3Error("MalformedPolicy", "Missing required field Resource")
        wanted = (call.at.arn, f"{call.at.arn}/", f"{call.at.arn}*")
        for resource in statement.resources:
            if resource not in ("*", *wanted) and not resource.startswith(wanted[1]):
                raise S3Error("MalformedPolicy", "Policy has invalid resource", {"Detail": resource})
    if is_public(policy) and block_of(tx, call.at.id).policies:
        who = f"User: {call.caller} is not authorized to perform: s3:PutBucketPolicy on resource:"
        why = "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public"
        raise S3Error("AccessDenied", f'{who} "{call.at.arn}" {why} Access.')
    write_document(tx, call.at.id, "policy", text)
    return Answer(204)


def get_policy(call: S3Call, tx: Transaction) -> Answer:
    """The policy as it was sent."""
    text = read_document(tx, call.at.id, "policy")
    if text is None:
        raise S3Error("NoSuchBucketPolicy", None, {"BucketName": call.at.name})
    return Answer(200, {"Content-Type": "application/json"}, text.encode())


def delete_policy(call: S3Call, tx: Transaction) -> Answer:
    """Delete the policy."""
    remove_document(tx, call.at.id, "policy")
    return Answer(204)


def put_lifecycle(call: S3Call, tx: Transaction) -> Answer:
    """Replace the rules, after parsing them."""
    check_lifecycle(call.body)
    minimum = call.header(MINIMUM_SIZE) or DEFAULT_MINIMUM
    if minimum not in (DEFAULT_MINIMUM, "varies_by_storage_class"):
        raise S3Error("InvalidRequest", f"Invalid value for {MINIMUM_SIZE}.")
    write_document(tx, call.at.id, "lifecycle", call.body.decode("utf-8", "strict"))
    write_document(tx, call.at.id, "lifecycle minimum", minimum)
    return Answer(200, {MINIMUM_SIZE: minimum})


def get_lifecycle(call: S3Call, tx: Transaction) -> Answer:
    """The rules as they were sent."""
    text = read_document(tx, call.at.id, "lifecycle")
    if text is None:
        raise S3Error("NoSuchLifecycleConfiguration", None, {"BucketName": call.at.name})
    minimum = read_document(tx, call.at.id, "lifecycle minimum") or DEFAULT_MINIMUM
    return xml_answer(text.encode(), {MINIMUM_SIZE: minimum})


def delete_lifecycle(call: S3Call, tx: Transaction) -> Answer:
    """Delete the rules."""
    remove_document(tx, call.at.id, "lifecycle")
    return Answer(204)


def get_encryption(call: S3Call, tx: Transaction) -> Answer:
    """The encryption setting, SSE-S3 for every bucket: as it was set, or a new bucket's."""
    text = read_document(tx, call.at.id, "encryption")
    if text is not None:
        return _as_sent(text)
    rule: list[Node] = [
        ("ApplyServerSideEncryptionByDefault", [("SSEAlgorithm", "AES256")]),
        ("BucketKeyEnabled", False),
    ]
    return xml_answer(document("ServerSideEncryptionConfiguration", [("Rule", rule)]))


def put_encryption(call: S3Call, tx: Transaction) -> Answer:
    """Store the rule, if it asks for AES256, which is the case anyway."""
    rules = parse(call.body, "ServerSideEncryptionConfiguration").children("Rule")
    wanted = None if len(rules) != 1 else rules[0].child("ApplyServerSideEncryptionByDefault")
    if wanted is None:
        raise S3Error("MalformedXML")
    algorithm = wanted.required("SSEAlgorithm")
    if algorithm in ("aws:kms", "aws:kms:dsse"):
        raise S3Error("NotImplemented", "The emulator has no keys of KMS: AES256 is what it knows.")
    if algorithm != "AES256":
        raise S3Error("MalformedXML")
    if wanted.get("KMSMasterKeyID"):
        raise S3Error("InvalidArgument", "a KMSMasterKeyID is not applicable if the algorithm is AES256")
    write_document(tx, call.at.id, "encryption", call.body.decode("utf-8", "strict"))
    return Answer(200)


def delete_encryption(call: S3Call, tx: Transaction) -> Answer:
    """Return to the setting of a new bucket."""
    remove_document(tx, call.at.id, "encryption")
    return Answer(204)


def put_plain(call: S3Call, tx: Transaction) -> Answer:
    """Store a document: an access block, or one that has no effect here."""
    kind = _kind(call)
    parse(call.body, _ROOTS[kind])
    if kind == KIND:
        read_block(call.body)
    write_document(tx, call.at.id, kind, call.body.decode("utf-8", "strict"))
    return Answer(204 if kind == "tagging" else 200)


def get_plain(call: S3Call, tx: Transaction) -> Answer:
    """A document as it was stored, or the one of a new bucket."""
    kind = _kind(call)
    text = read_document(tx, call.at.id, kind)
    if text is None and kind in _DEFAULTS:
        return xml_answer(document(_ROOTS[kind], _DEFAULTS[kind]))
    if not text:
        raise S3Error(_ABSENT[kind], None, {"BucketName": call.at.name})
    return _as_sent(text)


def delete_plain(call: S3Call, tx: Transaction) -> Answer:
    """Delete such a document; the default does not return."""
    write_document(tx, call.at.id, _kind(call), _DELETED)
    return Answer(204)


def _kind(call: S3Call) -> str:
    return next(kind for kind in _ROOTS if kind in call.query)


def _as_sent(text: str) -> Answer:
    return xml_answer(text.encode() if text.startswith("<?xml") else (DECLARATION + text).encode())
