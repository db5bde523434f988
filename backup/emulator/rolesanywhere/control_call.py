"""One call of the control plane, authenticated and parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from backup.emulator.core.access.callers import Caller


class ControlCall(Struct, frozen=True):
    """A call: `arn` is what it is about (empty for lists and new things), `given` its JSON body."""

    operation: str
    caller: Caller
    arn: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str]] = ()

    @property
    def account(self) -> str:
        """The account of the caller, who can see no other."""
        return self.caller.account_id

    @property
    def region(self) -> str:
        """The region of the signature."""
        return self.caller.region

    @property
    def query(self) -> Mapping[str, str]:
        """The parameters of the query, the last of each name."""
        return dict(self.pairs)

    def values(self, name: str) -> list[str]:
        """All parameters of a name."""
        return [value for key, value in self.pairs if key == name]
