"""Roles of IAM: made, shown, changed, tagged, deleted, with their policies.

Source: IAM API Reference, IAM User Guide (quotas).
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from msgspec import Struct

from backup.emulator.core.access.callers import Caller
from backup.emulator.core.access.identities import MANAGED, attached_to
from backup.emulator.core.access.policy import Policy, parse_policy
from backup.emulator.core.errors import EmulatorError, ServiceError
from backup.emulator.core.state.settings import Settings
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import date_s

from .query import Node, members, query_error

NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
PATH = re.compile(r"/|/[!-~]+/")
TRUST_LIMIT, POLICIES_LIMIT, TAG_LIMIT = 2048, 10_240, 50  # characters without blanks; tags
ATTACHED_LIMIT = 10  # managed policies of a role, if the quota was not raised
PAGE = 100


class IamCall(Struct, frozen=True):
    """A call: who makes it, and its parameters."""

    caller: Caller
    given: Mapping[str, str]
    settings: Settings

    @property
    def name(self) -> str:
        """The name of the role that it is about."""
        name = self.given.get("RoleName", "")
        if not NAME.fullmatch(name):
            raise query_error("ValidationError", f"{name!r} is no name of a role.")
        return name

    def text(self, key: str) -> str:
        """A required parameter."""
        if not self.given.get(key):
            raise query_error("ValidationError", f"The request must contain the parameter {key}.")
        return self.given[key]


Serve = Callable[[IamCall, Transaction], "Iterable[Node] | None"]


def role_arn(call: IamCall, tx: Transaction) -> str:
    """The ARN of the role that a call is about; of one that is not there, as it would be."""
    row = _find(call, tx)
    return str(row["arn"]) if row else f"arn:aws:iam::{call.caller.account_id}:role{_path(call)}{call.name}"


def _path(call: IamCall) -> str:
    path = call.given.get("Path") or "/"
    if not PATH.fullmatch(path):
        raise query_error("ValidationError", f"{path!r} is no path of a role.")
    return path


def _find(call: IamCall, tx: Transaction) -> sqlite3.Row | None:
    row: sqlite3.Row | None = tx.db.execute(
        "SELECT * FROM roles WHERE account_id = ? AND name = ?", (call.caller.account_id, call.name)
    ).fetchone()
    return row


def tags_of(call: IamCall, tx: Transaction) -> dict[str, str]:
    """The tags of the role that a call is about; none if it is not there."""
    row = _find(call, tx) if call.given.get("RoleName") else None
    return {} if row is None else dict(json.loads(row["tags"]))


def _need(call: IamCall, tx: Transaction) -> sqlite3.Row:
    row = _find(call, tx)
    if row is None:
        raise query_error("NoSuchEntity", f"The role with name {call.name} cannot be found.", 404)
    return row


def given_tags(call: IamCall) -> dict[str, str]:
    """The tags in a request."""
    return {tag.get("Key", ""): tag.get("Value", "") for tag in members(call.given, "Tags")}


def create_role(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """A role; its name is unique in the account, whatever its path and case."""
    if _find(call, tx) is not None:
        raise query_error("EntityAlreadyExists", f"Role with name {call.name} already exists.", 409)
    if call.given.get("PermissionsBoundary"):
        raise query_error("InvalidInput", "The emulator does not have permissions boundaries.")
    trust = _trust(call)
    row = (
        *(role_arn(call, tx), call.caller.account_id, call.name, _path(call)),
        "AROA" + base64.b32encode(secrets.token_bytes(11)).decode()[:17],
        *(call.given.get("Description", ""), _seconds(call.given), trust, _tags_json(given_tags(call))),
        *(tx.now_ms, tx.now_ms + 1000 * call.settings.new_role_seconds),
    )
    tx.db.execute("INSERT INTO roles VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    return [("Role", _shown(_need(call, tx)))]


def _trust(call: IamCall, key: str = "AssumeRolePolicyDocument") -> str:
    text = call.text(key)
    policy = _policy(text)
    if any(not statement.principals and not statement.aws_principals for statement in policy.statements):
        raise _malformed("Missing required field Principal")
    if any(statement.resources or statement.not_resources for statement in policy.statements):
        raise _malformed("Has prohibited field Resource")
    if len("".join(text.split())) > TRUST_LIMIT:
        raise query_error("LimitExceeded", f"Cannot exceed quota for ACLSizePerRole: {TRUST_LIMIT}", 409)
    return text


def _policy(text: str) -> Policy:
    try:
        return parse_policy(text, "Policy")
    except EmulatorError as error:
        raise _malformed(str(error)) from error


def _malformed(message: str) -> ServiceError:
    return query_error("MalformedPolicyDocument", message)


def _seconds(given: Mapping[str, str], default: int = 3600) -> int:
    text = given.get("MaxSessionDuration") or str(default)
    if not text.isdecimal() or not 3600 <= int(text) <= 43200:
        raise query_error("ValidationError", "MaxSessionDuration must be between 3600 and 43200.")
    return int(text)


def _tags_json(tags: Mapping[str, str]) -> str:
    if len(tags) > TAG_LIMIT:
        raise query_error("LimitExceeded", f"Cannot exceed quota for TagsPerRole: {TAG_LIMIT}", 409)
    if any(not key or key.lower().startswith("aws:") for key in tags):
        raise query_error("InvalidInput", "A tag's key must not be empty or begin with aws:.")
    return json.dumps(dict(tags))


def _shown(row: sqlite3.Row, *, tags: bool = True) -> list[Node]:
    nodes: list[Node] = [
        ("Path", row["path"]),
        ("RoleName", row["name"]),
        ("RoleId", row["role_id"]),
        ("Arn", row["arn"]),
        ("CreateDate", date_s(row["created_ms"])),
        ("AssumeRolePolicyDocument", quote(row["trust_policy"], safe="")),
        ("Description", row["description"] or None),
        ("MaxSessionDuration", row["max_session_duration"]),
    ]
    return [*nodes, ("Tags", _tag_nodes(row))] if tags and row["tags"] != "{}" else nodes


def _tag_nodes(row: sqlite3.Row) -> list[Node]:
    return [("member", [("Key", key), ("Value", value)]) for key, value in json.loads(row["tags"]).items()]


def get_role(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """A role with its tags."""
    return [("Role", _shown(_need(call, tx)))]


def list_roles(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """Roles by name, without their tags, as the real list."""
    prefix, after = call.given.get("PathPrefix") or "/", call.given.get("Marker", "")
    limit = int(call.given.get("MaxItems") or PAGE)
    rows = tx.db.execute(
        "SELECT * FROM roles WHERE account_id = ? AND substr(path, 1, ?) = ? AND name > ? "
        "ORDER BY name LIMIT ?",
        (call.caller.account_id, len(prefix), prefix, after, limit + 1),
    ).fetchall()
    page, more = rows[:limit], len(rows) > limit
    roles: list[Node] = [("member", _shown(row, tags=False)) for row in page]
    return [("IsTruncated", more), ("Roles", roles), ("Marker", page[-1]["name"] if more else None)]


def update_role(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """Another description or maximum session duration."""
    row = _need(call, tx)
    told = call.given.get("Description", row["description"])
    seconds = _seconds(call.given, row["max_session_duration"])
    values = (told, seconds, row["arn"])
    tx.db.execute("UPDATE roles SET description = ?, max_session_duration = ? WHERE arn = ?", values)
    return []


def update_trust(call: IamCall, tx: Transaction) -> None:
    """Another trust policy; Roles Anywhere knows it after a while, if the settings say so."""
    row = _need(call, tx)
    known_ms = tx.now_ms + 1000 * call.settings.new_role_seconds
    values = (_trust(call, "PolicyDocument"), known_ms, row["arn"])
    tx.db.execute("UPDATE roles SET trust_policy = ?, assumable_ms = ? WHERE arn = ?", values)


def delete_role(call: IamCall, tx: Transaction) -> None:
    """Delete a role that has no policies any more."""
    row = _need(call, tx)
    if attached_to(row["arn"], tx):
        raise query_error("DeleteConflict", "Cannot delete entity, must detach all policies first.", 409)
    if _policies(row, tx):
        raise query_error("DeleteConflict", "Cannot delete entity, must delete policies first.", 409)
    tx.db.execute("DELETE FROM roles WHERE arn = ?", (row["arn"],))


def _policies(row: sqlite3.Row, tx: Transaction) -> dict[str, str]:
    rows = tx.db.execute("SELECT name, policy FROM role_policies WHERE role = ? ORDER BY name", (row["arn"],))
    return {policy_row["name"]: policy_row["policy"] for policy_row in rows}


def put_policy(call: IamCall, tx: Transaction) -> None:
    """Set an inline policy, replacing one of the same name."""
    row, name, text = _need(call, tx), call.text("PolicyName"), call.text("PolicyDocument")
    policy = _policy(text)
    if any(statement.principals or statement.aws_principals for statement in policy.statements):
        raise _malformed("Policy document should not specify a principal.")
    if any(not statement.resources and not statement.not_resources for statement in policy.statements):
        raise _malformed("Policy statement must contain resources.")
    others = [document for other, document in _policies(row, tx).items() if other != name]
    if sum(len("".join(document.split())) for document in (*others, text)) > POLICIES_LIMIT:
        raise query_error("LimitExceeded", f"Maximum policy size of {POLICIES_LIMIT} bytes exceeded", 409)
    tx.db.execute("INSERT OR REPLACE INTO role_policies VALUES (?, ?, ?)", (row["arn"], name, text))


def get_policy(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """An inline policy as it was set."""
    row, name = _need(call, tx), call.text("PolicyName")
    text = _need_policy(row, name, tx)
    return [("RoleName", row["name"]), ("PolicyName", name), ("PolicyDocument", quote(text, safe=""))]


def _need_policy(row: sqlite3.Row, name: str, tx: Transaction) -> str:
    text = _policies(row, tx).get(name)
    if text is None:
        raise query_error("NoSuchEntity", f"The role policy with name {name} cannot be found.", 404)
    return text


def delete_policy(call: IamCall, tx: Transaction) -> None:
    """Delete an inline policy."""
    row, name = _need(call, tx), call.text("PolicyName")
    _need_policy(row, name, tx)
    tx.db.execute("DELETE FROM role_policies WHERE role = ? AND name = ?", (row["arn"], name))


def list_policies(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """The names of a role's inline policies, in pages."""
    after, limit = call.given.get("Marker", ""), int(call.given.get("MaxItems") or PAGE)
    names = [name for name in _policies(_need(call, tx), tx) if name > after]
    page, more = names[:limit], len(names) > limit
    shown: list[Node] = [("member", name) for name in page]
    return [("IsTruncated", more), ("PolicyNames", shown), ("Marker", page[-1] if more else None)]


