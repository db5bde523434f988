"""The vault service as an ASGI application: route, authenticate, authorise, perform, answer."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from .accounts import Accounts
from .accounts_file import AccountsFile
from .archives import check_linear_hash
from .authenticate import Caller, authenticate
from .calls import Call
from .endpoint import Exchange, Scope, Send, inbound_of
from .errors import ServiceError, denied, invalid, missing
from .faults import FaultPlan
from .operations import Operation, Route, Streamed, find_route
from .policy import Policy
from .receive import Body, Receive, receive_file
from .settle import settle
from .sigv4 import query_pairs
from .store import Store
from .wire import Answer, Inbound, glacier_error

API_VERSION = "2012-06-01"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GlacierService:
    """The application; `idle_seconds` is how long a body may stall before 408."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        exchange = Exchange(scope, Body(receive, self.idle_seconds), send)
        query = dict(query_pairs(inbound.raw_query, form=False))
        try:
            route = find_route(inbound.method, unquote(inbound.raw_path), query)
        except ServiceError as error:
            answer = glacier_error(error)
            await exchange.run(lambda: _given(answer), glacier_error, None)
            return
        fault = self.faults.meet(route.operation.name, route.vault)
        call = Call(
            route.operation.name, route.account, "", inbound, self.store, route.vault, route.target, query
        )
        await exchange.run(lambda: self._perform(call, route, exchange.body), glacier_error, fault)

    async def _perform(self, call: Call, route: Route, body: Body) -> Answer:
        await asyncio.to_thread(settle, self.store)
        serve = route.operation.serve
        if isinstance(serve, Streamed):
            return await self._perform_streamed(call, route, serve, body)
        data = await body.read()
        computed = hashlib.sha256(data).hexdigest()
        return await asyncio.to_thread(self._perform_small, replace(call, body=data), route, computed)

    def _perform_small(self, call: Call, route: Route, computed: str) -> Answer:
        call = self._admit(call, route, computed, ())
        claimed = call.inbound.header("x-amz-content-sha256")
        if claimed is not None:
            check_linear_hash(claimed, computed)
        serve = route.operation.serve
        if serve is None or isinstance(serve, Streamed):
            raise ServiceError(
                "BadRequest", f"The emulator does not know the operation {call.operation} yet."
            )
        with self.store.transaction() as tx:
            return serve(call, tx)

    async def _perform_streamed(self, call: Call, route: Route, streamed: Streamed, body: Body) -> Answer:
        call = await asyncio.to_thread(self._admit_streamed, call, route, streamed)
        path = self.store.path(self.store.new_file())
        received = await receive_file(body, path)

        def finish() -> Answer:
            with self.store.transaction() as tx:
                return streamed.finish(call, tx, received)

        try:
            return await asyncio.to_thread(finish)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _admit_streamed(self, call: Call, route: Route, streamed: Streamed) -> Call:
        claimed = call.required("x-amz-content-sha256")
        if not _SHA256.fullmatch(claimed):
            raise invalid(f"Invalid x-amz-content-sha256: {claimed}")
        if call.inbound.header("transfer-encoding") is not None:
            raise missing("Required parameter missing: Content-Length")
        call = self._admit(call, route, claimed, ("x-amz-content-sha256",))
        with self.store.transaction() as tx:
            streamed.check(call, tx)
        return call

    def _admit(self, call: Call, route: Route, payload_hash: str, must_sign: tuple[str, ...]) -> Call:
        """The call with its caller's account and region; a ServiceError if it may not be made."""
        accounts = self.accounts.current()
        with self.store.transaction() as tx:
            caller = authenticate(call.inbound, payload_hash, must_sign, accounts, tx)
        _check_version(call.inbound)
        if route.account not in ("-", caller.account_id):
            raise denied(
                f"User: {caller.arn} is not authorized to perform: glacier:{call.operation} in account "
                f"{route.account}"
            )
        call = replace(call, account=caller.account_id, region=caller.region)
        _authorise(call, caller, route.operation, accounts)
        return call


async def _given(answer: Answer) -> Answer:
    return answer


def _check_version(inbound: Inbound) -> None:
    version = inbound.header("x-amz-glacier-version")
    if version is None:
        raise missing("Required parameter missing: x-amz-glacier-version")
    if version != API_VERSION:
        raise invalid(f"Invalid x-amz-glacier-version: {version}")


def _authorise(call: Call, caller: Caller, operation: Operation, accounts: Accounts) -> None:
    """Hold the call against the policy of the caller's role; static keys may do everything."""
    if caller.role_arn is None:
        return
    role = accounts.role(caller.role_arn)
    action, resource = f"glacier:{operation.name}", call.arn if call.vault else "*"
    refusal = f"User: {caller.arn} is not authorized to perform: {action} on resource: {resource}"
    if role is None:
        raise denied(f"{refusal} because its role does not exist")
    policy: Policy | None = role.policy
    if policy is None or policy.allows(action, caller.context, resource=resource):
        return
    if policy.denies(action, caller.context, resource=resource):
        raise denied(f"{refusal} with an explicit deny in an identity-based policy")
    raise denied(f"{refusal} because no identity-based policy allows the {action} action")
