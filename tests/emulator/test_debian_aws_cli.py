"""Debian's AWS CLI on the control plane: each call that `setup aws` makes, by somebody else's client.

Debian's is of January 2025: too old for CreateBucket with a namespace of the account's own, of November 2025,
which the script of `setup export --cli` says, and for CreateBucket with tags, which are given afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.pki.authority import create_ca
from backup.pki.keys import KeyType
from backup.pki.revoking import sign_crls
from backup.pki.subjects import Subject
from tests.emulator.other_clients import KEYS, of_debian, run
from tests.support.aws_setups import become, emulated_account, new_server, set_up, state_of
from tests.support.emulated import RunningEmulator

pytestmark = [pytest.mark.slow, pytest.mark.real]

TAGS = "key=nightvault:setup,value=cli"


def test_anchors_profiles_and_lists(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Made, found by their tags, changed, disabled, enabled and deleted."""
    program = of_debian("aws")
    now = datetime.now(UTC) - timedelta(minutes=10)
    ca = create_ca(
        str(tmp_path / "ca"), Subject("CLI CA"), key_type=KeyType.P_256, days=9, passphrase=None, now=now
    )
    (crl,) = sign_crls([ca], days=5, now=now)

    def aws(*words: str) -> Any:
        command = [program, "--endpoint-url", emulator.glacier_url, "rolesanywhere", *words]
        told = run(command, tmp_path, KEYS)
        return json.loads(told) if told.strip() else None

    pem = Path(ca.certificate_path).read_text()
    source = json.dumps({"sourceType": "CERTIFICATE_BUNDLE", "sourceData": {"x509CertificateData": pem}})
    made = aws("create-trust-anchor", "--name", "cli", "--source", source, "--enabled", "--tags", TAGS)
    arn, number = made["trustAnchor"]["trustAnchorArn"], made["trustAnchor"]["trustAnchorId"]
    given = ("--trust-anchor-id", number)
    assert aws("get-trust-anchor", *given)["trustAnchor"]["source"] == json.loads(source)
    assert arn in [anchor["trustAnchorArn"] for anchor in aws("list-trust-anchors")["trustAnchors"]]
    assert aws("list-tags-for-resource", "--resource-arn", arn)["tags"][0]["value"] == "cli"
    aws("update-trust-anchor", *given, "--source", source)
    assert aws("disable-trust-anchor", *given)["trustAnchor"]["enabled"] is False
    assert aws("enable-trust-anchor", *given)["trustAnchor"]["enabled"] is True

    imported = aws(
        *("import-crl", "--name", "cli", "--crl-data", f"fileb://{crl.path}"),
        *("--trust-anchor-arn", arn, "--enabled", "--tags", TAGS),
    )["crl"]
    of_crl = ("--crl-id", imported["crlId"])
    assert aws("update-crl", *of_crl, "--crl-data", f"fileb://{crl.path}")["crl"]["enabled"] is True
    assert aws("disable-crl", *of_crl)["crl"]["enabled"] is False
    assert aws("enable-crl", *of_crl)["crl"]["enabled"] is True
    assert imported["crlId"] in [listed["crlId"] for listed in aws("list-crls")["crls"]]
    assert aws("get-crl", *of_crl)["crl"]["trustAnchorArn"] == arn
    aws("delete-crl", *of_crl)

    role = "arn:aws:iam::123456789012:role/cli"
    profile = aws("create-profile", "--name", "cli", "--role-arns", role, "--tags", TAGS)["profile"]
    of_profile = ("--profile-id", profile["profileId"])
    changed = aws("update-profile", *of_profile, "--duration-seconds", "900")["profile"]
    assert changed["durationSeconds"] == 900
    assert aws("enable-profile", *of_profile)["profile"]["enabled"] is True
    assert aws("disable-profile", *of_profile)["profile"]["enabled"] is False
    assert aws("get-profile", *of_profile)["profile"]["roleArns"] == [role]
    aws("delete-profile", *of_profile)
    aws("delete-trust-anchor", *given)
    assert arn not in [anchor["trustAnchorArn"] for anchor in aws("list-trust-anchors")["trustAnchors"]]


@pytest.mark.parametrize("kind", ["glacier", "s3", "s3 by a name of its own"])
def test_the_exported_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """It makes what `setup aws` makes; of a bucket in the account's namespace it says what this CLI lacks."""
    program = of_debian("aws")
    with emulated_account(tmp_path / "aws") as emulator:
        become(monkeypatch, emulator)
        server = new_server(tmp_path / "web1", emulator, kind.partition(" ")[0])
        if " " in kind:
            named = server.config.read_text().replace("path_style", 'bucket = "our-own-name"\npath_style')
            server.config.write_text(named)
        text, script = server.config.read_text(), tmp_path / "set-up.sh"
        words = ("--ca", server.folder / "ca" / "ca.pem", "--prune-subject", "web1", "--cli", script)
        server.done("setup", "export", *words)
        before = state_of(emulator)
        environment = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
        environment |= {"PATH": f"{os.path.dirname(program)}:/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [str(script)], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        if kind == "s3":
            assert done.returncode != 0, "this CLI knows buckets of an account's own: make it one test"
            assert "aws-cli/2.23" in done.stderr
            assert "nothing was made" in done.stderr
            assert state_of(emulator) == before
            return
        assert done.returncode == 0, done.stderr
        made = state_of(emulator)
        server.done(*set_up(server, "destroy", "--yes"))
        server.config.write_text(text)
        server.done(*set_up(server, "apply", "--yes"))
        assert state_of(emulator) == made
