"""The emulator's own price table, prices.csv: a row for each region and kind, in US dollars.

A region that it does not name costs as us-east-1. Money is for a GB and month (`storage`, `copy`), a GB
(`egress`, `…_gb`), or 1,000 requests (the rest).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files

from msgspec import Struct

CURRENCY = "USD"
ELSEWHERE = "us-east-1"
_WHOLE = ("overhead", "index", "minimum_bytes", "minimum_days")


class Row(Struct, frozen=True):
    """The terms of a kind in a region.

    An archive is billed `overhead` bytes on top in its class, and `index` at the price of `copy`; at least
    `minimum_bytes`, for at least `minimum_days`. `money` has no tier that is not sold.
    """

    overhead: int
    index: int
    minimum_bytes: int
    minimum_days: int
    money: Mapping[str, Decimal]


def row_of(region: str, kind: str) -> Row:
    """The row of a kind, such as `glacier` or `s3:DEEP_ARCHIVE`, in a region."""
    rows = all_rows()
    return rows.get((region, kind)) or rows[ELSEWHERE, kind]


@cache
def all_rows() -> Mapping[tuple[str, str], Row]:
    """Every row, by region and kind."""
    text = files("backup.emulator.billing").joinpath("prices.csv").read_text("ascii")
    found = {}
    for line in csv.DictReader(text.splitlines()):
        region, kind = line.pop("region"), line.pop("kind")
        whole = {name: int(line.pop(name)) for name in _WHOLE}
        money = {name: Decimal(value) for name, value in line.items() if value}
        found[region, kind] = Row(**whole, money=money)
    return found
