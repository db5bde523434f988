"""This server's certificate as the page sees it: the file that everybody may read, never a key."""

from __future__ import annotations

from backup.app.base.certificate_dates import CertificateStatus
from backup.config import Config
from backup.files import open_small

_MOST = 256 * 1024


def certificate_of(config: Config) -> CertificateStatus | None:
    """The dates of the certificate in its file; None without one, on a token, or where it may not be read."""
    if config.identity is None or ":" in config.identity.certificate.partition("/")[0]:
        return None
    from cryptography import x509

    try:
        with open(config.identity.certificate, "rb", opener=open_small) as file:
            found, *above = x509.load_pem_x509_certificates(file.read(_MOST))
    except (OSError, ValueError):
        return None  # `nightvault status` says what is wrong with it
    return CertificateStatus.of(found, above)
