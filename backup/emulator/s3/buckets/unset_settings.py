"""Answers on a bucket's settings that were never made: empty documents, and 404s with a code for each.

Source: S3 API Reference (GetBucketCors, GetBucketLogging and their like).
"""

from __future__ import annotations

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer
from backup.emulator.s3.call import S3Call
from backup.emulator.s3.xml import Node, document

from .documents import xml_answer
from .public_access import is_public, parsed

_ABSENT = {
    "GetBucketCors": "NoSuchCORSConfiguration",
    "GetBucketWebsite": "NoSuchWebsiteConfiguration",
    "GetBucketReplication": "ReplicationConfigurationNotFoundError",
    "GetBucketAnalyticsConfiguration": "NoSuchConfiguration",
    "GetBucketIntelligentTieringConfiguration": "NoSuchConfiguration",
    "GetBucketInventoryConfiguration": "NoSuchConfiguration",
    "GetBucketMetricsConfiguration": "NoSuchConfiguration",
}
_EMPTY: dict[str, tuple[str, list[Node]]] = {
    "GetBucketLogging": ("BucketLoggingStatus", []),
    "GetBucketNotificationConfiguration": ("NotificationConfiguration", []),
    "GetBucketAccelerateConfiguration": ("AccelerateConfiguration", []),
    "GetBucketRequestPayment": ("RequestPaymentConfiguration", [("Payer", "BucketOwner")]),
}
_LISTS = {
    "GetBucketAnalyticsConfiguration": "ListBucketAnalyticsConfigurationsResult",
    "GetBucketIntelligentTieringConfiguration": "ListBucketIntelligentTieringConfigurationsResult",
    "GetBucketInventoryConfiguration": "ListInventoryConfigurationsResult",
    "GetBucketMetricsConfiguration": "ListMetricsConfigurationsResult",
}


def get_absent(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """Raise 404 with the code of the setting."""
    raise S3Error(_ABSENT[call.operation], None, {"BucketName": call.at.name})


def get_empty(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """The setting's document with nothing in it but its default."""
    return xml_answer(document(*_EMPTY[call.operation]))


def get_configuration(call: S3Call, tx: Transaction) -> Answer:
    """Raise 404 for the configuration of an id; an empty list without an id."""
    if "id" in call.query:
        return get_absent(call, tx)
    return xml_answer(document(_LISTS[call.operation], [("IsTruncated", False)]))


def delete_absent(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """Do nothing, with status 204: the setting does not exist."""
    return Answer(204)


def get_policy_status(call: S3Call, tx: Transaction) -> Answer:  # noqa: ARG001
    """Whether the bucket's policy lets in anybody, as S3 judges it."""
    if call.at.policy is None:
        raise S3Error("NoSuchBucketPolicy", None, {"BucketName": call.at.name})
    return xml_answer(document("PolicyStatus", [("IsPublic", is_public(parsed(call.at.policy)))]))
