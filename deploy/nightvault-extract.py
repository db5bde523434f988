#!/usr/bin/env -S python3 -P
"""Open nightvault packs that lie on a disk, and write the files of a snapshot, without nightvault.

    nightvault-extract.py --key FILE [--job NAME] --list PACKS...
    nightvault-extract.py --key FILE [--job NAME] [--snapshot ID] --target DIR PACKS...

PACKS are files or folders: the archives of a vault as they were downloaded, under any names (a directory
vault's `archives` folder will do). It needs Python 3.11, a `cryptography` with ML-KEM, and a zstd library
(`zstandard`, `pyzstd` or Python 3.14). With `blake3` it checks every chunk by its name as well; without, a
chunk is checked by the cipher's tag alone, and it says so. All packs are listed in memory, as are the entries
of the job. Written from docs/format.md; numbers in comments are its sections.

Several servers may have stored in one vault. A job's state is made of catalogs of one server alone: of the
inventory that wrote it last and of those from which it was provably rebuilt (1.6). Catalogs of the job by
anybody else are named and never used; where a job name is ambiguous, --inventory says which one is meant.

A snapshot may be forged by whoever held the server, and this may run as root. So all is made below the target
by open directories that this run made, never through a symlink; a link is to the same kind of thing, made by
this run; what cannot be made as the snapshot says is named, and the rest goes on. Exit codes: 0 all of it is
there, 3 something was left out and is named, 1 nothing could be done.
"""

from __future__ import annotations

import sys

if not sys.flags.safe_path and sys.path and __name__ == "__main__":
    del sys.path[0]  # the directory of this file: who can write there may not write this program

if sys.getfilesystemencoding() != "utf-8" and __name__ == "__main__":
    import os  # the locale's charset would make other paths of names: begin again without it

    with open("/proc/self/cmdline", "rb") as file:
        WORDS = [os.fsencode(sys.executable), b"-X", b"utf8", *file.read().split(b"\0")[1:-1]]
    os.execv(sys.executable, WORDS)  # noqa: S606

import argparse
import base64
import grp
import hashlib
import hmac
import os
import pwd
import re
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TextIO, TypeVar

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC, TRAILER_MAGIC = b"NVPACK\x1a\n", b"NVTAIL\x1a\n"
FIRST_DELTA, KNOWN_FEATURES = (
    1,
    3,
)  # required features: 1 is a job's first catalog, 2 has marks (kinds 18 to 21)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LARGEST_HEADER, LARGEST_FRAME, TRAILER = 65536, 8 * 1024 * 1024, 32
LARGEST_ROWS = 16 + 40 * 2**20 + 44 * 2**22
LARGEST_DIRECTORY = LARGEST_ROWS + 65536 + 32
LARGEST_JOINED, MOST_FRAGMENTS, LAST_KIND, FIRST_OPTIONAL_KIND = 256 * 1024 * 1024, 128, 21, 128
SIGNED_CONTENT = 1  # an optional feature
MOST_NUMBERS, MOST_ANCESTORS = 2**48, 1000
NO_HASH, UNKNOWN_RANK = bytes(32), 2**31
DATA, CATALOG, DELTA, FULL = 1, 2, 1, 2
FILE, DIRECTORY, SYMLINK, FIFO, CHARACTER, BLOCK = 1, 2, 3, 4, 5, 6
T = TypeVar("T")
KEPT_FRAMES, KEPT_FOLDERS, DEEPEST = 16, 64, 1000
ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
LOOK = getattr(os, "O_PATH", 0) | os.O_NOFOLLOW | os.O_CLOEXEC
FORMS = {SYMLINK: stat.S_IFLNK, FIFO: stat.S_IFIFO, CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK}


class ExtractError(Exception):
    """Something is not as docs/format.md says, or not there."""


class OtherKeyError(ExtractError):
    """A pack was sealed for other recovery keys."""


# What a record of any content, and what the system says to it, may raise.
BROKEN = (
    *(ExtractError, OSError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError),
    *(struct.error, MemoryError, NotImplementedError),
)


def find_zstd() -> Callable[[bytes, int], bytes]:
    """A function that expands one zstd frame to at most so many bytes. `ExtractError` if it is none."""
    expand = zstd_library()

    def checked(data: bytes, size: int) -> bytes:
        if claimed_size(data) != size:  # some libraries allocate what a frame claims, whatever they were told
            raise ExtractError("what was compressed claims another size than was recorded")
        try:
            return expand(data, size)
        except Exception as error:  # each library has errors of its own
            raise ExtractError(f"what was compressed is damaged: {error}") from error

    return checked


def zstd_library() -> Callable[[bytes, int], bytes]:
    try:
        import zstandard

        return lambda data, size: zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except ImportError:
        pass
    for name in ("pyzstd", "compression.zstd"):
        try:
            module = __import__(name, fromlist=["decompress"])
        except ImportError:
            continue
        return lambda data, size: bytes(module.ZstdDecompressor().decompress(data, size + 1))
    raise ExtractError("no zstd library is installed: try `pip install zstandard`")


def claimed_size(data: bytes) -> int | None:
    """The content size that a zstd frame's header names (RFC 8878, 3.1.1.1); None if it names none."""
    if len(data) < 5 or data[:4] != b"\x28\xb5\x2f\xfd":
        return None
    is_single, form = bool(data[4] & 0x20), data[4] >> 6
    at = 5 + (not is_single) + (0, 1, 2, 4)[data[4] & 3]
    length = (1 if is_single else 0, 2, 4, 8)[form]
    field_bytes = data[at : at + length]
    if not length or len(field_bytes) < length:
        return None
    return int.from_bytes(field_bytes, "little") + (256 if length == 2 else 0)


def find_blake3() -> Callable[[bytes, bytes], bytes] | None:
    """Keyed BLAKE3 of (data, key), if there is a library for it."""
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return lambda data, key: bytes(blake3(data, key=key).digest())


# 1. Keys.


def hkdf_extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), secret, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        out, counter = out + block, counter + 1
    return out[:length]


def derive(secret: bytes, info: str, salt: bytes = b"", length: int = 32) -> bytes:  # 1.1
    return hkdf_expand(hkdf_extract(salt, secret), b"nightvault 1 " + info.encode(), length)


class RecoveryKey:
    """1.2 and 1.3: a seed of X-Wing, and what it opens."""

    def __init__(self, seed: bytes) -> None:
        expanded = hashlib.shake_256(seed).digest(96)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
        self._x_public = self._x25519.public_key().public_bytes_raw()
        public = self._mlkem.public_key().public_bytes_raw() + self._x_public
        self.recipient = hashlib.sha256(public).digest()[:16]
        self._enrolment = derive(seed, "enrol")
        signing = Ed25519PrivateKey.from_private_bytes(derive(seed, "enrol 2"))
        self._enrolment_public = signing.public_key()

    def enrolment_tag(self, inventory: bytes, signer: bytes) -> bytes:  # 1.6
        return hmac.digest(self._enrolment, inventory + signer, "sha256")

    def signed(self, header: Header, ancestors: tuple[bytes, ...]) -> bool:  # 1.6
        """Whether a signature in the header says that its inventory was rebuilt from just these."""
        ids = (hashlib.sha256(b"enrol 2 " + half + self.recipient).digest()[:16] for half in (b"a", b"b"))
        signature = b"".join(header.enrolments.get(slot, b"") for slot in ids)
        whom = hashlib.sha256(b"".join(ancestors)).digest() if ancestors else NO_HASH
        try:
            self._enrolment_public.verify(
                signature, b"nightvault 2 enrol" + header.inventory + header.signer + whom
            )
        except InvalidSignature:
            return False
        return True

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        enc, ciphertext = sealed[:1120], sealed[1120:]
        ss_m = self._mlkem.decapsulate(enc[:1088])
        ss_x = self._x25519.exchange(X25519PublicKey.from_public_bytes(enc[1088:]))
        shared = hashlib.sha3_256(ss_m + ss_x + enc[1088:] + self._x_public + b"\\.//^\\").digest()
        suite = b"HPKE\x64\x7a\x00\x01\x00\x02"

        def extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
            return hkdf_extract(salt, b"HPKE-v1" + suite + label + ikm)

        def expand(prk: bytes, label: bytes, context: bytes, length: int) -> bytes:
            return hkdf_expand(prk, struct.pack(">H", length) + b"HPKE-v1" + suite + label + context, length)

        context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
        secret = extract(shared, b"secret", b"")
        key, nonce = expand(secret, b"key", context, 32), expand(secret, b"base_nonce", context, 12)
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, b"")
        except InvalidTag:
            raise ExtractError("the recovery key does not open a pack that names it") from None


