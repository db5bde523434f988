"""CreateSession's switches: labels taken leniently, attribute mappings, conditions on the subject."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.errors import EmulatorError, ServiceError
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.state.store import Store
from backup.emulator.core.wire import Answer, Inbound
from backup.emulator.rolesanywhere.sessions import REMARKS, SessionService
from backup.emulator.rolesanywhere.subject import read_subject
from tests.emulator.authority import (
    ANCHOR_ARN,
    PROFILE_ARN,
    ROLE_ARN,
    TRUST,
    issue_ca,
    issue_leaf,
    session_body,
    sign_session,
)
from tests.support.emulated import write_accounts

ROOT = issue_ca("Rules root")
ISSUING = issue_ca("Rules issuing CA", ROOT)
LEAF = issue_leaf(ISSUING)


def ask(tmp_path: Path, *, how: dict[str, Any] | None = None, **tables: dict[str, Any]) -> Answer:
    """One CreateSession, with more keys in the accounts file's tables and other ways to sign."""
    accounts = write_accounts(
        tmp_path / "accounts.toml",
        trust_anchors=[{"arn": ANCHOR_ARN, "certificates": [ROOT.pem], **tables.get("anchor", {})}],
        profiles=[{"arn": PROFILE_ARN, "role_arns": [ROLE_ARN], **tables.get("profile", {})}],
        roles=[{"arn": ROLE_ARN, "trust_policy": TRUST, **tables.get("role", {})}],
    )
    store = Store(tmp_path / "state", speed=1)
    body = session_body()
    headers = sign_session(LEAF, body, **{"chain": [ISSUING], **(how or {})})
    try:
        service = SessionService(store, AccountsFile(accounts), FaultPlan(), 1)
        inbound = Inbound("POST", "/sessions", "", tuple(headers.items()))
        return service.create_session(inbound, body, datetime.now(UTC))
    finally:
        store.close()


WRONG_LABELS = ["AWS4-X509-ECDSA-SHA384", "AWS4-X509-RSA-SHA256"]


@pytest.mark.parametrize("label", WRONG_LABELS)
def test_a_wrong_label_is_denied_or_recorded(tmp_path: Path, label: str) -> None:
    how = {"algorithm": label}
    with pytest.raises(ServiceError, match="does not belong to the certificate's key"):
        ask(tmp_path, how=how)
    answer = ask(tmp_path, how=how, anchor={"lenient": True})
    assert answer.status == 201
    assert "does not belong to the certificate's key" in answer.headers[REMARKS]


def test_an_unsigned_chain_is_denied_or_recorded(tmp_path: Path) -> None:
    how = {"unsigned": ("x-amz-x509-chain",)}
    with pytest.raises(ServiceError, match="x-amz-x509-chain must be signed"):
        ask(tmp_path, how=how)
    answer = ask(tmp_path, how=how, anchor={"lenient": True})
    assert answer.headers[REMARKS] == "The header x-amz-x509-chain must be signed."
    assert REMARKS not in ask(tmp_path, anchor={"lenient": True}).headers


def tags(*rules: tuple[str, str]) -> tuple[set[str], tuple[str, ...]]:
    found = read_subject(LEAF.certificate, rules)
    return set(found.tags), found.unmappable


def test_only_what_is_mapped_becomes_a_tag() -> None:
    everything = set(read_subject(LEAF.certificate).tags)
    assert tags(("x509Subject", "CN")) == ({"x509Subject/CN"}, ())
    assert tags(("x509Subject", "*"))[0] == {key for key in everything if key.startswith("x509Subject/")}
    assert tags() == (set(), ())
    assert tags(("x509Subject", "DC"))[1] == ("x509Subject/DC",)
    assert tags(("x509SAN", "Name/*")) == ({key for key in everything if "SAN/Name/" in key}, ())


@pytest.mark.parametrize(
    ("rules", "condition", "granted"),
    [
        (["x509Subject=CN"], "StringEquals", True),
        (["x509Issuer=CN"], "StringEquals", False),
        (["x509Issuer=CN"], "StringNotEquals", True),
        (["x509Subject=CN"], "StringNotEquals", False),
    ],
)
def test_a_removed_mapping_makes_equals_false_and_not_equals_true(
    tmp_path: Path, rules: list[str], condition: str, granted: bool
) -> None:
    name = read_subject(LEAF.certificate).tags["x509Subject/CN"]
    statement = {**TRUST["Statement"][0], "Condition": {condition: {"aws:PrincipalTag/x509Subject/CN": name}}}
    tables: dict[str, dict[str, Any]] = {
        "profile": {"attribute_mappings": rules},
        "role": {"trust_policy": {"Statement": [statement]}},
    }
    if granted:
        assert ask(tmp_path, **tables).status == 201
    else:
        with pytest.raises(ServiceError, match="Unable to assume role"):
            ask(tmp_path, **tables)


def test_a_rule_that_finds_nothing_is_a_denial_unless_ignored(tmp_path: Path) -> None:
    rules = {"attribute_mappings": ["x509SAN=DNS/2"]}
    with pytest.raises(ServiceError, match=r"failed to be mapped into session tags.*SAN: \[ DNS/2 \]"):
        ask(tmp_path, profile=rules)
    assert ask(tmp_path, profile={**rules, "ignores_unmappable": True}).status == 201


@pytest.mark.parametrize("rule", ["x509Subject", "subject=CN", "x509Subject=", "x509Subject=" + "a" * 61])
def test_rules_that_are_none(tmp_path: Path, rule: str) -> None:
    with pytest.raises(EmulatorError, match="is not FIELD=SPECIFIER"):
        ask(tmp_path, profile={"attribute_mappings": [rule]})
