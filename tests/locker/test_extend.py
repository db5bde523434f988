"""Renewals of locks: all that any state of the last `lock_for` needed, what ends first before all else."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from backup.app.money.prices import builtin_table
from backup.errors import DeniedError, NightvaultError
from backup.inventory.content.locks import forget_locks, record_locks
from backup.kinds import Outcome
from backup.locker.extend import extend
from backup.model import ArchiveId, ObjectLock
from backup.retention.locks import locked_until
from tests.support.locked_vaults import IDENTITY, RULES, LockedNights, lock_context, renew
from tests.support.nightly_servers import DAY


@pytest.fixture
def nights(tmp_path: Path) -> LockedNights:
    """A server after three nights."""
    made = LockedNights(tmp_path)
    for _ in range(3):
        made.night()
    return made


def test_what_is_not_known_is_looked_at_once(nights: LockedNights) -> None:
    everything = {*nights.listed(), IDENTITY}
    plan = renew(nights.site, nights.vault, only_plan=True)
    assert (plan.is_plan, plan.objects, plan.due, plan.looked) == (True, len(everything), 0, len(everything))
    assert nights.known() == {}, "a plan records nothing"
    nights.vault.asked.clear()
    report = renew(nights.site, nights.vault)
    assert (report.objects, report.extended, report.missing) == (len(everything), 0, ())
    assert report.outcome is Outcome.DONE
    assert set(nights.asked("look")) == everything
    assert nights.known() == nights.vault.ends
    renew(nights.site, nights.vault)
    assert nights.vault.asked == []


def test_each_is_renewed_once_a_step(nights: LockedNights) -> None:
    """Every day for a year: as many requests as were quoted, and never less than `lock_for` left."""
    table = builtin_table().find("us-east-1", "s3:STANDARD")
    assert table is not None
    renew(nights.site, nights.vault)
    quote = extend(lock_context(nights.site, nights.vault, table), only_plan=True).quote
    assert quote is not None
    nights.vault.asked.clear()
    sent = [0]
    for _ in range(365):
        nights.clock.advance(DAY)
        renew(nights.site, nights.vault)
        sent.append(len(nights.vault.asked))
        assert min(nights.vault.ends.values()) >= nights.clock.now() + RULES.lock_for
    assert quote.requests_a_step == sent[10] == len(nights.vault.ends)
    assert (quote.requests_a_month, quote.requests_a_year) == (sent[30], sent[365])
    assert (quote.month, quote.year) == (table.uploading(0, sent[30]), table.uploading(0, sent[365]))


@pytest.mark.parametrize("every", [1, 7, 10])
def test_a_quote_knows_what_runs_out(nights: LockedNights, every: int) -> None:
    """Objects of odd ends, one that was never locked, snapshots forgotten on other days: to the request."""
    for number in range(1, 4):
        nights.clock.advance(every * DAY)
        nights.night()
        nights.forget(number)
        nights.vault.lock_new()
    renew(nights.site, nights.vault)
    odd, never, *_ = sorted(nights.vault.ends)
    del nights.vault.ends[never]
    nights.vault.ends[odd] += timedelta(days=3, hours=5)
    with nights.site.inventory.writing() as tx:
        forget_locks(tx, nights.vault.name, [odd, never])
    table = builtin_table().find("us-east-1", "s3:STANDARD")
    context = lock_context(nights.site, nights.vault, table, every=every * DAY)
    quote = extend(context, only_plan=True).quote
    assert quote is not None
    begin, sent, months = nights.clock.now(), 0, list[int]()
    for _ in range(0, 365, every):
        sent += extend(context).extended
        nights.clock.advance(every * DAY)
        if nights.clock.now() - begin > 30 * DAY:
            months.append(sent)
    whole = sent + extend(context).extended if 365 % every == 0 else sent
    assert (quote.requests_a_month, quote.requests_a_year) == (months[0], whole)
    assert quote.requests_a_year < quote.requests_a_step * 36, "not all is needed for so long"


def test_what_was_forgotten_stays_for_as_long_as_somebody_may_look(nights: LockedNights) -> None:
    """Forgotten by an intruder, say; after `lock_for` it runs out, and prune names the day."""
    for _ in range(3):
        nights.night()
    needed = nights.listed()
    renew(nights.site, nights.vault)
    nights.forget(1, 2, 3)
    nights.vault.lock_new()
    for _ in range(59):
        nights.clock.advance(DAY)
        renew(nights.site, nights.vault)
    assert all(nights.vault.ends[ArchiveId(key)] >= nights.clock.now() + RULES.lock_for for key in needed)
    for _ in range(15):
        nights.clock.advance(DAY)
        report = renew(nights.site, nights.vault)
    assert report.idle >= 1, "what only these needed"
    least, ends = nights.clock.now() + RULES.lock_for, nights.vault.ends
    only_theirs = {ArchiveId(key) for key in needed if ends[ArchiveId(key)] < least}
    assert len(only_theirs) == report.idle
    assert report.idle_until == max(nights.vault.ends[key] for key in only_theirs)
    until = report.idle_until
    plan = nights.site.prune(only_plan=True)
    assert [(group.archives, group.until) for group in plan.locked] == [(plan.condemned.archives, until)]
    assert [group.until for group in plan.condemned_groups] == [until]
    assert nights.site.prune().locked == plan.locked
    nights.clock.advance(4 * DAY)
    plan = nights.site.prune(only_plan=True)
    assert (plan.deleted.archives, [group.why for group in plan.waiting]) == (0, ["locked"])
    facts = {fact.label: fact.value for fact in plan.facts()}
    assert f" until {until:%Y-%m-%d}, " in facts["locked"]
    done = nights.site.prune()
    assert [(group.archives, group.until) for group in done.refused] == [
        (group.archives, group.until) for group in plan.locked
    ]
    assert [group.until for group in nights.site.prune(only_plan=True).locked] == [until]
    nights.assert_kept()
    assert until is not None
    nights.clock.advance(until - nights.clock.now() + DAY)
    assert nights.site.prune(only_plan=True).locked == []
    assert nights.site.prune().deleted.archives == plan.waiting[0].archives


def test_cut_at_each_request(tmp_path: Path) -> None:
    """What was answered is known, what ends first went first, and the next renewal does the rest."""
    nights = LockedNights(tmp_path)
    for _ in range(2):
        nights.night()
        nights.clock.advance(9 * DAY)
    renew(nights.site, nights.vault)
    nights.clock.advance(65 * DAY)
    before, known = dict(nights.vault.ends), nights.known()
    due = renew(nights.site, nights.vault, only_plan=True).due
    assert due == len(before)
    for most in range(due + 1):
        nights.vault.ends = dict(before)
        nights.vault.asked.clear()
        with nights.site.inventory.writing() as tx:
            record_locks(tx, nights.vault.name, known)
        nights.vault.most = most
        if most < due:
            with pytest.raises(NightvaultError):
                renew(nights.site, nights.vault)
        else:
            renew(nights.site, nights.vault)
        done = [key for _, key in nights.vault.asked]
        assert len(done) == most
        left = [before[key] for key in before if key not in done]
        assert all(before[key] <= end for key in done for end in left)
        assert nights.known() == nights.vault.ends
    nights.vault.most = None
    renew(nights.site, nights.vault)
    assert set(nights.vault.ends.values()) == {locked_until(nights.clock.now(), RULES)}


def test_what_is_denied_of_one_keeps_nothing_from_the_others(
    nights: LockedNights, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where its lock is in a mode that the bucket's policy does not allow."""
    monkeypatch.setattr("backup.locker.extend.BATCH", 2)
    renew(nights.site, nights.vault)
    nights.clock.advance(30 * DAY)
    first, before = min(nights.vault.ends), dict(nights.vault.ends)
    real = nights.vault.lock_until

    def denied(key: ArchiveId, until: datetime) -> ObjectLock:
        if key == first:
            raise DeniedError("its mode is another")
        return real(key, until)

    monkeypatch.setattr(nights.vault, "lock_until", denied)
    with pytest.raises(DeniedError, match="its mode"):
        renew(nights.site, nights.vault)
    assert {key for key in before if nights.vault.ends[key] == before[key]} == {first}
    assert nights.known() == nights.vault.ends


