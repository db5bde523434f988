"""Renewed pairs of certificate and key: kept side by side, one of them in use.

    identity/{1,2,…}/{certificate.pem,key.pem}   pairs, each written once
    identity/trial                               the pair that has not got credentials yet
    identity/current                             the pair in use, and which configured certificate it replaces

The swap of two files at once is the replacement of one, `current`. A reader finds both files in one folder,
and neither ever changes, so no reader sees a mixed pair. The pair before stays until the next swap.

Few imports: programs that start often look here, too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from msgspec import Struct

from backup.credentials.identity_paths import MOST_FILE, IdentityFiles
from backup.errors import IdentityError, NightvaultError
from backup.files import create_durably, open_small, sync_directory, write_durably

_CURRENT, _TRIAL = "current", "trial"
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"


class InUse(Struct, frozen=True):
    """The renewed pair in use: its number, and the digest of the configured certificate that it replaces."""

    pair: int
    replaces: str


class Pairs(Struct, frozen=True):
    """The renewed pairs in a folder of the state directory; `NightvaultError` if it cannot be used."""

    directory: str

    @classmethod
    def below(cls, state_dir: str) -> Pairs:
        """The pairs of a state directory."""
        return cls(os.path.join(state_dir, "identity"))

    def in_use(self) -> InUse | None:
        """The pair in use; None if no pair was renewed yet. `IdentityError` if that cannot be read."""
        path = os.path.join(self.directory, _CURRENT)
        try:
            with open(path, "rb", opener=open_small) as file:
                found = json.loads(file.read(MOST_FILE))
            return InUse(int(found["pair"]), str(found["replaces"]))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise IdentityError(f"{path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IdentityError(
                f"{path} is damaged", advice="remove it: the configured certificate is used then"
            ) from error

    def trial(self) -> int | None:
        """The pair to be tried before it is used; None if there is none, or if it is incomplete."""
        try:
            with open(os.path.join(self.directory, _TRIAL), "rb") as file:
                number = int(file.read(20))
        except (OSError, ValueError):
            return None
        return number if os.path.exists(self._place(number, _CERTIFICATE)) else None

    def files(self, configured: IdentityFiles, pair: int) -> IdentityFiles:
        """The paths of a pair's files; a key in a token or TPM stays where the config has it."""
        key = self._place(pair, _KEY)
        private_key = key if os.path.exists(key) else configured.private_key
        return replace(configured, certificate=self._place(pair, _CERTIFICATE), private_key=private_key)

    def chosen(self, configured: IdentityFiles, *, follows: bool) -> IdentityFiles:
        """The identity to use: the renewed pair, unless the configured certificate was changed since.

        With `follows`, changes of the configured files are taken over by a renewal alone.
        """
        used = self.in_use()
        while used is not None and (follows or used.replaces == digest_of(configured.certificate)):
            files = self.files(configured, used.pair)
            if os.path.exists(files.certificate):
                return files
            seen, used = used, self.in_use()
            if used == seen:  # else it was replaced, and removed, since we looked
                current = os.path.join(self.directory, _CURRENT)
                raise IdentityError(
                    f"the renewed certificate {files.certificate} is missing",
                    advice=f"remove {current}: the configured certificate is used then",
                )
        return configured

    def stage(self, certificate: bytes, key: bytes | None) -> int:
        """Write a pair to be tried; its number."""
        with _translated_write_errors(self.directory):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            number = max(self._numbers(), default=0) + 1
            os.mkdir(os.path.join(self.directory, str(number)), 0o700)
            if key is not None:
                create_durably(self._place(number, _KEY), key)
            create_durably(self._place(number, _CERTIFICATE), certificate)
            sync_directory(self.directory)
            write_durably(os.path.join(self.directory, _TRIAL), f"{number}\n".encode())
        return number

    def use(self, pair: int, replaces: str) -> None:
        """Use this pair from now on; of the others, the one before stays."""
        used = self.in_use()
        content = {"pair": pair, "replaces": replaces}
        with _translated_write_errors(self.directory):
            write_durably(os.path.join(self.directory, _CURRENT), json.dumps(content).encode() + b"\n")
        self._remove_all_but({pair, used.pair if used else pair})

    def drop_trial(self) -> None:
        """Discard the pair that was to be tried."""
        used = self.in_use()
        if used is None:
            self._remove_all_but(set())
        else:  # the pair before stays, the highest below it
            before = max((pair for pair in self._numbers() if pair < used.pair), default=used.pair)
            self._remove_all_but({used.pair, before})

    def _remove_all_but(self, kept: set[int]) -> None:
        with _translated_write_errors(self.directory), suppress(FileNotFoundError):
            os.unlink(os.path.join(self.directory, _TRIAL))
        import shutil  # only here: it brings much with it

        for number in set(self._numbers()) - kept:
            shutil.rmtree(os.path.join(self.directory, str(number)), ignore_errors=True)

    def _numbers(self) -> list[int]:
        with _translated_write_errors(self.directory), suppress(FileNotFoundError):
            return [int(name) for name in os.listdir(self.directory) if name.isascii() and name.isdigit()]
        return []

    def _place(self, pair: int, name: str) -> str:
        return os.path.join(self.directory, str(pair), name)


def digest_of(place: str) -> str:
    """The SHA-256 of a certificate's file, in hex; of its name if it is not a file (a token's URI)."""
    try:
        with open(place, "rb", opener=open_small) as file:
            return hashlib.sha256(file.read(MOST_FILE)).hexdigest()
    except (OSError, ValueError):
        return hashlib.sha256(os.fsencode(place)).hexdigest()


@contextmanager
def _translated_write_errors(directory: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or directory
        raise NightvaultError(f"the renewed pair cannot be written: {place}: {error.strerror}") from error
