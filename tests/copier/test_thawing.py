"""Snapshots are copied out of a vault that makes archives readable hours later, round by round."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from msgspec.structs import replace

from backup.copier.context import CopyChoice
from backup.copier.copy import copy
from backup.copier.report import CopyReport
from backup.cost.limit import CostLimit, TierCost
from backup.errors import LimitRefusedError
from backup.inventory.records.runs import list_runs
from backup.kinds import Outcome, RunKind
from backup.model import MIB, ArchiveId, Tier, VaultName
from backup.protocols import Vault
from backup.vault.directory import DirectoryVault
from tests.copier.support import brought_back, context_of, nights
from tests.support.backups import Site
from tests.support.doubles import Fault, FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.emulated import RunningEmulator
from tests.support.rigs import s3_client, s3_vault

ROUND = 2 * MIB


@pytest.fixture
def cold(site: Site, emulator: RunningEmulator, clock: ManualClock, request: pytest.FixtureRequest) -> Site:
    """A server that backs up into a bucket of the class GLACIER."""
    name = f"cold-{abs(hash(request.node.name))}"
    bucket = s3_vault(s3_client(emulator.s3_url), name, name="cold", clock=clock, storage_class="GLACIER")
    bucket.create()
    return replace(site, vault=bucket, job=replace(site.job, part_size=8 * MIB))


def step(site: Site, to: Vault, limit: Callable[[int, int], CostLimit] | None = None) -> CopyReport:
    """One call of a copy, as a process of its own."""
    context = replace(context_of(site, to), round_bytes=ROUND)
    if limit is not None:
        context = replace(context, limit_on=limit)
    return copy(context, site.job.name, CopyChoice())


def all_steps(site: Site, to: Vault, emulator: RunningEmulator) -> list[CopyReport]:
    """Calls of it, hours apart, until it is over."""
    reports = [step(site, to)]
    while reports[-1].waits_for:
        emulator.advance(13 * 3600)
        reports.append(step(site.reopen(), to))
    return reports


def test_rounds_go_on_for_days_in_other_processes(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator, tmp_path: Path
) -> None:
    seen = nights(cold, source, 3)
    asked = FaultyVault(cold.vault)
    reports = all_steps(replace(cold, vault=asked), second, emulator)
    assert len(reports) > 2, "all of it was one round"
    assert not reports[0].archives
    assert "retrieval" in reports[0].waits_for
    assert reports[-1].outcome is Outcome.DONE
    assert not any(report.not_copied for report in reports), "what is still to come is no failure"
    assert asked.calls["request_retrieval"] == sum(report.archives for report in reports)
    with cold.inventory.reading() as tx:
        rounds = [run for run in list_runs(tx) if run.kind is RunKind.COPY]
    assert len(rounds) == sum(bool(report.archives) for report in reports)
    assert brought_back(cold, second, tmp_path, "bare") == seen
    assert not [path for path in (cold.folder / "copies").rglob("*") if path.is_file()]
    assert step(cold, second).archives == 0


def test_a_source_that_is_pruned_meanwhile_keeps_what_the_copy_waits_for(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator
) -> None:
    nights(cold, source, 2)
    assert step(cold, second).waits_for
    with cold.inventory.reading() as tx:
        wanted = list(tx.connection.execute("SELECT number FROM copied_snapshots WHERE state = 'wanted'"))
    assert len(wanted) == 2


def test_the_limit_is_held_before_anything_is_asked_for(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator
) -> None:
    nights(cold, source, 2)
    asked = FaultyVault(cold.vault)
    cold = replace(cold, vault=asked)

    def limit(_count: int, _size: int) -> CostLimit:
        return CostLimit(Decimal(1), "this copy", [TierCost(Tier.BULK, Decimal(2))])

    with pytest.raises(LimitRefusedError, match="this copy would cost 2"):
        step(cold, second, limit)
    assert not asked.calls["request_retrieval"]
    plan = copy(
        replace(context_of(cold, second), limit_on=limit), cold.job.name, CopyChoice(), only_plan=True
    )
    assert plan.document()["retrieval"] == {"tier": Tier.BULK, "cost": "2"}
    assert any("bulk" in fact.value and "2.00 USD" in fact.value for fact in plan.facts())


def test_cut_at_its_calls_it_goes_on(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator, tmp_path: Path
) -> None:
    seen = nights(cold, source, 2)
    for call in range(0, 60, 3):
        cut = FaultyVault(cold.vault, cut_at(call, after=bool(call % 2)))
        try:
            step(replace(cold, vault=cut), second)
        except PowerCut:
            cold = cold.reopen()
        else:
            emulator.advance(13 * 3600)
    all_steps(cold, second, emulator)
    assert brought_back(cold, second, tmp_path, "bare") == seen


def test_a_pack_that_the_vault_cannot_give_is_a_problem_and_all_else_is_copied(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator, tmp_path: Path
) -> None:
    seen = nights(cold, source, 2)
    with cold.inventory.reading() as tx:
        sql = "SELECT archive_id FROM archives WHERE kind = 1 ORDER BY number DESC LIMIT 1"
        ((lost,),) = tx.connection.execute(sql)
    cold.vault.delete_archives({ArchiveId(lost): None})
    last = all_steps(cold, second, emulator)[-1]
    assert last.outcome is Outcome.PARTIAL
    assert last.not_copied == (cold.snapshots()[1].id,)
    assert "cannot be read" in last.problems[0]
    assert brought_back(cold, second, tmp_path, "bare") == seen[:1]


def test_what_was_left_to_send_and_is_gone_is_asked_for_in_another_round(
    cold: Site, source: Path, second: DirectoryVault, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It is no failure: what came is still readable, and is brought down again."""
    seen = nights(cold, source, 1)
    assert step(cold, second).waits_for
    emulator.advance(13 * 3600)
    with pytest.raises(PowerCut):
        step(cold, FaultyVault(second, Fault("complete_upload", PowerCut("as it is all there"))))
    cold = cold.reopen()
    for left in (cold.folder / "copies" / "second").iterdir():
        left.unlink()
    report = step(cold, second)
    assert (report.outcome, report.not_copied) == (Outcome.DONE, ()), report.problems
    assert brought_back(cold, second, tmp_path, "bare") == seen


def test_what_one_copy_left_to_send_another_into_another_vault_leaves_alone(
    cold: Site,
    source: Path,
    second: DirectoryVault,
    emulator: RunningEmulator,
    tmp_path: Path,
    clock: ManualClock,
) -> None:
    """Out of a cold vault it was paid for."""
    nights(cold, source, 2)
    third = DirectoryVault(VaultName("third"), str(tmp_path / "third"), clock)
    third.create()
    cut = FaultyVault(third, Fault("complete_upload", PowerCut("as it is all there")))
    assert step(cold, third).waits_for
    emulator.advance(13 * 3600)
    with pytest.raises(PowerCut):
        step(cold.reopen(), cut)
    site = cold.reopen()
    left = set((site.folder / "copies" / "third").iterdir())
    assert left
    assert all_steps(site, second, emulator)[-1].outcome is Outcome.DONE
    assert left <= set((site.folder / "copies" / "third").iterdir())
    assert all_steps(site, third, emulator)[-1].outcome is Outcome.DONE
