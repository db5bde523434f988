"""Requests in the odd forms that real clients use: chunks, no length, waiting for a word, presigned, long."""

from __future__ import annotations

import hashlib
import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest

from backup.emulator.core.http.treehash import root
from tests.support import campaigns
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, Reply, Talker, new_vault_name, pattern, tree_hash

BIG_MIB = campaigns.share("NIGHTVAULT_TEST_PART_MIB", 160)  # 4096 for the largest part there is
KEPT_FLAT_MIB = 64


@pytest.fixture
def vault(talker: Talker) -> str:
    name = new_vault_name()
    talker.ask("PUT", f"/-/vaults/{name}")
    return name


def _chunks(body: bytes, *sizes: int) -> bytes:
    out, at = b"", 0
    for size in (*sizes, len(body)):
        piece = body[at : at + size]
        if piece:
            out += f"{len(piece):x};ext=1\r\n".encode() + piece + b"\r\n"
        at += size
    return out + b"0\r\n\r\n"


def _chunked(talker: Talker, method: str, path: str, body: bytes, **headers: str) -> Reply:
    digest = hashlib.sha256(body).hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": tree_hash(body)}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    signed = talker.signed(method, path, headers=given, payload_hash=digest)
    sent = _chunks(body, 1, 70_000, 3)
    return talker.send(method, path, sent, {**signed, "Transfer-Encoding": "chunked"}, length=False)


def test_uploads_in_chunks(talker: Talker, vault: str, emulator: RunningEmulator) -> None:
    body, path = pattern(2 * MIB + 5), f"/-/vaults/{vault}"
    assert _chunked(talker, "POST", f"{path}/archives", body).status == 201
    begun = talker.ask("POST", f"{path}/multipart-uploads", headers={"x-amz-part-size": str(4 * MIB)})
    part = f"{path}/multipart-uploads/{begun.headers['x-amz-multipart-upload-id']}"
    right = f"bytes 0-{len(body) - 1}/*"
    assert _chunked(talker, "PUT", part, body, content_range=right).status == 204
    short = _chunked(talker, "PUT", part, body, content_range=f"bytes 0-{len(body)}/*")
    words = f"Content-Range: bytes 0-{len(body)}/* is incompatible with Content-Length: {len(body)}"
    assert short.error == (400, "InvalidParameterValueException", words)
    emulator.change_settings(chunked_uploads=False)
    refused = _chunked(talker, "POST", f"{path}/archives", body)
    emulator.change_settings(chunked_uploads=True)
    assert refused.error[1:] == (
        "MissingParameterValueException",
        "Required parameter missing: Content-Length",
    )


def test_an_empty_chunked_upload(talker: Talker, vault: str) -> None:
    path, digest = f"/-/vaults/{vault}/archives", hashlib.sha256(b"").hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": digest}
    signed = talker.signed("POST", path, headers=given, payload_hash=digest)
    reply = talker.send("POST", path, b"0\r\n\r\n", {**signed, "Transfer-Encoding": "chunked"}, length=False)
    assert reply.error == (400, "InvalidParameterValueException", "Invalid Content-Length: 0")


def test_small_bodies_in_chunks_and_as_a_form(talker: Talker, vault: str) -> None:
    path, body = f"/-/vaults/{vault}/tags", b'{"Tags":{"a":"b"}}'
    kind = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    signed = talker.signed("POST", path, body, kind, query="operation=add")
    headers = {**signed, "Transfer-Encoding": "chunked"}
    sent = talker.send("POST", f"{path}?operation=add", _chunks(body, 2), headers, length=False)
    assert sent.status == 204
    assert talker.ask("GET", path).json == {"Tags": {"a": "b"}}


def _connect(talker: Talker) -> socket.socket:
    where = urlsplit(talker.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=20)


@pytest.mark.parametrize("word", ["100-continue", "100-Continue"])
def test_a_client_that_waits_for_the_word(talker: Talker, vault: str, word: str) -> None:
    body, path = b"abc", f"/-/vaults/{vault}/archives"
    digest = hashlib.sha256(body).hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": digest}
    for changes, first in (({}, b"HTTP/1.1 100 "), ({"x-amz-sha256-tree-hash": "x"}, b"HTTP/1.1 400 ")):
        signed = talker.signed("POST", path, headers={**given, **changes}, payload_hash=digest)
        lines = [f"POST {path} HTTP/1.1", "Content-Length: 3", f"Expect: {word}"]
        lines += [f"{name}: {value}" for name, value in signed.items()]
        with _connect(talker) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            said = connection.recv(4096)
            assert said.startswith(first)
            if first == b"HTTP/1.1 100 ":
                connection.sendall(body)
                assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")


def _boto3(url: str, **session: str) -> Any:
    return boto3.client(
        "glacier",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY_ID,
        aws_secret_access_key=SECRET_ACCESS_KEY,
        **session,
    )


def _open(url: str, method: str = "GET") -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={"x-amz-glacier-version": "2012-06-01"}, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_presigned_urls(emulator: RunningEmulator, vault: str) -> None:
    glacier = _boto3(emulator.glacier_url)
    url = glacier.generate_presigned_url("describe_vault", {"vaultName": vault, "accountId": "-"})
    status, body = _open(url)
    assert (status, json.loads(body)["VaultName"]) == (200, vault)
    for spoilt in (
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=3601"),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=0"),
        url.replace(vault, "other"),
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.split("&X-Amz-Signature")[0],
    ):
        status, body = _open(spoilt)
        assert (status, json.loads(body)["code"]) == (403, "InvalidSignatureException")
    assert _open(url, "DELETE")[0] == 403


