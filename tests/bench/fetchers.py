"""Ways to bring the same bytes down: a plain loop over boto3, nightvault, and a raw socket."""

from __future__ import annotations

import io
import queue
import socket
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

import botocore.utils

from backup.app.base.clock import SystemClock
from backup.format.treehash import leaf_hashes
from backup.model import ByteRange, FrameRow, RetrievalId, VaultName
from backup.transfer.retrieve import PIECE, Fetcher, ReadyRange
from backup.vault.aws import make_client
from backup.vault.glacier import GlacierVault
from tests.bench.senders import PLAIN_PART, VAULT, on_cores, session
from tests.support.emulated import REGION

Fetch = Callable[[str, int], None]  # a service's URL, and how many bytes


def plain_loop(url: str, size: int) -> None:
    """A range after the other, compared with the service's tree hash."""
    client = session().client("glacier", region_name=REGION, endpoint_url=url)
    for start in range(0, size, PLAIN_PART):
        where = f"bytes={start}-{min(start + PLAIN_PART, size) - 1}"
        answer = client.get_job_output(vaultName=VAULT, jobId="job", range=where)
        data = answer["body"].read()
        if botocore.utils.calculate_tree_hash(io.BytesIO(data)) != answer["checksum"]:
            raise AssertionError("other bytes came than were given")


def nightvault(url: str, size: int) -> None:
    """The fetcher as a restore uses it; the bytes of all pieces pass, none is opened."""
    client = make_client(session(), "glacier", region=REGION, endpoint=url)
    vault = GlacierVault(VaultName(VAULT), client, VAULT)
    passed = 0

    def see(data: memoryview) -> None:
        nonlocal passed
        passed += len(data)

    none: list[FrameRow] = []
    with Fetcher(vault, SystemClock()) as fetcher:
        ready = ReadyRange(RetrievalId("job"), size, ByteRange(0, size), none)
        for _ in fetcher.frames(ready, every=see):
            raise AssertionError
    if passed != size:
        raise AssertionError("not all bytes came")


def raw_sockets(url: str, size: int) -> None:
    """Bytes read from sockets into one buffer a thread, each leaf hashed once."""
    where = urlsplit(url)
    waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    for start in range(0, size, PIECE):
        waiting.put(start)

    def work() -> None:
        buffer = memoryview(bytearray(PIECE))
        with socket.create_connection((where.hostname or "", where.port or 0)) as connection:
            answers = connection.makefile("rb")
            while (start := waiting.get()) is not None:
                last = min(start + PIECE, size) - 1
                head = (
                    f"GET /-/vaults/{VAULT}/jobs/job/output HTTP/1.1\r\nrange: bytes={start}-{last}\r\n\r\n"
                )
                connection.sendall(head.encode())
                while answers.readline() != b"\r\n":
                    pass
                part = buffer[: last - start + 1]
                io.BufferedReader.readinto(answers, part)
                leaf_hashes(part)

    on_cores(work, waiting)


WAYS: Final[Mapping[str, Fetch]] = {
    "boto3, plain": plain_loop,
    "nightvault": nightvault,
    "raw sockets": raw_sockets,
}
