"""A reader written from docs/format.md alone, with nothing of ours, opens the golden packs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import struct
from typing import Any

import msgspec
import pytest
import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.format.hpke_by_hand import expand, extract, open_by_hand

FOLDER = os.path.join(os.path.dirname(__file__), "..", "vectors", "format", "v1")
SEED = bytes(range(32))


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return expand(extract(salt, secret), b"nightvault 1 " + info, 32)


def read_by_hand(name: str) -> tuple[list[bytes], list[tuple[bytes, int, int, int]]]:
    with open(os.path.join(FOLDER, name), "rb") as file:
        data = file.read()
    # The header: 96 fixed bytes, a catalog's own, stanzas of 1,184, commitment, signature.
    assert data[:8] == b"NVPACK\x1a\n"
    (length,) = struct.unpack_from("<I", data, 12)
    kind, _, stanzas, enrolments = struct.unpack_from("<BBHH", data, 24)
    pack_id, signer = data[32:48], data[64:96]
    fields = 96 + (72 + 48 * enrolments if kind == 2 else 0)
    committed = data[: fields + 1184 * stanzas]
    assert length == len(committed) + 32 + 64
    Ed25519PublicKey.from_public_bytes(signer).verify(data[length - 64 : length], data[: length - 64])
    pack_key = open_by_hand(SEED, data[fields + 16 : fields + 1184], data[:fields])
    salt = hashlib.sha256(committed).digest()
    assert hkdf(pack_key, salt, b"key commitment") == data[length - 96 : length - 64]
    # The trailer: magic, offset and length of the directory, 8 bytes of BLAKE3.
    magic, offset, size = struct.unpack_from("<8sQQ", data, len(data) - 32)
    assert magic == b"NVTAIL\x1a\n"
    assert blake3(data[-32:-8]).digest()[:8] == data[-8:]
    assert offset + size + 32 == len(data)
    # The directory: stored length, raw length, flags, zero; rows; zeros.
    sealed = data[offset : offset + size]
    aad = b"nightvault 1 directory" + pack_id
    plain = AESGCM(hkdf(pack_key, salt, b"directory key")).decrypt(bytes(12), sealed, aad)
    stored, _, flags = struct.unpack_from("<III", plain)
    rows = plain[16 : 16 + stored]
    assert not any(plain[16 + stored :])
    if flags & 1:
        rows = zstandard.decompress(rows)
    frame_count, chunk_count, end = struct.unpack_from("<IIQ", rows)
    assert end == offset
    frame_columns = struct.unpack_from("<" + "".join(f"{frame_count}{c}" for c in "IIQII"), rows, 16)
    numbers, frame_flags, offsets, lengths, _ = (
        frame_columns[i * frame_count : (i + 1) * frame_count] for i in range(5)
    )
    opened: list[bytes] = []
    frame_key = AESGCM(hkdf(pack_key, salt, b"frame key"))
    for number, flag, at, long in zip(numbers, frame_flags, offsets, lengths, strict=True):
        nonce, aad = number.to_bytes(12, "big"), pack_id + struct.pack("<II", number, flag)
        body = frame_key.decrypt(nonce, data[at : at + long], aad)
        opened.append(zstandard.decompress(body) if flag & 1 else body)
    place = 16 + 40 * frame_count
    ids = [rows[place + 32 * n : place + 32 * (n + 1)] for n in range(chunk_count)]
    columns = struct.unpack_from(f"<{chunk_count * 3}I", rows, place + 32 * chunk_count)
    chunks: list[tuple[bytes, int, int, int]] = []
    before = None
    for n in range(chunk_count):
        frame, gap, long = columns[n], columns[chunk_count + n], columns[2 * chunk_count + n]
        start = gap + (chunks[-1][2] + chunks[-1][3] if frame == before else 0) & 0xFFFFFFFF
        chunks.append((ids[n], frame, start, long))
        before = frame
    return opened, chunks


def test_the_data_pack_opens_by_hand() -> None:
    frames, chunks = read_by_hand("data.pack")
    key = expand(extract(b"", bytes(range(64, 96))), b"nightvault 1 chunk id", 32)
    for name, frame, start, length in chunks:
        assert blake3(frames[frame][start : start + length], key=key).digest() == name
    assert [length for *_, length in chunks] == [300, 256, 1, 13]


def records_by_hand(name: str) -> list[list[Any]]:
    frames, chunks = read_by_hand(name)
    assert chunks == []
    (body,) = frames
    records, place = [], 0
    while place < len(body):
        (length,) = struct.unpack_from("<I", body, place)
        records.append(msgspec.msgpack.decode(body[place + 4 : place + 4 + length]))
        place += 4 + length
    return records


def test_the_mount_points_open_by_hand() -> None:
    """Record 128 holds numbers, each a u64, of entries that are directories."""
    records = records_by_hand("catalog-mounts.pack")
    assert [record[0] for record in records] == [1, 6, 7, 8, 8, 128, 17]
    (numbers,) = records[5][1:]
    mounts = struct.unpack(f"<{len(numbers) // 8}Q", numbers)
    directories = {record[1]: record[3] for record in records if record[0] == 8 and record[4] == 2}
    assert [directories[number] for number in mounts] == [b"disk", b"other"]


def test_what_a_source_lost_opens_by_hand() -> None:
    """Counts end the record of a snapshot; record 131 says what was lost, and what was accepted."""
    records = records_by_hand("catalog-shrunk.pack")
    assert [record[0] for record in records] == [1, 5, 131, 131, 17]
    assert dict(zip(records[1][6], records[1][10], strict=True)) == {b"/home": [40, 690], b"/srv": [1, 10]}
    assert records[2][1:] == [2, [[b"/srv", 1, 10, 30, 2**40]], False]
    assert records[3][1:] == [1, [], True]


def test_what_is_known_of_a_dump_opens_by_hand() -> None:
    """Record 132 names an entry, which is a file below `/.streams`."""
    records = records_by_hand("catalog-dumps.pack")
    assert [record[0] for record in records] == [1, 6, 7, 8, 132, 17]
    entry, *known = records[4][1:]
    assert {record[1]: record[3] for record in records if record[0] == 8}[entry] == b"shop.dump"
    back, tables = ["pg_restore", "--exit-on-error", "--dbname=shop"], [["public.orders", 41, 41]]
    assert known == ["postgresql", "shop", "17.2", "UTF8", back, [*tables, ["public.sessions", 3, 2**40]]]


def test_the_catalog_opens_by_hand() -> None:
    records = records_by_hand("catalog.pack")
    assert [record[0] for record in records] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12, 13, 14, 15, 17]
    assert records[0][1:] == [
        1,
        7,
        2,
        bytes(range(160, 176)),
        "home",
        0,
        "server.example",
        "nightvault 0.1.0",
    ]
    assert records[-1] == [17, len(records) - 1]


def header_by_hand(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as file:
        data = file.read()
    return data[: struct.unpack_from("<I", data, 12)[0]]


def test_the_second_round_opens_by_hand() -> None:
    """A first catalog that is a delta, too, and a delta without a snapshot whose parent it is."""
    first, marks = header_by_hand("round2/first.pack"), header_by_hand("round2/marks.pack")
    assert [struct.unpack_from("<I", mark, 16)[0] for mark in (first, marks)] == [1, 2]
    assert [mark[25] for mark in (first, marks)] == [2, 1]
    assert first[120:168] == bytes(48)
    assert marks[120:168] == first[32:48] + hashlib.sha256(first).digest()
    kinds = [record[0] for record in records_by_hand("round2/first.pack")]
    assert kinds == [1, 2, 3, 4, 10, 11, 12, 6, 7, 8, 8, 128, 5, 15, 17]


def test_the_records_of_the_second_round_open_by_hand() -> None:
    records = records_by_hand("round2/marks.pack")
    assert [record[0] for record in records] == [
        1,
        3,
        4,
        10,
        12,
        18,
        19,
        13,
        129,
        129,
        14,
        20,
        21,
        130,
        15,
        17,
    ]
    (_, forgotten, at), (_, taken_back), (_, dropped) = records[5:8]
    assert (forgotten, at, taken_back, dropped) == ([2, 3, 4], 1_700_100_000_000_000, [3], [4])
    _, snapshot, tags, pinned, note, until = records[8]
    assert (snapshot, tags, pinned) == (1, ["before the move", "café"], True)
    assert (note, until) == ("the last one with /srv", 1_800_000_000_000_000)
    assert records[9][1:] == [3, [], False, "", None]
    (_, condemned, when), (_, retired), (_, taken_up) = records[10:13]
    assert (condemned, when) == ([b"\xc0" * 16], 1_700_100_000_000_001)
    assert (retired, taken_up) == ([b"\xc1" * 16], [b"\xc2" * 16])
    _, pack_id, grade, pieces, read_at = records[13]
    assert (pack_id, grade, read_at) == (b"\xc0" * 16, 2, -1)
    assert struct.unpack("<4Q", pieces) == (0, 2**20, 2**21, 2**40)
    archive, chunks = records[3], records[4]
    assert (archive[1], archive[10]) == (2, "deleted")
    assert (chunks[1], struct.unpack("<I", chunks[2]), chunks[3][:32]) == (2, (3,), b"\x07" * 32)


OTHER_SEED = bytes(range(32, 64))


def field_16(data: bytes, at: int) -> bytes:
    return data[at : at + 16]


def recipients_by_hand(header: bytes) -> list[bytes]:
    """The recipient ids of a catalog's stanzas."""
    stanzas, enrolments = struct.unpack_from("<HH", header, 26)
    at = 168 + 48 * enrolments
    return [field_16(header, at + 1184 * number) for number in range(stanzas)]


