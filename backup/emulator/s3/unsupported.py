"""S3's operations that the emulator does not have. Each is known, so that a request for it is authorised as
what it is and then refused: nothing falls through to the plain operation of its method.

Source: botocore's model of 2006-03-01, S3 API Reference.
"""

from __future__ import annotations

from .operation import Operation, ResourceLevel, not_here

VERSION = ("versionId",)


def _missing(name: str, method: str, on: ResourceLevel, flag: str, *options: str) -> Operation:
    return Operation(name, method, on, not_here, (flag,), options)


def _of_bucket(name: str, method: str, flag: str) -> Operation:
    return _missing(name, method, ResourceLevel.BUCKET, flag)


def _of_object(name: str, method: str, flag: str, *options: str) -> Operation:
    return _missing(name, method, ResourceLevel.OBJECT, flag, *options)


UNSUPPORTED = (
    _of_bucket("PutBucketCors", "PUT", "cors"),
    _of_bucket("PutBucketWebsite", "PUT", "website"),
    _of_bucket("PutBucketLogging", "PUT", "logging"),
    _of_bucket("PutBucketNotificationConfiguration", "PUT", "notification"),
    _of_bucket("PutBucketReplication", "PUT", "replication"),
    _of_bucket("PutBucketRequestPayment", "PUT", "requestPayment"),
    _of_bucket("PutBucketAccelerateConfiguration", "PUT", "accelerate"),
    _of_bucket("PutBucketAnalyticsConfiguration", "PUT", "analytics"),
    _of_bucket("DeleteBucketAnalyticsConfiguration", "DELETE", "analytics"),
    _of_bucket("PutBucketIntelligentTieringConfiguration", "PUT", "intelligent-tiering"),
    _of_bucket("DeleteBucketIntelligentTieringConfiguration", "DELETE", "intelligent-tiering"),
    _of_bucket("PutBucketInventoryConfiguration", "PUT", "inventory"),
    _of_bucket("DeleteBucketInventoryConfiguration", "DELETE", "inventory"),
    _of_bucket("PutBucketMetricsConfiguration", "PUT", "metrics"),
    _of_bucket("DeleteBucketMetricsConfiguration", "DELETE", "metrics"),
    _of_bucket("GetBucketAbac", "GET", "abac"),
    _of_bucket("PutBucketAbac", "PUT", "abac"),
    _of_bucket("CreateSession", "GET", "session"),
    _of_bucket("CreateBucketMetadataConfiguration", "POST", "metadataConfiguration"),
    _of_bucket("GetBucketMetadataConfiguration", "GET", "metadataConfiguration"),
    _of_bucket("DeleteBucketMetadataConfiguration", "DELETE", "metadataConfiguration"),
    _of_bucket("CreateBucketMetadataTableConfiguration", "POST", "metadataTable"),
    _of_bucket("GetBucketMetadataTableConfiguration", "GET", "metadataTable"),
    _of_bucket("DeleteBucketMetadataTableConfiguration", "DELETE", "metadataTable"),
    _of_bucket("UpdateBucketMetadataInventoryTableConfiguration", "PUT", "metadataInventoryTable"),
    _of_bucket("UpdateBucketMetadataJournalTableConfiguration", "PUT", "metadataJournalTable"),
    _of_bucket("UpdateBucketMetadataAnnotationTableConfiguration", "PUT", "metadataAnnotationTable"),
    _of_object("GetObjectTorrent", "GET", "torrent"),
    _of_object("SelectObjectContent", "POST", "select"),
    _of_object("RenameObject", "PUT", "renameObject"),
    _of_object("UpdateObjectEncryption", "PUT", "encryption", *VERSION),
    _of_object("GetObjectAnnotation", "GET", "annotation", *VERSION),
    _of_object("PutObjectAnnotation", "PUT", "annotation", *VERSION),
    _of_object("DeleteObjectAnnotation", "DELETE", "annotation", *VERSION),
)
