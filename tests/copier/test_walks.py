"""Whatever happens to two vaults: what the other one's catalogs say comes back from it alone."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from backup.errors import LockedError
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from backup.vault.s3.requests import Bucket
from backup.vault.s3.vault import S3Vault
from tests.copier.lost_servers import LostServers
from tests.copier.two_vaults import DAY, Pair
from tests.support import campaigns
from tests.support.clocks import EmulatorClock
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import REGION, RunningEmulator
from tests.support.rigs import glacier_client, s3_client
from tests.support.transaction_cuts import Calling, cut_transaction

pytestmark = pytest.mark.slow

USUAL = 600
STEPS = campaigns.share("NIGHTVAULT_COPY_STEPS", USUAL)
A_WALK = 40
_numbers = itertools.count()
small = st.integers(0, 40)
Acts = st.sampled_from(
    [
        *("back_up", "copy", "copy", "prune_here", "prune_there", "prune_there", "compact", "retire"),
        *("forget_here", "forget_there", "take_back_here", "take_back_there", "check_there", "check_here"),
        *("copy_what_is_unsound", "read_there"),
    ]
)


class Copying(RuleBasedStateMachine):
    """One server's life with two vaults, which `make` makes in the folder that it gets."""

    make: Callable[[Path], Pair]
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        folder = self.folder / str(next(_numbers))
        folder.mkdir()
        self.world = LostServers(folder, type(self).make(folder))

    @rule(which=small)
    def back_up(self, which: int) -> None:
        self.world.back_up(which)

    @rule(which=small)
    def copy(self, which: int) -> None:
        self.world.copy(which)

    @rule(act=Acts, which=small)
    def act(self, act: str, which: int) -> None:
        getattr(self.world, act)(which)

    @rule(days=st.sampled_from([1, 2, 5, 40]))
    def days_pass(self, days: int) -> None:
        self.world.pair.pass_time(days * DAY)

    @rule(which=small)
    def lose(self, which: int) -> None:
        self.world.lose(which)

    @rule()
    def lose_the_server(self) -> None:
        self.world.rebuild_here()

    @precondition(lambda self: self.world.lives < 4)
    @rule()
    def lose_the_server_and_its_vault(self) -> None:
        self.world.rebuild_there()

    @rule(which=small, often=st.integers(0, 3))
    def replace_the_copies(self, which: int, often: int) -> None:
        if not often:
            self.world.accept_there(which)

    @rule(which=small, often=st.integers(0, 5))
    def replace_the_source(self, which: int, often: int) -> None:
        if not often:
            self.world.accept_here(which)

    @rule(which=small)
    def bring_back_from_both(self, which: int) -> None:
        self.world.bring_back_from_both(which)

    @rule(which=small, often=st.integers(0, 2))
    def change_keys(self, which: int, often: int) -> None:
        if not often:
            self.world.change_keys(which)

    @rule()
    def prove(self) -> None:
        self.world.prove()

    @rule(act=Acts, which=small, call=st.integers(0, 25), after=st.booleans(), source=st.booleans())
    def cut_at_a_call(self, act: str, which: int, call: int, after: bool, source: bool) -> None:
        def wrap(vault: Any) -> FaultyVault:
            return FaultyVault(vault, cut_at(call, after=after))

        self._cut(act, which, self.world.around(wrap, source=source))

    @rule(act=Acts, which=small, number=st.integers(0, 40))
    def cut_at_a_transaction(self, act: str, which: int, number: int) -> None:
        self._cut(act, which, cut_transaction(self.world.site, number))

    def _cut(self, act: str, which: int, cutting: Any) -> None:
        try:
            with cutting:
                getattr(self.world, act)(which)
        except PowerCut:
            self.world.reopen()

    @rule(which=small, call=st.integers(0, 20), other=Acts, source=st.booleans())
    def beside(self, which: int, call: int, other: str, source: bool) -> None:
        """While a copy is made another process does something: also another copy, which is refused."""
        world = self.world

        def meanwhile() -> None:
            mine = world.site
            world.site = world.other_process()
            wrapped, world.wrapped = world.wrapped, None
            try:
                with suppress(LockedError):
                    getattr(world, other)(which)
            finally:
                world.site.close()
                world.site, world.wrapped = mine, wrapped

        with world.around(lambda vault: Calling(vault, call, meanwhile), source=source):
            world.copy(which)

    @invariant()
    def judge(self) -> None:
        self.world.judge()

    def teardown(self) -> None:
        self.world.drain()
        self.world.close()


