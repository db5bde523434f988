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

from tests.emulated import RunningEmulator, write_accounts
from tests.emulator.talk import MIB, Talker, tree_hash

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


def _ask(talker: Talker, headers: Mapping[str, str], times: int) -> None:
    connection = _connect(talker)
    for _ in range(times):
        connection.request("GET", "/-/vaults/v", headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200


def small_requests(talker: Talker, clients: int) -> float:
    """DescribeVault calls a second, each verified, from some processes at once."""
    headers = talker.signed("GET", "/-/vaults/v")
    arguments = (talker, headers, REQUESTS // clients)
    processes = [multiprocessing.Process(target=_ask, args=arguments) for _ in range(clients)]
    began = time.perf_counter()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return REQUESTS / (time.perf_counter() - began)


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
            from backup.emulator.treehash import root

            total = {"x-amz-archive-size": str(parts * PART), "x-amz-sha256-tree-hash": root(leaf * parts)}
            archive = talker.ask("POST", path, headers=total).headers["x-amz-archive-id"]
            wanted = json.dumps({"Type": "archive-retrieval", "ArchiveId": archive}).encode()
            job = talker.ask("POST", "/-/vaults/v/jobs", wanted).headers["x-amz-job-id"]
            running.advance(5 * 3600)
            rate = download(talker, f"/-/vaults/v/jobs/{job}/output")
            print(f"download                        {rate:6.0f} MB/s   {rate / passes:.2f} of it")
            for clients in (1, 4):
                rate = small_requests(talker, clients)
                print(f"small requests, {clients} clients       {rate:6.0f} /s")
            status = Path(f"/proc/{running.pid}/status").read_text()
            print(
                f"largest memory                  {int(status.split('VmHWM:')[1].split()[0]) // 1024:6} MiB"
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None, int(sys.argv[2]) if len(sys.argv) > 2 else 512)
