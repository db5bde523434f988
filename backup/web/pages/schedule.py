"""The next two weeks, and what an operator may do: run a job now, pause it for a while, resume it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backup.errors import NightvaultError
from backup.web.context import context_of, user_of
from backup.web.guard.bounds import read_form
from backup.web.pages.fortnight import HOURS, shown
from backup.web.pages.frame import answered, framed, heard_status
from backup.web.pages.html import texts
from backup.web.pages.links import Asked, link
from backup.web.pages.reading import job_names
from backup.web.pages.rendering import problem
from backup.web.texts import Texts
from backup.web.views.calendar import schedule

VERBS = frozenset({"run", "pause", "resume"})


@answered
async def show(request: Request) -> Response:
    """The calendar, the tasks, and for operators their buttons."""
    context, asked = context_of(request), Asked(request.scope["query_string"])
    found = await context.reading.view(
        schedule, context.config, context.clock.now(), await heard_status(request)
    )
    told = _told(asked.text("did"), asked.text("job"), texts())
    return await framed(
        request,
        "schedule.html",
        here="schedule",
        told=told,
        **shown(found, texts()),
        may_operate=user_of(request).may_operate,
    )


def _told(did: str | None, job: str | None, said: Texts) -> str | None:
    """What was just done, after the way back from a form."""
    if did == "run":
        return said.say("%(job)s will run as soon as its vault is free.", job=job)
    if did == "pause":
        return said.say("%(job)s is paused.", job=job)
    return said.say("%(job)s keeps its schedule again.", job=job) if did == "resume" else None


@answered
async def act(request: Request) -> Response:
    """Run, pause or resume a job, for an operator who gave the password a short while ago."""
    context, user = context_of(request), user_of(request)
    verb = str(request.path_params["verb"])
    if verb not in VERBS:
        return problem(request, 404, texts().say("there is no such page"))
    if not user.may_operate:
        return problem(request, 403, texts().say("only operators may run, pause and resume"))
    if not user.is_fresh(context.clock.now()):
        return RedirectResponse(link("/login", next="/schedule"), 303)
    form = await read_form(request)
    job = form.get("job", "")
    if job not in job_names(context.config):
        return problem(request, 404, texts().say("there is no such job"))
    try:
        await context.daemon.ask(_request(verb, job, form, context.clock.now()))
    except NightvaultError as error:
        return problem(request, 503, str(error), error.advice or "")
    context.accounts.note(user.name, f"{verb} {job}", context.clock.now())
    return RedirectResponse(link("/schedule", did=verb, job=job), 303)


def _request(verb: str, job: str, form: Mapping[str, str], now: datetime) -> dict[str, object]:
    asked: dict[str, object] = {"do": verb, "job": job}
    if verb == "pause":
        hours = form.get("hours", "")
        asked["until"] = (now + timedelta(hours=int(hours) if hours in map(str, HOURS) else 24)).isoformat()
    return asked


SCHEDULE = (
    Route("/schedule", show, name="schedule"),
    Route("/schedule/{verb}", act, methods=["POST"], name="act"),
)
