"""Requests for what is cold: quoted, confirmed by a word that only the quote has, held to the limit of cost.

A request is a restore like any other, of a dump: `nightvault restores` shows it, the daemon goes on with it.
Once all has come it is over, its keys are wiped, and what came is read here as long as the vault keeps it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final

from msgspec import Struct

from backup.app.base.run_context import RunContext
from backup.app.money.limits import limit_on
from backup.app.money.prices import Quote, currency_of, gap_for, price_of
from backup.app.restores.contexts import context_of_snapshot
from backup.app.restores.quotes import quotes_of
from backup.browser.tree import Tree
from backup.errors import LimitRefusedError, NightvaultError
from backup.format.keys import RecoveryKey
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import retrievals
from backup.inventory.records.retrievals import Restore
from backup.inventory.store.states import RestoreStage
from backup.model import OnCapacity, Tier
from backup.restorer.context import RestoreContext
from backup.restorer.dump.dump import REQUEST, ask_once
from backup.restorer.plan import RestorePlan
from backup.restorer.report import is_ready
from backup.restorer.restore import begin_restore, plan_restore
from backup.restorer.selection.choice import Choice, Output
from backup.wording import counted, money, shown_path, size

LOOKS_EVERY: Final = 300.0
"""Seconds between two looks at whether what was asked for has come."""
_CONFIRM: Final = "confirm "
_NOTHING: Final = "nothing was asked for yet: .nightvault/README says how\n"


class _Quoted(Struct, frozen=True):
    """The last question: its plan, its quotes, and the word that confirms it."""

    plan: RestorePlan
    context: RestoreContext
    quotes: Sequence[Quote]
    tier: Tier
    word: str
    text: str


class Thawing:
    """Requests of one process for what is cold. For any thread; `close` ends its own.

    `came` is called when something can be read that could not. `tier` None: the tier of the vault in the
    config; `max_cost` None: [restore] max_restore_cost.
    """

    def __init__(
        self,
        at: RunContext,
        tree: Tree,
        keys: Sequence[RecoveryKey],
        *,
        came: Callable[[], None],
        tier: Tier | None = None,
        max_cost: Decimal | None = None,
    ) -> None:
        self._at = at
        self._came = came
        self._tree = tree
        self._keys = keys
        self._tier = tier
        self._limit = at.config.restore.max_restore_cost if max_cost is None else max_cost
        self._lock = threading.Lock()
        self._quoted: _Quoted | None = None
        self._said = _NOTHING
        self._open: dict[str, tuple[Restore, RestoreContext]] = {}
        self._ended = threading.Event()
        self._looks = threading.Thread(target=self._look_now_and_then, name="thawing", daemon=True)

    def close(self) -> list[str]:
        """End; the ids of requests that the vault still works on, and that go on without this process."""
        self._ended.set()
        return list(self._open)

    def say(self, words: str) -> None:
        """Take a path to quote, or `confirm WORD`. `EPERM`; the answer says why."""
        with self._lock:
            try:
                self._said = self._confirmed(words) if words.startswith(_CONFIRM) else self._quote(words)
            except NightvaultError as error:
                self._said = f"refused: {error}\n" + (f"{error.advice}\n" if error.advice else "")
                raise OSError(errno.EPERM, os.strerror(errno.EPERM)) from error

    def answer(self) -> str:
        """The last words, and how far each request is."""
        with self._lock:
            self._look()
            waiting = [f"request {name} waits for the vault\n" for name in self._open]
            return self._said + "".join(waiting)

    def _quote(self, words: str) -> str:
        path = os.fsencode("/" + words.strip("/"))
        place = self._tree.place_of(self._tree.plain(path))
        if place is None:
            raise LimitRefusedError(
                f"{shown_path(path)} is in no snapshot", advice="name a path below snapshots/by-time/…"
            )
        self._quoted = self._planned(*place)
        return self._quoted.text if self._quoted else f"all of {shown_path(path)} can be read now\n"

    def _planned(self, snapshot: Snapshot, path: bytes) -> _Quoted | None:
        config = self._at.config
        context = context_of_snapshot(self._at, snapshot, passes_missing=True)
        plan = plan_restore(snapshot, path, context, Choice(output=Output.TAR))
        if not context.vault.traits.waits or not plan.ranges:
            return None
        settings, found = quotes_of(config, context, plan)
        tier = self._tier or settings.tier
        lines = [_line(quote, currency_of(config)) for quote in found]
        told = f"{snapshot.id} {path!r} {tier} {lines}"
        word = hashlib.sha256(told.encode()).hexdigest()[:8]
        what = f"{shown_path(path)} of snapshot {snapshot.id[:8]} ({snapshot.job})"
        text = (
            f"{what}: {counted(plan.selection.names, 'file')}, {size(plan.selection.bytes)}\n"
            f"{''.join(lines)}to ask for it with {tier}: echo confirm {word} > .nightvault/request\n"
        )
        return _Quoted(plan, context, found, tier, word, text)

    def _confirmed(self, words: str) -> str:
        quoted = self._quoted
        if quoted is None or words.removeprefix(_CONFIRM).strip() != quoted.word:
            raise LimitRefusedError(
                "that word confirms nothing", advice="ask for a path first, and read the answer"
            )
        if self._limit is None:
            raise LimitRefusedError(
                "there is no limit of cost",
                advice="set max_restore_cost in [restore], or begin with --max-cost",
            )
        config, context = self._at.config, quoted.context
        settings, _ = quotes_of(config, context, quoted.plan)
        limit = limit_on(config, settings, quoted.quotes, self._limit, "this request", less="ask for less")
        restore = begin_restore(
            quoted.plan.laid(gap_for(price_of(config, settings), quoted.tier)),
            REQUEST,
            context,
            limit,
            tier=quoted.tier,
            keys=lambda: self._keys,
            on_capacity=OnCapacity(config.restore.on_capacity),
        )
        self._quoted = None
        self._open[restore.id] = restore, context
        if not self._looks.is_alive():
            self._looks.start()
        try:
            self._look_at(restore, context)
        except NightvaultError as error:
            return (
                f"recorded as {restore.id}; not asked yet: {error}\n"
                f"it is tried again; `nightvault restore cancel {restore.id}` ends it\n"
            )
        return f"asked for, as {restore.id}: `nightvault restores` shows it\n"

    def _look_now_and_then(self) -> None:
        while not self._ended.wait(LOOKS_EVERY):
            with self._lock:
                self._look()

    def _look(self) -> None:
        for name, (restore, context) in list(self._open.items()):
            try:
                self._look_at(restore, context)
            except NightvaultError as error:
                self._said = f"request {name}: {error}\n"

    def _look_at(self, restore: Restore, context: RestoreContext) -> None:
        """Go on with a request, unless it is over: the daemon goes on with it as well."""
        if self._is_open(restore):
            ask_once(restore, context)
        if self._is_open(restore):
            return
        del self._open[restore.id]
        self._came()
        with self._at.inventory.reading() as tx:
            has_come = is_ready(retrievals.retrievals_of(tx, restore.number))
        came = "has come: it can be read now" if has_come else "is over: it was cancelled, or has lapsed"
        self._said = f"request {restore.id} {came}\n"

    def _is_open(self, restore: Restore) -> bool:
        with self._at.inventory.reading() as tx:
            return retrievals.find_restore(tx, restore.number).state is RestoreStage.OPEN


def _line(quote: Quote, currency: str) -> str:
    price = "price unknown" if quote.bill is None else money(quote.bill.total, currency)
    hours = "" if quote.hours is None else f", {quote.hours[0]:g} to {quote.hours[1]:g} hours"
    load = quote.load
    asked = f"{counted(load.requests, 'retrieval')} from {counted(load.archives, 'archive')}"
    return f"{quote.tier}: {asked}, {size(load.retrieved)}, {price}{hours}\n"
