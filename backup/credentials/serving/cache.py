"""A cache of credentials on disk, for `nightvault credential-process`, which is a new process for each use.

1. A file belongs to one identity (by its certificate), one role, and one set of all other parameters.
2. It is created with mode 0600 in a directory of mode 0700, atomically.
3. A file that others own or may read is ignored.
4. It is used until the keys are due for renewal, never longer. Then one process fetches new keys, and the
   others wait for it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from backup.credentials.identity_paths import first_certificate
from backup.credentials.options import RolesAnywhereOptions
from backup.files import file_lock, write_durably

if TYPE_CHECKING:  # a hit needs none
    from backup.model import Credentials
    from backup.protocols import Clock, CredentialSource

log = logging.getLogger(__name__)


class CachedKeys(NamedTuple):
    """The content of a cache file: keys, the moment of their renewal, and the end of their certificate."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    renew_at: datetime
    certificate_ends: datetime

    def __repr__(self) -> str:
        return "CachedKeys(…)"

    def encode(self) -> bytes:
        """The values as JSON."""
        return json.dumps(self._asdict(), default=datetime.isoformat).encode()

    @classmethod
    def decode(cls, data: bytes) -> CachedKeys:
        """Parse JSON; `ValueError`, `TypeError` or `KeyError` for anything else."""
        document = json.loads(data)
        key_id, secret, token, *times = (document[name] for name in cls._fields)
        if not all(isinstance(text, str) for text in (key_id, secret, token)):
            raise TypeError("a key is a text")
        return cls(key_id, secret, token, *map(datetime.fromisoformat, times))


def default_directory(environment: Mapping[str, str]) -> str:
    """The directory `nightvault/credentials` below the user's cache directory (XDG)."""
    base = environment.get("XDG_CACHE_HOME") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return os.path.join(base, "nightvault", "credentials")


def cache_name(fingerprint: bytes, options: RolesAnywhereOptions) -> str:
    """A file name derived from everything that the keys depend on; `fingerprint` is the certificate's
    SHA-256."""
    asked = (
        fingerprint.hex(),
        options.trust_anchor_arn,
        options.profile_arn,
        options.role_arn,
        options.base_url,
        options.session_duration,
        options.role_session_name,
    )
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest() + ".json"


def cached_keys(
    directory: str, certificate: str, options: RolesAnywhereOptions, *, now: datetime, unless: timedelta
) -> CachedKeys | None:
    """Cached keys for a PEM file's certificate, read without the slow import of `cryptography`.

    None if there are no fresh ones, or if the certificate expires within `unless`, so that a warning is due.
    """
    der = first_certificate(certificate)
    if der is None:
        return None
    path = os.path.join(directory, cache_name(hashlib.sha256(der).digest(), options))
    kept = _fresh(path, now)
    return None if kept is None or kept.certificate_ends - now <= unless else kept


def _fresh(path: str, now: datetime) -> CachedKeys | None:
    data = _read_own(path)
    if data is None:
        return None
    try:
        kept = CachedKeys.decode(data)
        return kept if now < min(kept.renew_at, kept.expires_at, kept.certificate_ends) else None
    except (ValueError, TypeError, KeyError):  # cut, changed, or a time without a zone
        return None


def _keys(kept: CachedKeys) -> Credentials:
    from backup.model import Credentials

    return Credentials(kept.access_key_id, kept.secret_access_key, kept.session_token, kept.expires_at)


class CachedCredentials:
    """A `CredentialSource` that asks `source` only when the file has no fresh keys."""

    def __init__(
        self,
        source: CredentialSource,
        path: str,
        options: RolesAnywhereOptions,
        clock: Clock,
        certificate_ends: datetime,
    ) -> None:
        self._source = source
        self._path = path
        self._options = options
        self._clock = clock
        self._certificate_ends = certificate_ends

    def credentials(self) -> Credentials:
        """The keys in the file, or new ones; a disk that cannot be written only means that nothing is
        cached."""
        kept = self._read()
        if kept is not None:
            return kept
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with file_lock(f"{self._path}.lock", wait=True):
                return self._read() or self._fetch()
        except OSError as error:
            log.warning("credentials are not cached: %s: %s", self._path, error.strerror)
            return self._source.credentials()

    def _read(self) -> Credentials | None:
        kept = _fresh(self._path, self._clock.now())
        return None if kept is None else _keys(kept)

    def _fetch(self) -> Credentials:
        from backup.credentials.rolesanywhere import renewal_margin  # with urllib3, which a hit can spare

        credentials = self._source.credentials()
        if credentials.expires_at is not None and credentials.session_token is not None:
            life = credentials.expires_at - self._clock.now()
            kept = CachedKeys(
                credentials.access_key_id,
                credentials.secret_access_key,
                credentials.session_token,
                credentials.expires_at,
                credentials.expires_at - renewal_margin(life, self._options.renew_before),
                self._certificate_ends,
            )
            with suppress(OSError):  # a full disk: the keys are good all the same
                write_durably(self._path, kept.encode())
        return credentials


def _read_own(path: str) -> bytes | None:
    """The bytes of a file that belongs to us and that nobody else may read; None otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        return file.read(1 << 16) if private and stat.S_ISREG(status.st_mode) else None
