"""`nightvault prices`: the prices that quotes are made of, with their sources and age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli

if TYPE_CHECKING:
    from backup.config import Config
    from backup.cost import Figure, Price, PriceTable

EXAMPLES = {
    "prices": ("nightvault prices", "nightvault prices --region eu-central-1 --toml"),
    "prices verify": ("nightvault prices verify", "nightvault prices verify --region eu-central-1"),
}

_MONEY = ("storage", "upload", "download", "egress", "copy")
region_option = click.option(
    "--region", "regions", multiple=True, metavar="REGION", help="Only of this region; may be repeated."
)
all_option = click.option("--all", "everything", is_flag=True, help="Of all known regions.")


@click.group(invoke_without_command=True)
@click.option("--toml", "as_toml", is_flag=True, help="Print the table that comes with nightvault.")
@click.option(
    "--set",
    "values",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a figure of your own, as in eu-central-1/glacier/storage=0.0045; may be repeated.",
)
@region_option
@all_option
@click.pass_context
def prices(
    ctx: click.Context, as_toml: bool, values: Sequence[str], regions: Sequence[str], everything: bool
) -> None:
    """Print the prices that quotes are made of, of the regions of your vaults.

    Prices change. Figures that are set go before those that come with nightvault; they are kept in the file
    that [prices] names, or in prices.toml in the state directory. A figure with * is another region's.
    """
    if ctx.invoked_subcommand is not None:
        return
    from backup.app.money.prices import builtin_prices, price_table

    cli = ctx.ensure_object(Cli)
    config = cli.config()
    if as_toml:
        click.echo(builtin_prices(), nl=False)
    elif values:
        _set(cli, config, values)
    else:
        known = price_table(config)
        _show(cli, known, _chosen(config, known, regions, everything=everything))


@prices.command()
@region_option
@all_option
@pass_cli
def verify(cli: Cli, regions: Sequence[str], everything: bool) -> None:
    """Show the source and the age of each figure, and whether it is verified for its region."""
    from backup.app.money.prices import price_table
    from backup.cli.render.render import table
    from backup.cli.render.tables import Column

    config = cli.config()
    known = price_table(config)
    today = cli.clock.now().date()
    rows = [
        (price, figure, (today - figure.date).days)
        for price in _chosen(config, known, regions, everything=everything)
        for figure in price.figures
    ]
    document = {
        "file": known.origin,
        "figures": [{**_figure_document(price, figure), "age_days": age} for price, figure, age in rows],
    }
    old, source = Column("days old", rank=2), Column("source", folds=True, least=12)
    columns = ["region", "kind", "figure", "value", "as in", Column("of", rank=1), old, source]
    shown = [
        (
            *(price.region, price.kind, figure.name, _value(figure), figure.as_in or "its own"),
            *(figure.date, age, figure.source),
        )
        for price, figure, age in rows
    ]
    cli.show(document, table(columns, shown))


def _set(cli: Cli, config: Config, values: Sequence[str]) -> None:
    from backup.app.money.own_prices import set_prices

    path = set_prices(config, values, cli.clock.now().date())
    cli.report({"file": path, "set": list(values)}, f"{len(values)} set in {path}")


def _chosen(
    config: Config, known: PriceTable, regions: Sequence[str], *, everything: bool
) -> tuple[Price, ...]:
    """The prices of the regions that were asked for, or of the vaults' regions, or all."""
    wanted = list(regions) or [vault.region for vault in config.vaults if vault.region]
    if everything or not wanted:
        return known.prices
    found = (known.find(region, kind) for region in dict.fromkeys(wanted) for kind in known.kinds)
    return tuple(price for price in found if price is not None)


def _show(cli: Cli, known: PriceTable, chosen: Sequence[Price]) -> None:
    from backup.cli.render.render import table
    from backup.cli.render.tables import Column

    document = {
        "file": known.origin,
        "date": known.date.isoformat(),
        "currency": known.currency,
        "sources": known.sources,
        "prices": [_document(price) for price in chosen],
    }
    cli.say(f"prices of {known.date} in {known.currency}, {known.origin}; retrieval per GB + 1,000 requests")
    days, retrieval = Column("days", rank=1), Column("retrieval", folds=True)
    columns = ["region", "kind", "GB-month", days, "traffic", retrieval]
    rows: list[tuple[object, ...]] = []
    for price in chosen:
        marks = {figure.name: "*" for figure in price.figures if figure.as_in}
        storage = f"{price.storage}{marks.get('storage', '')}"
        traffic = f"{price.egress}{marks.get('egress', '')}"
        rows.append((price.region, price.kind, storage, price.minimum_days, traffic, _tiers(price, marks)))
    cli.show(document, table(columns, rows))
    if any(figure.as_in for price in chosen for figure in price.figures):
        cli.say("* not verified for its region: `nightvault prices verify` says whose it is")


def _tiers(of_region: Price, marks: dict[str, str]) -> str:
    told = []
    for tier, price in of_region.retrieval.items():
        of_gb, of_requests = marks.get(f"{tier}.gb", ""), marks.get(f"{tier}.requests", "")
        told.append(f"{tier} {price.gb}{of_gb} + {price.requests}{of_requests}")
    return ", ".join(told)


def _value(figure: Figure) -> str:
    if isinstance(figure.value, tuple):
        return " to ".join(f"{hours:g} h" for hours in figure.value)
    return str(figure.value)


def _figure_document(price: Price, figure: Figure) -> dict[str, Any]:
    """A figure as JSON; money is text."""
    value = list(figure.value) if isinstance(figure.value, tuple) else str(figure.value)
    return {
        "region": price.region,
        "kind": price.kind,
        "figure": figure.name,
        "value": value,
        "as_in": figure.as_in or None,
        "date": figure.date.isoformat(),
        "source": figure.source,
    }


def _document(of_region: Price) -> dict[str, Any]:
    """A price as JSON; money is text, so that readers do not round it."""
    money = {name: str(getattr(of_region, name)) for name in _MONEY}
    tiers = {
        str(tier): {"gb": str(price.gb), "requests": str(price.requests), "hours": list(price.hours)}
        for tier, price in of_region.retrieval.items()
    }
    known = {
        "region": of_region.region,
        "kind": of_region.kind,
        "overhead": of_region.overhead,
        "index": of_region.index,
    }
    known["minimum_size"] = of_region.minimum_size
    money["complete"] = str(of_region.upload if of_region.complete is None else of_region.complete)
    unverified = {figure.name: figure.as_in for figure in of_region.figures if figure.as_in}
    return {
        **known,
        "minimum_days": of_region.minimum_days,
        **money,
        "retrieval": tiers,
        "unverified": unverified,
    }