def read_key(path: str, passphrase_file: str | None) -> RecoveryKey:
    """1.4 and 1.5: a key file, plain or under a passphrase; `-` is standard input."""
    data = sys.stdin.buffer.read(LARGEST_HEADER) if path == "-" else read_file(path, LARGEST_HEADER)
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    protected = re.search(
        "-----BEGIN NIGHTVAULT PROTECTED KEY-----(.*?)-----END NIGHTVAULT PROTECTED KEY-----", text, re.DOTALL
    )
    if protected:
        return RecoveryKey(unprotect(base64.b64decode(protected[1]), passphrase_file))
    kept = "".join(line for line in text.splitlines() if not line.lstrip().startswith("#")).upper()
    digits = re.sub(r"[\s\-\u2010-\u2015\u2212]", "", kept)
    if not digits.startswith("NVK1"):
        raise ExtractError("the key file holds no recovery key (NVK1-…)")
    digits = digits[4:].translate(str.maketrans("OIL", "011"))
    if len(digits) != 56 or set(digits) - set(CROCKFORD):
        raise ExtractError("the recovery key is not whole: NVK1 and 14 groups of four characters")
    number = 0
    for digit in digits:
        number = number << 5 | CROCKFORD.index(digit)
    both = number.to_bytes(35, "big")
    if hashlib.sha256(b"NVK1" + both[:32]).digest()[:3] != both[32:]:
        raise ExtractError("a character of the recovery key is wrong")
    return RecoveryKey(both[:32])


def unprotect(data: bytes, passphrase_file: str | None) -> bytes:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    if len(data) != 92 or data[:6] != b"NVKP\x01\x01" or data[6] != 1:
        raise ExtractError("the protected key file is damaged")
    passes, memory = struct.unpack_from("<II", data, 8)
    if not 1 <= passes <= 10 or not 8 <= memory <= 1048576:
        raise ExtractError("the protected key file asks for too much")
    if passphrase_file is None:
        raise ExtractError("the key file is under a passphrase: give --passphrase-file")
    passphrase = read_file(passphrase_file, LARGEST_HEADER).split(b"\n")[0].rstrip(b"\r")
    kdf = Argon2id(salt=data[16:32], length=32, iterations=passes, lanes=1, memory_cost=memory)
    try:
        return AESGCM(kdf.derive(passphrase)).decrypt(data[32:44], data[44:], data[:44])
    except InvalidTag:
        raise ExtractError("the passphrase is wrong") from None


def read_file(path: str, most: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(most)


# 2. Packs.


@dataclass
class Header:
    """2.1, as the bytes say; `job` and what follows are a catalog's."""

    raw: bytes
    kind: int
    generation: int
    pack: bytes
    inventory: bytes
    signer: bytes
    stanzas_at: int
    job: bytes = b""
    number: int = 0
    parent: bytes = b""
    is_first: bool = False
    is_content_signed: bool = False
    enrolments: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.raw).digest()

    @property
    def is_delta(self) -> bool:
        """Whether the next delta goes on from it: a job's first catalog is full, and a delta, too."""
        return self.generation == DELTA or self.is_first

    @property
    def state(self) -> bytes:
        """The hash of the delta whose state it gives."""
        return self.hash if self.is_delta else self.parent


def parse_header(data: bytes) -> Header:
    if len(data) < 96 or data[:8] != MAGIC:
        raise ExtractError("it is no pack")
    version, zero, length, required, optional = struct.unpack_from("<HHIII", data, 8)
    if version != 1 or required & ~KNOWN_FEATURES or zero:
        raise ExtractError("it was written by a newer nightvault")
    kind, generation, stanzas, enrolments = struct.unpack_from("<BBHH", data, 24)
    at = 96 if kind == DATA else 168 + 48 * enrolments
    if not 1 <= stanzas <= 50 or enrolments > 50 or length != at + 1184 * stanzas + 96 or length > len(data):
        raise ExtractError("its header is damaged")
    raw = data[:length]
    header = Header(raw, kind, generation, raw[32:48], raw[48:64], raw[64:96], at)
    if kind == CATALOG:
        header.job, header.parent, header.is_first = raw[96:112], raw[136:168], bool(required & FIRST_DELTA)
        header.is_content_signed = bool(optional & SIGNED_CONTENT)
        (header.number,) = struct.unpack_from("<Q", raw, 112)
        is_odd = header.is_first and (generation != FULL or any(raw[120:168]))
        if is_odd or generation not in {DELTA, FULL} or header.number >= MOST_NUMBERS:
            raise ExtractError("its place among the catalogs is none")
        tags = (raw[168 + 48 * n : 216 + 48 * n] for n in range(enrolments))
        header.enrolments = {tag[:16]: tag[16:] for tag in tags}
    return header


def verify(header: Header) -> None:
    verify_by(header.signer, header.raw[-64:], header.raw[:-64], "its signature")


def verify_by(signer: bytes, signature: bytes, signed: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, signed)
    except (InvalidSignature, ValueError, TypeError):
        raise ExtractError(f"{what} does not fit: forged or damaged") from None


def recipients_of(header: Header) -> set[bytes]:
    """The ids of the recovery keys that it was sealed for."""
    return {header.raw[at : at + 16] for at in range(header.stanzas_at, len(header.raw) - 96, 1184)}


@dataclass
class PackKeys:
    frame: AESGCM
    directory: AESGCM


def open_header(header: Header, recovery_keys: list[RecoveryKey]) -> PackKeys:
    raw, at = header.raw, header.stanzas_at
    known = {key.recipient: key for key in recovery_keys}
    for place in range(at, len(raw) - 96, 1184):
        if key := known.get(raw[place : place + 16]):
            pack_key = key.unseal(raw[place + 16 : place + 1184], raw[:at])
            salt = hashlib.sha256(raw[:-96]).digest()
            if not hmac.compare_digest(derive(pack_key, "key commitment", salt), raw[-96:-64]):
                raise ExtractError("its key is not the one that its header commits to")
            keys = (AESGCM(derive(pack_key, name, salt)) for name in ("frame key", "directory key"))
            return PackKeys(*keys)
    raise OtherKeyError(f"it was not sealed for {'this recovery key' if len(known) == 1 else 'these keys'}")


@dataclass
class Frame:
    number: int
    flags: int
    offset: int
    sealed: int
    raw: int


def frame_columns(rows: bytes) -> list[Frame]:  # 2.3
    count = len(rows) // 40
    u32 = struct.Struct(f"<{count}I").unpack_from
    offsets = struct.unpack_from(f"<{count}Q", rows, 8 * count)
    columns = u32(rows, 0), u32(rows, 4 * count), offsets, u32(rows, 16 * count), u32(rows, 20 * count)
    return [Frame(*row) for row in zip(*columns, strict=True)]


