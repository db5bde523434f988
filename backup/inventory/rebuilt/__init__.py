"""Writes the rows of an inventory that is rebuilt from the vault, and compares them with another one's."""
