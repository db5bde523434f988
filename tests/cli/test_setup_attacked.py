"""`setup aws` where others are at work: in the account, in the config, and where AWS is slow or says no."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.app.aws_setup import calls as set_up_calls
from backup.app.aws_setup import config_file
from backup.app.aws_setup.calls import AwsCalls
from backup.app.base.clock import SystemClock
from tests.support.aws_admin import admin_client, document
from tests.support.aws_setups import ADMIN, EMPTY, become, emulated_account, new_server, set_up, state_of
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, StaticKey, write_accounts
from tests.support.s3_clients import client
from tests.support.servers import SCRIPT, Server

LOCATION = {"LocationConstraint": REGION}
OURS = {"nightvault:setup": "nightvault"}
TRUST = document(
    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws") as running:
        become(monkeypatch, running)
        yield running


@pytest.fixture(autouse=True)
def _every_call_names_the_owner(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a set-up asks of a bucket, the account that it must belong to is in the call."""
    real, bare = set_up_calls.AwsCalls.call, list[str]()

    def call(self: AwsCalls, service: str, named: str, **parameters: Any) -> Any:
        if service == "s3" and named not in ("create_bucket", "list_buckets"):
            bare.extend([] if "ExpectedBucketOwner" in parameters else [named])
        return real(self, service, named, **parameters)

    monkeypatch.setattr(set_up_calls.AwsCalls, "call", call)
    yield
    assert bare == []


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator) -> Server:
    """A server that a bucket is made for."""
    return new_server(tmp_path / "web1", emulator, "s3")


def shown(server: Server, mode: str, *words: object) -> str:
    """What the command prints, on one line."""
    return " ".join(server.run(*set_up(server, mode, *words)).output.split())


def make_bucket(emulator: RunningEmulator, name: str, **tags: str) -> Any:
    """A bucket of somebody, with tags."""
    s3 = admin_client(emulator, "s3")
    made = {**LOCATION, "Tags": [{"Key": key.replace("__", ":"), "Value": tag} for key, tag in tags.items()]}
    s3.create_bucket(Bucket=name, CreateBucketConfiguration=made if tags else LOCATION)
    return s3


def at(monkeypatch: pytest.MonkeyPatch, operation: str, happens: Callable[[], object]) -> None:
    """Let something happen just before the first call of an operation."""
    real, done = set_up_calls.AwsCalls.call, list[str]()

    def call(self: AwsCalls, service: str, named: str, **parameters: Any) -> Any:
        if named == operation and not done:
            done.append(named)
            happens()
        return real(self, service, named, **parameters)

    monkeypatch.setattr(set_up_calls.AwsCalls, "call", call)


def test_a_bucket_and_a_vault_that_the_config_names_no_more(
    emulator: RunningEmulator, server: Server
) -> None:
    """Shown by --status, removed by --destroy if they are empty, named if they are not."""
    server.done(*set_up(server, "apply", "--yes"))
    old = next(iter(state_of(emulator)["buckets"]))
    server.config.write_text(server.config.read_text().replace(f'"{old}"', '"another-bucket"'))
    server.done(*set_up(server, "apply", "--yes"))
    glacier = admin_client(emulator, "glacier")
    for number in range(12):  # more than a page of vaults
        glacier.create_vault(vaultName=f"v{number:02}")
    for number in (3, 11):
        glacier.add_tags_to_vault(vaultName=f"v{number:02}", Tags=OURS)
    glacier.add_tags_to_vault(vaultName="v04", Tags={"nightvault:setup": "other"})
    s3 = make_bucket(emulator, "full-of-others")
    make_bucket(emulator, "of-other", nightvault__setup="other")
    s3.put_object(Bucket=old, Key="data/x", Body=b"", StorageClass="GLACIER", IfNoneMatch="*")
    told = shown(server, "status")
    assert f"bucket {old} carries the tag nightvault:setup=nightvault" in told
    assert "vault v03 carries the tag" in told
    assert "vault v11 carries the tag" in told
    assert "of-other" not in told
    gone = server.json(*set_up(server, "destroy", "--yes"))
    assert "it is not empty, and stays" in gone["left"][0]
    left = state_of(emulator)
    assert set(left["buckets"]) == {old, "full-of-others", "of-other"}
    assert set(left["vaults"]) == {f"v{number:02}" for number in range(12)} - {"v03", "v11"}
    assert {**left, "buckets": {}, "vaults": {}} == EMPTY
    s3.delete_object(Bucket=old, Key="data/x", IfMatch="*")
    server.done(*set_up(server, "destroy", "--yes"))
    assert set(state_of(emulator)["buckets"]) == {"full-of-others", "of-other"}


