"""Rewrite one profile of the AWS credentials file, leaving every other byte unchanged; pure."""

from __future__ import annotations

import re
from datetime import UTC
from itertools import pairwise

from backup.errors import UsageError
from backup.model import Credentials

_SECTION = re.compile(rb"[ \t]*\[(?P<name>[^\]\r\n]*)\]")
_KEY = re.compile(rb"(?P<name>[A-Za-z0-9_]+)[ \t]*[=:]", re.IGNORECASE)
_NAME = re.compile(r"[^\]\[\r\n\x00]+")
_EXPIRY = b"aws_expiration"  # what saml2aws and others write; SDKs pass it over


def with_profile(data: bytes, profile: str, credentials: Credentials) -> bytes:
    """The file's text with the keys of `profile` replaced, or with the profile appended.

    Line ends, comments, blanks, other keys of the same profile and all other profiles are kept byte for byte.
    `UsageError` for a name that no profile can have.
    """
    if not _NAME.fullmatch(profile) or profile != profile.strip():
        raise UsageError(f"--profile: {profile!r} cannot be a profile's name")
    lines = data.splitlines(keepends=True)
    ending = b"\r\n" if lines and lines[0].endswith(b"\r\n") else b"\n"
    wanted = _wanted(credentials)
    place = _place(lines, profile.encode())
    if place is None:
        gap = _gap(data, ending)
        block = [b"[" + profile.encode() + b"]", *(name + b" = " + value for name, value in wanted.items())]
        return data + gap + b"".join(line + ending for line in block)
    start, end = place
    if not lines[start - 1].endswith((b"\n", b"\r")):  # a heading that ends the file
        lines[start - 1] += ending
    return b"".join([*lines[:start], *_renewed(lines[start:end], wanted, ending), *lines[end:]])


def _wanted(credentials: Credentials) -> dict[bytes, bytes]:
    found = {
        b"aws_access_key_id": credentials.access_key_id.encode(),
        b"aws_secret_access_key": credentials.secret_access_key.encode(),
        b"aws_session_token": (credentials.session_token or "").encode(),
    }
    if credentials.expires_at is not None:
        found[_EXPIRY] = credentials.expires_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return found


def _place(lines: list[bytes], profile: bytes) -> tuple[int, int] | None:
    """The line range of a profile: after its heading, up to the next heading."""
    headings = [(n, match["name"].strip()) for n, line in enumerate(lines) if (match := _SECTION.match(line))]
    for (number, name), (following, _) in pairwise([*headings, (len(lines), b"")]):
        if name == profile:
            return number + 1, following
    return None


def _renewed(lines: list[bytes], wanted: dict[bytes, bytes], ending: bytes) -> list[bytes]:
    """The section's lines with new keys: present ones replaced in place, missing ones first, duplicates
    dropped."""
    seen: set[bytes] = set()
    kept: list[bytes] = []
    for line in lines:
        match = _KEY.match(line)
        name = match["name"].lower() if match else b""
        if name not in wanted:
            kept.append(line)
        elif name not in seen:
            seen.add(name)
            tail = line[len(line.rstrip(b"\r\n")) :] or ending
            kept.append(name + b" = " + wanted[name] + tail)
    return [*(name + b" = " + value + ending for name, value in wanted.items() if name not in seen), *kept]


def _gap(data: bytes, ending: bytes) -> bytes:
    """The separator before a new profile: one empty line."""
    if not data:
        return b""
    return ending if data.endswith((b"\n", b"\r")) else ending * 2
