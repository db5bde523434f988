"""`check --versions` and `undelete --versions`: what somebody did in a bucket is named, and taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backup.locker.versions import Deed, judged
from backup.model import ArchiveId, TreeHash
from backup.vault.s3.versions import KeyVersions, ObjectVersion, S3Versions
from tests.support.emulated import REGION, RunningEmulator
from tests.support.local_account import write_accounts
from tests.support.locked_servers import Intruder, bucket_server, rebuilt
from tests.support.s3_clients import client, new_bucket_name
from tests.support.servers import Server, replace, running_cloud
from tests.support.trees import assert_same_tree, snapshot_of

HINT = "`nightvault undelete --versions` brings it back"


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a vault that locks, after a backup."""
    return bucket_server(tmp_path, emulator, monkeypatch)


@pytest.fixture
def unlocked(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a vault that locks nothing, in a bucket that has kept versions since after the backup."""
    made = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    client(emulator.s3_url).put_bucket_versioning(
        Bucket=Intruder(made, emulator).bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    return made


def counts(document: Any) -> dict[str, int]:
    """How many objects of each deed a report names."""
    return {deed: found["count"] for deed, found in document["found"].items()}


def test_a_bucket_that_nobody_touched(server: Server) -> None:
    done = server.json("check", "--versions")
    assert (done["keys"], done["found"], done["gone"], done["warnings"]) == (3, {}, 0, [])
    told = server.done("check", "--versions", "--vault", "cold")
    assert "each object is the newest of its name" in " ".join(told.stdout.split())
    assert server.json("undelete", "--versions")["taken_back"] == 0


def test_all_that_somebody_did_is_named_and_taken_back(server: Server, emulator: RunningEmulator) -> None:
    """In a vault that locks: nothing of it was ever lost, and it looks so to other programs again, too."""
    intruder = Intruder(server, emulator)
    (pack, *_) = intruder.packs()
    intruder.tag(pack)
    intruder.overwrite()
    intruder.hide()
    found = server.json("check", "--versions", exit_code=1)
    assert counts(found) == {"overwritten": 3, "hidden": 3, "tagged": 1}
    before = intruder.s3.list_object_versions(Bucket=intruder.bucket)
    plan = server.json("undelete", "--versions", "--dry-run", exit_code=1)
    assert (plan["plan"], plan["taken_back"]) == (True, 3)
    after = intruder.s3.list_object_versions(Bucket=intruder.bucket)
    assert [before[name] for name in ("Versions", "DeleteMarkers")] == [
        after[name] for name in ("Versions", "DeleteMarkers")
    ]
    done = server.json("undelete", "--versions")
    assert (done["taken_back"], done["refused"]) == (3, {})
    assert [line["VersionId"] for line in intruder.objects()] == [line["VersionId"] for line in intruder.ours]
    assert all(line["IsLatest"] for line in intruder.objects())
    assert server.json("check", "--versions")["found"] == {}
    assert_same_tree(server.restore(server.folder / "out"), snapshot_of(server.source))


def test_another_class_in_the_config_moves_nothing(server: Server, emulator: RunningEmulator) -> None:
    """Each object says in which class it was stored."""
    text = server.config.read_text()
    server.config.write_text(text.replace('"STANDARD"', '"GLACIER_IR"\ncatalog_class = "STANDARD_IA"'))
    assert server.json("check", "--versions")["found"] == {}
    (server.source / "new.txt").write_text("since\n")
    server.backup()
    assert server.json("check", "--versions")["found"] == {}
    server.config.write_text(text)
    assert server.json("check", "--versions")["found"] == {}
    stored = [line["StorageClass"] for line in Intruder(server, emulator).ours]
    assert sorted(stored) == ["GLACIER_IR", *["STANDARD"] * 3, "STANDARD_IA"]


def test_what_a_rule_moved_is_named(
    server: Server, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if that cannot be asked, or the object says nothing, as what earlier versions stored."""
    intruder = Intruder(server, emulator)
    rule: Any = {"ID": "cold", "Status": "Enabled", "Filter": {"Prefix": "data/"}}
    rule["Transitions"] = [{"Days": 1, "StorageClass": "GLACIER"}]
    intruder.s3.put_bucket_lifecycle_configuration(
        Bucket=intruder.bucket,
        LifecycleConfiguration={"Rules": [rule]},
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    )
    emulator.advance(3 * 86400)
    assert [line["StorageClass"] for line in intruder.objects() if line["Key"] in intruder.packs()] == [
        "GLACIER"
    ]
    assert counts(server.json("check", "--versions", exit_code=3)) == {"moved": 1}
    monkeypatch.setattr(S3Versions, "sent_as", lambda *_: "")
    assert counts(server.json("check", "--versions", exit_code=3)) == {"moved": 1}
    config = server.config.read_text().replace('"STANDARD"', '"GLACIER"\ncatalog_class = "STANDARD"')
    server.config.write_text(config)
    assert server.json("check", "--versions")["found"] == {}


def test_the_screen(server: Server, emulator: RunningEmulator) -> None:
    """What it means and what to do, in 80 columns."""
    intruder = Intruder(server, emulator)
    intruder.hide()
    told = server.run("check", "--versions")
    assert told.exit_code == 1
    text = " ".join(told.stdout.split())
    assert "hidden 3 objects: a delete marker hides it; the bytes are still there" in text
    assert "`nightvault undelete --versions` takes the marker away" in text
    assert all(len(line) <= 80 or "/" in line for line in told.stdout.splitlines())
    assert "brought back 3 objects" in " ".join(server.done("undelete", "--versions").stdout.split())


def test_a_vault_without_locks_reads_what_lies_beneath(unlocked: Server, emulator: RunningEmulator) -> None:
    """What is overwritten or hidden: by a restore, and a look at one file."""
    intruder = Intruder(unlocked, emulator)
    key = ("--key", unlocked.key_file)
    for number, attack in enumerate((intruder.overwrite, intruder.hide)):
        attack(*intruder.packs())
        whole = unlocked.folder / f"out{number}"
        assert_same_tree(unlocked.restore(whole), snapshot_of(unlocked.source))
        assert unlocked.done("dump", f"latest:{unlocked.source}/a.txt", *key).stdout == "alpha\n"


def test_a_vault_without_locks_lists_what_any_program_sees(
    unlocked: Server, emulator: RunningEmulator
) -> None:
    """A check takes it for damaged, until what lies over it is taken away."""
    intruder = Intruder(unlocked, emulator)
    (pack, *_) = intruder.packs()
    intruder.overwrite(pack)
    unlocked.run("check")
    found = unlocked.json("check", "--versions", exit_code=1)
    assert (counts(found), found["found"]["overwritten"]["objects"]) == ({"overwritten": 1}, [pack])
    assert unlocked.json("undelete", "--versions")["taken_back"] == 1
    unlocked.done("check")
    assert_same_tree(unlocked.restore(unlocked.folder / "out"), snapshot_of(unlocked.source))


def test_what_is_hidden_of_a_vault_without_locks_is_found_by_its_messages(
    unlocked: Server, emulator: RunningEmulator
) -> None:
    """A check takes packs for lost, restores believe it, and both name the command that brings them back."""
    intruder = Intruder(unlocked, emulator)
    intruder.hide(*intruder.packs())
    (finding, *_) = unlocked.json("check", exit_code=1)["findings"]
    assert (finding["kind"], HINT in finding["detail"]) == ("missing", True)
    words = ("restore", "latest", "--key", unlocked.key_file, "--wait", "--target")
    told = unlocked.run(*words, unlocked.folder / "before")
    assert (told.exit_code, told.stderr.count(HINT)) == (3, 1)
    assert unlocked.json("undelete", "--versions")["taken_back"] == len(intruder.packs())
    unlocked.done("check")
    assert_same_tree(unlocked.restore(unlocked.folder / "after"), snapshot_of(unlocked.source))


def test_a_vault_without_locks_of_which_all_is_hidden(unlocked: Server, emulator: RunningEmulator) -> None:
    """The identity, too: nothing takes it for another vault for ever, and a new machine reads it."""
    intruder = Intruder(unlocked, emulator)
    intruder.hide()
    told = unlocked.run("backup")
    assert ("is another one than before" in told.stderr, HINT in told.stderr) == (True, True)
    bare = Server(unlocked.folder / "bare", unlocked.clock)
    bare.config.parent.mkdir(parents=True)
    text = unlocked.config.read_text().replace(str(unlocked.state), str(bare.state))
    bare.config.write_text(text)
    rebuild = ("rebuild", "--vault", "cold", "--key", unlocked.key_file, "--wait")
    assert "a rebuild needs `lock` to see it" in " ".join(bare.fails(1, *rebuild).split())
    replace(bare, "path_style = true\n", 'path_style = true\nlock = "governance"\n')
    bare.done(*rebuild)
    bare.done("restore", "latest", "--target", bare.folder / "out", "--key", unlocked.key_file, "--wait")
    assert_same_tree(Path(f"{bare.folder / 'out'}{unlocked.source}"), snapshot_of(unlocked.source))
    for server in (bare, unlocked):
        assert counts(server.json("check", "--versions", exit_code=1)) == {"hidden": 3}
    assert unlocked.json("undelete", "--versions")["taken_back"] == 3
    assert unlocked.backup()["outcome"] == "done"


def test_another_bucket_is_not_taken_for_it(unlocked: Server, emulator: RunningEmulator) -> None:
    """Of another server: nothing of it is compared, or taken away."""
    text, s3 = unlocked.config.read_text(), client(emulator.s3_url)
    name, bucket = new_bucket_name(), Intruder(unlocked, emulator).bucket
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    unlocked.config.write_text(text.replace(bucket, name))
    for command in ("check", "undelete"):
        assert "is another one than before" in unlocked.fails(1, command, "--versions")


def test_what_is_not_there_any_more_is_told_of(unlocked: Server, emulator: RunningEmulator) -> None:
    """With something else in its place, or with nothing at all: neither is taken for ours."""
    intruder = Intruder(unlocked, emulator)
    (pack, *_) = intruder.packs()
    catalog = next(line for line in intruder.ours if "-full-" in line["Key"] or "-delta-" in line["Key"])
    intruder.overwrite(pack)
    for line in intruder.ours:
        if line["Key"] in {pack, catalog["Key"]}:
            intruder.s3.delete_object(Bucket=intruder.bucket, Key=line["Key"], VersionId=line["VersionId"])
    done = unlocked.json("undelete", "--versions", exit_code=1)
    assert (counts(done), done["gone"], done["taken_back"]) == ({"replaced": 1}, 1, 0)
    assert pack in [line["Key"] for line in intruder.objects()]


def test_what_is_locked_over_ours_stays_until_its_end(server: Server, emulator: RunningEmulator) -> None:
    intruder = Intruder(server, emulator)
    (pack, *_) = intruder.packs()
    until = max(
        intruder.s3.head_object(Bucket=intruder.bucket, Key=line["Key"])["ObjectLockRetainUntilDate"]
        for line in intruder.ours
    )
    intruder.overwrite(pack, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    done = server.json("undelete", "--versions", exit_code=3)
    assert (done["taken_back"], list(done["refused"])) == (0, [pack])
    assert_same_tree(server.restore(server.folder / "out"), snapshot_of(server.source))


def test_on_a_new_machine(server: Server, emulator: RunningEmulator) -> None:
    """The newest versions are the intruder's: a rebuild reads what was stored first, and then they go."""
    intruder = Intruder(server, emulator)
    intruder.overwrite()
    intruder.hide()
    bare = rebuilt(server)
    assert counts(bare.json("check", "--versions", exit_code=1)) == {"overwritten": 3, "hidden": 3}
    assert bare.json("undelete", "--versions")["taken_back"] == 3
    assert [line["VersionId"] for line in intruder.objects()] == [line["VersionId"] for line in intruder.ours]
    bare.done("restore", "latest", "--target", bare.folder / "out", "--key", server.key_file, "--wait")
    assert_same_tree(Path(f"{bare.folder / 'out'}{server.source}"), snapshot_of(server.source))


@pytest.mark.parametrize("is_done", [False, True], ids=["before the vault did it", "after"])
def test_a_cut_undelete_goes_on(
    server: Server, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, is_done: bool
) -> None:
    """Cut at each of its six deletions: what shows is ours, and the next one does the rest."""
    intruder = Intruder(server, emulator)
    whole = S3Versions.remove_version
    for at in range(2 * len(intruder.ours)):
        intruder.overwrite()
        intruder.hide()
        removed: list[str] = []

        def cut(self: S3Versions, key: ArchiveId, version: str, at: int = at, removed: Any = removed) -> Any:
            if len(removed) < at or is_done:
                removed.append(version)
                refusal = whole(self, key, version)
                if len(removed) <= at:
                    return refusal
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(S3Versions, "remove_version", cut)
            assert server.run("undelete", "--versions").exit_code != 0
        back = (at + is_done) // 2  # of each object first what lies over it goes, then the marker
        shown = [line["VersionId"] for line in intruder.objects() if line["IsLatest"]]
        ours = [line["VersionId"] for line in intruder.ours]
        assert (len(shown), set(shown) <= set(ours)) == (back, True)
        assert server.json("undelete", "--versions")["taken_back"] == 3 - back
        assert [line["VersionId"] for line in intruder.objects()] == ours
        assert all(line["IsLatest"] for line in intruder.objects())
    assert server.json("check", "--versions")["found"] == {}
    assert_same_tree(server.restore(server.folder / "out"), snapshot_of(server.source))


def test_with_a_persons_own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roles of a config look, and see no tags; none of them takes anything back, a person's keys do."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with running_cloud(tmp_path) as cloud:
        bucket = new_bucket_name()
        server = cloud.server(tmp_path / "web1", vault=bucket, kind="s3")
        replace(server, "path_style = true\n", 'path_style = true\nlock = "governance"\n')
        documents = server.json("aws", "policy")
        write_accounts(str(cloud.accounts), ca=str(server.folder / "ca" / "ca.pem"), documents=documents)
        admin = cloud.admin("s3")
        place = {"LocationConstraint": REGION}
        admin.create_bucket(Bucket=bucket, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=True)
        server.init()
        server.backup()
        ours = {line["Key"] for line in admin.list_object_versions(Bucket=bucket)["Versions"]}
        for key in ours:
            admin.delete_object(Bucket=bucket, Key=key)
        found = server.json("check", "--versions", exit_code=1)
        assert counts(found) == {"hidden": len(ours)}
        assert found["warnings"] == ["tags and legal holds were not looked at: this role may not see them"]
        assert "this goes with your own keys" in server.fails(13, "undelete", "--versions")
        assert len(admin.list_object_versions(Bucket=bucket)["DeleteMarkers"]) == len(ours)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAADMIN")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        done = server.json("undelete", "--versions")
        assert (done["taken_back"], done["warnings"]) == (len(ours), [])
        assert "DeleteMarkers" not in admin.list_object_versions(Bucket=bucket)


def test_by_hand_and_wrongly(server: Server) -> None:
    assert "--dry-run goes with --versions" in server.fails(2, "undelete", "--all", "--dry-run")
    assert "takes no archives" in server.fails(2, "undelete", "--versions", "--all")
    assert "a check of its own" in server.fails(2, "check", "--versions", "--inventory")


def test_a_directory_keeps_no_versions(tmp_path: Path) -> None:
    from tests.support.servers import directory_server

    server = directory_server(tmp_path)
    server.init()
    assert "is no bucket: it keeps no versions" in server.fails(2, "check", "--versions")


OURS = ObjectVersion("1", 5, "aa-1", "STANDARD")
THEIRS = ObjectVersion("2", 5, "bb-1", "STANDARD")


@pytest.mark.parametrize(
    ("objects", "tag", "deeds", "over", "is_unproven"),
    [
        ([OURS], "aa-1", (), (), False),
        ([OURS], "", (), (), False),
        ([THEIRS, OURS], "aa-1", (Deed.OVERWRITTEN,), ("2", "m"), False),
        ([THEIRS, OURS], "", (Deed.OVERWRITTEN,), ("m",), True),
        ([OURS, THEIRS], "aa-1", (Deed.OVERWRITTEN,), ("2", "m"), False),
        ([THEIRS], "aa-1", (Deed.REPLACED,), (), False),
        ([ObjectVersion("3", 4, "aa-1", "STANDARD")], "aa-1", (Deed.REPLACED,), (), False),
        ([ObjectVersion("1", 5, "aa-1", "GLACIER")], "aa-1", (Deed.MOVED,), (), False),
    ],
)
def test_which_one_is_ours(
    objects: list[ObjectVersion], tag: str, deeds: tuple[Deed, ...], over: tuple[str, ...], is_unproven: bool
) -> None:
    """By size and ETag; without one nothing of anybody's is deleted but markers."""
    line = KeyVersions(ArchiveId("k"), objects, ["m"], False, False, "STANDARD")
    found = judged(line, (5, tag, TreeHash(b"")))
    assert (found.deeds, found.over, found.is_unproven) == (deeds, over, is_unproven)
    assert json.dumps(found.deeds)
