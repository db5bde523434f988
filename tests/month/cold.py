"""The month of the Glacier vault: all takes hours and costs money."""

from __future__ import annotations

from tests.month.world import Month

DRILLS = """
[[drill]]
name = "rehearsal"
vault = "cold"
sample = "100 files"
[[drill]]
name = "poor"
vault = "cold"
sample = "100 files"
max_cost_per_month = 0.0001
"""
HOURS_OF_LIST = 5
HOURS_OF_RETRIEVAL = 5


def live(month: Month) -> None:
    """All of it."""
    month.run("--quiet", "init", "--non-interactive", "--key-file", month.key)
    backups(month)
    pruning(month)
    compacting(month)
    checks(month)
    drills(month)
    restores(month)
    faults(month)
    losses(month)
    rebuilds(month)
    deletions(month)


def backups(month: Month) -> None:
    """Nights, of which some are forgotten."""
    month.title("nights")
    month.run("backup", "etc")
    for day in (2, 3, 4):
        month.at(day, "02:30")
        month.write("etc/big.db", 2_000_000 + day)
        month.write("etc/fstab", 700 + day)
        month.run("--quiet", "--json", "backup", "etc")
    month.run("snapshots")
    month.run("forget", "etc", "--keep-last", 2)


def pruning(month: Month) -> None:
    """A prune that waits for lists, and for the minimum duration."""
    month.title("pruning")
    month.run("prune", "--vault", "cold", "--dry-run")
    month.both("prune", "--vault", "cold")
    month.emulator.make_inventories()
    month.later(hours=1)
    month.run("prune", "--vault", "cold")
    month.run("runs", "--limit", 3)
    month.run("status")
    month.later(hours=HOURS_OF_LIST)
    month.both("prune", "--vault", "cold", "--dry-run")
    month.run("prune", "--vault", "cold")
    month.both("archives", "--vault", "cold")
    month.run("forget", "--undo", "etc")
    month.run("forget", "etc", "--keep-last", 2)
    month.at(9, "02:30")
    month.emulator.make_inventories()
    month.run("prune", "--vault", "cold")
    month.later(hours=HOURS_OF_LIST)
    month.run("--json", "prune", "--vault", "cold")
    month.run("prune", "--vault", "cold", "--max-fee", "0")
    month.run("prune", "--vault", "cold", "--max-fee", "none")


def compacting(month: Month) -> None:
    """An archive that is needed for little."""
    month.title("compacting")
    month.at(10, "02:30")
    month.write("etc/large", 3_000_000)
    month.write("etc/small", 5_000)
    month.run("--quiet", "backup", "etc")
    month.remove("etc/large")
    for day in (11, 12):
        month.at(day, "02:30")
        month.run("--quiet", "backup", "etc")
    month.run("--quiet", "forget", "etc", "--keep-last", 1)
    month.both("compact", "--vault", "cold", "--dry-run")
    month.run("compact", "--vault", "cold")
    month.run("backup", "etc")


def checks(month: Month) -> None:
    """Checks that wait, are refused, and are begun anew."""
    month.title("checks")
    month.at(13, "02:30")
    month.both("check", "--vault", "cold")
    month.emulator.make_inventories()
    month.later(hours=HOURS_OF_LIST)
    month.both("check", "--vault", "cold")
    month.later(hours=HOURS_OF_LIST)
    month.run("check", "--vault", "cold")
    month.both("check", "--vault", "cold", "--read-data", "100%", "--dry-run")
    month.both("check", "--vault", "cold", "--read-data", "100%", "--max-cost", "0.0001")
    month.both("check", "--vault", "cold", "--read-data", "50%", "--max-cost", "5")
    month.run("check", "--vault", "cold", "--read-data", "100%", "--anew", "--tier", "bulk")
    month.run("runs", "--limit", 4)
    month.run("status")
    month.later(hours=9)
    month.run("--json", "check", "--vault", "cold", "--read-data", "100%", "--key", month.key)
    month.run("--quiet", "check", "--vault", "cold", "--read-data", "100%", "--key", month.key)
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.run("check", "--vault", "cold", "--read-data", "100%", "--key", month.key)
    month.both("runs", "--limit", 1)


