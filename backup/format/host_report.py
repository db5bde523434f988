"""A host's report to a center: what changed since the last one, in a chain with numbers; pure.

A chain has a random id; its report 1 has everything, each other the changes since the one before it. A host
that is told that its number was seen, or that one is missing, begins a new chain that names the old one. All
that comes from outside is bounded before it is looked at: `read_report`, `changed_by`.

By HTTPS a report is a request; in a bucket an object below `reports/` with the same signed headers in its
first line. Its name holds the chain, whose id begins with its time there, the number, and a digest:

    reports/<chain>/<number, 16 digits>-<32 hex digits of the report's SHA-256>
    reports/<time, 8 hex digits>-join/<32 hex digits of the request's SHA-256>
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from backup.errors import FormatError, NewerFormatError

VERSION = 1
MOST_BYTES = 1 << 20
"""The largest report; what a host knows is shortened to half of it, so that changes never exceed it."""
MOST_DEPTH = 16
MOST_VALUES = 50_000
PATH, JOIN_PATH = "/v1/reports", "/v1/join"
CERTIFICATE, CHAIN, SIGNATURE = "X-Nightvault-Certificate", "X-Nightvault-Chain", "X-Nightvault-Signature"
"""Headers of a report's request, in base64: the host's certificate, those above it, the signature."""

BUCKET, REPORTS = "s3://", "reports/"
"""The scheme of a center that looks for reports in a bucket, and the prefix of their keys there."""
MOST_OBJECT = MOST_BYTES + (64 << 10)

Document = dict[str, Any]
_Chain = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_Number = Annotated[int, Meta(ge=1, le=1 << 53)]
_Word = Annotated[str, Meta(max_length=100)]
_CUT = "…"
_INVITATION = "nvj1_"
_OBJECT = re.compile(
    rf"{REPORTS}(?:(?P<chain>[0-9a-f]{{32}})/(?P<number>[0-9]{{16}})-|[0-9a-f]{{8}}-join/)[0-9a-f]{{32}}"
)
_LONGEST_LINE = 48 << 10


class HostReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One report. `at` is the host's clock, in seconds since 1970: the center notes its own beside it.

    `before` and `before_number` are the chain that this one follows, and the last number that the host knows
    in it; only the first report of a chain has them.
    """

    version: Annotated[int, Meta(ge=1)] = VERSION
    chain: _Chain
    number: _Number
    at: Annotated[int, Meta(ge=0, le=253_402_214_400)]
    program: _Word
    changes: Document
    before: _Chain | None = None
    before_number: _Number | None = None


class JoinRequest(Struct, frozen=True):
    """A server's request to join a center: the secret of its invitation."""

    secret: Annotated[str, Meta(min_length=40, max_length=100)]


class ReportObject(Struct, frozen=True):
    """An object below `reports/`, by its name: a report of a chain, or without one a server that joins."""

    chain: str | None = None
    number: int = 0


class ListedReport(Struct, frozen=True):
    """An object in a list of a place: its name there, its size in bytes, and the vault's time of it."""

    name: str
    size: int
    at: datetime


class _Headers(Struct, frozen=True):
    """The signed headers of an object."""

    certificate: str
    signature: str
    chain: str = ""


class _Versioned(Struct, frozen=True):
    version: Annotated[int, Meta(ge=1)]


def written_report(report: HostReport) -> bytes:
    """The report as it is signed and sent; the version is always named."""
    document = msgspec.to_builtins(report)
    return msgspec.json.encode({"version": report.version, **document})


def read_report(data: bytes) -> HostReport:
    """Read a report from anybody. `FormatError` says what is wrong; unknown fields are left out."""
    if len(data) > MOST_BYTES:
        raise FormatError(f"a report of more than {MOST_BYTES} bytes")
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version > VERSION:
            raise NewerFormatError(
                f"a report of version {version}: this center knows versions up to {VERSION}"
            )
        report = msgspec.json.decode(data, type=HostReport)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError(f"no report: {str(error)[:200]}") from error
    _check_bounds(report.changes)
    if report.number > 1 and (report.before or report.before_number):
        raise FormatError("no report: only the first one of a chain follows another chain")
    return report


