"""What must go and when, and what it must cost: reckoned beside the program, held against vault and meter.

What a snapshot needs is asked of the restorer, which would read it; a prune decides by a query of its own.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from msgspec.structs import replace

from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, make_vault
from backup.app.money.prices import builtin_table, kind_of, load_of, price_of, price_table, quotes
from backup.app.money.stats import read_statistics, terms_of
from backup.app.restores.contexts import restore_context
from backup.daemon.task_run import Done
from backup.inventory.content import archives, snapshots, strangers
from backup.inventory.content.archives import Archive, ArchiveState
from backup.inventory.questions import stats as queries
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import Inventory
from backup.model import JobName, PackKind, VaultName
from backup.restorer.ranges import RangePlan
from backup.restorer.restore import plan_restore
from backup.retention.stats import Rows, summed
from tests.scenarios.machine import Machine
from tests.support.doubles import Silent
from tests.support.emulated import REGION
from tests.support.integrity import list_now

GRACE = timedelta(days=3)
MINIMUM = {"directory": timedelta(0), "glacier": timedelta(days=90), "s3": timedelta(days=180)}
STORED, UNCONFIRMED = ArchiveState.STORED, ArchiveState.UNCONFIRMED
HOT = "s3:STANDARD"
NOBODY, RESTORES = "nobody", "restores"
OF_A_PAYER = (RESTORES, "early deletion")
KEPT = ("storage", "overhead", "index", "minimum size")


@dataclass
class Archives:
    """Each archive that nothing kept needs: since when, and when it went."""

    machine: Machine
    unneeded: dict[str, datetime] = field(default_factory=dict)
    deleted: int = 0
    seen: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    _needs: dict[str, frozenset[str]] = field(default_factory=dict)
    _states: dict[str, ArchiveState] = field(default_factory=dict)

    def forget_needs(self) -> None:
        """Chunks are stored elsewhere now: look anew."""
        self._needs.clear()

    def around_prune(self, work: Callable[[], Done]) -> Done:
        """A prune, with a look at the vault before and after."""
        before, began = self.held(), self.machine.clock.now()
        data = self._data()
        done = work()
        if done.waits_for:
            return done
        self._judge(data, before - self.held(), began)
        return done

    def _judge(self, data: dict[str, Archive], gone: set[str], began: datetime) -> None:
        now = self.machine.clock.now()
        needed, after = self.needed(), self._data()
        self.wrong += [f"{name} was deleted at {now}, and is needed still" for name in gone & needed]
        self.deleted += len(gone)
        for name in gone & data.keys():
            due = self._due(data[name], self.unneeded.pop(name, now))
            if now < due:
                self.wrong.append(f"{name} was deleted at {now}, before it was due at {due}")
        for name in list(self.unneeded):
            if name in needed or name not in data:
                del self.unneeded[name]
            elif name in after and after[name].state is UNCONFIRMED:
                self.unneeded[name] = now  # taken up, or rebuilt: to be built upon again
            elif (due := self._due(data[name], self.unneeded[name])) <= began:
                still = f"{data[name].state}, now {after[name].state if name in after else 'gone'}"
                self.wrong.append(
                    f"{name} was due at {due}, and is there after the prune of {began} ({still})"
                )
        for name in data.keys() - needed - gone - self.unneeded.keys():
            self.unneeded[name] = now

    def _due(self, archive: Archive, since: datetime) -> datetime:
        assert archive.stored_at is not None
        return max(since + GRACE, archive.stored_at + MINIMUM[self.machine.kind])

    def needed(self) -> frozenset[str]:
        """The archives from which a restore of what is kept would read."""
        states = {name: archive.state for name, archive in self._data().items()}
        if any(
            self._states.get(name, state) is not state and state is STORED for name, state in states.items()
        ):
            self.forget_needs()  # it is read there again
        self._states = states
        with closing(opened(self.machine.config)) as inventory:
            found = _kept(self.machine, inventory)
            context = _context(self.machine, inventory)
            for snapshot in found:
                # Of a stored archive a restore reads for as long as it is that.
                if any(states.get(name) is not STORED for name in self._needs.get(snapshot.id, ["nothing"])):
                    plan = plan_restore(snapshot, b"/", context)
                    ids = (archive.archive_id for archive in plan.archives.values())
                    self._needs[snapshot.id] = frozenset(str(name) for name in ids if name)
        return frozenset().union(*(self._needs[snapshot.id] for snapshot in found))

    def _data(self) -> dict[str, Archive]:
        with closing(opened(self.machine.config)) as inventory, inventory.reading() as tx:
            every = archives.list_archives(tx, inventory.id, vault=VaultName(self.machine.vault))
        return {
            str(archive.archive_id): archive
            for archive in every
            if archive.label.kind is PackKind.DATA and archive.archive_id
        }

    def held(self) -> set[str]:
        """What the vault holds, by its own records."""
        found = self._held()
        self.seen |= found
        return found

    def _held(self) -> set[str]:
        machine = self.machine
        if machine.kind == "directory":
            vault = make_vault(machine.config, machine.vault, Purpose.RESTORE, machine.clock)
            return {str(archive.archive_id) for archive in list_now(vault).archives}
        ask = {
            "glacier": "SELECT archive_id FROM archives WHERE deleted_ms IS NULL",
            "s3": "SELECT CAST(key AS TEXT) FROM objects",
        }
        look = machine.folder / "look.sqlite"  # a copy: the emulator has its database for itself
        for suffix in ("", "-wal"):
            there = machine.emulator.state / f"emulator.sqlite{suffix}"
            shutil.copyfile(there, f"{look}{suffix}") if there.exists() else None
        with closing(sqlite3.connect(look)) as db:
            return {name for (name,) in db.execute(ask[machine.kind])}


def _kept(machine: Machine, inventory: Inventory) -> list[snapshots.Snapshot]:
    with inventory.reading() as tx:
        return snapshots.list_snapshots(tx, job=JobName(machine.job))


def _context(machine: Machine, inventory: Inventory):  # type: ignore[no-untyped-def]
    at = RunContext(config=machine.config, inventory=inventory, clock=machine.clock, progress=Silent())
    return restore_context(at, VaultName(machine.vault))


@dataclass
class Money:
    """What `stats` and quotes foretell, and what the meter charges, by part of the bill.

    `outputs` are the ranges that are readable already, for which a restore more does not ask again.
    """

    machine: Machine
    foretold: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    charged: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    beside: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    outputs: set[tuple[int, int, int]] = field(default_factory=set)
    _month: Decimal = Decimal(0)
    _since: datetime | None = None
    _mark: str = ""
    _metered: dict[str, Decimal] = field(default_factory=dict)
    _over: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    _first_open: str = ""
    _factor: int = 1
    _payers: list[str] = field(default_factory=lambda: [NOBODY])
    _settled: datetime | None = None

    def begin(self) -> None:
        """From now on."""
        self._since = self.machine.clock.now()
        if not self.is_free:
            self._metered = self.meter()
        self.look()

    @property
    def is_free(self) -> bool:
        """Whether nothing costs anything."""
        return self.machine.kind == "directory"

    def look(self) -> None:
        """Storage has cost what was foretold until now; it costs what `stats` says from now on."""
        if self.is_free:
            return
        self.machine.clock.sleep(1)  # or what is stored at this moment would be counted by the next look, too
        now, vault, config = self.machine.clock.now(), VaultName(self.machine.vault), self.machine.config
        assert self._since is not None
        self.foretold["storage"] += self._month * _months(self._since, now)
        with closing(opened(config)) as inventory, inventory.reading() as tx:
            every = [*queries.uploads(tx, self._since), *self._marks(tx, inventory)]
            uploads = [row for row in every if self._is_counted(row.kind)]
            rows = Rows([*queries.stored(tx), *queries.unknown(tx)], uploads=uploads).of(vault)
        terms = terms_of(config, price_table(config), config.vault(vault))
        summary = summed(rows, terms, now.date())
        assert summary.month is not None
        assert summary.requests.upload_cost is not None
        self.foretold["uploads"] += summary.requests.upload_cost
        self._month, self._since = summary.month, now

    def _marks(self, tx: Transaction, inventory: Inventory) -> Iterator[queries.Uploads]:
        """The marks that a rebuilt inventory left since, one for each ancestor; `stats` tells of none."""
        vault = VaultName(self.machine.vault)
        before, self._mark = self._mark, strangers.heir_mark(tx, vault)
        if self._mark not in {"", before}:
            yield queries.Uploads(vault, None, PackKind.CATALOG, 1, len(inventory.ancestors))

    def compare(self) -> None:
        """`stats` says of storage what was taken from its parts until now, which is quicker."""
        if not self.is_free:
            self.look()
            machine, vault = self.machine, VaultName(self.machine.vault)
            with closing(opened(machine.config)) as inventory:
                found = read_statistics(machine.config, inventory, machine.clock.now(), vault=vault)
            assert found.of_vault(vault).month == self._month

    def _is_counted(self, kind: PackKind) -> bool:
        """Whether uploads of such packs can be told from lists, which cost the same in a bucket."""
        return kind is PackKind.DATA or self.machine.kind == "glacier"

    def quote(self, name: str) -> None:
        """What a restore is quoted at, without what is readable already."""
        if self.is_free:
            return
        machine = self.machine
        settings = machine.config.vault(VaultName(machine.vault))
        days = settings.retrieval_days if machine.kind == "s3" else 0
        with closing(opened(machine.config)) as inventory:
            (one,) = [snapshot for snapshot in _kept(machine, inventory) if snapshot.id == name]
            context = _context(machine, inventory)
            plan, price = plan_restore(one, b"/", context), price_of(machine.config, settings)
            assert price is not None
            told = quotes(plan, price, kind_of(settings), context.vault.traits, copy_days=days)
        quote = next(quote for quote in told if quote.tier is settings.tier)
        new = load_of(
            {number: archive.size for number, archive in plan.archives.items()},
            [part for part in quote.ranges if not self._is_readable(part)],
        )
        self.outputs |= {(part.archive, part.extent.start, part.extent.end) for part in quote.ranges}
        load = replace(quote.load, requests=new.requests, retrieved=new.retrieved)
        bill = price.retrieving(load, quote.tier, copy_days=days)
        assert bill is not None
        self.foretold["restores"] += bill.retrieval + bill.requests + bill.egress
        self.foretold["copies"] += bill.copies

    def _is_readable(self, one: RangePlan) -> bool:
        return any(
            one.archive == archive and start <= one.extent.start and one.extent.end <= end
            for archive, start, end in self.outputs
        )

    def change_prices(self, factor: int) -> None:
        """What is stored costs so many times what the meter charges, and the admin says so to the program."""
        if self.is_free:
            return
        self.settle()
        self._factor = factor
        for kind, figure in _FIGURES[self.machine.kind]:
            price = builtin_table().find(REGION, kind)
            self.machine.run("prices", "--set", f"{REGION}/{kind}/{figure}={getattr(price, figure) * factor}")
        self.look()

    def settle(self) -> None:
        """Take over what the meter has charged until now, at the prices in force.

        Retrievals and early deletions are whose turn it is; only those of restores were foretold.
        """
        if self.is_free or self._settled == self.machine.clock.now():
            return
        self.look()
        now, payer = self.meter(), self._payers[-1]
        for part, amount in now.items():
            more = amount - self._metered.get(part, Decimal(0))
            if part == "looks":
                self.beside[part] += more
            elif part not in OF_A_PAYER or (part, payer) == (RESTORES, RESTORES):
                self.charged[part] += more * (self._factor if part == "storage" else 1)
            else:
                self.beside[payer] += more
        self._metered, self._settled = now, self.machine.clock.now()

    @contextmanager
    def paid_by(self, whose: str) -> Iterator[None]:
        """What is charged meanwhile for retrievals and early deletions is somebody's own."""
        self.settle()
        self._payers.append(whose)
        yield
        self._settled = None
        self.settle()
        self._payers.pop()

    def meter(self) -> dict[str, Decimal]:
        """The money of each part until now; of months that are over it is asked for once."""
        self.machine.clock.catch_up()
        answer = self.machine.emulator.bill(self._first_open)
        found, month = self._over.copy(), answer["now"][:7]
        for bill in answer["bill"]:
            if bill["service"] == self.machine.kind:
                for line in bill["lines"]:
                    part, cost = _part(line["kind"], line["item"]), Decimal(line["cost"])
                    found[part] += cost
                    if bill["month"] < month:
                        self._over[part] += cost
        self._first_open = month
        return found


_FIGURES = {
    "glacier": [("glacier", "storage")],
    "s3": [("s3:DEEP_ARCHIVE", "storage"), ("s3:DEEP_ARCHIVE", "copy"), ("s3:STANDARD", "storage")],
}


def _part(kind: str, item: str) -> str:
    if item in KEPT:
        return "storage"
    if item == "look requests" or (kind == HOT and item not in KEPT):
        return "looks"  # lists, reading catalogs, asking what is ready: nobody foretells them
    if item in {"upload requests", "complete requests"}:
        return "uploads"
    return {"early deletion": item, "copy": "copies"}.get(item, "restores")


def _months(begin: datetime, end: datetime) -> Decimal:
    """How many calendar months (UTC) a span is, each part by the length of its own."""
    total = Decimal(0)
    for first, following in _calendar(begin, end):
        part = min(end, following) - max(begin, first)
        total += Decimal(part / timedelta(milliseconds=1)) / Decimal(
            (following - first) / timedelta(milliseconds=1)
        )
    return total


def _calendar(begin: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    first = datetime(begin.year, begin.month, 1, tzinfo=UTC)
    while first < end:
        following = datetime(first.year + first.month // 12, first.month % 12 + 1, 1, tzinfo=UTC)
        yield first, following
        first = following
