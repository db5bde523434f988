"""The steps of `demo --ransomware`: a promise, an intruder with all roles of the server, and all back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from backup.app.base.clock import SystemClock
from backup.cli.trying.demonstration.compare import Pictured, differences, picture
from backup.cli.trying.demonstration.intruder import Intruder, Trial
from backup.cli.trying.demonstration.scratch import Copied, change_a_few, copy_tree
from backup.cli.trying.demonstration.stage import Say, Stage
from backup.errors import NightvaultError

_MOST_SHOWN = 20
_HOUR, _MINUTE = timedelta(hours=1), timedelta(minutes=1)


class RansomReport(Struct, frozen=True):
    """The results of an attack; `differences`: what did not come back as it was, or why nothing did."""

    source: str
    work: str
    copied: Copied
    until: datetime
    deeds: Sequence[Trial]  # what was tried at once; `later`: and once more, an hour before that date
    later: Sequence[Trial]
    differences: Sequence[str]
    seconds: float

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "source": self.source,
            "work": self.work,
            "files": self.copied.files,
            "bytes": self.copied.bytes,
            "left_out": sorted(self.copied.left_out),
            "until": self.until,
            "deeds": [asdict(deed) for deed in self.deeds],
            "later": [asdict(deed) for deed in self.later],
            "differences": list(self.differences),
            "seconds": self.seconds,
        }

    def table(self) -> Any:
        """Return the table of what was tried."""
        from backup.cli.render.render import table
        from backup.cli.render.tables import Column

        again = {deed.what: deed.tried for deed in self.later}
        rows = [
            (deed.what, deed.tried, again.get(deed.what), " ".join(deed.roles) or None) for deed in self.deeds
        ]
        titles = [Column(title, right=True) for title in ("requests", "before the date")]
        return table(["what was tried", *titles, "done by role"], rows)

    def hints(self) -> list[str]:
        """Return the verdict, and where to read on."""
        from backup.cli.render.render import counted

        if self.differences:
            lines = [f"the promise did NOT hold: {counted(len(self.differences), 'difference')}:"]
            lines += [f"  {line}" for line in self.differences[:_MOST_SHOWN]]
        else:
            lines = ["the promise held: every byte, name, mode and time of both nights came back"]
        if self.copied.left_out:
            count = counted(len(self.copied.left_out), "entry")
            lines.append(f"({count} of the source could not be copied, and was left out)")
        return [
            *lines,
            f"it took {self.seconds:.0f} seconds; all of it is in {self.work}; the emulator is stopped",
            "where to look next: docs/ransomware.md, which sets this up for a real server",
        ]


def run_ransomware(source: str, work: str, *, program: Sequence[str], say: Say) -> RansomReport:
    """Play it in the directory `work`. `NightvaultError` if something fails before the attack is over."""
    return _Attack(source, work, program, say, "locked").run()


class _Attack(Stage):
    """One attack, from the promise to the restore."""

    def run(self) -> RansomReport:
        """Run all steps."""
        began = time.monotonic()
        self._say(f"a copy of {self._source} is made in {self._copy}")
        copied = copy_tree(self._source, self._copy)
        self._say("\n--- 1. A server whose backups are locked in the bucket for 60 days\n")
        with self._running("--prune-subject", "demo-server", speed=1):
            snapshots, pictures = self._two_nights()
            until = self._promise()
            before = SystemClock().now() + _MINUTE
            self._call("emulator", "advance", "2m", "--admin", self._urls["admin"])
            intruder, deeds = self._break_in(snapshots)
            later = self._wait_for(until, intruder)
            try:
                self._recover(before, snapshots)
                found = [line for each in pictures for line in differences(pictures[each], self._back(each))]
            except NightvaultError as error:
                found = [str(error)]
        seconds = time.monotonic() - began
        return RansomReport(self._source, self._work, copied, until, deeds, later, found, seconds)

    def _two_nights(self) -> tuple[list[str], dict[str, dict[bytes, Pictured]]]:
        """Back up, change, back up; the snapshots, and what each of them holds."""
        first = self._run("backup", "demo")["snapshot"]
        pictures = {first: picture(self._copy)}
        self._say("\nthe second night: a few files change")
        change_a_few(self._copy, self._say)
        second = self._run("backup", "demo")["snapshot"]
        return [first, second], {**pictures, second: picture(self._copy)}

    def _promise(self) -> datetime:
        """The date until which these nights restore."""
        self._say("\n--- 2. The promise")
        self._call("object-lock", "extend")
        self._call("status", codes=range(256))  # what it warns of is told, too
        told = json.loads(self._call("status", "--json", shown=False, codes=range(256)))
        return datetime.fromisoformat(told["jobs"][0]["locks"]["until"])

    def _break_in(self, snapshots: Sequence[str]) -> tuple[Intruder, list[Trial]]:
        """Attack as somebody who has the server, and with it its keys, its schedule and its inventory."""
        self._say(
            "\n--- 3. Somebody takes the server over\n\n"
            "All that is on it is theirs: the certificate, and with it four roles in AWS\n"
            "(backup, restore, prune, lock); the config; the inventory. They encrypt the\n"
            "files, back that up, and forget the nights before it:"
        )
        _encrypt(self._copy)
        self._call("backup", "demo", codes=(0, 3))
        self._call("forget", *(snapshot[:8] for snapshot in snapshots))
        self._say("\nThen they go for the bucket, with each role:\n")
        intruder = Intruder(self._config, self._urls["rolesanywhere"])
        deeds = [*intruder.destroy(), *intruder.cover()]
        self._tell(deeds)
        shown, ours = intruder.seen()
        self._say(f"\nAny other program now sees {shown} objects there, {ours} of them as they were stored.")
        return intruder, deeds

    def _wait_for(self, until: datetime, intruder: Intruder) -> list[Trial]:
        """Nobody comes until an hour before the date; then everything is tried again."""
        self._say(
            f"\n--- 4. Nobody notices until an hour before {until:%Y-%m-%d %H:%M} UTC\n\n"
            "Backups and renewals stand still, the emulated clock does not:"
        )
        minutes = (until - SystemClock().now() - _HOUR) // _MINUTE
        left = f"{minutes // 1440}d{minutes % 1440}m"
        self._call("emulator", "advance", left, "--admin", self._urls["admin"])
        self._say("\nThey try it all once more:\n")
        deeds = intruder.destroy()
        self._tell(deeds)
        return deeds

    def _tell(self, deeds: Sequence[Trial]) -> None:
        for deed in deeds:
            self._say(f"  {deed.what:<40} {deed.tried:>4} requests: {deed.result}")

    def _recover(self, before: datetime, snapshots: Sequence[str]) -> None:
        """A clean machine has a config and the recovery key: it finds what was there, and restores it."""
        self._say(
            "\n--- 5. A clean machine, with a config and the recovery key\n\n"
            "(With a real server, first of all its roles are taken away, in AWS.)\n"
            "It takes the state of before the break-in, and renews the locks:"
        )
        clean = self._path("clean.toml")
        with open(self._config, encoding="utf-8") as file:
            text = file.read().replace(json.dumps(self._path("state")), json.dumps(self._path("clean")))
        with open(clean, "w", encoding="utf-8") as file:
            file.write(text)
        self._config, key = clean, ("--key", self._path("recovery.key"))
        moment = f"{before:%Y-%m-%dT%H:%M:%S}+00:00"
        self._call("rebuild", "--vault", "cold", *key, "--before", moment)
        self._call("object-lock", "extend", codes=(3,))
        self._say("\nWhat was done to the bucket is named, and taken back with an admin's own keys:")
        self._call("check", "--versions", codes=(1,))
        self._call("undelete", "--versions", admin=True)
        self._call("check", "--versions")
        self._say("\nBoth nights are restored:")
        for snapshot in snapshots:
            self._call("restore", snapshot[:8], "--target", self._path(snapshot[:8]), *key, "--wait")

    def _back(self, snapshot: str) -> str:
        """Return the folder that a snapshot was restored to: a whole path goes below the target."""
        return self._path(snapshot[:8]) + self._copy


def _encrypt(tree: str) -> None:
    """Give files other bytes and other names, and leave a note, as ransomware does."""
    for directory, _, names in os.walk(tree):
        for name in names:
            path = os.path.join(directory, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    content = file.read()
                with open(f"{path}.locked", "wb") as file:
                    file.write(bytes(byte ^ 0x5A for byte in content))
                os.unlink(path)
    with open(os.path.join(tree, "PAY.txt"), "w", encoding="ascii") as file:
        file.write("Your files are encrypted. Your backups are gone. Pay.\n")
