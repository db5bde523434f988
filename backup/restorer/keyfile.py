"""Keys of the packs that a waiting restore needs: no others, readable by the owner only, wiped afterwards."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from backup.errors import RecoveryKeyError

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class PackKeyFile:
    """`<restore id>.keys` in a directory of the state."""

    def __init__(self, directory: str, restore_id: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, f"{restore_id}.keys")

    def write(self, keys: Mapping[int, bytes]) -> None:
        """Keep the keys (archive number to 32 bytes), synced."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        file = os.open(self._path, _FLAGS, 0o600)
        with open(file, "wb") as stream:
            stream.write(msgspec.msgpack.encode(dict(keys)))
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> dict[int, bytes]:
        """The keys. `RecoveryKeyError` if they are gone."""
        try:
            with open(self._path, "rb") as stream:
                return msgspec.msgpack.decode(stream.read(), type=dict[int, bytes])
        except (OSError, msgspec.DecodeError) as error:
            raise RecoveryKeyError(
                f"the keys of this restore are gone ({self._path})",
                advice="cancel it with `nightvault restore cancel ID` and begin it anew with --key",
            ) from error

    def wipe(self) -> None:
        """Overwrite and remove; no error if they are gone already."""
        try:
            with open(self._path, "r+b") as stream:
                length = os.fstat(stream.fileno()).st_size
                stream.write(bytes(length))
                stream.flush()
                os.fsync(stream.fileno())
            os.unlink(self._path)
        except FileNotFoundError:
            return
