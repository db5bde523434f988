"""A vault's catalogs: found by number, removed or damaged behind the program's back."""

from __future__ import annotations

import json
from pathlib import Path

from backup.model import ArchiveId, ListedArchive
from tests.support.backups import Site
from tests.support.integrity import fill, list_now
from tests.support.rebuilds import archive_file


def catalogs(site: Site) -> dict[tuple[int, str], ListedArchive]:
    """The vault's catalogs by number and generation."""
    return {
        (archive.label.number, archive.label.generation.name.lower()): archive
        for archive in list_now(site.vault).archives
        if archive.label is not None and archive.label.generation is not None
    }


def remove(site: Site, archive_id: ArchiveId) -> None:
    site.vault.delete_archives({archive_id: None})


def spoil(site: Site, archive_id: ArchiveId, place: float = 0.5, *, honest: bool = False) -> None:
    """Turn a bit of an archive; `honest`: the vault's own record then tells the new hash."""
    path = archive_file(site.folder.parent / "vault", archive_id)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 1
    path.write_bytes(data)
    if honest:
        from backup.format.treehash import tree_hash

        record = json.loads(path.with_suffix(".json").read_text())
        record["tree_hash"] = tree_hash(bytes(data)).hex()
        path.with_suffix(".json").write_text(json.dumps(record))


def kinds(report: object) -> list[str]:
    return [suspicion.kind for suspicion in report.suspicions]  # type: ignore[attr-defined]


def add_a_night(site: Site, source: Path) -> int:
    """One more night whose delta is lost; the bytes that it stored."""
    (source / "lost night").mkdir()
    fill(source / "lost night", 99, 5 * 1024 * 1024)
    site.clock.sleep(86400)
    report = site.backup()
    for number, _ in [key for key in catalogs(site) if key[0] > 3]:
        for generation in ("delta", "full"):
            if (number, generation) in catalogs(site):
                remove(site, catalogs(site)[number, generation].archive_id)
    return report.bytes_new
