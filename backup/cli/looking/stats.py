"""`nightvault stats`: what is stored, what it costs and how it grows, from the inventory alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import click

from backup.cli.options.snapshot_arguments import chosen_job, job_option
from backup.cli.support.context import Cli, pass_cli
from backup.model import VaultName

if TYPE_CHECKING:
    from rich.console import RenderableType

    from backup.app.money.stats import Statistics

EXAMPLES = {"stats": ("nightvault stats", "nightvault stats --by month")}

_NIGHTS = 14
"""Nights that the screen shows."""


@click.command()
@click.option("--vault", metavar="NAME", help="Only of this vault.")
@job_option
@click.option(
    "--by",
    type=click.Choice(["month", "job", "age"]),
    help="Bars by month of storing, by job, or by age; without it sums and the last nights.",
)
@pass_cli
def stats(cli: Cli, vault: str | None, job: str | None, by: str | None) -> None:
    """Show what is stored, what it costs now and in a year, and how much each night adds.

    No vault is asked. A night that is far from the thirty before it is marked as unusual. docs/prices.md says
    how each figure is made; --json has all of them, whatever --by says.
    """
    from rich.console import Group

    from backup.app.base.opened import opened
    from backup.app.money.stats import read_statistics
    from backup.cli.looking.stats_document import stats_document

    config = cli.config()
    of_vault = VaultName(vault) if vault else None
    with closing(opened(config)) as inventory:
        with inventory.reading() as tx:
            named = chosen_job(config, tx, job)
        found = read_statistics(config, inventory, cli.clock.now(), vault=of_vault, job=named)
    if not found.rows.parts and vault is not None:
        config.vault(vault)  # where nothing was found, a name that is not in the config is a mistake
    document = stats_document(found) if cli.json else None
    cli.show(document, Group(*_screen(found, by)) if found.rows.parts else "nothing is stored yet")


def _screen(found: Statistics, by: str | None) -> Iterator[RenderableType]:
    """The screen, with an empty line between two tables."""
    from rich.text import Text

    for place, sheet in enumerate(_sheets(found, by)):
        if place:
            yield Text()
        yield sheet


def _sheets(found: Statistics, by: str | None) -> Iterator[RenderableType]:
    from rich.text import Text

    from backup.cli.looking.stats_document import last_nights
    from backup.cli.render import stats_screen as screen

    if by == "month":
        yield screen.months_sheet(found)
        return
    if by == "job":
        yield screen.jobs_sheet(found)
    elif by == "age":
        yield from (screen.ages_sheet(found, vault) for vault in found.terms)
    else:
        yield from (screen.vault_sheet(found, vault) for vault in found.terms)
        if len(found.rows.parts) > 1:
            yield screen.jobs_sheet(found)
        if nights := last_nights(found.rows.nights, _NIGHTS):
            yield screen.nights_sheet(nights)
    if notes := list(screen.notes(found)):
        yield Text("\n".join(notes))
