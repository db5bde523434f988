"""A secret under a passphrase opens with that passphrase alone, and no parameter can hurt the reader."""

from __future__ import annotations

import base64
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import RecoveryKeyError
from backup.format import passphrase
from backup.format.passphrase import BEGIN, END, is_protected, protect_bytes, unprotect_bytes

SECRET = bytes(range(32))
SALT, NONCE = b"s" * 16, b"n" * 12


def protected(word: bytes = b"correct horse", *, passes: int = 1, memory_kib: int = 64) -> bytes:
    return protect_bytes(SECRET, word, salt=SALT, nonce=NONCE, passes=passes, memory_kib=memory_kib)


def raw_of(data: bytes) -> bytes:
    return base64.b64decode(data.removeprefix(BEGIN).split(END)[0])


def armour(raw: bytes) -> bytes:
    return BEGIN + b"\n" + base64.b64encode(raw) + b"\n" + END + b"\n"


@settings(max_examples=20)
@given(st.binary(max_size=40), st.binary(max_size=40))
def test_only_the_passphrase_opens_it(one: bytes, other: bytes) -> None:
    data = protected(one)
    assert is_protected(data)
    assert unprotect_bytes(data, one, 32) == SECRET
    if one != other:
        with pytest.raises(RecoveryKeyError, match="passphrase does not open"):
            unprotect_bytes(data, other, 32)


def test_every_flipped_bit_is_refused() -> None:
    raw = raw_of(protected())
    for place in range(len(raw)):
        if 8 <= place < 16:
            continue  # costs: below
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(RecoveryKeyError):
            unprotect_bytes(armour(changed), b"correct horse", 32)


def test_every_cut_is_refused() -> None:
    raw = raw_of(protected())
    for length in range(len(raw)):
        with pytest.raises(RecoveryKeyError):
            unprotect_bytes(armour(raw[:length]), b"correct horse", 32)
    data = protected()
    for length in range(len(data) - 1):
        with pytest.raises(RecoveryKeyError):
            unprotect_bytes(data[:length], b"correct horse", 32)


@pytest.mark.parametrize(
    ("passes", "memory_kib"),
    [(11, 64), (0, 64), (2**32 - 1, 64), (1, 2**20 + 1), (1, 2**32 - 1), (1, 0), (1, 7)],
)
def test_costs_are_capped_before_anything_is_allocated(passes: int, memory_kib: int) -> None:
    raw = bytearray(raw_of(protected()))
    struct.pack_into("<II", raw, 8, passes, memory_kib)
    began = time.perf_counter()
    with pytest.raises(RecoveryKeyError, match="passes over"):
        unprotect_bytes(armour(bytes(raw)), b"correct horse", 32)
    assert time.perf_counter() - began < 0.5
    with pytest.raises(RecoveryKeyError, match="passes over"):
        protected(passes=passes, memory_kib=memory_kib)


def test_a_machine_without_the_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Starved:
        def __init__(self, **parameters: object) -> None:
            assert parameters["memory_cost"] == 64

        def derive(self, key_material: bytes) -> bytes:
            raise MemoryError("Not enough memory to derive key.")

    data = protected()
    monkeypatch.setattr(passphrase, "Argon2id", Starved)
    with pytest.raises(RecoveryKeyError, match="64 KiB of memory") as caught:
        unprotect_bytes(data, b"correct horse", 32)
    assert isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("place", [4, 5, 6, 7])
def test_another_form_is_refused(place: int) -> None:
    raw = bytearray(raw_of(protected()))
    raw[place] += 1
    with pytest.raises(RecoveryKeyError, match="not known here"):
        unprotect_bytes(armour(bytes(raw)), b"correct horse", 32)


@given(st.binary(max_size=200))
def test_anything_else_is_refused_in_our_words(data: bytes) -> None:
    for candidate in (data, BEGIN + data + END, armour(data)):
        with pytest.raises(RecoveryKeyError):
            unprotect_bytes(candidate, b"", 32)


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(RecoveryKeyError, match="too large"):
        unprotect_bytes(BEGIN + b"A" * 2**20 + END, b"", 32)


def test_salt_and_nonce_have_one_size() -> None:
    for salt, nonce in ((b"short", NONCE), (SALT, b"short")):
        with pytest.raises(RecoveryKeyError, match="salt"):
            protect_bytes(SECRET, b"", salt=salt, nonce=nonce, passes=1, memory_kib=64)


def test_mail_does_no_harm() -> None:
    data = protected().replace(b"\n", b"\r\n")
    assert unprotect_bytes(b"see below\r\n\r\n" + data + b"\r\n-- \r\n", b"correct horse", 32) == SECRET


def test_the_least_and_the_most_that_may_be_asked_for() -> None:
    assert unprotect_bytes(protected(memory_kib=8), b"correct horse", len(SECRET)) == SECRET
    assert unprotect_bytes(protected(passes=10), b"correct horse", len(SECRET)) == SECRET
