"""HTTP values: requests as received, answers, dates, compact JSON, and the ids and ARNs that AWS gives."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec import Struct, field

from .errors import ServiceError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (so that isoformat names no offset: the Z is ours)


class Inbound(Struct, frozen=True):
    """A request's head exactly as it came: the path and the query undecoded, header names in lower case."""

    method: str
    raw_path: str
    raw_query: str
    headers: tuple[tuple[str, str], ...]
    address: str = ""  # of the client

    def header(self, name: str) -> str | None:
        """The value of a header, repeated ones joined with a comma in order of arrival; None without one."""
        found = [value for key, value in self.headers if key == name]
        return ",".join(found) if found else None


class Extent(Struct, frozen=True):
    """Bytes of a file on disk: `length` bytes from `offset`."""

    path: Path
    offset: int
    length: int


class Answer(Struct, frozen=True):
    """An answer to be sent.

    With `extents` the body is read from disk while it is sent. `told` is the length of the body that an
    answer to HEAD does not have. `held` keeps the files of the extents.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    extents: tuple[Extent, ...] = ()
    told: int | None = None
    held: object = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return sum(extent.length for extent in self.extents) if self.extents else len(self.body)


def compact(value: object) -> bytes:
    """One line of JSON without blanks, as the service writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def json_answer(value: object, status: int = 200) -> Answer:
    """A JSON body."""
    return Answer(status, {"Content-Type": "application/json"}, compact(value))


def glacier_error(error: ServiceError) -> Answer:
    """The error shape of the vault service: code, message, type."""
    answer = json_answer({"code": error.code, "message": error.message, "type": error.kind}, error.status)
    return Answer(answer.status, {**answer.headers, "x-amzn-ErrorType": error.code}, answer.body)


def session_error(error: ServiceError) -> Answer:
    """The error shape of Roles Anywhere: the code in a header, the message in the body."""
    answer = json_answer({"message": error.message}, error.status)
    return Answer(answer.status, {**answer.headers, "x-amzn-ErrorType": error.code}, answer.body)


def date_ms(moment_ms: int) -> str:
    """A date as `2017-08-17T17:53:40.893Z`: in the vault service everywhere but inside an inventory."""
    return (_NAIVE_EPOCH + timedelta(milliseconds=moment_ms)).isoformat(timespec="milliseconds") + "Z"


def date_s(moment_ms: int) -> str:
    """A date as `2017-08-17T17:53:40Z`: dates inside an inventory, and when credentials expire."""
    return (_NAIVE_EPOCH + timedelta(milliseconds=moment_ms)).isoformat(timespec="seconds") + "Z"


def http_date(ms: int) -> str:
    """A time as `Fri, 21 Dec 2012 00:00:00 GMT`, whatever the locale."""
    moment = EPOCH + timedelta(milliseconds=ms)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[moment.weekday()]
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    time = f"{moment.hour:02d}:{moment.minute:02d}:{moment.second:02d}"
    return f"{day}, {moment.day:02d} {months[moment.month - 1]} {moment.year} {time} GMT"


def parse_date(text: str) -> int:
    """An ISO 8601 date in UTC to the second or finer, as ms since the epoch; ValueError for anything else."""
    if not text.endswith("Z"):
        raise ValueError(text)
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(milliseconds=1)


def vault_arn(account: str, region: str, vault: str) -> str:
    """The ARN of a vault, always with the account's 12 digits."""
    return f"arn:aws:glacier:{region}:{account}:vaults/{vault}"


def new_archive_id() -> str:
    """A new archive id: 138 base64url characters, as real ids; may begin with `-`."""
    return secrets.token_urlsafe(104)[:138]


def new_id() -> str:
    """A new id of a job or upload: 92 base64url characters; may begin with `-`."""
    return secrets.token_urlsafe(69)


def new_request_id() -> str:
    """An `x-amzn-RequestId`: about 50 base64url characters beginning with `AAAB`."""
    return "AAAB" + base64.urlsafe_b64encode(secrets.token_bytes(33)).decode()
