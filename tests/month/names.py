"""What differs from month to month gets names, in the order in which it is first seen."""

from __future__ import annotations

import re
from pathlib import Path

_BEGIN, _END = "(?:(?<=%2F)|(?<![0-9a-zA-Z_]))", "(?![0-9a-zA-Z_])"
_IDS = (
    "(?=[0-9]*[a-f])[0-9a-f]{8,32}",  # without a letter it may be a number
    "[0-9a-f]{32}",
    "(?<=signer )[0-9a-f]{16}",
    '(?<=")[0-9a-f]{16}(?=")',
)
_FORMS = {
    "KEY": "NVK[0-9]-[0-9A-Za-z-]+",
    "RECIPIENT": "nvr1[a-z2-7]{20,}",
    "ENROLS": "nve1[a-z2-7]{20,}",
    "UUID": "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "HASH": f"{_BEGIN}[0-9a-f]{{64}}{_END}",
    "CHECK": f"(?<=[0-9a-f],)[0-9a-f]{{8}}{_END}",
    "ID": f"{_BEGIN}(?:{'|'.join(_IDS)}){_END}",
    "STORED": "(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{80,}(?![A-Za-z0-9_-])|[A-Za-z0-9_-]{16}(?=…))",
    "PORT": r"(?<=127\.0\.0\.1:)[0-9]{4,5}",
    "PROCESS": r"(?<=process )[0-9]+|(?<=or a rebuild \()[0-9]+",
}
_ANY = re.compile("|".join(f"(?P<{kind}>{form})" for kind, form in _FORMS.items()))
_BEGINNINGS = {"ID": 8, "HASH": 8, "STORED": 16}
"""Of how many characters is told apart what is also shown by its beginning."""
_MEASURED = (
    (re.compile(r"\bin [0-9]+(\.[0-9]+)? s\b"), "in … s"),
    (re.compile(r"[0-9.]+ [KMGT]?i?B/s"), "… MiB/s"),
    (re.compile(r"(free +)[0-9.]+ [KMGT]iB(?= where)"), r"\1… GiB"),
    (re.compile(r"(\"free\": )[0-9]+"), r"\1…"),
    (re.compile(r"(nightvault_\w*free\w*\{[^}]*\} )[0-9.e+]+"), r"\1…"),
)
"""What is measured, not counted."""


class Names:
    """The names of one month."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def plain(self, text: str) -> str:
        """A text without the month's folder."""
        return text.replace(self._folder, "/m").replace(self._folder[1:], "m")

    def named(self, text: str) -> str:
        """A text with names in place of all that differs."""
        text = _ANY.sub(self._name, self.plain(text))
        for form, name in _MEASURED:
            text = form.sub(name, text)
        return text

    def _name(self, found: re.Match[str]) -> str:
        kind = found.lastgroup or ""
        key = kind, found[0][: _BEGINNINGS.get(kind)]
        if key not in self._known:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._known[key] = f"{kind}-{self._counts[kind]}"
        return self._known[key]
