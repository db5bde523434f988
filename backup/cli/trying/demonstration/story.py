"""The steps of the demo: authority, server, emulated AWS, two backups, a restore, loss of the server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from backup.cli.trying.demonstration.compare import differences, picture
from backup.cli.trying.demonstration.scratch import Copied, change_a_few, copy_tree
from backup.cli.trying.demonstration.stage import Say, Stage

_MOST_SHOWN = 20


class DemoReport(Struct, frozen=True):
    """The results of a demo; sizes in bytes, times in seconds."""

    source: str
    work: str
    copied: Copied
    first: dict[str, Any]
    second: dict[str, Any]
    restore: dict[str, Any]
    rebuild: dict[str, Any]
    again: dict[str, Any]
    differences: Sequence[str]
    seconds: float
    program: str

    def document(self) -> dict[str, Any]:
        """Return the report as a JSON document."""
        return {
            "source": self.source,
            "work": self.work,
            "files": self.copied.files,
            "bytes": self.copied.bytes,
            "left_out": sorted(self.copied.left_out),
            "first": self.first,
            "second": self.second,
            "restore": self.restore,
            "rebuild": self.rebuild,
            "restore_after_rebuild": self.again,
            "differences": list(self.differences),
            "seconds": self.seconds,
        }

    def table(self) -> Any:
        """Return the table at the end of the demo."""
        from backup.cli.render.render import size, table
        from backup.cli.render.tables import Column

        def night(name: str, report: dict[str, Any]) -> tuple[object, ...]:
            sizes = [size(report[key]) for key in ("bytes_read", "bytes_new", "bytes_uploaded")]
            return name, report["files"], *sizes, report["archives"], f"{report['seconds']:.1f}"

        def restored(name: str, report: dict[str, Any]) -> tuple[object, ...]:
            read, seconds = size(report["retrieved"]), f"{report['seconds']:.1f}"
            return name, report["files"], read, None, None, report["retrievals"], seconds

        rebuilt = f"{self.rebuild['seconds']:.1f}"
        rows = [
            night("first night", self.first),
            night("second night", self.second),
            restored("restore of the first", self.restore),
            ("state directory lost: rebuild", self.rebuild["entries"], *[None] * 4, rebuilt),
            restored("restore after it", self.again),
        ]
        titles = ("files", "read", "new", "uploaded", "archives", "seconds")
        return table(["", *(Column(title, right=True) for title in titles)], rows)

    def hints(self) -> list[str]:
        """Return the verdict, and hints what to look at next."""
        from backup.cli.render.render import counted

        if self.differences:
            count = counted(len(self.differences), "difference")
            lines = [f"NOT the same: the restores have {count} from the copy of {self.source}:"]
            lines += [f"  {line}" for line in self.differences[:_MOST_SHOWN]]
        else:
            lines = [f"every byte, name, mode and time of both restores is as in the copy of {self.source}"]
        if self.copied.left_out:
            count = counted(len(self.copied.left_out), "entry")
            lines.append(f"({count} of it could not be copied, and was left out)")
        config = os.path.join(self.work, "config.toml")
        return [
            *lines,
            f"it took {self.seconds:.0f} seconds; all of it is in {self.work}; the emulator is stopped",
            "where to look next:",
            f"  {self.program} --config {config} snapshots",
            f"  {self.program} --config {config} ls -l latest",
            "  docs/first-server.md, which leads to a real server; `begin` asks, and writes its config",
        ]


def run_demo(
    source: str, work: str, *, program: Sequence[str], say: Say, vault: str = "glacier"
) -> DemoReport:
    """Run all steps in the directory `work`, with a vault of that kind. `NightvaultError` if one fails."""
    return _Demo(source, work, program, say, vault).run()


class _Demo(Stage):
    """One demo on its way."""

    def run(self) -> DemoReport:
        """Run all steps, from the authority to the comparison."""
        began = time.monotonic()
        self._say(f"a copy of {self._source} is made in {self._copy}")
        copied = copy_tree(self._source, self._copy)
        before = picture(self._copy)  # others go on to change the source meanwhile
        with self._running():
            first, second, restore = self._nights()
            rebuild, again = self._disaster(first)
        found = []
        for target in ("restored", "restored-again"):
            restored = self._path(target) + self._copy  # a whole path goes below the target
            found += list(differences(before, restored))
        reports = first, second, restore, rebuild, again
        seconds = time.monotonic() - began
        return DemoReport(
            self._source, self._work, copied, *reports, found, seconds, shlex.join(self._program)
        )

    def _nights(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Back up, change, back up, look, restore the first; the three reports."""
        first = self._run("backup", "demo")
        self._say("\nthe second night: a few files change")
        change_a_few(self._copy, self._say)
        second = self._run("backup", "demo")
        for words in (("vaults",), ("archives",), ("snapshots",), ("runs",)):
            self._call(*words)
        restore = self._run(
            *("restore", first["snapshot"][:8], "--target", self._path("restored")),
            *("--key", self._path("recovery.key"), "--wait"),
        )
        return first, second, restore

    def _disaster(self, first: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lose inventory and keys, rebuild them from the vault, restore again; the two reports."""
        state, lines = self._path("state"), self._path("recovery-lines.txt")
        shutil.copy(os.path.join(state, "recovery-lines.txt"), lines)
        self._say(f"\nthe disaster: {state} is deleted, with the inventory and the server's keys")
        shutil.rmtree(state)
        key = ("--key", self._path("recovery.key"))
        self._say(f"\n$ nightvault {shlex.join(('rebuild', '--from', lines, *key, '--wait'))}")
        rebuilt = json.loads(self._call("rebuild", "--from", lines, *key, "--wait", "--json", shown=False))
        jobs = ", ".join(f"{job['name']}: {job['snapshots']} snapshots" for job in rebuilt["jobs"])
        self._say(f"inventory {rebuilt['inventory']} rebuilt: {rebuilt['entries']} entries, job {jobs}")
        self._call("snapshots")
        again = self._run(
            *("restore", first["snapshot"][:8], "--target", self._path("restored-again")), *key, "--wait"
        )
        return rebuilt, again
