"""Credentials on disk, for a program that is started anew for each use: `nightvault credential-process`.

1. A file belongs to one identity (by its certificate), role, and everything else that is asked for.
2. It is made with mode 0600, below a directory of 0700, and written whole or not at all.
3. One that others may read or own is not believed.
4. It is used until the keys are due for renewal, never later. Then one process fetches, the others wait for
   it.
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

from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.places import first_certificate
from backup.files import file_lock, write_durably

if TYPE_CHECKING:  # a hit needs none
    from backup.model import Credentials
    from backup.protocols import Clock, CredentialSource

log = logging.getLogger(__name__)


class Kept(NamedTuple):
    """Keys as they stand in a file, until when they are used, and the end of their certificate."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_at: datetime
    renew_at: datetime
    certificate_ends: datetime

    def __repr__(self) -> str:
        return "Kept(…)"

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps(self._asdict(), default=datetime.isoformat).encode()

    @classmethod
    def decode(cls, data: bytes) -> Kept:
        """From JSON; `ValueError`, `TypeError` or `KeyError` for anything else."""
        document = json.loads(data)
        key_id, secret, token, *times = (document[name] for name in cls._fields)
        if not all(isinstance(text, str) for text in (key_id, secret, token)):
            raise TypeError("a key is a text")
        return cls(key_id, secret, token, *map(datetime.fromisoformat, times))


def default_directory(environment: Mapping[str, str]) -> str:
    """`nightvault/credentials` below the user's cache directory (XDG)."""
    base = environment.get("XDG_CACHE_HOME") or os.path.join(
        environment.get("HOME") or os.path.expanduser("~"), ".cache"
    )
    return os.path.join(base, "nightvault", "credentials")


def cache_name(fingerprint: bytes, options: RolesAnywhereOptions) -> str:
    """The file's name, by everything that the keys depend on; `fingerprint` is SHA-256 of the certificate."""
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


def keys_at_hand(
    directory: str, certificate: str, options: RolesAnywhereOptions, *, now: datetime, unless: timedelta
) -> Kept | None:
    """Fresh keys of a PEM file's certificate, without the time it takes to load what understands one.

    None if there are none, or if the certificate ends within `unless`, so that something must be said of it.
    """
    der = first_certificate(certificate)
    if der is None:
        return None
    path = os.path.join(directory, cache_name(hashlib.sha256(der).digest(), options))
    kept = _fresh(path, now)
    return None if kept is None or kept.certificate_ends - now <= unless else kept


def _fresh(path: str, now: datetime) -> Kept | None:
    data = _read_own(path)
    if data is None:
        return None
    try:
        kept = Kept.decode(data)
        return kept if now < min(kept.renew_at, kept.expires_at, kept.certificate_ends) else None
    except (ValueError, TypeError, KeyError):  # cut, changed, or a time without a zone
        return None


def _keys(kept: Kept) -> Credentials:
    from backup.model import Credentials

    return Credentials(kept.access_key_id, kept.secret_access_key, kept.session_token, kept.expires_at)


class CachedCredentials:
    """A `CredentialSource` that asks `source` only when the file has no keys that are fresh enough."""

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
        """The keys of the file, else new ones; a disk that cannot be written costs the cache alone."""
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
            kept = Kept(
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
    """The bytes of a file that is ours and nobody else's; None otherwise."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
        return file.read(1 << 16) if private and stat.S_ISREG(status.st_mode) else None
