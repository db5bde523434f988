"""The 33 operations of the vault service: the method, path and function of each.

Source: botocore's model of 2012-06-01 and the Developer Guide's api pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

from msgspec import Struct

from backup.emulator.core.errors import ServiceError
from backup.emulator.core.http.receive import Received
from backup.emulator.core.state.store import Transaction
from backup.emulator.core.wire import Answer

from .access_policies import delete_access_policy, get_access_policy, set_access_policy
from .archives import check_upload_archive, delete_archive, upload_archive
from .call import Call
from .capacity import list_capacity, purchase_capacity
from .jobs import describe_job, initiate_job, list_jobs
from .locks import abort_lock, complete_lock, get_lock, initiate_lock
from .notifications import drop_notifications, get_notifications, set_notifications
from .output import get_job_output
from .retrieval_policy import get_retrieval_policy, set_retrieval_policy
from .tags import add_tags, list_tags, remove_tags
from .uploads import (
    abort_upload,
    check_part,
    complete_upload,
    initiate_upload,
    list_parts,
    list_uploads,
    upload_part,
)
from .vaults import create_vault, delete_vault, describe_vault, list_vaults

Serve = Callable[[Call, Transaction], Answer]


class Streamed(Struct, frozen=True):
    """An upload in two steps: a check before the body arrives, and the work with the body."""

    check: Callable[[Call, Transaction], None]
    finish: Callable[[Call, Transaction, Received], Answer]


class Operation(Struct, frozen=True):
    """One operation; `flag` is a query parameter that distinguishes it from another with the same path."""

    name: str
    method: str
    path: re.Pattern[str]
    serve: Serve | Streamed
    flag: tuple[str, str] | None = None


def _path(tail: str) -> re.Pattern[str]:
    named = tail.replace("{vault}", "/vaults/(?P<vault>[^/]+)").replace("{target}", "(?P<target>[^/]+)")
    return re.compile("/(?P<account>[^/]+)" + named)


def _operation(
    name: str,
    method: str,
    tail: str,
    serve: Serve | Streamed,
    flag: tuple[str, str] | None = None,
) -> Operation:
    return Operation(name, method, _path(tail), serve, flag)


OPERATIONS = (
    _operation("CreateVault", "PUT", "{vault}", create_vault),
    _operation("DescribeVault", "GET", "{vault}", describe_vault),
    _operation("DeleteVault", "DELETE", "{vault}", delete_vault),
    _operation("ListVaults", "GET", "/vaults", list_vaults),
    _operation("UploadArchive", "POST", "{vault}/archives", Streamed(check_upload_archive, upload_archive)),
    _operation("DeleteArchive", "DELETE", "{vault}/archives/{target}", delete_archive),
    _operation("InitiateMultipartUpload", "POST", "{vault}/multipart-uploads", initiate_upload),
    _operation(
        "UploadMultipartPart", "PUT", "{vault}/multipart-uploads/{target}", Streamed(check_part, upload_part)
    ),
    _operation("CompleteMultipartUpload", "POST", "{vault}/multipart-uploads/{target}", complete_upload),
    _operation("AbortMultipartUpload", "DELETE", "{vault}/multipart-uploads/{target}", abort_upload),
    _operation("ListMultipartUploads", "GET", "{vault}/multipart-uploads", list_uploads),
    _operation("ListParts", "GET", "{vault}/multipart-uploads/{target}", list_parts),
    _operation("InitiateJob", "POST", "{vault}/jobs", initiate_job),
    _operation("ListJobs", "GET", "{vault}/jobs", list_jobs),
    _operation("DescribeJob", "GET", "{vault}/jobs/{target}", describe_job),
    _operation("GetJobOutput", "GET", "{vault}/jobs/{target}/output", get_job_output),
    _operation("AddTagsToVault", "POST", "{vault}/tags", add_tags, ("operation", "add")),
    _operation("RemoveTagsFromVault", "POST", "{vault}/tags", remove_tags, ("operation", "remove")),
    _operation("ListTagsForVault", "GET", "{vault}/tags", list_tags),
    _operation("SetVaultNotifications", "PUT", "{vault}/notification-configuration", set_notifications),
    _operation("GetVaultNotifications", "GET", "{vault}/notification-configuration", get_notifications),
    _operation(
        "DeleteVaultNotifications", "DELETE", "{vault}/notification-configuration", drop_notifications
    ),
    _operation("SetVaultAccessPolicy", "PUT", "{vault}/access-policy", set_access_policy),
    _operation("GetVaultAccessPolicy", "GET", "{vault}/access-policy", get_access_policy),
    _operation("DeleteVaultAccessPolicy", "DELETE", "{vault}/access-policy", delete_access_policy),
    _operation("InitiateVaultLock", "POST", "{vault}/lock-policy", initiate_lock),
    _operation("CompleteVaultLock", "POST", "{vault}/lock-policy/{target}", complete_lock),
    _operation("AbortVaultLock", "DELETE", "{vault}/lock-policy", abort_lock),
    _operation("GetVaultLock", "GET", "{vault}/lock-policy", get_lock),
    _operation("GetDataRetrievalPolicy", "GET", "/policies/data-retrieval", get_retrieval_policy),
    _operation("SetDataRetrievalPolicy", "PUT", "/policies/data-retrieval", set_retrieval_policy),
    _operation("ListProvisionedCapacity", "GET", "/provisioned-capacity", list_capacity),
    _operation("PurchaseProvisionedCapacity", "POST", "/provisioned-capacity", purchase_capacity),
)
NAMES = frozenset(operation.name for operation in OPERATIONS)
_BY_METHOD = {
    method: tuple(operation for operation in OPERATIONS if operation.method == method)
    for method in ("GET", "PUT", "POST", "DELETE")
}
BRIEF = NAMES - {
    # these read files, leaves, or all rows of something large
    *("DeleteVault", "DeleteArchive", "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"),
    *("InitiateJob", "ListJobs", "DescribeJob", "GetJobOutput"),
}


class Route(Struct, frozen=True):
    """An operation and the names in its path, decoded; empty where the path has none."""

    operation: Operation
    account: str
    vault: str
    target: str


def find_route(method: str, path: str, query: Mapping[str, str]) -> Route:
    """The operation of a request; 400 where there is none.

    `path` is as it was sent: it is split before it is decoded, so that no name can contain a separator.
    """
    for operation in _BY_METHOD.get(method, ()):
        found = operation.path.fullmatch(path)
        if found is None:
            continue
        if operation.flag is not None and query.get(operation.flag[0]) != operation.flag[1]:
            continue
        names = {name: unquote(text) for name, text in found.groupdict().items()}
        return Route(operation, names["account"], names.get("vault", ""), names.get("target", ""))
    raise ServiceError("BadRequest", f"There is no operation {method} {path}.")
