"""AWS's failures in our words, and clients that leave every retry to their callers.

Branch on the code of an error, never on its status: AWS's documents and models contradict each other on
those (InsufficientCapacityException is 503 in one, 400 in the other; ThrottlingException is 400).
Codes: Amazon Glacier developer guide, "Error Responses"; texts: as clients have met them on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.exceptions as boto
import botocore.parsers

from backup.answers_in_time import in_time
from backup.errors import (
    ArchiveMissingError,
    CapacityError,
    DeniedError,
    IdentityError,
    IntegrityError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    ThrottledError,
    UnreachableError,
    VaultError,
    VaultMissingError,
)
from backup.vault import s3_error_codes

# If awscrt is installed, botocore signs with it; it does not know our bodies and would hash each part again.
botocore.auth.AUTH_TYPE_MAPS.update(v4=botocore.auth.SigV4Auth, s3v4=botocore.auth.S3SigV4Auth)

for _pool in (botocore.awsrequest.AWSHTTPConnectionPool, botocore.awsrequest.AWSHTTPSConnectionPool):
    _pool.ConnectionCls = in_time(_pool.ConnectionCls)

CONNECT_TIMEOUT = 10
READ_TIMEOUT = 180
"""Seconds for each read; Complete answers only when the service has put all parts together."""

_WRONG_CLOCK = "set this machine's clock: AWS refuses requests signed more than 5 minutes off (S3: 15)"
WRONG_KEYS = (
    "check the role, the profile and the trust anchor; `nightvault identity show` checks the certificate;"
    " without [identity] check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)
NOT_AWS = "something that is not AWS answered: check proxies, name resolution and the vault's endpoint"
_NO_PERMISSION = (
    "compare the role's policy with `nightvault aws policy`; without permission AWS does not even say"
    " whether the vault exists, so check its name, region and account, too"
)

_NO_REASON = (
    "S3 gives no reason here: compare the role's policy with `nightvault aws policy`, and look at the"
    " bucket's name, account and own policy, and at this machine's clock"
)
_DENIED_BY_BUCKET = (
    "the bucket's own policy forbids it: compare it with `nightvault aws policy --only bucket`; it may want"
    " another storage_class, or https"
)

_DENIED = {
    "AccessDeniedException": _NO_PERMISSION,
    "AccessDenied": _NO_PERMISSION,
    "ExpiredTokenException": "the temporary keys ran out: run this again, and check this machine's clock",
    "ExpiredToken": "the temporary keys ran out: run this again, and check this machine's clock",
    "UnrecognizedClientException": WRONG_KEYS,
    "InvalidClientTokenId": WRONG_KEYS,
    "InvalidSignatureException": WRONG_KEYS,
    "SignatureDoesNotMatch": WRONG_KEYS,
    "IncompleteSignature": WRONG_KEYS,
    "MissingAuthenticationTokenException": WRONG_KEYS,
    "OptInRequired": "switch the region on in the account's settings",
    "RequestExpired": _WRONG_CLOCK,
    "RequestTimeTooSkewed": _WRONG_CLOCK,
    "403": _NO_REASON,  # all that S3 says to a HEAD
    "InvalidAccessKeyId": WRONG_KEYS,
    "InvalidToken": WRONG_KEYS,
    "AllAccessDisabled": "the account is locked: look into its mail",
    "AccountProblem": "the account is locked: look into its mail",
    "NotSignedUp": "the account has no S3 yet: finish its registration",
}

_THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestLimitExceeded",
    "TooManyRequestsException",
    "SlowDown",
    "503 SlowDown",
    "ReducedRequestRate",
    "429",
}

_AWAY = {
    "ServiceUnavailableException": "",
    "ServiceUnavailable": "",
    "InternalFailure": "",
    "InternalError": "",
    "InternalServerError": "",
    "InternalServerException": "",
    "OperationAborted": "",
    "BadGateway": "",
    "RequestTimeoutException": "the line is slow: if this goes on, use smaller parts",
    "RequestTimeout": "the line is slow: if this goes on, use smaller parts",
    "408": "the line is slow: if this goes on, use smaller parts",
}

_REFUSED = {
    "NoLongerSupportedException": (
        "this account cannot use Glacier vaults: AWS takes no new customers for them;"
        " use an S3 bucket with a Glacier storage class"
    ),
    "LimitExceededException": "a limit of the AWS account is reached: remove what is not needed, or raise it",
}

_SHORT = {
    "InsufficientCapacityException": "expedited retrievals are sold out just now: use --tier standard",
    "PolicyEnforcedException": (
        "the account's data retrieval policy forbids it: use --tier bulk, wait an hour, or change that policy"
    ),
}

_MISSING: tuple[tuple[str, type[VaultError], str], ...] = (
    (
        "vault not found",
        VaultMissingError,
        "check the vault's name, region and account",
    ),
    (
        "the archive id was not found",
        ArchiveMissingError,
        "`nightvault check` compares the vault with the inventory",
    ),
    ("the job id was not found", RetrievalExpiredError, ""),
    (
        "inventory retrieval jobs",
        VaultError,
        "AWS makes a vault's first listing about a day after its first archive",
    ),
)
"""The meanings of ResourceNotFoundException, by the beginning of its text."""


@contextmanager
def translated_errors(
    doing: str,
    *,
    unknown: type[VaultError] = VaultError,
    refused: type[NightvaultError] = VaultError,
    meaning: Mapping[str, type[NightvaultError]] | None = None,
) -> Iterator[None]:
    """Turn what boto3 raises within into our errors; `doing` completes "cannot …".

    `unknown` is the error for an answer that something does not exist, unless AWS's text says what; `refused`
    the error for a rejected value; `meaning` has the errors for certain codes. Errors of ours (from a
    CredentialSource) pass unchanged.
    """
    try:
        yield
    except NightvaultError:
        raise
    except boto.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code") or "")
        if meaning and code in meaning:
            raise meaning[code](f"cannot {doing}: {code}") from error
        raise _from_answer(error, doing, unknown, refused) from error
    except boto.BotoCoreError as error:
        raise _ours_within(error) or _from_client(error, doing) from error
    except botocore.parsers.ResponseParserError as error:
        raise UnreachableError(f"cannot {doing}: {error}", advice=NOT_AWS) from error


def error_for(answer: Mapping[str, Any], doing: str) -> NightvaultError:
    """Our error for the code and message that an answer gives for one of several items."""
    return _from_answer(boto.ClientError({"Error": dict(answer)}, ""), doing, VaultError, VaultError)


def denial_in(error: BaseException | None) -> str | None:
    """The text with which AWS denied access; None for any other refusal (keys, signatures, clocks)."""
    told = (getattr(error, "response", None) or {}).get("Error", {})
    is_denial = told.get("Code") in {"AccessDenied", "AccessDeniedException"}
    text = str(told.get("Message") or "")
    return text if is_denial and not _is_skewed(text) else None


def vault_time(answer: Mapping[str, Any]) -> datetime | None:
    """The service's time when it gave this answer (`Date`); None without a date that can be read."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(headers["date"]).astimezone(UTC)
    except (KeyError, TypeError, ValueError):
        return None


