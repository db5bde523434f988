"""The bill of each account: `prices.py` reads a table of the emulator's own (`prices.csv`), and `bill.py`
prices by it what `core/state/meter.py` recorded.

Source: the price pages and user guides of S3 and Amazon Glacier. No free allowances, no tax.
"""
