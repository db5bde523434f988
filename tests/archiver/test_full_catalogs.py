"""Until a full catalog is stored that the present keys open and believe, no backup says that all is well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.archiver.backup import run_backup
from backup.catalogs import catalogs, commit
from backup.catalogs.context import Keys
from backup.catalogs.report import BackupReport
from backup.errors import SpoolError
from backup.format.enrolment import slots_of
from backup.format.keys import RecoveryKey
from backup.format.pack import parse_header
from backup.inventory.content import archives
from backup.inventory.records import runs
from backup.inventory.records.runs import Run
from backup.kinds import Outcome
from backup.model import Generation, PackKind
from tests.support.backups import INVENTORY_ID, Site, enrolled, recovery_key, server_keys
from tests.support.doubles import Fault, FaultyVault, PowerCut

OWN, OTHER = recovery_key(), RecoveryKey.from_seed(b"o" * 32)


def newest_runs(site: Site) -> list[Run]:
    with site.inventory.reading() as tx:
        return list(runs.list_runs(tx))


def fulls(site: Site) -> list[tuple[set[bytes], set[bytes]]]:
    """Of each stored full catalog whom it was sealed for, and who vouches in it."""
    with site.inventory.reading() as tx:
        job = runs.find_job(tx, site.job.name)
        assert job is not None
        stored = [archive for archive, _ in archives.stored_catalogs(tx, job.number, site.inventory.id)]
    found = []
    for archive in stored:
        if archive.label.generation is Generation.FULL:
            header = parse_header(archive.header)
            assert header.fields.catalog is not None
            slots = {slot for slot, _ in header.fields.catalog.enrolments}
            known = [key.recipient.id for key in (OWN, OTHER)]
            vouching = {key for key in known if slots.issuperset((key, *slots_of(key)))}
            found.append(({stanza.recipient_id for stanza in header.stanzas}, vouching))
    return found


def ids(*keys: RecoveryKey) -> set[bytes]:
    return {key.recipient.id for key in keys}


def keys_of(*recipients: RecoveryKey, enrolled_by: tuple[RecoveryKey, ...]) -> Keys:
    own = server_keys()
    keys = replace(own, recipients=tuple(key.recipient for key in recipients), enrolments=())
    return enrolled(keys, INVENTORY_ID, enrolled_by)


def backup_with(site: Site, keys: Keys) -> BackupReport:
    return run_backup(site.job, keys, site.world, accept_recipients=True)


def leave_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool has no room for a full catalog, whenever one is written."""

    def full(*_: Any, **__: Any) -> Any:
        raise SpoolError("no space left")

    monkeypatch.setattr(catalogs, "full_records", full)


def lose_catalogs(site: Site) -> None:
    """What a check finds where the vault has lost them."""
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE archives SET state = 'lost' WHERE kind = ?", (int(PackKind.CATALOG),))


