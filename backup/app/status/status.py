"""Reads the status of this server: from inventory, config, locks and certificate; no vault, no network.

The part that comes from the inventory: `recorded.py`.
"""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import datetime

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.base.opened import opened
from backup.app.machine.renewal_times import renewal_due
from backup.app.status.parts import RenewalStatus, Status
from backup.app.status.recorded import Parts, known_since, recorded_status
from backup.app.tasks.tasks import noted_keys
from backup.config import Config
from backup.errors import NightvaultError
from backup.inventory.records import tasks as task_rows
from backup.inventory.store.holders import holders


def read_status(config: Config, now: datetime) -> Status:
    """Return the status of this server. New tasks are recorded as known, if this user may write."""
    parts = Parts()
    certificate = parts.read("the certificate", lambda: _certificate(config), None)
    renewal = parts.read("the certificate's renewal", lambda: _renewal(config, certificate), None)
    before = holders(config.state_dir)  # a run that ends, or begins, while we look is not dead
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            found = recorded_status(tx, config, now, before, parts, certificate, renewal)
            known = task_rows.all_tasks(tx)
        if any(key not in known for key in noted_keys(config)):
            from backup.app.tasks.book import note_tasks

            with suppress(NightvaultError), inventory.writing(waits=False) as tx:  # the next look may note it
                note_tasks(tx, config, min(known_since(tx, config), now))
    return found


def _certificate(config: Config) -> CertificateStatus | None:
    """The certificate in its file, or as it was when it was last used if it is on a token; no key is used."""
    from backup.credentials.pkcs11_uri import is_pkcs11

    if config.identity is None:
        return None
    if is_pkcs11(config.identity.certificate):
        from backup.app.base.certificate_dates import noted_token

        return noted_token(config)
    from backup.app.base.vaults import identity_files
    from backup.credentials.identity import own_chain

    try:
        found, *above = own_chain(identity_files(config))
    except NightvaultError as error:
        return CertificateStatus(None, None, str(error))
    return CertificateStatus.of(found, above)


def _renewal(config: Config, certificate: CertificateStatus | None) -> RenewalStatus | None:
    """Return the state of the certificate's renewal; None if it is not automatic, or cannot be read."""
    if config.identity is None or config.identity.renew is None or certificate is None:
        return None
    if certificate.not_before is None or certificate.not_after is None:
        return None
    from backup.app.machine.asking_authority import way_of
    from backup.app.machine.renewal import read_note

    note, renew = read_note(config), config.identity.renew
    due = renewal_due(certificate.not_before, certificate.not_after, certificate.serial)
    return RenewalStatus(way_of(renew), renew.files, due, note.failing_since, note.error, note.next_try)
