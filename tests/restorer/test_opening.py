"""Frames are opened ahead, come out in order, and what ends them early comes after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backup.errors import DeniedError, IntegrityError
from backup.format.frame import FrameCodec
from backup.format.pack import PackKeys, derive_keys
from backup.model import FrameRow, PackId
from backup.restorer.frame_opener import OpenedArchive, Opener

PACK = PackId(b"p" * 16)


def frames(count: int, keys: PackKeys) -> Iterator[tuple[FrameRow, bytes | None]]:
    codec = FrameCodec()
    for number in range(count):
        made = codec.seal(keys.frame_key, PACK, number, [b"%d" % number * 100])
        yield made.row(0), bytes(made.data)


@pytest.fixture
def keys() -> PackKeys:
    return derive_keys(b"k" * 32, b"header")


@pytest.mark.parametrize("threads", [1, 2, 5, 9])
def test_each_comes_in_order(keys: PackKeys, threads: int) -> None:
    with Opener(threads) as opener:
        opened = opener.opened(OpenedArchive(PACK, keys), frames(5, keys))
        came = [(row.number, future.result().data) for row, future in opened]
    assert came == [(number, b"%d" % number * 100) for number in range(5)]


def test_what_does_not_open_harms_no_other(keys: PackKeys) -> None:
    (first, sealed), (second, _), (third, right) = frames(3, keys)
    some = [(first, b"x" + (sealed or b"")[1:]), (second, None), (third, right)]
    with Opener() as opener:
        opened = [future for _, future in opener.opened(OpenedArchive(PACK, keys), some)]
        for future, why in zip(opened, ("cannot be opened", "came back damaged"), strict=False):
            with pytest.raises(IntegrityError, match=why):
                future.result()
        assert opened[2].result().data == b"2" * 100


@pytest.mark.parametrize("threads", [1, 4])
def test_an_early_end_comes_after_what_arrived(keys: PackKeys, threads: int) -> None:
    def breaking() -> Iterator[tuple[FrameRow, bytes | None]]:
        yield from frames(2, keys)
        raise DeniedError("no")

    with Opener(threads) as opener:
        opened = opener.opened(OpenedArchive(PACK, keys), breaking())
        assert [next(opened)[0].number, next(opened)[0].number] == [0, 1]
        with pytest.raises(DeniedError):
            next(opened)
