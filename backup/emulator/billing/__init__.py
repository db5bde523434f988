"""What each account is billed: `prices` is a table of the emulator's own, `bill` prices the meter's records.

Source: the price pages and user guides of S3 and Amazon Glacier. No free allowances, no tax.
"""
