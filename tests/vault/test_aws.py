"""What AWS and boto3 say, in our words."""

from __future__ import annotations

from typing import Any

import boto3
import botocore.exceptions as boto
import botocore.parsers
import pytest

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
    UploadExpiredError,
    VaultError,
    VaultMissingError,
)
from backup.vault.aws import field, make_client, translated_errors


def spoken(error: Exception, **meanings: Any) -> NightvaultError:
    """What becomes of an error of boto3."""
    with pytest.raises(NightvaultError) as caught, translated_errors("do it", **meanings):
        raise error
    assert caught.value.__cause__ is error
    assert "do it" in str(caught.value)
    return caught.value


def answer(code: str, message: str = "words", status: int = 400) -> boto.ClientError:
    """An error answer of AWS."""
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return boto.ClientError(response, "Operation")


ARN = "arn:aws:glacier:eu-central-1:123456789012:vaults/x"
ANSWERS: list[tuple[str, str, type[NightvaultError], str]] = [
    ("AccessDeniedException", "User: x is not authorized", DeniedError, "policy"),
    ("ExpiredTokenException", "expired", DeniedError, "clock"),
    (
        "UnrecognizedClientException",
        "The security token included in the request is invalid.",
        DeniedError,
        "",
    ),
    ("InvalidSignatureException", "The request signature we calculated does not match", DeniedError, "role"),
    ("InvalidSignatureException", "Signature expired: 1 is now earlier than 2", DeniedError, "clock"),
    ("InvalidSignatureException", "Signature not yet current: 1 is still later", DeniedError, "clock"),
    (
        "InvalidSignatureException",
        "The value passed in as x-amz-content-sha256 does not match the computed payload hash. Computed",
        IntegrityError,
        "memory",
    ),
    ("MissingAuthenticationTokenException", "missing", DeniedError, ""),
    ("ThrottlingException", "Rate exceeded", ThrottledError, ""),
    ("ServiceUnavailableException", "internal", UnreachableError, ""),
    ("RequestTimeoutException", "Request timed out.", UnreachableError, "smaller parts"),
    ("InsufficientCapacityException", "none", CapacityError, "--tier standard"),
    ("PolicyEnforcedException", "denied by current data retrieval policy", CapacityError, "--tier bulk"),
    ("LimitExceededException", "too many", VaultError, "limit"),
    ("NoLongerSupportedException", "no", VaultError, "S3"),
    (
        "ResourceNotFoundException",
        f"Vault not found for ARN: {ARN}",
        VaultMissingError,
        "name, region and account",
    ),
    ("ResourceNotFoundException", "The archive ID was not found: a", ArchiveMissingError, "check"),
    ("ResourceNotFoundException", "The job ID was not found: a", RetrievalExpiredError, ""),
    (
        "ResourceNotFoundException",
        f"Inventory retrieval jobs for vault {ARN} cannot be initiated yet, as",
        VaultError,
        "a day",
    ),
    ("InvalidParameterValueException", "Checksum mismatch: expected a, computed b", IntegrityError, ""),
    ("InvalidParameterValueException", "Invalid x-amz-sha256-tree-hash: a", IntegrityError, ""),
    (
        "InvalidParameterValueException",
        "The job is not currently available for download: a",
        RetrievalNotReadyError,
        "",
    ),
    ("InvalidParameterValueException", "Invalid vault name: x", VaultError, ""),
    ("MissingParameterValueException", "no", VaultError, ""),
    ("BadRequest", "no", VaultError, ""),
    ("SomethingNew", "no", VaultError, ""),
]


@pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
@pytest.mark.parametrize(("code", "message", "expected", "advice"), ANSWERS)
def test_the_code_decides_and_never_the_status(
    code: str, message: str, expected: type[NightvaultError], advice: str, status: int
) -> None:
    error = spoken(answer(code, message, status))
    assert type(error) is expected
    assert advice in error.advice
    assert message in str(error)


