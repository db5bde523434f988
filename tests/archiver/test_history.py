"""Random trees over many nights: every snapshot restores to what was there on its night."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from backup.inventory.content import entries
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.archiver.reader import Rebuilt, read_catalogs
from tests.support import campaigns
from tests.support.backups import Site
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.integrity import assert_nothing_left_over, assert_stored, list_now
from tests.support.trees import Seen, assert_same_tree, snapshot_of

pytestmark = pytest.mark.slow

names = st.sampled_from([b"a", b"b", b"a-", b"a0", b"\xff", b"caf\xc3\xa9"])
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
sizes = st.sampled_from([0, 1, 100, 4000, 300_000])
moments = itertools.count(10**18, 10**9)


class Nights(RuleBasedStateMachine):
    """Edits by day, backups by night, now and then a power cut."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="nightvault-test-"))
        self.source = os.fsencode(self.folder / "source")
        os.mkdir(self.source)
        clock = ManualClock()
        self.vault = DirectoryVault(VaultName("disk"), str(self.folder / "vault"), clock)
        self.vault.create()
        self.site = Site.create(self.folder / "state", self.vault, [self.source], clock=clock)
        self.trees: dict[int, dict[bytes, Seen]] = {}
        self.chance = random.Random(0)

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance.seed(seed)

    def place(self, path: bytes) -> bytes:
        """The full path, with directories on the way made."""
        full = os.path.join(self.source, path)
        parent = self.source
        for step in path.split(b"/")[:-1]:
            parent = os.path.join(parent, step)
            if not os.path.isdir(parent) or os.path.islink(parent):
                self.clear(parent)
                os.mkdir(parent)
        return full

    def clear(self, full: bytes) -> None:
        """Remove whatever is there."""
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        elif os.path.lexists(full):
            os.unlink(full)

    @rule(path=paths, size=sizes)
    def write(self, path: bytes, size: int) -> None:
        full = self.place(path)
        self.clear(full)
        with open(full, "wb") as file:
            file.write(self.chance.randbytes(size))

    @rule(path=paths, data=st.binary(max_size=8))
    def append(self, path: bytes, data: bytes) -> None:
        full = self.place(path)
        if os.path.isfile(full) and not os.path.islink(full):
            with open(full, "ab") as file:
                file.write(data)

    @rule(path=paths, to=paths)
    def link(self, path: bytes, to: bytes) -> None:
        full = self.place(path)
        self.clear(full)
        os.symlink(to, full)

    @rule(path=paths)
    def remove(self, path: bytes) -> None:
        self.clear(self.place(path))

    @rule(path=paths, mode=st.sampled_from([0o600, 0o644, 0o700, 0o755]))
    def set_mode(self, path: bytes, mode: int) -> None:
        full = self.place(path)
        if os.path.lexists(full) and not os.path.islink(full):
            os.chmod(full, mode | (0o700 if os.path.isdir(full) else 0))

    @rule(path=paths)
    def touch(self, path: bytes) -> None:
        full = self.place(path)
        if os.path.lexists(full):
            moment = next(moments)
            os.utime(full, ns=(moment, moment), follow_symlinks=False)

    @rule(path=paths, to=paths)
    def rename(self, path: bytes, to: bytes) -> None:
        full, new = self.place(path), self.place(to)
        if (
            os.path.lexists(full)
            and not (new + b"/").startswith(full + b"/")
            and not (full + b"/").startswith(new + b"/")
        ):
            self.clear(new)
            os.rename(full, new)

    @rule()
    def back_up(self) -> None:
        report = self.site.backup()
        assert report.problems == ()
        self.remember()

    @rule(call=st.integers(0, 12), after=st.booleans())
    def power_cut(self, call: int, after: bool) -> None:
        dark = FaultyVault(self.vault, cut_at(call, after=after))
        try:
            replace(self.site, vault=dark).backup()
        except PowerCut:
            tree = snapshot_of(self.source)
            self.site = self.site.reopen()
            self.site.backup()  # it may find the cut run's snapshot true
            self.trees.update(
                {
                    snapshot.number: tree
                    for snapshot in self.site.snapshots()
                    if snapshot.number not in self.trees
                }
            )
        else:
            self.remember()

    def remember(self) -> None:
        """Note what the newest snapshot must be."""
        self.trees[self.site.snapshot().number] = snapshot_of(self.source)

    @precondition(lambda self: self.trees)
    @rule(which=st.integers(0, 10**6))
    def restore(self, which: int) -> None:
        found = self.site.snapshots()
        self.check(found[which % len(found)].id)

    def check(self, snapshot_id: str) -> None:
        """A snapshot restores to its night's tree."""
        number = self.site.snapshot(snapshot_id).number
        target = self.folder / "restored"
        self.site.restore(snapshot_id, target)
        assert_same_tree(self.trees[number], target)
        shutil.rmtree(target)

    @invariant()
    def names_of_the_newest(self) -> None:
        """The inventory holds the names of the newest snapshot, and of all before."""
        for snapshot in self.site.snapshots():
            with self.site.inventory.reading() as tx:
                rows = entries.entries_below(tx, snapshot.job_number, self.source, snapshot.number)
                found = {os.path.relpath(path + b"/" + row.name, self.source) for path, row in rows}
            assert found == set(self.trees[snapshot.number])

    def teardown(self) -> None:
        try:
            for snapshot in self.site.snapshots():
                self.check(snapshot.id)
            assert_nothing_left_over(self.site)
            assert_stored(self.site, list_now(self.vault))
            rebuilt = Rebuilt()
            for catalog in read_catalogs(self.vault, self.site.key):
                if catalog.is_delta:
                    rebuilt.apply(catalog)
            assert set(rebuilt.snapshot_ids) == set(self.trees)
        finally:
            self.site.close()
            shutil.rmtree(self.folder)


TestNights = Nights.TestCase
TestNights.settings = settings(
    max_examples=campaigns.share("NIGHTVAULT_TEST_NIGHTS", 8),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
