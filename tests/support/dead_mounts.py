"""Commands beside a mount that does not answer, as of a network disk whose server is gone.

    answers = beside_dead_mount(path, [["nightvault", "status"]])

A file system of FUSE in a mount namespace of its own: its other side answers the first question of the
kernel, and takes each further one without answering. Who looks waits in the kernel, and cannot be killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from msgspec import Struct

_INIT, _HEADER = 26, struct.Struct("<IIQQIIII")
_FORCE, _DETACH = 1, 2
_SIZE = 1 << 17
_SECONDS = 45
_REFUSED = 77


class Answer(Struct, frozen=True):
    """What a command said; `code` is None of one that hung, and was let go with the mount."""

    code: int | None
    output: str


def beside_dead_mount(path: Path, commands: Sequence[Sequence[str]]) -> list[Answer]:
    """The answers of commands, given at once, while this folder is a dead mount; skips without FUSE."""
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", __name__]
    try:
        done = subprocess.run(
            [*words, str(path), json.dumps(commands)],
            capture_output=True,
            text=True,
            timeout=2 * _SECONDS,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    except FileNotFoundError as error:
        pytest.skip(f"{error}")
    if done.returncode == _REFUSED or "unshare failed" in done.stderr:
        pytest.skip(f"nothing may be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


@contextmanager
def _dead(path: str) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(_REFUSED)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
    if libc.mount(b"dead", os.fsencode(path), b"fuse.dead", 0, options) != 0:
        sys.stderr.write(f"{os.strerror(ctypes.get_errno())}\n")
        sys.exit(_REFUSED)
    threading.Thread(target=_take, args=[device], daemon=True).start()
    try:
        yield
    finally:
        libc.umount2(os.fsencode(path), _FORCE)  # ends the connection, and so lets all go who wait
        libc.umount2(os.fsencode(path), _DETACH)


def _take(device: int) -> None:
    """Take what the kernel asks; answer what it asks first."""
    with suppress(OSError):
        while True:
            asked = os.read(device, _SIZE)
            _, code, number, *_ = _HEADER.unpack_from(asked)
            if code == _INIT:
                answer = struct.pack("<IIIIHHIIHHI", 7, 31, 0, 0, 12, 9, 4096, 1, 1, 0, 0) + bytes(24)
                os.write(device, struct.pack("<IiQ", 16 + len(answer), 0, number) + answer)


def _answer_of(words: Sequence[str]) -> tuple[int | None, str]:
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # in vain, and not waited for
        return None, ""
    return process.returncode, output


if __name__ == "__main__":
    commands = json.loads(sys.argv[2])
    with _dead(sys.argv[1]), ThreadPoolExecutor(len(commands)) as threads:
        answers = list(threads.map(_answer_of, commands))
    sys.stdout.write(json.dumps(answers))
