"""What hangs on an inode is read whole, or what of it could not be read is told; the content goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backup.format.acl import ACCESS, NAMED_GROUP, NAMED_USER, IdName, Line, build
from backup.model import Extra
from backup.source import attributes as reading
from backup.source.attributes import NONE, Attributes, extra_of, read_attributes, user_name

Xattrs = dict[bytes, bytes | int]  # a number: the error with which it cannot be had


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").touch()
    handle = os.open(tmp_path / "file", os.O_RDONLY)
    yield handle
    os.close(handle)


@pytest.fixture
def have(monkeypatch: pytest.MonkeyPatch) -> Callable[[Xattrs], None]:
    """Let every inode have these xattrs."""

    def give(xattrs: Xattrs) -> None:
        def get(_: object, name: bytes) -> bytes:
            value = xattrs[name]
            if isinstance(value, int):
                raise OSError(value, os.strerror(value))
            return value

        monkeypatch.setattr(os, "listxattr", lambda _: [os.fsdecode(name) for name in xattrs])
        monkeypatch.setattr(os, "getxattr", get)
        monkeypatch.setattr(reading, "read_flags", lambda _: 0)

    return give


def fails(number: int) -> Callable[..., object]:
    def fail(*_: object) -> object:
        raise OSError(number, os.strerror(number))

    return fail


def test_nothing_costs_nothing(opened: int, have: Callable[[Xattrs], None]) -> None:
    have({})
    assert read_attributes(opened) is NONE
    assert extra_of(NONE) is None


def test_xattrs_come_in_the_order_of_names_without_what_is_true_nowhere_else(
    opened: int, have: Callable[[Xattrs], None]
) -> None:
    have({b"user.z": b"1", b"user.\xff": b"", b"security.evm": b"seal", b"user.a": b"\0"})
    found = read_attributes(opened)
    assert found.xattrs == ((b"user.a", b"\0"), (b"user.z", b"1"), (b"user.\xff", b""))
    assert found.trouble == ""


@pytest.mark.parametrize("gone", [errno.ENODATA, errno.EOPNOTSUPP])
def test_one_that_goes_meanwhile_is_no_trouble(
    opened: int, have: Callable[[Xattrs], None], gone: int
) -> None:
    have({b"user.a": b"1", b"user.gone": gone})
    assert read_attributes(opened) == Attributes(xattrs=((b"user.a", b"1"),))


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.ENOMEM])
def test_what_cannot_be_read_is_told(opened: int, have: Callable[[Xattrs], None], number: int) -> None:
    have({b"user.a": number})
    found = read_attributes(opened)
    assert found.xattrs == ()
    assert found.trouble == f"extended attributes: {os.strerror(number)}"


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_xattrs_has_none(
    opened: int, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "listxattr", fails(number))
    monkeypatch.setattr(reading, "read_flags", lambda _: None)
    assert read_attributes(opened) is NONE


def test_both_that_fail_are_told(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", fails(errno.EIO))
    monkeypatch.setattr(reading, "read_flags", fails(errno.EIO))
    words = os.strerror(errno.EIO)
    assert read_attributes(opened).trouble == f"extended attributes: {words}; flags: {words}"


def test_only_flags_that_can_be_set_again_are_kept(opened: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _: [])
    monkeypatch.setattr(reading, "read_flags", lambda _: 0x80000 | 0x40)  # extents, no dump
    assert read_attributes(opened).flags == 0x40


def test_names_of_an_acl_s_people_are_kept(opened: int, have: Callable[[Xattrs], None]) -> None:
    lines = [Line(NAMED_USER, 7, 0), Line(NAMED_USER, 7, 4_000_000_000), Line(NAMED_GROUP, 5, 0)]
    have({ACCESS: build(lines), b"user.a": build(lines)})
    assert read_attributes(opened).acl_names == (
        IdName(NAMED_USER, 0, user_name(0)),
        IdName(NAMED_GROUP, 0, reading.group_name(0)),
    )


def test_a_handle_that_opens_nothing_is_asked_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    handle = os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW)
    try:
        assert read_attributes(handle, opens_nothing=True) is NONE
    finally:
        os.close(handle)


def test_extra_has_what_is_not_in_columns() -> None:
    found = Attributes(xattrs=((b"user.a", b"1"),), flags=0x40, trouble="not an entry's")
    assert extra_of(found, link=9) == Extra(b"", 0, 9, 0x40, ((b"user.a", b"1"),))
    assert extra_of(NONE, target=b"t") == Extra(b"t")
    assert extra_of(NONE, device=5) == Extra(b"", 5)
