"""The vault service as an ASGI application: route, authenticate, authorise, perform, answer."""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.authenticate import authenticate
from backup.emulator.core.access.callers import claimed_key
from backup.emulator.core.access.sigv4 import query_pairs
from backup.emulator.core.errors import MESSAGE_BY_CODE, ServiceError, invalid, missing
from backup.emulator.core.http.endpoint import Exchange, Scope, Send, inbound_of
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.http.receive import BRIEF_BYTES, Body, Receive, receive_file
from backup.emulator.core.state.settings import SettingsInForce
from backup.emulator.core.state.settle import at_settled, in_turn
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer, Inbound, glacier_error

from .archives import UPLOAD_LIMIT, check_linear_hash, content_length
from .authorise import authorise
from .call import Call
from .inventories import make_inventories
from .metering import meter_request
from .operations import BRIEF, Route, Serve, Streamed, find_route

API_VERSION = "2012-06-01"
_SHA256 = re.compile(r"[0-9a-f]{64}")


class GlacierService(Struct, frozen=True):
    """The application; `idle_seconds` is how long a body may stall before 408."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    settings: SettingsInForce
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        body = Body(receive, self.idle_seconds, scope["state"].get("protocol"))
        exchange = Exchange(scope, body, send, now_ms=self.store.now_ms)
        query = dict(query_pairs(inbound.raw_query, form=False))
        try:
            route = find_route(inbound.method, inbound.raw_path, query)
        except ServiceError as error:
            answer = glacier_error(error)
            await exchange.run(lambda: _given(answer), glacier_error, None)
            return
        fault = self.faults.meet(route.operation.name, route.vault)
        if fault is not None and fault.expire_credentials:
            self.faults.expire(claimed_key(inbound))
        call = Call(
            route.operation.name,
            route.account,
            "",
            inbound,
            self.store,
            self.settings.current,
            route.vault,
            route.target,
            query,
            secure=scope.get("scheme") == "https",
            unknown_seconds=0.0 if fault is None else fault.unknown_seconds,
        )
        await exchange.run(lambda: self._perform(call, route, exchange.body), glacier_error, fault)

    async def _perform(self, call: Call, route: Route, body: Body) -> Answer:
        serve = route.operation.serve
        if isinstance(serve, Streamed):
            return await self._perform_streamed(call, route, serve, body)
        data = await body.read()
        brief = route.operation.name in BRIEF

        def work(tx: Transaction) -> Answer:
            return self._perform_small(call, data, route, serve, tx)

        return await at_settled(self.store, work, brief=brief)

    def _perform_small(self, call: Call, data: bytes, route: Route, serve: Serve, tx: Transaction) -> Answer:
        computed = hashlib.sha256(data).hexdigest()
        call = self._admit(call, route, computed, (), tx, body=data)
        if call.settings.inventory_at_once:
            make_inventories(tx)
        claimed = call.inbound.header("x-amz-content-sha256")
        if claimed is not None:
            check_linear_hash(claimed, computed)
        answer = serve(call, tx)
        meter_request(call, tx, answer)
        job_id = answer.headers.get("x-amz-job-id")
        if job_id is not None and call.unknown_seconds:
            self.faults.hide(job_id, tx.now_ms + int(call.unknown_seconds * 1000))
        return answer

    async def _perform_streamed(self, call: Call, route: Route, streamed: Streamed, body: Body) -> Answer:
        call = await self._admit_streamed(call, route, streamed)
        path = self.store.path(self.store.new_file())
        received = await receive_file(body, path, content_length(call), UPLOAD_LIMIT)

        def finish(tx: Transaction) -> Answer:
            answer = streamed.finish(call, tx, received)
            meter_request(call, tx, answer)
            return answer

        try:
            return await in_turn(self.store, finish, brief=received.size <= BRIEF_BYTES)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def _admit_streamed(self, call: Call, route: Route, streamed: Streamed) -> Call:
        claimed = call.required("x-amz-content-sha256")
        if not _SHA256.fullmatch(claimed):
            raise invalid(f"Invalid x-amz-content-sha256: {claimed}")

        def admit(tx: Transaction) -> Call:
            admitted = self._admit(call, route, claimed, ("x-amz-content-sha256",), tx)
            streamed.check(admitted, tx)
            return admitted

        return await at_settled(self.store, admit, brief=True)

    def _admit(
        self,
        call: Call,
        route: Route,
        payload_hash: str,
        must_sign: tuple[str, ...],
        tx: Transaction,
        *,
        body: bytes = b"",
    ) -> Call:
        """The call with its owner's account and its region; a ServiceError if it may not be made."""
        accounts = self.accounts.current()
        caller = authenticate(
            call.inbound, payload_hash, must_sign, accounts, tx, expired=self.faults.expired
        )
        _check_version(call.inbound)
        account = caller.account_id if route.account == "-" else route.account
        call = replace(call, account=account, region=caller.region, body=body)
        call = replace(call, unknown=self.faults.unknown(tx.now_ms))
        authorise(call, caller, accounts, tx)
        if call.settings.no_longer_supported:
            code = "NoLongerSupportedException"
            raise ServiceError(code, MESSAGE_BY_CODE[code])
        return call


async def _given(answer: Answer) -> Answer:
    return answer


def _check_version(inbound: Inbound) -> None:
    version = inbound.header("x-amz-glacier-version")
    if version is None:
        raise missing("Required parameter missing: x-amz-glacier-version")
    if version != API_VERSION:
        raise invalid(f"Invalid x-amz-glacier-version: {version}")
