"""Who asks: a user of the page with a role, and the ways by which one is known."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """What a user may do: look, or also run, pause and resume jobs."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Scope(StrEnum):
    """What a token opens."""

    API = "api"
    METRICS = "metrics"


class Way(StrEnum):
    """How a request says who asks."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105  a word
    PROXY = "proxy"


class User(Struct, frozen=True):
    """Who asks; `fresh_until`: up to then the password was typed recently enough to change something."""

    name: str
    role: Role
    way: Way
    fresh_until: datetime | None = None
    session: bytes | None = None  # the hash by which the accounts know it

    def is_fresh(self, now: datetime) -> bool:
        """Whether the password was typed a short while ago."""
        return self.fresh_until is not None and now < self.fresh_until

    @property
    def may_operate(self) -> bool:
        """Whether the role allows to run, pause and resume; a fresh login is needed, too."""
        return self.role is Role.OPERATOR and self.way is not Way.TOKEN
