"""Quotes: shows the retrievals and cost of a restore or check in advance."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from backup.cli.render.amounts import parse_amount
from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from rich.console import Group

    from backup.app.money.prices import Quote
    from backup.app.restores.quotes import QuoteElsewhere
    from backup.cli.render.tables import Sheet
    from backup.config import Config, VaultSettings
    from backup.cost import PriceTable
    from backup.restorer.restore import RestoreContext, RestorePlan

_FEW_CENTS = Decimal("0.10")


def show_plan(
    cli: Cli,
    config: Config,
    context: RestoreContext,
    plan: RestorePlan,
    elsewhere: Sequence[QuoteElsewhere] = (),
) -> None:
    """Show the dry run of a restore: what would be written, and retrievals and cost of each tier.

    Where it reads from several vaults, a line for each, and the cost of those that cost something. A line
    for each vault that has all of it, too.
    """
    from backup.app.money.limits import FREE
    from backup.app.restores.quotes import parts_of, quotes_of
    from backup.cli.render.render import counted, shown_path, size
    from backup.restorer.given_up import lacks

    for sentence in lacks(plan.snapshot, plan.path, plan.choice):
        cli.warn(f"warning: {sentence}")
    count = plan.selection.names
    settings, found = quotes_of(config, context, plan)
    parts = parts_of(config, context, plan)
    is_free, prices = settings.kind in FREE, _prices_for(config, settings)
    first = found[0] if found else None
    asked = [
        (plan.archives[part.archive].archive_id, part.extent)
        for part in (plan.ranges if len(parts) > 1 else first.ranges if first else ())
    ]
    document = {
        **_plan_document(plan, elsewhere),
        "retrievals": [{"archive": name, "start": span.start, "end": span.end} for name, span in asked],
        "prices": prices_document(prices),
        "currency": None if prices is None else prices.currency,
        "quotes": [quote_document(quote, is_free=is_free) for quote in found],
        "vaults": {part.name: len(of_part.archives) for part, of_part in parts},
    }
    where = f"{shown_path(plan.path)} of snapshot {plan.snapshot.id[:8]}"
    lines = [f"would restore {counted(count, 'file')}, {size(plan.selection.bytes)}, from {where}"]
    lines += _at_target(plan)
    if first is None or not first.ranges:
        cli.show(document, "\n".join([*lines, "nothing has to be retrieved"]))
        return
    if context.joined is not None:
        lines += [
            f"would read {counted(len(of_part.archives), 'archive')}, {size(of_part.retrieved)}, from vault "
            f"{part.name}"
            for part, of_part in parts
        ]
    requests = f"{counted(first.load.requests, 'retrieval')} from {counted(first.load.archives, 'archive')}"
    lines.append(f"would retrieve {size(first.load.retrieved)} in {requests}")
    others = "".join(f"\n{_elsewhere_text(config, other)}" for other in elsewhere)
    if is_free:
        free = f"it would cost nothing: the vault is a directory{others}"
        cli.show(document, "\n".join([*lines, free]))
        return
    cli.show(document, _quote_screen(lines, quote_table(found), terms_text(config, settings, found) + others))


def _plan_document(plan: RestorePlan, elsewhere: Sequence[QuoteElsewhere]) -> dict[str, Any]:
    """The part of the document that is the plan's own, and the quotes from other vaults."""
    from backup.app.money.limits import FREE
    from backup.cli.render.render import path_document

    return {
        "snapshot": plan.snapshot.id,
        "files": plan.selection.names,
        "bytes": plan.selection.bytes,
        "retrieved": plan.retrieved,
        "kept": len(plan.confirmed.kept),
        "replaced": plan.confirmed.replaced,
        "removed": [path_document(path) for path in plan.confirmed.extraneous],
        "elsewhere": [
            {
                "vault": other.vault.name,
                "quotes": [quote_document(quote, is_free=other.vault.kind in FREE) for quote in other.quotes],
            }
            for other in elsewhere
        ],
    }


def _elsewhere_text(config: Config, other: QuoteElsewhere) -> str:
    """The line about another vault that has all of it."""
    from backup.app.money.limits import FREE
    from backup.app.money.prices import currency_of
    from backup.cli.render.render import counted, size
    from backup.wording import money

    quote = other.usual
    start = f"with --from-vault {other.vault.name}: "
    if quote is None or other.vault.kind in FREE:
        return f"{start}it would cost nothing"
    cost = "price unknown" if quote.bill is None else money(quote.bill.total, currency_of(config))
    asked = f"{size(quote.load.retrieved)} in {counted(quote.load.requests, 'retrieval')}"
    waits = "" if quote.hours in {None, (0, 0)} else f", {_hours(quote)} hours with {quote.tier}"
    return f"{start}{asked}, {cost}{waits}"


def _at_target(plan: RestorePlan) -> list[str]:
    """The lines that tell which files at the target would be kept, replaced and removed."""
    from backup.cli.render.render import counted, shown_path

    confirmed = plan.confirmed
    lines = [f"would remove {shown_path(path)}" for path in confirmed.extraneous]
    if confirmed.kept or confirmed.replaced:
        lines.append(f"would keep {counted(len(confirmed.kept), 'file')} and replace {confirmed.replaced:,}")
    return lines


