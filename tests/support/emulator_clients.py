"""Clients for the emulator's tests: boto3 as users have it, and a raw socket that signs for itself."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import io
import itertools
import json
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.utils
from msgspec import Struct

from tests.support.emulated import ACCESS_KEY_ID, ACCOUNT_ID, REGION, SECRET_ACCESS_KEY

MIB = 1024 * 1024
_numbers = itertools.count(1)


def new_vault_name() -> str:
    """A name that no other test uses."""
    return f"vault-{next(_numbers)}"


def arn_of(vault: str) -> str:
    """The ARN of a vault of the tests' account."""
    return f"arn:aws:glacier:{REGION}:{ACCOUNT_ID}:vaults/{vault}"


def client(
    url: str, key_id: str = ACCESS_KEY_ID, secret: str = SECRET_ACCESS_KEY, token: str | None = None
) -> Any:
    """boto3 with its default retries."""
    return boto3.client(
        "glacier",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
    )


def pattern(size: int) -> bytes:
    """Content P of the vectors: byte i is i mod 251."""
    period = bytes(range(251))
    return (period * (size // 251 + 1))[:size]


def tree_hash(data: bytes) -> str:
    """The tree hash as botocore computes it."""
    return str(botocore.utils.calculate_tree_hash(io.BytesIO(data)))


def code_and_message(error: Any) -> tuple[str, str]:
    """What a ClientError of boto3 says."""
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


class Reply(Struct, frozen=True):
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> tuple[int, str, str]:
        """Status, code and message of an error."""
        return self.status, self.json["code"], self.json["message"]


def stamp(moment: datetime) -> str:
    """`20260102T030405Z`."""
    return f"{moment:%Y%m%dT%H%M%SZ}"


def sign(secret: str, scope: str, signed_at: str, *rest: str, form: str = "AWS4-HMAC-SHA256") -> str:
    """The signature, in hex, of form, time, scope and the `rest`, a line each."""
    text = "\n".join((form, signed_at, scope, *rest))
    key = ("AWS4" + secret).encode()
    for part in (*scope.split("/"), text):
        key = hmac.digest(key, part.encode(), "sha256")
    return key.hex()


class Talker(Struct, frozen=True):
    """Sends single signed requests; `late` moves the time of signing."""

    url: str
    key_id: str = ACCESS_KEY_ID
    secret: str = SECRET_ACCESS_KEY

    def signed(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
        late: timedelta = timedelta(),
        region: str = REGION,
        service: str = "glacier",
        host: str | None = None,
        payload_hash: str | None = None,
    ) -> dict[str, str]:
        """All headers of a request, signed; all of them but Content-Length are signed."""
        signed_at = stamp(datetime.now(UTC) + late)
        given = {
            "host": host or urlsplit(self.url).netloc,
            "x-amz-date": signed_at,
            "x-amz-glacier-version": "2012-06-01",
            **{name.lower(): value for name, value in (headers or {}).items()},
        }
        names = sorted(given)
        lines = "".join(f"{name}:{re.sub(' +', ' ', given[name].strip())}\n" for name in names)
        digest = payload_hash or hashlib.sha256(body).hexdigest()
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{';'.join(names)}\n{digest}"
        scope = f"{signed_at[:8]}/{region}/{service}/aws4_request"
        digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
        signature = sign(self.secret, scope, signed_at, digest)
        given["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={';'.join(names)}, "
            f"Signature={signature}"
        )
        return given

    def send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], *, length: bool = True
    ) -> Reply:
        """Send bytes as they are, without Content-Length if so wanted, and read the answer."""
        where = urlsplit(self.url)
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        if length:
            lines.append(f"Content-Length: {len(body)}")
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=20) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            read = answer.read()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, read)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
        **how: Any,
    ) -> Reply:
        """Sign and send."""
        target = f"{path}?{query}" if query else path
        return self.send(method, target, body, self.signed(method, path, body, headers, query=query, **how))

    def upload(
        self, path: str, body: bytes, headers: Mapping[str, str], method: str = "POST", **how: Any
    ) -> Reply:
        """An upload with both right hashes; `headers` may replace them."""
        hashes = {
            "x-amz-content-sha256": hashlib.sha256(body).hexdigest(),
            "x-amz-sha256-tree-hash": tree_hash(body) if body else "0" * 64,
        }
        given = {**hashes, **headers}
        return self.ask(method, path, body, given, payload_hash=given["x-amz-content-sha256"], **how)
