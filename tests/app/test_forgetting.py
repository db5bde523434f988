"""Forget and undo over three jobs: whatever is cut, each is as before or as asked, also after a rebuild."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from backup.app.backups.amending import amending_vault
from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import make_vault
from backup.app.retention.forgetting import JobPlan, forget_in, plan_by_name, plan_by_policy, refuse_refused
from backup.app.retention.undo import undo_forget
from backup.config import load_config
from backup.errors import LockedError, UsageError
from backup.format.records import CondemnedRecord
from backup.inventory.content import archives, snapshots
from backup.inventory.records import retrievals, runs
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.kinds import RunKind
from backup.model import JobName, PackKind, SnapshotId, Tier, VaultName
from backup.protocols import Vault
from backup.retention.policy import Policy
from tests.support import campaigns
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, Silent
from tests.support.emulated import REPOSITORY
from tests.support.rebuilds import rows
from tests.support.servers import Server, directory_server

T = TypeVar("T")
JOBS = (JobName("first"), JobName("second"), JobName("third"))
NIGHTS = 3
COLD = VaultName("cold")
KEEP = Policy(last=1)
EVERY = campaigns.share("NIGHTVAULT_TEST_FORGET_CUTS", 20)
"""Every n-th step is cut."""


class Power:
    """Vault calls and transactions, counted together; at one of them the power goes, before or after it."""

    def __init__(self, at: int | None = None, *, after: bool = False) -> None:
        self.steps = 0
        self._at = at
        self._after = after
        self._dark = False

    def step(self) -> bool:
        """Begin a step; whether the power goes after it."""
        if self._dark:
            raise PowerCut("there is no power")
        number, self.steps = self.steps, self.steps + 1
        if number == self._at and not self._after:
            self.go()
        return number == self._at

    def go(self) -> None:
        self._dark = True
        raise PowerCut("the power is gone")


class Powered(FaultyVault):
    """A vault that needs power."""

    def __init__(self, vault: Vault, power: Power) -> None:
        super().__init__(vault)
        self._power = power

    def _meet(self, _method: str, call: Callable[[], T]) -> T:
        goes = self._power.step()
        result = call()
        if goes:
            self._power.go()
        return result


@pytest.fixture
def with_power(monkeypatch: pytest.MonkeyPatch) -> Callable[[Power], None]:
    """Makes all vaults and transactions depend on a power."""
    writing = Inventory.writing

    def install(power: Power) -> None:
        @contextmanager
        def powered(inventory: Inventory) -> Iterator[Transaction]:
            with writing(inventory) as tx:
                yield tx
                goes = power.step()
            if goes:
                power.go()

        made = "backup.app.base.run_context.make_vault"
        monkeypatch.setattr(made, lambda *some, **more: Powered(make_vault(*some, **more), power))
        monkeypatch.setattr(Inventory, "writing", powered)

    return install


@dataclass
class Three:
    """A server with three jobs, of which copies can be brought back."""

    server: Server
    saved: Path

    def save(self) -> None:
        shutil.rmtree(self.saved, ignore_errors=True)
        for name in ("state", "vault"):
            shutil.copytree(self.server.folder / name, self.saved / name)

    def again(self) -> None:
        for name in ("state", "vault"):
            shutil.rmtree(self.server.folder / name)
            shutil.copytree(self.saved / name, self.server.folder / name)

    @contextmanager
    def run_context(self) -> Iterator[RunContext]:
        """As a new process finds them."""
        config = load_config(str(self.server.config))
        with closing(opened(config)) as inventory:
            yield RunContext(config=config, inventory=inventory, clock=self.server.clock, progress=Silent())

    def forget(self) -> None:
        with self.run_context() as at:

            def planner(tx: Transaction) -> Sequence[JobPlan]:
                now = at.clock.now()
                return [plan_by_policy(at.config, tx, job, now, instead=KEEP) for job in JOBS]

            list(forget_in(at, COLD, planner))

    def undo(self, ids: set[SnapshotId]) -> None:
        with self.run_context() as at:
            list(undo_forget(at, ids, if_all=True))

    def recover(self) -> None:
        """What the next run begins with."""
        with self.run_context() as at, amending_vault(at, COLD):
            pass

    def forgotten(self) -> dict[JobName, set[SnapshotId]]:
        with self.run_context() as at, at.inventory.reading() as tx:
            every = snapshots.list_snapshots(tx, also_forgotten=True)
        return {
            job: {snapshot.id for snapshot in every if snapshot.job == job and snapshot.forgotten_at}
            for job in JOBS
        }

    def rebuilt(self, tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of an inventory that is made from the vault alone."""
        bare = Server(tmp_path / "bare", ManualClock())
        shutil.rmtree(bare.folder, ignore_errors=True)
        bare.folder.mkdir()
        bare.config.write_text(
            self.server.config.read_text().replace(str(self.server.state), str(bare.state))
        )
        bare.done("rebuild", "--key", self.server.key_file)
        return rows(bare.state)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Three:
    folder = tmp_path_factory.mktemp("three")
    server = directory_server(folder / "server")
    text = server.config.read_text()
    head, section = text.split("[[job]]")
    server.config.write_text(
        head + "".join("[[job]]" + section.replace('"main"', f'"{job}"') + "\n" for job in JOBS)
    )
    server.init()
    for night in range(NIGHTS):
        (server.source / f"night {night}").write_bytes(os.urandom(50_000))
        server.done("backup")
    three = Three(server, folder / "saved")
    three.save()
    return three


