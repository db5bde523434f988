"""The process: odd HTTP, stops and kills, what survives them, speed, TLS, and failures to start."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from backup.emulator.server import warn_of_others
from tests.emulator.authority import issue, name
from tests.support.emulated import REPOSITORY, RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, Talker, client, new_vault_name, pattern, tree_hash


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator that a test may stop and kill."""
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts) as running:
        yield running


def test_posts_without_a_length(talker: Talker) -> None:
    vault = new_vault_name()
    path = f"/-/vaults/{vault}"
    odd = {"TE": "deflate,gzip;q=0.3", "Connection": "TE, close"}
    created = talker.send("PUT", path, b"", {**talker.signed("PUT", path), **odd}, length=False)
    assert created.status == 201
    path += "/multipart-uploads"
    headers = talker.signed("POST", path, headers={"x-amz-part-size": str(MIB)})
    begun = talker.send("POST", path, b"", {**headers, **odd}, length=False)
    assert begun.status == 201
    upload = begun.headers["x-amz-multipart-upload-id"]
    sent = talker.upload(f"{path}/{upload}", b"abc", {"content-range": "bytes 0-2/*"}, "PUT")
    assert sent.status == 204
    headers = talker.signed(
        "POST",
        f"{path}/{upload}",
        headers={"x-amz-archive-size": "3", "x-amz-sha256-tree-hash": tree_hash(b"abc")},
    )
    assert talker.send("POST", f"{path}/{upload}", b"", {**headers, **odd}, length=False).status == 201


def test_large_small_bodies_are_refused(talker: Talker) -> None:
    assert talker.ask("POST", "/-/vaults/any/jobs", bytes(MIB + 1)).error[:2] == (400, "BadRequest")


def test_connections_are_kept(talker: Talker) -> None:
    connection = http.client.HTTPConnection(urlsplit(talker.url).netloc, timeout=5)
    connection.connect()
    first = connection.sock
    for _ in range(3):
        connection.request("GET", "/-/vaults")
        assert connection.getresponse().read().startswith(b'{"code":"MissingAuth')
        assert connection.sock is first
    connection.close()


def test_a_stop_in_order_keeps_everything(own: RunningEmulator) -> None:
    glacier = client(own.glacier_url)
    glacier.create_vault(vaultName="v")
    archive = glacier.upload_archive(vaultName="v", body=pattern(MIB + 3), archiveDescription="kept")[
        "archiveId"
    ]
    wanted = {"Type": "archive-retrieval", "ArchiveId": archive}
    job = glacier.initiate_job(vaultName="v", jobParameters=wanted)["jobId"]
    own.advance(10 * 24 * 3600 - 60)
    before = own.now()
    assert own.stop() == 0
    own.start()
    assert own.now() >= before
    with pytest.raises(ClientError, match="job ID was not found"):
        glacier.describe_job(vaultName="v", jobId=job)
    job = glacier.initiate_job(vaultName="v", jobParameters=wanted)["jobId"]
    own.restart()
    own.advance(4 * 3600)
    assert glacier.get_job_output(vaultName="v", jobId=job)["body"].read() == pattern(MIB + 3)
    assert glacier.describe_vault(vaultName="v")["NumberOfArchives"] == 1


