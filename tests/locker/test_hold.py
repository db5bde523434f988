"""`pin --legal-hold`: what a snapshot needs stays for as long as a person wants, whatever somebody does."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from backup.errors import NightvaultError, UsageError
from backup.inventory.content.locks import held_objects
from backup.inventory.content.snapshots import Snapshot
from backup.locker.hold import HoldReport, hold, lift
from backup.model import ArchiveId
from backup.transfer.vault_run import VaultRun
from tests.support.emulated import RunningEmulator
from tests.support.locked_servers import Intruder, bucket_server, rebuilt
from tests.support.locked_vaults import IDENTITY, LockedNights, attacked, renew, restores
from tests.support.nightly_servers import DAY
from tests.support.servers import Server, directory_server


@pytest.fixture
def nights(tmp_path: Path) -> LockedNights:
    """A server after six nights, each of which adds a file and removes an old one."""
    made = LockedNights(tmp_path)
    for _ in range(6):
        made.night()
    return made


def done(nights: LockedNights, what: Callable[..., HoldReport], number: int) -> HoldReport:
    """Hold or lift a snapshot."""
    fields = asdict(replace(nights.site.world, vault=nights.vault))
    names = ("clock", "progress", "stop", "retry_limit", "inventory", "vault")
    context = VaultRun(**{name: fields[name] for name in names})
    return what(context, nights.vault, the(nights, number))


def the(nights: LockedNights, number: int) -> Snapshot:
    """The snapshot of that number."""
    return next(each for each in nights.site.snapshots(also_forgotten=True) if each.number == number)


def known(nights: LockedNights) -> set[ArchiveId]:
    """What the inventory knows to be held."""
    with nights.site.inventory.reading() as tx:
        return set(held_objects(tx, nights.vault.name))


def test_a_snapshot_that_is_held_restores_after_all_locks_are_over(nights: LockedNights) -> None:
    """Packs and catalogs and the identity: an intruder deletes everything else; no other night comes back."""
    first, second = the(nights, 1), the(nights, 5)
    report = done(nights, hold, 1)
    assert (report.missing, report.is_lost, list(report.problems)) == ((), False, [])
    assert IDENTITY in nights.vault.holds
    assert nights.vault.holds == known(nights)
    assert len(nights.vault.holds) == report.objects < len(nights.listed()) + 1
    as_of = nights.clock.now()
    attacked(nights, max(nights.vault.ends.values()) + 30 * DAY)
    assert nights.listed() == nights.vault.holds - {IDENTITY}
    assert restores(nights, [first.id], nights.folder / "held", as_of)
    with pytest.raises(AssertionError, match="entries differ"):
        restores(nights, [second.id], nights.folder / "not held", as_of)


def test_what_another_snapshot_is_held_by_stays(nights: LockedNights) -> None:
    one, two = done(nights, hold, 1), done(nights, hold, 2)
    held = set(nights.vault.holds)
    again = done(nights, hold, 2)
    assert (again.objects, nights.vault.holds) == (two.objects, held), "it may be repeated"
    lifted = done(nights, lift, 1)
    assert lifted.objects + lifted.shared == one.objects
    assert lifted.shared > 0
    assert len(nights.vault.holds) == two.objects
    assert nights.vault.holds == known(nights)
    with pytest.raises(UsageError, match="known to be held for snapshot"):
        done(nights, lift, 1)
    assert done(nights, lift, 2).objects == two.objects
    assert nights.vault.holds == known(nights) == set()


@pytest.mark.parametrize("what", [hold, lift])
def test_cut_at_each_request(nights: LockedNights, what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered is known; the same command does the rest."""
    monkeypatch.setattr("backup.locker.hold.AT_ONCE", 1)
    monkeypatch.setattr("backup.locker.hold.BATCH", 2)
    total = done(nights, hold, 1).objects
    if what is hold:
        done(nights, lift, 1)
    for most in range(total):
        nights.vault.asked.clear()
        nights.vault.most = most if what is hold else 1
        with pytest.raises(NightvaultError) if what is hold or most < total - 1 else nullcontext():
            done(nights, what, 1)
        assert known(nights) == nights.vault.holds
    nights.vault.most = None
    if what is hold:
        done(nights, hold, 1)
    assert len(known(nights)) == (total if what is hold else 0)
    assert known(nights) == nights.vault.holds


