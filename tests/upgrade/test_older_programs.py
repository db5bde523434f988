"""What programs of earlier versions do with a vault of today: docs/adr/0031, the last table.

They come out of this repository's history. That of 0.1.0 is commit 08fa9948. No tag names it, so it was found
so: CHANGELOG.md dates 0.1.0 on 2026-11-25, and what became different since then has fragments in
`changelog.d`, since commit 99a3f3b9. The oldest change that a fragment tells is 7e4da5f8 of that evening
(`init` stops at a vault that holds backups); what the changelog of 08fa9948 holds is in no fragment.
027ddff1, between both, is the decision on what comes after 0.1.0 (ADR 7) and changes no code. So 08fa9948 is
the last one of 0.1.0. Its schema, 0005, is that of the inventory in `v0.1.0.tar.xz`.

Exit codes are asserted as they are; where one is not 0, a comment says for what reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.format.enrolment import HeirMark, signature_in
from backup.format.header import CatalogOption, parse_header
from backup.model import InventoryId
from tests.support.doubles import ManualClock
from tests.support.emulated import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, RunningEmulator, write_accounts
from tests.support.s3_clients import client as s3_client
from tests.support.s3_clients import new_bucket
from tests.upgrade.older import BEGIN, KEY, LATER, RELEASE, World, copied, joined, program_of, told
from tests.upgrade.shared import SharingServer, recovery_key

PROGRAMS = (RELEASE, LATER)

pytestmark = [pytest.mark.slow, pytest.mark.real]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The earlier programs, by commit."""
    folder = tmp_path_factory.mktemp("programs")
    return {commit: program_of(commit, folder) for commit in PROGRAMS}


