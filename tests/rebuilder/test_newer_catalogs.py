"""Catalogs of a later version in a vault: no older state is taken for the newest, and junk blocks nobody."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from backup.cli import main
from backup.errors import NewerFormatError
from backup.format import records
from backup.format.keys import Signer
from backup.format.treehash import tree_hash
from backup.model import ArchiveId, ByteRange, Generation, ListedArchive, RetrievalId, Tier, VaultName
from backup.rebuilder.context import Wish
from backup.rebuilder.members import NewerCatalogError
from backup.vault.directory import DirectoryVault
from tests.rebuilder.forging import Absurd, forging
from tests.support.backups import Site
from tests.support.command_line import CliAt
from tests.support.doubles import ManualClock
from tests.support.integrity import list_now
from tests.support.rebuilds import Bare, archive_file, bare, line_of
from tests.support.servers import directory_server

OURS, STRANGER = Signer(b"s" * 32), Signer(b"x" * 32)
NEWER = "was written by a newer nightvault: install that version or a later one"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights of one small file: catalog 1, which is full and a delta, then deltas 2 and 3."""
    folder = tmp_path_factory.mktemp("kept")
    clock = ManualClock()
    vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
    vault.create()
    (folder / "source").mkdir()
    site = Site.create(folder / "state", vault, [folder / "source"], clock=clock)
    for night in ("first", "second", "third"):
        (folder / "source" / night).write_text(night)
        site.backup()
        clock.sleep(86400)
    site.close()
    return folder


@pytest.fixture
def site(kept: Path, tmp_path: Path) -> Iterator[Site]:
    """A copy of it."""
    for name in ("state", "vault", "source"):
        shutil.copytree(kept / name, tmp_path / name)
    clock = ManualClock()
    clock.sleep(3 * 86400)
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    site = Site.attach(tmp_path / "state", vault, [tmp_path / "source"], clock=clock)
    yield site
    site.close()


@pytest.fixture
def new(site: Site, tmp_path: Path) -> Iterator[Bare]:
    yield bare(tmp_path, site)
    assert not list((tmp_path / "bare").glob("*.building*")), "half an inventory was left"


def catalog(
    site: Site,
    number: int,
    generation: Generation = Generation.DELTA,
    among: Collection[ArchiveId] | None = None,
) -> ListedArchive:
    """A catalog in the vault."""
    return next(
        archive
        for archive in list_now(site.vault).archives
        if archive.label and (archive.label.number, archive.label.generation) == (number, generation)
        if among is None or archive.archive_id in among
    )


def rewrite(vault: Path, archive_id: str, place: int, value: bytes, signer: Signer | None) -> None:
    """Change bytes of a catalog's header, signed anew by `signer`; the vault's own hash is the new one."""
    path = archive_file(vault, archive_id)
    data = bytearray(path.read_bytes())
    data[place : place + len(value)] = value
    (length,) = struct.unpack_from("<I", data, 12)
    if signer is not None:
        data[64:96] = signer.public
        data[length - 64 : length] = signer.sign(bytes(data[: length - 64]))
    path.write_bytes(data)
    record = json.loads(path.with_suffix(".json").read_text())
    record["tree_hash"] = tree_hash(bytes(data)).hex()
    path.with_suffix(".json").write_text(json.dumps(record))


def make_newer(site: Site, number: int, signer: Signer | None = OURS, **which: Any) -> str:
    """Turn a catalog into one that needs feature bit 31; its pack id."""
    one = catalog(site, number, **which)
    rewrite(site.folder.parent / "vault", one.archive_id, 16, (2**31).to_bytes(4, "little"), signer)
    assert one.label is not None
    return one.label.pack_id.hex()


def suspicions(report: object) -> list[tuple[str, str]]:
    return [(suspicion.kind, suspicion.detail) for suspicion in report.suspicions]  # type: ignore[attr-defined]


def test_a_newer_delta_stops_a_rebuild(site: Site, new: Bare) -> None:
    pack = make_newer(site, 3)
    with pytest.raises(NewerCatalogError, match=f"catalog 3 .pack {pack}. in vault disk {NEWER}"):
        new.rebuild()
    assert not (new.folder / "inventory.sqlite").exists()


def test_a_newer_full_catalog_stops_a_rebuild(site: Site, new: Bare) -> None:
    make_newer(site, 1, generation=Generation.FULL)
    with pytest.raises(NewerCatalogError, match="catalog 1 "):
        new.rebuild()


