"""IAM and STS as one ASGI application: POST / with a form, told apart by the version that it names."""

from __future__ import annotations

import hashlib

from msgspec import Struct

from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.authenticate import authenticate
from backup.emulator.core.access.callers import Caller
from backup.emulator.core.access.evaluate import AccessRequest
from backup.emulator.core.access.identities import common_context, refusal
from backup.emulator.core.errors import ServiceError, denied
from backup.emulator.core.http.endpoint import Exchange, Scope, Send, inbound_of
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.http.receive import Body, Receive
from backup.emulator.core.state.settings import SettingsInForce
from backup.emulator.core.state.settle import at_settled
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer, Inbound

from .query import Node, answer, error_answer, parameters, query_error
from .roles import OPERATIONS, IamCall, given_tags, role_arn, tags_of

VERSIONS = {"2010-05-08": "iam", "2011-06-15": "sts"}
IDENTITY = "GetCallerIdentity"
NAMES = frozenset((*(f"iam:{name}" for name in OPERATIONS), f"sts:{IDENTITY}"))


class IamService(Struct, frozen=True):
    """The application."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    settings: SettingsInForce
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        body = Body(receive, self.idle_seconds)
        exchange = Exchange(scope, body, send, now_ms=self.store.now_ms)
        try:
            data = await body.read()
            given = parameters(data, inbound.raw_query)
            service = VERSIONS.get(given.get("Version", ""), "iam")
        except ServiceError as error:
            refused = error_answer(error, "iam")
            await exchange.run(lambda: _given(refused), lambda e: error_answer(e, "iam"), None)
            return
        fault = self.faults.meet(f"{service}:{given.get('Action', '')}", given.get("RoleName", ""))
        secure = scope.get("scheme") == "https"

        async def perform() -> Answer:
            def work(tx: Transaction) -> Answer:
                accounts, digest = self.accounts.current(), hashlib.sha256(data).hexdigest()
                expired = self.faults.expired
                caller = authenticate(inbound, digest, (), accounts, tx, service=service, expired=expired)
                call = IamCall(caller, given, self.settings.current)
                return self._perform(call, service, inbound, tx, secure=secure)

            return await at_settled(self.store, work, brief=True)

        await exchange.run(perform, lambda error: error_answer(error, service), fault)

    def _perform(
        self, call: IamCall, service: str, inbound: Inbound, tx: Transaction, *, secure: bool
    ) -> Answer:
        name = call.given.get("Action", "")
        if (service, name) == ("sts", IDENTITY):
            return answer(service, name, _identity(call.caller))
        serve = OPERATIONS.get(name) if service == "iam" else None
        if serve is None:
            raise query_error("InvalidAction", f"Could not find operation {name} here.")
        context = common_context(call.caller, inbound, tx, secure=secure)
        self._authorise(call, name, context, tx)
        return answer(service, name, serve(call, tx))

    def _authorise(
        self, call: IamCall, name: str, context: dict[str, str | tuple[str, ...]], tx: Transaction
    ) -> None:
        if call.caller.is_root:
            return
        resource = "*" if name == "ListRoles" else role_arn(call, tx)
        for key, value in tags_of(call, tx).items():
            context[f"aws:ResourceTag/{key}"] = context[f"iam:ResourceTag/{key}"] = value
        if call.given.get("PolicyArn"):
            context["iam:PolicyARN"] = call.given["PolicyArn"]
        wanted = given_tags(call)
        for key, value in wanted.items():
            context[f"aws:RequestTag/{key}"] = value
        if wanted:
            context["aws:TagKeys"] = tuple(wanted)
        actions = [f"iam:{name}", *(["iam:TagRole"] if wanted and name == "CreateRole" else [])]
        for action in actions:
            self._refuse(AccessRequest(action, resource, call.caller.account_id, context), call.caller, tx)

    def _refuse(self, asked: AccessRequest, caller: Caller, tx: Transaction) -> None:
        refused = refusal(asked, caller, self.accounts.current(), tx)
        if refused is not None:
            raise denied(refused)


async def _given(ready: Answer) -> Answer:
    return ready


def _identity(caller: Caller) -> list[Node]:
    """Who the caller is; an account's root has its account as id."""
    name = caller.arn.rsplit(":", 1)[-1]
    role = caller.arn.rsplit("/", 1)[-1] if caller.role_arn else name.removeprefix("user/")
    made = hashlib.sha256((caller.role_arn or caller.arn).encode()).hexdigest()[:17].upper()
    ident = (
        caller.account_id if name == "root" else f"AROA{made}:{role}" if caller.role_arn else f"AIDA{made}"
    )
    return [("Arn", caller.arn), ("UserId", ident), ("Account", caller.account_id)]
