"""What is called a catalog and is none: it is looked at before it is brought down, and never twice."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from backup.errors import SpoolError
from backup.format.treehash import tree_hash
from backup.model import (
    MIB,
    ArchiveId,
    ArchiveLabel,
    ByteRange,
    Fetched,
    Generation,
    PackId,
    PackKind,
    Part,
    RetrievalId,
)
from backup.rebuilder.catalogs.intake import Intake
from backup.rebuilder.context import Wish
from backup.rebuilder.members import CatalogCandidate
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.catalogs import catalogs, kinds
from tests.support.doubles import FaultyVault
from tests.support.rebuilds import archive_file, bare, rows

JUNK = 3 * MIB


class Counting(FaultyVault):
    """A vault that counts the bytes that come down."""

    def __init__(self, vault: Any) -> None:
        super().__init__(vault)
        self.fetched: Counter[str] = Counter()

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        self.fetched[retrieval_id.split(":")[0]] += extent.length
        return super().fetch(retrieval_id, extent)


def junk(site: Site, data: bytes, number: int = 900) -> ArchiveId:
    """An archive of these bytes that says to be a catalog of the site's job, with a high number."""
    job = next(iter(catalogs(site).values())).label.job_id  # type: ignore[union-attr]
    pack = PackId(number.to_bytes(16, "big"))
    label = ArchiveLabel(PackKind.CATALOG, pack, site.inventory.id, number, Generation.FULL, job)
    upload = site.vault.begin_upload(label, MIB)
    parts = []
    for place in range(0, len(data), MIB):
        some = data[place : place + MIB]
        parts.append(Part(place, len(some), tree_hash(some), b"", place // MIB + 1))
        site.vault.put_part(upload, parts[-1], memoryview(some))
    return site.vault.complete_upload(upload, label, len(data), tree_hash(data), parts)


class Rebuilt(NamedTuple):
    fetched: Counter[str]
    kinds: list[str]
    snapshots: list[Any]


def rebuilt(site: Site, tmp_path: Path, wish: Wish | None = None) -> Rebuilt:
    machine = bare(tmp_path, site)
    counting = Counting(site.vault)
    report = machine.act(wish, vault=counting)
    return Rebuilt(counting.fetched, kinds(report), rows(machine.folder)["snapshots"])


def test_junk_is_looked_at_and_not_brought_down(site: Site, tmp_path: Path) -> None:
    """F11: two gigabytes of zeros came down twice."""
    archive = junk(site, bytes(JUNK))
    found = rebuilt(site, tmp_path)
    assert found.fetched[archive] <= 64 * 1024
    assert found.kinds == ["damaged"]
    assert found.snapshots == rows(site.folder)["snapshots"]


def test_a_large_catalog_of_somebody_else_under_this_servers_name(site: Site, tmp_path: Path) -> None:
    """Its header is well signed, and of another inventory than its description says."""
    mine = archive_file(tmp_path / "vault", catalogs(site)[1, "full"].archive_id).read_bytes()
    other = bytes(mine[:48]) + b"\x01" * 16 + bytes(mine[64:])
    assert len(other) == len(mine)
    archive = junk(site, other + bytes(JUNK))
    found = rebuilt(site, tmp_path)
    assert found.fetched[archive] <= 64 * 1024
    assert found.kinds == ["damaged"]


def test_what_is_far_too_large_is_not_even_asked_for(
    site: Site, tmp_path: Path, disk: DirectoryVault
) -> None:
    archive = junk(site, bytes(JUNK))
    with archive_file(tmp_path / "vault", archive).open("r+b") as file:
        file.truncate(1024 * MIB)
    found = rebuilt(site, tmp_path)
    assert found.fetched[archive] == 0
    assert found.kinds == ["too-large"]
    assert found.snapshots == rows(site.folder)["snapshots"]
    (tmp_path / "again").mkdir()
    taken = rebuilt(site, tmp_path / "again", Wish(accepted=[(900).to_bytes(16, "big").hex()]))
    assert 0 < taken.fetched[archive] <= 64 * 1024
    assert taken.kinds == ["damaged"]


def test_a_disk_without_room_is_said_before_anything_comes_down(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=1000))
    machine, counting = bare(tmp_path, site), Counting(site.vault)
    with pytest.raises(SpoolError, match="are free in") as caught:
        machine.act(vault=counting)
    assert "make room" in caught.value.advice
    assert not counting.fetched
    monkeypatch.undo()
    assert machine.act().state == "done"


def test_an_honest_large_catalog_comes_down(site: Site, tmp_path: Path) -> None:
    """Its first bytes are fetched apart; nothing is lost by that."""
    folder = Path(site.job.sources[0].decode())
    for _ in range(12_000):
        (folder / os.urandom(110).hex()).touch()
    site = replace(site, most_deltas=1)
    site.backup()
    assert max(archive.size for archive in catalogs(site).values()) > MIB
    found = rebuilt(site, tmp_path)
    assert found.kinds == []
    assert found.snapshots == rows(site.folder)["snapshots"]


def test_hundreds_of_false_labels_are_passed_in_few_rounds(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each full catalog by its label alone was asked for apart: in a cold vault that took hours each."""
    for number in range(900, 1100):
        junk(site, b"no catalog", number)
    rounds: list[int] = []
    real = Intake.fetch

    def fetch(self: Intake, wanted: Sequence[CatalogCandidate]) -> None:
        rounds.append(len(wanted))
        real(self, wanted)

    monkeypatch.setattr(Intake, "fetch", fetch)
    found = rebuilt(site, tmp_path)
    assert found.snapshots == rows(site.folder)["snapshots"]
    assert len(rounds) < 40
