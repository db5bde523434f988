"""The flags of `aws_signing_helper` that several commands share; makes identity and session options."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backup.cli.support.context import Cli
from backup.errors import ConfigError, IdentityError, UsageError

if TYPE_CHECKING:
    from backup.config import Config
    from backup.credentials.identity_paths import IdentityFiles
    from backup.credentials.options import RolesAnywhereOptions
    from backup.credentials.rolesanywhere import RolesAnywhere

F = TypeVar("F", bound=Callable[..., Any])

_EXCLUSIVE = (
    ("certificate", "cert_selector"),
    ("private_key", "cert_selector"),
    ("private_key", "use_latest_expiring_certificate"),
    ("intermediates", "use_latest_expiring_certificate"),
    ("reuse_pin", "use_latest_expiring_certificate"),
    ("intermediates", "cert_selector"),
    ("tpm_key_password", "cert_selector"),
    ("tpm_key_password", "reuse_pin"),
    ("tpm_key_password", "no_tpm_key_password"),
    ("tpm_key_password", "pkcs8_password"),
    ("no_tpm_key_password", "cert_selector"),
)

_IDENTITY = (
    click.option("--certificate", metavar="FILE|URI", help="PEM or PKCS#12 file, or pkcs11: URI."),
    click.option("--private-key", metavar="FILE|URI", help="PEM or TSS2 file, pkcs11: URI, handle:0x81…."),
    click.option("--cert-selector", metavar="TEXT|file://", help="Choose a certificate on the tokens."),
    click.option("--system-store-name", metavar="NAME", help="For Windows only; refused here."),
    click.option(
        "--use-latest-expiring-certificate",
        is_flag=True,
        help="Of several certificates, take the one that is valid longest.",
    ),
    click.option("--pkcs11-lib", metavar="FILE", help="The PKCS#11 module of the token."),
    click.option("--reuse-pin", is_flag=True, help="Offer the token's PIN to keys that ask again."),
    click.option("--tpm-key-password", metavar="TEXT", help="Password of the TPM key (visible in ps)."),
    click.option("--no-tpm-key-password", is_flag=True, help="The TPM key has no password: do not ask."),
    click.option("--pkcs8-password", metavar="TEXT", help="Passphrase of the key file (visible in ps)."),
    click.option(
        "--passphrase-file", metavar="FILE", help="File with the passphrase, PIN or password (better)."
    ),
    click.option("--debug", is_flag=True, help="Log requests and answers on stderr, without secrets."),
)
_SESSION = (
    click.option("--role-arn", metavar="ARN", help="The role to assume."),
    click.option("--profile-arn", metavar="ARN", help="The Roles Anywhere profile."),
    click.option("--trust-anchor-arn", metavar="ARN", help="The trust anchor."),
    click.option("--session-duration", type=int, metavar="SECONDS", help="900 to 43200; 3600 if not given."),
    click.option("--region", metavar="NAME", help="The trust anchor's, if not given."),
    click.option("--endpoint", metavar="URL", help="The service's endpoint, if it is not AWS's own."),
    click.option("--no-verify-ssl", is_flag=True, help="Do not verify the server's certificate."),
    click.option("--with-proxy", is_flag=True, help="Use HTTPS_PROXY, HTTP_PROXY and NO_PROXY."),
    click.option("--intermediates", metavar="FILE", help="PEM file of the chain above the certificate."),
    click.option(
        "--role-session-name", metavar="NAME", help="The session's name, if the profile allows one."
    ),
)


def identity_flags(command: F) -> F:
    """Add to a command the flags that choose certificate and key."""
    for option in reversed(_IDENTITY):
        command = option(command)
    return command


def session_flags(command: F) -> F:
    """Add to a command the flags of an identity and of CreateSession."""
    for option in reversed(_SESSION):
        command = option(command)
    return identity_flags(command)


@dataclass(frozen=True, slots=True)
class Flags:
    """The values of the flags; None or False for those that were not given."""

    certificate: str | None = None
    private_key: str | None = None
    cert_selector: str | None = None
    system_store_name: str | None = None
    use_latest_expiring_certificate: bool = False
    pkcs11_lib: str | None = None
    reuse_pin: bool = False
    tpm_key_password: str | None = None
    no_tpm_key_password: bool = False
    pkcs8_password: str | None = None
    passphrase_file: str | None = None
    debug: bool = False
    role_arn: str | None = None
    profile_arn: str | None = None
    trust_anchor_arn: str | None = None
    session_duration: int | None = None
    region: str | None = None
    endpoint: str | None = None
    no_verify_ssl: bool = False
    with_proxy: bool = False
    intermediates: str | None = None
    role_session_name: str | None = None

    def __repr__(self) -> str:
        return f"Flags(role_arn={self.role_arn!r})"

    @property
    def names_identity(self) -> bool:
        """Whether flags name the identity, so that the config's is not used."""
        return any((self.certificate, self.private_key, self.cert_selector))

    def check(self) -> None:
        """Raise `UsageError` for flags that exclude each other, as `aws_signing_helper` does."""
        if self.system_store_name is not None:
            raise UsageError(
                "--system-store-name: certificate stores of the system are on Windows alone",
                advice="name --certificate and --private-key: files, a token or a TPM",
            )
        for flag, other in _EXCLUSIVE:
            if getattr(self, flag) and getattr(self, other):
                first, second = (f"--{name.replace('_', '-')}" for name in (flag, other))
                raise UsageError(f"{first} and {second} exclude each other")
        if self.private_key and not self.certificate:
            raise UsageError("--private-key needs --certificate: without it nobody knows whose key it is")


