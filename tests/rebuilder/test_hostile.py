"""A vault that lies: what it forges, replays, relabels, forks or keeps back is refused or named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import RecoveryKeyError, UsageError
from backup.format.keys import RecoveryKey, fingerprint_of
from backup.format.pack import describe
from backup.model import ArchiveId, ByteRange, Fetched, Generation, InventoryId, PackKind, RetrievalId
from backup.rebuilder.catalogs.candidates import NothingToRebuildError
from backup.rebuilder.context import Wish
from backup.rebuilder.members import ForkError, OlderStateError, Trust, UntrustedError
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site, server_keys
from tests.support.catalogs import catalogs, kinds, remove, spoil
from tests.support.doubles import Blindfolded, ManualClock
from tests.support.integrity import list_now
from tests.support.keepers import keeper_of
from tests.support.rebuilds import Bare, archive_file, bare, line_of, rows


def describe_anew(site: Site, archive_id: ArchiveId, text: str) -> None:
    path = archive_file(site.folder.parent / "vault", archive_id).with_suffix(".json")
    record = json.loads(path.read_text())
    record["description"] = text
    path.write_text(json.dumps(record))


@pytest.fixture
def new(site: Site, tmp_path: Path) -> Iterator[Bare]:
    yield bare(tmp_path, site)
    assert not list((tmp_path / "bare").glob("*.building*")), "half an inventory was left"


def test_the_newest_full_catalog_is_damaged_or_gone(site: Site, new: Bare, tmp_path: Path) -> None:
    """Two deltas after it: then there is nothing to begin with."""
    spoil(site, catalogs(site)[1, "full"].archive_id, honest=True)
    with pytest.raises(NothingToRebuildError):
        new.rebuild()


def with_second_full(site: Site) -> None:
    """One more night, after which a full catalog is due."""
    site.most_deltas = 1
    site.clock.sleep(86400)
    (Path(site.job.sources[0].decode()) / "fourth night").write_text("of four")
    site.backup()


@pytest.mark.parametrize("harm", ["damaged", "damaged and told", "gone"])
def test_an_older_full_catalog_takes_its_place(site: Site, new: Bare, harm: str) -> None:
    with_second_full(site)
    newest = catalogs(site)[5, "full"].archive_id
    if harm == "gone":
        remove(site, newest)
    else:
        spoil(site, newest, honest=harm != "damaged")
    report = new.rebuild(Wish(lines=[line_of(site)]))
    assert {"damaged", "missing"} & set(kinds(report))
    assert (report.jobs[0].number, list(report.jobs[0].not_covered)) == (4, [])
    found, was = rows(new.folder), rows(site.folder)
    assert found["entries"] == was["entries"]
    assert found["snapshots"] == was["snapshots"]


def test_a_hole_is_told_and_refused_by_the_line(site: Site, new: Bare) -> None:
    line = line_of(site)
    remove(site, catalogs(site)[2, "delta"].archive_id)
    with pytest.raises(OlderStateError, match="catalog 3 of job job"):
        new.rebuild(Wish(lines=[line]))
    report = new.rebuild()
    assert report.is_partial
    (job,) = report.jobs
    assert (job.number, job.snapshots, list(job.not_covered)) == (1, 1, [3])


def test_a_rolled_back_vault_is_older_than_the_line(site: Site, new: Bare) -> None:
    line = line_of(site)
    remove(site, catalogs(site)[3, "delta"].archive_id)
    with pytest.raises(OlderStateError):
        new.rebuild(Wish(lines=[line]))
    report = new.rebuild()
    assert report.jobs[0].snapshots == 2
    assert not report.jobs[0].line_met


@pytest.mark.parametrize("other", [bytes(16), b"\xff" * 16], ids=["looked at before", "looked at after"])
def test_descriptions_that_lie(site: Site, new: Bare, other: bytes) -> None:
    """The newest says it is old, another job's and another inventory's; a data pack says it is a catalog."""
    known = catalogs(site)
    label = known[3, "delta"].label
    assert label is not None
    lie = replace(label, number=1, job_id=other)
    describe_anew(site, known[3, "delta"].archive_id, describe(lie))
    data = next(
        archive
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.kind is PackKind.DATA
    )
    assert data.label is not None
    fake = replace(
        lie, pack_id=data.label.pack_id, number=99, generation=Generation.FULL, job_id=label.job_id
    )
    describe_anew(site, data.archive_id, describe(fake))
    report = new.rebuild()
    assert "relabelled" in kinds(report)
    assert "damaged" in kinds(report)
    assert report.jobs[0].snapshots == 3
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]


def test_a_stranger_writes_into_the_vault(
    site: Site, new: Bare, tmp_path: Path, clock: ManualClock, disk: DirectoryVault
) -> None:
    """Well sealed to our recipient, well formed, under our inventory id: but signed by somebody else."""
    strange = Site.create(tmp_path / "strange", Blindfolded(disk), site.job.sources, clock=clock)
    keys = server_keys()
    signer = type(keys.signer)(b"x" * 32)
    strange = replace(strange, keys=replace(keys, signer=signer))
    strange.backup()
    strange.close()
    report = new.rebuild()
    assert kinds(report).count("refused") == 1
    assert rows(new.folder)["snapshots"] == rows(site.folder)["snapshots"]


def test_nobody_enrolled_the_signer(
    tmp_path: Path, disk: DirectoryVault, source: Path, clock: ManualClock
) -> None:
    site = Site.create(tmp_path / "state", disk, [source], clock=clock)
    site = replace(site, keys=replace(site.keys, enrolments=()))
    site.backup()
    new = bare(tmp_path, site)
    signer = fingerprint_of(site.keys.signer.public)
    with pytest.raises(UntrustedError, match=signer.hex()):
        new.rebuild()
    with pytest.raises(UntrustedError):
        new.rebuild(Wish(trust=Trust(signer=b"w" * 16)))
    assert new.rebuild(Wish(trust=Trust(signer=signer))).state == "done"
    (new.folder / "inventory.sqlite").unlink()
    assert new.rebuild(Wish(trust=Trust(vault=True))).state == "done"
    site.close()


def test_a_wrong_key_opens_nothing(site: Site, new: Bare) -> None:
    new.key = RecoveryKey(b"w" * 32)
    with pytest.raises((UntrustedError, RecoveryKeyError)):
        new.rebuild()
    with pytest.raises(RecoveryKeyError, match="does not open"):
        new.rebuild(Wish(trust=Trust(vault=True)))


def copied_and_blind(site: Site, folder: Path) -> tuple[Site, Site]:
    """A copy of the server, and the server itself, which sees nothing that the copy stores."""
    site.inventory.close()
    shutil.copytree(site.folder, folder / "copy")
    copied = replace(site, folder=folder / "copy").reopen()
    own = [archive.archive_id for archive in list_now(site.vault).archives]
    return copied, site.reopen(Blindfolded(site.vault, own=own))


def test_two_children_of_one_parent(site: Site, new: Bare, tmp_path: Path) -> None:
    """A copy of the server went on by itself: both are named, one is chosen, nothing is merged."""
    copied, again = copied_and_blind(site, tmp_path)
    copied.clock.sleep(3600)
    theirs, ours = copied.backup(), again.backup()
    with pytest.raises(ForkError, match="two catalogs go on from the same one") as caught:
        new.rebuild()
    assert "--tip" in caught.value.advice
    packs = {
        archive.archive_id: archive.label.pack_id.hex()
        for archive in list_now(site.vault).archives
        if archive.label
    }
    report = new.rebuild(Wish(tip=packs[ArchiveId(theirs.catalog)]))
    assert report.state == "done"
    rebuilt = new.site()
    assert rebuilt.snapshot().id == theirs.snapshot
    assert ours.snapshot not in {snapshot.id for snapshot in rebuilt.snapshots()}
    rebuilt.close()
    copied.close()
    again.close()


def test_copies_that_wrote_unseen_are_named_though_a_full_catalog_came_later(
    site: Site, new: Bare, tmp_path: Path
) -> None:
    """Nobody asks for the deltas before it: the other copy's night is not lost without a word."""
    copied, again = copied_and_blind(site, tmp_path)
    copied.clock.sleep(3600)
    theirs, ours = copied.backup(), again.backup()
    copied.clock.sleep(3600)
    replace(again, most_deltas=1).backup()
    packs = {
        archive.archive_id: archive.label.pack_id.hex()
        for archive in list_now(site.vault).archives
        if archive.label
    }
    both = [packs[ArchiveId(made.catalog)] for made in (theirs, ours)]
    again.clock.sleep(40 * 86400)
    assert "is there twice" in keeper_of(site, tmp_path / "keeper").only().stopped
    report = new.rebuild()
    told = [suspicion.detail for suspicion in report.suspicions if suspicion.kind == "newer"]
    assert [pack for pack in both if any(pack in detail for detail in told)] == both
    assert report.is_partial
    other = Bare(tmp_path / "the other", site.vault, site)
    assert other.rebuild(Wish(tip=both[0])).state == "done"
    rebuilt = other.site()
    assert rebuilt.snapshot().id == theirs.snapshot
    rebuilt.close()
    copied.close()
    again.close()


