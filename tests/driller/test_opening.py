"""Drills that open: restored into a directory of their own, compared, nothing left, nothing paid twice."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.driller import candidates, planning, scratch
from backup.driller import restore_grade as opening
from backup.driller.compare import compare
from backup.driller.context import DrillContext
from backup.driller.report import DrillReport
from backup.errors import LockedError, RecoveryKeyError, RetrievalExpiredError, SpoolError, UsageError
from backup.format.keys import RecoveryKey
from backup.inventory.records.readings import Grade
from backup.kinds import Outcome
from backup.model import MIB, VaultName
from backup.operations.drill import step
from backup.restorer import restore
from backup.restorer.report import RestoreReport
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site, recovery_key
from tests.support.checks import archive_file, archive_ids, corrupt, proof_of, query
from tests.support.doubles import FaultyVault, ManualClock, PowerCut, cut_at
from tests.support.drills import by_megabyte, drill_world, priced, recorded
from tests.support.emulated import RunningEmulator
from tests.support.rigs import glacier_client, s3_client, s3_vault

HOUR = 3600
KEYS = [recovery_key()]


def opens(site: Site, context: DrillContext, keys: list[RecoveryKey] | None = None) -> DrillReport:
    """A drill that opens, waiting as needed; the key is given once."""
    given = KEYS if keys is None else keys
    for _ in range(30):
        report = step(context, given)
        given = []
        if report.state == "done":
            return report
        site.wait()
    raise AssertionError(f"it waits for ever for {report.waits_for}")


def assert_nothing_left(site: Site) -> None:
    assert not (site.folder / "drills").exists()
    assert os.listdir(site.folder / "restores") == [], "no keys of packs"
    assert query(site, "SELECT count(*) FROM restores WHERE state = 'open'") == [(0,)]


@pytest.fixture
def linked(site: Site, source: Path) -> Site:
    """A fourth night: hard links, an attribute, a strange mode, a directory nobody may write to."""
    inner = source / "inner"
    inner.mkdir()
    (inner / "one").write_text("of two names")
    os.link(inner / "one", source / "other name")
    (inner / "strange").write_text("strange")
    os.setxattr(inner / "strange", b"user.note", b"kept")
    (inner / "strange").chmod(0o4750)
    inner.chmod(0o555)
    os.utime(inner, ns=(1_700_000_000_123_456_789,) * 2)
    site.backup()
    return site


def test_files_are_opened_until_all_were(linked: Site, source: Path) -> None:
    for _ in range(60):
        report = opens(linked, drill_world(linked, files=5))
        assert (report.outcome, report.findings) == (Outcome.DONE, ())
        assert report.opened is not None
        assert len(report.opened.names) == min(3, report.opened.files)
        assert all(os.path.isfile(name) or os.path.islink(name) for name in report.opened.names)
        assert report.opened.files >= 5
        assert_nothing_left(linked)
        proof = proof_of(linked)
        if proof.opened == proof.read_back and opened_all(linked):
            break
        linked.clock.sleep(HOUR)
    assert proof.last_opened == linked.clock.now()
    assert 0 < proof.opened <= proof.bytes
    assert proof.read_back >= proof.opened, "what was opened was read back, too"


def opened_all(site: Site) -> bool:
    with site.inventory.reading() as tx:
        return all(
            candidate.proven_at
            for candidate in candidates.files(tx, drill_world(site, files=1), Grade.OPENED)
        )


def test_all_of_it_with_links_and_the_source(linked: Site) -> None:
    report = opens(linked, drill_world(linked, size=100 * MIB))
    assert (report.outcome, report.findings) == (Outcome.DONE, ())
    assert report.opened is not None
    assert report.opened.hard_links == 1
    assert 0 <= report.opened.with_source <= report.opened.files
    host = query(linked, "SELECT host FROM snapshots LIMIT 1")[0][0]
    with linked.inventory.writing() as tx:
        tx.connection.execute("UPDATE snapshots SET host = ?", (os.uname().nodename,))
    again = opens(linked, drill_world(linked, size=100 * MIB))
    assert again.opened is not None
    assert host == "host"
    assert again.opened.with_source > 0


def test_a_grade_is_never_mixed_with_the_other(site: Site) -> None:
    step(drill_world(site, size=100 * MIB))
    proof = proof_of(site)
    assert (proof.opened, proof.last_opened, proof.share(Grade.READ_BACK)) == (0, None, 1.0)
    opens(site, drill_world(site, size=100 * MIB))
    before = proof_of(site).opened
    assert before > 0
    site.clock.sleep(HOUR)
    step(drill_world(site, size=100 * MIB))
    after = proof_of(site)
    assert after.opened == before, "to be read back again takes nothing away"
    assert after.last_read_back is not None
    assert after.last_opened is not None
    assert after.last_read_back > after.last_opened


def test_the_key_must_open_all(site: Site) -> None:
    context = drill_world(site, files=2, limit="1", price=by_megabyte)
    with pytest.raises(RecoveryKeyError, match="opens archive"):
        step(context, [RecoveryKey.from_seed(bytes(32))])
    assert not recorded(site)
    assert query(site, "SELECT count(*) FROM drill_costs") == [(0,)]


def test_damage_is_found(site: Site, tmp_path: Path) -> None:
    (first, *_) = archive_ids(site)
    path = archive_file(tmp_path / "vault", first)
    path.chmod(0o600)
    middle = path.stat().st_size // 2
    corrupt(path, middle, 20)
    report = opens(site, drill_world(site, size=100 * MIB))
    assert report.outcome is Outcome.FAILED
    assert {finding.kind for finding in report.findings} == {"not-restored"}
    assert report.advice
    assert recorded(site)[0].run.outcome is Outcome.FAILED
    assert_nothing_left(site)
    proof = proof_of(site)
    assert 0 < proof.opened < proof.bytes, "the rest counts"
    covering = """SELECT count(*) FROM readings r JOIN archives a ON a.number = r.archive
                  WHERE a.archive_id = ? AND r.proven = 2 AND r.start <= ? AND r."end" > ?"""
    assert query(site, covering, first, middle, middle) == [(0,)], "what is damaged does not"


def test_what_is_lost_is_found(site: Site, tmp_path: Path) -> None:
    (first, *_) = archive_ids(site)
    archive_file(tmp_path / "vault", first).unlink()
    report = opens(site, drill_world(site, size=100 * MIB))
    assert report.outcome is Outcome.FAILED
    assert {finding.kind for finding in report.findings} == {"not-restored"}


def another_mode(folder: Path) -> None:
    (folder / "inner" / "strange").chmod(0o755)


def another_time(folder: Path) -> None:
    os.utime(folder / "inner" / "strange", ns=(1, 1))


def no_attribute(folder: Path) -> None:
    os.removexattr(folder / "inner" / "strange", b"user.note")


def another_attribute(folder: Path) -> None:
    os.setxattr(folder / "inner" / "strange", b"user.more", b"lent")


def a_copy_for_a_link(folder: Path) -> None:
    name = folder / "other name"
    found = name.stat()
    data = name.read_bytes()
    name.unlink()
    name.write_bytes(data)
    os.utime(name, ns=(found.st_mtime_ns,) * 2)
    name.chmod(stat.S_IMODE(found.st_mode))


def a_third_name(folder: Path) -> None:
    os.link(folder / "other name", folder / "third name")
    found = (folder / "other name").stat()
    os.utime(folder / "other name", ns=(found.st_mtime_ns,) * 2)


def other_bytes(folder: Path) -> None:
    path = folder / "inner" / "strange"
    found = path.stat()
    path.write_text("STRANGE")
    path.chmod(0o4750)
    os.utime(path, ns=(found.st_mtime_ns,) * 2)


def not_there(folder: Path) -> None:
    (folder / "inner").chmod(0o755)
    (folder / "inner" / "strange").unlink()
    os.utime(folder / "inner", ns=(1_700_000_000_123_456_789,) * 2)
    (folder / "inner").chmod(0o555)


def a_directory(folder: Path) -> None:
    (folder / "inner").chmod(0o700)


def another_owner(folder: Path) -> None:
    os.chown(folder / "inner" / "strange", 4711, -1)
    (folder / "inner" / "strange").chmod(0o4750)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (another_mode, "metadata", "mode is 0755 instead of 4750"),
        (another_time, "metadata", "time"),
        (no_attribute, "metadata", "user.note"),
        (another_attribute, "metadata", "user.more"),
        (another_owner, "metadata", "owner"),
        (a_directory, "metadata", "mode is 0700 instead of 0555"),
        (a_copy_for_a_link, "hard-link", "is no hard link"),
        (a_third_name, "hard-link", "3 names instead of 2"),
        (other_bytes, "content", "bytes"),
        (not_there, "not-restored", "not there"),
    ],
)
def test_each_deviation_is_found(
    linked: Site,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    kind: str,
    words: str,
) -> None:
    """What the restorer brought is changed behind its back, before it is compared."""
    if spoil is another_owner and os.geteuid():
        pytest.skip("only root restores owners")

    def spoilt(target: int, *rest: Any) -> Any:
        spoil(Path(os.readlink(f"/proc/self/fd/{target}") + str(source)))
        return compare(target, *rest)

    monkeypatch.setattr(opening, "compare", spoilt)
    report = opens(linked, drill_world(linked, size=100 * MIB))
    assert report.outcome is Outcome.FAILED
    found = [finding for finding in report.findings if finding.kind == kind and words in finding.detail]
    assert found, report.findings
    assert str(source).lstrip("/") in found[0].what
    assert "restore" in report.advice
    assert_nothing_left(linked)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restores owners")
def test_a_right_that_is_kept_from_a_stranger_is_no_deviation(linked: Site) -> None:
    """The drill of a machine that has other accounts than the one that saved."""
    with linked.inventory.writing() as tx:
        tx.connection.execute("UPDATE owners SET user = 'gone'")
    report = opens(linked, drill_world(linked, size=100 * MIB))
    assert (report.outcome, report.findings) == (Outcome.DONE, ())


def test_the_source_may_differ(linked: Site, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other bytes with the same size and time: told, and no failure of what was saved."""
    with linked.inventory.writing() as tx:
        tx.connection.execute("UPDATE snapshots SET host = ?", (os.uname().nodename,))
    path = source / "other name"
    found = path.stat()
    path.write_text("OF TWO NAMES")
    os.utime(path, ns=(found.st_mtime_ns,) * 2)
    report = opens(linked, drill_world(linked, size=100 * MIB))
    assert report.outcome is Outcome.PARTIAL
    assert {finding.kind for finding in report.findings} == {"source-differs"}


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
def test_cut_at_every_call(site: Site, after: bool) -> None:
    cut_at_calls(site, 1, after=after)


