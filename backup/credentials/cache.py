"""Credentials on disk, for a program that is started anew for each use: `nightvault credential-process`.

1. A file belongs to one identity (by its certificate), role, and everything else that is asked for.
2. It is made with mode 0600, below a directory of 0700, and written whole or not at all.
3. One that others may read or own is not believed.
4. It is used until the keys are due for renewal, never later. Then one process fetches, the others wait for
   it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from backup.credentials.options import RolesAnywhereOptions
from backup.model import Credentials
from backup.protocols import Clock, CredentialSource

log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, frozen=True):
    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    renew_at: datetime

    def __repr__(self) -> str:
        return "_Kept(…)"


def default_directory(environment: Mapping[str, str]) -> str:
    """`nightvault/credentials` below the user's cache directory (XDG)."""
    base = environment.get("XDG_CACHE_HOME") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return os.path.join(base, "nightvault", "credentials")


def cache_name(certificate: x509.Certificate, options: RolesAnywhereOptions) -> str:
    """The file's name, by everything that the keys depend on."""
    asked = (
        certificate.fingerprint(hashes.SHA256()).hex(),
        options.trust_anchor_arn,
        options.profile_arn,
        options.role_arn,
        options.base_url,
        options.session_duration,
        options.role_session_name,
    )
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest() + ".json"


class CachedCredentials:
    """A `CredentialSource` that asks `source` only when the file has no keys that are fresh enough."""

    def __init__(
        self, source: CredentialSource, path: str, options: RolesAnywhereOptions, clock: Clock
    ) -> None:
        self._source = source
        self._path = path
        self._options = options
        self._clock = clock

    def credentials(self) -> Credentials:
        """The keys of the file, else new ones; a disk that cannot be written costs the cache alone."""
        kept = self._read()
        if kept is not None:
            return kept
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with _locked(f"{self._path}.lock"):
                return self._read() or self._fetch()
        except OSError as error:
            log.warning("credentials are not cached: %s: %s", self._path, error.strerror)
            return self._source.credentials()

    def _read(self) -> Credentials | None:
        data = _read_own(self._path)
        try:
            kept = None if data is None else msgspec.json.decode(data, type=_Kept)
            fresh = kept is not None and self._clock.now() < min(kept.renew_at, kept.expires_at)
        except (ValueError, TypeError):  # cut, changed, or a time without a zone
            return None
        if kept is None or not fresh:
            return None
        return Credentials(kept.access_key_id, kept.secret_access_key, kept.session_token, kept.expires_at)

    def _fetch(self) -> Credentials:
        from backup.credentials.rolesanywhere import renewal_margin  # with urllib3, which a hit can spare

        credentials = self._source.credentials()
        if credentials.expires_at is not None and credentials.session_token is not None:
            life = credentials.expires_at - self._clock.now()
            kept = _Kept(
                credentials.access_key_id,
                credentials.secret_access_key,
                credentials.session_token,
                credentials.expires_at,
                credentials.expires_at - renewal_margin(life, self._options.renew_before),
            )
            with suppress(OSError):  # a full disk: the keys are good all the same
                write_private(self._path, msgspec.json.encode(kept))
        return credentials


def write_private(path: str, data: bytes) -> None:
    """Put `data` into the file `path` with mode 0600, whole or not at all."""
    descriptor, half = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))  # mkstemp makes 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(half)
        raise


def _read_own(path: str) -> bytes | None:
    """The bytes of a file that is ours and nobody else's; None otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        return file.read(1 << 16) if private and stat.S_ISREG(status.st_mode) else None


@contextmanager
def _locked(path: str) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
