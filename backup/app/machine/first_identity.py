"""The first key of a server, the request for its certificate, and the wait for that; the key stays here."""

from __future__ import annotations

import os
from contextlib import suppress

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from backup.credentials.identity import check_validity, load_identity, read_file
from backup.credentials.identity_paths import IdentityFiles
from backup.credentials.newkeys import IssuedKey, first_request, private_pem
from backup.errors import IdentityError
from backup.files import create_durably, write_durably
from backup.owners import hazard_of_way
from backup.protocols import Clock

_EVERY_SECONDS = 2.0


class FirstIdentity(Struct, frozen=True):
    """The paths of a key, of the request that it has signed, and of the certificate that is to come."""

    certificate: str
    private_key: str
    request: str

    @classmethod
    def beside(cls, config: str) -> FirstIdentity:
        """Return the paths beside a config file."""
        folder = os.path.dirname(os.path.abspath(config))
        return cls(*(os.path.join(folder, f"identity.{end}") for end in ("pem", "key", "csr")))

    def make_request(self, name: str) -> None:
        """Write a request for that common name, and first the key, unless it is there. `IdentityError`."""
        with suppress(FileExistsError):
            create_durably(self.private_key, private_pem(ec.generate_private_key(ec.SECP256R1())))
        write_durably(self.request, first_request(name, self._key()), mode=0o644)

    def _key(self) -> IssuedKey:
        """The key that lies there: none that others have put there, or may have read."""
        try:
            hazard, mode = hazard_of_way(self.private_key), os.stat(self.private_key).st_mode
        except OSError as error:
            raise IdentityError(f"{self.private_key} cannot be read: {error.strerror}") from error
        if hazard is not None:
            raise IdentityError(
                f"the key {self.private_key} is not used: {hazard.why}", advice=hazard.command
            )
        if mode & 0o077:
            raise IdentityError(
                f"the key {self.private_key} is not used: by its mode others may have read it",
                advice="remove it: another one is made",
            )
        try:
            key = load_pem_private_key(read_file(self.private_key, "the private key"), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise IdentityError(f"{self.private_key} holds no key that can be used: {error}") from error
        if not isinstance(key, IssuedKey):
            raise IdentityError(f"{self.private_key}: the key is neither RSA nor EC")
        return key

    def awaited(self, clock: Clock, seconds: float) -> IdentityFiles:
        """Return key and certificate, as soon as a valid one of this key lies there.

        `IdentityError` with what is wrong after so many seconds.
        """
        files, until = IdentityFiles(self.certificate, self.private_key), clock.now().timestamp() + seconds
        while True:
            try:
                check_validity(load_identity(files).certificate, clock.now())
            except IdentityError as error:
                if clock.now().timestamp() >= until:
                    raise IdentityError(
                        f"there is no certificate yet: {error}",
                        advice=f"have {self.request} signed, as {self.certificate}; the same command goes on",
                    ) from error
                clock.sleep(_EVERY_SECONDS)
            else:
                return files
