"""Recovery lines come back from mails and typewriters, and notice what is not as it was printed."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import UsageError
from backup.format.line import CatalogAddress, RecoveryLine, find_lines
from backup.model import ArchiveId, InventoryId, JobName, VaultName

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=150).map(ArchiveId)
ADDRESSES = st.builds(CatalogAddress, IDS, st.integers(0, 2**62))
LINES = st.builds(
    RecoveryLine,
    st.text(string.ascii_letters + "._-", min_size=1).map(VaultName),
    st.text(string.ascii_letters + "._-", min_size=1).map(JobName),
    st.binary(min_size=16, max_size=16).map(InventoryId),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**62),
    st.binary(min_size=32, max_size=32),
    ADDRESSES,
    st.none() | ADDRESSES,
)
ONE = RecoveryLine(
    VaultName("cold"),
    JobName("docs"),
    InventoryId(bytes(range(16))),
    bytes(range(16, 32)),
    17,
    bytes(32),
    CatalogAddress(ArchiveId("delta-id"), 65536),
    CatalogAddress(ArchiveId("full/id"), 131072),
)


@given(LINES)
def test_lines_come_back(line: RecoveryLine) -> None:
    text = line.to_text()
    assert text.isascii()
    assert not set(text) & set(string.whitespace)
    assert RecoveryLine.from_text(text) == line


def test_the_line_by_example() -> None:
    assert ONE.to_text() == (
        "NVL1,cold,docs,000102030405060708090a0b0c0d0e0f,101112131415161718191a1b1c1d1e1f,17,"
        + "00" * 32
        + ",delta-id,65536,full/id,131072,a2574c63"
    )


@given(LINES, st.data())
def test_every_wrong_character_is_noticed(line: RecoveryLine, data: st.DataObject) -> None:
    text = line.to_text()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + ",-_"))
    if text[place].lower() != other.lower():
        with pytest.raises(UsageError):
            RecoveryLine.from_text(text[:place] + other + text[place + 1 :])


@given(LINES, st.integers(3, 80))
def test_a_mail_may_break_it(line: RecoveryLine, width: int) -> None:
    text = line.to_text()
    broken = "\r\n  ".join(text[start : start + width] for start in range(0, len(text), width))
    assert RecoveryLine.from_text(broken) == line


@given(st.lists(LINES, max_size=4))
def test_a_file_holds_several(lines: list[RecoveryLine]) -> None:
    text = "# recovery lines, NVL1,\n" + "\n".join(line.to_text() for line in lines) + "\n"
    assert [RecoveryLine.from_text(line) for line in find_lines(text)] == lines


def test_what_is_no_line() -> None:
    for text in ("", "NVL1", "NVK1-0000", ONE.to_text()[5:], ONE.to_text() + ",", "NVL1," * 12):
        with pytest.raises(UsageError):
            RecoveryLine.from_text(text)
    assert list(find_lines("nothing here")) == []
