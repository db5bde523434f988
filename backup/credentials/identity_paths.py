"""The paths of an identity's files, without reading them; few imports, for programs that start often."""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from backup.credentials.pkcs11_uri import is_pkcs11
from backup.errors import IdentityError
from backup.files import open_small

CREDENTIAL = "credential:"
"""The beginning of the place of a secret that systemd hands over (`LoadCredential=`)."""

MOST_FILE = 1 << 20
"""The maximum size of a certificate or key file in bytes; a device file would have no end."""

Asker = Callable[[str], bytes]
"""A function that asks the user a question and returns the secret; `IdentityError` without a terminal."""


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """The locations of certificate and private key, as in the config.

    `certificate` is a file (PEM or PKCS#12) or a `pkcs11:` URI; `private_key` a file (PEM, PKCS#12, TSS2
    PEM), a `pkcs11:` URI or `handle:0x81……` in a TPM. Its secret (a passphrase, a token's PIN, a TPM key's
    password) is in `passphrase_file` or `passphrase`, or `ask` asks for it.
    """

    certificate: str
    private_key: str
    intermediates: str | None = None
    passphrase_file: str | None = None
    passphrase: bytes | None = field(default=None, repr=False)
    pkcs11_module: str | None = None
    reuse_pin: bool = True
    ask: Asker | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"IdentityFiles({shown_place(self.certificate)}, {shown_place(self.private_key)})"


def with_handed_over(files: IdentityFiles, environ: Mapping[str, str]) -> IdentityFiles:
    """The files, `credential:NAME` replaced by the path where systemd put it. `IdentityError`."""
    secret = files.passphrase_file
    return replace(
        files,
        private_key=_handed_over(files.private_key, environ),
        passphrase_file=None if secret is None else _handed_over(secret, environ),
    )


def _handed_over(place: str, environ: Mapping[str, str]) -> str:
    if not place.startswith(CREDENTIAL):
        return place
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise IdentityError(
            f"{place} is handed over by systemd, which did not start this process",
            advice="run it by its unit (systemctl start nightvault-backup@JOB), or name a file in the config",
        )
    return os.path.join(directory, place.removeprefix(CREDENTIAL))


def shown_place(place: str) -> str:
    """A location for messages, without a URI's query, which may hold a PIN."""
    return place.partition("?")[0] if is_pkcs11(place) else place


_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\s*([A-Za-z0-9+/=\s]+?)\s*-----END CERTIFICATE-----")


def first_certificate(path: str) -> bytes | None:
    """The DER of a PEM file's first certificate, unparsed; None for anything else, which is not opened."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb", opener=open_small) as file:
            found = _CERTIFICATE.search(file.read(MOST_FILE))
        return None if found is None else base64.b64decode(b"".join(found[1].split()), validate=True)
    except (OSError, ValueError):
        return None
