"""Values of a believable installation: two servers' jobs, thirty nights, of which some went wrong.

`NAME`, in the places where a foreigner's name stands, is what the test of hostile names replaces.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.status.parts import (
    Concern,
    Level,
    RestoreStatus,
    ScheduledStatus,
    TaskStatus,
    Topic,
)
from backup.inventory.content.snapshots import Pin, Snapshot
from backup.inventory.records.readings import LockDate
from backup.kinds import Outcome, RunKind
from backup.model import JobName, Problem, ProblemKind, SnapshotId, Tier, VaultName
from backup.web.pages import entries, overview, quote, runs, versions
from backup.web.pages.thirty_nights import NightCell, NightOutcome
from backup.web.texts import Texts

NOW = datetime(2026, 11, 26, 10, 40, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ENGLISH = Texts("en")
VAULT = VaultName("deep")
WORDS = ("invoice", "läger", "site", "logs", "photos", "notes", "dump", "отчёты")


def snapshot(job: str, number: int, name: str) -> Snapshot:
    """A snapshot of a night."""
    began = NOW.replace(hour=1, minute=12) - DAY * (30 - number)
    away = Problem(b"/srv/www/away", ProblemKind.UNREADABLE, "it is away")
    return Snapshot(
        id=SnapshotId(f"{number:02x}5e0c19af37b2d4"),
        job=JobName(job),
        job_number=1,
        number=number,
        run=400 + number,
        started_at=began,
        finished_at=began + timedelta(minutes=9),
        host="web1",
        sources=(b"/srv/www",),
        problems=(away, away) if number == 28 else (),
        files=212_480 + 31 * number,
        bytes=83 * 10**9 + number * 10**8,
        tags=(name,) if number == 20 else (),
        pin=Pin(name, None) if number == 21 else None,
    )


def _nights(seed: int, bad: tuple[int, ...], unusual: str) -> list[NightCell]:
    rolled, kinds = random.Random(seed), NightOutcome
    found = []
    for number in range(30):
        outcome = kinds.FAILED if number in bad else kinds.PARTIAL if number == seed + 9 else kinds.DONE
        outcome = kinds.MISSED if number == 3 and seed == 2 else outcome
        day = (NOW - DAY * (29 - number)).date()
        cell = NightCell(day, outcome, 400 + number, 1, rolled.randrange(10**7, 10**9), 812)
        if number == 22 and seed == 1:
            cell = NightCell(day, outcome, 400 + number, 1, 31 * 10**9, 90_000, [unusual])
        found.append(cell)
    return found


def _sizes(seed: int, newest: datetime, size: int) -> list[tuple[datetime, int]]:
    """Thirty nights up to a size, as real ones are: up and down, with a fall when somebody tidies up."""
    rolled, shares = random.Random(seed), [1.0]
    for night in range(29):
        shares.append(shares[-1] * rolled.uniform(0.93, 1.05) * (1.6 if night == 8 + 3 * seed else 1))
    return [(newest - DAY * n, int(size * shares[n])) for n in range(29, -1, -1)]


def job(name: str, seed: int, *, well: bool = True, running: bool = False) -> overview.JobCard:
    """A job at a glance."""
    size, began = (83, 31, 412, 6)[seed % 4] * 10**9, NOW.replace(hour=1, minute=12)
    last = began if well else began - DAY * 2
    live = TaskStatus(
        "backup",
        name,
        f"backup of {name}",
        VAULT,
        "running",
        run="r7",
        began_at=NOW - timedelta(minutes=6),
        phase="reading what changed",
        done=41 * 10**8,
        total=97 * 10**8,
        seconds_left=430.0,
    )
    return overview.JobCard(
        JobName(name),
        VAULT,
        True,
        "02:00",
        None if well else Level.CRITICAL,
        last,
        430,
        NightOutcome.DONE if well else NightOutcome.FAILED,
        began,
        None if well else "the database does not answer",
        began + DAY,
        None if well else began - HOUR * 9,
        not well,
        None,
        214,
        snapshot(name, 30, "").id,
        212_480 // (seed + 1),
        size,
        6 * 10**9,
        _sizes(seed, began, size),
        _nights(seed, () if well else (28, 29), "thirty times as many files as usual were new"),
        live if running else None,
    )


def the_overview(name: str, *, well: bool) -> overview.Overview:
    """The first page on a good day, or on a bad one."""
    jobs = [job(name, 0, running=not well), job("mail", 1), job("db", 2, well=well), job("etc", 3)]
    problems = [
        Concern(
            Level.CRITICAL,
            Topic.OVERDUE,
            f"job db is overdue since 2026-11-25 16:12: last good 2026-11-24 02:12 ({name})",
            "nightvault backup db",
            JobName("db"),
        ),
        Concern(
            Level.WARNING,
            Topic.CERTIFICATE,
            "the certificate expires on 2026-12-05 14:00",
            "nightvault identity show",
        ),
    ]
    restore = RestoreStatus(
        "4f1e9a2277aa",
        snapshot("mail", 30, "").id,
        VAULT,
        b"/mnt/back",
        "retrieving",
        12,
        9,
        0,
        NOW + 4 * HOUR,
        None,
        None,
    )
    return overview.Overview(
        NOW,
        NOW,
        NOW,
        None if well else Level.CRITICAL,
        [] if well else problems,
        [overview.HostCard("web1", None, jobs)],
        [
            overview.PricedVault(
                VAULT,
                "s3",
                1_204,
                538 * 10**9,
                Decimal("0.63"),
                is_free=False,
                unverified_since=NOW - 200 * DAY,
                next_prune=NOW + 5 * DAY,
                checked_at=NOW - 3 * DAY,
                why="all in DEEP_ARCHIVE",
                last_read_back=NOW - 9 * DAY,
            )
        ],
        [] if well else [restore],
        [] if well else [card.live for card in jobs if card.live],
        CertificateStatus(NOW - 20 * DAY, NOW + (70 if well else 9) * DAY),
        Decimal("0.63"),
        "USD",
        NOW - 9 * DAY,
        NOW - 40 * DAY,
        [
            ScheduledStatus(
                "check",
                "cold",
                "check of vault cold",
                "nightvault check --vault cold",
                VAULT,
                "weekly",
                NOW - 3 * DAY,
                NOW + 4 * DAY,
                NOW + 6 * DAY,
                is_overdue=False,
            ),
            ScheduledStatus(
                "drill",
                "monthly",
                "drill monthly",
                "nightvault drill run monthly",
                VAULT,
                "monthly",
                None if not well else NOW - 9 * DAY,
                NOW + 5 * DAY,
                NOW - 2 * DAY if not well else NOW + 30 * DAY,
                is_overdue=not well,
            ),
        ],
        [
            LockDate(JobName(name), VAULT, 12, NOW - DAY, NOW + 61 * DAY, NOW),
            LockDate(JobName("db"), VAULT, 30, NOW - DAY, NOW + 60 * DAY if well else None, NOW),
        ],
    )


def run_line(number: int, outcome: Outcome, name: str, kind: RunKind = RunKind.BACKUP) -> runs.RunLine:
    """A run in a list."""
    began = NOW.replace(hour=1, minute=12) - DAY * (430 - number)
    backup = kind is RunKind.BACKUP
    error = f"the database does not answer: {name}" if outcome is Outcome.FAILED else None
    return runs.RunLine(
        number,
        kind,
        JobName("db") if backup else None,
        VAULT,
        outcome,
        began,
        began + timedelta(minutes=9),
        561.0,
        error,
        812 if backup else 0,
        3 * 10**9 if backup else 0,
        94 * 10**7 if backup else 0,
        2 if outcome is Outcome.PARTIAL else 0,
    )


def the_run(name: str, *, failed: bool) -> runs.RunDetail:
    """A night that failed, or one that was partial."""
    line = run_line(430, Outcome.FAILED if failed else Outcome.PARTIAL, name)
    problems = [
        runs.ProblemLine(
            entries.Name(f"/srv/www/{name}/upload.tmp".encode("utf-8", "surrogateescape")),
            kind,
            detail,
            warned,
        )
        for kind, detail, warned in (
            ("changed", "it grew while it was read", True),
            ("unreadable", f"permission denied: {name}", False),
        )
    ]
    stored = [
        runs.StoredLine(
            9_000 + n, "catalog" if n == 3 else "data", "stored", 512 << 20, f"web1/{n:04x}f2", NOW
        )
        for n in range(4)
    ]
    report = {
        "files": 212_480,
        "bytes": 83 * 10**9,
        "bytes_new": 94 * 10**7,
        "warnings": [name],
        "hooks": [{"when": "before", "command": name}],
    }
    return runs.RunDetail(
        line,
        report,
        [] if failed else ["thirty times as many files as usual were new"],
        problems,
        2,
        None if failed else snapshot("db", 30, name),
        None if failed else snapshot("db", 29, name).id,
        [] if failed else stored,
        0 if failed else 4,
        0 if failed else 4 * (512 << 20),
        "journalctl NIGHTVAULT_RUN=430",
        429,
        None,
    )


def entry(name: str, number: int, folder: bytes) -> entries.EntryLine:
    """An entry of a directory."""
    raw = f"{WORDS[number % 8]}-{name}-{number:03d}".encode("utf-8", "surrogateescape")
    kind = (
        entries.Kind.DIRECTORY if number < 4 else entries.Kind.SYMLINK if number == 4 else entries.Kind.FILE
    )
    target = entries.Name(b"../" + raw) if number == 4 else None
    return entries.EntryLine(
        entries.Name(raw),
        entries.Name(folder + b"/" + raw),
        kind,
        "drwxr-xr-x" if number < 4 else "-rw-r--r--",
        "www-data",
        name,
        4_096 * number**3 + number,
        NOW - DAY * number,
        target,
        number > 4,
        0,
    )


def places() -> list[entries.Place]:
    """Where bytes lie."""
    return [
        entries.Place(VAULT, "DEEP_ARCHIVE", 41, 8 * 10**9, True, None),
        entries.Place(VAULT, "STANDARD", 2, 10**7, False, None),
        entries.Place(VAULT, "GLACIER", 3, 10**8, True, NOW + 20 * HOUR),
    ]


def steps(name: str) -> list[entries.Step]:
    """The path of a directory."""
    raw = name.encode("utf-8", "surrogateescape")
    root, srv = entries.Name(b"/"), entries.Name(b"/srv")
    return [
        entries.Step(root, root),
        entries.Step(entries.Name(b"srv"), srv),
        entries.Step(entries.Name(raw), entries.Name(b"/srv/" + raw)),
    ]


def version_line(name: str, number: int, folder: bytes) -> versions.VersionLine:
    first, last = snapshot("www", 29 - 4 * number, name), snapshot("www", 30 - 4 * number, name)
    return versions.VersionLine(
        entry(name, 6 + number, folder), first, last, 2, number == 0, ["content", "times"], places()[:1]
    )


def the_quote(name: str) -> quote.QuotePage:
    """What a restore would cost."""
    path = entries.Name(f"/srv/{name}".encode("utf-8", "surrogateescape"))
    tiers = [
        quote.TierQuote(
            tier,
            43,
            41,
            8_400_000_000,
            Decimal(total),
            Decimal(total) / 2,
            Decimal("0.02"),
            Decimal("0.71"),
            Decimal("0.001"),
            bounds,
            (),
            f"nightvault restore 1e5e0c19af37b2d4:/srv/www --target restored --tier {tier}",
        )
        for tier, total, bounds in ((Tier.STANDARD, "0.93", (9.0, 12.0)), (Tier.BULK, "0.75", (36.0, 48.0)))
    ]
    command = "nightvault restore 1e5e0c19af37b2d4:/srv/www --target restored"
    return quote.QuotePage(
        snapshot("www", 30, name),
        VAULT,
        [path],
        [entries.Name(b"/srv/gone")],
        1_204,
        8 * 10**9,
        tiers,
        False,
        False,
        100_000,
        "USD",
        date(2026, 11, 1),
        places(),
        command,
        command + " --dry-run",
        "nightvault serve-files --snapshot 1e5e0c19af37b2d4",
    )
