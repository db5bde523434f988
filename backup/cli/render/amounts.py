"""Options that are amounts of money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.errors import UsageError

if TYPE_CHECKING:
    from decimal import Decimal


def parse_amount(option: str, words: str | None) -> Decimal:
    """The amount that an option of that name gives; 0 without. `UsageError`."""
    from backup.config import parse_money

    try:
        return parse_money(0 if words is None else words)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