def test_prune_and_renewal_know_it(nights: LockedNights) -> None:
    """What is held is not asked for, and named; it goes once the hold is over."""
    held = done(nights, hold, 1).objects
    nights.forget(1, 2, 3)
    nights.vault.lock_new()
    assert nights.site.prune().condemned.archives >= 1
    assert renew(nights.site, nights.vault).held == held
    nights.clock.advance(200 * DAY)
    plan = nights.site.prune(only_plan=True)
    (waiting,) = [group for group in plan.waiting if group.why == "held"]
    assert nights.site.prune().refused == []
    assert nights.vault.holds - {IDENTITY} <= nights.listed()
    done(nights, lift, 1)
    assert nights.site.prune().deleted.archives == waiting.archives
    nights.assert_kept()


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a vault that locks, after a backup."""
    return bucket_server(tmp_path, emulator, monkeypatch)


def test_the_commands(server: Server, emulator: RunningEmulator) -> None:
    """In a bucket: no one deletes the versions that were held, locks or none; status knows it."""
    s3, intruder = Intruder(server, emulator).s3, Intruder(server, emulator)
    of = [
        {"Bucket": intruder.bucket, "Key": line["Key"], "VersionId": line["VersionId"]}
        for line in intruder.objects()
    ]
    document = server.json("pin", "latest", "--legal-hold", "--note", "evidence")
    (report,) = document["holds"]
    assert (report["held"], report["objects"], report["missing"], report["lost"]) == (True, 4, [], False)
    assert document["snapshots"][0]["pin"]["note"] == "evidence"
    for each in of:
        s3.put_object_retention(**each, Retention={}, BypassGovernanceRetention=True)
        with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
            s3.delete_object(**each)
    told = " ".join(server.run("status").stdout.split())
    (snapshot,) = [each["id"] if "id" in each else each["snapshot"] for each in server.json("snapshots")]
    assert f"legal hold main: what 1 snapshot needs: {snapshot[:8]}" in told
    assert json.loads(server.run("--json", "status").stdout)["jobs"][0]["holds"] == [snapshot]
    left = server.done("unpin", "latest")
    assert "stays under a legal hold" in left.stderr
    server.done("pin", "latest")
    (report,) = server.json("unpin", "latest", "--legal-hold")["holds"]
    assert (report["held"], report["objects"], report["shared"]) == (False, 4, 0)
    assert json.loads(server.run("--json", "status").stdout)["jobs"][0]["holds"] == []
    s3.delete_object(**of[0])
    assert "--until ends a pin" in server.fails(2, "pin", "latest", "--legal-hold", "--until", "30d")


def test_what_is_held_and_not_known_is_named(server: Server, emulator: RunningEmulator) -> None:
    """As after a rebuild, or by somebody else; held again it is known; a role may see no holds."""
    intruder = Intruder(server, emulator)
    server.done("pin", "latest", "--legal-hold")
    assert server.json("check", "--versions")["unknown_holds"] == 0
    bare = rebuilt(server)
    assert bare.json("check", "--versions", exit_code=3)["unknown_holds"] == 4
    told = " ".join(bare.run("check", "--versions").stdout.split())
    assert "held 4 objects under a legal hold that is not known here, as after a rebuild" in told
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObjectLegalHold"}
    policy = {"Statement": [{**statement, "Resource": f"arn:aws:s3:::{intruder.bucket}/*"}]}
    intruder.s3.put_bucket_policy(Bucket=intruder.bucket, Policy=json.dumps(policy))
    report = bare.json("check", "--versions")
    assert report["warnings"] == ["legal holds were not looked at: this role may not see them"]
    intruder.s3.delete_bucket_policy(Bucket=intruder.bucket)
    bare.done("pin", "latest", "--legal-hold")
    assert bare.json("check", "--versions")["unknown_holds"] == 0


def test_rights_that_are_missing_are_named(server: Server, emulator: RunningEmulator) -> None:
    """A denial names the right; the pin stays."""
    name = Intruder(server, emulator).bucket
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:PutObjectLegalHold"}
    policy = {"Statement": [{**statement, "Resource": f"arn:aws:s3:::{name}/*"}]}
    Intruder(server, emulator).s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    told = " ".join(server.fails(14, "pin", "latest", "--legal-hold").split())
    assert "s3:PutObjectLegalHold" in told
    assert "aws policy --only legal-hold" in told


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_vaults_without_holds_refuse(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Before anything is pinned."""
    if kind == "s3":
        server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    else:
        server = directory_server(tmp_path)
        server.init()
        server.backup()
    words = {"s3": "locks nothing", "directory": "is a directory: it has no legal holds"}[kind]
    for command in ("pin", "unpin"):
        assert words in " ".join(server.fails(2, command, "latest", "--legal-hold").split())
    assert server.json("runs")[0]["kind"] == "backup"
