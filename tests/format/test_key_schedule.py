"""HPKE and X-Wing as docs/format.md writes them out, done by hand, open what the library sealed."""

from __future__ import annotations

import hmac
import json
import os

import pytest
from cryptography.exceptions import InvalidTag

from backup.format.keys import ChunkSecret, RecoveryKey, derive
from tests.format.hpke_by_hand import decapsulate, expand, extract, open_by_hand


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
