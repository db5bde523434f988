"""Trust anchors, profiles and CRLs: made, changed, deleted.

Source: botocore's model of IAM Roles Anywhere. There is no client token and no conflict: the same request
again makes another one of the same name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from backup.emulator.core.state.store import Transaction

from . import given as members
from .control_call import ControlCall
from .records import DEFAULT_RULES, Record, load_crl, need, new_record, records, remove, save
from .session_request import invalid_parameter

_EVENTS = ("CA_CERTIFICATE_EXPIRY", "END_ENTITY_CERTIFICATE_EXPIRY")
_DAYS, _DEFAULTS_BY = 45, "rolesanywhere.amazonaws.com"
_DAYS_LIMIT = 360


def create_anchor(call: ControlCall, tx: Transaction) -> Record:
    """A trust anchor of a certificate bundle, disabled unless it is to be enabled."""
    given = call.given
    members.refuse_unsupported(given, "aliasName", "crlDpRevocationEnabled")
    detail = {
        "name": members.name(given),
        "source": members.source(given),
        "enabled": members.flag(given, "enabled", default=False),
        "notificationSettings": _notifications(given.get("notificationSettings") or [], _defaults()),
    }
    return _save_new("trust-anchor", call, detail, tx)


def update_anchor(call: ControlCall, tx: Transaction) -> Record:
    """Another name or bundle; `enabled` and notifications have operations of their own."""
    members.refuse_unsupported(call.given, "aliasName", "crlDpRevocationEnabled")
    record = need(call.arn, tx)
    if call.given.get("name") is not None:
        record = record.changed(name=members.name(call.given))
    if call.given.get("source") is not None:
        record = record.changed(source=members.source(call.given))
    return save(record, tx)


def put_notifications(call: ControlCall, tx: Transaction) -> Record:
    """Notifications of a trust anchor, by event."""
    record = need(call.arn, tx)
    wanted = call.given.get("notificationSettings") or []
    return save(
        record.changed(notificationSettings=_notifications(wanted, record.detail["notificationSettings"])), tx
    )


def reset_notifications(call: ControlCall, tx: Transaction) -> Record:
    """The default notifications of some events."""
    record = need(call.arn, tx)
    events = {key.get("event") for key in call.given.get("notificationSettingKeys") or []}
    kept = [setting for setting in record.detail["notificationSettings"] if setting["event"] not in events]
    fresh = [setting for setting in _defaults() if setting["event"] in events]
    return save(record.changed(notificationSettings=kept + fresh), tx)


def _defaults() -> list[dict[str, Any]]:
    return [_notification(event, _DAYS, _DEFAULTS_BY, enabled=True) for event in _EVENTS]


def _notification(event: str, days: int, by: str, *, enabled: bool) -> dict[str, Any]:
    return {"enabled": enabled, "event": event, "threshold": days, "channel": "ALL", "configuredBy": by}


def _notifications(wanted: list[Any], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    by_event = {setting["event"]: setting for setting in before}
    for setting in wanted:
        if not isinstance(setting, dict) or setting.get("event") not in _EVENTS or "enabled" not in setting:
            raise invalid_parameter("A notification setting needs an event and whether it is enabled.")
        days = setting.get("threshold", _DAYS)
        if not isinstance(days, int) or not 1 <= days <= _DAYS_LIMIT:
            raise invalid_parameter(f"threshold must be between 1 and {_DAYS_LIMIT}.")
        by_event[setting["event"]] = _notification(
            setting["event"], days, "customer", enabled=bool(setting["enabled"])
        )
    return list(by_event.values())


def create_profile(call: ControlCall, tx: Transaction) -> Record:
    """A profile, disabled unless it is to be enabled."""
    given = call.given
    members.refuse_unsupported(
        given, "aliasName", "tipConfiguration", "managedPolicyArns", "requireInstanceProperties"
    )
    detail = {
        "name": members.name(given),
        "requireInstanceProperties": False,
        "enabled": members.flag(given, "enabled", default=False),
        "createdBy": call.caller.arn,
        "roleArns": members.role_arns(given),
        "managedPolicyArns": [],
        "durationSeconds": members.seconds(given),
        "acceptRoleSessionName": members.flag(given, "acceptRoleSessionName", default=False),
        "attributeMappings": _mappings(dict.fromkeys(DEFAULT_RULES)),
    }
    policy = members.session_policy(given)
    return _save_new("profile", call, detail | ({"sessionPolicy": policy} if policy else {}), tx)


def update_profile(call: ControlCall, tx: Transaction) -> Record:
    """Replace what is given; `enabled` has operations of its own."""
    given, record = call.given, need(call.arn, tx)
    members.refuse_unsupported(given, "aliasName", "tipConfiguration", "managedPolicyArns")
    if given.get("name") is not None:
        record = record.changed(name=members.name(given))
    if given.get("roleArns") is not None:
        record = record.changed(roleArns=members.role_arns(given))
    if given.get("durationSeconds") is not None:
        record = record.changed(durationSeconds=members.seconds(given))
    accepts = members.flag(given, "acceptRoleSessionName", default=record.detail["acceptRoleSessionName"])
    record = record.changed(sessionPolicy=members.session_policy(given), acceptRoleSessionName=accepts)
    return save(record, tx)


def put_mapping(call: ControlCall, tx: Transaction) -> Record:
    """The rules of one field of the certificate, replaced."""
    record, where = need(call.arn, tx), call.given.get("certificateField")
    rules = [rule.get("specifier") for rule in call.given.get("mappingRules") or []]
    if where not in ("x509Subject", "x509Issuer", "x509SAN") or not all(
        isinstance(rule, str) for rule in rules
    ):
        raise invalid_parameter("A mapping needs a certificateField and rules with specifiers.")
    kept = [rule for rule in _rules(record) if rule[0] != where]
    return save(
        record.changed(
            attributeMappings=_mappings(dict.fromkeys([*kept, *((where, rule) for rule in rules)]))
        ),
        tx,
    )


def delete_mapping(call: ControlCall, tx: Transaction) -> Record:
    """The rules of one field removed: all of them, or some by their specifiers."""
    record, where = need(call.arn, tx), call.query.get("certificateField")
    gone = call.values("specifiers")
    kept = [rule for rule in _rules(record) if rule[0] != where or (gone and rule[1] not in gone)]
    return save(record.changed(attributeMappings=_mappings(dict.fromkeys(kept))), tx)


def _rules(record: Record) -> list[tuple[str, str]]:
    return [
        (mapping["certificateField"], rule["specifier"])
        for mapping in record.detail["attributeMappings"]
        for rule in mapping["mappingRules"]
    ]


def _mappings(rules: Mapping[tuple[str, str], None]) -> list[dict[str, Any]]:
    by_field: dict[str, list[dict[str, str]]] = {}
    for where, what in rules:
        by_field.setdefault(where, []).append({"specifier": what})
    return [
        {"certificateField": where, "mappingRules": mapping_rules}
        for where, mapping_rules in by_field.items()
    ]


def import_crl(call: ControlCall, tx: Transaction) -> Record:
    """A revocation list of a trust anchor, at most two each."""
    anchor = need(str(call.given.get("trustAnchorArn")), tx)
    known = records("crl", call.account, call.region, tx)
    if sum(crl.detail["trustAnchorArn"] == anchor.arn for crl in known) >= members.CRLS_OF_ANCHOR:
        raise invalid_parameter(f"A trust anchor can have at most {members.CRLS_OF_ANCHOR} CRLs.")
    detail = {
        "name": members.name(call.given),
        "enabled": members.flag(call.given, "enabled", default=False),
        "crlData": _crl(call.given),
        "trustAnchorArn": anchor.arn,
    }
    return _save_new("crl", call, detail, tx)


def update_crl(call: ControlCall, tx: Transaction) -> Record:
    """Another name or list."""
    record = need(call.arn, tx)
    if call.given.get("name") is not None:
        record = record.changed(name=members.name(call.given))
    if call.given.get("crlData") is not None:
        record = record.changed(crlData=_crl(call.given))
    return save(record, tx)


def _crl(given: Mapping[str, Any]) -> str:
    try:
        data = base64.b64decode(str(given.get("crlData") or ""), validate=True)
    except binascii.Error as error:
        raise invalid_parameter("crlData is not base64.") from error
    if not 1 <= len(data) <= members.CRL_LIMIT:
        raise invalid_parameter(f"crlData must be 1 to {members.CRL_LIMIT} bytes.")
    load_crl(data)
    return base64.b64encode(data).decode()


def enable(call: ControlCall, tx: Transaction) -> Record:
    """Enabled from now on."""
    return save(need(call.arn, tx).changed(enabled=True), tx)


def disable(call: ControlCall, tx: Transaction) -> Record:
    """Disabled from now on: no new session by it."""
    return save(need(call.arn, tx).changed(enabled=False), tx)


def get(call: ControlCall, tx: Transaction) -> Record:
    """The record that is named."""
    return need(call.arn, tx)


def delete(call: ControlCall, tx: Transaction) -> Record:
    """Deleted, as it was last; the CRLs of a trust anchor go with it."""
    record = need(call.arn, tx)
    remove(record, tx)
    for crl in records("crl", record.account, record.region, tx):
        if crl.detail["trustAnchorArn"] == record.arn:
            remove(crl, tx)
    return record


def _save_new(kind: str, call: ControlCall, detail: Mapping[str, Any], tx: Transaction) -> Record:
    record = new_record(kind, call.account, call.region, tx)
    return save(replace(record, detail=detail, tags=members.tags(call.given.get("tags"))), tx)
