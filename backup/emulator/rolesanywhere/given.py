"""The members that a request of the control plane gives, each checked as the service's own model does.

Source: botocore's model of IAM Roles Anywhere (2018-05-10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509

from backup.emulator.core.access.certificates import check_anchor
from backup.emulator.core.access.policy import parse_policy
from backup.emulator.core.errors import EmulatorError, ServiceError

from .session_request import invalid_parameter

NAME = re.compile(r"[ a-zA-Z0-9_-]{1,255}")
ROLE = re.compile(r"arn:aws(-[^:]+)?:iam::\d{12}:role(/|/[!-~]+/)[\w+=,.@-]+", re.ASCII)
TAG_LIMIT = 200
BUNDLE_LIMIT, CERTIFICATE_LIMIT = 204_800, 2
ROLE_LIMIT, POLICY_LIMIT = 250, 100_000
CRL_LIMIT, CRLS_OF_ANCHOR = 300_000, 2


def name(given: Mapping[str, Any]) -> str:
    """A required name; names need not be unique."""
    value = given.get("name")
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise invalid_parameter(
            "1 validation error detected: name must be 1 to 255 letters, digits, blanks, - or _."
        )
    return value


def flag(given: Mapping[str, Any], member: str, *, default: bool) -> bool:
    """True or false."""
    value = given.get(member)
    if value is not None and not isinstance(value, bool):
        raise invalid_parameter(f"{member} must be true or false.")
    return default if value is None else value


def tags(given: Sequence[Any] | None, before: Mapping[str, str] | None = None) -> dict[str, str]:
    """Tags by key, added to those that there are."""
    wanted = dict(before or {})
    for tag in given or []:
        if (
            not isinstance(tag, dict)
            or not isinstance(tag.get("key"), str)
            or not isinstance(tag.get("value"), str)
        ):
            raise invalid_parameter("A tag needs a key and a value.")
        if tag["key"].lower().startswith("aws:"):
            raise invalid_parameter("Tags that begin with aws: are reserved.")
        wanted[tag["key"]] = tag["value"]
    if len(wanted) > TAG_LIMIT:
        raise ServiceError("TooManyTagsException", f"A resource can have at most {TAG_LIMIT} tags.")
    return wanted


def source(given: Mapping[str, Any]) -> dict[str, Any]:
    """The source of a trust anchor: a bundle of CA certificates."""
    found = given.get("source")
    kind = found.get("sourceType") if isinstance(found, dict) else None
    data = found.get("sourceData") if isinstance(found, dict) else None
    if kind != "CERTIFICATE_BUNDLE" or not isinstance(data, dict):
        raise invalid_parameter("The emulator takes trust anchors of CERTIFICATE_BUNDLE alone.")
    pem = data.get("x509CertificateData")
    if not isinstance(pem, str) or not 1 <= len(pem) <= BUNDLE_LIMIT:
        raise invalid_parameter(f"x509CertificateData must be 1 to {BUNDLE_LIMIT} characters of PEM.")
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        for certificate in certificates:
            check_anchor(certificate, "x509CertificateData")
    except EmulatorError as error:
        raise invalid_parameter("Incorrect basic constraints for CA certificate") from error
    except ValueError as error:
        raise invalid_parameter("Invalid certificate data") from error
    if len(certificates) > CERTIFICATE_LIMIT:
        raise invalid_parameter(f"A trust anchor can have at most {CERTIFICATE_LIMIT} certificates.")
    return {"sourceType": kind, "sourceData": {"x509CertificateData": pem}}


def role_arns(given: Mapping[str, Any]) -> list[str]:
    """The roles of a profile; an empty list is taken."""
    arns = given.get("roleArns")
    if not isinstance(arns, list) or len(arns) > ROLE_LIMIT:
        raise invalid_parameter(f"roleArns must be a list of at most {ROLE_LIMIT} roles.")
    for arn in arns:
        if not isinstance(arn, str) or not ROLE.fullmatch(arn):
            raise invalid_parameter(f"{arn} is no ARN of a role.")
    return arns


def seconds(given: Mapping[str, Any]) -> int:
    """The duration of sessions."""
    value = given.get("durationSeconds", 3600)
    if isinstance(value, bool) or not isinstance(value, int) or not 900 <= value <= 43200:
        raise invalid_parameter("durationSeconds must be between 900 and 43200.")
    return value


def session_policy(given: Mapping[str, Any]) -> str | None:
    """The inline session policy of a profile."""
    text = given.get("sessionPolicy")
    if text is None or text == "":
        return None if text is None else ""
    if not isinstance(text, str) or len(text) > POLICY_LIMIT:
        raise invalid_parameter(f"sessionPolicy must be at most {POLICY_LIMIT} characters.")
    try:
        parse_policy(text, "sessionPolicy")
    except EmulatorError as error:
        raise invalid_parameter(f"Invalid session policy: {error}") from error
    return text


def refuse_unsupported(given: Mapping[str, Any], *members: str) -> None:
    """400 for members that would have an effect which the emulator does not have."""
    for member in members:
        if given.get(member):
            raise invalid_parameter(f"The emulator does not have {member}.")
