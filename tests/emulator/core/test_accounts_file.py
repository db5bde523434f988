"""The accounts file: what it may say, and one sentence naming the key for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backup.emulator.core.access.accounts_file import AccountsFile, read_accounts
from backup.emulator.core.errors import EmulatorError
from tests.emulator.authority import ANCHOR_ARN, PROFILE_ARN, ROLE_ARN, TRUST, issue_ca, issue_leaf, revoke
from tests.support.emulated import ACCOUNT_ID, StaticKey, write_accounts

ROOT = issue_ca("Accounts root")
OTHER = issue_ca("Accounts other")
ANCHOR: dict[str, Any] = {"arn": ANCHOR_ARN, "certificates": [ROOT.pem]}
ROLE: dict[str, Any] = {"arn": ROLE_ARN, "trust_policy": TRUST}
PROFILE: dict[str, Any] = {"arn": PROFILE_ARN, "role_arns": [ROLE_ARN]}


def test_everything_at_once(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_text(ROOT.pem)
    (tmp_path / "root.crl").write_text(revoke(ROOT, 7))
    (tmp_path / "policy.json").write_text('{"Statement": []}')
    path = write_accounts(
        tmp_path / "accounts.toml",
        keys=[StaticKey("A", "B", "C", "2026-01-02T03:04:05Z")],
        trust_anchors=[{"arn": ANCHOR_ARN, "certificates": ["root.pem", OTHER.pem], "crls": ["root.crl"]}],
        profiles=[{**PROFILE, "duration_seconds": 900, "accept_role_session_name": True, "enabled": False}],
        roles=[{**ROLE, "max_session_duration": 7200, "policy": "policy.json"}],
    )
    accounts, files = read_accounts(path)
    assert [file.name for file in files] == ["accounts.toml", "root.pem", "root.crl", "policy.json"]
    key = accounts.key("A")
    assert key is not None
    assert (key.account_id, key.session_token, key.expires_at_ms) == (ACCOUNT_ID, "C", 1767323045000)
    anchor = accounts.trust_anchor(ANCHOR_ARN)
    assert anchor is not None
    assert (len(anchor.certificates), len(anchor.crls), anchor.enabled) == (2, 1, True)
    profile = accounts.profile(PROFILE_ARN)
    assert profile is not None
    assert (profile.duration_seconds, profile.accept_role_session_name, profile.enabled) == (900, True, False)
    role = accounts.role(ROLE_ARN)
    assert role is not None
    assert role.policy is not None
    assert (role.max_session_duration, role.policy.statements) == (7200, ())
    for lookup in (accounts.key, accounts.trust_anchor, accounts.profile, accounts.role):
        assert lookup("nobody") is None


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        (
            {"trust_anchors": [{**ANCHOR, "certficates": []}]},
            "account[0].trust_anchor[0].certficates is not a key",
        ),
        ({"trust_anchors": [{"arn": ANCHOR_ARN}]}, "account[0].trust_anchor[0].certificates must name"),
        ({"trust_anchors": [{**ANCHOR, "certificates": "x"}]}, "certificates must be a list of strings"),
        ({"trust_anchors": [{**ANCHOR, "certificates": ["gone.pem"]}]}, "certificates: cannot read"),
        ({"trust_anchors": [{**ANCHOR, "certificates": ["-----BEGIN X"]}]}, "trust_anchor[0].certificates: "),
        ({"trust_anchors": [{**ANCHOR, "certificates": [ROOT.pem] * 3}]}, "may hold at most 2"),
        (
            {"trust_anchors": [{**ANCHOR, "certificates": [issue_leaf(ROOT).pem]}]},
            "certificates: Incorrect basic constraints for CA certificate.",
        ),
        ({"trust_anchors": [{**ANCHOR, "enabled": "yes"}]}, "enabled must be true or false"),
        ({"trust_anchors": [{**ANCHOR, "arn": "arn:aws:s3:::x"}]}, "trust_anchor[0].arn must be an ARN"),
        (
            {"profiles": [{**PROFILE, "duration_seconds": 60}]},
            "duration_seconds must lie between 900 and 43200",
        ),
        ({"profiles": [{**PROFILE, "duration_seconds": True}]}, "profile[0].duration_seconds must be"),
        ({"profiles": [{**PROFILE, "role_arns": [3]}]}, "role_arns must be a list of strings"),
        ({"roles": [{"arn": ROLE_ARN}]}, "account[0].role[0].trust_policy is missing"),
        ({"roles": [{**ROLE, "trust_policy": "{"}]}, "role[0].trust_policy: the policy is not JSON"),
        ({"roles": [ROLE, {**ROLE, "policy": "none.json"}]}, "account[0].role[1].policy: cannot read"),
        (
            {"keys": [StaticKey(expires_at="2026-01-01T00:00:00")]},
            "key[0].expires_at must be a date with an offset",
        ),
        ({"profiles": [PROFILE, PROFILE]}, f"{PROFILE_ARN} is given twice"),
        ({"account_id": "12"}, "account[0].id must be 12 digits"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, tables: dict[str, Any], words: str) -> None:
    with pytest.raises(EmulatorError) as refused:
        read_accounts(write_accounts(tmp_path / "accounts.toml", **tables))
    assert words in str(refused.value)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no [[account]]"),
        ("account = 3", "account must be an array of tables"),
        ("account = [3]", "account[0] must be a table"),
        ("x = 1\n[[account]]\nid = '123456789012'", "x is not a key"),
        ("[[", "is not TOML"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text(text)
    with pytest.raises(EmulatorError) as refused:
        read_accounts(path)
    assert words in str(refused.value)


def test_a_changed_file_is_read_again_and_a_spoilt_one_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_accounts(tmp_path / "accounts.toml", keys=[])
    accounts = AccountsFile(path)
    assert accounts.current().key("A") is None
    write_accounts(path, keys=[StaticKey("A", "secret")])
    assert accounts.current().key("A") is not None
    path.write_text("[[account]]\nid = 5\n")
    assert accounts.current().key("A") is not None
    assert accounts.current().key("A") is not None
    said = capsys.readouterr().err
    assert said == "account[0].id must be a string. The accounts stay as they were.\n"
    path.unlink()
    assert accounts.current().key("A") is not None
    write_accounts(path, keys=[StaticKey("B", "secret")])
    assert accounts.current().key("A") is None
