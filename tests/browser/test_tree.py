"""The tree of all snapshots: what is where, whose it is, and what of it goes when snapshots go."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.browser.tree import TRUE_FOR
from backup.browser.versions import ending_of
from backup.model import EntryKind
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.random_trees import RandomTree
from tests.support.seeded_inventories import HUGE, seeded
from tests.support.trees import snapshot_of
from tests.support.trees_of_files import LookedInto, stamp

BY_TIME = b"/snapshots/by-time"


def pass_time(found: LookedInto) -> None:
    """So much that the list of snapshots is read again."""
    found.seconds += TRUE_FOR + 1


def test_a_snapshot_has_everything_that_its_source_had(site: Site, source: Path, found: LookedInto) -> None:
    """Modes, owners, times, devices, links, xattrs and ACLs, over every kind of entry and hostile names."""
    tree = RandomTree(source, random.Random(3))
    for _ in range(40):
        tree.day()
    site.backup()
    pass_time(found)
    expected = {path: seen._replace(flags=0) for path, seen in snapshot_of(source).items()}
    assert len(expected) > 20
    assert found.seen(found.place(source)) == expected


def test_the_tree_has_its_snapshots_by_time_job_id_and_the_latest(
    site: Site, source: Path, found: LookedInto, clock: ManualClock
) -> None:
    (source / "a").write_text("1")
    site.backup()
    first = stamp(site.snapshot().started_at).encode()
    clock.sleep(3600)
    (source / "a").write_text("2")
    site.backup()
    second = stamp(site.snapshot().started_at).encode()
    pass_time(found)
    assert found.names(b"/") == [b"snapshots", b"versions"]
    assert found.names(b"/snapshots") == [b"by-id", b"by-job", b"by-time", b"latest"]
    assert found.names(BY_TIME) == [first + b"_job", second + b"_job"]
    assert found.names(b"/snapshots/by-job/job") == [first, second, b"latest"]
    assert found.names(b"/snapshots/by-id") == [snapshot.id.encode() for snapshot in site.snapshots()]
    for link in (b"/snapshots/latest/job", b"/snapshots/by-job/job/latest"):
        folder, _, _ = link.rpartition(b"/")
        target = os.path.normpath(os.path.join(folder, found.look.node(link).target))
        assert target == BY_TIME + b"/" + second + b"_job"
        path = link + os.fsencode(source) + b"/a"
        assert found.content(found.tree.plain(path)) == b"2"
    assert found.content(found.place(source / "a", site.snapshots()[0].id)) == b"1"


def test_a_file_is_a_folder_of_its_versions(
    site: Site, source: Path, found: LookedInto, clock: ManualClock
) -> None:
    times = []
    for text in ("one", "two", "two"):
        (source / "report.txt").write_text(text)
        (source / "other").write_text("x")
        site.backup()
        times.append(stamp(site.snapshot().started_at).encode())
        clock.sleep(3600)
    (source / "report.txt").unlink()
    site.backup()
    pass_time(found)
    folder = b"/versions" + os.fsencode(source)
    assert found.names(folder) == [b"other", b"report.txt"]
    contents = {
        name: found.content(folder + b"/report.txt/" + name) for name in found.names(folder + b"/report.txt")
    }
    assert contents[times[0] + b".txt"] == b"one"
    assert contents[times[1] + b".txt"] == b"two"
    assert found.look.node(folder + b"/report.txt/" + times[0] + b".txt").kind == EntryKind.FILE
    assert found.tree.node(folder + b"/report.txt/nothing") is None
    assert found.tree.node(folder + b"/nothing") is None


def test_a_path_that_was_a_file_and_a_folder_has_both(
    site: Site, source: Path, found: LookedInto, clock: ManualClock
) -> None:
    (source / "both").write_text("file")
    site.backup()
    time = stamp(site.snapshot().started_at).encode()
    clock.sleep(3600)
    (source / "both").unlink()
    (source / "both").mkdir()
    (source / "both" / "inner").write_text("in")
    site.backup()
    pass_time(found)
    assert set(found.names(b"/versions" + os.fsencode(source / "both"))) == {b"inner", time}


@pytest.mark.parametrize(
    ("name", "ending"),
    [(b"a.pdf", b".pdf"), (b".bashrc", b""), (b"a", b""), (b"a.b c", b""), (b"x." + b"y" * 16, b"")],
)
def test_a_version_keeps_the_ending_by_which_programs_know_it(name: bytes, ending: bytes) -> None:
    assert ending_of(name) == ending


def test_snapshots_that_are_gone_are_gone_from_the_tree(
    site: Site, source: Path, found: LookedInto, clock: ManualClock
) -> None:
    (source / "a").write_text("1")
    site.backup()
    clock.sleep(3600)
    (source / "a").write_text("2")
    site.backup()
    pass_time(found)
    old = found.place(source / "a", site.snapshots()[0].id)
    assert found.content(old) == b"1"
    with site.inventory.writing() as tx:
        tx.connection.execute("UPDATE snapshots SET forgotten_at = 1 WHERE number = 1")
    pass_time(found)
    assert found.tree.node(old) is None
    assert len(found.names(BY_TIME)) == 1
    assert len(found.names(b"/versions" + os.fsencode(source / "a"))) == 1


def test_dumps_of_databases_have_a_folder(site: Site, source: Path, found: LookedInto) -> None:
    (source / "shop.sql").write_text("CREATE TABLE t")
    site.backup()
    assert b"databases" not in found.names(b"/")
    with site.inventory.writing() as tx:
        (number,) = tx.connection.execute(
            "SELECT number FROM entries WHERE name = ?", (b"shop.sql",)
        ).fetchone()
        tx.connection.execute(
            "INSERT INTO dumps VALUES (?, 'postgresql', 'shop/../x', '17', 'UTF8', x'90', x'90')", (number,)
        )
    pass_time(found)
    assert b"databases" in found.names(b"/")
    assert found.names(b"/databases") == [b"postgresql"]
    assert found.names(b"/databases/postgresql") == [b"shop_.._x"]
    (dump,) = found.names(b"/databases/postgresql/shop_.._x")
    assert dump.endswith(b".sql")
    assert found.content(b"/databases/postgresql/shop_.._x/" + dump) == b"CREATE TABLE t"


@pytest.mark.parametrize(
    "damage",
    [
        "name = x'2e2e'",
        "name = x'612f62'",
        "name = zeroblob(3)",
        "kind = 99",
        "mode = 'four'",
        "size = -1",
        "mode = 65535",
    ],
)
def test_rows_that_cannot_be_true_are_left_out(
    site: Site, source: Path, found: LookedInto, damage: str
) -> None:
    (source / "good").write_text("1")
    (source / "victim").write_text("2")
    site.backup()
    with site.inventory.writing() as tx:
        tx.connection.execute(f"UPDATE entries SET {damage} WHERE name = ?", (b"victim",))
    pass_time(found)
    assert found.names(found.place(source)) == [b"good"]
    assert found.tree.node(found.place(source / "victim")) is None


def test_a_large_directory_comes_in_pages_and_the_same_whoever_asks(tmp_path: Path, site: Site) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    inventory = seeded(folder, entries=40_000, snapshots=5)
    try:
        found = LookedInto(replace(site, inventory=inventory))
        top = next(name for name in found.names(BY_TIME)[::-1] if name.endswith(b"_web"))
        names = found.names(BY_TIME + b"/" + top + HUGE)
        assert len(names) == len(set(names)) == 3000
        assert names == sorted(names)
        for name in names[::500]:
            assert found.tree.node(BY_TIME + b"/" + top + HUGE + b"/" + name) is not None
        found.close()
    finally:
        inventory.close()


def test_a_process_that_looks_for_days_keeps_little_of_the_inventory(site: Site) -> None:
    connections = site.inventory.connections
    connections.keep_less(512)
    with connections.outside() as one, connections.outside() as another:
        sizes = [link.execute("PRAGMA cache_size").fetchone() for link in (one, another)]
    assert sizes == [(-512,), (-512,)]
    with connections.outside() as kept:
        assert kept in (one, another)
