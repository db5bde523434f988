"""Makes the pages of HTML: templates, whose values are all escaped, and in which a missing name is an error;
what they format values with; links, in which paths are percent-encoded byte by byte.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from backup.app.status.verified import percent
from backup.web.charts.bars import share
from backup.web.charts.lines import key_block, key_mark
from backup.web.context import context_of
from backup.web.daemon_desk import Heard, how_far, version_of
from backup.web.pages.static import address
from backup.web.texts import Texts, safe
from backup.wording import duration, shown_path, size

_LEAST_SHOWN = Decimal("0.0001")


class Words:
    """The functions with which templates format values; `zone` None is this machine's time zone."""

    def __init__(self, texts: Texts, now: datetime, zone: tzinfo | None = None) -> None:
        self._texts, self._now, self._zone = texts, now, zone

    def time(self, moment: datetime) -> Markup:
        """Format a time to the minute, with its zone."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{} <span class="zone">{}</span></time>').format(
            local.isoformat(timespec="seconds"), f"{local:%Y-%m-%d %H:%M}", safe(local.tzname() or "")
        )

    def day(self, moment: datetime) -> Markup:
        """Format the date of a time."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{}</time>').format(f"{local:%Y-%m-%d}", f"{local:%Y-%m-%d}")

    def clock(self, moment: datetime) -> Markup:
        """Format the time of day, with its zone."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{}</time>').format(
            local.isoformat(timespec="seconds"), f"{local:%H:%M}"
        )

    def ago(self, moment: datetime) -> Markup:
        """Format how long ago a time is; a future time is shown as such."""
        passed = self._now - moment
        if passed < timedelta(0):
            return self.to_come(moment)
        if passed < timedelta(minutes=1):
            return self._texts.say("just now")
        return self._texts.say("%(time)s ago", time=duration(passed.total_seconds()))

    def to_come(self, moment: datetime) -> Markup:
        """Format how long it is until a time."""
        left = moment - self._now
        if left < timedelta(minutes=1):
            return self._texts.say("now")
        return self._texts.say("in %(time)s", time=duration(left.total_seconds()))

    def size(self, count: int) -> str:
        """Format a number of bytes."""
        return size(count)

    def count(self, number: int) -> str:
        """Format a number, with thousands separated."""
        return f"{number:,}"

    def took(self, length: timedelta | float) -> str:
        """Format a duration."""
        return duration(length.total_seconds() if isinstance(length, timedelta) else length)

    def money(self, amount: Decimal, currency: str) -> str:
        """Format an amount of money: to the cent, or with more places for a small amount."""
        if 0 < amount < _LEAST_SHOWN:
            return f"< {_LEAST_SHOWN} {currency}"
        places = 2 if amount == 0 or abs(amount) >= Decimal("0.01") else 4
        return f"{amount:,.{places}f} {currency}"

    def path(self, path: bytes) -> str:
        """Format a path or name so that it is safe to show."""
        return shown_path(path)


_STROKED = {
    "good": '<circle cx="8" cy="8" r="6.5"/><path d="m5 8.2 2.1 2.1L11 6"/>',
    "warn": '<path d="M8 1.8 15 14H1z"/><path d="M8 6.2v3.4m0 1.9v.1"/>',
    "bad": '<path d="M5.2 1.5h5.6l3.7 3.7v5.6l-3.7 3.7H5.2l-3.7-3.7V5.2z"/>'
    '<path d="m5.8 5.8 4.4 4.4m0-4.4-4.4 4.4"/>',
    "busy": '<path d="M8 1.5A6.5 6.5 0 1 1 1.5 8"/><path d="M8 4.5V8l2.2 1.6"/>',
    "none": '<circle cx="8" cy="8" r="6.5" stroke-dasharray="2.2 1.9"/><path d="M5.5 8h5"/>',
    "paused": '<circle cx="8" cy="8" r="6.5"/><path d="M6.4 5.6v4.8m3.2-4.8v4.8"/>',
    "folder": '<path d="M1.5 12.5v-9h4.4l1.6 2h7v7z"/>',
    "file": '<path d="M3.5 1.5h6l3 3v10h-9z"/><path d="M9.5 1.5v3h3"/>',
    "link": '<path d="M3 13 13 3M6.5 3H13v6.5"/>',
    "special": '<circle cx="8" cy="8" r="5.5"/><circle cx="8" cy="8" r="1.2"/>',
    "fold": '<path d="m6 3.5 4.5 4.5L6 12.5"/>',
    "added": '<path d="M8 3v10M3 8h10"/>',
    "removed": '<path d="M3 8h10"/>',
    "changed": '<path d="M2.5 6c2-3 3.5-3 5.5 0s3.5 3 5.5 0M2.5 11c2-3 3.5-3 5.5 0s3.5 3 5.5 0"/>',
    "brand": '<path d="M13.6 10.2A6.4 6.4 0 1 1 7 1.6a5 5 0 0 0 6.6 8.6z"/>'
    '<path d="M11.2 2.2v2.6m-1.3-1.3h2.6"/>',
    "alert": '<path d="M8 1.8 15 14H1z"/><path d="M8 6.2v3.4m0 1.9v.1"/>',
    "clock": '<circle cx="8" cy="8" r="6.5"/><path d="M8 4.3V8l2.5 1.8"/>',
}


def icon(name: str) -> Markup:
    """Return an icon, hidden from screen readers: a word always stands beside it."""
    return Markup(  # noqa: S704  nothing of it is foreign
        '<svg viewBox="0 0 16 16" aria-hidden="true" focusable="false" fill="none" stroke="currentColor" '
        f'stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">{_STROKED[name]}</svg>'
    )


def link(where: str, /, **query: object) -> str:
    """Return a URL with a query; parameters that are None or empty are left out."""
    given = [(key, _sent(value)) for key, value in query.items() if value not in (None, "", b"")]
    return f"{where}?{'&'.join(f'{key}={value}' for key, value in given)}" if given else where


def _sent(value: object) -> str:
    if isinstance(value, bytes):
        return quote_from_bytes(value)
    return urlencode({"": str(value)}, errors="surrogateescape")[1:]


def quoted(path: bytes) -> str:
    """Return a path as the value of a form field, which can only be text."""
    return quote_from_bytes(path)


def parent(path: bytes) -> bytes:
    """Return the parent directory of a path."""
    return path.rstrip(b"/").rpartition(b"/")[0] or b"/"


TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates")
_FILTERS = ("time", "day", "clock", "ago", "to_come", "size", "count", "money", "path", "took")


class Renderer:
    """Renders the templates in one language."""

    def __init__(self, said: Texts) -> None:
        self.texts = said
        self.environment = _environment(said)
        for name in self.environment.list_templates():
            self.environment.get_template(name)  # a mistake in one shows at the start

    def html(self, template: str, now: datetime, zone: tzinfo | None = None, **values: Any) -> str:
        """Return the HTML of a page; ages are relative to `now`."""
        words = Words(self.texts, now, zone)
        made = self.environment.get_template(template)
        return made.render(words=words, now=now, navigation=navigation(self.texts), **values)


@cache
def renderer() -> Renderer:
    """Return the renderer for this process's language."""
    return Renderer(Texts())


