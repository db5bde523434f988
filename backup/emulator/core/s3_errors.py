"""S3's error answers: codes, statuses and texts as the service sends them. A new code is a line in each
table.

Source: S3 API Reference (ErrorResponses), texts seen from the real service.
"""

from __future__ import annotations

from collections.abc import Mapping

from .errors import ServiceError

STATUS_BY_CODE = {
    "AccessControlListNotSupported": 400,
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "AuthorizationQueryParametersError": 400,
    "BadDigest": 400,
    "BadRequest": 400,
    "BucketAlreadyExists": 409,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "ConditionalRequestConflict": 409,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "ExpiredToken": 400,
    "GlacierExpeditedRetrievalNotAvailable": 503,
    "IllegalLocationConstraintException": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketAclWithBlockPublicAccessError": 400,
    "InvalidBucketAclWithObjectOwnership": 400,
    "InvalidBucketName": 400,
    "InvalidBucketState": 409,
    "InvalidChunkSizeError": 403,
    "InvalidDigest": 400,
    "InvalidObjectState": 403,
    "InvalidPart": 400,
    "InvalidPartNumber": 416,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "InvalidStorageClass": 400,
    "InvalidTag": 400,
    "InvalidToken": 400,
    "InvalidURI": 400,
    "KeyTooLongError": 400,
    "MalformedPolicy": 400,
    "MalformedTrailerError": 400,
    "MalformedXML": 400,
    "MaxMessageLengthExceeded": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchBucketPolicy": 404,
    "NoSuchCORSConfiguration": 404,
    "NoSuchConfiguration": 404,
    "NoSuchKey": 404,
    "NoSuchLifecycleConfiguration": 404,
    "NoSuchObjectLockConfiguration": 404,
    "NoSuchPublicAccessBlockConfiguration": 404,
    "NoSuchTagSet": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "NoSuchWebsiteConfiguration": 404,
    "NotImplemented": 501,
    "ObjectLockConfigurationNotFoundError": 404,
    "ObjectNotInActiveTierError": 403,
    "OperationAborted": 409,
    "OwnershipControlsNotFoundError": 404,
    "PermanentRedirect": 301,
    "PreconditionFailed": 412,
    "ReplicationConfigurationNotFoundError": 404,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "RestoreAlreadyInProgress": 409,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "XAmzContentSHA256Mismatch": 400,
}

