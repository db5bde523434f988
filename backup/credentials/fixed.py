"""Keys that were given and stay as they are."""

from __future__ import annotations

from dataclasses import dataclass

from backup.model import Credentials


@dataclass(frozen=True, slots=True)
class FixedCredentials:
    """A `CredentialSource` that always answers the same."""

    given: Credentials

    def credentials(self) -> Credentials:
        """The keys that were given."""
        return self.given
