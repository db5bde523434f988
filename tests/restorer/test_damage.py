"""Damage in the vault, keys that do not fit, packs that are not ours: named, and confined."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.errors import FormatError, RecoveryKeyError
from backup.format.header import Header, HeaderFields, open_header, parse_header, seal_header
from backup.format.keys import RecoveryKey, Signer
from backup.model import MIB, Tier
from backup.restorer.pack_keys import PackKeyFile
from backup.restorer.restore import advance, begin_restore, deliver, find_open, is_ready, plan_restore
from tests.restorer.sites import archive_files, begun, frame_places, leftovers, plant, sql, users_of
from tests.support.backups import Site
from tests.support.doubles import NO_LIMIT, FaultyVault
from tests.support.trees import assert_same_tree, snapshot_of


def test_a_flipped_bit_spoils_the_files_of_its_frame_only(site: Site, source: Path, tmp_path: Path) -> None:
    plant(source)
    (source / "larger").write_bytes(random.Random(9).randbytes(6 * MIB))
    full = replace(site, job=replace(site.job, pack_size=8 * MIB))
    full.backup()
    places = {path.name: path for path in archive_files(full)}
    frames = frame_places(full)
    assert len(frames) > len({archive for _, archive, *_ in frames}) > 1
    for archive_id, archive, number, offset, length in frames:
        path = places[archive_id]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[offset + length // 2] ^= 4
        path.write_bytes(bad)
        out = tmp_path / f"out-{archive}-{number}"
        report = full.restore("latest", out)
        path.write_bytes(good)
        spoiled = users_of(full, f"archive = {archive} AND frame = {number}")
        assert {os.path.basename(problem.path) for problem in report.problems} == spoiled
        assert all("came back damaged" in problem.detail for problem in report.problems)
        expected = {
            name: seen for name, seen in snapshot_of(source).items() if os.path.basename(name) not in spoiled
        }
        assert_same_tree(expected, out)
        assert not leftovers(out)


def test_an_archive_that_is_gone_before_the_request(full: Site, source: Path, out: Path) -> None:
    _, archive, *_ = frame_places(full)[0]
    gone = next(path for path in archive_files(full) if path.name == frame_places(full)[0][0])
    gone.unlink()
    report = full.restore("latest", out)
    spoiled = users_of(full, f"archive = {archive}")
    assert {os.path.basename(problem.path) for problem in report.problems} == spoiled
    assert all("archive is gone" in problem.detail for problem in report.problems)
    expected = {
        name: seen for name, seen in snapshot_of(source).items() if os.path.basename(name) not in spoiled
    }
    assert_same_tree(expected, out)
    assert any("cannot be restored" in note for note in full.progress.notes)


def test_a_wrong_key_is_refused_before_anything_is_asked_for(full: Site, out: Path) -> None:
    vault = FaultyVault(full.vault)
    site = full.reopen(vault)
    world = site.restore_world
    plan = plan_restore(site.snapshot(), b"/", world)
    wrong = RecoveryKey.from_seed(b"w" * 32)
    with pytest.raises(RecoveryKeyError) as caught:
        begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=lambda: [wrong])
    assert int(caught.value.exit_code) == 12
    assert vault.total == 0
    assert not out.exists()
    assert os.listdir(site.folder / "restores") == []
    assert find_open(world, plan, os.fsencode(out)) is None


def test_the_key_file_is_private_and_holds_what_is_needed(full: Site, source: Path, out: Path) -> None:
    os.chmod(full.folder / "restores", 0o755)
    restore, known = begun(full, out, path=os.fsencode(source / "sub" / "deep" / "small-2"))
    assert len(known) == 1
    folder = full.folder / "restores"
    (file,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)
    kept = PackKeyFile(str(folder), restore.id).read()
    assert kept.keys() == {known[0].archive}
    assert full.key.seed not in file.read_bytes()
    deliver(restore, known, full.restore_world)
    assert os.listdir(folder) == []


def test_a_snapshot_without_content_needs_no_key(site: Site, source: Path, out: Path) -> None:
    (source / "empty").write_text("")
    (source / "folder").mkdir()
    site.backup()
    world = site.restore_world
    plan = plan_restore(site.snapshot(), os.fsencode(source), world)

    def no_key() -> list[RecoveryKey]:
        raise AssertionError("nobody needs a key here")

    restore = begin_restore(plan, os.fsencode(out), world, NO_LIMIT, tier=Tier.STANDARD, keys=no_key)
    known = advance(restore, world)
    assert (list(known), is_ready(known)) == ([], True)
    deliver(restore, known, world)
    assert_same_tree(source, out)


def test_a_pack_that_a_stranger_signed_is_not_opened(full: Site, source: Path, out: Path) -> None:
    """A header sealed to our key and signed by somebody else, in the place of ours."""
    with sqlite3.connect(full.folder / "inventory.sqlite") as database:
        (raw,) = database.execute("SELECT header FROM archives WHERE number = 1").fetchone()
    database.close()
    fields = parse_header(raw).fields
    stranger = Signer(b"x" * 32)
    forged = seal_header(
        HeaderFields(fields.kind, fields.pack_id, fields.inventory_id, stranger.public),
        pack_key=b"k" * 32,
        recipients=[full.key.recipient],
        signer=stranger,
    )
    sql(full, "UPDATE archives SET header = ? WHERE number = 1", forged)
    spoiled = users_of(full, "archive = 1")
    plan = plan_restore(full.snapshot(), os.fsencode(source), full.restore_world)
    assert 1 in plan.lost
    assert 1 not in {part.archive for part in plan.ranges}
    report = full.restore("latest", out)
    assert {os.path.basename(problem.path) for problem in report.problems} == spoiled
    assert all("signed by another signer" in problem.detail for problem in report.problems)


def test_a_pack_that_was_sealed_wrongly_spoils_its_files(
    full: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def failing(header: Header, key: RecoveryKey) -> bytes:
        calls.append(header)
        if len(calls) == 1:
            raise FormatError("the pack key is not the one that the header commits to")
        return open_header(header, key)

    monkeypatch.setattr("backup.restorer.restore.open_header", failing)
    report = full.restore("latest", out)
    assert {os.path.basename(problem.path) for problem in report.problems} == users_of(full, "archive = 1")
    assert all("keys of its archive" in problem.detail for problem in report.problems)


def test_keys_that_are_gone_are_asked_for_by_name(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    (full.folder / "restores" / f"{restore.id}.keys").unlink()
    with pytest.raises(RecoveryKeyError, match="keys of this restore are gone"):
        deliver(restore, known, full.restore_world)
    assert not out.exists()
