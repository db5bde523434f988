"""Restore very many files from the emulator, and tell time and memory.

    python -m tests.restorer.measure_restore FOLDER [--files N] [--size BYTES] [--data BYTES]

Each file (of 100,000) is `--size` bytes long (200,000), of which `--data` (4,000) are its own; the rest is a
hole, so that 20 GB fit on a small disk. Backup and restore run in processes of their own; prints
one JSON line with figures of both.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from backup.model import MIB, Tier, VaultName
from backup.restorer.restore import advance, begin_restore, deliver, is_ready, plan_restore
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, ManualClock
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.restores import peak
from tests.support.rigs import HOUR, glacier_client

A_THOUSAND = 1000
TIMEOUT = 3600


def plant_many(source: Path, files: int, size: int, data: int) -> None:
    """So many files, a thousand a directory, each with data of its own at its beginning, then a hole."""
    content = random.Random(5)
    for number in range(files):
        folder = source / f"{number // A_THOUSAND:04}"
        if number % A_THOUSAND == 0:
            folder.mkdir(parents=True)
        with open(folder / f"file-{number}", "wb") as file:
            file.write(content.randbytes(data))
            file.truncate(size)


def measure(folder: Path, *, files: int, size: int, data: int) -> dict[str, Any]:
    """Plant, back up, restore and compare; the figures of both acts."""
    source = folder / "source"
    plant_many(source, files, size, data)
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "aws", accounts) as emulator:
        glacier_client(emulator).create_vault(vaultName="many")
        backed = _act("backup", folder, emulator)
        restored = _act("restore", folder, emulator)
    for number in random.Random(6).sample(range(files), min(files, A_THOUSAND)):
        name = f"{number // A_THOUSAND:04}/file-{number}"
        assert (folder / "out" / name).read_bytes() == (source / name).read_bytes()
    return {"files": files, "logical": files * size, "backup": backed, "restore": restored}


def _act(act: str, folder: Path, emulator: RunningEmulator) -> dict[str, Any]:
    words = [sys.executable, "-m", "tests.restorer.measure_restore", str(folder), "--act", act]
    words += ["--emulator", f"{emulator.glacier_url} {emulator.admin_url}"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=TIMEOUT)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _run(act: str, folder: Path, urls: str) -> dict[str, Any]:
    emulator = RunningEmulator(folder / "aws", folder / "accounts.toml")
    emulator.glacier_url, emulator.admin_url = urls.split()
    vault = GlacierVault(VaultName("cold"), glacier_client(emulator), "many")
    clock = ManualClock()
    sizes = {"pack_size": 64 * MIB, "part_size": 8 * MIB}
    site = Site.attach(folder / "site", vault, [folder / "source"], clock=clock, **sizes)
    site.askers = 8
    started = time.monotonic()
    if act == "backup":
        report = site.backup()
        told: dict[str, Any] = {"outcome": str(report.outcome), "archives": report.archives}
    else:
        told = _restore(site, folder, emulator, clock)
    return told | {"seconds": round(time.monotonic() - started, 1), "peak_mib": peak() // 1024}


def _restore(site: Site, folder: Path, emulator: RunningEmulator, clock: ManualClock) -> dict[str, Any]:
    world = site.restore_world
    plan = plan_restore(site.snapshot(), os.fsencode(folder / "source"), world)
    target = os.fsencode(folder / "out")
    restore = begin_restore(plan, target, world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key])
    while not is_ready(known := advance(restore, world)):
        emulator.advance(5 * HOUR)
        clock.advance(timedelta(hours=5))
    report = deliver(restore, known, world)
    return {
        "outcome": str(report.outcome),
        "files": report.files,
        "bytes": report.bytes,
        "retrieved": report.retrieved,
        "fetched": report.fetched,
        "retrievals": report.retrievals,
    }


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    words = argparse.ArgumentParser()
    words.add_argument("folder", type=Path)
    words.add_argument("--files", type=int, default=100_000)
    words.add_argument("--size", type=int, default=200_000)
    words.add_argument("--data", type=int, default=4_000)
    words.add_argument("--act")
    words.add_argument("--emulator", default="")
    given = words.parse_args()
    if given.act:
        told = _run(given.act, given.folder, given.emulator)
    else:
        told = measure(given.folder, files=given.files, size=given.size, data=given.data)
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
