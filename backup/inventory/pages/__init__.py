"""Rows in pages, and the copies of the inventory that the web page reads, so that it holds up no run."""
