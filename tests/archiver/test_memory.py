"""The memory of a backup is bounded by bytes in flight, whatever the size of a file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.emulated import REPOSITORY

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
DEFAULT_SIZES = (224 * MIB, 32 * MIB)


def back_up(tmp_path: Path, source: Path, *more: str) -> dict[str, int]:
    """Figures of one backup with default sizes, in a process of its own."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.one_backup"),
            *(str(tmp_path / "state"), str(tmp_path / "vault"), str(source)),
            *map(str, DEFAULT_SIZES),
            *more,
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return figures


def test_a_file_of_many_packs(tmp_path: Path, source: Path) -> None:
    """Mostly holes, to take little room here; read as a file system that knows of none would give it."""
    with open(source / "large", "wb") as file:
        for place in range(1280):
            file.seek(place * MIB)
            file.write(b"%d" % (place // 160))
        file.truncate(1280 * MIB)
    figures = back_up(tmp_path, source, "blind")
    assert figures["read"] == 1280 * MIB
    assert figures["new"] < 200 * MIB
    assert figures["peak"] < 400_000_000


def test_a_file_of_1_tib_of_holes(tmp_path: Path, source: Path) -> None:
    with open(source / "sparse", "wb") as file:
        file.truncate(MIB * MIB)
        file.seek(500_000 * MIB)
        file.write(b"data" * (MIB // 4))
    figures = back_up(tmp_path, source)
    assert figures["read"] == figures["new"] == MIB
    assert figures["peak"] < 150_000_000


@pytest.mark.large
def test_what_neither_compresses_nor_repeats(tmp_path: Path, source: Path) -> None:
    with open("/dev/urandom", "rb") as chance, open(source / "random", "wb") as file:
        file.writelines(chance.read(MIB) for _ in range(600))
    figures = back_up(tmp_path, source)
    assert figures["new"] == 600 * MIB
    assert figures["peak"] < 400_000_000


@pytest.mark.large
def test_many_files_of_middling_size(tmp_path: Path, source: Path) -> None:
    with open("/dev/urandom", "rb") as chance:
        for number in range(600):
            (source / str(number)).write_bytes(chance.read(300 * 1024))
    figures = back_up(tmp_path, source)
    assert figures["peak"] < 400_000_000
