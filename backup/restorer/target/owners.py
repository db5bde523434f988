"""Maps saved owners to numeric ids of this machine: by name if it is known here, else the saved number."""

from __future__ import annotations

import functools
import grp
import pwd

from backup.format.acl import NAMED_USER, renumbered
from backup.model import Extra, Owner


class Owners:
    """The mapping; `numeric` ignores names, for a disk that another machine will use."""

    def __init__(self, *, numeric: bool = False) -> None:
        self._numeric = numeric

    def ids(self, owner: Owner) -> tuple[int, int]:
        """User and group id for an entry."""
        if self._numeric:
            return owner.uid, owner.gid
        return _uid(owner.user, owner.uid), _gid(owner.group, owner.gid)

    def acl(self, value: bytes, extra: Extra) -> bytes:
        """An ACL with this machine's ids. `FormatError` if the value is no ACL."""
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
