"""A credential source of keys that never change, for tests and the demonstration."""

from __future__ import annotations

from dataclasses import dataclass

from backup.model import Credentials


@dataclass(frozen=True, slots=True)
class FixedCredentials:
    """A `CredentialSource` that always returns the same keys."""

    given: Credentials

    def credentials(self) -> Credentials:
        """The keys that were given."""
        return self.given
