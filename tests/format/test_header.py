"""A header is its signer's word: nothing in it can change, and only its recipients get the pack key."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.errors import FormatError, NewerFormatError, RecoveryKeyError
from backup.format import header as headers
from backup.format import pack
from backup.format.keys import RecoveryKey, Signer
from backup.model import Generation, InventoryId, PackId, PackKind
from tests.support.packs import INVENTORY_ID, KEY, PACK_ID, PACK_KEY, SIGNER, catalog_fields, data_fields

OTHER = RecoveryKey(b"o" * 32)
ID16, KEY32 = st.binary(min_size=16, max_size=16), st.binary(min_size=32, max_size=32)
ENROLMENTS = st.lists(st.tuples(ID16, KEY32), max_size=3).map(tuple)
CATALOGS = st.builds(
    pack.CatalogFields, ID16, st.integers(0, 2**63 - 1), st.sampled_from(Generation), ID16, KEY32, ENROLMENTS
)
FIELDS = st.builds(
    pack.HeaderFields, st.just(PackKind.DATA), ID16, ID16, st.just(SIGNER.public), st.none()
) | st.builds(pack.HeaderFields, st.just(PackKind.CATALOG), ID16, ID16, st.just(SIGNER.public), CATALOGS)


@settings(max_examples=40)
@given(FIELDS, KEY32)
def test_what_is_sealed_is_read(fields: pack.HeaderFields, pack_key: bytes) -> None:
    recipients = [KEY.recipient, OTHER.recipient]
    raw = pack.seal_header(fields, pack_key=pack_key, recipients=recipients, signer=SIGNER)
    assert pack.header_length(raw[: pack.HEADER_PREFIX_LENGTH]) == len(raw) <= pack.LARGEST_HEADER
    header = pack.parse_header(memoryview(raw + b"frames"))
    assert header.fields == fields
    assert header.raw == raw
    assert header.hash == hashlib.sha256(raw).digest()
    pack.verify_header(header, SIGNER.public)
    for key in (KEY, OTHER):
        assert pack.open_header(header, key) == pack_key


@pytest.mark.parametrize("kind", ["header", "catalog_header"])
def test_every_flipped_bit_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    raw = request.getfixturevalue(kind)
    for place in range(len(raw)):
        changed = bytearray(raw)
        changed[place] ^= 1 << place % 8
        with pytest.raises(FormatError):
            pack.verify_header(pack.parse_header(bytes(changed)), SIGNER.public)


@pytest.mark.parametrize("kind", ["header", "catalog_header"])
def test_every_cut_is_refused(kind: str, request: pytest.FixtureRequest) -> None:
    raw = request.getfixturevalue(kind)
    for length in range(len(raw)):
        with pytest.raises(FormatError, match="cut short"):
            pack.parse_header(raw[:length])


def test_a_stranger_who_has_the_public_key_is_refused(catalog_header: bytes) -> None:
    stranger = Signer(b"s" * 32)
    fields = replace(catalog_fields(), signer_public=stranger.public)
    raw = pack.seal_header(fields, pack_key=PACK_KEY, recipients=[KEY.recipient], signer=stranger)
    header = pack.parse_header(raw)
    assert pack.open_header(header, KEY) == PACK_KEY  # anyone can seal to a public key
    with pytest.raises(FormatError, match="another signer"):
        pack.verify_header(header, SIGNER.public)
    pack.verify_header(header, stranger.public)
    assert not pack.is_enrolled(header, KEY)  # the tag was for our signer
    assert pack.is_enrolled(pack.parse_header(catalog_header), KEY)
    assert not pack.is_enrolled(pack.parse_header(catalog_header), OTHER)


def test_a_header_that_claims_our_signer_is_refused(header: bytes) -> None:
    stranger = Signer(b"s" * 32)
    with pytest.raises(FormatError, match="another signer"):
        pack.seal_header(data_fields(), pack_key=PACK_KEY, recipients=[KEY.recipient], signer=stranger)
    forged = header[:-64] + stranger.sign(header[:-64])
    with pytest.raises(FormatError, match="signature"):
        pack.verify_header(pack.parse_header(forged), SIGNER.public)


def test_a_data_pack_enrols_nobody(header: bytes) -> None:
    assert not pack.is_enrolled(pack.parse_header(header), KEY)


def test_the_wrong_key_is_told_whose_it_needs(header: bytes) -> None:
    with pytest.raises(RecoveryKeyError, match=KEY.recipient.id.hex()) as caught:
        pack.open_header(pack.parse_header(header), OTHER)
    assert OTHER.recipient.id.hex() in str(caught.value)


def test_a_key_other_than_the_committed_one_is_refused() -> None:
    stanzas = pack.seal_stanzas(data_fields(), b"w" * 32, [KEY.recipient])
    raw = pack.assemble_header(data_fields(), stanzas, pack_key=PACK_KEY, signer=SIGNER)
    header = pack.parse_header(raw)
    pack.verify_header(header, SIGNER.public)
    with pytest.raises(FormatError, match="commits"):
        pack.open_header(header, KEY)


def test_a_stanza_belongs_to_its_header() -> None:
    other = replace(data_fields(), pack_id=PackId(b"q" * 16))
    stanzas = pack.seal_stanzas(other, PACK_KEY, [KEY.recipient])
    raw = pack.assemble_header(data_fields(), stanzas, pack_key=PACK_KEY, signer=SIGNER)
    with pytest.raises(RecoveryKeyError, match="does not open"):
        pack.open_header(pack.parse_header(raw), KEY)


def test_keys_hang_on_the_whole_header(header: bytes, catalog_header: bytes) -> None:
    one, two = pack.derive_keys(PACK_KEY, header), pack.derive_keys(PACK_KEY, catalog_header)
    every = {one.frame_key, one.directory_key, one.commitment, two.frame_key, two.directory_key, PACK_KEY}
    assert len(every) == 6
    assert pack.parse_header(header).commitment == one.commitment
    assert one.frame_key.hex() not in repr(one)
    assert "frame_key" not in repr(one)


def test_fifty_recipients_fit_and_no_more() -> None:
    recipients = [RecoveryKey(bytes([n]) * 32).recipient for n in range(51)]
    tags = tuple((recipient.id, bytes(32)) for recipient in recipients[:50])
    catalog = pack.CatalogFields(bytes(16), 1, Generation.FULL, enrolments=tags)
    fields = pack.HeaderFields(PackKind.CATALOG, PACK_ID, INVENTORY_ID, SIGNER.public, catalog)
    raw = pack.seal_header(fields, pack_key=PACK_KEY, recipients=recipients[:50], signer=SIGNER)
    assert len(raw) < pack.LARGEST_HEADER
    assert len(pack.parse_header(raw).stanzas) == 50
    for wrong in (recipients, [], recipients[:1] * 2):
        with pytest.raises(FormatError):
            pack.seal_header(data_fields(), pack_key=PACK_KEY, recipients=wrong, signer=SIGNER)


@pytest.mark.parametrize(
    "fields",
    [
        replace(data_fields(), pack_id=PackId(b"short")),
        replace(data_fields(), inventory_id=InventoryId(bytes(17))),
        replace(data_fields(), kind=PackKind.CATALOG),
        replace(catalog_fields(), kind=PackKind.DATA),
        catalog_fields(number=-1),
        catalog_fields(number=2**63),
        replace(
            catalog_fields(),
            catalog=pack.CatalogFields(bytes(16), 1, Generation.FULL, enrolments=((b"", b""),)),
        ),
    ],
)
def test_fields_that_do_not_fit_are_not_sealed(fields: pack.HeaderFields) -> None:
    with pytest.raises(FormatError):
        pack.seal_header(fields, pack_key=PACK_KEY, recipients=[KEY.recipient], signer=SIGNER)


def test_a_pack_key_has_one_size() -> None:
    with pytest.raises(FormatError, match="32 bytes"):
        pack.seal_header(data_fields(), pack_key=b"short", recipients=[KEY.recipient], signer=SIGNER)


def patched(raw: bytes, place: int, form: str, value: int) -> bytes:
    """The header with one number changed, signed again by its own signer."""
    changed = bytearray(raw[:-64])
    struct.pack_into(form, changed, place, value)
    return bytes(changed) + SIGNER.sign(bytes(changed))


@pytest.mark.parametrize(
    ("place", "form", "value", "says"),
    [
        (0, "<B", 1, "not a nightvault pack"),
        (8, "<H", 2, "format 2"),
        (8, "<H", 0, "never was"),
        (10, "<H", 1, "never was"),
        (12, "<I", 0, "claims a header"),
        (12, "<I", 65537, "claims a header"),
        (12, "<I", 2**32 - 1, "claims a header"),
        (12, "<I", 1500, "does not fit"),
        (16, "<I", 4, "features"),
        (24, "<B", 3, "kind"),
        (25, "<B", 3, "kind"),
        (25, "<B", 0, "kind"),
        (24, "<B", 1, "no generation"),
        (26, "<H", 0, "out of range"),
        (26, "<H", 51, "out of range"),
        (26, "<H", 2, "does not fit"),
        (28, "<H", 51, "out of range"),
        (28, "<H", 50, "does not fit"),
        (28, "<H", 2, "does not fit"),
        (30, "<H", 1, "out of range"),
        (112, "<Q", 2**63, "out of range"),
    ],
)
def test_numbers_out_of_range_are_refused(
    catalog_header: bytes, place: int, form: str, value: int, says: str
) -> None:
    with pytest.raises(FormatError, match=says):
        pack.parse_header(patched(catalog_header, place, form, value) + bytes(200))


@pytest.mark.parametrize(("place", "form"), [(25, "<B"), (28, "<H")])
def test_a_data_pack_with_only_one_of_generation_and_enrolments_is_refused(
    header: bytes, place: int, form: str
) -> None:
    with pytest.raises(FormatError, match="no generation and no enrolments"):
        pack.parse_header(patched(header, place, form, 1))


@pytest.mark.parametrize("known", [0, 2])
def test_a_header_with_unknown_features_is_verified_all_the_same(catalog_header: bytes, known: int) -> None:
    """So that a rebuild can tell a later version's catalog from junk."""
    later = patched(catalog_header, 16, "<I", 2**31 + known)
    with pytest.raises(NewerFormatError, match="0x80000000"):
        pack.parse_header(later)
    read = pack.read_header(later)
    assert read.unknown_features == 2**31
    pack.verify_header(read, SIGNER.public)
    assert pack.is_enrolled(read, KEY)
    forged = pack.read_header(later[:-64] + bytes(64))
    with pytest.raises(FormatError, match="signature"):
        pack.verify_header(forged, SIGNER.public)