@dataclass
class Chunk:
    id: bytes
    frame: int
    offset: int
    length: int


def chunk_columns(rows: bytes) -> Iterator[Chunk]:  # 2.3
    count = len(rows) // 44
    frames, gaps, lengths = (
        struct.unpack_from(f"<{count}I", rows, (32 + 4 * column) * count) for column in range(3)
    )
    before, end = None, 0
    for place in range(count):
        start = (gaps[place] + (end if frames[place] == before else 0)) & 0xFFFFFFFF
        before, end = frames[place], start + lengths[place]
        yield Chunk(rows[32 * place : 32 * (place + 1)], frames[place], start, lengths[place])


class Pack:
    """One pack in a file."""

    def __init__(self, path: str, header: Header) -> None:
        self.path = path
        self.header = header
        self.start = Start("", (), None)  # of a catalog that was proven

    def frames(self, keys: PackKeys, zstd: Callable[[bytes, int], bytes]) -> list[Frame]:
        """2.4 and 2.3: the directory's frames."""
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TRAILER, 0))
            magic, offset, length = struct.unpack("<8sQQ", file.read(24))
            is_fitting = offset + length + TRAILER == size and length <= LARGEST_DIRECTORY
            if magic != TRAILER_MAGIC or not is_fitting:
                raise ExtractError("its end is damaged or missing")
            file.seek(offset)
            sealed = file.read(length)
        aad = b"nightvault 1 directory" + self.header.pack
        try:
            plain = keys.directory.decrypt(bytes(12), sealed, aad)
        except InvalidTag:
            raise ExtractError("its directory is damaged") from None
        stored, raw, flags = struct.unpack_from("<III", plain)
        rows = plain[16 : 16 + stored]
        if raw > LARGEST_ROWS:
            raise ExtractError("its directory is out of range")
        rows = zstd(rows, raw) if flags & 1 else rows
        (count,) = struct.unpack_from("<I", rows)
        return frame_columns(rows[16 : 16 + 40 * count])

    def open(self, keys: PackKeys, frame: Frame, zstd: Callable[[bytes, int], bytes]) -> bytes:
        """2.2: a frame's bytes, which the cipher's tag vouches for."""
        if not 0 < frame.raw <= LARGEST_FRAME or frame.flags & ~1 or frame.sealed > frame.raw + 16:
            raise ExtractError("a frame is out of range")
        with open(self.path, "rb") as file:
            file.seek(frame.offset)
            sealed = file.read(frame.sealed)
        aad = self.header.pack + struct.pack("<II", frame.number, frame.flags)
        try:
            body = keys.frame.decrypt(frame.number.to_bytes(12, "big"), sealed, aad)
        except InvalidTag:
            raise ExtractError(f"frame {frame.number} of {self.path} is damaged") from None
        body = zstd(body, frame.raw) if frame.flags & 1 else body
        if len(body) != frame.raw:
            raise ExtractError(f"frame {frame.number} of {self.path} has the wrong length")
        return body


def find_packs(places: list[str], bad: list[str] | None = None) -> Iterator[Pack]:
    """The packs there; those that are damaged or forged are left out, and put into `bad`."""
    for place in places:
        paths = [place]
        if os.path.isdir(place):
            paths = [os.path.join(folder, name) for folder, _, names in os.walk(place) for name in names]
        for path in sorted(paths):
            data = read_file(path, LARGEST_HEADER) if os.path.isfile(path) else b""
            if data[:8] != MAGIC:
                continue
            try:
                header = parse_header(data)
                verify(header)
            except ExtractError as error:
                warn(f"{path}: {error}; left out")
                if bad is not None:
                    bad.append(path)
            else:
                yield Pack(path, header)


# 3. Catalogs. The msgpack that they use: nil, booleans, integers, bin, str and arrays.


def unpack(data: bytes, at: int = 0, depth: int = 0) -> tuple[Any, int]:
    """One msgpack value, and where it ends."""
    kind = data[at]
    at += 1
    if kind < 0x80:
        return kind, at
    if kind >= 0xE0:
        return kind - 256, at
    if kind in {0xC0, 0xC2, 0xC3}:
        return {0xC0: None, 0xC2: False, 0xC3: True}[kind], at
    if 0xCC <= kind <= 0xD3:
        form = struct.Struct(">" + "BHIQbhiq"[kind - 0xCC])
        return form.unpack_from(data, at)[0], at + form.size
    if kind & 0xE0 == 0xA0:
        return text_of(data, at, kind & 0x1F)
    if kind & 0xF0 == 0x90:
        return array_of(data, at, kind & 0x0F, depth)
    sized = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I"}
    if kind not in sized:
        raise ExtractError(f"a record holds msgpack of kind {kind:#x}, which format 1 does not use")
    form = struct.Struct(">" + sized[kind])
    (size,) = form.unpack_from(data, at)
    at += form.size
    if kind <= 0xC6:
        return data[at : at + size], at + size
    return text_of(data, at, size) if kind <= 0xDB else array_of(data, at, size, depth)


def text_of(data: bytes, at: int, size: int) -> tuple[str, int]:
    return data[at : at + size].decode("utf-8"), at + size


