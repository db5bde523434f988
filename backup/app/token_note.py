"""The dates of a certificate on a token, which `status` does not touch: remembered when it is used."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from backup.config import Config
from backup.files import write_durably

if TYPE_CHECKING:
    from backup.app.status_parts import CertificateStatus
    from backup.credentials.identity import Identity

_NAME = "token.json"


def note_token(config: Config, identity: Identity) -> None:
    """Remember the dates of a certificate that was loaded from a token, and of the chain above it."""
    from backup.credentials.pkcs11_uri import is_pkcs11

    if config.identity is None or not is_pkcs11(config.identity.certificate):
        return
    from backup.app.status_parts import CertificateStatus

    found = CertificateStatus.of(identity.certificate, identity.chain)
    if noted_token(config) == found:
        return
    with suppress(OSError):  # a full disk is told of by what else fails
        os.makedirs(os.path.dirname(_path(config)), mode=0o700, exist_ok=True)
        write_durably(_path(config), msgspec.json.encode((config.identity.certificate, found)))


def noted_token(config: Config) -> CertificateStatus | None:
    """The dates that are remembered; None if the certificate that the config names was never used."""
    from backup.app.status_parts import CertificateStatus

    with suppress(OSError, msgspec.MsgspecError), open(_path(config), "rb") as file:
        place, found = msgspec.json.decode(file.read(), type=tuple[str, CertificateStatus])
        if config.identity is not None and place == config.identity.certificate:
            return found
    return None


def _path(config: Config) -> str:
    return os.path.join(config.state_dir, "identity", _NAME)
