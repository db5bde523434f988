"""The control plane's operations: method, path, and what each is about.

Source: botocore's model of IAM Roles Anywhere (2018-05-10).
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from backup.emulator.core.state.store import Transaction

from . import making
from .control_call import ControlCall
from .records import Record

Serve = Callable[[ControlCall, Transaction], Record]


class ListOf(Struct, frozen=True):
    """A list of a kind, as a member of the answer."""

    kind: str
    member: str


class Operation(Struct, frozen=True):
    """An operation; `names` is where its subject is named: in the path, as an id in the body, as an ARN."""

    name: str
    method: str
    path: str
    kind: str
    serve: Serve | ListOf | None
    names: str = "path"
    status: int = 200

    def match(self, method: str, path: str) -> str | None:
        """The id in a path that is this operation's; empty where it has none; None if it is not."""
        before, marked, after = self.path.partition("{id}")
        if method != self.method or not path.startswith(before) or not path.endswith(after):
            return None
        thing = path[len(before) : len(path) - len(after)] if marked else path[len(before) :]
        if not marked:
            return None if thing else ""
        return thing if thing and "/" not in thing else None


def _of(kind: str, title: str, path: str, listed: str) -> tuple[Operation, ...]:
    """The operations that all kinds have: get, delete, enable, disable, list."""
    item_path = f"/{path}/{{id}}"
    return (
        Operation(f"Get{title}", "GET", item_path, kind, making.get),
        Operation(f"Delete{title}", "DELETE", item_path, kind, making.delete),
        Operation(f"Enable{title}", "POST", f"{item_path}/enable", kind, making.enable),
        Operation(f"Disable{title}", "POST", f"{item_path}/disable", kind, making.disable),
        Operation(f"List{title}s", "GET", f"/{path}s", kind, ListOf(kind, listed), ""),
    )


OPERATIONS = (
    Operation("CreateTrustAnchor", "POST", "/trustanchors", "trust-anchor", making.create_anchor, "", 201),
    Operation("UpdateTrustAnchor", "PATCH", "/trustanchor/{id}", "trust-anchor", making.update_anchor),
    *_of("trust-anchor", "TrustAnchor", "trustanchor", "trustAnchors"),
    Operation(
        *("PutNotificationSettings", "PATCH", "/put-notifications-settings", "trust-anchor"),
        *(making.put_notifications, "body"),
    ),
    Operation(
        *("ResetNotificationSettings", "PATCH", "/reset-notifications-settings", "trust-anchor"),
        *(making.reset_notifications, "body"),
    ),
    Operation("CreateProfile", "POST", "/profiles", "profile", making.create_profile, "", 201),
    Operation("UpdateProfile", "PATCH", "/profile/{id}", "profile", making.update_profile),
    *_of("profile", "Profile", "profile", "profiles"),
    Operation("PutAttributeMapping", "PUT", "/profiles/{id}/mappings", "profile", making.put_mapping),
    Operation(
        "DeleteAttributeMapping", "DELETE", "/profiles/{id}/mappings", "profile", making.delete_mapping
    ),
    Operation("ImportCrl", "POST", "/crls", "crl", making.import_crl, "", 201),
    Operation("UpdateCrl", "PATCH", "/crl/{id}", "crl", making.update_crl),
    *_of("crl", "Crl", "crl", "crls"),
    Operation("GetSubject", "GET", "/subject/{id}", "subject", making.get),
    Operation("ListSubjects", "GET", "/subjects", "subject", ListOf("subject", "subjects"), ""),
    Operation("TagResource", "POST", "/TagResource", "", None, "arn", 201),
    Operation("UntagResource", "POST", "/UntagResource", "", None, "arn"),
    Operation("ListTagsForResource", "GET", "/ListTagsForResource", "", None, "arn"),
)
NAMES = frozenset(f"rolesanywhere:{operation.name}" for operation in OPERATIONS)
FIRST_WORDS = frozenset(operation.path.split("/")[1] for operation in OPERATIONS)
"""The first parts of the paths, by which requests are told from those to the vault service."""


def find_operation(method: str, path: str) -> tuple[Operation | None, str]:
    """The operation of a request, and the id in its path."""
    for operation in OPERATIONS:
        thing = operation.match(method, path)
        if thing is not None:
            return operation, thing
    return None, ""
