"""The extractor and what it opens: bombs of zstd, and catalogs whose content is signed."""

from __future__ import annotations

import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backup.model import MIB
from tests.support.extract_script import imported
from tests.vectors.format.make_round3 import ANCESTORS, JOB_ID


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


def test_a_first_record_that_does_not_fit_is_refused(script: ModuleType) -> None:
    header = script.Header(b"", 2, 1, bytes(16), b"", b"", 0, JOB_ID, 9)
    honest = [1, 1, 9, 1, JOB_ID, "home", 8, "host", "program", None, [], None, None]
    assert script.start_of(honest, header).claim == ()
    assert script.start_of(honest[:9], header).claim == ()
    for place, value in ((1, 2), (2, 8), (3, 2), (4, bytes(16)), (5, 7), (10, [b"short"])):
        changed = [*honest[:place], value, *honest[place + 1 :]]
        with pytest.raises(script.ExtractError):
            script.start_of(changed, header)
    many = [number.to_bytes(16, "big") for number in range(1001)]
    with pytest.raises(script.ExtractError, match="too many ancestors"):
        script.start_of([*honest[:10], many, None, None], header)


def test_a_record_of_a_later_version_is_refused(script: ModuleType) -> None:
    def body(kind: int) -> bytes:
        pieces = [msgspec.msgpack.encode(record) for record in ([kind, 1], [17, 1])]
        return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)

    assert list(script.read_records([body(21)])) == [[21, 1]]
    assert list(script.read_records([body(131)])) == []
    with pytest.raises(script.ExtractError, match="newer nightvault"):
        list(script.read_records([body(22)]))


@pytest.mark.parametrize("name", ["first-delta-that-is-no-full-one", "first-delta-with-a-parent"])
def test_a_first_delta_that_is_none_is_refused(script: ModuleType, name: str) -> None:
    header = (GOLDEN.parent / "round2" / "broken" / "headers" / name).read_bytes()
    with pytest.raises(script.ExtractError, match="its place among the catalogs"):
        script.parse_header(header)
