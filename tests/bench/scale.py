"""How cost grows with the number of files: `python -m tests.bench.scale --work FOLDER`.

For each size a tree of that many small files goes through the commands of a long life: a first backup, one
without a change, one after 1 % has changed, looking, a rebuild from the vault alone. Then an inventory of as
many entries with ten chunks each is rebuilt from a catalog that was made of rows. Lines for each size go to
stdout: what should be flat is flat, and what should grow grows no faster than the files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Measured, measure_at
from tests.bench.peers import Nightvault
from tests.bench.place import Place

_FILES_A_FOLDER = 100
_CHUNKS_A_FILE = 10
_SIZES = (50_000, 200_000, 1_000_000)
_HEAD = (
    "| files | step | wall s | CPU s | CPU us a file | peak MiB |",
    "|---|---|---|---|---|---|",
)


def main() -> None:
    """Take every size through all steps and print a table."""
    options = _options()
    print("\n".join(_HEAD), flush=True)
    for files in options.files:
        folder = options.work / f"scale-{files}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for step, taken in _life(folder, files):
            seconds = f"{taken.wall:.1f} | {taken.cpu:.1f} | {taken.cpu / files * 1e6:.1f}"
            print(f"| {files:,} | {step} | {seconds} | {taken.peak:.0f} |", flush=True)
        print(f"| {files:,} | {_of_rows(folder, files)} | | | | |", flush=True)
        shutil.rmtree(folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scale", description="how cost grows")
    parser.add_argument("--work", type=Path, required=True, help="a folder with 15 GiB free")
    parser.add_argument("--files", type=int, nargs="+", default=_SIZES)
    return parser.parse_args()


def _life(folder: Path, files: int) -> Iterator[tuple[str, Measured]]:
    place = Place(folder / "source", folder / "vault", folder / "home")
    place.home.mkdir()
    _fill(place.source, files)
    program = Nightvault()
    measure_at(program.prepare(place), place)
    yield "first backup", measure_at(program.backup(place), place)
    yield "no change", measure_at(program.backup(place), place)
    for number in range(0, files, 100):
        with _path(place.source, number).open("ab") as file:
            file.write(b"changed")
    yield "1 % changed", measure_at(program.backup(place), place)
    inventory = (place.home / "state" / "inventory.sqlite").stat().st_size
    name = f"{files // 2 % _FILES_A_FOLDER:02}.txt"
    top = str(_path(place.source, files // 2).parent)
    yield "ls of a directory", measure_at(program.command(place, "ls", f"latest:{top}"), place)
    yield (
        f"find of {files // _FILES_A_FOLDER:,}",
        measure_at(program.command(place, "find", "--snapshot", "latest", name), place),
    )
    shutil.move(place.home / "state", folder / "gone")
    key = str(place.home / "key")
    yield "rebuild", measure_at(program.command(place, "rebuild", "--key", key, "--wait"), place)
    after = (place.home / "state" / "inventory.sqlite").stat().st_size
    print(f"| {files:,} | inventory: {inventory / files:.0f} B a file, rebuilt {after / files:.0f} | | | | |")


def _fill(source: Path, files: int) -> None:
    for number in range(files):
        path = _path(source, number)
        if number % _FILES_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"number %d of many files, none like another\n" % number)


def _path(source: Path, number: int) -> Path:
    at, name = divmod(number, _FILES_A_FOLDER)
    return source / f"{at // 100:04}" / f"{at % 100:02}" / f"{name:02}.txt"


def _of_rows(folder: Path, files: int) -> str:
    """A rebuild of an inventory with ten chunks a file, in two processes: made, then measured."""
    words = [sys.executable, "-m", "tests.rebuilder.measure_rebuild", str(folder / "rows"), str(files)]
    for _ in range(2):
        done = subprocess.run([*words, str(_CHUNKS_A_FILE)], check=True, capture_output=True, text=True)
    told = json.loads(done.stdout)
    return (
        f"rebuild with {files * _CHUNKS_A_FILE:,} chunks: {told['seconds']} s, {told['peak_mib']} MiB, "
        f"{told['inventory_bytes'] / files / _CHUNKS_A_FILE:.0f} B a chunk"
    )


if __name__ == "__main__":
    main()