STRANGER = StaticKey("AKIASTRANGER", "their-secret")
TAKEN = "taken-by-a-stranger"


def of_a_stranger(emulator: RunningEmulator, tmp_path: Path, *keys: StaticKey) -> Any:
    """A bucket in another account, open to everybody, with our tag; its owner's client."""
    accounts = tmp_path / "aws" / "accounts.toml"
    write_accounts(accounts, keys=[ADMIN, *keys], others={"999999999999": STRANGER})
    s3 = client(emulator.s3_url, STRANGER.access_key_id, STRANGER.secret_access_key)
    made = {**LOCATION, "Tags": [{"Key": "nightvault:setup", "Value": "nightvault"}]}
    s3.create_bucket(Bucket=TAKEN, CreateBucketConfiguration=made)
    s3.delete_public_access_block(Bucket=TAKEN)
    open_to_all = {"Effect": "Allow", "Principal": "*", "Action": "s3:*"}
    s3.put_bucket_policy(
        Bucket=TAKEN,
        Policy=document({**open_to_all, "Resource": [f"arn:aws:s3:::{TAKEN}{end}" for end in ("", "/*")]}),
    )
    return s3


def test_a_bucket_of_another_account_is_named_and_left_alone(
    emulator: RunningEmulator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open to everybody and with our tag: it was used as ours, and its policy replaced."""
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    no_lists = {"Effect": "Deny", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
    no_heads = {"Effect": "Deny", "Action": "s3:ListBucket", "Resource": "*"}
    alice = StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=document(allowed, no_lists))
    bob = StaticKey("AKIABOBBOBBOBBOBBOBB", "secret", user="bob", policy=document(allowed, no_heads))
    theirs = of_a_stranger(emulator, tmp_path, alice, bob)
    before = theirs.get_bucket_policy(Bucket=TAKEN)["Policy"]
    named = server.config.read_text().replace('kind = "s3"\n', f'kind = "s3"\nbucket = "{TAKEN}"\n')
    server.config.write_text(named)
    told = f"bucket {TAKEN} belongs to another account than {ACCOUNT_ID}"
    assert told in shown(server, "plan")
    assert told in shown(server, "apply", "--yes")
    assert state_of(emulator) == EMPTY
    assert f"bucket {TAKEN}: it belongs to another account" in shown(server, "destroy", "--yes")
    become(monkeypatch, emulator, alice.access_key_id, alice.secret_access_key)
    assert f"bucket {TAKEN} may belong to another account than {ACCOUNT_ID}" in shown(server, "plan")
    become(monkeypatch, emulator)
    server.config.write_text(named.replace('kind = "s3"', 'kind = "s3"\naccount_id = "999999999999"'))
    assert f"make bucket {TAKEN}" not in shown(server, "plan")
    assert theirs.get_bucket_policy(Bucket=TAKEN)["Policy"] == before
    theirs.delete_bucket(Bucket=TAKEN)
    assert f"bucket {TAKEN} is to be in account 999999999999 (account_id)" in shown(server, "plan")
    make_bucket(emulator, TAKEN)
    server.config.write_text(named)
    become(monkeypatch, emulator, bob.access_key_id, bob.secret_access_key)
    said = shown(server, "plan")
    assert "another account" not in said
    assert "s3:ListBucket" in said


def test_who_may_not_look_for_them_is_told_so(
    emulator: RunningEmulator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no failure: all the rest is done."""
    server.done(*set_up(server, "apply", "--yes"))
    make_bucket(emulator, "closed")
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    closed = {"Effect": "Deny", "Action": "s3:GetBucketTagging", "Resource": "arn:aws:s3:::closed"}
    lists = {"Effect": "Deny", "Action": ["s3:ListAllMyBuckets", "glacier:ListVaults"], "Resource": "*"}
    for denied, said in (
        (lists, ("(s3:ListAllMyBuckets)", "(glacier:ListVaults)")),
        (closed, ("you may not see the tags may be of this set-up: closed",)),
    ):
        alice = StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=document(allowed, denied))
        write_accounts(tmp_path / "aws" / "accounts.toml", keys=[ADMIN, alice])
        become(monkeypatch, emulator, alice.access_key_id, alice.secret_access_key)
        told = " ".join(server.done(*set_up(server, "status")).stdout.split())
        assert all(text in told for text in said), told


