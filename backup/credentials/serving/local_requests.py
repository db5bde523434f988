"""The common part of the local services that serve keys: replies, keys as JSON, refusals; no I/O."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from backup.credentials.options import is_loopback
from backup.errors import NightvaultError
from backup.protocols import Clock, CredentialSource

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:\[\],]+)(?::[0-9]{1,5})?")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply; its `repr` leaves the body out."""

    status: int
    body: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def refuse_stranger(headers: Mapping[str, str]) -> Reply | None:
    """Refuse a request that came through a proxy, or for another host's name; None for other requests.

    Another name means DNS rebinding: a web page had its name resolve to this machine. `headers` are by
    lower-case name.
    """
    if not is_loopback(_host_of(headers.get("host", ""))):
        return Reply(403, "this service answers to 127.0.0.1 and localhost alone")
    if "x-forwarded-for" in headers:
        return Reply(400, "unable to process requests with X-Forwarded-For header")
    return None


def path_of(target: str) -> str:
    """A request's path with exactly one leading slash: some clients send two if their endpoint ends in
    one."""
    return "/" + target.partition("?")[0].strip("/")


def reply_with_keys(source: CredentialSource, clock: Clock, first: Mapping[str, str]) -> Reply:
    """The keys as JSON after the fields `first`; 500 if there are none, with the reason in the log."""
    try:
        credentials = source.credentials()
    except NightvaultError as error:
        log.warning("no keys to hand out: %s", error)
        return Reply(500, "no credentials: the log of `nightvault aws-keys serve` tells why")
    document = {
        **first,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": stamp(credentials.expires_at or clock.now() + timedelta(hours=1)),
    }
    return Reply(200, json.dumps(document))


def stamp(moment: datetime) -> str:
    """A moment as `2026-01-02T03:04:05Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _host_of(header: str) -> str:
    """The host of a Host header, without its port; "" if it is none."""
    found = _HOST.fullmatch(header.lower())
    return found.group(1) if found else ""
