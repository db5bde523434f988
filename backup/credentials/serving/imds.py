"""The part of EC2's instance metadata service that AWS tools get keys from: request in, reply out, no I/O.

IMDSv2 only (AWS: "Use the Instance Metadata Service"): a PUT gives a token with a time to live, each GET
needs one.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from backup.credentials.serving.local_requests import Reply, path_of, refuse_stranger, reply_with_keys, stamp
from backup.protocols import Clock, CredentialSource

TOKEN_PATH = "/latest/api/token"  # noqa: S105  a path
KEYS_PATH = "/latest/meta-data/iam/security-credentials"
TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"  # noqa: S105  a name
LONGEST_TTL = 21600
MOST_TOKENS = 256


class Imds:
    """The service for one role; thread-safe."""

    def __init__(
        self,
        source: CredentialSource,
        role: str,
        clock: Clock,
        new_token: Callable[[], str] = lambda: secrets.token_urlsafe(75),
    ) -> None:
        """Prepare; `role` is the role's name without its path; `new_token` returns an unguessable string."""
        self._source = source
        self._role = role
        self._clock = clock
        self._new_token = new_token
        self._tokens: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """Reply to a request; `headers` by lower-case name."""
        stranger = refuse_stranger(headers)
        if stranger is not None:
            return stranger
        where = path_of(path)
        if where == TOKEN_PATH:
            return self._give_token(headers) if method == "PUT" else Reply(405, "PUT a token request")
        if where not in {KEYS_PATH, f"{KEYS_PATH}/{self._role}"}:
            return Reply(404, "not found")
        if method not in {"GET", "HEAD"}:
            return Reply(405, "GET alone")
        if refusal := self._refuse(headers.get(TOKEN_HEADER)):
            return Reply(401, refusal)
        return Reply(200, self._role) if where == KEYS_PATH else self._keys()

    def _give_token(self, headers: Mapping[str, str]) -> Reply:
        text = headers.get(TTL_HEADER, str(LONGEST_TTL))
        seconds = int(text) if text.isascii() and text.isdigit() and len(text) < 8 else 0
        if not 1 <= seconds <= LONGEST_TTL:
            return Reply(400, "invalid token TTL")
        token, now = self._new_token(), self._clock.now()
        with self._lock:
            alive = {known: end for known, end in self._tokens.items() if _is_alive(end, now)}
            while len(alive) >= MOST_TOKENS:
                del alive[min(alive, key=alive.__getitem__)]
            self._tokens = {**alive, token: now + timedelta(seconds=seconds)}
        return Reply(200, token, {TTL_HEADER: str(seconds)})

    def _refuse(self, token: str | None) -> str | None:
        """The reply that refuses a request's token; None if the token is valid."""
        if token is None:
            return "no token provided"
        with self._lock:
            end = self._tokens.get(token)
        is_alive = end is not None and _is_alive(end, self._clock.now())
        return None if is_alive else "invalid token provided"

    def _keys(self) -> Reply:
        first = {"Code": "Success", "LastUpdated": stamp(self._clock.now()), "Type": "AWS-HMAC"}
        return reply_with_keys(self._source, self._clock, first)


def _is_alive(end: datetime, now: datetime) -> bool:
    """Whether a token's end is in the future, and not so far that the clock must have been ahead."""
    return now < end <= now + timedelta(seconds=LONGEST_TTL)
