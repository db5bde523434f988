"""The extractor and recovery keys that change or come late: as `rebuild` has it, without nightvault."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.format.keys import RecoveryKey, fingerprint_of, plain_key_file
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.extract_script import extract
from tests.support.recovery_keys import NEW, OLD, forge, night, with_keys
from tests.support.trees import assert_same_tree


class Shelf:
    """A server into a directory vault, and key files beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clock = ManualClock()
        vault = DirectoryVault(VaultName("disk"), str(folder / "vault"), clock)
        vault.create()
        self.source = folder / "source"
        self.source.mkdir()
        self.site = Site.create(folder / "state", vault, [self.source], clock=clock)
        self.archives = folder / "vault" / "archives"

    def words(self, *keys: RecoveryKey) -> list[object]:
        found: list[object] = []
        for key in keys:
            path = self.folder / f"{key.recipient.id.hex()}.key"
            path.write_bytes(plain_key_file(key))
            found += ["--key", path]
        return found


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_an_enrolment_that_came_late_vouches_for_what_was_before(shelf: Shelf, tmp_path: Path) -> None:
    """A catalog is not judged by its own tag alone."""
    late = with_keys(shelf.site, OLD, enrolled_by=[])
    night(late, shelf.source, "one")
    assert "not enrolled" in extract(*shelf.words(OLD), "--list", shelf.archives, code=1)
    night(with_keys(shelf.site, OLD, enrolled_by=[OLD]), shelf.source, "two")
    lost = night(late, shelf.source, "three")
    listed = extract(*shelf.words(OLD), "--list", shelf.archives)
    assert "not enrolled" not in listed
    assert lost.snapshot in listed
    extract(*shelf.words(OLD), "--target", tmp_path / "out", shelf.archives)
    assert_same_tree(shelf.source, Path(f"{tmp_path}/out{shelf.source}"))


def test_several_keys_open_what_each_was_sealed_for(shelf: Shelf, tmp_path: Path) -> None:
    """It takes several keys."""
    night(with_keys(shelf.site, OLD, enrolled_by=[OLD]), shelf.source, "one")
    night(with_keys(shelf.site, NEW, enrolled_by=[NEW]), shelf.source, "two")
    said = extract(*shelf.words(NEW), "--target", tmp_path / "some", shelf.archives, code=3)
    assert "not sealed for this recovery key" in said
    extract(*shelf.words(NEW, OLD), "--target", tmp_path / "out", shelf.archives)
    assert_same_tree(shelf.source, Path(f"{tmp_path}/out{shelf.source}"))


def test_a_key_that_was_given_up_vouches_for_nobody(shelf: Shelf) -> None:
    night(with_keys(shelf.site, OLD, enrolled_by=[OLD]), shelf.source, "one")
    ours = night(with_keys(shelf.site, NEW, enrolled_by=[NEW]), shelf.source, "two")
    thief = forge(shelf.site, shelf.source, NEW)
    forged = thief.snapshot().id
    both = shelf.words(NEW, OLD)
    listed = extract(*both, "--list", shelf.archives, code=3)
    assert ours.snapshot in listed
    assert forged not in listed
    only_old = extract(*shelf.words(OLD), "--list", shelf.archives, code=1)
    assert "keys have enrolled 2 signers" in only_old
    meant = fingerprint_of(shelf.site.keys.signer.public).hex()
    listed = extract(*shelf.words(OLD, NEW), "--list", "--signer", meant, shelf.archives, code=3)
    assert ours.snapshot in listed
    assert forged not in listed
    thief.close()
