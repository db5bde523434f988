"""Quotes and the commands beside them, safe in a shell whatever the names are; money and the schedule."""

from __future__ import annotations

import os
import subprocess
import time
from datetime import datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from backup.cli.options.snapshot_arguments import split_snapshot_and_path
from backup.config import Config
from backup.inventory.store.connections import Transaction
from backup.model import JobName, SnapshotId, Tier
from backup.web.guard.faults import BadParameterError
from backup.web.pages import archives, quote, schedule
from backup.web.pages.quote import quoted, restore_command
from tests.support.seeded_inventories import HUGE, snapshot_id
from tests.support.seeded_pages import SNAPSHOTS

MIDDLE = snapshot_id(1, SNAPSHOTS // 2)
HOSTILE = [
    b"/a b", b"/it's", b"/$(reboot)", b"/`x`", b"/\xff\xfe", b"/new\nline", b"/tab\t", b"/-rf", b"/!x",
    b"/back\\slash", b"/\xe2\x80\xae", b"/\x1b]0;x\x07", b"/*", b"/~", "/ä".encode(), b"/'\\''", b'/"',
    b"/\xde\xb2", b"/\xc2\xa0", b"/\xee\x80\x80",
]  # fmt: skip


def words_of(command: str) -> list[bytes]:
    """A command's words as bash makes them."""
    script = f"printf '%s\\0' {command}"
    done = subprocess.run(["bash", "-c", script.encode()], capture_output=True, check=True)
    return done.stdout.split(b"\0")[:-1]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_name_is_one_word_for_a_shell(path: bytes) -> None:
    command = restore_command(SnapshotId("ab" * 8), [path], tier=Tier.BULK)
    assert command.isprintable()
    words = words_of(command)
    assert words[2:] == [b"ab" * 8 + b":" + path, b"--target", b"restored", b"--tier", b"bulk"]
    assert split_snapshot_and_path(os.fsdecode(words[2])) == ("ab" * 8, path)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.binary(min_size=1, max_size=40).filter(lambda path: b"\0" not in path), min_size=1, max_size=20
    )
)
def test_any_bytes_come_through_a_shell(words: list[bytes]) -> None:
    shown = " ".join(map(quoted, words))
    assert words_of(shown) == words
    assert shown.isprintable()


def test_several_paths_keep_their_way_from_the_root() -> None:
    words = words_of(restore_command(SnapshotId("ab" * 8), [b"/a", b"/b c"], dry_run=True))
    assert words[2:] == [b"ab" * 8 + b":/", b"/a", b"/b c", b"--target", b"restored", b"--dry-run"]


def test_each_tier_has_its_price_and_command(tx: Transaction, config: Config, now: datetime) -> None:
    page = quote.quote(tx, config, now, MIDDLE, [b"/srv/data/00001", b"/srv/none"])
    assert [tier.tier for tier in page.tiers] == [Tier.STANDARD, Tier.BULK]
    standard, bulk = page.tiers
    assert standard.retrieval is not None
    assert bulk.retrieval is not None
    assert standard.retrieval > bulk.retrieval > 0
    assert standard.total is not None
    assert abs(standard.total - _parts(standard)) < Decimal("0.01")
    assert page.files == 100
    assert [name.text for name in page.missing] == ["/srv/none"]
    assert words_of(bulk.command)[-1] == b"bulk"
    assert not page.is_free
    assert page.prices_of is not None


def _parts(one) -> Decimal:  # type: ignore[no-untyped-def]
    return sum((one.retrieval, one.requests, one.egress, one.copies), Decimal(0))


def test_a_directory_vault_costs_nothing(tx: Transaction, config: Config, now: datetime) -> None:
    vault = msgspec.structs.replace(config.vaults[0], kind="directory", path="/x", bucket=None)
    page = quote.quote(
        tx, msgspec.structs.replace(config, vaults=(vault,)), now, MIDDLE, [b"/srv/data/00001"]
    )
    assert page.is_free
    assert page.tiers == []


def test_a_file_alone_and_one_below_another(tx: Transaction, config: Config, now: datetime) -> None:
    name = HUGE + b"/Report-00000000.pdf"
    assert quote.quote(tx, config, now, MIDDLE, [name]).files == 1
    both = quote.quote(tx, config, now, MIDDLE, [b"/srv/data/00001", b"/srv/data/00001/x"])
    assert [path.raw for path in both.paths] == [b"/srv/data/00001"]


def test_too_much_is_not_counted(
    tx: Transaction, config: Config, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quote, "MOST_ENTRIES", 50)
    page = quote.quote(tx, config, now, MIDDLE, [b"/"])
    assert (page.is_too_much, page.tiers, page.is_free) == (True, [], False)
    assert words_of(page.dry_run_command)[-1] == b"--dry-run"
    assert words_of(page.files_command) == [
        b"nightvault",
        b"serve-files",
        b"--snapshot",
        page.snapshot.id.encode(),
    ]


@pytest.mark.parametrize("paths", [[], [b"x"], [b"/a"] * 101, [b"/../x"]])
def test_paths_that_cannot_be_chosen(
    tx: Transaction, config: Config, now: datetime, paths: list[bytes]
) -> None:
    with pytest.raises(BadParameterError):
        quote.quote(tx, config, now, MIDDLE, paths)


def test_money_adds_up(tx: Transaction, config: Config, now: datetime) -> None:
    page = archives.money(tx, config, now)
    (vault,) = page.vaults
    assert page.month == vault.month == sum(storage_class.month or 0 for storage_class in vault.classes)
    assert vault.bytes == sum(job.bytes for job in page.jobs) == sum(month.bytes for month in page.months)
    assert vault.dead_archives == sum(group.archives for group in vault.free_on)
    assert {check.vault for check in page.checks} == {"cold"}
    assert page.checks[0].unverified_archives == page.checks[0].archives


def test_the_slow_sums_are_made_once(
    tx: Transaction, config: Config, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives.money(tx, config, now)
    monkeypatch.setattr(archives, "dead_archives", None)
    archives.money(tx, config, now)


def test_two_weeks_of_what_is_due_each_minute(tx: Transaction, config: Config, now: datetime) -> None:
    """Whole, however often: each day has its count, and a page is made at once."""
    texts = ["* * * * *", "* * * * *", "*/5 * * * *", "every 1m"]
    jobs = [
        replace(config.jobs[0], name=JobName(f"job {number}"), schedule=text)
        for number, text in enumerate(texts)
    ]
    began = time.process_time()
    page = schedule.schedule(tx, replace(config, jobs=jobs), now, None)
    assert time.process_time() - began < 0.5
    for number, count in enumerate([1440, 1440, 288, 1440]):
        found = [sum(due.count for due in day.dues if due.name == f"job {number}") for day in page.days[1:]]
        assert set(found) == {count}


def test_two_weeks_of_each_schedule(tx: Transaction, config: Config, now: datetime) -> None:
    page = schedule.schedule(tx, config, now, None)
    assert len(page.days) == 14
    assert [day.is_today for day in page.days] == [True] + [False] * 13
    nightly = [[due for due in day.dues if due.name == "web"] for day in page.days]
    assert [len(night) for night in nightly[1:]] == [1] * 13
    often = [sum(due.count for due in day.dues if due.name == "db") for day in page.days[1:]]
    assert set(often) == {4}
    assert all(due.at >= now for day in page.days for due in day.dues)
    assert [task.can_run for task in page.tasks] == [True, True]
    assert "new" not in {task.last for task in page.tasks}, "what was backed up by hand is told, too"
