"""The state directory with inventory, spool and keys, and the keys themselves.

    inventory.sqlite  recovery-lines.txt  spool/  restores/  rebuild/  rebuild-drill/  keeper/  drills/
    identity/
    keys/{signer,chunk-secret,recipients,enrolments,signed-enrolments}

Everything in it is for its owner alone. The recovery key is never here.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from msgspec import Struct

from backup.app.base.folders import Folders
from backup.app.base.opened import require_own
from backup.errors import (
    ConfigError,
    FormatError,
    InventoryDamagedError,
    NightvaultError,
    SpoolError,
)
from backup.files import file_lock, write_durably
from backup.format.enrolment import EnrolmentKey
from backup.format.keys import ChunkSecret, Recipient, Signer
from backup.owners import held_directory, make_private

_COPY = "bring it back from a copy of the state directory, or `nightvault rebuild --set-aside --key FILE`"


class SignedEnrolment(Struct, frozen=True):
    """An enrolment of version 2: the key that verifies it, and its signature (64 bytes)."""

    key: EnrolmentKey
    signature: bytes


class State(Folders, frozen=True):
    """The folders of one state directory, and the small files there."""

    def create(self) -> None:
        """Create the directories, those below the state directory closed to others.

        `StateDeniedError` if one is there that others can change, or lead elsewhere.
        """
        from backup.safe_paths import make_folders

        path = self.directory
        require_own(path, writes=True)
        try:
            make_folders(path)
            with held_directory(path) as handle:
                for path in (self.spool, self.restores, self.keys):
                    make_private(path, handle)
        except (OSError, RecursionError) as error:
            why = error.strerror if isinstance(error, OSError) else "it lies too deep"
            raise NightvaultError(
                f"the state directory {path} cannot be made: {why}",
                advice="run as a user that may, or set dir in [state]",
            ) from error

    def read_signer(self) -> Signer:
        """The inventory's signing key."""
        return Signer(self._read_key("signer"))

    def read_secret(self) -> ChunkSecret:
        """Return the chunk secret."""
        return ChunkSecret(self._read_key("chunk-secret"))

    def write_new_keys(self) -> Signer:
        """Generate signer and chunk secret; existing ones stay."""
        for name in ("signer", "chunk-secret"):
            if not os.path.exists(os.path.join(self.keys, name)):
                self._write(name, os.urandom(32).hex())
        return self.read_signer()

    def read_server_keys(self) -> tuple[Signer, ChunkSecret] | None:
        """Return signer and chunk secret; None if neither exists."""
        if not any(os.path.exists(os.path.join(self.keys, name)) for name in ("signer", "chunk-secret")):
            return None
        return self.read_signer(), self.read_secret()

    def write_server_keys(self, signer: Signer, secret: ChunkSecret) -> None:
        """Save signer and chunk secret of a rebuilt inventory."""
        self._write("signer", signer.seed.hex())
        self._write("chunk-secret", secret.secret.hex())

    def read_recipients(self) -> tuple[str, ...]:
        """Return the recipients that `init` saved; empty if the config names them."""
        text = self._read("recipients") or ""
        return tuple(line for line in text.split() if line)

    def write_recipients(self, recipients: Sequence[Recipient]) -> None:
        """Save recipients for a config that names none."""
        self._write("recipients", "\n".join(recipient.to_text() for recipient in recipients))

    def read_enrolments(self) -> dict[bytes, bytes]:
        """Return the enrolment tags by the id of the recipient whose recovery key made them."""
        lines = (self._read("enrolments") or "").splitlines()
        try:
            pairs = (line.split(" ") for line in lines)
            return {bytes.fromhex(recipient): bytes.fromhex(tag) for recipient, tag in pairs}
        except ValueError as error:
            raise self._damaged("enrolments", "no lines of two words in hex") from error

    def add_enrolment(self, recipient_id: bytes, tag: bytes) -> None:
        """Save an enrolment tag."""
        with file_lock(self.keys, wait=True):  # what another process adds meanwhile would be lost
            known = self.read_enrolments() | {recipient_id: tag}
            self._write(
                "enrolments", "\n".join(f"{recipient.hex()} {tag.hex()}" for recipient, tag in known.items())
            )

    def read_signed_enrolments(self) -> dict[bytes, SignedEnrolment]:
        """Return the enrolments of version 2, by the id of the recipient whose recovery key signed them."""
        lines = (self._read("signed-enrolments") or "").splitlines()
        try:
            words = (line.split(" ") for line in lines)
            found = [(bytes.fromhex(name), EnrolmentKey.from_text(key), by) for name, key, by in words]
            return {name: SignedEnrolment(key, bytes.fromhex(by)) for name, key, by in found}
        except (ValueError, FormatError) as error:
            raise self._damaged("signed-enrolments", "no lines of three words") from error

    def add_signed_enrolment(self, recipient_id: bytes, signed: SignedEnrolment) -> None:
        """Save an enrolment of version 2."""
        with file_lock(self.keys, wait=True):
            known = self.read_signed_enrolments() | {recipient_id: signed}
            lines = (
                f"{name.hex()} {enrolment.key.to_text()} {enrolment.signature.hex()}"
                for name, enrolment in known.items()
            )
            self._write("signed-enrolments", "\n".join(lines))

    def forget_enrolments(self) -> None:
        """Remove all enrolments: those of another inventory are not valid for a new one."""
        self._write("enrolments", "")
        self._write("signed-enrolments", "")

    def _read_key(self, name: str) -> bytes:
        text = self._read(name)
        if text is None:
            raise InventoryDamagedError(f"{os.path.join(self.keys, name)} is gone", advice=_COPY)
        try:
            key = bytes.fromhex(text)
        except ValueError:
            key = b""
        if len(key) != 32:
            raise self._damaged(name, "no 32 bytes in hex")
        return key

    def _damaged(self, name: str, holds: str) -> InventoryDamagedError:
        path = os.path.join(self.keys, name)
        return InventoryDamagedError(f"{path} is damaged: it holds {holds}", advice=_COPY)

    def _read(self, name: str) -> str | None:
        try:
            with open(os.path.join(self.keys, name), encoding="ascii") as file:
                return file.read().strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except UnicodeDecodeError as error:
            raise self._damaged(name, "no text") from error
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be read: {error.strerror}", advice="run as the user that ran `init`"
            ) from error

    def _write(self, name: str, text: str) -> None:
        path = os.path.join(self.keys, name)
        try:
            with held_directory(self.directory) as state, held_directory(self.keys, state) as keys:
                write_durably(name, f"{text}\n".encode("ascii"), dir_fd=keys)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise SpoolError(f"no space left for {path}") from error
            raise NightvaultError(f"{path} cannot be written: {error.strerror}") from error


def parse_recipients(texts: Sequence[str]) -> tuple[Recipient, ...]:
    """Parse the recipients from their text form, in a fixed order."""
    return tuple(sorted((Recipient.from_text(text) for text in texts), key=lambda recipient: recipient.id))
