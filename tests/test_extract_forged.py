"""A forged snapshot, written out by `deploy/nightvault-extract.py`, touches the target alone."""

from __future__ import annotations

import grp
import importlib.util
import os
import pwd
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from backup.format.keys import plain_key_file
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support import packs
from tests.support.backups import Site, recovery_key
from tests.support.doubles import ManualClock
from tests.support.emulated import REPOSITORY

SCRIPT = Path(REPOSITORY) / "deploy" / "nightvault-extract.py"
FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER = 1, 2, 3, 4, 5
PAYLOAD = b"#!/bin/sh\nid\n"
TOP, DOOR, DEEP, LONG = 1, 2, 3, 4
DIRECTORIES = {TOP: b"/", DOOR: b"/door", DEEP: b"/door/" + b"d/" * 2000, LONG: b"/" + b"n" * 300}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("nightvault_extract_forged", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Forged:
    """What the catalogs of an intruder say: all files have the same content."""

    def __init__(self, script: ModuleType, target: Path) -> None:
        self.script = script
        self.target = target
        self.extractor = script.Extractor(packs.KEY, [])
        self.extractor.blake3 = None
        self.extractor.chunk = lambda number: {0: PAYLOAD}[number]
        self.books = self.extractor.books
        user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
        self.books.apply([6, 1, os.geteuid(), os.getegid(), user, group])
        for number, path in DIRECTORIES.items():
            self.books.apply([7, number, path])

    def entry(self, name: object, kind: object = FILE, **changed: Any) -> None:
        """One more entry; `target`, `device`, `link` and `xattrs` are those of its extra."""
        extra = [changed.pop(key, none) for key, none in (("target", b""), ("device", 0), ("link", 0))]
        extra += [0, changed.pop("xattrs", [])]
        values = {
            "number": len(self.books.entries) + 1,
            "directory": TOP,
            "name": name,
            "kind": kind,
            "mode": 0o644,
            "owner": 1,
            "mtime": 1_600_000_000_000_000_000,
            "size": len(PAYLOAD) if kind == FILE else 0,
            "extra": msgspec.msgpack.encode(extra),
            "content": None,
            "chunks": struct.pack("<I", 0) if kind == FILE else b"",
            "added": 1,
            "removed": None,
        }
        self.books.apply([8, *(values | changed).values()])

    def write(self) -> int:
        """Write it out; the number of problems."""
        self.extractor.write(1, self.script.Tree(str(self.target)))
        return int(self.extractor.problems)


@pytest.fixture
def forged(script: ModuleType, tmp_path: Path) -> Forged:
    return Forged(script, tmp_path / "out")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory beside the target."""
    folder = tmp_path / "outside"
    folder.mkdir(mode=0o750)
    (folder / "there").write_text("was there")
    return folder


def untouched(outside: Path) -> bool:
    """Whether it is as it was."""
    modes = stat.S_IMODE(outside.stat().st_mode), stat.S_IMODE((outside / "there").stat().st_mode)
    return os.listdir(outside) == ["there"] and modes == (0o750, 0o644 & ~_umask())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@pytest.mark.parametrize("kind", [FILE, SYMLINK, FIFO])
@pytest.mark.parametrize("is_linked", [True, False])
def test_nothing_is_made_through_a_symlink(forged: Forged, outside: Path, kind: int, is_linked: bool) -> None:
    """A symlink, a member below it, and that a hard link to a setuid file of the intruder's."""
    forged.entry(b"payload", mode=0o4755, link=7)
    forged.entry(b"door", SYMLINK, target=os.fsencode(outside))
    target = b"/nowhere" if kind == SYMLINK else b""
    forged.entry(b"evil", kind, directory=DOOR, target=target, link=7 * is_linked, mode=0o4755)
    assert forged.write() >= 1
    assert untouched(outside)
    assert (forged.target / "payload").read_bytes() == PAYLOAD
    assert (forged.target / "payload").stat().st_nlink == 1 + (is_linked and kind == FILE)


def test_metadata_is_given_to_nothing_that_a_symlink_points_to(forged: Forged, outside: Path) -> None:
    forged.entry(b"door", DIRECTORY, mode=0o7777)
    forged.entry(b"door", SYMLINK, target=os.fsencode(outside), mode=0o7777)
    forged.entry(b"there", directory=DOOR, mode=0o4777)
    forged.entry(b"link", SYMLINK, target=os.fsencode(outside / "there"), mode=0o4777, mtime=0)
    assert forged.write() == 1, "the second thing of one name"
    assert untouched(outside)
    assert (forged.target / "link").lstat().st_mtime == 0
    assert (outside / "there").stat().st_mtime > 0


def test_a_directory_that_is_put_in_place_of_one_of_ours_gets_nothing(
    forged: Forged, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the target meanwhile."""
    monkeypatch.setattr(forged.script, "KEPT_FOLDERS", 0)
    forged.entry(b"door", DIRECTORY, mode=0o777)
    forged.entry(b"first")
    forged.entry(b"second", directory=DOOR)

    def chunk(_: int) -> bytes:
        if (forged.target / "door").is_dir() and not any((forged.target / "door").iterdir()):
            (forged.target / "door").rmdir()
            (forged.target / "door").symlink_to(outside)
        return PAYLOAD

    forged.extractor.chunk = chunk
    assert forged.write() >= 1
    assert untouched(outside)


def test_a_link_is_to_the_same_kind_and_content(forged: Forged) -> None:
    forged.entry(b"a", link=7)
    forged.entry(b"b", link=7)
    forged.entry(b"pipe", FIFO, link=7)
    forged.entry(b"other", link=7, chunks=b"", size=0)
    forged.entry(b"symlink", SYMLINK, link=7, target=b"a")
    assert forged.write() == 0
    out = forged.target
    assert (out / "a").samefile(out / "b")
    assert [(out / name).lstat().st_nlink for name in ("a", "pipe", "other", "symlink")] == [2, 1, 1, 1]
    assert (out / "other").read_bytes() == b""


def test_setuid_goes_with_its_owner_only(forged: Forged, capfd: pytest.CaptureFixture[str]) -> None:
    """Else an intruder's program would run with the rights of whoever wrote it out."""
    forged.entry(b"ours", mode=0o6755)
    forged.books.apply([6, 2, 0xFFFFFFFF, 0xFFFFFFFF, "nobody's", "nobody's"])
    forged.entry(b"nobody's", mode=0o6755, owner=2)
    assert forged.write() >= 1
    assert stat.S_IMODE((forged.target / "ours").stat().st_mode) == 0o6755
    assert stat.S_IMODE((forged.target / "nobody's").stat().st_mode) == 0o755
    assert "without setuid and setgid" in capfd.readouterr().err


@as_root
@pytest.mark.parametrize(("user", "group"), [("gone", "daemon"), ("daemon", "gone")])
def test_a_number_that_is_anothers_here_gets_neither_setuid_nor_capabilities(
    forged: Forged, capfd: pytest.CaptureFixture[str], user: str, group: str
) -> None:
    forged.books.apply([6, 2, 1, 1, user, group])
    forged.books.apply([6, 3, 1, 1, "daemon", "daemon"])
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    for name, owner in ((b"stranger", 2), (b"known", 3)):
        forged.entry(name, mode=0o6755, owner=owner, xattrs=[[b"security.capability", capability]])
    assert forged.write() == 2
    stranger, known = forged.target / "stranger", forged.target / "known"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (stranger, known)] == [0o755, 0o6755]
    assert [os.listxattr(path) for path in (stranger, known)] == [[], ["security.capability"]]
    told = capfd.readouterr().err
    assert told.count("1 is 'daemon' here and was 'gone'") == 2


ABSURD: dict[str, dict[str, Any]] = {
    "time": {"mtime": 2**63},
    "time before all": {"mtime": -(2**63)},
    "mode": {"mode": 2**40},
    "mode of a kind": {"mode": 0o100644},
    "size": {"size": 2**63},
    "negative size": {"size": -1},
    "kind": {"kind": 99},
    "kind a text": {"kind": "file"},
    "owner": {"owner": 4711},
    "name too long": {"name": b"n" * 256},
    "name with a zero": {"name": b"a\0b"},
    "name leads out": {"name": b".."},
    "name of two steps": {"name": b"a/b"},
    "name a text": {"name": "text"},
    "no directory": {"directory": 4711},
    "directory too long": {"directory": LONG},
    "directory too deep": {"directory": DEEP},
    "extra no msgpack": {"extra": b"\xc1"},
    "extra no list": {"extra": b"\x07"},
    "xattrs": {"xattrs": 7},
    "xattr": {"xattrs": [["name", 7]]},
    "xattr that is none": {"xattrs": [[b"bogus", b"value"]]},
    "link": {"link": [1]},
    "chunks cut": {"chunks": b"\0\0\0"},
    "chunks unknown": {"chunks": struct.pack("<I", 99)},
    "device": {"kind": CHARACTER, "device": 2**63, "chunks": b""},
    "symlink to nothing": {"kind": SYMLINK, "target": b""},
    "symlink with a zero": {"kind": SYMLINK, "target": b"a\0b"},
}


@pytest.mark.parametrize("changed", ABSURD.values(), ids=ABSURD)
def test_what_is_absurd_ends_its_entry_alone(
    forged: Forged, changed: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """One such value does not end the whole run."""
    forged.entry(b"before")
    entry = {"name": b"absurd"} | changed
    extractor = forged.extractor
    records = forged.books.apply
    given: list[list[Any]] = []
    forged.books.apply = given.append
    forged.entry(entry.pop("name"), **entry)
    forged.books.apply = records
    extractor.records = lambda _: iter([*given, [8], [9, b"odd", 1], [11, 5, b""], ["what"]])
    extractor.load([type("Pack", (), {"path": "catalog"})])
    forged.books.entries[99] = forged.books.entries[1]  # and one of ours comes after it
    forged.entry(b"after", number=100)
    before = extractor.problems
    assert before >= 3, "records that are none"
    problems = forged.write()
    said = capfd.readouterr().err
    assert problems > before or "is not what an entry is" in said
    assert (forged.target / "before").read_bytes() == PAYLOAD
    assert (forged.target / "after").read_bytes() == PAYLOAD
    assert "Traceback" not in said


def test_two_things_of_one_name(forged: Forged) -> None:
    """The first stays: it was removed with the second, which could not be made."""
    forged.entry(b"same")
    forged.entry(b"same", chunks=b"", size=0)
    assert forged.write() == 1
    assert (forged.target / "same").read_bytes() == PAYLOAD


def test_what_it_prints_does_not_speak_to_the_terminal(
    script: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    script.warn("job \x1b]0;pwned\x07\nname")
    said = capfd.readouterr().err
    assert said == "job \\x1b]0;pwned\\x07\\nname\n"


# The command line.


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packs of three nights and the recovery key."""
    folder = tmp_path_factory.mktemp("nights")
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    (folder / "source").mkdir()
    site = Site.create(folder / "state", vault, [folder / "source"], clock=clock)
    for night in range(3):
        (folder / "source" / f"night {night}").write_text(str(night))
        site.backup()
    site.close()
    (folder / "recovery.key").write_bytes(plain_key_file(recovery_key()))
    return folder


def run(script: Path, nights: Path, archives: Path, out: Path, cwd: str = "/") -> tuple[int, str]:
    """Its exit code and what it said."""
    words = ["--key", str(nights / "recovery.key"), "--target", str(out), str(archives)]
    done = subprocess.run(
        [sys.executable, str(script), *words], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("damage", ["header", "frames", "missing"])
def test_a_catalog_that_is_left_out_is_no_success(
    script: ModuleType, nights: Path, tmp_path: Path, damage: str
) -> None:
    """Where an older state is written out, the exit code does not say that all is well."""
    archives = tmp_path / "archives"
    shutil.copytree(nights / "vault" / "archives", archives)
    catalogs = {
        pack.header.number: Path(pack.path)
        for pack in script.find_packs([str(archives)])
        if pack.header.kind == script.CATALOG and pack.header.generation == script.DELTA
    }
    place = catalogs[max(catalogs) - (damage == "missing")]
    data = bytearray(place.read_bytes())
    if damage == "missing":
        place.unlink()
    else:
        at = 100 if damage == "header" else len(data) // 2
        data[at] ^= 1
        if damage == "frames":
            data[at:] = bytes(len(data) - at)
        place.chmod(0o644)
        place.write_bytes(data)
    code, said = run(SCRIPT, nights, archives, tmp_path / "out")
    assert code == 3, said
    out = Path(f"{tmp_path}/out{nights}/source")
    assert (out / "night 0").read_text() == "0"
    assert not (out / "night 2").exists()


def test_nothing_beside_the_file_is_imported(nights: Path, tmp_path: Path) -> None:
    """It lies in a folder of downloads, and nothing else there is run as root."""
    shutil.copy(SCRIPT, tmp_path)
    for name in ("argparse", "base64", "struct", "re", "stat", "cryptography", "zstandard", "blake3"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(66)\n")
    code, said = run(tmp_path / SCRIPT.name, nights, nights / "vault", tmp_path / "out", cwd=str(tmp_path))
    assert code == 0, said
