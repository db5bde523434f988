"""The two ways in which a center is told: by HTTPS, or by objects in the bucket of a vault; one seam."""

from __future__ import annotations

import base64
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from backup.app.base.vaults import Purpose, bucket_requests
from backup.config import Config, VaultSettings
from backup.errors import NightvaultError, UsageError
from backup.format.host_report import (
    BUCKET,
    CERTIFICATE,
    CHAIN,
    JOIN_PATH,
    PATH,
    REPORTS,
    SIGNATURE,
    begun_at,
    join_name,
    new_chain,
    report_name,
    signed_text,
    written_object,
)
from backup.notify.channel import AwayError, ConflictError, RefusedError
from backup.notify.channels.http import post
from backup.protocols import Clock

if TYPE_CHECKING:
    from cryptography import x509

    from backup.credentials.identity import KeyHolder
    from backup.vault.s3.reports import ReportObjects

MOST_OF_CHAIN = 24
"""So many reports a chain in a bucket has, within a day: who missed one sees all with the next chain."""
_CHAIN_LASTS = timedelta(days=1)
_ADVICE = "its log says why; docs/center.md names what it takes"


class TellingWay(Protocol):
    """A way to tell a center. `AwayError` or another `UnreachableError` if it is to be told later."""

    def new_chain(self) -> str:
        """Return an id for a chain."""
        ...

    def report(self, chain: str, number: int, body: bytes) -> None:
        """Tell a report, which counts once also when it is told again.

        `ConflictError` if another one of that number was told, or the chain has ended: a new one is to begin.
        `NightvaultError` if it is refused.
        """
        ...

    def join(self, body: bytes) -> None:
        """Show an invitation. `NightvaultError` if it is refused."""
        ...


def way_to(
    config: Config, holder: KeyHolder, address: str, clock: Clock, *, ca_file: str | None, seconds: float
) -> TellingWay:
    """Return the way to a center of that address. `UsageError`, `ConfigError`."""
    require_address(address)
    if not address.startswith(BUCKET):
        return ByHttp(holder, address, ca_file, seconds)
    from backup.vault.s3.reports import ReportObjects

    requests = bucket_requests(config, vault_with(config, address), Purpose.BACKUP, clock)
    return ByBucket(holder, address, ReportObjects(requests), clock)


def vault_with(config: Config, address: str) -> VaultSettings:
    """Return the settings of the vault in the bucket of that address. `UsageError` if the config has none."""
    for vault in config.vaults:
        if vault.kind == "s3" and f"{BUCKET}{vault.bucket}" == address:
            return vault
    raise UsageError(
        f"{address}: no vault of the config is in this bucket",
        advice="a center is told through the bucket of a vault that backups are stored in",
    )


def require_address(url: str) -> None:
    """Refuse what is no address of a center. `UsageError`."""
    parts = urlsplit(url)
    is_here = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "localhost", "::1"}
    is_known = parts.scheme == "https" or is_here or url.startswith(BUCKET)
    if not is_known or not parts.hostname or "@" in parts.netloc:
        raise UsageError(f"{url}: must be an address as in https://HOST or {BUCKET}BUCKET")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise UsageError(f"{url}: must be the center's address alone, without a path")


class ByHttp(Struct, frozen=True):
    """Requests by HTTPS, each of at most so many `seconds`."""

    holder: KeyHolder
    center: str
    ca_file: str | None
    seconds: float

    def new_chain(self) -> str:
        """Return a random id."""
        return os.urandom(16).hex()

    def report(self, chain: str, number: int, body: bytes) -> None:  # noqa: ARG002  the body says both
        """Post a report; the center's answer says whether it follows."""
        self._post(PATH, body)

    def join(self, body: bytes) -> None:
        """Post an invitation; the center's answer says whether it is taken."""
        self._post(JOIN_PATH, body)

    def _post(self, path: str, body: bytes) -> None:
        host = urlsplit(self.center).netloc
        headers = {"Content-Type": "application/json", "Host": host}
        headers |= signed_headers(self.holder, host, body, path)
        try:
            post(
                *(self.center + path, body),
                headers=headers,
                secrets=(),
                ca_file=self.ca_file,
                seconds=self.seconds,
            )
        except (ConflictError, AwayError):
            raise
        except RefusedError as error:
            raise NightvaultError(str(error), advice=_ADVICE) from error


class ByBucket(Struct, frozen=True):
    """Objects in the bucket of a vault, which the center reads later: it answers nothing.

    So each chain is short: it begins with all that there is to tell. An older image of this server, or a
    second one, is found by the object of another that has its number.
    """

    holder: KeyHolder
    center: str
    objects: ReportObjects
    clock: Clock

    def new_chain(self) -> str:
        """Return an id that begins with the time."""
        return new_chain(self.clock.now().timestamp(), os.urandom(12))

    def report(self, chain: str, number: int, body: bytes) -> None:
        """Put a report, unless it, or another of that number or a later one, is there."""
        name, before = report_name(chain, number, body), f"{REPORTS}{chain}/{number - 1:016}~"
        for line in self.objects.lines(self.objects.prefix, f"{REPORTS}{chain}/", before):
            if line.name == name:
                return
            raise ConflictError(f"{self.center}: another report of number {number} or later is there")
        age = self.clock.now().timestamp() - begun_at(chain)
        if number > 1 and (number > MOST_OF_CHAIN or not 0 <= age < _CHAIN_LASTS.total_seconds()):
            raise ConflictError(f"{self.center}: this chain has ended")
        self._put(name, body)

    def join(self, body: bytes) -> None:
        """Put an invitation, which the center reads later."""
        self._put(join_name(self.clock.now().timestamp(), body), body)

    def _put(self, name: str, body: bytes) -> None:
        headers = signed_headers(self.holder, self.center, body, f"/{self.objects.prefix}{name}")
        self.objects.put(name, written_object(headers, body))


def signed_headers(holder: KeyHolder, host: str, body: bytes, path: str) -> dict[str, str]:
    """Return certificate, those above it, and the signature of the certificate's key over a request."""
    headers = {
        CERTIFICATE: _coded(holder.certificate),
        SIGNATURE: base64.b64encode(holder.sign(signed_text(host, body, path))).decode(),
    }
    return headers | ({CHAIN: ",".join(map(_coded, holder.chain))} if holder.chain else {})


def _coded(certificate: x509.Certificate) -> str:
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