def test_a_second_server_by_the_same_name_cuts_nobody_off(
    emulator: RunningEmulator, server: Server, tmp_path: Path
) -> None:
    """Neither by --apply nor by --destroy; with a name of its own it is set up, and the first one stays."""
    server.done(*set_up(server, "apply", "--yes"))
    before = state_of(emulator)
    second = new_server(tmp_path / "web2", emulator, "s3")
    second.done(
        *("ca", "issue", "web2", "--dir", server.folder / "ca", "--out", second.folder / "identity"),
        *("--organization", "Test", "--unit", "Servers"),
    )
    text = second.config.read_text().replace("web1.pem", "web2.pem").replace("web1.key", "web2.key")
    second.config.write_text(text)
    ca = ("--ca", server.folder / "ca" / "ca.pem")
    for mode in ("apply", "destroy"):
        said = second.fails(1, "setup", "aws", f"--{mode}", "--yes", *ca)
        assert "is for CN=web1" in said
        assert "choose another name (--name)" in said
        assert state_of(emulator) == before
    second.done("setup", "aws", "--apply", "--yes", *ca, "--name", "web2")
    assert len(state_of(emulator)["roles"]) == 5
    second.done("setup", "aws", "--destroy", "--yes", *ca, "--name", "web2")
    assert state_of(emulator) == before