def cut_at_calls(site: Site, step: int, *, after: bool) -> None:
    """Drills that are cut at one call of the vault after the other, and gone on with."""
    for number in itertools.count(step=step):
        name = f"cut-{number}"
        cut = FaultyVault(site.vault, cut_at(number, after=after))
        context = drill_world(site, files=2, name=name, limit="1", price=by_megabyte)
        dark = replace(
            context,
            vault=cut,
            restore=replace(context.restore, vault=cut),
        )
        try:
            opens(site, dark)
        except PowerCut:
            report = opens(site, context)
            assert (report.outcome, report.findings) == (Outcome.DONE, ())
        else:
            assert number >= 3, "too few calls for a test of cuts"
            break
        mine = [drill for drill in recorded(site) if drill.name == name]
        assert [drill.run.outcome for drill in mine] == [Outcome.DONE], "what was begun is gone on with"
        assert 0 < mine[0].cost <= 1_000_000
        assert_nothing_left(site)


def test_what_a_killed_process_left_goes(linked: Site, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies after all was restored; the next step compares what lies there, and removes it."""

    def dies(*_: Any) -> Any:
        raise PowerCut

    context = drill_world(linked, size=100 * MIB)
    with monkeypatch.context() as dying:
        dying.setattr(opening, "compare", dies)
        with pytest.raises(PowerCut):
            step(context, KEYS)
    (run,) = os.listdir(linked.folder / "drills")
    assert stat.S_IMODE((linked.folder / "drills").stat().st_mode) == 0o700
    assert stat.S_IMODE((linked.folder / "drills" / run).stat().st_mode) == 0o700
    (linked.folder / "drills" / "4711").mkdir()
    (linked.folder / "drills" / "4711" / "locked").mkdir(mode=0o000)
    (linked.folder / "drills" / "link").symlink_to(source)
    report = step(context)
    assert (report.grade, report.outcome) == (Grade.OPENED, Outcome.DONE)
    assert_nothing_left(linked)
    assert source.is_dir()


def test_one_that_was_cut_before_it_asked_needs_the_key_or_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = drill_world(site, files=2)
    dies_before_it_asks(context, monkeypatch)
    report = step(context)
    assert (report.grade, report.outcome) == (Grade.READ_BACK, Outcome.DONE), "without a key it reads back"
    assert [drill.run.outcome for drill in recorded(site)] == [Outcome.DONE, Outcome.INTERRUPTED]
    assert_nothing_left(site)


def dies_before_it_asks(context: DrillContext, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any, **__: Any) -> Any:
        raise PowerCut

    with monkeypatch.context() as dying:
        dying.setattr(opening, "begin_restore", dies)
        with pytest.raises(PowerCut):
            step(context, KEYS)


def test_with_the_key_it_goes_on_at_the_recorded_cost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    context = drill_world(site, files=2, limit="1", price=by_megabyte)
    dies_before_it_asks(context, monkeypatch)
    report = step(context, KEYS)
    assert (report.outcome, len(recorded(site))) == (Outcome.DONE, 1)
    assert_nothing_left(site)


def test_one_that_has_become_dearer_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    context = drill_world(site, files=2, limit="1", price=by_megabyte)
    dies_before_it_asks(context, monkeypatch)
    dearer = priced(context.limit, lambda pieces: by_megabyte(pieces) * 2)
    with pytest.raises(UsageError, match="would cost more now"):
        step(replace(context, limit_on=dearer), KEYS)
    assert recorded(site)[0].run.outcome is Outcome.INTERRUPTED
    assert step(context, KEYS).outcome is Outcome.DONE
    assert_nothing_left(site)


def test_something_else_in_its_place(site: Site, tmp_path: Path) -> None:
    """It never goes through a symlink, and never into what is another's."""
    (tmp_path / "elsewhere").mkdir()
    (site.folder / "drills").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SpoolError):
        step(drill_world(site, files=1), KEYS)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    with pytest.raises(SpoolError):
        scratch.make(str(site.folder / "drills"), 7)


