"""A pack's header: sealer and recipients in clear, the sealed pack key, a signature; and the derived keys.

Build: `seal_header`, then `derive_keys` of the same pack key and header. Read: `parse_header` (nothing in
it is trusted yet), `verify_header` against the signer that the inventory or an enrolment vouches for, and
`open_header` with a recovery key, whose pack key `derive_keys` turns into frame and directory key.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import NamedTuple

from msgspec import Struct

from backup.errors import FormatError, NewerFormatError, RecoveryKeyError
from backup.format.keys import SEAL_OVERHEAD, Recipient, RecoveryKey, Signer, derive, verify
from backup.model import KIB, Generation, InventoryId, PackId, PackKind

MAGIC = b"NVPACK\x1a\n"
FORMAT_VERSION = 1
HEADER_PREFIX_LENGTH = 16
LARGEST_HEADER = 64 * KIB
MOST_RECIPIENTS = 50
PACK_KEY_SIZE = 32
NO_PACK = bytes(16)
NO_HASH = bytes(32)

# magic, version, zero, length; required features, optional features, kind, generation, stanzas, enrolments,
# zero, pack id, inventory id, signer's public key
_FIXED = struct.Struct("<8sHHIIIBBHHH16s16s32s")
_CATALOG = struct.Struct("<16sQ16s32s")  # job id, number, parent's pack id, parent's header hash
_ENROLMENT = struct.Struct("<16s32s")  # recipient id, tag
_STANZA = struct.Struct(f"<16s{PACK_KEY_SIZE + SEAL_OVERHEAD}s")  # recipient id, HPKE enc and ciphertext
_COMMITMENT_SIZE = 32
_SIGNATURE_SIZE = 64
_TAIL_SIZE = _COMMITMENT_SIZE + _SIGNATURE_SIZE


class CatalogFeature(IntFlag):
    """Required features of a catalog: a reader that does not know one refuses the catalog."""

    FIRST_DELTA = 1
    """A job's first catalog: full, and the delta that the next one follows."""
    MARKS = 2
    """It holds records that forget snapshots, or that say what is not built upon."""


class CatalogOption(IntFlag):
    """Optional features of a catalog: a reader that does not know one ignores it."""

    SIGNED_CONTENT = 1
    """Its last record carries the signer's signature over everything before: none may be lacking."""


NO_FEATURE = CatalogFeature(0)
NO_OPTION = CatalogOption(0)
_EVERY_FEATURE = CatalogFeature.FIRST_DELTA | CatalogFeature.MARKS


class CatalogFields(Struct, frozen=True):
    """Header fields of catalogs alone: the position in the job's chain, and the signer's enrolments.

    `job_id` is 16 random bytes that stand for the job; `parent_pack_id` and `parent_header_hash` are zero
    bytes when there is no parent; `enrolments` are (recipient id, enrolment tag), and halves of signatures
    under ids of their own (`enrolment.py`).
    """

    job_id: bytes
    number: int
    generation: Generation
    parent_pack_id: bytes = NO_PACK
    parent_header_hash: bytes = NO_HASH
    enrolments: tuple[tuple[bytes, bytes], ...] = ()
    features: CatalogFeature = NO_FEATURE
    options: CatalogOption = NO_OPTION


class HeaderFields(Struct, frozen=True):
    """A header's fields in clear; `catalog` is set for catalogs alone."""

    kind: PackKind
    pack_id: PackId
    inventory_id: InventoryId
    signer_public: bytes
    catalog: CatalogFields | None = None


class Stanza(NamedTuple):
    """The pack key sealed for one recipient: its 16-byte id, and 1,168 bytes of HPKE."""

    recipient_id: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class PackKeys:
    """The keys derived from a pack key and its header: 32 bytes each."""

    frame_key: bytes = field(repr=False)
    directory_key: bytes = field(repr=False)
    commitment: bytes


