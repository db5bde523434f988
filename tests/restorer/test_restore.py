"""A restore from a directory: what was backed up comes back, and what cannot is named while the rest does."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backup.errors import FormatError, LockedError, RecoveryKeyError, TargetError, UsageError
from backup.format.header import Header, HeaderFields, open_header, parse_header, seal_header
from backup.format.keys import RecoveryKey, Signer
from backup.inventory.runs import Outcome, list_runs
from backup.model import MIB, Problem, ProblemKind, Tier
from backup.restorer.keyfile import PackKeyFile
from backup.restorer.restore import (
    RestoreReport,
    advance,
    begin_restore,
    cancel,
    deliver,
    find_open,
    find_restore,
    is_ready,
    plan_restore,
    waiting_report,
)
from backup.restorer.write import Writer
from tests.backups import Site
from tests.doubles import FaultyVault, PowerCut, cut_at
from tests.trees import assert_same_tree, snapshot_of

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may do this")


LARGE = 7 * MIB // 2


def plant(source: Path) -> None:
    """Some of everything: small files, a large one, one of the same content twice, links, odd names."""
    content = random.Random(7)
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "empty-directory").mkdir()
    (source / "empty").write_bytes(b"")
    (source / "large").write_bytes(content.randbytes(LARGE))
    (source / "sub" / "again").write_bytes((source / "large").read_bytes())
    (source / "sub" / "zeros").write_bytes(bytes(MIB))
    for number in range(20):
        (source / "sub" / "deep" / f"small-{number}").write_bytes(content.randbytes(1000 * number))
    (source / "link").symlink_to("sub/deep")
    (source / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(source / "sub" / "fifo")
    Path(os.fsdecode(os.fsencode(source) + b"/caf\xe9\n")).write_text("odd name")
    (source / "sub" / "deep" / "small-3").chmod(0o4711)
    (source / "sub").chmod(0o2750)
    for place, directories, files in os.walk(source, topdown=False):
        for number, name in enumerate((*directories, *files)):
            when = 1_600_000_000_000_000_000 + number * 1_000_000_007
            os.utime(os.path.join(place, name), ns=(when, when), follow_symlinks=False)


@pytest.fixture
def full(site: Site, source: Path) -> Site:
    """An installation with one snapshot of such a tree."""
    plant(source)
    site.backup()
    return site


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def leftovers(out: Path) -> list[str]:
    return [name for _, _, names in os.walk(out) for name in names if name.startswith(".nightvault-")]


def sql(site: Site, text: str, *values: object) -> None:
    """Change the inventory behind its back."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        assert database.execute(text, values).rowcount > 0
    database.close()


def begun(site: Site, out: Path, *, path: bytes | None = None):  # type: ignore[no-untyped-def]
    """A restore that was begun and asked for, and what is known of it."""
    world = site.restore_world
    plan = plan_restore(site.snapshot(), path or site.job.sources[0], world)
    restore = begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=lambda: site.key)
    return restore, advance(restore, world)


def test_everything_comes_back(full: Site, source: Path, out: Path) -> None:
    site = full.reopen()
    report = site.restore("latest", out)
    assert_same_tree(source, out)
    assert (report.outcome, report.problems, report.waiting) == (Outcome.DONE, (), 0)
    count = snapshot_of(source)
    directories = sum(seen.kind == stat.S_IFDIR for seen in count.values())
    assert (report.files, report.directories) == (len(count) - directories, directories)
    assert report.bytes == sum(len(seen.content) for seen in count.values() if seen.kind == stat.S_IFREG)
    assert site.progress.files == report.files
    assert site.progress.done == report.bytes


def test_the_report_as_json(full: Site, out: Path) -> None:
    report = full.restore("latest", out)
    document = report.document()
    assert document["outcome"] == "done"
    assert {"restore", "snapshot", "files", "directories", "bytes", "retrieved", "seconds"} <= document.keys()
    with full.inventory.reading() as tx:
        run = list_runs(tx)[0]
    assert (run.kind, run.outcome, dict(run.report)) == ("restore", Outcome.DONE, document)


