"""What storing, retrieving and deleting early costs, by a dated table of prices; pure, money is Decimal.

table = parse_prices(text, "prices.toml")
price = table.find("us-east-1", "glacier")             # None: nobody knows, not even for another region
price and price.retrieving(load, Tier.BULK).total      # dollars
price and price.unverified(Tier.BULK)                  # figures that are another region's
"""

from backup.cost.prices import GB, Bill, Figure, Load, Price, TierPrice
from backup.cost.table import PriceTable, parse_prices

__all__ = ["GB", "Bill", "Figure", "Load", "Price", "PriceTable", "TierPrice", "parse_prices"]
