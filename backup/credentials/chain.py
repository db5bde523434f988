"""Does a certificate's chain lead to an authority? Judged here, as IAM Roles Anywhere would; pure."""

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

from backup.credentials.identity import MOST_CHAIN_CERTIFICATES, KeyHolder


def chain_problem(signer: KeyHolder, authorities: Sequence[x509.Certificate], now: datetime) -> str | None:
    """Why no path leads from the identity's certificate to an authority at `now`; None if one does.

    By RFC 5280, with what Roles Anywhere asks of an authority (basic constraints, key usage). Revocation is
    AWS's to judge. An authority with an ML-DSA key cannot be judged here.
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
        verifier.verify(signer.certificate, list(signer.chain))
    except (VerificationError, UnsupportedAlgorithm, ValueError) as error:
        return str(error).partition(" (encountered processing")[0].removeprefix("validation failed: ")
    return None
