"""The stories of the month, by name, and the file in which they are recorded, one section each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.month import bucket, cold, daemon, disk
from tests.month.world import Month

RECORDED = Path(__file__).with_name("recorded.txt")
STORIES: Final[Mapping[str, Callable[[Month], None]]] = {
    "disk": disk.live,
    "cold": cold.live,
    "bucket": bucket.live,
    "daemon": daemon.live,
}
_MARK = "######## "


def sections(text: str) -> dict[str, str]:
    """The stories of a recording."""
    parts = text.split(f"{_MARK}")[1:]
    return {name: told for name, _, told in (part.partition("\n") for part in parts)}


def joined(told: Mapping[str, str]) -> str:
    """The recording of stories."""
    return "".join(f"{_MARK}{name}\n{told[name]}" for name in STORIES if name in told)
