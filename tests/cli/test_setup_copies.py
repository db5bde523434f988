"""`setup aws` for a job with copies: one plan makes both ends, and a role that does nothing but copy."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from backup.app.aws_setup.documents import BUCKET_ACTIONS
from backup.emulator.core.access.evaluate import AccessRequest, Policies, judge
from backup.emulator.core.access.policy import Principal, parse_policy
from backup.emulator.s3.actions import ACTIONS
from backup.emulator.s3.operations import OPERATIONS
from tests.support.aws_admin import admin_client
from tests.support.aws_setups import become, emulated_account, new_server, set_up, state_of
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator
from tests.support.servers import Server
from tests.support.trees import assert_same_tree

FAR = "eu-west-1"
NAME = "nightvault-copy"
COPY_ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/{NAME}"
HOME_BUCKET, FAR_BUCKET = (f"nightvault-{ACCOUNT_ID}-{region}-an" for region in (REGION, FAR))
PLACES = {
    "s3": 'path_style = true\npart_size = "8MiB"',
    "glacier": 'vault = "far"\npart_size = "1MiB"\npack_size = "4MiB"',
}
LIVES = {
    "cold": ("s3", "s3", ""),
    "locked": ("s3", "s3", 'lock = "governance"'),
    "out-of-glacier": ("glacier", "s3", ""),
    "into-glacier": ("s3", "glacier", ""),
}
OF_VERSIONS = {"s3:ListBucketVersions", "s3:GetObjectVersion"}
UNSEEN = {
    "cold": {"s3:GetBucketObjectLockConfiguration", *OF_VERSIONS},
    "locked": {"s3:GetObject"},
    "out-of-glacier": {"s3:GetBucketObjectLockConfiguration"},
    "into-glacier": {"glacier:ListParts", *OF_VERSIONS},
}
"""Needed in another life; while this clock hurries, uploads to Glacier end (tests/test_least_rights.py)."""
UNTRIED = {"into-glacier": {"glacier:GetJobOutput", "glacier:DescribeJob", "s3:ListBucket"}}
"""A list of another day is at hand here, and without a list what is lost is only said to be denied."""
REFUSED = {"s3:GetObject", "s3:GetObjectRetention", "s3:GetObjectLegalHold"}
"""What is refused although all is well: as in tests/test_least_rights.py."""
NO_WORD = {"s3:GetObject", "s3:GetObjectVersion"}
"""HEAD is answered without a reason; it is said where to look."""


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws") as running:
        become(monkeypatch, running)
        yield running


def server_with_copies(
    folder: Path, emulator: RunningEmulator, home: str = "s3", far: str = "s3", more: str = ""
) -> Server:
    """A server whose one job has a copy in another region; nothing of it is set up."""
    server = new_server(folder, emulator, home)
    text = server.config.read_text().replace("path_style", f"{more}\npath_style")
    text += '\n[[job.copy]]\nvault = "far"\n'
    text += f'\n[[vault]]\nname = "far"\nregion = "{FAR}"\nkind = "{far}"\n{PLACES[far]}\n{more}\n'
    server.config.write_text(text)
    return server


def policy_of(emulator: RunningEmulator) -> Mapping[str, Any]:
    """What the copy role may do."""
    policies: Mapping[str, Any] = state_of(emulator)["roles"][NAME]["policies"]
    (policy,) = policies.values()
    return dict(policy)


def granted(policy: Mapping[str, Any]) -> set[str]:
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def cut_copy(server: Server, emulator: RunningEmulator) -> str:
    """A copy of one more night whose second part is refused; what it says."""
    (server.source / "large").write_bytes(os.urandom(9 << 20))
    server.backup()
    part = {"skip": 1, "count": 10_000, "reset": True}
    emulator.set_faults(
        [{"operation": operation, **part} for operation in ("UploadMultipartPart", "s3:UploadPart")]
    )
    said = server.run("--patience", "0", "copy", "--wait").output
    emulator.set_faults([])
    return said


def lose_spooled(server: Server) -> None:
    """A disk that was lost with what was to be sent again."""
    folder = server.state / "spool" / "copies" / "far"
    for path in folder.iterdir() if folder.exists() else ():
        path.unlink()


def life(server: Server, emulator: RunningEmulator) -> None:
    """Copies that are cut: one goes on, one has lost its pack; a pack that the first vault has lost."""
    server.done("config", "check")
    cut_copy(server, emulator)
    server.done("copy", "--wait")
    cut_copy(server, emulator)
    lose_spooled(server)
    server.done("copy", "--wait")


def list_of_far(server: Server, emulator: RunningEmulator) -> str:
    """The vault with copies is asked for its list, and the answer is lost; what is said."""
    emulator.advance(24 * 3600)
    emulator.set_faults([{"operation": "InitiateJob", "reset": True, "after": True}])
    said = server.run("listing", "request", "far").output
    emulator.set_faults([])
    emulator.advance(5 * 3600)
    return said + server.run("listing", "show", "far").output


def lost_pack(server: Server, emulator: RunningEmulator) -> str:
    """The first vault loses a pack of a new night; what a copy says of it."""
    s3 = admin_client(emulator, "s3")
    listed = {line["Key"] for line in s3.list_objects_v2(Bucket=HOME_BUCKET, Prefix="data/")["Contents"]}
    (server.source / "lost").write_bytes(os.urandom(100_000))
    server.backup()
    lines = s3.list_object_versions(Bucket=HOME_BUCKET, Prefix="data/")["Versions"]
    for line in (line for line in lines if line["Key"] not in listed):
        of = {"Bucket": HOME_BUCKET, "Key": line["Key"], "VersionId": line["VersionId"]}
        s3.delete_object(**of, BypassGovernanceRetention=True)
    return server.run("copy", "--wait").output


@pytest.mark.parametrize(
    "name", ["cold", *(pytest.param(name, marks=pytest.mark.slow) for name in LIVES if name != "cold")]
)
def test_a_copy_s_life_uses_every_right_and_no_other(
    emulator: RunningEmulator, tmp_path: Path, name: str
) -> None:
    """By one plan for both ends; then all is checked there, and comes back from there."""
    home, far, more = LIVES[name]
    server = server_with_copies(tmp_path / "web1", emulator, home, far, more)
    steps = server.json(*set_up(server, "plan"))["steps"]
    made = [(step["kind"], step["name"]) for step in steps if step["verb"] == "make"]
    assert ("role", NAME) in made
    assert [kind for kind, _ in made].count("vault" if "glacier" in (home, far) else "bucket") >= 1
    server.done(*set_up(server, "apply", "--yes"))
    assert "there is nothing to do" in server.done(*set_up(server, "status")).stdout
    server.init()
    life(server, emulator)
    if home == "glacier":
        (server.source / "more").write_bytes(os.urandom(100_000))
        server.backup()
        emulator.set_faults([{"operation": "InitiateJob", "reset": True, "after": True}])
        server.done("copy", "--wait")
        emulator.set_faults([])
    if far == "glacier":
        list_of_far(server, emulator)
    checked = server.json("check", "--vault", "far", "--wait")
    assert checked["findings"] == []
    out = tmp_path / "out"
    assert_same_tree(server.restore(out, "--from-vault", "far"), server.source)
    if home == "s3" and not more:
        assert "The specified key does not exist" in lost_pack(server, emulator)
    asked = [request for request in emulator.asked() if request["principal"] == COPY_ROLE]
    used = {request["action"] for request in asked if request["allowed"]}
    refused = {request["action"] for request in asked if request["refused"]}
    assert used | UNSEEN.get(name, set()) == granted(policy_of(emulator))
    assert refused <= REFUSED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["locked", "out-of-glacier", "into-glacier"])
def test_each_right_that_is_missing_is_named(emulator: RunningEmulator, tmp_path: Path, name: str) -> None:
    """One is taken away after the other; with all of them the copy goes on where it was.

    Of a bucket's rights those that another life here has tried are not tried again.
    """
    home, far, more = LIVES[name]
    server = server_with_copies(tmp_path / "web1", emulator, home, far, more)
    server.done(*set_up(server, "apply", "--yes"))
    server.init()
    iam, whole = admin_client(emulator, "iam"), policy_of(emulator)
    server.backup()

    def may(policy: Mapping[str, Any]) -> None:
        iam.put_role_policy(RoleName=NAME, PolicyName="nightvault", PolicyDocument=json.dumps(policy))

    tried = granted(whole) - UNSEEN.get(name, set()) - UNTRIED.get(name, set())
    if name != "locked":
        tried = {action for action in tried if action.startswith("glacier:") or action == "s3:GetObject"}
    for action in sorted(tried):
        cut_copy(server, emulator)
        may(without(whole, action))
        said = server.run("config", "check").output + server.run("init", "--non-interactive").output
        said += server.run("--patience", "0", "copy", "--wait").output
        said += cut_copy(server, emulator)
        lose_spooled(server)
        emulator.set_faults([{"operation": "InitiateJob", "reset": True, "after": True}])
        said += server.run("--patience", "0", "copy", "--wait").output
        said += server.run("copy", "--wait").output
        said += list_of_far(server, emulator) if far == "glacier" else ""
        named = "S3 gives no reason here: compare the role's policy" if action in NO_WORD else action
        assert named in said, (action, said)
        may(whole)
        server.done("copy", "--wait")
    assert len(server.json("copy")["snapshots"]) == 0


def without(policy: Mapping[str, Any], action: str) -> Mapping[str, Any]:
    """A policy that lacks an action."""
    left = [
        {**statement, "Action": [other for other in statement["Action"] if other != action]}
        for statement in policy["Statement"]
    ]
    return {**policy, "Statement": [statement for statement in left if statement["Action"]]}


def test_what_a_thief_of_the_copy_role_may_not_do(emulator: RunningEmulator, tmp_path: Path) -> None:
    """It deletes nowhere, reads nothing where it stores, and no catalogs where it reads."""
    server = server_with_copies(tmp_path / "web1", emulator)
    server.done(*set_up(server, "apply", "--yes"))
    policy = Policies(parse_policy(json.dumps(policy_of(emulator)), NAME))
    session = COPY_ROLE.replace("iam", "sts").replace(":role", ":assumed-role") + "/1"
    principal = Principal(ACCOUNT_ID, session, COPY_ROLE)

    def may(action: str, resource: str) -> bool:
        return judge(AccessRequest(action, resource, ACCOUNT_ID, {}), principal, policy) is None

    home, far = (f"arn:aws:s3:::{bucket}" for bucket in (HOME_BUCKET, FAR_BUCKET))
    every = {ACTIONS.get(operation.name, f"s3:{operation.name}") for operation in OPERATIONS}
    every |= {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", *OF_VERSIONS}
    assert len(every) > 70
    allowed = {
        place: {action.removeprefix("s3:") for action in every if may(action, place)}
        for place in (f"{home}/data/1", f"{home}/meta/1", f"{far}/data/1", f"{far}/meta/1", home, far)
    }
    stores = {"PutObject", "AbortMultipartUpload", "ListMultipartUploadParts"}
    assert allowed == {
        f"{home}/data/1": {"GetObject", "GetObjectVersion", "RestoreObject"},
        f"{home}/meta/1": set(),
        f"{far}/data/1": stores,
        f"{far}/meta/1": stores,
        home: {"ListBucket", "ListBucketVersions"},
        far: {action.removeprefix("s3:") for action in BUCKET_ACTIONS},
    }
    assert not any(may(action, "*") for action in ("iam:PutRolePolicy", "iam:PassRole", "sts:AssumeRole"))


def test_a_copy_that_comes_later(emulator: RunningEmulator, tmp_path: Path) -> None:
    """What was set up stays as it is."""
    server = server_with_copies(tmp_path / "web1", emulator)
    both = server.config.read_text()
    server.config.write_text(both[: both.index("\n[[job.copy]]")])
    server.done(*set_up(server, "apply", "--yes"))
    server.init()
    server.backup()
    before = state_of(emulator)
    server.config.write_text(server.config.read_text() + both[both.index("\n[[job.copy]]") :])
    assert "vault far is not set up in AWS yet" in server.fails(2, "copy")
    server.done(*set_up(server, "apply", "--yes"))
    after = state_of(emulator)
    assert set(after["roles"]) - set(before["roles"]) == {NAME}
    assert after["roles"]["nightvault-backup"] == before["roles"]["nightvault-backup"]
    assert after["buckets"][HOME_BUCKET] == before["buckets"][HOME_BUCKET]
    server.done("init", "--non-interactive")
    assert len(server.json("copy", "--wait")["snapshots"]) == 1
    printed = server.json("aws", "policy", "--vault", "cold", "--only", "copy")
    whole = policy_of(emulator)["Statement"]
    assert all(any(same(given, made) for made in whole) for given in printed["Statement"])


def same(given: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether two statements are the same but for their ids."""
    return {**given, "Sid": ""} == {**made, "Sid": ""}
