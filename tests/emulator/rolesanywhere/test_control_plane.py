"""The control plane of Roles Anywhere by boto3's own client, and what a session by it may do."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.serialization import Encoding

from tests.emulator.authority import Holder, issue_ca, issue_leaf, revoke, session_body, sign_session
from tests.support.aws_admin import admin_client, allow, document, trust
from tests.support.emulated import ACCOUNT_ID, REGION, RunningEmulator, StaticKey, write_accounts
from tests.support.emulator_clients import code_and_message

MINE = [{"key": "nightvault:setup", "value": "one"}]
ROLE = f"arn:aws:iam::{ACCOUNT_ID}:role/r"
ARN = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT_ID}"


@pytest.fixture
def aws(emulator: RunningEmulator) -> Any:
    """The control plane, asked by the root."""
    return admin_client(emulator, "rolesanywhere")


def pem(*holders: Holder) -> str:
    """Certificates in PEM."""
    return "".join(holder.certificate.public_bytes(Encoding.PEM).decode() for holder in holders)


def bundle(*holders: Holder) -> dict[str, Any]:
    """The source of a trust anchor."""
    return {"sourceType": "CERTIFICATE_BUNDLE", "sourceData": {"x509CertificateData": pem(*holders)}}


def test_nothing_tells_a_repeated_request_from_a_first_one(aws: Any) -> None:
    ca = issue_ca("Twice")
    made = [aws.create_trust_anchor(name="twice", source=bundle(ca), tags=MINE)["trustAnchor"] for _ in "12"]
    assert made[0]["trustAnchorArn"] != made[1]["trustAnchorArn"]
    assert not made[0]["enabled"], "not enabled unless it is asked for"
    assert made[0]["trustAnchorArn"] == f"{ARN}:trust-anchor/{made[0]['trustAnchorId']}"
    assert {setting["event"] for setting in made[0]["notificationSettings"]} == {
        "CA_CERTIFICATE_EXPIRY",
        "END_ENTITY_CERTIFICATE_EXPIRY",
    }
    tags = aws.list_tags_for_resource(resourceArn=made[1]["trustAnchorArn"])["tags"]
    assert tags == MINE
    for anchor in made:
        aws.delete_trust_anchor(trustAnchorId=anchor["trustAnchorId"])
    with pytest.raises(ClientError) as gone:
        aws.get_trust_anchor(trustAnchorId=made[0]["trustAnchorId"])
    assert code_and_message(gone)[0] == "ResourceNotFoundException"


def test_an_anchor_is_changed_in_place(aws: Any) -> None:
    first, second = issue_ca("First"), issue_ca("Second")
    anchor = aws.create_trust_anchor(name="a", source=bundle(first), enabled=True)["trustAnchor"]
    number = anchor["trustAnchorId"]
    changed = aws.update_trust_anchor(trustAnchorId=number, source=bundle(first, second))["trustAnchor"]
    assert changed["trustAnchorArn"] == anchor["trustAnchorArn"]
    assert changed["source"] == bundle(first, second)
    assert aws.disable_trust_anchor(trustAnchorId=number)["trustAnchor"]["enabled"] is False
    assert aws.enable_trust_anchor(trustAnchorId=number)["trustAnchor"]["enabled"] is True
    told = {"enabled": True, "event": "CA_CERTIFICATE_EXPIRY", "threshold": 90}
    put = aws.put_notification_settings(trustAnchorId=number, notificationSettings=[told])["trustAnchor"]
    assert {setting["threshold"] for setting in put["notificationSettings"]} == {45, 90}
    keys = [{"event": "CA_CERTIFICATE_EXPIRY"}]
    reset = aws.reset_notification_settings(trustAnchorId=number, notificationSettingKeys=keys)["trustAnchor"]
    assert {setting["threshold"] for setting in reset["notificationSettings"]} == {45}


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (bundle(issue_leaf(issue_ca("X"))), "Incorrect basic constraints for CA certificate"),
        (bundle(issue_ca("1"), issue_ca("2"), issue_ca("3")), "at most 2"),
        (
            {"sourceType": "CERTIFICATE_BUNDLE", "sourceData": {"x509CertificateData": "x"}},
            "Invalid certificate",
        ),
    ],
)
def test_anchors_that_are_refused(aws: Any, source: dict[str, Any], words: str) -> None:
    with pytest.raises(ClientError) as refused:
        aws.create_trust_anchor(name="bad", source=source)
    code, message = code_and_message(refused)
    assert code == "ValidationException"
    assert words in message


def test_profiles_are_listed_in_pages_changed_and_mapped(aws: Any) -> None:
    made = [aws.create_profile(name=f"p{n}", roleArns=[ROLE])["profile"] for n in range(3)]
    listed = [
        profile
        for page in aws.get_paginator("list_profiles").paginate(pageSize=2)
        for profile in page["profiles"]
    ]
    assert [profile["profileId"] for profile in made] == [
        profile["profileId"] for profile in listed if profile["name"] in ("p0", "p1", "p2")
    ]
    number = made[0]["profileId"]
    changed = aws.update_profile(profileId=number, durationSeconds=900, roleArns=[])["profile"]
    assert (changed["durationSeconds"], changed["roleArns"], changed["enabled"]) == (900, [], False)
    assert aws.enable_profile(profileId=number)["profile"]["enabled"] is True
    rules = [{"specifier": "CN"}]
    mapped = aws.put_attribute_mapping(profileId=number, certificateField="x509Subject", mappingRules=rules)[
        "profile"
    ]["attributeMappings"]
    assert {"certificateField": "x509Subject", "mappingRules": rules} in mapped
    left = aws.delete_attribute_mapping(profileId=number, certificateField="x509Subject")["profile"]
    assert {mapping["certificateField"] for mapping in left["attributeMappings"]} == {"x509Issuer", "x509SAN"}
    aws.tag_resource(resourceArn=made[1]["profileArn"], tags=MINE)
    aws.untag_resource(resourceArn=made[1]["profileArn"], tagKeys=["nightvault:setup"])
    assert aws.list_tags_for_resource(resourceArn=made[1]["profileArn"])["tags"] == []
    for profile in made:
        aws.delete_profile(profileId=profile["profileId"])


def _create_session(emulator: RunningEmulator, leaf: Holder, **arns: str) -> dict[str, Any]:
    body = session_body(**arns)
    host = urlsplit(emulator.rolesanywhere_url).netloc
    request = urllib.request.Request(
        f"{emulator.rolesanywhere_url}/sessions",
        data=body,
        headers=sign_session(leaf, body, host=host),
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            credentials: dict[str, Any] = json.load(answer)["credentialSet"][0]["credentials"]
            return credentials
    except urllib.error.HTTPError as error:
        return dict(json.load(error))


@pytest.fixture
def made(emulator: RunningEmulator, aws: Any, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """An authority, and the anchor, role and profile that let its certificates in."""
    ca = issue_ca("Made")
    anchor = aws.create_trust_anchor(name="made", source=bundle(ca), enabled=True)["trustAnchor"]
    iam = admin_client(emulator, "iam")
    conditions = {
        "ArnEquals": {"aws:SourceArn": anchor["trustAnchorArn"]},
        "StringEquals": {"aws:PrincipalTag/x509Subject/CN": "host-1"},
    }
    name = request.node.name[:60]
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust(conditions))["Role"]
    iam.put_role_policy(
        RoleName=name,
        PolicyName="own",
        PolicyDocument=document(
            allow("s3:PutObject", "arn:aws:s3:::shared/${aws:PrincipalTag/x509Subject/CN}/*"),
            allow("s3:ListBucket", "arn:aws:s3:::shared"),
        ),
    )
    profile = aws.create_profile(name="made", roleArns=[role["Arn"]], enabled=True)["profile"]
    yield {"ca": ca, "anchor": anchor, "role": role, "profile": profile, "name": name}
    iam.delete_role_policy(RoleName=name, PolicyName="own")
    iam.delete_role(RoleName=name)
    aws.delete_profile(profileId=profile["profileId"])
    aws.delete_trust_anchor(trustAnchorId=anchor["trustAnchorId"])


def _session(emulator: RunningEmulator, made: dict[str, Any], leaf: Holder) -> dict[str, Any]:
    return _create_session(
        emulator,
        leaf,
        trustAnchorArn=made["anchor"]["trustAnchorArn"],
        profileArn=made["profile"]["profileArn"],
        roleArn=made["role"]["Arn"],
    )


def _s3(emulator: RunningEmulator, keys: dict[str, Any]) -> Any:
    return admin_client(emulator, "s3", keys["accessKeyId"], keys["secretAccessKey"], keys["sessionToken"])


def test_one_role_for_all_hosts_by_a_variable(emulator: RunningEmulator, made: dict[str, Any]) -> None:
    root = admin_client(emulator, "s3")
    root.create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3 = _s3(emulator, _session(emulator, made, issue_leaf(made["ca"])))
    s3.put_object(Bucket="shared", Key="host-1/data", Body=b"x")
    refusals: tuple[Callable[[], Any], ...] = (
        lambda: s3.put_object(Bucket="shared", Key="host-2/data", Body=b"x"),
        lambda: s3.put_object(Bucket="shared", Key="host-1x", Body=b"x"),
        lambda: s3.get_object(Bucket="shared", Key="host-1/data"),
        lambda: s3.delete_object(Bucket="shared", Key="host-1/data"),
        lambda: s3.put_bucket_policy(Bucket="shared", Policy=document()),
    )
    for refused in refusals:
        with pytest.raises(ClientError) as denial:
            refused()
        assert code_and_message(denial)[0] == "AccessDenied"
    root.delete_object(Bucket="shared", Key="host-1/data")
    root.delete_bucket(Bucket="shared")


def test_a_session_policy_limits_and_a_subject_is_seen(
    emulator: RunningEmulator, aws: Any, made: dict[str, Any]
) -> None:
    policy = document(allow("s3:ListBucket"))
    aws.update_profile(profileId=made["profile"]["profileId"], sessionPolicy=policy)
    root = admin_client(emulator, "s3")
    root.create_bucket(Bucket="shared", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3 = _s3(emulator, _session(emulator, made, issue_leaf(made["ca"])))
    with pytest.raises(ClientError) as denial:
        s3.put_object(Bucket="shared", Key="host-1/data", Body=b"x")
    root.delete_bucket(Bucket="shared")
    assert "because no session policy allows the s3:PutObject action" in code_and_message(denial)[1]
    subjects = aws.list_subjects()["subjects"]
    seen = next(subject for subject in subjects if subject["x509Subject"] == "CN=host-1")
    assert aws.get_subject(subjectId=seen["subjectId"])["subject"]["enabled"] is True


def test_a_subject_tells_of_its_certificates(
    emulator: RunningEmulator, aws: Any, made: dict[str, Any]
) -> None:
    """Defect: GetSubject had no credentials. The newest comes first, and a failed attempt is one, too."""
    first, second, stranger = (issue_leaf(ca) for ca in (made["ca"], made["ca"], issue_ca("Test root")))
    for leaf in (first, second, stranger):
        _session(emulator, made, leaf)
    aws.disable_profile(profileId=made["profile"]["profileId"])
    assert "is disabled" in _session(emulator, made, first)["message"]
    bodies: list[bytes] = []
    asked = "after-call.rolesanywhere.ListSubjects"
    aws.meta.events.register(asked, lambda http_response, **_: bodies.append(http_response.content))
    subjects = aws.list_subjects()["subjects"]
    assert b"lastSeenAt" in bodies[0]
    assert b"x509CertificateData" not in bodies[0], "a list tells nothing of certificates"
    number = next(listed["subjectId"] for listed in subjects if listed["x509Subject"] == "CN=host-1")
    subject = aws.get_subject(subjectId=number)["subject"]
    told = subject["credentials"]
    pem = [leaf.certificate.public_bytes(Encoding.PEM).decode() for leaf in (first, second)]
    assert [credential["x509CertificateData"] for credential in told][:2] == pem
    assert [credential["serialNumber"] for credential in told][:2] == [
        str(leaf.certificate.serial_number) for leaf in (first, second)
    ]
    assert [credential["failed"] for credential in told][:2] == [True, False]
    assert len({credential["serialNumber"] for credential in told}) == len(told), "each once"
    assert str(stranger.certificate.serial_number) not in {credential["serialNumber"] for credential in told}
    assert told[0]["issuer"] == first.certificate.issuer.rfc4514_string()
    assert told[0]["seenAt"] == subject["lastSeenAt"] >= told[1]["seenAt"]


def test_revoked_disabled_and_untrusted(emulator: RunningEmulator, aws: Any, made: dict[str, Any]) -> None:
    leaf = issue_leaf(made["ca"])
    assert "accessKeyId" in _session(emulator, made, leaf)
    crl = revoke(made["ca"], leaf.certificate.serial_number).encode()
    arn = made["anchor"]["trustAnchorArn"]
    imported = aws.import_crl(name="c", crlData=crl, trustAnchorArn=arn, enabled=True)["crl"]
    assert imported["crlData"] == crl
    assert "is revoked" in _session(emulator, made, leaf)["message"]
    aws.disable_crl(crlId=imported["crlId"])
    assert "accessKeyId" in _session(emulator, made, leaf)
    aws.import_crl(name="c", crlData=crl, trustAnchorArn=arn)
    with pytest.raises(ClientError, match="at most 2 CRLs"):
        aws.import_crl(name="c", crlData=crl, trustAnchorArn=arn)
    aws.disable_profile(profileId=made["profile"]["profileId"])
    assert "is disabled" in _session(emulator, made, leaf)["message"]
    aws.enable_profile(profileId=made["profile"]["profileId"])
    aws.disable_trust_anchor(trustAnchorId=made["anchor"]["trustAnchorId"])
    assert "is disabled" in _session(emulator, made, leaf)["message"]


def test_a_new_role_is_not_known_at_once(emulator: RunningEmulator, made: dict[str, Any]) -> None:
    emulator.change_settings(new_role_seconds=20)
    try:
        iam = admin_client(emulator, "iam")
        conditions = {"ArnEquals": {"aws:SourceArn": made["anchor"]["trustAnchorArn"]}}
        iam.update_assume_role_policy(RoleName=made["name"], PolicyDocument=trust(conditions))
        leaf = issue_leaf(made["ca"])
        assert (
            _session(emulator, made, leaf)["message"] == f"Unable to assume role for {made['role']['Arn']}."
        )
        emulator.advance(20)
        assert "accessKeyId" in _session(emulator, made, leaf)
    finally:
        emulator.change_settings(new_role_seconds=0)


def test_who_may_set_up(tmp_path: Any) -> None:
    """A profile needs iam:PassRole besides, tags need TagResource; a denial names action and resource."""
    tag = {"StringEquals": {"aws:RequestTag/nightvault:setup": "one"}}
    policy = document(
        allow(["rolesanywhere:CreateTrustAnchor", "rolesanywhere:CreateProfile"], Condition=tag),
        allow("rolesanywhere:TagResource", f"{ARN}:trust-anchor/*"),
        allow("iam:PassRole", ROLE, Condition={"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
    )
    keys = [StaticKey(), StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=policy)]
    accounts = write_accounts(tmp_path / "accounts.toml", keys=keys)
    with RunningEmulator(tmp_path / "state", accounts) as emulator:
        alice = admin_client(emulator, "rolesanywhere", "AKIAUSERUSERUSERUSER", "secret")
        ca = issue_ca("Alice's")
        assert alice.create_trust_anchor(name="a", source=bundle(ca), tags=MINE)["trustAnchor"]
        refused: dict[str, Callable[[], Any]] = {
            "rolesanywhere:CreateTrustAnchor on resource: *": lambda: alice.create_trust_anchor(
                name="a", source=bundle(ca)
            ),
            f"rolesanywhere:TagResource on resource: {ARN}:profile/": lambda: alice.create_profile(
                name="p", roleArns=[], tags=MINE
            ),
            "rolesanywhere:ListProfiles on resource: *": alice.list_profiles,
        }
        for words, ask in refused.items():
            with pytest.raises(ClientError) as denial:
                ask()
            code, message = code_and_message(denial)
            assert code == "AccessDeniedException"
            assert f"user/alice is not authorized to perform: {words}" in message
        more = document(allow(["rolesanywhere:*"]), *json.loads(policy)["Statement"][2:])
        keys[1] = StaticKey("AKIAUSERUSERUSERUSER", "secret", user="alice", policy=more)
        write_accounts(accounts, keys=keys)
        with pytest.raises(ClientError, match=f"iam:PassRole on resource: {ROLE}"):
            alice.create_profile(name="p", roleArns=[ROLE], tags=MINE)
