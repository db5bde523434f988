"""Vaults, asked themselves: credentials for each role, whether the vault is there, its clock, its settings.

A handful of requests for each vault: one CreateSession a role, one look at the vault, and for a bucket those
of `config check`. None of them costs more than a few thousandths of a cent; nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

from backup.app.doctor.deadline import failure_of, within
from backup.app.doctor.finding import Finding, Patient, critical, warning
from backup.app.vaults import Purpose, credential_source, make_vault, warnings_of_vault
from backup.errors import NightvaultError

MOST_CLOCK = timedelta(minutes=5)
_ROLES = {Purpose.BACKUP: "backups", Purpose.RESTORE: "restores", Purpose.PRUNE: "prunes"}


def roles_open(patient: Patient) -> Iterator[Finding]:
    """That the certificate gets credentials for each role that a vault names."""
    tried: set[str] = set()
    for vault in patient.config.vaults:
        for purpose, words in _ROLES.items():
            role = getattr(vault, purpose.value)
            if role is None or role in tried or patient.config.identity is None:
                continue
            tried.add(role)
            patient.requests.append(f"CreateSession for {role}")
            source = credential_source(patient.config, vault, purpose, patient.clock)
            what = f"get credentials for {role}"
            if error := failure_of(patient.seconds, what, source.credentials):
                why = f"{words} of vault {vault.name} fail until it does"
                yield critical(
                    "credentials", f"{role}: {error}", why, error.advice or "nightvault identity show"
                )


def vault_there(patient: Patient) -> Iterator[Finding]:
    """That each vault can be reached and is there, and that its clock is ours."""
    for vault in patient.config.vaults:
        if vault.kind != "directory":
            patient.requests.append(f"a look at vault {vault.name}")
        try:
            opened = make_vault(patient.config, vault.name, Purpose.BACKUP, patient.clock)
            state = within(patient.seconds, f"look at vault {vault.name}", opened.state)
        except NightvaultError as error:
            why = "nothing can be stored in it, or restored from it"
            yield critical("vault", f"vault {vault.name}: {error}", why, error.advice or "nightvault vaults")
            continue
        if not state.exists:
            why = "nothing can be stored in it"
            yield critical("vault", f"vault {vault.name} is not there", why, "nightvault init")
        elif state.at is not None and abs(state.at - patient.now) > MOST_CLOCK:
            apart = abs(state.at - patient.now)
            what = f"this machine's clock and that of vault {vault.name} differ by {_span(apart)}"
            why = "AWS refuses signatures that are five minutes off, and prunes stop"
            yield critical("clock", what, why, "timedatectl set-ntp true")


def bucket_settings(patient: Patient) -> Iterator[Finding]:
    """Lifecycle rules, versions and locks of buckets that harm."""
    for vault in patient.config.vaults:
        if vault.kind != "s3":
            continue
        patient.requests.append(f"four looks at the settings of bucket {vault.bucket}")
        what = f"look at the settings of bucket {vault.bucket}"
        look = partial(warnings_of_vault, patient.config, vault, patient.clock)
        for text in within(patient.seconds, what, look):
            why = "what lies in the bucket may be frozen, deleted or kept against your intention"
            yield warning("bucket", f"vault {vault.name}: {text}", why, "nightvault config check")


def _span(apart: timedelta) -> str:
    minutes = int(apart.total_seconds() // 60)
    return f"{minutes} minutes" if minutes < 180 else f"{minutes // 60} hours"