def test_the_line_decides_a_fork(site: Site, new: Bare, tmp_path: Path) -> None:
    copied, again = copied_and_blind(site, tmp_path)
    copied.backup()
    ours = again.backup()
    new.rebuild(Wish(lines=[line_of(again)]))
    rebuilt = new.site()
    assert rebuilt.snapshot().id == ours.snapshot
    rebuilt.close()
    copied.close()
    again.close()


def test_a_pack_kept_back_is_named(site: Site, new: Bare) -> None:
    data = [
        archive
        for archive in list_now(site.vault).archives
        if archive.label and archive.label.kind is PackKind.DATA
    ]
    remove(site, data[0].archive_id)
    site.clock.sleep(7200)
    report = new.rebuild()
    assert [(suspicion.kind, suspicion.archive_id) for suspicion in report.suspicions] == [
        ("withheld", data[0].archive_id)
    ]
    assert report.is_partial
    assert report.unconfirmed == 0
    assert (data[0].archive_id, "lost") in {(row[8], row[3]) for row in rows(new.folder)["data"]}


def test_a_replayed_catalog_is_a_duplicate(site: Site, new: Bare) -> None:
    one = catalogs(site)[2, "delta"]
    path = archive_file(site.folder.parent / "vault", one.archive_id)
    for end in ("", ".json"):
        copy = path.with_name("ab" * 16 + end)
        shelf = copy.parent.parent / "ab"
        shelf.mkdir(exist_ok=True)
        shutil.copy(f"{path}{end}", shelf / copy.name)
    report = new.rebuild()
    assert kinds(report) == ["duplicate"]
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]


