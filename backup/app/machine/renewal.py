"""Renews this server's certificate, without a time in which none is valid.

1. Due after about half of its life (`renewal_times.py`); or, with `files`, when another program has written
   other files.
2. A new certificate, for a new key or the same one, is requested, checked, and staged beside the present one.
3. The staged pair gets credentials from AWS. If AWS is away it stays staged and is tried again; if AWS
   refuses it, it is given up.
4. Only then it is used, by one replacement of one file (`credentials/pairs.py`).

Until then the present pair is used, whatever fails. Failures are noted for `status`, and tried again after a
pause.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec import Struct

from backup.app.base.opened import require_own
from backup.app.base.vaults import configured_files, roles_anywhere
from backup.app.machine.asking_authority import Ask, asking
from backup.app.machine.renewal_times import RenewalNote, renewal_due
from backup.config import Config, IdentitySettings, RenewSettings
from backup.credentials.certificate import subject_values, weaknesses
from backup.credentials.identity import (
    Identity,
    check_validity,
    load_identity,
    own_certificate,
    read_file,
    read_passphrase,
)
from backup.credentials.identity_paths import IdentityFiles
from backup.credentials.keys import SoftwareKey
from backup.credentials.newkeys import IssuedKey, key_like, private_pem, renewal_request
from backup.credentials.pairs import Pairs, digest_of
from backup.errors import ConfigError, IdentityError, NightvaultError
from backup.files import write_durably
from backup.inventory.store.locks import hold_lock
from backup.protocols import Clock

TryOut = Callable[[IdentityFiles], str | None]
"""Gets credentials with a pair, and returns the role that it got them for; None if no vault has one."""


class RenewalState(StrEnum):
    """The result of a call; part of the JSON interface."""

    NOT_DUE = "not-due"
    PAUSED = "paused"  # it failed a short while ago
    RENEWED = "renewed"


class Renewal(Struct, frozen=True):
    """The result of a call with its details; `role`: the one that gave the new pair credentials, if tried."""

    state: RenewalState
    certificate: x509.Certificate
    due_at: datetime
    role: str | None = None
    next_try: datetime | None = None


def renew_if_due(
    config: Config,
    clock: Clock,
    *,
    force: bool = False,
    ask: Ask | None = None,
    try_out: TryOut | None = None,
) -> Renewal:
    """Renew the certificate if it is due, or if forced. A failure is recorded, and raised as our error.

    If forced, a certificate that ends sooner than the present one is accepted, too. `ConfigError` without
    `[identity.renew]`, `LockedError` while another process renews.
    """
    if config.identity is None or config.identity.renew is None:
        raise ConfigError(
            "identity.renew: the config does not say how the certificate is renewed",
            advice="add [identity.renew] with command, ssh or files (docs/configuration.md)",
        )
    if not config.identity.renew.files:
        config.require_own("[identity.renew]")
    require_own(config.state_dir, writes=True)  # the new key is written there
    with hold_lock(config.state_dir, "renewal"):
        work = _Work(
            config.identity,
            config.identity.renew,
            Pairs.below(config.state_dir),
            clock,
            ask or asking(config.identity.renew),
            try_out or (lambda files: _get_credentials(config, files, clock)),
            force,
        )
        return work.renew()


def read_note(config: Config) -> RenewalNote:
    """Return the record of renewals."""
    return _read_note(Pairs.below(config.state_dir))


def due_of(certificate: x509.Certificate) -> datetime:
    """Return the time from which a certificate is due for renewal."""
    return renewal_due(
        certificate.not_valid_before_utc, certificate.not_valid_after_utc, certificate.serial_number
    )


def _note_path(pairs: Pairs) -> str:
    return os.path.join(pairs.directory, "renewal.json")


def _read_note(pairs: Pairs) -> RenewalNote:
    with suppress(OSError, msgspec.MsgspecError), open(_note_path(pairs), "rb") as file:
        return msgspec.json.decode(file.read(), type=RenewalNote)
    return RenewalNote()


def _get_credentials(config: Config, files: IdentityFiles, clock: Clock) -> str | None:
    """Try a pair: credentials for the first role that a vault has."""
    role = next((vault.role_arn for vault in config.vaults if vault.role_arn is not None), None)
    if config.roles_anywhere is None or role is None:
        return None
    roles_anywhere(config.roles_anywhere, role, lambda: files, clock).credentials()
    return role


class _Work(Struct, frozen=True):
    """One renewal, under its lock."""

    identity: IdentitySettings
    settings: RenewSettings
    pairs: Pairs
    clock: Clock
    ask: Ask
    try_out: TryOut
    force: bool

    @property
    def configured(self) -> IdentityFiles:
        """The files that the config names."""
        return configured_files(self.identity)

    @property
    def present(self) -> IdentityFiles:
        """The files in use."""
        return self.pairs.chosen(self.configured, follows=self.settings.files)

    def renew(self) -> Renewal:
        now, note = self.clock.now(), _read_note(self.pairs)
        certificate = own_certificate(self.present)
        due = due_of(certificate)
        trial = self.pairs.trial()
        if trial is None and not self._is_wanted(due, now):
            return Renewal(RenewalState.NOT_DUE, certificate, due)
        if not self.force and not note.may_try(now):
            return Renewal(RenewalState.PAUSED, certificate, due, next_try=note.next_try)
        configured = digest_of(self.configured.certificate)  # what comes meanwhile is another matter
        try:
            pair = self._stage() if trial is None else trial
            role = self._try(pair, certificate)
        except NightvaultError as error:
            self._write_note(note.failed(str(error), self.clock.now()))
            raise
        files = self.pairs.files(self.configured, pair)
        self.pairs.use(pair, digest_of(files.certificate) if self.settings.files else configured)
        self._write_note(RenewalNote(renewed_at=self.clock.now()))
        new = own_certificate(files)
        return Renewal(RenewalState.RENEWED, new, due_of(new), role)

    def _is_wanted(self, due: datetime, now: datetime) -> bool:
        if not self.settings.files:
            return self.force or now >= due
        used = self.pairs.in_use()
        return used is None or used.replaces != digest_of(self.configured.certificate)

    def _stage(self) -> int:
        """A new pair, checked, beside the present one."""
        return self._stage_files() if self.settings.files else self._stage_asked()

    def _stage_files(self) -> int:
        """A copy of what another program wrote: read until certificate and key fit."""
        load_identity(self.configured)  # `IdentityError` while it is half done
        certificate = read_file(self.configured.certificate, "certificate")
        return self.pairs.stage(certificate, read_file(self.configured.private_key, "private key"))

    def _stage_asked(self) -> int:
        present = own_certificate(self.present)
        key, request = self._request(present)
        answer = self.ask(request)
        public = present.public_key() if key is None else key.public_key()
        try:
            certificates = x509.load_pem_x509_certificates(answer)
            mine = next(
                (certificate for certificate in certificates if certificate.public_key() == public), None
            )
        except (ValueError, UnsupportedAlgorithm) as error:
            raise IdentityError(
                "the authority's answer holds no certificate in PEM",
                advice="the command must print the certificate, and nothing else, on standard output",
            ) from error
        if mine is None:
            raise IdentityError("the authority's answer is no certificate for the key of the request")
        self._check_newer(mine, present)
        ordered = [mine, *(certificate for certificate in certificates if certificate != mine)]
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in ordered)
        return self.pairs.stage(pem, None if key is None else private_pem(key, self._passphrase()))

    def _request(self, present: x509.Certificate) -> tuple[IssuedKey | None, bytes]:
        """The request, and the key that it is for; None: a key that stays where it is."""
        if self.settings.request is not None:
            return None, read_file(self.settings.request, "request")
        key = key_like(present) if self.settings.key == "new" else self._same_key()
        return key, renewal_request(present, key)

    def _same_key(self) -> IssuedKey:
        key = load_identity(self.present).key
        if isinstance(key, SoftwareKey) and isinstance(
            key.private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
        ):
            return key.private_key
        raise IdentityError(
            "no request can be signed here with a key of this kind",
            advice="make one with openssl, and name it as request in [identity.renew]",
        )

    def _passphrase(self) -> bytes | None:
        """The passphrase of keys that are written: that of the key that there is."""
        named = self.identity.passphrase_file
        return None if named is None else read_passphrase(named)

    def _check_newer(self, new: x509.Certificate, present: x509.Certificate) -> None:
        """Refuse a certificate that AWS would, one of another name, and one that ends no later."""
        check_validity(new, self.clock.now())
        if found := weaknesses(new):
            raise IdentityError(f"AWS would refuse the new certificate: {found[0]}")
        before, after = (subject_values(certificate, NameOID.COMMON_NAME) for certificate in (present, new))
        if before != after:
            names = [", ".join(dns_names) or "none" for dns_names in (after, before)]
            raise IdentityError(f"the new certificate is of {names[0]}, the present one of {names[1]}")
        ends, ended = new.not_valid_after_utc, present.not_valid_after_utc
        if self.settings.files or ends > ended or (self.force and ends < ended):
            return
        raise IdentityError(
            f"the new certificate ends on {ends:%Y-%m-%d %H:%M} UTC, no later than the present one",
            advice="is it to live shorter? `nightvault identity renew --force` takes it once"
            if ends < ended
            else "does the authority's own certificate end then? `nightvault ca renew-root`",
        )

    def _try(self, pair: int, present: x509.Certificate) -> str | None:
        """Get credentials with the pair; one that is refused is given up, one that is not judged stays."""
        files = self.pairs.files(self.configured, pair)
        try:
            identity: Identity = load_identity(files)
            if identity.certificate == present:
                return None  # it is in use already: a copy of what another program wrote
            self._check_newer(identity.certificate, present)
            return self.try_out(files)
        except NightvaultError as error:
            if not error.retryable:
                self.pairs.drop_trial()
            raise

    def _write_note(self, note: RenewalNote) -> None:
        with suppress(OSError):  # a full disk is told of by what else fails
            os.makedirs(self.pairs.directory, mode=0o700, exist_ok=True)
            write_durably(_note_path(self.pairs), msgspec.json.encode(note))
