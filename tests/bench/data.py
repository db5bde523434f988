"""The data sets: A is 3 GiB of mixed files, B 200,000 files of 0 to 16 KiB, C a million of 45 bytes.

They are alike everywhere but for /usr: A is a third programs and documents of this system, a third that
does not compress, a third log lines. Half of B's files are log lines, half do not compress. No two of C's
are alike.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from backup.model import KIB, MIB

_USR = ("lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "bin", "share", "lib/python3", "include", "lib/gcc")
_LARGEST_COPIED = 64 * MIB
_FILES_A_FOLDER = 100
_LARGEST_SMALL = 16 * KIB


def make_mixed(folder: Path, mib: int = 3072) -> None:
    """Data set A: `mib` MiB in three equal parts (less where /usr has less)."""
    third = mib // 3 * MIB
    _copy_programs(folder / "programs", third)
    random_files, text_files = folder / "random", folder / "text"
    random_files.mkdir(parents=True)
    text_files.mkdir()
    for number in range(8):
        _write(random_files / f"{number}.bin", _noise(1000 + number, third // 8))
    for number in range(4):
        _write(text_files / f"{number}.log", _shuffled_lines(2000 + number, third // 4))


def make_small(folder: Path, files: int = 200_000) -> None:
    """Data set B: `files` files of 0 to 16 KiB, a hundred in a folder."""
    source = random.Random(3000)
    pools = (_lines(source, 32 * MIB), source.randbytes(32 * MIB))
    for number in range(files):
        at, name = divmod(number, _FILES_A_FOLDER)
        place = folder / f"{at // 100:03}" / f"{at % 100:02}"
        if name == 0:
            place.mkdir(parents=True)
        size = source.randrange(_LARGEST_SMALL + 1)
        pool = pools[source.random() < 0.5]
        start = source.randrange(len(pool) - size)
        (place / f"{name:02}.dat").write_bytes(pool[start : start + size])


def make_tiny(folder: Path, files: int = 1_000_000) -> None:
    """Data set C: `files` files of some 45 bytes, a hundred in a folder."""
    for number in range(files):
        at, name = divmod(number, _FILES_A_FOLDER)
        place = folder / f"{at // 100:03}" / f"{at % 100:02}"
        if name == 0:
            place.mkdir(parents=True)
        (place / f"{name:02}.txt").write_bytes(b"number %07d of many files, none like another\n" % number)


def change(folder: Path, turn: int) -> None:
    """Change about 1 %: of large files some runs of bytes, and in every fourth a few bytes moved in; of
    small files some have grown, some are new and some gone."""
    source = random.Random(5000 + turn)
    small, large = _by_size(folder)
    touched = source.sample(small, max(1, len(small) // 100))
    for place, path in enumerate(touched):
        if place % 10 == 0:
            path.unlink()
        elif place % 10 == 1:
            new = path.parent / f"new-{turn}-{place}"
            new.write_bytes(source.randbytes(source.randrange(_LARGEST_SMALL)))
        else:
            with path.open("ab") as file:
                file.write(source.randbytes(512))
    for number, path in enumerate(large):
        _change_large(path, source, moves=number % 4 == 0)


def _change_large(path: Path, source: random.Random, *, moves: bool) -> None:
    size, run = path.stat().st_size, 256 * KIB
    with path.open("r+b") as file:
        for _ in range(max(1, size // 100 // run)):
            file.seek(source.randrange(size - run))
            file.write(source.randbytes(run))
        if moves:
            place = source.randrange(size)
            file.seek(place)
            rest = file.read()
            file.seek(place)
            file.write(b"moved in" + rest)


def warm(folder: Path) -> None:
    """Have the system keep every file in memory, so that no program reads for another."""
    for path in walk(folder):
        if not path.is_symlink():
            with path.open("rb") as file:
                while file.read(4 * MIB):
                    pass


def walk(folder: Path) -> Iterator[Path]:
    """All but directories below a folder, in the order of paths."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _by_size(folder: Path) -> tuple[list[Path], list[Path]]:
    small: list[Path] = []
    large: list[Path] = []
    for path in walk(folder):
        if not path.is_symlink():
            (large if path.stat().st_size >= 8 * MIB else small).append(path)
    return small, large


def _copy_programs(folder: Path, most: int) -> None:
    """Files and symlinks of /usr in the order of paths, until `most` bytes are there."""
    total = 0
    for path in itertools.chain.from_iterable(walk(Path("/usr", part)) for part in _USR):
        copy = folder / path.relative_to("/usr")
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():
            if not copy.is_symlink():
                copy.symlink_to(os.readlink(path))
            continue
        if not path.is_file() or path.stat().st_size > _LARGEST_COPIED:
            continue
        shutil.copy2(path, copy)
        total += path.stat().st_size
        if total >= most:
            return


def _noise(seed: int, size: int) -> Iterator[bytes]:
    source = random.Random(seed)
    for start in range(0, size, 8 * MIB):
        yield source.randbytes(min(8 * MIB, size - start))


def _shuffled_lines(seed: int, size: int) -> Iterator[bytes]:
    """Log lines, a quarter of `size` of them different: blocks of 64 KiB in another order each time."""
    source = random.Random(seed)
    lines = _lines(source, size // 4)
    blocks = [lines[start : start + 64 * KIB] for start in range(0, len(lines), 64 * KIB)]
    for _ in range(4):
        source.shuffle(blocks)
        yield b"".join(blocks)


def _lines(source: random.Random, size: int) -> bytes:
    """Lines as a service logs them; zstd makes about a fifth of them."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(source.choices(letters, k=source.randint(3, 10))) for _ in range(4000)]
    levels = ("INFO", "INFO", "INFO", "DEBUG", "WARNING", "ERROR")
    made, total, second = [], 0, 1_700_000_000.0
    while total < size:
        second += source.random() / 20
        rare, common = words[int(source.random() ** 2 * 3999)], words[int(source.random() * 400)]
        user = words[int(source.random() * 3999)]
        line = (
            f"{second:.3f} {source.choice(levels)} [{words[int(second) % 97]}] {rare} {common} "
            f"took={source.randrange(9999)}ms id={source.getrandbits(40):x} user={user}\n"
        )
        made.append(line)
        total += len(line)
    return "".join(made).encode()[:size]


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)