def drills(month: Month) -> None:
    """Drills that wait, and one for which the month's money is not enough."""
    month.title("drills")
    month.at(15, "02:30")
    month.write_config(drills=DRILLS)
    month.run("drill", "run")
    month.both("drill", "run", "rehearsal", "--dry-run")
    month.both("drill", "run", "poor")
    month.both("drill", "run", "rehearsal")
    month.run("status")
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.run("drill", "run", "rehearsal")
    month.run("drill", "run", "rehearsal", "--key", month.key)
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.run("--json", "drill", "run", "rehearsal")
    month.run("drill", "run", "rehearsal", "--key", month.key)
    month.both("drills")


def restores(month: Month) -> None:
    """Restores that wait, are refused, cancelled, continued."""
    month.title("restores")
    month.at(17, "02:30")
    target = month.folder / "back"
    one = f"latest:{month.folder}/etc/ssl"
    month.both("restore", "latest", "--target", target, "--dry-run")
    month.both("restore", "latest", "--target", target, "--key", month.key, "--max-cost", "0.0001")
    month.run("restore", "latest", "--target", target, "--key", month.key)
    month.run("--json", "restore", "latest", "--target", target, "--key", month.key)
    month.both("restores")
    month.run("status")
    (open_,) = month.document("restores")
    month.later(hours=1)
    month.run("restore", "resume", open_["id"])
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.run("restores")
    month.run("restore", "resume", open_["id"])
    month.run("restore", "resume", "ffffffff")
    month.at(19, "02:30")
    month.run(
        "--json", "restore", one, "--target", month.folder / "other", "--key", month.key, "--tier", "bulk"
    )
    (open_,) = month.document("restores")
    month.both("restore", "cancel", open_["id"])
    month.both("restores", "--all")
    month.write_config(restore="max_restore_cost = 0.0001")
    month.run("restore", "latest", "--target", month.folder / "third", "--key", month.key)
    month.write_config()
    month.run(
        "restore",
        one,
        "--target",
        month.folder / "fourth",
        "--key",
        month.key,
        "--wait",
        "--tier",
        "expedited",
    )
    month.run("dump", f"latest:{month.folder}/etc/plain.conf", "--key", month.key)
    month.run("dump", f"latest:{month.folder}/etc/plain.conf", "--key", month.key, "--wait")
    month.emulator.change_settings(expedited_capacity=False)
    month.later(hours=30)
    fifth = (
        "restore",
        "latest",
        "--target",
        month.folder / "fifth",
        "--key",
        month.key,
        "--tier",
        "expedited",
    )
    month.run(*fifth, "--on-capacity", "fail")
    month.run(*fifth, "--on-capacity", "standard")
    month.emulator.change_settings(expedited_capacity=True)
    month.later(hours=40)
    month.run("restores")
    month.run("restore", "resume", month.document("restores")[0]["id"])
    month.run("restore", "cancel", month.document("restores")[0]["id"])
    month.both("runs", "--limit", 2)


def faults(month: Month) -> None:
    """The vault does not answer, refuses, is slow to know, and gives what is wrong."""
    month.title("a vault in trouble")
    target = month.folder / "never"
    month.at(22, "02:30")
    month.emulator.set_faults([{"operation": "*", "reset": True, "count": 100_000}])
    for words in COMMANDS:
        month.run("--patience", "2m", *words)
    month.run("--json", "backup", "etc")
    month.run("--json", "--patience", "1m", "prune", "--vault", "cold")
    month.run("--json", "--patience", "1m", "restore", "latest", "--target", target, "--key", month.key)
    month.at(23, "02:30")
    month.emulator.set_faults([{"operation": "*", "code": "AccessDeniedException", "count": 100_000}])
    for words in COMMANDS:
        month.run(*words)
    month.run("--json", "backup", "etc")
    month.run("--json", "check", "--vault", "cold", "--read-data", "10%")
    month.run("status")
    month.at(24, "02:30")
    month.emulator.set_faults(
        [{"operation": "UploadMultipartPart", "code": "RequestTimeoutException", "count": 2}]
    )
    month.write("etc/hosts", 95)
    month.run("backup", "etc")
    month.emulator.set_faults([{"operation": "InitiateJob", "code": "ThrottlingException", "count": 3}])
    month.run("check", "--vault", "cold", "--read-data", "100%")
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.emulator.set_faults([{"operation": "GetJobOutput", "corrupt": True, "count": 1}])
    month.run("check", "--vault", "cold", "--read-data", "100%")
    month.emulator.set_faults([])
    month.metrics()


