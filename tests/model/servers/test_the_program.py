"""A real server, and one rebuilt from its vault, come to the states of the model by the same steps."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.format.records import ForgottenRecord, TakenBackRecord, TakenUpRecord
from backup.inventory.content.archives import ArchiveState
from backup.inventory.store.times import micros
from backup.model import PackKind
from tests.model.search import Step
from tests.model.servers.rebuilding import Rebuilt
from tests.model.servers.servers import Servers
from tests.model.servers.world import PERIOD, SERVER, UNCONFIRMED, Cast, Night, Row, World
from tests.support.backups import Site
from tests.support.checks import query
from tests.support.shared_vaults import SharedVault, shared_vault, source_of

LIFE = Cast(packs=4, nights=5, forgets=3, undos=2, undeletes=1, prunes=5, periods=5)
_THERE = {ArchiveState.STORED.value, UNCONFIRMED}


class Life(Struct):
    """A real server beside its model; `numbers` are of its snapshots, by the order of their catalogs."""

    shared: SharedVault
    site: Site
    numbers: dict[int, int] = {}

    def does(self, step: Step[World], before: World) -> None:
        """The same on the real server; a minute passes, or a period."""
        words = step.story
        if words == "a period passes":
            self.shared.clock.advance(PERIOD)
        elif found := re.search(r"saves a snapshot of chunk (\d+)", words):
            self._saves(int(found[1]))
            self.numbers[step.world.machines[0].nights[-1].order] = len(self.numbers) + 1
        elif found := re.search(r"forgets snapshot (\d+)", words):
            now = micros(self.shared.clock.now())
            self.site.amend(ForgottenRecord([self.numbers[int(found[1])]], now))
        elif found := re.search(r"takes snapshot (\d+) back", words):
            taken_up = [TakenUpRecord(self._packs_taken_up(before, step.world))]
            self.site.amend(TakenBackRecord([self.numbers[int(found[1])]]), *taken_up)
        elif "undeletes" in words:
            self.site.amend(TakenUpRecord(self._packs_taken_up(before, step.world)))
        else:
            assert "prunes" in words, words
            self.shared.prune(self.site, deletes=True)
        self.shared.clock.advance(PERIOD / 1000)

    def _saves(self, chunk: int) -> None:
        (source_of(self.site) / "file").write_bytes(random.Random(chunk).randbytes(20_000))
        self.site.backup()

    def _packs_taken_up(self, before: World, after: World) -> list[bytes]:
        was = {row.pack: row.state for row in before.machines[0].rows}
        packs = [pack.order for pack in after.packs]
        rows = query(self.site, _ARCHIVES)
        return [
            rows[packs.index(row.pack)][1]
            for row in after.machines[0].rows
            if row.state == UNCONFIRMED and was[row.pack] != UNCONFIRMED
        ]


_ARCHIVES = f"SELECT state, pack_id FROM archives WHERE kind = {int(PackKind.DATA)} ORDER BY number"


def states(site: Site) -> list[str]:
    """The states of its data archives."""
    return [ArchiveState.STORED.value if row[0] in _THERE else row[0] for row in query(site, _ARCHIVES)]


def modelled(rows: tuple[Row, ...]) -> list[str]:
    """The same of the model."""
    return [ArchiveState.STORED.value if row.state in _THERE else row.state for row in rows]


def kept(site: Site) -> list[int]:
    """The numbers of its snapshots that are not forgotten."""
    return [snapshot.number for snapshot in site.snapshots()]


@contextmanager
def life() -> Iterator[Life]:
    """A server without a snapshot."""
    with TemporaryDirectory() as folder, shared_vault("directory", Path(folder), None) as shared:
        yield Life(shared, shared.first(0), {})


def _kept(nights: tuple[Night, ...], numbers: dict[int, int]) -> list[int]:
    return [numbers[night.order] for night in nights if night.forgotten < 0]


def telling(steps: list[Step[World]]) -> list[Step[World]]:
    """The steps to choose from: those oftener that are rare and change much, no prune that does nothing."""
    often = [step for step in steps if re.search(r"condemned|dropped|deletes \(|undeletes", step.story)]
    return [step for step in steps if "says nothing" not in step.story] + 4 * often


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 59), min_size=10, max_size=24))
def test_the_same_steps_lead_to_the_same_states(choices: list[int]) -> None:
    model = Servers(LIFE)
    world = model.initial
    with life() as real:
        for choice in choices:
            steps = telling(list(model.steps(world)))
            if not steps:
                break
            step = steps[choice % len(steps)]
            real.does(step, world)
            world = step.world
            (server,) = world.machines
            assert states(real.site) == modelled(server.rows), step.story
            assert kept(real.site) == _kept(server.nights, real.numbers), step.story
        if not real.numbers:
            return
        rebuilt = model.vault.rebuild(model.vault.shown(world), SERVER)
        heir = real.shared.heir(real.site, "heir")
        assert isinstance(rebuilt, Rebuilt)
        assert kept(heir) == _kept(rebuilt.folded.nights, real.numbers)
        there = [pack.there for pack in world.packs]
        found = zip(states(heir), modelled(rebuilt.folded.rows), there, strict=True)
        assert all(state == in_model for state, in_model, is_there in found if is_there)
