"""Parses options that are amounts of money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.errors import UsageError

if TYPE_CHECKING:
    from decimal import Decimal


def parse_amount(option: str, words: str | None) -> Decimal:
    """Return the amount of money given with an option; 0 if it was not given. `UsageError` names it."""
    from backup.config import parse_money

    try:
        return parse_money(0 if words is None else words)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
