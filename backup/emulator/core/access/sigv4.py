"""Signature Version 4 as a verifier needs it: the Authorization header or the query of a presigned URL, the
canonical request, the signing key.

Written from the Glacier Developer Guide (amazon-glacier-signing-requests), the Roles Anywhere signing page,
the general SigV4 rules and, for the query, the IAM User Guide (query string authentication). The signature in
a query covers every other parameter, so the canonical request is made over the query without it. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from urllib.parse import quote, unquote

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.wire import Inbound

LONGEST_URL_SECONDS = 7 * 24 * 60 * 60
QUERY_SIGNATURE = "X-Amz-Signature"
UNRESERVED = "-_.~"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_RUNS = re.compile("  +")
_GRAMMAR = re.compile(
    r"(?P<algorithm>[A-Z0-9-]+) +Credential=(?P<credential>[^,\s]+) *, *"
    r"SignedHeaders=(?P<signed>[^,\s]+) *, *Signature=(?P<signature>[0-9a-f]+)"
)


class MalformedAuthorization(ValueError):  # noqa: N818 (it is about the request, not about us)
    """The Authorization or the date header does not follow the grammar; the message says where."""


class Authorization(Struct, frozen=True):
    """The parts of an Authorization header: `key_id` is an access key id or a certificate's serial number."""

    algorithm: str
    key_id: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        """The credential scope, such as `20260102/eu-central-1/glacier/aws4_request`."""
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


def parse_authorization(text: str) -> Authorization:
    """Parse an Authorization header; MalformedAuthorization for anything else than SigV4's grammar."""
    found = _GRAMMAR.fullmatch(text.strip())
    if found is None:
        raise MalformedAuthorization("Authorization header requires Credential, SignedHeaders and Signature.")
    key_id, date, region, service = parse_credential(found["credential"])
    signed = parse_signed_headers(found["signed"])
    return Authorization(found["algorithm"], key_id, date, region, service, signed, found["signature"])


def parse_credential(text: str) -> tuple[str, str, str, str]:
    """Key, date, region and service of a credential scope."""
    credential = text.split("/")
    if len(credential) != 5 or credential[4] != "aws4_request" or not all(credential):
        raise MalformedAuthorization(
            f"Credential must be <key>/<date>/<region>/<service>/aws4_request, not {text}."
        )
    key_id, date, region, service, _ = credential
    return key_id, date, region, service


def parse_signed_headers(text: str) -> tuple[str, ...]:
    """The names of the signed headers."""
    signed = tuple(text.split(";"))
    if list(signed) != sorted({name.lower() for name in signed}):
        raise MalformedAuthorization("SignedHeaders must be lower-case names, sorted, each once.")
    return signed


