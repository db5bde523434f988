"""CreateSession: what is granted, and every reason to refuse."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.errors import ServiceError
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.state.store import Store
from backup.emulator.core.wire import Inbound
from backup.emulator.rolesanywhere.session_request import verify_request
from backup.emulator.rolesanywhere.sessions import SessionService
from tests.emulator.authority import (
    ANCHOR_ARN,
    PROFILE_ARN,
    ROLE_ARN,
    TRUST,
    Holder,
    issue,
    issue_ca,
    issue_leaf,
    name,
    new_key,
    revoke,
    session_body,
    sign_session,
    usage,
)
from tests.support.emulated import ACCOUNT_ID, REGION, write_accounts

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "roles-anywhere-vectors.json").read_text())
VECTOR_TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ROOT = issue_ca("Test root")
ISSUING = issue_ca("Test issuing CA", ROOT)
LEAF = issue_leaf(ISSUING)
CA_FALSE = (x509.BasicConstraints(ca=False, path_length=None), True)
SIGNS = (usage("digital_signature"), True)


def _inbound(headers: dict[str, str], raw_query: str = "") -> Inbound:
    return Inbound("POST", "/sessions", raw_query, tuple(headers.items()))


@dataclass(slots=True)
class World:
    """An emulator's sessions without HTTP, over an accounts file that tests may rewrite."""

    folder: Path
    store: Store
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ask(self, headers: dict[str, str], body: bytes, raw_query: str = "") -> dict[str, Any]:
        """The answer's JSON; ServiceError for a denial."""
        accounts = write_accounts(
            self.folder / "accounts.toml",
            trust_anchors=[self.tables["anchor"]],
            profiles=[self.tables["profile"]],
            roles=[self.tables["role"]],
        )
        service = SessionService(self.store, AccountsFile(accounts), FaultPlan(), 1)
        answer = service.create_session(_inbound(headers, raw_query), body, datetime.now(UTC))
        assert answer.status == 201
        answered: dict[str, Any] = json.loads(answer.body)
        return answered

    def get(self, leaf: Holder = LEAF, body: bytes | None = None, **how: Any) -> dict[str, Any]:
        """Ask with a signed request."""
        body = session_body() if body is None else body
        how.setdefault("chain", [ISSUING])
        return self.ask(sign_session(leaf, body, **how), body)

    def refused(self, *arguments: Any, **how: Any) -> tuple[int, str, str]:
        """Status, code and message of a denial."""
        with pytest.raises(ServiceError) as refused:
            self.get(*arguments, **how)
        return refused.value.status, refused.value.code, refused.value.message


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    store = Store(tmp_path / "state", speed=1)
    found = World(tmp_path, store)
    found.tables = {
        "anchor": {"arn": ANCHOR_ARN, "certificates": [ROOT.pem]},
        "profile": {"arn": PROFILE_ARN, "role_arns": [ROLE_ARN]},
        "role": {"arn": ROLE_ARN, "trust_policy": TRUST},
    }
    yield found
    store.close()


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=["rsa", "ec"])
def test_published_vectors_verify(vector: dict[str, Any]) -> None:
    headers = {key.lower(): value for key, value in vector["headers"].items()}
    headers["authorization"] = vector["authorization"]
    signed = verify_request(_inbound(headers, vector["query"]), vector["body"].encode(), VECTOR_TIME)
    assert signed.region == "eu-central-1"
    assert len(signed.chain) == 1
    spoilt = vector["body"].encode() + b" "
    with pytest.raises(ServiceError, match=r"^Invalid signature$"):
        verify_request(_inbound(headers, vector["query"]), spoilt, VECTOR_TIME)


