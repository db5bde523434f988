"""Signed but absurd: what an intruder's last catalog says spoils its own snapshot, and none before it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.format import records
from backup.format.catalog import pack_u32, pack_u64
from backup.inventory.store.times import moment
from backup.model import Problem, ProblemKind
from tests.rebuilder.forging import Absurd, Twist, Victim, absurdities
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too

ENTRY = {name: place for place, name in enumerate(records.EntryRecord.__struct_fields__)}
SNAPSHOT = {name: place for place, name in enumerate(records.SnapshotRecord.__struct_fields__)}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return Victim(tmp_path_factory.mktemp("victim"))


def look_at_all(victim: Victim) -> list[str]:
    """Give each command that looks; the ids of the snapshots."""
    server = victim.server
    listed = server.json("snapshots")
    server.done("snapshots")
    for snapshot in listed:
        server.done("ls", "-lr", snapshot["id"])
        server.json("ls", "-r", snapshot["id"])
    server.run("find", "*")
    server.run("--json", "find", "*", "--snapshot", "latest")
    server.run("versions", server.source / "a.txt")
    server.run("versions", server.source / "third")
    server.run("diff", "latest~1", "latest", "--metadata")
    server.run("diff", victim.old[0], "latest")
    server.run("check")
    server.run("check", "--inventory")
    server.run("runs")
    server.run("archives")
    return [snapshot["id"] for snapshot in listed]


def assert_old_ones_are_whole(victim: Victim) -> None:
    """The snapshots of before are there, and give back what they held."""
    target = victim.target()
    place = victim.server.restore(target, snapshot=victim.old[1])
    assert_same_tree(victim.was, place)
    names = {entry["path"] for entry in victim.server.json("ls", "-r", victim.old[0])}
    assert str(victim.server.source / "a.txt") in names
    assert str(victim.server.source / "second") not in names


def survive(victim: Victim) -> tuple[list[str], list[str]]:
    """Rebuild, look and restore; snapshots and what was said to be left out."""
    report = victim.rebuild()
    listed = look_at_all(victim)
    assert listed[:2] == victim.old
    assert_old_ones_are_whole(victim)
    told = [
        suspicion["detail"]
        for suspicion in report["suspicions"]
        if suspicion["kind"] in {"out-of-range", "damaged"}
    ]
    assert report["partial"] or not told
    return listed, told


@settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(absurdities, min_size=1, max_size=4))
def test_whatever_the_last_delta_says_the_snapshots_before_it_stay(
    victim: Victim, twists: list[Absurd]
) -> None:
    """No command ends in a crash, and what was there before comes back."""
    victim.begin_anew()
    if victim.forged_night(*twists):
        survive(victim)


@pytest.mark.parametrize(
    ("kind", "field", "value", "says"),
    [
        (records.SnapshotRecord, "started_at", 2**62, "its time"),
        (records.SnapshotRecord, "finished_at", -(2**63), "its time"),
        (records.SnapshotRecord, "host", "\x1b[2J", "its host's name"),
        (records.SnapshotRecord, "id", "\x1b[2J", "its id"),
        (records.SnapshotRecord, "number", 2**63 - 1, "its number"),
        (records.SnapshotRecord, "number", 1, "its number"),
        (records.EntryRecord, "kind", 7, "its kind"),
        (records.EntryRecord, "mode", 0o10000, "its mode"),
        (records.EntryRecord, "mode", 2**63 - 1, "its mode"),
        (records.EntryRecord, "mode", -1, "cannot be read"),
        (records.EntryRecord, "name", b"../../etc/x", "its name"),
        (records.EntryRecord, "name", b"..", "its name"),
        (records.EntryRecord, "owner", 2**40, "its owner"),
        (records.EntryRecord, "directory", 2**40, "directory"),
        (records.EntryRecord, "added_in", 1, "its snapshot"),
        (records.EntryRecord, "added_in", 2**62, "its number"),
        (records.EntryRecord, "removed_in", 1, "its end"),
        (records.EntryRecord, "extra", b"\xff", "its attributes"),
        (records.EntryRecord, "number", 1, "two entries"),
        (records.ClosedRecord, "removed_in", 1, "entries end"),
        (records.ClosedRecord, "entries", b"123", "no column"),
    ],
)
def test_a_value_out_of_range_spoils_its_snapshot_alone(
    victim: Victim, kind: type, field: str, value: object, says: str
) -> None:
    victim.begin_anew()
    place = kind.__struct_fields__.index(field)  # type: ignore[attr-defined]
    assert victim.forged_night(Absurd(kind, 0, place, value))
    listed, told = survive(victim)
    assert listed == victim.old
    assert any(says in text for text in told), told


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (records.ArchiveRecord, "stored_at", 2**62),
        (records.ArchiveRecord, "size", 2**63 - 1),
        (records.ArchiveRecord, "kind", 9),
        (records.ArchiveRecord, "domain", 77),
        (records.ArchiveRecord, "number", 1),
        (records.DomainRecord, "number", 2**63 - 1),
        (records.FramesRecord, "rows", b"x"),
        (records.FramesRecord, "archive", 99),
        (records.ChunksRecord, "rows", b"x"),
        (records.ChunksRecord, "numbers", pack_u32([2**32 - 1])),
        (records.VaultRecord, "name", "other"),
        (records.OwnerRecord, "uid", 2**40),
        (records.DirectoryRecord, "path", b"/a/../b"),
    ],
)
def test_what_else_is_out_of_range_is_left_out(victim: Victim, kind: type, field: str, value: object) -> None:
    """The snapshot stays; what lay in an archive that is left out is missing, and told."""
    victim.begin_anew()
    assert victim.forged_night(Absurd(kind, 0, kind.__struct_fields__.index(field), value))  # type: ignore[attr-defined]
    listed, told = survive(victim)
    assert len(listed) == 3
    assert told
    victim.server.run(
        "restore", "latest", "--target", victim.target(), "--key", victim.server.key_file, "--wait"
    )


def entries_of(stream: list[Any]) -> dict[bytes, records.EntryRecord]:
    """The entries of a catalog, by name; `link` lies in `new`."""
    return {record.name: record for record in stream if isinstance(record, records.EntryRecord)}


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_two_entries_of_one_name_spoil_their_snapshot_alone(victim: Victim, kind: str) -> None:
    """A directory and, by the same name, what leads out of it; or a file, and one with more rights."""

    def twist(stream: list[Any]) -> list[Any]:
        found = entries_of(stream)
        name, like = (b"new", found[b"link"]) if kind == "symlink" else (b"third", found[b"third"])
        where = found[b"new"].directory
        twin = msgspec.structs.replace(like, number=10**6, directory=where, name=name, mode=0o4755)
        return [*stream, twin]

    victim.begin_anew()
    assert victim.forged_night(twist)
    listed, told = survive(victim)
    assert listed == victim.old
    assert any("two entries have one number or name" in text for text in told), told


def test_a_version_that_outlives_the_next_of_its_name_spoils_what_held_both(victim: Victim) -> None:
    """A delta with new versions of names, and no word of the end of the old ones."""

    def twist(stream: list[Any]) -> list[Any]:
        return [record for record in stream if not isinstance(record, records.ClosedRecord)]

    victim.begin_anew()
    assert victim.forged_night(twist)
    listed, told = survive(victim)
    assert listed == victim.old
    assert any("ends after the next of its name begins" in text for text in told), told
    laws = victim.server.run("check", "--inventory")
    assert (laws.exit_code, "follow one another" in laws.output) == (0, False), laws.output
    night = victim.server.json("backup", "main")[0]["snapshot"]
    place = victim.server.restore(victim.target(), snapshot=night)
    assert_same_tree(victim.server.source, place)


def test_the_order_of_names_means_nothing(victim: Victim) -> None:
    """Files before the directories that hold them, and the last name first."""

    def twist(stream: list[Any]) -> list[Any]:
        entries = iter([record for record in stream if isinstance(record, records.EntryRecord)][::-1])
        return [next(entries) if isinstance(record, records.EntryRecord) else record for record in stream]

    victim.begin_anew()
    assert victim.forged_night(twist)
    listed, told = survive(victim)
    assert (len(listed), told) == (3, [])
    place = victim.server.restore(victim.target())
    assert_same_tree(victim.server.source, place)
    names = [entry["path"] for entry in victim.server.json("ls", "-r", "latest")]
    assert names == list(dict.fromkeys(names))


def test_states_and_kinds_of_a_later_version_are_read(victim: Victim) -> None:
    """A later version knows more kinds of problems, states and records."""
    victim.begin_anew()
    problems = [(b"/x", "quarantined", "by a later version")]
    later = msgspec.defstruct(
        "Later", [("entries", bytes)], bases=(records.MountsRecord,), tag=199, array_like=True, frozen=True
    )

    def more(stream: list[Any]) -> list[Any]:
        return [*stream, later(b"whatever")]

    twists: list[Twist] = [
        Absurd(records.SnapshotRecord, 0, SNAPSHOT["problems"], problems),
        Absurd(records.ArchiveRecord, 0, 9, "not-built-upon"),
        more,
    ]
    assert victim.forged_night(*twists)
    listed, told = survive(victim)
    assert (len(listed), told) == (3, [])
    newest = victim.server.json("snapshots")[-1]
    assert newest["problems"] == [
        {"path": "/x", "kind": "unknown", "detail": "quarantined: by a later version"}
    ]
    victim.server.restore(victim.target(), snapshot=newest["id"])


def test_nothing_of_old_snapshots_is_ended_or_brought_back(victim: Victim) -> None:
    """A delta that ends all entries in the first snapshot, and again those that ended."""
    victim.begin_anew()

    def ends(stream: list[Any]) -> list[Any]:
        closed = [records.ClosedRecord(pack_u64(range(1, 60)), number) for number in (1, 2)]
        again = records.ClosedRecord(pack_u64([*range(1, 60), 2**64 - 1]), 3)
        return [*stream[:-2], *closed, again, *stream[-2:]]

    assert victim.forged_night(ends)
    survive(victim)


def test_the_backup_after_it_is_whole_and_can_be_rebuilt(victim: Victim) -> None:
    """The spoiled delta does not spoil what comes after the rebuild."""
    victim.begin_anew()
    assert victim.forged_night(Absurd(records.EntryRecord, 0, ENTRY["mode"], 2**63 - 1))
    rebuilt = victim.rebuild()
    report = victim.server.json("backup", "main")[0]
    victim.rebuild("--inventory", rebuilt["inventory"])
    assert victim.server.json("snapshots")[-1]["id"] == report["snapshot"]
    place = victim.server.restore(victim.target())
    assert_same_tree(victim.server.source, place)


@pytest.mark.parametrize("what", ["mode", "added_in"])
def test_whatever_it_says_backups_go_on(victim: Victim, what: str) -> None:
    """Numbers of its snapshot are not given out again; nor is what it says of later ones kept."""
    victim.begin_anew()
    value = -1 if what == "mode" else 900_000
    assert victim.forged_night(Absurd(records.EntryRecord, 0, ENTRY[what], value))
    survive(victim)
    for night in range(2):
        (victim.server.source / "a.txt").write_text(f"after the rebuild, {night}")
        assert victim.server.backup()["outcome"] == "done"
    victim.server.done("check", "--inventory")
    assert_same_tree(victim.server.source, victim.server.restore(victim.target()))


def test_an_absurd_full_catalog_gives_way_to_an_older_one(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that cannot be read at all is as good as damaged."""
    victim.begin_anew()
    monkeypatch.setattr("backup.catalogs.full.DELTAS_A_FULL", 1)
    assert victim.forged_night(Absurd(records.EntryRecord, 0, ENTRY["mode"], -1), full=True)
    listed, told = survive(victim)
    assert len(listed) == 3
    assert told


def test_what_the_inventory_itself_holds_is_shown_all_the_same() -> None:
    """Rows of before that could not be shown."""
    assert Problem.of(b"/x", "later", "why") == Problem(b"/x", ProblemKind.UNKNOWN, "later: why")
    assert not Problem.of(b"/x", "later", "why").is_warning
    assert Problem.of(b"/x", "vanished", "why").kind is ProblemKind.VANISHED
    for value in (2**63 - 1, -(2**63)):
        assert moment(value).astimezone()