COMMANDS = (
    ("backup", "etc"),
    ("prune", "--vault", "cold"),
    ("check", "--vault", "cold"),
    ("check", "--vault", "cold", "--read-data", "10%"),
    ("compact", "--vault", "cold"),
    ("forget", "etc", "--keep-last", 1),
)


def losses(month: Month) -> None:
    """An archive is gone from the vault."""
    month.title("an archive is gone")
    month.at(25, "12:30")
    stored = [row for row in month.document("archives", "--vault", "cold") if row["state"] == "stored"]
    data = [row for row in stored if row["kind"] == "data"]
    month.delete_archive(data[0]["archive_id"])
    month.emulator.make_inventories()
    month.later(hours=1)
    month.run("--quiet", "check", "--vault", "cold")
    month.later(hours=HOURS_OF_LIST)
    month.both("check", "--vault", "cold")
    month.run("status")
    month.run("restore", "latest", "--target", month.folder / "torn", "--key", month.key)
    month.run("prune", "--vault", "cold")
    month.run("backup", "etc")
    month.run("archives", "--vault", "cold")


def rebuilds(month: Month) -> None:
    """A rehearsal, and another state directory."""
    month.title("rebuilding")
    month.at(27, "02:30")
    month.emulator.make_inventories()
    month.both("rebuild", "--vault", "cold", "--dry-run", "--key", month.key)
    month.later(hours=HOURS_OF_LIST)
    month.run("rebuild", "--vault", "cold", "--dry-run", "--key", month.key)
    month.later(hours=HOURS_OF_RETRIEVAL)
    month.run("rebuild", "--vault", "cold", "--dry-run", "--key", month.key)
    month.run("runs", "--limit", 2)
    (month.folder / "state").rename(month.folder / "old state")
    month.run("rebuild", "--vault", "cold", "--key", month.key)
    month.later(hours=HOURS_OF_LIST)
    month.run("--json", "rebuild", "--vault", "cold", "--key", month.key)
    month.run("status")
    month.later(hours=HOURS_OF_LIST)
    month.run("rebuild", "--vault", "cold", "--key", month.key)
    month.run("snapshots")
    month.run("backup", "etc")
    month.run("status")


def deletions(month: Month) -> None:
    """After the minimum duration all that is condemned goes, but what somebody refuses."""
    month.title("months later")
    month.run("forget", "etc", "--keep-last", 1)
    listed(month, "prune", "--vault", "cold")
    month.at(31, "12:30")
    listed(month, "prune", "--vault", "cold", "--max-fee", "1")
    month.at(110, "02:30")
    month.run("status")
    month.emulator.set_faults([{"operation": "DeleteArchive", "code": "AccessDeniedException", "count": 1}])
    listed(month, "prune", "--vault", "cold")
    month.emulator.set_faults([])
    month.run("prune", "--vault", "cold", "--wait")
    month.run("--json", "runs", "--limit", 2)
    month.run("archives", "--vault", "cold")


def listed(month: Month, *words: str) -> None:
    """Run a command that waits for a new list, and again once it is there."""
    month.emulator.make_inventories()
    month.run("--quiet", *words)
    month.later(hours=HOURS_OF_LIST)
    month.run(*words)
