"""The parameters of CreateSession besides the identity, validated once, before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import SplitResult, urlsplit

from backup.credentials.arns import default_endpoint, parse_role_arn, parse_roles_anywhere_arn
from backup.errors import ConfigError

_HOST = re.compile(r"[A-Za-z0-9._\-]+|\[[0-9A-Fa-f:.]+\]")

SHORTEST_SESSION = 900
LONGEST_SESSION = 43200
"""Seconds; AWS: CreateSession, durationSeconds."""


@dataclass(frozen=True, slots=True)
class RolesAnywhereOptions:
    """Role, service endpoint and duration of a session; a mistake is a `ConfigError` that names its key.

    `region` and `endpoint` follow from the trust anchor's ARN unless given. `session_duration` and the
    timeouts are in seconds. `renew_before` is the remaining lifetime at which keys are renewed; by default a
    quarter of their lifetime, at least five minutes. It is never more than half of the lifetime.
    """

    trust_anchor_arn: str
    profile_arn: str
    role_arn: str
    region: str | None = None
    endpoint: str | None = None
    session_duration: int = 3600
    role_session_name: str | None = None
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    renew_before: timedelta | None = None

    def __post_init__(self) -> None:
        anchor = parse_roles_anywhere_arn(
            self.trust_anchor_arn, "roles_anywhere.trust_anchor_arn", "trust-anchor"
        )
        profile = parse_roles_anywhere_arn(self.profile_arn, "roles_anywhere.profile_arn", "profile")
        parse_role_arn(self.role_arn, "role_arn")
        if anchor.region != profile.region:
            raise ConfigError(
                f"roles_anywhere.profile_arn: it is in {profile.region}, the trust anchor in {anchor.region}",
                advice="both must be in the same region",
            )
        if self.region not in {None, anchor.region}:
            raise ConfigError(
                f"roles_anywhere.region: {self.region!r} is not the trust anchor's region {anchor.region}",
                advice="leave it out, or name the anchor's region",
            )
        if not SHORTEST_SESSION <= self.session_duration <= LONGEST_SESSION:
            raise ConfigError(
                f"roles_anywhere.session_duration: {self.session_duration} s is not between "
                f"{SHORTEST_SESSION} and {LONGEST_SESSION} s"
            )
        _check_endpoint(self.base_url)

    @property
    def signing_region(self) -> str:
        """The region of the trust anchor, which is the region in the signature's scope."""
        return parse_roles_anywhere_arn(
            self.trust_anchor_arn, "roles_anywhere.trust_anchor_arn", "trust-anchor"
        ).region

    @property
    def base_url(self) -> str:
        """Scheme, host and port of the service, without a slash at the end."""
        if self.endpoint is not None:
            return self.endpoint.rstrip("/")
        anchor = parse_roles_anywhere_arn(
            self.trust_anchor_arn, "roles_anywhere.trust_anchor_arn", "trust-anchor"
        )
        return default_endpoint(anchor.partition, anchor.region)

    @property
    def host(self) -> str:
        """The Host header: the host that is contacted, with its port unless that is the scheme's own."""
        url = urlsplit(self.base_url)
        usual = {"https": 443, "http": 80}.get(url.scheme)
        return url.netloc.lower() if url.port not in {None, usual} else _host(url)


def _host(url: SplitResult) -> str:
    """The host of a URL, an IPv6 address in its brackets."""
    name = url.hostname or ""
    return f"[{name}]" if ":" in name else name


def _check_endpoint(text: str) -> None:
    url = _parse(text)
    if (
        url.scheme not in {"http", "https"}
        or not _HOST.fullmatch(_host(url))
        or "@" in url.netloc
        or url.path
        or url.query
        or url.fragment
    ):
        raise ConfigError(
            f"roles_anywhere.endpoint: {text!r} cannot be used",
            advice="it looks like https://HOST or https://HOST:PORT",
        )
    if url.scheme == "http" and not is_loopback(_host(url)):
        raise ConfigError(
            f"roles_anywhere.endpoint: {text!r} would send credentials over the network unencrypted",
            advice="use https; http is for an emulator on this machine (127.0.0.1, localhost) alone",
        )


def _parse(text: str) -> SplitResult:
    try:
        url = urlsplit(text)
        known = (
            url.port != 0 and text.isprintable() and " " not in text
        )  # a port out of range is a ValueError
    except ValueError as error:
        raise ConfigError(f"roles_anywhere.endpoint: {text!r} is not a URL") from error
    if not known:
        raise ConfigError(f"roles_anywhere.endpoint: {text!r} is not a URL")
    return url


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine itself, by address or by the name localhost."""
    if host == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
