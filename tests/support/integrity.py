"""Whether an installation is whole: vault, inventory, snapshots and spool agree, and nothing is left over."""

from __future__ import annotations

import functools
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from backup.inventory.content import archives
from backup.inventory.content.archives import ArchiveState
from backup.inventory.records import runs
from backup.inventory.store import schema
from backup.kinds import Outcome
from backup.model import Listing
from backup.protocols import Vault
from tests.support.backups import Site
from tests.support.trees import Seen, assert_same_tree

STAGING = (schema.staged_entries, schema.staged_removals, schema.staged_hints, schema.uploads)


def assert_whole(site: Site, scratch: Path, trees: Mapping[int, dict[bytes, Seen]], listing: Listing) -> None:
    """Every snapshot restores to its tree of `trees` (by number), and nothing is half done.

    `listing` is the vault's own, and must be what the inventory calls stored, neither more nor less.
    """
    assert_nothing_left_over(site)
    assert_stored(site, listing)
    assert_no_chunk_twice(site)
    found = site.snapshots()
    assert {snapshot.number for snapshot in found} == set(trees)
    for snapshot in found:
        target = scratch / snapshot.id
        site.restore(snapshot.id, target)
        assert_same_tree(trees[snapshot.number], target)


def assert_nothing_left_over(site: Site) -> None:
    """No staged row, no pending upload, no run without an end, no file in the spool."""
    with site.inventory.reading() as tx:
        counts = {
            table.name: tx.connection.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]
            for table in STAGING
        }
        outcomes = {run.outcome for run in runs.list_runs(tx, limit=1000)}
    assert counts == dict.fromkeys(counts, 0)
    assert Outcome.RUNNING not in outcomes
    assert os.listdir(site.spool) == []


def assert_stored(site: Site, listing: Listing) -> None:
    """The vault has what the inventory calls stored, of that size and tree hash (if told), no more."""
    with site.inventory.reading() as tx:
        recorded = archives.list_archives(tx, site.inventory.id)
    assert {archive.state for archive in recorded} <= {ArchiveState.STORED}
    stored = {archive.archive_id: (archive.size, archive.label) for archive in recorded}
    assert stored == {archive.archive_id: (archive.size, archive.label) for archive in listing.archives}
    told = {
        archive.archive_id: archive.tree_hash for archive in listing.archives if archive.tree_hash is not None
    }
    hashes = {archive.archive_id: archive.tree_hash for archive in recorded if archive.archive_id in told}
    assert hashes == told


def assert_no_chunk_twice(site: Site) -> None:
    """What was stored was built upon: no chunk lies in two archives."""
    with site.inventory.reading() as tx:
        ((number, distinct),) = tx.connection.execute("SELECT count(*), count(DISTINCT id) FROM chunks")
    assert number == distinct


def list_now(vault: Vault) -> Listing:
    """The listing of a vault that makes one at once."""
    return vault.fetch_listing(vault.request_listing("now"))


@functools.lru_cache(maxsize=4)
def random_pieces(seed: int, *sizes: int) -> Sequence[bytes]:
    """Bytes that do not compress, the same for the same seed; kept for who asks again."""
    rng = random.Random(seed)
    return [rng.randbytes(size) for size in sizes]


def fill(folder: Path, seed: int, size: int) -> None:
    """About `size` bytes that do not compress, in files large and small, with a link and an empty folder."""
    large, *small = random_pieces(seed, size * 3 // 5, *[size // 30] * 12)
    (folder / "large").write_bytes(large)
    (folder / "deep" / "er").mkdir(parents=True)
    for number, data in enumerate(small):
        (folder / "deep" / f"small {number}").write_bytes(data)
    (folder / "deep" / "er" / "empty").touch()
    (folder / "link").symlink_to("deep/small 1")
    (folder / "void").mkdir(mode=0o750)


def change(folder: Path, seed: int, size: int) -> None:
    """Add, grow, rename and remove some of what `fill` made, with about `size` new bytes."""
    little, more = random_pieces(seed, 100, size)
    with open(folder / "large", "r+b") as file:
        file.seek(1000)
        file.write(little)
    (folder / "more").write_bytes(more)
    (folder / "deep" / "small 2").rename(folder / "void" / "moved")
    (folder / "deep" / "small 3").unlink()
    (folder / "deep" / "small 4").chmod(0o600)
    (folder / "link").unlink()
    (folder / "link").mkdir()
    (folder / "link" / "inside").write_text("was a symlink")
