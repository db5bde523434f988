"""HPKE and X-Wing as docs/format.md writes them out, done by hand, open what the library sealed."""

from __future__ import annotations

import hashlib
import hmac
import json
import os

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backup.format.keys import ChunkSecret, RecoveryKey, derive

SUITE_ID = b"HPKE" + bytes.fromhex("647a00010002")
XWING_LABEL = rb"\.//^" + b"\\"


def extract(salt: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(key: bytes, info: bytes, length: int) -> bytes:
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(key, block + info + bytes([counter]), "sha256")
        out += block
        counter += 1
    return out[:length]


def labeled_extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return extract(salt, b"HPKE-v1" + SUITE_ID + label + ikm)


def labeled_expand(key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return expand(key, length.to_bytes(2, "big") + b"HPKE-v1" + SUITE_ID + label + info, length)


def decapsulate(seed: bytes, enc: bytes) -> bytes:
    expanded = hashlib.shake_256(seed).digest(96)
    mlkem = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
    x25519 = X25519PrivateKey.from_private_bytes(expanded[64:])
    ct_m, ct_x = enc[:1088], enc[1088:]
    ss_m = mlkem.decapsulate(ct_m)
    ss_x = x25519.exchange(X25519PublicKey.from_public_bytes(ct_x))
    pk_x = x25519.public_key().public_bytes_raw()
    return hashlib.sha3_256(ss_m + ss_x + ct_x + pk_x + XWING_LABEL).digest()


def open_by_hand(seed: bytes, sealed: bytes, info: bytes) -> bytes:
    shared = decapsulate(seed, sealed[:1120])
    context = b"\x00" + labeled_extract(b"", b"psk_id_hash", b"") + labeled_extract(b"", b"info_hash", info)
    secret = labeled_extract(shared, b"secret", b"")
    key = labeled_expand(secret, b"key", context, 32)
    nonce = labeled_expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).decrypt(nonce, sealed[1120:], b"")


def test_xwing_as_its_authors_have_it() -> None:
    folder = os.path.join(os.path.dirname(__file__), "..", "vectors", "format")
    with open(os.path.join(folder, "xwing.json"), encoding="ascii") as file:
        vector = json.load(file)
    seed = bytes.fromhex(vector["seed"])
    assert RecoveryKey(seed).recipient.public.hex().startswith(vector["public_begins"])
    assert decapsulate(seed, bytes.fromhex(vector["ciphertext"])).hex() == vector["shared_secret"]


@pytest.mark.parametrize("info", [b"", b"some info", bytes(500)])
def test_a_stanza_of_the_library_opens_by_hand(info: bytes) -> None:
    seed, secret = os.urandom(32), os.urandom(32)
    sealed = RecoveryKey(seed).recipient.seal(secret, info)
    assert len(sealed) == 1168
    assert open_by_hand(seed, sealed, info) == secret
    with pytest.raises(InvalidTag):
        open_by_hand(seed, sealed, info + b"x")


def test_keys_are_derived_as_written() -> None:
    secret, salt = bytes(range(32)), b"s" * 32
    assert derive(secret, "frame key", salt=salt) == expand(
        extract(salt, secret), b"nightvault 1 frame key", 32
    )
    chunk_secret = ChunkSecret(secret)
    prk = extract(b"", secret)
    assert chunk_secret.chunk_key == expand(prk, b"nightvault 1 chunk id", 32)
    assert chunk_secret.content_key == expand(prk, b"nightvault 1 content id", 32)
    assert chunk_secret.fingerprint == expand(prk, b"nightvault 1 chunk secret fingerprint", 16)
    seed = int.from_bytes(expand(prk, b"nightvault 1 chunker seed", 8), "little")
    assert chunk_secret.chunker_seed == seed & (2**63 - 1)


def test_an_enrolment_tag_is_made_as_written() -> None:
    seed, inventory_id, public = bytes(range(32)), b"i" * 16, b"p" * 32
    key = expand(extract(b"", seed), b"nightvault 1 enrol", 32)
    expected = hmac.digest(key, inventory_id + public, "sha256")
    assert RecoveryKey(seed).enrolment_tag(inventory_id, public) == expected  # type: ignore[arg-type]
