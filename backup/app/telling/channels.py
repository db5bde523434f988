"""The channels of a config: made from its settings, and selected for a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from zoneinfo import ZoneInfo

from backup.config import Config
from backup.config.notifying import ChannelSettings
from backup.config.values import local_zone
from backup.inventory.store.states import MessageKind
from backup.model import JobName
from backup.notify.channel import Channel
from backup.notify.decide import QuietHours


def make_channels(config: Config, environ: Mapping[str, str]) -> dict[str, Channel]:
    """Make all channels, by name; nothing is read or connected yet. `environ` says where credentials are."""
    return {channel.name: make_channel(channel, environ) for channel in config.notify.channel}


def make_channel(channel: ChannelSettings, environ: Mapping[str, str]) -> Channel:
    """The channel of these settings."""
    if channel.kind == "smtp":
        return _mail(channel, environ)
    if channel.kind == "apprise":
        from backup.notify.channels.by_apprise import Apprise

        return Apprise(channel.name, channel.url_file or "", environ)
    from backup.notify.channels.http import Address, Login
    from backup.notify.channels.ping import Ping
    from backup.notify.channels.push import Gotify, Ntfy, Webhook

    address = Address(environ, channel.url, channel.url_file, channel.ca_file)
    if channel.kind == "ping":
        return Ping(channel.name, address)
    login = Login(environ, channel.token_file, channel.user, channel.password_file)
    if channel.kind == "ntfy":
        return Ntfy(channel.name, address, login)
    return (
        Gotify(channel.name, address, login)
        if channel.kind == "gotify"
        else Webhook(channel.name, address, login)
    )


def _mail(channel: ChannelSettings, environ: Mapping[str, str]) -> Channel:
    from backup.notify.channels.mail import PORTS, Mail

    return Mail(
        name=channel.name,
        host=(channel.host or "").strip("[]"),
        port=channel.port or PORTS[channel.security],
        security=channel.security,
        sender=channel.from_ or "",
        to=channel.to,
        environ=environ,
        user=channel.user,
        password_file=channel.password_file,
        ca_file=channel.ca_file,
    )


def chosen_channels(
    config: Config, kind: MessageKind, job: JobName | None, environ: Mapping[str, str]
) -> list[Channel]:
    """Return the channels that get such a message."""
    return [make_channel(settings, environ) for settings in chosen(config, kind, job)]


def chosen(config: Config, kind: MessageKind, job: JobName | None) -> Iterator[ChannelSettings]:
    """Yield the settings of the channels that get such a message: the job's channels, else those of all jobs.

    A message about no job of the config goes to the channels of all jobs. Ping channels get only the ends of
    runs, which no other channel gets.
    """
    named = next((settings.notify for settings in config.jobs if settings.name == job), None)
    for channel in config.notify.channel:
        is_chosen = channel.all_jobs if named is None else channel.name in named
        is_for = (channel.kind == "ping") == (kind is MessageKind.RUN)
        if is_chosen and is_for and (channel.told is None or kind in channel.told):
            yield channel


def zone_of(config: Config) -> ZoneInfo:
    """Return the time zone of dates in messages, and of the beginning of a day."""
    return ZoneInfo(config.notify.timezone or local_zone())


def quiet_hours(config: Config, channel: ChannelSettings) -> QuietHours | None:
    """Return a channel's quiet hours: its own, else those of all."""
    text = channel.quiet_hours or config.notify.quiet_hours
    return None if text is None or channel.kind == "ping" else QuietHours.parse(text, zone_of(config))
