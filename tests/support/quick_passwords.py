"""Passwords and passphrases that cost little to try: a few KiB of memory in place of 32 and 256 MiB.

A hash and a protected key file name their own costs, so what is made here is opened by everybody, and what
others made costs what it says. A test of the costs themselves takes the fixture `real_passwords`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from backup.format.keys import protect
from backup.web.guard import passwords

_PASSES, _MEMORY_KIB = 1, 64
_DEFAULTS = protect.__kwdefaults__ or {}
_REAL = dict(_DEFAULTS)


class _Cheap:
    """Argon2id, in place of that of `passwords`."""

    verify_phc_encoded = staticmethod(Argon2id.verify_phc_encoded)

    def __new__(cls, *, iterations: int, memory_cost: int, **given: Any) -> Any:
        return Argon2id(iterations=_PASSES, memory_cost=_MEMORY_KIB, **given)


def quicken() -> None:
    """Let what this process makes from now on be cheap to try."""
    _DEFAULTS.update(passes=_PASSES, memory_kib=_MEMORY_KIB)
    setattr(passwords, "Argon2id", _Cheap)  # noqa: B010  a class


@pytest.fixture
def real_passwords() -> Iterator[None]:
    """What they cost users."""
    _DEFAULTS.update(_REAL)
    setattr(passwords, "Argon2id", Argon2id)  # noqa: B010  a class
    passwords._NOBODYS.clear()  # what a name that nobody has is compared with: made anew, at the real cost
    yield
    passwords._NOBODYS.clear()
    quicken()
