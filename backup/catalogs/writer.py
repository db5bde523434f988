"""Writes a catalog into the spool while its records are made; a thread seals and verifies it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from backup.catalogs.packing import OpenPack
from backup.format.catalog import Bodies, Record
from backup.format.frame import FrameCodec
from backup.model import Pack

_MOST_WAITING: Final = 1
"""Bodies of 4 MiB that are being sealed, or wait for it; the next is filled meanwhile."""


class CatalogWriter:
    """Writes records into a pack, in their order; for one thread, which then calls `finish` or `discard`."""

    def __init__(self, pack: OpenPack, level: int | None) -> None:
        """`level` is that of the compression, None for the usual one."""
        self._pack = pack
        self._codec = FrameCodec(level)
        self._bodies = Bodies(pack.content())
        self._frames = 0
        self._thread = ThreadPoolExecutor(1, "catalog")
        self._waiting: deque[Future[None]] = deque()

    def add(self, records: Iterable[Record | tuple[Any, ...]]) -> None:
        """Add the next records; waits while the thread is behind."""
        self._send(self._bodies.add(records))

    def finish(self) -> tuple[Pack, str]:
        """Write the end; returns the synced, verified pack and its file name in the spool."""
        try:
            self._send(self._bodies.end())
            self._settle(leave=0)
            pack = self._pack.finish()
        except BaseException:
            self.discard()
            raise
        self._thread.shutdown()
        return pack, self._pack.file_name

    def discard(self) -> None:
        """Delete the file."""
        self._thread.shutdown(cancel_futures=True)
        self._pack.discard()

    def _send(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._settle(leave=_MOST_WAITING - 1)
            self._waiting.append(self._thread.submit(self._write, self._frames, body))
            self._frames += 1

    def _settle(self, *, leave: int) -> None:
        while len(self._waiting) > leave:
            self._waiting.popleft().result()

    # On the thread.

    def _write(self, number: int, body: bytes) -> None:
        pack, codec = self._pack, self._codec
        row = pack.append(codec.seal(pack.keys.frame_key, pack.label.pack_id, number, [body]), [], [], [])
        pack.prove_body(codec, row, body)
