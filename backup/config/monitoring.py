"""`[monitoring]` and `[center]`: how this server is watched, and from when on `status` has a concern."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from backup.config.shapes import Text, shape
from backup.model import MIB

_Path = Annotated[str, shape(r"[^\x00]+", "must not be empty, nor hold a NUL")]


class LogForm(StrEnum):
    """The format of log lines, if they do not go to systemd's journal."""

    TEXT = "text"
    JSON = "json"


class MonitoringSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[monitoring]`: the metrics file, the format of the log, and the limits for concerns of `status`.

    `min_free`: bytes free where the state directory or a directory vault lies. `check_age`: seconds since the
    last check of a vault that found nothing wrong. `max_month_cost`: what storing may cost a month.
    """

    metrics_file: _Path | None = None
    log: LogForm = LogForm.TEXT
    min_free: Annotated[int, Meta(ge=0)] = 2048 * MIB
    check_age: int | None = None
    max_month_cost: Decimal | None = None


_CENTER = (
    r"https://[A-Za-z0-9.:\[\]-]+|http://(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?|s3://[a-z0-9.-]{3,255}"
)
_Address = Annotated[
    str, shape(_CENTER, "must be the center's https://HOST, https://HOST:PORT or s3://BUCKET, without a path")
]


class CenterSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[center]`: a center that is told how this server is; `ca_file` has the authorities of its TLS.

    With s3://BUCKET it is told by objects in that bucket, which a vault of the config is in.
    """

    url: _Address
    ca_file: Text | None = None

    @property
    def is_in_bucket(self) -> bool:
        """Whether the center is told by objects in a bucket."""
        return self.url.startswith("s3://")
