"""Decode S3's aws-chunked bodies as they arrive, verifying chunk signatures and trailers; no I/O.

Source: S3 API Reference (sigv4-streaming, sigv4-streaming-trailers).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator

from msgspec import Struct

from backup.emulator.core.access.sigv4 import EMPTY_SHA256
from backup.emulator.core.s3_errors import S3Error

LINE_LIMIT = 16 * 1024
SMALLEST_CHUNK = 8 * 1024
_HEAD = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_SIGNATURE = "x-amz-trailer-signature"


class ChunkKey(Struct, frozen=True):
    """The values with which chunks are signed: the day's key, time, scope and the request's own signature."""

    key: bytes
    signed_at: str
    scope: str
    seed: str

    def sign(self, algorithm: str, before: str, *digests: str) -> str:
        """The signature of a chunk or a trailer, given the one before."""
        text = "\n".join((algorithm, self.signed_at, self.scope, before, *digests))
        return hmac.digest(self.key, text.encode(), "sha256").hex()


class ChunkDecoder:
    """A decoder from pieces of any size to the payload; `trailers` are set at the end.

    `key` is None where chunks are not signed.
    """

    def __init__(self, key: ChunkKey | None, *, has_trailer: bool) -> None:
        self._key = key
        self._has_trailer = has_trailer
        self._before = "" if key is None else key.seed
        self._line = bytearray()
        self._left = 0
        self._state = "head"
        self._claimed = ""
        self._hash = hashlib.sha256()
        self._small = False
        self._trailer_lines: list[bytes] = []
        self.trailers: dict[str, str] = {}

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
        """The payload in these bytes; an S3Error if they are malformed or a signature is wrong."""
        view = memoryview(data)
        while view:
            if self._state == "data":
                piece = view[: self._left]
                view = view[len(piece) :]
                self._left -= len(piece)
                if self._key is not None:
                    self._hash.update(piece)
                yield piece
                if not self._left:
                    self._state = "end of data"
            else:
                view = self._take_line(view)

    def finish(self) -> None:
        """End the body; IncompleteBody if its last chunk or its trailer is missing."""
        if self._state != "over":
            raise S3Error("IncompleteBody")

    def _take_line(self, view: memoryview) -> memoryview:
        end = bytes(view[:LINE_LIMIT]).find(b"\n")
        taken = view[: end + 1] if end >= 0 else view[: LINE_LIMIT + 1]
        self._line += taken
        if len(self._line) > LINE_LIMIT:
            raise _malformed()
        if end >= 0:
            line = bytes(self._line)
            self._line.clear()
            if not line.endswith(b"\r\n") and self._state != "trailer":
                raise _malformed()
            self._take(line.rstrip(b"\r\n"))
        return view[len(taken) :]

    def _take(self, line: bytes) -> None:
        if self._state == "head":
            self._begin(line)
        elif self._state == "end of data":
            if line:
                raise _malformed()
            self._check_chunk()
            self._state = "head"
        elif self._state == "trailer" and line:
            self._trailer_lines.append(line)
            if len(self._trailer_lines) > 20:
                raise S3Error("MalformedTrailerError")
        elif self._state == "trailer":
            self._end()
        else:
            raise _malformed()

    def _begin(self, line: bytes) -> None:
        found = _HEAD.fullmatch(line.strip())
        if found is None or (self._key is not None) != (found[2] is not None):
            raise _malformed()
        self._left = int(found[1], 16)
        self._claimed = (found[2] or b"").decode()
        if self._left:
            if self._small:
                raise S3Error(
                    "InvalidChunkSizeError",
                    "Only the last chunk is allowed to have a size less than 8192 bytes",
                )
            self._small = self._left < SMALLEST_CHUNK
            self._state = "data"
            return
        self._check_chunk()
        self._state = "trailer"

    def _check_chunk(self) -> None:
        if self._key is None:
            return
        computed = self._key.sign(
            "AWS4-HMAC-SHA256-PAYLOAD", self._before, EMPTY_SHA256, self._hash.hexdigest()
        )
        if not hmac.compare_digest(computed, self._claimed):
            raise S3Error("SignatureDoesNotMatch")
        self._before = computed
        self._hash = hashlib.sha256()

    def _end(self) -> None:
        pairs = []
        for line in self._trailer_lines:
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon:
                raise S3Error("MalformedTrailerError")
            pairs.append((name.strip().lower(), value.strip()))
        self.trailers = dict(pairs)
        signature = self.trailers.pop(_SIGNATURE, None)
        if self._key is not None and self._has_trailer:
            text = "".join(f"{name}:{value}\n" for name, value in pairs if name != _SIGNATURE)
            digest = hashlib.sha256(text.encode("latin-1")).hexdigest()
            computed = self._key.sign("AWS4-HMAC-SHA256-TRAILER", self._before, digest)
            if signature is None or not hmac.compare_digest(computed, signature):
                raise S3Error("SignatureDoesNotMatch")
        self._state = "over"


def _malformed() -> S3Error:
    return S3Error("IncompleteBody", "The request body is not well-formed aws-chunked data.")