class Header(Struct, frozen=True):
    """A parsed header; `raw` is all of it.

    With `unknown_features`, which `read_header` alone lets pass, a later version wrote it: its signature can
    be verified, and nothing more of the pack can be read.
    """

    fields: HeaderFields
    stanzas: tuple[Stanza, ...]
    commitment: bytes
    signature: bytes
    raw: bytes
    unknown_features: int = 0

    @property
    def hash(self) -> bytes:
        """SHA-256 of the whole header, 32 bytes: the name by which a catalog refers to its parent."""
        return hashlib.sha256(self.raw).digest()

    @property
    def info(self) -> bytes:
        """All fields before the stanzas: the info under which the pack key is sealed."""
        return self.raw[: len(self.raw) - _TAIL_SIZE - _STANZA.size * len(self.stanzas)]


def header_length(prefix: bytes | memoryview) -> int:
    """Length of the header that begins with these (at least 16) bytes; at most 64 KiB. FormatError."""
    if len(prefix) < HEADER_PREFIX_LENGTH:
        raise FormatError("the pack is cut short within its first bytes")
    magic, version, zero, length = struct.unpack_from("<8sHHI", prefix)
    if magic != MAGIC:
        raise FormatError("this is not a nightvault pack")
    if version > FORMAT_VERSION:
        raise NewerFormatError(f"the pack has format {version}, which is not known here")
    if version != FORMAT_VERSION or zero:
        raise FormatError(f"the pack has format {version}, which there never was")
    if not _FIXED.size + _STANZA.size + _TAIL_SIZE <= length <= LARGEST_HEADER:
        raise FormatError(f"the pack claims a header of {length} bytes")
    return int(length)


def seal_stanzas(
    fields: HeaderFields, pack_key: bytes, recipients: Sequence[Recipient]
) -> tuple[Stanza, ...]:
    """The pack key sealed for each recipient, under the header's fields; HPKE draws fresh randomness."""
    info = _pack_fields(fields, len(recipients))
    return tuple(Stanza(recipient.id, recipient.seal(pack_key, info)) for recipient in recipients)


def seal_header(
    fields: HeaderFields, *, pack_key: bytes, recipients: Sequence[Recipient], signer: Signer
) -> bytes:
    """The header of a new pack: `pack_key` is 32 fresh random bytes, `recipients` 1 to 50 distinct ones."""
    return assemble_header(
        fields, seal_stanzas(fields, pack_key, recipients), pack_key=pack_key, signer=signer
    )


def assemble_header(
    fields: HeaderFields, stanzas: Sequence[Stanza], *, pack_key: bytes, signer: Signer
) -> bytes:
    """The header with stanzas that `seal_stanzas` made: pure, the same bytes every time."""
    if fields.signer_public != signer.public:
        raise FormatError("the header names another signer than the one that signs it")
    if len(pack_key) != PACK_KEY_SIZE or len({stanza.recipient_id for stanza in stanzas}) != len(stanzas):
        raise FormatError("a pack needs a key of 32 bytes and distinct recipients")
    sealed = [_STANZA.pack(*stanza) for stanza in stanzas]
    committed = b"".join([_pack_fields(fields, len(stanzas)), *sealed])
    signed = committed + _derive_keys(pack_key, committed).commitment
    return signed + signer.sign(signed)


def parse_header(data: bytes | memoryview) -> Header:
    """Parse the header at the start of `data` (more may follow). Nothing in it is proven yet.

    NewerFormatError for one that needs features which are not known here, FormatError for anything else
    that is not a whole, well-formed header.
    """
    header = read_header(data)
    if header.unknown_features:
        raise _newer(header.unknown_features)
    return header


def read_header(data: bytes | memoryview) -> Header:
    """As `parse_header`, and also a header with unknown features, so that its signature can be verified.

    NewerFormatError for one of a later version that has another layout.
    """
    length = header_length(data)
    if len(data) < length:
        raise FormatError(f"the pack is cut short: {len(data)} bytes of a header of {length}")
    raw = bytes(memoryview(data)[:length])
    unknown = _unknown_features(raw)
    try:
        return _read_header(raw, length, unknown)
    except FormatError as error:
        if unknown:
            raise _newer(unknown) from error
        raise


def _unknown_features(raw: bytes) -> int:
    _, _, _, _, required, _, kind, *_ = _FIXED.unpack_from(raw)
    return int(required & ~(int(_EVERY_FEATURE) if kind == PackKind.CATALOG else 0))


