"""Keys of the packs that a waiting restore needs: no others, readable by the owner only, wiped afterwards."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from contextlib import suppress

import msgspec

from backup.errors import RecoveryKeyError, SpoolError
from backup.files import create_durably
from backup.owners import held_directory, make_private

_NAME = re.compile(r"([0-9a-f]{16})\.keys")


class PackKeyFile:
    """The file of pack keys: `<restore id>.keys` in the state directory."""

    def __init__(self, directory: str, restore_id: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, f"{restore_id}.keys")

    def write(self, keys: Mapping[int, bytes]) -> None:
        """Save the keys (archive number to 32 bytes), synced. `SpoolError` if that fails."""
        try:
            os.makedirs(os.path.dirname(self._directory), mode=0o700, exist_ok=True)
            make_private(self._directory)
            with held_directory(self._directory) as handle:
                create_durably(
                    os.path.basename(self._path), msgspec.msgpack.encode(dict(keys)), dir_fd=handle
                )
        except OSError as error:
            with suppress(OSError):
                self.wipe()
            raise SpoolError(
                f"the keys of this restore cannot be kept in {self._directory}: {error.strerror}",
                advice="free some space below the state directory, then run the restore again",
            ) from error

    def read(self) -> dict[int, bytes]:
        """Return the keys. `RecoveryKeyError` if they are gone."""
        try:
            with open(self._path, "rb") as stream:
                return msgspec.msgpack.decode(stream.read(), type=dict[int, bytes])
        except (OSError, msgspec.DecodeError) as error:
            raise RecoveryKeyError(
                f"the keys of this restore are gone ({self._path})",
                advice="cancel it with `nightvault restore cancel ID` and begin it anew with --key",
            ) from error

    def wipe(self) -> None:
        """Overwrite and remove the file; no error if it is gone already."""
        try:
            with open(self._path, "r+b") as stream:
                length = os.fstat(stream.fileno()).st_size
                stream.write(bytes(length))
                stream.flush()
                os.fsync(stream.fileno())
            os.unlink(self._path)
        except FileNotFoundError:
            return


def wipe_others(directory: str, keep: Container[str]) -> None:
    """Wipe leftovers of dead processes: keys of restores whose ids are not in `keep`."""
    with suppress(FileNotFoundError):
        for name in os.listdir(directory):
            found = _NAME.fullmatch(name)
            if found and found[1] not in keep:
                PackKeyFile(directory, found[1]).wipe()
