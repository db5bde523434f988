"""One command as a whole process: seconds, CPU, peak memory, and what else the machine did meanwhile."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from backup.model import KIB, MIB
from tests.bench.place import Place

_TICKS = os.sysconf("SC_CLK_TCK")


class Measured(Struct, frozen=True):
    """`wall` and `cpu` (user and system, children too) in seconds; `peak` MiB of the largest process;
    `others` the share of all cores that other processes took, 0 to 1; `stored` MiB in the repository."""

    wall: float
    cpu: float
    peak: float
    others: float
    stored: float


class CommandFailedError(Exception):
    """A program that is measured ended with an error; the message is the end of what it said."""


def measure(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, repository: Path
) -> Measured:
    """Run a command in `folder`; `CommandFailedError` if it does not end with 0."""
    with log.open("wb") as file:
        taken, begun = busy(), time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=file, stderr=file)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = log.read_text(errors="replace")[-2000:]
        raise CommandFailedError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    cpu = usage.ru_utime + usage.ru_stime
    others = max(0.0, (busy() - taken - cpu) / wall / (os.cpu_count() or 1))
    return Measured(wall, cpu, usage.ru_maxrss / KIB, others, _size(repository) / MIB)


def measure_at(command: Sequence[str], place: Place) -> Measured:
    """Run a command of a program in the home of its place; `CommandFailedError`."""
    return measure(
        command,
        environment=place.environment,
        folder=place.home,
        log=place.home / "said",
        repository=place.repository,
    )


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two trees, byte for byte: paths below them."""
    found = {str(path.relative_to(one)): path for path in _all_below(one)}
    there = {str(path.relative_to(other)): path for path in _all_below(other)}
    differing = [name for name in found.keys() & there.keys() if not _same(found[name], there[name])]
    return sorted([*(found.keys() ^ there.keys()), *differing])


def _same(one: Path, other: Path) -> bool:
    if one.is_symlink() or other.is_symlink():
        return one.is_symlink() and other.is_symlink() and os.readlink(one) == os.readlink(other)
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir()
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as left, other.open("rb") as right:
        while block := left.read(4 * MIB):
            if block != right.read(4 * MIB):
                return False
    return True


def _all_below(folder: Path) -> list[Path]:
    return [Path(parent, name) for parent, folders, names in os.walk(folder) for name in [*folders, *names]]


def _size(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names
    )


def busy() -> float:
    """Seconds of CPU that all processes of the machine have had (proc(5): all but idle and waiting)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def own_cpu() -> float:
    """The seconds of CPU that this process has taken."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a running process has had, without its children."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        user, system = file.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS
