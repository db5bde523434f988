"""The extractor and what it opens: bombs of zstd, and catalogs whose content is signed."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backup.model import MIB
from tests.support.extracting import imported
from tests.vectors.format.make_round3 import ANCESTORS


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with imported("nightvault_extract_contents") as module:
        yield module


def test_a_frame_that_claims_gigabytes_is_refused_before_it_takes_them(script: ModuleType) -> None:
    """F12: some libraries allocate what a frame claims, whatever the limit."""
    bomb = zstandard.ZstdCompressor().compress(bytes(512 * MIB))
    assert len(bomb) < 128 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(script.ExtractError, match="claims another size"):
            script.find_zstd()(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_directory_that_claims_gigabytes_is_refused(script: ModuleType) -> None:
    rows = zstandard.ZstdCompressor().compress(bytes(script.LARGEST_ROWS + 1))
    plain = struct.pack("<III4x", len(rows), script.LARGEST_ROWS + 1, 1) + rows
    key = AESGCM(bytes(32))
    header = script.Header(b"", 2, 1, bytes(16), b"", b"", 0)
    sealed = key.encrypt(bytes(12), plain, b"nightvault 1 directory" + bytes(16))
    data = sealed + struct.pack("<8sQQ8x", b"NVTAIL\x1a\n", 0, len(sealed))
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        with pytest.raises(script.ExtractError, match="directory is out of range"):
            script.Pack(file.name, header).frames(script.PackKeys(key, key), script.find_zstd())


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_535, 65_791, 65_792, 70_000, 5 * MIB])
@pytest.mark.parametrize("is_named", [True, False])
def test_the_size_that_a_frame_claims(script: ModuleType, size: int, is_named: bool) -> None:
    made = zstandard.ZstdCompressor(write_content_size=is_named).compress(bytes(size))
    known = zstandard.frame_content_size(made)
    assert script.claimed_size(made) == (None if known == -1 else known)
    assert script.claimed_size(b"\x28\xb5\x2f\xfd\xe0" + bytes(3)) is None


GOLDEN = Path(__file__).parent / "vectors" / "format" / "v1" / "round3"


def golden(script: ModuleType, name: str) -> tuple[Any, Any]:
    """An extractor, and the one catalog that it has."""
    key = script.RecoveryKey(bytes(range(32)))
    (pack,) = script.find_packs([str(GOLDEN / name)])
    return script.Extractor(key, [pack]), pack


def test_the_golden_catalog_of_the_third_round(script: ModuleType) -> None:
    extractor, pack = golden(script, "rebuilt.pack")
    start = extractor.prove(pack)
    assert (start.name, start.claim, start.maker) == ("home", tuple(ANCESTORS), ANCESTORS[-1])
    (key,) = extractor.recovery_keys
    assert key.signed(pack.header, start.claim)
    assert not key.signed(pack.header, start.claim[:1])
    assert extractor.trusted(None, False) == [pack]
    assert [record[0] for record in extractor.records(pack)] == [1, 2, 3, 4, 10, 6, 7, 5, 15]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("content-signature-flipped", "signature of its content does not fit"),
        ("content-signature-missing", "signature of its content is missing"),
        ("job-of-another-inventory", "does not follow from the inventory"),
    ],
)
def test_broken_catalogs_of_the_third_round(script: ModuleType, name: str, says: str) -> None:
    extractor, pack = golden(script, f"broken/packs/{name}")
    with pytest.raises(script.ExtractError, match=says):
        extractor.prove(pack)
    if name.startswith("content"):
        with pytest.raises(script.ExtractError, match=says):
            list(extractor.records(pack))
