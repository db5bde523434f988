"""Debian's restic as a judge: the same snapshots in a repository of its own, and what it would keep of them.

`.venv/bin/python -m tests.retention.restic FILE` asks it anew about all histories and policies, and writes
its answers to the file. Histories are told apart by the name of their host, so one call judges several.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import fields

from backup.retention.history import Candidate
from backup.retention.policy import ALL, Policy
from backup.retention.spans import Span

ANSWERS = Path(__file__).parents[1] / "vectors" / "retention" / "restic.json"
ZONES = ("UTC", "Europe/Berlin", "America/New_York")
GAPS = ((24,), (1, 2, 5), (24 * 7, 24 * 5), (1, 24, 24, 24 * 40), (24, 48), (24 * 31, 24 * 90, 24 * 400))
"""Hours between two snapshots in each kind of history: nights, hours, weeks, all of these, nights, months."""
AT_MONTHS_END = 4
"""The kind whose newest snapshot is of a 31st."""
POLICIES_PER_ZONE = 32
PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_TAGS = ((), (), ("release",), ("db",), ("release", "db"))


class Past(Struct, frozen=True):
    """A history that restic and we judge: one host, whole snapshots, right dates."""

    host: str
    zone: str
    snapshots: tuple[Candidate, ...]


def installed() -> bool:
    """Whether there is a restic to ask."""
    return shutil.which("restic") is not None


# What it is asked.


def pasts(zone: str) -> list[Past]:
    """The histories of a zone: always the same ones."""
    chance = random.Random(f"histories of {zone}")
    return [_past(f"{zone.replace('/', '-')}-{n}", zone, chance, n) for n in range(len(GAPS))]


def policies(zone: str) -> list[Policy]:
    """The policies of a zone: always the same ones, each with one to four rules, not about tags alone."""
    chance = random.Random(f"policies of {zone}")
    found: dict[Policy, None] = {}
    while len(found) < POLICIES_PER_ZONE:
        found[_policy(chance)] = None
    return list(found)


def _past(host: str, zone: str, chance: random.Random, kind: int) -> Past:
    """From 14 to 24 snapshots before some day from 2016 to 2025."""
    month, day = (chance.choice([3, 5, 7, 10]), 31) if kind == AT_MONTHS_END else (chance.randint(1, 12), 28)
    day -= 0 if kind == AT_MONTHS_END else chance.randint(0, 27)
    newest = datetime(chance.randint(2016, 2025), month, day, chance.randint(4, 23), tzinfo=ZoneInfo(zone))
    at, count, dates = newest.astimezone(UTC), chance.randint(14, 24), list[datetime]()
    while len(dates) < count:
        if not _is_twice(at.astimezone(ZoneInfo(zone))):
            dates.append(at)
        at -= timedelta(hours=chance.choice(GAPS[kind]), minutes=chance.randint(1, 50))
    numbered = enumerate(reversed(dates), 1)
    tagged = tuple(Candidate(n, date, tags=frozenset(chance.choice(_TAGS))) for n, date in numbered)
    return Past(host, zone, tagged)


def _is_twice(local: datetime) -> bool:
    """Whether this hour of the wall clock comes twice: restic takes both for one hour, we do not."""
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _policy(chance: random.Random) -> Policy:
    names = ["last", *PERIODS, "within", *(f"within_{period}" for period in PERIODS)]
    rules: dict[str, Any] = {}
    for name in chance.sample(names, chance.randint(1, 4)):
        rules[name] = _span(chance) if name.startswith("within") else chance.choice([1, 2, 3, 4, 7, 12, ALL])
    if chance.random() < 0.2:
        rules["tags"] = chance.choice(
            [(frozenset({"release"}),), (frozenset({"db", "release"}), frozenset({"db"}))]
        )
    return Policy(**rules)


def _span(chance: random.Random) -> Span:
    return chance.choice(
        [
            Span(hours=chance.randint(1, 60)),
            Span(days=chance.randint(1, 60)),
            Span(weeks=chance.randint(1, 20)),
            Span(months=chance.randint(1, 14)),
            Span(years=1, months=chance.randint(0, 6), days=chance.randint(0, 9), hours=chance.randint(0, 9)),
        ]
    )


# Asking it.


class Restic(Struct, frozen=True):
    """A repository of the histories of one zone."""

    folder: Path
    zone: str

    def make(self, histories: Iterable[Past]) -> None:
        """Create the repository, with a snapshot for each of the histories, two at a time."""
        (self.folder / "data").mkdir(parents=True)
        (self.folder / "data" / "file").write_text("saved")
        self._run("init")
        with ThreadPoolExecutor(2) as pool:
            list(
                pool.map(
                    lambda backup: self._backup(*backup), [(p, s) for p in histories for s in p.snapshots]
                )
            )

    def kept(self, policy: Policy) -> dict[str, set[datetime]]:
        """The dates of the snapshots that it would keep, by host."""
        told = self._run("forget", "--dry-run", "--json", "--group-by", "host", *arguments(policy))
        return {
            group["host"]: {
                datetime.fromisoformat(snapshot["time"]).astimezone(UTC) for snapshot in group["keep"]
            }
            for group in json.loads(told)
        }

    def _backup(self, past: Past, snapshot: Candidate) -> None:
        at = f"{snapshot.started_at.astimezone(ZoneInfo(self.zone)):%Y-%m-%d %H:%M:%S}"
        tags = [word for tag in sorted(snapshot.tags) for word in ("--tag", tag)]
        self._run("backup", "--no-scan", "--force", "--time", at, "--host", past.host, *tags, "data")

    def _run(self, *words: str) -> str:
        places = {
            "RESTIC_REPOSITORY": str(self.folder / "repository"),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "TZ": self.zone,
            "RESTIC_PASSWORD": "x",
        }
        ran = subprocess.run(
            ["restic", "--quiet", *words],
            cwd=self.folder,
            env=environment | places,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout


def arguments(policy: Policy) -> list[str]:
    """The policy in restic's words; it knows no weeks in a span."""
    found: list[str] = []
    for field in fields(policy):
        value, name = getattr(policy, field.name), f"--keep-{field.name.replace('_', '-')}"
        if field.name == "tags":
            found += [word for tags in value for word in ("--keep-tag", ",".join(sorted(tags)))]
        elif isinstance(value, Span):
            found += [name, _written(value)] if value else []
        elif value:
            found += [name, "unlimited" if value is ALL else str(value)]
    return found


