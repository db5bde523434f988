"""`nightvault setup aws` on an empty emulated account: shown, made, used, cut short, taken away."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

import backup.app.base.vaults
from backup.app.aws_setup import calls as set_up_calls
from backup.app.aws_setup.documents import TAG
from backup.app.base.clock import SystemClock
from backup.config import load_config
from tests.support import campaigns
from tests.support.aws_admin import admin_client, document
from tests.support.aws_setups import ADMIN, EMPTY, become, emulated_account, new_server, set_up, state_of
from tests.support.clocks import EmulatorClock
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, StaticKey, write_accounts
from tests.support.servers import HurryingClock, Server
from tests.support.trees import assert_same_tree

BUCKET = f"nightvault-{ACCOUNT_ID}-{REGION}-an"
USER = StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=document())


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws", USER) as running:
        become(monkeypatch, running)
        yield running


@pytest.fixture
def server(tmp_path: Path, emulator: RunningEmulator) -> Server:
    """A server that a bucket is made for."""
    return new_server(tmp_path / "web1", emulator, "s3")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_from_nothing_to_a_backup_and_back(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Apply, init, backup, restore, prune, destroy: nothing is left but what holds archives."""
    server = new_server(tmp_path / "web1", emulator, kind)
    old = server.config.read_text()
    shown = server.done(*set_up(server, "plan")).stdout
    assert "make trust anchor nightvault" in shown
    assert "CreateBucket" not in shown, "the set-up makes the bucket, and no role on the server"
    assert "raise an alert" in shown
    assert state_of(emulator) == EMPTY
    assert server.config.read_text() == old
    server.done(*set_up(server, "apply", "--yes"))
    config = load_config(str(server.config))
    (vault,) = config.vaults
    assert vault.prune_role_arn == f"arn:aws:iam::{ACCOUNT_ID}:role/nightvault-prune"
    assert "# what we back up, and where" in server.config.read_text()
    (copy,) = [path for path in server.folder.iterdir() if path.name.startswith("config.toml.")]
    assert copy.read_text() == old
    assert "there is nothing to do" in (shown := server.done(*set_up(server, "status")).stdout)
    assert "would write" not in shown
    whole = server.config.read_text()
    server.config.write_text(old)
    shown = server.done(*set_up(server, "plan")).stdout
    assert config.roles_anywhere is not None
    assert "would write into the config: " in shown
    assert f'trust_anchor_arn = "{config.roles_anywhere.trust_anchor_arn}"' in shown
    assert server.config.read_text() == old
    server.done(*set_up(server, "apply", "--yes"))
    assert server.config.read_text() == whole
    server.init()
    server.backup()
    assert_same_tree(server.restore(tmp_path / "out"), server.source)
    if kind == "glacier":
        emulator.make_inventories()
    with monkeypatch.context() as patch:  # the vault's clock was stepped, that of certificates was not
        by_given_clock = backup.app.base.vaults.credential_source
        patch.setattr(
            backup.app.base.vaults,
            "credential_source",
            lambda config, settings, purpose, _: by_given_clock(config, settings, purpose, SystemClock()),
        )
        server.clock = EmulatorClock(emulator)
        server.done("prune", "--wait")
    server.clock = HurryingClock(emulator)
    told = server.done(*set_up(server, "destroy", "--yes")).stdout
    assert "is not empty" in told
    left = state_of(emulator)
    assert left == {**EMPTY, "buckets": left["buckets"], "vaults": left["vaults"]}
    empty(emulator, kind)
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