def _newer(unknown: int) -> NewerFormatError:
    return NewerFormatError(f"the pack uses features that are not known here ({unknown:#x})")


def _read_header(raw: bytes, length: int, unknown: int) -> Header:
    fields, stanza_count, position = _unpack_fields(raw)
    if position + stanza_count * _STANZA.size + _TAIL_SIZE != length:
        raise FormatError("the header's length does not fit its recipients")
    end = length - _TAIL_SIZE
    stanzas = tuple(Stanza(*stanza) for stanza in _STANZA.iter_unpack(raw[position:end]))
    if len({stanza.recipient_id for stanza in stanzas}) != stanza_count:
        raise FormatError("the header names a recipient twice")
    commitment, signature = raw[end : end + _COMMITMENT_SIZE], raw[end + _COMMITMENT_SIZE :]
    return Header(fields, stanzas, commitment, signature, raw, unknown)


def verify_header(header: Header, signer_public: bytes) -> None:
    """Raise FormatError unless this signer signed the header: do this before anything else with it."""
    if header.fields.signer_public != signer_public:
        raise FormatError("the pack was signed by another signer than the one expected")
    verify(signer_public, header.signature, header.raw[:-_SIGNATURE_SIZE])


def is_enrolled(header: Header, key: RecoveryKey) -> bool:
    """Whether `key` itself enrolled the signer of this catalog; call it after `verify_header`."""
    catalog = header.fields.catalog
    expected = key.enrolment_tag(header.fields.inventory_id, header.fields.signer_public)
    tags = dict(catalog.enrolments) if catalog else {}
    return hmac.compare_digest(tags.get(key.recipient.id, b""), expected)


def open_header(header: Header, key: RecoveryKey) -> bytes:
    """The pack key, for one of the recipients; the key commitment is checked.

    RecoveryKeyError when the pack was not sealed for this key, FormatError when it was sealed wrongly.
    """
    ours = key.recipient.id
    sealed = next((stanza.sealed for stanza in header.stanzas if stanza.recipient_id == ours), None)
    if sealed is None:
        names = ", ".join(stanza.recipient_id.hex() for stanza in header.stanzas)
        raise RecoveryKeyError(
            f"the key of recipient {ours.hex()} does not open this pack, which was sealed for {names}",
            advice="give the recovery key of one of these recipients",
        )
    pack_key = key.unseal(sealed, header.info)
    keys = derive_keys(pack_key, header.raw)
    if not hmac.compare_digest(keys.commitment, header.commitment):
        raise FormatError("the pack key is not the one that the header commits to")
    return pack_key


def open_with(header: Header, keys: Sequence[RecoveryKey]) -> bytes:
    """The pack key, by whichever of several recovery keys opens it; as `open_header` where none does."""
    problem: FormatError | RecoveryKeyError | None = None
    for key in keys:
        try:
            return open_header(header, key)
        except FormatError as error:
            problem = error
        except RecoveryKeyError as error:
            problem = problem or error
    if isinstance(problem, FormatError) or (problem is not None and len(keys) == 1):
        raise problem
    names = ", ".join(stanza.recipient_id.hex() for stanza in header.stanzas)
    raise RecoveryKeyError(
        f"none of the {len(keys)} recovery keys opens this pack, which was sealed for {names}",
        advice="give the recovery key of one of these recipients, too",
    )


def derive_keys(pack_key: bytes, header: bytes) -> PackKeys:
    """The keys of the pack that has this whole header (as `seal_header` gave it, or `Header.raw`)."""
    return _derive_keys(pack_key, header[:-_TAIL_SIZE])


def _derive_keys(pack_key: bytes, committed: bytes) -> PackKeys:
    salt = hashlib.sha256(committed).digest()
    return PackKeys(
        frame_key=derive(pack_key, "frame key", salt=salt),
        directory_key=derive(pack_key, "directory key", salt=salt),
        commitment=derive(pack_key, "key commitment", salt=salt),
    )


