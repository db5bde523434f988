"""`nightvault prices`: the table that every quote is made of, how old it is, and where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from backup.cli.context import Cli, pass_cli

if TYPE_CHECKING:
    from backup.cost import Price


@click.command()
@click.option("--toml", "as_toml", is_flag=True, help="Print the file, to change a copy of it.")
@pass_cli
def prices(cli: Cli, as_toml: bool) -> None:
    """Print the prices that quotes are made of.

    Prices change: to use others, print the file with --toml, change it, and name it in [prices] file.
    """
    from backup.app.prices import builtin_prices, price_table
    from backup.cli.render import Column, table

    config = cli.config()
    if as_toml:
        click.echo(builtin_prices(), nl=False)
        return
    known = price_table(config)
    document = {
        "file": known.origin,
        "date": known.date.isoformat(),
        "currency": known.currency,
        "sources": known.sources,
        "prices": [_document(one) for one in known.prices],
    }
    cli.say(f"prices of {known.date} in {known.currency}, {known.origin}; retrieval per GB + 1,000 requests")
    columns = ["region", "kind", "GB-month", "days", "egress", Column("retrieval", folds=True)]
    rows = [
        (one.region, one.kind, one.storage, one.minimum_days, one.egress, _tiers(one)) for one in known.prices
    ]
    cli.show(document, table(columns, rows))


def _tiers(one: Price) -> str:
    return ", ".join(f"{tier} {price.gb} + {price.requests}" for tier, price in one.retrieval.items())


def _document(one: Price) -> dict[str, Any]:
    """A price as JSON; money is text, so that no reader makes it inexact."""
    money = {name: str(getattr(one, name)) for name in ("storage", "upload", "download", "egress", "copy")}
    tiers = {
        str(tier): {"gb": str(price.gb), "requests": str(price.requests), "hours": list(price.hours)}
        for tier, price in one.retrieval.items()
    }
    known = {"region": one.region, "kind": one.kind, "overhead": one.overhead}
    return {**known, "minimum_days": one.minimum_days, **money, "retrieval": tiers}
