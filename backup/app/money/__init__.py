"""Prices and sums: price tables and quotes, the user's own prices, expected hours, statistics."""
