"""Buffers that are reused: fresh memory pages cost as much as the copying or reading that fills them."""

from __future__ import annotations


class Buffers:
    """A pool of buffers of a usual size, and larger ones; one is free once it has no view. For one thread.

    Buffers need not be given back: one is in use as long as there is a view of it, on any thread. A thread
    that lets go a moment late costs one buffer more.
    """

    def __init__(self, usual: int = 0) -> None:
        """A request for up to `usual` bytes gets part of a buffer of that size, from one common pool."""
        self._usual = usual
        self._kept: dict[int, list[bytearray]] = {}

    def take(self, size: int) -> memoryview:
        """A view of `size` bytes of a free buffer (with old content), or of a new one."""
        whole = max(size, self._usual)
        kept = self._kept.setdefault(whole, [])
        for buffer in kept:
            if _is_free(buffer):
                return memoryview(buffer)[:size]
        kept.append(bytearray(whole))
        return memoryview(kept[-1])[:size]

    def clear(self) -> None:
        """Drop all buffers; those in use stay valid."""
        self._kept.clear()


def _is_free(buffer: bytearray) -> bool:
    """Whether there is no view of it: Python refuses to change a bytearray's size as long as there is one."""
    try:
        del buffer[-1:]
    except BufferError:
        return False
    buffer.append(0)
    return True