def told_at(error: BaseException | None) -> datetime | None:
    """The service's time when it answered with this error; None if the answer has no date."""
    return vault_time(getattr(error, "response", None) or {})


def _from_answer(
    error: boto.ClientError, doing: str, unknown: type[VaultError], refused: type[NightvaultError]
) -> NightvaultError:
    """Our error for an error answer of AWS."""
    answer = error.response.get("Error", {})
    code, text = str(answer.get("Code") or ""), str(answer.get("Message") or "")
    text = text.partition("\n")[0]  # a wrong signature is explained over twenty lines
    message = f"cannot {doing}: {text or 'no reason given'} ({code or 'no code'})"
    if code == "ResourceNotFoundException":
        return _missing(text, message, unknown)
    if code in {"InvalidParameterValueException", "InvalidSignatureException"} and _is_hash_mismatch(text):
        advice = "the bytes changed on their way, or in this machine's memory or disk"
        return IntegrityError(message, advice=advice)
    if code in _DENIED:
        return DeniedError(message, advice=_advice_on_denial(code, text))
    if code in _THROTTLED:
        return ThrottledError(message)
    if code in _AWAY:
        return UnreachableError(message, advice=_AWAY[code])
    if code in _SHORT:
        return CapacityError(message, advice=_SHORT[code])
    if code in _REFUSED:
        return VaultError(message, advice=_REFUSED[code])
    if (of_s3 := s3_error_codes.error_of(code, message, unknown, refused)) is not None:
        return of_s3
    if code == "InvalidParameterValueException":
        not_ready = text.lower().startswith("the job is not currently available for download")
        return RetrievalNotReadyError(message) if not_ready else refused(message)
    return _without_code(error, message)


