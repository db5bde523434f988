"""The page's texts in the reader's language: gettext, English being the source and complete.

The catalogue is `locale/nightvault-web.pot`; a translation is `locale/LANGUAGE/LC_MESSAGES/nightvault-web.mo`
made from it. Texts are whole sentences with named places: "%(count)s files". What fills the places is made
safe to show here: a file name can neither be markup nor reorder the line that it stands in.
"""

from __future__ import annotations

import gettext
import os

from markupsafe import Markup

from backup.wording import escape

DOMAIN = "nightvault-web"
LOCALE = os.path.join(os.path.dirname(__file__), "locale")


def safe(value: object) -> object:
    """Return a value as safe HTML text: without raw bytes, and characters that hide or reorder others."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bytes):
        raise TypeError("bytes reached a page: paths go through `path`")
    return escape(value, kept="\n\t") if isinstance(value, str) else value


class Texts:
    """The texts of one language."""

    def __init__(self, language: str | None = None) -> None:
        """`language` None: as LANGUAGE, LC_ALL, LC_MESSAGES or LANG say."""
        wanted = None if language is None else [language]
        self._found = gettext.translation(DOMAIN, LOCALE, wanted, fallback=True)
        self.language = self._found.info().get("language", "en").replace("_", "-")

    def say(self, message: str, /, **values: object) -> Markup:
        """Return a text of the catalogue with its placeholders filled."""
        return _filled(self._found.gettext(message), values)

    def count(self, one: str, many: str, number: int, /, **values: object) -> Markup:
        """Return a text whose form depends on a number, which fills the placeholder `n`."""
        return _filled(self._found.ngettext(one, many, number), {"n": f"{number:,}", **values})


def _filled(text: str, values: dict[str, object]) -> Markup:
    template = Markup(text)  # noqa: S704  a text of ours or of its translation
    return template % {name: safe(value) for name, value in values.items()}
