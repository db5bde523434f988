"""Receive S3's uploads into a file, decoded, hashed on worker threads, and checked against the client's
claims."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from backup.emulator.core.http.receive import Body, fill, side_by_side
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.s3.call import S3Call

from .authenticate import Admitted, check_payload_hash
from .checksums import ALGORITHMS, BY_HEADER, DEFAULT, Algorithm, Running, encode
from .chunked import ChunkDecoder

NEED_A_DIGEST = frozenset(
    {
        *("DeleteObjects", "PutBucketAcl", "PutBucketEncryption", "PutBucketLifecycleConfiguration"),
        *("PutBucketOwnershipControls", "PutBucketTagging", "PutBucketVersioning", "PutObjectAcl"),
        *("PutObjectLegalHold", "PutObjectLockConfiguration", "PutObjectRetention", "PutObjectTagging"),
        "PutPublicAccessBlock",
    }
)
"""The operations whose body needs a Content-MD5 or another checksum. Not PutBucketPolicy, though botocore's
model says so: clients send it without one (minio-go), and S3 takes it."""

UPLOAD_LIMIT = 5 * 1024**3
ENVELOPE = 64 * 1024**2  # what chunk heads and a trailer may add


class Stored(Struct, frozen=True):
    """A body on disk: its file's name, bytes, MD5 (hex), its checksum by `algorithm`, and header and value of
    the one that the client named, if any.
    """

    file: str
    size: int
    md5: str
    algorithm: str
    checksum: str
    claimed: tuple[str, str] | None = None


class Promise(Struct, frozen=True):
    """The client's claims about a body: its length on the wire and decoded, and its checksums."""

    length: int | None
    decoded: int | None
    md5: bytes | None
    algorithm: Algorithm | None
    value: str | None
    in_trailer: bool


def read_promise(call: S3Call, *, chunked: bool) -> Promise:
    """The claims in the headers; an S3Error if they are wrong or contradict each other."""
    length, decoded = _length(call, "content-length"), _length(call, "x-amz-decoded-content-length")
    if chunked and decoded is None:
        raise S3Error("MissingContentLength")
    if not chunked and length is None:
        raise S3Error("MissingContentLength")
    if max(length or 0, decoded or 0) > UPLOAD_LIMIT + ENVELOPE or (decoded or 0) > UPLOAD_LIMIT:
        raise _too_large(max(length or 0, decoded or 0))
    algorithm, value, in_trailer = _checksum(call)
    wanted = decoded if chunked else length
    return Promise(length, wanted, _content_md5(call), algorithm, value, in_trailer)


def _length(call: S3Call, name: str) -> int | None:
    text = call.header(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise S3Error("InvalidArgument", f"The {name} header is not a number.")
    return int(text)


def _too_large(size: int) -> S3Error:
    return S3Error("EntityTooLarge", None, {"ProposedSize": str(size), "MaxSizeAllowed": str(UPLOAD_LIMIT)})


def _content_md5(call: S3Call) -> bytes | None:
    text = call.header("content-md5")
    if text is None:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Error("InvalidDigest", None, {"Content-MD5": text})
    return digest


def _checksum(call: S3Call) -> tuple[Algorithm | None, str | None, bool]:
    given = [algorithm for header, algorithm in BY_HEADER.items() if call.header(header) is not None]
    trailer = (call.header("x-amz-trailer") or "").strip().lower()
    if trailer and trailer not in BY_HEADER:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    if len(given) + bool(trailer) > 1:
        raise S3Error(
            "InvalidRequest",
            "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
        )
    algorithm = given[0] if given else BY_HEADER.get(trailer)
    named = call.header("x-amz-sdk-checksum-algorithm")
    if named is not None and (algorithm is None or algorithm.name != named.upper()):
        if named.upper() not in ALGORITHMS:
            raise S3Error("InvalidRequest", "Checksum algorithm provided is unsupported. Please try again.")
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or "
            "x-amz-trailer headers were found.",
        )
    value = call.header(given[0].header) if given else None
    _check_value(algorithm, value)
    return algorithm, value, bool(trailer)


def _check_value(algorithm: Algorithm | None, value: str | None) -> None:
    if algorithm is not None and value is not None and not algorithm.is_value(value):
        raise S3Error("InvalidRequest", f"Value for {algorithm.header} header is invalid.")


class Digests:
    """The hashes computed over a body, in two halves for two concurrent threads."""

    def __init__(self, *algorithms: Algorithm, payload: bool) -> None:
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        named = {algorithm.name: algorithm for algorithm in algorithms}
        self.sha256 = hashlib.sha256() if payload or "SHA256" in named else None
        self._running: dict[str, Running] = {
            name: algorithm.start() for name, algorithm in named.items() if name != "SHA256"
        }

    def first_half(self, data: memoryview) -> None:
        """MD5 and length."""
        self.size += len(data)
        self.md5.update(data)

    def second_half(self, data: memoryview) -> None:
        """SHA-256 and the checksum."""
        if self.sha256 is not None:
            self.sha256.update(data)
        for running in self._running.values():
            running.update(data)

    def checksum(self, algorithm: Algorithm) -> str:
        """The checksum's value."""
        running = self._running.get(algorithm.name) or self.sha256
        return "" if running is None else encode(running.digest())


