"""A tree with some of everything, and what a restore of it left or lost, by the inventory's own rows."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from backup.inventory.records.retrievals import Restore, Retrieval
from backup.model import MIB, Tier
from backup.restorer.restore import advance, begin_restore, plan_restore
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT

LARGE = 7 * MIB // 2

# Statements that damage the row of the file `large`, with their values.
BROKEN_ROWS: dict[str, tuple[str, tuple[object, ...]]] = {
    "kind": ("UPDATE entries SET kind = 99 WHERE name = ?", (b"large",)),
    "owner": ("UPDATE entries SET owner = 4711 WHERE name = ?", (b"large",)),
    "chunks": ("UPDATE entries SET chunks = x'010203' WHERE name = ?", (b"large",)),
    "extra": ("UPDATE entries SET extra = x'c1' WHERE name = ?", (b"large",)),
    "size": ("UPDATE entries SET size = size + 1 WHERE name = ?", (b"large",)),
    "content id": ("UPDATE entries SET content_id = zeroblob(16) WHERE name = ?", (b"large",)),
    "content id a text": ("UPDATE entries SET content_id = 'sixteen letters!' WHERE name = ?", (b"large",)),
    "content id a number": ("UPDATE entries SET content_id = 16 WHERE name = ?", (b"large",)),
    "chunks a text": ("UPDATE entries SET chunks = 'four' WHERE name = ?", (b"large",)),
    "extra a text": ("UPDATE entries SET extra = 'four' WHERE name = ?", (b"large",)),
    "mode a text": ("UPDATE entries SET mode = 'four' WHERE name = ?", (b"large",)),
    "size a text": ("UPDATE entries SET size = 'four' WHERE name = ?", (b"large",)),
    "no chunks": ("UPDATE entries SET chunks = NULL WHERE name = ?", (b"large",)),
    "order": (
        "UPDATE entries SET chunks = substr(chunks, 5) || substr(chunks, 1, 4) WHERE name = ?",
        (b"large",),
    ),
}


def plant(source: Path) -> None:
    """Some of everything: small files, a large one, one of the same content twice, links, odd names."""
    content = random.Random(7)
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "empty-directory").mkdir()
    (source / "empty").write_bytes(b"")
    (source / "large").write_bytes(content.randbytes(LARGE))
    (source / "sub" / "again").write_bytes((source / "large").read_bytes())
    (source / "sub" / "zeros").write_bytes(bytes(MIB))
    for number in range(20):
        (source / "sub" / "deep" / f"small-{number}").write_bytes(content.randbytes(1000 * number))
    (source / "link").symlink_to("sub/deep")
    (source / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(source / "sub" / "fifo")
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9\n")).write_text("odd name")
    (source / "sub" / "deep" / "small-3").chmod(0o4711)
    (source / "sub").chmod(0o2750)
    for place, directories, files in os.walk(source, topdown=False):
        for number, name in enumerate((*directories, *files)):
            when = 1_600_000_000_000_000_000 + number * 1_000_000_007
            os.utime(os.path.join(place, name), ns=(when, when), follow_symlinks=False)


def leftovers(out: Path) -> list[str]:
    return [name for _, _, names in os.walk(out) for name in names if name.startswith(".nightvault-")]


def sql(site: Site, text: str, *values: object) -> None:
    """Change the inventory behind its back."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        assert database.execute(text, values).rowcount > 0
    database.close()


def begun(site: Site, out: Path, *, path: bytes | None = None) -> tuple[Restore, Sequence[Retrieval]]:
    """A restore that was begun and asked for, and what is known of it."""
    world = site.restore_world
    plan = plan_restore(site.snapshot(), path or site.job.sources[0], world)
    restore = begin_restore(
        plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [site.key]
    )
    return restore, advance(restore, world)


def users_of(site: Site, where: str) -> set[bytes]:
    """Names of the files that use chunks for which `where` holds."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        numbers = {row[0] for row in database.execute(f"SELECT number FROM chunks WHERE {where}")}
        rows = database.execute("SELECT name, chunks FROM entries WHERE chunks IS NOT NULL").fetchall()
    database.close()
    return {name for name, chunks in rows if numbers & set(memoryview(chunks).cast("I"))}


def archive_files(site: Site) -> list[Path]:
    vault = site.folder.parent / "vault" / "archives"
    return sorted(path for path in vault.rglob("*") if path.is_file() and path.suffix != ".json")


def frame_places(site: Site) -> list[tuple[str, int, int, int, int]]:
    """Of every frame of data: archive id and number, its number, offset and length."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        rows = database.execute(
            "SELECT a.archive_id, a.number, f.number, f.offset, f.sealed_length FROM frames f "
            "JOIN archives a ON a.number = f.archive WHERE a.kind = 1"
        ).fetchall()
    database.close()
    return rows
