"""Secrets of channels: read when they are used, from a file or from systemd, and never shown."""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Mapping
from urllib.parse import quote

from backup.credentials.identity_paths import CREDENTIAL
from backup.errors import ConfigError
from backup.files import open_small

_MOST_BYTES = 64 * 1024
_SHORTEST = 4  # what is shorter is found by chance in any text
_HIDDEN = "***"


class Secret:
    """A text that is never shown: not by `repr`, nor in what a receiver answers (`hidden_in`)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, to be sent to its receiver alone."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """A text without this secret, in any of the forms in which a server may repeat it."""
        for form in sorted(self._forms(), key=len, reverse=True):
            text = text.replace(form, _HIDDEN)
        return text

    def _forms(self) -> set[str]:
        forms: set[str] = set()
        for line in self._text.split("\n"):
            coded = base64.b64encode(line.encode()).decode()
            path = line.partition("://")[2].partition("/")[2]  # of an address: also without the server
            forms |= {line, quote(line, safe=""), coded, coded.rstrip("="), path, path.partition("?")[0]}
        return {form for form in forms if len(form) >= _SHORTEST}

    def __repr__(self) -> str:
        return "Secret(…)"


def read_secret(place: str, environ: Mapping[str, str], *, lines: bool = False) -> Secret:
    """The secret in a file, or `credential:NAME` of systemd: one line, or several `lines`. `ConfigError`."""
    path, name = _path_of(place, environ), place.removeprefix(CREDENTIAL)
    what = f"the credential {name}" if place.startswith(CREDENTIAL) else f"the secret file {place}"
    try:
        with open(path, "rb", opener=open_small) as file:
            if path == place and os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ConfigError(
                    f"{what} can be read by every user of this machine", advice=f"chmod 600 {place}"
                )
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}") from error
    return Secret(_text_of(data, what, "\n" if lines else ""))


def _path_of(place: str, environ: Mapping[str, str]) -> str:
    if not place.startswith(CREDENTIAL):
        return place
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError(
            f"{place} is handed over by systemd, and this process was not started by a unit that has it",
            advice="put LoadCredential= into the unit, or name a file",
        )
    return os.path.join(directory, place.removeprefix(CREDENTIAL))


def _text_of(data: bytes, what: str, allowed: str) -> str:
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if len(data) > _MOST_BYTES or not text or any(letter < " " and letter not in allowed for letter in text):
        raise ConfigError(f"{what} must hold one short text in UTF-8, and nothing else")
    return text
