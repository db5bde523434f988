"""The month of the bucket: lists are there at once, and what is read must be restored first."""

from __future__ import annotations

from tests.month.world import Month

DRILLS = """
[[drill]]
name = "rehearsal"
jobs = ["mail"]
sample = "1GiB"
max_cost_per_month = 0.5
"""


def live(month: Month) -> None:
    """All of it."""
    month.run("--quiet", "init", "--non-interactive", "--key-file", month.key)
    month.title("nights")
    month.run("backup", "mail")
    for day in (2, 3):
        month.at(day, "02:30")
        month.write("mail/inbox", 1_000_000 + day)
        month.run("--json", "backup", "mail")
    month.run("forget", "mail", "--keep-last", 1)
    pruning(month)
    checks(month)
    drills(month)
    restores(month)
    faults(month)
    losses(month)
    rebuilds(month)
    deletions(month)


def pruning(month: Month) -> None:
    """A prune of what costs a fee."""
    month.title("pruning")
    month.both("prune", "--vault", "bucket", "--dry-run")
    month.run("prune", "--vault", "bucket")
    month.run("undelete", "--vault", "bucket", "0000")
    month.run("undelete", "--vault", "bucket")
    month.at(7, "12:30")
    month.both("prune", "--vault", "bucket")
    month.run("prune", "--vault", "bucket", "--max-fee", "0.00001")
    month.run("prune", "--vault", "bucket", "--max-fee", "1", "--dry-run")
    month.run("--json", "prune", "--vault", "bucket", "--max-fee", "1")
    month.run("prune", "--max-fee", "1", "--dry-run")
    month.run("compact", "--vault", "bucket")
    month.run("archives", "--vault", "bucket")


def checks(month: Month) -> None:
    """Checks of objects that must be restored first."""
    month.title("checks")
    month.at(8, "02:30")
    month.both("check", "--vault", "bucket")
    month.run("check", "--vault", "bucket", "--read-data", "100%", "--dry-run")
    month.run("check", "--vault", "bucket", "--read-data", "100%", "--max-cost", "0")
    month.run("check", "--vault", "bucket", "--read-data", "100%", "--max-cost", "1")
    month.run("--json", "check", "--vault", "bucket", "--read-data", "100%")
    month.later(hours=6)
    month.run("check", "--vault", "bucket", "--read-data", "100%")
    month.run("--json", "runs", "--limit", 1)
    month.run("check", "--read-data", "10%")


def drills(month: Month) -> None:
    """A drill by key."""
    month.title("drills")
    month.at(9, "02:30")
    month.write_config(drills=DRILLS)
    month.run("drill", "run", "--dry-run")
    month.run("drill", "run", "--key", month.key)
    month.later(hours=6)
    month.run("drill", "run")
    month.both("drill", "run")
    month.run("drills")
    month.at(10, "02:30")
    month.write("mail/sent", 41_000)
    month.run("--quiet", "backup", "mail")
    month.write_config(drills=DRILLS.replace("0.5", "0"))
    month.both("drill", "run")
    month.run("status")
    month.write_config()


def restores(month: Month) -> None:
    """Restores that wait for objects."""
    month.title("restores")
    month.at(20, "02:30")
    target = month.folder / "back"
    month.both("restore", "latest", "--target", target, "--dry-run")
    month.run("restore", "latest", "--target", target, "--key", month.key, "--max-cost", "0.00001")
    month.run("restore", "latest", "--target", target, "--key", month.key, "--max-cost", "1")
    month.run("restores")
    month.later(hours=3)
    month.run("--json", "restore", "latest", "--target", target, "--key", month.key)
    month.later(hours=3)
    month.run("restore", "latest", "--target", target, "--key", month.key)
    month.run("restores", "--all")
    month.run("dump", f"latest:{month.folder}/mail/plain.mbox", "--key", month.key)


COMMANDS = (
    ("backup", "mail"),
    ("prune", "--vault", "bucket"),
    ("check", "--vault", "bucket"),
    ("check", "--vault", "bucket", "--read-data", "100%"),
    ("compact", "--vault", "bucket"),
    ("forget", "mail", "--keep-last", 1),
)


def faults(month: Month) -> None:
    """The bucket does not answer, refuses, and forgets."""
    month.title("a bucket in trouble")
    month.at(22, "02:30")
    month.write("mail/inbox", 1_000_100)
    for fault in ({"reset": True}, {"code": "AccessDenied"}, {"code": "SlowDown"}):
        month.emulator.set_faults([{"operation": "s3:*", "count": 100_000, **fault}])
        for words in COMMANDS:
            month.run("--patience", "1m", *words)
        month.later(hours=1)
    month.emulator.set_faults([{"operation": "s3:*", "code": "NoSuchBucket", "count": 100_000}])
    month.both("backup", "mail")
    month.run("prune", "--vault", "bucket")
    month.emulator.set_faults([{"operation": "s3:PutObject", "code": "InternalError", "count": 2}])
    month.later(hours=1)
    month.run("backup", "mail")
    month.emulator.set_faults([])


def losses(month: Month) -> None:
    """An object is gone, another is not what was stored."""
    month.title("an object is gone")
    month.at(24, "02:30")
    stored = [row for row in month.document("archives", "--vault", "bucket") if row["state"] == "stored"]
    data = [row for row in stored if row["kind"] == "data"]
    month.delete_object(data[-1]["archive_id"])
    month.both("check", "--vault", "bucket")
    month.run("prune", "--vault", "bucket")
    month.run("restore", "latest", "--target", month.folder / "torn", "--key", month.key)
    month.run("status")
    month.run("backup", "mail")
    month.run("check", "--vault", "bucket")


def rebuilds(month: Month) -> None:
    """A rehearsal, and another state directory."""
    month.title("rebuilding")
    month.at(25, "02:30")
    month.both("rebuild", "--vault", "bucket", "--dry-run", "--key", month.key)
    (month.folder / "state").rename(month.folder / "old state")
    month.run("rebuild", "--vault", "bucket", "--key", month.key)
    month.run("backup", "mail")
    month.run("runs")


def deletions(month: Month) -> None:
    """After the minimum duration all that is condemned goes."""
    month.title("months later")
    month.run("forget", "mail", "--keep-last", 1)
    month.run("prune", "--vault", "bucket")
    month.at(120, "02:30")
    month.emulator.set_faults(
        [{"operation": "s3:DeleteObjects", "key": "data/*", "code": "AccessDenied", "count": 1}]
    )
    month.run("prune", "--vault", "bucket")
    month.emulator.set_faults([])
    month.run("--json", "prune", "--vault", "bucket")
    month.later(hours=30)
    month.run("prune", "--vault", "bucket")
    month.run("archives", "--vault", "bucket")
    month.run("status")
