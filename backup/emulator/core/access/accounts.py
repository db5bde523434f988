"""The emulator's accounts: static keys, trust anchors, profiles and roles, as frozen values."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509
from msgspec import Struct

from .policy import Policy


class AccessKey(Struct, frozen=True):
    """An access key in the accounts file; temporary if it has a `session_token`; `expires_at_ms` is real
    time. It is the root's, or that of the IAM user `user`, who may do what `policy` allows."""

    account_id: str
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    expires_at_ms: int | None = None
    user: str | None = None
    policy: Policy | None = None


class TrustAnchor(Struct, frozen=True):
    """A trust anchor: its CA certificates (at most 2) and CRLs (at most 2)."""

    account_id: str
    arn: str
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]
    enabled: bool
    lenient: bool = False  # take wrong algorithm labels and unsigned chains, as the real service does


class Profile(Struct, frozen=True):
    """A profile: the roles that may be assumed, and for how many seconds."""

    account_id: str
    arn: str
    role_arns: tuple[str, ...]
    duration_seconds: int
    accept_role_session_name: bool
    enabled: bool
    mappings: tuple[tuple[str, str], ...] | None = None  # (field, specifier); None: the default rules
    ignores_unmappable: bool = False
    session_policy: str | None = None


class Role(Struct, frozen=True):
    """A role: who may assume it, for how many seconds at most, and what it may do (None: everything).

    `assumable_ms`: from when on it can be assumed, by the emulator's clock.
    """

    account_id: str
    arn: str
    max_session_duration: int
    trust_policy: Policy
    policy: Policy | None
    assumable_ms: int = 0


class Account(Struct, frozen=True):
    """An account and everything in it."""

    account_id: str
    keys: tuple[AccessKey, ...]
    trust_anchors: tuple[TrustAnchor, ...]
    profiles: tuple[Profile, ...]
    roles: tuple[Role, ...]


class Accounts(Struct, frozen=True):
    """All accounts in the file; each lookup returns None if there is no match."""

    accounts: tuple[Account, ...]

    def key(self, access_key_id: str) -> AccessKey | None:
        """A static or temporary key written in the accounts file."""
        return next((key for key in self._keys() if key.access_key_id == access_key_id), None)

    def _keys(self) -> Iterator[AccessKey]:
        return (key for account in self.accounts for key in account.keys)

    def trust_anchor(self, arn: str) -> TrustAnchor | None:
        """A trust anchor by ARN."""
        return next(
            (anchor for account in self.accounts for anchor in account.trust_anchors if anchor.arn == arn),
            None,
        )

    def profile(self, arn: str) -> Profile | None:
        """A profile by ARN."""
        return next(
            (profile for account in self.accounts for profile in account.profiles if profile.arn == arn), None
        )

    def role(self, arn: str) -> Role | None:
        """A role by ARN."""
        return next((role for account in self.accounts for role in account.roles if role.arn == arn), None)
