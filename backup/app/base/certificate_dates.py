"""The dates of this server's certificate; those of one on a token are saved, as `status` does not read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from backup.config import Config
from backup.files import write_durably

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

_NAME = "token.json"


class CertificateStatus(Struct, frozen=True):
    """This server's certificate, or why it cannot be read.

    `issuer` is the certificate of the chain above it that ends first, and `issuer_ends` is when.
    """

    not_before: datetime | None
    not_after: datetime | None
    unreadable: str | None = None
    serial: int = 0
    issuer: str | None = None
    issuer_ends: datetime | None = None

    @classmethod
    def of(cls, found: Certificate, above: Sequence[Certificate]) -> CertificateStatus:
        """Return the status of a certificate and of the chain that is sent with it."""
        from backup.credentials.certificate import first_to_end, name_text

        first = first_to_end(above)
        return cls(
            found.not_valid_before_utc,
            found.not_valid_after_utc,
            serial=found.serial_number,
            issuer=None if first is None else name_text(first.subject),
            issuer_ends=None if first is None else first.not_valid_after_utc,
        )


def note_token(config: Config, loaded: Certificate, above: Sequence[Certificate]) -> None:
    """Save the dates of a certificate that was loaded from a token, and of its chain."""
    from backup.credentials.pkcs11_uri import is_pkcs11

    if config.identity is None or not is_pkcs11(config.identity.certificate):
        return
    found = CertificateStatus.of(loaded, above)
    if noted_token(config) == found:
        return
    with suppress(OSError):  # a full disk is told of by what else fails
        os.makedirs(os.path.dirname(_path(config)), mode=0o700, exist_ok=True)
        write_durably(_path(config), msgspec.json.encode((config.identity.certificate, found)))


def noted_token(config: Config) -> CertificateStatus | None:
    """Return the saved dates; None if the certificate that the config names was never used."""
    with suppress(OSError, msgspec.MsgspecError), open(_path(config), "rb") as file:
        place, found = msgspec.json.decode(file.read(), type=tuple[str, CertificateStatus])
        if config.identity is not None and place == config.identity.certificate:
            return found
    return None


def _path(config: Config) -> str:
    return os.path.join(config.state_dir, "identity", _NAME)