def test_a_kill_between_parts_and_complete(own: RunningEmulator, tmp_path: Path) -> None:
    glacier, talker = client(own.glacier_url), Talker(own.glacier_url)
    data = pattern(2 * MIB + 7)
    glacier.create_vault(vaultName="v")
    upload = glacier.initiate_multipart_upload(vaultName="v", partSize=str(MIB))["uploadId"]
    for at in (0, MIB):
        where = f"bytes {at}-{at + MIB - 1}/*"
        glacier.upload_multipart_part(vaultName="v", uploadId=upload, range=where, body=data[at : at + MIB])
    half = _half_sent(talker, f"/-/vaults/v/multipart-uploads/{upload}", data[2 * MIB :])
    own.kill()
    half.close()
    own.start()
    files = list((tmp_path / "state" / "files").iterdir())
    assert len(files) == 2
    parts = glacier.list_parts(vaultName="v", uploadId=upload)["Parts"]
    assert [part["RangeInBytes"] for part in parts] == ["0-1048575", "1048576-2097151"]
    where = f"bytes {2 * MIB}-{len(data) - 1}/*"
    glacier.upload_multipart_part(vaultName="v", uploadId=upload, range=where, body=data[2 * MIB :])
    end = {"archiveSize": str(len(data)), "checksum": tree_hash(data)}
    done = glacier.complete_multipart_upload(vaultName="v", uploadId=upload, **end)
    own.kill()
    own.start()
    again = glacier.complete_multipart_upload(vaultName="v", uploadId=upload, **end)
    assert again["archiveId"] == done["archiveId"]
    job = {"Type": "archive-retrieval", "ArchiveId": done["archiveId"], "Tier": "Expedited"}
    job_id = glacier.initiate_job(vaultName="v", jobParameters=job)["jobId"]
    own.advance(600)
    assert glacier.get_job_output(vaultName="v", jobId=job_id)["body"].read() == data


def _half_sent(talker: Talker, path: str, data: bytes) -> socket.socket:
    """A part of which all but the last byte has been sent."""
    digest = hashlib.sha256(data).hexdigest()
    given = {
        "x-amz-content-sha256": digest,
        "x-amz-sha256-tree-hash": digest,
        "content-range": f"bytes {2 * MIB}-{2 * MIB + len(data) - 1}/*",
    }
    headers = talker.signed("PUT", path, headers=given, payload_hash=digest)
    lines = [
        f"PUT {path} HTTP/1.1",
        f"Content-Length: {len(data)}",
        *(f"{k}: {v}" for k, v in headers.items()),
    ]
    where = urlsplit(talker.url)
    connection = socket.create_connection((where.hostname or "", where.port or 0))
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + data[:-1])
    time.sleep(0.3)
    return connection