def slots_by_hand(header: bytes) -> dict[bytes, bytes]:
    (enrolments,) = struct.unpack_from("<H", header, 28)
    places = [168 + 48 * number for number in range(enrolments)]
    return {field_16(header, at): header[at + 16 : at + 48] for at in places}


def test_the_enrolments_of_the_third_round_by_hand() -> None:
    """1.6: tags of all recipients in the order of ids, then two halves of a signature for each."""
    header = header_by_hand("round3/rebuilt.pack")
    start = records_by_hand("round3/rebuilt.pack")[0]
    ancestors = hashlib.sha256(b"".join(start[10])).digest()
    recipients, slots = recipients_by_hand(header), slots_by_hand(header)
    assert len(recipients) == 2
    assert list(slots)[:2] == sorted(recipients)
    signed = b"nightvault 2 enrol" + field_16(header, 48) + header[64:96] + ancestors
    for recipient, seed in zip(recipients, (SEED, OTHER_SEED), strict=True):
        tag = hmac.digest(hkdf(seed, b"", b"enrol"), field_16(header, 48) + header[64:96], "sha256")
        assert slots[recipient] == tag
        halves = [hashlib.sha256(b"enrol 2 " + half + recipient).digest()[:16] for half in (b"a", b"b")]
        assert list(slots)[2 + 2 * recipients.index(recipient) :][:2] == halves
        key = Ed25519PrivateKey.from_private_bytes(hkdf(seed, b"", b"enrol 2")).public_key()
        key.verify(slots[halves[0]] + slots[halves[1]], signed)


