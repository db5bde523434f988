"""Believable values of money and the schedule."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from backup.kinds import Outcome
from backup.model import JobName
from backup.web.pages import archives, schedule, tested
from tests.web.believable import DAY, HOUR, NOW, VAULT


def the_money(name: str) -> archives.MoneyPage:
    """Archives and money."""
    jobs = [name, "mail", "db", "etc"]
    months = [
        archives.MonthLine(
            f"2026-{month:02d}", VAULT, JobName(job), 9, (month + 3 * place) * 10**9, Decimal("0.01") * month
        )
        for month in range(1, 12)
        for place, job in enumerate(jobs)
    ]
    vault = archives.VaultMoney(
        VAULT,
        "s3",
        "eu-central-1",
        False,
        1_204,
        538 * 10**9,
        Decimal("0.63"),
        Decimal("0.81"),
        Decimal("0.09"),
        Decimal("0.02"),
        40,
        21 * 10**9,
        12,
        6 * 10**9,
        [archives.ClassLine("DEEP_ARCHIVE", 1_190, 537 * 10**9, 10**7, Decimal("0.61"), Decimal("0.78"))],
        [
            archives.FreeOn("", 4, 10**9, Decimal(0)),
            archives.FreeOn("2027-02", 36, 20 * 10**9, Decimal("0.11")),
        ],
    )
    by_job = [
        archives.JobMoney(
            VAULT, JobName(job), 300, 130 * 10**9, Decimal("0.16"), Decimal("0.2"), 214, 9 * 10**11, 6.9, 1.4
        )
        for job in jobs
    ]
    check = tested.CheckLine(
        VAULT, NOW - 3 * DAY, NOW - 9 * DAY, NOW - 200 * DAY, 12, 1_204, [], NOW - 40 * DAY
    )
    return archives.MoneyPage(
        NOW,
        NOW.date(),
        "USD",
        date(2026, 11, 1),
        "the table of this version",
        Decimal("0.63"),
        Decimal("0.81"),
        [vault],
        by_job,
        months,
        [check],
        [
            tested.ProvenLine(JobName(job), 130 * 10**9, NOW - 9 * DAY, 0.37, NOW - 40 * DAY, 0.004)
            for job in jobs
        ],
        [
            _drill(9, "weekly", Outcome.FAILED),
            _drill(12, name, Outcome.DONE),
            _drill(40, "weekly", Outcome.DONE),
        ],
    )


def _drill(ago: int, name: str, outcome: Outcome) -> tested.DrillLine:
    error = f"content: /srv/{name}: other bytes came back" if outcome is Outcome.FAILED else None
    is_opened = ago == 40
    return tested.DrillLine(
        400 - ago,
        name,
        is_opened,
        VAULT,
        outcome,
        NOW - ago * DAY,
        20 if is_opened else 0,
        0 if is_opened else 4,
        3 * 10**8,
        Decimal("0.04"),
        error,
    )


def the_schedule(name: str) -> schedule.SchedulePage:
    """The next two weeks."""
    days = [
        schedule.CalendarDay(
            (NOW + DAY * n).date(),
            n == 0,
            [
                *(
                    schedule.Due(
                        NOW.replace(hour=2 + k, minute=0) + DAY * n,
                        "backup",
                        job,
                        job,
                        job == "etc" and n < 3,
                    )
                    for k, job in enumerate((name, "mail", "db", "etc"))
                ),
                *(
                    [schedule.Due(NOW + DAY * n, "check", "deep", "check of deep", False)]
                    if n % 7 == 2
                    else []
                ),
                schedule.Due(NOW + DAY * n, "restores", "", "open restores", False, 96),
            ],
        )
        for n in range(14)
    ]
    tasks = [
        schedule.ScheduledTask(
            "backup", job, f"backup of {job}", VAULT, "02:00", NOW + HOUR * 16, "done", True
        )
        for job in (name, "mail", "etc")
    ]
    tasks.append(
        schedule.ScheduledTask("check", "deep", "check of deep", VAULT, "weekly", NOW + DAY, "new", False)
    )
    pause = schedule.PauseLine(JobName("etc"), NOW - HOUR, NOW + 3 * DAY)
    return schedule.SchedulePage(NOW, NOW, "UTC", days, tasks, [pause], [], False)
