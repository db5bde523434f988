"""Recovery keys that change, come late or were given up: what a rebuild believes and opens with which."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import RecoveryKeyError
from backup.format.keys import RecoveryKey, Signer, fingerprint_of
from backup.rebuilder.context import Wish
from backup.rebuilder.members import Trust, TwoSignersError, UntrustedError
from backup.rebuilder.report import RebuildReport
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.catalogs import catalogs, kinds, remove
from tests.support.doubles import Blindfolded, ManualClock
from tests.support.rebuilds import Bare, bare, line_of, rows
from tests.support.recovery_keys import NEW, OLD, forge, night, with_keys
from tests.support.trees import assert_same_tree


@pytest.fixture
def fresh(tmp_path: Path, disk: DirectoryVault, source: Path, clock: ManualClock) -> Iterator[Site]:
    """A server that has not run yet."""
    site = Site.create(tmp_path / "state", disk, [source], clock=clock)
    yield site
    site.close()


def rebuilt(
    tmp_path: Path, site: Site, *keys: RecoveryKey, wish: Wish | None = None
) -> tuple[Bare, RebuildReport]:
    new = Bare(tmp_path / "-".join(["bare", *(key.recipient.id.hex()[:4] for key in keys)]), site.vault, site)
    new.key, new.more_keys = keys[0], keys[1:]
    return new, new.rebuild(wish)


@pytest.mark.parametrize("recipients", [(NEW,), (NEW, OLD)], ids=["changed", "added"])
def test_the_new_key_alone_rebuilds_from_the_first_night_on(
    site: Site, source: Path, tmp_path: Path, recipients: tuple[RecoveryKey, ...]
) -> None:
    """It does not wait until the deltas are long."""
    night(with_keys(site, *recipients, enrolled_by=recipients), source, "changed")
    new, report = rebuilt(tmp_path, site, NEW)
    assert (report.is_partial, report.suspicions, report.jobs[0].snapshots) == (False, (), 4)
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]
    assert rows(new.folder)["snapshots"] == rows(site.folder)["snapshots"]
    (_, kept) = new.kept[0]
    assert set(kept.recipients) == {key.recipient.public for key in recipients}
    assert list(report.not_enrolled) == [key.recipient.id.hex() for key in recipients if key is not NEW]


def test_after_reread_the_new_key_alone_restores(site: Site, source: Path, tmp_path: Path) -> None:
    """Rebuilt and restored with nothing but the new key."""
    changed = with_keys(site, NEW, enrolled_by=[NEW])
    night(changed, source, "changed")
    new, _ = rebuilt(tmp_path, site, NEW)
    again = replace(new.site(), key=NEW)
    with pytest.raises(RecoveryKeyError, match="sealed for " + OLD.recipient.id.hex()):
        again.restore("latest", tmp_path / "no")
    again.close()
    changed.rereading().backup()
    new = Bare(tmp_path / "after", site.vault, site, key=NEW)
    new.rebuild()
    again = replace(new.site(), key=NEW)
    again.restore("latest", tmp_path / "out")
    assert_same_tree(source, tmp_path / "out")
    again.close()


def test_a_chain_across_both_keys_needs_both(site: Site, source: Path, tmp_path: Path) -> None:
    """A rebuild takes several keys. Here the full catalog for the new one never arrives."""
    changed = with_keys(site, NEW, enrolled_by=[NEW])
    for name in ("one", "two"):
        night(changed, source, name)
    newest = max(number for number, generation in catalogs(site) if generation == "full")
    remove(site, catalogs(site)[newest, "full"].archive_id)
    _, old = rebuilt(tmp_path, site, OLD)
    assert old.is_partial
    assert (old.jobs[0].snapshots, "other-key" in kinds(old)) == (3, True)
    for keys in ((OLD, NEW), (NEW, OLD)):
        new, report = rebuilt(tmp_path, site, *keys)
        assert report.jobs[0].snapshots == 5
        assert kinds(report) == ["missing"] * len(report.suspicions)
        assert rows(new.folder)["entries"] == rows(site.folder)["entries"]
        (_, kept) = new.kept[0]
        assert list(kept.recipients) == [NEW.recipient.public], "the old one is no recipient any more"


def test_none_of_several_keys(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RecoveryKeyError, match="none of the 2 recovery keys opens"):
        rebuilt(tmp_path, site, NEW, RecoveryKey(b"w" * 32), wish=Wish(trust=Trust(vault=True)))


def test_the_recipients_come_from_the_job_that_ran_last(site: Site, source: Path, tmp_path: Path) -> None:
    """The last job by name may have stopped before recipients changed."""
    stopped = site.with_job(name="z stopped")
    stopped.backup()
    night(with_keys(site, NEW, enrolled_by=[NEW]), source, "changed")
    new, _ = rebuilt(tmp_path, site, OLD, NEW)
    (_, kept) = new.kept[0]
    assert list(kept.recipients) == [NEW.recipient.public]


@pytest.mark.parametrize("listed", [True, False], ids=["by list", "by line"])
def test_enrolled_late(fresh: Site, source: Path, tmp_path: Path, listed: bool) -> None:
    """Catalogs from before the enrolment carry no tag, and are not refused one by one."""
    late = with_keys(fresh, OLD, enrolled_by=[])
    night(late, source, "one")
    night(late, source, "two")
    with pytest.raises(UntrustedError):
        rebuilt(tmp_path, late, OLD)
    enrolled = with_keys(fresh, OLD, enrolled_by=[OLD])
    night(enrolled, source, "three")
    newest = max(number for number, generation in catalogs(fresh) if generation == "full")
    remove(fresh, catalogs(fresh)[newest, "full"].archive_id)  # as the version before would not have made it
    new, report = rebuilt(tmp_path, enrolled, OLD, wish=None if listed else Wish(lines=[line_of(enrolled)]))
    assert report.jobs[0].snapshots == 3
    assert "refused" not in kinds(report)
    assert rows(new.folder)["entries"] == rows(fresh.folder)["entries"]


def test_the_enrolment_was_lost_on_the_way(fresh: Site, source: Path, tmp_path: Path) -> None:
    """Only an old full catalog has the tag, and all that is fetched first has none."""
    night(with_keys(fresh, OLD, enrolled_by=[OLD]), source, "one")
    lost = with_keys(fresh, OLD, enrolled_by=[])
    night(lost, source, "two")
    night(lost, source, "three")
    new, report = rebuilt(tmp_path, lost, OLD)
    assert (report.jobs[0].snapshots, report.suspicions, report.is_partial) == (3, (), False)
    assert rows(new.folder)["entries"] == rows(fresh.folder)["entries"]


def test_a_job_that_never_ran_since_is_vouched_for_by_another(
    fresh: Site, source: Path, tmp_path: Path
) -> None:
    """A tag says of a signer, not of a job, that it is ours; in both orders of jobs' ids."""
    late = with_keys(fresh, OLD, enrolled_by=[])
    jobs = [late.with_job(name=name) for name in ("a", "b", "c")]
    for job in jobs:
        job.backup()
    enrolled = with_keys(fresh, OLD, enrolled_by=[OLD]).with_job(name="b")
    night(enrolled, source, "later")
    new, report = rebuilt(tmp_path, enrolled, OLD)
    assert [(job.name, job.snapshots) for job in report.jobs] == [("a", 1), ("b", 2), ("c", 1)]
    assert kinds(report) == []
    assert rows(new.folder)["entries"] == rows(fresh.folder)["entries"]


