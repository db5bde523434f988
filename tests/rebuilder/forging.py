"""A server whose last catalog was written by an intruder who had its keys: signed, and absurd."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st
from msgspec import Struct

from backup.catalogs import catalogs
from backup.catalogs.catalogs import CatalogWriter
from backup.catalogs.packing import OpenPack
from backup.cli import main
from backup.format import records
from backup.model import Generation, Pack
from tests.support.command_line import CliAt
from tests.support.servers import directory_server

Twist = Callable[[list[Any]], Iterable[Any]]
"""Records of a catalog, as they would honestly be, into what is written instead."""


class Absurd(Struct, frozen=True):
    """One value of one record of a kind is another; `copies`: the record stays as well."""

    kind: type
    place: int
    field: int
    value: Any
    copies: bool = False

    def __call__(self, stream: list[Any]) -> Iterator[Any]:
        """The stream with it."""
        mine = [record for record in stream if isinstance(record, self.kind)]
        meant: Any = mine[self.place % len(mine)] if mine else None
        for record in stream:
            if record is not meant:
                yield record
                continue
            if self.copies:
                yield record
            values = list(msgspec.structs.astuple(meant))
            values[self.field % len(values)] = self.value
            yield self.kind(*values)


INTEGERS = [-1, 0, 1, 2, 2**31, 2**32 - 1, 2**32, 2**48, 2**53, 2**62, 2**63 - 1, 2**64 - 1, -(2**63)]
TEXTS = [
    "",
    "\x1b]0;x\x07",
    "\0",
    "\u2028",
    "../../x",
    "x" * 5000,
    "main",
    "skipped",
    "a-later-kind",
    "0" * 16,
]
BLOBS = [
    b"",
    b"/",
    b"..",
    b".",
    b"a/b",
    b"\0",
    b"/a/../b",
    b"relative",
    b"x" * 5000,
    b"\xff" * 16,
    b"\xff" * 32,
]
LISTS: list[Any] = [[], [2**63 - 1], [b"\xff" * 16], [(b"/x", "a-later-kind", "why")], [(1, 2, b"", b"", "")]]
KINDS = [
    *(records.Start, records.VaultRecord, records.DomainRecord, records.SnapshotRecord, records.OwnerRecord),
    *(records.DirectoryRecord, records.EntryRecord, records.ClosedRecord, records.ArchiveRecord),
    *(records.FramesRecord, records.ChunksRecord, records.ChainRecord, records.MountsRecord),
]
values = st.one_of(
    st.none(),
    st.sampled_from(INTEGERS),
    st.sampled_from(TEXTS),
    st.sampled_from(BLOBS),
    st.sampled_from(LISTS),
)
absurdities = st.builds(
    Absurd, st.sampled_from(KINDS), st.integers(0, 30), st.integers(0, 12), values, st.booleans()
)


def as_structs(stream: Iterable[Any]) -> list[Any]:
    """Entries that are written as tuples, as records."""
    return [records.EntryRecord(*record[1:]) if isinstance(record, tuple) else record for record in stream]


@contextmanager
def forging(twist: Twist, *, full: bool = False) -> Iterator[None]:
    """Meanwhile catalogs are written so: full ones, or deltas."""

    class Forger(CatalogWriter):
        """Writes at the end what a twist makes of all records."""

        def __init__(self, pack: OpenPack, level: int | None) -> None:
            super().__init__(pack, level)
            self._kept: list[Any] = []
            self._is_twisted = (pack.label.generation is Generation.FULL) is full

        def add(self, records: Iterable[Any]) -> None:
            self._kept += as_structs(records)

        def finish(self) -> tuple[Pack, str]:
            try:
                super().add(twist(self._kept) if self._is_twisted else self._kept)
            except BaseException:
                self.discard()
                raise
            return super().finish()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogs, "CatalogWriter", Forger)
        yield


class Victim:
    """A server with two snapshots, which begins anew for each intruder."""

    def __init__(self, folder: Path) -> None:
        self.server = directory_server(folder / "server")
        self._kept = folder / "kept"
        self.server.init()
        self.server.backup()
        (self.server.source / "second").write_text("night")
        (self.server.source / "a.txt").write_text("changed\n")
        self.server.backup()
        self.old = [snapshot["id"] for snapshot in self.server.json("snapshots")]
        self.was = folder / "was"
        shutil.copytree(self.server.source, self.was, symlinks=True)
        shutil.copytree(self.server.folder, self._kept, symlinks=True)
        self._targets = 0

    def begin_anew(self) -> None:
        """As it was after the second night."""
        shutil.rmtree(self.server.folder)
        shutil.copytree(self._kept, self.server.folder, symlinks=True)

    def forged_night(self, *twists: Twist, full: bool = False) -> bool:
        """A third night whose catalog is twisted; False if no writer could have written it."""
        source = self.server.source
        (source / "a.txt").unlink()
        (source / "third").write_bytes(os.urandom(1000))
        (source / "new").mkdir()
        (source / "new" / "link").symlink_to("../third")
        (source / "deep" / "b.bin").write_bytes(b"other")

        def twist(stream: list[Any]) -> list[Any]:
            for change in twists:
                stream = list(change(stream))
            return stream

        with forging(twist, full=full):
            words = ["--config", str(self.server.config), "backup", "main"]
            result = CliRunner().invoke(main, words, obj=CliAt(self.server.clock))
        return result.exit_code in {0, 3}

    def rebuild(self, *words: object) -> Any:
        """The state is lost and rebuilt; its report."""
        shutil.rmtree(self.server.state)
        result = self.server.run("--json", "rebuild", "--key", self.server.key_file, *words)
        assert result.exit_code in {0, 3}, result.output
        return msgspec.json.decode(result.stdout)

    def target(self) -> Path:
        """A place to restore to."""
        self._targets += 1
        return self.server.folder / f"out {self._targets}"
