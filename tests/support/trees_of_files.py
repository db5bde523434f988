"""The one tree of files over a test's installation, without a way in.

found = LookedInto(site)
found.look.xattrs(found.place(b"/srv/a"))
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from datetime import datetime

from backup.browser.contents import FileContents
from backup.browser.frames import MOST, Frames
from backup.browser.packs import Packs
from backup.browser.tree import Tree
from backup.model import VaultName
from backup.protocols import Vault
from backup.restorer.writer.owners import Owners
from backup.served.look import Look, OwnerIds
from tests.support.backups import Site
from tests.support.trees import Seen


def stamp(moment: datetime) -> str:
    """A moment as part of a name."""
    return f"{moment:%Y-%m-%d_%H-%M-%S}"


class LookedInto:
    """A site's tree; its seconds pass when a test says so."""

    def __init__(
        self, site: Site, *, vaults: Sequence[Vault] = (), most: int = MOST, is_shared: bool = False
    ) -> None:
        self.site = site
        self.seconds = 0.0
        named: dict[VaultName, Vault] = {vault.name: vault for vault in (site.vault, *vaults)}
        self.tree = Tree(site.inventory, stamp=stamp, seconds=lambda: self.seconds)
        self.packs = Packs(
            site.inventory, named.__getitem__, [site.key], site.clock, seconds=lambda: self.seconds
        )
        self.frames = Frames(self.packs, site.keys.secret.chunk_key, site.clock, most=most)
        contents = FileContents(site.inventory, self.packs, self.frames, site.keys.secret)
        owners = Owners()
        self.look = Look(self.tree, contents, OwnerIds(owners.ids, owners.acl), is_shared=is_shared)

    def close(self) -> None:
        """End its threads."""
        self.frames.close()

    def place(self, path: bytes | os.PathLike[str], snapshot: str = "latest") -> bytes:
        """The place of a saved path in the tree, whose list of snapshots is read again."""
        self.seconds += 60
        return self.tree.top_of(self.site.snapshot(snapshot), os.fsencode(path))

    def names(self, path: bytes) -> list[bytes]:
        """The names in a directory, as they come."""
        return [name for name, _ in self.look.entries(path)]

    def content(self, path: bytes, piece: int = 100_000) -> bytes:
        """All of a file, read in pieces."""
        file = self.look.open(path)
        return b"".join(self.look.read(path, file, offset, piece) for offset in range(0, file.size, piece))

    def seen(self, top: bytes) -> dict[bytes, Seen]:
        """Everything below a directory, as `snapshot_of` sees a folder; flags apart."""
        found: dict[bytes, Seen] = {}
        inodes: dict[int, list[bytes]] = {}
        for path in self._below(top):
            node = self.look.node(path)
            status = self.look.status(node)
            kind, content = stat.S_IFMT(status.mode), node.target
            if kind == stat.S_IFREG:
                content = self.content(path)
            short = path[len(top) + 1 :]
            found[short] = Seen(
                kind,
                stat.S_IMODE(status.mode),
                status.uid,
                status.gid,
                status.mtime_ns,
                status.device,
                content,
                tuple(sorted((os.fsdecode(name), value) for name, value in self.look.xattrs(path).items())),
            )
            if kind != stat.S_IFDIR:
                inodes.setdefault(status.inode, []).append(short)
        for paths in inodes.values():
            for path in paths if len(paths) > 1 else ():
                found[path] = found[path]._replace(linked=min(paths))
        return found

    def _below(self, top: bytes) -> list[bytes]:
        found = []
        for name, node in self.look.entries(top):
            path = top + b"/" + name
            found.append(path)
            if node.is_directory:
                found += self._below(path)
        return found
