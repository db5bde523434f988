"""A part's bytes as the file that boto3 wants, with a hash it would compute: no copy, no second pass.

boto3 hashes a part twice more: the tree hash unless it is given as `checksum`, and the plain SHA-256 for
the signature unless the header is there. For the latter there is no parameter, so the body carries it to
the moment when headers are made; each request has its own body, so threads cannot mix them up. Just before
a request is sent its body learns of it: from then on, and not while it is hashed, reading keeps a pace. Where
there is none, it gives larger pieces than boto3 asks for (16 KiB) while the line takes them at once: each
piece costs a turn of the interpreter. A slow line gets small ones, as sending one has a timeout.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from backup.model import KIB
from backup.vault.rate_limit import UNLIMITED, AnyRateLimit, Unlimited

_HEADER = "x-amz-content-sha256"
_EVENT = "before-call.glacier.UploadMultipartPart"
_CRC = "x-amz-checksum-crc64nvme"
_S3_EVENT = "before-call.s3.UploadPart"
_SENT = ("before-send.glacier.UploadMultipartPart", "before-send.s3.UploadPart")


SMALLEST_PIECE: Final = 16 * KIB
LARGEST_PIECE: Final = 256 * KIB
_AT_ONCE: Final = 0.05
_SLOWLY: Final = 1.0


@dataclass(frozen=True, slots=True)
class Stride:
    """How much is given to a socket at a time: doubled after a piece that went at once, halved after one that
    took a second."""

    size: int = SMALLEST_PIECE

    def after(self, seconds: float) -> Stride:
        """The next one, when this one took so long."""
        if seconds < _AT_ONCE:
            return Stride(min(self.size * 2, LARGEST_PIECE))
        return Stride(max(self.size // 2, SMALLEST_PIECE)) if seconds > _SLOWLY else self


class PartBody:
    """A file to read over memory that is not ours; `sha256` is that of all of it.

    Once `begin_sending` was called, a read of some size gives as much of it as the `pace` allows; where that
    is unlimited, as much as the line took lately, by the `stopwatch`.
    """

    def __init__(
        self,
        view: memoryview,
        sha256: bytes,
        pace: AnyRateLimit = UNLIMITED,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view.cast("B")
        self._at = 0
        self._pace = pace
        self._now: AnyRateLimit = UNLIMITED
        self._stopwatch = stopwatch
        self._stride: Stride | None = None
        self._given_at = 0.0
        self.sha256 = sha256

    def begin_sending(self) -> None:
        """From now on keep the pace."""
        self._now = self._pace
        if isinstance(self._pace, Unlimited):
            self._stride = Stride()
            self._given_at = self._stopwatch()

    def __len__(self) -> int:
        """All bytes, wherever we are."""
        return len(self._view)

    def read(self, size: int | None = -1) -> memoryview:
        """The next bytes, at most `size` or a larger stride; empty at the end."""
        whole = size is None or size < 0
        size = self._stretched(size or 0)
        end = len(self._view) if whole else min(self._at + size, len(self._view))
        if end > self._at and not whole:
            end = self._at + self._now.take(end - self._at)
        piece = self._view[self._at : end]
        self._at = end
        return piece

    def _stretched(self, size: int) -> int:
        """What is asked for, or while the body is sent the stride that the line lets us take."""
        if self._stride is None or not size:
            return size
        now = self._stopwatch()
        if self._at:
            self._stride = self._stride.after(now - self._given_at)
        self._given_at = now
        return max(size, self._stride.size)

    def tell(self) -> int:
        """Where we are."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere within the bytes."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = min(max(base + offset, 0), len(self._view))
        return self._at


def hand_over_hashes(client: Any) -> None:
    """Let `client` take the SHA-256 of a `PartBody` instead of computing it; no effect the second time."""
    client.meta.events.register_first(_EVENT, _hand_over, unique_id="nightvault-part-sha256")


def _hand_over(params: MutableMapping[str, Any], **_: Any) -> None:
    body = params["body"]
    if isinstance(body, PartBody):
        params["headers"][_HEADER] = body.sha256.hex()


def keep_pace(client: Any) -> None:
    """Let `client` tell each `PartBody` when it is sent; no effect the second time."""
    for event in _SENT:
        client.meta.events.register_first(event, _begin_sending, unique_id=f"nightvault-{event}")


def _begin_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, PartBody):
        request.body.begin_sending()


def rely_on_crc(client: Any) -> None:
    """Let `client` of S3 leave a part unhashed where TLS and a CRC guard it; else it signs its SHA-256.

    botocore does so itself for a CRC that it computed, but not for one that it was given.
    """
    client.meta.events.register_first(_S3_EVENT, _name_the_crc, unique_id="nightvault-part-crc")


def stay_in_region(client: Any) -> None:
    """Keep `client` of S3 from asking again and again where a bucket is: the config says it."""
    client.meta.events.register_first("before-call.s3", _follow_nowhere, unique_id="nightvault-region")


def _follow_nowhere(params: MutableMapping[str, Any], **_: Any) -> None:
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _name_the_crc(params: MutableMapping[str, Any], **_: Any) -> None:
    if _CRC in params["headers"]:
        params["context"]["checksum"] = {
            "request_algorithm": {"algorithm": "crc64nvme", "in": "header", "name": _CRC}
        }
