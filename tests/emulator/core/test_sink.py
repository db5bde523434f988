"""Long bodies on their own way from the socket: kept connections, stalls, hang-ups, TLS."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from backup.emulator.core.http.sink import BUFFER_BYTES
from tests.emulator.authority import issue, name
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, Talker, tree_hash

SIZES = (MIB - 1, MIB, MIB + 1, BUFFER_BYTES - 1, BUFFER_BYTES, 2 * BUFFER_BYTES + 1, 20 * MIB + 3)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("sink")
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "state", accounts, options=("--idle-seconds", "0.7")) as running:
        Talker(running.glacier_url).ask("PUT", "/-/vaults/v")
        yield running


def _files(own: RunningEmulator) -> int:
    return len(list((own.state / "files").iterdir()))


def _signed(talker: Talker, data: bytes, host: str | None = None) -> dict[str, str]:
    digest = hashlib.sha256(data).hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": tree_hash(data)}
    return talker.signed("POST", "/-/vaults/v/archives", headers=given, payload_hash=digest, host=host)


def test_many_sizes_on_one_connection(own: RunningEmulator) -> None:
    talker = Talker(own.glacier_url)
    connection = http.client.HTTPConnection(urlsplit(talker.url).netloc, timeout=20)
    socket_at_first: object = None
    for size in SIZES:
        data = os.urandom(size)
        connection.request("POST", "/-/vaults/v/archives", data, _signed(talker, data))
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("x-amz-sha256-tree-hash")) == (201, tree_hash(data))
        socket_at_first = socket_at_first or connection.sock
        assert connection.sock is socket_at_first


def _head(headers: dict[str, str], length: int, *more: str) -> bytes:
    lines = ["POST /-/vaults/v/archives HTTP/1.1", f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, *(f"{k}: {v}" for k, v in headers.items()), "", ""]).encode()


def _connect(talker: Talker) -> socket.socket:
    where = urlsplit(talker.url)
    return socket.create_connection((where.hostname or "", where.port or 0), timeout=20)


def test_a_request_right_behind_a_long_body(own: RunningEmulator) -> None:
    talker, data = Talker(own.glacier_url), os.urandom(9 * MIB)
    behind = talker.signed("GET", "/-/vaults/v")
    lines = ["GET /-/vaults/v HTTP/1.1", *(f"{k}: {v}" for k, v in behind.items()), "", ""]
    with _connect(talker) as connection:
        connection.sendall(_head(_signed(talker, data), len(data)) + data + "\r\n".join(lines).encode())
        said = b""
        while said.count(b"HTTP/1.1 ") < 2 or not said.endswith(b"}"):
            piece = connection.recv(65536)
            assert piece, said
            said += piece
    assert said.startswith(b"HTTP/1.1 201 ")
    assert b'"VaultName":"v"' in said


def test_a_stall_in_a_long_body(own: RunningEmulator) -> None:
    talker, data = Talker(own.glacier_url), os.urandom(6 * MIB)
    before = _files(own)
    with _connect(talker) as connection:
        connection.sendall(_head(_signed(talker, data), len(data)) + data[: 5 * MIB])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, b"RequestTimeoutException" in answer.read()) == (408, True)
        assert answer.getheader("connection") == "close"
    assert _files(own) == before


def test_a_hang_up_in_a_long_body(own: RunningEmulator) -> None:
    talker, data = Talker(own.glacier_url), os.urandom(6 * MIB)
    before = _files(own)
    with _connect(talker) as connection:
        connection.sendall(_head(_signed(talker, data), len(data)) + data[: 5 * MIB])
        time.sleep(0.1)
    deadline = time.monotonic() + 5
    while _files(own) > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _files(own) == before


def test_waiting_for_the_word_with_a_long_body(own: RunningEmulator) -> None:
    talker, data = Talker(own.glacier_url), os.urandom(6 * MIB)
    with _connect(talker) as connection:
        connection.sendall(_head(_signed(talker, data), len(data), "Expect: 100-continue"))
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(data)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")


def test_a_wrong_hash_of_a_long_body(own: RunningEmulator) -> None:
    talker, data = Talker(own.glacier_url), os.urandom(6 * MIB)
    before = _files(own)
    reply = talker.send("POST", "/-/vaults/v/archives", data[:-1] + b"!", _signed(talker, data))
    assert reply.error[:2] == (403, "InvalidSignatureException")
    assert _files(own) == before


def test_long_bodies_over_tls(tmp_path: Path) -> None:
    names = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    holder = issue(name((NameOID.COMMON_NAME, "localhost")), None, extensions=[names])
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    certificate.write_text(holder.pem)
    key.write_bytes(holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    options = ("--tls-cert", str(certificate), "--tls-key", str(key))
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts, options=options) as running:
        talker, data = Talker(running.glacier_url), os.urandom(13 * MIB + 7)
        context = ssl.create_default_context(cafile=str(certificate))
        port = urlsplit(talker.url).port
        connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=20)
        host = f"localhost:{port}"
        connection.request("PUT", "/-/vaults/v", headers=talker.signed("PUT", "/-/vaults/v", host=host))
        connection.getresponse().read()
        for _ in range(2):
            connection.request("POST", "/-/vaults/v/archives", data, _signed(talker, data, host))
            answer = connection.getresponse()
            answer.read()
            assert (answer.status, answer.getheader("x-amz-sha256-tree-hash")) == (201, tree_hash(data))
