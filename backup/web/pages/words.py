"""Values in words, as the templates say them: times with their zone, ages, sizes, money, paths."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from markupsafe import Markup

from backup.web.texts import Texts, safe
from backup.wording import duration, shown_path, size

_LEAST_SHOWN = Decimal("0.0001")


class Words:
    """What the templates of one page need to say values; `zone` None is this machine's."""

    def __init__(self, texts: Texts, now: datetime, zone: tzinfo | None = None) -> None:
        self._texts, self._now, self._zone = texts, now, zone

    def time(self, moment: datetime) -> Markup:
        """A time to the minute with its zone."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{} <span class="zone">{}</span></time>').format(
            local.isoformat(timespec="seconds"), f"{local:%Y-%m-%d %H:%M}", safe(local.tzname() or "")
        )

    def day(self, moment: datetime) -> Markup:
        """The day of a time, without the time."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{}</time>').format(f"{local:%Y-%m-%d}", f"{local:%Y-%m-%d}")

    def clock(self, moment: datetime) -> Markup:
        """The time of the day with its zone."""
        local = moment.astimezone(self._zone)
        return Markup('<time datetime="{}">{}</time>').format(
            local.isoformat(timespec="seconds"), f"{local:%H:%M}"
        )

    def ago(self, moment: datetime) -> Markup:
        """How long ago a time is; one that is still to come is told as such."""
        passed = self._now - moment
        if passed < timedelta(0):
            return self.to_come(moment)
        if passed < timedelta(minutes=1):
            return self._texts.say("just now")
        return self._texts.say("%(time)s ago", time=duration(passed.total_seconds()))

    def to_come(self, moment: datetime) -> Markup:
        """How long it is until a time."""
        left = moment - self._now
        if left < timedelta(minutes=1):
            return self._texts.say("now")
        return self._texts.say("in %(time)s", time=duration(left.total_seconds()))

    def size(self, count: int) -> str:
        """A number of bytes."""
        return size(count)

    def count(self, number: int) -> str:
        """A number, thousands apart."""
        return f"{number:,}"

    def took(self, length: timedelta | float) -> str:
        """A length of time."""
        return duration(length.total_seconds() if isinstance(length, timedelta) else length)

    def money(self, amount: Decimal, currency: str) -> str:
        """An amount: cents, or as many places as a small amount needs to be seen."""
        if 0 < amount < _LEAST_SHOWN:
            return f"< {_LEAST_SHOWN} {currency}"
        places = 2 if amount == 0 or abs(amount) >= Decimal("0.01") else 4
        return f"{amount:,.{places}f} {currency}"

    def path(self, path: bytes) -> str:
        """A path or name that is safe to show."""
        return shown_path(path)