def test_every_field_of_the_answer(world: World) -> None:
    answer = world.get()
    serial = format(LEAF.certificate.serial_number, "x")
    serial = serial if len(serial) % 2 == 0 else "0" + serial
    assert list(answer) == ["credentialSet", "subjectArn"]
    (granted,) = answer["credentialSet"]
    user = granted["assumedRoleUser"]
    assert user["arn"] == f"arn:aws:sts::{ACCOUNT_ID}:assumed-role/GlacierWriter/{serial}"
    assert user["assumedRoleId"].startswith("AROA")
    assert user["assumedRoleId"].endswith(f":{serial}")
    assert granted["roleArn"] == ROLE_ARN
    assert granted["sourceIdentity"] == "CN=host-1"
    assert isinstance(granted["packedPolicySize"], int)
    assert answer["subjectArn"].startswith(f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}:subject/")
    credentials = granted["credentials"]
    assert list(credentials) == ["accessKeyId", "secretAccessKey", "sessionToken", "expiration"]
    assert credentials["accessKeyId"].startswith("ASIA")
    left = datetime.fromisoformat(credentials["expiration"]) - datetime.now(UTC)
    assert timedelta(seconds=3590) < left <= timedelta(seconds=3600)
    assert credentials["expiration"].endswith("Z")
    assert world.get()["subjectArn"] == answer["subjectArn"]


def test_parameters_in_the_query_as_go_sends_them(world: World) -> None:
    arns = {"profileArn": PROFILE_ARN, "roleArn": ROLE_ARN, "trustAnchorArn": ANCHOR_ARN}
    wire = "&".join(f"{key}={quote_plus(value)}" for key, value in arns.items())
    canonical = "&".join(f"{key}={quote(value, safe='')}" for key, value in sorted(arns.items()))
    body = b'{"durationSeconds":900}'
    headers = sign_session(LEAF, body, chain=[ISSUING], canonical_query=canonical)
    assert world.ask(headers, body, wire)["credentialSet"][0]["roleArn"] == ROLE_ARN


def test_query_and_body_that_differ_are_refused(world: World) -> None:
    body = session_body()
    headers = sign_session(LEAF, body, chain=[ISSUING], canonical_query="roleArn=other")
    with pytest.raises(ServiceError, match="roleArn is given twice"):
        world.ask(headers, body, "roleArn=other")


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves_sign_with_sha256(world: World, curve: ec.EllipticCurve) -> None:
    assert world.get(issue_leaf(ISSUING, key=ec.generate_private_key(curve)))


def test_rsa_and_mldsa_keys(world: World) -> None:
    assert world.get(issue_leaf(ISSUING, key=rsa.generate_private_key(65537, 2048)))
    assert world.get(issue_leaf(ISSUING, key=mldsa.MLDSA65PrivateKey.generate()))


def test_chain_may_hold_the_leaf_the_root_and_strangers_in_any_order(world: World) -> None:
    assert world.get(chain=[LEAF, issue_ca("stranger"), ROOT, ISSUING])


def test_an_intermediate_may_be_the_anchor(world: World) -> None:
    world.tables["anchor"]["certificates"] = [ISSUING.pem]
    assert world.get(chain=[])


SKEWS = [
    (timedelta(minutes=-16), "Signature expired: "),
    (timedelta(minutes=6), "Signature not yet current: "),
]


@pytest.mark.parametrize(("late", "words"), SKEWS)
def test_clock_window(world: World, late: timedelta, words: str) -> None:
    status, code, message = world.refused(late=late)
    assert (status, code) == (403, "AccessDeniedException")
    assert message.startswith(words)
    assert world.get(late=late - timedelta(minutes=2) * (1 if late > timedelta() else -1))


WRONG_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"region": "us-east-1"}, "Credential should be scoped to region eu-central-1, not us-east-1."),
    ({"service": "glacier"}, "Credential should be scoped to service rolesanywhere, not glacier."),
    ({"credential": "0x12"}, "serial number in decimal"),
    ({"scope_date": "20200101"}, "Date in Credential scope"),
    ({"algorithm": "AWS4-X509-RSA-SHA256"}, "does not belong to the certificate's key"),
    ({"algorithm": "AWS4-X509-ECDSA-SHA384"}, "does not belong to the certificate's key"),
    ({"unsigned": ("host",)}, "The header host must be signed."),
    ({"unsigned": ("x-amz-date",)}, "The header x-amz-date must be signed."),
    ({"unsigned": ("x-amz-x509",)}, "The header x-amz-x509 must be signed."),
    ({"unsigned": ("x-amz-x509-chain",)}, "The header x-amz-x509-chain must be signed."),
    ({"chain": []}, "Untrusted signing certificate"),
    ({"chain": [ISSUING] * 6}, "at most 5"),
]