def _pack_fields(fields: HeaderFields, stanza_count: int) -> bytes:
    catalog = fields.catalog
    if (catalog is not None) != (fields.kind is PackKind.CATALOG):
        raise FormatError("a catalog needs its catalog fields, and nothing else may have them")
    enrolments = catalog.enrolments if catalog else ()
    if not 1 <= stanza_count <= MOST_RECIPIENTS or len(enrolments) > MOST_RECIPIENTS:
        raise FormatError(f"a pack has 1 to {MOST_RECIPIENTS} recipients, not {stanza_count}")
    _check_sizes(fields)
    more = b"".join(_ENROLMENT.pack(*enrolment) for enrolment in enrolments)
    if catalog:
        ids = catalog.job_id, catalog.number, catalog.parent_pack_id, catalog.parent_header_hash
        more = _CATALOG.pack(*ids) + more
    length = _FIXED.size + len(more) + stanza_count * _STANZA.size + _TAIL_SIZE
    generation = catalog.generation if catalog else 0
    counts = fields.kind, generation, stanza_count, len(enrolments), 0
    names = fields.pack_id, fields.inventory_id, fields.signer_public
    features = (catalog.features, catalog.options) if catalog else (0, 0)
    return _FIXED.pack(MAGIC, FORMAT_VERSION, 0, length, *features, *counts, *names) + more


def _check_sizes(fields: HeaderFields) -> None:
    # struct would silently pad or cut a value of another size.
    sized = [(fields.pack_id, 16), (fields.inventory_id, 16), (fields.signer_public, 32)]
    if catalog := fields.catalog:
        sized += [(catalog.job_id, 16), (catalog.parent_pack_id, 16), (catalog.parent_header_hash, 32)]
        sized += [(recipient_id, 16) for recipient_id, _ in catalog.enrolments]
        sized += [(tag, 32) for _, tag in catalog.enrolments]
    if any(len(value) != size for value, size in sized) or (catalog and not 0 <= catalog.number < 2**63):
        raise FormatError("a field of the header has the wrong size")


def _unpack_fields(raw: bytes) -> tuple[HeaderFields, int, int]:
    (
        _,
        _,
        _,
        _,
        *features,
        kind,
        generation,
        stanza_count,
        enrolment_count,
        zero,
        pack_id,
        inventory,
        signer,
    ) = _FIXED.unpack_from(raw)
    if zero or not 1 <= stanza_count <= MOST_RECIPIENTS or enrolment_count > MOST_RECIPIENTS:
        raise FormatError("the header's counts are out of range")
    try:
        pack_kind = PackKind(kind)
        catalog, position = None, _FIXED.size
        if pack_kind is PackKind.CATALOG:
            catalog, position = _unpack_catalog(raw, Generation(generation), features, enrolment_count)
        elif generation or enrolment_count:
            raise FormatError("a data pack has no generation and no enrolments")
    except ValueError as error:
        raise FormatError(f"the header's kind ({kind}, {generation}) is not known here") from error
    return (
        HeaderFields(pack_kind, PackId(pack_id), InventoryId(inventory), signer, catalog),
        stanza_count,
        position,
    )


def _unpack_catalog(
    raw: bytes, generation: Generation, features: Sequence[int], enrolment_count: int
) -> tuple[CatalogFields, int]:
    position = _FIXED.size + _CATALOG.size
    end = position + enrolment_count * _ENROLMENT.size
    if len(raw) < end:
        raise FormatError("the header's length does not fit its enrolments")
    job_id, number, parent, parent_hash = _CATALOG.unpack_from(raw, _FIXED.size)
    if number >= 2**63:
        raise FormatError(f"the catalog's number {number} is out of range")
    enrolments = tuple(_ENROLMENT.iter_unpack(raw[position:end]))
    known = CatalogFeature(features[0]) & _EVERY_FEATURE
    options = CatalogOption(features[1]) & CatalogOption.SIGNED_CONTENT
    if CatalogFeature.FIRST_DELTA in known and (generation is not Generation.FULL or any(parent)):
        raise FormatError("only a full catalog without a parent is a job's first delta, too")
    fields = CatalogFields(job_id, number, generation, parent, parent_hash, enrolments, known, options)
    return fields, end