@pytest.fixture(scope="module")
def world(programs: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> World:
    """What the tests begin with; none of them changes it."""
    folder = tmp_path_factory.mktemp("world")
    return joined(told(World(folder, folder / "source", programs, ManualClock(BEGIN))))


@pytest.fixture
def site(world: World, tmp_path: Path) -> World:
    """The same for one test."""
    return copied(world, tmp_path / "site")


def _kinds(server: SharingServer, *, code: int = 0) -> set[str]:
    """The kinds of what a check finds."""
    return {finding["kind"] for finding in server.document("check", allowed=(code,))["findings"]}


def test_the_vault_has_what_came_with_the_third_round(world: World) -> None:
    """Else the tests below would show nothing."""
    inventory, recipient = bytes.fromhex(world.ids["H"]), recovery_key(world.folder, KEY).recipient.id
    packs = (world.folder / "vault" / "archives").glob("??/" + "[0-9a-f]" * 32)
    headers = [parse_header(path.read_bytes()).fields for path in packs]
    catalogs = [header.catalog for header in headers if header.inventory_id == inventory and header.catalog]
    assert catalogs
    for catalog in catalogs:
        assert catalog.options & CatalogOption.SIGNED_CONTENT
        assert signature_in(catalog.enrolments, recipient)
        assert len(catalog.enrolments) == 3
    assert list((world.folder / "vault" / "meta" / world.ids["A"]).glob(f"heir-{world.ids['H']}-*"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_heir_is_rebuilt_and_goes_on(site: World, program: str) -> None:
    """By the earlier program, as if nothing were new; and from there by today's, without a question.

    The heir itself, if it is still there, is told: 1 of its check and its prune, 3 of its night, once.
    """
    older = site.server("bare", "docs", "mail", by=program)
    made = site.rebuild(older, "H", "older")
    assert (made["predecessor"], made["suspicions"], made["partial"]) == (site.ids["H"], [], False)
    site.check_snapshots(older, "docs", "mail")
    site.night(older)
    assert _kinds(older) == {"other-inventory", "orphan"}  # others', and catalogs from before the rebuild
    _heir_is_told(site.server("web", "docs", "mail"))
    today = site.server("today", "docs", "mail")
    made = site.rebuild(today, "older")
    assert (made["suspicions"], made["partial"]) == ([], False)
    site.check_snapshots(today, "docs", "mail")
    site.night(today)
    assert _kinds(today) == {"other-inventory", "orphan"}
    today.run("prune")
    site.night(site.server("web", "docs"), code=3)


def test_0_1_0_refuses_a_job_whose_first_catalog_is_full_and_a_delta_in_one(site: World) -> None:
    """Exit code 1, by a required bit that is older than the third round."""
    older = site.server("bare", by=RELEASE)
    for name in ("A", "B"):
        words = ("rebuild", "--inventory", site.ids[name], *site.key)
        error = older.document(*words, allowed=(1,))["error"]
        assert error["kind"] == "nothing-to-rebuild"
        assert "uses features that are not known here (0x1)" in error["message"]


def test_0_1_0_brings_back_what_was_forgotten_and_disturbs_nobody(site: World) -> None:
    """Exit code 3 of its rebuild, by a required bit that is older than the third round.

    It gives the state before the catalog that it cannot read, and goes on from there, beside the heir. That
    one is told: 3 of the night, once, and 1 of check and prune. Nothing of it is lost.
    """
    heir = site.server("web", "docs", "mail")
    forgotten = _forget(site, heir)
    older = site.server("bare", "docs", "mail", by=RELEASE)
    assert site.rebuild(older, "H", code=3)["partial"]
    assert forgotten in older.ids("mail")
    older.run("backup")
    _heir_is_told_and_whole(site, heir)


def _forget(site: World, heir: SharingServer) -> str:
    """Have it forget its second snapshot of `mail`, condemn what only that needed, and store a night."""
    forgotten = site.seen["mail"].pop(1)
    heir.run("forget", forgotten.id)
    heir.run("prune")
    site.night(heir)
    assert [archive for archive in heir.document("archives") if archive["state"] == "condemned"]
    return forgotten.id


def _heir_is_told(heir: SharingServer) -> None:
    """Somebody else writes of its jobs: check says so, and prune stops."""
    assert "not-its-own" in _kinds(heir, code=1)
    code, _, said = heir.told("prune")
    assert (code, "nothing proves that it is this server" in said) == (1, True)


def _heir_is_told_and_whole(site: World, heir: SharingServer) -> None:
    """A night is partial once, and all is there: 3 of its rebuild, as another one was rebuilt from it."""
    _heir_is_told(heir)
    site.night(site.server("web", "docs"), code=3)
    site.night(heir)
    bare = site.server("looking")
    site.rebuild(bare, "H", code=3)
    site.check_snapshots(bare, *heir.jobs)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_state_directory_of_today_is_refused(site: World, program: str) -> None:
    older = site.server("web", "docs", "mail", by=program)
    for words in (["backup", "docs"], ["snapshots"]):
        code, _, said = older.told(*words)
        assert (code, "the inventory was written by a newer nightvault" in said) == (1, True)
    site.check_snapshots(site.server("web"), "docs", "mail")


def test_a_server_of_0978a4ca_shares_the_vault(site: World) -> None:
    """Neither is in the other's way; the keeper of today deletes for both; its jobs are read by today's."""
    older = site.server("old", "notes", by=LATER)
    assert _kinds(older) == {"other-inventory"}
    older.run("prune")
    for name, jobs in (("web", ("docs", "mail")), ("db", ("data",))):
        server = site.server(name, *jobs)
        assert _kinds(server) <= {"other-inventory", "orphan"}
        server.run("prune")
    site.rebuild(older, "C", "C2")
    site.night(older)
    plan = _plan(site.server("keeper"), site)
    assert _stopped(plan) == {site.ids[name]: False for name in ("B", "H", "C2")}
    today = site.server("today", "notes")
    made = site.rebuild(today, "C2")
    assert (made["suspicions"], made["partial"]) == ([], False)
    site.check_snapshots(today, "notes")
    site.night(today)
    assert _kinds(today) == {"other-inventory", "orphan"}


def _plan(keeper: SharingServer, site: World, *, code: int = 0) -> dict[str, Any]:
    words = ("prune", "--delete-only", "--dry-run", *site.key)
    return dict(keeper.document(*words, allowed=(code,)))


def _stopped(plan: Mapping[str, Any]) -> dict[str, bool]:
    """Each server for which a keeper would delete, by its newest inventory, and whether it is stopped."""
    return {inventory["inventory"]: bool(inventory["stopped"]) for inventory in plan["inventories"]}


def test_an_image_of_0978a4ca_from_before_a_rebuild_of_today_wakes_up(site: World) -> None:
    """It does not see the heir's mark, and stores its night. It deletes nothing: its prune stops, with 1.

    The heir is told by a check and by its prune, which stops with 1 until a person answers. Both keepers
    delete nothing for it meanwhile: 3. All snapshots of both are there.
    """
    shutil.copytree(site.folder / "states" / "old", site.folder / "states" / "image")
    heir = site.server("old", "notes")
    site.rebuild(heir, "C", "CH")
    site.night(heir)
    assert list((site.folder / "vault" / "meta" / site.ids["C"]).glob(f"heir-{site.ids['CH']}-*"))
    image = site.server("image", "notes", by=LATER)
    (report,) = image.document("backup")
    assert report["outcome"] == "done"
    forgotten = image.ids("notes")[0]
    image.run("forget", forgotten)
    code, _, said = image.told("prune")
    assert (code, "catalogs of this server's jobs that this inventory does not know" in said) == (1, True)
    _the_heir_goes_on(site, heir)
    image = site.server("looking-back")
    site.rebuild(image, "C", code=3)
    assert image.restored("notes", report["snapshot"], KEY)


def _the_heir_goes_on(site: World, heir: SharingServer) -> None:
    found = heir.document("check")["findings"]
    assert [finding for finding in found if "another machine worked with a copy" in finding["detail"]]
    said = heir.told("prune")
    assert said[0] == 1
    site.night(heir)
    for by in ("", LATER):
        plan = _plan(site.server(f"keeper{by}", by=by), site, code=3)
        assert _stopped(plan) == {site.ids[name]: name == "CH" for name in ("B", "H", "CH")}
    answer = said[2].split("--accept ")[1].split("`")[0].split()[0]
    heir.run("prune", "--accept", answer)
    site.check_snapshots(heir, "notes")
    bare = site.server("looking")
    assert not site.rebuild(bare, "CH")["partial"]
    site.check_snapshots(bare, "notes")


def test_the_keeper_of_0978a4ca_deletes_what_todays_would(site: World) -> None:
    """And of what is needed nothing: an archive that the heir's prune gave up, and could not delete."""
    heir = site.server("web", "docs", "mail")
    _forget(site, heir)
    gone = _pruned_in_vain(site, heir)
    vault = site.folder / "vault"
    site.night(heir)
    site.clock.advance(timedelta(days=40))
    older, today = site.server("keeper-old", by=LATER), site.server("keeper")
    assert _plan(older, site)["inventories"] == _plan(today, site)["inventories"]
    before = {path.name for path in _archives(vault)}
    older.run("prune", "--delete-only", *site.key)
    deleted = before - {path.name for path in _archives(vault)}
    assert deleted
    assert deleted <= gone
    bare = site.server("looking")
    site.rebuild(bare, "H")
    for server in (heir, bare):
        site.check_snapshots(server, "docs", "mail")


def _pruned_in_vain(site: World, heir: SharingServer) -> set[str]:
    """What its prune deletes days later, which then is in the vault again, as if that had refused."""
    vault, kept = site.folder / "vault", site.folder / "kept"
    shutil.copytree(vault, kept)
    site.clock.advance(timedelta(days=4))
    heir.run("prune")
    gone = {path.name for path in _archives(kept)} - {path.name for path in _archives(vault)}
    shutil.copytree(kept / "archives", vault / "archives", dirs_exist_ok=True)
    return gone


def _archives(vault: Path) -> list[Path]:
    return [path for path in (vault / "archives").glob("??/*") if path.suffix == ""]


def test_in_a_bucket_a_mark_is_foreign_to_earlier_programs(
    programs: Mapping[str, Path], tmp_path: Path
) -> None:
    """Their checks name it, as any name that is reserved; all else passes over it, and it stays.

    A backup of 0978a4ca goes on, even at a mark of an heir of its own.
    """
    accounts = write_accounts(tmp_path / "accounts.toml")
    with RunningEmulator(tmp_path / "emulator", accounts) as emulator:
        s3 = s3_client(emulator.s3_url)
        bucket = new_bucket(s3)
        site = told(_in_bucket(tmp_path / "site", programs, emulator.s3_url, bucket))
        s3.put_object(Bucket=bucket, Key="kit/reserved", Body=b"")
        (mark,) = _names(s3, bucket, f"meta/{site.ids['A']}/heir-{site.ids['H']}-")
        for program in PROGRAMS:
            older = site.server(f"bare-{program}", "docs", by=program)
            assert not site.rebuild(older, "H", "older")["partial"]
            site.check_snapshots(older, "docs")
            assert {mark, "kit/reserved"} <= _foreign(older)
        ancestor, heir = (InventoryId(bytes.fromhex(site.ids[name])) for name in ("older", "H"))
        image = HeirMark(ancestor, heir, bytes(32), bytes(64))
        s3.put_object(Bucket=bucket, Key=image.to_text(), Body=b"")
        site.night(older)
        assert set(_names(s3, bucket)) >= {mark, image.to_text(), "kit/reserved"}


def _foreign(server: SharingServer) -> set[str]:
    """What a check calls foreign. It is well: what others stored is no fault."""
    return {
        finding["what"] for finding in server.document("check")["findings"] if finding["kind"] == "foreign"
    }


def _names(s3: Any, bucket: str, prefix: str = "") -> list[str]:
    return [stored["Key"] for stored in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]]


def _in_bucket(folder: Path, programs: Mapping[str, Path], url: str, bucket: str) -> World:
    """A world that has yet to begin, now, as requests are signed by the clock."""
    folder.mkdir()
    place = (
        f'kind = "s3"\nregion = "{REGION}"\nbucket = "{bucket}"\nendpoint = "{url}"\n'
        'path_style = true\nstorage_class = "STANDARD"'
    )
    more = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
    at = {"place": place, "more": more}
    clock = ManualClock(datetime.now(UTC))
    return World(folder, folder / "source", programs, clock, at, pause=timedelta(seconds=1))
