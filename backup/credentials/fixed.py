"""A credential source of keys that never change, for tests and the demonstration."""

from __future__ import annotations

from msgspec import Struct

from backup.model import Credentials


class FixedCredentials(Struct, frozen=True):
    """A `CredentialSource` that always returns the same keys."""

    given: Credentials

    def credentials(self) -> Credentials:
        """The keys that were given."""
        return self.given
