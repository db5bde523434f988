"""Renewals in place of servers, on another machine: by catalogs and a key; nothing stored ends a lock."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.errors import DeniedError, InterruptedRunError, LockedError, NightvaultError
from backup.format import records
from backup.inventory.content.locks import lock_ends
from backup.inventory.store.times import micros
from backup.kinds import Outcome
from backup.locker.extend import ServersLockContext, extend_for_servers
from backup.locker.report import ExtendReport
from backup.model import ArchiveId, ArchiveLabel, Generation, InventoryId, PackId, PackKind
from backup.operations.extend import _known_ends
from backup.pruner.keeper.folder import KeeperFolder
from backup.pruner.keeper.given_up import find_given_up
from backup.retention.locks import locked_until, taken_in
from tests.support.archives import store
from tests.support.backups import Site
from tests.support.doubles import Silent
from tests.support.integrity import list_now
from tests.support.keepers import intruder_with, keeper_of
from tests.support.locked_vaults import IDENTITY, RULES, LockedNights, renew
from tests.support.nightly_servers import DAY


@dataclass
class Renewer:
    """Another machine with the key and a folder; its floor is `lock_for`."""

    nights: LockedNights
    folder: Path
    most_new: int = 10_000

    def renew(self, *, only_plan: bool = False) -> ExtendReport:
        """One renewal."""
        nights = self.nights
        keeper = keeper_of(nights.site, self.folder, keep_within=RULES.lock_for).context()
        with (
            KeeperFolder.opened(keeper.folder, renews=True) as folder,
            closing(_known_ends(folder, nights.clock)) as known,
        ):
            context = ServersLockContext(
                clock=nights.clock,
                progress=Silent(),
                inventory=known,
                vault=nights.vault,
                locks=nights.vault,
                rules=RULES,
                threads=1,
                given_up=partial(find_given_up, keeper, folder),
                most_new=self.most_new,
            )
            report = extend_for_servers(context, only_plan=only_plan)
            with known.reading() as tx:
                ends = lock_ends(tx, nights.vault.name)
            assert only_plan or all(nights.vault.ends.get(key) in {None, end} for key, end in ends.items())
        assert not os.listdir(self.folder / "renewal" / "scratch")
        return report

    def short(self) -> set[ArchiveId]:
        """What is there and is locked for less than `lock_for`."""
        least, ends = self.nights.clock.now() + RULES.lock_for, self.nights.vault.ends
        there = {line.archive_id for line in list_now(self.nights.vault).archives}
        return {key for key in (*there, IDENTITY) if key not in ends or ends[key] < least}


@pytest.fixture
def nights(tmp_path: Path) -> LockedNights:
    """A server after three nights."""
    made = LockedNights(tmp_path)
    for _ in range(3):
        made.night()
    return made


@pytest.fixture
def renewer(nights: LockedNights, tmp_path: Path) -> Renewer:
    """The other machine."""
    return Renewer(nights, tmp_path / "renewer")


def test_all_is_renewed_once_a_step_as_quoted(nights: LockedNights, renewer: Renewer) -> None:
    """Two steps, every day; looked at once; a plan records nothing."""
    everything = {*nights.listed(), IDENTITY}
    for _ in range(2):
        plan = renewer.renew(only_plan=True)
        assert (plan.objects, plan.looked, plan.due) == (len(everything), len(everything), 0)
    assert plan.quote is not None
    nights.vault.asked.clear()
    report = renewer.renew()
    assert (report.outcome, report.problems, report.dates) == (Outcome.DONE, (), ())
    assert set(nights.asked("look")) == everything
    for _ in range(20):
        nights.clock.advance(DAY)
        renewer.renew()
        assert renewer.short() == set()
    asked = [kind for kind, _ in nights.vault.asked]
    assert asked == ["lock"] * 2 * len(everything)
    (date,) = renew(nights.site, nights.vault, only_plan=True).dates
    assert renewer.renew().ends == min(nights.vault.ends.values()) == date.until, "as the server itself says"
    assert plan.quote.requests_a_step * 2 == len(asked)
    assert plan.quote.requests_a_month == len(everything) * 3


def test_what_was_given_up_runs_out_after_the_floor(nights: LockedNights, renewer: Renewer) -> None:
    """Forgotten and condemned by a server that deletes itself, and is refused: it does go in the end."""
    for _ in range(3):
        nights.night()
    there = nights.listed()
    nights.forget(1, 2, 3)
    assert nights.site.prune().condemned.archives >= 1
    nights.vault.lock_new()
    for days in (*[3] * 18, *[1] * 5):
        nights.clock.advance(days * DAY)
        renewer.renew()
        assert renewer.short() == set()
    for _ in range(16):
        nights.clock.advance(DAY)
        report = renewer.renew()
    assert report.problems == ()
    only_theirs = renewer.short()
    assert only_theirs
    assert report.idle == len(only_theirs)
    nights.clock.advance(70 * DAY)
    renewer.renew()
    nights.site.prune()
    assert there - nights.listed() == only_theirs
    assert renewer.renew().missing == ()
    nights.assert_kept()


class Hostile:
    """Whoever has taken the server over, and signs what it likes."""

    def __init__(self, nights: LockedNights, folder: Path) -> None:
        self.nights = nights
        self.site: Site = intruder_with(nights.site, folder)
        nights.site = replace(self.site, folder=nights.site.folder)

    def forget_all(self, at: datetime) -> None:
        """Forget, drop and condemn everything, dated as the intruder likes."""
        numbers = [snapshot.number for snapshot in self.site.snapshots()]
        packs = [bytes(line.label.pack_id) for line in list_now(self.nights.vault).archives if line.label]
        self.site.amend(records.ForgottenRecord(numbers, micros(at)))
        self.site.amend(records.CondemnedRecord(packs, micros(at)))
        self.site.amend(records.DroppedRecord(numbers))

    def store(self, label: ArchiveLabel, data: bytes = b"junk") -> ArchiveId:
        """Store anything under any name."""
        return store(self.nights.vault, data, label)


@pytest.mark.parametrize("age", [timedelta(0), 300 * DAY])
def test_a_host_that_forgets_everything_ends_no_lock_within_the_floor(
    nights: LockedNights, renewer: Renewer, tmp_path: Path, age: timedelta
) -> None:
    """Dated today or back, told every night; and full catalogs of the emptied state after it."""
    for _ in range(3):
        nights.night()
    renewer.renew()
    hostile = Hostile(nights, tmp_path / "intruder")
    hostile.forget_all(nights.clock.now() - age)
    for day in range(0, 59, 4):
        nights.clock.advance(4 * DAY if day else DAY)
        if day == 8:
            (nights.source / "new").write_bytes(b"new" * 1000)
            replace(hostile.site, most_deltas=0).backup()
        nights.vault.lock_new()
        report = renewer.renew()
        assert renewer.short() == set(), day
        assert report.outcome is Outcome.PARTIAL
        assert any("forgotten: 6 of" in problem for problem in report.problems)
    hostile.site.close()


def test_catalogs_that_cannot_be_relied_on_end_no_lock(
    nights: LockedNights, renewer: Renewer, tmp_path: Path
) -> None:
    """One that is junk, one that is withheld, one by a stranger: all is renewed, and named."""
    for _ in range(3):
        nights.night()
    renewer.renew()
    catalogs = [
        line for line in list_now(nights.vault).archives if line.label and line.label.kind is PackKind.CATALOG
    ]
    newest = max(catalogs, key=lambda line: line.label.number if line.label else 0)
    assert newest.label is not None
    hostile = Hostile(nights, tmp_path / "intruder")
    nights.forget(1, 2, 3)
    assert nights.site.prune(deletes=False).condemned.archives >= 1
    nights.vault.lock_new()
    nights.clock.advance(75 * DAY)  # what was condemned would run out now
    forged = replace(newest.label, pack_id=PackId(os.urandom(16)), number=newest.label.number + 9)
    hostile.store(forged)
    report = renewer.renew()
    assert renewer.short() == set()
    assert any("all of it is renewed" in problem for problem in report.problems)
    stranger = replace(forged, inventory_id=InventoryId(os.urandom(16)), pack_id=PackId(os.urandom(16)))
    hostile.store(stranger)
    nights.clock.advance(11 * DAY)
    report = renewer.renew()
    assert renewer.short() == set()
    assert len([problem for problem in report.problems if "all of it is renewed" in problem]) == 2
    withheld = next(line for line in catalogs if line.label and line.label.generation is Generation.DELTA)
    nights.vault.ends.pop(withheld.archive_id)
    assert nights.vault.delete_archives({withheld.archive_id: None}) == {}
    nights.clock.advance(11 * DAY)
    renewer.renew()
    assert renewer.short() == set()
    hostile.site.close()


def test_what_is_stored_in_masses_costs_no_more_than_the_limit(
    nights: LockedNights, renewer: Renewer, tmp_path: Path
) -> None:
    """Thirty objects of the server's own name, never locked: five a night, and after what was there."""
    renewer.renew()
    before = {*nights.listed(), IDENTITY}
    nights.clock.advance(5 * DAY)
    label = next(line.label for line in list_now(nights.vault).archives if line.label)
    hostile = Hostile(nights, tmp_path / "intruder")
    junk = replace(label, kind=PackKind.DATA, generation=None, job_id=None, number=0)
    for _ in range(30):
        hostile.store(replace(junk, pack_id=PackId(os.urandom(16))), os.urandom(1000))
    nights.clock.advance(5 * DAY)
    renewer.most_new = 5
    nights.vault.asked.clear()
    report = renewer.renew()
    asked = list(nights.vault.asked)
    assert [key in before for kind, key in asked if kind == "lock"] == [True] * len(before) + [False] * 5
    assert len(asked) == len(before) + 10
    assert (report.left_out, report.outcome) == (25, Outcome.PARTIAL)
    assert any("25 objects in vault disk not renewed" in problem for problem in report.problems)
    renewer.most_new = 100
    assert renewer.renew().left_out == 0
    hostile.site.close()


