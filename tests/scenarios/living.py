"""A small server that lives: it grows for two years, files are changed and renamed, a database is written.

What each snapshot must hold is remembered as hashes, read from the disk without any code of ours.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path

FILES, MAILS = 12, 8
MOST_FILES = 36
"""A rename storm leaves the letters of before; from so many on the oldest are thrown away."""
LARGEST = 3000
LOG_IS_ROTATED_AT = 20_000
Tree = Mapping[str, str]
"""Of each file's path: its mode, its time and the hash of its bytes, as text."""


def tree_of(folder: Path) -> Tree:
    """All files below a folder."""
    found: dict[str, str] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            seen = os.lstat(path)
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest()
            shown = f"{stat.S_IMODE(seen.st_mode):o} {seen.st_mtime_ns} {digest}"
            found[os.path.relpath(path, folder)] = shown
    return found


class LivingServer:
    """The files of a server below `folder`; chance has a seed, so two runs see the same days."""

    def __init__(self, folder: Path, seed: int = 19) -> None:
        self.folder = folder
        self.database = folder.with_name("shop.db")
        self.chance = random.Random(seed)
        self.made = 0
        for place in ("etc", "home/anna", "var/log", "srv/mail"):
            (folder / place).mkdir(parents=True, exist_ok=True)
        for number in range(FILES):
            self._write(f"home/anna/letter {number}", self.chance.randrange(50, LARGEST))
        for number in range(MAILS):
            self._write(f"srv/mail/{number}.eml", self.chance.randrange(50, LARGEST))
        self._write("etc/hosts", 300)
        self.database.write_bytes(self.chance.randbytes(4000))

    def day(self) -> None:
        """A day's work: a log grows, a mail comes, a letter is changed, one record of the database, too."""
        self._append("var/log/messages", self.chance.randrange(100, 600))
        if self.chance.random() < 0.5:
            self._write(
                f"home/anna/letter {self.chance.randrange(FILES)}", self.chance.randrange(50, LARGEST)
            )
            self._expire("home/anna", MOST_FILES)
        if self.chance.random() < 0.5:
            self.made += 1
            self._write(f"srv/mail/new {self.made}.eml", self.chance.randrange(50, LARGEST))
            self._expire("srv/mail", MAILS)
        if self.chance.random() < 0.1:
            (self.folder / "etc/hosts").chmod(self.chance.choice([0o644, 0o600, 0o640]))
        with open(self.database, "r+b") as file:
            file.seek(self.chance.randrange(3900))
            file.write(self.chance.randbytes(100))

    def rename_storm(self) -> None:
        """Every directory of letters and mails gets another name, and every file in it."""
        self.made += 1
        for place in ("home/anna", "srv/mail"):
            for path in sorted((self.folder / place).iterdir()):
                path.rename(path.with_name(f"{path.name}~{self.made}"[-40:]))
            aside = self.folder / f"{place} {self.made}"
            (self.folder / place).rename(aside)
            aside.rename(self.folder / place)

    def ransomware(self) -> None:
        """Every file becomes noise with another name."""
        for path in sorted(self.folder.rglob("*")):
            if path.is_file():
                path.write_bytes(self.chance.randbytes(path.stat().st_size + 16))
                path.rename(path.with_name(path.name + ".locked"))

    def mistake(self) -> None:
        """An admin deletes a directory with all that is in it."""
        shutil.rmtree(self.folder / "srv")

    def is_hurt(self) -> bool:
        """Whether files are locked or missing."""
        return not (self.folder / "srv").exists() or any(self.folder.rglob("*.locked"))

    def wipe(self) -> None:
        """The disk is gone."""
        shutil.rmtree(self.folder)
        self.database.unlink()
        self.folder.mkdir()

    def replace_by(self, restored: Path) -> None:
        """What was restored takes the place of what is there."""
        shutil.rmtree(self.folder)
        shutil.copytree(restored, self.folder, symlinks=True)
        dump = restored.parent / "shop.dump"
        if dump.exists():
            shutil.copy2(dump, self.database)
        for place in ("etc", "home/anna", "var/log", "srv/mail"):
            (self.folder / place).mkdir(parents=True, exist_ok=True)
        if not (self.folder / "etc/hosts").exists():
            self._write("etc/hosts", 300)
        if not self.database.exists():
            self.database.write_bytes(self.chance.randbytes(4000))

    def _write(self, name: str, size: int) -> None:
        (self.folder / name).write_bytes(self.chance.randbytes(size))

    def _append(self, name: str, size: int) -> None:
        path = self.folder / name
        if path.exists() and path.stat().st_size > LOG_IS_ROTATED_AT:
            path.unlink()
        with path.open("ab") as file:
            file.write(self.chance.randbytes(size))

    def _expire(self, place: str, most: int) -> None:
        there = sorted((self.folder / place).iterdir(), key=lambda path: path.stat().st_mtime_ns)
        for path in there[:-most]:
            path.unlink()