@pytest.mark.parametrize(("how", "words"), WRONG_FORMS)
def test_wrong_requests(world: World, how: dict[str, Any], words: str) -> None:
    status, code, message = world.refused(**how)
    assert (status, code) == (403, "AccessDeniedException")
    assert words in message


@pytest.mark.parametrize("header", ["host", "content-type", "x-amz-date"])
def test_a_changed_header_spoils_the_signature(world: World, header: str) -> None:
    body = session_body()
    headers = sign_session(LEAF, body, chain=[ISSUING])
    headers[header] = (
        headers[header].replace("Z", "Z") + "x" if header != "x-amz-date" else _second_later(headers)
    )
    with pytest.raises(ServiceError, match=r"^Invalid signature$"):
        world.ask(headers, body)


def _second_later(headers: dict[str, str]) -> str:
    date = headers["x-amz-date"]
    return date[:-2] + ("0" if date[-2] != "0" else "1") + "Z"


def test_a_key_that_is_not_the_certificates(world: World) -> None:
    assert world.refused(Holder(LEAF.certificate, new_key())) == (
        403,
        "AccessDeniedException",
        "Invalid signature",
    )


def test_no_authorization_and_no_certificate(world: World) -> None:
    body = session_body()
    headers = sign_session(LEAF, body)
    for gone, words in (("authorization", "requires Credential"), ("x-amz-x509", "X-Amz-X509 is missing")):
        with pytest.raises(ServiceError, match=words):
            world.ask({key: value for key, value in headers.items() if key != gone}, body)
    with pytest.raises(ServiceError, match="no base64 DER certificate"):
        world.ask({**headers, "x-amz-x509": "bm8="}, body)


BAD_LEAVES: list[tuple[Callable[[], Holder], str]] = [
    (lambda: issue_leaf(ISSUING, days=(-20, -10)), "Untrusted signing certificate: it is valid from"),
    (lambda: issue_leaf(ISSUING, days=(10, 20)), "Untrusted signing certificate: it is valid from"),
    (lambda: issue_ca("leaf", ISSUING), "Insufficient certificate: it is a CA"),
    (lambda: issue_leaf(ISSUING, extensions=[CA_FALSE]), "lacks digitalSignature"),
    (lambda: issue_leaf(ISSUING, extensions=[(usage("key_encipherment"), True)]), "lacks digitalSignature"),
    (lambda: issue_leaf(ISSUING, subject=name()), "its subject is empty"),
    (
        lambda: issue_leaf(
            ISSUING, extensions=[SIGNS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]
        ),
        "lacks clientAuth",
    ),
    (lambda: issue_leaf(issue_ca("another CA")), "Untrusted signing certificate"),
    (lambda: issue_leaf(Holder(ISSUING.certificate, new_key())), "Untrusted signing certificate"),
]


@pytest.mark.parametrize(("make", "words"), BAD_LEAVES)
def test_bad_leaves(world: World, make: Callable[[], Holder], words: str) -> None:
    status, code, message = world.refused(make())
    assert (status, code) == (403, "AccessDeniedException")
    assert words in message


def test_a_leaf_needs_neither_constraints_nor_extended_usage(world: World) -> None:
    assert world.get(issue_leaf(ISSUING, extensions=[SIGNS]))


def test_an_expired_issuer_breaks_the_path(world: World) -> None:
    old = issue_ca("old issuing CA", ROOT, days=(-20, -10))
    assert world.refused(issue_leaf(old), chain=[old])[2] == "Untrusted signing certificate"


@pytest.mark.parametrize(("issuer", "revoked"), [(ISSUING, LEAF), (ROOT, ISSUING)])
def test_revocation_anywhere_on_the_path(world: World, issuer: Holder, revoked: Holder) -> None:
    serial = revoked.certificate.serial_number
    world.tables["anchor"]["crls"] = [revoke(issuer, serial)]
    assert world.refused()[2] == f"Untrusted signing certificate: certificate {serial} is revoked."


