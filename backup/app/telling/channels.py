"""The channels of a config: made of its settings, and chosen for a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from backup.config import Config
from backup.config.notifying import ChannelSettings
from backup.config.values import local_zone
from backup.inventory.store.stages import MessageKind
from backup.model import JobName
from backup.notify.channel import Channel
from backup.notify.decide import QuietHours


def make_channels(config: Config, environ: Mapping[str, str]) -> dict[str, Channel]:
    """All channels, by name; nothing is read or connected yet. `environ` tells where credentials are."""
    return {one.name: make_channel(one, environ) for one in config.notify.channel}


def make_channel(one: ChannelSettings, environ: Mapping[str, str]) -> Channel:
    """The channel of these settings."""
    if one.kind == "smtp":
        return _mail(one, environ)
    if one.kind == "apprise":
        from backup.notify.channels.by_apprise import Apprise

        return Apprise(one.name, one.url_file or "", environ)
    from backup.notify.channels.http import Address, Login
    from backup.notify.channels.ping import Ping
    from backup.notify.channels.push import Gotify, Ntfy, Webhook

    address = Address(environ, one.url, one.url_file, one.ca_file)
    if one.kind == "ping":
        return Ping(one.name, address)
    login = Login(environ, one.token_file, one.user, one.password_file)
    if one.kind == "ntfy":
        return Ntfy(one.name, address, login)
    return Gotify(one.name, address, login) if one.kind == "gotify" else Webhook(one.name, address, login)


def _mail(one: ChannelSettings, environ: Mapping[str, str]) -> Channel:
    from backup.notify.channels.mail import PORTS, Mail

    return Mail(
        name=one.name,
        host=(one.host or "").strip("[]"),
        port=one.port or PORTS[one.security],
        security=one.security,
        sender=one.from_ or "",
        to=one.to,
        environ=environ,
        user=one.user,
        password_file=one.password_file,
        ca_file=one.ca_file,
    )


def chosen_channels(
    config: Config, kind: MessageKind, job: JobName | None, environ: Mapping[str, str]
) -> list[Channel]:
    """The channels that are told of this."""
    return [make_channel(settings, environ) for settings in chosen(config, kind, job)]


def chosen(config: Config, kind: MessageKind, job: JobName | None) -> Iterator[ChannelSettings]:
    """The channels that are told of this: those that the job names, else those of all jobs.

    What is not of a job of the config goes to the channels of all jobs. Pings get only the ends of runs, and
    nobody else does.
    """
    named = next((one.notify for one in config.jobs if one.name == job), None)
    for one in config.notify.channel:
        is_chosen = one.all_jobs if named is None else one.name in named
        is_for = (one.kind == "ping") == (kind is MessageKind.RUN)
        if is_chosen and is_for and (one.told is None or kind in one.told):
            yield one


def zone_of(config: Config) -> ZoneInfo:
    """The time zone in which messages are dated, and in which a day begins."""
    return ZoneInfo(config.notify.timezone or local_zone())


def quiet_hours(config: Config, one: ChannelSettings) -> QuietHours | None:
    """The hours in which a channel keeps quiet: its own, else those of all."""
    text = one.quiet_hours or config.notify.quiet_hours
    return None if text is None or one.kind == "ping" else QuietHours.parse(text, zone_of(config))
