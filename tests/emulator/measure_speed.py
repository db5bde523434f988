"""Measures the emulator beside SHA-256 on one core: `python -m tests.emulator.measure_speed [FOLDER] [MIB]`.

The folder holds the state while it runs; on a file system in memory the disk's own speed is left out.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import MIB, Talker, tree_hash

PART = 64 * MIB
REQUESTS = 4000


def two_passes(data: bytes) -> float:
    """MB/s of hashing everything twice on one core."""
    began = time.perf_counter()
    for _ in range(6):
        hashlib.sha256(data).digest()
    return 3 * len(data) / (time.perf_counter() - began) / 1e6


def _connect(talker: Talker) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(talker.url).netloc, timeout=600)


def upload(talker: Talker, data: bytes, parts: int) -> tuple[float, str]:
    """MB/s of a multipart upload on one connection, and the upload's path."""
    base = "/-/vaults/v/multipart-uploads"
    begun = talker.ask("POST", base, headers={"x-amz-part-size": str(PART)})
    path = f"{base}/{begun.headers['x-amz-multipart-upload-id']}"
    digest = hashlib.sha256(data).hexdigest()
    given = {"x-amz-content-sha256": digest, "x-amz-sha256-tree-hash": tree_hash(data)}
    connection = _connect(talker)
    began = time.perf_counter()
    for number in range(parts):
        where = f"bytes {number * PART}-{(number + 1) * PART - 1}/*"
        headers = talker.signed("PUT", path, headers={**given, "content-range": where}, payload_hash=digest)
        connection.request("PUT", path, data, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204, answer.status
    return parts * PART / (time.perf_counter() - began) / 1e6, path


def download(talker: Talker, path: str) -> float:
    """MB/s of one output."""
    connection, buffer, got = _connect(talker), bytearray(MIB), 0
    began = time.perf_counter()
    connection.request("GET", path, headers=talker.signed("GET", path))
    answer = connection.getresponse()
    while count := answer.readinto(buffer):
        got += count
    return got / (time.perf_counter() - began) / 1e6


class Small(Struct, frozen=True):
    """A small request that can be sent again and again; `name` is its operation."""

    name: str
    talker: Talker
    method: str
    path: str
    headers: Mapping[str, str]


def small_requests(talker: Talker, s3: Talker) -> list[Small]:
    """One of each service; they need a vault `v`, a bucket `bucket` and an object `key` in it."""
    path, digest = "/bucket/key", hashlib.sha256(b"").hexdigest()
    given = {"x-amz-content-sha256": digest}
    return [
        Small("DescribeVault", talker, "GET", "/-/vaults/v", talker.signed("GET", "/-/vaults/v")),
        *(
            Small(name, s3, method, path, s3.signed(method, path, headers=given, service="s3"))
            for name, method in (("HeadObject", "HEAD"), ("GetObject", "GET"))
        ),
    ]


def _ask(small: Small, times: int) -> None:
    connection = _connect(small.talker)
    for _ in range(times):
        connection.request(small.method, small.path, headers=dict(small.headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200


def _processor_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def ask_often(small: Small, clients: int, pid: int) -> tuple[float, float]:
    """Requests a second, each verified, from some processes at once; processor time of the emulator for each,
    in microseconds, which says more on a machine that has other things to do.
    """
    arguments = (small, REQUESTS // clients)
    processes = [multiprocessing.Process(target=_ask, args=arguments) for _ in range(clients)]
    began, spent = time.perf_counter(), _processor_seconds(pid)
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    rate = REQUESTS / (time.perf_counter() - began)
    return rate, (_processor_seconds(pid) - spent) / REQUESTS * 1e6


def _make_object(s3: Talker) -> None:
    region = "<LocationConstraint>eu-central-1</LocationConstraint>"
    region = f"<CreateBucketConfiguration>{region}</CreateBucketConfiguration>"
    for path, body in (("/bucket", region.encode()), ("/bucket/key", bytes(1000))):
        given = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
        assert s3.ask("PUT", path, body, given, service="s3").status == 200


def main(folder: str | None, mib: int) -> None:
    """Print one figure a line."""
    data = os.urandom(PART)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        accounts = write_accounts(Path(name) / "accounts.toml")
        with RunningEmulator(Path(name) / "state", accounts) as running:
            talker = Talker(running.glacier_url)
            talker.ask("PUT", "/-/vaults/v")
            passes, parts = two_passes(data), max(1, mib * MIB // PART)
            print(f"two SHA-256 passes on one core  {passes:6.0f} MB/s")
            rate, path = upload(talker, data, parts)
            print(f"multipart upload                {rate:6.0f} MB/s   {rate / passes:.2f} of it")
            leaf = [hashlib.sha256(data[at : at + MIB]).digest() for at in range(0, PART, MIB)]
            from backup.emulator.core.http.treehash import root

            total = {"x-amz-archive-size": str(parts * PART), "x-amz-sha256-tree-hash": root(leaf * parts)}
            archive = talker.ask("POST", path, headers=total).headers["x-amz-archive-id"]
            wanted = json.dumps({"Type": "archive-retrieval", "ArchiveId": archive}).encode()
            job = talker.ask("POST", "/-/vaults/v/jobs", wanted).headers["x-amz-job-id"]
            running.advance(5 * 3600)
            rate = download(talker, f"/-/vaults/v/jobs/{job}/output")
            print(f"download                        {rate:6.0f} MB/s   {rate / passes:.2f} of it")
            s3 = Talker(running.s3_url)
            _make_object(s3)
            for small in small_requests(talker, s3):
                for clients in (1, 4):
                    rate, spent = ask_often(small, clients, running.pid or 0)
                    print(f"{small.name:14} {clients} clients        {rate:6.0f} /s     {spent:3.0f} us each")
            status = Path(f"/proc/{running.pid}/status").read_text()
            print(
                f"largest memory                  {int(status.split('VmHWM:')[1].split()[0]) // 1024:6} MiB"
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 512)