def attach_policy(call: IamCall, tx: Transaction) -> None:
    """Attach a managed policy; once more changes nothing."""
    row, arn = _need(call, tx), call.text("PolicyArn")
    if arn not in MANAGED:
        raise query_error("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)
    if len({*attached_to(row["arn"], tx), arn}) > ATTACHED_LIMIT:
        raise query_error("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {ATTACHED_LIMIT}", 409)
    tx.db.execute("INSERT OR IGNORE INTO attached_policies VALUES (?, ?)", (row["arn"], arn))


def detach_policy(call: IamCall, tx: Transaction) -> None:
    """Detach a managed policy."""
    row, arn = _need(call, tx), call.text("PolicyArn")
    if arn not in attached_to(row["arn"], tx):
        raise query_error("NoSuchEntity", f"Policy {arn} was not found.", 404)
    tx.db.execute("DELETE FROM attached_policies WHERE role = ? AND policy = ?", (row["arn"], arn))


def list_attached(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """The managed policies of a role, in pages."""
    after, limit = call.given.get("Marker", ""), int(call.given.get("MaxItems") or PAGE)
    arns = [arn for arn in attached_to(_need(call, tx)["arn"], tx) if arn > after]
    page, more = arns[:limit], len(arns) > limit
    shown: list[Node] = [
        ("member", [("PolicyName", arn.rsplit("/", 1)[-1]), ("PolicyArn", arn)]) for arn in page
    ]
    return [("IsTruncated", more), ("AttachedPolicies", shown), ("Marker", page[-1] if more else None)]


def tag_role(call: IamCall, tx: Transaction) -> None:
    """Add tags, replacing those of the same keys."""
    row = _need(call, tx)
    tags = _tags_json({**json.loads(row["tags"]), **given_tags(call)})
    tx.db.execute("UPDATE roles SET tags = ? WHERE arn = ?", (tags, row["arn"]))


def untag_role(call: IamCall, tx: Transaction) -> None:
    """Remove tags by their keys."""
    row = _need(call, tx)
    gone = {key[""] for key in members(call.given, "TagKeys")}
    left = {key: value for key, value in json.loads(row["tags"]).items() if key not in gone}
    tx.db.execute("UPDATE roles SET tags = ? WHERE arn = ?", (_tags_json(left), row["arn"]))


def list_tags(call: IamCall, tx: Transaction) -> Iterable[Node]:
    """A role's tags."""
    return [("IsTruncated", False), ("Tags", _tag_nodes(_need(call, tx)))]


OPERATIONS: Mapping[str, Serve] = {
    "CreateRole": create_role,
    "GetRole": get_role,
    "ListRoles": list_roles,
    "UpdateRole": update_role,
    "UpdateAssumeRolePolicy": update_trust,
    "DeleteRole": delete_role,
    "PutRolePolicy": put_policy,
    "GetRolePolicy": get_policy,
    "DeleteRolePolicy": delete_policy,
    "ListRolePolicies": list_policies,
    "AttachRolePolicy": attach_policy,
    "DetachRolePolicy": detach_policy,
    "ListAttachedRolePolicies": list_attached,
    "TagRole": tag_role,
    "UntagRole": untag_role,
    "ListRoleTags": list_tags,
}
