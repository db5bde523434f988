"""S3 clients for the emulator's tests: boto3, and a raw one that signs for itself, in chunks too."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import boto3
import pytest
from botocore.config import Config
from msgspec import Struct

from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from tests.support.emulator_clients import Reply, Talker, sign, stamp

MIB = 1024 * 1024
EMPTY = hashlib.sha256(b"").hexdigest()
DOCUMENTS = {
    "tagging": "<Tagging><TagSet/></Tagging>",
    "versioning": "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
    "publicAccessBlock": "<PublicAccessBlockConfiguration/>",
    "lifecycle": "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Filter/>"
    "<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>",
}
"""Settings of a bucket as they are sent, by their subresource."""

_numbers = itertools.count(1)


def new_bucket_name() -> str:
    """A name that no other test uses."""
    return f"bucket-{next(_numbers)}"


def client(
    url: str,
    key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    region: str = REGION,
    **config: Any,
) -> Any:
    """boto3 without retries."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 0}, **config),
    )


def new_bucket(s3: Any, region: str = REGION) -> str:
    """A new bucket's name."""
    name = new_bucket_name()
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})
    return name


def code(error: Any) -> tuple[int, str]:
    """Status and code of boto3's ClientError."""
    response = error.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def refused(action: Any, **how: Any) -> tuple[int, str]:
    """Status and code with which a call is refused."""
    with pytest.raises(action.__self__.exceptions.ClientError) as error:
        action(**how)
    return code(error)


def error_of(reply: Reply) -> tuple[int, str]:
    """Status and code of a raw answer, which must be S3's error document with the ids of its headers."""
    root = ET.fromstring(reply.body)
    assert root.tag == "Error"
    assert root.findtext("RequestId") == reply.headers["x-amz-request-id"]
    assert root.findtext("HostId") == reply.headers["x-amz-id-2"]
    return reply.status, root.findtext("Code") or ""


class S3Talker(Struct, frozen=True):
    """Sends single S3 requests, signed as wished."""

    url: str
    key_id: str = ACCESS_KEY_ID
    secret: str = SECRET_ACCESS_KEY

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
        payload: str | None = None,
        **how: Any,
    ) -> Reply:
        """Sign and send; `payload` stands for the body's SHA-256."""
        digest = payload or hashlib.sha256(body).hexdigest()
        given = {"x-amz-content-sha256": digest, **(headers or {})}
        talker = Talker(self.url, self.key_id, self.secret)
        how = {"service": "s3", "payload_hash": digest, **how}
        return talker.ask(method, path, body, given, query=query, **how)

    def chunked(
        self,
        path: str,
        chunks: list[bytes],
        *,
        trailer: Mapping[str, str] | None = None,
        signs: bool = True,
        spoil: str = "",
    ) -> Reply:
        """PUT in chunks; `spoil` names what is made wrong: chunk, trailer, length."""
        form = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" if signs else "STREAMING-UNSIGNED-PAYLOAD"
        form += "-TRAILER" if trailer is not None else ""
        size = sum(map(len, chunks)) + (1 if spoil == "length" else 0)
        headers = {
            "content-encoding": "aws-chunked",
            "x-amz-content-sha256": form,
            "x-amz-decoded-content-length": str(size),
        }
        if trailer is not None:
            headers["x-amz-trailer"] = ",".join(trailer)
        talker = Talker(self.url, self.key_id, self.secret)
        signed = talker.signed("PUT", path, b"", headers, service="s3", payload_hash=form)
        signature = signed["authorization"].rpartition("=")[2]
        body = b""
        for number, chunk in enumerate([*chunks, b""]):
            digest = hashlib.sha256(chunk).hexdigest()
            signature = self._sign(signed["x-amz-date"], "AWS4-HMAC-SHA256-PAYLOAD", signature, EMPTY, digest)
            shown = "0" * 64 if spoil == "chunk" and number == 0 else signature
            body += f"{len(chunk):x}{f';chunk-signature={shown}' if signs else ''}\r\n".encode() + chunk
            body += b"\r\n" if chunk else b""
        for name, value in (trailer or {}).items():
            body += f"{name}:{value}\r\n".encode()
        if signs and trailer is not None:
            text = "".join(f"{name}:{value}\n" for name, value in trailer.items())
            digest = hashlib.sha256(text.encode()).hexdigest()
            signature = self._sign(signed["x-amz-date"], "AWS4-HMAC-SHA256-TRAILER", signature, digest)
            shown = "0" * 64 if spoil == "trailer" else signature
            body += f"x-amz-trailer-signature:{shown}\r\n".encode()
        return talker.send("PUT", path, body + b"\r\n", signed)

    def _sign(self, signed_at: str, algorithm: str, before: str, *digests: str) -> str:
        scope = f"{signed_at[:8]}/{REGION}/s3/aws4_request"
        return sign(self.secret, scope, signed_at, before, *digests, form=algorithm)

    def presigned(self, path: str, *, seconds: int = 60, late: timedelta = timedelta()) -> str:
        """The target of a presigned GET."""
        signed_at = stamp(datetime.now(UTC) + late)
        scope = f"{signed_at[:8]}%2F{REGION}%2Fs3%2Faws4_request"
        query = (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={self.key_id}%2F{scope}"
            f"&X-Amz-Date={signed_at}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host"
        )
        host = urlsplit(self.url).netloc
        canonical = f"GET\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        signature = sign(self.secret, scope.replace("%2F", "/"), signed_at, digest)
        return f"{path}?{query}&X-Amz-Signature={signature}"


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()
