"""Keys seal, open, sign, name and derive as promised, and refuse what is not theirs."""

from __future__ import annotations

import base64
import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import FormatError, RecoveryKeyError
from backup.format import keys
from backup.format.keys import ChunkSecret, Recipient, RecoveryKey, Signer
from backup.format.text import to_token
from backup.model import InventoryId

SEEDS = st.binary(min_size=32, max_size=32)


@settings(max_examples=30)
@given(SEEDS, st.binary(max_size=300), st.binary(max_size=50))
def test_what_is_sealed_opens_with_its_key_and_info_alone(seed: bytes, plain: bytes, info: bytes) -> None:
    key = RecoveryKey.from_seed(seed)
    sealed = key.recipient.seal(plain, info)
    assert len(sealed) == len(plain) + keys.SEAL_OVERHEAD
    assert key.unseal(sealed, info) == plain
    other = RecoveryKey(hashlib.sha256(seed).digest())
    for wrong_key, wrong_info in ((key, info + b"x"), (other, info)):
        with pytest.raises(RecoveryKeyError):
            wrong_key.unseal(sealed, wrong_info)


def test_no_bit_of_what_is_sealed_may_change() -> None:
    key = RecoveryKey(bytes(32))
    sealed = key.recipient.seal(b"secret", b"info")
    for place in range(len(sealed)):
        changed = sealed[:place] + bytes([sealed[place] ^ 128]) + sealed[place + 1 :]
        if place == 1119:
            continue  # the top bit of an X25519 point is ignored (RFC 7748) but hashed: see below
        with pytest.raises(RecoveryKeyError):
            key.unseal(changed, b"info")
    changed = sealed[:1119] + bytes([sealed[1119] ^ 128]) + sealed[1120:]
    with pytest.raises(RecoveryKeyError):
        key.unseal(changed, b"info")


@given(st.binary(max_size=1300))
def test_other_bytes_do_not_open(data: bytes) -> None:
    with pytest.raises(RecoveryKeyError):
        RecoveryKey(bytes(32)).unseal(data, b"")


@settings(max_examples=20)
@given(SEEDS)
def test_both_halves_come_back_from_text(seed: bytes) -> None:
    key = RecoveryKey(seed)
    assert RecoveryKey.from_text(key.to_text()) == key
    text = key.recipient.to_text()
    assert text.startswith("nvr1")
    assert len(text) == 1955
    assert Recipient.from_text(text) == key.recipient
    assert len(key.recipient.id) == 16


def test_secrets_are_not_shown() -> None:
    for secret in (RecoveryKey(b"\x07" * 32), ChunkSecret(b"\x07" * 32), Signer(b"\x07" * 32)):
        assert "x07" not in repr(secret)


@pytest.mark.parametrize("text", ["", "NVK1", "nvr1", "NVK1-0000-0000", "nvr1abc", "hello", "\x00" * 9])
def test_other_text_is_no_key(text: str) -> None:
    with pytest.raises(RecoveryKeyError, match="not a recovery key"):
        RecoveryKey.from_text(text)
    with pytest.raises(FormatError, match="not a recipient"):
        Recipient.from_text(text)


def test_a_recipient_that_is_no_point_is_refused() -> None:
    # Coefficients of an ML-KEM key must lie below 3,329: FIPS 203's check of the encapsulation key.
    text = to_token("nvr1", b"\xff" * keys.RECIPIENT_SIZE)
    with pytest.raises(FormatError, match="valid public key"):
        Recipient.from_text(text)


def test_sizes_are_checked() -> None:
    with pytest.raises(RecoveryKeyError):
        RecoveryKey(b"short")
    for make in (Recipient, ChunkSecret, Signer):
        with pytest.raises(FormatError):
            make(b"short")


def test_key_files_are_recognised() -> None:
    key = RecoveryKey(bytes(range(32)))
    plain = keys.plain_key_file(key)
    assert keys.parse_key_file(plain) == key
    assert keys.parse_key_file(plain.replace(b"\n", b"\r\n"), lambda: pytest.fail("asked")) == key
    assert keys.parse_key_file(b"\xef\xbb\xbf" + key.to_text().lower().encode()) == key
    protected = keys.protect(key, b"pass", salt=bytes(16), nonce=bytes(12), passes=1, memory_kib=64)
    assert keys.is_protected(protected)
    assert not keys.is_protected(plain)
    assert keys.parse_key_file(protected, lambda: b"pass") == key
    with pytest.raises(RecoveryKeyError, match="passphrase"):
        keys.parse_key_file(protected)


@pytest.mark.usefixtures("real_passwords")
def test_a_passphrase_is_stretched_by_three_passes_over_256_mib() -> None:
    key = RecoveryKey(bytes(range(32)))
    protected = keys.protect(key, b"pass", salt=bytes(16), nonce=bytes(12))
    raw = base64.b64decode(b"".join(protected.splitlines()[1:-1]))
    assert struct.unpack_from("<II", raw, 8) == (3, 256 * 1024)


@given(st.binary(max_size=300))
def test_other_files_are_no_key_files(data: bytes) -> None:
    with pytest.raises(RecoveryKeyError):
        keys.parse_key_file(data, lambda: b"")


def test_a_huge_file_is_no_key_file() -> None:
    with pytest.raises(RecoveryKeyError, match="too large"):
        keys.parse_key_file(b"#" * 2**20)


@given(SEEDS)
def test_a_chunk_secret_gives_keys_that_differ(seed: bytes) -> None:
    secret = ChunkSecret(seed)
    assert 0 < secret.chunker_seed < 2**63
    assert len({secret.chunk_key, secret.content_key, seed}) == 3
    assert len(secret.fingerprint) == 16


@given(SEEDS, st.binary(max_size=100))
def test_a_signature_is_the_signers_over_these_bytes(seed: bytes, data: bytes) -> None:
    signer = Signer(seed)
    signature = signer.sign(data)
    keys.verify(signer.public, signature, data)
    assert signer.fingerprint == hashlib.sha256(signer.public).digest()[:16]
    stranger = Signer(hashlib.sha256(seed).digest())
    for public, sig, body in (
        (stranger.public, signature, data),
        (signer.public, stranger.sign(data), data),
        (signer.public, signature, data + b"x"),
        (signer.public, signature[:-1], data),
        (b"short", signature, data),
    ):
        with pytest.raises(FormatError, match="signature"):
            keys.verify(public, sig, body)


def test_an_enrolment_is_for_one_inventory_and_signer() -> None:
    key, inventory_id, signer = RecoveryKey(bytes(32)), InventoryId(b"i" * 16), Signer(bytes(32))
    tag = key.enrolment_tag(inventory_id, signer.public)
    assert len(tag) == 32
    others = (
        RecoveryKey(b"o" * 32).enrolment_tag(inventory_id, signer.public),
        key.enrolment_tag(InventoryId(b"j" * 16), signer.public),
        key.enrolment_tag(inventory_id, Signer(b"o" * 32).public),
    )
    assert tag not in others


def test_a_domain_is_a_vault_a_set_of_recipients_and_a_secret() -> None:
    one, two = RecoveryKey(bytes(32)).recipient, RecoveryKey(b"2" * 32).recipient
    secret = ChunkSecret(bytes(32))
    domain = keys.domain_id("cold", [one, two], secret)
    assert len(domain) == 16
    assert domain == keys.domain_id("cold", [two, one, two], secret)
    others = (
        keys.domain_id("cold", [one], secret),
        keys.domain_id("cole", [one, two], secret),
        keys.domain_id("cold", [one, two], ChunkSecret(b"2" * 32)),
    )
    assert domain not in others
