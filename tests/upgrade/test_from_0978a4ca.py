"""A vault that two servers share, as 0978a4ca left it, is gone on with by the code of today.

Every snapshot that was kept comes back byte for byte, whoever rebuilds, with whichever keys can do it. Exit
codes are asserted as they are; where one is not 0, a comment says for what honest reason.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from backup.format.pack import parse_description
from tests.support.doubles import ManualClock
from tests.support.extract_script import extract
from tests.upgrade.installed import SOURCE, contents_of, the_place
from tests.upgrade.shared import (
    JOBS,
    SERVERS,
    Shared,
    SharingServer,
    archive_path,
    expected,
    unpacked,
)

NEW, OLD = "new.key", "old.key"
KEY_SETS = ((NEW,), (OLD,), (NEW, OLD))
WRONG = {"missing", "lost", "damaged", "law", "newer-catalog", "not-its-own"}
"""Findings of a check that no server of the fixture may have."""


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    """The vault and its servers, a day after the last night."""
    return unpacked(tmp_path, ManualClock(expected().now + timedelta(days=1)))


@pytest.fixture
def trees(shared: Shared) -> Iterator[Shared]:
    """The same, and what each job of both servers backs up is there as it was in the last night."""
    with the_place():
        for name in JOBS:
            for job in JOBS[name]:
                server = shared.server(name)
                words = ("--in-place", "--yes", *server.keys(), "--wait")
                server.run("restore", expected().snapshots[name][job][-1].id, *words)
                assert contents_of(SOURCE / job) == expected().snapshots[name][job][-1].files
        yield shared


def _newest(name: str) -> str:
    return expected().inventories[name][-1]


def _check_snapshots(server: SharingServer, name: str, *, every: bool = True) -> None:
    """The kept snapshots of server `name` are listed and come back, or of each job its oldest and newest."""
    for job, snapshots in expected().snapshots[name].items():
        assert server.ids(job)[: len(snapshots)] == [snapshot.id for snapshot in snapshots]
        for snapshot in snapshots if every else (snapshots[0], snapshots[-1]):
            assert server.restored(job, snapshot.id) == snapshot.files


def _check_is_well(server: SharingServer) -> None:
    """Nothing is missing in the vault; that others write there, too, is told and is no fault."""
    found = server.document("check")["findings"]
    assert not {finding["kind"] for finding in found} & WRONG, found
    server.run("check", "--inventory")


def _go_on(server: SharingServer, jobs: Sequence[str]) -> None:
    """One more night of these jobs: little is sent, and the new snapshot comes back."""
    for job in jobs:
        (SOURCE / job / "since.txt").write_text(f"{server.name} went on")
        (report,) = server.document("backup", job)
        assert report["outcome"] == "done", report
        assert report["bytes_new"] < 100, "what 0978a4ca stored was sent again"
        assert server.restored(job, report["snapshot"]) == contents_of(SOURCE / job)


def test_what_the_fixture_holds(shared: Shared) -> None:
    records = (shared.folder / "vault" / "archives").rglob("*.json")
    labels = [parse_description(json.loads(path.read_text())["description"]) for path in records]
    known = expected()
    assert [len(known.inventories[name]) for name in JOBS] == [4, 1]
    assert known.before == known.inventories["web"][2]
    written = {label.inventory_id.hex() for label in labels if label is not None}
    assert written == {inventory for ids in known.inventories.values() for inventory in ids}
    assert not archive_path(shared.folder, known.lost_catalog.archive).exists()
    assert known.lost_catalog.inventory == known.inventories["web"][1]
    assert all(archive_path(shared.folder, archive).exists() for archive in known.condemned)


@pytest.mark.parametrize("name", SERVERS)
def test_each_server_is_opened_and_is_well(shared: Shared, name: str) -> None:
    """`web-before` as well: nothing that it stored is missing, and it wrote nothing since.

    But exit code 1 of its check, as nothing here proves that the one that went on is this server's heir.
    """
    server = shared.server(name)
    server.run("status")
    if name == "web-before":
        found = server.document("check", allowed=(1,))["findings"]
        assert {finding["kind"] for finding in found} & WRONG == {"not-its-own"}
    else:
        _check_is_well(server)
    server.run("check", "--read-data", "100%", *server.keys())
    assert all(recipient["enrolled"] for recipient in server.document("key", "status")["recipients"])


@pytest.mark.parametrize("name", JOBS)
def test_every_kept_snapshot_is_listed_and_restored(shared: Shared, name: str) -> None:
    _check_snapshots(shared.server(name), name)


def test_the_forgotten_snapshot_comes_back_as_nothing_is_deleted_yet(shared: Shared) -> None:
    web = shared.server("web")
    (forgotten,) = expected().forgotten["docs"]
    assert forgotten.id not in web.ids("docs")
    web.run("forget", "--undo", forgotten.id)
    assert web.restored("docs", forgotten.id) == forgotten.files


def test_each_key_opens_what_was_sealed_for_it(shared: Shared) -> None:
    web, docs = shared.server("web"), expected().snapshots["web"]["docs"]
    for keys in KEY_SETS:  # since the change of recipients all was stored again, for both
        assert web.restored("docs", docs[-1].id, *keys) == docs[-1].files
    assert web.restored("docs", docs[0].id, OLD) == docs[0].files
    words = ("--target", str(shared.folder / "none"), *web.keys(NEW))
    web.run("restore", docs[0].id, *words, allowed=(12,))  # of a night when the new key was not made yet


def test_both_servers_go_on(trees: Shared) -> None:
    for name in JOBS:
        server = trees.server(name)
        _go_on(server, server.jobs)
    for name in JOBS:
        _check_is_well(trees.server(name))
        _check_snapshots(trees.server(name), name, every=False)


def test_a_prune_of_each_server_deletes_no_more_than_was_condemned(shared: Shared) -> None:
    before = _archives(shared)
    web, db = (shared.server(name) for name in JOBS)
    assert _answer(web) == 1
    assert _answer(db) == 0
    plan = web.document("prune", "--dry-run")
    assert _archives(shared) == before
    assert plan["dropped"] == {"docs": [snapshot.id for snapshot in expected().forgotten["docs"]]}
    for server in (web, db):
        server.run("prune")
        shared.clock.advance(timedelta(days=10))
        server.run("prune")
    gone = before - _archives(shared)
    assert gone
    assert gone <= set(expected().condemned)
    for server in (web, db):
        _check_is_well(server)
        _check_snapshots(server, server.name)


def _answer(server: SharingServer) -> int:
    """Answer what a prune asks, by the words of its advice; how often it asked.

    In a directory nothing tells that catalogs of inventories before the last rebuild came before it.
    """
    code, _, told = server.told("prune", "--dry-run")
    if code == 0:
        return 0
    assert (code, "--accept" in told) == (1, True), told
    words = [word for pack in re.findall(r"--accept ([0-9a-f]{32})", told) for word in ("--accept", pack)]
    server.run("prune", "--dry-run", *words)
    return 1


def _archives(shared: Shared) -> set[str]:
    return {path.stem for path in (shared.folder / "vault" / "archives").rglob("*.json")}


def test_a_keeper_plans_and_deletes_nothing_that_is_needed(shared: Shared) -> None:
    before, keeper = _archives(shared), shared.bare()
    words = ("prune", "--delete-only", "--keep-within", "6d", *keeper.keys())
    plan = keeper.document(*words, "--dry-run")
    assert _stopped(plan) == {}
    assert _archives(shared) == before
    assert _stopped(keeper.document(*words)) == {}
    assert before - _archives(shared) <= set(expected().condemned)
    for name in JOBS:
        _check_is_well(shared.server(name))
        _check_snapshots(shared.server(name), name, every=False)
        keeper = shared.bare()
        keeper.run("rebuild", "--inventory", _newest(name), *keeper.keys())
        _check_snapshots(keeper, name, every=False)


def _stopped(report: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """The servers for which a keeper deletes nothing, by their newest inventory, and why."""
    return {
        inventory["inventory"]: inventory["stopped"]
        for inventory in report["inventories"]
        if inventory["stopped"]
    }


def test_a_keeper_is_stopped_by_the_lost_catalog_while_its_floor_is_older(shared: Shared) -> None:
    """Exit code 3: the floor of 30 days is in the first inventory, and what led on from there is lost.

    With both keys only: the new key vouched for nothing then, and looks for what does. The old one has no
    need to. The other server is not held up.
    """
    keeper, words = shared.bare(), ("prune", "--delete-only", "--dry-run")
    plan = keeper.document(*words, *keeper.keys(), allowed=(3,))
    assert list(_stopped(plan)) == [_newest("web")]
    assert expected().lost_catalog.archive in _stopped(plan)[_newest("web")]
    assert _stopped(keeper.document(*words, *keeper.keys(OLD))) == {}


@pytest.mark.parametrize("keys", KEY_SETS, ids="+".join)
@pytest.mark.parametrize("name", JOBS)
def test_a_rebuild_on_a_new_machine(shared: Shared, name: str, keys: Sequence[str]) -> None:
    machine = shared.bare()
    words = ("--inventory", _newest(name), *machine.keys(*keys))
    if name == "db" and OLD not in keys:
        machine.run("rebuild", *words, allowed=(12,))  # `db` seals for the old key alone
        return
    made = machine.document("rebuild", *words)
    assert made["predecessor"] == _newest(name)
    assert not made["partial"]
    assert {job["name"] for job in made["jobs"]} == set(JOBS[name])
    # Each recipient's key whose holder was not there must still vouch for the new inventory.
    assert len(made["not_enrolled"]) == (1 if name == "web" and len(keys) == 1 else 0)
    assert {job: machine.ids(job) for job in JOBS[name]} == _kept(name)
    _check_snapshots(machine, name)
    _check_is_well(machine)


def _kept(name: str) -> dict[str, list[str]]:
    return {
        job: [snapshot.id for snapshot in snapshots] for job, snapshots in expected().snapshots[name].items()
    }


@pytest.mark.parametrize("keys", KEY_SETS, ids="+".join)
def test_a_rebuilt_server_goes_on(trees: Shared, keys: Sequence[str]) -> None:
    """It is rebuilt a fourth time, and its neighbour for the first time, where the keys can do that."""
    for name in ("web", *(("db",) if OLD in keys else ())):
        server = trees.server(name)
        words = ("--set-aside", "--inventory", _newest(name), *server.keys(*keys))
        server.run("rebuild", *words)
        _go_on(server, server.jobs)
        _check_snapshots(server, name, every=False)
        _check_is_well(server)
        server.run("prune", "--dry-run")


def test_without_a_choice_a_rebuild_names_the_inventories(shared: Shared) -> None:
    """Exit code 2: two servers write here, and nobody said which one is meant."""
    machine = shared.bare()
    code, _, told = machine.told("rebuild", *machine.keys())
    assert code == 2
    assert all(_newest(name) in told for name in JOBS)


def test_an_older_inventory_is_rebuilt_and_says_that_there_are_newer_catalogs(shared: Shared) -> None:
    """Exit code 3, as its jobs went on in a later one; all snapshots of its own time are there."""
    machine = shared.bare()
    words = ("--inventory", expected().before, *machine.keys())
    made = machine.document("rebuild", *words, allowed=(3,))
    heirs = [suspicion["detail"] for suspicion in made["suspicions"] if suspicion["kind"] == "heir"]
    assert len(heirs) == 1
    assert _newest("web") in heirs[0]
    for job in JOBS["web"]:
        listed, snapshots = machine.ids(job), expected().snapshots["web"][job]
        assert listed == _kept("web")[job][: len(listed)]
        assert machine.restored(job, listed[-1]) == snapshots[len(listed) - 1].files


@pytest.mark.parametrize("keys", KEY_SETS, ids="+".join)
def test_a_drill_of_a_rebuild_stops_nobody(trees: Shared, keys: Sequence[str]) -> None:
    before = _archives(trees)
    for name in ("web", *(("db",) if OLD in keys else ())):
        server = trees.server(name)
        assert server.document("rebuild", "--dry-run", *server.keys(*keys))["same"]
    assert _archives(trees) == before
    for name in JOBS:
        server = trees.server(name)
        server.run("backup", *server.jobs)
        assert _answer(server) == (name == "web")


def test_the_server_from_before_the_last_rebuild_wakes_up(trees: Shared) -> None:
    """It and its successor both go on, as nothing proves to either whose the other's catalogs are.

    Exit code 3 of the old one's first backup, once for all of the heir's jobs; 1 of both prunes; 3 of the
    keeper, which holds up nothing of the other server.
    """
    old, web, keeper = trees.server("web-before"), trees.server("web"), trees.bare()
    shutil.rmtree(SOURCE / "docs")
    old.run("restore", old.ids("docs")[-1], "--in-place", "--yes", *old.keys(), "--wait")
    (report,) = old.document("backup", "docs", allowed=(3,))
    assert _newest("web") in " ".join(report["warnings"])
    _go_on(old, ["docs"])
    code, _, told = old.told("prune")
    assert (code, "nothing proves that it is this server" in told) == (1, True)
    web.run("backup", "docs")
    web.run("prune", allowed=(1,))
    words = ("prune", "--delete-only", "--dry-run", "--keep-within", "6d", *keeper.keys())
    assert list(_stopped(keeper.document(*words, allowed=(3,)))) == [_newest("web")]
    keeper.run("rebuild", "--inventory", _newest("web"), *keeper.keys())
    for server in (web, keeper):
        _check_snapshots(server, "web", every=False)


@pytest.mark.slow  # another program
@pytest.mark.parametrize(("name", "job"), [(name, job) for name in JOBS for job in JOBS[name]])
def test_the_script_without_nightvault(shared: Shared, name: str, job: str) -> None:
    archives = shared.folder / "vault" / "archives"
    keys = [word for key in (NEW, OLD) for word in ("--key", shared.folder / key)]
    told = extract(*keys, "--list", archives, code=1)  # four jobs are in the vault: which one is meant?
    assert "data, docs, mail, notes" in told
    told = extract(*keys, "--job", job, "--list", archives)
    snapshots = expected().snapshots[name][job]
    assert [line.split()[0] for line in told.splitlines()] == [snapshot.id for snapshot in snapshots]
    for snapshot in (snapshots[0], snapshots[-1]):
        target = shared.folder / snapshot.id
        extract(*keys, "--job", job, "--snapshot", snapshot.id, "--target", target, archives)
        assert contents_of(Path(f"{target}{SOURCE / job}")) == snapshot.files
