"""A server that is gone, and the rebuild of its inventory on a bare machine; rows compared one by one."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from backup.catalogs.catalogs import read_chain
from backup.catalogs.context import Keys
from backup.catalogs.sending import recovery_line
from backup.format.keys import Recipient, RecoveryKey
from backup.format.line import RecoveryLine
from backup.inventory.records.runs import list_jobs
from backup.inventory.store.database import open_inventory
from backup.model import InventoryId
from backup.protocols import Vault
from backup.rebuilder.context import RebuildContext, ServerKeys, Wish
from backup.rebuilder.members import Trust
from backup.rebuilder.rebuild import rebuild
from backup.rebuilder.report import RebuildReport
from backup.transfer.fetching.wants import LimitOnWants
from tests.support.backups import Site, enrolled, recovery_key
from tests.support.doubles import Silent, no_limit

NEW_ID = InventoryId(b"rebuilt inventory"[:16])


@dataclass
class Bare:
    """A machine with nothing but a vault and a recovery key."""

    folder: Path
    vault: Vault
    like: Site
    key: RecoveryKey = field(default_factory=recovery_key)
    more_keys: Sequence[RecoveryKey] = ()
    kept: list[tuple[InventoryId, ServerKeys]] = field(default_factory=list)
    progress: Silent = field(default_factory=Silent)
    new_id: InventoryId = NEW_ID
    limit_on: LimitOnWants = no_limit

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'inventory.sqlite'}"

    def act(self, wish: Wish | None = None, *, vault: Vault | None = None) -> RebuildReport:
        """One act of a rebuild."""
        for path in (self.folder, self.folder / "spool", self.folder / "restores"):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        world = RebuildContext(
            vault=vault or self.vault,
            clock=self.like.clock,
            progress=self.progress,
            recovery_keys=[self.key, *self.more_keys],
            url=self.url,
            folder=str(self.folder / "rebuild"),
            new_id=self.new_id,
            keep_keys=lambda inventory_id, keys: self.kept.append((inventory_id, keys)),
            limit_on=self.limit_on,
        )
        return rebuild(wish or Wish(trust=Trust()), world)

    def rebuild(
        self, wish: Wish | None = None, *, wait: Callable[[], object] = lambda: None
    ) -> RebuildReport:
        """All acts of it."""
        report = self.act(wish)
        while report.state == "waiting":
            wait()
            report = self.act(wish)
        return report

    def site(self) -> Site:
        """The rebuilt server, ready to restore and to back up."""
        inventory = open_inventory(self.url, lock_directory=str(self.folder))
        inventory_id, keys = self.kept[-1]
        recipients = tuple(Recipient(recipient) for recipient in keys.recipients)
        server = Keys(keys.signer, keys.secret, recipients, ())
        server = enrolled(server, inventory_id, [self.key], keys.ancestors)
        return replace(
            self.like,
            folder=self.folder,
            inventory=inventory,
            vault=self.vault,
            keys=server,
            key=self.key,
            more_keys=self.more_keys,
            progress=Silent(),
        )


def bare(tmp_path: Path, site: Site, name: str = "bare") -> Bare:
    """A bare machine beside a site that is gone."""
    return Bare(tmp_path / name, site.vault, site)


def line_of(site: Site) -> RecoveryLine:
    """The line that the site's last run ended with."""
    (line,) = (line for line in lines_of(site) if line.job == site.job.name)
    return line


def lines_of(site: Site) -> list[RecoveryLine]:
    """The line of each job that stores into the site's vault, as its last run ended with it."""
    with site.inventory.reading() as tx:
        jobs = list(list_jobs(tx, site.vault.name))
        texts = [
            recovery_line(read_chain(tx, job.number, job.vault, site.inventory), job, site.vault.name)
            for job in jobs
        ]
    return [RecoveryLine.from_text(text) for text in texts if text]


def rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All that an inventory holds and a rebuild gives back, with names in place of what is numbered anew."""
    with sqlite3.connect(folder / "inventory.sqlite") as db:
        found = {name: db.execute(text).fetchall() for name, text in _QUERIES.items()}
    db.close()
    return {name: sorted(some, key=repr) for name, some in found.items()}


_QUERIES = {
    "jobs": "SELECT j.id, j.name, v.name FROM jobs j JOIN vaults v ON v.number = j.vault",
    "owners": 'SELECT number, uid, gid, "user", "group" FROM owners',
    "directories": "SELECT d.number, j.id, d.path FROM directories d JOIN jobs j ON j.number = d.job",
    "entries": """SELECT number, directory, name, kind, mode, owner, mtime_ns, size, extra, content_id,
                  chunks, added_in, removed_in FROM entries""",
    "snapshots": """SELECT s.id, j.id, s.number, s.started_at, s.finished_at, s.host, s.sources, s.problems,
                    s.files, s.bytes, s.forgotten_at, s.tags, s.pin_note, s.pin_until
                    FROM snapshots s JOIN jobs j ON j.number = s.job""",
    "domains": "SELECT d.id, v.name, d.recipients FROM domains d JOIN vaults v ON v.number = d.vault",
    # What was taken up again is unconfirmed until a list made later shows it: one side may have had it.
    "data": """SELECT a.number, d.id, a.kind,
               iif(a.taken_up_at IS NOT NULL AND a.state = 'unconfirmed', 'stored', a.state),
               a.pack_id, a.header, a.size, a.tree_hash, a.archive_id
               FROM archives a JOIN domains d ON d.number = a.domain WHERE a.kind = 1""",
    "condemnations": """SELECT a.pack_id, j.id, c.at FROM condemnations c
                        JOIN archives a ON a.number = c.archive JOIN jobs j ON j.number = c.job""",
    "frames": """SELECT a.pack_id, f.number, f.offset, f.sealed_length, f.raw_length, f.flags, f.digest
                 FROM frames f JOIN archives a ON a.number = f.archive WHERE a.kind = 1""",
    "chunks": 'SELECT number, prefix, id, archive, frame, "offset", length FROM chunks',
    "chunk_prefixes": "SELECT prefix, chunk FROM chunk_prefixes",
}


def catalog_rows(folder: Path) -> list[tuple[Any, ...]]:
    """The catalogs that an inventory knows, with what each names."""
    sql = """SELECT c.number, c.generation, c.parent, j.id, a.pack_id, a.header, a.size, a.tree_hash,
                    a.archive_id, a.state, d.id,
                    (SELECT group_concat(n.archive) FROM (SELECT archive FROM catalog_archives
                     WHERE catalog = c.archive ORDER BY archive) n)
             FROM catalogs c JOIN archives a ON a.number = c.archive JOIN jobs j ON j.number = c.job
             JOIN domains d ON d.number = a.domain ORDER BY c.number"""
    with sqlite3.connect(folder / "inventory.sqlite") as db:
        found = db.execute(sql).fetchall()
    db.close()
    return found


def counters(folder: Path) -> dict[str, int]:
    """The numbers that are given out next."""
    with sqlite3.connect(folder / "inventory.sqlite") as db:
        found = dict(db.execute("SELECT name, next FROM counters").fetchall())
        found |= dict(db.execute("SELECT 'catalog ' || name, next_catalog FROM jobs").fetchall())
        found |= dict(db.execute("SELECT 'snapshot ' || name, next_snapshot FROM jobs").fetchall())
    db.close()
    return found


def archive_file(vault_folder: Path, archive_id: str) -> Path:
    """An archive's bytes in a directory vault."""
    return vault_folder / "archives" / archive_id[:2] / archive_id