def test_lists_of_others_and_of_other_serials_revoke_nothing(world: World) -> None:
    forged = Holder(ISSUING.certificate, new_key())
    world.tables["anchor"]["crls"] = [revoke(forged, LEAF.certificate.serial_number), revoke(ISSUING, 12345)]
    assert world.get()


def test_disabled_and_unknown(world: World) -> None:
    unknown = world.refused(body=session_body(trustAnchorArn=ANCHOR_ARN + "0"))
    assert unknown[:2] == (404, "ResourceNotFoundException")
    assert world.refused(body=session_body(profileArn=PROFILE_ARN + "0"))[0] == 404
    world.tables["profile"]["enabled"] = False
    assert world.refused()[2] == f"The profile {PROFILE_ARN} is disabled."
    world.tables["anchor"]["enabled"] = False
    assert world.refused()[2] == f"The trust anchor {ANCHOR_ARN} is disabled."


def test_profile_of_another_region(world: World) -> None:
    elsewhere = PROFILE_ARN.replace(REGION, "us-east-1")
    world.tables["profile"]["arn"] = elsewhere
    status, code, message = world.refused(body=session_body(profileArn=elsewhere))
    assert (status, code) == (400, "ValidationException")
    assert "same region and account" in message


def test_role_outside_the_profile_or_missing(world: World) -> None:
    other = ROLE_ARN + "2"
    assert world.refused(body=session_body(roleArn=other)) == (
        403,
        "AccessDeniedException",
        "Requested Role isn't one of those listed in the Profile.",
    )
    world.tables["profile"]["role_arns"] = [other]
    assert world.refused(body=session_body(roleArn=other))[2] == f"Unable to assume role for {other}."


DURATIONS = [(None, 3600, 3600), (900, 3600, 900), (43200, 3600, 3600), (7200, 43200, 7200), (None, 900, 900)]


@pytest.mark.parametrize(("asked", "of_profile", "granted"), DURATIONS)
def test_durations(world: World, asked: int | None, of_profile: int, granted: int) -> None:
    world.tables["profile"]["duration_seconds"] = of_profile
    world.tables["role"]["max_session_duration"] = 43200
    expiration = world.get(body=session_body(durationSeconds=asked))["credentialSet"][0]["credentials"][
        "expiration"
    ]
    left = (datetime.fromisoformat(expiration) - datetime.now(UTC)).total_seconds()
    assert granted - 10 < left <= granted


def test_longer_than_the_role_allows(world: World) -> None:
    world.tables["profile"]["duration_seconds"] = 7200
    assert world.refused()[2] == (
        f"Unable to assume role for {ROLE_ARN}. The requested DurationSeconds exceeds the MaxSessionDuration "
        "set for this role."
    )
    assert world.get(body=session_body(durationSeconds=3600))


@pytest.mark.parametrize(
    "changes",
    [
        {"durationSeconds": 899},
        {"durationSeconds": 43201},
        {"durationSeconds": "x"},
        {"roleArn": None},
        {"roleArn": 3},
    ],
)
def test_bad_parameters(world: World, changes: dict[str, object]) -> None:
    assert world.refused(body=session_body(**changes))[:2] == (400, "ValidationException")


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_bodies_that_are_no_object(world: World, body: bytes) -> None:
    assert world.refused(body=body)[:2] == (400, "ValidationException")


def test_role_session_name(world: World) -> None:
    body = session_body(roleSessionName="nightly@host")
    assert world.refused(body=body)[2] == "Not authorized to set roleSessionName."
    world.tables["profile"]["accept_role_session_name"] = True
    assert world.get(body=body)["credentialSet"][0]["assumedRoleUser"]["arn"].endswith("/nightly@host")
    assert world.refused(body=session_body(roleSessionName="a b"))[1] == "ValidationException"
    assert world.get()


def _trust(condition: dict[str, Any] | None = None, actions: object = None) -> dict[str, Any]:
    statement = {**TRUST["Statement"][0], "Condition": condition or {}}
    if actions is not None:
        statement["Action"] = actions
    return {"Statement": [statement]}


