"""A model of sealing on many cores: `python -m tests.bench.model`.

The C code of the workers (compress, encrypt, digest, and the way back) is replaced by sleeps of the length
that it has on one core, which need no core. What remains is real: the bookkeeping of threads, and the one
thread that hashes and writes in order. So it tells how much the program itself allows, and is no measurement.
"""

from __future__ import annotations

import os
import tempfile
import time
from functools import partial
from typing import Final

from backup.archiver.packing import Spool
from backup.archiver.sealing import SealingLine
from backup.format.frame import FRAME_SIZE, FrameCodec, SealedFrame, digest
from backup.format.keys import Recipient, RecoveryKey, Signer
from backup.memory import backup_memory
from backup.model import MIB, FrameRow, InventoryId, PackKind

_SEALING: Final = FRAME_SIZE / (400 * MIB)  # seconds for a frame: zstd, AES, BLAKE3
_PROVING: Final = FRAME_SIZE / (800 * MIB)
_FRAMES: Final = 256
_SEALED: Final = os.urandom(FRAME_SIZE // 2)
_DIGEST: Final = digest(_SEALED)


class _Sleeping(FrameCodec):
    """A codec that takes as long as the real one, and no core."""

    def seal(self, key: bytes, pack_id: bytes, number: int, parts: object) -> SealedFrame:
        time.sleep(_SEALING)
        return SealedFrame(number, _SEALED, FRAME_SIZE, 1, _DIGEST)

    def open(self, key: bytes, pack_id: bytes, row: FrameRow, sealed: bytes | memoryview) -> bytes:
        time.sleep(_PROVING)
        return b""


def main() -> None:
    """Take some numbers of cores, each with the memory that has a worker for each of them."""
    print("| cores | memory MiB | workers | frames of 4 MiB a second | MiB/s |\n|---|---|---|---|---|")
    for cores in (1, 2, 4, 8, 16, 32):
        memory = max(320, 64 + 4 * 24 * (cores - 2))
        limits = backup_memory(memory * MIB, cores)
        rate = _FRAMES / _seconds(limits.workers, limits.in_flight)
        mib = rate * FRAME_SIZE / MIB
        print(f"| {cores} | {memory} | {limits.workers} | {rate:.0f} | {mib:,.0f} |", flush=True)


def _seconds(workers: int, in_flight: int) -> float:
    """Seconds for all frames, with so many workers and so many bytes under way."""
    recipients: list[Recipient] = [RecoveryKey.from_seed(os.urandom(32)).recipient]
    with tempfile.TemporaryDirectory(prefix="nightvault-model-") as folder:
        spool = Spool(folder, InventoryId(bytes(16)), Signer(os.urandom(32)), recipients, bytes(32))
        begun = time.perf_counter()
        with SealingLine(
            partial(spool.open_pack, PackKind.DATA),
            level=None,
            pack_size=_FRAMES * FRAME_SIZE * 2,
            workers=workers,
            in_flight=in_flight,
            make_codec=_Sleeping,
        ) as line:
            for _ in range(_FRAMES):
                frame = line.open_frame()
                frame.size = FRAME_SIZE
                line.send(frame)
            line.close_pack()
            for _ in line.finished(wait=True):
                pass
        return time.perf_counter() - begun


if __name__ == "__main__":
    main()