def empty(emulator: RunningEmulator, kind: str) -> None:
    """Delete all archives, as an admin who wants to."""
    if kind == "s3":
        s3 = admin_client(emulator, "s3")
        for stored in s3.list_objects_v2(Bucket=BUCKET)["Contents"]:
            s3.delete_object(Bucket=BUCKET, Key=stored["Key"], IfMatch="*")
        return
    glacier = admin_client(emulator, "glacier")
    job = glacier.initiate_job(vaultName="nightly", jobParameters={"Type": "inventory-retrieval"})
    emulator.advance(5 * 3600)
    listing = json.load(glacier.get_job_output(vaultName="nightly", jobId=job["jobId"])["body"])
    for archive in listing["ArchiveList"]:
        glacier.delete_archive(vaultName="nightly", archiveId=archive["ArchiveId"])
    emulator.make_inventories()


@pytest.mark.parametrize("leaves", ["version", "marker"])
def test_a_bucket_with_nothing_but_old_versions_is_left(
    emulator: RunningEmulator, server: Server, leaves: str
) -> None:
    """S3 would refuse to delete it: it is named before anything is done, and goes once they are gone."""
    s3 = admin_client(emulator, "s3")
    server.done(*set_up(server, "apply", "--yes", "--versioning"))
    given = {"Bucket": BUCKET, "Key": "data/one"}
    made = s3.put_object(**given, Body=b"x", StorageClass="GLACIER", IfNoneMatch="*")["VersionId"]
    marker = s3.delete_object(**given, IfMatch="*")["VersionId"]
    if leaves == "marker":
        s3.delete_object(**given, VersionId=made)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET)
    told = server.done(*set_up(server, "destroy", "--yes")).stdout
    assert f"bucket {BUCKET}: it is not empty (old versions" in " ".join(told.split())
    assert list(state_of(emulator)["buckets"]) == [BUCKET]
    for version in (made, marker):
        s3.delete_object(**given, VersionId=version)
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY


class CutShortError(BaseException):
    """The process is killed."""


def cut_at(monkeypatch: pytest.MonkeyPatch, number: int, *, after: bool) -> list[str]:
    """Let the call of that number be the last, before or after it took effect; the calls that were made."""
    real, made = set_up_calls.AwsCalls.call, list[str]()

    def call(self: Any, service: str, operation: str, **parameters: Any) -> Any:
        made.append(f"{service}:{operation}")
        if len(made) == number and not after:
            raise CutShortError
        answer = real(self, service, operation, **parameters)
        if len(made) == number:
            raise CutShortError
        return answer

    monkeypatch.setattr(set_up_calls.AwsCalls, "call", call)
    return made


EVERY = campaigns.share("NIGHTVAULT_TEST_SETUP_CUTS", 8)
"""Every which call is cut; 1 for all."""

