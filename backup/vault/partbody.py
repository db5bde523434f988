"""The bytes of a part as a file object for boto3, with its SHA-256: no copy, no second pass over the bytes.

boto3 would hash a part twice more: for the tree hash unless it is given as `checksum`, and for the
signature's SHA-256 unless the header is set. There is no parameter for the latter, so the body carries it
until the headers are made; each request has its own body, so threads cannot mix them up. Just before a
request is sent, an event calls the body's `begin_sending`: from then on, and not while boto3 hashes it, reads
follow the rate limit. Without a limit, reads return larger pieces than boto3 asks for (16 KiB) as long as the
line accepts them at once, since each piece costs a turn of the interpreter, for which other threads wait. A
slow line gets small ones, as sending one has a timeout.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final

from msgspec import Struct

from backup.model import KIB, MIB
from backup.vault.rate_limit import UNLIMITED, AnyRateLimit, Unlimited

_HEADER = "x-amz-content-sha256"
_EVENT = "before-call.glacier.UploadMultipartPart"
_CRC = "x-amz-checksum-crc64nvme"
_S3_EVENT = "before-call.s3.UploadPart"
_SENT = ("before-send.glacier.UploadMultipartPart", "before-send.s3.UploadPart")


SMALLEST_PIECE: Final = 16 * KIB
SURE_PIECE: Final = 256 * KIB
"""The largest piece before so much was sent that the system's buffers cannot have swallowed most of it."""
LARGEST_PIECE: Final = 2 * MIB
_OF_SENT: Final = 16  # a larger piece is at most this part of what was sent before
_AT_ONCE: Final = 0.05
_SLOWLY: Final = 1.0


class Stride(Struct, frozen=True):
    """The size of the pieces given to a socket: doubled after a fast piece, halved after one of a second."""

    size: int = SMALLEST_PIECE

    def after(self, seconds: float, sent: int) -> Stride:
        """The next stride, after a piece of this one took so many seconds, and so much was `sent` in all."""
        if seconds < _AT_ONCE:
            most = min(max(SURE_PIECE, sent // _OF_SENT), LARGEST_PIECE)
            return Stride(min(self.size * 2, most))
        return Stride(max(self.size // 2, SMALLEST_PIECE)) if seconds > _SLOWLY else self


class PartBody:
    """A readable file over borrowed memory; `sha256` is the hash of all of it.

    Once `begin_sending` was called, a read returns as much as the rate `limit` allows; without a limit, as
    much as the line accepted lately, measured by the `stopwatch`.
    """

    def __init__(
        self,
        view: memoryview,
        sha256: bytes,
        limit: AnyRateLimit = UNLIMITED,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._view = view.cast("B")
        self._at = 0
        self._limit = limit
        self._now: AnyRateLimit = UNLIMITED
        self._stopwatch = stopwatch
        self._stride: Stride | None = None
        self._given_at = 0.0
        self.sha256 = sha256

    def begin_sending(self) -> None:
        """Apply the rate limit to all reads from now on."""
        self._now = self._limit
        if isinstance(self._limit, Unlimited):
            self._stride = Stride()
            self._given_at = self._stopwatch()

    def __len__(self) -> int:
        """The number of all bytes, whatever the position."""
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
        """The size asked for, or a larger stride while the body is sent over a fast line."""
        if self._stride is None or not size:
            return size
        now = self._stopwatch()
        if self._at:
            self._stride = self._stride.after(now - self._given_at, self._at)
        self._given_at = now
        return max(size, self._stride.size)

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position within the bytes, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._view)}[whence]
        self._at = min(max(base + offset, 0), len(self._view))
        return self._at


def hand_over_hashes(client: Any) -> None:
    """Have `client` use the SHA-256 of a `PartBody` instead of computing it; no effect the second time."""
    client.meta.events.register_first(_EVENT, _hand_over, unique_id="nightvault-part-sha256")


def _hand_over(params: MutableMapping[str, Any], **_: Any) -> None:
    body = params["body"]
    if isinstance(body, PartBody):
        params["headers"][_HEADER] = body.sha256.hex()


def limit_rate(client: Any) -> None:
    """Have `client` call `begin_sending` of each `PartBody` before it is sent; no effect the second time."""
    for event in _SENT:
        client.meta.events.register_first(event, _begin_sending, unique_id=f"nightvault-{event}")


def _begin_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, PartBody):
        request.body.begin_sending()


def rely_on_crc(client: Any) -> None:
    """Have an S3 `client` sign a part without its SHA-256 where TLS and a CRC protect it.

    botocore does so itself for a CRC that it computed, but not for one that it was given. Without TLS or CRC
    the SHA-256 is signed.
    """
    client.meta.events.register_first(_S3_EVENT, _name_the_crc, unique_id="nightvault-part-crc")


def stay_in_region(client: Any) -> None:
    """Keep an S3 `client` from looking up a bucket's region after errors: the config states it."""
    client.meta.events.register_first("before-call.s3", _follow_nowhere, unique_id="nightvault-region")


def _follow_nowhere(params: MutableMapping[str, Any], **_: Any) -> None:
    params["context"].setdefault("s3_redirect", {})["redirected"] = True


def _name_the_crc(params: MutableMapping[str, Any], **_: Any) -> None:
    if _CRC in params["headers"]:
        params["context"]["checksum"] = {
            "request_algorithm": {"algorithm": "crc64nvme", "in": "header", "name": _CRC}
        }