def test_a_client_that_hangs_up_leaves_nothing(own: RunningEmulator, tmp_path: Path) -> None:
    glacier, talker = client(own.glacier_url), Talker(own.glacier_url)
    glacier.create_vault(vaultName="v")
    upload = glacier.initiate_multipart_upload(vaultName="v", partSize=str(MIB))["uploadId"]
    _half_sent(talker, f"/-/vaults/v/multipart-uploads/{upload}", b"abcdef").close()
    folder = tmp_path / "state" / "files"
    deadline = time.monotonic() + 5
    while list(folder.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list(folder.iterdir()) == []
    assert glacier.list_parts(vaultName="v", uploadId=upload)["Parts"] == []


def test_files_go_with_what_needed_them(own: RunningEmulator, tmp_path: Path) -> None:
    glacier = client(own.glacier_url)
    glacier.create_vault(vaultName="v")
    archive = glacier.upload_archive(vaultName="v", body=b"abc")["archiveId"]
    upload = glacier.initiate_multipart_upload(vaultName="v", partSize=str(MIB))["uploadId"]
    for body in (b"x", b"yy"):
        where = f"bytes 0-{len(body) - 1}/*"
        glacier.upload_multipart_part(vaultName="v", uploadId=upload, range=where, body=body)
    folder = tmp_path / "state" / "files"
    assert len(list(folder.iterdir())) == 2
    glacier.abort_multipart_upload(vaultName="v", uploadId=upload)
    assert len(list(folder.iterdir())) == 1
    job = {"Type": "archive-retrieval", "ArchiveId": archive, "Tier": "Expedited"}
    glacier.initiate_job(vaultName="v", jobParameters=job)
    own.advance(600)
    glacier.delete_archive(vaultName="v", archiveId=archive)
    assert len(list(folder.iterdir())) == 1
    own.advance(25 * 3600)
    glacier.list_vaults()
    assert list(folder.iterdir()) == []
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_speed(tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "state", accounts, speed=100_000) as fast:
        glacier = client(fast.glacier_url)
        glacier.create_vault(vaultName="v")
        archive = glacier.upload_archive(vaultName="v", body=b"abc")["archiveId"]
        upload = glacier.initiate_multipart_upload(vaultName="v", partSize=str(MIB))["uploadId"]
        job = {"Type": "archive-retrieval", "ArchiveId": archive}
        job_id = glacier.initiate_job(vaultName="v", jobParameters=job)["jobId"]
        time.sleep(1.5)
        assert glacier.get_job_output(vaultName="v", jobId=job_id)["body"].read() == b"abc"
        assert glacier.describe_vault(vaultName="v")["NumberOfArchives"] == 1
        assert glacier.list_parts(vaultName="v", uploadId=upload)["Parts"] == []


def test_tls(tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    names = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    holder = issue(name((NameOID.COMMON_NAME, "localhost")), None, extensions=[names])
    certificate, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    certificate.write_text(holder.pem)
    key.write_bytes(holder.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    options = ("--tls-cert", str(certificate), "--tls-key", str(key), "--host", "localhost")
    # The admin's client knows no test CA, so only the URL and one request are looked at.
    with RunningEmulator(tmp_path / "state", accounts, options=options) as running:
        assert running.glacier_url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(certificate))
        port = urlsplit(running.glacier_url).port
        with urllib.request.urlopen(f"https://localhost:{port}/_admin/clock", context=context) as answer:
            assert json.load(answer)["speed"] == 1.0


def _fails(*arguments: str) -> str:
    command = [sys.executable, "-m", "backup.emulator", *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.strip().splitlines()) == 1
    return ended.stderr


def test_failures_to_start(own: RunningEmulator, tmp_path: Path) -> None:
    accounts = str(tmp_path / "accounts.toml")
    state = str(tmp_path / "other")
    assert "Another emulator uses" in _fails("--state", str(tmp_path / "state"), "--accounts", accounts)
    assert "Cannot read the accounts file" in _fails("--state", state, "--accounts", accounts + "x")
    port = str(urlsplit(own.glacier_url).port)
    assert "Cannot listen on" in _fails("--state", state, "--accounts", accounts, "--port", port)
    assert "speed must be" in _fails("--state", state, "--accounts", accounts, "--speed", "0")
    assert "TLS needs both" in _fails("--state", state, "--accounts", accounts, "--tls-key", "x")
    wrong = ("--tls-key", accounts, "--tls-cert", accounts)
    assert "Cannot use the TLS" in _fails("--state", state, "--accounts", accounts, *wrong)
    assert "Cannot use the state directory" in _fails("--state", accounts, "--accounts", accounts)


def test_what_it_prints(tmp_path: Path) -> None:
    accounts = write_accounts(tmp_path / "accounts.toml")
    command = [
        sys.executable,
        "-m",
        "backup.emulator",
        "--state",
        str(tmp_path / "s"),
        "--accounts",
        str(accounts),
    ]
    with subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        urls: dict[str, Any] = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert out == ""
    assert set(urls) == {"glacier", "rolesanywhere", "s3", "iam", "sts", "admin"}
    assert urls["s3"] != urls["glacier"]
    assert err.splitlines()[0] == f"export AWS_ENDPOINT_URL_GLACIER={urls['glacier']}"


def test_loopback_is_quiet_and_anything_else_is_loud(capsys: pytest.CaptureFixture[str]) -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1"):
        warn_of_others(host)
    assert capsys.readouterr().err == ""
    for host in ("0.0.0.0", "192.168.1.1", "::", "fe80::1%eth0"):
        warn_of_others(host)
        assert f"The emulator listens on {host}: every machine" in capsys.readouterr().err
