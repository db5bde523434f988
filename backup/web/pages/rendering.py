"""HTML from templates: all is escaped, a missing name is an error, and they are compiled at the start."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, tzinfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context

from backup.web.charts.bars import share
from backup.web.charts.lines import key_block, key_mark
from backup.web.pages.icons import icon
from backup.web.pages.links import link
from backup.web.pages.words import Words
from backup.web.texts import Texts, safe

TEMPLATES = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates")


class Renderer:
    """HTML of templates in one language."""

    def __init__(self, texts: Texts, static: Callable[[str], str]) -> None:
        """`static`: the address of a file of `static/`."""
        self._texts = texts
        self._made = _environment(texts)
        self._made.globals["static"] = static
        for name in self._made.list_templates():
            self._made.get_template(name)  # a mistake in one shows at the start

    @property
    def environment(self) -> Environment:
        """The templates."""
        return self._made

    @property
    def texts(self) -> Texts:
        """The texts of this language."""
        return self._texts

    def page(self, template: str, now: datetime, zone: tzinfo | None = None, **values: object) -> str:
        """A page; `now` is what ages are told from."""
        words = Words(self._texts, now, zone)
        return self._made.get_template(template).render(words=words, now=now, **values)


def _environment(texts: Texts) -> Environment:
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
    for name in ("time", "day", "clock", "ago", "to_come", "size", "count", "money", "path", "took"):
        made.filters[name] = _filter(name)
    made.globals.update(
        _=texts.say,
        count_=texts.count,
        language=texts.language,
        icon=icon,
        link=link,
        share=share,
        key_mark=key_mark,
        key_block=key_block,
    )
    return made


def _filter(name: str) -> Callable[..., object]:
    """A filter that speaks by the page's words: they know its time and zone."""

    @pass_context
    def said(context: Context, value: object, *more: object) -> object:
        return getattr(context["words"], name)(value, *more)

    return said
