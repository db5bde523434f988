"""Makes the fixture of a vault that two servers share, and of which one was rebuilt three times.

    python -m tests.upgrade.make_shared_fixture

It was run once with the code of commit 0978a4ca installed (its program code, with the files of this folder
beside it), and what it made is never made again: `0978a4ca.tar.xz` and `0978a4ca.json`. Nights lie three days
apart, by a clock that is moved by hand. Packs are kept without their padding (`padding.py`).

`web` backs up `docs` and `mail`, sealed for the old key; `db` backs up `data` into the same vault, for the
old key to the end. What happens to `web` (`mail` is not backed up every night):

    first inventory   three nights
    second            a night; the recipients are both keys from now on: two nights; only then the new key
                      enrols the server; a night, with a new job `notes`; the second snapshot of `docs` is
                      forgotten, and a prune condemns; a night
    third             rebuilt with both keys: two nights; its state directory is kept as `web-before`
    fourth            rebuilt with both keys: two nights

At last the full catalog of `docs` that the second inventory wrote for both keys, and that a later one made
needless, is taken out of the vault. What rebuilds set aside is not kept.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec.structs import replace

from backup.format.pack import parse_description
from backup.model import Generation
from tests.support.doubles import ManualClock
from tests.upgrade.installed import HERE, SOURCE, contents_of, the_place
from tests.upgrade.padding import PADDINGS, leave_out
from tests.upgrade.shared import (
    JOBS,
    KEYS,
    NAME,
    SEALED_FOR,
    Expected,
    LostCatalog,
    SharingServer,
    Snapshot,
    recovery_key,
)

BEGIN = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)
PARTS = ("states", "vault", PADDINGS, *KEYS)


def main() -> None:
    """Make both files beside this one."""
    with tempfile.TemporaryDirectory() as name, the_place():
        work = Path(name)
        (work / "states").mkdir()
        made = Story(work).tell()
        packs = {path.name: path for path, _, _ in _records(work) if path.exists()}
        leave_out(work, packs, [recovery_key(work, name) for name in KEYS])
        (HERE / f"{NAME}.json").write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
        with tarfile.open(HERE / f"{NAME}.tar.xz", "w:xz", preset=9) as tar:
            for part in PARTS:
                tar.add(work / part, part)


class Story:
    """The two servers, the clock, and what was seen of their snapshots and inventories."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.clock = ManualClock(BEGIN)
        self.nights = 0
        machine = SharingServer(work, "machine-of-the-keys", self.clock)
        for name in KEYS:
            machine.run("key", "generate", "--out", machine.key(name))
        self.web = SharingServer(work, "web", self.clock, JOBS["web"][:2], KEYS[:1])
        self.db = SharingServer(work, "db", self.clock, JOBS["db"], SEALED_FOR["db"])
        self.seen: dict[str, dict[str, list[Snapshot]]] = {name: {} for name in JOBS}
        self.inventories: dict[str, list[str]] = {name: [] for name in JOBS}
        self.forgotten: dict[str, list[Snapshot]] = {}
        self.condemned: list[str] = []
        self.both_keys_at = BEGIN

    def tell(self) -> Expected:
        """All that happens, and what is expected of it."""
        self._first_inventory()
        self._second_inventory()
        self._third_inventory()
        before = self.inventories["web"][-1]
        shutil.copytree(self.web.state, self.work / "states" / "web-before")
        self._fourth_inventory()
        return Expected(
            inventories=self.inventories,
            before=before,
            snapshots=self.seen,
            forgotten=self.forgotten,
            condemned=self.condemned,
            lost_catalog=self._lose_a_catalog(),
            now=self.clock.now(),
        )

    def _first_inventory(self) -> None:
        self.web.run("init", "--non-interactive")
        self.db.run("init", "--non-interactive", "--new-history")
        for server in (self.web, self.db):
            self._enrol(server, "old.key")
            self._note_inventory(server)
        self.night("docs", "mail")
        self.night("docs", "data")
        self.night("docs", "mail")

    def _second_inventory(self) -> None:
        self._rebuild("old.key")
        self.night("docs")
        self.web = replace(self.web, sealed_for=KEYS)
        self.night("docs", "mail", more=("--accept-recipients",))
        self.both_keys_at = self._time_of_night()
        self.night("docs", "data")
        self._enrol(self.web, "new.key")
        self.web = replace(self.web, jobs=JOBS["web"])
        self.night("docs", "mail", "notes", "data")
        forgotten = self.seen["web"]["docs"].pop(1)
        self.web.run("forget", forgotten.id)
        self.forgotten = {"docs": [forgotten]}
        self._prune()
        self.night("docs", "notes")

    def _third_inventory(self) -> None:
        self._rebuild("new.key", "old.key")
        self.night("docs", "mail", "notes")
        self.night("docs", "notes", "data")

    def _fourth_inventory(self) -> None:
        self._rebuild("new.key", "old.key")
        self.night("docs", "notes")
        self.night("docs", "mail", "notes", "data")

    def night(self, *jobs: str, more: Sequence[str] = ()) -> None:
        """Three days later these jobs' trees have changed, and are backed up by their servers."""
        self.nights += 1
        self.clock.set(self._time_of_night())
        for job in jobs:
            server = self.db if job in JOBS["db"] else self.web
            _change(job, self.nights)
            (report,) = server.document("backup", job, *more)
            assert report["outcome"] == "done", report
            files = contents_of(SOURCE / job)
            self.seen[server.name].setdefault(job, []).append(Snapshot(report["snapshot"], files))
            self.clock.advance(timedelta(minutes=5))

    def _time_of_night(self) -> datetime:
        return BEGIN + timedelta(days=3 * self.nights)

    def _enrol(self, server: SharingServer, key: str) -> None:
        request, enrolment = self.work / "request", self.work / "enrolment"
        request.write_text(server.run("key", "request"))
        enrolment.write_text(server.run("key", "enroll", str(request), *server.keys(key)))
        server.run("key", "accept", str(enrolment))

    def _rebuild(self, *keys: str) -> None:
        self.clock.advance(timedelta(hours=8))
        newest = self.inventories["web"][-1]
        self.web.run("rebuild", "--set-aside", "--inventory", newest, *self.web.keys(*keys))
        self._note_inventory(self.web)
        for path in self.web.state.rglob("*.aside-*"):
            path.unlink()

    def _note_inventory(self, server: SharingServer) -> None:
        self.inventories[server.name].append(server.document("key", "status")["inventory"])

    def _prune(self) -> None:
        self.clock.advance(timedelta(hours=4))
        self.web.run("prune")
        found = self.web.document("archives")
        self.condemned = [archive["archive_id"] for archive in found if archive["state"] == "condemned"]
        assert self.condemned, found

    def _lose_a_catalog(self) -> LostCatalog:
        """Take the full catalog away that `docs` got when the recipients became two."""
        for path, text, at in _records(self.work):
            label = parse_description(text)
            assert label is not None
            if label.generation is Generation.FULL and at == self.both_keys_at:
                path.unlink()
                return LostCatalog(path.name, label.inventory_id.hex(), "docs", label.number)
        raise AssertionError(f"no full catalog was stored at {self.both_keys_at}")


def _records(work: Path) -> Iterator[tuple[Path, str, datetime]]:
    """Each archive's file, its description, and when it was stored."""
    for path in sorted((work / "vault" / "archives").rglob("*.json")):
        record = json.loads(path.read_text())
        yield path.with_suffix(""), record["description"], datetime.fromisoformat(record["created_at"])


def _change(job: str, night: int) -> None:
    """A tree of a few small files, of which two are new each night; each third one leaves one more."""
    dice = random.Random(f"{job} {night}")
    if not (SOURCE / job).exists():
        _write(f"{job}/stays/größe ☃.txt", "süß\n".encode() * 50)
        _write(f"{job}/stays/noise.bin", dice.randbytes(1500))
        _write(f"{job}/empty", b"")
        os.symlink("stays/noise.bin", SOURCE / job / "link")
    _write(f"{job}/log", b"".join(b"line %d of %s\n" % (line, job.encode()) for line in range(night * 30)))
    _write(f"{job}/of-this-night.bin", dice.randbytes(300))
    if night % 3 == 0:
        _write(f"{job}/of-night-{night:02}.bin", dice.randbytes(300))


def _write(path: str, data: bytes) -> None:
    file = SOURCE / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)


if __name__ == "__main__":
    main()
