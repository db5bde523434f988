"""The month of the directory vault: backups and their troubles, forgetting, pruning, damage, a lost state."""

from __future__ import annotations

import shutil

from tests.month.world import Month, holding

HOOKS = """
[job.hooks]
before = ["/bin/sh", "-c", "echo quiet"]
after = ["/bin/sh", "-c", "echo resumed"]
on_failure = ["/bin/sh", "-c", "echo paged"]
finally = ["/bin/sh", "-c", "echo unmounted >&2"]
"""
FAILING = """
[job.hooks]
before = ["/bin/sh", "-c", "echo the shop is busy >&2; exit 7"]
on_failure = ["/bin/sh", "-c", "echo paged"]
"""
STREAMS = """
[[job.command]]
name = "shop.dump"
run = ["/bin/sh", "-c", "echo one; echo it broke >&2; exit 3"]
"""
DRILL = """
[[drill]]
name = "rehearsal"
vault = "disk"
sample = "200 files"
"""


def live(month: Month) -> None:
    """All of it."""
    backups(month)
    troubles(month)
    forgetting(month)
    pruning(month)
    compacting(month)
    checks(month)
    drills(month)
    restores(month)
    away(month)
    rebuilds(month)


def backups(month: Month) -> None:
    """The first nights, and what is looked at."""
    month.title("the first nights")
    month.run("backup")
    month.run("init", "--non-interactive", "--key-file", month.key)
    month.run("backup", "home", "--dry-run")
    month.run("prune", "--dry-run")
    month.run("check", "--vault", "disk")
    month.run("backup", "home")
    month.at(2, "02:30")
    month.write("home/letters/two.txt", 91_000)
    month.write("home/letters/three.txt", 20_000)
    month.remove("home/notes/07.txt")
    month.run("--json", "backup", "home", "--dry-run")
    month.run("--json", "backup", "home")
    month.at(3, "02:30")
    month.write("home/movie.raw", 2_500_000)
    month.run("--quiet", "backup", "home")
    month.run("--verbose", "backup", "home")
    month.title("what is looked at")
    month.both("snapshots")
    month.both("ls", f"latest:{month.folder}/home/letters")
    month.run("ls", "-r", f"latest~1:{month.folder}/home/letters")
    month.both("find", "two.*", "--newest")
    month.both("diff", "latest~2", "latest~1")
    month.both("versions", month.folder / "home/letters/two.txt")
    month.both("runs")
    month.run("runs", "--job", "none")
    month.run("archives")
    month.both("stats", "--vault", "disk", "--job", "home")
    month.run("status")


def troubles(month: Month) -> None:
    """Backups that are partial or fail."""
    month.title("backups in trouble")
    month.at(4, "02:30")
    month.write_config(home=HOOKS)
    month.run("backup", "home")
    month.at(5, "02:30")
    month.write_config(home=f'exclude = ["*.tmp"]{STREAMS}')
    month.both("backup", "home")
    month.at(6, "02:30")
    month.write_config(home=FAILING)
    month.run("backup", "home")
    month.later(minutes=10)
    month.run("--json", "backup", "home")
    month.at(7, "02:30")
    month.write_config()
    (month.folder / "home").rename(month.folder / "away")
    month.run("backup", "home")
    month.run("--json", "backup", "home")
    (month.folder / "home").mkdir()
    month.later(minutes=30)
    month.run("backup", "home")
    month.run("status")
    month.run("--json", "snapshots")
    (month.folder / "home").rmdir()
    (month.folder / "away").rename(month.folder / "home")
    month.at(8, "02:30")
    month.run("backup", "home")
    shrunk = next(row["id"] for row in month.document("snapshots") if row["waits"])
    month.run("forget", "home")
    month.run("prune", "--vault", "disk", "--dry-run")
    month.both("snapshots", "accept", shrunk)
    month.both("runs", "--limit", 6)
    with holding(month):
        month.run("backup", "home")
        month.run("--json", "prune", "--vault", "disk")
        month.run("compact", "--vault", "disk")
        month.run("forget", "home")
    month.metrics()


