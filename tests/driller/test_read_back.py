"""Drills that read back: what was proven, what they find, what they cost, and cuts at every call."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.checker import read_sample
from backup.checker.sample import Amount
from backup.driller import planning, read_back
from backup.driller.context import DrillContext
from backup.errors import LimitRefusedError, MonthSpentError
from backup.inventory.questions.proofs import Proof, proofs
from backup.inventory.records.readings import Grade
from backup.kinds import Outcome
from backup.model import MIB, JobName, VaultName
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.checks import archive_file, archive_ids, check_world, corrupt, query
from tests.support.doubles import NO_LIMIT, FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.drills import by_megabyte, drill, drill_world, recorded
from tests.support.emulated import RunningEmulator
from tests.support.integrity import fill
from tests.support.rigs import glacier_client, s3_client, s3_vault

HOUR = 3600


def proof_of(site: Site) -> Proof:
    with site.inventory.reading() as tx:
        return sum(proofs(tx, site.clock.now()).values(), Proof())


def test_files_are_read_back_until_all_was(site: Site) -> None:
    """What was never proven comes first, so a handful of drills has proven every file's content."""
    context = drill_world(site, files=3)
    before = proof_of(site)
    assert (before.read_back, before.last_read_back) == (0, None)
    seen: set[bytes] = set()
    for _ in range(40):
        chosen = planning.plan(context, Grade.READ_BACK)
        assert chosen is not None
        if all(candidate.proven_at for candidate in chosen.files):
            break
        seen |= {candidate.path for candidate in chosen.files}
        report = drill(site, context)
        assert (report.outcome, report.grade) == (Outcome.DONE, Grade.READ_BACK)
        site.clock.sleep(HOUR)
    else:
        raise AssertionError("it never came to an end")
    after = proof_of(site)
    assert 0 < after.read_back <= after.bytes
    assert after.opened == 0
    assert after.last_read_back is not None
    assert {run.outcome for run in [recorded_drill.run for recorded_drill in recorded(site)]} == {
        Outcome.DONE
    }


def test_bytes_are_read_back_and_checks_count(site: Site) -> None:
    world = check_world(site)
    run = read_sample.begin_reading(read_sample.plan_sample(Amount(size=MIB), world), world, NO_LIMIT)
    read_sample.go_on(run, world)
    by_check = proof_of(site).read_back
    assert by_check >= MIB
    report = drill(site, drill_world(site, size=MIB))
    assert report.read is not None
    assert proof_of(site).read_back >= by_check + MIB, "what was never read comes first"
    drill(site, drill_world(site, size=100 * MIB))
    proof = proof_of(site)
    assert (proof.read_back, proof.share(Grade.READ_BACK)) == (proof.bytes, 1.0)