def _advice_on_denial(code: str, text: str) -> str:
    if _is_skewed(text):
        return _WRONG_CLOCK
    by_bucket = code == "AccessDenied" and is_forbidden_by_vault(text)
    return _DENIED_BY_BUCKET if by_bucket else _DENIED[code]


def is_forbidden_by_vault(text: str) -> bool:
    """Whether AWS's text of a denial names the vault's or bucket's own policy, not a missing permission."""
    return "resource-based policy" in text and "explicit deny" in text


def _is_skewed(text: str) -> bool:
    return text.lower().startswith(("signature expired", "signature not yet current", "request has expired"))


def _missing(text: str, message: str, unknown: type[VaultError]) -> NightvaultError:
    for beginning, kind, advice in _MISSING:
        if text.lower().startswith(beginning):
            return kind(message, advice=advice)
    return unknown(message)


def _is_hash_mismatch(text: str) -> bool:
    signs = (
        "checksum mismatch",
        "invalid x-amz-sha256-tree-hash",
        "does not match the computed payload hash",
    )
    return any(sign in text.lower() for sign in signs)


def _without_code(error: boto.ClientError, message: str) -> NightvaultError:
    """Our error for an answer without a code of AWS, from a proxy or load balancer; only its status is
    known."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = str(error.response.get("Error", {}).get("Code") or "")
    if status >= 500 and (code.isdecimal() or not code or code == "Unknown"):
        return UnreachableError(message)
    return VaultError(message)


def _ours_within(error: BaseException | None) -> NightvaultError | None:
    """The error of ours that botocore has wrapped in one of its own; None if there is none."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, NightvaultError):
            return error
        carried = getattr(error, "kwargs", {}).get("error")
        error = carried if isinstance(carried, BaseException) else error.__cause__ or error.__context__
        seen += 1
    return None


def _from_client(error: boto.BotoCoreError, doing: str) -> NightvaultError:
    """Our error for a failure of botocore itself: before there was an answer, or while it was read."""
    message = f"cannot {doing}: {error}"
    if isinstance(error, boto.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        advice = "check this machine's clock and CA certificates, and whether something stands in between"
        return VaultError(message, advice=advice)
    if isinstance(
        error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)
    ):
        return IdentityError(message, advice=WRONG_KEYS)
    away = (
        boto.HTTPClientError,
        boto.ConnectionError,
        boto.IncompleteReadError,
    )
    if isinstance(error, away):
        return UnreachableError(message, advice="check the network, name resolution and any proxy")
    return VaultError(message, advice="check the vault's name, region and endpoint in config.toml")


def field(answer: Mapping[str, Any], name: str, doing: str) -> Any:
    """A field that every answer of AWS has; `VaultError` without it, as when a network's login page
    answers."""
    if name not in answer:
        raise UnreachableError(f"cannot {doing}: the answer has no {name}", advice=NOT_AWS)
    return answer[name]


def make_client(
    session: boto3.Session,
    service: str,
    *,
    region: str,
    endpoint: str | None = None,
    connections: int = 10,
    **options: Any,
) -> Any:
    """A thread-safe boto3 client that tries everything once: callers retry, with the Clock's sleep.

    `connections` is how many threads may use it without making each other open new connections; `options`
    are further ones of botocore's Config.
    """
    config = botocore.config.Config(
        region_name=region,
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=connections,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": 1},
        user_agent_extra="nightvault",
        **options,
    )
    with translated_errors(f"set up {service} in {region}"):
        return session.client(service, region_name=region, endpoint_url=endpoint, config=config)


def make_s3_client(
    session: boto3.Session,
    *,
    region: str,
    endpoint: str | None = None,
    path_style: bool = False,
    connections: int = 40,
    **options: Any,
) -> Any:
    """A client of S3, or of a service like it, that computes no checksum unless S3 demands one.

    `path_style` puts the bucket into the path: for services whose names have no `BUCKET.HOST`.
    """
    return make_client(
        session,
        "s3",
        region=region,
        endpoint=endpoint,
        connections=connections,
        signature_version="s3v4",
        s3={"addressing_style": "path" if path_style else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        **options,
    )