def texts() -> Texts:
    """Return the texts in this process's language."""
    return renderer().texts


def navigation(said: Texts) -> list[tuple[str, str, str, str]]:
    """Return the entries of the navigation: name, URL, text, and the key to type after g."""
    return [
        ("overview", "/", said.say("Overview"), "o"),
        ("runs", "/runs", said.say("Runs"), "r"),
        ("nights", "/nights", said.say("Nights"), "n"),
        ("browse", "/browse", said.say("Browse"), "b"),
        ("search", "/search", said.say("Search"), "s"),
        ("archives", "/archives", said.say("Archives and money"), "a"),
        ("schedule", "/schedule", said.say("Schedule"), "c"),
    ]


def _environment(said: Texts) -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=safe,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    for name in _FILTERS:
        made.filters[name] = _filter(name)
    made.globals.update(_=said.say, count_=said.count, language=said.language, static=address)
    made.globals.update(icon=icon, link=link, quoted=quoted, parent=parent)
    made.globals.update(how_far=partial(how_far, said=said))
    made.globals.update(percent=percent, share=share, key_mark=key_mark, key_block=key_block)
    return made


def _filter(name: str) -> Callable[..., object]:
    """A filter that speaks by the page's words: they know its time and zone."""

    @pass_context
    def said(context: Context, value: object, *more: object) -> object:
        return getattr(context["words"], name)(value, *more)

    return said


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    here: str = "",
    heard: Heard | None = None,
    **values: Any,
) -> Response:
    """Return the page that a template makes from the values; `here` is its entry in the navigation, `heard`
    the daemon's status.
    """
    context = context_of(request)
    now = context.clock.now()
    html = renderer().html(
        template,
        now,
        user=getattr(request.state, "user", None),
        here=here,
        live=heard is not None and not heard.is_away,
        stale=heard is not None and heard.is_away,
        heard_at=heard.at if heard is not None else None,
        read_at=context.reading.as_of(now),
        seen=version_of(heard) if heard is not None else "",
        **values,
    )
    return HTMLResponse(html, status)


def problem(request: Request, status: int, sentence: str, advice: str = "") -> Response:
    """Return an error page: what went wrong, and what to do."""
    title = {
        404: texts().say("This page is not there"),
        403: texts().say("This is not allowed"),
        429: texts().say("Too much at once"),
    }.get(status) or HTTPStatus(status).phrase
    return page(request, "problem.html", status=status, title=title, sentence=sentence, advice=advice)


async def framed(request: Request, template: str, *, here: str, **values: Any) -> Response:
    """Return a page for a user who is logged in."""
    heard = await context_of(request).daemon.status()
    return page(request, template, here=here, heard=heard, **values)