def request_time(inbound: Inbound, stamp: str | None = None) -> datetime:
    """The time of signing, from `stamp`, `x-amz-date` or else `Date`; MalformedAuthorization without a good
    one.
    """
    stamp = stamp or inbound.header("x-amz-date") or inbound.header("date")
    if stamp is None:
        raise MalformedAuthorization("The request needs an x-amz-date or Date header.")
    found = _STAMP.fullmatch(stamp)
    try:
        if found is None:
            return datetime.strptime(stamp, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise MalformedAuthorization(
            f"The date of the request, {stamp}, is not of the form YYYYMMDDTHHMMSSZ."
        ) from error


def stamp(moment: datetime) -> str:
    """The time as `20260102T030405Z`."""
    return moment.strftime("%Y%m%dT%H%M%SZ")


def skew_message(signed: datetime, now: datetime, *, past: timedelta, future: timedelta) -> str | None:
    """Glacier's text for a request signed too long ago or too far ahead; None inside the window."""
    if signed < now - past:
        limit, minutes = stamp(now - past), past // timedelta(minutes=1)
        return (
            f"Signature expired: {stamp(signed)} is now earlier than {limit} ({stamp(now)} - {minutes} min.)"
        )
    if signed > now + future:
        limit, minutes = stamp(now + future), future // timedelta(minutes=1)
        return (
            f"Signature not yet current: {stamp(signed)} is still later than {limit} "
            f"({stamp(now)} + {minutes} min.)"
        )
    return None


def query_pairs(raw_query: str, *, form: bool) -> list[tuple[str, str]]:
    """Decoded names and values; with `form` a plus is a blank, as Go's clients send it."""
    pairs = []
    for part in raw_query.split("&") if raw_query else []:
        name, _, value = part.replace("+", " ").partition("=") if form else part.partition("=")
        pairs.append((unquote(name), unquote(value)))
    return pairs


def canonical_query(raw_query: str, *, form: bool) -> str:
    """Names and values encoded anew, sorted."""
    pairs = query_pairs(raw_query, form=form)
    encoded = sorted((quote(name, safe=UNRESERVED), quote(value, safe=UNRESERVED)) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def canonical_request(
    inbound: Inbound,
    signed: tuple[str, ...],
    payload_hash: str,
    *,
    form: bool = False,
    path: str | None = None,
) -> str:
    """The canonical request over exactly the signed headers; MalformedAuthorization if one of them is not
    there.

    The path is encoded once more than it was sent, as all services but S3 want it, which gives its own
    `path`; header values lose outer blanks and runs of inner ones.
    """
    wanted = set(signed)
    values: dict[str, list[str]] = {}
    for name, value in inbound.headers:
        if name in wanted:
            values.setdefault(name, []).append(_RUNS.sub(" ", value.strip()))
    lines = []
    for name in signed:
        if name not in values:
            raise MalformedAuthorization(f"The signed header {name} is not in the request.")
        lines.append(f"{name}:{','.join(values[name])}\n")
    return "\n".join(
        (
            inbound.method,
            quote(inbound.raw_path, safe="/" + UNRESERVED) if path is None else path,
            canonical_query(inbound.raw_query, form=form),
            "".join(lines),
            ";".join(signed),
            payload_hash,
        )
    )


def string_to_sign(authorization: Authorization, signed_at: str, canonical: str) -> str:
    """The string to sign: algorithm, time, scope and the hash of the canonical request."""
    digest = hashlib.sha256(canonical.encode("latin-1", "replace")).hexdigest()
    return f"{authorization.algorithm}\n{signed_at}\n{authorization.scope}\n{digest}"


def signing_key(secret: str, authorization: Authorization) -> bytes:
    """The key of a day, a region and a service."""
    return derived_key(secret, authorization.date, authorization.region, authorization.service)


@lru_cache(maxsize=256)
def derived_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The signing key, cached for all requests of its day."""
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("latin-1", "replace"), "sha256")
    return key


def hmac_signature(secret: str, authorization: Authorization, text: str) -> str:
    """The signature with a secret key, lower-case hex."""
    return hmac.digest(signing_key(secret, authorization), text.encode("latin-1", "replace"), "sha256").hex()


def is_presigned(query: Mapping[str, str]) -> bool:
    """Whether a request carries its signature in the query."""
    return QUERY_SIGNATURE in query or "X-Amz-Algorithm" in query


def parse_presigned(query: Mapping[str, str]) -> Authorization:
    """The parts of the signature in the query; MalformedAuthorization if one is missing or wrong."""
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not query.get(f"X-Amz-{name}"):
            raise MalformedAuthorization(f"Authorization query parameters require X-Amz-{name}.")
    if not re.fullmatch(r"[0-9a-f]+", query[QUERY_SIGNATURE]):
        raise MalformedAuthorization("X-Amz-Signature must be lower-case hex.")
    key_id, date, region, service = parse_credential(query["X-Amz-Credential"])
    signed = parse_signed_headers(query["X-Amz-SignedHeaders"])
    signature = query[QUERY_SIGNATURE]
    return Authorization(query["X-Amz-Algorithm"], key_id, date, region, service, signed, signature)


def lifetime_seconds(query: Mapping[str, str]) -> int:
    """The lifetime of the URL in seconds, 1 second to 7 days."""
    text = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LONGEST_URL_SECONDS:
        raise MalformedAuthorization(f"X-Amz-Expires must lie between 1 and {LONGEST_URL_SECONDS} seconds.")
    return int(text)


def without_signature(inbound: Inbound) -> Inbound:
    """The request as it was signed."""
    parts = inbound.raw_query.split("&")
    kept = [part for part in parts if unquote(part.partition("=")[0]) != QUERY_SIGNATURE]
    return replace(inbound, raw_query="&".join(kept))
