"""`setup aws` for a config with several vaults in AWS: one set-up is for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from backup.app.aws_setup.calls import AwsCalls
from backup.config import load_config
from tests.support.aws_admin import admin_client
from tests.support.aws_setups import EMPTY, become, emulated_account, new_server, set_up, state_of
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator
from tests.support.servers import HurryingClock, Server
from tests.support.trees import assert_same_tree

FIRST, SECOND = (f"nightvault{name}-{ACCOUNT_ID}-{REGION}-an" for name in ("", "-ice"))
BUCKETS = {"cold": FIRST, "ice": SECOND}
KINDS = {"cold": "s3", "ice": "s3", "glass": "glacier"}


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws") as running:
        become(monkeypatch, running)
        yield running


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator) -> Server:
    """A server with two buckets and a Glacier vault, a job for each; nothing of it is set up."""
    made = new_server(tmp_path / "web1", emulator, "s3")
    add_vault(made, "ice", "s3", "path_style = true")
    add_vault(made, "glass", "glacier", 'vault = "glass"')
    return made


def add_vault(server: Server, name: str, kind: str, line: str, region: str = REGION) -> None:
    with server.config.open("a") as file:
        file.write(
            f'\n[[vault]]\nname = "{name}"\nkind = "{kind}"\nregion = "{region}"\n{line}\n'
            f'\n[[job]]\nname = "{name}"\nvault = "{name}"\nsources = ["{server.source}"]\n'
        )


def roles_of(emulator: RunningEmulator) -> Mapping[str, str]:
    """The inline policy of each role, as text."""
    return {name: json.dumps(role["policies"]) for name, role in state_of(emulator)["roles"].items()}


def test_from_nothing_to_backups_in_all_and_back(
    emulator: RunningEmulator, server: Server, tmp_path: Path
) -> None:
    plan = server.json(*set_up(server, "plan"))
    buckets = {name: f'name = "{name}": bucket = "{bucket}"' for name, bucket in BUCKETS.items()}
    assert {line for line in plan["config_lines"] if "bucket" in line} == set(buckets.values())
    made = [step["name"] for step in plan["steps"] if step["verb"] == "make"]
    roles = [f"nightvault-{purpose}" for purpose in ("backup", "restore", "prune")]
    assert sorted(made) == sorted([FIRST, SECOND, "glass", *roles, "nightvault", "nightvault"])
    text = server.done(*set_up(server, "plan")).stdout
    assert all(f"in vault {name} 0.0" in text for name in KINDS)
    server.done(*set_up(server, "apply", "--yes"))
    config = load_config(str(server.config))
    assert [vault.bucket for vault in config.vaults] == [FIRST, SECOND, None]
    assert {vault.role_arn for vault in config.vaults} == {f"arn:aws:iam::{ACCOUNT_ID}:role/{roles[0]}"}
    state = state_of(emulator)
    assert set(state["buckets"]) == {FIRST, SECOND}
    assert set(state["vaults"]) == {"glass"}
    (profile,) = state["profiles"]
    assert len(profile["roleArns"]) == 3
    assert "there is nothing to do" in server.done(*set_up(server, "status")).stdout
    server.init()
    assert {report["outcome"] for report in server.json("backup")} == {"done"}
    found = server.json("doctor", exit_code=1)["findings"]
    assert {finding["check"] for finding in found if finding["level"] == "critical"} == {"recovery-key"}, (
        found
    )
    for snapshot in server.json("snapshots"):
        out = tmp_path / str(snapshot["job"])
        assert_same_tree(server.restore(out, snapshot=snapshot["id"]), server.source)


def test_each_step_is_done_once_and_nothing_is_left(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = AwsCalls.call, list[str]()

    def call(self: AwsCalls, service: str, operation: str, **given: Any) -> Any:
        asked.append(operation)
        return real(self, service, operation, **given)

    with monkeypatch.context() as patch:
        patch.setattr(AwsCalls, "call", call)
        steps = server.json(*set_up(server, "plan"))["steps"]
    assert len(asked) == 13, "what the vaults share is looked for once"
    plan = [
        line for line in server.done(*set_up(server, "plan")).stdout.splitlines() if line[2:4] in {"+ ", "~ "}
    ]
    assert len(plan) == len(set(plan)) == len({(step["kind"], step["name"]) for step in steps})
    assert done(server, "apply") == [f"{step['verb']} {step['kind']} {step['name']}" for step in steps]
    assert "what carried the tag is gone" in server.done(*set_up(server, "destroy", "--yes")).stdout
    assert state_of(emulator) == EMPTY


def done(server: Server, mode: str) -> list[str]:
    """The steps that a command says it has done."""
    told = server.done(*set_up(server, mode, "--yes")).stderr
    lines = (line for line in told.splitlines() if line.startswith("done: "))
    return [line.removeprefix("done: ").partition(":")[0] for line in lines]


def test_what_is_removed_is_removed_once(emulator: RunningEmulator, server: Server) -> None:
    server.done(*set_up(server, "apply", "--yes"))
    s3 = admin_client(emulator, "s3")
    tag = {"Key": "nightvault:setup", "Value": "nightvault"}
    where = {"LocationConstraint": REGION, "Tags": [tag]}
    s3.create_bucket(Bucket="one-of-before", CreateBucketConfiguration=where)
    assert isinstance(server.clock, HurryingClock)
    sleeps = server.clock.sleeps
    removed = [line for line in done(server, "destroy") if line.startswith("delete")]
    assert "delete bucket one-of-before" in removed
    assert len(removed) == len(set(removed))
    assert server.clock.sleeps == sleeps, "nothing was tried that could not be"
    assert state_of(emulator) == EMPTY


def test_each_may_do_its_work_in_each_vault_and_no_more(emulator: RunningEmulator, server: Server) -> None:
    server.done(*set_up(server, "apply", "--yes"))
    for name, policy in roles_of(emulator).items():
        for place in (f":::{FIRST}", f":::{SECOND}", ":vaults/glass"):
            assert place in policy
        assert ("Delete" in policy) == (name == "nightvault-prune")


def test_a_vault_that_comes_later(emulator: RunningEmulator, tmp_path: Path) -> None:
    """What was set up stays as it is, but for the roles' policies; backups go on meanwhile."""
    server = new_server(tmp_path / "web1", emulator, "s3")
    server.done(*set_up(server, "apply", "--yes"))
    server.init()
    before = state_of(emulator)
    add_vault(server, "ice", "s3", "path_style = true")
    assert server.json("backup", "main")[0]["outcome"] == "done"
    assert "vault ice is not set up in AWS yet" in server.fails(2, "backup", "ice")
    steps = server.json(*set_up(server, "plan"))["steps"]
    assert {(step["verb"], step["kind"]) for step in steps if step["name"] != SECOND} == {("change", "role")}
    server.done(*set_up(server, "apply", "--yes"))
    after = state_of(emulator)
    assert {key: after[key] for key in ("anchors", "profiles")} == {
        key: before[key] for key in ("anchors", "profiles")
    }
    assert after["buckets"][FIRST] == before["buckets"][FIRST]
    server.done("init", "--non-interactive")
    assert {report["outcome"] for report in server.json("backup")} == {"done"}