def test_the_caller_says_what_was_not_found_and_what_was_refused() -> None:
    unknown = answer("ResourceNotFoundException", "The upload ID was not found: a")
    assert type(spoken(unknown, unknown=UploadExpiredError)) is UploadExpiredError
    missing = answer("ResourceNotFoundException", f"Vault not found for ARN: {ARN}")
    assert type(spoken(missing, unknown=UploadExpiredError)) is VaultMissingError
    refused = answer("InvalidParameterValueException", "The parts have a gap")
    assert type(spoken(refused, refused=IntegrityError)) is IntegrityError


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("502", 502, UnreachableError),
        ("504", 504, UnreachableError),
        ("500", 500, UnreachableError),
        ("", 500, UnreachableError),
        ("Unknown", 503, UnreachableError),
        ("408", 408, UnreachableError),
        ("429", 429, ThrottledError),
        ("404", 404, VaultError),
        ("", 400, VaultError),
    ],
)
def test_answers_of_proxies_have_only_a_status(
    code: str, status: int, expected: type[NightvaultError]
) -> None:
    assert type(spoken(answer(code, "", status))) is expected


CLIENT_ERRORS: list[tuple[Exception, type[NightvaultError]]] = [
    (boto.EndpointConnectionError(endpoint_url="u", error="e"), UnreachableError),
    (boto.ConnectTimeoutError(endpoint_url="u", error="e"), UnreachableError),
    (boto.ReadTimeoutError(endpoint_url="u", error="e"), UnreachableError),
    (boto.ConnectionClosedError(endpoint_url="u", error="e"), UnreachableError),
    (boto.ProxyConnectionError(proxy_url="u", error="e"), UnreachableError),
    (boto.HTTPClientError(error="e"), UnreachableError),
    (boto.ResponseStreamingError(error="e"), UnreachableError),
    (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), UnreachableError),
    (boto.SSLError(endpoint_url="u", error="EOF occurred"), UnreachableError),
    (boto.SSLError(endpoint_url="u", error="[SSL: CERTIFICATE_VERIFY_FAILED] expired"), VaultError),
    (botocore.parsers.ResponseParserError("not XML"), UnreachableError),
    (boto.NoCredentialsError(), IdentityError),
    (boto.PartialCredentialsError(provider="env", cred_var="x"), IdentityError),
    (boto.CredentialRetrievalError(provider="p", error_msg="e"), IdentityError),
    (boto.ParamValidationError(report="bad"), VaultError),
    (boto.NoRegionError(), VaultError),
]


@pytest.mark.parametrize(
    ("error", "expected"), CLIENT_ERRORS, ids=[type(error).__name__ for error, _ in CLIENT_ERRORS]
)
def test_failures_before_an_answer(error: Exception, expected: type[NightvaultError]) -> None:
    ours = spoken(error)
    assert type(ours) is expected
    assert ours.retryable == (expected is UnreachableError)
    assert ours.advice


def test_errors_of_ours_pass_unchanged() -> None:
    inner = IdentityError("the certificate has expired", advice="renew it")
    with pytest.raises(IdentityError) as caught, translated_errors("do it"):
        raise inner
    assert caught.value is inner


def test_errors_of_ours_are_found_inside_errors_of_botocore() -> None:
    inner = IdentityError("the certificate has expired")
    with pytest.raises(IdentityError) as caught, translated_errors("do it"):
        raise boto.HTTPClientError(error=inner)
    assert caught.value is inner
    wrapped = boto.CredentialRetrievalError(provider="p", error_msg="e")
    wrapped.__cause__ = inner
    with pytest.raises(IdentityError) as caught, translated_errors("do it"):
        raise wrapped
    assert caught.value is inner


def test_other_errors_are_left_alone() -> None:
    with pytest.raises(ZeroDivisionError), translated_errors("do it"):
        raise ZeroDivisionError


def test_an_answer_without_its_fields_is_not_from_aws() -> None:
    assert field({"jobId": "a"}, "jobId", "do it") == "a"
    with pytest.raises(UnreachableError) as caught:
        field({"message": "<html>please log in"}, "jobId", "do it")
    assert "prox" in caught.value.advice


def test_clients_try_once() -> None:
    client = make_client(boto3.Session("A", "B"), "glacier", region="eu-central-1", connections=7)
    config = client.meta.config
    assert config.retries["total_max_attempts"] == 1
    assert config.max_pool_connections == 7
    assert config.tcp_keepalive
    assert client.meta.endpoint_url == "https://glacier.eu-central-1.amazonaws.com"


def test_a_region_that_cannot_be_is_our_error() -> None:
    with pytest.raises(VaultError):
        make_client(boto3.Session("A", "B"), "glacier", region="no region/")