def test_a_tag_vouches_for_no_other_signer_and_no_other_inventory(
    site: Site, tmp_path: Path, clock: ManualClock, disk: DirectoryVault
) -> None:
    """An attacker copies tags that lie in the vault in clear."""
    forger = Site.create(tmp_path / "forger", Blindfolded(disk), site.job.sources, clock=clock)
    forger = replace(forger, keys=replace(site.keys, signer=Signer(b"x" * 32)))
    forger.backup()
    forger.close()
    new = bare(tmp_path, site)
    report = new.rebuild()
    assert kinds(report) == ["refused"]
    assert rows(new.folder)["snapshots"] == rows(site.folder)["snapshots"]


def test_a_key_that_was_given_up_vouches_for_nobody(site: Site, source: Path, tmp_path: Path) -> None:
    """It is named to open old packs, and somebody else may have it, too."""
    night(with_keys(site, NEW, enrolled_by=[NEW]), source, "changed")
    forged = forge(site, source, NEW)
    for keys in ((NEW,), (NEW, OLD)):
        _, report = rebuilt(tmp_path, site, *keys)
        assert report.jobs[0].snapshots == 4
        assert set(kinds(report)) == {"refused"}
    forged.close()


def test_two_signers_of_one_inventory_are_refused_until_one_is_named(
    site: Site, source: Path, tmp_path: Path
) -> None:
    """The new key has not vouched for anybody, the old one for two."""
    changed = with_keys(site, NEW, enrolled_by=[])
    night(changed, source, "changed")
    forged = forge(site, source, NEW)
    with pytest.raises(TwoSignersError, match=fingerprint_of(forged.keys.signer.public).hex()):
        rebuilt(tmp_path, site, NEW, OLD)
    meant = Trust(signer=fingerprint_of(site.keys.signer.public))
    for keys in ((NEW, OLD), (OLD, NEW)):
        _, report = rebuilt(tmp_path, site, *keys, wish=Wish(trust=meant))
        assert report.jobs[0].snapshots == 4
    forged.close()


def test_an_old_key_vouches_where_the_new_one_says_nothing(site: Site, source: Path, tmp_path: Path) -> None:
    """Recipients were changed, and nobody enrolled the new key."""
    changed = with_keys(site, NEW, enrolled_by=[])
    night(changed, source, "changed")
    with pytest.raises(UntrustedError):
        rebuilt(tmp_path, site, NEW)
    new, report = rebuilt(tmp_path, site, NEW, OLD)
    assert (report.jobs[0].snapshots, kinds(report)) == (4, [])
    assert rows(new.folder)["entries"] == rows(site.folder)["entries"]
