"""CreateSession of IAM Roles Anywhere: from a signed request to temporary credentials, or to the reason why
not.

Source: IAM Roles Anywhere User Guide (CreateSession, trust model) and the denials that users have met; where
no text is known it is our own. Certificates, signatures and credentials are judged by real time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding
from msgspec import Struct

from backup.emulator.core.access.accounts import Accounts, Profile, Role, TrustAnchor
from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.certificates import check_path
from backup.emulator.core.access.identities import find_role
from backup.emulator.core.errors import ServiceError, denied, not_found
from backup.emulator.core.http.endpoint import Exchange, Scope, Send, inbound_of
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.http.receive import Body, Receive
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer, Inbound, date_s, json_answer, session_error

from .records import CREDENTIALS, Record, find, find_anchor, find_profile, save
from .session_request import (
    SessionParameters,
    SignedSession,
    invalid_parameter,
    read_parameters,
    verify_request,
)
from .subject import Subject, mapping_failure, read_subject

SERVICE = "rolesanywhere.amazonaws.com"
TRUST_ACTIONS = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
REMARKS = "x-emulator-remarks"  # where a lenient trust anchor records what it let pass
MOST_CREDENTIALS = 100  # certificates of one subject that are shown, the newest first
PACKED_LIMIT = 2048  # characters of packed tags that count as 100 per cent
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


class Grant(Struct, frozen=True):
    """A session that may be issued."""

    anchor: TrustAnchor
    role: Role
    subject: Subject
    session_name: str
    seconds: int
    subject_arn: str
    session_policy: str | None = None

    @property
    def session_arn(self) -> str:
        """The ARN `arn:aws:sts::<account>:assumed-role/<role>/<session>`."""
        partition, account = self.role.arn.split(":")[1], self.role.account_id
        return f"arn:{partition}:sts::{account}:assumed-role/{_role_name(self.role)}/{self.session_name}"


class SessionService(Struct, frozen=True):
    """The ASGI application behind POST /sessions."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        exchange = Exchange(scope, Body(receive, self.idle_seconds), send)
        fault = self.faults.meet("CreateSession", "") if inbound.method == "POST" else None
        await exchange.run(lambda: self._perform(inbound, exchange.body), session_error, fault)

    async def _perform(self, inbound: Inbound, body: Body) -> Answer:
        if inbound.method != "POST":
            raise ServiceError("MethodNotAllowed", "Only POST is answered here.", status=405)
        data = await body.read()
        return await asyncio.to_thread(self.create_session, inbound, data, datetime.now(UTC))

    def create_session(self, inbound: Inbound, body: bytes, now: datetime) -> Answer:
        """Issue credentials and store them; status 201."""
        parameters = read_parameters(inbound.raw_query, body)
        with self.store.transaction() as tx:
            known = _find(parameters, self.accounts.current(), tx)
            lenient = known.anchor is not None and known.anchor.lenient
            signed = verify_request(inbound, body, now, lenient=lenient)
            try:
                answer: Answer | ServiceError = _issue(decide(parameters, signed, known, now), now, tx)
            except ServiceError as error:
                answer = error
            _remember_attempt(signed, known, now, tx, failed=isinstance(answer, ServiceError))
        if isinstance(answer, ServiceError):
            raise answer
        if not signed.remarks:
            return answer
        return Answer(answer.status, {**answer.headers, REMARKS: " ".join(signed.remarks)}, answer.body)


class Known(Struct, frozen=True):
    """The parts that a request names, as far as they are there; `now_ms` by the emulator's clock."""

    anchor: TrustAnchor | None
    profile: Profile | None
    role: Role | None
    now_ms: int


def _find(parameters: SessionParameters, accounts: Accounts, tx: Transaction) -> Known:
    return Known(
        find_anchor(parameters.trust_anchor_arn, accounts, tx),
        find_profile(parameters.profile_arn, accounts, tx),
        find_role(parameters.role_arn, accounts, tx),
        tx.now_ms,
    )


def _issue(grant: Grant, now: datetime, tx: Transaction) -> Answer:
    expires_ms = (int(now.timestamp()) + grant.seconds) * 1000
    key_id = "ASIA" + base64.b32encode(secrets.token_bytes(10)).decode()
    secret = base64.b64encode(secrets.token_bytes(30)).decode()
    token = base64.b64encode(secrets.token_bytes(300)).decode()
    context = {f"aws:PrincipalTag/{key}": value for key, value in grant.subject.tags.items()}
    context["aws:SourceIdentity"] = grant.subject.source_identity
    row = (
        *(key_id, secret, token, expires_ms, grant.role.account_id, grant.role.arn, grant.session_arn),
        *(json.dumps(context), grant.session_policy),
    )
    tx.db.execute("INSERT INTO credentials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    credentials = {
        "accessKeyId": key_id,
        "secretAccessKey": secret,
        "sessionToken": token,
        "expiration": date_s(expires_ms),
    }
    return json_answer(_session(grant, credentials), 201)


def _remember_attempt(
    signed: SignedSession, known: Known, now: datetime, tx: Transaction, *, failed: bool
) -> None:
    """The subject and its certificate as the control plane shows them, made when they are first seen.

    An attempt with a certificate of another authority than the trust anchor's is nobody's.
    """
    if known.anchor is None or (failed and not _is_of(signed, known.anchor, now)):
        return
    arn, seen_at = _subject_arn(known.anchor, signed), date_s(tx.now_ms)
    _, _, _, region, account, _ = arn.split(":", 5)
    there = find(arn, tx) or Record(arn, "subject", account, region, created_ms=tx.now_ms)
    shown = {
        "seenAt": seen_at,
        "serialNumber": str(signed.leaf.serial_number),
        "issuer": signed.leaf.issuer.rfc4514_string(),
        "enabled": True,
        "x509CertificateData": signed.leaf.public_bytes(Encoding.PEM).decode(),
        "failed": failed,
    }
    others = [
        credential for credential in there.detail.get(CREDENTIALS, ()) if not _is_same(credential, shown)
    ]
    seen = {"enabled": True, "x509Subject": signed.leaf.subject.rfc4514_string(), "lastSeenAt": seen_at}
    save(there.changed(**seen, **{CREDENTIALS: [shown, *others][:MOST_CREDENTIALS]}), tx)