def forgetting(month: Month) -> None:
    """Forgetting by policy and by id, and taking it back."""
    month.title("forgetting")
    month.at(9, "02:30")
    month.remove("home/movie.raw")
    month.run("backup", "home")
    ids = [row["id"] for row in month.document("snapshots", "--job", "home")]
    month.run("pin", ids[-2], "--note", "before the move")
    month.run("--json", "tag", "latest", "--job", "home", "--add", "release")
    month.both("forget", "--dry-run")
    month.run("forget", "home", "--keep-last", 2, "--keep-tag", "release", "--dry-run")
    month.run("forget", "home")
    month.run("snapshots", "--forgotten")
    month.run("forget", ids[-2])
    month.run("--json", "forget", ids[-1])
    month.run("forget", ids[-3], ids[0])
    month.run("forget", "latest")
    month.run("--json", "forget", "--undo", ids[-3])
    month.run("forget", "--undo", "home")
    month.run("forget", "--undo", "home", "--all")
    month.both("forget", "--undo", "--all")
    month.run("--json", "forget", "home")
    month.run("forget", "none")
    month.run("forget", "mail")


def pruning(month: Month) -> None:
    """Archives are condemned, wait, are taken back, and go."""
    month.title("pruning")
    month.at(10, "02:30")
    month.both("prune", "--vault", "disk", "--dry-run")
    month.run("prune", "--vault", "disk")
    month.run("archives", "--vault", "disk")
    month.run("--json", "prune", "--vault", "disk")
    month.run("status")
    month.both("undelete", "--vault", "disk", "--all")
    month.at(11, "02:30")
    month.run("--json", "prune", "--vault", "disk")
    month.at(13, "02:30")
    month.run("prune", "--vault", "disk")
    month.at(15, "02:30")
    month.both("prune", "--vault", "disk", "--dry-run")
    month.run("--json", "prune", "--vault", "disk")
    month.run("prune", "--vault", "disk")
    month.run("forget", "--undo", "--all")
    month.run("snapshots", "--forgotten")
    month.run("--json", "runs", "--limit", 4)


def compacting(month: Month) -> None:
    """An archive that is needed for little."""
    month.title("compacting")
    month.at(16, "02:30")
    month.write("home/large", 3_000_000)
    month.write("home/small", 5_000)
    month.run("backup", "home")
    month.remove("home/large")
    for day in (17, 18, 19):
        month.at(day, "02:30")
        month.write("home/small.two", 5_000 + day)
        month.run("--quiet", "backup", "home")
    month.run("forget", "home", "--keep-last", 1)
    month.both("compact", "--vault", "disk", "--dry-run")
    month.run("compact", "--vault", "disk", "--min-gain", "5")
    month.run("compact", "--vault", "disk")
    month.run("--json", "compact", "--vault", "disk")
    month.run("--json", "backup", "home")
    month.run("archives", "--vault", "disk")


