"""What `stats` and quotes foretell is what the emulator's meter charges, to within a hundredth.

The meter has prices and rules of its own. One server for each kind of vault lives through a backup, whole
months, a restore and a prune; each part of its bill is held against what was foretold.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from backup.app.money.prices import kind_of, price_table, quotes
from backup.app.money.stats import read_statistics, terms_of
from backup.config import Config, VaultSettings
from backup.cost import Bill
from backup.format import records
from backup.inventory.store.times import micros
from backup.model import MIB, PackKind, Tier, VaultName
from backup.protocols import Vault
from backup.restorer.restore import plan_restore
from backup.retention.stats import Summary, Terms
from backup.vault.glacier import GlacierVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.emulated import REGION, RunningEmulator, write_accounts
from tests.support.rigs import glacier_client, s3_client, s3_vault

PART = 8 * MIB
COPY_DAYS = 7
DAY = timedelta(days=1)
COLD = VaultName("cold")
KINDS = ("glacier", "s3:GLACIER", "s3:DEEP_ARCHIVE")
STORED = ("storage", "overhead", "index", "minimum size")


@dataclass
class Billed:
    """A server and the meter; `foretold` and `charged` are money, by part of the bill."""

    emulator: RunningEmulator
    name: str
    site: Site
    clock: ManualClock
    config: Config
    foretold: dict[str, Decimal] = field(default_factory=dict)
    charged: dict[str, Decimal] = field(default_factory=dict)

    @property
    def settings(self) -> VaultSettings:
        """The vault of the config."""
        return self.config.vaults[0]

    @property
    def terms(self) -> Terms:
        """Classes and prices, by kind of pack."""
        return terms_of(self.config, price_table(self.config), self.settings)

    def advance(self, by: timedelta) -> None:
        """Time passes, there and here; the vault makes its daily list."""
        self.clock.advance(by)
        self.emulator.advance(by.total_seconds())
        self.emulator.make_inventories()

    def stats(self) -> Summary:
        """What `stats` tells of the vault."""
        return read_statistics(self.config, self.site.inventory, self.clock.now()).of_vault(COLD)

    def meter(self, *, month: str | None = None) -> dict[tuple[str, str], Decimal]:
        """The money of each kind and item until now, of a month or of all."""
        found: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for bill in self.emulator.bill()["bill"]:
            if bill["name"] == self.name and month in (None, bill["month"]):
                for line in bill["lines"]:
                    found[line["kind"], line["item"]] += Decimal(line["cost"])
        return found


def make_vault(emulator: RunningEmulator, kind: str, name: str) -> tuple[Vault, VaultSettings]:
    """A vault of that kind in the emulator, and how a config names it."""
    service, _, storage_class = kind.partition(":")
    about: dict[str, Any] = {"name": COLD, "kind": service, "region": REGION, "part_size": PART}
    if service == "glacier":
        vault: Vault = GlacierVault(COLD, glacier_client(emulator), name)
        vault.create()
        return vault, VaultSettings(**about)
    about |= {"bucket": name, "retrieval_days": COPY_DAYS, "storage_class": storage_class}
    client = s3_client(emulator.s3_url)
    bucket = s3_vault(client, name, name=COLD, storage_class=storage_class, kept_days=COPY_DAYS)
    bucket.create()
    return bucket, VaultSettings(**about)


@pytest.fixture(scope="module", params=KINDS)
def billed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Billed]:
    """A backup on the first of July, a month, a restore, two months, and a prune that pays for its haste."""
    folder = tmp_path_factory.mktemp("billed")
    with RunningEmulator(folder / "aws", write_accounts(folder / "accounts.toml")) as emulator:
        start = datetime(datetime.fromisoformat(emulator.now()).year + 1, 7, 1, tzinfo=UTC)
        emulator.advance((start - datetime.fromisoformat(emulator.now())).total_seconds())
        name = request.param.lower().replace(":", "-").replace("_", "-")
        vault, settings = make_vault(emulator, request.param, name)
        source, state, clock = folder / "source", folder / "state", ManualClock(start)
        source.mkdir()
        for number in range(3):
            (source / f"file {number}").write_bytes(random.Random(number).randbytes(10 * MIB + 12345))
        site = Site.create(
            state, vault, [source], clock=clock, part_size=PART, pack_size=PART, wait=lambda: None
        )
        config = Config(
            path="c",
            state_dir=str(state),
            inventory_url=f"sqlite:///{state}/inventory.sqlite",
            vaults=(settings,),
        )
        one = Billed(emulator, name, site, clock, config)
        one.site.wait = lambda: one.advance(timedelta(hours=13))
        live(one, source, folder / "out")
        yield one
        site.close()


def live(one: Billed, source: Path, out: Path) -> None:
    """The backup, the months, the restore, the prune; each part is written down."""
    data = one.terms.classes[PackKind.DATA]
    one.site.backup()
    requests = one.stats().requests
    assert requests.upload_cost is not None
    prices = one.terms.prices
    catalogs = prices[PackKind.CATALOG] if data != "glacier" else None
    one.foretold["uploads"] = requests.upload_cost - (catalogs.uploading(1, 2) if catalogs else 0)
    sent = one.meter()
    one.charged["uploads"] = sent[data, "upload requests"] + sent[data, "complete requests"]
    month = one.stats().month
    assert month is not None
    one.foretold["a month"] = month
    one.advance(31 * DAY)
    july = one.meter(month=f"{one.clock.now() - DAY:%Y-%m}")
    one.charged["a month"] = sum((july[key] for key in july if key[1] in STORED), Decimal(0))
    restore(one, source, out)
    prune(one, source, 1)


def restore(one: Billed, source: Path, out: Path) -> None:
    """All of it comes back, and its temporary copies expire."""
    data = one.terms.classes[PackKind.DATA]
    plan = plan_restore(one.site.snapshot(), os.fsencode(source), one.site.restore_world)
    days = one.settings.retrieval_days if one.settings.kind == "s3" else 0
    told = quotes(
        plan, one.terms.prices[PackKind.DATA], kind_of(one.settings), one.site.vault.traits, copy_days=days
    )
    bill = next(quote.bill for quote in told if quote.tier is Tier.STANDARD)
    assert isinstance(bill, Bill)
    before = one.meter()
    assert one.site.restore("latest", out).files == 3
    one.advance((COPY_DAYS + 2) * DAY)
    after = one.meter()
    spent = {item: after[data, item] - before[data, item] for _, item in list(after)}
    one.foretold |= {"retrieval": bill.retrieval, "its requests": bill.requests}
    one.foretold |= {"egress": bill.egress, "copies": bill.copies}
    one.charged["retrieval"] = spent["standard retrieval"]
    one.charged["its requests"] = spent["standard retrieval requests"]
    one.charged["its requests"] += spent["download requests"]
    one.charged["egress"] = spent["egress"]
    one.charged["copies"] = spent.get("copy", Decimal(0))


def prune(one: Billed, source: Path, *snapshots: int) -> None:
    """These snapshots are forgotten and what only they need is deleted early, for a fee.

    It is some days and a few minutes old then: a quote counts whole days, the meter all of the time.
    """
    (source / "file 0").unlink()
    one.site.backup()
    one.site.amend(records.ForgottenRecord(list(snapshots), micros(one.clock.now())))
    price = one.terms.prices[PackKind.DATA]
    hours = timedelta(hours=5 if one.settings.kind == "glacier" else 0)  # which its list takes
    one.advance(timedelta(hours=11, minutes=10) - hours)
    grace = 3 * DAY + timedelta(minutes=2)  # the emulator's clock is not ours to the second
    for wait in (timedelta(), hours, grace - hours, hours) if hours else (timedelta(), grace):
        one.advance(wait)
        step = one.site.prune(max_fee=Decimal(100), price=price)
    assert step.deleted.fee is not None, step
    one.foretold["early deletion"] = step.deleted.fee
    after = one.meter()
    one.charged["early deletion"] = sum(
        (after[key] for key in after if key[1] == "early deletion"), Decimal(0)
    )


@pytest.mark.parametrize(
    "part", ["uploads", "a month", "retrieval", "its requests", "egress", "early deletion"]
)
def test_what_was_foretold_is_charged(billed: Billed, part: str) -> None:
    foretold, charged = billed.foretold[part], billed.charged[part]
    assert charged > 0
    assert abs(charged - foretold) <= foretold / 100, (foretold, charged)


def test_temporary_copies_cost_no_more_than_foretold(billed: Billed) -> None:
    """They stay until the midnight (UTC) after their days: a quote counts that day in full."""
    foretold, charged = billed.foretold["copies"], billed.charged["copies"]
    assert (foretold > 0) == (charged > 0) == (billed.settings.kind == "s3")
    assert foretold * 9 / 10 <= charged <= foretold


# Small archives, in classes that bill each as 128 KiB.


@pytest.mark.parametrize("kind", ["s3:STANDARD_IA", "s3:ONEZONE_IA", "s3:GLACIER_IR"])
def test_small_archives_are_billed_as_the_smallest_size(kind: str, tmp_path: Path) -> None:
    with RunningEmulator(tmp_path / "aws", write_accounts(tmp_path / "accounts.toml")) as emulator:
        start = datetime(datetime.fromisoformat(emulator.now()).year + 1, 7, 1, tzinfo=UTC)
        emulator.advance((start - datetime.fromisoformat(emulator.now())).total_seconds())
        vault, settings = make_vault(emulator, kind, "small")
        source, state, clock = tmp_path / "source", tmp_path / "state", ManualClock(start)
        source.mkdir()
        site = Site.create(state, vault, [source], clock=clock, part_size=PART, pack_size=PART)
        url = f"sqlite:///{state}/inventory.sqlite"
        config = Config(path="c", state_dir=str(state), inventory_url=url, vaults=(settings,))
        one = Billed(emulator, "small", site, clock, config)
        for number in range(4):
            (source / f"file {number}").write_bytes(random.Random(number).randbytes(5000 * number + 100))
            site.backup()
        live_small(one, source)
        site.close()
    for part, foretold in one.foretold.items():
        assert one.charged[part] > 0
        assert abs(one.charged[part] - foretold) <= foretold / 100, (part, foretold, one.charged[part])


def live_small(one: Billed, source: Path) -> None:
    """A month, then a prune that pays for the rest of what is billed at least."""
    data = one.terms.classes[PackKind.DATA]
    (held,) = [cost for cost in one.stats().classes if cost.name == data]
    assert held.month is not None
    assert held.overhead == 4 * 128 * 1024 - held.held.bytes
    one.foretold["a month"] = held.month
    one.advance(31 * DAY)
    july = one.meter(month=f"{one.clock.now() - DAY:%Y-%m}")
    one.charged["a month"] = sum(
        (july[key] for key in july if key[0] == data and key[1] in STORED), Decimal(0)
    )
    if one.terms.prices[PackKind.DATA].minimum_days < 60:  # type: ignore[union-attr]
        return
    prune(one, source, 1, 2, 3, 4)