def test_two_at_once(site: Site) -> None:
    with site.inventory.locked("drill"), pytest.raises(LockedError):
        step(drill_world(site, files=1), KEYS)


@pytest.fixture(params=["glacier", "s3"])
def cold(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    source: Path,
    clock: ManualClock,
    emulator: RunningEmulator,
) -> Iterator[Site]:
    """A night in a vault that takes hours."""
    number = next(_numbers)
    vault: Any
    if request.param == "glacier":
        vault = GlacierVault(VaultName("cold"), glacier_client(emulator), f"opened-{number}")
    else:
        vault = s3_vault(s3_client(emulator.s3_url), f"opened-{number}", storage_class="GLACIER")
    vault.create()
    made = Site.create(
        tmp_path / "cold",
        vault,
        [source],
        clock=clock,
        part_size=MIB if request.param == "glacier" else 8 * MIB,
        wait=lambda: emulator.advance(13 * HOUR),
    )
    made.backup()
    yield made
    made.close()


_numbers = itertools.count()


def test_hours_may_pass_and_the_key_is_given_once(cold: Site) -> None:
    context = drill_world(cold, files=4, limit="1", price=by_megabyte)
    report = step(context, KEYS)
    assert (report.state, report.grade) == ("waiting", Grade.OPENED)
    assert step(context).run == report.run, "it goes on without the key, and nothing new is begun"
    done = opens(cold, context, [])
    assert (done.outcome, done.run) == (Outcome.DONE, report.run)
    assert proof_of(cold).opened > 0
    assert len(recorded(cold)) == 1
    assert_nothing_left(cold)


