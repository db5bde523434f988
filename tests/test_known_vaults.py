"""A known vault that is another one, or holds newer catalogs: by commands, with the roles of `aws policy`."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from backup.vault.marker import MARKER
from tests.support.doubles import ManualClock
from tests.support.emulated import REGION
from tests.support.forgets import DAY, three_nights
from tests.support.local_account import write_accounts
from tests.support.servers import Cloud, HurryingClock, Server, directory_server, running_cloud
from tests.support.trees import assert_same_tree

pytestmark = pytest.mark.no_cover  # many variants of what other tests reach, too


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(params=["directory", "glacier", "s3"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """A server with a vault of each kind; AWS lets it do what the printed policies say, and no more."""
    if request.param == "directory":
        made = directory_server(tmp_path)
    else:
        cloud: Cloud = request.getfixturevalue("cloud")
        clock = HurryingClock(cloud.emulator)
        made = cloud.server(tmp_path, vault=place_of(tmp_path), clock=clock, kind=request.param)
    made.init()
    return made


@pytest.fixture
def disk(tmp_path: Path) -> Server:
    """A server with a directory vault and two snapshots."""
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    (made.source / "new").write_text("new")
    made.backup()
    return made


def place_of(tmp_path: Path) -> str:
    return "p" + "".join(letter for letter in tmp_path.name.lower() if letter.isalnum())[-60:]


def identity_of(server: Server) -> str:
    with sqlite3.connect(server.state / "inventory.sqlite") as database:
        ((found,),) = database.execute("SELECT identity FROM vaults").fetchall()
    database.close()
    return str(found)


def swap(server: Server) -> None:
    """Another disk is mounted at the path: a vault, and an empty one."""
    (server.folder / "vault").rename(server.folder / "unmounted")
    other = directory_server(server.folder / "other")
    other.init()
    (server.folder / "other" / "vault").rename(server.folder / "vault")


def put_back(server: Server) -> None:
    shutil.rmtree(server.folder / "vault")
    (server.folder / "unmounted").rename(server.folder / "vault")


def test_init_knows_the_vault(server: Server) -> None:
    """By the rights of the backup role."""
    known = identity_of(server)
    assert known != "None"
    server.done("init")
    assert identity_of(server) == known
    if server.config.read_text().count('kind = "glacier"'):
        assert known.startswith("arn:aws:glacier:")
    else:
        assert len(bytes.fromhex(known)) == 16


def test_the_printed_policies_suffice(server: Server, cloud: Cloud, tmp_path: Path) -> None:
    """The backup role leaves and sees the identity, the restore role sees it."""
    bound = 'kind = "s3"' in server.config.read_text()
    if bound:
        bind(server, cloud)
    server.backup()
    known = identity_of(server)
    with sqlite3.connect(server.state / "inventory.sqlite") as database:
        database.execute("UPDATE vaults SET identity = NULL")  # as 0.1.0 left it
    database.close()
    if bound:
        for key in keys_in(cloud, tmp_path):
            if "/vault-" in key:
                admin(cloud).delete_object(Bucket=place_of(tmp_path), Key=key, IfMatch="*")
    server.backup()
    assert (identity_of(server) == known) is not bound, "a bucket got another one, by the bucket's own policy"
    if 'kind = "glacier"' in server.config.read_text():
        cloud.emulator.make_inventories()
    assert server.json("check", "--wait")["findings"] == []
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def bind(server: Server, cloud: Cloud) -> None:
    """The printed policy of the bucket, but for TLS, which the emulator does without here."""
    policy = server.json("aws", "policy", "--only", "bucket")
    policy["Statement"] = [
        statement for statement in policy["Statement"] if statement["Sid"] != "NothingInTheClear"
    ]
    admin(cloud).put_bucket_policy(Bucket=place_of(server.folder), Policy=json.dumps(policy))


def admin(cloud: Cloud) -> Any:
    """Somebody who may do everything in the account."""
    if "AKIAADMIN" not in cloud.accounts.read_text():
        with cloud.accounts.open("a") as file:
            file.write('[[account.key]]\naccess_key_id = "AKIAADMIN"\nsecret_access_key = "secret"\n')
    where = {"endpoint_url": cloud.emulator.s3_url, "region_name": REGION}
    return boto3.client("s3", aws_access_key_id="AKIAADMIN", aws_secret_access_key="secret", **where)


def keys_in(cloud: Cloud, tmp_path: Path) -> list[str]:
    return [stored["Key"] for stored in admin(cloud).list_objects_v2(Bucket=place_of(tmp_path))["Contents"]]


def test_no_command_takes_another_disk_for_the_vault(disk: Server) -> None:
    """Both are named, with the way out; check tells what is not there, and marks nothing."""
    known = identity_of(disk)
    swap(disk)
    for words in (
        ["backup"],
        ["init"],
        ["listing", "request"],
        ["restore", "latest", "--target", str(disk.folder / "out"), "--key", str(disk.key_file)],
        ["check", "--read-data", "100%"],
    ):
        said = disk.fails(1, *words)
        assert (
            f"vault cold ({disk.folder}/vault) is another one than before: it was {known}, now it is " in said
        )
        assert "`nightvault vaults accept cold`" in said
    report = disk.json("check", exit_code=1)
    assert [finding["kind"] for finding in report["findings"]] == ["other-vault", *["missing"] * 4]
    put_back(disk)
    assert disk.json("check")["findings"] == []
    disk.backup()


def test_init_makes_no_vault_where_a_known_one_is_gone(disk: Server) -> None:
    """An empty mount point stays empty."""
    (disk.folder / "vault").rename(disk.folder / "unmounted")
    (disk.folder / "vault").mkdir()
    said = disk.fails(1, "init")
    assert f"vault cold was {identity_of(disk)}, and is not there" in said
    assert "`nightvault vaults accept cold` makes a new one" in said
    assert list((disk.folder / "vault").iterdir()) == []


def test_every_command_says_what_to_do_where_a_known_vault_is_gone(disk: Server) -> None:
    """`init` never makes one that was used: none may send there."""
    place = disk.folder / "vault"
    place.rename(disk.folder / "unmounted")
    for words in (
        ["backup"],
        ["prune"],
        ["prune", "--dry-run"],
        ["forget", "main", "--keep-last", "1"],
        ["check"],
        ["check", "--read-data", "100%"],
        ["listing", "request"],
        ["init"],
    ):
        said = disk.fails(1, *words)
        assert f"vault cold was {identity_of(disk)}, and is not there: {place}\n" in said, words
        assert "mount its disk, or find out what became of it" in said
        assert "`nightvault vaults accept cold` makes a new one" in said
        assert "nightvault init" not in said
    assert not place.exists()
    (disk.folder / "unmounted").rename(place)
    assert disk.json("check")["findings"] == []


def test_a_vault_that_was_never_used_is_made_by_init(tmp_path: Path) -> None:
    made = directory_server(tmp_path)
    made.init()
    shutil.rmtree(tmp_path / "vault")
    for words in (["backup"], ["prune"], ["check"]):
        said = made.fails(1, *words)
        assert f"vault cold is not there: {tmp_path}/vault\n" in said
        assert "`nightvault init` makes it" in said
        assert "vaults accept" not in said
    made.done("init")
    made.backup()


def test_a_new_disk_is_taken_knowingly(disk: Server, tmp_path: Path) -> None:
    """What it lacks is lost, all of it is stored again, and it can be rebuilt from alone."""
    known = identity_of(disk)
    swap(disk)
    said = disk.fails(2, "vaults", "accept", "cold")
    assert f"was {known}, and now is " in said
    assert "there is no terminal for the answer" in said
    assert identity_of(disk) == known
    told = disk.json("vaults", "accept", "cold", "--yes")
    assert told["accepted"] is True
    assert (told["before"], told["identity"], told["missing"]) == (known, identity_of(disk), 4)
    assert disk.json("vaults", "accept", "cold")["accepted"] is False, "it is known now"
    assert disk.backup()["bytes_new"] > 0
    disk.clock.sleep(3600)
    found = disk.json("check")
    assert found["affected"]["live_files"] == 0
    shutil.move(disk.state, tmp_path / "lost")
    rebuilt = disk.json("rebuild", "--key", disk.key_file, exit_code=0)
    assert rebuilt["state"] == "done"
    assert_same_tree(disk.restore(tmp_path / "out"), disk.source)


@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_a_vault_in_the_cloud_is_replaced_knowingly(cloud: Cloud, tmp_path: Path, kind: str) -> None:
    """Another vault is named in the config: all is stored again, and rebuilt from there."""
    server = cloud.server(tmp_path, vault=place_of(tmp_path), clock=HurryingClock(cloud.emulator), kind=kind)
    server.init()
    server.backup()
    known, newer = identity_of(server), place_of(tmp_path)[:-1] + "-new"
    server.config.write_text(server.config.read_text().replace(f'"{place_of(tmp_path)}"', f'"{newer}"'))
    documents = server.json("aws", "policy")
    write_accounts(str(cloud.accounts), ca=str(tmp_path / "ca" / "ca.pem"), documents=documents)
    assert f"vault cold was {known}, and is not there" in server.fails(1, "init")
    told = server.json("vaults", "accept", "cold", "--yes")
    assert (told["before"], told["missing"]) == (known, 2)
    assert identity_of(server) == told["identity"] != known
    report = server.backup()
    assert (report["outcome"], report["bytes_new"] > 0) == ("done", True)
    cloud.emulator.make_inventories()
    shutil.move(server.state, tmp_path / "lost")
    server.done("rebuild", "--key", server.key_file, "--wait")
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_a_new_disk_that_is_no_vault_yet_is_made_one(disk: Server) -> None:
    (disk.folder / "vault").rename(disk.folder / "broken")
    told = disk.done("vaults", "accept", "cold", "--yes")
    assert "and is not there: a new one is made" in told.stderr
    assert "it lacks 4 of 4 archives; next: `nightvault backup`" in told.stderr
    disk.backup()


def test_what_was_condemned_goes_from_a_copy_of_the_vault_too(tmp_path: Path) -> None:
    clock = ManualClock()
    server = directory_server(tmp_path, clock=clock)
    server.init()
    three_nights(server)
    assert server.json("prune")["condemned"]["archives"] == 1
    marker = tmp_path / "vault" / MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"id": "1" * 32}))
    assert server.json("vaults", "accept", "cold", "--yes")["missing"] == 0
    assert "condemned" in {archive["state"] for archive in server.json("archives")}
    clock.advance(4 * DAY)
    again = server.json("prune")
    assert (again["condemned"]["archives"], again["deleted"]["archives"]) == (0, 1)
    assert_same_tree(server.restore(tmp_path / "out"), server.source)


def test_the_right_disk_again_after_another_was_taken(disk: Server) -> None:
    swap(disk)
    disk.json("vaults", "accept", "cold", "--yes")
    put_back(disk)
    disk.fails(1, "backup")
    told = disk.json("vaults", "accept", "cold", "--yes")
    assert told["missing"] == 0
    assert disk.json("check")["findings"] == []
    assert disk.backup()["bytes_new"] == 0


def test_an_old_state_directory_is_told_by_its_next_backup(disk: Server) -> None:
    """With the command that brings the newest state back, which then does."""
    shutil.copytree(disk.state, disk.folder / "copy")
    (disk.source / "newer").write_text("newer")
    disk.backup()
    shutil.rmtree(disk.state)
    (disk.folder / "copy").rename(disk.state)
    said = disk.fails(1, "backup")
    assert "this inventory is older than what it wrote: vault cold holds catalog 3 of job main" in said
    assert "`nightvault rebuild --set-aside --key FILE`" in said
    assert disk.json("check", exit_code=1)["findings"][0]["kind"] in {"newer-catalog", "orphan"}
    checked = disk.run("check")
    assert checked.stdout.endswith("this inventory is older than its vault: see below\n")
    assert "`nightvault rebuild --set-aside --key FILE`" in checked.stderr
    disk.done("rebuild", "--set-aside", "--key", disk.key_file)
    assert len(disk.json("snapshots")) == 3
    disk.backup()


def test_a_second_rebuild_says_which_inventory_goes_on(disk: Server) -> None:
    """The one that was rebuilt from the other, as its catalogs prove; the first one is in the vault still."""
    words = ("rebuild", "--set-aside", "--key", disk.key_file)
    (disk.source / "newer").write_text("newer")
    disk.backup()
    disk.done(*words)
    (disk.source / "newest").write_text("newest")
    disk.backup()
    first = disk.fails(2, *words)
    assert "several inventories" in first
    (advice,) = [line for line in first.splitlines() if "the one that was rebuilt last goes on" in line]
    chosen = advice.rpartition(" ")[2]
    before = disk.json("snapshots")
    disk.done(*words, "--inventory", chosen)
    assert [snapshot["id"] for snapshot in disk.json("snapshots")] == [snapshot["id"] for snapshot in before]