def test_nothing_of_the_restore_is_left_in_the_state(full: Site, out: Path) -> None:
    full.restore("latest", out)
    assert os.listdir(full.folder / "restores") == []
    assert not [name for name in os.listdir(full.folder) if name.startswith("restore-")]


def test_the_whole_snapshot_goes_below_the_target(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out, path=b"/")
    assert_same_tree(source, Path(str(out) + str(source)))


def test_a_directory_within(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out, path=source / "sub" / "deep")
    assert_same_tree(source / "sub" / "deep", out)


def test_paths_longer_than_the_system_takes(site: Site, source: Path, out: Path) -> None:
    name, depth = b"directory-" * 10, 120
    handle = os.open(source, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=handle)
        above, handle = handle, os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(above)
    with open(os.open(b"file", os.O_WRONLY | os.O_CREAT, dir_fd=handle), "wb") as file:
        file.write(b"far away")
    os.close(handle)
    site.backup()
    report = site.restore("latest", out)
    assert (report.outcome, report.files, report.directories) == (Outcome.DONE, 1, depth)
    handle = os.open(out, os.O_RDONLY)
    for _ in range(depth):
        above, handle = handle, os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(above)
    with open(os.open(b"file", os.O_RDONLY, dir_fd=handle), "rb") as file:
        assert file.read() == b"far away"
    os.close(handle)
    for top in (source, out):
        subprocess.run(["rm", "-rf", top / os.fsdecode(name)], check=True)


@pytest.mark.parametrize("name", ["large", "link", "sub/fifo", "empty"])
def test_a_single_entry_keeps_its_name(full: Site, source: Path, out: Path, name: str) -> None:
    full.restore("latest", out, path=source / name)
    wanted = snapshot_of(source)[name.encode()]
    assert snapshot_of(out) == {os.path.basename(name).encode(): wanted}


def test_a_path_that_is_not_there(full: Site, source: Path) -> None:
    with pytest.raises(UsageError, match=r"has no .*nothing"):
        plan_restore(full.snapshot(), os.fsencode(source / "nothing"), full.restore_world)


def test_restoring_over_what_is_there(full: Site, source: Path, out: Path) -> None:
    full.restore("latest", out)
    (out / "large").write_bytes(b"changed")
    (out / "sub" / "deep" / "small-1").unlink()
    (out / "sub" / "again").unlink()
    (out / "sub" / "again").symlink_to("/etc/passwd")
    (out / "mine").write_text("stays")
    full.restore("latest", out)
    (out / "mine").unlink()
    os.utime(out / "sub", ns=((source / "sub").stat().st_mtime_ns,) * 2)
    assert_same_tree(source, out)


