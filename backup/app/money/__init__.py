"""Prices and sums: price tables, quotes, the user's own prices, expected waiting times, statistics."""
