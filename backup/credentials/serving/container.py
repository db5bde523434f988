"""The container credential provider: one path, authorised by a token from a file; request in, reply out, no
I/O.

AWS SDKs and Tools Reference Guide, "Container credential provider": the client finds the service by
AWS_CONTAINER_CREDENTIALS_FULL_URI (plain http is allowed on loopback only) and sends the content of the file
AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE as its Authorization header. Whoever can read the file gets keys.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from backup.credentials.serving.local_requests import Reply, path_of, refuse_stranger, reply_with_keys
from backup.protocols import Clock, CredentialSource

CREDENTIALS_PATH = "/credentials"


class ContainerKeys:
    """The service for one role and one token; thread-safe."""

    def __init__(self, source: CredentialSource, role_arn: str, clock: Clock, token: str) -> None:
        self._source = source
        self._role_arn = role_arn
        self._clock = clock
        self._token = token.encode()

    def answer(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        """Reply to a request; `headers` by lower-case name."""
        refusal = refuse_stranger(headers)
        if refusal is not None:
            return refusal
        if path_of(path) != CREDENTIALS_PATH:
            return Reply(404, "not found")
        if method not in {"GET", "HEAD"}:
            return Reply(405, "GET alone")
        given = headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, self._token):
            return Reply(401, "the Authorization header is not what stands in the token file")
        return reply_with_keys(self._source, self._clock, {"RoleArn": self._role_arn})