def test_partial_until_a_full_catalog_is_stored_told_each_night(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in nights in which nothing changed."""
    (source / "file").write_text("x")
    site.backup()
    lose_catalogs(site)
    leave_no_room(monkeypatch)
    for _ in range(3):
        report = site.backup()
        assert report.outcome is Outcome.PARTIAL
        assert "the vault alone could give nothing of the job back" in report.warnings[0]
        assert "no space left" in report.warnings[0]
        assert newest_runs(site)[0].outcome is Outcome.PARTIAL
        assert newest_runs(site)[0].report["warnings"] == list(report.warnings)
    monkeypatch.undo()
    report = site.backup()
    assert (report.outcome, report.warnings) == (Outcome.DONE, ())
    assert newest_runs(site)[0].outcome is Outcome.DONE
    assert len(fulls(site)) == 1
    site.backup()
    assert len(fulls(site)) == 1


@pytest.mark.parametrize("method", ["begin_upload", "complete_upload"])
def test_a_run_that_died_at_its_full_catalog_is_recorded_as_partial(
    site: Site, source: Path, method: str
) -> None:
    """The process that would have said so is gone."""
    (source / "file").write_text("x")
    backup_with(site, keys_of(OWN, enrolled_by=()))
    dark = FaultyVault(site.vault, Fault(method, PowerCut("here"), skip=1))
    with pytest.raises(PowerCut):
        replace(site, vault=dark).backup()
    run, _ = newest_runs(site)
    assert run.outcome is Outcome.PARTIAL
    assert "no full catalog is stored" in run.report["warnings"][0]
    site = site.reopen()
    assert site.backup().outcome is Outcome.DONE
    assert len(fulls(site)) == 2


def test_a_run_that_is_settled_by_the_next_one_is_partial_without_its_full_catalog(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its delta arrived, and its process died before it could write the full catalog."""
    (source / "file").write_text("x")
    backup_with(site, keys_of(OWN, enrolled_by=()))

    def die(*_: object) -> None:
        raise PowerCut("just before the commit")

    monkeypatch.setattr(commit, "make_true", die)
    with pytest.raises(PowerCut):
        site.backup()
    monkeypatch.undo()
    site = site.reopen()
    second = site.backup()
    assert second.outcome is Outcome.DONE
    settled = newest_runs(site)[1]
    assert (settled.outcome, settled.report["recovered"]) == (Outcome.PARTIAL, True)
    assert "no full catalog is stored" in settled.report["warnings"][0]


def test_a_full_catalog_that_only_grew_due_is_a_warning(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older one and the deltas give all back: nothing is amiss yet."""
    (source / "file").write_text("x")
    site.backup()
    site.most_deltas = 1
    leave_no_room(monkeypatch)
    report = site.backup()
    assert report.outcome is Outcome.DONE
    assert "due next time" in report.warnings[0]


@pytest.mark.parametrize("recipients", [(OTHER,), (OWN, OTHER)], ids=["changed", "added"])
def test_a_full_catalog_is_due_when_recipients_change(
    site: Site, source: Path, recipients: tuple[RecoveryKey, ...]
) -> None:
    """A recovery key that was changed or added must open a full catalog."""
    (source / "file").write_text("x")
    site.backup()
    keys = keys_of(*recipients, enrolled_by=recipients)
    for _ in range(2):
        assert backup_with(site, keys).outcome is Outcome.DONE
        assert fulls(site) == [(ids(OWN), ids(OWN)), (ids(*recipients), ids(*recipients))]
    backup_with(site, keys_of(OWN, enrolled_by=(OWN,)))
    assert fulls(site)[2:] == [(ids(OWN), ids(OWN))]


def test_a_full_catalog_is_due_when_a_key_vouches(site: Site, source: Path) -> None:
    """Catalogs of before carry no tag."""
    (source / "file").write_text("x")
    backup_with(site, keys_of(OWN, enrolled_by=()))
    backup_with(site, keys_of(OWN, enrolled_by=()))
    assert fulls(site) == [(ids(OWN), set())]
    for _ in range(2):
        backup_with(site, keys_of(OWN, enrolled_by=(OWN,)))
        assert fulls(site) == [(ids(OWN), set()), (ids(OWN), ids(OWN))]


@pytest.mark.parametrize("recipients", [(OTHER,), (OWN,)], ids=["recipients", "enrolment"])
def test_what_a_change_of_keys_made_due_and_could_not_be_stored_is_partial(
    site: Site, source: Path, monkeypatch: pytest.MonkeyPatch, recipients: tuple[RecoveryKey, ...]
) -> None:
    (source / "file").write_text("x")
    backup_with(site, keys_of(OWN, enrolled_by=()))
    leave_no_room(monkeypatch)
    keys = keys_of(*recipients, enrolled_by=recipients)
    for _ in range(2):
        report = backup_with(site, keys)
        assert report.outcome is Outcome.PARTIAL
        assert any("no full catalog is stored" in warning for warning in report.warnings)
    monkeypatch.undo()
    assert backup_with(site, keys).outcome is Outcome.DONE
