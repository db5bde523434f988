"""Writes the rows of an inventory that is rebuilt from the vault, and asks what a drill must know of both."""