def _written(span: Span) -> str:
    parts = {"y": span.years, "m": span.months, "d": span.weeks * 7 + span.days, "h": span.hours}
    return "".join(f"{number}{unit}" for unit, number in parts.items() if number)


# Its answers, written down: which snapshots it keeps, as 1 and 0 in their order.


def ask_all(folder: Path, most: int) -> Iterator[tuple[Policy, Past, str]]:
    """Ask about all histories and policies, until `most` pairs are judged."""
    judged = 0
    for zone in ZONES:
        if judged >= most:
            return
        restic, known = Restic(folder / zone.replace("/", "-"), zone), pasts(zone)
        restic.make(known)
        for policy in policies(zone):
            kept = restic.kept(policy)
            for past in known:
                yield policy, past, digits(past, kept[past.host])
                judged += 1


def digits(past: Past, kept: set[datetime]) -> str:
    """Which snapshots of a history are kept: a digit for each."""
    return "".join("1" if candidate.started_at in kept else "0" for candidate in past.snapshots)


def write_answers(path: Path) -> None:
    """Ask about everything, and write the answers down; by zone, by policy, a text for each history."""
    answers: dict[str, dict[str, list[str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for policy, past, told in ask_all(Path(folder), sys.maxsize):
            answers.setdefault(past.zone, {}).setdefault(" ".join(arguments(policy)), []).append(told)
    version = subprocess.run(
        ["restic", "version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    path.write_text(json.dumps({"restic": version, "answers": answers}, indent=1) + "\n", encoding="utf-8")


def read_answers(path: Path = ANSWERS) -> Iterator[tuple[Policy, Past, str]]:
    """The answers that were written down, for the same histories and policies."""
    answers: Mapping[str, Mapping[str, Sequence[str]]] = json.loads(path.read_text(encoding="utf-8"))[
        "answers"
    ]
    for zone in ZONES:
        for policy in policies(zone):
            told = answers[zone][" ".join(arguments(policy))]
            yield from ((policy, past, answer) for past, answer in zip(pasts(zone), told, strict=True))


if __name__ == "__main__":
    write_answers(Path(sys.argv[1]))
