"""Parse a request's address: bucket and key from the path or from the host.

Source: S3 User Guide (VirtualHosting). Addresses are split before they are decoded, and no name ever becomes
that of a file.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.wire import Inbound

_AMAZON = re.compile(r"(?:(?P<bucket>.+)\.)?s3[.-](?P<region>[a-z]{2}-[a-z-]+-\d)\.amazonaws\.com(?:\.cn)?")
_STYLES = (
    _AMAZON,
    re.compile(r"(?:(?P<bucket>.+)\.)?s3\..+"),
    re.compile(r"(?:(?P<bucket>.+)\.)?localhost"),
)


class Address(Struct, frozen=True):
    """Bucket and key of a request; `region` is that in one of Amazon's host names."""

    bucket: str
    key: str
    region: str | None


def read_address(inbound: Inbound) -> Address:
    """The address: virtual-host style below `s3.ANYTHING` or `localhost`, else path style; InvalidURI if not
    UTF-8."""
    named, region = _of_host(inbound.header("host") or "")
    path = inbound.raw_path
    path = path if path.startswith("/") else "/"
    if named:
        return Address(named, _decoded(path[1:]), region)
    bucket, _, key = path[1:].partition("/")
    return Address(_decoded(bucket), _decoded(key), region)


@lru_cache(maxsize=64)
def _of_host(host: str) -> tuple[str, str | None]:
    """The bucket in a host name, empty if none, and the region if the host is one of Amazon's."""
    host = re.sub(r":\d*$", "", host.lower())
    for style in _STYLES:
        found = style.fullmatch(host)
        if found is not None:
            return found["bucket"] or "", found.groupdict().get("region")
    return "", None


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError as error:
        raise S3Error("InvalidURI", None, {"URI": text}) from error
