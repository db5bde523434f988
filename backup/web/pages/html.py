"""HTML from templates: all is escaped, a missing name is an error, and they are compiled at the start."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, tzinfo
from functools import cache, partial
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from backup.app.status.verified import percent
from backup.web.charts.bars import share
from backup.web.charts.lines import key_block, key_mark
from backup.web.pages.icons import icon
from backup.web.pages.links import link, parent, quoted
from backup.web.pages.news import how_far
from backup.web.pages.static import address
from backup.web.pages.words import Words
from backup.web.texts import Texts, safe

TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates")
_FILTERS = ("time", "day", "clock", "ago", "to_come", "size", "count", "money", "path", "took")


class Renderer:
    """HTML of templates in one language."""

    def __init__(self, said: Texts) -> None:
        self.texts = said
        self.environment = _environment(said)
        for name in self.environment.list_templates():
            self.environment.get_template(name)  # a mistake in one shows at the start

    def html(self, template: str, now: datetime, zone: tzinfo | None = None, **values: Any) -> str:
        """A page; `now` is what ages are told from."""
        words = Words(self.texts, now, zone)
        made = self.environment.get_template(template)
        return made.render(words=words, now=now, navigation=navigation(self.texts), **values)


@cache
def renderer() -> Renderer:
    """The templates in this process's language."""
    return Renderer(Texts())


def texts() -> Texts:
    """The texts in this process's language."""
    return renderer().texts


def navigation(said: Texts) -> list[tuple[str, str, str, str]]:
    """The pages of the first line: name, address, text, and the key that leads there after g."""
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