@pytest.fixture
def three(prepared: Three) -> Three:
    prepared.again()
    return prepared


def assert_each_is_all_or_nothing(three: Three, asked: dict[JobName, set[SnapshotId]]) -> None:
    """And the jobs that are done come before those that are not."""
    states = [three.forgotten()[job] == asked[job] for job in JOBS]
    for job, is_done in zip(JOBS, states, strict=True):
        assert is_done or three.forgotten()[job] == set()
    assert states == sorted(states, reverse=True)


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_forget_is_cut(
    three: Three, tmp_path: Path, with_power: Callable[[Power], None], after: bool
) -> None:
    three.forget()
    asked = three.forgotten()
    assert [len(some) for some in asked.values()] == [NIGHTS - 1] * 3
    for number in range(int(after), 10_000, EVERY):
        three.again()
        with_power(power := Power(number, after=after))
        try:
            three.forget()
        except PowerCut:
            with_power(Power())
            three.recover()
            assert_each_is_all_or_nothing(three, asked)
            assert three.rebuilt(tmp_path) == rows(three.server.state)
            three.forget()
            assert three.forgotten() == asked
        else:
            assert power.steps > 30
            break


def condemn(three: Three) -> None:
    """Have the catalogs of two jobs condemn an archive that forgotten snapshots need alone."""
    (three.server.source / "night 1").unlink(missing_ok=True)
    three.server.done("backup")
    three.forget()
    with three.run_context() as at:
        with at.inventory.reading() as tx:
            every = archives.list_archives(tx, at.inventory.id)
            jobs = {job.name: job for job in runs.list_jobs(tx, COLD)}
        _, pack, *_ = [archive.label.pack_id for archive in every if archive.label.kind is PackKind.DATA]
        with amending_vault(at, COLD) as amender:
            for name in JOBS[:2]:
                amender.amend(RunKind.PRUNE, jobs[name], [CondemnedRecord([pack], 5)], {})


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_undo_is_cut(
    prepared: Three, tmp_path: Path, with_power: Callable[[Power], None], after: bool
) -> None:
    three = Three(prepared.server, tmp_path / "saved")
    prepared.again()
    condemn(three)
    three.save()
    forgotten = three.forgotten()
    ids = set[SnapshotId]().union(*forgotten.values())
    assert len(rows(three.server.state)["condemnations"]) == 2
    for number in range(int(after), 10_000, EVERY):
        three.again()
        with_power(power := Power(number, after=after))
        try:
            three.undo(ids)
        except PowerCut:
            with_power(Power())
            three.recover()
            now = three.forgotten()
            assert all(now[job] in (forgotten[job], set()) for job in JOBS)
            assert three.rebuilt(tmp_path) == rows(three.server.state)
            three.undo(ids)
        else:
            assert power.steps > 30
        assert set().union(*three.forgotten().values()) == set()
        assert not rows(three.server.state)["condemnations"]
        if power.steps <= number:
            break


