"""`[notify]`: the channels for messages, and their quiet hours; values and checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from backup.config.shapes import NAME, NAME_SENTENCE, shape
from backup.credentials.identity_paths import CREDENTIAL
from backup.inventory.store.states import MessageKind

TOLD = tuple(str(kind) for kind in MessageKind if kind is not MessageKind.RUN)
KINDS = ("smtp", "ntfy", "gotify", "webhook", "ping", "apprise")

_LOOPBACK = r"(127\.0\.0\.1|localhost|\[::1\])"
_Channel = Annotated[str, shape(NAME, NAME_SENTENCE)]
_Kind = Annotated[str, shape("|".join(KINDS), f"must be one of {', '.join(KINDS)}")]
_Told = Annotated[str, shape("|".join(TOLD), f"must be of {', '.join(TOLD)}")]
_Url = Annotated[
    str,
    shape(
        rf"(https://[^/@\s]+|http://{_LOOPBACK}(:[0-9]+)?)(/\S*)?",
        "must be https://HOST/…, or http://127.0.0.1/… (localhost, [::1])",
    ),
]
_SECRET = rf"/[^\x00]*|{CREDENTIAL}[A-Za-z0-9_.-]{{1,255}}"
_Secret = Annotated[str, shape(_SECRET, f"must be the path of a file, or {CREDENTIAL}NAME")]
_Text = Annotated[str, shape(r"[^\x00-\x1f\x7f]+", "must be a text on one line")]
_Host = Annotated[str, shape(r"[A-Za-z0-9._:-]+|\[[0-9A-Fa-f:.]+\]", "must be the name of a host")]
_ADDRESS = r"[^\x00-\x20\x7f@<>,;]+@[^\x00-\x20\x7f@<>,;]+"
_FROM = rf"{_ADDRESS}|[^\x00-\x1f\x7f<>@]* <{_ADDRESS}>"
_From = Annotated[str, shape(_FROM, "must be an address, such as root@example.org")]
_To = Annotated[str, shape(_ADDRESS, "must be addresses, such as root@example.org")]
_Security = Annotated[str, shape("starttls|tls|none", "must be starttls, tls or none")]
_HOURS = "([01][0-9]|2[0-3]):[0-5][0-9]"
_Hours = Annotated[str, shape(rf"{_HOURS}-{_HOURS}|none", 'must be such as "22:00-07:00", or "none"')]


class ChannelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[notify.channel]]`; `kind` decides which of the others are set.

    Secrets are in files: `url_file`, `token_file`, `password_file` are paths, or `credential:NAME`.
    `told`: the kinds of message that it takes, None: all. `all_jobs`: also jobs that do not name it.
    """

    name: _Channel
    kind: _Kind
    url: _Url | None = None
    url_file: _Secret | None = None
    token_file: _Secret | None = None
    user: _Text | None = None
    password_file: _Secret | None = None
    host: _Host | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] | None = None
    security: _Security = "starttls"
    from_: _From | None = msgspec.field(default=None, name="from")
    to: tuple[_To, ...] = ()
    ca_file: _Text | None = None
    told: tuple[_Told, ...] | None = None
    all_jobs: bool = True
    quiet_hours: _Hours | None = None

    def __repr__(self) -> str:
        """Name and kind alone: an address may be a secret."""
        return f"ChannelSettings({self.name!r}, {self.kind!r})"


class NotifySettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[notify]`: channels, and their quiet hours (in this machine's time zone, or in `timezone`)."""

    channel: tuple[ChannelSettings, ...] = ()
    quiet_hours: _Hours | None = None
    timezone: _Text | None = None


_HTTP = frozenset({"url", "url_file"})
_KEYS = {
    "smtp": frozenset({"host", "port", "security", "from", "to", "user", "password_file", "ca_file"}),
    "ntfy": _HTTP | {"token_file", "user", "password_file", "ca_file"},
    "gotify": _HTTP | {"token_file", "ca_file"},
    "webhook": _HTTP | {"token_file", "user", "password_file", "ca_file"},
    "ping": _HTTP | {"ca_file"},
    "apprise": frozenset({"url_file"}),
}
_NEEDS = {
    "smtp": ("host", "from", "to"),
    "gotify": ("token_file",),
    "apprise": ("url_file",),
}
_LOCAL = re.compile(r"127\.0\.0\.1|localhost|\[?::1\]?")
Mistake = tuple[str, str]


def check_notify(
    notify: NotifySettings, jobs: Sequence[tuple[str, Sequence[str] | None]]
) -> Iterator[Mistake]:
    """Return mistakes that concern several values together, by key; `jobs` maps keys to channel names."""
    names = [channel.name for channel in notify.channel]
    for number, channel in enumerate(notify.channel, 1):
        key = f"notify.channel[{number}]"
        if channel.name in names[: number - 1]:
            yield f"{key}.name", f"another channel is named {channel.name}"
        found = (*_check_channel(channel), *_check_url(channel))
        yield from ((f"{key}.{name}", sentence) for name, sentence in found)
    if notify.timezone is not None:
        yield from _check_zone(notify.timezone)
    for key, named in jobs:
        for number, name in enumerate(named or (), 1):
            if name not in names:
                yield f"{key}[{number}]", f"there is no [[notify.channel]] named {name}"


def _check_zone(name: str) -> Iterator[Mistake]:
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        yield "notify.timezone", f"there is no time zone {name}"


def _check_channel(channel: ChannelSettings) -> Iterator[Mistake]:
    given = _given(channel)
    for name in sorted(given - _KEYS[channel.kind]):
        kinds = " or ".join(kind for kind in KINDS if name in _KEYS[kind])
        yield name, f"is for channels of kind {kinds}"
    for name in _NEEDS.get(channel.kind, ()):
        if name not in given:
            yield name, f"is missing: a channel of kind {channel.kind} needs it"
    if _KEYS[channel.kind] >= _HTTP and len(given & _HTTP) != 1:
        yield "url", "give either url or, where the address is a secret, url_file"
    if ("user" in given) != ("password_file" in given):
        yield "user", "user and password_file go together"
    if "user" in given and "token_file" in given:
        yield "token_file", "give a token, or a user with a password"
    if channel.security == "none" and not _LOCAL.fullmatch(channel.host or "localhost"):
        yield "security", "may be none for a mail server on this machine only (localhost)"
    if channel.security == "none" and channel.user is not None:
        yield "user", 'a password needs security = "starttls" or "tls"'
    if channel.kind == "ping" and channel.told is not None:
        yield "told", "is not for pings: they tell how each backup ends"


def _check_url(channel: ChannelSettings) -> Iterator[Mistake]:
    if channel.url is None:
        return
    try:
        parts = urlsplit(channel.url)
        _ = parts.port
    except ValueError as error:
        yield "url", f"is no address: {error}"
        return
    if not parts.hostname:
        yield "url", "names no host: https://HOST/…"
    if channel.kind == "ntfy" and not parts.path.strip("/"):
        yield "url", "names no topic: https://HOST/TOPIC"


def _given(channel: ChannelSettings) -> set[str]:
    """The keys that were written, but for those of every kind."""
    fields = msgspec.structs.fields(ChannelSettings)
    everywhere = {"name", "kind", "told", "all_jobs", "quiet_hours"}
    pairs = ((field.encode_name, getattr(channel, field.name), field.default) for field in fields)
    return {name for name, value, default in pairs if value != default and name not in everywhere}
