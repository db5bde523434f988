"""Makes the config's vaults, with the credentials that open them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from backup.config import (
    Config,
    IdentitySettings,
    LimitSettings,
    RolesAnywhereSettings,
    VaultSettings,
    minute_of,
)
from backup.errors import ConfigError, NightvaultError
from backup.model import VaultName
from backup.protocols import Clock, CredentialSource, Vault
from backup.vault.rate_limit import UNLIMITED, AnyRateLimit, RateLimit, RateLimits, Timetable, Window

if TYPE_CHECKING:
    from backup.credentials.identity import Identity
    from backup.credentials.identity_paths import IdentityFiles
    from backup.credentials.rolesanywhere import RolesAnywhere
    from backup.retention.locks import LockRules
    from backup.vault.s3.requests import BucketLock, BucketRequests
    from backup.vault.s3.warnings import KnownOfBucket


ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_ROLESANYWHERE"
"""The variable with the endpoint of Roles Anywhere, if the config has none; named as boto3's are."""


SET_UP = "`nightvault setup aws --plan` shows what it lacks, `--apply` makes that (docs/aws.md)"


class Purpose(Enum):
    """The purpose a vault is opened for; each may have a role of its own, with the least rights.

    Copies are stored with the backup role of the vault that gets them.
    """

    BACKUP = "role_arn"
    RESTORE = "restore_role_arn"
    COPY = "copy_role_arn"  # reads packs for copies into other vaults
    PRUNE = "prune_role_arn"
    LOCK = "lock_role_arn"
    PERSON = "no role of the config"  # a person's own keys


def make_vault(
    config: Config,
    name: str,
    purpose: Purpose,
    clock: Clock,
    *,
    stop: Callable[[], bool] | None = None,
) -> Vault:
    """Make the vault of that name with its rate limits; no request is sent yet.

    Once `stop` is true, a transfer that waits for its rate limit ends with `InterruptedRunError`.
    """
    settings = config.vault(name)
    limits = RateLimits(
        _rate_limit(settings.upload_limit, clock, stop),
        _rate_limit(settings.download_limit, clock, stop),
    )
    if settings.kind == "directory":
        from backup.vault.directory import DirectoryVault

        return DirectoryVault(VaultName(name), settings.path or "", clock, limits)
    if settings.kind == "s3":
        from backup.vault.s3.vault import S3Vault

        requests = bucket_requests(config, settings, purpose, clock)
        return S3Vault(settings.name, requests.client, requests.bucket, clock, limits)
    return _glacier(config, settings, purpose, clock, limits)


def _rate_limit(
    limits: Sequence[LimitSettings], clock: Clock, stop: Callable[[], bool] | None
) -> AnyRateLimit:
    """A rate limit by the hours of this machine's time zone; none without windows."""
    windows = [
        Window(minute_of(limit.from_), minute_of(limit.to) % (24 * 60), limit.limit) for limit in limits
    ]
    return RateLimit(Timetable(windows), clock, stop) if windows else UNLIMITED


def bucket_requests(
    config: Config, settings: VaultSettings, purpose: Purpose, clock: Clock
) -> BucketRequests:
    """Make the client for the bucket of an S3 vault."""
    from backup.credentials.boto import boto3_session
    from backup.vault.aws import make_s3_client
    from backup.vault.s3.requests import Bucket, BucketRequests

    region = settings.region or ""
    session = boto3_session(credential_source(config, settings, purpose, clock), region)
    client = make_s3_client(
        session, region=region, endpoint=settings.endpoint, path_style=settings.path_style
    )
    bucket = Bucket(
        settings.bucket or "",
        region,
        settings.prefix,
        settings.storage_class,
        settings.catalog_class,
        settings.retrieval_days,
        settings.checksums,
        _owner_of(settings, purpose),
        _lock_of(settings),
    )
    return BucketRequests(client, bucket)


def lock_rules(settings: VaultSettings) -> LockRules | None:
    """Return the rules by which what is stored in a vault is locked; None where nothing is."""
    if settings.lock is None:
        return None
    from backup.retention.locks import LockRules

    return LockRules(timedelta(seconds=settings.lock_for), timedelta(seconds=settings.lock_step))


def _lock_of(settings: VaultSettings) -> BucketLock | None:
    rules = lock_rules(settings)
    if rules is None:
        return None
    from backup.retention.locks import locked_until
    from backup.vault.s3.requests import BucketLock

    return BucketLock(str(settings.lock).upper(), partial(locked_until, rules=rules))


def _owner_of(settings: VaultSettings, purpose: Purpose) -> str | None:
    """The account that an S3 vault's bucket must belong to: the config's, else that of its role, if any."""
    if settings.account_id != "-":
        return settings.account_id
    role = settings.role_arn or getattr(settings, purpose.value, None)
    return None if role is None else str(role).split(":")[4]


def warnings_of_vault(
    config: Config, settings: VaultSettings, clock: Clock, look: KnownOfBucket | None = None
) -> list[str]:
    """Return warnings about the bucket settings of an S3 vault, which are read from the service; else none.

    `look` has the settings known already, and is given the others.
    """
    if settings.kind != "s3":
        return []
    from backup.vault.s3.warnings import warnings_of

    try:
        requests = bucket_requests(config, settings, Purpose.BACKUP, clock)
        return [*_noticed_late(settings, clock), *warnings_of(requests, look)]
    except NightvaultError as error:
        return [f"cannot look at its bucket: {error}"]