def test_what_is_newer_and_cannot_be_read_is_newer(catalog_header: bytes) -> None:
    for later in (
        patched(catalog_header, 8, "<H", 2),
        patched(patched(catalog_header, 16, "<I", 4), 24, "<B", 3),
        patched(patched(catalog_header, 16, "<I", 4), 26, "<H", 2),
    ):
        for read in (pack.parse_header, pack.read_header):
            with pytest.raises(NewerFormatError):
                read(later)


def test_optional_features_are_ignored(header: bytes) -> None:
    pack.verify_header(pack.parse_header(patched(header, 20, "<I", 2**31)), SIGNER.public)


def test_a_recipient_named_twice_is_refused() -> None:
    stanza = pack.seal_stanzas(data_fields(), PACK_KEY, [KEY.recipient])[0]
    raw = pack.seal_header(
        data_fields(), pack_key=PACK_KEY, recipients=[KEY.recipient, OTHER.recipient], signer=SIGNER
    )
    twice = raw[:96] + (stanza.recipient_id + stanza.sealed) * 2 + raw[96 + 2 * 1184 :]
    with pytest.raises(FormatError, match="twice"):
        pack.parse_header(twice)


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_in_our_words(data: bytes) -> None:
    prefix = headers.MAGIC + b"\x01\x00\x00\x00" + len(data).to_bytes(4, "little")
    for candidate in (data, prefix + data, prefix + data + bytes(16)):
        with pytest.raises(FormatError):
            pack.verify_header(pack.parse_header(candidate), SIGNER.public)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=6))
def test_mutations_never_raise_anything_else(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(pack.assemble_header(catalog_fields(), STANZAS, pack_key=PACK_KEY, signer=SIGNER))
    original = bytes(raw)
    for place, value in changes:
        raw[place] = value
    try:
        pack.verify_header(pack.parse_header(bytes(raw)), SIGNER.public)
    except FormatError:
        assert bytes(raw) != original
    else:
        assert bytes(raw) == original


STANZAS = pack.seal_stanzas(catalog_fields(), PACK_KEY, [KEY.recipient])
