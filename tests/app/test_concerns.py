"""What is not well: the whole table of levels and exit codes, and what it says of each."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from backup.app.base.certificate_dates import CertificateStatus
from backup.app.status.concerns import concerns_of
from backup.app.status.parts import (
    Level,
    RenewalStatus,
    ScheduledStatus,
    Suspended,
    TaskStatus,
    Topic,
    Unknown,
)
from backup.cli.render.status_output import nagios_lines
from backup.inventory.content.shrunk import Wait
from backup.inventory.questions.status import Undeleted
from backup.inventory.records.readings import LockDate
from backup.inventory.records.runs import Run
from backup.kinds import Outcome, RunKind, TaskKind, run_of
from backup.model import JobName, SnapshotId, VaultName
from tests.support import statuses
from tests.support.statuses import DAY, HOUR, NOW, certificate, job, restore, run, scheduled, status, vault

BY_HAND: dict[str, Any] = {"schedule": None, "next_at": None, "overdue_from": None}
LATE = job(is_overdue=True, overdue_from=NOW - HOUR, last_good=NOW - 2 * DAY)
CRITICAL, WARNING = Level.CRITICAL, Level.WARNING

UNDELETED = Undeleted(VaultName("cold"), 12, 5 * 1024**3, NOW - 40 * DAY)
WAIT = Wait(JobName("main"), 1, b"j" * 16, VaultName("cold"), SnapshotId("a" * 16), NOW - DAY, ())

OTHERS = [kind for kind in TaskKind if run_of(kind) is not None and kind is not TaskKind.BACKUP]


def late(kind: TaskKind) -> ScheduledStatus:
    """A task that is overdue."""
    return scheduled(kind, is_overdue=True, overdue_from=NOW - HOUR)


def failed(kind: TaskKind) -> ScheduledStatus:
    """A task whose newest attempt failed, and left no run."""
    return scheduled(kind, failed_at=NOW - HOUR)


def known(kind: str, name: str, **more: Any) -> TaskStatus:
    """A task that the daemon has."""
    made = TaskStatus(kind, name, name, None, "idle", next_at=NOW + HOUR)
    return replace(made, **more)


def drilled(outcome: Outcome = Outcome.FAILED, **more: Any) -> Run:
    """A drill that found damage."""
    return run(RunKind.DRILL, outcome, **{"job": None, "drill": "weekly", "grade": "read back", **more})


def locked(left: timedelta) -> LockDate:
    """For how long a job's nights restore whatever an intruder does, as was seen an hour ago."""
    return LockDate(JobName("main"), VaultName("cold"), 12, NOW - DAY, NOW + left, NOW - HOUR)


def chained(left: timedelta) -> CertificateStatus:
    """A certificate with one above it that ends after so long."""
    return replace(certificate(80 * DAY), issuer="CN=company", issuer_ends=NOW + left)


