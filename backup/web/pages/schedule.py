"""The page with the next two weeks, and for operators the buttons run now, pause, resume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from backup.web.context import context_of, user_of
from backup.web.pages.frame import answered, framed, heard_status
from backup.web.pages.html import texts
from backup.web.pages.links import PageParameters
from backup.web.pages.overview_parts import active
from backup.web.texts import Texts
from backup.web.views.calendar import schedule
from backup.web.views.values.schedule import CalendarDay, SchedulePage

HOURS = (1, 4, 12, 24, 72, 168, 336)


def shown(it: SchedulePage, said: Texts) -> dict[str, Any]:
    """Return the values of the template."""
    return {
        "it": it,
        "weeks": weeks(it.days),
        "weekdays": weekdays(said),
        "paused": {pause.job: pause for pause in it.pauses},
        "active": active(it.live),
        "pauses": [(n, _length(n, said)) for n in HOURS],
    }


def weeks(days: Sequence[CalendarDay]) -> list[list[CalendarDay | None]]:
    """Return the days as weeks from Monday to Sunday, with None for missing days."""
    rows: list[list[CalendarDay | None]] = []
    for day in days:
        if not rows or day.day.weekday() == 0:
            rows.append([None] * 7)
        rows[-1][day.day.weekday()] = day
    return rows


def weekdays(said: Texts) -> list[str]:
    """Return the column headings of the calendar."""
    monday, tuesday, wednesday = said.say("Monday"), said.say("Tuesday"), said.say("Wednesday")
    thursday, friday = said.say("Thursday"), said.say("Friday")
    return [monday, tuesday, wednesday, thursday, friday, said.say("Saturday"), said.say("Sunday")]


def _length(number: int, said: Texts) -> str:
    if number % 24:
        return said.count("%(n)s hour", "%(n)s hours", number)
    return said.count("%(n)s day", "%(n)s days", number // 24)


@answered
async def show(request: Request) -> Response:
    """Show the calendar, the tasks, and for operators their buttons."""
    context, asked = context_of(request), PageParameters(request.scope["query_string"])
    found = await context.reading.view(
        schedule, context.config, context.clock.now(), await heard_status(request)
    )
    told = _done_text(asked.text("did"), asked.text("job"), texts())
    return await framed(
        request,
        "schedule.html",
        here="schedule",
        told=told,
        **shown(found, texts()),
        may_operate=user_of(request).may_operate,
    )


def _done_text(did: str | None, job: str | None, said: Texts) -> str | None:
    """What was just done, after the way back from a form."""
    if did == "run":
        return said.say("%(job)s will run as soon as its vault is free.", job=job)
    if did == "pause":
        return said.say("%(job)s is paused.", job=job)
    return said.say("%(job)s keeps its schedule again.", job=job) if did == "resume" else None


SCHEDULE = (Route("/schedule", show, name="schedule"),)
