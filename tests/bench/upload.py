"""Measure how packs go up and come down: `python -m tests.bench.upload`, or `make bench-upload`.

Against a sink in a process of its own that only reads, and against the emulator: a plain loop over boto3 with
8 MiB parts, nightvault, raw sockets, and as floor the SHA-256 passes alone, on two threads: two for what goes
up, one for what comes down. In each round all take their turn on the same packs. Tables go to stdout and
with `--page` into JOURNAL.md, and short into docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from backup.app.base.malloc import share_freed_memory
from backup.cli import GC_THRESHOLDS
from backup.model import MIB
from tests.bench import chart, fetchers, report, senders
from tests.bench.measure import busy, cpu_of, own_cpu
from tests.bench.sink import running_sink
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.emulator_clients import Talker

_PACK = 224 * MIB
_MARKS = "<!-- upload: begin -->", "<!-- upload: end -->"
_FLOORS = {"sink": "hashes alone", "from the sink": "one hash alone", "emulator": "hashes alone"}
_LOADED = 0.1  # as in the other tables
_HEAD = (
    "| towards | program | wall s | MB/s | times plain | times the floor | CPU s | CPU of plain |",
    "|---|---|---|---|---|---|---|---|",
)


class _Turn(Struct, frozen=True):
    """One program's turn: seconds, CPU seconds of this process, the share of the cores others had."""

    towards: str
    program: str
    wall: float
    cpu: float
    others: float


def main() -> None:
    """Make packs, take turns, tell."""
    options = _options()
    gc.set_threshold(*GC_THRESHOLDS)  # as the program does
    share_freed_memory()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        work = Path(name)
        packs = _make_packs(work / "packs", options.packs)
        nightvault = senders.Nightvault(work)
        turns: list[_Turn] = []
        for _ in range(options.rounds):
            turns += _round(packs, nightvault, work)
        nightvault.close()
    text = _tables(turns, options.packs * _PACK, options.rounds)
    print(text)
    if options.page:
        report.write(options.page, text, marks=_MARKS)
        if options.page.resolve() == chart.JOURNAL:
            chart.main()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.upload", description="uploads, measured")
    parser.add_argument("--work", type=Path, help="a folder with 2 GiB free; a temporary one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--packs", type=int, default=6, help="of 224 MiB")
    parser.add_argument("--page", type=Path, help="where the tables go, as tests/bench/JOURNAL.md")
    return parser.parse_args()


def _make_packs(folder: Path, number: int) -> list[Path]:
    folder.mkdir()
    packs = [folder / f"{place}.pack" for place in range(number)]
    for path in packs:
        with path.open("wb") as file:
            file.writelines(os.urandom(MIB) for _ in range(_PACK // MIB))
    return packs


def _round(packs: Sequence[Path], nightvault: senders.Nightvault, work: Path) -> Iterator[_Turn]:
    ways: Mapping[str, senders.Send] = {
        "boto3, plain": senders.plain_loop,
        "nightvault": nightvault.send,
        "raw sockets": senders.raw_sockets,
        "hashes alone": senders.both_hashes,
    }
    with running_sink() as sink:
        for program, send in ways.items():
            yield _measured("sink", program, sink.pid, partial(send, sink.url, packs))
        for program, fetch in fetchers.WAYS.items():
            action = partial(fetch, sink.url, len(packs) * _PACK)
            yield _measured("from the sink", program, sink.pid, action)
        action = partial(senders.one_hash, sink.url, packs)
        yield _measured("from the sink", "one hash alone", sink.pid, action)
    for program in ("boto3, plain", "nightvault"):
        with _running_emulator() as running:
            action = partial(ways[program], running.glacier_url, packs)
            yield _measured("emulator", program, running.pid or 0, action)


@contextmanager
def _running_emulator() -> Iterator[RunningEmulator]:
    """A new one with its vault, what it is given in memory where the system has a place for that."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.path.isdir(memory) else None) as name:
        accounts = write_accounts(Path(name) / "accounts.toml")
        with RunningEmulator(Path(name) / "state", accounts) as running:
            Talker(running.glacier_url).ask("PUT", f"/-/vaults/{senders.VAULT}")
            yield running


def _measured(towards: str, program: str, server: int, action: Callable[[], None]) -> _Turn:
    taken, served, begun, at = busy(), cpu_of(server), own_cpu(), time.perf_counter()
    action()
    wall, cpu = time.perf_counter() - at, own_cpu() - begun
    known = cpu + cpu_of(server) - served
    others = max(0.0, (busy() - taken - known) / wall / (os.cpu_count() or 1))
    said = f"{towards:14} {program:13} {wall:6.2f} s {cpu:6.2f} s CPU, others {others:.0%}"
    print(said, file=sys.stderr, flush=True)
    return _Turn(towards, program, wall, cpu, others)


def _tables(turns: Sequence[_Turn], size: int, rounds: int) -> str:
    how = report.how_measured(
        f"{size / MIB:,.0f} MiB in {rounds} rounds",
        "`times the floor` is against two SHA-256 passes on two threads, from the sink against one. "
        "CPU is that of the program alone: "
        "sink and emulator run on the same cores; `*` marks a row that ran beside other load",
    )
    lines = [how, "", *_HEAD]
    for towards in dict.fromkeys(turn.towards for turn in turns):
        some = [turn for turn in turns if turn.towards == towards]
        floor = [turn.wall for turn in turns if turn.program == _FLOORS[towards]]
        for program in dict.fromkeys(turn.program for turn in some):
            lines.append(_line(program, some, floor, size))
    return "\n".join(lines)


def _line(program: str, some: Sequence[_Turn], floor: Sequence[float], size: int) -> str:
    own = [turn for turn in some if turn.program == program]
    plain = [turn for turn in some if turn.program == "boto3, plain"]
    middle = statistics.median
    wall, cpu = [turn.wall for turn in own], [turn.cpu for turn in own]
    mark = " \\*" if any(turn.others > _LOADED for turn in own) else ""
    cells = [
        own[0].towards,
        f"{program}{mark}",
        report.spread(wall, 2),
        f"{size / middle(wall) / 1e6:,.0f}",
        f"{middle(turn.wall for turn in plain) / middle(wall):.2f}",
        f"{middle(floor) / middle(wall):.2f}",
        report.spread(cpu, 2),
        f"{middle(cpu) / middle(turn.cpu for turn in plain):.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
