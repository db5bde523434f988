"""S3 as an ASGI application: route, authenticate, authorise, perform, answer."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.access.accounts import Accounts
from backup.emulator.core.access.accounts_file import AccountsFile
from backup.emulator.core.access.callers import claimed_key
from backup.emulator.core.access.sigv4 import query_pairs
from backup.emulator.core.errors import DiskFailed, ServiceError
from backup.emulator.core.http.endpoint import Exchange, Scope, Send, inbound_of
from backup.emulator.core.http.faults import FaultPlan
from backup.emulator.core.http.receive import BRIEF_BYTES, Body, Receive
from backup.emulator.core.s3_errors import MESSAGE_BY_CODE, S3Error
from backup.emulator.core.state.settings import SettingsInForce
from backup.emulator.core.state.settle import at_settled, in_turn
from backup.emulator.core.state.store import Store, Transaction
from backup.emulator.core.wire import Answer, Inbound
from backup.emulator.s3.buckets.buckets import check_region
from backup.emulator.s3.buckets.object_lock import LOCKING
from backup.emulator.s3.objects.deleting import delete_objects
from backup.emulator.s3.request.address import read_address
from backup.emulator.s3.request.authenticate import Admitted, authenticate
from backup.emulator.s3.request.parameters import check_headers
from backup.emulator.s3.request.receive import check_small, receive_object

from .actions import LOCKS, action_of
from .authorise import authorise, authorise_body, judge
from .call import S3Call, check_version, find_bucket
from .metering import meter_request
from .operation import Operation, Streamed
from .operations import BRIEF, PREFIX, find_operation
from .xml import DECLARATION, element

SMALL_BODY = 4 * 1024 * 1024
_OURS = {
    "RequestTimeoutException": "RequestTimeout",
    "ServiceUnavailableException": "InternalError",
    "BadRequest": "MaxMessageLengthExceeded",
    "InvalidParameterValueException": "IncompleteBody",
}


class Ids(Struct, frozen=True):
    """The two ids of a request in its answer."""

    request: str
    host: str

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers that every answer of S3 has."""
        return {"x-amz-request-id": self.request, "x-amz-id-2": self.host, "Server": "AmazonS3"}


def new_ids() -> Ids:
    """Random ones in S3's form."""
    return Ids(secrets.token_hex(8).upper(), base64.b64encode(secrets.token_bytes(56)).decode())


def bad_request(error: ServiceError) -> Answer:
    """S3's answer to bytes that are not HTTP."""
    ids = new_ids()
    answer = s3_error(S3Error("BadRequest", error.message), "/", ids)
    return replace(answer, status=error.status, headers={**answer.headers, **ids.headers})


def s3_error(error: ServiceError, resource: str, ids: Ids) -> Answer:
    """S3's error document."""
    code = error.code
    if code in _OURS and not isinstance(error, S3Error):
        told = error.message if isinstance(error, DiskFailed) else MESSAGE_BY_CODE.get(_OURS[code])
        error = S3Error(_OURS[code], told)
    details = error.details if isinstance(error, S3Error) else {}
    nodes = {"Code": error.code, "Message": error.message, **details}
    nodes |= {"Resource": resource, "RequestId": ids.request, "HostId": ids.host}
    body = DECLARATION + element("Error", nodes.items())
    headers = error.headers if isinstance(error, S3Error) else {}
    answer = {"Content-Type": "application/xml", **headers}
    return Answer(error.status, answer, body.encode("utf-8", "replace"))


