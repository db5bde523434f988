"""Temporary AWS keys for this machine, obtained with its certificate through IAM Roles Anywhere and renewed
in time.

The flow: `identity.py` loads the identity, a certificate and its private key, from one of the
`key_stores`: files, a PKCS#11 token or a TPM. `rolesanywhere.py`, a `CredentialSource`, has
`createsession.py` send one request, which `signer.py` signs, and renews the keys before they expire.
`boto.py` makes boto3 sessions that ask the source at every signature. `serving` passes the keys on to other
programs.

Invariants: a key on a token or in a TPM never leaves it, and no error or log holds a secret. Keys are written
to disk only where the user asked for it. boto3 is imported in `boto.py` alone. Begin reading with
`rolesanywhere.py`.

The names for other programs, each imported on first use, so that importing this package does not import
boto3:

    source = RolesAnywhere(options, load=lambda: load_identity(files), clock=clock)
    session = boto3_session(source, "eu-central-1")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.credentials.boto import boto3_session
    from backup.credentials.identity import load_identity
    from backup.credentials.identity_paths import IdentityFiles
    from backup.credentials.options import RolesAnywhereOptions
    from backup.credentials.rolesanywhere import RolesAnywhere

__all__ = ["IdentityFiles", "RolesAnywhere", "RolesAnywhereOptions", "boto3_session", "load_identity"]

_HOMES = {
    "IdentityFiles": "identity_paths",
    "RolesAnywhere": "rolesanywhere",
    "RolesAnywhereOptions": "options",
    "boto3_session": "boto",
    "load_identity": "identity",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