MESSAGE_BY_CODE = {
    "AccessControlListNotSupported": "The bucket does not allow ACLs",
    "AccessDenied": "Access Denied",
    "BucketAlreadyExists": "The requested bucket name is not available. The bucket namespace is shared by "
    "all users of the system. Please select a different name and try again.",
    "BucketAlreadyOwnedByYou": "Your previous request to create the named bucket succeeded and you already "
    "own it.",
    "BucketNotEmpty": "The bucket you tried to delete is not empty",
    "ConditionalRequestConflict": "The conditional request cannot succeed due to a conflicting operation "
    "against this resource.",
    "EntityTooLarge": "Your proposed upload exceeds the maximum allowed size",
    "EntityTooSmall": "Your proposed upload is smaller than the minimum allowed size",
    "ExpiredToken": "The provided token has expired.",
    "GlacierExpeditedRetrievalNotAvailable": "Glacier expedited retrievals are currently not available, "
    "please try again later",
    "IncompleteBody": "The request body terminated unexpectedly",
    "InternalError": "We encountered an internal error. Please try again.",
    "InvalidAccessKeyId": "The AWS Access Key Id you provided does not exist in our records.",
    "InvalidBucketAclWithBlockPublicAccessError": "Bucket cannot have public ACLs set with BlockPublicAccess "
    "enabled",
    "InvalidBucketAclWithObjectOwnership": "Bucket cannot have ACLs set with ObjectOwnership's "
    "BucketOwnerEnforced setting",
    "InvalidBucketName": "The specified bucket is not valid.",
    "InvalidDigest": "The Content-MD5 you specified was invalid.",
    "InvalidObjectState": "The operation is not valid for the object's storage class",
    "InvalidPart": "One or more of the specified parts could not be found.  The part may not have been "
    "uploaded, or the specified entity tag may not match the part's entity tag.",
    "InvalidPartNumber": "The requested partnumber is not satisfiable",
    "InvalidPartOrder": "The list of parts was not in ascending order. Parts must be ordered by part number.",
    "InvalidRange": "The requested range is not satisfiable",
    "InvalidStorageClass": "The storage class you specified is not valid",
    "InvalidToken": "The provided token is malformed or otherwise invalid.",
    "InvalidURI": "Couldn't parse the specified URI.",
    "KeyTooLongError": "Your key is too long",
    "MalformedTrailerError": "The request contained trailing data that was not well-formed or did not "
    "conform to our published schema.",
    "MalformedXML": "The XML you provided was not well-formed or did not validate against our published "
    "schema",
    "MaxMessageLengthExceeded": "Your request was too big.",
    "MetadataTooLarge": "Your metadata headers exceed the maximum allowed metadata size",
    "MethodNotAllowed": "The specified method is not allowed against this resource.",
    "MissingContentLength": "You must provide the Content-Length HTTP header.",
    "NoSuchBucket": "The specified bucket does not exist",
    "NoSuchBucketPolicy": "The bucket policy does not exist",
    "NoSuchCORSConfiguration": "The CORS configuration does not exist",
    "NoSuchConfiguration": "The specified configuration does not exist.",
    "NoSuchKey": "The specified key does not exist.",
    "NoSuchLifecycleConfiguration": "The lifecycle configuration does not exist",
    "NoSuchObjectLockConfiguration": "The specified object does not have a ObjectLock configuration",
    "NoSuchPublicAccessBlockConfiguration": "The public access block configuration was not found",
    "NoSuchTagSet": "The TagSet does not exist",
    "NoSuchUpload": "The specified upload does not exist. The upload ID may be invalid, or the upload may "
    "have been aborted or completed.",
    "NoSuchVersion": "The specified version does not exist.",
    "NoSuchWebsiteConfiguration": "The specified bucket does not have a website configuration",
    "NotImplemented": "A header you provided implies functionality that is not implemented",
    "ObjectLockConfigurationNotFoundError": "Object Lock configuration does not exist for this bucket",
    "ObjectNotInActiveTierError": "The source object of the COPY action is not in the active tier",
    "OperationAborted": "A conflicting conditional operation is currently in progress against this resource. "
    "Please try again.",
    "OwnershipControlsNotFoundError": "The bucket ownership controls were not found",
    "PermanentRedirect": "The bucket you are attempting to access must be addressed using the specified "
    "endpoint. Please send all future requests to this endpoint.",
    "PreconditionFailed": "At least one of the pre-conditions you specified did not hold",
    "ReplicationConfigurationNotFoundError": "The replication configuration was not found",
    "RequestTimeTooSkewed": "The difference between the request time and the current time is too large.",
    "RequestTimeout": "Your socket connection to the server was not read from or written to within the "
    "timeout period. Idle connections will be closed.",
    "RestoreAlreadyInProgress": "Object restore is already in progress",
    "ServiceUnavailable": "Service is unable to handle request.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided. "
    "Check your key and signing method.",
    "SlowDown": "Please reduce your request rate.",
    "XAmzContentSHA256Mismatch": "The provided 'x-amz-content-sha256' header does not match what was "
    "computed.",
}


class S3Error(ServiceError):
    """An error answer of S3; `details` are further elements of its XML, `headers` further headers."""

    def __init__(
        self,
        code: str,
        message: str | None = None,
        details: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, message or MESSAGE_BY_CODE.get(code, code), status=STATUS_BY_CODE[code])
        self.details = details or {}
        self.headers = headers or {}


def invalid_argument(message: str, name: str = "", value: str = "") -> S3Error:
    """The error 400 InvalidArgument."""
    return S3Error("InvalidArgument", message, {"ArgumentName": name, "ArgumentValue": value} if name else {})


def not_implemented(header: str) -> S3Error:
    """The error 501 NotImplemented, which S3 sends for an unknown header."""
    return S3Error("NotImplemented", None, {"Header": header})