def test_new_objects_are_taken_in_the_oldest_first() -> None:
    now = datetime.fromisoformat("2026-12-01T00:00:00+00:00")
    keys = [ArchiveId(f"{number}") for number in range(6)]
    stored = {key: now + number * DAY for number, key in enumerate(reversed(keys))}
    assert taken_in(keys, [], stored, 1) == set(keys), "the first renewal, which a person looks at"
    assert taken_in(keys, keys[:1], stored, 2) == {keys[0], keys[5], keys[4]}
    assert taken_in(keys[:2], [*keys[:1], ArchiveId("gone")], stored, 0) == {keys[0]}


def test_cut_at_each_request(nights: LockedNights, renewer: Renewer) -> None:
    """What was answered is known, what ends first went first, and the next renewal does the rest."""
    renewer.renew()
    nights.clock.advance(65 * DAY)
    total = len(nights.listed()) + 1
    for most in range(1, total + 1):
        before = dict(nights.vault.ends)
        nights.vault.asked.clear()
        nights.vault.most = 1
        if most < total:
            with pytest.raises(NightvaultError):
                renewer.renew()
        else:
            renewer.renew()
        ((_, done),) = nights.vault.asked
        assert before[done] == min(before.values())
        assert nights.vault.ends[done] == locked_until(nights.clock.now(), RULES)
    nights.vault.most = None
    nights.vault.asked.clear()
    renewer.renew()
    assert nights.vault.asked == []


