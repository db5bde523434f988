"""What slow parts cost: a backup over a slow line, and of a disk that answers slowly, as root.

    python -m tests.bench.slow line      a line of 100 Mbit/s, in a network of its own: is it always full?
    python -m tests.bench.slow disk      500 reads a second, nothing in the page cache, beside restic

The line is loopback in a network namespace, behind a token bucket (tc-tbf(8)); what leaves is counted ten
times a second. The disk is this machine's, with a limit on the reads of a control group (blkio, or io of
version 2).
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from backup.app.base.clock import SystemClock
from backup.model import MIB
from tests.bench import data
from tests.bench.measure import Measured, measure_at
from tests.bench.peers import PEERS, install
from tests.bench.place import Place
from tests.support.servers import SCRIPT, Server, running_cloud

_EVERY = 0.1  # seconds between two looks at the line
_WITHIN = "--within"  # given to the process that is in the network of its own


def main() -> None:
    """Parse and measure."""
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        if options.what == "disk":
            _disk(Path(name), options.files, options.rounds)
        elif options.within:
            _line(Path(name), options.mbit, options.mib)
        else:
            words = [sys.executable, "-m", "tests.bench.slow", *sys.argv[1:], _WITHIN]
            subprocess.run(["unshare", "--net", *words], check=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.slow", description="slow lines and disks")
    parser.add_argument("what", choices=("line", "disk"))
    parser.add_argument("--work", type=Path, help="a folder on a disk with 5 GiB free; a temporary one")
    parser.add_argument("--mbit", type=int, default=100, help="of the line, a second")
    parser.add_argument("--mib", type=int, default=600, help="that are backed up over it")
    parser.add_argument("--files", type=int, default=20_000, help="that are read from the disk")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(_WITHIN, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _line(folder: Path, mbit: int, mib: int) -> None:
    """Back up what does not compress, and tell how full the line was from the first part to the last."""
    shaped = ("tbf", "rate", f"{mbit}mbit", "burst", "256kb", "latency", "50ms")
    for words in (
        ["ip", "link", "set", "lo", "mtu", "1500", "up"],
        ["tc", "qdisc", "add", "dev", "lo", "root", *shaped],
    ):
        subprocess.run(words, check=True)
    with running_cloud(folder) as cloud:
        for kind in ("glacier", "s3"):
            server = cloud.server(folder / kind, vault=f"{kind}-bench", clock=SystemClock(), kind=kind)
            config = server.config.read_text().splitlines()
            usual = [line for line in config if not line.startswith(("part_size", "pack_size"))]
            server.config.write_text("\n".join(usual) + "\n")
            server.init()
            _fill(server, mib)
            seen = _watched([SCRIPT, "--config", str(server.config), "--quiet", "backup"])
            _tell_line(kind, seen, mbit / 8 * 1e6)


def _fill(server: Server, mib: int) -> None:
    for number in range(mib // 4):
        (server.source / f"{number}.bin").write_bytes(os.urandom(4 * MIB))


def _watched(words: Sequence[str]) -> list[tuple[float, int]]:
    """Seconds, and bytes that had left the line by then, at each look while a command ran."""
    seen: list[tuple[float, int]] = []
    began, before = time.monotonic(), _left()
    with subprocess.Popen(words) as process:
        while process.poll() is None:
            seen.append((time.monotonic() - began, _left() - before))
            time.sleep(_EVERY)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return seen


def _left() -> int:
    """Bytes that loopback has sent so far (proc_net(5))."""
    with open("/proc/net/dev", encoding="ascii") as file:
        line = next(line for line in file if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[8])


def _tell_line(kind: str, seen: Sequence[tuple[float, int]], rate: float) -> None:
    busy = [(at, left) for at, left in seen if 2 * MIB < left < seen[-1][1] - 2 * MIB]
    (began, first), (ended, last) = busy[0], busy[-1]
    full = (last - first) / (ended - began) / rate
    seconds = busy[:: int(1 / _EVERY)]
    slow = sum(left - before < (at - then) * rate / 2 for (then, before), (at, left) in pairwise(seconds))
    print(
        f"{kind}: {(last - first) / MIB:,.0f} MiB in {ended - began:.1f} s, {full:.1%} of the line; "
        f"{began:.1f} s before, {seen[-1][0] - ended:.1f} s after; "
        f"seconds less than half full: {slow} of {len(seconds)}",
        flush=True,
    )


def _disk(folder: Path, files: int, rounds: int) -> None:
    """First backups of small files of which nothing is in memory, in turn with restic."""
    install(["nightvault", "restic"])
    source = folder / "source"
    source.mkdir()
    data.make_small(source, files)
    os.sync()
    found: Mapping[str, list[Measured]] = {"nightvault": [], "restic": []}
    with _slow_reads(folder, 500):
        for turn in range(rounds):
            for name in sorted(found, reverse=bool(turn % 2)):
                place = Place(source, folder / f"{name}-{turn}", folder / f"home-{name}-{turn}")
                place.home.mkdir()
                program = PEERS[name]()
                measure_at(program.prepare(place), place)
                _forget(source)
                found[name].append(measure_at(program.backup(place), place))
                shutil.rmtree(place.repository)
    for name, rows in found.items():
        walls = [row.wall for row in rows]
        print(
            f"{name}: {statistics.median(walls):.1f} s ({min(walls):.1f} to {max(walls):.1f}), "
            f"CPU {statistics.median(row.cpu for row in rows):.1f} s",
            flush=True,
        )


@contextmanager
def _slow_reads(folder: Path, reads: int) -> Iterator[None]:
    """This process, and all that it starts, may read so often in a second from the disk of a folder."""
    device = os.stat(folder).st_dev
    disk = f"{os.major(device)}:{os.minor(device)}"
    old = Path("/sys/fs/cgroup/blkio")
    group = (old if old.is_dir() else Path("/sys/fs/cgroup")) / "nightvault-bench"
    group.mkdir()
    try:
        if old.is_dir():
            (group / "blkio.throttle.read_iops_device").write_text(f"{disk} {reads}")
        else:
            (group / "io.max").write_text(f"{disk} riops={reads}")
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _forget(source: Path) -> None:
    """Drop what the system remembers of a tree: contents, and inodes with the names (proc_sys_vm(5))."""
    for path in data.walk(source):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


if __name__ == "__main__":
    main()
