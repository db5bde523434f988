"""Values in words: sizes, lengths of time, dates, counts, and texts that are safe to show; pure."""

from __future__ import annotations

import unicodedata
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
# What may move the cursor, hide or reorder text: control, format (bidi overrides), line and paragraph
# separators, and the lone surrogates that stand for bytes which are not UTF-8.
_ESCAPED = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})


def size(count: int) -> str:
    """A number of bytes in binary units: 0 B, 1.5 MiB."""
    if abs(count) < 1024:
        return f"{count} B"
    value = float(count)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:
            break
    return f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """A length of time with its two largest units: 0.4 s, 45 s, 3 min 20 s, 5 h 2 min, 2 d 3 h."""
    if 0.05 <= seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    whole = max(0, round(seconds))
    for unit, name, smaller, smaller_name in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return f"{whole} s"


def local_time(moment: datetime | None, zone: tzinfo | None = None) -> str:
    """A time to the minute in `zone` (None: this machine's), with its name; a dash for None."""
    return "-" if moment is None else moment.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")


def counted(count: int, noun: str) -> str:
    """A number with its noun: 1 archive, 2 archives, 1,024 entries."""
    plural = noun if count == 1 else f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {plural}"


def sentences(*texts: str) -> str:
    """Return the texts that are not empty as one, with semicolons."""
    return "; ".join(filter(None, texts))


def money(amount: Decimal | None, currency: str, mark: str = "") -> str:
    """An amount of money, rounded up to the cent."""
    if amount is None:
        return "no known price"
    cent = type(amount)("0.01")
    if 0 < amount < cent:
        return f"under {cent}{mark} {currency}"
    return f"{amount.quantize(cent, rounding='ROUND_CEILING')}{mark} {currency}"


def printable(text: str) -> str:
    """A text of lines that is safe for terminals: characters that are not printable become escapes."""
    return escape(text, kept="\n\t")


def shown_path(path: bytes) -> str:
    r"""A path on one line: bytes that are not UTF-8 as \xNN, control characters as escapes."""
    return escape(path.decode("utf-8", "surrogateescape"), kept="")


def escape(text: str, *, kept: str = "") -> str:
    """A text in which what may move the cursor, hide or reorder text is an escape, but for what is `kept`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        letter if letter in kept or unicodedata.category(letter) not in _ESCAPED else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    number = ord(letter)
    if 0xDC80 <= number <= 0xDCFF:  # surrogateescape's stand-in for one byte
        return f"\\x{number - 0xDC00:02x}"
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
