"""The user's own prices: single figures that replace those of the built-in table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation

from backup.app.money.prices import builtin_table, own_file, own_text
from backup.config import Config
from backup.cost import parse_prices
from backup.cost.table import split_key
from backup.errors import NightvaultError, UsageError
from backup.files import write_durably

_REGION = re.compile("[a-z0-9-]+")
_NEW_FILE = """\
# Prices of your own: they go before those that come with nightvault. docs/prices.md
extends = true
"""


def set_prices(config: Config, values: Sequence[str], today: date) -> str:
    """Write `KEY=VALUE`s into the user's own file, durably; returns its path.

    One wrong value, and nothing is written.
    """
    path = own_file(config)
    text = own_text(config) if os.path.exists(path) else None
    text = _NEW_FILE if text is None else text
    for setting in values:
        key, equals, value = (part.strip() for part in setting.partition("="))
        region, kind, _figure = split_key(key)
        if not equals or not _REGION.fullmatch(region) or kind not in builtin_table().kinds:
            kinds = ", ".join(builtin_table().kinds)
            raise UsageError(
                f"cannot set {setting!r}",
                advice=f"write REGION/KIND/FIGURE=MONEY with one of these kinds: {kinds}",
            )
        text += f'\n[[set]]\nkey = "{key}"\nvalue = {_money(setting, value)}\ndate = {today}\n'
    parse_prices(text, path, builtin_table())
    _write(path, text)
    return path


def _money(whole: str, value: str) -> Decimal:
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f"cannot set {whole!r}: {value!r} is no amount of money, 0 or more")
    return amount


def _write(path: str, text: str) -> None:
    """Put the file in place of what is there, whole and on the disk."""
    from backup.safe_paths import make_folders

    try:
        make_folders(os.path.dirname(path) or ".")
        write_durably(path, text.encode(), mode=0o644)
    except OSError as error:
        raise NightvaultError(
            f"cannot write {path}: {error.strerror}",
            advice="run as a user that may, or name another [prices] file",
        ) from error
