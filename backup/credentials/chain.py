"""Validation of a certificate's chain to an authority, by the rules of IAM Roles Anywhere; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)

MOST_CHAIN_CERTIFICATES = 5
"""The maximum number of certificates in the chain header (AWS: "Authentication")."""


def chain_problem(
    certificate: x509.Certificate,
    chain: Sequence[x509.Certificate],
    authorities: Sequence[x509.Certificate],
    now: datetime,
) -> str | None:
    """The reason why no path leads from the certificate to an authority at `now`; None if there is a path.

    Rules: RFC 5280, and those of Roles Anywhere on an authority (basic constraints, key usage). Revocation is
    not checked here, only by AWS. A path to an authority with an ML-DSA key cannot be validated here.
    """
    authority = (
        ExtensionPolicy.permit_all()
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
        .require_present(x509.KeyUsage, Criticality.AGNOSTIC, None)
    )
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(now)
        .max_chain_depth(MOST_CHAIN_CERTIFICATES)
        .extension_policies(ca_policy=authority, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(certificate, list(chain))
    except (VerificationError, UnsupportedAlgorithm, ValueError) as error:
        return str(error).partition(" (encountered processing")[0].removeprefix("validation failed: ")
    return None
