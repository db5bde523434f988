"""The recovery key on a sheet of paper: numbered groups, its use, and which groups to type back; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from random import Random

from backup.format.keys import RecoveryKey

ASKED = 4
"""The number of groups that are typed back: 20 bits each, which nobody guesses."""

_A_LINE = 5
_LOOK_ALIKE = str.maketrans({"O": "0", "I": "1", "L": "1"})


def groups_of(key: RecoveryKey) -> list[str]:
    """The 14 groups of four characters."""
    return key.to_text().split("-")[1:]


def sheet(key: RecoveryKey, *, host: str, vault: str, day: date) -> str:
    """Return the text to print."""
    groups = [f"{number:>2}: {text}" for number, text in enumerate(groups_of(key), 1)]
    rows = ["   ".join(groups[place : place + _A_LINE]) for place in range(0, len(groups), _A_LINE)]
    lines = (
        f"nightvault recovery key of {host}, {day:%Y-%m-%d}",
        "",
        "    NVK1",
        *(f"    {row}" for row in rows),
        "",
        "Whoever has this key can read every backup; without it nobody can.",
        "Keep it in two places, neither of them this server.",
        "",
        f"The backups are in {vault}.",
        "To restore: install nightvault, then `nightvault rebuild --help` where the",
        "server is lost, else `nightvault restore latest --target DIR`. Type the key as",
        "NVK1 and all groups, in their order; case and dashes do not matter.",
        f"Its public half: {key.recipient.id.hex()}",
    )
    return "\n".join(lines) + "\n"


def asked_groups(random: Random) -> list[int]:
    """Return the numbers of the groups that are to be typed back, in order."""
    return sorted(random.sample(range(1, 15), ASKED))


def wrong_groups(key: RecoveryKey, asked: Sequence[int], typed: str) -> list[int] | None:
    """Return the numbers of the groups typed wrong; None unless the answer is so many groups of four."""
    plain = "".join(typed.upper().split()).replace("-", "").translate(_LOOK_ALIKE)
    if len(plain) != 4 * len(asked):
        return None
    right = groups_of(key)
    parts = [plain[place : place + 4] for place in range(0, len(plain), 4)]
    return [number for number, part in zip(asked, parts, strict=True) if part != right[number - 1]]
