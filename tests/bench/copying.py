"""Measure a copy beside boto3: `python -m tests.bench.copying`, or `make bench-copying`.

From a directory into a bucket of the emulator, which is a process of its own: nightvault's copy of all packs,
with what it compares and its catalogs, and `upload_file` of boto3 with the same files and parts, each into a
new bucket, in turn. Seconds of CPU are this process's own; where others use the cores they say more than the
wall clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from msgspec import Struct
from msgspec.structs import asdict, replace

from backup.app.base.clock import SystemClock
from backup.app.base.malloc import share_freed_memory
from backup.copier.context import CopyChoice, CopyContext
from backup.copier.copy import copy
from backup.model import MIB, VaultName
from backup.vault.directory import DirectoryVault
from tests.bench.measure import busy, cpu_of, own_cpu
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT
from tests.support.emulated import REGION, RunningEmulator, write_accounts
from tests.support.rigs import s3_client, s3_vault

_PACK, _PART, _AT_ONCE = 64 * MIB, 32 * MIB, 3


class _Turn(Struct, frozen=True):
    """One program's turn: seconds, its seconds of CPU, the share of the cores that others had."""

    program: str
    wall: float
    cpu: float
    others: float


def main() -> None:
    """Make packs, take turns, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.copying", description="a copy, measured")
    parser.add_argument("--work", type=Path, help="a folder with 3 GiB free; a temporary one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=512)
    options = parser.parse_args()
    share_freed_memory()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        turns = _measured(Path(name), options.rounds, options.mib)
    plain, ours = ([turn for turn in turns if turn.program == program] for program in _PROGRAMS)
    for what in ("wall", "cpu"):
        some, others = (statistics.median(getattr(turn, what) for turn in each) for each in (plain, ours))
        print(f"{what:5} boto3 {some:6.2f} s, copy {others:6.2f} s: {some / others:.2f} times boto3's speed")


_PROGRAMS = "boto3", "copy"


def _measured(work: Path, rounds: int, mib: int) -> list[_Turn]:
    source = work / "source"
    source.mkdir()
    for number in range(-(-mib // 16)):
        (source / f"{number}").write_bytes(os.urandom(16 * MIB))
    clock = SystemClock()
    home = DirectoryVault(VaultName("disk"), str(work / "disk"), clock)
    home.create()
    site = Site.create(work / "state", home, [source], clock=clock, pack_size=_PACK, part_size=_PART)
    site.backup()
    stored = (path for path in (work / "disk").rglob("*") if path.is_file())
    packs = sorted(path for path in stored if path.stat().st_size > MIB)
    turns: list[_Turn] = []
    with RunningEmulator(work / "aws", write_accounts(work / "accounts.toml")) as emulator:
        client = s3_client(emulator.s3_url)

        def plain(bucket: str) -> None:
            config = TransferConfig(
                multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=_AT_ONCE
            )
            for path in packs:
                client.upload_file(str(path), bucket, path.name, Config=config)

        def ours(bucket: str) -> None:
            to = s3_vault(client, bucket, name=bucket, storage_class="STANDARD")
            context = CopyContext(
                **asdict(replace(site.world, vault=to)),
                source=home,
                keys=site.keys,
                sending=replace(site.job.sending, part_size=_PART, most_parts_at_once=_AT_ONCE),
                folder=str(work / "copies" / bucket),
                limit_on=lambda _count, _size: NO_LIMIT,
            )
            report = copy(context, site.job.name, CopyChoice())
            assert report.bytes >= sum(path.stat().st_size for path in packs)

        for turn in range(rounds):
            ways = [("boto3", plain), ("copy", ours)]
            for program, way in ways if turn % 2 else reversed(ways):
                bucket = f"{program}-{turn}"
                turns.append(_turn(client, emulator, program, bucket, way))
    site.close()
    return turns


def _turn(
    client: Any, emulator: RunningEmulator, program: str, bucket: str, way: Callable[[str], None]
) -> _Turn:
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    server = emulator.pid or 0
    taken, served, begun, at = busy(), cpu_of(server), own_cpu(), time.perf_counter()
    way(bucket)
    wall, cpu = time.perf_counter() - at, own_cpu() - begun
    known = cpu + cpu_of(server) - served
    others = max(0.0, (busy() - taken - known) / wall / (os.cpu_count() or 1))
    print(f"{program:6} {wall:6.2f} s {cpu:6.2f} s CPU, others {others:.0%}", flush=True)
    return _Turn(program, wall, cpu, others)


if __name__ == "__main__":
    main()