def identity_of(cli: Cli, flags: Flags) -> IdentityFiles:
    """Return the files of the identity: from the flags, else from the config. `UsageError`."""
    from backup.credentials.identity_paths import IdentityFiles

    flags.check()
    if flags.debug:
        _tell_of_requests()
    if not flags.names_identity:
        from backup.app.base.vaults import identity_files

        config = _config(cli)
        if config.identity is None:
            raise UsageError(
                "no identity: neither --certificate nor [identity] in the config",
                advice="name --certificate and --private-key",
            )
        return identity_files(config)
    certificate = flags.certificate or _selected(flags)
    return IdentityFiles(
        certificate,
        flags.private_key or certificate,
        flags.intermediates,
        flags.passphrase_file,
        _password(flags),
        flags.pkcs11_lib,
        flags.reuse_pin,
        None if flags.no_tpm_key_password else ask_on_terminal(),
    )


def _selected(flags: Flags) -> str:
    from backup.credentials.key_stores.tokens import TokenAccess, find_certificates
    from backup.credentials.pkcs11_uri import Pkcs11Uri
    from backup.credentials.selector import choose, parse_selector, uri_of

    selector = parse_selector(flags.cert_selector or "")
    found = find_certificates(Pkcs11Uri(), TokenAccess(flags.pkcs11_lib))
    return uri_of(choose(found, selector, latest=flags.use_latest_expiring_certificate))


def _password(flags: Flags) -> bytes | None:
    given = flags.pkcs8_password or flags.tpm_key_password
    return None if given is None else given.encode()


def options_of(cli: Cli, flags: Flags) -> RolesAnywhereOptions:
    """Return the options of CreateSession, each from its flag, else from the config; errors name the flag."""
    from backup.credentials.options import RolesAnywhereOptions

    known = _known_to_config(cli, flags)
    given = {
        "trust_anchor_arn": flags.trust_anchor_arn,
        "profile_arn": flags.profile_arn,
        "role_arn": flags.role_arn,
        "session_duration": flags.session_duration,
        "region": flags.region,
        "endpoint": flags.endpoint,
        "role_session_name": flags.role_session_name,
    }
    chosen: dict[str, Any] = {**known, **{key: value for key, value in given.items() if value is not None}}
    for key in ("trust_anchor_arn", "profile_arn", "role_arn"):
        if key not in chosen:
            raise UsageError(f"{_flag(key)} is missing", advice="give it, or set it in the config")
    try:
        return RolesAnywhereOptions(**chosen)
    except ConfigError as error:
        words = re.sub(r"^(?:roles_anywhere\.)?(\w+):", lambda match: f"{_flag(match[1])}:", str(error))
        raise ConfigError(words, advice=error.advice) from error


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _known_to_config(cli: Cli, flags: Flags) -> dict[str, Any]:
    """The options that the config gives, where the flags leave the identity to it."""
    if flags.names_identity:
        return {}
    config = _config(cli)
    anywhere = config.roles_anywhere
    roles = dict.fromkeys(vault.role_arn for vault in config.vaults if vault.role_arn)
    if len(roles) > 1 and flags.role_arn is None:
        raise UsageError("the config has several roles", advice=f"choose --role-arn: {', '.join(roles)}")
    known: dict[str, Any] = {"role_arn": next(iter(roles), None)}
    if anywhere is not None:
        for key in ("trust_anchor_arn", "profile_arn", "session_duration", "endpoint", "role_session_name"):
            known[key] = getattr(anywhere, key)
    return {key: value for key, value in known.items() if value is not None}


def _config(cli: Cli) -> Config:
    return cli.config()


def source_of(cli: Cli, flags: Flags, files: IdentityFiles, options: RolesAnywhereOptions) -> RolesAnywhere:
    """Return a source of credentials by CreateSession; it uses proxies if a flag or the config says so."""
    from backup.credentials.connection import Connection, open_pool
    from backup.credentials.identity import load_identity
    from backup.credentials.rolesanywhere import RolesAnywhere

    through = flags.with_proxy or not flags.names_identity
    connection = Connection.of_environment(os.environ, proxies=through, verify=not flags.no_verify_ssl)
    keep = replace(files)
    return RolesAnywhere(
        options, load=lambda: load_identity(keep), clock=cli.clock, http=open_pool(options, connection)
    )


def warn_of_expiry(cli: Cli, files: IdentityFiles, days: int | None) -> None:
    """Warn on stderr if the certificate ends within so many days, or soon if None."""
    from backup.credentials.identity import expiry_warning, own_certificate

    if text := expiry_warning(own_certificate(files), cli.clock.now(), days):
        cli.warn(f"nightvault: {text}")


def _tell_of_requests() -> None:
    logging.basicConfig(stream=sys.stderr, format="nightvault: %(message)s")
    logging.getLogger("backup.credentials").setLevel(logging.DEBUG)


def ask_on_terminal() -> Callable[[str], bytes] | None:
    """Return a function that asks on the controlling terminal (/dev/tty); None if there is no terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None

    def ask(question: str) -> bytes:
        import getpass

        from backup.cli.support.keyfiles import typed

        try:
            with typed():
                return getpass.getpass(f"{question}: ").encode()
        except (EOFError, OSError) as error:
            raise IdentityError(f"nobody answers: {question}") from error

    return ask
