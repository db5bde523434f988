"""Queries for what a center was told: the chain of reports, and the one that it has not answered yet."""

from __future__ import annotations

from msgspec import Struct

from backup.inventory.store.connections import Transaction
from backup.inventory.store.driver import changed, insert_row, record_of


class ToldChain(Struct, frozen=True):
    """A chain as this server knows it: `number` and `told` of the last report that was answered.

    `report` waits for its answer, and with it `then_told` is what the center knows; all in JSON.
    """

    center: str
    chain: str
    number: int = 0
    told: str = "{}"
    report: str | None = None
    then_told: str | None = None


def told_chain(tx: Transaction, center: str) -> ToldChain | None:
    """The chain in which a center is told; None for one that was told nothing yet."""
    row = record_of(tx, "SELECT * FROM center_chains WHERE center = ?", (center,))
    return None if row is None else ToldChain(**{name: row[name] for name in ToldChain.__struct_fields__})


def write_chain(tx: Transaction, chain: ToldChain) -> None:
    """Record a chain in place of what was known of it."""
    changed(tx, "DELETE FROM center_chains WHERE center = ?", (chain.center,))
    values = {name: getattr(chain, name) for name in ToldChain.__struct_fields__}
    insert_row(tx, "center_chains", **values)


def remove_chains(tx: Transaction, center: str | None = None) -> None:
    """Forget what a center was told; without one, what all were told."""
    changed(tx, "DELETE FROM center_chains WHERE center = coalesce(?, center)", (center,))