def test_a_symlink_in_the_target_leads_nowhere(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    out.mkdir()
    (out / "sub").symlink_to(outside)
    (out / "empty").symlink_to(outside / "made")
    full.restore("latest", out)
    assert not list(outside.iterdir())
    assert_same_tree(source, out)


def test_a_directory_swapped_for_a_symlink_meanwhile(
    full: Site, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write in the target swaps a directory for a symlink before any one of our steps."""
    monkeypatch.setattr("backup.restorer.target._MOST_OPEN", 1)
    monkeypatch.setattr("backup.restorer.write._MOST_OPEN", 1)
    outside = tmp_path / "outside"
    outside.mkdir()
    steps, swap_at = [0], [-1]

    def hooked(name: str) -> Callable[..., object]:
        real = getattr(Writer, name)

        def step(*args: object) -> object:
            if steps[0] == swap_at[0]:
                for swapped in (out / "sub" / "deep", out / "sub"):
                    if swapped.is_dir():
                        swapped.rename(swapped.with_name("moved"))
                        swapped.symlink_to(outside)
            steps[0] += 1
            return real(*args)

        return step

    for name in ("directory", "special", "begin", "write", "end", "finish"):
        monkeypatch.setattr(Writer, name, hooked(name))
    full.restore("latest", out)
    total, partial = steps[0], 0
    assert total > 70
    for swap_at[0] in range(0, total, 5):
        shutil.rmtree(out)
        steps[0] = 0
        report = full.restore("latest", out)
        partial += report.outcome is Outcome.PARTIAL
        assert not list(outside.iterdir())
        assert stat.S_IMODE(outside.stat().st_mode) == 0o755
        assert (out / "large").stat().st_size == LARGE
    assert partial > 3


# Names and rows that no backup of ours wrote.


@pytest.mark.parametrize("name", [b"..", b".", b"", b"../escaped", b"/escaped", b"a\0b"])
def test_a_forged_name_does_not_lead_out(full: Site, source: Path, out: Path, name: bytes) -> None:
    sql(full, "UPDATE entries SET name = ? WHERE name = ?", name, b"large")
    report = full.restore("latest", out)
    expected = snapshot_of(source)
    del expected[b"large"]
    assert_same_tree(expected, out)
    assert report.problems == (
        Problem(name, ProblemKind.DAMAGED, "its name leads out of the target; not restored"),
    )
    assert report.outcome is Outcome.PARTIAL
    assert not (out.parent / "escaped").exists()


def test_a_forged_directory_does_not_lead_out(full: Site, source: Path, out: Path) -> None:
    forged = os.fsencode(source) + b"/../../../escaped"
    sql(full, "UPDATE directories SET path = ? WHERE path = ?", forged, os.fsencode(source / "sub" / "deep"))
    report = full.restore("latest", out)
    assert len(report.problems) == 20
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    assert list((out / "sub" / "deep").iterdir()) == []


def test_a_symlink_and_a_file_behind_it(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    """An inventory that says: `link` points outside, and there is a file in the directory `link`."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = os.fsencode(source / "link")
    sql(full, "UPDATE directories SET path = ? WHERE path = ?", path, os.fsencode(source / "sub" / "deep"))
    sql(full, "UPDATE entries SET extra = NULL WHERE name = ?", b"dangling")
    report = full.restore("latest", out)
    assert not list(outside.iterdir())
    problems = {problem.path for problem in report.problems}
    assert {b"link/small-1", b"dangling"} <= problems
    assert (out / "link").is_symlink()


BROKEN_ROWS: dict[str, tuple[str, tuple[object, ...]]] = {
    "kind": ("UPDATE entries SET kind = 99 WHERE name = ?", (b"large",)),
    "owner": ("UPDATE entries SET owner = 4711 WHERE name = ?", (b"large",)),
    "chunks": ("UPDATE entries SET chunks = x'010203' WHERE name = ?", (b"large",)),
    "extra": ("UPDATE entries SET extra = x'c1' WHERE name = ?", (b"large",)),
    "size": ("UPDATE entries SET size = size + 1 WHERE name = ?", (b"large",)),
    "content id": ("UPDATE entries SET content_id = zeroblob(16) WHERE name = ?", (b"large",)),
    "no chunks": ("UPDATE entries SET chunks = NULL WHERE name = ?", (b"large",)),
    "order": (
        "UPDATE entries SET chunks = substr(chunks, 5) || substr(chunks, 1, 4) WHERE name = ?",
        (b"large",),
    ),
}


@pytest.mark.parametrize(("text", "values"), BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_a_broken_row_spoils_its_entry_only(
    full: Site, source: Path, out: Path, text: str, values: tuple[object, ...]
) -> None:
    sql(full, text, *values)
    report = full.restore("latest", out)
    expected = snapshot_of(source)
    del expected[b"large"]
    assert_same_tree(expected, out)
    assert [(problem.path, problem.kind) for problem in report.problems] == [(b"large", ProblemKind.DAMAGED)]


def users_of(site: Site, where: str) -> set[bytes]:
    """Names of the files that use chunks for which `where` holds."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        numbers = {row[0] for row in database.execute(f"SELECT number FROM chunks WHERE {where}")}
        rows = database.execute("SELECT name, chunks FROM entries WHERE chunks IS NOT NULL").fetchall()
    database.close()
    return {name for name, chunks in rows if numbers & set(memoryview(chunks).cast("I"))}


LOST: dict[str, tuple[str, str]] = {
    "chunk": ("DELETE FROM chunks WHERE {}", "number = (SELECT min(number) FROM chunks)"),
    "chunk moved": (
        "UPDATE chunks SET offset = offset + 1 WHERE {}",
        "number = (SELECT min(number) FROM chunks)",
    ),
    "chunk renamed": (
        "UPDATE chunks SET id = zeroblob(32) WHERE {}",
        "number = (SELECT min(number) FROM chunks)",
    ),
    "frame": ("DELETE FROM frames WHERE {}", "archive = 1 AND frame = 0"),
    "frame beyond": ("UPDATE frames SET offset = offset + 100000000 WHERE {}", "archive = 1 AND frame = 0"),
    "frame huge": ("UPDATE frames SET sealed_length = 2000000000 WHERE {}", "archive = 1 AND frame = 0"),
    "frame flags": ("UPDATE frames SET flags = 1 - flags WHERE {}", "archive = 1 AND frame = 0"),
    "frame digest": ("UPDATE frames SET digest = zeroblob(16) WHERE {}", "archive = 1 AND frame = 0"),
    "archive": ("UPDATE archives SET state = 'lost' WHERE {}", "archive = 1"),
    "archive id": ("UPDATE archives SET archive_id = NULL WHERE {}", "archive = 1"),
    "header": ("UPDATE archives SET header = zeroblob(length(header)) WHERE {}", "archive = 1"),
}


@pytest.mark.parametrize(("text", "where"), LOST.values(), ids=LOST.keys())
def test_what_the_inventory_lost_spoils_the_files_that_need_it(
    full: Site, source: Path, out: Path, text: str, where: str
) -> None:
    spoiled = users_of(full, where)
    assert spoiled
    changed = where
    if "frames" in text:
        changed = where.replace("frame =", "number =")
    elif "archives" in text:
        changed = where.replace("archive =", "number =")
    sql(full, text.format(changed))
    report = full.restore("latest", out)
    assert {os.path.basename(problem.path) for problem in report.problems} == spoiled
    assert {problem.kind for problem in report.problems} == {ProblemKind.DAMAGED}
    expected = {
        path: seen for path, seen in snapshot_of(source).items() if os.path.basename(path) not in spoiled
    }
    assert_same_tree(expected, out)
    assert report.outcome is Outcome.PARTIAL


# Damage in the vault.


def archive_files(site: Site) -> list[Path]:
    vault = site.folder.parent / "vault" / "archives"
    return sorted(path for path in vault.rglob("*") if path.is_file() and path.suffix != ".json")


def frame_places(site: Site) -> list[tuple[str, int, int, int, int]]:
    """Of every frame of data: archive id and number, its number, offset and length."""
    with sqlite3.connect(site.folder / "inventory.sqlite") as database:
        rows = database.execute(
            "SELECT a.archive_id, a.number, f.number, f.offset, f.sealed_length FROM frames f "
            "JOIN archives a ON a.number = f.archive WHERE a.kind = 1"
        ).fetchall()
    database.close()
    return rows


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


# Keys.


def test_a_wrong_key_is_refused_before_anything_is_asked_for(full: Site, out: Path) -> None:
    vault = FaultyVault(full.vault)
    site = full.reopen(vault)
    world = site.restore_world
    plan = plan_restore(site.snapshot(), b"/", world)
    wrong = RecoveryKey.from_seed(b"w" * 32)
    with pytest.raises(RecoveryKeyError) as caught:
        begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=lambda: wrong)
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

    def no_key() -> RecoveryKey:
        raise AssertionError("nobody needs a key here")

    restore = begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=no_key)
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
    assert 1 not in {one.archive for one in plan.ranges}
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


# Acts, cut and repeated.


def test_the_same_command_again_finds_the_open_restore(full: Site, source: Path, out: Path) -> None:
    one, _ = begun(full, out)
    world = full.restore_world
    for path in (os.fsencode(source), os.fsencode(source) + b"/"):
        plan = plan_restore(full.snapshot(), path, world)

        def no_key() -> RecoveryKey:
            raise AssertionError("an open restore has its keys")

        again = begin_restore(plan, os.fsencode(out), world, tier=Tier.BULK, key=no_key)
        assert again == one
    other = begin_restore(plan, os.fsencode(out) + b"2", world, tier=Tier.BULK, key=lambda: full.key)
    assert other.id != one.id


def test_two_processes_that_begin_at_once_begin_one_restore(full: Site, source: Path, out: Path) -> None:
    world = full.restore_world
    plan = plan_restore(full.snapshot(), os.fsencode(source), world)
    first: list[object] = []

    def key() -> RecoveryKey:  # while this one types, the other begins
        begin = begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=lambda: full.key)
        first.append(begin)
        return full.key

    assert begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=key) == first[0]
    assert len(os.listdir(full.folder / "restores")) == 1


def test_find_by_id_and_prefix(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    assert find_restore(full.inventory, restore.id[:4]) == restore
    assert waiting_report(restore, known).outcome is Outcome.RUNNING
    for words in ("", "x"):
        with pytest.raises(UsageError, match="no restore"):
            find_restore(full.inventory, words)


def test_a_restore_that_is_over_does_nothing_more(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    world = full.restore_world
    deliver(restore, known, world)
    for act in (lambda: advance(restore, world), lambda: deliver(restore, known, world)):
        with pytest.raises(UsageError, match="is done already"):
            act()
    with pytest.raises(UsageError, match="is done already"):
        cancel(restore, full.inventory, world.key_directory, full.clock)
    assert not [name for name in os.listdir(full.folder) if name.startswith("restore-")]


def test_cancel_wipes_the_keys(full: Site, out: Path) -> None:
    restore, _ = begun(full, out)
    cancel(restore, full.inventory, str(full.folder / "restores"), full.clock)
    assert os.listdir(full.folder / "restores") == []
    assert find_restore(full.inventory, restore.id).state == "cancelled"


def test_keys_that_a_dead_process_left_are_wiped_by_the_next_restore(
    full: Site, source: Path, out: Path
) -> None:
    restore, _ = begun(full, out)
    (full.folder / "restores" / f"{'0' * 16}.keys").write_bytes(b"orphan")
    (full.folder / "restores" / "README").write_text("not ours")
    begun(full, out / "other")
    names = set(os.listdir(full.folder / "restores"))
    assert len(names) == 3
    assert {"README", f"{restore.id}.keys"} < names


def test_two_processes_do_not_carry_on_the_same_restore(full: Site, out: Path) -> None:
    restore, known = begun(full, out)
    world = full.restore_world
    with full.inventory.locked(f"restore-{restore.id}"):
        for act in (
            lambda: advance(restore, world),
            lambda: deliver(restore, known, world),
            lambda: cancel(restore, full.inventory, world.key_directory, full.clock),
        ):
            with pytest.raises(LockedError, match="carried on by another process"):
                act()
    deliver(restore, known, world)


def test_two_restores_at_once(full: Site, source: Path, out: Path, tmp_path: Path) -> None:
    one, known_one = begun(full, out)
    other, known_other = begun(full, tmp_path / "other")
    deliver(other, known_other, full.restore_world)
    deliver(one, known_one, full.restore_world)
    assert_same_tree(source, out)
    assert_same_tree(source, tmp_path / "other")


def test_a_restore_within_a_backup(full: Site, source: Path, out: Path) -> None:
    """While a backup reads and stores, a restore of an earlier snapshot runs from beginning to end."""
    before = snapshot_of(source)
    earlier = full.snapshot().id
    (source / "new").write_bytes(random.Random(3).randbytes(4 * MIB))
    reports: list[RestoreReport] = []
    running = [False]

    def stop() -> bool:
        if not running[0]:
            running[0] = True
            reports.append(full.restore(earlier, out))
        return False

    full.stop = stop
    assert full.backup().outcome is Outcome.DONE
    assert reports[0].outcome is Outcome.DONE
    assert_same_tree(before, out)


CUTS: list[Callable[[int], BaseException]] = [
    lambda call: OSError(errno.ENOSPC, f"No space left at write {call}"),
    lambda call: OSError(errno.EIO, f"Input/output error at write {call}"),
    lambda call: PowerCut(f"at write {call}"),
]


@pytest.mark.parametrize("failure", CUTS, ids=["full", "broken", "cut"])
def test_cut_at_every_write(
    full: Site,
    source: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Callable[[int], BaseException],
) -> None:
    real, calls = os.pwrite, [0]

    def counting(file: int, data: memoryview, offset: int) -> int:
        calls[0] += 1
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", counting)
    full.restore("latest", out.with_name("counted"))
    whole = snapshot_of(source)
    for cut in range(calls[0]):
        left = [cut]

        def failing(file: int, data: memoryview, offset: int, left: list[int] = left, cut: int = cut) -> int:
            left[0] -= 1
            if left[0] < 0:
                real(file, data[: len(data) // 2], offset)
                raise failure(cut)
            return real(file, data, offset)

        monkeypatch.setattr(os, "pwrite", failing)
        with pytest.raises((TargetError, PowerCut)):
            full.restore("latest", out)
        assert not leftovers(out)
        for name, seen in snapshot_of(out).items():
            if seen.kind == stat.S_IFREG:
                assert seen == whole[name]
    monkeypatch.setattr(os, "pwrite", real)
    full.restore("latest", out)
    assert_same_tree(source, out)
    with full.inventory.reading() as tx:
        outcomes = {run.outcome for run in list_runs(tx, limit=500) if run.kind == "restore"}
    assert Outcome.DONE in outcomes


def test_a_file_that_the_target_cannot_hold_is_reported_and_the_rest_goes_on(
    full: Site, source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def small(file: int, data: memoryview, offset: int) -> int:
        if offset >= MIB:
            raise OSError(errno.EFBIG, "File too large")
        return real(file, data, offset)

    monkeypatch.setattr(os, "pwrite", small)
    report = full.restore("latest", out)
    assert {problem.path for problem in report.problems} == {b"large", b"sub/again"}
    assert {problem.detail for problem in report.problems} == {"not restored: File too large"}
    expected = snapshot_of(source)
    del expected[b"large"], expected[b"sub/again"]
    assert_same_tree(expected, out)


def test_an_archive_that_is_lost_between_plan_and_request(full: Site, source: Path, out: Path) -> None:
    world = full.restore_world
    plan = plan_restore(full.snapshot(), os.fsencode(source), world)
    assert plan.retrieved == sum(one.extent.length for one in plan.ranges) > 0
    restore = begin_restore(plan, os.fsencode(out), world, tier=Tier.STANDARD, key=lambda: full.key)
    sql(full, "UPDATE archives SET archive_id = NULL, state = 'lost' WHERE number = 1")
    known = advance(restore, world)
    assert [one.state for one in known if one.archive == 1] == ["failed"]
    report = deliver(restore, known, world)
    assert {os.path.basename(problem.path) for problem in report.problems} == users_of(full, "archive = 1")


def test_cut_at_every_vault_call(full: Site, source: Path, out: Path) -> None:
    counted = FaultyVault(full.vault)
    full.reopen(counted).restore("latest", out.with_name("counted"))
    assert counted.total > 5
    for after in (False, True):
        for call in range(counted.total):
            vault = FaultyVault(full.vault, cut_at(call, after=after))
            site = full.reopen(vault)
            try:
                site.restore("latest", out)  # the last calls of the count may be fetches that ran ahead
            except PowerCut:
                assert not leftovers(out)
                report = full.reopen().restore("latest", out)
                assert report.outcome is Outcome.DONE
            assert_same_tree(source, out)
            assert os.listdir(full.folder / "restores") == []


def test_a_failed_delivery_is_a_failed_run(full: Site, out: Path) -> None:
    out.write_text("a file")
    with pytest.raises(TargetError):
        full.restore("latest", out)
    with full.inventory.reading() as tx:
        run = list_runs(tx)[0]
    assert (run.kind, run.outcome) == ("restore", Outcome.FAILED)
    assert "cannot be used" in run.report["error"]


def test_an_interrupted_delivery_is_an_interrupted_run(
    full: Site, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.write.Writer.finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            full.restore("latest", out)
    with full.inventory.reading() as tx:
        assert list_runs(tx)[0].outcome is Outcome.INTERRUPTED
    assert full.restore("latest", out).outcome is Outcome.DONE
