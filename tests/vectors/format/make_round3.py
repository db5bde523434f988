"""How the golden catalog of the third round was made, once (`-m tests.vectors.format.make_round3`).

A full catalog of a rebuilt inventory: it names its ancestors, which two recovery keys signed, and who made
the job; its End signs the content; archives carry versions. Broken ones and derived values stand beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence

from backup.format import catalog, enrolment, frame, pack
from backup.format.content import Content
from backup.format.header import CatalogOption
from backup.format.keys import RecoveryKey
from backup.model import Generation, InventoryId, PackId, PackKind
from tests.support import packs

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "v1", "round3")
OTHER_KEY = RecoveryKey(bytes(range(32, 64)))
ANCESTORS = [InventoryId(bytes(range(start, start + 16))) for start in (0xD0, 0xE0)]
NONCE = bytes(range(0xF0, 0x100))
JOB_ID = enrolment.job_id_of(ANCESTORS[-1], NONCE)
REBUILT_ID = PackId(bytes(range(0xB0, 0xC0)))
PARENT = (PackId(b"\x11" * 16), b"\x22" * 32)
DATA_ID = bytes([0xC0]) * 16


def start(nonce: bytes = NONCE) -> catalog.Start:
    """The first record."""
    return catalog.Start(
        *(1, 9, 2, JOB_ID, "home", 8, "server.example", "nightvault 0.2.0"),
        ANCESTORS[0],
        list(ANCESTORS),
        ANCESTORS[-1],
        nonce,
    )


def rebuilt_records(nonce: bytes = NONCE) -> list[catalog.Record]:
    """Every record of which the third round has more fields, and what they need."""
    recipients = [packs.KEY.recipient, OTHER_KEY.recipient]
    times = (1_700_000_000_000_000, 1_700_000_060_000_000)
    return [
        start(nonce),
        catalog.Secrets(
            packs.SIGNER.seed, packs.SECRET.secret, [recipient.public for recipient in recipients]
        ),
        catalog.VaultRecord(1, "cold", "00112233445566778899aabbccddeeff"),
        catalog.DomainRecord(1, b"\x03" * 16, 1, sorted(recipient.id for recipient in recipients)),
        catalog.ArchiveRecord(
            *(1, 1, 1, DATA_ID, bytes(range(100)), 65536, b"\x05" * 32, "id-of-the-vault"),
            *(1_700_000_050_000_000, "stored", "3HL4kqtJvjVBH40Nrjfkd"),
        ),
        catalog.OwnerRecord(1, 1000, 100, "maria", "users"),
        catalog.DirectoryRecord(1, b"/home"),
        catalog.SnapshotRecord("00112233445566aa", 1, *times, "server.example", [b"/home"], 0, 0, []),
        catalog.ChainRecord([(8, 1, *PARENT, "id-of-the-parent")], [131072], ["version-of-the-parent"]),
    ]


def signatures() -> dict[bytes, bytes]:
    """The word of both recovery keys, by recipient id."""
    public = packs.SIGNER.public
    keys = (packs.KEY, OTHER_KEY)
    return {key.recipient.id: enrolment.enrol(key, packs.INVENTORY_ID, public, ANCESTORS) for key in keys}


def fields() -> pack.HeaderFields:
    """The fields of the catalog's header."""
    public = packs.SIGNER.public
    keys = (packs.KEY, OTHER_KEY)
    tags = {key.recipient.id: key.enrolment_tag(packs.INVENTORY_ID, public) for key in keys}
    filled = enrolment.slots([key.recipient.id for key in keys], tags, signatures())
    place = pack.CatalogFields(
        JOB_ID, 9, Generation.FULL, *PARENT, filled, options=CatalogOption.SIGNED_CONTENT
    )
    return pack.HeaderFields(PackKind.CATALOG, REBUILT_ID, packs.INVENTORY_ID, public, place)


def bodies(header: bytes, records: Sequence[catalog.Record], *, is_signed: bool = True) -> list[bytes]:
    """The frame bodies, with the signature in their End."""
    content = Content(packs.SIGNER, hashlib.sha256(header).digest()) if is_signed else None
    writer = catalog.Bodies(content)
    return [*writer.add(records), *writer.end()]


def catalog_pack(header: bytes, those: Sequence[bytes]) -> bytes:
    """A whole pack under the fixed pack key."""
    keys = pack.derive_keys(packs.PACK_KEY, header)
    codec, parts, rows, place = frame.FrameCodec(), [header], [], len(header)
    for number, body in enumerate(those):
        one = codec.seal(keys.frame_key, REBUILT_ID, number, [body])
        rows.append(one.row(place))
        parts.append(bytes(one.data))
        place += len(one.data)
    return b"".join([*parts, pack.seal_directory(keys, REBUILT_ID, rows, [], end_of_frames=place)])


def broken_packs(header: bytes) -> dict[str, bytes]:
    """Whole packs with one thing wrong."""
    good = bodies(header, rebuilt_records())
    flipped = [*good[:-1], good[-1][:-1] + bytes([good[-1][-1] ^ 1])]
    return {
        "content-signature-flipped": catalog_pack(header, flipped),
        "content-signature-missing": catalog_pack(header, bodies(header, rebuilt_records(), is_signed=False)),
        "job-of-another-inventory": catalog_pack(header, bodies(header, rebuilt_records(bytes(16)))),
    }


def values() -> dict[str, str]:
    """What is derived from the fixed keys, in hex or as text."""
    public, recipient = packs.SIGNER.public, packs.KEY.recipient.id
    key, mine = enrolment.enrolment_key(packs.KEY), signatures()[recipient]
    first, second = enrolment.slots_of(recipient)
    ids = packs.INVENTORY_ID, [recipient, OTHER_KEY.recipient.id], ANCESTORS
    mark = enrolment.HeirMark(ANCESTORS[0], packs.INVENTORY_ID, public, mine)
    return {
        "enrolment_public": key.public.hex(),
        "enrolment_text": key.to_text(),
        "enrolment_fingerprint": key.fingerprint,
        "ancestors": "".join(inventory_id.hex() for inventory_id in ANCESTORS),
        "ancestors_hash": enrolment.ancestry(ANCESTORS).hex(),
        "slot_a": first.hex(),
        "slot_b": second.hex(),
        "enrolment_signature": mine.hex(),
        "enrolment_without_ancestors": enrolment.enrol(packs.KEY, packs.INVENTORY_ID, public, []).hex(),
        "request_signature": enrolment.sign_request(packs.SIGNER, *ids).hex(),
        "job_nonce": NONCE.hex(),
        "job_id": JOB_ID.hex(),
        "mark_of_the_heir": mark.to_text(),
    }


def main() -> None:
    """Write every golden file that is not there yet."""
    if os.path.exists(FOLDER):
        return
    recipients = [packs.KEY.recipient, OTHER_KEY.recipient]
    header = pack.seal_header(fields(), pack_key=packs.PACK_KEY, recipients=recipients, signer=packs.SIGNER)
    files = {
        "rebuilt.pack": catalog_pack(header, bodies(header, rebuilt_records())),
        "enrolments.json": json.dumps(values(), indent=1).encode() + b"\n",
        **{f"broken/packs/{name}": data for name, data in broken_packs(header).items()},
    }
    for name, data in files.items():
        path = os.path.join(FOLDER, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)


if __name__ == "__main__":
    main()