MANY = """
import sys, time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from backup.app.retention.forgetting import plan_by_policy
from backup.app.base.opened import opened
from backup.config import load_config
from backup.errors import LockedError, UsageError
from backup.retention.policy import Policy
from backup.retention.spans import parse_span
from tests.support.doubles import START
from tests.support.restores import peak

config = load_config(sys.argv[1])
policy = Policy(within=parse_span("30d"), weekly=8, monthly=12, yearly=3)
with closing(opened(config)) as inventory, inventory.reading() as tx:
    began = time.process_time()
    plan = plan_by_policy(config, tx, "first", START + timedelta(days=10_010), instead=policy)
    print(time.process_time() - began, peak(), len(plan.goes), len(plan.plan.stays))
"""

TEN_THOUSAND = """
WITH RECURSIVE n(i) AS (SELECT 4 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
INSERT INTO snapshots (id, job, number, run, started_at, finished_at, host, sources, problems, files, bytes)
SELECT printf('%016x', i), s.job, i, s.run, s.started_at + i * 86400000000, s.finished_at, s.host, s.sources,
       s.problems, s.files, s.bytes
FROM n, (SELECT * FROM snapshots WHERE job = 1 AND number = 3) s
"""


def test_a_plan_of_ten_thousand_snapshots(three: Three) -> None:
    with three.run_context() as at, at.inventory.writing() as tx:
        tx.connection.execute(TEN_THOUSAND)
    run = subprocess.run(
        [sys.executable, "-c", MANY, str(three.server.config)],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    seconds, memory, goes, stays = run.stdout.split()
    assert float(seconds) < 1
    assert int(memory) < 150 * 1024
    assert int(goes) + int(stays) == 10_000
    assert 40 < int(stays) < 60


def test_a_policy_that_changes_meanwhile_is_that_under_the_lock(three: Three) -> None:
    """What two processes decide at once: the second sees what the first left."""
    with three.run_context() as at:
        asked = 0

        def planner(tx: Transaction) -> Sequence[JobPlan]:
            nonlocal asked
            asked += 1
            return [plan_by_policy(at.config, tx, JOBS[0], at.clock.now(), instead=KEEP)]

        with at.inventory.reading() as tx:
            assert planner(tx)[0].goes
        three.forget()  # another process, between the plan and the lock
        before = rows(three.server.state)
        assert list(forget_in(at, COLD, planner)) == []
        assert rows(three.server.state) == before
        assert asked == 2


def test_while_a_backup_runs_nothing_is_forgotten(three: Three) -> None:
    with three.run_context() as at, at.inventory.locked("backup"), pytest.raises(LockedError):
        three.forget()
    assert not any(three.forgotten().values())


def test_what_an_open_restore_reads_stays(three: Three) -> None:
    with three.run_context() as at:
        with at.inventory.writing() as tx:
            first = snapshots.list_snapshots(tx, job=JOBS[0])[0]
            retrievals.open_restore(
                tx, restore_id="r" * 16, snapshot=first.id, vault=COLD, path=b"/", target=b"/out",
                tier=Tier.STANDARD, now=at.clock.now(),
            )  # fmt: skip
        three.forget()
        assert first.id not in three.forgotten()[JOBS[0]]
        with at.inventory.reading() as tx:
            plan = plan_by_name(at.config, tx, JOBS[0], {first.id}, at.clock.now())
        with pytest.raises(UsageError, match="an open restore reads it"):
            refuse_refused([plan])
