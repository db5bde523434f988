"""`nightvault vault-lock`: begun, tried with the roles of the nights, completed or aborted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.app.base.opened import opened
from backup.config import load_config
from backup.errors import UnreachableError
from backup.inventory.records.readings import record_vault_lock, vault_locks
from backup.vault.glacier_lock import days_of, refusal_by
from backup.vault.glacier_locking import GlacierLocking, policy_for
from tests.support.clocks import EmulatorClock
from tests.support.emulated import RunningEmulator
from tests.support.locked_servers import bucket_server
from tests.support.servers import Cloud, Server, directory_server, running_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """An account with roles."""
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


@pytest.fixture
def server(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with a Glacier vault, after a backup; a person's own keys are in the environment."""
    vault = f"locked-{tmp_path.name}".replace("_", "-")[-60:].strip("[]-0")
    made = cloud.server(tmp_path / "web1", vault=vault, clock=EmulatorClock(cloud.emulator))
    made.init()
    made.backup()
    cloud.admin("glacier")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAADMIN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return made


def lock_of(server: Server, cloud: Cloud) -> Any:
    """What the service says of the lock."""
    glacier = cloud.admin("glacier")
    try:
        return glacier.get_vault_lock(vaultName=load_config(str(server.config)).vault("cold").vault)
    except glacier.exceptions.ResourceNotFoundException:
        return None


def concerns(server: Server) -> list[str]:
    """What status says of protection."""
    told = json.loads(server.run("--json", "status").stdout)["concerns"]
    return [concern["text"] for concern in told if concern["topic"] == "protection"]


def test_begun_tried_and_completed(server: Server, cloud: Cloud) -> None:
    """Nothing is completed before its name is given; then it is for ever, and a backup goes on."""
    plan = server.json("vault-lock", "initiate", "--days", 200, "--dry-run")
    assert (plan["stage"], plan["days"], plan["trials"], lock_of(server, cloud)) == ("plan", 200, [], None)
    assert days_of(plan["policy"]) == 200
    begun = server.json("vault-lock", "initiate", "--days", 200)
    assert (begun["stage"], [trial["well"] for trial in begun["trials"]]) == ("in-progress", [True] * 4)
    assert [trial["what"] for trial in begun["trials"]] == ["backup", "deletion", "prune", "restore"]
    assert begun["trials"][-1]["detail"] == "that archive was asked for, in bulk"
    assert lock_of(server, cloud)["State"] == "InProgress"
    (text,) = concerns(server)
    assert "no archive is deleted before it is 200 days old) is gone in 2" in text
    findings = json.loads(server.run("--json", "doctor").stdout)["findings"]
    assert any("begun and is not completed: on 2" in finding["what"] for finding in findings)
    assert "has a lock already" in server.fails(2, "vault-lock", "initiate", "--days", 10)
    assert "--yes-forever cold" in server.fails(2, "vault-lock", "complete")
    assert "is not the name" in server.fails(2, "vault-lock", "complete", "--yes-forever", "warm")
    assert lock_of(server, cloud)["State"] == "InProgress"
    done = server.json("vault-lock", "complete", "--yes-forever", "cold")
    assert (done["stage"], done["days"]) == ("locked", 200)
    assert lock_of(server, cloud)["State"] == "Locked"
    assert server.json("vault-lock", "complete")["stage"] == "locked", "again it is only said"
    server.fails(14, "vault-lock", "abort")
    assert concerns(server) == []
    assert "locked for ever: no archive is deleted before it is 200 days old" in " ".join(
        server.run("status").stdout.split()
    )
    (server.source / "since").write_text("since")
    assert server.backup()["outcome"] == "done"


def test_a_day_passes_and_it_is_gone(server: Server, cloud: Cloud) -> None:
    """Status says so; it is begun anew, and aborted."""
    server.json("vault-lock", "initiate", "--days", 100)
    config, glacier = load_config(str(server.config)), cloud.admin("glacier")
    glacier.abort_vault_lock(vaultName=config.vault("cold").vault)  # as the service does after a day
    with closing(opened(config)) as inventory, inventory.writing() as tx:
        (found,) = vault_locks(tx).values()
        record_vault_lock(tx, replace(found, ends_at=found.ends_at - timedelta(hours=25)))
    (text,) = concerns(server)
    assert text.endswith("was not completed, and is gone")
    assert "the day is over" in " ".join(server.fails(2, "vault-lock", "complete").split())
    assert concerns(server) == []
    assert server.json("vault-lock", "initiate", "--days", 100)["stage"] == "in-progress"
    assert server.json("vault-lock", "abort")["stage"] == "none"
    assert (lock_of(server, cloud), concerns(server)) == (None, [])
    assert server.json("vault-lock", "abort")["stage"] == "none"


