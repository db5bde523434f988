"""The routes of the API: its endpoints, its OpenAPI document, and the actions of the daemon."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from backup.web.api.encoding import json_of
from backup.web.api.endpoints import ENDPOINTS, Endpoint
from backup.web.api.openapi import ACTIONS, PREFIX, openapi
from backup.web.context import context_of, user_of
from backup.web.guard.bounds import read_form
from backup.web.guard.faults import api_error
from backup.web.pages.parameters import Parameters, job_of

_MOST_PARAMETERS = 200
_WHO = "an operator may do that, shortly after a login; a token may not"


def _json(value: object) -> Response:
    return Response(json_of(value), media_type="application/json")


def _route(endpoint: Endpoint) -> Route:
    names = frozenset(parameter.name for parameter in endpoint.parameters)

    async def answer(request: Request) -> Response:
        asked = Parameters(request, allowed=names, most=_MOST_PARAMETERS)
        return _json(await endpoint.call(request, asked))

    return Route(PREFIX + endpoint.path, answer, methods=["GET"], name=f"api-{endpoint.name}")


async def _openapi(_request: Request) -> Response:
    return _json(openapi())


async def _act(request: Request) -> Response:
    """Ask the daemon to run, pause or resume a job: for operators who logged in a short while ago."""
    context, user = context_of(request), user_of(request)
    if not user.may_operate or not user.is_fresh(context.clock.now()):
        return api_error(403, "denied", _WHO, "log in again")
    verb = request.url.path.rpartition("/")[2]
    told = {"do": verb, "job": job_of(request.path_params["job"])}
    if verb == "pause":
        told["until"] = (await read_form(request)).get("until", "")
    return _json(await context.daemon.ask(told))


ROUTES: Sequence[BaseRoute] = (
    *(_route(endpoint) for endpoint in ENDPOINTS),
    Route(f"{PREFIX}/openapi.json", _openapi, methods=["GET"], name="api-openapi"),
    *(Route(f"{PREFIX}/jobs/{{job}}/{verb}", _act, methods=["POST"], name=f"api-{verb}") for verb in ACTIONS),
)
