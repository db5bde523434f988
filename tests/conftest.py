"""What tests of several packages share: a state folder, a clock, keys, an inventory, vaults, an emulator."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, settings

from backup.catalogs.context import Keys
from backup.format.keys import RecoveryKey
from backup.inventory.store.database import Inventory, create_inventory
from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from backup.workers import process
from tests.support import (
    campaigns,
    key_stores,
    quick_clients,
    quick_collection,
    quick_inventories,
    quick_passwords,
    quick_settings,
    quick_syncs,
    s3_servers,
    temporary_files,
)
from tests.support.backups import INVENTORY_ID, Site, recovery_key, server_keys
from tests.support.doubles import ManualClock
from tests.support.emulated import RunningEmulator, write_accounts
from tests.support.key_stores import pytest_runtest_setup  # noqa: F401  a hook
from tests.support.other_processes import heeding_hangups  # noqa: F401  a fixture
from tests.support.quick_inventories import real_migrations  # noqa: F401  a fixture
from tests.support.quick_passwords import real_passwords  # noqa: F401  a fixture
from tests.support.quick_syncs import real_syncs  # noqa: F401  a fixture
from tests.support.run_order import longest_first
from tests.support.users import nobody  # noqa: F401  a fixture
from tests.support.without_coverage import measuring_nothing

# Laws are about what is true, not how fast: a busy machine must not break one.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# As the command does: to look for cycles among hundreds of thousands of objects again and again takes a
# tenth of the suite's time.
gc.set_threshold(100_000, 50, 50)

quick_clients.quicken()
quick_syncs.quicken()
quick_inventories.quicken()
quick_passwords.quicken()
quick_settings.quicken()

# Workers get hardly any environment: those of a suite that is measured get what measures them.
process.PASSED_ON += tuple(name for name in os.environ if name.startswith("COVERAGE_"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--room` and `--keep-folders`."""
    temporary_files.add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the run a folder of its own, watched and removed at the end."""
    temporary_files.configure(config)


@pytest.fixture(scope="session")
def tmp_path_factory(tmp_path_factory: pytest.TempPathFactory) -> pytest.TempPathFactory:
    """pytest's; what it makes for a fixture goes with that fixture."""
    return cast("pytest.TempPathFactory", temporary_files.Folders(tmp_path_factory))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many workers as processors: two fifths of its time a worker waits, for disks and timers."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Share the compiling of the tests with the other workers."""
    quick_collection.share(session.config)


def pytest_collection_finish() -> None:
    """Look no more among all the tests for cycles."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _few_to_look_through() -> None:
    """Look no more for cycles among what files before this one brought: a daemon looks after each run."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, and measure the coverage of cases alone.

    Laws and slow tests would take half as long again by it.
    """
    items[:] = longest_first(items)
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("hypothesis"):
            item.add_marker(pytest.mark.no_cover)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Nor measure the programs that such tests start."""
    with measuring_nothing() if item.get_closest_marker("no_cover") else nullcontext():
        return (yield)


def pytest_runtest_call() -> None:
    """Let a test that was asked for more than its usual share take its time."""
    if campaigns.may_take_long():
        faulthandler.cancel_dump_traceback_later()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many tests used what is not ours: key stores, S3 servers."""
    key_stores.tell_how_many_ran(terminalreporter)
    s3_servers.tell_how_many_ran(terminalreporter)


# A suite that was started in the background may ignore SIGINT, and so would all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty state folder with its spool."""
    folder = tmp_path / "state"
    (folder / "spool").mkdir(parents=True)
    return folder


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
def key() -> RecoveryKey:
    """The recovery key."""
    return recovery_key()


@pytest.fixture
def keys() -> Keys:
    """What the server seals with."""
    return server_keys()


@pytest.fixture
def inventory(state: Path, keys: Keys, clock: ManualClock) -> Iterator[Inventory]:
    """A new inventory in the state folder."""
    made = create_inventory(
        f"sqlite:///{state / 'inventory.sqlite'}",
        inventory_id=INVENTORY_ID,
        signer_public=keys.signer.public,
        now=clock.now(),
        lock_directory=str(state),
    )
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An empty folder to back up."""
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def disk(tmp_path: Path, clock: ManualClock) -> DirectoryVault:
    """A directory vault, made."""
    vault = DirectoryVault(VaultName("disk"), str(tmp_path / "vault"), clock)
    vault.create()
    return vault


@pytest.fixture
def site(tmp_path: Path, disk: DirectoryVault, source: Path, clock: ManualClock) -> Iterator[Site]:
    """An installation that backs `source` up into `disk`."""
    made = Site.create(tmp_path / "site", disk, [source], clock=clock)
    yield made
    made.close()


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    """A running emulator with one account, for the tests of one module."""
    folder = tmp_path_factory.mktemp("emulator")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running