def array_of(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    if depth > 8 or count > len(data):
        raise ExtractError("a record is nested too deeply, or cut short")
    values = []
    for _ in range(count):
        value, at = unpack(data, at, depth + 1)
        values.append(value)
    return values, at


def read_records(bodies: Iterable[bytes], header: Header | None = None) -> Iterator[list[Any]]:
    """The records of a catalog; an error if one is damaged, or its End is missing or not its signer's."""
    try:
        yield from split_records(bodies, header)
    except (LookupError, TypeError, ValueError, struct.error) as error:
        raise ExtractError(f"a record is damaged: {error}") from error


def pieces_of(bodies: Iterable[bytes], header: Header | None) -> Iterator[bytes]:
    """The pieces of a catalog; at the end the last one, the End, must carry the signature over the others."""
    content, last = hashlib.sha256(), b""
    for body in bodies:
        at = 0
        while at < len(body):
            (size,) = struct.unpack_from("<I", body, at)
            content.update(last)
            last = body[at : at + 4 + size]
            if not size or len(last) != 4 + size:
                raise ExtractError("the catalog is cut short within a record")
            at += 4 + size
            yield last[4:]
    if header is not None:
        verify_content(header, unpack(last[4:])[0], content.digest())


def verify_content(header: Header, end: list[Any], content: bytes) -> None:  # 3, End
    signature = end[2] if len(end) > 2 else None
    if signature is not None:
        signed = b"nightvault 1 content" + header.hash + content
        verify_by(header.signer, signature, signed, "the signature of its content")
    elif header.is_content_signed:
        raise ExtractError("the signature of its content is missing")


def split_records(bodies: Iterable[bytes], header: Header | None = None) -> Iterator[list[Any]]:
    joined: list[bytes] = []
    ended = False
    for count, piece in enumerate(pieces_of(bodies, header)):
        record, _ = unpack(piece)
        if ended:
            raise ExtractError("the catalog goes on after its end")
        if record[0] == 16:  # Fragment
            joined.append(record[1])
            if len(joined) > MOST_FRAGMENTS or sum(map(len, joined)) > LARGEST_JOINED:
                raise ExtractError("a record in fragments is too large")
            record = unpack(b"".join(joined))[0] if record[2] else None
            joined = [] if record else joined
        if record and record[0] == 17:
            ended = record[1] == count
        elif record and LAST_KIND < record[0] < FIRST_OPTIONAL_KIND:
            raise ExtractError("it was written by a newer nightvault")
        elif record and record[0] < FIRST_OPTIONAL_KIND:
            yield record
    if not ended:
        raise ExtractError("the catalog is cut short")


@dataclass
class Start:
    """Of a catalog's first record: the job's name, whom its inventory follows, and who made the job."""

    name: str
    claim: tuple[bytes, ...]
    maker: bytes | None


def start_of(record: list[Any], header: Header) -> Start:
    """What a first record says. `ExtractError` if it fits not the header, or the job's id not its maker."""
    form, number, generation, job, name, *rest = record[1:]
    if record[0] != 1 or form != 1:
        raise ExtractError("it does not begin as a catalog of format 1 does")
    if (number, generation, job) != (header.number, header.generation, header.job):
        raise ExtractError("its first record does not fit its header")
    predecessor, ancestors, maker, nonce = (rest[3:] + [None] * 4)[:4]
    claim = tuple(ancestors or ([predecessor] if predecessor else []))
    if len(claim) > MOST_ANCESTORS:
        raise ExtractError("it names too many ancestors")
    ids = [*claim, *([maker, nonce] if maker and nonce else [])]
    if not all(isinstance(id_, bytes) and len(id_) == 16 for id_ in ids) or not isinstance(name, str):
        raise ExtractError("its first record is not what a first record is")
    if not (maker and nonce):
        return Start(name, claim, None)
    if hashlib.sha256(b"nightvault 1 job" + maker + nonce).digest()[:16] != job:
        raise ExtractError("its job's id does not follow from the inventory that is said to have made it")
    return Start(name, claim, maker)


class Family:
    """1.6: which inventories are of one server, as far as recovery keys or one signer prove it."""

    def __init__(self, keys: list[RecoveryKey]) -> None:
        self._keys = keys
        self._signers: dict[bytes, set[bytes]] = {}
        self._ranks: dict[bytes, int] = {}
        self._claims: dict[bytes, dict[tuple[bytes, ...], int | None]] = {}

    def note(self, header: Header, start: Start, rank: int) -> None:
        """Take note of a catalog; `rank` is the place of the key that vouches for its signer."""
        self.note_signer(header.inventory, header.signer, rank)
        if start.claim:
            ranks = (place for place, key in enumerate(self._keys) if key.signed(header, start.claim))
            known = self._claims.setdefault(header.inventory, {})
            if known.get(start.claim) is None:
                known[start.claim] = next(ranks, None)

    def note_signer(self, inventory: bytes, signer: bytes, rank: int = UNKNOWN_RANK) -> None:
        self._signers.setdefault(inventory, set()).add(signer)
        self._ranks[inventory] = min(rank, self._ranks.get(inventory, rank))

    def claimed(self, inventory: bytes) -> list[bytes]:
        """All that its catalogs, and those of the ones they name, call ancestors, nearest first."""
        found: list[bytes] = []
        open_ones = [inventory]
        while open_ones:
            claims = self._claims.get(open_ones.pop(0), {})
            new = [ancestor for claim in sorted(claims, key=len, reverse=True) for ancestor in claim]
            new = [
                ancestor for ancestor in dict.fromkeys(new) if ancestor not in found and ancestor != inventory
            ]
            found += new
            open_ones += new
        return found

    def ancestors(self, inventory: bytes) -> list[bytes]:
        """The inventories from which it was provably rebuilt, nearest first."""
        signed = self._signed(inventory)
        signers = self._signers.get(inventory, set())
        found = [
            ancestor
            for ancestor in self.claimed(inventory)
            if ancestor in signed or signers & self._signers.get(ancestor, set())
        ]
        for ancestor in list(found):
            found += [
                further for further in self._signed(ancestor) if further not in found and further != inventory
            ]
        return found

    def _signed(self, inventory: bytes) -> list[bytes]:
        """What recovery keys signed: a later key's word says nothing of whom an earlier one vouches for."""
        return [
            ancestor
            for claim, rank in self._claims.get(inventory, {}).items()
            if rank is not None and all(self._ranks.get(known, rank) >= rank for known in claim)
            for ancestor in claim
        ]

    def lineage(self, inventory: bytes) -> set[bytes]:
        """It and its ancestors."""
        return {inventory, *self.ancestors(inventory)}

    def heirs(self, inventory: bytes) -> set[bytes]:
        """Those that were rebuilt from it."""
        return {heir for heir in self._signers if inventory in self.ancestors(heir)}

    def last(self, some: Collection[bytes]) -> list[bytes]:
        """Those of them from which none of the others was rebuilt."""
        passed = {ancestor for known in some for ancestor in self.ancestors(known)}
        return sorted(known for known in some if known not in passed)


@dataclass
class History:
    """A job's newest state of one inventory: a full catalog, the deltas after it, and what is to be said."""

    job: bytes
    inventory: bytes
    chain: list[Pack]
    told: list[str]

    @property
    def name(self) -> str:
        return self.chain[-1].start.name


class Histories:
    """3.1: which catalogs make a state. Of a job only those of one lineage; the others are named."""

    def __init__(self, catalogs: list[Pack], closed: list[Pack], family: Family) -> None:
        """`closed` are those that were sealed for other keys."""
        self._catalogs = catalogs
        self.closed = closed
        self._family = family
        self._deltas = {pack.header.hash: pack for pack in catalogs if pack.header.is_delta}
        self._fulls: dict[bytes, list[Pack]] = {}
        for pack in catalogs:
            if pack.header.generation == FULL:
                self._fulls.setdefault(pack.header.state, []).append(pack)

    def jobs(self) -> list[bytes]:
        return sorted({pack.header.job for pack in self._catalogs})

    def writers(self, job: bytes) -> set[bytes]:
        return {pack.header.inventory for pack in self._catalogs if pack.header.job == job}

    def owners(self, job: bytes) -> list[bytes]:
        """The inventories that have a right to the job, but those that were gone on from.

        Where one proves by its id that it made the job, only it and its heirs have.
        """
        writers = self.writers(job)
        makers = {pack.start.maker for pack in self._catalogs if pack.header.job == job} - {None}
        proven = {writer for writer in writers if makers & self._family.lineage(writer)}
        return self._family.last(proven or writers)

    def owner_in(self, job: bytes, inventory: bytes) -> list[bytes]:
        """The given inventory, or the nearest of its ancestors that wrote catalogs of the job."""
        line = [inventory, *self._family.ancestors(inventory)]
        return [member for member in line if member in self.writers(job)][:1]

    def find(self, job: bytes, owner: bytes) -> History:
        """The newest state of the job by that inventory."""
        told: list[str] = []
        walks = [self._walk(tip, job, owner) for tip in self._tips(job, owner)]
        chains = [chain for chain, _ in walks if chain]
        chain = max(chains, key=lambda some: some[-1].header.number, default=[])
        if self._is_forked(job, owner):
            told.append("two catalogs go on from the same one; the newest is taken, and they are not merged")
        told += [
            f"{full.path}: the only full catalog for a state of job {job.hex()} is by inventory "
            f"{full.header.inventory.hex()}, which nothing proves to be the same server; it is not used"
            for _, full in walks
            if full and not chain
        ]
        newest = chain[-1].header.number if chain else 0
        told += self._newer(job, owner, newest) if chain else ()
        return History(job, owner, chain, [*told, *self._others(job, owner)])

    def _newer(self, job: bytes, owner: bytes, newest: int) -> Iterator[str]:
        own = self._family.lineage(owner)
        for some, why in ((self._catalogs, "one before is missing"), (self.closed, "it is for another key")):
            for pack in some:
                header = pack.header
                is_own = header.job == job and header.inventory in own
                if is_own and header.is_delta and header.number > newest:
                    yield f"{pack.path}: catalog {header.number} cannot be applied: {why}"

    def _others(self, job: bytes, owner: bytes) -> Iterator[str]:
        """Who else has catalogs of the job: heirs, and inventories that have nothing to do with it."""
        heirs = self._family.heirs(owner)
        for inventory in sorted(self.writers(job) - self._family.lineage(owner)):
            name = inventory.hex()
            if inventory in heirs:
                yield f"inventory {name} was rebuilt from {owner.hex()} and goes on: --inventory {name}"
                continue
            theirs = [pack for pack in self._catalogs if pack.header.inventory == inventory]
            pack = max(
                (other for other in theirs if other.header.job == job),
                key=lambda candidate: candidate.header.number,
            )
            yield (
                f"{pack.path}: not-its-own: catalog {pack.header.number} of job {job.hex()} is by inventory "
                f"{name}, which nothing proves to be the same server; it is not used"
            )

    def _tips(self, job: bytes, owner: bytes) -> list[bytes]:
        """The states of that inventory from which nothing of it goes on."""
        headers = [pack.header for pack in self._catalogs]
        ours = [header for header in headers if header.job == job and header.inventory == owner]
        gone_on = {header.parent for header in ours if header.is_delta}
        return sorted({header.state for header in ours} - gone_on)

    def _walk(self, tip: bytes, job: bytes, owner: bytes) -> tuple[list[Pack], Pack | None]:
        """Back from a state to a full catalog that counts; without one, perhaps one that does not."""
        chain: list[Pack] = []
        unfit: Pack | None = None
        state, writer, number = tip, owner, MOST_NUMBERS
        while True:
            delta = self._delta_of(state, job, writer, number)
            full, doubtful = self._full_of(state, job, writer, delta)
            if full is not None:
                return [full, *reversed(chain)], None
            unfit = doubtful or unfit
            if delta is None:
                return [], unfit
            chain.append(delta)
            state, writer, number = delta.header.parent, delta.header.inventory, delta.header.number

    def _delta_of(self, state: bytes, job: bytes, writer: bytes, below: int) -> Pack | None:
        """The delta of a state, if it may come before what `writer` wrote."""
        delta = self._deltas.get(state)
        if delta is None or delta.header.job != job or delta.header.number >= below:
            return None
        return delta if delta.header.inventory in self._family.lineage(writer) else None

    def _full_of(
        self, state: bytes, job: bytes, writer: bytes, delta: Pack | None
    ) -> tuple[Pack | None, Pack | None]:
        """The newest full catalog that counts for a state before what `writer` wrote; one that does not."""
        found = [pack for pack in self._fulls.get(state, ()) if pack.header.job == job and state != NO_HASH]
        wrote = {writer, delta.header.inventory} if delta else self._family.lineage(writer)
        counting = [pack for pack in found if pack.header.inventory in wrote]
        others = [pack for pack in found if pack.header.inventory not in wrote]
        return max(counting, key=number_of, default=None), max(others, key=number_of, default=None)

    def _is_forked(self, job: bytes, owner: bytes) -> bool:
        """Whether two deltas, on the ways to states of that inventory, go on from the same one."""
        own = self._family.lineage(owner)
        followers: dict[bytes, set[bytes]] = {}
        seen: set[bytes] = set()
        for tip in self._tips(job, owner):
            state = tip
            while (delta := self._deltas.get(state)) and state not in seen:
                seen.add(state)
                if delta.header.job == job and delta.header.inventory in own:
                    followers.setdefault(delta.header.parent, set()).add(state)
                state = delta.header.parent
        return any(len(some) > 1 for some in followers.values())


def number_of(pack: Pack) -> int:
    return pack.header.number


@dataclass
class Entry:
    number: int
    directory: int
    name: bytes
    kind: int
    mode: int
    owner: int
    mtime: int
    size: int
    extra: bytes | None
    content: bytes | None
    chunks: bytes
    added: int
    removed: int | None

    def check(self) -> Entry:
        """Itself. `ExtractError` if something in it is of another kind than 3 says."""
        whole = (self.number, self.directory, self.kind, self.mode, self.owner, self.size, self.added)
        fits = (
            all(isinstance(number, int) and number >= 0 for number in whole)
            and isinstance(self.mtime, int)
            and isinstance(self.removed, int | None)
            and all(isinstance(value, bytes) for value in (self.name, self.chunks))
            and all(isinstance(value, bytes | None) for value in (self.extra, self.content))
        )
        if not fits:
            raise ExtractError(f"the entry {self.name!r} is not what an entry is")
        return self


@dataclass
class Archive:
    header: Header
    frames: dict[int, Frame] = field(default_factory=dict)


@dataclass
class Books:
    """What a chain of catalogs says of one job."""

    secret: bytes = b""
    snapshots: dict[int, list[Any]] = field(default_factory=dict)
    forgotten: dict[int, list[Any]] = field(default_factory=dict)
    owners: dict[int, list[Any]] = field(default_factory=dict)
    directories: dict[int, bytes] = field(default_factory=dict)
    entries: dict[int, Entry] = field(default_factory=dict)
    archives: dict[int, Archive] = field(default_factory=dict)
    chunks: dict[int, tuple[int, Chunk]] = field(default_factory=dict)

    def apply(self, record: list[Any]) -> None:  # noqa: C901, PLR0912
        kind, *values = record
        if kind == 2:
            self.secret = values[1]
        elif kind == 5:
            identity, number, started, *_ = values
            if not (isinstance(identity, str) and isinstance(number, int) and isinstance(started, int)):
                raise ExtractError("the snapshot is not what a snapshot is")
            self.snapshots[number] = values
        elif kind == 6:
            self.owners[values[0]] = values[1:]
        elif kind == 7:
            self.directories[values[0]] = values[1]
        elif kind == 8:
            self.entries[values[0]] = Entry(*values[:13]).check()
        elif kind == 9:
            for (number,) in struct.iter_unpack("<Q", values[0]):
                if number in self.entries:
                    self.entries[number].removed = values[1]
        elif kind == 10:
            self.archives[values[0]] = Archive(parse_header(values[4]))
        elif kind == 11:
            self.archives[values[0]].frames |= {row.number: row for row in frame_columns(values[1])}
        elif kind == 12:
            numbers = (number for (number,) in struct.iter_unpack("<I", values[1]))
            for number, chunk in zip(numbers, chunk_columns(values[2]), strict=True):
                self.chunks[number] = values[0], chunk
        elif kind == 13:
            for number in values[0]:
                self.snapshots.pop(number, None)
                self.forgotten.pop(number, None)
        elif kind == 18:
            for number in values[0]:
                if number in self.snapshots:
                    self.forgotten[number] = self.snapshots.pop(number)
        elif kind == 19:
            for number in values[0]:
                if number in self.forgotten:
                    self.snapshots[number] = self.forgotten.pop(number)


class Tree:
    """Directories below the target, all made by this run, entered step by step, never through a symlink."""

    def __init__(self, target: str) -> None:
        os.makedirs(target, exist_ok=True)
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.listdir(self._root):
            raise ExtractError(f"{target} is not empty: give a new folder")
        self._open: OrderedDict[bytes, int] = OrderedDict()
        self._made: dict[bytes, tuple[int, int]] = {}  # device and inode

    def enter(self, path: bytes) -> int:
        """A handle of the directory, made where it is missing; it may be closed at the next call."""
        if path.count(b"/") > DEEPEST:
            raise ExtractError("it lies too deep")
        known = path
        while known and known not in self._open:
            known = known.rpartition(b"/")[0]
        handle = self._open[known] if known else self._root
        if known:
            self._open.move_to_end(known)
        for name in path[len(known) :].strip(b"/").split(b"/") if path != known else ():
            known = known + b"/" + name if known else name
            handle = self._open[known] = self._step(known, handle, name)
            while len(self._open) > KEPT_FOLDERS:
                os.close(self._open.popitem(last=False)[1])
        return handle

    def _step(self, path: bytes, above: int, name: bytes) -> int:
        if path not in self._made:
            os.mkdir(name, 0o700, dir_fd=above)  # refused if anything has that name: nothing was there
        handle = os.open(name, ENTER, dir_fd=above)
        found = os.fstat(handle)
        if self._made.setdefault(path, (found.st_dev, found.st_ino)) != (found.st_dev, found.st_ino):
            os.close(handle)
            raise ExtractError("another directory took its place")
        return handle

    def open_others(self, entries: set[bytes]) -> None:
        """Directories that lie on the way and are no entries are as any that this user makes."""
        umask = os.umask(0o077)
        os.umask(umask)
        for path in self._made.keys() - entries:
            os.chmod(self.enter(path), 0o777 & ~umask)


@dataclass
class Made:
    """Something that this run made, to be linked to."""

    directory: bytes
    name: bytes
    inode: tuple[int, int]


class Extractor:
    """From packs to files."""

    def __init__(self, key: RecoveryKey, packs: list[Pack], *more_keys: RecoveryKey) -> None:
        self.recovery_keys = [key, *more_keys]
        self.zstd = find_zstd()
        self.blake3 = find_blake3()
        self.packs: dict[bytes, list[Pack]] = {}  # by header hash: anybody may use anybody's pack id
        for pack in packs:
            self.packs.setdefault(pack.header.hash, []).append(pack)
        self.keys: dict[int, PackKeys] = {}  # by archive number
        self.opened: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self.books = Books()
        self.problems = 0
        self.missed: list[bytes] = []  # the job of each catalog of ours that is left out
        self.refused: list[Pack] = []  # catalogs for whose signer nobody vouches
        self.ranks: dict[bytes, dict[bytes, int]] = {}

    def trusted(self, signer: bytes | None, anyone: bool) -> list[Pack]:
        """2.1: catalogs whose signer a key enrolled, or the user named."""
        found: list[Pack] = []
        catalogs = [pack for some in self.packs.values() for pack in some if pack.header.kind == CATALOG]
        self.ranks = self.ranks_of([pack.header for pack in catalogs])
        enrolled = self.enrolled()
        for pack in catalogs:
            header = pack.header
            fingerprint = hashlib.sha256(header.signer).digest()[:16]
            if anyone or (
                header.signer in enrolled[header.inventory] if signer is None else fingerprint == signer
            ):
                found.append(pack)
            else:
                warn(f"{pack.path}: its signer {fingerprint.hex()} is not enrolled by this key; left out")
                ours = {key.recipient for key in self.recovery_keys} & recipients_of(header)
                self.missed += [header.job] * bool(ours)
                self.refused.append(pack)
        return found

    def ranks_of(self, headers: list[Header]) -> dict[bytes, dict[bytes, int]]:
        """1.6: by inventory the signers that a tag in any header vouches for, with the place of the key."""
        found: dict[bytes, dict[bytes, int]] = {header.inventory: {} for header in headers}
        for rank, key in enumerate(self.recovery_keys):
            for header in headers:
                tag = key.enrolment_tag(header.inventory, header.signer)
                if hmac.compare_digest(header.enrolments.get(key.recipient, b""), tag):
                    found[header.inventory].setdefault(header.signer, rank)
        return found

    def enrolled(self) -> dict[bytes, set[bytes]]:
        """1.6: by inventory the signers that are believed; nobody where there are two.

        The first key's word counts, the others' only where it says nothing: they may be in strange hands.
        """
        found: dict[bytes, set[bytes]] = {}
        for inventory, ranks in self.ranks.items():
            believed = {signer for signer, rank in ranks.items() if rank == 0} or set(ranks)
            if len(believed) > 1:
                warn(
                    f"keys have enrolled {len(believed)} signers of inventory {inventory.hex()}: say --signer"
                )
                believed.clear()
            found[inventory] = believed
        return found

    def records(self, pack: Pack) -> Iterator[list[Any]]:
        return read_records(self._bodies(pack), pack.header)

    def _bodies(self, pack: Pack) -> Iterator[bytes]:
        keys = open_header(pack.header, self.recovery_keys)
        for frame in pack.frames(keys, self.zstd):
            yield pack.open(keys, frame, self.zstd)

    def prove(self, pack: Pack) -> Start:
        """Read a catalog whole, as its signer wrote it; what its first record says."""
        first = None
        try:
            for piece in pieces_of(self._bodies(pack), pack.header):
                first = piece if first is None else first
            return start_of(unpack(first or b"")[0], pack.header)
        except (LookupError, TypeError, ValueError, struct.error) as error:
            raise ExtractError(f"a record is damaged: {error}") from error

    def histories(self, catalogs: list[Pack]) -> Histories:
        """The catalogs that can be opened, and whose inventories they are."""
        family = Family(self.recovery_keys)
        for inventory, ranks in self.ranks.items():
            for signer, rank in ranks.items():
                family.note_signer(inventory, signer, rank)
        proven: dict[bytes, Pack] = {}
        closed: list[Pack] = []
        for pack in catalogs:
            try:
                pack.start = self.prove(pack)
            except OtherKeyError:
                closed.append(pack)
            except (ExtractError, OSError) as error:
                warn(f"{pack.path}: {error}; left out")
                self.missed.append(pack.header.job)
            else:
                proven[pack.header.hash] = pack
                family.note(pack.header, pack.start, self._rank_of(pack.header) or 0)
        self._note_refused(family)
        return Histories(list(proven.values()), closed, family)

    def _rank_of(self, header: Header) -> int | None:
        return self.ranks.get(header.inventory, {}).get(header.signer)

    def _note_refused(self, family: Family) -> None:
        """Of a catalog for whose signer only a later key vouches: who came before it may be believed."""
        for pack in self.refused:
            rank = self._rank_of(pack.header)
            try:
                if rank is not None:
                    family.note(pack.header, self.prove(pack), rank)
            except (ExtractError, OSError):
                pass

    def load(self, chain: list[Pack]) -> None:
        """What the chain says, up to a catalog that is damaged; a broken record is named and left out."""
        for place, pack in enumerate(chain):
            try:
                records = list(self.records(pack))
            except (ExtractError, OSError) as error:
                if not place:
                    raise ExtractError(f"{pack.path}: {error}") from error
                self.problems += 1
                warn(f"{pack.path}: {error}; it and the {len(chain) - place - 1} after it are left out")
                return
            for record in records:
                try:
                    self.books.apply(record)
                except BROKEN as error:
                    self.problems += 1
                    warn(f"{pack.path}: a record of kind {record[0]!r} is left out: {error!s:.300}")

    # Files.

    def chunk(self, number: int) -> bytes:
        archive_number, chunk = self.books.chunks[number]
        body = self._frame(archive_number, chunk.frame)
        data = body[chunk.offset : chunk.offset + chunk.length]
        if len(data) != chunk.length:
            raise ExtractError("a chunk does not lie in its frame")
        if self.blake3 and self.blake3(data, derive(self.books.secret, "chunk id")) != chunk.id:
            raise ExtractError("a chunk is not what it was")
        return data

    def _frame(self, number: int, frame: int) -> bytes:
        place = number, frame
        if place in self.opened:
            self.opened.move_to_end(place)
            return self.opened[place]
        archive = self.books.archives[number]
        packs = self.packs.get(archive.header.hash)
        if packs is None:
            raise ExtractError(f"pack {archive.header.pack.hex()} is not here")
        if number not in self.keys:
            self.keys[number] = open_header(archive.header, self.recovery_keys)
        self.opened[place] = self._open(packs, number, archive.frames[frame])
        if len(self.opened) > KEPT_FRAMES:
            self.opened.popitem(last=False)
        return self.opened[place]

    def _open(self, packs: list[Pack], number: int, frame: Frame) -> bytes:
        """A frame, by whichever of the files with this header has it whole."""
        for pack in packs[:-1]:
            try:
                return pack.open(self.keys[number], frame, self.zstd)
            except (ExtractError, OSError):
                continue
        return packs[-1].open(self.keys[number], frame, self.zstd)

    def write(self, snapshot: int, tree: Tree) -> int:
        """Make the entries of a snapshot below the target; how many there should be."""
        live = [
            entry
            for entry in self.books.entries.values()
            if entry.added <= snapshot and (entry.removed is None or entry.removed > snapshot)
        ]
        places: dict[int, tuple[bytes, bytes]] = {}  # directory and name
        for entry in live:
            if place := self._attempt(entry.name, self._place, entry):
                places[entry.number] = place
        placed = [(joined(places[entry.number]), entry) for entry in live if entry.number in places]
        folders = {path: entry for path, entry in placed if entry.kind == DIRECTORY}
        made = [path for path in sorted(folders) if self._attempt(path, tree.enter, path) is not None]
        links: dict[object, Made] = {}
        # Symlinks come last: where one has the name of a directory of other entries, it is the one left out.
        others = [(path, entry) for path, entry in placed if entry.kind != DIRECTORY]
        for path, entry in sorted(others, key=lambda other: other[1].kind == SYMLINK):
            self._attempt(path, self._entry, entry, places[entry.number], tree, links)
        self._attempt(b"", tree.open_others, set(made))
        for path in reversed(made):
            self._attempt(path, self._directory, folders[path], path, tree)
        return len(live)

    def _attempt(self, path: bytes, action: Callable[..., T], *words: Any) -> T | None:
        """Do what may fail for this entry alone, which is named then."""
        try:
            return action(*words)
        except BROKEN as error:
            self._problem(path, error)
            return None

    def _place(self, entry: Entry) -> tuple[bytes, bytes]:
        if not isinstance(directory := self.books.directories.get(entry.directory), bytes):
            raise ExtractError("no catalog says in which directory it was")
        steps = [step for step in directory.split(b"/") if step]
        leads_out = any(step in {b".", b".."} or b"\0" in step for step in (*steps, entry.name))
        if leads_out or not entry.name or b"/" in entry.name:
            raise ExtractError(f"its name leads out of the target: {directory + b'/' + entry.name!r}")
        return b"/".join(steps), entry.name

    @staticmethod
    def _extra(entry: Entry) -> list[Any]:
        read = unpack(entry.extra)[0] if entry.extra else []
        empty = [b"", 0, 0, 0, [], b""]
        return read + empty[len(read) :]

    def _entry(self, entry: Entry, place: tuple[bytes, bytes], tree: Tree, links: dict[object, Made]) -> None:
        """Make anything but a directory: as one more name of what was made, or anew."""
        directory, name = place
        extra = self._extra(entry)
        # Of one inode all of this is the same; where it is not, somebody else's content would be linked.
        key = (entry.kind, extra[2], entry.size, entry.content, entry.chunks, extra[0], extra[1], extra[5])
        if extra[2] and key in links:
            self._link(links[key], directory, name, tree)
            return
        handle = tree.enter(directory)
        if entry.kind == FILE:
            inode = self._file(entry, handle, name, joined(place), extra)
        else:
            inode = self._special(entry, handle, name, joined(place), extra)
        if extra[2]:
            links[key] = Made(directory, name, inode)

    @staticmethod
    def _link(made: Made, directory: bytes, name: bytes, tree: Tree) -> None:
        above = os.dup(tree.enter(made.directory))
        try:
            handle = tree.enter(directory)
            os.link(made.name, name, src_dir_fd=above, dst_dir_fd=handle, follow_symlinks=False)
        finally:
            os.close(above)
        found = os.stat(name, dir_fd=handle, follow_symlinks=False)
        if (found.st_dev, found.st_ino) != made.inode:
            os.unlink(name, dir_fd=handle)
            raise ExtractError("something else took the place of what it is a link to")

    def _directory(self, entry: Entry, path: bytes, tree: Tree) -> None:
        self._describe(entry, tree.enter(path), path, self._extra(entry))

    def _special(
        self, entry: Entry, handle: int, name: bytes, path: bytes, extra: list[Any]
    ) -> tuple[int, int]:
        """Make a symlink, FIFO or device; its device and inode number."""
        if entry.kind not in FORMS:
            raise ExtractError(f"an entry of unknown kind {entry.kind}")
        if entry.kind == SYMLINK:
            os.symlink(extra[0], name, dir_fd=handle)
        else:
            device = extra[1] if entry.kind != FIFO else 0
            os.mknod(name, FORMS[entry.kind] | 0o600, device, dir_fd=handle)
        there = os.open(name, LOOK, dir_fd=handle)
        try:
            found = os.fstat(there)
            if stat.S_IFMT(found.st_mode) != FORMS[entry.kind] or found.st_nlink != 1:
                raise ExtractError("something else took its place")
            self._describe(entry, b"/proc/self/fd/%d" % there, path, extra)
        finally:
            os.close(there)
        return found.st_dev, found.st_ino

    def _file(self, entry: Entry, handle: int, name: bytes, path: bytes, extra: list[Any]) -> tuple[int, int]:
        """Make a file; its device and inode number. It is not there if it could not be made whole."""
        with open(os.open(name, CREATE, 0o600, dir_fd=handle), "wb") as file:
            try:
                self._fill(entry, file, extra[5])
                self._check_content(entry, extra[5])
            except BaseException:
                os.unlink(name, dir_fd=handle)
                raise
            self._describe(entry, file.fileno(), path, extra)
            found = os.fstat(file.fileno())
        return found.st_dev, found.st_ino

    def _fill(self, entry: Entry, file: BinaryIO, packed_holes: bytes) -> None:
        holes = list(struct.iter_unpack("<QQ", packed_holes))
        place = 0
        for (number,) in struct.iter_unpack("<I", entry.chunks):
            data = memoryview(self.chunk(number))
            while data:
                while holes and holes[0][0] == place:
                    place += holes.pop(0)[1]
                room = holes[0][0] - place if holes else len(data)
                if room <= 0:
                    raise ExtractError("its holes lie out of order")
                file.seek(place)
                file.write(data[:room])
                place += len(data[:room])
                data = data[room:]
        place += sum(size for _, size in holes)
        if place != entry.size:
            raise ExtractError(f"it has {place} bytes instead of {entry.size}")
        file.truncate(entry.size)
        file.flush()

    def _check_content(self, entry: Entry, packed_holes: bytes) -> None:  # 1.7
        if not self.blake3 or entry.content is None:
            return
        numbers = [number for (number,) in struct.iter_unpack("<I", entry.chunks)]
        chunks = [self.books.chunks[number][1] for number in numbers]
        named = b"".join(chunk.id + struct.pack("<I", chunk.length) for chunk in chunks)
        named += bytes(36) + packed_holes if packed_holes else b""
        if self.blake3(named, derive(self.books.secret, "content id"))[:16] != entry.content:
            raise ExtractError("its content is not what it was")

    def _describe(self, entry: Entry, inode: int | bytes, path: bytes, extra: list[Any]) -> None:
        """Owner, attributes, mode, times of what this run made, each by itself; what is refused is named.

        setuid and setgid go only with their owner: else they would lend the rights of whoever runs this.
        Neither they nor capabilities are given where user or group has another name here than it had.
        """
        uid, gid, *names = self.books.owners[entry.owner]
        strange = "; ".join(strangers(uid, gid, *names[:2]))
        if os.geteuid() == 0:
            self._attempt(path, lambda: os.chown(inode, real_id(uid), real_id(gid)))
        for name, value in extra[4]:
            if strange and name == b"security.capability":
                self._problem(path, ExtractError(f"without its capabilities, as {strange}"))
            else:
                self._attempt(path, os.setxattr, inode, name, value)
        found = os.stat(inode)
        mode = entry.mode
        lent = stat.S_ISUID if found.st_uid != uid or strange else 0
        if found.st_gid != gid or (lent and entry.kind != DIRECTORY):
            lent |= stat.S_ISGID
        if mode & lent:
            why = strange or "its owner could not be set"
            self._problem(path, ExtractError(f"without setuid and setgid, as {why}"))
        if entry.kind != SYMLINK:
            self._attempt(path, lambda: os.chmod(inode, permissions(mode) & ~lent))
        self._attempt(path, lambda: os.utime(inode, ns=(entry.mtime, entry.mtime)))

    def _problem(self, path: bytes, error: Exception) -> None:
        self.problems += 1
        system = error.strerror if isinstance(error, OSError) else None
        warn(f"{os.fsdecode(path)!r}: {system or error or type(error).__name__}")


def joined(place: tuple[bytes, bytes]) -> bytes:
    """Directory and name as one path below the target."""
    return b"/".join(part for part in place if part)


def strangers(uid: int, gid: int, user: object = "", group: object = "") -> Iterator[str]:
    """Of a saved owner, a sentence for user and group if another name has that number here."""
    for kind, number, name, found in (("user", uid, user, pwd.getpwuid), ("group", gid, group, grp.getgrgid)):
        try:
            here = found(number)[0]
        except (KeyError, OverflowError, TypeError):
            continue
        if name and name != here:
            yield f"{kind} {number} is {here!r} here and was {name!r}"


def real_id(number: int) -> int:
    """A user or group; the system takes the last number for `leave it as it is`."""
    if not 0 <= number < 0xFFFFFFFF:
        raise ExtractError(f"no user or group has the number {number}")
    return number


def permissions(mode: int) -> int:
    if mode & ~0o7777:
        raise ExtractError(f"{mode:#o} is no mode")
    return mode


def say(text: str, where: TextIO) -> None:
    """A line, in which nothing of a snapshot speaks to the terminal."""
    shown = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    print(shown.encode("utf-8", "backslashreplace").decode(), file=where)


def warn(text: str) -> None:
    say(text, sys.stderr)


def show(extractor: Extractor) -> None:
    for number, (identity, _, started, *rest) in sorted(extractor.books.snapshots.items()):
        files, size = (rest + ["?"] * 5)[3:5]
        when = started // 1_000_000
        say(f"{identity}  number {number}  {when} s since 1970  {files} files  {size} bytes", sys.stdout)


def choose(extractor: Extractor, words: str | None) -> int:
    snapshots = extractor.books.snapshots
    if words is None:
        return max(snapshots, default=0)
    found = [number for number, values in snapshots.items() if values[0].startswith(words.lower())]
    if len(found) != 1:
        raise ExtractError(f"{len(found)} snapshots begin with {words}: see --list")
    return found[0]


def choose_history(extractor: Extractor, found: Histories, options: argparse.Namespace) -> History:
    """The job that is wanted, or the only one, as the inventory that is meant has it."""
    words = options.inventory
    asked = None if words is None else choose_inventory(found, words.lower())
    histories: list[History] = []
    for job in found.jobs():
        for owner in found.owners(job) if asked is None else found.owner_in(job, asked):
            history = found.find(job, owner)
            if history.chain:
                histories.append(history)
                continue
            for text in history.told:
                warn(text)
            warn(f"no full catalog is here for job {job.hex()} of inventory {owner.hex()}: it is left out")
            extractor.missed.append(job)
    wanted = [history for history in histories if options.job in {None, history.name}]
    if len(wanted) != 1:
        if found.closed:
            warn(f"{len(found.closed)} catalogs were not sealed for this recovery key, or any of these")
        names = ", ".join(sorted(name_of(history, histories) for history in wanted or histories))
        which = (
            "which job? --job is one of" if options.job is None or not wanted else "which one? It is here as"
        )
        raise ExtractError(f"{which}: {names or 'none is here'}")
    return wanted[0]


def name_of(history: History, histories: list[History]) -> str:
    """A job's name, with its inventory where there are several of that name."""
    is_only = sum(other.name == history.name for other in histories) == 1
    return history.name if is_only else f"{history.name} with --inventory {history.inventory.hex()}"


def choose_inventory(found: Histories, words: str) -> bytes:
    known = {inventory for job in found.jobs() for inventory in found.writers(job)}
    meant = [inventory for inventory in known if inventory.hex().startswith(words)]
    if len(meant) != 1:
        names = ", ".join(sorted(inventory.hex() for inventory in known))
        raise ExtractError(f"{len(meant)} inventories begin with {words}; here are: {names or 'none'}")
    return meant[0]


def run(options: argparse.Namespace) -> int:
    phrases = options.passphrase_file or [None]
    if len(phrases) not in {1, len(options.key)}:
        raise ExtractError("give --passphrase-file once, or once for each --key")
    each = phrases * len(options.key) if len(phrases) == 1 else phrases
    keys = [read_key(name, phrase) for name, phrase in zip(options.key, each, strict=True)]
    bad: list[str] = []
    extractor = Extractor(keys[0], list(find_packs(options.packs, bad)), *keys[1:])
    extractor.problems = len(bad)
    if extractor.blake3 is None:
        warn("blake3 is not installed: chunks are not compared with their names, only frames with their tags")
    signer = bytes.fromhex(options.signer) if options.signer else None
    histories = extractor.histories(extractor.trusted(signer, options.trust_vault))
    history = choose_history(extractor, histories, options)
    for text in history.told:
        warn(text)
    extractor.load(history.chain)
    extractor.problems += extractor.missed.count(history.job) + len(history.told)
    if options.list or options.target is None:
        show(extractor)
        return 3 if extractor.problems else 0
    chosen = choose(extractor, options.snapshot)
    count = extractor.write(chosen, Tree(os.path.abspath(options.target)))
    warn(f"{count} entries belong below {options.target}, {extractor.problems} problems")
    return 3 if extractor.problems else 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the files of nightvault packs, without nightvault.")
    parser.add_argument("packs", nargs="+", metavar="PACKS", help="packs, or folders of them")
    several = "the recovery key; several where recipients changed, today's first"
    parser.add_argument("--key", required=True, action="append", metavar="FILE|-", help=several)
    parser.add_argument("--passphrase-file", action="append", metavar="FILE", help="its passphrase")
    parser.add_argument("--list", action="store_true", help="list the snapshots")
    parser.add_argument("--job", help="which job, if there are several")
    whose = "which server's, if several have a job of that name; also an older one, before a rebuild"
    parser.add_argument("--inventory", metavar="ID", help=whose)
    parser.add_argument("--snapshot", metavar="ID", help="which snapshot; the newest by default")
    parser.add_argument("--target", metavar="DIR", help="where to write: a new or empty folder")
    parser.add_argument("--signer", metavar="FINGERPRINT", help="believe this signer alone")
    parser.add_argument("--trust-vault", action="store_true", help="believe any signer")
    try:
        return run(parser.parse_args())
    except BROKEN as error:
        warn(f"nightvault-extract: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