class _S3Spool:
    """A file that is written, and hashed by two concurrent worker threads."""

    def __init__(self, path: Path, decoder: ChunkDecoder | None, digests: Digests, limit: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._path = path
        self._decoder = decoder
        self._digests = digests
        self._limit = limit

    async def take(self, data: bytes | bytearray | memoryview) -> None:
        """Decode, then write and hash."""
        views = [memoryview(data)]
        if self._decoder is not None:
            views.clear()
            await side_by_side(len(data), lambda: views.extend(self._decode(data)))
        await side_by_side(len(data), lambda: self._write(views), lambda: self._hash(views))
        if self._digests.size > self._limit:
            raise S3Error("IncompleteBody", "More bytes came than x-amz-decoded-content-length says.")

    def _decode(self, data: bytes | bytearray | memoryview) -> list[memoryview]:
        return [] if self._decoder is None else list(self._decoder.feed(data))

    def _write(self, views: list[memoryview]) -> None:
        for view in views:
            rest = view
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._digests.first_half(view)

    def _hash(self, views: list[memoryview]) -> None:
        for view in views:
            self._digests.second_half(view)

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._file)


async def receive_object(
    call: S3Call, body: Body, admitted: Admitted, *, wanted: str | None = None
) -> Stored:
    """Stream the body into a new file and check it; the file is removed if anything is wrong.

    `wanted` is the algorithm whose value is stored; by default the client's own, or else S3's.
    """
    decoder = admitted.decoder()
    promise = read_promise(call, chunked=decoder is not None)
    claimed = promise.algorithm or ALGORITHMS[wanted or DEFAULT]
    kept = claimed if wanted is None else ALGORITHMS[wanted]
    digests = Digests(claimed, kept, payload=admitted.claim.payload_hash is not None)
    limit = promise.decoded or 0
    path = call.store.path(call.store.new_file())
    spool = _S3Spool(path, decoder, digests, limit)
    try:
        await fill(body, spool, promise.length, limit + ENVELOPE)
        if decoder is not None:
            decoder.finish()
        _check(promise, claimed, digests, admitted, {} if decoder is None else decoder.trailers)
    except BaseException:
        spool.remove()
        raise
    finally:
        spool.close()
    told = None if promise.algorithm is None else (claimed.header, digests.checksum(claimed))
    return Stored(path.name, digests.size, digests.md5.hexdigest(), kept.name, digests.checksum(kept), told)


def claimed_algorithm(call: S3Call) -> str | None:
    """The name of the checksum algorithm of which a request has a value in a header or trailer."""
    algorithm, _, _ = _checksum(call)
    return None if algorithm is None else algorithm.name


def mismatched(wanted: str, given: str | None) -> S3Error:
    """The error for a part with another checksum algorithm than its upload's."""
    return S3Error(
        "InvalidRequest",
        f"Checksum Type mismatch occurred, expected checksum Type: {wanted.lower()}, actual checksum Type: "
        f"{(given or 'null').lower()}",
    )


def _check(
    promise: Promise, algorithm: Algorithm, digests: Digests, admitted: Admitted, trailers: Mapping[str, str]
) -> None:
    if digests.size != promise.decoded:
        raise S3Error("IncompleteBody")
    if admitted.claim.payload_hash is not None and digests.sha256 is not None:
        check_payload_hash(admitted.claim, digests.sha256.hexdigest())
    computed_md5 = digests.md5.digest()
    if promise.md5 is not None and promise.md5 != computed_md5:
        details = {"ExpectedDigest": promise.md5.hex(), "CalculatedDigest": encode(computed_md5)}
        raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.", details)
    value = promise.value
    if promise.in_trailer:
        value = trailers.get(algorithm.header)
        if value is None:
            raise S3Error("MalformedTrailerError")
        _check_value(algorithm, value)
    if value is not None and value != digests.checksum(algorithm):
        raise bad_checksum(algorithm)


def bad_checksum(algorithm: Algorithm) -> S3Error:
    """The error 400 BadDigest for a checksum that is not the body's."""
    return S3Error("BadDigest", f"The {algorithm.name} you specified did not match the calculated checksum.")


def check_small(call: S3Call, admitted: Admitted, body: bytes) -> bytes:
    """A small body, decoded if necessary, after checking the client's claims."""
    decoder = admitted.decoder()
    data = body
    if decoder is not None:
        data = b"".join(decoder.feed(body))
        decoder.finish()
    of_object = call.operation == "CompleteMultipartUpload"  # its checksum header is the object's
    algorithm, value, in_trailer = (None, None, False) if of_object else _checksum(call)
    needs_digest = call.operation in NEED_A_DIGEST and algorithm is None
    if needs_digest and call.header("content-md5") is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5")
    chosen = algorithm or ALGORITHMS[DEFAULT]
    digests = Digests(chosen, payload=True)
    digests.first_half(memoryview(data))
    digests.second_half(memoryview(data))
    promise = Promise(None, len(data), _content_md5(call), algorithm, value, in_trailer)
    _check(promise, chosen, digests, admitted, {} if decoder is None else decoder.trailers)
    return data