TRUSTED = [
    {"StringEquals": {"aws:PrincipalTag/x509Subject/CN": "web-1", "aws:SourceAccount": ACCOUNT_ID}},
    {"StringEquals": {"aws:PrincipalTag/x509Subject/OU": "Security/Engineering"}},
    {"StringLike": {"aws:PrincipalTag/x509Issuer/CN": "Test *"}},
    {"StringEquals": {"aws:PrincipalTag/x509SAN/DNS": "first.example"}},
    {"StringEquals": {"aws:PrincipalTag/x509SAN/URI": "spiffe://one"}},
    {"StringEquals": {"aws:PrincipalTag/x509SAN/Name/O": "In the SAN"}},
    {"StringEquals": {"sts:SourceIdentity": "CN=web-1"}},
    {"ArnLike": {"aws:SourceArn": ANCHOR_ARN.rsplit("/", 1)[0] + "/*"}},
    {"StringNotEquals": {"aws:PrincipalTag/x509Subject/L": "anywhere"}},
]
UNTRUSTED = [
    {"StringEquals": {"aws:PrincipalTag/x509Subject/CN": "web-2"}},
    {"StringEquals": {"aws:PrincipalTag/x509SAN/DNS": "second.example"}},
    {"StringEquals": {"sts:SourceIdentity": "web-1"}},
    {"ArnEquals": {"aws:SourceArn": ANCHOR_ARN + "0"}},
    {"StringEquals": {"aws:PrincipalTag/x509Subject/L": "anywhere"}},
]


@pytest.fixture(scope="module")
def tagged() -> Holder:
    subject = name(
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Security"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
        (NameOID.COMMON_NAME, "web-1"),
    )
    names = x509.SubjectAlternativeName(
        [
            x509.DNSName("first.example"),
            x509.DNSName("second.example"),
            x509.UniformResourceIdentifier("spiffe://one"),
            x509.DirectoryName(name((NameOID.ORGANIZATION_NAME, "In the SAN"))),
        ]
    )
    return issue(subject, ISSUING, extensions=[CA_FALSE, SIGNS, (names, False)])


@pytest.mark.parametrize("condition", TRUSTED)
def test_conditions_that_hold(world: World, tagged: Holder, condition: dict[str, Any]) -> None:
    world.tables["role"]["trust_policy"] = _trust(condition)
    assert world.get(tagged)


@pytest.mark.parametrize("condition", UNTRUSTED)
def test_conditions_that_do_not(world: World, tagged: Holder, condition: dict[str, Any]) -> None:
    world.tables["role"]["trust_policy"] = _trust(condition)
    assert world.refused(tagged)[2] == f"Unable to assume role for {ROLE_ARN}."


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_all_three_actions_are_needed(world: World, gone: int) -> None:
    actions = list(TRUST["Statement"][0]["Action"])
    del actions[gone]
    world.tables["role"]["trust_policy"] = _trust(actions=actions)
    assert world.refused()[2] == f"Unable to assume role for {ROLE_ARN}."


def test_values_that_cannot_be_tags(world: World) -> None:
    leaf = issue_leaf(ISSUING, subject=name((NameOID.COMMON_NAME, "host (1)")))
    assert world.refused(leaf)[2] == (
        f"Unable to assume role for {ROLE_ARN}. Some attributes failed to be mapped into session tags. "
        "Issuer: [  ]; Subject: [ CN ]; SAN: [  ]"
    )


@pytest.mark.parametrize(
    ("subject", "serial", "identity"),
    [
        (name((NameOID.COMMON_NAME, "a" * 61)), 5, "CN=" + "a" * 61),
        (name((NameOID.COMMON_NAME, "a" * 62)), 5, "a" * 62),
        (name((NameOID.ORGANIZATION_NAME, "only")), 291, "ID=0123"),
    ],
)
def test_source_identity(world: World, subject: x509.Name, serial: int, identity: str) -> None:
    granted = world.get(issue_leaf(ISSUING, subject=subject, serial=serial))["credentialSet"][0]
    assert granted["sourceIdentity"] == identity