def test_only_the_archives_of_its_jobs(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    fill(tmp_path / "other", 7, MIB)
    other = replace(site, job=replace(site.job, name=JobName("other"), sources=(bytes(tmp_path / "other"),)))
    other.backup()
    drill(site, drill_world(site, size=100 * MIB, jobs=["other"]))
    with site.inventory.reading() as tx:
        found = {job: proof for (_, job), proof in proofs(tx, site.clock.now()).items()}
    assert found[JobName("job")].read_back == 0
    assert found[JobName("other")].share(Grade.READ_BACK) == 1.0
    report = drill(site, drill_world(site, files=500, jobs=["other"], name="files"))
    assert report.read is not None
    assert report.read.archives == found_archives(site, "other")


def found_archives(site: Site, job: str) -> int:
    sql = """SELECT count(*) FROM archives a JOIN runs r ON r.number = a.run JOIN jobs j ON j.number = r.job
             WHERE j.name = ? AND a.kind = 1"""
    return int(query(site, sql, job)[0][0])


def test_what_is_damaged_is_found_and_told(site: Site, tmp_path: Path) -> None:
    (first, *_) = archive_ids(site)
    path = archive_file(tmp_path / "vault", first)
    path.chmod(0o600)
    corrupt(path, path.stat().st_size // 2, 20)
    report = drill(site, drill_world(site, size=100 * MIB))
    assert report.outcome is Outcome.FAILED
    assert [(finding.kind, finding.what) for finding in report.findings if finding.kind == "damaged"] == [
        ("damaged", first)
    ]
    assert "nightvault backup" in report.advice
    (newest, *_) = recorded(site)
    assert newest.run.outcome is Outcome.FAILED
    assert "damaged" in newest.run.report["error"]
    assert proof_of(site).share(Grade.READ_BACK) == 1.0, "of what is not known to be damaged"


def test_what_is_lost_is_found(site: Site, tmp_path: Path) -> None:
    (first, *_) = archive_ids(site)
    archive_file(tmp_path / "vault", first).unlink()
    report = drill(site, drill_world(site, size=100 * MIB))
    assert report.outcome is Outcome.FAILED
    assert "missing" in {finding.kind for finding in report.findings}


def test_a_month_allows_so_much(site: Site, clock: ManualClock) -> None:
    """A sample that is too dear is made smaller; once the month's money is spent, it waits for the next."""
    stored = proof_of(site).bytes
    limit = by_megabyte(planned(site)) - Decimal("0.01")
    context = drill_world(site, size=100 * MIB, limit=str(limit), price=by_megabyte)
    assert drill(site, context).outcome is Outcome.DONE
    with pytest.raises(MonthSpentError, match="drill weekly may cost"):
        drill_often(site, context)
    assert 0 < proof_of(site).read_back < stored
    costs = query(site, "SELECT sum(cost) FROM drill_costs")
    assert 0 < costs[0][0] <= int(limit * 1_000_000)
    clock.advance(timedelta(days=31))
    assert drill(site, context).outcome is Outcome.DONE, "a new month"


def drill_often(site: Site, context: DrillContext) -> None:
    for _ in range(20):
        drill(site, context)


def planned(site: Site) -> Any:
    chosen = planning.plan(drill_world(site, size=100 * MIB), Grade.READ_BACK)
    assert chosen is not None
    return chosen.pieces


def test_files_that_are_too_dear_are_passed_over(site: Site, source: Path) -> None:
    (source / "giant").write_bytes(bytes(range(256)) * 4096 * 6)
    site.backup()
    context = drill_world(site, files=400, limit="0.02", price=by_megabyte)
    report = drill(site, context)
    assert report.outcome is Outcome.DONE
    assert report.cost <= 20_000


def test_an_unknown_price_stops_it_only_with_a_limit(site: Site) -> None:
    context = drill_world(site, files=1, limit="5", price=lambda _: None)
    with pytest.raises(LimitRefusedError, match="it is unknown whether drill weekly stays below 5") as caught:
        read_back.step(context)
    assert not isinstance(caught.value, MonthSpentError)
    assert not recorded(site)
    assert drill(site, drill_world(site, files=1, price=lambda _: None)).outcome is Outcome.DONE


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_cut_at_every_call(site: Site, after: bool) -> None:
    for number in itertools.count():
        name = f"cut-{number}-{after}"
        cut = FaultyVault(site.vault, cut_at(number, after=after))
        try:
            drill(site, drill_world(site, files=2, name=name, limit="1", price=by_megabyte, vault=cut))
        except PowerCut:
            report = drill(site, drill_world(site, files=2, name=name, limit="1", price=by_megabyte))
            assert report.outcome is Outcome.DONE
        else:
            assert number >= 3, "too few calls for a test of cuts"
            break
        mine = [recorded_drill for recorded_drill in recorded(site) if recorded_drill.name == name]
        assert len(mine) == 1, "what was begun is gone on with"
        assert 0 < mine[0].cost <= 1_000_000


@pytest.fixture(params=["glacier", "s3"])
def cold(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    source: Path,
    clock: ManualClock,
    emulator: RunningEmulator,
) -> Iterator[Site]:
    """Two nights in a vault that takes hours."""
    number = next(_numbers)
    if request.param == "glacier":
        client: Any = glacier_client(emulator)
        vault: Any = GlacierVault(VaultName("cold"), client, f"drilled-{number}")
        site_parts = MIB
    else:
        vault = s3_vault(s3_client(emulator.s3_url), f"drilled-{number}", storage_class="GLACIER")
        site_parts = 8 * MIB
    vault.create()
    made = Site.create(
        tmp_path / "cold",
        vault,
        [source],
        clock=clock,
        part_size=site_parts,
        wait=lambda: emulator.advance(13 * HOUR),
    )
    made.backup()
    yield made
    made.close()


_numbers = itertools.count()


def test_hours_may_pass(cold: Site, emulator: RunningEmulator) -> None:
    context = drill_world(cold, files=4, limit="1", price=by_megabyte)
    report = read_back.step(context)
    assert (report.state, report.run is not None) == ("waiting", True)
    assert read_back.step(context).run == report.run, "nothing new is begun meanwhile"
    report = drill(cold, context)
    assert report.outcome is Outcome.DONE
    assert proof_of(cold).read_back > 0
    assert len(recorded(cold)) == 1


def test_what_expired_is_asked_for_again_only_within_the_month(cold: Site, emulator: RunningEmulator) -> None:
    """Outputs are gone after days: to ask again is recorded as spent, or not done at all."""
    needs = by_megabyte(planning_pieces(cold))
    for name, limit, outcome in (("poor", needs, Outcome.PARTIAL), ("rich", needs * 2, Outcome.DONE)):
        context = drill_world(cold, files=2, name=name, limit=str(limit), price=by_megabyte, seed=3)
        assert read_back.step(context).state == "waiting"
        (before, *_) = recorded(cold)
        emulator.advance(10 * 24 * HOUR)
        cold.clock.sleep(10 * 24 * HOUR)
        report = drill(cold, context)
        (after, *_) = recorded(cold)
        assert after.cost <= int(limit * 1_000_000)
        if cold.vault.traits.retrieves_ranges:  # in S3 a copy that is gone is asked for as one that never was
            assert report.outcome is outcome
            assert (after.cost > before.cost) == (outcome is Outcome.DONE)


def planning_pieces(site: Site) -> Any:
    chosen = planning.plan(drill_world(site, files=2, seed=3), Grade.READ_BACK)
    assert chosen is not None
    return chosen.pieces


def test_cut_at_every_call_of_a_cold_vault(cold: Site, emulator: RunningEmulator) -> None:
    """Whatever is cut, nothing is paid twice: one row of cost, and one retrieval for each piece."""
    for number in itertools.count(step=2):
        name = f"cut-{number}"
        cut = FaultyVault(cold.vault, cut_at(number, after=bool(number % 4)))
        before = retrievals(cold, emulator)
        context = drill_world(cold, files=2, name=name, limit="1", price=by_megabyte, vault=cut)
        try:
            drill(cold, context)
        except PowerCut:
            drill(cold, replace_vault(context, cold))
        else:
            assert number >= 4, "too few calls for a test of cuts"
            break
        (mine,) = [recorded_drill for recorded_drill in recorded(cold) if recorded_drill.name == name]
        asked = query(cold, "SELECT count(*) FROM readings WHERE run = ?", mine.run.number)[0][0]
        assert retrievals(cold, emulator) - before <= asked + 1


def replace_vault(context: DrillContext, site: Site) -> DrillContext:
    return replace(context, vault=site.vault)


def retrievals(site: Site, emulator: RunningEmulator) -> int:
    """Those that the meter has charged."""
    location = site.vault.state().location
    name = location.removeprefix("s3://").rstrip("/").rpartition("/")[2]
    lines = [
        line for position in emulator.bill()["bill"] if position["name"] == name for line in position["lines"]
    ]
    return int(
        sum(Decimal(line["quantity"]) for line in lines if "retrieval requests" in line["item"]) * 1000
    )