def _noticed_late(settings: VaultSettings, clock: Clock) -> list[str]:
    """A warning if locks may end before anybody sees an attack: renewals and checks look at the bucket."""
    from backup.schedule import parse_schedule, widest_gap

    looks = [parse_schedule(words, "UTC") for words in (settings.extend, settings.check) if words]
    if settings.lock is None or not looks:
        return []
    gap, lock_for = min(widest_gap(look, clock.now()) for look in looks), timedelta(seconds=settings.lock_for)
    if lock_for > gap:
        return []
    text = (
        f"objects are locked for {lock_for.days} days, but `extend` and `check` may look at them only each "
        f"{gap.days} days: an attack may be noticed after its locks have ended; make lock_for longer"
    )
    return [text]


def _glacier(
    config: Config, settings: VaultSettings, purpose: Purpose, clock: Clock, limits: RateLimits
) -> Vault:
    from backup.credentials.boto import boto3_session
    from backup.vault.aws import make_client
    from backup.vault.glacier import GlacierVault

    region = settings.region or ""
    session = boto3_session(credential_source(config, settings, purpose, clock), region)
    client = make_client(session, "glacier", region=region, endpoint=settings.endpoint)
    return GlacierVault(settings.name, client, settings.vault or "", settings.account_id, limits)


def credential_source(
    config: Config, settings: VaultSettings, purpose: Purpose, clock: Clock
) -> CredentialSource:
    """Return the source of a role's credentials: Roles Anywhere, else boto3's default chain.

    The default chain is used without [identity], and for S3 of another service than AWS. `ConfigError` for a
    vault that is not set up in AWS yet.
    """
    if gaps := config.not_set_up(settings):
        raise ConfigError(gaps, advice=SET_UP)
    elsewhere = settings.kind == "s3" and settings.role_arn is None
    if config.identity is None or elsewhere or purpose is Purpose.PERSON:
        from backup.credentials.boto import DefaultChain

        return DefaultChain(is_own=purpose is Purpose.PERSON)
    anywhere = config.roles_anywhere
    role = role_of(settings, purpose) or ""
    if anywhere is None:
        raise ConfigError(
            f"{config.path}: vault {settings.name} needs [roles_anywhere] beside [identity]",
            advice="docs/aws.md tells where its ARNs come from",
        )

    def loaded(identity: Identity) -> None:
        from backup.app.base.certificate_dates import note_token

        note_token(config, identity.certificate, identity.chain)

    return roles_anywhere(anywhere, role, lambda: identity_files(config), clock, loaded)


def role_of(settings: VaultSettings, purpose: Purpose) -> str | None:
    """The role for a purpose; where none is named copies are read as restores are, else as backups are."""
    named: str | None = getattr(settings, purpose.value)
    return named or (settings.restore_role_arn if purpose is Purpose.COPY else None) or settings.role_arn


def roles_anywhere(
    anywhere: RolesAnywhereSettings,
    role: str,
    files: Callable[[], IdentityFiles],
    clock: Clock,
    loaded: Callable[[Identity], None] = lambda _: None,
) -> RolesAnywhere:
    """Return credentials for a role; `files` is called at each renewal for the identity's present paths.

    `loaded` is called with each identity that was loaded.
    """
    from backup.credentials.identity import load_identity
    from backup.credentials.options import RolesAnywhereOptions
    from backup.credentials.rolesanywhere import RolesAnywhere

    options = RolesAnywhereOptions(
        region=anywhere.region,
        endpoint=anywhere.endpoint or os.environ.get(ENDPOINT_VARIABLE),
        trust_anchor_arn=anywhere.trust_anchor_arn,
        profile_arn=anywhere.profile_arn,
        role_arn=role,
        session_duration=anywhere.session_duration,
        role_session_name=anywhere.role_session_name,
    )

    def load() -> Identity:
        identity = load_identity(files())
        loaded(identity)
        return identity

    return RolesAnywhere(options, load=load, clock=clock)


def identity_files(config: Config) -> IdentityFiles:
    """Return the files of the identity: the config's, or those of the newest renewal.

    `ConfigError` without [identity].
    """
    identity = config.identity
    if identity is None:
        raise ConfigError(
            "identity: the config has no such section",
            advice="add [identity] with certificate and private_key; `nightvault ca issue` makes both",
        )
    if identity.pkcs11_module or "module-path" in identity.certificate + identity.private_key:
        config.require_own("the PKCS#11 module in [identity]")  # a library: its code would be root's
    configured = configured_files(identity)
    if identity.renew is None:
        return configured
    from backup.credentials.pairs import Pairs

    return Pairs.below(config.state_dir).chosen(configured, follows=identity.renew.files)


def configured_files(identity: IdentitySettings) -> IdentityFiles:
    """Return the files of the identity that the config names."""
    from backup.credentials.identity_paths import IdentityFiles

    return IdentityFiles(
        identity.certificate,
        identity.private_key,
        identity.intermediates,
        identity.passphrase_file,
        pkcs11_module=identity.pkcs11_module,
    )