def run(make: Callable[[Path], Pair], folder: Path, kind: str, share: float) -> None:
    """Walks over one pair of vaults: a share of the usual steps, or as many as were asked for."""
    machine = type(kind, (Copying,), {"make": staticmethod(make), "folder": folder})
    walks = max(1, round(STEPS * (share if STEPS == USUAL else 1) / A_WALK))
    number = campaigns.seed(None if STEPS == USUAL else random.randrange(2**32))
    if number is not None:
        print(f"{walks} walks of {A_WALK} steps, {kind}, NIGHTVAULT_TEST_SEED={number}")
        machine = seed(number)(machine)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=walks,
            derandomize=number is None,
            stateful_step_count=A_WALK,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[Phase.explicit, Phase.reuse, Phase.generate],
        ),
    )


def emulated(
    emulator: RunningEmulator, fresh_source: Callable[[str], Any], fresh: Callable[[str], Any]
) -> Pair:
    """A pair of which one is on the emulator, or both; each function makes an empty vault of a name."""
    clock = ManualClock(EmulatorClock(emulator).now())

    def pass_time(by: Any) -> None:
        clock.advance(by)
        emulator.advance(by.total_seconds())
        emulator.make_inventories()

    def made(name: str) -> Any:
        vault = fresh(name)
        vault.create()
        return vault

    def made_at_the_source(name: str) -> Any:
        vault = fresh_source(name)
        vault.create()
        return vault

    return Pair(
        made_at_the_source("first"),
        made("second"),
        clock,
        pass_time,
        tells_time=True,
        fresh=made,
        fresh_source=made_at_the_source,
    )


def directory(emulator: RunningEmulator, folder: Path, name: str) -> DirectoryVault:
    """A directory of the emulator's time."""
    path = folder / f"vault {next(_numbers)}"
    return DirectoryVault(VaultName(name), str(path), EmulatorClock(emulator))


def bucket(emulator: RunningEmulator, name: str, kind: str = "STANDARD") -> S3Vault:
    """A bucket of that class."""
    place = Bucket(f"copies-{next(_numbers)}", REGION, storage_class=kind)
    return S3Vault(VaultName(name), s3_client(emulator.s3_url), place, EmulatorClock(emulator))


def test_from_a_directory_to_another(tmp_path: Path) -> None:
    def make(folder: Path) -> Pair:
        clock = ManualClock()

        def fresh(name: str) -> DirectoryVault:
            made = DirectoryVault(VaultName(name), str(folder / f"vault {next(_numbers)}"), clock)
            made.create()
            return made

        first, second = fresh("first"), fresh("second")
        return Pair(first, second, clock, clock.advance, fresh=fresh, fresh_source=fresh)

    run(make, tmp_path, "directory to directory", 0.5)


def test_from_a_directory_to_a_bucket(tmp_path: Path, emulator: RunningEmulator) -> None:
    def make(folder: Path) -> Pair:
        return emulated(
            emulator,
            lambda name: directory(emulator, folder, name),
            lambda name: bucket(emulator, name, "GLACIER"),
        )

    run(make, tmp_path, "directory to bucket", 0.2)


def test_from_a_bucket_to_another(tmp_path: Path, emulator: RunningEmulator) -> None:
    def make(_: Path) -> Pair:
        return emulated(emulator, lambda name: bucket(emulator, name), lambda name: bucket(emulator, name))

    run(make, tmp_path, "bucket to bucket", 0.15)


def test_from_a_directory_to_glacier(tmp_path: Path, emulator: RunningEmulator) -> None:
    def make(folder: Path) -> Pair:
        client = glacier_client(emulator)

        def fresh(name: str) -> GlacierVault:
            return GlacierVault(VaultName(name), client, f"copies-{next(_numbers)}")

        return emulated(emulator, lambda name: directory(emulator, folder, name), fresh)

    run(make, tmp_path, "directory to Glacier", 0.15)
