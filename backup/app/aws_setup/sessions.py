"""Tries a new set-up with the certificate: a role that IAM has just made is not known everywhere at once."""

from __future__ import annotations

from collections.abc import Callable, Collection

from backup.app.base.vaults import Purpose, credential_source
from backup.config import Config, VaultSettings
from backup.errors import DeniedError
from backup.protocols import Clock

PATIENCE = 180.0
"""Seconds after which a refusal is no delay any more: IAM takes some ten, now and then a minute."""

PAUSE = 5.0
_VAGUE = "Unable to assume role"


def try_sessions(
    config: Config,
    vault: VaultSettings,
    clock: Clock,
    *,
    arns: Collection[str],
    waits: Callable[[str], object],
) -> None:
    """Get credentials for those roles of the vault that this certificate may assume.

    `DeniedError` for a refusal that does not pass.

    Raises `IdentityError` where the certificate or its key cannot be used on this machine.
    """
    for purpose in Purpose:
        if getattr(vault, purpose.value) in arns:
            _try(config, vault, purpose, clock, waits)


def _try(
    config: Config, vault: VaultSettings, purpose: Purpose, clock: Clock, waits: Callable[[str], object]
) -> None:
    until, role = PATIENCE, getattr(vault, purpose.value)
    while True:
        try:
            credential_source(config, vault, purpose, clock).credentials()
        except DeniedError as error:
            if _VAGUE not in str(error):
                raise
            if until <= 0:
                raise DeniedError(
                    f"{error}; it was tried for {PATIENCE:.0f} s, so it is no delay of IAM",
                    advice="compare the role's trust policy with `nightvault setup aws --plan`",
                ) from error
            if until == PATIENCE:
                waits(f"waiting: AWS does not let the certificate into {role} yet")
            clock.sleep(PAUSE)
            until -= PAUSE
        else:
            return
