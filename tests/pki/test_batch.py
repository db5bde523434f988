"""A list of servers: each gets its own pair; one bad line, and nothing is made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.errors import UsageError
from backup.pki.batch import read_batch
from backup.pki.subjects import Subject


def test_lines_with_names_units_and_dns_names() -> None:
    text = '# our servers\n\nweb1\nweb2,Web\n db1 , Databases , db1.example, db1.example.net\n"a b",,\n'
    assert read_batch(text, organization="Example", unit="Backup") == [
        Subject("web1", "Example", "Backup", []),
        Subject("web2", "Example", "Web", []),
        Subject("db1", "Example", "Databases", ["db1.example", "db1.example.net"]),
        Subject("a b", "Example", "Backup", []),
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "names no server"),
        ("# none\n", "names no server"),
        ("web1\nweb1\n", "line 2: 'web1' would have the same files as 'web1'"),
        ("a b\na_b", "line 2: 'a_b' would have the same files"),
        ("WEB1\nweb1", "line 2"),
        ("web1\n,Unit\n", "line 2: the name '' must have 1 to 64 bytes"),
        ("web1\na/b\n", "line 2: the name 'a/b' has a slash"),
        ("web1,Unit*", "line 1: the unit 'Unit\\*' has characters"),
        ('"web1', "line 1 is no list of values"),
        ("web1,U,zürich.example", "line 1: zürich.example is not a DNS name"),
    ],
)
def test_a_bad_line_is_named(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_batch(text, organization=None, unit=None)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        subjects = read_batch(text, organization=None, unit=None)
    except UsageError:
        return
    names = [subject.common_name for subject in subjects]
    assert len(set(names)) == len(names)
    assert not any(set(name) & set("/*?$\n\t\x00") for name in names)
