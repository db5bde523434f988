"""The user of a request with a role, and the ways of authentication."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Role(StrEnum):
    """The role of a user: a viewer only looks, an operator may also run, pause and resume jobs."""

    VIEWER = "viewer"
    OPERATOR = "operator"


class Scope(StrEnum):
    """The scope of a token: the API or the metrics."""

    API = "api"
    METRICS = "metrics"


class Way(StrEnum):
    """The way in which a request was authenticated."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105  a word
    PROXY = "proxy"


class User(Struct, frozen=True):
    """An authenticated user; until `fresh_until` the user may change something without the password."""

    name: str
    role: Role
    way: Way
    fresh_until: datetime | None = None
    session: bytes | None = None  # the hash by which the accounts know it

    def is_fresh(self, now: datetime) -> bool:
        """Whether the password was typed recently enough to change something."""
        return self.fresh_until is not None and now < self.fresh_until

    @property
    def may_operate(self) -> bool:
        """Whether the role may run, pause and resume jobs; a fresh login is needed, too."""
        return self.role is Role.OPERATOR and self.way is not Way.TOKEN
