"""The policy statement that a denial of AWS lacks, from its text; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

_DENIAL = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>\S+)"
    r"(?: on resource: (?P<resource>\S+))?(?P<rest>.*)",
    re.DOTALL,
)
_ANY_NEW = re.compile(r"(arn:[^:]+:rolesanywhere:[^:]*:[^:]*:[a-z-]+)/.*")


class Missing(Struct, frozen=True):
    """A denial: who lacks which action on what; with `is_forbidden` a policy denies it: no Allow helps."""

    who: str
    action: str
    resource: str
    is_forbidden: bool

    @property
    def statement(self) -> Mapping[str, object]:
        """The statement that would allow it, as narrow as the denial tells."""
        made: dict[str, object] = {"Effect": "Allow", "Action": self.action, "Resource": self._allowed}
        if self.action == "iam:PassRole":
            made["Condition"] = {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}}
        return made

    @property
    def _allowed(self) -> str:
        """The resource; of a thing that does not exist yet, all of its kind."""
        new = _ANY_NEW.fullmatch(self.resource)
        return f"{new[1]}/*" if new and self.action == "rolesanywhere:TagResource" else self.resource


def missing_in(text: str) -> Missing | None:
    """The denial that the text of an error describes; None if it says nothing of it."""
    found = _DENIAL.search(text)
    if found is None:
        return None
    resource = (found["resource"] or "*").rstrip(".")
    return Missing(found["who"], found["action"], resource, "explicit deny" in found["rest"])