def _is_of(signed: SignedSession, anchor: TrustAnchor, now: datetime) -> bool:
    """Whether the anchor's authority issued the certificate, be it revoked or not."""
    try:
        check_path(signed.leaf, signed.chain, anchor.certificates, (), now)
    except ServiceError:
        return False
    return True


def _is_same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    return all(one[name] == other[name] for name in ("serialNumber", "issuer"))


def _session(grant: Grant, credentials: dict[str, str]) -> dict[str, object]:
    packed = sum(len(key) + len(value) for key, value in grant.subject.tags.items())
    digest = base64.b32encode(hashlib.sha256(grant.role.arn.encode()).digest()).decode()
    return {
        "credentialSet": [
            {
                "assumedRoleUser": {
                    "arn": grant.session_arn,
                    "assumedRoleId": f"AROA{digest[:17]}:{grant.session_name}",
                },
                "credentials": credentials,
                "packedPolicySize": -(-100 * packed // PACKED_LIMIT),
                "roleArn": grant.role.arn,
                "sourceIdentity": grant.subject.source_identity,
            }
        ],
        "subjectArn": grant.subject_arn,
    }


def decide(parameters: SessionParameters, signed: SignedSession, known: Known, now: datetime) -> Grant:
    """Whether a request whose signature holds gets a session: the anchor, the profile, the role, in this
    order.
    """
    anchor, profile = known.anchor, known.profile
    if anchor is None:
        raise not_found(f"There is no trust anchor {parameters.trust_anchor_arn}.")
    if profile is None:
        raise not_found(f"There is no profile {parameters.profile_arn}.")
    _check_places(anchor, profile, signed.region)
    check_path(signed.leaf, signed.chain, anchor.certificates, anchor.crls, now)
    role = _role(parameters.role_arn, profile, known)
    subject = read_subject(signed.leaf, profile.mappings, ignores_unmappable=profile.ignores_unmappable)
    session_name = _session_name(parameters, profile, subject)
    seconds = min(profile.duration_seconds, parameters.duration_seconds or profile.duration_seconds)
    _check_trust(role, anchor, subject)
    if seconds > role.max_session_duration:
        raise denied(
            f"Unable to assume role for {role.arn}. The requested DurationSeconds exceeds the "
            "MaxSessionDuration set "
            "for this role."
        )
    arn = _subject_arn(anchor, signed)
    return Grant(anchor, role, subject, session_name, seconds, arn, profile.session_policy)


def _check_places(anchor: TrustAnchor, profile: Profile, region: str) -> None:
    if not anchor.enabled:
        raise denied(f"The trust anchor {anchor.arn} is disabled.")
    if not profile.enabled:
        raise denied(f"The profile {profile.arn} is disabled.")
    anchor_region, profile_region = anchor.arn.split(":")[3], profile.arn.split(":")[3]
    if anchor_region != profile_region or anchor.account_id != profile.account_id:
        raise invalid_parameter("The trust anchor and the profile must be in the same region and account.")
    if region != anchor_region:
        raise denied(f"Credential should be scoped to region {anchor_region}, not {region}.")


def _role(arn: str, profile: Profile, known: Known) -> Role:
    if arn not in profile.role_arns:
        raise denied("Requested Role isn't one of those listed in the Profile.")
    role = known.role
    if role is None or role.account_id != profile.account_id or role.assumable_ms > known.now_ms:
        raise denied(f"Unable to assume role for {arn}.")
    return role


def _session_name(parameters: SessionParameters, profile: Profile, subject: Subject) -> str:
    name = parameters.role_session_name
    if name is None:
        return subject.session_name
    if not profile.accept_role_session_name:
        raise denied("Not authorized to set roleSessionName.")
    if not _SESSION_NAME.fullmatch(name):
        raise invalid_parameter(
            f"roleSessionName must be 2 to 64 of letters, digits and _+=,.@-, not {name!r}."
        )
    return name


def _check_trust(role: Role, anchor: TrustAnchor, subject: Subject) -> None:
    if subject.unmappable:
        raise denied(f"Unable to assume role for {role.arn}. {mapping_failure(subject.unmappable)}")
    context = {
        "aws:SourceArn": anchor.arn,
        "aws:SourceAccount": anchor.account_id,
        "sts:SourceIdentity": subject.source_identity,
    }
    for key, value in subject.tags.items():
        context[f"aws:PrincipalTag/{key}"] = context[f"aws:RequestTag/{key}"] = value
    if not all(role.trust_policy.allows(action, context, service=SERVICE) for action in TRUST_ACTIONS):
        raise denied(f"Unable to assume role for {role.arn}.")


def _subject_arn(anchor: TrustAnchor, signed: SignedSession) -> str:
    """One subject for each distinct X.509 subject of an account and region."""
    prefix = anchor.arn.rsplit(":", 1)[0]
    name = f"{prefix} {signed.leaf.subject.public_bytes().hex()}"
    return f"{prefix}:subject/{uuid.uuid5(uuid.NAMESPACE_X500, name)}"


def _role_name(role: Role) -> str:
    return role.arn.rsplit("/", 1)[-1]
