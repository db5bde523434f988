"""`nightvault credential-process`: AWS keys for any AWS tool, in place of `aws_signing_helper`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any

import click

from backup.cli.keys.identity_flags import (
    Flags,
    identity_of,
    options_of,
    session_flags,
    source_of,
    warn_of_expiry,
)
from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from backup.credentials.identity_paths import IdentityFiles
    from backup.credentials.options import RolesAnywhereOptions
    from backup.credentials.serving.cache import CachedKeys
    from backup.model import Credentials
    from backup.protocols import CredentialSource

EXAMPLES = {
    "credential-process": (
        "nightvault credential-process",
        "nightvault credential-process --session-duration 900",
    )
}

WARN_DAYS = 14


@click.command("credential-process")
@session_flags
@click.option("--no-cache", is_flag=True, help="Ask AWS each time, without the cache.")
@click.option(
    "--warn-days",
    type=click.IntRange(min=0),
    metavar="N",
    help="Warn this many days before it expires (14, at most a fifth of its life).",
)
@pass_cli
def credential_process(cli: Cli, /, no_cache: bool, warn_days: int | None, **given: Any) -> None:
    """Print AWS keys as JSON, for `credential_process` in ~/.aws/config.

    The flags are those of aws_signing_helper. Without --certificate or --cert-selector the identity is that
    of config.toml. Exit codes: 2 usage, 13 identity, 14 denied, 15 no answer.
    """
    flags = Flags(**given)
    files = identity_of(cli, flags)
    options = options_of(cli, flags)
    if not no_cache and (found := _at_hand(cli, files, options, warn_days)):
        click.echo(document(found), nl=False)
        return
    warn_of_expiry(cli, files, warn_days)
    later = _LazySource(lambda: source_of(cli, flags, files, options))
    source = later if no_cache else _cached(cli, files, options, later)
    click.echo(document(source.credentials()), nl=False)


def _at_hand(
    cli: Cli, files: IdentityFiles, options: RolesAnywhereOptions, warn_days: int | None
) -> CachedKeys | None:
    from backup.credentials.serving.cache import cached_keys, default_directory

    directory, unless = (
        default_directory(os.environ),
        timedelta(days=WARN_DAYS if warn_days is None else warn_days),
    )
    return cached_keys(directory, files.certificate, options, now=cli.clock.now(), unless=unless)


def _cached(
    cli: Cli, files: IdentityFiles, options: RolesAnywhereOptions, source: CredentialSource
) -> CredentialSource:
    from cryptography.hazmat.primitives import hashes

    from backup.credentials.identity import check_validity, own_certificate
    from backup.credentials.serving.cache import CachedCredentials, cache_name, default_directory

    certificate = own_certificate(files)
    check_validity(certificate, cli.clock.now())
    name = cache_name(certificate.fingerprint(hashes.SHA256()), options)
    path = os.path.join(default_directory(os.environ), name)
    return CachedCredentials(source, path, options, cli.clock, certificate.not_valid_after_utc)


@dataclass(frozen=True, slots=True)
class _LazySource:
    """A credential source that is made only when it is asked: with keys in the cache no TLS is set up."""

    make: Callable[[], CredentialSource]

    def credentials(self) -> Credentials:
        """Return keys of the source of credentials."""
        return self.make().credentials()


def document(credentials: Credentials | CachedKeys) -> str:
    """Return the JSON that AWS tools read (AWS: "Sourcing credentials with an external process")."""
    fields = {
        "Version": 1,
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token,
    }
    if credentials.expires_at is not None:
        fields["Expiration"] = credentials.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps(fields, separators=(",", ":"))
