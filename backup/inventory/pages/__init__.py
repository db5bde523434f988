"""Queries that return rows in pages, and the copies of the inventory that the web page reads."""