def test_it_looks_no_further_first(site: Site, new: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a vault takes hours for each round, no round is spent on what is not used."""
    make_newer(site, 3)
    (site.folder.parent / "source" / "fourth").write_text("night")
    site.most_deltas = 1
    site.backup()
    make_newer(site, 5, generation=Generation.FULL)
    asked: list[str] = []
    real = site.vault.request_retrieval

    def counting(archive_id: ArchiveId, extent: ByteRange, tier: Tier, token: str) -> RetrievalId:
        asked.append(archive_id)
        return real(archive_id, extent, tier, token)

    monkeypatch.setattr(site.vault, "request_retrieval", counting)
    with pytest.raises(NewerCatalogError):
        new.rebuild()
    assert asked == [catalog(site, 5, Generation.FULL).archive_id]


def test_the_state_before_it_can_be_had_by_word(site: Site, new: Bare) -> None:
    make_newer(site, 3)
    before = catalog(site, 2).label
    assert before is not None
    report = new.rebuild(Wish(tip=before.pack_id.hex()))
    assert (report.jobs[0].number, report.is_partial) == (2, True)
    assert suspicions(report) == [("newer-format", "catalog 3 was written by a newer nightvault")]


@pytest.mark.parametrize("signer", [STRANGER, None], ids=["a stranger's", "signed by nobody"])
def test_junk_blocks_nobody(site: Site, new: Bare, signer: Signer | None) -> None:
    """What a hostile vault plants is named, and the newest state that is ours is rebuilt."""
    make_newer(site, 3, signer)
    report = new.rebuild()
    assert report.jobs[0].number == 2
    assert [kind for kind, _ in suspicions(report)] == ["refused" if signer else "damaged"]


def test_a_header_of_another_layout_is_named_alone(site: Site, new: Bare) -> None:
    """Nobody can tell who wrote it: it may be junk."""
    line = line_of(site)
    one = catalog(site, 3)
    rewrite(site.folder.parent / "vault", one.archive_id, 8, b"\x02\x00", None)
    report = new.rebuild()
    assert (report.jobs[0].number, report.is_partial) == (2, True)
    ((kind, detail),) = suspicions(report)
    assert (kind, "format 2" in detail) == ("newer-format", True)
    (new.folder / "inventory.sqlite").unlink()
    with pytest.raises(NewerFormatError, match="catalog 3 of job job, which the recovery line names"):
        new.rebuild(Wish(lines=[line]))


def test_nothing_but_another_layout(site: Site, new: Bare) -> None:
    for archive in list_now(site.vault).archives:
        if archive.label is not None and archive.label.generation is not None:
            rewrite(site.folder.parent / "vault", archive.archive_id, 8, b"\x02\x00", None)
    with pytest.raises(NewerFormatError, match="3 catalogs that were written by a newer nightvault"):
        new.rebuild()


def test_a_line_names_a_newer_catalog(site: Site, new: Bare) -> None:
    line = line_of(site)
    make_newer(site, 3)
    with pytest.raises(NewerCatalogError, match="catalog 3 "):
        new.rebuild(Wish(lines=[line]))


def test_a_line_of_before_gives_its_state(site: Site, new: Bare) -> None:
    """A newer catalog in the vault is named, as any newer one is; the line's state is there."""
    line = line_of(site)
    (site.folder.parent / "source" / "fourth").write_text("night")
    site.backup()
    make_newer(site, 4)
    report = new.rebuild(Wish(lines=[line]))
    assert (report.jobs[0].number, [kind for kind, _ in suspicions(report)]) == (3, ["newer"])


def test_jobs_that_are_not_wanted_do_not_matter(site: Site, new: Bare) -> None:
    other = site.with_job(name="other")
    other.backup()
    numbers = {
        archive.label.job_id
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.job_id
    }
    assert len(numbers) == 2
    make_newer(site, 3)
    report = new.rebuild(Wish(jobs=frozenset({"other"})))
    assert [job.name for job in report.jobs] == ["other"]
    (new.folder / "inventory.sqlite").unlink()
    with pytest.raises(NewerCatalogError, match="catalog 3 "):
        new.rebuild(Wish(jobs=frozenset({"job"})))
    with pytest.raises(NewerCatalogError, match="catalog 3 "):
        new.rebuild(Wish(jobs=frozenset({"job", "other"})))


def test_a_job_whose_name_cannot_be_read(site: Site, new: Bare) -> None:
    """It may be the wanted one, unless all that are wanted were found."""
    first = {archive.archive_id for archive in list_now(site.vault).archives}
    site.with_job(name="other").backup()
    for number, kind in ((1, Generation.FULL), (2, Generation.DELTA)):
        make_newer(site, number, generation=kind, among=first)
    make_newer(site, 3)
    report = new.rebuild(Wish(jobs=frozenset({"other"})))
    assert [job.name for job in report.jobs] == ["other"]
    (new.folder / "inventory.sqlite").unlink()
    with pytest.raises(NewerCatalogError):
        new.rebuild(Wish(jobs=frozenset({"job"})))


def test_a_newer_start(site: Site, new: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backup.format.catalog.FORMAT", 2)
    with forging(Absurd(records.Start, 0, 0, 2)):
        site.backup()
    monkeypatch.undo()
    with pytest.raises(NewerCatalogError, match="catalog 4 "):
        new.rebuild()


class Later(msgspec.Struct, frozen=True, array_like=True, tag=records.LAST_KNOWN_KIND + 1):
    """A record that a later version may write, and that must be understood."""

    value: int = 1


def later(stream: list[Any]) -> list[Any]:
    """A catalog's records with such a one among them."""
    return [stream[0], Later(), *stream[1:]]


def test_a_newer_record(site: Site, new: Bare) -> None:
    before = catalog(site, 3).label
    with forging(later):
        site.backup()
    with pytest.raises(NewerCatalogError, match="catalog 4 "):
        new.rebuild()
    assert before is not None
    report = new.rebuild(Wish(tip=before.pack_id.hex()))
    assert (report.jobs[0].number, [kind for kind, _ in suspicions(report)]) == (3, ["newer-format"])


def test_the_command_says_it_in_one_sentence(tmp_path: Path) -> None:
    """And what was set aside for the rebuild is where it was."""
    server = directory_server(tmp_path / "server")
    server.init()
    server.backup()
    with forging(later):
        words = ["--config", str(server.config), "backup", "main"]
        assert CliRunner().invoke(main, words, obj=CliAt(server.clock)).exit_code == 0
    before = sorted(path.name for path in server.state.iterdir())
    result = server.run("rebuild", "--set-aside", "--key", server.key_file)
    assert result.exit_code == 1
    assert NEWER in " ".join(result.stderr.split())
    assert sorted(path.name for path in server.state.iterdir() if "rebuild" not in path.name) == before
