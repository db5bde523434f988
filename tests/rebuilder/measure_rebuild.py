"""The seconds and memory of a rebuild and its drill, by `python -m tests.rebuilder.measure_rebuild FOLDER`.

The first call, with FOLDER [ENTRIES [CHUNKS]], makes FOLDER with a vault; the second rebuilds from it and
prints one JSON line; the third compares what was rebuilt with itself, as a drill does. The catalog is made of
rows, not of files: a full one of ENTRIES entries in directories of 50, CHUNKS chunks each (1).
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from backup.catalogs.packing import Spool
from backup.format import catalog as records
from backup.format.catalog import Record, pack_records
from backup.format.frame import FrameCodec
from backup.format.pack import CatalogFields, HeaderFields, seal_header
from backup.inventory.store.database import open_copy
from backup.model import ChunkRow, FrameRow, Generation, PackId, PackKind, Part, VaultName
from backup.rebuilder import same_records
from backup.vault.directory import DirectoryVault
from tests.support.backups import INVENTORY_ID, Site, server_keys
from tests.support.doubles import ManualClock
from tests.support.one_backup import peak
from tests.support.rebuilds import Bare

CHUNKS_A_PACK = 2000
CHUNKS_A_FRAME = 20
JOB_ID = b"j" * 16


def stream(entries: int, chunks_each: int = 1) -> Iterator[Record]:
    """A full catalog's records."""
    rng = random.Random(7)
    keys = server_keys()
    recipients = [recipient.public for recipient in keys.recipients]
    yield records.Start(1, 2, 2, JOB_ID, "job", 1, "host", "nightvault 0")
    yield records.Secrets(keys.signer.seed, keys.secret.secret, recipients)
    yield records.VaultRecord(1, "disk")
    yield records.DomainRecord(1, b"d" * 16, 1, [recipient.id for recipient in keys.recipients])
    all_chunks = entries * chunks_each
    for pack in range(-(-all_chunks // CHUNKS_A_PACK)):
        number, pack_id = pack + 1, PackId(rng.randbytes(16))
        fields = HeaderFields(PackKind.DATA, pack_id, INVENTORY_ID, keys.signer.public)
        header = seal_header(fields, pack_key=b"k" * 32, recipients=keys.recipients, signer=keys.signer)
        numbers = range(pack * CHUNKS_A_PACK + 1, min((pack + 1) * CHUNKS_A_PACK, all_chunks) + 1)
        yield records.ArchiveRecord(
            number, 1, 1, pack_id, header, 2**27, b"t" * 32, f"{number:032x}", 1, "stored"
        )
        frames = -(-len(numbers) // CHUNKS_A_FRAME)
        rows = [FrameRow(n, 2000 + n * 40_000, 40_000, 400_000, 1, rng.randbytes(16)) for n in range(frames)]
        yield from records.split_frames(number, rows)
        chunks = [
            ChunkRow(rng.randbytes(32), n // CHUNKS_A_FRAME, n % CHUNKS_A_FRAME * 20_000, 20_000)
            for n in range(len(numbers))
        ]
        yield from records.split_chunks(number, list(numbers), chunks)
    yield records.OwnerRecord(1, 0, 0, "root", "root")
    for number in range(entries // 50 + 1):
        yield records.DirectoryRecord(number + 1, b"/srv/data/of/some/depth/directory %d" % number)
    for number in range(1, entries + 1):
        place = number // 50 + 1, b"a file of number %d.txt" % number
        needed = range((number - 1) * chunks_each + 1, number * chunks_each + 1)
        content = rng.randbytes(16), records.pack_u32(needed)
        yield records.EntryRecord(
            number,
            *place,
            *(1, 0o644, 1, 1_700_000_000_000_000_000 + number),
            20_000 * chunks_each,
            None,
            *content,
            *(1, None),
        )
    yield records.SnapshotRecord("ab" * 8, 1, 1, 2, "host", [b"/srv"], entries, all_chunks * 20_000, [])
    yield records.ChainRecord([], [])


def make(folder: Path, entries: int, chunks_each: int = 1) -> int:
    """A vault with one sealed catalog; its bytes."""
    vault = vault_in(folder)
    vault.create()
    (folder / "spool").mkdir()
    keys = server_keys()
    fields = CatalogFields(JOB_ID, 2, Generation.FULL, b"p" * 16, b"h" * 32, keys.enrolments)
    spool = Spool(str(folder / "spool"), INVENTORY_ID, keys.signer, keys.recipients, keys.secret.chunk_key)
    pack = spool.open_pack(PackKind.CATALOG, fields)
    codec = FrameCodec(3)
    for number, body in enumerate(pack_records(stream(entries, chunks_each))):
        pack.append(codec.seal(pack.keys.frame_key, pack.label.pack_id, number, [body]), [], [], [])
    done = pack.finish()
    data = next((folder / "spool").glob("*.pack")).read_bytes()
    upload = vault.begin_upload(done.label, 2**30)
    part = Part(0, len(data), done.tree_hash, b"", number=1)
    vault.put_part(upload, part, memoryview(data))
    vault.complete_upload(upload, done.label, len(data), done.tree_hash, [part])
    return len(data)


def vault_in(folder: Path) -> DirectoryVault:
    """The vault in there."""
    return DirectoryVault(VaultName("disk"), str(folder / "vault"), ManualClock())


def rebuild(folder: Path) -> dict[str, Any]:
    """Rebuild it; figures."""
    site = Site.create(folder / "like", vault_in(folder), [folder])
    began = time.monotonic()
    report = Bare(folder / "bare", site.vault, site).rebuild()
    seconds = time.monotonic() - began
    site.close()
    size = max(path.stat().st_size for path in (folder / "bare").rglob("*.sqlite"))
    return {
        "entries": report.entries,
        "seconds": round(seconds, 1),
        "peak_mib": peak() // 2**20,
        "inventory_bytes": size,
    }


def compare(folder: Path) -> dict[str, Any]:
    """Compare the rebuilt inventory with itself; figures."""
    file = str(folder / "bare" / "inventory.sqlite")
    used, _ = open_copy(file)
    began = time.monotonic()
    with closing(used):
        found = same_records.compare(file, used, VaultName("disk"))
    seconds = time.monotonic() - began
    entries = found.rows["entries"] if found.are_same else 0
    return {"entries": entries, "seconds": round(seconds, 1), "peak_mib": peak() // 2**20}


if __name__ == "__main__":
    where = Path(sys.argv[1])
    if not where.exists():
        where.mkdir()
        make(where, *map(int, sys.argv[2:] or ["1000000"]))
    else:
        done = compare(where) if (where / "bare").exists() else rebuild(where)
        sys.stdout.write(json.dumps(done) + "\n")
