"""The emulator's own HTTP interface: step the clock, make inventories, plan faults. It needs no signature."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Awaitable, Callable

from msgspec import Struct
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from backup.emulator.billing.bill import bill_document, bill_of
from backup.emulator.core.errors import DISK_ERRORS, describe_disk
from backup.emulator.core.http.faults import FaultPlan, parse_faults
from backup.emulator.core.state.messages import list_messages
from backup.emulator.core.state.settings import SettingsInForce, changed, is_address
from backup.emulator.core.state.settle import settle
from backup.emulator.core.state.store import Store
from backup.emulator.core.wire import date_ms, vault_arn
from backup.emulator.glacier.inventories import make_inventories
from backup.emulator.glacier.operations import NAMES
from backup.emulator.iam.service import NAMES as IAM_NAMES
from backup.emulator.rolesanywhere.operations import NAMES as ANYWHERE_NAMES
from backup.emulator.s3.operations import NAMES as S3_NAMES

OPERATIONS = NAMES | S3_NAMES | IAM_NAMES | ANYWHERE_NAMES | {"CreateSession"}
LONGEST_STEP = 100 * 366 * 24 * 60 * 60
LATEST_MS = (9000 - 1970) * 365 * 24 * 60 * 60 * 1000  # dates have four digits for the year


class MistakeError(ValueError):
    """An invalid request to this interface."""


class StrangerError(ValueError):
    """A request that a page of another site had a browser send."""


def _refused(error: Exception) -> Response:
    return JSONResponse({"message": str(error)}, status_code=400)


def _refuse_browsers_elsewhere(request: Request) -> None:
    """Refuse what a page of another site sends: by its origin, or by a name of its own for this machine.

    Such a name is made to mean this address after the page was loaded; it has a dot, unlike a container's.
    """
    host = request.url.hostname or ""
    if not (is_address(host) or "." not in host or host.endswith(".localhost")):
        raise StrangerError("This interface answers to addresses, and to names without a dot.")
    origin = request.headers.get("origin")
    same = {None, f"{request.url.scheme}://{request.headers.get('host', '')}"}
    if origin not in same or request.headers.get("sec-fetch-site", "none") not in {"none", "same-origin"}:
        raise StrangerError("This interface answers no pages of other sites.")


async def _json(request: Request) -> object:
    body = await request.body()
    try:
        return json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise MistakeError("The body is not JSON.") from error


class Admin(Struct, frozen=True):
    """The interface's routes, over the emulator's state."""

    store: Store
    faults: FaultPlan
    settings: SettingsInForce

    def routes(self) -> list[Route]:
        """The routes below /_admin."""
        return [
            Route("/_admin/clock", _guarded(self._clock), methods=["GET", "POST"]),
            Route("/_admin/inventories", _guarded(self._inventories), methods=["POST"]),
            Route("/_admin/faults", _guarded(self._faults), methods=["GET", "POST"]),
            Route("/_admin/messages", _guarded(self._messages), methods=["GET"]),
            Route("/_admin/asked", _guarded(self._asked), methods=["GET", "POST"]),
            Route("/_admin/bill", _guarded(self._bill), methods=["GET"]),
            Route("/_admin/settings", _guarded(self._settings), methods=["GET", "POST"]),
        ]

    async def _clock(self, request: Request) -> Response:
        """POST {"advance_seconds": n} steps the clock; both methods return the emulator's time."""
        if request.method == "POST":
            raw = await _json(request)
            seconds = raw.get("advance_seconds") if isinstance(raw, dict) else None
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise MistakeError("Give advance_seconds, a number.")
            if not math.isfinite(seconds) or not 0 <= seconds <= LONGEST_STEP:
                raise MistakeError("advance_seconds must not be negative, nor longer than 100 years.")
            if self.store.clock.now().emulated_ms + seconds * 1000 > LATEST_MS:
                raise MistakeError("The clock must not pass the year 9000.")
            await asyncio.to_thread(self._step, seconds)
        moment = self.store.clock.now()
        return JSONResponse({"now": date_ms(moment.emulated_ms), "speed": moment.speed})

    def _step(self, seconds: float) -> None:
        with self.store.transaction() as tx:
            settle(self.store, tx)
        self.store.advance(seconds)
        with self.store.transaction() as tx:
            settle(self.store, tx)

    async def _inventories(self, request: Request) -> Response:
        """POST makes the inventory of every vault that changed or never had one, or of vaults named {"vault":
        name}."""
        raw = await _json(request)
        vault = raw.get("vault") if isinstance(raw, dict) else None
        if not isinstance(raw, dict) or not isinstance(vault, str | None):
            raise MistakeError("Give nothing, or the name of a vault.")
        return JSONResponse({"inventories": await asyncio.to_thread(self._make_inventories, vault)})

    def _make_inventories(self, vault: str | None) -> list[str]:
        with self.store.transaction() as tx:
            settle(self.store, tx)
            rows = make_inventories(tx, vault or "")
        return [vault_arn(row["account_id"], row["region"], row["name"]) for row in rows]

    async def _faults(self, request: Request) -> Response:
        """POST replaces all planned faults; GET returns how often each has occurred."""
        if request.method == "POST":
            self.faults.replace(parse_faults(await _json(request), OPERATIONS))
        return JSONResponse({"faults": self.faults.report()})

    async def _messages(self, request: Request) -> Response:  # noqa: ARG002
        """GET returns the messages to topics, and whether the webhook has accepted each."""
        return JSONResponse({"messages": await asyncio.to_thread(self._list_messages)})

    def _list_messages(self) -> list[dict[str, object]]:
        with self.store.transaction() as tx:
            settle(self.store, tx)
            return list_messages(tx)

    async def _asked(self, request: Request) -> Response:
        """GET returns the actions for which policies were asked, by principal; POST forgets them."""
        asked = self.store.asked
        if request.method == "POST":
            asked.clear()
        rows = sorted({(principal, action) for principal, action, _ in asked})
        shown = [
            {
                "principal": principal,
                "action": action,
                "allowed": asked[principal, action, True],
                "refused": asked[principal, action, False],
            }
            for principal, action in rows
        ]
        return JSONResponse({"asked": shown})

    async def _bill(self, request: Request) -> Response:
        """GET returns what each account is billed, by month and vault or bucket; `?from=2026-11` from then
        on."""
        since = request.query_params.get("from", "")
        return JSONResponse(await asyncio.to_thread(self._make_bill, since))

    def _make_bill(self, since: str) -> dict[str, object]:
        with self.store.transaction() as tx:
            settle(self.store, tx)
            return {"now": date_ms(tx.now_ms), **bill_document(bill_of(tx, since))}

    async def _settings(self, request: Request) -> Response:
        """POST {"key": value, ...} replaces some settings; both methods return all of them."""
        if request.method == "POST":
            wanted = changed(self.settings.current, await _json(request))
            if wanted.webhook_elsewhere and not self.settings.current.webhook_elsewhere:
                raise MistakeError("webhook_elsewhere can be set by --set alone, when the emulator starts.")
            self.settings.current = wanted
        return JSONResponse(asdict(self.settings.current))


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            _refuse_browsers_elsewhere(request)
            return await handler(request)
        except StrangerError as error:
            return JSONResponse({"message": str(error)}, status_code=403)
        except ValueError as error:
            return _refused(error)
        except DISK_ERRORS as error:
            print(describe_disk(error), file=sys.stderr, flush=True)  # noqa: T201
            return JSONResponse({"message": describe_disk(error)}, status_code=500)

    return answer
