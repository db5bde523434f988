"""The next two weeks, and for operators the buttons of `operating.py`: run now, pause, resume."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of, user_of
from backup.web.pages.fortnight import shown
from backup.web.pages.frame import answered, framed, heard_status
from backup.web.pages.html import texts
from backup.web.pages.links import Asked
from backup.web.texts import Texts
from backup.web.views.calendar import schedule


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


SCHEDULE = (Route("/schedule", show, name="schedule"),)
