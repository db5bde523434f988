"""The report of a renewal of locks: what was locked for longer, what is locked until when, and its price."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from backup.inventory.records.readings import LockDate
from backup.kinds import Outcome
from backup.model import VaultName
from backup.reports import Fact, warned
from backup.wording import counted, money


class Quote(Struct, frozen=True):
    """The requests that renew what is there within a step, 30 and 365 days from now, if nothing changes.

    What is stored later is locked with its upload: its renewals begin after a step. `month` and `year` are
    prices, None if none is known.
    """

    requests_a_step: int
    requests_a_month: int
    requests_a_year: int
    month: Decimal | None = None
    year: Decimal | None = None

    def document(self) -> dict[str, object]:
        """The quote as JSON; money has six places: a price of one request is seen."""
        money_of = {"month": self.month, "year": self.year}
        return asdict(self) | {
            name: None if price is None else f"{price:.6f}" for name, price in money_of.items()
        }


class ExtendReport(Struct, frozen=True, rename={"is_plan": "plan"}):
    """The result of a renewal, or its plan.

    `objects` are needed, of which `due` are to be locked for longer, and `extended` are. `ends`: the earliest
    end of what is needed; `next`: when something is due again. `dates`: until when the snapshots of each job
    restore whatever an intruder does. `covered`: objects over which somebody else put something; `rules`: of
    the bucket, that do harm. `missing` are keys that the vault does not show. `idle`: locked and needed by
    nothing of the last `lock_for`, the last of them until `idle_until`. `quote`: of a plan.
    `held`: objects that are known to be under a legal hold, which no lock's end opens. In place of servers:
    `left_out` are new ones beyond the limit, `servers` what is to be said of them.
    """

    vault: VaultName
    is_plan: bool = False
    objects: int = 0
    due: int = 0
    extended: int = 0
    looked: int = 0
    until: datetime | None = None
    ends: datetime | None = None
    next: datetime | None = None
    idle: int = 0
    idle_until: datetime | None = None
    quote: Quote | None = None
    dates: tuple[LockDate, ...] = ()
    missing: tuple[str, ...] = ()
    covered: tuple[str, ...] = ()
    covered_count: int = 0
    rules: tuple[str, ...] = ()
    held: int = 0
    left_out: int = 0
    servers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    waits_for: str = ""

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"renewal of locks of vault {self.vault}"

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence each if something that is needed is not there, or somebody or a rule does harm there."""
        found = []
        if self.missing:
            what = counted(len(self.missing), "object")
            found.append(f"{what} that restores need, not in the vault: {self.missing[0]}, …")
        if self.covered:
            what = counted(self.covered_count, "object")
            found.append(
                f"somebody put delete markers, or something else, over {what} of vault {self.vault}: "
                f"{self.covered[0]}, …; nothing of it is lost, and restores read it: docs/ransomware.md"
            )
        found += [f"bucket of vault {self.vault}: {rule}" for rule in self.rules]
        if self.left_out:
            what = counted(self.left_out, "object")
            found.append(
                f"{what} in vault {self.vault} not renewed: more came since the last renewal than --max-new "
                "allows; look who stored them"
            )
        found += self.servers
        return tuple(found)

    @property
    def outcome(self) -> Outcome:
        """Partial if something could not be locked, or somebody was, or a rule is, at work there."""
        return Outcome.PARTIAL if self.problems else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:
        """Problems and warnings, then counts, ends and the price."""
        yield from warned((*self.problems, *self.warnings))
        until = f" until {self.until:%Y-%m-%d}" if self.until else ""
        done = self.due if self.is_plan else self.extended
        yield Fact(f"{counted(done, 'object')} locked for longer{until}, of {self.objects:,} that are needed")
        yield Fact(f"{done:,} of {self.objects:,}{until}", "renewed")
        if self.ends:
            yield Fact(f"{self.ends:%Y-%m-%d}", "first end")
        for date in self.dates:
            yield Fact(date.text, date.job)
        if self.held:
            yield Fact(f"{counted(self.held, 'object')}: until `unpin --legal-hold`", "legal hold")
        if self.next:
            yield Fact(f"{self.next:%Y-%m-%d}", "due again")
        if self.idle and self.idle_until:
            what = f"{counted(self.idle, 'object')} that nothing needs"
            yield Fact(f"{what}, the last until {self.idle_until:%Y-%m-%d}", "runs out")
        quote = self.quote
        if quote is not None and quote.year is not None:
            price = f"{money(quote.month, currency)} a month, {money(quote.year, currency)} a year"
            yield Fact(f"{price}: {quote.requests_a_year:,} requests a year", "price")

    def document(self) -> dict[str, Any]:
        """The report as JSON; its keys are part of the interface."""
        return {
            "vault": self.vault,
            "plan": self.is_plan,
            "objects": self.objects,
            "due": self.due,
            "extended": self.extended,
            "looked": self.looked,
            "until": _time(self.until),
            "ends": _time(self.ends),
            "next": _time(self.next),
            "idle": self.idle,
            "idle_until": _time(self.idle_until),
            "quote": None if self.quote is None else self.quote.document(),
            "dates": [
                asdict(date) | {name: _time(getattr(date, name)) for name in _TIMES} for date in self.dates
            ],
            "missing": list(self.missing),
            "covered": list(self.covered),
            "covered_count": self.covered_count,
            "rules": list(self.rules),
            "held": self.held,
            "left_out": self.left_out,
            "servers": list(self.servers),
            "warnings": list(self.warnings),
        }


_TIMES = ("newest", "until", "as_of")


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
