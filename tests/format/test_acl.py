"""POSIX ACLs: the kernel's bytes and back, other numbers for people, and a mode that grants no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import FormatError
from backup.format.acl import NAMED_GROUP, NAMED_USER, Line, build, mode_without, named_ids, parse, renumbered

TAGS = (0x01, NAMED_USER, 0x04, NAMED_GROUP, 0x10, 0x20)  # owner, user, group, group by name, mask, others
NOBODY = 0xFFFFFFFF
LINES = st.lists(
    st.builds(Line, st.sampled_from(TAGS), st.integers(0, 7), st.integers(0, NOBODY)), max_size=8
)
VALUE = bytes.fromhex(
    "02000000"  # version 2
    "01000600ffffffff"  # user::rw-
    "02000500e8030000"  # user:1000:r-x
    "04000400ffffffff"  # group::r--
    "10000700ffffffff"  # mask::rwx
    "20000000ffffffff"  # other::---
)


def test_bytes_written_by_hand() -> None:
    lines = [
        Line(0x01, 6, NOBODY),
        Line(NAMED_USER, 5, 1000),
        Line(0x04, 4, NOBODY),
        Line(0x10, 7, NOBODY),
        Line(0x20, 0, NOBODY),
    ]
    assert parse(VALUE) == lines
    assert build(lines) == VALUE
    assert named_ids(VALUE) == {(NAMED_USER, 1000)}


@given(LINES)
def test_what_is_built_is_parsed(lines: list[Line]) -> None:
    assert parse(build(lines)) == lines
    assert named_ids(build(lines)) == {
        (line.tag, line.id) for line in lines if line.tag in {NAMED_USER, NAMED_GROUP}
    }


@given(st.binary(max_size=60))
def test_any_bytes_are_an_acl_or_refused(value: bytes) -> None:
    try:
        lines = parse(value)
    except FormatError:
        assert named_ids(value) == set()
        assert mode_without(value, 0o777) == 0o707
    else:
        assert build(lines) == value


@pytest.mark.parametrize("value", [b"", b"\2\0\0", VALUE[:-1], VALUE + b"\0", b"\1" + VALUE[1:]])
def test_damaged(value: bytes) -> None:
    with pytest.raises(FormatError):
        parse(value)
    with pytest.raises(FormatError):
        renumbered(value, lambda _, number: number)


@given(LINES)
def test_only_names_get_other_numbers(lines: list[Line]) -> None:
    changed = parse(renumbered(build(lines), lambda tag, number: (number + tag) % NOBODY))
    for line, other in zip(lines, changed, strict=True):
        is_named = line.tag in {NAMED_USER, NAMED_GROUP}
        assert other == (line._replace(id=(line.id + line.tag) % NOBODY) if is_named else line)


@given(lines=LINES, mode=st.integers(0, 0o7777))
def test_without_it_a_mode_grants_no_more(lines: list[Line], mode: int) -> None:
    found = mode_without(build(lines), mode)
    assert found & ~mode == 0
    assert found & ~0o070 == mode & ~0o070, "owner, others and special bits stay"
    group = {line.tag: line.rights for line in lines}.get(0x04, 0)
    assert (found & 0o070) >> 3 & ~group == 0, "the group gets what it was granted itself"


def test_the_mask_is_not_lent_to_the_group() -> None:
    assert mode_without(VALUE, 0o670) == 0o640