def checks(month: Month) -> None:
    """Comparing, reading back, damage and loss."""
    month.title("checks")
    month.at(20, "02:30")
    month.both("check", "--vault", "disk")
    month.both("check", "--inventory")
    month.run("check", "--vault", "disk", "--read-data", "50%", "--dry-run")
    month.both("check", "--vault", "disk", "--read-data", "100%")
    month.run("check", "--vault", "disk", "--read-data", "100%", "--key", month.key)
    stored = [row for row in month.document("archives", "--vault", "disk") if row["state"] == "stored"]
    data = [month.stored_file(row["archive_id"]) for row in stored if row["kind"] == "data"]
    content = bytearray(data[0].read_bytes())
    content[len(content) // 2] ^= 255
    data[0].write_bytes(content)
    data[-1].rename(month.folder / "lost")
    month.at(21, "02:30")
    month.run("check", "--vault", "disk", "--read-data", "100%")
    month.run("--json", "check", "--vault", "disk", "--read-data", "100%", "--key", month.key)
    month.run("--json", "check", "--vault", "disk")
    month.run("check", "--vault", "disk", "--accept", "0" * 32)
    month.run("status")
    month.run("restore", "latest", "--job", "home", "--target", month.folder / "torn", "--key", month.key)
    month.at(22, "02:30")
    month.run("backup", "home")
    month.run("check", "--vault", "disk")
    month.run("archives", "--vault", "disk")


def drills(month: Month) -> None:
    """Rehearsals of a restore."""
    month.title("drills")
    month.run("drill", "run")
    month.write_config(drills=DRILL)
    month.both("drill", "run", "--dry-run")
    month.run("drill", "run", "rehearsal")
    month.both("drill", "run", "rehearsal", "--key", month.key)
    month.run("drill", "run", "none")
    month.both("drills")


def restores(month: Month) -> None:
    """Restores and dumps."""
    month.title("restores")
    month.at(23, "02:30")
    target = month.folder / "back"
    letters = f"latest:{month.folder}/home/letters"
    month.both("restore", letters, "--target", target, "--dry-run")
    month.run("restore", letters, "--target", target, "--key", month.key)
    month.run(
        "--json", "restore", letters, "--target", target, "--key", month.key, "--overwrite", "if-changed"
    )
    month.write("back/more", 100)
    month.run("restore", "latest", "--target", target, "--key", month.key)
    whole = ("restore", "latest", "--job", "home", "--target", target)
    month.run(*whole, "--key", month.key, "--delete")
    month.run(*whole, "--key", month.key, "--delete", "--yes", "--verify")
    month.run(*whole)
    month.run("restore", "ffff", "--target", target, "--key", month.key)
    month.run("restore", "latest:/none", "--job", "home", "--target", target, "--key", month.key)
    month.both("restores", "--all")
    month.both("dump", f"latest:{month.folder}/home/plain.txt", "--key", month.key)
    month.run("dump", letters, "--key", month.key)
    month.run("dump", letters, "--tar", "--key", month.key, "-o", month.folder / "letters.tar")
    month.run("dump", letters, "--tar", "--key", month.key, "-o", month.folder / "letters.tar")
    month.run("--json", "runs", "--limit", 3)


def away(month: Month) -> None:
    """The vault is not there."""
    month.title("the vault is away")
    month.at(24, "02:30")
    (month.folder / "vault").rename(month.folder / "unplugged")
    month.both("backup", "home")
    month.both("prune", "--vault", "disk")
    month.both("check", "--vault", "disk")
    month.both("drill", "run")
    month.run("compact", "--vault", "disk")
    month.run("forget", "home", "--keep-last", 1)
    month.both("restore", "latest", "--job", "home", "--target", month.folder / "never", "--key", month.key)
    month.run("status")
    month.both("rebuild", "--vault", "disk", "--dry-run", "--key", month.key)
    (month.folder / "unplugged").rename(month.folder / "vault")
    month.at(25, "02:30")
    month.run("backup", "home")
    month.metrics()


def rebuilds(month: Month) -> None:
    """Rehearsed, and after the state was lost."""
    month.title("rebuilding")
    month.both("rebuild", "--vault", "disk", "--dry-run", "--key", month.key)
    month.run("rebuild", "--vault", "disk", "--key", month.key)
    month.run("status")
    month.recovery_lines()
    lines = month.folder / "lines.txt"
    month.run("rebuild", "--vault", "disk", "--dry-run", "--key", month.key, "--from", lines, "--job", "home")
    shutil.rmtree(month.folder / "state")
    month.run("snapshots")
    month.run("backup", "home")
    month.run("init", "--non-interactive", "--key-file", month.folder / "another.key")
    month.at(26, "02:30")
    month.run("rebuild", "--vault", "disk", "--key", month.key)
    month.both("snapshots")
    month.run("backup", "home")
    month.both("runs")
    month.run("prune", "--vault", "disk", "--dry-run")
    month.run("rebuild", "--vault", "disk", "--key", month.key, "--set-aside", "--json")
