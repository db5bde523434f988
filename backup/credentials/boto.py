"""The one file here that knows boto3: sessions fed by a CredentialSource, and boto3's own chain as one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

import boto3
import botocore.session
from botocore.credentials import Credentials as BotoCredentials
from botocore.credentials import DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, ProfileNotFound
from botocore.exceptions import ConnectionError as BotoConnectionError
from msgspec import Struct

from backup.errors import DeniedError, IdentityError, NightvaultError, UnreachableError
from backup.model import Credentials
from backup.protocols import CredentialSource


class FixedCredentials(Struct, frozen=True):
    """A `CredentialSource` that always returns the same keys."""

    given: Credentials

    def credentials(self) -> Credentials:
        """The keys that were given."""
        return self.given


__all__ = ["DefaultChain", "FixedCredentials", "boto3_session"]

ALWAYS = 10**12
"""Seconds before expiry from which botocore asks for newer keys; so large that it always asks and the source
decides."""

LAST_MINUTE = 60
"""Seconds before expiry from which a thread waits for another one's request instead of using the keys it
has."""

NEVER = "9999-12-31T23:59:59+00:00"
"""The expiry for keys that have none, since botocore requires one."""

NO_PROFILE = {"profile": (None, None, None, None)}
"""botocore's profile variable without its sources in config file and environment, so that no profile is
used."""

TALKATIVE_LOGGERS = ("botocore.auth", "botocore.endpoint", "botocore.parsers")
"""botocore's loggers that write the session token or whole answers at DEBUG."""


def boto3_session(source: CredentialSource, region: str) -> boto3.Session:
    """A boto3 session whose clients, in all threads, sign each request with the current keys of `source`.

    Stock botocore keys are renewed before every signature when they live for 900 s, and raise in their last
    ten minutes although they work. Here botocore asks `source` at each signature, which costs microseconds,
    and `source` decides. Errors of `source` come out of the client's call as they are. The user's
    AWS_PROFILE is ignored.
    """
    _silence_secrets()
    session = botocore.session.Session(session_vars=NO_PROFILE)
    session.register_component("credential_provider", _OnlyOurs(_feed(source)))
    return boto3.Session(botocore_session=session, region_name=region)


def _feed(source: CredentialSource) -> DeferredRefreshableCredentials:
    credentials = DeferredRefreshableCredentials(lambda: _metadata(source.credentials()), method="nightvault")
    credentials._advisory_refresh_timeout = ALWAYS  # noqa: SLF001 - the class takes no arguments for its windows
    credentials._mandatory_refresh_timeout = LAST_MINUTE  # noqa: SLF001
    return credentials


def _metadata(credentials: Credentials) -> Mapping[str, str | None]:
    return {
        "access_key": credentials.access_key_id,
        "secret_key": credentials.secret_access_key,
        "token": credentials.session_token,
        "expiry_time": NEVER if credentials.expires_at is None else credentials.expires_at.isoformat(),
    }


class _OnlyOurs(Struct, frozen=True):
    """A replacement for a botocore session's credential chain: the same credentials for every client."""

    credentials: DeferredRefreshableCredentials

    def load_credentials(self) -> DeferredRefreshableCredentials:
        return self.credentials


def _silence_secrets() -> None:
    for name in TALKATIVE_LOGGERS:
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            logger.setLevel(logging.INFO)
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)  # its warnings are traces of our errors


class DefaultChain:
    """boto3's own chain (environment, profile, instance role, …) as a `CredentialSource`."""

    def __init__(self, profile: str | None = None, *, is_own: bool = False) -> None:
        """Prepare; nothing is looked up yet. `profile` names a profile of the AWS config files.

        `is_own`: a person's own keys are wanted, and [identity] would be of no use.
        """
        _silence_secrets()
        self._profile = profile
        self._is_own = is_own
        self._lock = threading.Lock()
        self._found: BotoCredentials | None = None

    def credentials(self) -> Credentials:
        """The keys that the chain finds; botocore renews them. `IdentityError` when there are none."""
        try:
            with self._lock:
                if self._found is None:
                    self._found = boto3.Session(profile_name=self._profile).get_credentials()
            found = None if self._found is None else self._found.get_frozen_credentials()
        except (BotoCoreError, ClientError) as error:
            raise _chain_error(error) from error
        if found is None and self._is_own:
            raise IdentityError(
                "there are no AWS credentials: this goes with your own keys, and boto3's chain finds none",
                advice="set AWS_PROFILE, or AWS_ACCESS_KEY_ID; no role of the config may do it",
            )
        if found is None:
            raise IdentityError(
                "there are no AWS credentials: no [identity] in the config, and boto3's own chain finds none",
                advice="set [identity] and [roles_anywhere], or AWS_PROFILE, or AWS_ACCESS_KEY_ID",
            )
        return Credentials(found.access_key, found.secret_key, found.token)


def _chain_error(error: Exception) -> NightvaultError:
    if isinstance(error, HTTPClientError | BotoConnectionError):
        return UnreachableError(f"boto3's credential chain gets no answer: {error}")
    if isinstance(error, ClientError):
        return DeniedError(f"AWS refused boto3's credential chain: {error}")
    advice = "check AWS_PROFILE and the AWS config files" if isinstance(error, ProfileNotFound) else ""
    return IdentityError(f"boto3's credential chain fails: {error}", advice=advice)