def test_a_presigned_url_and_a_header_are_one_too_many(emulator: RunningEmulator, vault: str) -> None:
    talker = Talker(emulator.glacier_url)
    url = _boto3(emulator.glacier_url).generate_presigned_url("list_vaults", {"accountId": "-"})
    where = urlsplit(url)
    reply = talker.send("GET", f"{where.path}?{where.query}", b"", talker.signed("GET", where.path))
    assert reply.error[0:2] == (403, "InvalidSignatureException")


def test_a_presigned_url_runs_out(emulator: RunningEmulator) -> None:
    import time

    url = _boto3(emulator.glacier_url).generate_presigned_url("list_vaults", {"accountId": "-"}, ExpiresIn=1)
    time.sleep(2.1)
    status, body = _open(url)
    assert status == 403
    assert json.loads(body)["message"].startswith("Signature expired: ")


def test_headers_of_100_kb_pass_and_of_100_mb_do_not(talker: Talker) -> None:
    headers = talker.signed("GET", "/-/vaults")
    assert talker.send("GET", "/-/vaults", b"", {**headers, "x-long": "a" * 100_000}).status == 200
    for size in (1_000_000, 100_000_000):
        refused = talker.send("GET", "/-/vaults", b"", {**headers, "x-long": "a" * size})
        assert refused.error[:2] == (431, "BadRequest")
        assert refused.json["type"] == "Client"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://elsewhere/-/vaults HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"\r\n" * 200_000 + b"garbage" * 100_000 + b"\r\n\r\n",
    ],
)
def test_garbage_gets_a_plain_refusal(talker: Talker, sent: bytes) -> None:
    with _connect(talker) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        said = b""
        while piece := connection.recv(65536):
            said += piece
            if b"}" in said:
                break
    head, _, body = said.partition(b"\r\n\r\n")
    assert head[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5")
    assert head[9:12] in (b"400", b"431", b"501")
    assert b"\r\ndate: " in head.lower(), "every answer of the service has one"
    assert json.loads(body)["code"] == "BadRequest"


def test_broken_chunks_in_an_upload(talker: Talker, vault: str) -> None:
    path, digest = f"/-/vaults/{vault}/archives", hashlib.sha256(b"abc").hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": digest}
    signed = talker.signed("POST", path, headers=given, payload_hash=digest)
    body = b"3\r\nabc\r\nnonsense\r\n"
    reply = talker.send("POST", path, body, {**signed, "Transfer-Encoding": "chunked"}, length=False)
    assert reply.error[:2] == (400, "BadRequest")


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2f..%2fetc", "%00", "a%2Farchives", "%2Fetc%2Fpasswd", "a%0d%0ax", "%ff%fe"]
)
def test_path_tricks(talker: Talker, name: str) -> None:
    for method, path in (
        ("PUT", f"/-/vaults/{name}"),
        ("GET", f"/-/vaults/{name}"),
        ("DELETE", f"/-/vaults/v/archives/{name}"),
        ("GET", f"/-/vaults/v/jobs/{name}/output"),
        ("DELETE", f"/-/vaults/v/multipart-uploads/{name}"),
    ):
        canonical = path.replace("%", "%25")
        reply = talker.send(method, path, b"", talker.signed(method, canonical))
        legal = (200, 201, 204) if name in ("..", "%2e%2e") else ()  # dots alone are a vault's name like any
        assert reply.status in (*legal, 400, 404)
        assert reply.status < 300 or set(reply.json) == {"code", "message", "type"}


def test_a_millionth_part(talker: Talker, vault: str) -> None:
    path = f"/-/vaults/{vault}/multipart-uploads"
    begun = talker.ask("POST", path, headers={"x-amz-part-size": str(MIB)})
    part = f"{path}/{begun.headers['x-amz-multipart-upload-id']}"
    where = f"bytes {1_000_000 * MIB}-{1_000_000 * MIB + 2}/*"
    refused = talker.upload(part, b"abc", {"content-range": where}, "PUT")
    assert refused.error == (400, "InvalidParameterValueException", f"Invalid Content-Range: {where}")


class _Repeated:
    """A body of one MiB over and over, never held in memory."""

    def __init__(self, mib: int) -> None:
        self._left = mib
        self._piece = pattern(MIB)

    def read(self, _: int = -1) -> bytes:
        self._left -= 1
        return self._piece if self._left >= 0 else b""


def _peak_kib(pid: int | None) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_large_part_in_constant_memory(tmp_path: Path) -> None:
    import http.client

    size = BIG_MIB * MIB
    linear = hashlib.sha256()
    for _ in range(BIG_MIB):
        linear.update(pattern(MIB))
    tree = root([hashlib.sha256(pattern(MIB)).digest()] * BIG_MIB)
    with RunningEmulator(tmp_path / "state", write_accounts(tmp_path / "accounts.toml")) as own:
        talker = Talker(own.glacier_url)
        talker.ask("PUT", "/-/vaults/v")
        path = "/-/vaults/v/archives"
        given = {"x-amz-content-sha256": linear.hexdigest(), "x-amz-sha256-tree-hash": tree}
        headers = talker.signed("POST", path, headers=given, payload_hash=linear.hexdigest())
        before = _peak_kib(own.pid)
        connection = http.client.HTTPConnection(urlsplit(talker.url).netloc, timeout=600)
        connection.request("POST", path, _Repeated(BIG_MIB), {**headers, "Content-Length": str(size)})
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("x-amz-sha256-tree-hash")) == (201, tree)
        assert _peak_kib(own.pid) - before < KEPT_FLAT_MIB * 1024