def _check_bounds(document: Any) -> None:
    """Refuse what is nested too deeply, or has too many values; NUL cannot be kept by a database."""
    level, values = [document], 0
    for _ in range(MOST_DEPTH):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
                below += value.keys()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str) and "\0" in value:
                raise FormatError("a report with a NUL in a text")
        values += len(below)
        if values > MOST_VALUES:
            raise FormatError(f"a report of more than {MOST_VALUES} values")
        if not below:
            return
        level = below
    raise FormatError(f"a report that is nested more than {MOST_DEPTH} levels deep")


def changes_between(old: Any, new: Any) -> Document:
    """What makes `new` of `old`: nothing, another value, or changes of what is in a mapping or list."""
    if _same(old, new):
        return {}
    if isinstance(old, dict) and isinstance(new, dict):
        found: Document = {}
        inside = {key: changes_between(old[key], new[key]) for key in new if key in old}
        if inside := {key: change for key, change in inside.items() if change}:
            found["in"] = inside
        if added := {key: value for key, value in new.items() if key not in old}:
            found["set"] = added
        if gone := [key for key in old if key not in new]:
            found["del"] = gone
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = (changes_between(a, b) for a, b in zip(old, new, strict=True))
        return {"in": {str(place): change for place, change in enumerate(pairs) if change}}
    return {"to": new}


def _same(old: Any, new: Any) -> bool:
    """Whether two values are one in JSON: 1, 1.0 and true are not."""
    return bool(old == new) and msgspec.json.encode(old, order="deterministic") == msgspec.json.encode(
        new, order="deterministic"
    )


def changed_by(old: Any, changes: Any) -> Any:
    """Apply what `changes_between` has found. `FormatError` where it does not fit."""
    if not isinstance(changes, dict) or not changes.keys() <= {"to", "in", "set", "del"}:
        raise FormatError("changes that are none")
    if "to" in changes:
        return changes["to"]
    if not changes:
        return old
    inside, added, gone = changes.get("in", {}), changes.get("set", {}), changes.get("del", [])
    if isinstance(old, list) and isinstance(inside, dict) and not (added or gone):
        new = list(old)
        for place, change in inside.items():
            if not (place.isascii() and place.isdecimal() and len(place) < 7 and int(place) < len(new)):
                raise FormatError("changes of a place that is not there")
            new[int(place)] = changed_by(new[int(place)], change)
        return new
    if not (isinstance(old, dict) and isinstance(inside, dict) and isinstance(added, dict)):
        raise FormatError("changes that do not fit what was told before")
    if (
        not isinstance(gone, list)
        or not all(isinstance(key, str) for key in gone)
        or not inside.keys() <= old.keys()
    ):
        raise FormatError("changes of what is not there")
    kept = {key: changed_by(value, inside[key]) if key in inside else value for key, value in old.items()}
    return {key: value for key, value in kept.items() if key not in gone} | added


def told_whole(old: Document, changes: Document) -> Document:
    """What a host has told altogether, by its next report. `FormatError` if it is too much, or no mapping."""
    found = changed_by(old, changes)
    if not isinstance(found, dict) or len(msgspec.json.encode(found)) > MOST_BYTES:
        raise FormatError(f"what is told must be one mapping of at most {MOST_BYTES} bytes")
    _check_bounds(found)
    return found