def test_what_does_not_go_on_is_named_and_nothing_is_completed(server: Server, cloud: Cloud) -> None:
    """A policy of the vault that denies uploads, and one that lets everybody delete what is new."""
    glacier, name = cloud.admin("glacier"), load_config(str(server.config)).vault("cold").vault
    deny = {"Effect": "Deny", "Principal": "*", "Resource": "*"}
    vault_arn = glacier.describe_vault(vaultName=name)["VaultARN"]
    for action, failed in (
        ("glacier:InitiateMultipartUpload", {"backup", "deletion"}),
        ("glacier:InitiateJob", {"restore"}),
    ):
        statement = {**deny, "Resource": vault_arn, "Action": action}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        glacier.set_vault_access_policy(vaultName=name, policy={"Policy": policy})
        begun = server.json("vault-lock", "initiate", "--days", 100, exit_code=3)
        assert {trial["what"] for trial in begun["trials"] if not trial["well"]} == failed
        told = " ".join(server.fails(1, "vault-lock", "complete", "--yes-forever", "cold").split())
        assert "is not completed, as something does not go on" in told
        assert lock_of(server, cloud)["State"] == "InProgress"
        server.done("vault-lock", "abort")
        glacier.delete_vault_access_policy(vaultName=name)


def test_cut_at_each_call(server: Server, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it takes effect, and after: the same command, or `abort`, goes on."""
    real = {name: getattr(GlacierLocking, name) for name in ("initiate_lock", "complete_lock", "abort_lock")}

    def cut(name: str, *, after: bool) -> None:
        def call(self: Any, *given: Any) -> Any:
            if after:
                real[name](self, *given)
            raise UnreachableError("no power")

        monkeypatch.setattr(GlacierLocking, name, call)

    def whole(name: str) -> None:
        monkeypatch.setattr(GlacierLocking, name, real[name])

    begin = ("vault-lock", "initiate", "--days", 100)
    cut("initiate_lock", after=False)
    server.run(*begin)
    assert lock_of(server, cloud) is None
    cut("initiate_lock", after=True)
    server.run(*begin)
    whole("initiate_lock")
    assert lock_of(server, cloud)["State"] == "InProgress"
    assert "whose id it does not know" in " ".join(server.fails(2, "vault-lock", "complete").split())
    for after in (False, True):
        cut("abort_lock", after=after)
        server.run("vault-lock", "abort")
        whole("abort_lock")
        server.done("vault-lock", "abort")
        assert lock_of(server, cloud) is None
        server.done(*begin)
    words = ("vault-lock", "complete", "--yes-forever", "cold")
    cut("complete_lock", after=False)
    server.run(*words)
    assert lock_of(server, cloud)["State"] == "InProgress"
    cut("complete_lock", after=True)
    server.run(*words)
    assert lock_of(server, cloud)["State"] == "Locked"
    assert server.json(*words)["stage"] == "locked"
    with closing(opened(load_config(str(server.config)))) as inventory, inventory.reading() as tx:
        (found,) = vault_locks(tx).values()
    assert found.locked_at is not None


def test_no_role_of_a_server_may_do_it(server: Server, cloud: Cloud) -> None:
    """By the policies that are printed; a person's is of its own."""
    documents = server.json("aws", "policy")
    person = json.dumps(documents.pop("vault-lock"))
    assert "glacier:CompleteVaultLock" in person
    assert "Delete" not in person
    roles = json.dumps({name: documents[name] for name in ("backup", "restore", "prune", "keeper")})
    assert "InitiateVaultLock" not in roles
    assert "CompleteVaultLock" not in roles


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_other_vaults_refuse(
    tmp_path: Path, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    words = {"s3": "is a bucket: `lock`", "directory": "is a directory: it has no lock"}[kind]
    if kind == "s3":
        server = bucket_server(tmp_path, emulator, monkeypatch, lock="")
    else:
        server = directory_server(tmp_path)
        server.init()
    for command in (("initiate", "--days", 9), ("complete",), ("abort",)):
        assert words in " ".join(server.fails(2, "vault-lock", *command).split())


def test_the_policy_keeps_what_is_younger() -> None:
    now = datetime(2026, 12, 3, tzinfo=UTC)
    policy = policy_for("arn:aws:glacier:eu-central-1:123456789012:vaults/nightly", 30)
    young = refusal_by(policy, now - timedelta(days=29), now)
    assert young is not None
    assert young.kept_until == now + timedelta(days=1)
    assert refusal_by(policy, now - timedelta(days=30), now) is None
