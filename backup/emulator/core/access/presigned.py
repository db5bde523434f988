"""Signature Version 4 in the query: the form of presigned URLs; pure.

Source: IAM User Guide (query string authentication). The signature covers every other parameter, so the
canonical request is made over the query without it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from msgspec.structs import replace

from backup.emulator.core.wire import Inbound

from .sigv4 import Authorization, MalformedAuthorization, parse_credential, parse_signed_headers

LONGEST_SECONDS = 7 * 24 * 60 * 60
SIGNATURE = "X-Amz-Signature"


def is_presigned(query: Mapping[str, str]) -> bool:
    """Whether a request carries its signature in the query."""
    return SIGNATURE in query or "X-Amz-Algorithm" in query


def parse_presigned(query: Mapping[str, str]) -> Authorization:
    """The parts of the signature in the query; MalformedAuthorization if one is missing or wrong."""
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not query.get(f"X-Amz-{name}"):
            raise MalformedAuthorization(f"Authorization query parameters require X-Amz-{name}.")
    if not re.fullmatch(r"[0-9a-f]+", query[SIGNATURE]):
        raise MalformedAuthorization("X-Amz-Signature must be lower-case hex.")
    key_id, date, region, service = parse_credential(query["X-Amz-Credential"])
    signed = parse_signed_headers(query["X-Amz-SignedHeaders"])
    return Authorization(query["X-Amz-Algorithm"], key_id, date, region, service, signed, query[SIGNATURE])


def lifetime_seconds(query: Mapping[str, str]) -> int:
    """The lifetime of the URL in seconds, 1 second to 7 days."""
    text = query["X-Amz-Expires"]
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= LONGEST_SECONDS:
        raise MalformedAuthorization(f"X-Amz-Expires must lie between 1 and {LONGEST_SECONDS} seconds.")
    return int(text)


def without_signature(inbound: Inbound) -> Inbound:
    """The request as it was signed."""
    parts = inbound.raw_query.split("&")
    kept = [part for part in parts if unquote(part.partition("=")[0]) != SIGNATURE]
    return replace(inbound, raw_query="&".join(kept))