def test_one_vault_alone_cuts_no_other_off(emulator: RunningEmulator, server: Server) -> None:
    server.done(*set_up(server, "apply", "--yes", "--vault", "ice"))
    assert set(state_of(emulator)["buckets"]) == {FIRST}
    config = load_config(str(server.config))
    assert [vault.name for vault in config.vaults if not config.gaps_of(vault)] == ["ice"]
    whole = state_of(emulator)
    said = server.fails(1, *set_up(server, "apply", "--yes", "--vault", "cold"))
    assert "vault ice of this config has roles, too" in said
    assert "leave --vault out" in said
    assert state_of(emulator) == whole
    server.done(*set_up(server, "apply", "--yes"))
    whole = state_of(emulator)
    said = server.fails(1, *set_up(server, "destroy", "--yes", "--vault", "cold"))
    assert "vault ice of this config has nightvault-backup and" in said
    assert state_of(emulator) == whole


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
def test_cut_at_every_call_that_changes_something(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The command given again makes what is missing, and nothing twice; so does the removal."""
    text = server.config.read_text()
    server.done(*set_up(server, "apply", "--yes"))
    whole = state_of(emulator)
    for mode, wanted in (("destroy", EMPTY), ("apply", whole)):
        calls = 0
        while cut(monkeypatch, server, mode, calls, after=after):
            calls += 1
            assert calls < 60
        assert calls >= 8
        assert state_of(emulator) == wanted
        server.config.write_text(text if mode == "destroy" else server.config.read_text())


def cut(monkeypatch: pytest.MonkeyPatch, server: Server, mode: str, calls: int, *, after: bool) -> bool:
    """Cut a command off at one call that changes something; whether there was one to be cut at.

    It is cut after its first and its second in turn. Before its second, else it would not get on: so each
    but the first is cut before once, and that one at the beginning.
    """
    real, left = AwsCalls.call, [1 if (calls % 2 if after else calls == 0) else 2]

    def call(self: AwsCalls, service: str, operation: str, **given: Any) -> Any:
        if operation.startswith(("get_", "list_", "describe_", "head_")):
            return real(self, service, operation, **given)
        left[0] -= 1
        if left[0] == 0:
            if after:
                real(self, service, operation, **given)
            raise KeyboardInterrupt
        return real(self, service, operation, **given)

    with monkeypatch.context() as patch:
        patch.setattr(AwsCalls, "call", call)
        result = server.run(*set_up(server, mode, "--yes"))
    assert result.exit_code in {0, 130}, result.output
    return result.exit_code == 130


def test_vaults_with_roles_of_their_own(emulator: RunningEmulator, server: Server, tmp_path: Path) -> None:
    """As the config names them; all are in the one profile, and in what is exported."""
    arns = "".join(
        f'{key} = "arn:aws:iam::{ACCOUNT_ID}:role/ice-{purpose}"\n'
        for key, purpose in (("role_arn", "backup"), ("restore_role_arn", "restore"))
    )
    text = server.config.read_text().replace('name = "ice"\nkind', f'name = "ice"\n{arns}kind')
    server.config.write_text(text)
    export(server, "--terraform", tmp_path / "tf", "--cloudformation", tmp_path / "template.json")
    server.done(*set_up(server, "apply", "--yes", lets_delete=False))
    policies = roles_of(emulator)
    assert set(policies) == {
        f"{name}-{purpose}" for name in ("nightvault", "ice") for purpose in ("backup", "restore")
    }
    assert FIRST not in policies["ice-backup"]
    assert SECOND not in policies["nightvault-backup"]
    assert len(state_of(emulator)["profiles"][0]["roleArns"]) == 4
    written = {path.name: path.read_text() for path in (tmp_path / "tf").iterdir()}
    assert json.loads(written["backup_2.json"]) == json.loads(policies["ice-backup"])["nightvault"]
    assert {"bucket.json", "bucket_2.json", "backup.json", "restore_2-trust.json"} <= written.keys()
    for name in ("nightvault", "nightvault_2"):
        assert f'resource "aws_s3_bucket" "{name}"' in written["main.tf"]
    assert 'resource "aws_glacier_vault" "nightvault_3"' in written["main.tf"]
    made = json.loads((tmp_path / "template.json").read_text())["Resources"]
    assert made["Bucket"]["Properties"]["BucketName"] == FIRST
    assert made["Bucket2"]["Properties"]["BucketName"] == SECOND
    assert made["BucketPolicy2"]["Properties"]["Bucket"] == {"Ref": "Bucket2"}
    assert made["BackupRole2"]["Properties"]["RoleName"] == "ice-backup"
    assert len(made["Profile"]["Properties"]["RoleArns"]) == 4


def export(server: Server, *words: object) -> None:
    server.done("setup", "export", "--ca", server.folder / "ca" / "ca.pem", *words)


def test_two_vaults_in_one_bucket(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Its policy is for both; neither apply changes what the other made."""
    server = new_server(tmp_path / "web1", emulator, "s3")
    text = server.config.read_text()
    server.config.write_text(text.replace("path_style", 'bucket = "both-of-them"\nprefix = "a/"\npath_style'))
    add_vault(server, "ice", "s3", 'bucket = "both-of-them"\nprefix = "b/"\npath_style = true')
    server.done(*set_up(server, "apply", "--yes"))
    (policy,) = [bucket["policy"] for bucket in state_of(emulator)["buckets"].values()]
    for keys in ("a/data/*", "b/data/*"):
        assert f"both-of-them/{keys}" in policy
    assert "there is nothing to do" in server.done(*set_up(server, "status")).stdout
    server.init()
    assert {report["outcome"] for report in server.json("backup")} == {"done"}
    export(server, "--terraform", tmp_path / "tf")
    assert (tmp_path / "tf" / "main.tf").read_text().count('resource "aws_s3_bucket" ') == 1


def test_a_vault_in_another_region(emulator: RunningEmulator, server: Server, tmp_path: Path) -> None:
    add_vault(server, "far", "s3", "path_style = true", region="eu-west-1")
    said = server.fails(
        2, "setup", "export", "--ca", server.folder / "ca" / "ca.pem", "--terraform", tmp_path / "tf"
    )
    assert "is to be in eu-west-1" in said
    export(server, "--cli", tmp_path / "set-up.sh")
    script = (tmp_path / "set-up.sh").read_text()
    assert "--region eu-west-1" in script
    assert "--region eu-central-1" not in script
    server.done(*set_up(server, "apply", "--yes"))
    far = f"nightvault-{ACCOUNT_ID}-eu-west-1-an"
    where = admin_client(emulator, "s3").get_bucket_location(Bucket=far)["LocationConstraint"]
    assert where == "eu-west-1"
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def test_a_policy_that_iam_would_not_take_is_told_before(emulator: RunningEmulator, server: Server) -> None:
    for number in range(24):
        add_vault(server, f"more{number}", "s3", f'bucket = "one-more-of-many-buckets-{number}"')
    said = server.fails(1, *set_up(server, "apply", "--yes"))
    assert "and IAM takes 10,240" in said
    assert state_of(emulator) == EMPTY
