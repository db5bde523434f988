"""Measure nightvault beside its peers: `python -m tests.bench --work FOLDER`, or `make bench`.

Each round takes every program in turn through the four phases on the same data: a first backup, one without
a change, one after 1 % has changed, a restore, which is compared byte for byte. Another program begins each
round. Nothing is deleted before the last has ended, as some file systems are slow for minutes after very many
files went; the large files of a round that is over are emptied. Tables go to stdout and, with `--page`, after
each data set into JOURNAL.md, and short into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from backup.model import MIB
from tests.bench import chart, data, report
from tests.bench.measure import Measured, differences, measure
from tests.bench.peers import PEERS, Nightvault, Peer, install, usual
from tests.bench.place import Place, restored
from tests.bench.report import PHASES, Row

_SETS: Mapping[str, Callable[[Path, int], None]] = {
    "A": data.make_mixed,
    "B": data.make_small,
    "C": data.make_tiny,
}
_SIZES = {"A": 3072, "B": 200_000, "C": 1_000_000}  # MiB; files
_MOST_ROUNDS = {"C": 1}  # each takes some five million inodes
_Result = TypeVar("_Result")
_FIRST, _SAME, _CHANGED, _RESTORE = PHASES


def main() -> None:
    """Parse, prepare, measure, tell."""
    options = _options()
    install(options.peers)
    peers: list[Peer] = [PEERS[name]() for name in options.peers]
    peers += map(Nightvault, options.also)
    versions = {peer.name: peer.version() for peer in peers}
    rows: list[Row] = []
    rounds = options.work / "rounds"
    shutil.rmtree(rounds, ignore_errors=True)
    for name in options.sets:
        made = _made(options.work, name, options.scale)
        for turn in range(min(options.rounds, _MOST_ROUNDS.get(name, options.rounds))):
            first = turn % len(peers)
            folder = rounds / f"{name}-{turn}"
            for row in _round(folder, name, made, turn, [*peers[first:], *peers[:first]]):
                rows.append(row)
                one = row.measured
                print(
                    f"{name} {turn + 1} {row.peer:10} {row.phase:11} {one.wall:7.1f} s {one.cpu:7.1f} s CPU "
                    f"{one.peak:6.0f} MiB, stored {one.stored:7.0f} MiB, others {one.others:.0%}",
                    file=sys.stderr,
                    flush=True,
                )
            _empty(folder)
        if options.page:  # after each set: the next may take hours, or fail
            report.write(options.page, report.tables(rows, versions))
            if options.page.resolve() == chart.JOURNAL:
                chart.main()
    print(report.tables(rows, versions))
    shutil.rmtree(rounds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="nightvault beside its peers")
    parser.add_argument("--work", type=Path, required=True, help="a folder with 50 GiB free")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", choices=sorted(_SETS), default=sorted(_SETS))
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=usual())
    parser.add_argument(
        "--also",
        type=Path,
        nargs="+",
        default=[],
        metavar="ENVIRONMENT",
        help="nightvault again, with the Python of other environments (VENV=... make venv)",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the data sets' sizes")
    parser.add_argument("--page", type=Path, help="where the tables go, as tests/bench/JOURNAL.md")
    return parser.parse_args()


def _made(work: Path, name: str, scale: float) -> Path:
    """The data set, made once; the scale is in its name."""
    folder = work / f"data-{name}-{scale:g}"
    if not folder.exists():
        print(f"making data set {name} in {folder} ...", file=sys.stderr, flush=True)
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _elsewhere(_SETS[name], unfinished, max(3, int(_SIZES[name] * scale)))
        unfinished.rename(folder)
    return folder


def _elsewhere(work: Callable[..., _Result], *arguments: object) -> _Result:
    """Do it in a process of its own: what this one ever held counts as the peak of all that it starts."""
    with ProcessPoolExecutor(1, get_context("spawn")) as one:
        return one.submit(work, *arguments).result()


def _round(work: Path, name: str, made: Path, turn: int, peers: Sequence[Peer]) -> Iterator[Row]:
    """All phases of all programs on a copy of the data, which the third phase changes."""
    source = work / "source"
    shutil.copytree(made, source, symlinks=True)
    places = {peer.name: _place(work, source, peer) for peer in peers}
    for peer in peers:
        place = places[peer.name]
        _measure(peer.prepare(place), place, source)
        _elsewhere(data.warm, source)  # borg has the system forget what it read
        for phase in (_FIRST, _SAME):
            os.sync()
            yield Row(name, phase, peer.name, turn, _measure(peer.backup(place), place, source))
    _elsewhere(data.change, source, turn)
    for peer in peers:
        place = places[peer.name]
        _elsewhere(data.warm, source)
        os.sync()
        yield Row(name, _CHANGED, peer.name, turn, _measure(peer.backup(place), place, source))
        yield Row(name, _RESTORE, peer.name, turn, _restore(peer, place, work / f"restored-{peer.name}"))


def _empty(folder: Path) -> None:
    """Give the room of large files back, without deleting one."""
    for path in data.walk(folder):
        if not path.is_symlink() and path.stat().st_size >= MIB:
            os.truncate(path, 0)


def _place(work: Path, source: Path, peer: Peer) -> Place:
    place = Place(source, work / f"repository-{peer.name}", work / f"home-{peer.name}")
    place.home.mkdir()
    return place


def _measure(command: Sequence[str], place: Place, folder: Path) -> Measured:
    return measure(
        command,
        environment=place.environment,
        folder=folder,
        log=place.home / "said",
        repository=place.repository,
    )


def _restore(peer: Peer, place: Place, target: Path) -> Measured:
    """Restore and compare; a tree that came back other than it was ends the benchmark."""
    target.mkdir()
    command = peer.restore(place, target)
    os.sync()
    measured = _measure(command, place, target)
    differing = _elsewhere(differences, place.source, restored(target, place.source))
    if differing:
        raise SystemExit(f"bench: {peer.name} restored {len(differing)} paths wrong, first {differing[0]}")
    return measured


if __name__ == "__main__":
    main()