class S3Service(Struct, frozen=True):
    """The application; `idle_seconds` is how long a body may stall before RequestTimeout."""

    store: Store
    accounts: AccountsFile
    faults: FaultPlan
    settings: SettingsInForce
    idle_seconds: float

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        inbound = inbound_of(scope)
        ids = new_ids()
        body = Body(receive, self.idle_seconds, scope["state"].get("protocol"))
        exchange = Exchange(scope, body, send, lambda: ids.headers, self.store.now_ms)

        def render(error: ServiceError) -> Answer:
            answer = s3_error(error, inbound.raw_path, ids)
            return replace(answer, body=b"", told=0) if inbound.method == "HEAD" else answer

        try:
            call, operation, region = self._route(inbound, secure=scope.get("scheme") == "https")
        except ServiceError as error:
            answer = render(error)
            await exchange.run(lambda: _given(answer), render, None)
            return
        fault = self.faults.meet(PREFIX + operation.name, call.bucket_name, call.key)
        if fault is not None and fault.expire_credentials:
            self.faults.expire(claimed_key(inbound))
        await exchange.run(lambda: self._perform(call, operation, region, body), render, fault)

    def _route(self, inbound: Inbound, *, secure: bool) -> tuple[S3Call, Operation, str | None]:
        address = read_address(inbound)
        query = dict(query_pairs(inbound.raw_query, form=True))
        if any("\ufffd" in text for pair in query.items() for text in pair):
            raise S3Error("InvalidURI")
        copies = inbound.header("x-amz-copy-source") is not None
        operation = find_operation(inbound.method, address.bucket, address.key, query, copies=copies)
        call = S3Call(
            operation.name,
            address.bucket,
            address.key,
            query,
            inbound,
            self.store,
            self.settings.current,
            secure=secure,
        )
        return call, operation, address.region

    async def _perform(self, call: S3Call, operation: Operation, region: str | None, body: Body) -> Answer:
        if isinstance(operation.serve, Streamed):
            return await self._perform_streamed(call, operation.serve, region, body)
        data = await body.read(SMALL_BODY)

        def work(tx: Transaction) -> Answer:
            return self._perform_small(call, operation, region, data, tx)

        return await at_settled(self.store, work, brief=operation.name in BRIEF)

    def _perform_small(
        self, call: S3Call, operation: Operation, region: str | None, data: bytes, tx: Transaction
    ) -> Answer:
        accounts = self.accounts.current()
        if call.operation in LOCKING:
            call = replace(call, body=data)  # what it locks may be a condition of a policy
        call, admitted = self._admit(call, region, accounts, tx)
        whole = check_small(call, admitted, data)
        call = replace(call, body=whole) if whole else call
        authorise_body(call, admitted.caller, accounts, tx)
        if callable(operation.serve):
            answer = operation.serve(call, tx)
            meter_request(call, tx, answer)
            return answer
        return delete_objects(
            call,
            tx,
            lambda single, action: judge(single, admitted.caller, accounts, tx, action, single.key),
            lambda key: self.faults.meet_key(PREFIX + operation.name, call.bucket_name, key),
        )

    async def _perform_streamed(
        self, call: S3Call, streamed: Streamed, region: str | None, body: Body
    ) -> Answer:
        call, admitted, wanted = await self._admit_streamed(call, streamed, region)
        stored = await receive_object(call, body, admitted, wanted=wanted)

        def finish(tx: Transaction) -> Answer:
            answer = streamed.finish(call, tx, stored)
            meter_request(call, tx, answer)
            return answer

        try:
            return await in_turn(self.store, finish, brief=stored.size <= BRIEF_BYTES)
        except BaseException:
            self.store.path(stored.file).unlink(missing_ok=True)
            raise

    async def _admit_streamed(
        self, call: S3Call, streamed: Streamed, region: str | None
    ) -> tuple[S3Call, Admitted, str | None]:
        def admit(tx: Transaction) -> tuple[S3Call, Admitted, str | None]:
            there, admitted = self._admit(call, region, self.accounts.current(), tx)
            return there, admitted, streamed.check(there, tx)

        return await at_settled(self.store, admit, brief=True)

    def _admit(
        self, call: S3Call, region: str | None, accounts: Accounts, tx: Transaction
    ) -> tuple[S3Call, Admitted]:
        """The call with its caller's account, region and bucket; an S3Error if it may not be made."""
        admitted = authenticate(call.inbound, accounts, tx, expired=self.faults.expired)
        caller = admitted.caller
        bucket = None
        if call.operation not in ("ListBuckets", "CreateBucket"):
            bucket = find_bucket(tx, call.bucket_name)
            if bucket is None:
                raise S3Error("NoSuchBucket", None, {"BucketName": call.bucket_name})
        who = {"account": caller.account_id, "caller": caller.arn, "region": caller.region}
        call = replace(call, **who, bucket=bucket)
        if bucket is not None:
            check_region(call, bucket, region)
        authorise(call, caller, accounts, tx)
        check_headers(call)
        check_version(call)
        reads = action_of(call.operation) in ("s3:GetObject", "s3:GetObjectAttributes")
        if reads and judge(call, caller, accounts, tx, "s3:ListBucket", "") is not None:
            call = replace(call, may_list=False)
        if call.operation in ("HeadObject", "GetObject") and bucket is not None and bucket.lock is not None:
            seen = [judge(call, caller, accounts, tx, action, call.key) is None for action in LOCKS]
            call = replace(call, sees_retention=seen[0], sees_hold=seen[1])
        return call, admitted


async def _given(answer: Answer) -> Answer:
    return answer