TABLE: list[tuple[str, dict[str, Any], list[tuple[Level, Topic]]]] = [
    ("all is well", {}, []),
    ("no jobs, nothing stored", {"jobs": [], "vaults": [], "ended": [], "certificate": None}, []),
    (
        "a job by hand, and no daemon",
        {"jobs": [job(**BY_HAND)], "scheduled": [], "daemon_runs": False},
        [],
    ),
    ("nobody can tell whether the daemon runs", {"daemon_runs": None}, []),
    ("overdue", {"jobs": [job(), LATE]}, [(CRITICAL, Topic.OVERDUE)]),
    ("never backed up", {"jobs": [replace(LATE, last_good=None)]}, [(CRITICAL, Topic.OVERDUE)]),
    ("in its vault", {"jobs": [job(bound_to="cold")]}, []),
    ("bound to another vault", {"jobs": [job(bound_to="old")]}, [(CRITICAL, Topic.VAULT)]),
    ("no daemon", {"daemon_runs": False}, [(WARNING, Topic.DAEMON)]),
    *(
        (
            f"locked for {left} of {lock_for} days",
            {"jobs": [job(lock_for=lock_for * DAY, locks=locked(left * DAY))]},
            [(level, Topic.PROTECTION) for level in levels],
        )
        for lock_for, left, levels in (
            (60, 57, []),
            (60, 56, [WARNING]),
            (60, 0, [CRITICAL]),
            (60, -1, [CRITICAL]),
            (2, 1.5, []),
            (2, 1.4, [WARNING]),
            (2, 0, [CRITICAL]),
        )
    ),
    *(
        (
            f"a daemon that knows {what}",
            {"jobs": [job()], "scheduled": [scheduled(TaskKind.CHECK)], **more},
            told,
        )
        for what, more, told in (
            ("all", {"tasks": [known("backup", "main"), known("check", "weekly")]}, []),
            ("no check", {"tasks": [known("backup", "main")]}, [(WARNING, Topic.DAEMON)]),
            (
                "no schedule of the job",
                {"tasks": [known("backup", "main", next_at=None), known("check", "weekly")]},
                [(WARNING, Topic.DAEMON)],
            ),
            ("nothing yet", {"tasks": []}, []),
        )
    ),
    (
        "no daemon, but timers",
        {"daemon_runs": False, "jobs": [job(has_timer=True)], "scheduled": []},
        [],
    ),
    (
        "no daemon, and not for all a timer",
        {"daemon_runs": False, "jobs": [job(has_timer=True), job(name="other")]},
        [(WARNING, Topic.DAEMON)],
    ),
    (
        "timers prune nothing",
        {"daemon_runs": False, "jobs": [job(has_timer=True)], "scheduled": [scheduled(TaskKind.PRUNE)]},
        [(WARNING, Topic.DAEMON)],
    ),
    *(
        (
            f"no daemon for a {kind}",
            {"daemon_runs": False, "jobs": [job(**BY_HAND)], "scheduled": [scheduled(kind)]},
            [(WARNING, Topic.DAEMON)],
        )
        for kind in OTHERS
    ),
    *((f"{kind} overdue", {"scheduled": [late(kind)]}, [(WARNING, Topic.OVERDUE)]) for kind in OTHERS),
    *((f"{kind} failed", {"scheduled": [failed(kind)]}, [(WARNING, Topic.RUN)]) for kind in OTHERS),
    ("a renewal that is late", {"scheduled": [late(TaskKind.RENEWAL)]}, []),
    (
        "no daemon for a renewal",
        {"daemon_runs": False, "jobs": [job(**BY_HAND)], "scheduled": [scheduled(TaskKind.RENEWAL)]},
        [],
    ),
    ("a job failed, and left no run", {"jobs": [job(failed_at=NOW)]}, [(WARNING, Topic.RUN)]),
    (
        "a job failed, and its run says so",
        {"jobs": [job(failed_at=NOW)], "ended": [run(outcome=Outcome.FAILED)]},
        [(WARNING, Topic.RUN)],
    ),
    (
        "a check that broke off",
        {"ended": [run(RunKind.CHECK, Outcome.FAILED, job=None, found_damage=False)]},
        [(WARNING, Topic.RUN)],
    ),
    (
        "a drill that broke off",
        {"ended": [run(RunKind.DRILL, Outcome.FAILED, job=None, drill="weekly", found_damage=False)]},
        [(WARNING, Topic.RUN)],
    ),
    (
        "a check that broke off hides no loss",
        {"losses": {"cold": 1}, "ended": [run(RunKind.CHECK, Outcome.FAILED, job=None, found_damage=False)]},
        [(CRITICAL, Topic.VAULT), (WARNING, Topic.RUN)],
    ),
    (
        "a drill found damage, and archives are lost: which ones, a check says",
        {"losses": {"cold": 1}, "ended": [drilled()]},
        [(CRITICAL, Topic.VAULT), (CRITICAL, Topic.RUN)],
    ),
    ("a drill found damage", {"ended": [drilled()]}, [(CRITICAL, Topic.RUN)]),
    ("of a drill that has another name now", {"ended": [drilled(drill="old")]}, [(CRITICAL, Topic.RUN)]),
    (
        "and one of its grade was good since",
        {"ended": [drilled(number=9, outcome=Outcome.DONE), drilled(drill="old")]},
        [],
    ),
    *(
        (f"and one was good, {why}", {"ended": [other, drilled(drill="old")]}, [(CRITICAL, Topic.RUN)])
        for why, other in (
            ("before", drilled(number=5, outcome=Outcome.DONE)),
            ("of another grade", drilled(number=9, outcome=Outcome.DONE, grade="opened")),
            ("of another vault", drilled(number=9, outcome=Outcome.DONE, vault="dear")),
            ("but not all of it", drilled(number=9, outcome=Outcome.INTERRUPTED)),
        )
    ),
    (
        "a drill that has another name now broke off",
        {"ended": [drilled(drill="old", found_damage=False)]},
        [],
    ),
    (
        "part of it is not known",
        {"unknown": [Unknown("disks", "it broke"), Unknown("jobs", "it broke", CRITICAL)]},
        [(CRITICAL, Topic.UNKNOWN), (WARNING, Topic.UNKNOWN)],
    ),
    ("money is not known", {"unknown": [Unknown("money", "prices.toml: no")]}, [(WARNING, Topic.COST)]),
    (
        "a vault is not there, and a run says so",
        {"vaults": [vault(is_away=True)], "ended": [run(outcome=Outcome.FAILED, error="vault cold is gone")]},
        [(WARNING, Topic.RUN)],
    ),
    (
        "a vault is not there, and a run failed by something else",
        {"vaults": [vault(is_away=True)], "ended": [run(outcome=Outcome.FAILED, error="no source is there")]},
        [(WARNING, Topic.AWAY), (WARNING, Topic.RUN)],
    ),
    (
        "a vault is not there, and a drill says so that the config does not have any more",
        {
            "vaults": [vault(is_away=True)],
            "ended": [
                run(RunKind.DRILL, Outcome.FAILED, job=None, drill="d", error="no vault", found_damage=False)
            ],
        },
        [(WARNING, Topic.AWAY)],
    ),
    (
        "a vault is not there, and a check found damage before",
        {"vaults": [vault(is_away=True)], "ended": [run(RunKind.CHECK, Outcome.FAILED, job=None)]},
        [(CRITICAL, Topic.RUN), (WARNING, Topic.AWAY)],
    ),
    ("a vault is not there", {"vaults": [vault(is_away=True)]}, [(WARNING, Topic.AWAY)]),
    (
        "a vault does not answer",
        {
            "vaults": [vault(is_away=True, is_silent=True)],
            "ended": [run(outcome=Outcome.FAILED, error="vault cold is gone")],
        },
        [(WARNING, Topic.AWAY), (WARNING, Topic.RUN)],
    ),
    *(
        (f"the chain ends in {left}", {"certificate": chained(left)}, expected)
        for left, expected in (
            (15 * DAY, []),
            (13 * DAY, [(WARNING, Topic.CERTIFICATE)]),
            (2 * DAY, [(CRITICAL, Topic.CERTIFICATE)]),
            (-DAY, [(CRITICAL, Topic.CERTIFICATE)]),
        )
    ),
    *(
        (f"{kind} {outcome}", {"ended": [run(kind, outcome)]}, [(WARNING, Topic.RUN)])
        for kind in (RunKind.BACKUP, RunKind.FORGET, RunKind.PRUNE, RunKind.COMPACT)
        for outcome in (Outcome.FAILED, Outcome.PARTIAL)
    ),
    ("interrupted", {"ended": [run(outcome=Outcome.INTERRUPTED)]}, []),
    ("failed, of a job that is gone", {"ended": [run(outcome=Outcome.FAILED, job="old")]}, []),
    ("of a vault that is gone", {"ended": [run(RunKind.PRUNE, Outcome.FAILED, job=None, vault="old")]}, []),
    (
        "of a vault that the config has no more",
        {"ended": [run(RunKind.PRUNE, Outcome.FAILED, job=None)], "vaults": [vault(kind="unknown")]},
        [],
    ),
    ("damage", {"ended": [run(RunKind.CHECK, Outcome.FAILED, job=None)]}, [(CRITICAL, Topic.RUN)]),
    ("not all seen", {"ended": [run(RunKind.CHECK, Outcome.PARTIAL, job=None)]}, [(WARNING, Topic.RUN)]),
    (
        "damage in both sorts of checks",
        {
            "ended": [
                run(RunKind.CHECK, Outcome.FAILED, job=None, reads_back=reads_back)
                for reads_back in (True, False)
            ]
        },
        [(CRITICAL, Topic.RUN)] * 2,
    ),
    ("no certificate", {"certificate": None}, []),
    ("15 days", {"certificate": certificate(15 * DAY)}, []),
    ("13 days", {"certificate": certificate(13 * DAY)}, [(WARNING, Topic.CERTIFICATE)]),
    ("2 days", {"certificate": certificate(2 * DAY)}, [(CRITICAL, Topic.CERTIFICATE)]),
    ("expired", {"certificate": certificate(-HOUR)}, [(CRITICAL, Topic.CERTIFICATE)]),
    ("not valid yet", {"certificate": certificate(366 * DAY)}, [(CRITICAL, Topic.CERTIFICATE)]),
    ("a day's, 8 h left", {"certificate": certificate(8 * HOUR, DAY)}, []),
    ("a day's, 4 h left", {"certificate": certificate(4 * HOUR, DAY)}, [(WARNING, Topic.CERTIFICATE)]),
    ("a day's, 2 h left", {"certificate": certificate(2 * HOUR, DAY)}, [(CRITICAL, Topic.CERTIFICATE)]),
    (
        "unreadable",
        {"certificate": CertificateStatus(None, None, "cannot read /x")},
        [(WARNING, Topic.CERTIFICATE)],
    ),
    ("others delete too late", {"undeleted": [UNDELETED]}, [(WARNING, Topic.COST)]),
    (
        "nobody may delete before an answer",
        {"undeleted": [UNDELETED], "waits": [WAIT]},
        [(WARNING, Topic.SHRUNK)],
    ),
    ("a date to come", {"jobs": [job(ahead=NOW + DAY)]}, [(WARNING, Topic.CLOCK)]),
    ("suspended", {"suspended": [Suspended("backup", 4711)]}, [(WARNING, Topic.LOCK)]),
    ("an archive is lost", {"losses": {"cold": 1}}, [(CRITICAL, Topic.VAULT)]),
    (
        "a check says so",
        {"losses": {"cold": 1}, "ended": [run(RunKind.CHECK, Outcome.FAILED, job=None)]},
        [(CRITICAL, Topic.RUN)],
    ),
    (
        "a check before did not find it",
        {"losses": {"cold": 1}, "ended": [run(RunKind.CHECK, job=None), run(RunKind.PRUNE, Outcome.FAILED)]},
        [(CRITICAL, Topic.VAULT), (WARNING, Topic.RUN)],
    ),
    ("of a vault that is not there", {"losses": {"old": 2}}, [(CRITICAL, Topic.VAULT)]),
    ("a restore", {"restores": [restore()]}, []),
    ("a restore is held", {"restores": [restore(held="target is gone")]}, [(WARNING, Topic.RESTORE)]),
    ("a restore lacks something", {"restores": [restore(failed=2)]}, [(WARNING, Topic.RESTORE)]),
    (
        "the critical first",
        {"daemon_runs": False, "jobs": [LATE], "certificate": certificate(13 * DAY)},
        [(CRITICAL, Topic.OVERDUE), (WARNING, Topic.CERTIFICATE), (WARNING, Topic.DAEMON)],
    ),
]