def test_a_later_list_shows_what_was_too_new(site: Site, new: Bare) -> None:
    line = line_of(site)
    newest = catalogs(site)[3, "delta"].archive_id
    path = archive_file(site.folder.parent / "vault", newest)
    path.rename(site.folder / "held back")
    with pytest.raises(OlderStateError):
        new.rebuild(Wish(lines=[line]))
    (site.folder / "held back").rename(path)
    report = new.rebuild(Wish(lines=[line]))
    assert (report.jobs[0].snapshots, report.jobs[0].line_met) == (3, True)


def test_damage_on_the_way_is_fetched_again(site: Site, new: Bare, monkeypatch: pytest.MonkeyPatch) -> None:
    real, spoilt = site.vault.fetch, []

    def once_wrong(retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        fetched = real(retrieval_id, extent)
        if retrieval_id in spoilt:
            return fetched
        spoilt.append(retrieval_id)
        data = bytearray(fetched.data)
        data[len(data) // 2] ^= 1
        return Fetched(bytes(data), None)

    monkeypatch.setattr(site.vault, "fetch", once_wrong)
    report = new.rebuild()
    assert len(spoilt) == 3
    assert not report.suspicions
    assert report.jobs[0].snapshots == 3


def test_several_inventories_are_told_apart(
    site: Site, new: Bare, tmp_path: Path, clock: ManualClock, disk: DirectoryVault
) -> None:
    other_id = InventoryId(b"another of 16 b.")
    other = Site.create(tmp_path / "second", disk, site.job.sources, clock=clock)
    keys = server_keys(other_id)
    other = replace(other, keys=keys, inventory=replace(other.inventory, id=other_id))
    other.backup()
    with pytest.raises(UsageError, match="several inventories") as caught:
        new.rebuild()
    assert other_id.hex() in str(caught.value)
    assert caught.value.advice.startswith("choose one with --inventory"), "they have no job in common"
    assert site.inventory.id.hex() in str(caught.value)
    report = new.rebuild(Wish(inventory=site.inventory.id.hex()[:6]))
    assert report.predecessor == site.inventory.id
    assert rows(new.folder)["snapshots"] == rows(site.folder)["snapshots"]
    other.close()