def test_the_start_of_the_third_round_by_hand() -> None:
    """Ancestors, nearest first; the job's id follows from the oldest, which made it."""
    header = header_by_hand("round3/rebuilt.pack")
    records = records_by_hand("round3/rebuilt.pack")
    predecessor, ancestors, maker, nonce = records[0][9:]
    assert predecessor == ancestors[0]
    assert ancestors == [bytes(range(0xD0, 0xE0)), bytes(range(0xE0, 0xF0))]
    assert maker == ancestors[1]
    job = hashlib.sha256(b"nightvault 1 job" + maker + nonce).digest()[:16]
    assert job == records[0][4] == field_16(header, 96)
    archive, chain = (next(record for record in records if record[0] == kind) for kind in (10, 15))
    assert archive[11] == "3HL4kqtJvjVBH40Nrjfkd"
    assert chain[3] == ["version-of-the-parent"]


def content_by_hand(name: str) -> tuple[bytes, list[Any]]:
    """What the signature of a catalog's content is over, and its End."""
    frames, _ = read_by_hand(name)
    (body,) = frames
    place = 0
    while (after := place + 4 + struct.unpack_from("<I", body, place)[0]) < len(body):
        place = after
    before = hashlib.sha256(body[:place]).digest()
    signed = b"nightvault 1 content" + hashlib.sha256(header_by_hand(name)).digest() + before
    return signed, msgspec.msgpack.decode(body[place + 4 :])


def test_the_content_of_the_third_round_by_hand() -> None:
    header = header_by_hand("round3/rebuilt.pack")
    assert struct.unpack_from("<II", header, 16) == (0, 1)
    signer = Ed25519PublicKey.from_public_bytes(header[64:96])
    signed, end = content_by_hand("round3/rebuilt.pack")
    signer.verify(end[2], signed)
    signed, end = content_by_hand("round3/broken/packs/content-signature-flipped")
    with pytest.raises(InvalidSignature):
        signer.verify(end[2], signed)
    assert content_by_hand("round3/broken/packs/content-signature-missing")[1][2:] == [None]
    start = records_by_hand("round3/broken/packs/job-of-another-inventory")[0]
    assert hashlib.sha256(b"nightvault 1 job" + start[11] + start[12]).digest()[:16] != start[4]


def test_the_values_of_the_third_round_by_hand() -> None:
    with open(os.path.join(FOLDER, "round3", "enrolments.json"), encoding="utf-8") as file:
        known = json.load(file)
    signing = Ed25519PrivateKey.from_private_bytes(hkdf(SEED, b"", b"enrol 2"))
    public = signing.public_key().public_bytes_raw()
    assert public.hex() == known["enrolment_public"]
    assert hashlib.sha256(public).digest()[:16].hex() == known["enrolment_fingerprint"]
    check = hashlib.sha256(b"nve1" + public).digest()[:3]
    letters = base64.b32encode(public + check).decode().rstrip("=").lower()
    assert known["enrolment_text"] == "nve1" + letters
    header = header_by_hand("round3/rebuilt.pack")
    whom = b"nightvault 2 enrol" + field_16(header, 48) + header[64:96]
    assert signing.sign(whom + bytes(32)).hex() == known["enrolment_without_ancestors"]
    request = field_16(header, 48) + header[64:96] + b"\x02\x02\0" + b"".join(recipients_by_hand(header))
    request += bytes.fromhex(known["ancestors"])
    signer = Ed25519PublicKey.from_public_bytes(header[64:96])
    signer.verify(bytes.fromhex(known["request_signature"]), b"nightvault 2 request" + request)
    ids = field_16(header, 48).hex(), header[64:96].hex(), known["enrolment_signature"]
    assert known["mark_of_the_heir"] == f"meta/{known['ancestors'][:32]}/heir-" + "-".join(ids)
