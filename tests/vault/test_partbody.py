"""A part's body reads like any file, and only ours hands its hash over."""

from __future__ import annotations

import io
import os
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backup.vault.partbody import PartBody, _hand_over

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-1, 40))),
        st.tuples(st.just("seek"), st.integers(0, 40)),
        st.tuples(st.just("tell"), st.none()),
    ),
    max_size=12,
)


@given(st.binary(max_size=30), OPERATIONS)
def test_it_reads_like_a_file(data: bytes, operations: list[tuple[str, int | None]]) -> None:
    body, real = PartBody(memoryview(data), b""), io.BytesIO(data)
    assert len(body) == len(data)
    for name, value in operations:
        if name == "read":
            assert bytes(body.read(value)) == real.read(value)
        elif name == "seek":
            body.seek(value or 0)
            real.seek(min(value or 0, len(data)))
        else:
            assert body.tell() == real.tell()


def test_it_can_be_measured_from_its_end() -> None:
    body = PartBody(memoryview(b"abcdef"), b"")
    assert body.seek(0, os.SEEK_END) == 6
    assert body.seek(-2, os.SEEK_CUR) == 4
    assert bytes(body.read()) == b"ef"


def test_reading_copies_nothing() -> None:
    data = bytearray(b"before")
    piece = PartBody(memoryview(data), b"").read(6)
    data[:] = b"after!"
    assert bytes(piece) == b"after!"


def test_only_our_bodies_hand_over_a_hash() -> None:
    def headers_for(body: object) -> Any:
        params: dict[str, Any] = {"body": body, "headers": {}}
        _hand_over(params, model=None)
        return params["headers"]

    assert headers_for(PartBody(memoryview(b""), b"\xab\xcd")) == {"x-amz-content-sha256": "abcd"}
    assert headers_for(b"bytes") == {}