def test_a_config_that_somebody_else_changes_meanwhile(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they wrote stays as it is; the next call adds the ARNs."""
    changed = server.config.read_text().replace("[[vault]]\n", '[[vault]]\npack_size = "16MiB" # ours\n')
    with monkeypatch.context() as patch:
        at(patch, "create_profile", lambda: server.config.write_text(changed))
        said = server.fails(2, *set_up(server, "apply", "--yes"))
    assert "was changed meanwhile: the ARNs were not put into it" in said
    assert "AWS is set up: run the command again" in said
    assert server.config.read_text() == changed
    state = state_of(emulator)
    server.done(*set_up(server, "apply", "--yes"))
    assert state_of(emulator) == state
    assert 'pack_size = "16MiB" # ours' in server.config.read_text()
    assert "trust_anchor_arn" in server.config.read_text()


@pytest.mark.parametrize("step", ["create_durably", "write_durably"])
def test_a_cut_while_the_config_is_written(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The config is the old one or the new one; applied again, the same AWS is in it."""
    old = server.config.read_text()

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(config_file, step, cut)
        server.run(*set_up(server, "apply", "--yes"))
    assert server.config.read_text() == old
    state = state_of(emulator)
    server.done(*set_up(server, "apply", "--yes"))
    assert state_of(emulator) == state
    assert "there is nothing to do" in shown(server, "status")
    assert "profile_arn" in server.config.read_text()


def test_a_role_that_somebody_else_makes_meanwhile_is_not_touched(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    iam = admin_client(emulator, "iam")

    def make() -> None:
        iam.create_role(RoleName="nightvault-backup", AssumeRolePolicyDocument=TRUST)

    with monkeypatch.context() as patch:
        at(patch, "create_role", make)
        said = server.fails(1, *set_up(server, "apply", "--yes"))
    assert "role nightvault-backup is there and does not carry the tag" in said
    assert iam.get_role(RoleName="nightvault-backup")["Role"]["AssumeRolePolicyDocument"] == json.loads(TRUST)
    assert iam.list_role_policies(RoleName="nightvault-backup")["PolicyNames"] == []
    iam.delete_role(RoleName="nightvault-backup")
    server.done(*set_up(server, "apply", "--yes"))
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def test_what_somebody_else_removes_in_the_middle_of_a_destroy(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.done(*set_up(server, "apply", "--yes"))
    iam = admin_client(emulator, "iam")

    def remove() -> None:
        iam.delete_role_policy(RoleName="nightvault-prune", PolicyName="nightvault")
        iam.delete_role(RoleName="nightvault-prune")

    with monkeypatch.context() as patch:
        at(patch, "delete_trust_anchor", remove)
        server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def test_a_denial_in_the_middle_of_a_destroy(
    emulator: RunningEmulator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement that is missing is told; once it is granted, the rest goes."""
    server.done(*set_up(server, "apply", "--yes"))
    allowed = {"Effect": "Allow", "NotAction": ["iam:DeleteRole", "s3:DeleteBucket"], "Resource": "*"}
    granted = [allowed]
    for action in ("iam:DeleteRole",) * 3 + ("s3:DeleteBucket",):
        alice = StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=document(*granted))
        write_accounts(tmp_path / "aws" / "accounts.toml", keys=[ADMIN, alice])
        become(monkeypatch, emulator, alice.access_key_id, alice.secret_access_key)
        said = server.run(*set_up(server, "destroy", "--yes"))
        assert said.exit_code == 14, said.output
        statement = json.JSONDecoder().raw_decode(said.stderr[said.stderr.index("{\n") :])[0]
        assert statement["Action"] == action
        granted.append(statement)
    become(monkeypatch, emulator)
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def test_a_vault_that_was_written_to_since_its_inventory_is_left(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Its number of archives is a day old: Glacier itself says that it is not empty."""
    server = new_server(tmp_path / "web1", emulator, "glacier")
    server.done(*set_up(server, "apply", "--yes"))
    server.init()
    server.backup()
    told = " ".join(server.done(*set_up(server, "destroy", "--yes")).stdout.split())
    assert "vault nightly: it is not empty, or was written to since its last inventory" in told
    left = state_of(emulator)
    assert left == {**EMPTY, "vaults": {"nightly": OURS}}


def test_what_aws_shows_late_is_waited_for(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list shows a new trust anchor seconds later: it is not made twice, and the config gets its ARN."""
    real, late = set_up_calls.AwsCalls.call, [2]

    def call(self: AwsCalls, service: str, named: str, **parameters: Any) -> Any:
        answer = real(self, service, named, **parameters)
        if named == "list_trust_anchors" and answer["trustAnchors"] and late[0]:
            late[0] -= 1
            return {"trustAnchors": []}
        return answer

    monkeypatch.setattr(set_up_calls.AwsCalls, "call", call)
    said = server.done(*set_up(server, "apply", "--yes")).stderr
    assert said.count("waiting: AWS does not show yet what was done: trust anchor nightvault") == 1
    (anchor,) = admin_client(emulator, "rolesanywhere").list_trust_anchors()["trustAnchors"]
    assert anchor["trustAnchorArn"] in server.config.read_text()
    late[0] = 1000
    monkeypatch.setattr(set_up_calls.AwsCalls, "call", real)
    server.done(*set_up(server, "destroy", "--yes"))
    monkeypatch.setattr(set_up_calls.AwsCalls, "call", call)
    said = server.fails(1, *set_up(server, "apply", "--yes"))
    assert "AWS took trust anchor nightvault, and does not show it after a minute" in said
    monkeypatch.setattr(set_up_calls.AwsCalls, "call", real)
    server.done(*set_up(server, "apply", "--yes"))
    assert len(state_of(emulator)["anchors"]) == 1


@pytest.mark.parametrize("mode", ["apply", "destroy"])
def test_throttled_at_every_call(emulator: RunningEmulator, server: Server, mode: str) -> None:
    """Every third call of any kind is put off."""
    if mode == "destroy":
        server.done(*set_up(server, "apply", "--yes"))
    fault = {"operation": "*", "code": "ThrottlingException", "status": 429, "skip": 2, "count": 1}
    emulator.set_faults([{**fault, "repeat": True}])
    subjects = ("--subject", "web1", "--unit", "Servers", "--prune-subject", "web1")
    server.done(*set_up(server, mode, "--yes", *subjects))
    assert emulator.faults()[0]["met"] > 5
    emulator.set_faults([])
    if mode == "apply":
        assert "there is nothing to do" in shown(server, "status")
        server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def test_every_list_is_read_to_its_end(emulator: RunningEmulator, server: Server) -> None:
    """Pages of one, of each list that is asked for."""
    server.done(*set_up(server, "apply", "--yes"))
    server.done("ca", "crl", "--dir", server.folder / "ca")
    server.done(*set_up(server, "apply", "--yes", "--crl", server.folder / "ca" / "crl.pem"))
    anywhere, iam = admin_client(emulator, "rolesanywhere"), admin_client(emulator, "iam")
    (anchor,) = anywhere.list_trust_anchors()["trustAnchors"]
    pem = (server.folder / "ca" / "crl.pem").read_bytes()
    for number in range(2):
        made = anywhere.create_trust_anchor(name=f"n{number}", source=anchor["source"])["trustAnchor"]
        anywhere.create_profile(name=f"n{number}", roleArns=[f"arn:aws:iam::{ACCOUNT_ID}:role/none"])
        anywhere.import_crl(name=f"n{number}", crlData=pem, trustAnchorArn=made["trustAnchorArn"])
        policy = document({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"})
        iam.put_role_policy(RoleName="nightvault-backup", PolicyName=f"n{number}", PolicyDocument=policy)
        make_bucket(emulator, f"bucket-{number}")
        admin_client(emulator, "glacier").create_vault(vaultName=f"n{number}")
    for name in ("AmazonS3ReadOnlyAccess", "AmazonS3FullAccess"):
        iam.attach_role_policy(RoleName="nightvault-backup", PolicyArn=f"arn:aws:iam::aws:policy/{name}")
    calls = AwsCalls(REGION, {}, clock=SystemClock(), vault_region=REGION, path_style=True)
    role = {"RoleName": "nightvault-backup", "MaxItems": 1}
    for service, operation, member, page, most in (
        ("rolesanywhere", "list_trust_anchors", "trustAnchors", {"pageSize": 1}, 3),
        ("rolesanywhere", "list_profiles", "profiles", {"pageSize": 1}, 3),
        ("rolesanywhere", "list_crls", "crls", {"pageSize": 1}, 3),
        ("iam", "list_roles", "Roles", {"MaxItems": 1}, 3),
        ("iam", "list_role_policies", "PolicyNames", role, 3),
        ("iam", "list_attached_role_policies", "AttachedPolicies", role, 2),
        ("glacier", "list_vaults", "VaultList", {"accountId": "-", "limit": "1"}, 2),
        ("s3", "list_buckets", "Buckets", {"MaxBuckets": 1}, 3),
    ):
        assert len(calls.all(service, operation, member, **page)) == most, operation


@pytest.mark.slow
def test_two_at_once(emulator: RunningEmulator, server: Server) -> None:
    """What one of them made too much, the next call takes away; the config names what is there."""
    words = [SCRIPT, "--config", str(server.config), *map(str, set_up(server, "apply", "--yes"))]
    running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        _, told = process.communicate(timeout=120)
        assert b"Traceback" not in told, told
    server.done(*set_up(server, "apply", "--yes"))
    state = state_of(emulator)
    assert (len(state["anchors"]), len(state["profiles"]), len(state["roles"])) == (1, 1, 3)
    (anchor,) = admin_client(emulator, "rolesanywhere").list_trust_anchors()["trustAnchors"]
    assert anchor["trustAnchorArn"] in server.config.read_text()
    server.init()
    assert server.backup()["outcome"] == "done"