@pytest.mark.parametrize(("parts", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(parts: dict[str, Any], expected: list[tuple[Level, Topic]]) -> None:
    made = status(**parts)
    found = concerns_of(made)
    assert [(concern.level, concern.topic) for concern in found] == expected
    told = replace(made, concerns=found)
    assert told.is_well == (not expected)
    code, text = nagios_lines(told)
    levels = {level for level, _ in expected}
    assert code == (2 if CRITICAL in levels else 1 if levels else 0)
    assert text.split(":")[0] == ["OK", "WARNING", "CRITICAL"][code]
    assert len(text.splitlines()) == max(1, len(expected))


def test_each_concern_has_a_command() -> None:
    """A concern that leads nowhere helps nobody."""
    found = [concern for _, parts, _ in TABLE for concern in concerns_of(status(**parts))]
    assert len(found) > 20
    assert all(
        concern.command and concern.command.split()[0] in {"nightvault", "systemctl"} for concern in found
    )


def test_a_daemon_that_waits_for_its_clock_may_know_all() -> None:
    parts: dict[str, Any] = {"tasks": [known("backup", "main", next_at=None)], "scheduled": []}
    assert status(**parts).unread == ["job main"]
    assert status(**parts, waits_for_clock=True).unread == []


def test_an_overdue_job_says_if_a_backup_of_it_runs() -> None:
    """A first backup may take days: it is overdue all the same, since it may hang."""
    at_it = run(outcome=Outcome.RUNNING)
    cut_off = frozenset({at_it.number})
    none = frozenset[int]()
    for running, dead, told in (([], none, False), ([at_it], none, True), ([at_it], cut_off, False)):
        (one,) = concerns_of(status(jobs=[LATE], running=running, dead=dead))
        assert ("a backup of it runs since" in one.text) is told


def test_each_that_is_overdue_is_a_state_of_its_own_and_says_if_it_is_paused() -> None:
    """A check and a prune of one vault are told of apart, and so is the end of each."""
    two = [late(TaskKind.CHECK), replace(late(TaskKind.PRUNE), paused_until=NOW + HOUR)]
    check, prune = concerns_of(status(scheduled=two))
    assert check.about != prune.about
    assert "paused" not in check.text
    assert "; it is paused until " in prune.text
    first, second = concerns_of(status(scheduled=[failed(TaskKind.CHECK), failed(TaskKind.PRUNE)]))
    assert first.about != second.about


def test_a_failure_of_one_hides_none_of_another() -> None:
    """Neither of another kind nor of another name."""
    ended = [run(RunKind.PRUNE, Outcome.FAILED, job=None), run(RunKind.CHECK, Outcome.FAILED, job=None)]
    found = concerns_of(status(ended=ended, scheduled=[failed(TaskKind.DRILL)], jobs=[job(failed_at=NOW)]))
    assert len([concern for concern in found if concern.topic is Topic.RUN]) == 4
    texts = " ".join(concern.text for concern in found)
    assert "backup of job main failed" in texts
    assert "drill weekly failed" in texts


def test_archives_that_are_lost_are_counted_and_the_command_can_be_given() -> None:
    one, two = concerns_of(status(losses={"cold": 1, "old": 2}))
    assert one.text.startswith(
        "1 archive of vault cold is lost or damaged, and kept snapshots need what is in it"
    )
    assert one.command == "nightvault check --vault cold"
    assert two.text.startswith("2 archives of vault old are lost or damaged")
    assert two.command == "nightvault check --inventory"


def test_a_daemon_without_a_unit_is_to_be_installed() -> None:
    parts: dict[str, Any] = {"daemon_runs": False}
    (with_unit,) = concerns_of(status(**parts))
    (without,) = concerns_of(status(**parts, has_unit=False))
    assert with_unit.command == "systemctl status nightvault"
    assert without.command == "nightvault install --systemd"


def test_a_prune_that_failed_is_made_good_by_a_prune() -> None:
    ended = [run(RunKind.PRUNE, Outcome.FAILED, job=None), run(RunKind.COMPACT, Outcome.FAILED, job=None)]
    assert [concern.command for concern in concerns_of(status(ended=ended))] == [
        "nightvault prune --vault cold",
        "nightvault compact --vault cold",
    ]


def test_what_failed_says_why() -> None:
    ended = [run(outcome=Outcome.FAILED, error="no space left for /spool")]
    (one,) = concerns_of(status(ended=ended))
    assert one.text.startswith("backup of job main failed, ")
    assert one.text.endswith("(run 7): no space left for /spool")
    assert one.command == "nightvault runs --job main"


@pytest.mark.parametrize(
    ("outcome", "listed", "read"),
    [
        (Outcome.FAILED, "found something missing or damaged", "found something missing or damaged"),
        (Outcome.PARTIAL, "could not look at everything", "could not read everything"),
    ],
)
def test_reading_back_is_told_from_looking_at_the_list(outcome: Outcome, listed: str, read: str) -> None:
    """Neither makes up for the other: each names the command that does."""
    check = run(RunKind.CHECK, outcome, job=None)
    reading = run(RunKind.CHECK, outcome, job=None, number=8, reads_back=True)
    first, second = concerns_of(status(ended=[check, reading]))
    assert first.text.startswith(f"check of vault cold {listed}, ")
    assert first.command == "nightvault check --vault cold"
    assert second.text.startswith(f"reading back vault cold {read}, ")
    assert second.text.endswith("(run 8)")
    assert second.command == "nightvault check --vault cold --read-data 1%"


def test_a_plugin_has_one_line_and_one_bar() -> None:
    """Whatever a message holds: what follows a bar would be taken for a value."""
    hostile = "no such file: a|b\nOK: all is well|x=1\x1b[2J"
    made = status(ended=[run(outcome=Outcome.FAILED, error=hostile)])
    code, text = nagios_lines(replace(made, concerns=concerns_of(made)))
    assert code == 1
    (line,) = text.splitlines()
    assert line.count("|") == 1
    assert "\x1b" not in line


def test_the_values_of_a_plugin() -> None:
    made = replace(status(), currency="EUR")
    _, text = nagios_lines(made)
    values = text.partition(" | ")[2].split()
    assert values == [
        f"'age_main'={3 * 3600}s;;{30 * 3600};0",
        f"'stored_cold'={200 * 1024**3}B;;;0",
        "'month_cold'=0.72;;;0",
        f"'certificate'={80 * 86400}s;{14 * 86400}:;{3 * 86400}:",
    ]


def test_a_certificate_is_warned_of_before_it_is_critical() -> None:
    """Whatever its life: at some time there is a warning alone, before anything is critical."""
    for hours in (1, 24, 24 * 30, 24 * 365, 24 * 3650):
        life = timedelta(hours=hours)
        levels = [
            next(
                iter(
                    concern.level
                    for concern in concerns_of(statuses.status(certificate=certificate(left, life)))
                ),
                None,
            )
            for left in (life * part / 1000 for part in range(1000, -1, -1))
        ]
        order = [None, WARNING, CRITICAL]
        assert [order.index(level) for level in levels] == sorted(order.index(level) for level in levels)
        assert levels[0] is None
        assert levels[-1] is CRITICAL
        assert WARNING in levels


def renewal(**more: Any) -> RenewalStatus:
    """A renewal that is due some time."""
    return replace(RenewalStatus("by ssh from ca", files=False, due_at=NOW), **more)


@pytest.mark.parametrize(
    ("left", "more", "text"),
    [
        (4 * DAY, {}, None),
        (2.5 * DAY, {}, None),
        (2.3 * DAY, {}, "was to be renewed by ssh from ca by .*nothing tried to"),
        (2.3 * DAY, {"failing_since": NOW - HOUR / 2, "error": "away"}, "it has failed since .*: away"),
        (2.3 * DAY, {"files": True}, None),
        (1.7 * DAY, {"files": True}, "it wrote no new files"),
        (4 * DAY, {"failing_since": NOW - HOUR / 2, "error": "away"}, None),
        (4 * DAY, {"failing_since": NOW - HOUR, "error": "away"}, "has failed since .*: away"),
    ],
)
def test_a_renewal_that_fails_is_told_long_before_the_certificate_expires(
    left: timedelta, more: dict[str, Any], text: str | None
) -> None:
    found = concerns_of(status(certificate=certificate(left, 7 * DAY), renewal=renewal(**more)))
    assert [(concern.topic, concern.about) for concern in found] == [(Topic.CERTIFICATE, "renewal")] * (
        text is not None
    )
    assert text is None or re.search(text, found[0].text)