CHANGES = ("create", "put", "add", "import", "update", "delete", "disable", "enable")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_cut_at_every_call_that_changes_something(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Applied again, and destroyed again, it ends in the same state, and nothing was made twice."""
    server = new_server(tmp_path / "web1", emulator, kind)
    old = server.config.read_text()
    cuts = {}
    for mode in ("apply", "destroy"):
        with monkeypatch.context() as patch:
            calls = cut_at(patch, 0, after=False)
            server.done(*set_up(server, mode, "--yes"))
        if mode == "apply":
            whole = state_of(emulator)
        places = [n for n, call in enumerate(calls, 1) if call.partition(":")[2].startswith(CHANGES)]
        assert len(places) >= 8
        cuts[mode] = [(number, after) for number in places[::EVERY] for after in (False, True)]
    for pair in zip_longest(cuts["apply"], cuts["destroy"]):  # each begins where the one before it ended
        server.config.write_text(old)
        for mode, cut, wanted in zip(cuts, pair, (whole, EMPTY), strict=True):
            if cut is not None:
                with monkeypatch.context() as patch:
                    cut_at(patch, cut[0], after=cut[1])
                    with pytest.raises(CutShortError):
                        server.run(*set_up(server, mode, "--yes"))
            server.done(*set_up(server, mode, "--yes"))
            assert state_of(emulator) == wanted, (mode, cut)


def notes_of(server: Server) -> list[Path]:
    """The notes on vaults that are being made."""
    return list(server.config.parent.glob("config.toml.making-*"))


@pytest.mark.parametrize("takes_effect", [False, True])
def test_a_vault_that_was_made_and_not_tagged_is_known_by_its_note(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, takes_effect: bool
) -> None:
    """The process is killed at CreateVault; the note is on the disk before it."""
    server = new_server(tmp_path / "web1", emulator, "glacier")
    with monkeypatch.context() as patch:
        made = cut_at(patch, 0, after=False)
        server.done(*set_up(server, "apply", "--yes"))
        number = made.index("glacier:create_vault") + 1
    server.done(*set_up(server, "destroy", "--yes"))
    assert notes_of(server) == []

    def cut() -> None:
        with monkeypatch.context() as patch:
            cut_at(patch, number, after=takes_effect)
            with pytest.raises(CutShortError):
                server.run(*set_up(server, "apply", "--yes"))
        assert state_of(emulator)["vaults"] == ({"nightly": {}} if takes_effect else {})

    cut()
    (note,) = notes_of(server)
    assert json.loads(note.read_text())["making"] == {
        "setup": "nightvault", "account": ACCOUNT_ID, "region": REGION, "vault": "nightly",
    }  # fmt: skip
    if takes_effect:
        told = server.done(*set_up(server, "destroy", "--yes", "--name", "other")).stdout
        assert "it does not carry the tag" in told
        kept = note.read_text()
        note.write_text(kept.replace('"nightly"', '"weekly"'))
        assert "it does not carry the tag" in server.done(*set_up(server, "destroy", "--yes")).stdout
        note.write_text(kept)
    server.done(*set_up(server, "destroy", "--yes"))
    assert state_of(emulator) == EMPTY
    assert notes_of(server) == []
    cut()
    server.done(*set_up(server, "apply", "--yes"))
    assert state_of(emulator)["vaults"] == {"nightly": {"nightvault:setup": "nightvault"}}
    assert notes_of(server) == []


def test_lost_answers_make_nothing_twice(emulator: RunningEmulator, server: Server) -> None:
    """The answer of a change is lost after it took effect."""
    faults = [
        {"operation": operation, "reset": True, "after": True, "count": 1}
        for operation in (*("s3:CreateBucket", "rolesanywhere:CreateTrustAnchor", "iam:CreateRole"),)
    ]
    for fault in faults:
        emulator.set_faults([fault])
        server.done(*set_up(server, "apply", "--yes"))
        assert emulator.faults()[0]["met"] == 1
        emulator.set_faults([])
        state = state_of(emulator)
        assert (len(state["anchors"]), len(state["profiles"]), len(state["roles"])) == (1, 1, 3)
        server.done(*set_up(server, "destroy", "--yes"))
        assert state_of(emulator) == EMPTY


def test_what_somebody_changed_is_set_right_and_what_is_not_ours_is_left(
    emulator: RunningEmulator, server: Server
) -> None:
    server.done(*set_up(server, "apply", "--yes"))
    whole = state_of(emulator)
    anywhere, iam = admin_client(emulator, "rolesanywhere"), admin_client(emulator, "iam")
    (anchor,) = anywhere.list_trust_anchors()["trustAnchors"]
    anywhere.disable_trust_anchor(trustAnchorId=anchor["trustAnchorId"])
    anywhere.create_trust_anchor(
        name="nightvault", source=anchor["source"], tags=[{"key": "nightvault:setup", "value": "nightvault"}]
    )
    other = anywhere.create_trust_anchor(name="nightvault", source=anchor["source"])["trustAnchor"]
    (profile,) = anywhere.list_profiles()["profiles"]
    anywhere.update_profile(profileId=profile["profileId"], durationSeconds=900)
    iam.delete_role_policy(RoleName="nightvault-restore", PolicyName="nightvault")
    everything = document({"Effect": "Allow", "Action": "*", "Resource": "*"})
    iam.put_role_policy(RoleName="nightvault-backup", PolicyName="more", PolicyDocument=everything)
    admin_client(emulator, "s3").delete_public_access_block(Bucket=BUCKET)
    shown = server.run(*set_up(server, "status"))
    assert shown.exit_code == 1
    assert "role nightvault-backup may do more than this set-up" in shown.stdout
    server.done(*set_up(server, "apply", "--yes"))
    iam.delete_role_policy(RoleName="nightvault-backup", PolicyName="more")
    anywhere.delete_trust_anchor(trustAnchorId=other["trustAnchorId"])
    assert state_of(emulator) == whole


@pytest.mark.parametrize("has_job", [True, False])
def test_the_role_that_renews_in_place_of_servers_reads_catalogs(
    emulator: RunningEmulator, server: Server, has_job: bool
) -> None:
    """It is made where the config has no job; a server's own reads nothing."""
    text = server.config.read_text()
    text = text if has_job else text[: text.index("[[job]]")]
    server.config.write_text(text.replace("[[vault]]", '[[vault]]\nlock = "governance"'))
    server.done(*set_up(server, "apply", "--yes"))
    (policy,) = state_of(emulator)["roles"]["nightvault-lock"]["policies"].values()
    allowed = {
        action: statement["Resource"] for statement in policy["Statement"] for action in statement["Action"]
    }
    assert "s3:PutObjectRetention" in allowed
    assert allowed.get("s3:GetObject") == (None if has_job else f"arn:aws:s3:::{BUCKET}/meta/*")


def test_two_things_at_once_are_refused(emulator: RunningEmulator, server: Server) -> None:
    """Who says --plan wants nothing changed, whatever comes after it."""
    for words in (("--plan",), ("--status",), ("--destroy",)):
        told = server.fails(2, *set_up(server, "apply", "--yes", *words))
        assert "one of --plan, --apply, --status, --destroy" in told
    assert state_of(emulator) == EMPTY


def test_own_keys_that_aws_does_not_know_and_none(
    emulator: RunningEmulator, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """They are the admin's: the certificate, of which other commands tell then, has no part in it."""
    become(monkeypatch, emulator, "AKIANOBODYKNOWSTHIS0", "secret")
    unknown = server.fails(14, *set_up(server, "plan"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    without = server.fails(13, *set_up(server, "plan"))
    for told in (unknown, without):
        assert "your own credentials" in told
        assert "identity show" not in told


READ_ONLY = "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"
DETACH = f"aws iam detach-role-policy --role-name nightvault-restore --policy-arn {READ_ONLY}"
TAKE_OFF = "aws iam delete-role-policy --role-name nightvault-backup --policy-name more"


def test_policies_of_others_on_our_roles_are_shown_and_left(
    emulator: RunningEmulator, server: Server
) -> None:
    """Neither taken off nor kept silent about; IAM would delete no role that has them."""
    server.done(*set_up(server, "apply", "--yes"))
    iam = admin_client(emulator, "iam")
    iam.attach_role_policy(RoleName="nightvault-restore", PolicyArn=READ_ONLY)
    more = document({"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"})
    iam.put_role_policy(RoleName="nightvault-backup", PolicyName="more", PolicyDocument=more)
    for mode in ("plan", "status"):
        shown = server.done(*set_up(server, mode)).stdout
        assert "there is nothing to do" in shown
        assert {f"    {DETACH}", f"    {TAKE_OFF}"} <= set(shown.splitlines())
    whole = state_of(emulator)["roles"]
    server.done(*set_up(server, "apply", "--yes"))
    assert state_of(emulator)["roles"] == whole
    told = server.done(*set_up(server, "destroy", "--yes")).stdout
    assert {f"    {DETACH}", f"    {TAKE_OFF}"} <= set(told.splitlines())
    assert "gone, but for what is named above" in told
    left = state_of(emulator)
    assert {name: list(role["policies"]) for name, role in left["roles"].items()} == {
        "nightvault-backup": ["more"],
        "nightvault-restore": [],
    }
    assert {**left, "roles": {}} == EMPTY
    iam.detach_role_policy(RoleName="nightvault-restore", PolicyArn=READ_ONLY)
    iam.delete_role_policy(RoleName="nightvault-backup", PolicyName="more")
    assert server.done(*set_up(server, "destroy", "--yes")).stdout.endswith("tag is gone\n")
    assert state_of(emulator) == EMPTY


def test_a_role_that_the_config_does_not_use_any_more(
    emulator: RunningEmulator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by its tag though no profile names it; others' roles of the same description are left."""
    server.done(*set_up(server, "apply", "--yes"))
    text = server.config.read_text().replace(":role/nightvault-backup", ":role/web1-backup")
    server.config.write_text(text)
    before = server.run(*set_up(server, "status"))
    assert before.exit_code == 1
    assert "= role nightvault-backup carries the tag" in before.stdout
    server.done(*set_up(server, "apply", "--yes"))
    iam = admin_client(emulator, "iam")
    trusted = document(
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    iam.create_role(
        RoleName="theirs", AssumeRolePolicyDocument=trusted, Description="nightvault: a copy by hand"
    )
    after = server.done(*set_up(server, "status")).stdout
    assert "= role nightvault-backup carries the tag" in after
    assert "    aws iam delete-role --role-name nightvault-backup" in after.splitlines()
    assert "theirs" not in after
    asked = server.fails(2, *set_up(server, "destroy"))
    assert "delete role nightvault-backup" in asked
    assert "theirs" not in asked
    policy = server.json("aws", "policy", "--only", "trust-anchor", "--account", ACCOUNT_ID)
    alice = StaticKey(USER.access_key_id, USER.secret_access_key, user="alice", policy=json.dumps(policy))
    write_accounts(tmp_path / "aws" / "accounts.toml", keys=[ADMIN, alice])
    become(monkeypatch, emulator, USER.access_key_id, USER.secret_access_key)
    told = server.done(*set_up(server, "destroy", "--yes")).stdout
    assert "role theirs may be of a set-up: you may not see its tags" in told
    iam.delete_role(RoleName="theirs")
    assert state_of(emulator) == EMPTY


def test_a_role_with_another_path_is_an_obstacle(emulator: RunningEmulator, server: Server) -> None:
    """IAM knows a name once; a profile with an ARN that is not there would let nobody in."""
    server.done(*set_up(server, "apply", "--yes"))
    text = server.config.read_text().replace(":role/nightvault-backup", ":role/vault/nightvault-backup")
    server.config.write_text(text)
    said = server.fails(1, *set_up(server, "apply", "--yes"))
    assert f"is arn:aws:iam::{ACCOUNT_ID}:role/nightvault-backup, not arn:" in said


def test_a_role_of_that_name_that_is_not_ours_is_an_obstacle(
    emulator: RunningEmulator, server: Server
) -> None:
    iam = admin_client(emulator, "iam")
    trust = document(
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    )
    iam.create_role(RoleName="nightvault-restore", AssumeRolePolicyDocument=trust)
    said = server.fails(1, *set_up(server, "apply", "--yes"))
    assert "role nightvault-restore is there and does not carry the tag" in said
    assert state_of(emulator)["anchors"] == []
    server.done(*set_up(server, "apply", "--yes", "--name", "other"))
    told = server.done(*set_up(server, "destroy", "--yes")).stdout
    assert len(state_of(emulator)["anchors"]) == 1, "the set-up of another name"
    assert "what carried the tag is gone" in told


def test_who_may_not_is_told_the_statement(
    emulator: RunningEmulator, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each denial's statement, granted one after another, ends in a whole set-up."""
    lacking = {
        "rolesanywhere:CreateTrustAnchor",
        "iam:PassRole",
        "s3:CreateBucket",
        "s3:TagResource",
        "rolesanywhere:TagResource",
    }
    granted: list[Any] = []
    for service in ("rolesanywhere", "iam", "s3"):
        names = admin_client(emulator, service).meta.service_model.operation_names
        actions = [f"{service}:{name}" for name in names if f"{service}:{name}" not in lacking]
        granted.append({"Effect": "Allow", "Action": [*actions, *OF_S3], "Resource": "*"})
    become(monkeypatch, emulator, USER.access_key_id, USER.secret_access_key)
    told = []
    for _ in range(2 * len(lacking)):
        alice = StaticKey(USER.access_key_id, USER.secret_access_key, user="alice", policy=document(*granted))
        write_accounts(tmp_path / "aws" / "accounts.toml", keys=[ADMIN, alice])
        result = server.run(*set_up(server, "apply", "--yes"))
        if result.exit_code == 0:
            break
        assert result.exit_code == 14, result.output
        told.append(json.JSONDecoder().raw_decode(result.stderr[result.stderr.index("{\n") :])[0])
        granted.append(told[-1])
    assert result.exit_code == 0, result.output
    by_action = {call["Action"]: call for call in told}
    assert set(by_action) == lacking
    passing = by_action["iam:PassRole"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}}
    assert by_action["s3:CreateBucket"]["Resource"] == f"arn:aws:s3:::{BUCKET}"
    assert len(state_of(emulator)["roles"]) == 3


IN_REGION = {"LocationConstraint": REGION}
OF_S3 = (
    "s3:ListBucketVersions",
    *("s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration", "s3:ListBucket"),
    *("s3:GetBucketPublicAccessBlock", "s3:PutBucketPublicAccessBlock"),
)


@pytest.mark.parametrize("kind", ["glacier", "s3"])
def test_the_printed_permissions_are_what_a_set_up_needs(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """`aws policy --only trust-anchor` allows all of it, and nothing that it does not use."""
    server = new_server(tmp_path / "web1", emulator, kind)
    plain = server.config.read_text()
    server.done(*set_up(server, "apply", "--yes"))
    policy = server.json("aws", "policy", "--only", "trust-anchor", "--account", ACCOUNT_ID)
    server.done(*set_up(server, "destroy", "--yes"))
    server.config.write_text(plain)
    keys = [
        ADMIN,
        StaticKey(USER.access_key_id, USER.secret_access_key, user="alice", policy=json.dumps(policy)),
    ]
    write_accounts(tmp_path / "aws" / "accounts.toml", keys=keys)
    become(monkeypatch, emulator, USER.access_key_id, USER.secret_access_key)
    admin_client(emulator, "s3").create_bucket(Bucket="of-others", CreateBucketConfiguration=IN_REGION)
    admin_client(emulator, "glacier").create_vault(vaultName="of-others")
    crl = _crl(server)
    keeps = ("--versioning",) if kind == "s3" else ()
    server.done(*set_up(server, "apply", "--yes", "--crl", crl, *keeps))
    server.done(
        "ca", "create", "--dir", server.folder / "next", "--name", "Next CA", "--organization", "Test"
    )
    both = ("--ca", server.folder / "next" / "ca.pem")
    server.done(*set_up(server, "apply", "--yes", *both, *keeps))
    server.done(*set_up(server, "status", *both, *keeps))
    server.done(*set_up(server, "destroy", "--yes"))
    admin_client(emulator, "s3").delete_bucket(Bucket="of-others")
    admin_client(emulator, "glacier").delete_vault(vaultName="of-others")
    assert state_of(emulator) == EMPTY
    used = {
        request["action"]
        for request in emulator.asked()
        if request["allowed"] and "alice" in request["principal"]
    }
    actions = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert used <= actions
    assert actions - used == OF_OTHER_DAYS


OF_OTHER_DAYS = {
    *("rolesanywhere:GetTrustAnchor", "rolesanywhere:GetProfile", "rolesanywhere:GetCrl"),
    *("rolesanywhere:EnableTrustAnchor", "rolesanywhere:EnableProfile", "rolesanywhere:EnableCrl"),
    *("rolesanywhere:DisableCrl", "rolesanywhere:UpdateCrl", "rolesanywhere:UpdateProfile"),
    "iam:UpdateAssumeRolePolicy",
}
"""For what somebody else changed, and for the console."""


def _crl(server: Server) -> Path:
    """A revocation list of the server's authority, that revokes nothing of use."""
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    ca = server.folder / "ca"
    certificate = x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((ca / "ca.key").read_bytes(), None)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder(certificate.subject, now, now + timedelta(days=1))
    path = server.folder / "crl.pem"
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))  # type: ignore[arg-type]
    return path


def test_a_new_role_is_waited_for_and_a_real_denial_is_told(
    emulator: RunningEmulator, server: Server
) -> None:
    emulator.change_settings(new_role_seconds=3 * 3600)
    said = server.done(*set_up(server, "apply", "--yes")).stderr
    assert "waiting: AWS does not let the certificate into" in said
    emulator.change_settings(new_role_seconds=0)
    told = server.fails(14, *set_up(server, "apply", "--yes", "--subject", "another"))
    assert "so it is no delay of IAM" in told
    server.done(*set_up(server, "apply", "--yes"))


def test_a_prune_role_for_another_certificate(emulator: RunningEmulator, server: Server) -> None:
    """It is not tried with the server's own, which it does not let in."""
    words = ("--prune-subject", "admin-token")
    said = server.done(*set_up(server, "apply", "--yes", *words))
    assert "waiting" not in said.stderr
    roles = state_of(emulator)["roles"]
    assert '"aws:PrincipalTag/x509Subject/CN": "admin-token"' in roles["nightvault-prune"]["trust"]
    assert '"aws:PrincipalTag/x509Subject/CN": "web1"' in roles["nightvault-backup"]["trust"]
    assert "there is nothing to do" in server.done(*set_up(server, "status", *words)).stdout


def test_nobody_is_let_delete_unless_somebody_is_named(emulator: RunningEmulator, server: Server) -> None:
    """Whoever takes the server over cannot delete; prunes condemn, and it is said who may do more."""
    words = set_up(server, "plan", lets_delete=False)
    assert "Nobody may delete" in server.done(*words).stdout
    server.done(*set_up(server, "apply", "--yes", lets_delete=False))
    assert {"nightvault-backup", "nightvault-restore"} == state_of(emulator)["roles"].keys()
    assert "prune_role_arn" not in server.config.read_text()
    assert "there is nothing to do" in server.done(*set_up(server, "status", lets_delete=False)).stdout
    server.init()
    server.backup()
    assert server.json("prune", "--dry-run")["may_delete"] is False
    server.done(*set_up(server, "apply", "--yes"))
    assert "nightvault-prune" in state_of(emulator)["roles"]
    again = server.done(*set_up(server, "status", lets_delete=False)).stdout
    assert "lets this server's own certificate delete" in " ".join(again.split())
    server.done(*set_up(server, "apply", "--yes", lets_delete=False))
    assert "nightvault-prune" in state_of(emulator)["roles"], "a set-up that has given it keeps it"


def test_one_set_of_roles_for_all_servers_of_a_unit(emulator: RunningEmulator, server: Server) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace("path_style", 'prefix = "web1/"\npath_style'))
    server.done(*set_up(server, "apply", "--yes", "--shared"))
    roles = state_of(emulator)["roles"]
    assert "x509Subject/CN" not in roles["nightvault-backup"]["trust"]
    assert '"aws:PrincipalTag/x509Subject/OU": "Servers"' in roles["nightvault-backup"]["trust"]
    assert "${aws:PrincipalTag/x509Subject/CN}" in json.dumps(roles["nightvault-backup"]["policies"])
    server.init()
    assert server.backup()["outcome"] == "done"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["setup", "aws"], 2, "say what to do"),
        (["setup", "aws", "--plan", "--ca", "nowhere.pem"], 2, "cannot read nowhere.pem"),
        (["setup", "aws", "--plan", "--ca", "CA", "--unit", "U"], 2, "--unit is for a certificate"),
        (["setup", "aws", "--plan", "--ca", "CA", "--prune-subject", ""], 2, "in no certificate"),
        (["setup", "aws", "--plan", "--ca", "CA", "--subject", "${aws:x}"], 2, "in no certificate"),
        (["setup", "aws", "--plan", "--vault", "warm"], 2, "no vault warm in AWS"),
        (["setup", "aws", "--apply", "--ca", "CA"], 2, "there is no terminal for the answer"),
    ],
)
def test_wrong_words(server: Server, words: list[str], code: int, said: str) -> None:
    ca = str(server.folder / "ca" / "ca.pem")
    assert said in server.fails(code, *(ca if word == "CA" else word for word in words))


def test_one_role_for_all_is_not_given_to_another_certificate(server: Server) -> None:
    """--prune-subject would be for nothing: the server could delete all the same."""
    arn = f"arn:aws:iam::{ACCOUNT_ID}:role/all"
    keys = "".join(f'{key} = "{arn}"\n' for key in ("role_arn", "restore_role_arn", "prune_role_arn"))
    server.config.write_text(server.config.read_text().replace("[[vault]]\n", f"[[vault]]\n{keys}"))
    assert "needs a prune role of its own" in server.fails(2, *set_up(server, "plan", "--prune-subject", "x"))


def test_another_authority_is_told_before_servers_are_cut_off(
    emulator: RunningEmulator, server: Server
) -> None:
    """So is a list of another one; and a config that cannot be changed, before anything is made."""
    other = server.folder / "other"
    server.done("ca", "create", "--dir", other, "--name", "Other CA", "--organization", "Test")
    server.done("ca", "crl", "--dir", other)
    wrong = ("setup", "aws", "--apply", "--yes", "--ca", other / "ca.pem")
    assert "not signed by any authority of --ca" in server.fails(2, *wrong)
    assert "not signed by any authority" in server.fails(
        2, *set_up(server, "apply", "--yes", "--crl", other / "crl.pem")
    )
    text = server.config.read_text()
    head, _, rest = text.partition("[[vault]]\n")
    table, *others = rest.partition("\n[")
    pairs = ", ".join(line.partition("#")[0].strip() for line in table.splitlines() if line)
    server.config.write_text(f"vault = [{{ {pairs} }}]\n{head}{''.join(others)}")
    assert "no [[vault]] named cold" in server.fails(2, *set_up(server, "apply", "--yes"))
    assert state_of(emulator) == EMPTY


def test_without_keys_of_an_admin(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    said = server.run(*set_up(server, "plan"))
    assert said.exit_code in (13, 14), said.output
    assert "credentials" in said.stderr


def test_what_another_vault_of_the_config_uses_is_no_leftover(
    emulator: RunningEmulator, server: Server
) -> None:
    """It carries the same tag, and --destroy would have removed it while it was empty."""
    server.done(*set_up(server, "apply", "--yes"))
    s3, name = admin_client(emulator, "s3"), f"another-bucket-{ACCOUNT_ID}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": [{"Key": TAG, "Value": "nightvault"}]})
    assert f"bucket {name} carries the tag" in " ".join(server.run(*set_up(server, "status")).stdout.split())
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/of-another"
    table = f'name = "ice"\nkind = "s3"\nbucket = "{name}"\nregion = "{REGION}"\nrole_arn = "{role}"\n'
    with server.config.open("a") as config:
        config.write(f"\n[[vault]]\n{table}")
    words = ("--vault", "cold")
    assert name not in server.run(*set_up(server, "status", *words)).stdout
    server.done(*set_up(server, "destroy", "--yes", *words))
    assert list(state_of(emulator)["buckets"]) == [name]
