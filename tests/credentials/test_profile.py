"""One profile of a credentials file is rewritten; whatever else is in it stays byte for byte."""

from __future__ import annotations

import configparser
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.credentials.serving.profile import with_profile
from backup.errors import UsageError
from backup.model import Credentials

KEYS = Credentials("ASIAONE", "secret/one", "token+one", datetime(2026, 3, 1, 3, 0, tzinfo=UTC))
BLOCK = (
    b"aws_access_key_id = ASIAONE\naws_secret_access_key = secret/one\naws_session_token = token+one\n"
    b"aws_expiration = 2026-03-01T03:00:00Z\n"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b"[web]\n" + BLOCK),
        (b"[a]\nregion = x", b"[a]\nregion = x\n\n[web]\n" + BLOCK),
        (b"# hi\n[web]\n", b"# hi\n[web]\n" + BLOCK),
        (b"[web]\nregion = x", b"[web]\n" + BLOCK + b"region = x"),
        (b"[ web ]\n# c\n\n[b]\nk=v\n", b"[ web ]\n" + BLOCK + b"# c\n\n[b]\nk=v\n"),
        (
            b"[web]\naws_session_token=old\nregion=x\naws_access_key_id=a\n[b]\naws_access_key_id=b\n",
            b"\n".join(
                [
                    b"[web]",
                    b"aws_secret_access_key = secret/one",
                    b"aws_expiration = 2026-03-01T03:00:00Z",
                    b"aws_session_token = token+one",
                    b"region=x",
                    b"aws_access_key_id = ASIAONE",
                    b"[b]",
                    b"aws_access_key_id=b",
                    b"",
                ]
            ),
        ),
        (b"[web]\r\nx=1\r\n", b"[web]\r\n" + BLOCK.replace(b"\n", b"\r\n") + b"x=1\r\n"),
        (b"[website]\nx=1\n", b"[website]\nx=1\n\n[web]\n" + BLOCK),
    ],
)  # fmt: skip
def test_layouts(before: bytes, after: bytes) -> None:
    assert with_profile(before, "web", KEYS) == after


NAMES = st.text("abcxyz-_.", min_size=1, max_size=8)
LINES = st.one_of(
    st.just(b""),
    st.builds(lambda a: b"# " + a.encode(), NAMES),
    st.builds(lambda a, b: f"{a} = {b}".encode(), NAMES, NAMES),
    st.builds(lambda a: f"aws_access_key_id = {a}".encode(), NAMES),
    st.builds(lambda a: f"[{a}]".encode(), NAMES),
)


@settings(max_examples=40)
@given(lines=st.lists(LINES), name=NAMES, last=st.booleans())
def test_other_profiles_stay_and_a_second_writing_changes_nothing(
    lines: list[bytes], name: str, last: bool
) -> None:
    before = b"\n".join(lines) + (b"\n" if last else b"")
    after = with_profile(before, name, KEYS)
    assert with_profile(after, name, KEYS) == after
    ours = {*BLOCK.splitlines()}
    heading = f"[{name}]".encode()
    kept = [line for line in after.splitlines() if line not in ours and line != heading]
    left = iter(kept)
    wanted = [line for line in others(before, heading) if line]
    assert all(line in left for line in wanted), "in their order"


def others(data: bytes, heading: bytes) -> list[bytes]:
    """The lines that are not our profile's heading or keys."""
    found, inside, done = [], False, False
    for line in data.splitlines():
        if line.startswith(b"["):
            inside, done = line == heading and not done, done or line == heading
        if line != heading and not (inside and line.startswith(b"aws_access_key_id")):
            found.append(line)
    return found


def test_what_is_written_is_what_the_tools_read() -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(with_profile(b"[x]\na = 1\n", "web", KEYS).decode())
    assert parser["web"]["aws_session_token"] == "token+one"
    assert parser["x"]["a"] == "1"


@pytest.mark.parametrize("name", ["", " a", "a]", "a\nb", "[", "a\x00"])
def test_names_that_no_profile_has(name: str) -> None:
    with pytest.raises(UsageError, match="--profile"):
        with_profile(b"", name, KEYS)
