"""How the golden files of format 1 were made: run once, never again (`python -m tests.vectors.format.make`).

HPKE draws fresh randomness, so a second run would give other stanzas; and what was written must be read by
every later version as it is. Existing files are therefore never overwritten: a later format adds a folder.
Keys are fixed byte sequences (tests/support/packs.py), so everything but the stanzas can be recomputed.
"""

from __future__ import annotations

import base64
import json
import os
import struct

import msgspec
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec.structs import replace

from backup.format import catalog, frame, keys, naming, pack
from backup.format.passphrase import BEGIN, END
from backup.format.rows import pack_chunks, pack_frames
from backup.model import ArchiveLabel, ChunkRow, Extra, FrameRow, Generation, PackId, PackKind
from tests.support import packs

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1")
STRANGER = keys.Signer(b"s" * 32)
PASSPHRASE = b"correct horse battery staple"
NUMBERS = catalog.pack_u32([1, 2, 3, 4])


def records() -> list[catalog.Record]:
    """One record of every kind."""
    header = bytes(range(100))
    frames = [FrameRow(0, 1376, 616, 600, 0, b"\x01" * 16), FrameRow(1, 1992, 116, 1000, 1, b"\x02" * 16)]
    chunks = [ChunkRow(bytes([n]) * 32, n // 3, n % 3 * 100, 100) for n in range(4)]
    extra = Extra(b"../target", 2049, 5, 16, ((b"user.note", b"\x00\xff"),))
    return [
        catalog.Start(1, 7, 2, packs.JOB_ID, "home", 0, "server.example", "nightvault 0.1.0"),
        catalog.Secrets(packs.SIGNER.seed, packs.SECRET.secret),
        catalog.VaultRecord(1, "cold"),
        catalog.DomainRecord(1, b"\x03" * 16, 1, [packs.KEY.recipient.id]),
        catalog.SnapshotRecord(
            "00112233445566aa",
            7,
            1_700_000_000_000_000,
            1_700_000_060_000_000,
            "server.example",
            [b"/home", b"/srv/caf\xe9"],
            2,
            1000,
            [(b"/home/\xff", "vanished", "No such file or directory")],
        ),
        catalog.OwnerRecord(1, 1000, 100, "maria", "users"),
        catalog.DirectoryRecord(1, b"/home"),
        catalog.EntryRecord(
            1, 1, b"file", 1, 0o644, 1, 1_700_000_000_123_456_789, 400, None, b"\x04" * 16, NUMBERS, 7, None
        ),
        catalog.EntryRecord(2, 1, b"link", 3, 0o777, 1, -1, 0, catalog.encode_extra(extra), None, b"", 3, 7),
        catalog.ClosedRecord(catalog.pack_u64([2]), 7),
        catalog.ArchiveRecord(
            1,
            1,
            1,
            packs.PACK_ID,
            header,
            65536,
            b"\x05" * 32,
            "id-of-the-vault",
            1_700_000_050_000_000,
            "stored",
        ),
        *catalog.split_frames(1, frames),
        *catalog.split_chunks(1, [1, 2, 3, 4], chunks),
        catalog.DroppedRecord([1, 2]),
        catalog.CondemnedRecord([b"\x06" * 16]),
        catalog.ChainRecord([(6, 2, b"\x07" * 16, b"\x08" * 32, "id-of-the-parent")]),
    ]


def mounts() -> list[catalog.Record]:
    """A catalog with the records that came after 0.1.0, which may be skipped: two mount points."""
    first = records()
    entries = [
        catalog.EntryRecord(
            number, 1, name, 2, 0o755, 1, 1_700_000_000_000_000_000, 0, None, None, b"", 7, None
        )
        for number, name in ((3, b"disk"), (2**40, b"other"))
    ]
    return [first[0], first[5], first[6], *entries, catalog.MountsRecord(catalog.pack_u64([3, 2**40]))]


def shrunk() -> list[catalog.Record]:
    """A snapshot with counts of its sources, one of which lost nearly everything; one was accepted."""
    times = (1_700_000_000_000_000, 1_700_000_060_000_000)
    return [
        records()[0],
        catalog.SnapshotRecord(
            *("00112233445566aa", 2, *times, "server.example", [b"/home", b"/srv"], 41, 700, []),
            [(40, 690), (1, 10)],
        ),
        catalog.ShrunkRecord(2, [(b"/srv", 1, 10, 30, 2**40)]),
        catalog.ShrunkRecord(1, [], accepted=True),
    ]


def dumps() -> list[catalog.Record]:
    """A file below `/.streams` that is the dump of a database, and what is known of it."""
    first = records()
    entry = catalog.EntryRecord(
        *(5, 2, b"shop.dump", 1, 0o600, 1, 1_700_000_000_000_000_000, 3, None),
        *(b"\x09" * 16, catalog.pack_u32([1]), 7, None),
    )
    back = ["pg_restore", "--exit-on-error", "--dbname=shop"]
    tables = [("public.orders", 41, 41), ("public.sessions", 3, 2**40)]
    return [
        *(first[0], first[5], catalog.DirectoryRecord(2, b"/.streams/databases/postgresql"), entry),
        catalog.DumpRecord(5, "postgresql", "shop", "17.2", "UTF8", back, tables),
    ]


def derivations() -> dict[str, str]:
    """Every value that is derived from the fixed keys, in hex or as text."""
    recipient, secret, signer = packs.KEY.recipient, packs.SECRET, packs.SIGNER
    chunk = b"abc"
    ids = [naming.chunk_id(secret.chunk_key, chunk), naming.chunk_id(secret.chunk_key, b"defg")]
    named = naming.content_id(secret.content_key, ids, [3, 4])
    labels = (
        ArchiveLabel(PackKind.DATA, packs.PACK_ID, packs.INVENTORY_ID),
        ArchiveLabel(PackKind.CATALOG, packs.PACK_ID, packs.INVENTORY_ID, 7, Generation.DELTA),
    )
    return {
        "recovery_seed": packs.KEY.seed.hex(),
        "recovery_text": packs.KEY.to_text(),
        "recipient_id": recipient.id.hex(),
        "recipient_text": recipient.to_text(),
        "signer_seed": signer.seed.hex(),
        "signer_public": signer.public.hex(),
        "signer_fingerprint": signer.fingerprint.hex(),
        "inventory_id": packs.INVENTORY_ID.hex(),
        "enrolment_tag": packs.KEY.enrolment_tag(packs.INVENTORY_ID, signer.public).hex(),
        "chunk_secret": secret.secret.hex(),
        "chunk_key": secret.chunk_key.hex(),
        "content_key": secret.content_key.hex(),
        "chunker_seed": str(secret.chunker_seed),
        "secret_fingerprint": secret.fingerprint.hex(),
        "chunk_id_of_abc": ids[0].hex(),
        "chunk_id_of_defg": ids[1].hex(),
        "content_id_of_both": named.hex(),
        "domain_id_of_cold": keys.domain_id("cold", [recipient], secret).hex(),
        "data_description": pack.describe(labels[0]),
        "catalog_description": pack.describe(labels[1]),
        "pack_key": packs.PACK_KEY.hex(),
        "passphrase": PASSPHRASE.decode(),
    }


def headers() -> dict[str, bytes]:
    """Broken headers; each has one thing wrong."""
    key, fields = packs.PACK_KEY, packs.data_fields()
    recipients = [packs.KEY.recipient]
    good = pack.seal_header(fields, pack_key=key, recipients=recipients, signer=packs.SIGNER)
    theirs = replace(fields, signer_public=STRANGER.public)
    moved = replace(fields, pack_id=PackId(b"q" * 16))
    wrong_key = pack.seal_stanzas(fields, b"w" * 32, recipients)
    wrong_info = pack.seal_stanzas(moved, key, recipients)
    two = [*recipients, keys.RecoveryKey(b"o" * 32).recipient]
    pair = pack.seal_header(fields, pack_key=key, recipients=two, signer=packs.SIGNER)
    return {
        "stranger": pack.seal_header(theirs, pack_key=key, recipients=recipients, signer=STRANGER),
        "forged-signer": good[:-64] + STRANGER.sign(good[:-64]),
        "wrong-commitment": pack.assemble_header(fields, wrong_key, pack_key=key, signer=packs.SIGNER),
        "foreign-stanza": pack.assemble_header(fields, wrong_info, pack_key=key, signer=packs.SIGNER),
        "later-version": _signed(good, 8, "<H", 2),
        "required-feature": _signed(good, 16, "<I", 1),
        "unknown-kind": _signed(good, 24, "<B", 3),
        "endless": _signed(good, 12, "<I", 2**32 - 1),
        "recipient-twice": _resign(pair[: 96 + 1184] + pair[96 : 96 + 1184] + pair[96 + 2 * 1184 : -64]),
        "cut": good[:-1],
    }


def broken_packs(header: bytes) -> dict[str, bytes]:
    """Packs that are signed and sealed, as the owner of the key could make them, and still wrong."""
    pack_keys = pack.derive_keys(packs.PACK_KEY, header)
    codec, start = frame.FrameCodec(), len(header)
    one = codec.seal(pack_keys.frame_key, packs.PACK_ID, 0, [b"first " * 30])
    two = codec.seal(pack_keys.frame_key, packs.PACK_ID, 1, [b"other " * 30])
    first, other = bytes(one.data), bytes(two.data)
    second = start + len(first)
    rows, end = [one.row(start), two.row(second)], second + len(two.data)
    swapped = [
        one.row(start)._replace(digest=two.digest, sealed_length=len(two.data)),
        two.row(start + len(two.data))._replace(digest=one.digest, sealed_length=len(one.data)),
    ]
    bomb = _frame(pack_keys.frame_key, zstandard.compress(bytes(64 * 2**20)))
    bomb_row = FrameRow(0, start, len(bomb), 8 * 2**20, 1, frame.digest(bomb))
    chunk = ChunkRow(bytes(32), 0, 0, 180)
    gap = [one.row(start), two.row(second + 1)]
    tails = {
        "frames-swapped": (other + first, swapped, [chunk], end, b""),
        "bomb": (bomb, [bomb_row], [chunk], start + len(bomb), b""),
        "chunk-outside": (first + other, rows, [chunk._replace(offset=1)], end, b""),
        "frames-apart": (first + b"x" + other, gap, [chunk], end + 1, b""),
        "padding-used": (first + other, rows, [chunk], end, b"hidden"),
    }
    return {name: header + parts[0] + _tail(pack_keys, *parts[1:]) for name, parts in tails.items()}


def catalogs() -> dict[str, bytes]:
    """Broken frame bodies of catalogs."""
    start = msgspec.msgpack.encode(records()[0])
    directory = msgspec.msgpack.encode(records()[6])
    return {
        "no-end": _body(start, directory),
        "wrong-count": _body(start, directory, _record(17, 3)),
        "no-start": _body(directory, _record(17, 1)),
        "unknown-required": _body(start, _record(127, b"x"), _record(17, 2)),
        "after-the-end": _body(start, _record(17, 1), directory),
        "later-format": _body(_record(1, 2, 1, 1, bytes(16), "", 0, "", ""), _record(17, 1)),
        "cut": _body(start, directory, _record(17, 2))[:-1],
    }


def key_files(protected: bytes) -> dict[str, bytes]:
    """Broken key files."""
    raw = base64.b64decode(protected.removeprefix(BEGIN).split(END)[0])
    text = packs.KEY.to_text()
    return {
        "too-much-memory": _armour(raw[:12] + struct.pack("<I", 2**32 - 1) + raw[16:]),
        "too-many-passes": _armour(raw[:8] + struct.pack("<I", 11) + raw[12:]),
        "four-lanes": _armour(raw[:6] + b"\x04" + raw[7:]),
        "flipped": _armour(raw[:-1] + bytes([raw[-1] ^ 1])),
        "cut": protected[: len(protected) // 2],
        "typo": (text[:-1] + ("Y" if text[-1] != "Y" else "X")).encode() + b"\n",
        "short": text[:-5].encode() + b"\n",
    }


def main() -> None:
    """Write every golden file that is not there yet."""
    recipients = [packs.KEY.recipient]
    data_header = pack.seal_header(
        packs.data_fields(), pack_key=packs.PACK_KEY, recipients=recipients, signer=packs.SIGNER
    )
    catalog_header = pack.seal_header(
        packs.catalog_fields(), pack_key=packs.PACK_KEY, recipients=recipients, signer=packs.SIGNER
    )
    sealed = packs.make_pack(data_header, [packs.CHUNKS[:3], packs.CHUNKS[3:]])
    protected = keys.protect(
        packs.KEY, PASSPHRASE, salt=b"s" * 16, nonce=b"n" * 12, passes=2, memory_kib=1024
    )
    start = msgspec.msgpack.encode(records()[0])
    later = _body(start, _record(7, 1, b"/home", "a later field"), _record(200, "optional"), _record(17, 3))
    _write("data.pack", sealed.data)
    _write("catalog.pack", _catalog_pack(catalog_header, records()))
    _write("later-catalog.body", later)
    _write("catalog-mounts.pack", _catalog_pack(catalog_header, mounts()))
    _write("catalog-shrunk.pack", _catalog_pack(catalog_header, shrunk()))
    _write("catalog-dumps.pack", _catalog_pack(catalog_header, dumps()))
    _write("recovery.key", keys.plain_key_file(packs.KEY))
    _write("protected.key", protected)
    _write("derivations.json", json.dumps(derivations(), indent=1).encode() + b"\n")
    for folder, files in (
        ("broken/headers", headers()),
        ("broken/packs", broken_packs(data_header)),
        ("broken/catalogs", catalogs()),
        ("broken/keys", key_files(protected)),
    ):
        for name, data in files.items():
            _write(f"{folder}/{name}", data)


def _catalog_pack(header: bytes, those: list[catalog.Record]) -> bytes:
    pack_keys = pack.derive_keys(packs.PACK_KEY, header)
    codec, parts, rows, place = frame.FrameCodec(), [header], [], len(header)
    for number, body in enumerate(catalog.pack_records(those)):
        one = codec.seal(pack_keys.frame_key, packs.PACK_ID, number, [body])
        rows.append(one.row(place))
        parts.append(bytes(one.data))
        place += len(one.data)
    return b"".join([*parts, pack.seal_directory(pack_keys, packs.PACK_ID, rows, [], end_of_frames=place)])


def _frame(key: bytes, body: bytes) -> bytes:
    return AESGCM(key).encrypt(bytes(12), body, packs.PACK_ID + struct.pack("<II", 0, 1))


def _tail(
    pack_keys: pack.PackKeys, frames: list[FrameRow], chunks: list[ChunkRow], end: int, padding: bytes
) -> bytes:
    rows = struct.pack("<IIQ", len(frames), len(chunks), end) + pack_frames(frames) + pack_chunks(chunks)
    used = end + 16 + len(rows) + 16 + 32
    plain = struct.pack("<III4x", len(rows), len(rows), 0) + rows + padding.ljust(-used % 65536, b"\0")
    aad = b"nightvault 1 directory" + packs.PACK_ID
    sealed = AESGCM(pack_keys.directory_key).encrypt(bytes(12), plain, aad)
    trailer = struct.pack("<8sQQ", b"NVTAIL\x1a\n", end, len(sealed))
    return sealed + trailer + frame.digest(trailer)[:8]


def _signed(header: bytes, place: int, form: str, value: int) -> bytes:
    changed = bytearray(header[:-64])
    struct.pack_into(form, changed, place, value)
    return _resign(bytes(changed))


def _resign(signed: bytes) -> bytes:
    return signed + packs.SIGNER.sign(signed)


def _record(*values: object) -> bytes:
    return msgspec.msgpack.encode(list(values))


def _body(*pieces: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(piece)) + piece for piece in pieces)


def _armour(raw: bytes) -> bytes:
    return BEGIN + b"\n" + base64.b64encode(raw) + b"\n" + END + b"\n"


def _write(name: str, data: bytes) -> None:
    path = os.path.join(FOLDER, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        return
    with open(path, "xb") as file:
        file.write(data)


if __name__ == "__main__":
    main()
