"""Whatever happens in whatever order: what is kept comes back, nothing goes too early, the dead all go."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from backup.errors import LockedError, NightvaultError
from backup.pruner.listed import PruneStoppedError
from tests.pruner import grounds
from tests.pruner.judged import DAY, HOUR
from tests.pruner.others import Forgery, Others
from tests.pruner.world import CONTENTS, FILES
from tests.support import campaigns
from tests.support.doubles import FaultyVault, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.holding import Ground
from tests.support.transaction_cuts import Calling, cut_transaction

pytestmark = pytest.mark.slow

USUAL = 1000
STEPS = campaigns.share("NIGHTVAULT_PRUNE_STEPS", USUAL)
A_WALK = 50
SHARES = {"directory": 0.7, "glacier": 0.15, "bucket": 0.15}
_numbers = itertools.count()

small = st.integers(0, 40)
Acts = st.sampled_from(["back_up", "forget", "take_back", "prune", "prune", "undelete", "retire", "compact"])
Elsewhere = st.sampled_from(["old_image", "old_image_wakes", "second_heir", "rival_goes_on"])
Forgeries = st.builds(
    Forgery,
    job=st.integers(0, 1),
    shape=st.sampled_from(["full", "delta", "first"]),
    parent=st.sampled_from(["newest", "older", "made up"]),
    number=st.sampled_from(["next", "low", "high"]),
    condemned=st.integers(0, 5),
    dropped=st.integers(0, 3),
    claims=st.sampled_from(["nobody", "server", "ancestor"]),
    label=st.sampled_from(["true", "true", "true", "other job", "no job", "ancestor", "server"]),
)


class Pruning(RuleBasedStateMachine):
    """One server's life; `ground` makes its vault, in the folder that it gets."""

    ground: Callable[[Path], Ground]
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        self.world = Others(folder, type(self).ground(folder))

    # What happens every day.

    @rule(job=small, files=st.lists(st.tuples(small, small), min_size=1, max_size=3))
    def back_up(self, job: int, files: list[tuple[int, int]]) -> None:
        for file, content in files:
            self.world.change(job, file, content)
        self.world.back_up(job)

    @rule(which=small)
    def forget(self, which: int) -> None:
        self.world.forget(which)

    @rule(which=small)
    def take_back(self, which: int) -> None:
        self.world.take_back(which)

    @rule(which=small)
    def pin(self, which: int) -> None:
        self.world.pin(which)

    @rule(which=small)
    def retire(self, which: int) -> None:
        self.world.retire(which)

    @rule()
    def compact(self) -> None:
        self.world.compact()

    @rule()
    def undelete(self) -> None:
        self.world.undelete()

    @rule()
    def say_it_is_right(self) -> None:
        self.world.say_it_is_right()

    @rule(days=st.sampled_from([1, 2, 5, 40]))
    def days_pass(self, days: int) -> None:
        self.world.pass_time(days * DAY)

    @rule(deletes=st.sampled_from([True, True, True, False]))
    def prune(self, deletes: bool) -> None:
        self._prune(deletes=deletes)

    @rule()
    def prune_for_good(self) -> None:
        """As a daemon does, until the list has come."""
        for _ in range(3):
            if not self._prune():
                break
            self.world.wait()

    @rule()
    def plan(self) -> None:
        try:
            self.world.prune(only_plan=True)
        except PruneStoppedError as error:
            if not self._may_stop(error):
                raise

    @rule()
    def check(self) -> None:
        self.world.check()

    @rule(which=small)
    def restore(self, which: int) -> None:
        self.world.restore(which)

    # What goes wrong.

    @rule(act=Acts, which=small, call=st.integers(0, 25), after=st.booleans())
    def cut_at_a_call(self, act: str, which: int, call: int, after: bool) -> None:
        def wrap(vault: Any) -> FaultyVault:
            return FaultyVault(vault, cut_at(call, after=after))

        self._cut(act, which, self.world.around(wrap))

    @rule(act=Acts, which=small, number=st.integers(0, 40))
    def cut_at_a_transaction(self, act: str, which: int, number: int) -> None:
        self._cut(act, which, cut_transaction(self.world.site, number))

    def _cut(self, act: str, which: int, cutting: Any) -> None:
        self.world.last_cut = self.world.clock.now()
        try:
            with cutting:
                self._act(act, which)
        except PowerCut:
            self.world.reopen()

    @rule(act=Acts, which=small, call=st.integers(0, 20))
    def beside(self, act: str, which: int, call: int) -> None:
        """Another process wants to prune meanwhile."""

        def prune() -> None:
            mine, self.world.site = self.world.site, self.world.other_process()
            try:
                with pytest.raises(LockedError):
                    self.world.prune()
            finally:
                self.world.site.close()
                self.world.site = mine

        with self.world.around(lambda vault: Calling(vault, call, prune)):
            self._act(act, which)

    @rule(act=Acts, which=small, call=st.integers(0, 20), other=Acts)
    def suspended(self, act: str, which: int, call: int, other: str) -> None:
        """A process sleeps at a call; its lock is taken away, another goes on; then it wakes up."""
        world = self.world

        def meanwhile() -> None:
            mine, world.site = world.site, world.other_process()
            try:
                world.site.inventory.take_lock_away()
                world.pass_time(5 * HOUR)
                self._act(other, which)
                world.judge()
            finally:
                world.site.close()
                world.site = mine

        try:
            with world.around(lambda vault: Calling(vault, call, meanwhile)):
                self._act(act, which)
        except NightvaultError:  # that of the lock, or what the other one finished is not there any more
            world.reopen()

    @rule(which=small)
    def lose(self, which: int) -> None:
        self.world.lose(which)

    @rule()
    def others_delete(self) -> None:
        self.world.others_look()
        self.world.others_delete()

    @rule()
    def keep(self) -> None:
        self.world.keep()

    @rule(then=st.one_of(Acts, st.just("rebuild")), which=small)
    def others_delete_late(self, then: str, which: int) -> None:
        """By a view that is hours old; the next backup meets all the contents that there ever were."""
        self.world.others_look()
        self._act(then, which)
        self.world.others_delete()
        for some in (which, which + len(FILES)):
            for file in range(len(FILES)):
                self.world.change(which, file, (some + file) % len(CONTENTS))
            self.world.back_up(which)

    @rule(days=st.sampled_from([0, 1, 30]))
    def refuse(self, days: int) -> None:
        self.world.vault.refuses_until = self.world.clock.now() + days * DAY

    @rule(days=st.sampled_from([-20, -1, 1, 20]))
    def jump(self, days: int) -> None:
        """By days; by minutes at a service that takes no request which a clock signed that is further off."""
        a_day, most = DAY, 40
        if not self.world.vault.traits.lists_at_once:
            a_day, most = timedelta(seconds=30), 28
        if abs(self.world.skew + days * a_day) <= most * a_day:
            self.world.jump(days * a_day)

    @rule()
    def set_right(self) -> None:
        self.world.jump(-self.world.skew)

    @rule()
    def rebuild(self) -> None:
        self.world.rebuild()

    # Who else writes into the vault.

    @rule(forgery=Forgeries)
    def hostile(self, forgery: Forgery) -> None:
        self.world.hostile(forgery)

    @rule(number=small)
    def hostile_mark(self, number: int) -> None:
        self.world.hostile_mark(number)

    @rule(act=Elsewhere, which=small, looks=st.booleans(), prunes=st.booleans())
    def elsewhere(self, act: str, which: int, looks: bool, prunes: bool) -> None:
        """Another machine of this server."""
        if act == "old_image":
            self.world.old_image()
        elif act == "second_heir":
            self.world.second_heir(which)
        else:
            getattr(self.world, act)(which, looks=looks, prunes=prunes)

    @rule(which=small)
    def rebuild_aside(self, which: int) -> None:
        self.world.rebuild_aside(which)

    @rule()
    def answer(self) -> None:
        self.world.answer()

    # How it is done, and judged.

    def _act(self, act: str, which: int) -> None:
        if act == "back_up":
            self.world.change(which, which // 2, which // 3)
            self.world.back_up(which)
        elif act == "prune":
            self._prune()
        else:
            getattr(self.world, act)(which)

    def _prune(self, *, deletes: bool = True) -> bool:
        """Whether it waits for the list."""
        try:
            return self.world.prune(deletes=deletes).state == "waiting"
        except PruneStoppedError as error:
            if not self._may_stop(error):
                raise
            return False

    def _may_stop(self, error: PruneStoppedError) -> bool:
        """A catalog of a clock that was behind seems to be older than a list: the next list shows it."""
        is_wrong = abs(self.world.skew) > timedelta(minutes=4)
        may_lack = self.world.has_jumped or self.world.has_lost
        return is_wrong or (may_lack and "lacks" in str(error)) or self.world.may_ask(error)

    @invariant()
    def judge(self) -> None:
        self.world.judge()

    def teardown(self) -> None:
        self.world.drain()
        self.world.close(every=STEPS > USUAL)


def run(ground: Callable[[Path], Ground], folder: Path, kind: str) -> None:
    """Walks over one kind of vault."""
    machine = type(kind, (Pruning,), {"ground": staticmethod(ground), "folder": folder})
    walks = max(1, round(STEPS * SHARES[kind] / A_WALK))
    number = campaigns.seed(None if STEPS <= USUAL else random.randrange(2**32))
    if number is not None:
        print(f"{walks} walks of {A_WALK} steps over a {kind}, NIGHTVAULT_TEST_SEED={number}")
        machine = seed(number)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=walks,
            derandomize=number is None,  # the same walks each time; a campaign takes new ones
            stateful_step_count=A_WALK,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[
                Phase.explicit,
                Phase.reuse,
                Phase.generate,
            ],  # to shrink a walk takes longer than to read it
        ),
    )


def test_over_a_directory(tmp_path: Path) -> None:
    run(grounds.directory, tmp_path, "directory")


def test_over_glacier(tmp_path: Path, emulator: RunningEmulator) -> None:
    run(grounds.glacier(emulator), tmp_path, "glacier")


def test_over_a_bucket(tmp_path: Path, emulator: RunningEmulator) -> None:
    run(grounds.bucket(emulator), tmp_path, "bucket")
