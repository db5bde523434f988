"""How quick a mount is over a million entries: `python -m tests.bench.looking --work FOLDER`.

What docs/looking.md promises, each with its limit, over a directory vault: the time of a mount, of lists and
walks, of reading beside a restore, of a seek in a file with holes, and the memory of it all. FOLDER is kept:
the next time only what is measured is done again. It ends with 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from backup.model import MIB
from tests.bench.measure import measure_at
from tests.bench.peers import Nightvault
from tests.bench.place import Place
from tests.support.fuse_mounts import await_state

_FLAT, _WALKED, _REST, _A_FOLDER = 10_000, 200_000, 790_000, 100
_LARGE = 1024  # MiB
_SPARSE = 4096  # MiB, of which each 64th is data


class Limit(Struct, frozen=True):
    """A promise: what was measured, and the most that it may be; `is_least`: the least."""

    what: str
    found: float
    limit: float
    unit: str
    is_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.found >= self.limit if self.is_least else self.found <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.is_least else "≤"
        kept = "" if self.holds else " **not kept**"
        return f"| {self.what} | {self.found:.2f} {self.unit} | {sign} {self.limit:g} {self.unit}{kept} |"


def main() -> None:
    """Measure each and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.looking", description="a mount's promises")
    parser.add_argument("--work", type=Path, required=True, help="a folder with 5 GiB free")
    folder: Path = parser.parse_args().work.absolute()
    place = Place(folder / "source", folder / "vault", folder / "home")
    program = Nightvault()
    if not place.home.exists():
        place.home.mkdir(parents=True)
        _fill(place.source)
        for command in (program.prepare(place), program.backup(place)):
            measure_at(command, place)
    print("| what | measured | limit |\n|---|---|---|", flush=True)
    all_hold = True
    for promise in _promises(program, place, folder / "mount"):
        print(promise, flush=True)
        all_hold = all_hold and promise.holds
    sys.exit(not all_hold)


def _promises(program: Nightvault, place: Place, at: Path) -> Iterator[Limit]:
    saved = at / "snapshots/latest/all" / str(place.source).lstrip("/")
    begun = time.perf_counter()
    with _mounted(program, place, at):
        yield Limit("mount, and look into it", _took(saved.lstat, begun), 0.5, "s")
        yield _timed(f"ls -l of {_FLAT:,}", ["ls", "-l", saved / "flat"], 1)
    with _mounted(program, place, at) as process:
        yield _timed(f"find over {_WALKED:,}, by name", ["find", saved / "walked", "-name", "x"], 3)
        yield _timed(f"find over {_WALKED:,}, with stat", ["find", saved / "walked", "-size", "+1G"], 15)
        for _ in range(2):
            subprocess.run(["find", saved, "-size", "+9G"], check=True)
        yield _peak("two walks with stat over all", process)
    with _mounted(program, place, at) as process:
        yield _timed("a seek in a file of 4 GiB with holes", ["tail", "-c", "4096", saved / "sparse"], 0.5)
        reading = _took(partial(_read, saved / "large"), time.perf_counter())
        yield _peak(f"{_LARGE} MiB read", process)
    target = place.home / "back"
    path = f"latest:{place.source}/large"
    words = ("restore", path, "--target", str(target), "--key", str(place.home / "key"), "--wait")
    restoring = measure_at(program.command(place, "--quiet", *words), place).wall
    shutil.rmtree(target)
    yield Limit("speed of reading by that of a restore", restoring / reading, 0.7, "times", is_least=True)


@contextmanager
def _mounted(program: Nightvault, place: Place, at: Path) -> Iterator[subprocess.Popen[bytes]]:
    at.mkdir(exist_ok=True)
    words = program.command(place, "--quiet", "mount", str(at), "--key", str(place.home / "key"))
    with subprocess.Popen(words) as process:
        if not await_state(at, mounted=True):
            raise TimeoutError("it is not mounted")
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _timed(what: str, words: list[str | Path], limit: float) -> Limit:
    begun = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return Limit(what, time.perf_counter() - begun, limit, "s")


def _took(done: Callable[[], object], begun: float) -> float:
    done()
    return time.perf_counter() - begun


def _peak(what: str, process: subprocess.Popen[bytes]) -> Limit:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (peak,) = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return Limit(f"memory after {what}", peak / 1024, 150, "MiB")


def _read(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def _fill(source: Path) -> None:
    for name, files in (("flat", _FLAT), ("walked", _WALKED), ("rest", _REST)):
        each = files if name == "flat" else _A_FOLDER
        for number in range(files):
            folder = source / name / f"{number // each // 100:03}" / f"{number // each % 100:02}"
            folder = source / name if name == "flat" else folder
            if number % each == 0:
                folder.mkdir(parents=True)
            os.close(os.open(folder / f"{number % each:05}.txt", os.O_CREAT | os.O_WRONLY, 0o644))
    made = random.Random(5)
    with (source / "large").open("wb") as file:
        for _ in range(_LARGE):
            file.write(made.randbytes(MIB))
    with (source / "sparse").open("wb") as file:
        file.truncate(_SPARSE * MIB)
        for at in range(0, _SPARSE, 64):
            file.seek(at * MIB)
            file.write(made.randbytes(MIB))


if __name__ == "__main__":
    main()
