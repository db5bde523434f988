"""Ways to send the same packs: a plain loop over boto3, nightvault, and what nothing can be faster than."""

from __future__ import annotations

import mmap
import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.utils

from backup.app.base.clock import SystemClock
from backup.format.treehash import PackHasher, leaf_hashes
from backup.inventory.content import archives
from backup.inventory.records import runs
from backup.inventory.store.database import create_inventory
from backup.model import (
    MIB,
    ArchiveLabel,
    ByteRange,
    FrameRow,
    InventoryId,
    JobName,
    Pack,
    PackId,
    PackKind,
    VaultName,
)
from backup.transfer.upload import Uploader
from backup.vault.aws import make_client
from backup.vault.glacier import GlacierVault
from tests.support.archives import part_hashes
from tests.support.doubles import Silent
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY

VAULT = "bench"
PLAIN_PART = 8 * MIB
PART = 32 * MIB
CORES = 2
Send = Callable[[str, Sequence[Path]], None]  # a service's URL, and what to send


def session() -> boto3.Session:
    """With the tests' key."""
    return boto3.Session(ACCESS_KEY_ID, SECRET_ACCESS_KEY, region_name=REGION)


def plain_loop(url: str, packs: Sequence[Path]) -> None:
    """What a tutorial would do: a part after the other, and boto3 sees to the hashes."""
    client = session().client("glacier", region_name=REGION, endpoint_url=url)
    for path in packs:
        upload = client.initiate_multipart_upload(vaultName=VAULT, partSize=str(PLAIN_PART))["uploadId"]
        size = path.stat().st_size
        with path.open("rb") as file:
            start = 0
            while data := file.read(PLAIN_PART):
                where = f"bytes {start}-{start + len(data) - 1}/*"
                client.upload_multipart_part(vaultName=VAULT, uploadId=upload, range=where, body=data)
                start += len(data)
            file.seek(0)
            whole = botocore.utils.calculate_tree_hash(file)
        client.complete_multipart_upload(
            vaultName=VAULT, uploadId=upload, archiveSize=str(size), checksum=whole
        )


class Nightvault:
    """Packs through the uploader, each tree-hashed before it is submitted, as packing does meanwhile."""

    def __init__(self, work: Path) -> None:
        self._spool = work / "spool"
        self._spool.mkdir()
        self._clock = SystemClock()
        self._inventory = create_inventory(
            f"sqlite:///{work}/inventory.sqlite",
            inventory_id=InventoryId(bytes(16)),
            signer_public=bytes(32),
            now=self._clock.now(),
            lock_directory=str(work),
        )
        with self._inventory.writing() as tx:
            vault = archives.get_or_create_vault(tx, VaultName(VAULT))
            self._domain = archives.get_or_create_domain(tx, bytes(16), vault, bytes(16), self._clock.now())
            job = runs.get_or_create_job(tx, JobName(VAULT), vault, bytes(16))
            self._run = runs.open_backup(tx, job, self._clock.now()).number

    def close(self) -> None:
        """Let go of the inventory."""
        self._inventory.close()

    def send(self, url: str, packs: Sequence[Path]) -> None:
        """The whole road from spool files to stored archives; while some are sent, the next are hashed."""
        with ThreadPoolExecutor(CORES, "packing") as packing:
            waiting = iter(packs)
            made = deque(packing.submit(self._pack, path) for path in islice(waiting, CORES))
            client = make_client(session(), "glacier", region=REGION, endpoint=url)
            with Uploader(
                inventory=self._inventory,
                vault=GlacierVault(VaultName(VAULT), client, VAULT),
                clock=self._clock,
                progress=Silent(),
                spool=str(self._spool),
                part_size=PART,
            ) as uploader:
                while made:
                    pack, name = made.popleft().result()
                    made.extend(packing.submit(self._pack, path) for path in islice(waiting, 1))
                    uploader.send(uploader.record(pack, name, domain=self._domain, run=self._run))
                uploader.drain()

    def _pack(self, path: Path) -> tuple[Pack, str]:
        """The file as a pack of its own in the spool, which the uploader removes."""
        identity = PackId(os.urandom(16))
        name = f"{identity.hex()}.pack"
        os.link(path, self._spool / name)
        hasher = PackHasher(PART)
        with mapped(path) as view:
            hasher.update(view)
            size = len(view)
        label = ArchiveLabel(PackKind.DATA, identity, self._inventory.id)
        frames = [FrameRow(0, 6, 10, 10, 0, bytes(16))]
        tree = hasher.tree
        return Pack(
            label,
            b"header",
            size,
            tree.digest(),
            frames,
            [],
            tree.digests,
            part_size=PART,
            part_hashes=hasher.parts,
        ), name


def one_hash(_url: str, packs: Sequence[Path]) -> None:
    """What a download cannot be without: each byte once through SHA-256, on as many threads as cores."""
    _on_threads(packs, leaf_hashes)


def both_hashes(_url: str, packs: Sequence[Path]) -> None:
    """The hashes alone: each byte twice through SHA-256, on as many threads as there are cores."""
    _on_threads(packs, part_hashes)


def raw_sockets(url: str, packs: Sequence[Path]) -> None:
    """The hashes, and the bytes written to sockets behind the least of heads."""
    where = urlsplit(url)
    open_ones = threading.local()

    def send(view: memoryview) -> None:
        tree, plain = part_hashes(view)
        if not hasattr(open_ones, "socket"):
            open_ones.socket = socket.create_connection((where.hostname or "", where.port or 0))
        head = (
            f"PUT /-/vaults/{VAULT}/multipart-uploads/upload HTTP/1.1\r\nHost: {where.netloc}\r\n"
            f"x-amz-content-sha256: {plain.hex()}\r\nx-amz-sha256-tree-hash: {tree.hex()}\r\n"
            f"Content-Length: {len(view)}\r\n\r\n"
        )
        open_ones.socket.sendall(head.encode())
        open_ones.socket.sendall(view)
        said = b""
        while b"\r\n\r\n" not in said:
            said += open_ones.socket.recv(65536)

    _on_threads(packs, send)


def _on_threads(packs: Sequence[Path], each: Callable[[memoryview], object]) -> None:
    waiting: queue.SimpleQueue[tuple[Path, ByteRange] | None] = queue.SimpleQueue()
    for path in packs:
        size = path.stat().st_size
        for start in range(0, size, PART):
            waiting.put((path, ByteRange(start, min(start + PART, size))))

    def work() -> None:
        while (part := waiting.get()) is not None:
            with mapped(*part) as view:
                each(view)

    on_cores(work, waiting)


def on_cores(work: Callable[[], None], waiting: queue.SimpleQueue[Any]) -> None:
    """Do it on a thread for each core, each until it takes a None from what waits."""
    threads = [threading.Thread(target=work) for _ in range(CORES)]
    for thread in threads:
        waiting.put(None)
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def mapped(path: Path, extent: ByteRange | None = None) -> Iterator[memoryview]:
    """A file's bytes, or some of them, without a copy."""
    start, length = (extent.start, extent.length) if extent else (0, path.stat().st_size)
    with path.open("rb") as file:
        held = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
    with held, memoryview(held) as view:
        yield view
