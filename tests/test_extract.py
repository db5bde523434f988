"""`deploy/nightvault-extract.py`: a single file that knows docs/format.md alone gets every file back."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from backup.format.keys import plain_key_file
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support import packs
from tests.support.backups import Site, recovery_key
from tests.support.doubles import ManualClock
from tests.support.extract_script import SCRIPT, extract
from tests.support.integrity import change, fill
from tests.support.trees import Seen, assert_same_tree, snapshot_of

GOLDEN = Path(__file__).parent / "vectors" / "format" / "v1"
MAY_IMPORT = {"cryptography", "zstandard", "pyzstd", "blake3"}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("nightvault_extract", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_it_imports_nothing_of_ours() -> None:
    named = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SCRIPT.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert named - set(sys.stdlib_module_names) <= MAY_IMPORT


def test_the_golden_packs(script: ModuleType) -> None:
    key = script.read_key(str(GOLDEN / "recovery.key"), None)
    found = {Path(pack.path).name: pack for pack in script.find_packs([str(GOLDEN / "data.pack")])}
    found |= {Path(pack.path).name: pack for pack in script.find_packs([str(GOLDEN / "catalog.pack")])}
    extractor = script.Extractor(key, list(found.values()))
    data = found["data.pack"]
    keys = script.open_header(data.header, [key])
    opened = [data.open(keys, frame, extractor.zstd) for frame in data.frames(keys, extractor.zstd)]
    assert b"".join(opened) == b"".join(packs.CHUNKS)
    assert extractor.trusted(None, False) == [found["catalog.pack"]]
    kinds = [record[0] for record in extractor.records(found["catalog.pack"])]
    assert kinds == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15]


def test_the_golden_keys(script: ModuleType, tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_bytes(packs_passphrase() + b"\n")
    key = script.read_key(str(GOLDEN / "protected.key"), str(phrase))
    assert key.recipient == packs.KEY.recipient.id
    phrase.write_text("wrong")
    with pytest.raises(script.ExtractError, match="passphrase is wrong"):
        script.read_key(str(GOLDEN / "protected.key"), str(phrase))


def packs_passphrase() -> bytes:
    from tests.vectors.format.make import PASSPHRASE

    return PASSPHRASE


class Vaulted:
    """Two nights in a directory vault, and what the trees were."""

    def __init__(self, folder: Path) -> None:
        clock = ManualClock()
        vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
        vault.create()
        self.source = folder / "source"
        self.source.mkdir()
        fill(self.source, 1, 6 * 1024 * 1024)
        (self.source / "sparse").write_bytes(b"")
        os.truncate(self.source / "sparse", 9 * 1024 * 1024)
        os.mkfifo(self.source / "pipe")
        Path(os.fsdecode(os.fsencode(self.source) + b"/caf\xe9\n")).write_text("odd name")
        (self.source / "deep" / "small 3").chmod(0o4711)
        os.link(self.source / "large", self.source / "void" / "the same")
        os.setxattr(self.source / "deep" / "small 5", "user.colour", b"green")
        with open(self.source / "islands", "wb") as file:
            for place in (0, 3, 8):
                file.seek(place * 1024 * 1024)
                file.write(os.urandom(70_000))
            file.truncate(12 * 1024 * 1024)
        site = Site.create(folder / "state", vault, [self.source], clock=clock)
        self.trees: dict[str, dict[bytes, Seen]] = {site.backup().snapshot: snapshot_of(self.source)}
        change(self.source, 2, 1024 * 1024)
        self.trees[site.backup().snapshot] = snapshot_of(self.source)
        site.close()
        self.archives = folder / "vault" / "archives"
        self.key = folder / "recovery.key"
        self.key.write_bytes(plain_key_file(recovery_key()))


@pytest.fixture(scope="module")
def vaulted(tmp_path_factory: pytest.TempPathFactory) -> Vaulted:
    return Vaulted(tmp_path_factory.mktemp("vaulted"))


def test_a_vault_is_read_without_us(vaulted: Vaulted, tmp_path: Path) -> None:
    listed = extract("--key", vaulted.key, "--list", vaulted.archives)
    for number, (snapshot, tree) in enumerate(vaulted.trees.items()):
        assert snapshot in listed
        target = tmp_path / str(number)
        extract("--key", vaulted.key, "--snapshot", snapshot[:8], "--target", target, vaulted.archives)
        out = Path(f"{target}{vaulted.source}")
        assert_same_tree(tree, out)
        assert (out / "large").samefile(out / "void" / "the same")
        assert os.getxattr(out / "deep" / "small 5", "user.colour") == b"green"
        assert (out / "islands").stat().st_blocks < 8 * 1024 * 1024 // 512


def test_without_blake3_it_says_what_it_does_not_check(vaulted: Vaulted, tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "blake3.py").write_text("raise ImportError('hidden')\n")
    words = ("--key", vaulted.key, "--target", tmp_path / "out", vaulted.archives)
    told = extract(*words, without=tmp_path / "hidden")
    assert "blake3 is not installed" in told
    newest = list(vaulted.trees.values())[-1]
    assert_same_tree(newest, Path(f"{tmp_path}/out{vaulted.source}"))


def test_damage_is_named_and_the_rest_comes(vaulted: Vaulted, tmp_path: Path) -> None:
    copies = [path for path in vaulted.archives.rglob("*") if path.is_file() and path.suffix != ".json"]
    largest = max(copies, key=lambda path: path.stat().st_size)
    folder = tmp_path / "packs"
    folder.mkdir()
    for path in copies:
        data = bytearray(path.read_bytes())
        if path == largest:
            data[len(data) // 2] ^= 1
        (folder / path.name).write_bytes(data)
    told = extract("--key", vaulted.key, "--target", tmp_path / "out", folder, code=3)
    assert "is damaged" in told
    assert (Path(f"{tmp_path}/out{vaulted.source}") / "link" / "inside").read_text() == "was a symlink"


def test_a_stranger_is_refused(vaulted: Vaulted, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.write_bytes(plain_key_file(packs.KEY))
    if recovery_key() == packs.KEY:
        other.write_bytes(plain_key_file(type(packs.KEY)(b"x" * 32)))
    assert "not enrolled by this key" in extract("--key", other, "--list", vaulted.archives, code=1)
    said = extract("--key", other, "--list", "--trust-vault", vaulted.archives, code=1)
    assert "not sealed for this recovery key" in said