def test_cut_while_catalogs_are_read(
    nights: LockedNights, renewer: Renewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each request for a catalog: a stop ends it, and leaves nothing; a denial ends no lock."""
    renewer.renew()
    nights.clock.advance(11 * DAY)
    real = type(nights.vault).fetch
    before, asked = dict(nights.vault.ends), list[None]()

    def cut_at(number: int, error: Exception) -> None:
        def fetch(*given: Any, **named: Any) -> Any:
            asked.append(None)
            if len(asked) == number:
                raise error
            return real(*given, **named)

        asked.clear()
        monkeypatch.setattr(type(nights.vault), "fetch", fetch)

    cut_at(0, ValueError())
    renewer.renew(only_plan=True)
    total = len(asked)
    assert total >= 2
    for number in range(1, total + 1):
        cut_at(number, InterruptedRunError("stopped"))
        with pytest.raises(InterruptedRunError):
            renewer.renew()
        assert nights.vault.ends == before
    for number in range(1, total + 1):
        nights.vault.ends = dict(before)
        (renewer.folder / "renewal" / "ends.sqlite").unlink()
        cut_at(number, DeniedError("no right to read it"))
        report = renewer.renew()
        assert renewer.short() == set()
        assert report.outcome is Outcome.PARTIAL


def test_a_lost_or_damaged_file_of_ends_is_made_anew(nights: LockedNights, renewer: Renewer) -> None:
    renewer.renew()
    place = renewer.folder / "renewal" / "ends.sqlite"
    place.write_bytes(b"no database")
    nights.vault.asked.clear()
    renewer.renew()
    assert set(nights.asked("look")) == {*nights.listed(), IDENTITY}
    with KeeperFolder.opened(str(renewer.folder), renews=True), pytest.raises(LockedError, match="extend"):
        renewer.renew()
    assert renewer.renew().outcome is Outcome.DONE
