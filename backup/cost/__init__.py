"""Prices of storing, retrieving and deleting early, from a dated table; pure, money is Decimal.

    table = parse_prices(text, "prices.toml")
    price = table.find("us-east-1", "glacier")             # None: unknown, even from other regions
    price and price.retrieving(load, Tier.BULK).total      # dollars
    price and price.unverified(Tier.BULK)                  # figures taken from another region

`table` reads rows and puts the figures of a region and kind together, `prices` calculates with them.
Invariant: a figure that is not of this very region and kind is marked, and bills are rounded up.
"""

from backup.cost.prices import GB, SMALLEST, Bill, Figure, Load, Price, TierPrice, shortfall
from backup.cost.table import PriceTable, parse_prices

__all__ = [
    "GB",
    "SMALLEST",
    "Bill",
    "Figure",
    "Load",
    "Price",
    "PriceTable",
    "TierPrice",
    "parse_prices",
    "shortfall",
]