@pytest.mark.parametrize("factor", [1, 2])
def test_what_expired_is_asked_for_again_only_within_the_month(
    cold: Site, emulator: RunningEmulator, factor: int
) -> None:
    free = drill_world(cold, files=2, price=by_megabyte, seed=3)
    chosen = planning.plan(free, Grade.OPENED)
    assert chosen is not None
    limit = by_megabyte(chosen.pieces) * factor
    context = drill_world(cold, files=2, limit=str(limit), price=by_megabyte, seed=3)
    assert step(context, KEYS).state == "waiting"
    emulator.advance(10 * 24 * HOUR)
    cold.clock.sleep(10 * 24 * HOUR)
    report = opens(cold, context, [])
    assert recorded(cold)[0].cost <= int(limit * 1_000_000)
    if cold.vault.traits.retrieves_ranges:  # in S3 a copy that is gone is asked for as one that never was
        assert report.outcome is (Outcome.PARTIAL if factor == 1 else Outcome.DONE)
        assert [finding.kind for finding in report.findings] == ["unread"] * (factor == 1)
    assert_nothing_left(cold)


def test_what_lapses_twice_in_a_step_is_waited_for(cold: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def lapsed(*_: object, **__: object) -> RestoreReport:
        lapses.append(1)
        raise RetrievalExpiredError("it is gone")

    lapses: list[int] = []
    context = drill_world(cold, files=2)
    report = step(context, KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(restore, "deliver", lapsed)
        for _ in range(30):
            if lapses:
                break
            cold.wait()
            report = step(context)
    assert (len(lapses), report.state) == (2, "waiting")
    assert report.waits_for.endswith(" retrievals")
    assert opens(cold, context, []).outcome is Outcome.DONE


def test_cut_at_calls_of_a_cold_vault(cold: Site) -> None:
    cut_at_calls(cold, 3, after=True)
