"""The control plane of IAM Roles Anywhere as an ASGI application: 30 operations on trust anchors, profiles,
CRLs, subjects and their tags.

Source: botocore's model of IAM Roles Anywhere (2018-05-10), Service Authorization Reference.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import unquote

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.authenticate import authenticate
from backup.emulator.core.access.callers import Caller
from backup.emulator.core.access.evaluate import AccessRequest
from backup.emulator.core.access.identities import common_context, refusal
from backup.emulator.core.access.sigv4 import query_pairs
from backup.emulator.core.errors import ServiceError, denied
from backup.emulator.core.http.endpoint import Exchange, Scope, Send, inbound_of
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.http.receive import Body, Receive
from backup.emulator.core.state.settle import at_settled
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer, Inbound, date_ms, json_answer, session_error

from .control_call import ControlCall
from .given import tags as read_tags
from .operations import ListOf, Operation, find_operation
from .records import CREDENTIALS, KINDS, Record, find, need, records, save
from .session_request import invalid_parameter

_PAGE = 100
_PASSED_TO = "rolesanywhere.amazonaws.com"


class ControlService(Struct, frozen=True):
    """The application behind /trustanchors, /profiles, /crls, /subjects and the operations on tags."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        exchange = Exchange(scope, Body(receive, self.idle_seconds), send, now_ms=self.store.now_ms)
        operation, thing = find_operation(inbound.method, unquote(inbound.raw_path))
        fault = None if operation is None else self.faults.meet(f"rolesanywhere:{operation.name}", "")
        secure = scope.get("scheme") == "https"

        async def perform() -> Answer:
            return await self._perform(inbound, operation, thing, exchange.body, secure=secure)

        await exchange.run(perform, session_error, fault)

    async def _perform(
        self, inbound: Inbound, operation: Operation | None, thing: str, body: Body, *, secure: bool
    ) -> Answer:
        data = await body.read()
        if operation is None:
            raise ServiceError("UnknownOperationException", "There is no such operation.", status=404)

        def work(tx: Transaction) -> Answer:
            accounts, digest = self.accounts.current(), hashlib.sha256(data).hexdigest()
            caller = authenticate(
                inbound, digest, (), accounts, tx, service="rolesanywhere", expired=self.faults.expired
            )
            call = _call(operation, thing, caller, inbound, data)
            self._authorise(call, operation, inbound, tx, secure=secure)
            return _perform(call, operation, tx)

        return await at_settled(self.store, work, brief=True)

    def _authorise(
        self, call: ControlCall, operation: Operation, inbound: Inbound, tx: Transaction, *, secure: bool
    ) -> None:
        """Raise 403 unless the caller may call it, may set these tags, and may pass these roles."""
        context = common_context(call.caller, inbound, tx, secure=secure)
        found = find(call.arn, tx) if call.arn else None
        for key, value in (found.tags if found else {}).items():
            context[f"aws:ResourceTag/{key}"] = value
        tags = read_tags(call.given.get("tags"))
        for key, value in tags.items():
            context[f"aws:RequestTag/{key}"] = value
        if tags:
            context["aws:TagKeys"] = tuple(tags)
        resource = call.arn or "*"
        needed = [(f"rolesanywhere:{operation.name}", resource, context)]
        if tags and operation.name != "TagResource":
            kind = operation.kind or ""
            made = f"arn:aws:rolesanywhere:{call.region}:{call.account}:{kind}/new"
            needed.append(("rolesanywhere:TagResource", made, context))
        passing = {**context, "iam:PassedToService": _PASSED_TO}
        if operation.name in ("CreateProfile", "UpdateProfile"):
            needed += [("iam:PassRole", arn, passing) for arn in call.given.get("roleArns") or []]
        if call.caller.is_root:
            return
        for action, target, known in needed:
            asked = AccessRequest(action, target, call.account, known)
            refused = refusal(asked, call.caller, self.accounts.current(), tx)
            if refused is not None:
                raise denied(refused)


def _call(operation: Operation, thing: str, caller: Caller, inbound: Inbound, data: bytes) -> ControlCall:
    given = _body(data)
    pairs = tuple(query_pairs(inbound.raw_query, form=False))
    arn = ""
    if operation.names == "arn":
        arn = str(given.get("resourceArn") or dict(pairs).get("resourceArn") or "")
        parts = arn.split(":")
        if len(parts) != 6 or parts[2:5] != ["rolesanywhere", caller.region, caller.account_id]:
            raise invalid_parameter(f"{arn} is no resource of this account and region.")
    elif operation.names == "path" or operation.names == "body":
        thing = str(given.get("trustAnchorId") or "") if operation.names == "body" else thing
        arn = f"arn:aws:rolesanywhere:{caller.region}:{caller.account_id}:{operation.kind}/{thing}"
    return ControlCall(operation.name, caller, arn, given, pairs)


def _body(data: bytes) -> dict[str, Any]:
    try:
        given = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise invalid_parameter("The request body is not valid JSON.") from error
    if not isinstance(given, dict):
        raise invalid_parameter("The request body must be a JSON object.")
    return given


def _perform(call: ControlCall, operation: Operation, tx: Transaction) -> Answer:
    if operation.name == "TagResource":
        record = need(call.arn, tx)
        save(replace(record, tags=read_tags(call.given.get("tags"), record.tags)), tx)
        return json_answer({}, operation.status)
    if operation.name == "UntagResource":
        record, gone = need(call.arn, tx), call.given.get("tagKeys") or []
        save(replace(record, tags={k: v for k, v in record.tags.items() if k not in gone}), tx)
        return json_answer({}, operation.status)
    if operation.name == "ListTagsForResource":
        tags = need(call.arn, tx).tags
        return json_answer({"tags": [{"key": key, "value": value} for key, value in tags.items()]})
    if isinstance(operation.serve, ListOf):
        return _list(call, operation.serve, tx)
    assert operation.serve is not None  # noqa: S101
    record = operation.serve(call, tx)
    return json_answer({KINDS[record.kind]: shown(record)}, operation.status)


def _list(call: ControlCall, wanted: ListOf, tx: Transaction) -> Answer:
    """One page, in the order of creation; the token is the number of those before."""
    found = records(wanted.kind, call.account, call.region, tx)
    token, size = call.query.get("nextToken", "0"), call.query.get("pageSize", str(_PAGE))
    if not token.isdecimal() or not size.isdecimal() or not 1 <= int(size) <= _PAGE:
        raise invalid_parameter("nextToken or pageSize is invalid.")
    begin, end = int(token), int(token) + int(size)
    listed = [shown(record) for record in found[begin:end]]
    for record in listed:
        record.pop(CREDENTIALS, None)
    page: dict[str, object] = {wanted.member: listed}
    return json_answer(page | ({"nextToken": str(end)} if end < len(found) else {}))


def shown(record: Record) -> dict[str, Any]:
    """A record as the API shows it."""
    name = KINDS[record.kind]
    dates = {"createdAt": date_ms(record.created_ms), "updatedAt": date_ms(record.updated_ms)}
    return {f"{name}Id": record.id, f"{name}Arn": record.arn, **record.detail, **dates}