def shortened(document: Document, most: int = MOST_BYTES // 2) -> Document:
    """A document of JSON as it may be told: of long lists and texts the beginning; `cut` says so."""
    items, letters = 1000, 2000
    short = _cut(document, items, letters)
    while len(msgspec.json.encode(short)) > most and letters > 1:
        items, letters = max(1, items // 2), max(1, letters // 2)
        short = _cut(document, items, letters)
    return short if short == document else {**short, "cut": True}


def _cut(value: Any, items: int, letters: int) -> Any:
    if isinstance(value, dict):
        return {key: _cut(inner, items, letters) for key, inner in value.items()}
    if isinstance(value, list):
        return [_cut(inner, items, letters) for inner in value[:items]]
    if isinstance(value, str):
        value = value.replace("\0", "�").encode("utf-8", "replace").decode()  # lone surrogates of paths, too
        return value if len(value) <= letters else value[:letters] + _CUT
    return value


def written_token(address: str, secret: str) -> str:
    """An invitation as it is handed over: the center's address, and the secret, in one word."""
    return _INVITATION + base64.urlsafe_b64encode(f"{address} {secret}".encode()).decode().rstrip("=")


def read_token(text: str) -> tuple[str, str]:
    """The address and the secret of an invitation. `FormatError`."""
    try:
        coded = text.strip().removeprefix(_INVITATION)
        data = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        address, secret = data.decode("ascii").split(" ")
    except ValueError as error:
        raise FormatError("no invitation of a center: was it copied as a whole?") from error
    if not text.strip().startswith(_INVITATION) or not 40 <= len(secret) <= 100:
        raise FormatError("no invitation of a center: was it copied as a whole?")
    return address, secret


def signed_text(host: str, body: bytes, path: str = PATH) -> bytes:
    """What the certificate's key signs: the whole request; chain and number in the body are its nonce."""
    lines = ["nightvault report 1", "POST", host.lower(), path, hashlib.sha256(body).hexdigest()]
    return "\n".join(lines).encode()


def new_chain(seconds: float, drawn: bytes) -> str:
    """The id of a chain in a bucket: its time, so that lists are in its order, and 12 drawn bytes."""
    return _stamp(seconds) + drawn.hex()


def begun_at(chain: str) -> int:
    """The time at which such a chain began, in seconds since 1970, by the server's clock."""
    return int(chain[:8], 16)


def names_since(seconds: float) -> str:
    """A name before those of all objects since then, and behind those of before."""
    return REPORTS + _stamp(seconds)


def _stamp(seconds: float) -> str:
    return f"{min(max(int(seconds), 0), 0xFFFF_FFFF):08x}"


def report_name(chain: str, number: int, body: bytes) -> str:
    """The name of a report's object: another report of the same number has another one."""
    return f"{REPORTS}{chain}/{number:016}-{hashlib.sha256(body).hexdigest()[:32]}"


def join_name(seconds: float, body: bytes) -> str:
    """The name of the object by which a server joins."""
    return f"{REPORTS}{_stamp(seconds)}-join/{hashlib.sha256(body).hexdigest()[:32]}"


def object_of(name: str) -> ReportObject | None:
    """Return the chain and number of the report in an object of that name; None for anything else."""
    found = _OBJECT.fullmatch(name)
    return None if found is None else ReportObject(found["chain"], int(found["number"] or 0))


def written_object(headers: Mapping[str, str], body: bytes) -> bytes:
    """A request as an object: its signed headers in one line of JSON, then the body."""
    line = _Headers(headers[CERTIFICATE], headers[SIGNATURE], headers.get(CHAIN, ""))
    return msgspec.json.encode(line) + b"\n" + body


def read_object(data: bytes) -> tuple[dict[str, str], bytes]:
    """The signed headers, by their names in lower case, and the body. `FormatError`."""
    line, _, body = data.partition(b"\n")
    try:
        if len(line) > _LONGEST_LINE:
            raise FormatError("no report: its first line is too long")
        headers = msgspec.json.decode(line, type=_Headers)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise FormatError("no report: its first line has no signed headers") from error
    found = {CERTIFICATE: headers.certificate, SIGNATURE: headers.signature, CHAIN: headers.chain}
    return {name.lower(): value for name, value in found.items()}, body
