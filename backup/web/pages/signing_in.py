"""Logging in and out, setting a password by a link, and typing the password again."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from backup.errors import UsageError
from backup.web.context import context_of, user_of
from backup.web.guard import login
from backup.web.guard.bounds import read_form
from backup.web.guard.cookies import BROWSER, SESSION, read_cookie, remove_cookie, set_cookie
from backup.web.guard.passwords import check_password, hash_password
from backup.web.pages.html import page, problem

_WRONG = "the name or the password is wrong"


def local_target(target: str) -> str:
    """Return the path to go to after the login; anything but a local path becomes the first page."""
    is_path = target.startswith("/") and not target.startswith(("//", "/\\", "/login", "/logout"))
    return target if is_path and target.isprintable() and "\\" not in target else "/"


async def show_login(request: Request) -> Response:
    """Show the login form."""
    user = request.state.user
    name = user.name if user is not None else ""
    return page(request, "login.html", next=local_target(request.query_params.get("next", "/")), name=name)


async def log_in(request: Request) -> Response:
    """Check name and password; every login opens a new session."""
    context, form = context_of(request), await read_form(request)
    tls, name = context.settings.has_tls, form.get("name", "")[:64]
    if request.state.user is not None and request.state.user.way == "session":
        name = request.state.user.name  # typed again, for the account of this session and no other
    target = local_target(form.get("next", "/"))
    known = read_cookie(request, BROWSER, has_tls=tls)
    outcome = await run_in_threadpool(login.try_login, context, name, form.get("password", ""), known)
    if outcome.session is None:
        told = f"too many attempts: wait {outcome.wait} seconds" if outcome.wait else _WRONG
        headers = {"Retry-After": str(outcome.wait)} if outcome.wait else {}
        status = 429 if outcome.wait else 403
        refused = page(request, "login.html", status=status, next=target, name=name, told=told)
        refused.headers.update(headers)
        return refused
    if request.state.user is not None and request.state.user.session is not None:
        context.accounts.close_session(request.state.user.session)
    answer = RedirectResponse(target, 303)
    set_cookie(answer, SESSION, outcome.session, has_tls=tls)
    if outcome.browser:
        set_cookie(answer, BROWSER, outcome.browser, has_tls=tls)
    return answer


async def log_out(request: Request) -> Response:
    """Log out: end the session."""
    context, user = context_of(request), user_of(request)
    if user.session is not None:
        context.accounts.close_session(user.session)
        context.accounts.note(user.name, "logged out", context.clock.now())
    answer = RedirectResponse("/login", 303)
    remove_cookie(answer, SESSION, has_tls=context.settings.has_tls)
    return answer


async def show_welcome(request: Request) -> Response:
    """Show the form to set a password, for a link made by `nightvault web user add --link`."""
    return page(request, "welcome.html", link=request.query_params.get("link", "")[:128])


async def welcome(request: Request) -> Response:
    """Set a password by a link, once; the browser is then known, so that an attacker cannot lock it out."""
    context, form = context_of(request), await read_form(request)
    link, password, now = form.get("link", "")[:128], form.get("password", ""), context.clock.now()
    name = context.accounts.user_of_link(link, now)
    if name is None:
        return _no_link(request)
    try:
        check_password(password, name)
    except UsageError as error:
        return page(request, "welcome.html", status=400, link=link, told=str(error))
    hashed = await run_in_threadpool(hash_password, password)
    if context.accounts.use_link(link, hashed, now) is None:  # another request was quicker
        return _no_link(request)
    context.accounts.note(name, "set a password by a link", now)
    answer = RedirectResponse("/login", 303)
    set_cookie(answer, BROWSER, context.accounts.know_browser(name, now), has_tls=context.settings.has_tls)
    return answer


def _no_link(request: Request) -> Response:
    return problem(request, 403, "this link was used already, or is too old", "ask for a new one")


SIGNING_IN = (
    Route("/login", show_login, methods=["GET"], name="login"),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"], name="logout"),
    Route("/welcome", show_welcome, methods=["GET"], name="welcome"),
    Route("/welcome", welcome, methods=["POST"]),
)
