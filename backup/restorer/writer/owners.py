"""Maps saved owners to numeric ids of this machine: by name if it is known here, else the saved number.

That number may belong to another account here. The file gets it all the same, but not setuid, setgid or
capabilities: `strangers` says for which owners this is so.
"""

from __future__ import annotations

import functools
import grp
import pwd
from typing import NamedTuple

from backup.format.acl import NAMED_USER, renumbered
from backup.model import Extra, Owner


class Strangers(NamedTuple):
    """A sentence each for user and group whose saved number is another account's here; else empty."""

    user: str = ""
    group: str = ""


class Owners:
    """The mapping; `numeric` ignores names, for a disk that another machine will use."""

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric

    def ids(self, owner: Owner) -> tuple[int, int]:
        """Return user and group id for an entry."""
        if self._numeric:
            return owner.uid, owner.gid
        return _uid(owner.user, owner.uid), _gid(owner.group, owner.gid)

    def strangers(self, owner: Owner) -> Strangers:
        """Return whether the saved numbers belong to other accounts here, as the names are unknown."""
        if self._numeric:
            return Strangers()
        user = _user_at(owner.uid) if owner.user and _uid(owner.user, -1) < 0 else ""
        group = _group_at(owner.gid) if owner.group and _gid(owner.group, -1) < 0 else ""
        return Strangers(
            user and f"no user {owner.user} is known here, and {owner.uid} is {user}",
            group and f"no group {owner.group} is known here, and {owner.gid} is {group}",
        )

    def acl(self, value: bytes, extra: Extra) -> bytes:
        """Return an ACL with this machine's ids. `FormatError` if the value is not an ACL."""
        names = {} if self._numeric else {(tag, number): name for tag, number, name in extra.acl_names}

        def number(tag: int, saved: int) -> int:
            name = names.get((tag, saved), "")
            return _uid(name, saved) if tag == NAMED_USER else _gid(name, saved)

        return renumbered(value, number)


@functools.lru_cache(maxsize=4096)
def _uid(name: str, saved: int) -> int:
    try:
        return pwd.getpwnam(name).pw_uid if name else saved
    except (KeyError, ValueError):  # ValueError: not a possible name
        return saved


@functools.lru_cache(maxsize=4096)
def _gid(name: str, saved: int) -> int:
    try:
        return grp.getgrnam(name).gr_gid if name else saved
    except (KeyError, ValueError):
        return saved


def _user_at(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except (KeyError, OverflowError):  # OverflowError: no number of a user
        return ""


def _group_at(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except (KeyError, OverflowError):
        return ""