def _quote_screen(lines: Sequence[str], quoted: Sheet, terms: str) -> Group:
    from rich.console import Group
    from rich.text import Text

    return Group(*map(Text, lines), quoted, Text(terms))


def _prices_for(config: Config, settings: VaultSettings) -> PriceTable | None:
    """The table that a vault's prices are from; None if it is free, or nobody knows them."""
    from backup.app.money.limits import FREE
    from backup.app.money.prices import known_table

    return None if settings.kind in FREE else known_table(config)


def prices_document(prices: PriceTable | None) -> dict[str, Any] | None:
    """Return the source of the prices as JSON; None if there are none, or they are unknown."""
    return None if prices is None else {"date": prices.date.isoformat(), "file": prices.origin}


def terms_text(config: Config, settings: VaultSettings, found: Sequence[Quote]) -> str:
    """Return the line about the prices used, or why no price is known."""
    from backup.app.money.limits import not_verified
    from backup.app.money.prices import known_table, money_unknown

    prices = known_table(config)
    if prices is None:
        return f"{money_unknown(config)}"
    made = f"the price table of {prices.date} ({prices.origin})"
    if found[0].bill is None:
        return f"{made} has no prices for {settings.region}, kind {_kind(settings)}: see `nightvault prices`"
    told = f"{prices.currency} by {made}, without tax; 100 GB of traffic a month are free, and not deducted"
    notes = [f"* {note}" for note in not_verified(settings, found)]
    if settings.endpoint is not None:
        notes.append(f"these are AWS's prices, and this vault is at {settings.endpoint}")
    return "\n".join([told, *notes])


def _kind(settings: VaultSettings) -> str:
    from backup.app.money.prices import kind_of

    return kind_of(settings)


def quote_table(found: Sequence[Quote]) -> Sheet:
    """Return the quotes as a table, one line for each tier."""
    from backup.cli.render.render import size, table
    from backup.cli.render.tables import Column

    ranks = {"archives": 5, "ranges": 4, "retrieves": 0, "per byte": 7}
    ranks |= {"retrieval": 1, "requests": 2, "traffic": 1, "copies": 3}
    columns = [Column(title, rank=rank) for title, rank in ranks.items()]
    rows: list[tuple[object, ...]] = []
    for quote in found:
        load = quote.load
        what = (
            str(quote.tier),
            load.archives,
            load.requests,
            size(load.retrieved),
            f"{load.amplification:.2f}",
        )
        rows.append((*what, *_parts(quote), _hours(quote)))
    return table(["tier", *columns, "total", "hours"], rows)


def _parts(quote: Quote) -> tuple[object, ...]:
    bill = quote.bill
    if bill is None:
        return ("-",) * 5
    shown = (bill.retrieval, bill.requests, bill.egress, bill.copies)
    digits = 4 if bill.total < _FEW_CENTS else 2  # else the parts of a few cents would be zeros
    return (*(f"{part:.{digits}f}" for part in shown), f"{bill.total:.2f}{'*' if quote.unverified else ''}")


def _hours(quote: Quote) -> str:
    if quote.hours is None:
        return "-"
    least, most = quote.hours
    return f"{least:g} to {most:g}" if least else f"up to {most:g}"


def quote_document(quote: Quote, *, is_free: bool) -> dict[str, Any]:
    """Return a quote as JSON; money is text."""
    bill = quote.bill
    money = None
    if bill is not None:
        parts = {name: getattr(bill, name) for name in ("retrieval", "requests", "egress", "copies", "total")}
        money = {name: f"{amount:.6f}" if name != "total" else str(amount) for name, amount in parts.items()}
    elif is_free:
        money = dict.fromkeys(("retrieval", "requests", "egress", "copies", "total"), "0")
    load = quote.load
    return {
        "tier": str(quote.tier),
        "archives": load.archives,
        "ranges": load.requests,
        "wanted": load.wanted,
        "retrieved": load.retrieved,
        "fetched": load.fetched,
        "downloads": load.downloads,
        "amplification": round(load.amplification, 4),
        "cost": money,
        "hours": quote.hours,
        "unverified": [{"figure": figure.name, "as_in": figure.as_in} for figure in quote.unverified],
    }


def limit_of(words: str | None, config: Config) -> Decimal | None:
    """Return the limit of cost of `--max-cost`, else of the config; None without one. `UsageError`."""
    return config.restore.max_restore_cost if words is None else parse_amount("--max-cost", words)


def show_sample(cli: Cli, config: Config, settings: VaultSettings, found: Sequence[Quote]) -> None:
    """Show the dry run of a check that reads data: retrievals and cost of each tier."""
    from backup.app.money.limits import FREE
    from backup.cli.render.render import counted, size

    is_free, prices = settings.kind in FREE, _prices_for(config, settings)
    load = found[0].load
    document = {
        "retrieved": load.retrieved,
        "prices": prices_document(prices),
        "currency": None if prices is None else prices.currency,
        "quotes": [quote_document(quote, is_free=is_free) for quote in found],
    }
    requests = f"{counted(load.requests, 'retrieval')} from {counted(load.archives, 'archive')}"
    lines = [f"would read {size(load.retrieved)} in {requests}"]
    if is_free:
        cli.show(document, "\n".join([*lines, "it would cost nothing: the vault is a directory"]))
        return
    cli.show(document, _quote_screen(lines, quote_table(found), terms_text(config, settings, found)))
