"""A model of many cores: `python -m tests.bench.model`.

The C code of the workers (compress, encrypt, digest, and the way back; the system calls that make a file) is
replaced by sleeps of the length that it has on one core, which need no core. What remains is real: the
bookkeeping of threads, and the one thread that hashes and writes in order, or divides files up. So it tells
how much the program itself allows, and is no measurement.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec

from backup.archiver.sealing import SealingLine
from backup.buffers import Buffers
from backup.catalogs.packing import Spool
from backup.format.frame import FRAME_SIZE, LARGEST_FRAME, FrameCodec, SealedFrame, digest
from backup.format.keys import Recipient, RecoveryKey, Signer
from backup.memory import backup_memory, file_makers
from backup.model import MIB, EntryKind, InventoryId, Owner, PackKind
from backup.restorer.selection.columns import Entries
from backup.restorer.selection.entry import NewFiles
from backup.restorer.writer.maker import Lent, MadeFiles
from backup.restorer.writer.making import Made
from backup.restorer.writer.sharing import Sharing

_SEALING: Final = FRAME_SIZE / (400 * MIB)  # seconds for a frame: zstd, AES, BLAKE3
_PROVING: Final = FRAME_SIZE / (800 * MIB)
_FRAMES: Final = 256
_SEALED: Final = os.urandom(FRAME_SIZE // 2)
_DIGEST: Final = digest(_SEALED)
_MAKING: Final = 100e-6  # seconds for a small file: ten system calls, and the name of its chunk
_FILES: Final = 60_000
_FILES_A_FRAME: Final = 500
_FILES_A_FOLDER: Final = 100


class _Sleeping(FrameCodec):
    """A codec that takes as long as the real one, and no core."""

    def seal(self, key: bytes, pack_id: bytes, number: int, *_: object, **__: object) -> SealedFrame:
        time.sleep(_SEALING)
        return SealedFrame(number, _SEALED, FRAME_SIZE, 1, _DIGEST)

    def pieces(self, *_: object) -> Iterator[memoryview | bytes]:
        time.sleep(_PROVING)
        return iter(())


def main() -> None:
    """Take some numbers of cores, each with the memory that has a worker for each of them."""
    print("| cores | memory MiB | workers | frames of 4 MiB a second | MiB/s |\n|---|---|---|---|---|")
    for cores in (1, 2, 4, 8, 16, 32):
        memory = max(256, 84 + 4 * 18 * (cores - 2))
        limits = backup_memory(memory * MIB, cores)
        rate = _FRAMES / _seconds(limits.workers, limits.in_flight)
        mib = rate * FRAME_SIZE / MIB
        print(f"| {cores} | {memory} | {limits.workers} | {rate:.0f} | {mib:,.0f} |", flush=True)
    print("\n| cores | memory MiB | makers | small files restored a second |\n|---|---|---|---|")
    for cores in (1, 2, 4, 8, 16, 32):
        memory = max(256, 4 * 26 * (cores - 1))
        makers = file_makers(memory * MIB, cores)
        print(f"| {cores} | {memory} | {makers} | {_FILES / _seconds_to_make(makers):,.0f} |", flush=True)


def _seconds(workers: int, in_flight: int) -> float:
    """Seconds for all frames, with so many workers and so many bytes under way."""
    recipients: list[Recipient] = [RecoveryKey.from_seed(os.urandom(32)).recipient]
    with tempfile.TemporaryDirectory(prefix="nightvault-model-") as folder:
        spool = Spool(folder, InventoryId(bytes(16)), Signer(os.urandom(32)), recipients, bytes(32))
        begun = time.perf_counter()
        with SealingLine(
            partial(spool.open_pack, PackKind.DATA),
            Buffers(),
            level=None,
            pack_size=_FRAMES * FRAME_SIZE * 2,
            workers=workers,
            in_flight=in_flight,
            largest=FRAME_SIZE,
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


class _Maker:
    """A process that makes files as far as the first one can see: requests are encoded, then it sleeps."""

    def __init__(self, encoder: msgspec.msgpack.Encoder) -> None:
        self.memory = bytearray(2 * LARGEST_FRAME)
        self._encode = encoder.encode
        self._thread = ThreadPoolExecutor(1)
        self._answers: list[Future[MadeFiles]] = []

    def ask(self, directories: Sequence[Lent], files: NewFiles) -> None:
        self._encode(([lent.is_ours for lent in directories], files))
        self._answers.append(self._thread.submit(self._made, len(files.names)))

    def _made(self, files: int) -> MadeFiles:
        time.sleep(files * _MAKING)
        return MadeFiles(bytes([Made.WHOLE]) * files, [])

    def answer(self) -> MadeFiles:
        return self._answers.pop(0).result()

    def answer_if_any(self) -> MadeFiles | None:
        return self.answer() if self._answers[0].done() else None

    def close(self) -> None:
        self._thread.shutdown()


class _Writer:
    """The first process's own work on files, which it does one by one."""

    def __init__(self, folder: str) -> None:
        self._folder = os.open(folder, os.O_RDONLY)
        self._encoder = msgspec.msgpack.Encoder()

    def second_maker(self, *_: object) -> _Maker:
        return _Maker(self._encoder)

    def lend(self, path: bytes) -> Lent:
        return Lent(os.dup(self._folder), path, True)

    def ids(self, _: Owner) -> tuple[int, int]:
        return 0, 0

    def count(self, *_: int) -> None:
        pass

    def make_small(self, files: NewFiles, _: object, __: object, made: bytearray) -> None:
        time.sleep(_MAKING * len(files.names))
        made.extend([Made.WHOLE] * len(files.names))


def _entries() -> Entries:
    """All of the files, a hundred in a folder."""
    entries = Entries({1: Owner(0, 0, "", "")})
    for start in range(0, _FILES, _FILES_A_FOLDER):
        keys = range(start, min(_FILES, start + _FILES_A_FOLDER))
        rows = [(key, 1, b"%02d.txt" % (key % 100), EntryKind.FILE, 0o644, 1, key, 45) for key in keys]
        entries.add_plain_files(b"%06d" % (start // _FILES_A_FOLDER), [*zip(*rows, strict=True)])
    return entries


def _seconds_to_make(makers: int) -> float:
    """Seconds for all small files, with so many processes beside the first."""
    with tempfile.TemporaryDirectory(prefix="nightvault-model-") as folder:
        entries = _entries()
        writer: Any = _Writer(folder)
        told: list[Any] = []
        begun = time.perf_counter()
        sharing = Sharing(
            *(entries, writer, told.append, told.append, told.append),
            chunk_key=bytes(32),
            files=_FILES,
            makers=makers,
        )
        frame = memoryview(bytes(45 * _FILES_A_FRAME))
        for start in range(0, _FILES, _FILES_A_FRAME):
            sharing.begin(frame)
            starts, keys = range(0, 45 * _FILES_A_FRAME, 45), range(start, start + _FILES_A_FRAME)
            sharing.add(keys, starts, [at + 45 for at in starts], [bytes(32)] * _FILES_A_FRAME)
            sharing.end()
        sharing.settle()
        took = time.perf_counter() - begun
        sharing.close()
        assert not told
        return took


if __name__ == "__main__":
    main()
