"""`setup export`: Terraform, CloudFormation and a script, each parsed, each the same as what is applied."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.aws_setups import become, emulated_account, new_server, set_up, state_of
from tests.support.emulated import REGION, RunningEmulator
from tests.support.own_venvs import own_venv
from tests.support.servers import Server

READ_HCL = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))"


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningEmulator]:
    """An account with nothing in it; the admin's keys are in the environment."""
    with emulated_account(tmp_path / "aws") as running:
        become(monkeypatch, running)
        yield running


@pytest.fixture(params=["glacier", "s3"])
def server(tmp_path: Path, emulator: RunningEmulator, request: pytest.FixtureRequest) -> Server:
    """A server with each kind of vault."""
    return new_server(tmp_path / "web1", emulator, request.param)


def exported(server: Server, *words: object) -> None:
    ca = server.folder / "ca" / "ca.pem"
    server.done("setup", "export", "--ca", ca, "--prune-subject", "web1", *words)


def applied(server: Server, emulator: RunningEmulator) -> Mapping[str, Any]:
    """What `setup aws --apply` leaves; it is destroyed again, and the config is as before."""
    text = server.config.read_text()
    server.done(*set_up(server, "apply", "--yes"))
    state = state_of(emulator)
    server.done(*set_up(server, "destroy", "--yes"))
    server.config.write_text(text)
    return state


@pytest.mark.slow
@pytest.mark.real
def test_the_script_makes_the_same(
    server: Server, emulator: RunningEmulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It is run by bash with the AWS CLI, on an empty account."""
    wanted = applied(server, emulator)
    path = tmp_path / "set-up.sh"
    exported(server, "--cli", path)
    subprocess.run(["bash", "-n", str(path)], check=True)
    program = own_venv(request.config, "awscli", "awscli")
    environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    environment |= {"PATH": f"{program}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [str(path)], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert state_of(emulator) == wanted
    assert 'trust_anchor_arn = "arn:aws:rolesanywhere:' in done.stdout
    assert 'profile_arn = "arn:aws:rolesanywhere:' in done.stdout


BLOCKS = ("block_public_acls", "ignore_public_acls", "block_public_policy", "restrict_public_buckets")


def resources(parsed: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """The resources of a parsed module by type and name, its strings without their quotes."""
    return {
        (_bare(kind), _bare(name)): block
        for group in parsed["resource"]
        for kind, named in group.items()
        for name, block in named.items()
    }


def _bare(text: Any) -> Any:
    return text.strip('"') if isinstance(text, str) else text


@pytest.mark.slow
@pytest.mark.real
def test_terraform(
    server: Server, emulator: RunningEmulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = applied(server, emulator)
    exported(server, "--terraform", tmp_path / "tf")
    python = own_venv(request.config, "hcl2", "python-hcl2==8.1.4") / "python"
    read = subprocess.run(
        [str(python), "-c", READ_HCL, str(tmp_path / "tf" / "main.tf")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = resources(json.loads(read.stdout))
    anchor = found["aws_rolesanywhere_trust_anchor", "nightvault"]
    assert _first(anchor["lifecycle"])["prevent_destroy"] in (True, "true")
    assert "notification_settings" in json.dumps(_first(anchor["lifecycle"])["ignore_changes"])
    pem = (tmp_path / "tf" / "ca.pem").read_text()
    assert pem == wanted["anchors"][0]["source"]["sourceData"]["x509CertificateData"]
    for name, role in wanted["roles"].items():
        label = name.rpartition("-")[2]
        block = found["aws_iam_role", label]
        assert _bare(block["name"]) == name
        policy = json.loads((tmp_path / "tf" / f"{label}.json").read_text())
        assert role["policies"] == {"nightvault": policy}
        trust = (tmp_path / "tf" / f"{label}-trust.json").read_text()
        assert json.loads(trust.replace("TRUST-ANCHOR-ARN", "ANCHOR")) == json.loads(role["trust"])
        assert "aws_rolesanywhere_trust_anchor.nightvault.arn" in json.dumps(block["assume_role_policy"])
    profile = found["aws_rolesanywhere_profile", "nightvault"]
    assert int(profile["duration_seconds"]) == wanted["profiles"][0]["durationSeconds"]
    assert len(profile["role_arns"]) == len(wanted["profiles"][0]["roleArns"])
    if wanted["buckets"]:
        ((bucket, settings),) = wanted["buckets"].items()
        assert _bare(found["aws_s3_bucket", "nightvault"]["bucket"]) == bucket
        assert json.loads((tmp_path / "tf" / "bucket.json").read_text()) == json.loads(settings["policy"])
        block = found["aws_s3_bucket_public_access_block", "nightvault"]
        assert all(block[name] in (True, "true") for name in BLOCKS)
    else:
        assert _bare(found["aws_glacier_vault", "nightvault"]["name"]) == "nightly"


def _first(block: Any) -> Any:
    return block[0] if isinstance(block, list) else block


@pytest.mark.slow
@pytest.mark.real
def test_cloudformation(
    server: Server, emulator: RunningEmulator, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    wanted = applied(server, emulator)
    path = tmp_path / "template.json"
    exported(server, "--cloudformation", path)
    lint = own_venv(request.config, "cfn-lint", "cfn-lint==1.58.0") / "cfn-lint"
    done = subprocess.run(
        [str(lint), "--regions", REGION, "--template", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    made = json.loads(path.read_text())["Resources"]
    assert made["TrustAnchor"]["DeletionPolicy"] == made["TrustAnchor"]["UpdateReplacePolicy"] == "Retain"
    roles = {
        resource["Properties"]["RoleName"]: resource["Properties"]
        for resource in made.values()
        if "Role" in resource["Type"].split(":")[-1] and "RoleName" in resource["Properties"]
    }
    assert roles.keys() == wanted["roles"].keys()
    for name, role in wanted["roles"].items():
        (policy,) = roles[name]["Policies"]
        assert {policy["PolicyName"]: policy["PolicyDocument"]} == role["policies"]
        trust = json.dumps(roles[name]["AssumeRolePolicyDocument"])
        by_anchor = json.dumps({"Fn::GetAtt": ["TrustAnchor", "TrustAnchorArn"]})
        assert json.loads(trust.replace(by_anchor, '"ANCHOR"')) == json.loads(role["trust"])
    for bucket, settings in wanted["buckets"].items():
        assert made["Bucket"]["Properties"]["BucketName"] == bucket
        assert made["Bucket"]["Properties"]["PublicAccessBlockConfiguration"] == settings["block"]
        assert made["BucketPolicy"]["Properties"]["PolicyDocument"] == json.loads(settings["policy"])


def test_nothing_to_write(server: Server) -> None:
    assert "say what to write" in server.fails(2, "setup", "export")
