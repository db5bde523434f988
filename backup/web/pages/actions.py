"""The actions of operators: run, pause and resume a job, shortly after the password was typed."""

from __future__ import annotations

from datetime import datetime, timedelta
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backup.schedule import instant
from backup.web.context import context_of, user_of
from backup.web.guard.bounds import BodyError, read_form
from backup.web.pages.rendering import problem
from backup.web.pages.signing_in import local_target


async def _asked(request: Request, verb: str, words: str) -> Response:
    """Ask the daemon for it, in the name of an operator who is there."""
    context, user, form = context_of(request), user_of(request), await read_form(request)
    if not user.may_operate:
        return problem(request, 403, "a viewer cannot do that", "ask an operator")
    back = local_target(form.get("next", "/schedule"))
    if not user.is_fresh(context.clock.now()):
        return RedirectResponse(f"/login?next={quote(back, safe='')}&again=1", 303)
    asked = {"do": verb, "job": _job(request, form)}
    if verb == "pause":
        asked["until"] = _until(form, context.clock.now())
    context.accounts.note(user.name, f"{words} {asked['job']}", context.clock.now())
    await context.daemon.ask(asked)
    return RedirectResponse(back, 303)


def _job(request: Request, form: dict[str, str]) -> str:
    """A job of the config, and nothing else. `UsageError`."""
    return str(context_of(request).config.job(form.get("job", "")[:64]).name)


def _until(form: dict[str, str], now: datetime) -> str:
    """The end of a pause: `hours` from now, or the time `until`. `BodyError`."""
    hours, text = form.get("hours", ""), form.get("until", "")
    if hours.isascii() and hours.isdecimal() and len(hours) < 5:
        return (now + timedelta(hours=int(hours))).isoformat()
    try:
        until = datetime.fromisoformat(text[:40])
        return (until if until.tzinfo is not None else instant(until, None)).isoformat()
    except (ValueError, OverflowError, OSError) as error:
        raise BodyError("until must be a time such as 2026-11-26T08:00") from error


async def run(request: Request) -> Response:
    """Ask the daemon to back up a job now."""
    return await _asked(request, "run", "ran")


async def pause(request: Request) -> Response:
    """Pause the schedules of a job until a given time."""
    return await _asked(request, "pause", "paused")


async def resume(request: Request) -> Response:
    """End the pause of a job."""
    return await _asked(request, "resume", "resumed")


OPERATING = (
    Route("/schedule/run", run, methods=["POST"], name="run"),
    Route("/schedule/pause", pause, methods=["POST"], name="pause"),
    Route("/schedule/resume", resume, methods=["POST"], name="resume"),
)