def test_what_is_not_there_any_more_is_said(nights: LockedNights) -> None:
    renew(nights.site, nights.vault)
    gone = ArchiveId(min(nights.listed()))
    del nights.vault.ends[gone]
    nights.vault.destroy()
    assert gone not in nights.listed()
    report = renew(nights.site, nights.vault)
    assert report.missing == (gone,)
    assert report.outcome is Outcome.PARTIAL
    assert gone in report.problems[0]
    assert gone not in nights.known()


def test_a_vault_that_was_not_locked_before(nights: LockedNights) -> None:
    """`lock` set on later: the first renewal locks everything that is needed."""
    nights.vault.ends.clear()
    report = renew(nights.site, nights.vault)
    assert report.extended == report.objects == len(nights.vault.ends)
    assert report.until == report.ends == locked_until(nights.clock.now(), RULES)
    nights.vault.destroy()
    nights.assert_kept()


def test_an_intruder_with_all_rights_of_the_host_destroys_nothing_in_time(nights: LockedNights) -> None:
    """Everything is forgotten and deleted that can be; somebody who looks within `lock_for` finds all."""
    renew(nights.site, nights.vault)
    needed = nights.listed()
    nights.clock.advance(20 * DAY)
    nights.forget(1, 2, 3)
    nights.vault.lock_new()
    for _ in range(12):
        nights.clock.advance(5 * DAY)
        renew(nights.site, nights.vault)
        nights.vault.destroy()
    assert needed <= nights.listed()
    nights.clock.advance(timedelta(days=71))
    nights.vault.destroy()
    assert not needed & nights.listed()
