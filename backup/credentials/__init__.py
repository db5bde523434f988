"""Temporary AWS keys for this machine: got with a certificate, renewed in time, on disk only where asked.

The names for other programs; each is imported when it is first used, so that importing this imports no boto3:

    source = RolesAnywhere(options, load=lambda: load_identity(files), clock=clock)
    session = boto3_session(source, "eu-central-1")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backup.credentials.boto import boto3_session
    from backup.credentials.identity import load_identity
    from backup.credentials.options import RolesAnywhereOptions
    from backup.credentials.places import IdentityFiles
    from backup.credentials.rolesanywhere import RolesAnywhere

__all__ = ["IdentityFiles", "RolesAnywhere", "RolesAnywhereOptions", "boto3_session", "load_identity"]

_HOMES = {
    "IdentityFiles": "places",
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
